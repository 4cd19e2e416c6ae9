"""Choose the libraries, data types and block formats that a command judges: `check` and `matrix` alike."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path

from kbit_ref.cli._terminal import cut, width
from kbit_ref.conformance.implementations.adapters import Adapter, adapters
from kbit_ref.conformance.implementations.claims import BlockProfile, Profile
from kbit_ref.datatypes.everyday import meanings, resolve
from kbit_ref.errors import BadInput, KbitError, MissingLibrary, UnknownName, message
from kbit_ref.progress import Progress
from kbit_ref.tensors.scheme import scheme

__all__ = ["Wanted", "arguments", "chosen", "kinds", "matching", "split_only", "sum_up"]

LONGEST = 10**6  # seconds that one can wait for a silent library
BAR = 40  # columns of a bar of progress
Either = Profile | BlockProfile
Wanted = Callable[[Either], bool]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the choice of libraries."""
    parser.add_argument("library", nargs="*", metavar="LIBRARY", help="libraries (default: all that are installed)")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="seconds a library may be silent (default 120)"
    )
    parser.add_argument(
        "--adapters", action="append", default=[], metavar="DIR", help="use the adapters in this directory too"
    )


def chosen(
    command: str, args: argparse.Namespace, wanted: Wanted | None = None, own: bool = False
) -> tuple[list[Adapter], list[Adapter]]:
    """Return the adapters that are installed, with the types and formats that are wanted, and those that are not.

    Parameters
    ----------
    wanted
        Which types and formats count; None: all.
    own
        Take the adapters of `--adapters` beside the libraries that were named.
    """
    every = _adapters(command, args)
    for name in args.library:
        if name not in every:
            raise UnknownName.among(command, "library", name, every, f"there are adapters for {', '.join(every)}")
    names = list(dict.fromkeys(args.library)) or list(every)
    if own and args.adapters:
        names += [name for name in every if name not in names and name not in adapters()]
    found = [_reduced(every[name], wanted) for name in names]
    absent = [adapter for adapter in found if adapter.profiles and not adapter.installed()]
    named = [adapter for adapter in absent if adapter.library in args.library]
    if named:
        got = f"library = {', '.join(adapter.library for adapter in named)}"
        raise MissingLibrary(message(command, got, "it is not installed", named[0].install))
    return [adapter for adapter in found if adapter.profiles and adapter.installed()], absent


def _adapters(command: str, args: argparse.Namespace) -> dict[str, Adapter]:
    if not 0 < args.timeout <= LONGEST:
        rule = f"it is a number of seconds, at most {LONGEST:,}"
        raise BadInput(message(command, f"timeout = {args.timeout}", rule, "e.g. --timeout 60"))
    for folder in args.adapters:
        if not Path(folder).is_dir():
            raise BadInput(message(command, f"adapters = {folder}", "there is no such folder", "give one that exists"))
    return adapters(args.adapters)


def kinds(command: str, args: argparse.Namespace, names: Iterable[str], *, types: bool, formats: bool) -> None:
    """Refuse a library that has no data types, or no block formats, where only these are wanted."""
    every = _adapters(command, args)
    for adapter in (every[name] for name in names if name in every):
        rule = "it has block formats only" if types and not adapter.types else ""
        rule = "it has data types only" if formats and not adapter.formats else rule
        if rule:
            raise BadInput(message(command, f"library = {adapter.library}", rule, "ask for something that it has"))


def _reduced(adapter: Adapter, wanted: Wanted | None) -> Adapter:
    """Return the same library with some of its types and formats."""
    if wanted is None:
        return adapter
    made = copy(adapter)
    made.profiles = tuple(profile for profile in adapter.profiles if wanted(profile))
    return made


def split_only(command: str, args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the libraries and the formats of `--only`, each as it was typed."""
    every = _adapters(command, args)
    return [text for text in args.only if text in every], [text for text in args.only if text not in every]


def matching(command: str, args: argparse.Namespace, option: str, texts: Iterable[str]) -> set[Either]:
    """Return the types and formats that bear one of these names: theirs, ours, or everyday ones.

    Raises
    ------
    UnknownName
        `check: only = 'nf5', there is no such name; ...`
    """
    every = [profile for adapter in _adapters(command, args).values() for profile in adapter.profiles]
    names = {profile: _names(profile) for profile in every}
    return {profile for text in texts for profile in _bearing(command, option, text, names)}


def _bearing(command: str, option: str, text: str, names: Mapping[Either, Sequence[str]]) -> list[Either]:
    types = meanings(text, "data type")
    found = [profile for profile, own in names.items() if text.casefold() in map(str.casefold, own)]
    if len(types) == 1:
        found += [profile for profile in names if _element(profile) in types]
    elif types and not found:
        resolve(command, option, text, "data type")  # says which there are
    if not found:
        words = _words(text)
        found = [profile for profile, own in names.items() if any(words <= _words(name) for name in own)]
    if not found:
        known = dict.fromkeys(name for own in names.values() for name in own)
        remedy = "name a library, or a type or format that `kbit-ref check --details all` lists"
        raise UnknownName.among(command, option, text, known, remedy)
    return found


def _words(text: str) -> set[str]:
    return set(re.split(r"[\s-]+", text.casefold()))


def _names(profile: Either) -> tuple[str, ...]:
    if isinstance(profile, Profile):
        return profile.theirs, profile.dtype, profile.dtype.partition("+")[0]
    return profile.name, profile.theirs, profile.profile


def _element(profile: Either) -> str:
    """Return the data type without its choices."""
    if isinstance(profile, Profile):
        return profile.dtype.partition("+")[0]
    try:
        return scheme(profile.profile).dtype.name.partition("+")[0]
    except KbitError:  # told by the judge
        return ""


def sum_up(step: Progress, latest: Callable[[], str] = str) -> Callable[[str, int, int], None]:
    """Return a function for the progress of each library; `step` counts all, names the one at work and what is new."""
    done: dict[str, tuple[int, int]] = {}
    title = step.title

    def tell(library: str, so_far: int, total: int) -> None:
        done[library] = so_far, total
        step.expect(sum(of_it for _, of_it in done.values()))
        said = cut(f"{title} {library} ({so_far}/{total}){latest()}", width() - BAR)
        step(sum(number for number, _ in done.values()) - step.done, title=said)

    return tell
