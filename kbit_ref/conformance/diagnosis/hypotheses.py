"""What might be wrong: mutants and their variants, layouts, choices, profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.variants.choices import singles
from kbit_ref.conformance.variants.layouts import reads
from kbit_ref.errors import KbitError
from kbit_ref.tensors.packing import Layout, layout, layouts, pack
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.tensors.steps import ORDER, Steps, reference

__all__ = ["Hypothesis", "composed", "of_choices", "of_layouts", "of_mutants", "of_profiles"]

KINDS = ("mutant", "variant", "layout", "fit", "choice", "profile")  # of two that explain as much, the first is told


@dataclass(frozen=True)
class Hypothesis:
    """Something that may be wrong, or another way that is right.

    Parameters
    ----------
    name
        Of the mutant, the choice, the profile, ...
    kind
        One of `KINDS`: a choice or a profile is no mistake in itself.
    why
        Completes "equal the reference if ...".
    source
        Where it happened, or who does so.
    make
        From steps to steps; None where it does not apply.
    cost
        How many numbers were fitted.
    """

    name: str
    kind: str
    why: str
    source: str
    make: Callable[[Steps], Steps | None]
    cost: int = 0

    def __call__(self, steps: Steps) -> Steps | None:
        """The steps if it holds, or None."""
        try:
            return self.make(steps)
        except KbitError:
            return None

    @property
    def rank(self) -> int:
        """The place of its kind."""
        return KINDS.index(self.kind)


def of_mutants() -> Iterator[Hypothesis]:
    """Every mutant, then the same with other parameters."""
    every = [variant for mutant in mutants().values() for variant in mutant.variants()]
    for kind in ("mutant", "variant"):
        for found in every:
            if ("(" in found.name) == (kind == "variant"):
                yield Hypothesis(found.name, kind, found.why, found.source, found)


def of_layouts(s: Scheme) -> Iterator[Hypothesis]:
    """Bytes written or read in every other layout of the same width."""
    for name in layouts():
        form = layout(name)
        if form.bits == s.dtype.bits and not form.digits and name != s.layout.name:
            why = f"the bytes are read in the layout {name} instead of {s.layout.name}"
            yield Hypothesis(f"read as {name}", "layout", why, "", partial(reads, other=form))
            why = f"the codes are packed in the layout {name} instead of {s.layout.name}"
            yield Hypothesis(f"packed as {name}", "layout", why, "", partial(_packs, form=form))


def _packs(steps: Steps, form: Layout) -> Steps:
    """Steps that pack in another layout."""
    return replace(steps, pack=lambda codes: pack(codes, form))


def of_choices(s: Scheme, source: str) -> Iterator[Hypothesis]:
    """Schemes that differ in one word."""
    for name, made in singles(s).items():
        why = f"the scheme is {made}"
        yield Hypothesis(name, "choice", why, "a named choice", partial(_as, s=s, made=made, source=source))


def of_profiles(s: Scheme, source: str) -> Iterator[Hypothesis]:
    """Profiles whose codes are as wide."""
    for name, profile in profiles().items():
        made = scheme(name)
        if made.dtype.bits == s.dtype.bits and str(made) != str(s):
            why = f"it is the format {name}"
            make = partial(_as, s=s, made=made, source=source)
            yield Hypothesis(name, "profile", why, profile.source, make)


def _as(steps: Steps, s: Scheme, made: Scheme, source: str) -> Steps | None:
    """The steps of another scheme: on a mutated reference only those that the scheme changes."""
    return reference(made, source) if steps.scheme == s else None


def composed(steps: Steps, first: Hypothesis, second: Hypothesis) -> Iterator[tuple[Hypothesis, Hypothesis, Steps]]:
    """Both at once; in both orders where they replace the same step."""
    made = first(steps)
    if made is None:
        return
    both = second(made)
    if both is None:
        return
    yield first, second, both
    other = second(steps)
    if other is not None and changes(steps, made) & changes(steps, other):
        turned = first(other)
        if turned is not None:
            yield second, first, turned


def changes(steps: Steps, made: Steps) -> set[str]:
    """Which steps are others."""
    return {name for name in ORDER if getattr(made, name) is not getattr(steps, name)}
