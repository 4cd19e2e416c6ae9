"""`audit`: which of the known-wrong quantizers does a test accept?"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.conformance.audit.quantizers import Quantizer, quantizer, witnesses
from kbit_ref.conformance.variants import mutants
from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["Audit", "Rule", "Tried", "audit", "chosen", "load"]

Rule = Callable[[Quantizer], Any]
FAULTS = (AttributeError, ImportError, NameError, TypeError)  # by which a test is broken, and judges nothing
REPEATS = 32  # runs on the reference of a test whose data changes from call to call


@dataclass(frozen=True)
class Tried:
    """A known-wrong quantizer, and what the test says of it.

    Parameters
    ----------
    name, why, source
        Of the mutant: `why` completes "equal the reference if ...".
    accepted
        Does the test pass?
    shown
        Did any of its answers to the test differ from the reference's? If not, better inputs are what is missing;
        if so, the test saw it and let it through.
    """

    name: str
    why: str
    source: str
    accepted: bool
    shown: bool


@dataclass(frozen=True)
class Audit:
    """The result of a test on the known-wrong quantizers. `print` it, or use `as_dict()` for JSON."""

    rule: str
    scheme: str
    tried: tuple[Tried, ...]
    note: str = ""

    @property
    def accepted(self) -> tuple[Tried, ...]:
        """Return the quantizers that pass."""
        return tuple(one for one in self.tried if one.accepted)

    @property
    def killed(self) -> int:
        """Return how many quantizers fail."""
        return len(self.tried) - len(self.accepted)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings."""
        counts = {"tried": len(self.tried), "killed": self.killed, "accepted": [vars(one) for one in self.accepted]}
        return {"rule": self.rule, "scheme": self.scheme, "note": self.note} | counts

    def __str__(self) -> str:
        lines = [f"{self.rule} accepts {len(self.accepted)} of {len(self.tried)} wrong quantizers ({self.scheme})"]
        lines += [f"note: {self.note}"] if self.note else []
        groups = {
            "their answers differ from the right ones here, and it does not mind": True,
            "here their answers are the right ones, so its inputs cannot show them": False,
        }
        for text, shown in groups.items():
            some = [one for one in self.accepted if one.shown == shown]
            if some:
                width = max(len(one.name) for one in some)
                lines += ["", f"{text}:", *(f"  {one.name:<{width}}  {one.why}" for one in some)]
        return "\n".join(lines)


def audit(rule: Rule, scheme: Scheme | str, *, only: Iterable[str] = (), name: str = "") -> Audit:
    """Try a test on every known-wrong quantizer that a scheme can have.

    Parameters
    ----------
    rule
        Takes a `Quantizer` q and says pass (True or None) or fail (False or an exception). `q(x)` is x quantized
        and back, float32 of the shape of x; `q.quantize(x)` has `codes`, `packed`, `scales`, `offsets`,
        `zero_points`, `global_scale` and `values`; `q.dequantize`, `q.pack` and `q.unpack` are the other halves.
    scheme
        What the quantizer claims to do.
    only
        Names of mutants; by default all that differ from the reference in this scheme.
    name
        How the test is called in the report.

    Raises
    ------
    BadInput
        `audit: rule = f, it rejects the reference (...), ...`, `..., it never calls the quantizer; ...`,
        `..., it rejects the reference in 3 of 32 calls (...): its data is new in each call; ...` and
        `..., it raised AttributeError (...) for reference; ...`

    Examples
    --------
    >>> import numpy as np
    >>> def close(quantizer):
    ...     x = np.array([7, 2.5, -2.5, 1], np.float32)
    ...     return np.abs(quantizer(x) - x).max() <= 0.5
    >>> found = audit(close, "int4-b4-absmax-f32", only=["ties-away", "zero-block-nan", "sign-not-extended"])
    >>> print(found)
    close accepts 2 of 3 wrong quantizers (int4-b4-absmax-f32)
    <BLANKLINE>
    their answers differ from the right ones here, and it does not mind:
      ties-away  ties are rounded away from zero
    <BLANKLINE>
    here their answers are the right ones, so its inputs cannot show them:
      zero-block-nan  the scale of a block of zeros is 0 / 0, NaN
    """
    if not callable(rule):
        raise BadType(message("audit", f"rule = {rule!r}", "it cannot be called", "give a function of a quantizer"))
    s = scheme_of(scheme)
    name = name or getattr(rule, "__name__", "rule")
    note = _accepts_the_reference(rule, s, name)
    tried = []
    for which in chosen(s, only):
        wrong = quantizer(s, which)
        accepted = not _rejects(rule, wrong, name)
        tried.append(_told(which, accepted, wrong.shown))
    return Audit(name, str(s), tuple(tried), note)


