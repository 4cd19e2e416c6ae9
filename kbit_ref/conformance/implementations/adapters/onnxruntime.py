"""onnxruntime on the CPU: Cast and QuantizeLinear in models of the onnx helpers, the tools for MatMulNBits and its kin.

A tool is imported where it is used: one of them may need a module that the others do not.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Profile, Timed, halves
from kbit_ref.conformance.implementations.adapters.onnx import (
    BLOCK,
    BLOCKS,
    DYNAMIC,
    FP8,
    INTEGERS,
    SCALES,
    dynamic_model,
    dynamic_parts,
    model,
    model_of_blocks,
    on_record,
    overflowing,
    saturating,
    width,
)
from kbit_ref.engine.codec import encode
from kbit_ref.tensors.packing import unpack

CASTS = (*saturating((0x7F, 0xFF)), *overflowing((0x7F, 0xFF)))
HALF_AWAY = tuple(Profile(f"{name}+ties=away", f"Cast {name.upper()}", what=("encode",)) for name in INTEGERS)
QUANTIZE = tuple(
    Profile(name, f"QuantizeLinear {name.upper()}", sources=("float32",), what=("encode",))
    for name in ("int8", "uint8", *INTEGERS)
)
OPERATORS = tuple(p for p in BLOCKS if "FLOAT4" not in p.theirs)  # the CPU has no kernel for it
GATHER = (
    BlockProfile("ort-gather", "quantize_ndarray", shapes="ragged"),
    BlockProfile("ort-gather-asym", "quantize_ndarray asymmetric", shapes="ragged"),
)
BNB4 = (BlockProfile("ort-bnb4-fp4", "MatMulBnb4 FP4"), BlockProfile("ort-bnb4-nf4", "MatMulBnb4 NF4"))
NBITS = tuple(
    BlockProfile(f"ort-matmulnbits-{bits}{asym and '-asym'}", f"MatMulNBits {bits} bits{asym}", ("float32",), "rows")
    for bits in (2, 4, 8)
    for asym in ("", " asymmetric")
)
FROM_FLOAT = (
    "https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/common/float8.h"
    " (made from float alone)"
)


class Onnxruntime(Adapter):
    """Operators in sessions, inputs and outputs as OrtValues; the quantizers of `onnxruntime.quantization`."""

    library, module, install = "onnxruntime", "onnxruntime", "pip install onnxruntime onnx"
    import_seconds = 0.5
    needs = ("onnx",)
    profiles = (
        *(*CASTS, *SCALES, *HALF_AWAY, *QUANTIZE),
        *(*DYNAMIC, *OPERATORS, *NBITS, *GATHER, *BNB4),
        *halves((*OPERATORS, *GATHER), "float16"),
        *halves((*NBITS, *BNB4), "float16", compute=False),
    )
    known = on_record(HALF_AWAY, (*CASTS, *SCALES), FROM_FLOAT)

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Run one node; the answer is read from the memory of the result, small integers unpacked from it."""
        from onnx import TensorProto

        operator, name, *attributes = theirs.split(" ")
        values = {"x": _value(x, TensorProto.BFLOAT16 if source == "bfloat16" else None)}
        bits = width(name)
        if operator == "QuantizeLinear":
            values["scale"] = _value(np.array(1, x.dtype))
            values["zero"] = _value(np.zeros(() if bits == 8 else 1, np.uint8), getattr(TensorProto, name))
        (result,) = _run(_session(operator, name, tuple(attributes), source), values)
        if x.size == 0:
            return np.empty(x.shape, np.uint8)
        return unpack(_memory(result, x.size, bits), f"low{bits}", x.size).reshape(x.shape)

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Cast to float32."""
        from onnx import TensorProto

        name = theirs.split(" ")[1]
        (result,) = _run(_session("Decode", name, (), "float32"), {"x": _value(codes, getattr(TensorProto, name))})
        return result.numpy()

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """DynamicQuantizeLinear, or the tools for weights."""
        name, *options = theirs.split()
        if name == "DynamicQuantizeLinear":
            outputs = _run(_dynamic_session(), {"x": _value(x)}, ("q", "scale", "zero", "y"))
            return dynamic_parts(*(output.numpy() for output in outputs))
        if name == "MatMulNBits":
            return _nbits(int(options[0]), "asymmetric" in options, x)
        if name == "MatMulBnb4":
            packed, largest = _bnb4_tool(options[0]).bnb4_block_quant(x.T)  # it transposes its argument
            return {"packed": packed, "scales": largest}
        return _gather("asymmetric" in options, x)

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """Run the operators, in a session without optimizations."""
        name = theirs.split()[1]
        session = _session_of(model_of_blocks(name, x, scales, zero_points), optimized=False)
        stored, decoded = _run(session, {"x": _value(x)}, ("q", "y"))
        bits = width(name)
        raw = _memory(stored, x.size, bits)
        return {"decoded": decoded.numpy()} | ({"packed": raw} if bits < 8 else {"codes": raw.reshape(x.shape)})

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return a Cast, bound to memory; the quantizer of MatMulBnb4, whose threads are as many as the cores."""
        if (verb, subject) == ("quantize", "nf4-b64-absmax-f32"):
            tool, column = _bnb4_tool("NF4"), x.reshape(1, -1).T
            call = tool.bnb4_block_quant
            return Timed(lambda: call(column), lambda result: np.asarray(result[0]).reshape(-1), "ort-bnb4-nf4")
        name = FP8.get(subject)
        if verb not in ("encode", "decode") or name is None or x.dtype != np.float32:
            return None
        from onnx import TensorProto

        if verb == "encode":
            session, values = _session("Cast", name, (), "float32", threads), {"x": _value(x)}
            return Timed(lambda: _run(session, values)[0], lambda result: _memory(result, x.size, 8))
        session = _session("Decode", name, (), "float32", threads)
        values = {"x": _value(encode(subject, x), getattr(TensorProto, name))}
        return Timed(lambda: _run(session, values)[0], lambda result: np.asarray(result.numpy()))


