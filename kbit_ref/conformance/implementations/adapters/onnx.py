"""onnx: Cast, QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear in the reference evaluator, and the helpers.

In blocks, QuantizeLinear is given its scales. The helpers are `saturate_cast`, `to_float8e8m0`, and `make_tensor`,
which casts numbers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Known, Profile, Timed, halves
from kbit_ref.conformance.implementations.arrays import as_bits, as_numbers
from kbit_ref.conformance.variants.of_types import Cause, is_beyond, is_negative, through, wraps
from kbit_ref.engine.codec import encode

OPSET, IR, BLOCK = 25, 13, 32
CAST = "https://onnx.ai/onnx/operators/onnx__Cast.html"
FP8 = {
    "e4m3fn": "FLOAT8E4M3FN",
    "e4m3fnuz": "FLOAT8E4M3FNUZ",
    "e5m2": "FLOAT8E5M2",
    "e5m2fnuz": "FLOAT8E5M2FNUZ",
}
INTEGERS = ("int4", "uint4", "int2", "uint2")


def saturating(e5m2: tuple[int, int]) -> tuple[Profile, ...]:
    """Return casts to FP8 that saturate; the codes that `e5m2` has for NaN."""
    nan = {"e4m3fn": (0x7F, 0xFF), "e5m2": e5m2}
    return tuple(
        Profile(f"{ours}+overflow=finite", f"Cast {theirs} saturate=1", nan=nan.get(ours, "canonical"))
        for ours, theirs in FP8.items()
    )


def overflowing(e5m2: tuple[int, int]) -> tuple[Profile, ...]:
    """Return the casts that overflow."""
    return tuple(
        Profile(p.dtype.replace("finite", "ieee"), p.theirs.replace("=1", "=0"), nan=p.nan, what=("encode",))
        for p in saturating(e5m2)
    )


SATURATING, PLAIN = saturating((0x7E, 0xFE)), overflowing((0x7E, 0xFE))
SCALES = (
    Profile("e8m0fnu+overflow=finite+rounding=toward_positive", "Cast FLOAT8E8M0 saturate=1 round_mode=up"),
    Profile("e8m0fnu+overflow=finite+rounding=toward_zero", "Cast FLOAT8E8M0 saturate=1 round_mode=down"),
    Profile("e8m0fnu+overflow=finite+ties=upper", "Cast FLOAT8E8M0 saturate=1 round_mode=nearest"),
)
SMALL = (("e2m3fn", "FLOAT6E2M3"), ("e3m2fn", "FLOAT6E3M2"), ("e2m1fn", "FLOAT4E2M1"))
SMALL_CASTS = tuple(Profile(ours, f"Cast {theirs}") for ours, theirs in SMALL)
TRUNCATING = tuple(Profile(f"{name}+rounding=toward_zero", f"Cast {name.upper()}") for name in INTEGERS)
QUANTIZE = tuple(
    Profile(name, f"QuantizeLinear {name.upper()}", sources=("float16", "float32"), what=("encode",))
    for name in ("int8", "uint8", *INTEGERS)
)
HELPER = tuple(
    Profile(f"{ours}+overflow=finite", f"saturate_cast {theirs}", nan=nan, what=("encode",))
    for ours, theirs, nan in (("e4m3fn", "float8_e4m3fn", (0x7F, 0xFF)), ("e5m2", "float8_e5m2", (0x7E, 0xFE)))
)
TO_SCALES = tuple(
    Profile(profile.dtype, f"to_float8e8m0 {mode}", ("float32",), what=("encode",))
    for profile, mode in zip(SCALES, ("up", "down", "nearest"), strict=True)
)
MADE, MADE_SCALES, MADE_INTEGERS = (
    tuple(
        Profile(each.dtype, f"make_tensor {each.theirs.split(' ')[1]}", ("float32",), each.nan, ("encode",))
        for each in some
    )
    for some in ((*SATURATING, *SMALL_CASTS), SCALES[:1], TRUNCATING)
)
DYNAMIC = (BlockProfile("onnx-dynamic", "DynamicQuantizeLinear", shapes="any"),)
BLOCKS = tuple(
    BlockProfile(f"onnx-{ours}", f"QuantizeLinear {theirs}", given=True)
    for ours, theirs in (
        *((name, name.upper()) for name in ("int8", "int4", "int2")),
        *(("e4m3fn", "FLOAT8E4M3FN"), ("e5m2", "FLOAT8E5M2"), ("e2m1fn", "FLOAT4E2M1")),
        *((name, name.upper()) for name in ("uint8", "uint4", "uint2")),
    )
)
DECODERS = tuple(
    BlockProfile(each.profile, each.theirs.replace("Quantize", "Dequantize"), what="decode") for each in BLOCKS
)


def names(*groups: tuple[Profile, ...]) -> tuple[str, ...]:
    """Return their names of several profiles."""
    return tuple(profile.theirs for group in groups for profile in group)


NEGATIVE = Known(
    Cause("negative scale", "what becomes of negative numbers is unspecified"),
    f"{CAST} (to E8M0: -0 and negative numbers are unspecified)",
    undefined=is_negative,
)


def on_record(integers: tuple[Profile, ...], floats: tuple[Profile, ...], link: str) -> tuple[Known, ...]:
    """Return what Cast leaves open, and which floats are made from float32 alone, with a link for that."""
    return (
        Known(wraps(), f"{CAST} (to fixed point: undefined if OOR)", types=names(integers), undefined=is_beyond),
        replace(NEGATIVE, types=names(SCALES)),
        Known(through("float32"), link, types=names(floats), sources=("float64",)),
    )


class Onnx(Adapter):
    """The reference implementation of the operators, `onnx.reference.ReferenceEvaluator`."""

    library, module, install = "onnx", "onnx", "pip install onnx"
    import_seconds = 0.5
    profiles = (
        *(*SATURATING, *PLAIN, *SMALL_CASTS, *SCALES, *TRUNCATING, *QUANTIZE, *HELPER),
        *(*TO_SCALES, *MADE, *MADE_SCALES, *MADE_INTEGERS),
        *(*DYNAMIC, *DECODERS, *BLOCKS, *halves(BLOCKS, "float16", "bfloat16")),
    )
    known = (
        replace(NEGATIVE, types=names(TO_SCALES, MADE_SCALES)),
        *on_record(
            (*TRUNCATING, *MADE_INTEGERS), SCALES, "https://github.com/onnx/onnx/pull/7030 (always cast to fp32 first)"
        ),
        Known(
            through("float32"),
            "https://github.com/jax-ml/ml_dtypes/pull/401 (onnx casts by ml_dtypes)",
            types=names(SATURATING, PLAIN, SMALL_CASTS, HELPER),
            sources=("float64",),
        ),
    )

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Run one node by the reference evaluator; or the helper."""
        numbers = as_numbers(x, source)
        operator, name, *attributes = theirs.split(" ")
        if operator == "saturate_cast":
            import ml_dtypes
            from onnx import numpy_helper

            return numpy_helper.saturate_cast(numbers, np.dtype(getattr(ml_dtypes, name)))
        if operator == "to_float8e8m0":
            from onnx import numpy_helper

            return numpy_helper.to_float8e8m0(numbers, saturate=True, round_mode=name)
        if operator == "make_tensor":
            from onnx import TensorProto, helper, numpy_helper

            return numpy_helper.to_array(helper.make_tensor("x", getattr(TensorProto, name), x.shape, numbers))
        feeds = {"x": numbers}
        if operator == "QuantizeLinear":
            feeds |= {"scale": np.array(1, numbers.dtype), "zero": np.zeros((), _numpy_type(name))}
        return _evaluator(operator, name, tuple(attributes), source).run(None, feeds)[0]

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Cast to float32."""
        name = theirs.split(" ")[1]
        return _evaluator("Decode", name, (), "float32").run(None, {"x": codes.copy().view(_numpy_type(name))})[0]

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """DynamicQuantizeLinear, and DequantizeLinear of what it gives."""
        from onnx.reference import ReferenceEvaluator

        return dynamic_parts(*ReferenceEvaluator(dynamic_model()).run(None, {"x": x}))

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """Run one model of two nodes."""
        from onnx.reference import ReferenceEvaluator

        name = theirs.split()[1]
        numbers = as_numbers(x, "bfloat16") if x.dtype == np.uint16 else x
        made = model_of_blocks(name, numbers, scales, zero_points)
        codes, decoded = ReferenceEvaluator(made).run(None, {"x": numbers})
        return {"codes": codes.view(np.uint8) & (2 ** width(name) - 1), "decoded": np.asarray(decoded, np.float32)}

    def dequantize(self, theirs: str, parts: dict[str, NDArray[Any]]) -> Any:
        """DequantizeLinear, blocks along the last axis."""
        from onnx.reference import ReferenceEvaluator

        kind = _numpy_type(theirs.split()[1])
        values = {"q": parts["codes"].view(kind), "scale": parts["scales"]}
        if "zero_points" in parts:
            values["zero"] = parts["zero_points"].view(np.uint8).view(kind)
        return ReferenceEvaluator(decoder_of_blocks(values)).run(None, values)[0]

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return one Cast, in one thread."""
        name = FP8.get(subject)
        if verb not in ("encode", "decode") or name is None or x.dtype != np.float32 or threads > 1:
            return None
        if verb == "encode":
            evaluator = _evaluator("Cast", name, (), "float32")
            return Timed(lambda: evaluator.run(None, {"x": x})[0], as_bits)
        evaluator, codes = _evaluator("Decode", name, (), "float32"), encode(subject, x).view(_numpy_type(name))
        return Timed(lambda: evaluator.run(None, {"x": codes})[0], np.asarray)


