"""The laws for a library from outside: `KBIT_REF_ADAPTER=mymod pytest --pyargs kbit_ref.testing`.

`mymod` is a module that can be imported, or a file. It has

    SCHEMES = {"nf4-b64-absmax-f32": mylib.quantize, "ggml-q4_0": ...}    schemes or profiles, and functions
    SHAPES = "rows"                                                        which arrays they take (default any)

or classes of `kbit_ref.conformance.adapters.Adapter`, as `kbit-ref check` takes them.

`KBIT_REF_XFAILS` names a file of expected failures, by default `kbit_ref_xfails.txt` where it exists: an id
a line, `ggml-q4_0/again`, in which `*` stands for anything, and comments behind `#`. One that does not fail any
more is a failure; one that stands for no test is warned about. `KBIT_REF_EXAMPLES` is the number of arrays a law.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.scheme import scheme
from kbit_ref.testing.law import LAWS
from kbit_ref.testing.subject import Subject

__all__ = ["DEFAULT", "expected_failures", "ids", "subjects", "warn_unknown"]

DEFAULT = "kbit_ref_xfails.txt"
CONFORMS = "conforms"


def subjects(adapter: str | None) -> dict[str, Subject]:
    """Return the subjects of a module, by the names of their schemes.

    Raises
    ------
    BadInput
        `testing: KBIT_REF_ADAPTER = , nothing of yours is judged; ...` and
        `testing: KBIT_REF_ADAPTER = mymod, it cannot be imported (...); ...`
    """
    if not adapter:
        rule = "nothing of yours is judged"
        remedy = "set it to a module with SCHEMES, a dict of schemes to functions"
        raise BadInput(message("testing", "KBIT_REF_ADAPTER = ", rule, remedy))
    module = _module(adapter)
    found = dict(_of_functions(module))
    own = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Adapter))
    for cls in own:
        if cls is not Adapter and cls.__module__ == module.__name__:
            found |= _of_adapter(cls())
    if not found:
        rule = "it has no SCHEMES, a dict of schemes to functions, and no class of Adapter"
        raise BadInput(message("testing", f"KBIT_REF_ADAPTER = {adapter}", rule, "give it one of them"))
    return found


def _module(adapter: str) -> ModuleType:
    """Return the module of a name, or of a file."""
    try:
        if adapter.endswith(".py"):
            path = Path(adapter).resolve()
            sys.path.insert(0, str(path.parent))
            return importlib.import_module(path.stem)
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(adapter)
    except Exception as error:  # whatever a file of somebody else raises
        reason = " ".join(str(error).split()) or type(error).__name__
        rule = f"it cannot be imported ({reason})"
        remedy = "name a module on PYTHONPATH or in this folder, or a file that ends in .py"
        raise BadInput(message("testing", f"KBIT_REF_ADAPTER = {adapter}", rule, remedy)) from None


def _of_functions(module: ModuleType) -> Iterator[tuple[str, Subject]]:
    given = getattr(module, "SCHEMES", {})
    if not isinstance(given, Mapping):
        rule = "it is no dict of schemes to functions"
        raise BadInput(message("testing", f"SCHEMES of type {type(given).__name__}", rule, "make it one"))
    for name, function in given.items():
        shapes = getattr(module, "SHAPES", "any")
        yield name, Subject.of(function, scheme(name), shapes, f"{module.__name__}.SCHEMES[{name!r}]")


def _of_adapter(adapter: Adapter) -> dict[str, Subject]:
    """Return those of its profiles that take arrays of any number of blocks, and find the scales themselves."""
    every = (p for p in adapter.formats if p.what == "quantize" and not p.given)
    some = [p for p in every if p.blocks == 1 and "float32" in p.sources]
    return {p.profile: Subject(adapter.library, scheme(p.profile), adapter, p.theirs, p.shapes) for p in some}


def ids(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (id, scheme, law) of every test; the id is `scheme/law`."""
    return [(f"{name}/{law}", name, law) for name in names for law in (*LAWS, CONFORMS)]


def expected_failures(path: str | None) -> list[str]:
    """Return the ids in a file of expected failures; of the default file if no path is given and it exists.

    Raises
    ------
    BadInput
        `testing: KBIT_REF_XFAILS = mine.txt, there is no such file; ...`
    """
    file = Path(path or DEFAULT)
    if not file.is_file():
        if path:
            rule = "there is no such file"
            raise BadInput(message("testing", f"KBIT_REF_XFAILS = {path}", rule, "name one that exists"))
        return []
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def warn_unknown(expected: Iterable[str], known: Iterable[str]) -> list[str]:
    """Warn about expected failures that stand for no test; give them back.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     warn_unknown(["ggml-q4_0/agian", "*/zeros"], ["ggml-q4_0/again", "ggml-q4_0/zeros"])
    ['ggml-q4_0/agian']
    >>> str(said[0].message)
    'testing: expected failure ggml-q4_0/agian, no test has this id; did you mean ggml-q4_0/again?'
    """
    every = list(known)
    unknown = [one for one in expected if not any(fnmatchcase(other, one) for other in every)]
    for one in unknown:
        near = get_close_matches(one, every, 1)
        hint = f"did you mean {near[0]}?" if near else "an id is scheme/law"
        text = message("testing", f"expected failure {one}", "no test has this id", hint)
        warnings.warn(text, UserWarning, stacklevel=2)
    return unknown
