"""A discrepancy of a quantized product is split into its causes: each one is planted alone, and found alone."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from helpers.libraries import heavy
from test_bounds import matmul_n_bits

import kbit_ref as kb
from kbit_ref.errors import BadInput
from kbit_ref.products.attribute import PARTS, attribute
from kbit_ref.products.bounds import dot_bound

SCHEMES = ("nf4-b64@1-absmax-f32", "int8-channel-absmax-f32", "uint4-b32@1-minmax-f16", "uint4-b32@1-affine-f32")


def given(k: int = 128):
    rng = np.random.default_rng(k)
    return rng.standard_normal((6, k)).astype(np.float32), rng.standard_normal((20, k)).astype(np.float32)


def exactly(x, weights):
    """The product in float64, which is far nearer than float32 sums."""
    return x.astype(np.float64) @ weights.astype(np.float64).T


def bfloat16(x):
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def plant(cause: str, scheme: str):
    """An implementation that differs for one reason: its product, and what is told of it."""
    x, w = given()
    q = kb.quantize(w, scheme)
    weights, told, seen = kb.dequantize(q), {}, x
    if cause == "codes":
        told["codes"] = q.codes.copy()
        told["codes"][3, 5] ^= 1
        told["codes"][7, 100] ^= 2
        weights = weights.copy()
        other = kb.dequantize(kb.QTensor(kb.pack(told["codes"], q.scheme.layout), *_rest(q)))
        weights[[3, 7], [5, 100]] = other[[3, 7], [5, 100]]
    elif cause == "scales":
        told["scales"] = q.scales.copy()
        told["scales"][2, 0] *= 1 + 2.0**-7
        weights = kb.dequantize(kb.QTensor(q.packed, told["scales"], *_rest(q)[1:]))
    elif cause == "weights":
        weights = bfloat16(weights)
        told["weights"] = "bfloat16"
    elif cause == "activations":
        seen = bfloat16(x)
        told["activations"] = "bfloat16"
    elif cause == "accumulation":
        return (exactly(x, weights) * (1 + 2.0**-20)).astype(np.float32), told
    return exactly(seen, weights), told


def _rest(q):
    return q.scales, q.shape, q.scheme, q.offsets, q.zero_points, q.global_scale


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cause", PARTS)
def test_each_cause_alone_is_found_alone(cause, scheme):
    x, w = given()
    theirs, told = plant(cause, scheme)
    found = attribute(theirs, x, w, scheme, **told)
    assert found.largest == cause
    assert [name for name in PARTS[:-1] if found.parts[name].any()] == [name for name in PARTS[:-1] if name == cause]
    if cause != "accumulation":
        assert np.abs(found.parts["accumulation"]).max() < 1e-12  # of the float64 product
        assert np.abs(found.parts[cause]).max() > 1e-4
        assert found.accumulation
    if cause in ("codes", "scales"):
        assert found.different == {"codes": 2 if cause == "codes" else 0, "scales": 1 if cause == "scales" else 0}
        columns = (3, 7) if cause == "codes" else (2,)
        assert np.flatnonzero(found.parts[cause].any(axis=0)).tolist() == list(columns)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_parts_sum_up_to_the_whole_in_every_order(scheme):
    x, w = given()
    q = kb.quantize(w, scheme)
    codes, scales = q.codes.copy(), q.scales * np.float32(1.01)
    codes[:, ::9] ^= 1
    told = {"codes": codes, "scales": scales, "weights": "float16", "activations": "bfloat16"}
    found = attribute((x @ w.T) * 3, x, w, scheme, **told)
    assert all(found.parts[name].any() for name in PARTS)
    for names in itertools.permutations(PARTS):
        total = np.zeros_like(found.whole)
        for name in names:
            total = total + found.parts[name]
        assert (total == found.whole).all()
    for i, j in ((0, 0), (5, 19)):  # and without float64
        assert sum(Fraction(part[i, j]) for part in found.parts.values()) == Fraction(found.whole[i, j])


def test_the_parts_by_hand():
    """int4, scale 0.5: codes 3 to 4, the scale doubled, weights and activations as told, and 1 for nothing."""
    x, w = np.float32([[1, 2]]), np.float32([[3.5, 1.5]])
    told = {"codes": [[7, 4]], "scales": [[1.0]], "weights": [[7.25, 4]], "activations": [[1, 3]]}
    found = attribute([[20.25]], x, w, "int4-b2@1-absmax-f32", **told)
    assert {name: part.item() for name, part in found.parts.items()} == {
        "codes": 1.0,  # 3.5 + 2 * 2 instead of 3.5 + 2 * 1.5
        "scales": 7.5,  # 7 + 2 * 4
        "weights": 0.25,
        "activations": 4.0,  # 7.25 + 3 * 4
        "accumulation": 1.0,
    }
    assert found.whole.item() == 20.25 - 6.5
    assert str(found).splitlines()[1] == "codes                   1           1   1 differ"
    assert not found.accumulation
    assert "c[0, 0] = 20.25, outside [19.2499" in str(found)


def test_what_is_not_told_is_suspected():
    x, w = given(256)
    q = kb.quantize(w, SCHEMES[0])
    found = attribute(x @ bfloat16(kb.dequantize(q)).T, x, w, q.scheme)
    assert not found.accumulation
    told, share = found.suspects[0]
    assert told == {"weights": "bfloat16"}
    assert share > 0.99
    assert attribute(x @ kb.dequantize(q).T, x, w, q.scheme).suspects == ()


def test_onnxruntime_rounds_activations_to_int8_in_blocks():
    """MatMulNBits at accuracy level 4 says nowhere that it does."""
    x, w = given(256)
    q = kb.quantize(np.ascontiguousarray(w.T), "int4-b32@0-absmax-f32")
    theirs = matmul_n_bits(x, q, 4)
    found = attribute(theirs, x, w, "int4-b32@1-absmax-f32")
    assert found.suspects[0] == ({"activations": "int8-b32@-1-absmax-f32"}, 1.0)
    told = attribute(theirs, x, w, "int4-b32@1-absmax-f32", **found.suspects[0][0])
    assert told.largest == "activations"
    assert told.accumulation
    exact = attribute(matmul_n_bits(x, q, 1), x, w, "int4-b32@1-absmax-f32")
    assert exact.largest == "accumulation"
    assert exact.accumulation


@pytest.mark.heavy
@pytest.mark.slow
def test_bitsandbytes_computes_in_bfloat16_when_it_evaluates():
    torch, bnb = heavy("torch"), heavy("bitsandbytes")
    x, w = given(256)
    w = np.concatenate([w, w[:12]])  # 32 rows, for their packing
    layer = bnb.nn.Linear4bit(256, 32, bias=False, compute_dtype=torch.float32, compress_statistics=False)
    quantized = {"quant_type": "nf4", "compress_statistics": False}
    layer.weight = bnb.nn.Params4bit(torch.from_numpy(w), requires_grad=False, **quantized)
    layer = layer.to("cpu").train()
    with torch.no_grad():
        found = attribute(layer(torch.from_numpy(x)).numpy(), x, w, "bnb-cpu-nf4")
        assert found.accumulation.doubtful == 0
        layer.eval()
        theirs, seen = (layer(torch.from_numpy(v)).numpy() for v in (x, np.eye(256, dtype=np.float32)))
    if layer.weight.quant_state.dtype != torch.bfloat16:
        pytest.skip("this processor multiplies no bfloat16")
    assert attribute(theirs, x, w, "bnb-cpu-nf4").accumulation.doubtful > 0.9
    told = {"weights": seen.T, "activations": "bfloat16", "accumulator": "bfloat16_via_float32+order=sequential"}
    found = attribute(theirs, x, w, "bnb-cpu-nf4", **told)
    assert np.abs(found.parts["weights"]).max() > 0.01
    assert found.accumulation.doubtful < 0.7  # some sums seem to be in bfloat16 as well


def test_exact_weights_are_level_times_scale():
    w = np.float32([[0.1, 0.3, 0.7, 0.2]])
    for scheme in ("int4-b4@1-absmax-f32", "uint4-b2@1-affine-f32"):
        q = kb.quantize(w, scheme)
        x = np.eye(4, dtype=np.float32)
        zero = 0 if q.zero_points is None else np.repeat(q.zero_points[0].astype(int), 2)
        wanted = (q.codes[0].astype(int) - zero) * np.repeat(q.scales[0].astype(np.float64), 4 // q.scales.size)
        found = attribute(wanted[:, None], x, w, scheme, weights="exact")
        assert not found.parts["accumulation"].any()
        assert found.parts["weights"].any()


def test_float16_sums_are_accumulation():
    x, w = given(256)
    q = kb.quantize(w, SCHEMES[0])
    weights = kb.dequantize(q)
    theirs = dot_bound(x, weights.T, "float16+order=sequential").replayed
    assert not attribute(theirs, x, w, q.scheme).accumulation
    assert attribute(theirs, x, w, q.scheme, accumulator="float16").accumulation


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"zero_points": [1]}, "has none"),
        ({"codes": np.zeros(3, np.uint8)}, r"codes of shape \(3,\), nf4"),
        ({"weights": "float8"}, "weights = 'float8', there are float16"),
        ({"weights": [[1.0]]}, "weights of shape"),
        ({"activations": [[1.0]]}, "activations of shape"),
    ],
)
def test_mistakes(told, text):
    x, w = given()
    with pytest.raises(BadInput, match=text) as caught:
        attribute(x @ w.T, x, w, SCHEMES[0], **told)
    assert str(caught.value).startswith("attribute: ")


def test_shapes_must_fit():
    x, w = given()
    with pytest.raises(BadInput, match="attribute: theirs, x and w of shapes"):
        attribute(x @ w.T, x, w.T, SCHEMES[0])
