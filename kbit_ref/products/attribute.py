"""Split the error of a quantized product: codes, scales, rounded weights or activations, or accumulation.

Five products in a row, each with one thing more as the implementation has it, the first four exact:

    reference      x  @ dequantize(quantize(w)).T
    codes          x  @ the same with their codes
    scales         x  @ with their scales too (and zero points, and offsets)
    weights        x  @ what their kernel multiplies with, e.g. those weights in bfloat16
    activations    their x @ the same
    accumulation   what they computed

A part is the difference of two neighbours, so the parts sum up to the whole (the sum telescopes).
For that to hold in float64 without any rounding, the six products of an element are rounded once to a
grid of 2**-48 of the largest of them, and then differences and sums of them are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import FORMATS, Arithmetic
from kbit_ref.engine.codec import decode
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_codes, as_reals
from kbit_ref.products.accumulate import Accumulator
from kbit_ref.products.bounds import Judgement, dot_bound
from kbit_ref.products.exact_product import exact_product
from kbit_ref.products.operands import matrix
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import effective
from kbit_ref.tensors.scheme import Scheme

__all__ = ["PARTS", "Attribution", "attribute"]

Array = NDArray[Any]
F64 = NDArray[np.float64]
PARTS = ("codes", "scales", "weights", "activations", "accumulation")
GRID = 48  # bits: six numbers of so many, and their sums, are exact in float64
SUSPECTS: tuple[dict[str, str], ...] = (  # what kernels do, if it is not given
    *({"weights": form} for form in ("exact", "bfloat16", "float16")),
    *({"activations": form} for form in ("bfloat16", "float16", "int8-channel-absmax-f32")),
    *({"activations": f"int8-b{size}@-1-absmax-f32"} for size in (32, 64, 128)),
    *(
        {"weights": form, "activations": form, "accumulator": f"{form}_via_float32+order=sequential"}
        for form in ("bfloat16", "float16")
    ),
)


@dataclass(frozen=True, eq=False)
class Attribution:
    """A discrepancy, split.

    Parameters
    ----------
    parts : each float64 [..., N]
        By name, in the order of `PARTS`; their sum is `whole`, exactly.
    whole
        theirs - reference.
    different
        How many codes, and how many scales, zero points and offsets, are not those of the reference.
    accumulation
        What `dot_bound` says of their product as one of their own activations and weights.
    suspects
        If a tenth of that is outside or improbable, and neither weights nor activations were given:
        which of the usual roundings explain at least half of it, the best first: arguments to call
        again with, and the share of the product that is inside and probable then.
    """

    parts: Mapping[str, F64]
    whole: F64
    different: Mapping[str, int]
    accumulation: Judgement
    suspects: tuple[tuple[Mapping[str, str], float], ...] = ()

    @property
    def largest(self) -> str:
        """Return the part with the largest sum of magnitudes; `none` if all are zero."""
        sizes = {name: float(np.abs(part).sum()) for name, part in self.parts.items()}
        found = max(sizes, key=lambda name: sizes[name])
        return found if sizes[found] else "none"

    def __str__(self) -> str:
        rows = [f"{'part':<13}{'largest':>12}{'rms':>12}"]
        for name, part in [*self.parts.items(), ("whole", self.whole)]:
            largest, rms = np.abs(part).max(initial=0), np.sqrt(np.square(part).mean()) if part.size else 0.0
            count = f"   {self.different[name]} differ" if self.different.get(name) else ""
            rows.append(f"{name:<13}{largest:>12.3g}{rms:>12.3g}{count}")
        rows.append(f"accumulation: {self.accumulation}")
        for usual, share in self.suspects:
            arguments = ", ".join(f"{name}={value!r}" for name, value in usual.items())
            rows.append(f"with {arguments}: {share:.1%} inside and probable")
        return "\n".join(rows)


def attribute(
    theirs: Any,
    x: Any,
    w: Any,
    scheme: Scheme | str,
    *,
    codes: Any = None,
    scales: Any = None,
    zero_points: Any = None,
    offsets: Any = None,
    weights: Any = None,
    activations: Any = None,
    accumulator: Accumulator | str = "float32+order=sequential",
) -> Attribution:
    """Split the discrepancy of a quantized product into its causes.

    Parameters
    ----------
    theirs : [..., N]
        The product that an implementation computed.
    x : [..., K]
        Activations.
    w : [N, K]
        Weights before they were quantized, as layers store them: the product is x @ w.T.
    scheme
        How w is to be quantized.
    codes : [N, K]
        Theirs; by default those of the reference. So too `scales`, `zero_points` and `offsets`, in
        the shapes that a QTensor of the scheme has.
    weights
        What their kernel multiplies with: numbers [N, K]; or the name of a format, `bfloat16`, to which
        dequantized weights are rounded; or `exact`: level times scale without any rounding, as where the
        scale is applied to sums. By default what `dequantize` gives.
    activations
        Theirs: numbers [..., K], a format, or a scheme by which they quantize x. By default x.
    accumulator
        The model that accumulation is judged by (`dot_bound`); its order only matters for what is probable.

    Returns
    -------
    Attribution

    Choices
    -------
    What two causes do together counts for the later one, in the order of the page.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> x, w = np.float32([[1, 2, 3, 4]]), np.float32([[0.1, 0.2, 0.3, 0.7], [1, 2, 3, 7]])
    >>> q = kb.quantize(w, "int4-b4-absmax-f32")
    >>> codes = q.codes.copy()
    >>> codes[1, 0] += 1  # one flipped code, and nothing else
    >>> theirs = x @ np.float32([[0.1, 0.2, 0.3, 0.7], [2, 2, 3, 7]]).T
    >>> found = attribute(theirs, x, w, q.scheme, codes=codes)
    >>> found.largest, found.parts["codes"].tolist()
    ('codes', [[0.0, 1.0]])
    """
    given = {"codes": codes, "scales": scales, "zero_points": zero_points, "offsets": offsets}
    a, c = matrix("attribute", "x", x), matrix("attribute", "theirs", theirs)
    numbers = as_reals("attribute", w)
    if numbers.ndim != 2 or a.shape[-1:] != numbers.shape[1:] or c.shape != (*a.shape[:-1], len(numbers)):
        got = f"theirs, x and w of shapes {c.shape}, {a.shape} and {numbers.shape}"
        raise BadInput(message("attribute", got, "they are [..., N], [..., K] and [N, K]", "transpose or reshape"))
    reference = quantize(numbers, scheme)
    their_codes = _with(reference, {"codes": codes})
    stored = _with(reference, given)
    used = _weights(stored, weights)
    multiplied = _activations(a, activations)
    values = [dequantize(q).astype(np.float64) for q in (reference, their_codes, stored)]
    products = [_product(a, values[0])]
    for before, after in zip(values, [*values[1:], used], strict=True):
        products.append(products[-1] if (before == after).all() else _product(a, after))
    products += [products[-1] if (multiplied == a).all() else _product(multiplied, used), c]
    steps = _on_a_grid(products)
    judged = dot_bound(multiplied, used.T, accumulator).holds(c)
    untold = weights is None and activations is None
    suspects = _suspects(c, a, stored, accumulator, judged.doubtful) if untold and judged.doubtful > 0.1 else ()
    different = {
        "codes": int((stored.codes != reference.codes).sum()),
        "scales": sum(
            int((getattr(stored, name) != getattr(reference, name)).sum())
            for name in ("scales", "zero_points", "offsets")
            if getattr(reference, name) is not None
        ),
    }
    parts = dict(zip(PARTS, np.diff(steps, axis=0), strict=True))
    return Attribution(parts, steps[-1] - steps[0], different, judged, suspects)


def _with(q: QTensor, given: Mapping[str, Any]) -> QTensor:
    """Return the QTensor with parts of an implementation in place of its own."""
    changed: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        own = getattr(q, name)
        array = as_codes("attribute", value, q.scheme.dtype.bits) if name == "codes" else np.asarray(value)
        if own is None or array.size != own.size:
            rule = f"{q.scheme} has {'none' if own is None else f'shape {own.shape}'}"
            raise BadInput(
                message("attribute", f"{name} of shape {array.shape}", rule, "compare what belongs together")
            )
        if name == "codes":
            changed["packed"] = pack(q.scheme.cut.rows(array.reshape(q.shape)), q.scheme.layout)
        else:
            changed[name] = array.reshape(own.shape).astype(own.dtype)
    return replace(q, **changed, double=None) if changed else q


def _weights(q: QTensor, how: Any) -> F64:
    """Return what a kernel multiplies with, [N, K]."""
    if how is None or (isinstance(how, str) and how in FORMATS):
        decoded = dequantize(q)
        return np.asarray(decoded if how is None else Arithmetic(how).round(decoded), np.float64)
    if not isinstance(how, str):
        array = matrix("attribute", "weights", how)
        if array.shape != q.shape:
            raise BadInput(message("attribute", f"weights of shape {array.shape}", f"w has {q.shape}", "transpose"))
        return array
    if how != "exact" or q.offsets is not None or q.scheme["scaleas"] == "divisor":
        rule = f"there are {', '.join(FORMATS)}, and for multipliers without offsets `exact`"
        raise BadInput(message("attribute", f"weights = {how!r}", rule, "or pass their numbers"))
    cut = q.scheme.cut
    rows = cut.rows(decode(q.scheme.dtype, q.codes).astype(np.float64))

    def each(blocks: NDArray[Any]) -> F64:
        width = cut.size or rows.shape[1]
        return np.repeat(blocks.astype(np.float64), width, axis=1)[:, : rows.shape[1]]

    if q.zero_points is not None:
        rows = rows - each(q.zero_points)
    scales = effective(q.scheme, Arithmetic("float32"), q.global_scale, q.scales)
    return np.asarray(cut.join(rows * each(scales), q.shape))


def _activations(a: F64, how: Any) -> F64:
    """Return what a kernel makes of x, [..., K]."""
    if how is None:
        return a
    if isinstance(how, str) and how in FORMATS:
        return Arithmetic(how).round(a).astype(np.float64)
    if isinstance(how, str | Scheme):
        return dequantize(quantize(a.astype(np.float32), how)).astype(np.float64)
    array = matrix("attribute", "activations", how)
    if array.shape != a.shape:
        raise BadInput(message("attribute", f"activations of shape {array.shape}", f"x has {a.shape}", "reshape"))
    return array


def _product(a: F64, weights: F64) -> F64:
    """Compute a @ weights.T, correctly rounded."""
    flat = exact_product(a.reshape(-1, a.shape[-1]), weights.T).centre
    return flat.reshape(*a.shape[:-1], -1)


def _on_a_grid(products: list[F64]) -> F64:
    """Return each element's products as whole numbers of one unit, 2**-48 of the largest, [6, ..., N]."""
    stack = np.stack(products)
    _, exponent = np.frexp(np.abs(stack).max(axis=0))
    unit = np.ldexp(1.0, np.maximum(exponent - GRID, -1074))
    return np.asarray(np.rint(stack / unit) * unit)


def _suspects(
    c: Array, a: Array, stored: QTensor, accumulator: Accumulator | str, doubtful: float
) -> tuple[tuple[Mapping[str, str], float], ...]:
    """Return the usual roundings that explain at least half of what is doubtful, the best first."""
    found: list[tuple[Mapping[str, str], float]] = []
    for usual in SUSPECTS:
        try:
            weights = _weights(stored, usual.get("weights"))
        except BadInput:  # offsets have no exact weights
            continue
        multiplied = _activations(a, usual.get("activations"))
        left = dot_bound(multiplied, weights.T, usual.get("accumulator", accumulator)).holds(c).doubtful
        if left <= doubtful / 2:
            found.append((usual, 1 - left))
    return tuple(sorted(found, key=lambda suspect: -suspect[1]))
