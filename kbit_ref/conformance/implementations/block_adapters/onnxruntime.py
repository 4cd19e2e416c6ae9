"""onnxruntime on the CPU: QuantizeLinear in blocks with given scales, and the tools for MatMulNBits and MatMulBnb4.

A tool is imported where it is used: one of them may need a module that the others do not.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.block_adapters import BlockAdapter, BlockProfile, halves
from kbit_ref.conformance.implementations.block_adapters.onnx import PROFILES, model

BLOCK = 32
BITS = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}
OPERATORS = tuple(p for p in PROFILES if "FLOAT4" not in p.theirs)  # the CPU has no kernel for it
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


class OnnxruntimeBlocks(BlockAdapter):
    """Operators in a session without optimizations, and the quantizers of `onnxruntime.quantization`."""

    library, module, install = "onnxruntime", "onnxruntime", "pip install onnxruntime onnx"
    needs = ("onnx",)
    profiles = (
        *OPERATORS,
        *NBITS,
        *GATHER,
        *BNB4,
        *halves((*OPERATORS, *GATHER), "float16"),
        *halves((*NBITS, *BNB4), "float16", compute=False),
    )

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """The tools for weights."""
        if theirs.startswith("MatMulNBits"):
            return _nbits(int(theirs.split()[1]), theirs.endswith("asymmetric"), x)
        if theirs.startswith("MatMulBnb4"):
            return _bnb4(theirs.split()[1], x)
        return _gather(theirs.endswith("asymmetric"), x)

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """The operators."""
        import onnxruntime as ort

        name = theirs.split()[1]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        text = model(name, x, scales, zero_points).SerializeToString()
        session = ort.InferenceSession(text, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x)))
        binding.bind_output("q", "cpu")
        binding.bind_output("y", "cpu")
        session.run_with_iobinding(binding)
        stored, decoded = binding.get_outputs()
        bits = BITS.get(name, 8)
        raw = np.frombuffer(ctypes.string_at(stored.data_ptr(), -(-x.size * bits // 8)), np.uint8)
        part = "packed" if bits < 8 else "codes"
        return {part: raw if bits < 8 else raw.reshape(x.shape), "decoded": decoded.numpy()}


def _nbits(bits: int, asymmetric: bool, x: NDArray[Any]) -> dict[str, Any]:
    from onnxruntime.quantization import matmul_nbits_quantizer as tool
    from onnxruntime.quantization.quant_utils import QuantFormat

    config = tool.DefaultWeightOnlyQuantConfig(BLOCK, not asymmetric, quant_format=QuantFormat.QOperator, bits=bits)
    packed, scales, zeros = tool.DefaultWeightOnlyQuantizer(config).qbits_block_quant(x)
    parts = {"packed": packed.reshape(-1), "scales": scales}  # [columns, blocks, bytes]: the order of the cut
    if asymmetric:
        each = 8 // bits
        fields = np.stack([(zeros >> (bits * i)) & (2**bits - 1) for i in range(each)], axis=-1)
        parts["zero_points"] = fields.reshape(zeros.shape[0], -1)[:, : scales.shape[1]]
    return parts


def _gather(asymmetric: bool, x: NDArray[Any]) -> dict[str, Any]:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantizer

    packed, scales, zeros = DefaultWeightOnlyQuantizer.quantize_ndarray(x, 1, BLOCK, not asymmetric)
    parts = {"packed": packed, "scales": scales}
    if zeros is not None:
        fields = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(-1)
        parts["zero_points"] = fields[: scales.size]
    return parts


def _bnb4(name: str, x: NDArray[Any]) -> dict[str, Any]:
    import onnx
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    made = MatMulBnb4Quantizer(onnx.ModelProto(), getattr(MatMulBnb4Quantizer, name), 64)
    packed, largest = made.bnb4_block_quant(x.T)  # it transposes its argument
    return {"packed": packed, "scales": largest}
