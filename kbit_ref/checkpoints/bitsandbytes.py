"""4-bit matrices as bitsandbytes stores them beside others in safetensors.

    X                                      U8 (or another type that its bytes were seen as): two codes a byte
    X.absmax                               F32 [n_blocks]; nested: U8, codes of dynamic8
    X.quant_map                            F32 [16]: the levels, which its kernels do not read, nor do we
    X.nested_absmax, X.nested_quant_map    F32: scales of blocks of 256 scales, and the 256 levels
    X.quant_state.bitsandbytes__nf4        U8: JSON with quant_type, blocksize, shape, and what is nested

Source: bitsandbytes 0.50.2, functional.QuantState, and checkpoints that it has written.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import Container
from kbit_ref.checkpoints.foreign import ROWS, Found, reader
from kbit_ref.checkpoints.header import shown
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["read"]

STATE = ".quant_state.bitsandbytes__"
PROFILES = {"nf4": "bnb-cuda-nf4", "fp4": "bnb-cuda-fp4"}
NESTED = "+double=bnb+scaleuse=unrounded"


@reader
def read(file: Container, name: str) -> Found | None:
    """The matrix of that name, or None if it is not stored in this way.

    Raises
    ------
    BadInput
        `bitsandbytes: h.0.weight: shape = [3], its codes have 64 bytes; get the file again`
    """
    kind = next((kind for kind in PROFILES if name + STATE + kind in file.entries), None)
    if kind is None:
        return None

    def refuse(got: str, rule: str) -> BadInput:
        return BadInput(message("bitsandbytes", f"{shown(name)}: {got}"[:300], rule, "get the file again"))

    try:
        state = json.loads(file.raw(name + STATE + kind).tobytes().decode("utf-8"))
        shape = tuple(_whole(n) for n in state["shape"])
        size = _whole(state["blocksize"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refuse("quant_state", f"it cannot be read ({type(error).__name__})") from None
    n_elements = math.prod(shape)
    n_blocks = -(-n_elements // size)
    packed = file.raw(name)
    if packed.size != -(-n_elements // 2):
        raise refuse(f"shape = {list(shape)}", f"its codes have {packed.size} bytes")

    def numbers(part: str, n: int) -> NDArray[np.float32]:
        entry = file.entry(f"{name}.{part}")
        if entry.dtype != "F32" or math.prod(entry.shape) != n:
            raise refuse(f"{part} of {entry.dtype} {list(entry.shape)}", f"it holds {n} float32 numbers")
        values: NDArray[np.float32] = file.array(f"{name}.{part}").reshape(1, n).astype(np.float32)
        if not np.isfinite(values).all():
            raise refuse(part, "it holds a number that is not finite")
        return values

    if name + ".nested_absmax" not in file.entries:
        return QTensor(packed, numbers("absmax", n_blocks), shape, _scheme(kind, size)), ROWS
    s = _scheme(kind, size, NESTED)
    assert s.double is not None  # NESTED says so
    double = s.double
    codes = file.entry(f"{name}.absmax")
    offset, inner = state.get("nested_offset"), state.get("nested_blocksize")
    if inner != double.cut.size or not isinstance(offset, (int, float)) or not math.isfinite(offset):
        rule = f"they are {double.cut.size} and a number"
        raise refuse(f"nested_blocksize = {inner}, nested_offset = {offset}", rule)
    if codes.dtype != "U8" or math.prod(codes.shape) != n_blocks:
        raise refuse(f"absmax of {codes.dtype} {list(codes.shape)}", f"it holds {n_blocks} codes")
    q = QTensor(
        packed=file.raw(f"{name}.absmax"),
        scales=numbers("nested_absmax", -(-n_blocks // inner)),
        shape=(1, n_blocks),
        scheme=double,
        offsets=np.full((1, 1), offset, np.float32),
    )
    return QTensor(packed, dequantize(q), shape, s, double=q), ROWS


def _scheme(kind: str, size: int, more: str = "") -> Scheme:
    """The profile with another block size."""
    dtype, _, rest = str(scheme(PROFILES[kind])).split("-", 2)
    return scheme(f"{dtype}-b{size}-{rest}{more}")


def _whole(value: Any) -> int:
    """A positive integer of untrusted JSON."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**48:
        raise ValueError(value)
    return value