def _value(x: NDArray[Any], kind: int | None = None) -> Any:
    """Return an array as a value of a session, seen as another type of ONNX."""
    import onnxruntime as ort

    numbers = np.ascontiguousarray(x).reshape(x.shape)
    if kind is None:
        return ort.OrtValue.ortvalue_from_numpy(numbers)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(numbers, kind)


def _memory(value: Any, count: int, bits: int) -> NDArray[np.uint8]:
    """Return the bytes of so many codes."""
    return np.frombuffer(ctypes.string_at(value.data_ptr(), -(-count * bits // 8)), np.uint8)


@lru_cache(maxsize=64)
def _session(operator: str, name: str, attributes: tuple[str, ...], source: str, threads: int = 0) -> Any:
    return _session_of(model(operator, name, attributes, source), threads)


@lru_cache(maxsize=1)
def _dynamic_session() -> Any:
    return _session_of(dynamic_model(), optimized=False)


def _session_of(made: Any, threads: int = 0, optimized: bool = True) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, values: dict[str, Any], outputs: tuple[str, ...] = ("y",)) -> Any:
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    return binding.get_outputs()


def _nbits(bits: int, asymmetric: bool, x: NDArray[Any]) -> dict[str, Any]:
    from onnxruntime.quantization import matmul_nbits_quantizer as tool
    from onnxruntime.quantization.quant_utils import QuantFormat

    config = tool.DefaultWeightOnlyQuantConfig(BLOCK, not asymmetric, quant_format=QuantFormat.QOperator, bits=bits)
    packed, scales, zeros = tool.DefaultWeightOnlyQuantizer(config).qbits_block_quant(x)
    parts = {"packed": packed.reshape(-1), "scales": scales}  # [columns, blocks, bytes]: the order of the cut
    if asymmetric:
        fields = unpack(zeros.reshape(-1), f"low{bits}", zeros.size * 8 // bits)
        parts["zero_points"] = fields.reshape(zeros.shape[0], -1)[:, : scales.shape[1]]
    return parts


def _gather(asymmetric: bool, x: NDArray[Any]) -> dict[str, Any]:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantizer

    packed, scales, zeros = DefaultWeightOnlyQuantizer.quantize_ndarray(x, 1, BLOCK, not asymmetric)
    more = {} if zeros is None else {"zero_points": unpack(zeros.reshape(-1), "low4", scales.size)}
    return {"packed": packed, "scales": scales} | more


def _bnb4_tool(name: str) -> Any:
    import onnx
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    return MatMulBnb4Quantizer(onnx.ModelProto(), getattr(MatMulBnb4Quantizer, name), 64)
