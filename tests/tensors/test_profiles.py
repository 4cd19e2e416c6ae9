"""Profiles: names for spellings that say what a library does; worked by hand where a trap is spelled."""

import numpy as np
import pytest

import kbit_ref as kb


@pytest.mark.parametrize("name", kb.profiles())
def test_a_profile_is_a_name_for_a_spelling(name: str) -> None:
    profile = kb.profiles()[name]
    assert str(kb.scheme(name)) == profile.spelling
    assert kb.scheme(name) == kb.scheme(profile.spelling)
    assert len(profile.source) > 10


def test_choices_can_be_added_to_a_profile() -> None:
    assert str(kb.scheme("ocp-mxfp4+nan=zero")) == "e2m1fn-b32@-1-pow2floor-e8m0fnu+nan=zero"
    with pytest.raises(kb.KbitError, match=r"^scheme: text = 'ggml-q4', .* did you mean .*ggml-q4_"):
        kb.scheme("ggml-q4")


def test_q4_0_adds_half_before_it_cuts() -> None:
    # m = -8, d = -8 / -8 = 1: x is y. 0.49999997 + 8.5 rounds to 9.0 in float32: code 9, where nearest gives 8
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = -8, np.nextafter(np.float32(0.5), np.float32(0))
    q = kb.quantize(x, "ggml-q4_0")
    assert (q.scales.tolist(), q.codes[0, :3].tolist()) == ([[1.0]], [0, 9, 8])
    assert kb.quantize(x, "ggml-q4_0+encoder=nearest").codes[0, 1] == 8
    assert q.packed[:3].tolist() == [0x80, 0x89, 0x88]  # byte j: element j low, element j + 16 high


def test_bitsandbytes_bins_miss_zero() -> None:
    # their table has no bin whose centre is nearest to the level 0.0: zeros decode to 2.125e-05
    x = np.array([1] + [0] * 63, np.float32)
    theirs = kb.quantize(x, "bnb-cpu-dynamic8")
    ours = kb.quantize(x, "bnb-dynamic8")
    assert (theirs.codes[:2].tolist(), ours.codes[:2].tolist()) == ([255, 131], [255, 127])
    assert kb.dequantize(theirs)[1] == np.float32(2.1249998e-05)  # as bitsandbytes 0.50.2 answers
    assert kb.dequantize(ours)[1] == 0


def test_fp4_tree_is_not_the_midpoints() -> None:
    # the tree has 0.583333, the midpoint of 1/2 and 2/3 is 0.5833333; and x < 0 sets the sign bit, of zero too
    x = np.array([1.0, 0.5833331, -1e-3], np.float32)
    assert kb.quantize(x, "bnb-cuda-fp4").codes.tolist() == [3, 2, 8]
    assert kb.quantize(x, "bnb-cuda-fp4+encoder=nearest").codes.tolist() == [3, 5, 0]


def test_double_quantization_by_hand() -> None:
    # two blocks with scales 1 and 3: mean 2, centred -1 and 1, factor 128 / 1; 128 saturates to 127
    x = np.zeros(128, np.float32)
    x[0], x[64] = 1, 3
    q = kb.quantize(x, "torchao-nf4")
    assert q.double is not None
    assert q.double.codes.tolist() == [[128, 127]]  # int8: -128, 127
    assert q.double.scales.tolist() == [[128.0]]
    assert q.scales.tolist() == [[1.0, 2.9921875]]  # 2 - 128 / 128, 2 + 127 / 128
    assert q.bits == 128 * 4 + 2 * 8 + 32 + 32


def test_mlx_refits_the_edge() -> None:
    # min -1, max 2: scale -0.2, edge 2, 2 / -0.2 = -10: scale 2 / -10, offset 2
    q = kb.quantize(np.array([[-1.0, 0.0, 2.0] + [0.0] * 61], np.float32), "mlx-affine")
    assert q.offsets is not None
    assert (q.scales.tolist(), q.offsets.tolist()) == ([[float(np.float16(-0.2))]], [[2.0]])
    assert q.codes[0, :3].tolist() == [15, 10, 0]


def test_a_scale_that_divides() -> None:
    # keras stores 127 / (max|x| + 1e-7); 127 / 2 in float32 is exact enough to tell
    x = np.array([[2.0, -1.0, 0.5]], np.float32)
    q = kb.quantize(x, "keras-int8")
    factor = np.float32(127) / (np.float32(2) + np.float32(1e-7))
    assert q.scales.tolist() == [[float(factor)]]
    assert q.codes.tolist() == [[127, 192, 32]]  # -63.5 is a tie and goes to -64, 31.75 to 32
    assert kb.dequantize(q).tolist() == [[float(np.float32(v) / factor) for v in (127, -64, 32)]]


