"""Implementations to judge: ours, a mutant, a function by its name, a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.vectors.judge import Implementation
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import decode, encode
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import Layout, pack, unpack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.tensors.steps import Runner, Steps, Stored, read, reference

__all__ = ["engine", "of_steps", "reference_of", "scheme_of"]

Array = NDArray[Any]
Answer = dict[str, Any]
PARTS = ("packed", "scales", "offsets", "zero_points", "global_scale")


def engine(verb: str, name: str, arrays: Mapping[str, Array]) -> Answer:
    """Answer as `kb.quantize` and the like do.

    Examples
    --------
    >>> engine("encode", "e2m1fn", {"x": np.float32([0.7, -5])})
    {'codes': array([ 1, 14], dtype=uint8)}
    """
    if verb == "encode":
        return {"codes": encode(name, arrays["x"], threads=1)}
    if verb == "decode":
        return {"values": decode(name, arrays["codes"], threads=1)}
    if verb == "pack":
        return {"packed": pack(arrays["codes"], name)}
    if verb == "unpack":
        return {"codes": unpack(arrays["packed"], name, int(arrays["n"]))}
    s = scheme(name)
    if verb == "quantize":
        return _parts(quantize(arrays["x"], s, threads=1))
    shape = tuple(int(n) for n in arrays["shape"])
    return {"values": dequantize(_qtensor(s, shape, arrays), threads=1)}


def _parts(q: QTensor) -> Answer:
    parts: Answer = {"codes": q.codes} | {part: getattr(q, part) for part in PARTS}
    if q.double is not None:
        inner = _parts(q.double)
        parts |= {f"double.{part}": array for part, array in inner.items() if part != "codes"}
    return parts


def _qtensor(s: Scheme, shape: tuple[int, ...], arrays: Mapping[str, Array]) -> QTensor:
    parts: dict[str, Any] = {part: arrays.get(part) for part in PARTS}
    if parts["global_scale"] is not None:
        parts["global_scale"] = np.float32(parts["global_scale"])
    if s.double is not None:
        inner = {path.removeprefix("double."): array for path, array in arrays.items() if path.startswith("double.")}
        n_rows, length = s.cut.grid(shape)
        double = _qtensor(s.double, (n_rows, s.cut.per_row(length)), inner)
        parts["scales"] = dequantize(double, threads=1)
        return QTensor(shape=shape, scheme=s, double=double, **parts)
    return QTensor(shape=shape, scheme=s, **parts)


# Steps, of which mutants are made ----------------------------------------------------------------


def scheme_of(subject: Scheme | DataType | Layout) -> Scheme:
    """Return a scheme whose steps do what is tested: for a layout one with codes of its width.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> str(scheme_of(kb.layout("awq4"))), str(scheme_of(kb.datatype("nf4")))
    ('uint4-tensor-absmax-f32+layout=awq4', 'nf4-tensor-absmax-f32')
    """
    if isinstance(subject, Scheme):
        return subject
    if isinstance(subject, DataType):
        return scheme(f"{subject.name}-tensor-absmax-f32")
    dtype = "ternary" if subject.digits else f"uint{subject.bits}"
    return scheme(f"{dtype}-tensor-absmax-f32+layout={subject.name}")


def of_steps(steps: Steps, runner: Runner | None = None) -> Implementation:
    """Make an implementation of steps; `runner` caches what was computed from its array before."""

    def implementation(verb: str, name: str, arrays: Mapping[str, Array]) -> Answer:
        with np.errstate(all="ignore"):
            if verb == "encode":
                y = steps.read(arrays["x"].reshape(1, -1))
                return {"codes": steps.encode(y, np.ones((1, 1), y.dtype), None)}
            if verb == "decode":
                return {"values": steps.level(arrays["codes"].reshape(1, -1))}
            if verb == "pack":
                if (arrays["codes"] >= steps.scheme.layout.codes).any():
                    raise BadInput(message("pack", "codes", "a code is out of range", "mask it"))
                return {"packed": steps.pack(arrays["codes"])}
            if verb == "unpack":
                return {"codes": steps.unpack(arrays["packed"], (1, int(arrays["n"]))).reshape(-1)}
            if verb == "quantize":
                written = (runner or Runner(arrays["x"])).write(steps, keep=False)
                return {"codes": written.codes} | {part: getattr(written.stored, part) for part in PARTS}
            shape = tuple(int(n) for n in arrays["shape"])
            parts: dict[str, Any] = {part: arrays.get(part) for part in PARTS}
            return {"values": read(steps, Stored(shape=shape, **parts))}

    return implementation


def reference_of(subject: Scheme | DataType | Layout, source: str) -> Steps:
    """Return the steps of a subject as they are meant, for numbers of a format."""
    return reference(scheme_of(subject), source)
