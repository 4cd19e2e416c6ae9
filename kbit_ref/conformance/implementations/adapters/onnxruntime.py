"""onnxruntime on the CPU: the operators Cast and QuantizeLinear, in models that the onnx helpers make."""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Profile
from kbit_ref.conformance.implementations.adapters.onnx import CAST, INTEGERS, UNSPECIFIED, model, names
from kbit_ref.conformance.judge import Known
from kbit_ref.conformance.variants.of_types import is_beyond, is_negative, through, wraps

OPSET, IR = 25, 13
FP8 = (
    ("e4m3fn", "FLOAT8E4M3FN", (0x7F, 0xFF)),
    ("e4m3fnuz", "FLOAT8E4M3FNUZ", "canonical"),
    ("e5m2", "FLOAT8E5M2", (0x7F, 0xFF)),
    ("e5m2fnuz", "FLOAT8E5M2FNUZ", "canonical"),
)
CASTS = (
    *(Profile(f"{ours}+overflow=finite", f"Cast {t} saturate=1", nan=nan) for ours, t, nan in FP8),
    *(Profile(f"{ours}+overflow=ieee", f"Cast {t} saturate=0", nan=nan, what=("encode",)) for ours, t, nan in FP8),
)
SCALES = (
    Profile("e8m0fnu+overflow=finite+rounding=toward_positive", "Cast FLOAT8E8M0 saturate=1 round_mode=up"),
    Profile("e8m0fnu+overflow=finite+rounding=toward_zero", "Cast FLOAT8E8M0 saturate=1 round_mode=down"),
    Profile("e8m0fnu+overflow=finite+ties=upper", "Cast FLOAT8E8M0 saturate=1 round_mode=nearest"),
)
HALF_AWAY = tuple(Profile(f"{name}+ties=away", f"Cast {name.upper()}", what=("encode",)) for name in INTEGERS)
QUANTIZE = tuple(
    Profile(name, f"QuantizeLinear {name.upper()}", sources=("float32",), what=("encode",))
    for name in ("int8", "uint8", *INTEGERS)
)
BITS = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2}


class Onnxruntime(Adapter):
    """One session a node; inputs and outputs as OrtValues."""

    library, module, install = "onnxruntime", "onnxruntime", "pip install onnxruntime onnx"
    profiles = (*CASTS, *SCALES, *HALF_AWAY, *QUANTIZE)
    known = (
        Known(wraps(), f"{CAST} (to fixed point: undefined if OOR)", types=names(HALF_AWAY), undefined=is_beyond),
        Known(
            UNSPECIFIED,
            f"{CAST} (to E8M0: -0 and negative numbers are unspecified)",
            types=names(SCALES),
            undefined=is_negative,
        ),
        Known(
            through("float32"),
            "https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/common/float8.h"
            " (made from float alone)",
            types=names(CASTS, SCALES),
            sources=("float64",),
        ),
    )

    def installed(self) -> bool:
        """It needs onnx too, to make its models."""
        return super().installed() and importlib.util.find_spec("onnx") is not None

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """One node; the answer is read from the memory of the result, small integers unpacked from it."""
        import onnxruntime as ort
        from onnx import TensorProto

        operator, name, *attributes = theirs.split(" ")
        numbers = np.ascontiguousarray(x).reshape(x.shape)
        values = {"x": ort.OrtValue.ortvalue_from_numpy(numbers)}
        if source == "bfloat16":
            values["x"] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(numbers, TensorProto.BFLOAT16)
        if operator == "QuantizeLinear":
            values["scale"] = ort.OrtValue.ortvalue_from_numpy(np.array(1, numbers.dtype))
            values["zero"] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                np.zeros(() if BITS.get(name, 8) == 8 else 1, np.uint8), getattr(TensorProto, name)
            )
        result = _run(_session(operator, name, tuple(attributes), source), values)
        bits = BITS.get(name, 8)
        if x.size == 0:
            return np.empty(x.shape, np.uint8)
        n_bytes = -(-x.size * bits // 8)
        raw = np.frombuffer(ctypes.string_at(result.data_ptr(), n_bytes), np.uint8)
        fields = np.stack([(raw >> (bits * i)) & (2**bits - 1) for i in range(8 // bits)], axis=1)
        return fields.reshape(-1)[: x.size].astype(np.uint8).reshape(x.shape)

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Cast to float32."""
        import onnxruntime as ort
        from onnx import TensorProto

        name = theirs.split(" ")[1]
        numbers = np.ascontiguousarray(codes).reshape(codes.shape)
        value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(numbers, getattr(TensorProto, name))
        return _run(_session("Decode", name, (), "float32"), {"x": value}).numpy()


@lru_cache(maxsize=64)
def _session(operator: str, name: str, attributes: tuple[str, ...], source: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    made = model(operator, name, attributes, source, OPSET, IR).SerializeToString()
    return ort.InferenceSession(made, options, providers=["CPUExecutionProvider"])


def _run(session: Any, values: dict[str, Any]) -> Any:
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("y", "cpu")
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0]