def test_signed_zero_points_are_added_in_their_own_range() -> None:
    # compressed-tensors: min 0, max 7.5: scale 0.5, zero point -8. 1.2500001 / 0.5 = 2.5000002; minus 8 is -5.5 in
    # float32, which goes to the even -6: code 2. Without the sign 2.5000002 + 0 would go to 3
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = 7.5, 1.2500001
    q = kb.quantize(x, "ct-int4-asym")
    assert q.zero_points is not None
    assert (q.scales.tolist(), q.zero_points.tolist(), q.codes[0, :3].tolist()) == ([[0.5]], [[-8]], [15, 2, 0])
    assert kb.quantize(x, "uint4-b32@-1-affine-f32+zeroadd=before").codes[0, :3].tolist() == [15, 3, 0]
    zeros = kb.quantize(np.zeros((1, 32), np.float32), "ct-int4-asym")
    assert zeros.zero_points is not None
    assert (zeros.zero_points.tolist(), zeros.codes[0, 0]) == ([[0]], 8)


def test_float32_midpoints() -> None:
    # (-0.6961928 + -0.52507305) / 2 lies between two float32; rounded down, this number is not above it
    x = np.zeros(64, np.float32)
    x[:2] = 2, np.float32(-1.2212658)
    assert kb.quantize(x, "bnb-cpu-nf4").codes[:2].tolist() == [15, 1]
    assert kb.quantize(x, "nf4-b64-absmax-f32").codes[:2].tolist() == [15, 2]


def test_nf4_tree_has_literals_rounded_once() -> None:
    # 0.8614784181118011 lies just below the middle of 0x3f5c89d9 and its successor; float64 puts it on the middle.
    # onnxruntime 1.32 gives these codes at the four float32 midpoints (-0.8480964, 0.12025525, 0.50166345, 0.86147845)
    midpoints = np.array([-0.8480964, 0.12025525, 0.50166345, 0.86147845], np.float32)
    x = np.concatenate([[2], 2 * midpoints, 2 * np.nextafter(midpoints, np.float32(9))]).astype(np.float32)
    assert kb.quantize(x, "ort-bnb4-nf4").codes[1:].tolist() == [1, 8, 13, 15, 1, 8, 13, 15]
    assert kb.quantize(x, "bnb-cpu-nf4").codes[1:].tolist() == [0, 8, 12, 14, 1, 9, 13, 15]
    assert [kb.exact.quantize(x, "ort-bnb4-nf4").codes[0][i] for i in (1, 6, 3, 4)] == [1, 8, 13, 15]


def test_zero_blocks_of_libraries() -> None:
    x = np.zeros((1, 64), np.float32)
    assert np.signbit(kb.quantize(x, "ggml-q4_0").scales).all()  # 0 / -8
    assert set(kb.quantize(x, "bnb-cpu-dynamic8").codes[0].tolist()) == {0}
    assert kb.quantize(x, "nvfp4-ct").scales.tolist() == [[0.125] * 4]
    assert kb.quantize(x, "keras-int4-grouped").scales[0, 0] == np.float32(2 + 1e-7) / np.float32(15)


def test_modelopt_multiplies_the_global_scale_into_the_largest_level() -> None:
    # g = fl(1 / 2688). 2**-16 / (6 g) = 3.5 * 2**-9 is a tie of e4m3fn: fl(fl(m / 6) / g) is there and goes to the even
    # 4 * 2**-9; fl(m / fl(6 g)) lies one float32 below. ModelOpt 0.47.0 stores 3 * 2**-9; its zero block stores 1
    x = np.zeros((1, 48), np.float32)
    x[0, 0], x[0, 16] = 1, 2.0**-16
    assert kb.quantize(x, "nvfp4-modelopt").scales.tolist() == [[448, 3 * 2.0**-9, 1]]
    assert kb.quantize(x, "nvfp4-modelopt+globalat=scale").scales.tolist() == [[448, 4 * 2.0**-9, 1]]
    wanted = kb.exact.quantize(x, "nvfp4-modelopt").rows[0]
    assert [float(block.scale) for block in wanted] == [448, 3 * 2.0**-9, 1]


def test_zeros_of_modelopt_are_positive() -> None:
    # the sign bit is that of x / scale < 0, so -0 is code 0
    assert kb.quantize(np.float32([[6, -0.0] + [0] * 14]), "nvfp4-modelopt").codes[0, :2].tolist() == [7, 0]
