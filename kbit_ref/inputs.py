"""What an argument may be: arrays of other libraries in, NumPy arrays out, a clear line for the rest.

No library is imported to find out: an object says what it is by `__array__` or `__dlpack__`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.errors import BadInput, BadType, message

__all__ = ["Reals", "as_codes", "as_out", "as_reals", "as_seed", "real_array"]

FLOATS = ("float16", "float32", "float64", "longdouble")


class Reals(NamedTuple):
    """An array of real numbers, and the format its elements are in."""

    array: NDArray[Any]  # for bfloat16: uint16, the bits
    kind: str  # float16, bfloat16, float32, float64, longdouble


def real_array(function: str, x: Any, *, bfloat16: bool = False) -> Reals:
    """The numbers in x, without a copy where the memory can be shared.

    Raises
    ------
    BadType
        `encode: x of dtype int64, integers are codes or counts, not reals; use x.astype(np.float64)`
        `encode: x is a torch bfloat16 tensor, NumPy has no such dtype; pass x.view(torch.uint16), bfloat16=True`
        `encode: x requires grad, ...; pass x.detach()`
    """
    array = _share(function, x)
    name = array.dtype.name
    if bfloat16:
        if name not in ("uint16", "bfloat16"):
            rule = "bfloat16=True says that x holds the bits of bfloat16 as uint16"
            raise _refusal(function, f"x of dtype {name}", rule, "pass uint16, or drop the flag")
        bits = array if name == "uint16" else array.view(np.uint16)
        return Reals(bits.astype(np.uint16, copy=False), "bfloat16")  # in the order of this machine
    if name == "bfloat16":
        return Reals(array.view(np.uint16), "bfloat16")
    if array.dtype.kind == "f" and name in ("float16", "float32", "float64"):
        return Reals(array, name)
    if array.dtype.type is np.longdouble:
        return Reals(array, "longdouble")
    if array.dtype.kind in "iu" and not hasattr(x, "dtype"):  # Python's own numbers
        return Reals(array.astype(np.float64), "float64")
    if array.size == 0 and not hasattr(x, "dtype"):
        return Reals(array.astype(np.float64), "float64")
    if name == "uint16":
        raise _refusal(function, "x of dtype uint16", "it is not real numbers", "bits of bfloat16 need bfloat16=True")
    if array.dtype.kind in "iu":
        raise _refusal(
            function, f"x of dtype {name}", "integers are codes or counts, not reals", "convert: x.astype(np.float64)"
        )
    rule = f"x is float16, bfloat16, {', '.join(FLOATS[1:])}"
    raise _refusal(function, f"x of dtype {name}", rule, "convert it, e.g. x.astype(np.float32)")


def as_reals(function: str, x: Any) -> NDArray[Any]:
    """The numbers in x as a NumPy float array; bfloat16 is widened to float32."""
    array, kind = real_array(function, x)
    return widened(array, kind)


def as_codes(function: str, codes: Any, bits: int) -> NDArray[Any]:
    """The integers in `codes`; their range is not checked here, but for dtypes wider than the codes.

    Raises
    ------
    BadType
        `decode: codes of dtype float32, codes are integers; ...`
    BadInput
        `decode: codes[2] = 16, codes of 4 bits are 0 to 15; ...`
    """
    array = _share(function, codes, "codes")
    if array.size == 0 and not hasattr(codes, "dtype"):
        array = array.astype(np.uint8)
    narrow = np.uint8 if bits <= 8 else np.uint16
    if array.dtype == narrow:
        return array
    if array.dtype.kind not in "iu" or array.dtype.name not in np.sctypeDict:
        got = f"codes of dtype {array.dtype.name}"
        raise _refusal(function, got, "codes are integers", "pass uint8 (uint16 above 8 bits)")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**bits:
        refuse_codes(function, array, bits)
    return array.astype(narrow)


def refuse_codes(function: str, codes: NDArray[Any], bits: int, first: int = 0) -> NoReturn:
    """Raise for the first code that is out of range; `first` is the position of codes[0]."""
    bad = np.flatnonzero(((codes < 0) | (codes >= 2**bits)).ravel())[0]
    place = f"[{first + bad}]" if codes.ndim else ""
    got = f"codes{place} = {codes.ravel()[bad]}"
    raise BadInput(message(function, got, f"codes of {bits} bits are 0 to {2**bits - 1}", "mask or unpack them first"))


def as_out(function: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: NDArray[Any]) -> NDArray[Any]:
    """The array to write into: `out` if it fits, else a new one.

    Raises
    ------
    BadInput
        `encode: out of shape (3,) and dtype int8, ...`
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        got = f"out of shape {getattr(out, 'shape', None)} and dtype {getattr(out, 'dtype', type(out).__name__)}"
        raise BadInput(message(function, got, f"the result has shape {shape} and dtype {dtype}", "allocate it so"))
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise BadInput(
            message(function, "out", "it is read-only or not C-contiguous", "allocate it with np.empty(x.shape)")
        )
    if np.may_share_memory(out, x):
        raise BadInput(message(function, "out", "it shares memory with the input", "allocate an array of its own"))
    return out


def as_seed(function: str, seed: Any) -> int:
    """A seed of NumPy's generators.

    Raises
    ------
    BadInput
        `train: seed = -3, it is a whole number from 0; leave it out`

    Examples
    --------
    >>> as_seed("train", np.int64(3))
    3
    """
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise BadInput(message(function, f"seed = {seed!r}", "it is a whole number from 0", "leave it out"))
    return int(seed)


def _share(function: str, x: Any, name: str = "x") -> NDArray[Any]:
    """np.asarray of the argument of that name, with every failure told in one line."""
    if type(x) is np.ndarray:
        return x
    kind = f"{type(x).__module__.partition('.')[0]} {getattr(x, 'dtype', type(x).__name__)}"
    if str(getattr(x, "dtype", "")) == "torch.bfloat16":
        remedy = f"pass {name}.view(torch.uint16) with bfloat16=True, or {name}.float()"
        raise _refusal(function, f"{name} is a torch.bfloat16 tensor", "NumPy has no such dtype", remedy)
    if getattr(x, "requires_grad", False):
        rule = "a NumPy view would leave the graph silently"
        raise _refusal(function, f"{name} requires grad", rule, f"pass {name}.detach()")
    if isinstance(x, np.ma.MaskedArray):
        raise _refusal(function, f"{name} is a masked array", "its mask would be lost", f"pass {name}.filled(value)")
    try:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except Exception as error:  # whatever another library raises becomes our one line
        reason = " ".join(str(error).split())[:120]
        rule = f"it does not become a NumPy array ({reason})"
        raise _refusal(function, f"{name} is {kind}", rule, "pass an array in CPU memory") from None


def _refusal(function: str, got: str, rule: str, remedy: str) -> BadType:
    return BadType(message(function, got, rule, remedy))