def width(name: str) -> int:
    """Return the bits of a type of ONNX.

    Examples
    --------
    >>> [width(name) for name in ("FLOAT4E2M1", "UINT2", "FLOAT8E4M3FN")]
    [4, 2, 8]
    """
    found = re.search(r"\d+", name)
    assert found is not None
    return int(found[0])


def _numpy_type(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))


@lru_cache(maxsize=64)
def _evaluator(operator: str, name: str, attributes: tuple[str, ...], source: str) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model(operator, name, attributes, source))


def model(operator: str, name: str, attributes: tuple[str, ...], source: str) -> Any:
    """Return a model of one node: x of the source format, of any shape, to y; `Decode` casts y's type to float32."""
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
    return _model([node], inputs, [helper.make_tensor_value_info("y", narrow, None)])


def model_of_blocks(
    name: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
) -> Any:
    """Build x -> QuantizeLinear -> q -> DequantizeLinear -> y, blocks along the last axis, scales of the type of x."""
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
    outputs = [helper.make_tensor_value_info("q", kind, shape), helper.make_tensor_value_info("y", real, shape)]
    return _model(nodes, [helper.make_tensor_value_info("x", real, shape)], outputs, inside)


def decoder_of_blocks(values: dict[str, Any]) -> Any:
    """q, scale and perhaps zero -> DequantizeLinear -> y, blocks along the last axis."""
    from onnx import TensorProto, helper

    node = helper.make_node("DequantizeLinear", list(values), ["y"], axis=1, block_size=BLOCK)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in values.items()
    ]
    return _model([node], inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])


def dynamic_model() -> Any:
    """x -> DynamicQuantizeLinear -> codes, scale, zero point -> DequantizeLinear -> y."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    kinds = {"q": TensorProto.UINT8, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8, "y": TensorProto.FLOAT}
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    return _model(nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], outputs)


def dynamic_parts(codes: Any, scale: Any, zero: Any, decoded: Any) -> dict[str, Any]:
    """Return the outputs of that model by the names of parts."""
    return {"codes": codes, "scales": scale, "zero_points": zero, "decoded": decoded}


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], inside: list[Any] | None = None) -> Any:
    from onnx import helper

    graph = helper.make_graph(nodes, "graph", inputs, outputs, inside)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
