"""`check`: judge anybody's own function, in this process: of a data type, or of a scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kbit_ref.conformance.decoding import judge_decoder
from kbit_ref.conformance.implementations.claims import BlockProfile
from kbit_ref.conformance.implementations.function import Function
from kbit_ref.conformance.inputs.of_types import MORE_SOURCES, SOURCES
from kbit_ref.conformance.judge import judge, judge_profile
from kbit_ref.conformance.product import check_product
from kbit_ref.conformance.rank import rank_blocks, ranking_of
from kbit_ref.conformance.reading import parts_in
from kbit_ref.conformance.specials import noting_nan
from kbit_ref.conformance.stochastic import judge_stochastic
from kbit_ref.conformance.subject import question
from kbit_ref.conformance.variants.of_types import NanCodes
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.products.accumulate import Accumulator, accumulator
from kbit_ref.tensors.scheme import Scheme, named

__all__ = ["check"]

WHAT = ("encode", "codes", "values", "decode", "multiply")
SHAPES = ("rows", "flat", "ragged", "any")


def check(
    function: Callable[..., Any],
    dtype: DataType | Scheme | Accumulator | str,
    *,
    what: str | None = None,
    sources: Sequence[str] = ("float32",),
    nan: str | NanCodes = "any",
    shapes: bool | str = True,
    seed: int = 0,
    rank: bool = False,
    random_bits: int = 16,
) -> Verdict:
    """Judge a function that encodes to a data type, decodes it, or quantizes by a scheme, bit for bit.

    Parameters
    ----------
    function
        Takes a NumPy array of any shape, returns an array of the same shape: codes (integers), an
        `ml_dtypes` array, or the decoded real numbers, whose signs of zero count. For a scheme it
        returns a dict of some of `codes packed scales offsets zero_points global_scale values`, a
        tuple of codes (or bytes), scales, and offsets or zero points, or a QTensor; scales of a type of
        8 or 16 bits as numbers, or as its codes. For stochastic rounding, of a type or a scheme, it takes the
        numbers and as many random integers, uint32.
    dtype
        A data type or its name, choices included: `e4m3fn+overflow=ieee`. Or a scheme, its
        spelling, or the name of a profile: `nf4-b64-absmax-f32`, `ggml-q4_0`.
    what
        `encode` (the default), where signed integers are values for integer types and codes for all
        others; `codes` or `values` to say what the answers are; `decode` if the function takes
        codes and returns real numbers, or for a scheme takes what is stored: by the names of its
        parameters `codes packed scales scale_bytes offsets zero_points global_scale shape`, else
        packed, scales and the others in this order, or a QTensor; `multiply` if it takes two matrices
        and returns their product, `dtype` being an accumulator, `float32+order=sequential` (see
        `kb.dot_bound`).
    sources
        The formats of the numbers that it takes: float16, bfloat16 (`ml_dtypes` arrays), float32,
        float64; for a data type also longdouble, int8 to int64, uint8 to uint64, bool.
    nan
        Which codes stand for NaN: `any` NaN of the type, the `canonical` one, or a pair of codes,
        for NaN without and with its sign bit.
    shapes
        Try other shapes and strides too: no dimension, empty, transposed, ... For a scheme: all
        shapes with True, rows of whole blocks with False, or `flat`, `ragged` (two dimensions).
    seed
        Of the random tail; everything else is the same every time.
    rank
        Say to which other choices of the type, or profiles of the same type and cut, the function
        conforms, and where it parts from each of the others: `.ranking`.
    random_bits
        Of each random integer, for a type with stochastic rounding.

    Returns
    -------
    Verdict: `.agree`, `.different`, `.differences`, `.ranking`; print it to
    read the counterexamples.

    Raises
    ------
    UnknownName
        `check: what = 'encoder', there is no such name; did you mean encode? ...`

    Choices
    -------
    NaN is not judged for a type without NaN; a note of the verdict says what becomes of it. A function that raises,
    answers with too few values, changes its input or leaves flush-to-zero on gets an error. What
    becomes of NaN and infinity in a block is in `.specials`, and so is what becomes of blocks that the scheme has no
    answer for: to lose them, or to give NaN for them, is a disagreement, unless a named choice does the same.

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

    >>> def nf4(x):
    ...     q = kb.quantize(x, "bnb-cuda-nf4")
    ...     return {"packed": q.packed, "scales": q.scales}
    >>> kb.check(nf4, "bnb-cpu-nf4", rank=True).ranking.conforms
    ('bnb-cuda-nf4',)
    """
    if not callable(function):
        rule = "it cannot be called"
        raise BadType(message("check", f"function = {function!r}", rule, "give a function of one array"))
    if what == "multiply" or isinstance(dtype, Accumulator):
        if not isinstance(dtype, str | Accumulator) or what not in (None, "multiply"):
            rule = "a product is judged by an accumulator"
            got, remedy = f"dtype = {dtype!r}, what = {what!r}", 'use "float32", what="multiply"'
            raise BadInput(message("check", got, rule, remedy))
        return check_product(function, accumulator(dtype))
    subject = named(dtype) if isinstance(dtype, str) else dtype
    if isinstance(subject, Scheme):
        return _of_scheme(function, subject, what, sources, shapes, rank, random_bits)
    d = datatype(subject)
    if what is not None and what not in WHAT:
        raise UnknownName.among("check", "what", what, WHAT, f"use {', '.join(WHAT)}")
    _known_sources(sources, (*SOURCES, *MORE_SOURCES))
    if not isinstance(shapes, bool):
        raise BadInput(message("check", f"shapes = {shapes!r}", f"{d.name} is a data type", "use True or False"))
    if nan not in ("any", "canonical") and not (isinstance(nan, tuple) and len(nan) == 2):
        rule = "it is 'any', 'canonical' or two codes"
        raise BadInput(message("check", f"nan = {nan!r}", rule, "e.g. nan=(0x7f, 0xff)"))

    if what == "decode":
        queries = [question(d, "decode", "codes", nan)]
    else:
        queries = [question(d, "encode", source, nan, seed, random_bits) for source in sources]
    form = what if what in ("codes", "values") else None
    mine = Function(function)
    given = [(each, mine.convert(each, shapes)) for each in queries]
    judged = (judge(each, answers, form) for each, answers in given)
    rows = tuple(noting_nan(row, d, lambda query: mine.convert(query, False)) for row in judged)
    ranking = ranking_of(given, form) if rank and what != "decode" else None
    return Verdict(d.name, d.name, rows, theirs=mine.name, ranking=ranking)


def _known_sources(sources: Sequence[str], known: Sequence[str] = SOURCES) -> None:
    for source in sources:
        if source not in known:
            raise UnknownName.among("check", "sources", source, known, f"use {', '.join(known)}")


def _of_scheme(
    function: Callable[..., Any],
    s: Scheme,
    what: str | None,
    sources: Sequence[str],
    shapes: bool | str,
    rank: bool,
    random_bits: int,
) -> Verdict:
    """Judge a function that quantizes arrays, or decodes what is stored for them."""
    if what not in (None, "decode"):
        rule = "what is stored says itself what it is"
        raise BadInput(message("check", f"what = {what!r} for a scheme", rule, 'leave it out, or use what="decode"'))
    _known_sources(sources)
    if shapes not in (True, False, *SHAPES):
        raise UnknownName.among("check", "shapes", str(shapes), SHAPES, f"use True, False, {', '.join(SHAPES)}")
    wanted = shapes if isinstance(shapes, str) else "rows" if not shapes else "any" if s.cut.axis is None else "ragged"
    mine = Function(function)
    if what == "decode":
        return judge_decoder(s, mine.dequantizes, mine.name, wanted if mine.takes_shape else "rows")
    if s.dtype.rounding.startswith("stochastic"):
        if rank:
            rule = "arrays that are quantized with random bits are not ranked"
            raise BadInput(message("check", "rank = True", rule, f"rank the encoder alone: {s.dtype.name}"))
        return judge_stochastic(s, mine.quantizes_with_bits(s), mine.name, sources, wanted, random_bits)
    ask, profile = mine.quantizes(s), BlockProfile(str(s), mine.name, tuple(sources), wanted)
    found = judge_profile(mine, profile, ask, s)
    if not rank:
        return found
    return replace(found, ranking=rank_blocks(s, profile, lambda x, source: parts_in(ask(mine.name, source, x=x))))
