"""Report a difference: the simplest block, the step that parts, and what `diagnose` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases.of_schemes import arranged
from kbit_ref.conformance.compare import Compared, records
from kbit_ref.conformance.diagnosis import diagnose
from kbit_ref.conformance.diagnosis.counterexample import shrink, spell_block
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.reading import Refused
from kbit_ref.errors import KbitError
from kbit_ref.explanation import explain
from kbit_ref.tensors.probe import probe
from kbit_ref.testing.subject import Subject

__all__ = ["first_part", "report", "shrunk"]

Array = NDArray[Any]
MOST_CALLS = 1500  # arrays that a subject is called with to find a simpler one
GIVEN = ("codes", "packed", "scales", "offsets", "zero_points", "global_scale")  # that `diagnose` takes


def shrunk(subject: Subject, x: Array) -> Array:
    """Shrink an array on which the subject differs: to one block if possible, with few and simple numbers."""
    for block in _blocks(subject, x):
        alone = subject.fit(arranged(subject.scheme.cut, block.reshape(1, -1)))
        if subject.differs(alone):
            x = alone
            break
    left = MOST_CALLS

    def show(variant: Array) -> bool:
        nonlocal left
        left -= 1
        answered = left >= 0 and _answers(subject, variant, x)
        return answered and subject.differs(variant.astype(x.dtype).reshape(x.shape))

    def shows(variants: Array) -> NDArray[np.bool_]:
        """Mark the first that shows it: [n, size] -> [n]; the subject is not called after it."""
        found = np.zeros(len(variants), bool)
        first = next((i for i, variant in enumerate(variants) if show(variant)), None)
        found[first if first is not None else slice(0)] = True
        return found

    few = _sparser(x.reshape(-1).astype(np.float32), show)
    return shrink(few, shows).astype(x.dtype).reshape(x.shape)


def _sparser(block: Array, show: Callable[[Array], bool]) -> Array:
    """Set numbers of a block to 0, half of them at once, then quarters, ..., while it still differs.

    Numbers that cannot be 0 (a scheme may refuse 0 times an infinite reciprocal) become the largest one.
    """
    for fill in (0, block[np.abs(np.nan_to_num(block)).argmax()]):
        size = len(block)
        while size > 1:
            size = -(-size // 2)
            for begin in range(0, len(block), size):
                fewer = block.copy()
                part = fewer[begin : begin + size]
                part[part != 0] = fill
                if fewer.tobytes() != block.tobytes() and show(fewer):
                    block = fewer
    return block


def _answers(subject: Subject, variant: Array, like: Array) -> bool:
    """Return whether the scheme has an answer to it."""
    try:
        Subject.ours(subject.scheme).ask(variant.astype(like.dtype).reshape(like.shape))
    except Refused:
        return False
    return True


def _blocks(subject: Subject, x: Array) -> Iterator[Array]:
    """Yield the first blocks that differ."""
    try:
        compared = subject.compared(x)
    except Refused:
        return
    for record in records(subject.scheme, compared, compared.wrong_blocks()[:4]):
        yield np.asarray(record.words)


def first_part(compared: Compared) -> tuple[str, int] | None:
    """Return the first part that differs, in the order in which they are computed, and where in it (flat)."""
    for name in PARTS:
        wrong = compared.wrong.get(name)
        if wrong is not None and wrong.any():
            return name, int(np.flatnonzero(wrong)[0])
    return None


def report(subject: Subject, x: Array, law: str = "") -> str:
    """Return the lines of a failure.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> half_up = Subject.of(lambda x: kb.quantize(x, "int4-b4-absmax-f32+ties=away"), kb.scheme("int4-b4-absmax-f32"))
    >>> text = report(half_up, np.array([7, 0.5, 0, 0], np.float32)).splitlines()
    >>> "ties are rounded away from zero (ties-away" in text[0]
    True
    >>> print(text[2])
      parts   at codes[1]: theirs 1, ours 0
    """
    named = next(_diagnosed(subject, x), "")
    lines = [f"{subject.name} is not {subject.scheme}" + (f": {named}" if named else "")]
    lines += [f"  law     {law}"] if law else []
    shape = "" if x.ndim == 1 else f", shape {'x'.join(map(str, x.shape))}"
    lines.append(f"  block   {spell_block(x)}  ({x.dtype.name}{shape})")
    try:
        compared = subject.compared(x)
    except Refused as refused:
        return "\n".join([*lines, f"  parts   before anything: {refused}", *_hint(subject, x)])
    where = first_part(compared)
    if where is None:
        return "\n".join([*lines, "  parts   nowhere: its answer to this array is right"])
    return "\n".join([*lines, f"  parts   {_step(compared, *where)}", *_why(subject, x, compared, *where)])


def _hint(subject: Subject, x: Array) -> Iterator[str]:
    """Say which shapes to name, if the subject accepts whole blocks in rows and not this array."""
    size = subject.scheme.cut.size or x.shape[-1]
    whole = np.ones((2, size), x.dtype) if subject.scheme.cut.axis != 0 else np.ones((size, 2), x.dtype)
    try:
        subject.answer(whole)
    except Refused:
        return
    if subject.shapes != "rows" and x.shape != whole.shape:
        yield f"  try     shapes=\"rows\": it takes rows of whole blocks, {'x'.join(map(str, whole.shape))}"


def _step(compared: Compared, part: str, at: int) -> str:
    """Return both answers at the place where they differ."""
    theirs, ours = compared.theirs, compared.ours
    pairs: dict[str, tuple[Any, Any]] = {
        "codes": (theirs.stored.codes, ours.codes),
        "packed": (theirs.packed, theirs.repacked),
        "decoded": (theirs.decoded, compared.spelled),
        "global_scale": (theirs.stored.global_scale, ours.global_scale),
    }
    if part in pairs:
        two = pairs[part]
    else:
        two = tuple((s.blocks | s.double)[part] for s in (theirs.stored, ours))  # type: ignore[assignment]
    said = [f"{np.asarray(each).reshape(-1)[at]:.9g}" for each in two]
    return f"at {part}[{at}]: theirs {said[0]}, ours {said[1]}"


def _why(subject: Subject, x: Array, compared: Compared, part: str, at: int) -> Iterator[str]:
    """Yield why ours is what it is: the lines of `explain` that concern the step."""
    if part in ("packed", "global_scale") or part.startswith("scale_"):
        return
    flat = at if part in ("codes", "decoded") else int(np.flatnonzero(compared.index.reshape(-1) == at)[0])
    try:
        found = explain(np.ascontiguousarray(x), tuple(map(int, np.unravel_index(flat, x.shape))), subject.scheme)
    except (KbitError, AssertionError):
        return
    wanted = {"codes": ("scaled", "y", "below", "above", "midpoint", "why", "code"), "decoded": ("decoded",)}
    heads = wanted.get(part, ("rule", "scale", "stored"))
    label = ""
    for line in str(found).splitlines()[1:]:
        label = line[:12].strip() if line[:12].strip() else label
        if label.split(" ")[0] in heads:
            yield f"          {line}"


def _diagnosed(subject: Subject, x: Array) -> Iterator[str]:
    """Yield the sentence of `diagnose` for the probe, which separates most mistakes; for x if that shows nothing."""
    for array in (subject.fit(probe(subject.scheme)), x):
        try:
            parts = subject.answer(array).parts
            theirs = {name: parts[name] for name in GIVEN if name in parts}
            found = diagnose(parts.get("decoded"), x=np.ascontiguousarray(array), scheme=subject.scheme, **theirs)
        except (Refused, KbitError):
            continue
        if found.verdict != "agrees":
            yield found.sentence
