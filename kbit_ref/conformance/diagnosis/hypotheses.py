"""List what might be wrong: mutants and their variants, causes of types, layouts, choices, profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from kbit_ref.conformance.diagnosis.evidence import Evidence, changes
from kbit_ref.conformance.diagnosis.of_types import Encodes
from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.variants.choices import published, singles
from kbit_ref.conformance.variants.layouts import reads
from kbit_ref.conformance.variants.of_types import Cause, causes, choice
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import KbitError
from kbit_ref.tensors.definitions import definition
from kbit_ref.tensors.packing import Layout, layout, layouts, pack
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.tensors.steps import ORDER, READER, Array, Codes, Steps, reference

__all__ = ["Hypothesis", "composed", "hypotheses"]

# Of two that explain as much, the first is told.
KINDS = ("cause", "mutant", "variant", "layout", "fit", "choice", "profile")
OF_TYPES = {"read", "encode", "level"}
READS = set(READER)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Something that may be wrong, or another way that is right.

    Parameters
    ----------
    name
        Of the mutant, the choice, the profile, ...
    kind
        One of `KINDS`.
    why
        Completes "they differ because ...".
    source
        Where it happened, or who does so.
    make
        From steps to steps; None where it does not apply.
    cost
        How many numbers were fitted.
    allowed
        Who publishes it as a definition, so that it is no mistake in itself; empty for mistakes.
    """

    name: str
    kind: str
    why: str
    source: str
    make: Callable[[Steps], Steps | None]
    cost: int = 0
    allowed: str = ""
    _made: list[tuple[Steps, Steps | None]] = field(default_factory=list, repr=False)  # of the last two

    def __call__(self, steps: Steps) -> Steps | None:
        """Return the steps if it holds, or None; the same object for the same steps, whose results are remembered."""
        for place, (before, made) in enumerate(self._made):
            if before is steps:
                self._made.insert(0, self._made.pop(place))
                return made
        try:
            made = self.make(steps)
        except KbitError:
            made = None
        self._made[:] = [(steps, made), *self._made[:1]]
        return made

    @property
    def rank(self) -> int:
        """Return the place of its kind."""
        return KINDS.index(self.kind)


def hypotheses(e: Evidence) -> list[Hypothesis]:
    """Return all that might explain the answers, but for fits and pairs."""
    if isinstance(e.subject, DataType):
        some = _of_mutants(OF_TYPES) if e.subject.bits <= 8 else ()  # mutants are of schemes, whose codes are bytes
        known = () if e.kind == "codes" else (*_of_causes(e.subject, e.kind), *_of_random(e.subject))
        return [*known, *some]
    return [*_of_mutants(set(ORDER)), *_of_layouts(e.subject), *_of_choices(e.subject), *_of_profiles(e.subject)]


def _of_mutants(steps: set[str]) -> Iterator[Hypothesis]:
    """Yield every mutant of these steps, then the same with other parameters."""
    every = [variant for m in mutants().values() if set(m.steps) <= steps for variant in m.variants()]
    for kind in ("mutant", "variant"):
        for found in every:
            if ("(" in found.name) == (kind == "variant"):
                yield Hypothesis(found.name, kind, found.why, found.source, found)


def _of_layouts(s: Scheme) -> Iterator[Hypothesis]:
    """Yield bytes written, read, or both, in every other layout of the same width."""
    for name in layouts():
        form = layout(name)
        if form.bits != s.dtype.bits or form.digits or name == s.layout.name:
            continue
        instead = f"in the layout {name} instead of {s.layout.name}"
        packs, unpacks = partial(_packs, form=form), partial(reads, other=form)
        yield Hypothesis(f"read as {name}", "layout", f"the bytes are read {instead}", "", unpacks)
        yield Hypothesis(f"packed as {name}", "layout", f"the codes are packed {instead}", "", packs)
        allowed = published(s.dtype, "layout", name)
        both = partial(_both, first=packs, second=unpacks)
        yield Hypothesis(f"+layout={name}", "choice", f"bytes are written and read {instead}", "", both, 0, allowed)


def _packs(steps: Steps, form: Layout) -> Steps:
    """Return steps that pack in another layout."""
    return replace(steps, pack=lambda codes: pack(codes, form))


def _both(
    steps: Steps, first: Callable[[Steps], Steps | None], second: Callable[[Steps], Steps | None]
) -> Steps | None:
    made = first(steps)
    return None if made is None else second(made)


