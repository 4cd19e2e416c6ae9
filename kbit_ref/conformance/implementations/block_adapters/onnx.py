"""onnx: QuantizeLinear and DequantizeLinear in blocks, in its reference evaluator; scales are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.block_adapters import BlockAdapter, BlockProfile, halves

BLOCK = 32
OPSET = 25
SYMMETRIC = {
    "INT8": "int8",
    "INT4": "int4",
    "INT2": "int2",
    "FLOAT8E4M3FN": "e4m3fn",
    "FLOAT8E5M2": "e5m2",
    "FLOAT4E2M1": "e2m1fn",
}
ASYMMETRIC = {"UINT8": "uint8", "UINT4": "uint4", "UINT2": "uint2"}

PROFILES = (
    *(BlockProfile(f"onnx-{ours}", f"QuantizeLinear {name}", given=True) for name, ours in SYMMETRIC.items()),
    *(BlockProfile(f"onnx-{ours}", f"QuantizeLinear {name}", given=True) for name, ours in ASYMMETRIC.items()),
)


class OnnxBlocks(BlockAdapter):
    """`onnx.reference.ReferenceEvaluator`."""

    library, module, install = "onnx", "onnx", "pip install onnx"
    profiles = (*PROFILES, *halves(PROFILES, "float16", "bfloat16"))

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """One model of two nodes."""
        from onnx.reference import ReferenceEvaluator

        name = theirs.split()[1]
        numbers = x.view(_ml_dtypes().bfloat16) if x.dtype == np.uint16 else x
        made = model(name, numbers, scales, zero_points)
        codes, decoded = ReferenceEvaluator(made).run(None, {"x": numbers})
        bits = 4 if "4" in name and "8" not in name else 2 if name.endswith("2") and "FLOAT" not in name else 8
        return {"codes": codes.view(np.uint8) & (2**bits - 1), "decoded": np.asarray(decoded).astype(np.float32)}


def _ml_dtypes() -> Any:
    import ml_dtypes  # onnx has it: NumPy's arrays of bfloat16

    return ml_dtypes


def model(name: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None) -> Any:
    """x -> QuantizeLinear -> q -> DequantizeLinear -> y, blocks along the last axis; scales of the type of x inside."""
    from onnx import TensorProto, helper, numpy_helper

    shape, kind, real = x.shape, getattr(TensorProto, name), helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs, inside = ["x", "scale"], [numpy_helper.from_array(scales.astype(x.dtype), "scale")]
    attributes: dict[str, Any] = {"axis": 1, "block_size": BLOCK}
    more: dict[str, Any] = {}
    if zero_points is not None:
        inputs.append("zero")
        inside.append(helper.make_tensor("zero", kind, zero_points.shape, zero_points.reshape(-1).tolist()))
    else:
        more["output_dtype"] = kind
    nodes = [
        helper.make_node("QuantizeLinear", inputs, ["q"], **attributes, **more),
        helper.make_node("DequantizeLinear", ["q", *inputs[1:]], ["y"], **attributes),
    ]
    given = helper.make_tensor_value_info("x", real, shape)
    q = helper.make_tensor_value_info("q", kind, shape)
    y = helper.make_tensor_value_info("y", real, shape)
    graph = helper.make_graph(nodes, "blocks", [given], [q, y], inside)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=13)