def _accepts_the_reference(rule: Rule, s: Scheme, name: str) -> str:
    """Run a test on the reference twice, and often if its data changes from call to call; what there is to note."""
    first, second = quantizer(s), quantizer(s)
    reasons = [_rejects(rule, first, name)]
    if first.calls == 0:
        raise BadInput(message("audit", f"rule = {name}", "it never calls the quantizer", "call it: quantizer(x)"))
    reasons.append(_rejects(rule, second, name))
    changes = first.inputs != second.inputs
    if changes or bool(reasons[0]) != bool(reasons[1]):
        reasons += [_rejects(rule, quantizer(s), name) for _ in range(REPEATS - 2)]
    bad = [reason for reason in reasons if reason]
    if 0 < len(bad) < len(reasons):
        why = "its data is new in each call" if changes else "it answers at random"
        what = f"it rejects the reference in {len(bad)} of {len(reasons)} calls ({bad[0]}): {why}"
        raise BadInput(message("audit", f"rule = {name}", what, "seed it: np.random.default_rng(0)"))
    if bad:
        what = f"it rejects the reference ({bad[0]})"
        raise BadInput(message("audit", f"rule = {name}", what, "mend it, or name the scheme that it is for"))
    if not changes:
        return ""
    return f"its data is new in each call; it accepts the reference in {len(reasons)} of {len(reasons)} calls"


def _told(name: str, accepted: bool, shown: bool) -> Tried:
    mutant = mutants()[name]
    return Tried(name, mutant.why, mutant.source, accepted, shown)


def chosen(s: Scheme, only: Iterable[str] = ()) -> list[str]:
    """Return the names of the mutants to try.

    Raises
    ------
    UnknownName
        `audit: mutant = 'ties-awy', there is no such name; did you mean ties-away? ...`
    """
    names = list(only)
    for name in names:
        if name not in mutants():
            raise UnknownName.among("audit", "mutant", name, mutants(), "leave it out to try all")
    shown = witnesses(s)
    unshown = [name for name in names if name not in shown]
    if unshown:
        rule = f"it changes nothing in {s}"
        raise BadInput(message("audit", f"mutant = {unshown[0]}", rule, "leave it out, or choose another scheme"))
    return names or list(shown)


def _rejects(rule: Rule, q: Quantizer, name: str) -> str:
    """Return why the test fails, in a few words; empty if it passes."""
    try:
        with np.errstate(all="ignore"):
            said = rule(q)
    except FAULTS as error:
        what = f"it raised {type(error).__name__} ({' '.join(str(error).split())[:200]}) for {q.name or 'a quantizer'}"
        remedy = "mend it: a test rejects by False or an AssertionError"
        raise BadInput(message("audit", f"rule = {name}", what, remedy)) from error
    except Exception as error:  # a test fails by raising, whatever it raises
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if said is not None and not isinstance(said, (bool, np.bool_)):
        got = f"an answer of type {type(said).__name__}"
        raise BadType(message("audit", got, "a test says True or False", "return a bool, or assert"))
    return "" if said is None or said else "it returned False"


def load(spelled: str) -> Rule:
    """Return the function of `module:function`, or `file.py:function`.

    Raises
    ------
    BadInput
        `audit: rule = 'mytests', it is spelled module:function; ...`

    Examples
    --------
    >>> load("math:isfinite")(1.0)
    True
    """
    place, colon, name = spelled.rpartition(":")
    if not colon or not place or not name:
        rule = "it is spelled module:function, or file.py::test"
        raise BadInput(message("audit", f"rule = {spelled!r}", rule, "e.g. tests.quality:sqnr_is_high"))
    path = Path(place)
    sys.path.insert(0, str(path.resolve().parent) if place.endswith(".py") else "")
    try:
        module = importlib.import_module(path.stem if place.endswith(".py") else place)
    except Exception as error:  # whatever a module of somebody else raises
        rule = f"it cannot be imported ({' '.join(str(error).split())})"
        raise BadInput(message("audit", f"rule = {spelled}", rule, "name a module of this folder")) from None
    finally:
        sys.path.pop(0)
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnknownName.among("audit", "function", name, known, f"name a function of {place}")
    return found  # type: ignore[no-any-return]