def _of_choices(s: Scheme) -> Iterator[Hypothesis]:
    """Yield schemes that differ in one word."""
    for name, made in singles(s).items():
        word, _, value = name.lstrip("+").partition("=")
        allowed = published(s.dtype, word, value)
        yield Hypothesis(name, "choice", f"the scheme is {made}", "", partial(_as, s=s, made=made), 0, allowed)


def _of_profiles(s: Scheme) -> Iterator[Hypothesis]:
    """Yield profiles whose codes are as wide."""
    for name, profile in profiles().items():
        made = scheme(name)
        if made.dtype.bits == s.dtype.bits and str(made) != str(s):
            make = partial(_as, s=s, made=made)
            document = definition(name)
            allowed = name if document.is_published and str(document.scheme(made)) == str(made) else ""
            yield Hypothesis(name, "profile", f"it is the format {name}", profile.source, make, 0, allowed)


def _as(steps: Steps, s: Scheme, made: Scheme) -> Steps | None:
    """Return the steps of another scheme: on a mutated reference only those that the scheme changes."""
    return reference(made, steps.arithmetic.name) if steps.scheme == s else None


def _of_causes(d: DataType, kind: str) -> Iterator[Hypothesis]:
    """Yield what is known of data types."""
    for cause in causes(d, kind):
        words = [published(d, word, value) for word, value in cause.choices.items()]
        plain = bool(words) and cause.before is None and cause.after is None
        allowed = " and ".join(dict.fromkeys(words)) if plain and all(words) else ""
        yield Hypothesis(cause.name, "cause", cause.why, "", partial(_caused, cause=cause), 0, allowed)


def _of_random(d: DataType) -> Iterator[Hypothesis]:
    """Yield random bits at the wrong places of stochastic rounding."""
    for by in range(1, 9) if d.rounding.startswith("stochastic") else ():
        for way, low in (("low", True), ("high", False)):
            why = f"the random bits are not aligned with the bits that are rounded off: they are {by} places too {way}"
            yield Hypothesis(f"random bits {by} too {way}", "cause", why, "", partial(_misplaced, by=by, low=low))
    if d.rounding.startswith("stochastic"):
        for other in ("stochastic_a", "stochastic_b", "stochastic_c"):
            if other != d.rounding:
                why = f"theirs is what rounding={other} gives"
                yield Hypothesis(f"rounding={other}", "cause", why, "", partial(_caused, cause=choice(rounding=other)))


def _misplaced(steps: Steps, by: int, low: bool) -> Steps | None:
    """Return steps with random bits that are too small or too large by a power of two."""
    plain = steps.encode
    if not isinstance(plain, Encodes) or plain.random is None:
        return None
    random, bits = plain.random
    if low and bits + by <= 32:  # so many more are rounded off
        return replace(steps, encode=replace(plain, random=(random, bits + by)))
    moved = random >> by if low else (random.astype(np.uint64) << by & (2**bits - 1)).astype(random.dtype)
    return replace(steps, encode=replace(plain, random=(moved, bits)))


def _caused(steps: Steps, cause: Cause) -> Steps | None:
    """Return the steps of a type with another choice, or with numbers or codes changed."""
    s, read, encode = steps.scheme, steps.read, steps.encode
    if cause.choices:
        s = Scheme(s.dtype.with_choices(**cause.choices), s.cut, s.rule, s.scale_dtype, s.choices)
        if not isinstance(encode, Encodes):  # another mistake has replaced it
            return None
        encode = replace(encode, d=s.dtype)
    before, after, inner = cause.before, cause.after, encode

    def finished(y: Array, used: Array, zero: Array | None) -> Codes:
        assert after is not None
        return after(s.dtype, y, inner(y, used, zero))

    return replace(
        steps,
        scheme=s,
        read=read if before is None else lambda x: before(s.dtype, read(x)),
        encode=encode if after is None else finished,
    )


def composed(steps: Steps, first: Hypothesis, second: Hypothesis) -> Iterator[tuple[Hypothesis, Hypothesis]]:
    """Yield the orders in which both at once differ: two where they replace the same step, else the writer's first."""
    made, other = first(steps), second(steps)
    if made is None or other is None:
        return
    one, two = changes(steps, made), changes(steps, other)
    if one & two:
        yield first, second
        yield second, first
    elif one <= READS:
        yield second, first
    else:
        yield first, second
