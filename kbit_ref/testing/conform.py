"""`assert_conforms`: a function gives, to the bit, what a scheme says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from kbit_ref.conformance.cases import cases_of
from kbit_ref.errors import BadInput, message
from kbit_ref.strategies import simplest, tensors
from kbit_ref.strategies.blocks import answered
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.testing.failure import report, shrunk
from kbit_ref.testing.subject import Subject, claimed

__all__ = ["assert_conforms", "conforms"]

Array = NDArray[Any]


def assert_conforms(
    quantize: Callable[[Any], Any],
    scheme: Scheme | str | None = None,
    *,
    profile: str | None = None,
    shapes: str = "any",
    source: str = "float32",
    examples: int = 100,
) -> None:
    """Assert that a function quantizes by a scheme, or by a profile, to the bit.

    First the hard cases of the scheme and its probe, then arrays of `kbit_ref.strategies.tensors`.

    Parameters
    ----------
    quantize
        Takes an array, returns what `kb.check` takes: a dict of parts, a tuple of codes and scales, a QTensor, or
        the decoded numbers.
    scheme, profile
        What it should do: one of them. With both, the profile must be one of that scheme, which is spelled
        without choices.
    shapes
        The arrays that it takes: `any`; `flat`, any shape whose count is a multiple of the block; `rows`, two
        dimensions and whole blocks; `ragged`, two dimensions of any lengths.
    source
        The format of the numbers: float16, float32, float64.
    examples
        How many arrays are drawn.

    Raises
    ------
    AssertionError
        The simplest block that differs, the step that parts, and what `diagnose` says.
    BadInput, UnknownName
        `assert_conforms: profile = 'nf4', there is no such name; ...`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> assert_conforms(lambda x: kb.quantize(x, "bnb-cuda-nf4"), profile="bnb-cuda-nf4", examples=5)
    >>> assert_conforms(lambda x: kb.quantize(x, "int4-b4-absmax-f32+ties=away"), "int4-b4-absmax-f32")
    Traceback (most recent call last):
    AssertionError: <lambda> is not int4-b4-absmax-f32: ... ties are rounded away from zero ...
      block   [0.5, 7, 0 x 2]  (float32, shape 1x4)
      parts   at codes[0]: theirs 1, ours 0
      ...
    """
    __tracebackhide__ = True
    subject = Subject.of(quantize, claimed("assert_conforms", scheme, profile), shapes)
    if not isinstance(examples, int) or examples < 1:
        raise BadInput(message("assert_conforms", f"examples = {examples!r}", "it is a number from 1", "use 100"))
    conforms(subject, source, examples)


def conforms(subject: Subject, source: str = "float32", examples: int = 100) -> None:
    """Do the same for a subject."""
    __tracebackhide__ = True
    s = subject.scheme
    drawn = tensors(s, ragged=subject.ragged, source=source).map(subject.fit)
    for x in _given(subject, source):
        if subject.differs(x):
            raise AssertionError(report(subject, shrunk(subject, x)))
    found = simplest(drawn, subject.differs, examples=examples)
    if found is not None:
        raise AssertionError(report(subject, found))


def _given(subject: Subject, source: str) -> Iterator[Array]:
    """Yield hard cases, small ones first, and the probe: those that the scheme and the subject accept."""
    s = subject.scheme
    found = [given.arrays["x"] for case in cases_of(s) for given in case.given(s) if "x" in given.arrays]
    for x in [*sorted(found, key=lambda x: x.size), probe(s)]:
        full = s.cut.size is None or s.cut.grid(x.shape)[1] % s.cut.size == 0
        x = x.astype(source)
        if (full or subject.ragged) and answered(x, s):
            yield subject.fit(x)
