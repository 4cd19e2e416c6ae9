"""onnx: the operators Cast and QuantizeLinear in the reference evaluator, and the helper `saturate_cast`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Profile
from kbit_ref.conformance.judge import Known
from kbit_ref.conformance.variants.of_types import Cause, is_beyond, is_negative, through, wraps

UNSPECIFIED = Cause("negative scale", "what becomes of negative numbers is unspecified, here NaN")
CAST = "https://onnx.ai/onnx/operators/onnx__Cast.html"
OPSET, IR = 25, 13
FP8 = (
    ("e4m3fn", "FLOAT8E4M3FN", (0x7F, 0xFF)),
    ("e4m3fnuz", "FLOAT8E4M3FNUZ", "canonical"),
    ("e5m2", "FLOAT8E5M2", (0x7E, 0xFE)),
    ("e5m2fnuz", "FLOAT8E5M2FNUZ", "canonical"),
)
SMALL = (("e2m3fn", "FLOAT6E2M3"), ("e3m2fn", "FLOAT6E3M2"), ("e2m1fn", "FLOAT4E2M1"))
INTEGERS = ("int4", "uint4", "int2", "uint2")
E8M0 = (
    ("e8m0fnu+overflow=finite+rounding=toward_positive", "Cast FLOAT8E8M0 saturate=1 round_mode=up"),
    ("e8m0fnu+overflow=finite+rounding=toward_zero", "Cast FLOAT8E8M0 saturate=1 round_mode=down"),
    ("e8m0fnu+overflow=finite+ties=upper", "Cast FLOAT8E8M0 saturate=1 round_mode=nearest"),
)

SATURATING = tuple(Profile(f"{ours}+overflow=finite", f"Cast {t} saturate=1", nan=nan) for ours, t, nan in FP8)
PLAIN = tuple(
    Profile(f"{ours}+overflow=ieee", f"Cast {t} saturate=0", nan=nan, what=("encode",)) for ours, t, nan in FP8
)
SMALL_CASTS = tuple(Profile(ours, f"Cast {t}") for ours, t in SMALL)
SCALES = tuple(Profile(ours, theirs) for ours, theirs in E8M0)
TRUNCATING = tuple(Profile(f"{name}+rounding=toward_zero", f"Cast {name.upper()}") for name in INTEGERS)
QUANTIZE = tuple(
    Profile(name, f"QuantizeLinear {name.upper()}", sources=("float16", "float32"), what=("encode",))
    for name in ("int8", "uint8", *INTEGERS)
)
HELPER = tuple(
    Profile(f"{ours}+overflow=finite", f"saturate_cast {theirs}", nan=nan, what=("encode",))
    for ours, theirs, nan in (("e4m3fn", "float8_e4m3fn", (0x7F, 0xFF)), ("e5m2", "float8_e5m2", (0x7E, 0xFE)))
)


def names(*groups: tuple[Profile, ...]) -> tuple[str, ...]:
    """Their names of several profiles."""
    return tuple(profile.theirs for group in groups for profile in group)


class Onnx(Adapter):
    """The reference implementation of the operators."""

    library, module, install = "onnx", "onnx", "pip install onnx"
    profiles = (*SATURATING, *PLAIN, *SMALL_CASTS, *SCALES, *TRUNCATING, *QUANTIZE, *HELPER)
    known = (
        Known(
            through("float32"),
            "https://github.com/jax-ml/ml_dtypes/pull/401 (onnx casts by ml_dtypes)",
            types=names(SATURATING, PLAIN, SMALL_CASTS, HELPER),
            sources=("float64",),
        ),
        Known(wraps(), f"{CAST} (to fixed point: undefined if OOR)", types=names(TRUNCATING), undefined=is_beyond),
        Known(
            UNSPECIFIED,
            f"{CAST} (to E8M0: -0 and negative numbers are unspecified)",
            types=names(SCALES),
            undefined=is_negative,
        ),
        Known(
            through("float32"),
            "https://github.com/onnx/onnx/pull/7030 (always cast to fp32 first)",
            types=names(SCALES),
            sources=("float64",),
        ),
    )

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """One node, run by the reference evaluator; or the helper."""
        import ml_dtypes

        numbers = x.view(ml_dtypes.bfloat16) if source == "bfloat16" else x
        operator, name, *attributes = theirs.split(" ")
        if operator == "saturate_cast":
            from onnx import numpy_helper

            return numpy_helper.saturate_cast(numbers, np.dtype(getattr(ml_dtypes, name)))
        feeds = {"x": numbers}
        if operator == "QuantizeLinear":
            feeds |= {"scale": np.array(1, numbers.dtype), "zero": np.zeros((), _numpy_type(name))}
        return _evaluator(operator, name, tuple(attributes), source).run(None, feeds)[0]

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Cast to float32."""
        name = theirs.split(" ")[1]
        return _evaluator("Decode", name, (), "float32").run(None, {"x": codes.copy().view(_numpy_type(name))})[0]


def _numpy_type(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))


@lru_cache(maxsize=64)
def _evaluator(operator: str, name: str, attributes: tuple[str, ...], source: str) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model(operator, name, attributes, source))


def model(operator: str, name: str, attributes: tuple[str, ...], source: str, opset: int = OPSET, ir: int = IR) -> Any:
    """A model of one node: x of the source format, of any shape, to y; `Decode` casts y's type to float32."""
    from onnx import TensorProto, helper

    sources = {"float16": "FLOAT16", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}
    narrow, wide = getattr(TensorProto, name), getattr(TensorProto, sources[source])
    options: dict[str, Any] = dict(attribute.split("=") for attribute in attributes)
    if "saturate" in options:
        options["saturate"] = int(options["saturate"])
    inputs = [helper.make_tensor_value_info("x", wide, None)]
    if operator == "Decode":
        inputs = [helper.make_tensor_value_info("x", narrow, None)]
        node = helper.make_node("Cast", ["x"], ["y"], to=wide)
        narrow = wide
    elif operator == "QuantizeLinear":
        inputs += [helper.make_tensor_value_info("scale", wide, []), helper.make_tensor_value_info("zero", narrow, [])]
        node = helper.make_node(operator, ["x", "scale", "zero"], ["y"], **options)
    else:
        node = helper.make_node(operator, ["x"], ["y"], to=narrow, **options)
    graph = helper.make_graph([node], "one", inputs, [helper.make_tensor_value_info("y", narrow, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
