"""`check`: judge anybody's own function, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.ask import ask, flushes_to_zero
from kbit_ref.conformance.causes import NanCodes
from kbit_ref.conformance.inputs import SOURCES
from kbit_ref.conformance.judge import judge
from kbit_ref.conformance.question import Question, question
from kbit_ref.conformance.verdict import Report, Verdict
from kbit_ref.datatype import DataType, datatype
from kbit_ref.errors import BadInput, BadType, MissingLibrary, UnknownName, message

__all__ = ["check"]

WHAT = ("encode", "codes", "values", "decode")


def check(
    function: Callable[[Any], Any],
    dtype: DataType | str,
    *,
    what: str | None = None,
    sources: Sequence[str] = ("float32",),
    nan: str | NanCodes = "any",
    shapes: bool = True,
    seed: int = 0,
) -> Report:
    """Judge a function that encodes to a data type, or decodes it, bit for bit.

    Parameters
    ----------
    function
        Takes a NumPy array of any shape, returns an array of the same shape: codes (integers), an
        `ml_dtypes` array, or the decoded real numbers, whose signs of zero count.
    dtype
        A data type or its name, choices included: `e4m3fn+overflow=ieee`.
    what
        `encode` (the default), where signed integers are values for integer types and codes for all
        others; `codes` or `values` to say what the answers are; `decode` if the function takes
        codes and returns real numbers.
    sources
        The formats of the numbers that it takes: float16, bfloat16 (`ml_dtypes` arrays), float32,
        float64.
    nan
        Which codes stand for NaN: `any` NaN of the type, the `canonical` one, or a pair of codes,
        for NaN without and with its sign bit.
    shapes
        Try other shapes and strides too: no dimension, empty, transposed, ...
    seed
        Of the random tail; everything else is the same every time.

    Returns
    -------
    Report: `.agree`, `.different`, `.differences`; print it to read the counterexamples.

    Raises
    ------
    UnknownName
        `check: what = 'encoder', there is no such name; did you mean encode? ...`

    Choices
    -------
    NaN is left out for a type without NaN; the verdict says how many. A function that raises,
    answers with too few values, changes its input or leaves flush-to-zero on gets an error.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> half_up = lambda x: kb.encode("int4+ties=upper", x)
    >>> report = kb.check(half_up, "int4")
    >>> report.agree, report.different
    (False, 8)
    >>> print(report.differences[0])
    8 x ties=upper: theirs is what ties=upper gives
      input   0x3f000000 = 0.5  (float32)
      theirs  0x1 = 1
      ours    0x0 = 0
      why     neighbouring levels are 0 (0x0) and 1 (0x1)
              their midpoint is 0.5: x lies on it
              a tie, distance 0.5 to both: ties=even decides
              theirs: ties=upper
    """
    d = datatype(dtype)
    if not callable(function):
        rule = "it cannot be called"
        raise BadType(message("check", f"function = {function!r}", rule, "give a function of one array"))
    if what is not None and what not in WHAT:
        raise UnknownName.among("check", "what", what, WHAT, f"use {', '.join(WHAT)}")
    for source in sources:
        if source not in SOURCES:
            raise UnknownName.among("check", "sources", source, SOURCES, f"use {', '.join(SOURCES)}")
    if nan not in ("any", "canonical") and not (isinstance(nan, tuple) and len(nan) == 2):
        rule = "it is 'any', 'canonical' or two codes"
        raise BadInput(message("check", f"nan = {nan!r}", rule, "e.g. nan=(0x7f, 0xff)"))

    if what == "decode":
        asked = [question(d, "decode", "codes", nan)]
    else:
        asked = [question(d, "encode", source, nan, seed) for source in sources]
    form = what if what in ("codes", "values") else None
    return Report(tuple(_one(function, each, form, shapes) for each in asked), getattr(function, "__name__", ""))


def _one(function: Callable[[Any], Any], asked: Question, form: str | None, shapes: bool) -> Verdict:
    """One question, put to the function and judged."""
    before = flushes_to_zero()
    answers = list(ask(function, _numbers(asked), shapes))
    if flushes_to_zero() and not before:
        error = "it leaves flush-to-zero switched on in this thread; nothing after it can be trusted"
        return Verdict(asked.dtype.name, asked.what, asked.inputs.kind, 0, errors=(error,))
    return judge(asked, answers, form)


def _numbers(asked: Question) -> NDArray[Any]:
    """The inputs as the array that the function takes."""
    words = asked.inputs.words.copy()
    if asked.what == "decode":
        return words
    if asked.inputs.kind != "bfloat16":
        return words.view(asked.inputs.kind)
    try:
        import ml_dtypes
    except ImportError:
        rule = "NumPy has no bfloat16, and ml_dtypes is not installed"
        raise MissingLibrary(message("check", "sources = bfloat16", rule, "pip install ml_dtypes")) from None
    return words.view(np.dtype(ml_dtypes.bfloat16))
