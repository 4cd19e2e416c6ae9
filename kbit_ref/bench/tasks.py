"""What the benchmark measures: the operations, what they should reach, and our own calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.engine.codec import decode, encode
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack, unpack
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import scheme

__all__ = ["Call", "Task", "ours", "tasks"]

Call = Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """One operation: what is timed, in which source format, and what it should reach of a copy."""

    verb: str  # encode, decode, quantize, dequantize, pack, unpack
    subject: str  # a data type, a scheme, or a layout
    source: str = "float32"
    target: dict[int, float] | None = None  # by number of threads
    floor: dict[int, float] | None = None
    out: bool = False  # into an array that is there already

    def __str__(self) -> str:
        into = " out=" if self.out else ""
        return f"{self.verb} {self.subject}{into}" + (f" from {self.source}" if self.source != "float32" else "")

    @property
    def of_blocks(self) -> bool:
        """Is it about a scheme?"""
        return self.verb in ("quantize", "dequantize")


CODEBOOKS = ("nf4", "dynamic8", "e4m3fn", "lloyd8")
SHARED = ("e4m3fn-b32@-1-pow2floor-e8m0fnu", "e2m1fn-b32@-1-pow2floor-e8m0fnu")
NVFP4 = "e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier"
NF4 = "nf4-b64-absmax-f32"


def tasks() -> list[Task]:
    """What is measured, in the order of the table."""
    float8 = [Task("encode", name, target={1: 0.55}, floor={1: 0.45}) for name in ("e4m3fn", "e5m2")]
    others = [Task("encode", name) for name in ("int8", "nf4", "dynamic8", "lloyd8", "fp4_bnb", "bf16", "f16")]
    sources = [Task("encode", "e4m3fn", source) for source in ("float16", "float64")]
    decodes = [Task("decode", "e4m3fn", target={1: 0.65}), Task("decode", "dynamic8"), Task("decode", "nf4")]
    again = [Task("encode", "e4m3fn", out=True), Task("decode", "e4m3fn", out=True)]
    packing = [Task("pack", "low4"), Task("unpack", "low4")]

    least, floor = {1: 0.30, 2: 0.45}, {1: 0.25, 2: 0.40}
    blocks = [Task("quantize", f"{name}-b64-absmax-f32", target=least, floor=floor) for name in CODEBOOKS]
    blocks.append(Task("quantize", "int8-b64-absmax-f32", target={1: 0.42, 2: 0.70}, floor=least))
    blocks += [Task("quantize", name, target={1: 0.20, 2: 0.30}) for name in (*SHARED, NVFP4)]
    back = [Task("dequantize", NF4, target={1: 0.70, 2: 1.0}, floor={1: 0.55, 2: 0.75})]
    back += [Task("dequantize", NF4, out=True)]
    back += [Task("dequantize", name) for name in ("dynamic8-b64-absmax-f32", "int8-b64-absmax-f32", *SHARED, NVFP4)]
    return [*float8, *others, *sources, *decodes, *again, *packing, *blocks, *back]


def ours(task: Task, x: NDArray[Any], threads: int) -> Call:
    """Our callable for a task."""
    into: dict[str, Any] = {}
    if task.verb == "encode":
        if task.out:
            into["out"] = np.empty_like(encode(task.subject, x))
        return lambda: encode(task.subject, x, threads=threads, **into)
    if task.verb == "decode":
        codes = encode(task.subject, x)
        if task.out:
            into["out"] = np.empty(x.shape, np.float32)
        return lambda: decode(task.subject, codes, threads=threads, **into)
    if task.verb == "pack":
        codes = some_codes(x)
        return lambda: pack(codes, task.subject)
    if task.verb == "unpack":
        packed = pack(some_codes(x), task.subject)
        return lambda: unpack(packed, task.subject, x.size)
    s = scheme(task.subject)
    if task.verb == "quantize":
        if task.out:
            into["out"] = np.empty(s.layout.size(x.size), np.uint8)
        return lambda: quantize(x, s, threads=threads, **into)
    q = quantize(x, s)
    if task.out:
        into["out"] = np.empty(x.shape, np.float32)
    return lambda: dequantize(q, threads=threads, **into)


def some_codes(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Codes of 4 bits, one for each x."""
    return encode("nf4", x)
