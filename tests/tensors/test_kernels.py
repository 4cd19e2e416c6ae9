"""The quick path gives what the general one gives, is taken where it should be, and a fault in it is found."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.arithmetic import Arithmetic
from kbit_ref.tensors import kernels
from kbit_ref.tensors.rules import RULES

# kbit_ref.tensors.quantize and kbit_ref.tensors.dequantize are the functions
there, back = sys.modules["kbit_ref.tensors.quantize"], sys.modules["kbit_ref.tensors.dequantize"]
Array = np.ndarray[Any, Any]
F32 = np.float32


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred elements are several pieces of several stretches."""
    monkeypatch.setattr(kernels, "STRETCH", 64)
    monkeypatch.setattr(there, "PIECE", 160)
    monkeypatch.setattr(there, "CHUNK", 160)
    monkeypatch.setattr(back, "CHUNK", 160)
    monkeypatch.setattr(back, "STRETCH", 160)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each half of the quick path was entered."""
    counted = dict.fromkeys(("encode_blocks", "levels_times"), 0)

    def counting(name: str) -> Callable[..., Any]:
        function = getattr(kernels, name)

        def call(*args: Any) -> Any:
            counted[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(there, "encode_blocks", counting("encode_blocks"))
    monkeypatch.setattr(back, "levels_times", counting("levels_times"))
    return counted


def general(x: Any, s: kb.Scheme, **options: Any) -> tuple[kb.QTensor, Array]:
    """Both verbs by the general path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(there, "fits", lambda s, a: False)
        for verb in (there, back):
            patch.setattr(verb, "whole_bytes", lambda form, size: False)
        q = kb.quantize(x, s, **options)
        return q, kb.dequantize(q)


def bits(values: Any) -> list[int]:
    return np.asarray(values, F32).view(np.uint32).ravel().tolist()


def same(x: Any, spelling: str, threads: int = 1, **options: Any) -> None:
    """Do both paths store and give back the same bits, or refuse with the same words?"""
    s = kb.scheme(spelling)
    refused = ""
    try:
        wanted, values = general(x, s, **options)
    except kb.KbitError as error:
        refused = str(error)
    if refused:
        with pytest.raises(kb.KbitError) as caught:
            kb.quantize(x, s, threads=threads, **options)
        assert str(caught.value) == refused
        return
    q = kb.quantize(x, s, threads=threads, **options)
    assert q.packed.tolist() == wanted.packed.tolist()
    assert bits(q.scales) == bits(wanted.scales)
    assert q.global_scale == wanted.global_scale
    assert bits(kb.dequantize(wanted, threads=threads)) == bits(values)


def normals(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(F32)


def special_blocks() -> Iterator[tuple[str, Array]]:
    """[8, 16] numbers, most of which are hard for one step or another."""
    x = normals(8, 16)
    yield "ties", np.round(x * 4) / F32(4)
    yield "zeros", x * (np.arange(8) % 3 > 0)[:, None].astype(F32)
    yield "minus zeros", np.where(x > 1, x, F32(-0.0)) * (np.arange(8) % 2)[:, None].astype(F32)
    yield "subnormal", x * F32(1e-41)
    yield "subnormal scales", x * F32(1e-38)
    yield "tiny", np.where(x > 1, F32(189 * 2.0**-149), F32(-(2.0**-149)))
    yield "huge", x * F32(1e38)
    yield "largest", np.copysign(F32(3.4028235e38), x)
    for value in (np.nan, np.inf, -np.inf):
        for at in (0, 77, 127):
            y = x.copy()
            y.flat[at] = value
            yield f"{value} at {at}", y
    y = x.copy()
    y.view(np.uint32)[3, 3] = 0xFFC00001  # a NaN with its sign bit set
    yield "negative NaN", y


SPECIALS = dict(special_blocks())

SCHEMES = [
    *(
        f"{name}-b16-absmax-f32"
        for name in ("nf4", "dynamic8", "e4m3fn", "int8", "lloyd8", "int4", "int4sym", "e2m1fn")
    ),
    *(f"{name}-b8-absmax-f32" for name in ("fp4_bnb", "uint4", "oint4", "int3", "ternary", "bof4_b64", "kfloat8")),
    *(f"{name}-b32@-1-pow2floor-e8m0fnu" for name in ("e4m3fn", "e2m1fn", "int8", "mxint8")),
    *(f"e2m1fn-b4-{rule}-e8m0fnu" for rule in ("pow2ceil", "pow2even", "pow2even1", "pow2rceil")),
    *("e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier", "e2m1fn-b16@-1-absmax-e4m3fn+global=divisor+arith=reciprocals"),
    *("int8-tensor-absmax-f32", "int8-channel-absmax-f32", "nf4-channel@1-absmax-f16", "int4-b8@0-absmaxfull-bf16"),
    *("int8-b16-absmaxhalf-f32+scaleas=divisor+zeroblock=one", "int4-b8-absmaxfull-f32+scaleuse=unrounded"),
    *("nf4-b16-absmax-f32+arith=reciprocal+layout=high4", "int8-b16-absmax-f32+arith=reciprocal"),
    *("nf4-b16-absmax-f32+double=bnb+arith=reciprocal", "nf4-b16-absmax-f32+double=torchao+scaleuse=unrounded"),
    *(
        "nf4-b16-absmax-f32+nan=zero",
        "e4m3fn-b16-absmax-f32+nan=code+inf=saturate",
        "int8-b16-absmax-f16+scalerange=clamp",
    ),
    *(
        "int8-b16-absmax-f32+rounding=toward_zero",
        "int8-b16-absmax-f32+ties=away",
        "nf4-b16-absmax-f32+compute=bfloat16",
    ),
    *("int8-b16-absmax-f32+zeroblock=one", "int8-b16-absmax-f32+leastscale=1e-5", "int8-b16-absmax-f32+eps=1e-5"),
]


@pytest.mark.parametrize("spelling", SCHEMES)
def test_special_numbers(spelling: str) -> None:
    for x in SPECIALS.values():
        same(x, spelling)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 63, 64, 65, 100, 128, 1000])
@pytest.mark.parametrize("name", ["nf4", "int8", "e2m1fn", "int3"])
def test_block_sizes_and_tails(name: str, size: int) -> None:
    for n in (1, size, 7 * size, 7 * size + 1, 8 * size - 1):
        for threads in (1, 2):
            same(normals(n), f"{name}-b{size}-absmax-f32", threads)
    same(normals(3, 5 * size // 2), f"{name}-b{size}@-1-absmax-f32+tail=pad")
    same(normals(5 * size // 2, 3), f"{name}-b{size}@0-absmax-f32+arith=reciprocal+tailarith=divide")


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("compute", ["wider", "float32", "float64"])
def test_sources(source: str, compute: str) -> None:
    spelling = f"nf4-b16-absmax-f32+compute={compute}"
    if source == "bfloat16":
        same((normals(40, 16).view(np.uint32) >> 16).astype(np.uint16), spelling, bfloat16=True)
    else:
        same(normals(40, 16).astype(source), spelling)


def test_strides() -> None:
    x = normals(40, 48)
    for view in (x.T, x[::2], x[:, ::3], x[::-1], np.asfortranarray(x)):
        same(view, "int4-b8-absmax-f32")
        same(view, "e4m3fn-b8@0-pow2floor-e8m0fnu")


def test_largest_result_of_integers_is_in_range() -> None:
    """A subnormal scale is far from max / top: 189 * 2**-149 over 2**-149 is 189, and the table saturates."""
    x = np.array([189, -189, 1, 0], F32) * F32(2.0**-149)
    q = kb.quantize(x, "int8-b4-absmax-f32")
    assert (q.codes.tolist(), q.scales.tolist()) == ([127, 128, 1, 0], [[2.0**-149]])
    assert kb.exact.quantize(x, "int8-b4-absmax-f32").codes == [[127, 128, 1, 0]]


def test_zero_blocks_have_the_code_of_zero() -> None:
    q = kb.quantize(np.array([-0.0, 0.0, 1.0, -0.0], F32), "e4m3fn-b2-absmax-f32")
    assert q.codes.tolist() == [0, 0, 126, 128]


def test_a_power_of_two_isstored_as_it_is() -> None:
    """What skips the conversion to e8m0fnu agrees with the conversion."""
    from kbit_ref.tensors.scales import stored_as

    s = kb.scheme("e4m3fn-b32-pow2floor-e8m0fnu")
    powers = 2.0 ** np.arange(-160, 160)
    for values in (powers, powers[40:280], np.append(powers[40:280], 0.0), np.append(powers[40:280], 3.0)):
        for kind in (np.float32, np.float64):
            with np.errstate(over="ignore", under="ignore"):
                given = values.astype(kind)
            wanted = kb.decode("e8m0fnu", kb.encode("e8m0fnu", given))
            assert bits(stored_as(s, given)) == bits(wanted)
    assert bits(stored_as(s, -powers[40:280])) == bits(kb.decode("e8m0fnu", kb.encode("e8m0fnu", -powers[40:280])))


# It is taken -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "taken"),
    [
        *((f"{name}-b64-absmax-f32", True) for name in ("nf4", "dynamic8", "e4m3fn", "int8", "lloyd8")),
        *((f"{name}-b32@-1-pow2floor-e8m0fnu", True) for name in ("e4m3fn", "e2m1fn")),
        ("e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier", True),
        ("nf4-b64-absmax-f32+double=bnb", True),  # but for the scales, which are centred
        ("int8-tensor-absmax-f32", True),
        ("nf4-b64-signedmax-f32", False),
        ("nf4-b64-rms-f32", False),
        ("nf4-b64-absmax-f32+arith=exact", False),
        ("nf4-b64-absmax-f32+center=block", False),
        ("nf4-b64-absmax-f32+compute=float64", False),
        ("nf4-b64-absmax-f32+encoder=argmin", False),
    ],
)
def test_which_schemes_are_quick(spelling: str, taken: bool, calls: dict[str, int]) -> None:
    kb.quantize(normals(8, 64), spelling)
    pieces = 1 if "tensor" in spelling else 4  # of 128 elements; a block is never cut
    assert calls["encode_blocks"] == (pieces if taken else 0)


def test_only_a_piece_with_a_special_number_is_slow(calls: dict[str, int]) -> None:
    x = normals(8, 64)
    x[2, 5] = np.inf
    kb.quantize(x, "nf4-b64-absmax-f32+inf=saturate")
    assert calls["encode_blocks"] == 3


@pytest.mark.parametrize(
    ("spelling", "taken"),
    [
        ("nf4-b64-absmax-f32", 4),
        ("int8-b64-absmax-f32", 4),
        ("nf4-b64-absmax-f32+layout=high4", 4),
        ("int2-b64-absmax-f32", 4),
        ("int3-b64-absmax-f32", 0),
        ("nf4-b64-absmax-f32+layout=split4x32", 0),
        ("uint4-b64-minmax-f32", 0),
    ],
)
def test_which_schemes_come_back_quickly(spelling: str, taken: int, calls: dict[str, int]) -> None:
    x = normals(8, 64)
    q = kb.quantize(x, spelling)
    calls["levels_times"] = 0
    values = kb.dequantize(q)
    assert calls["levels_times"] == taken
    assert bits(values) == bits(general(x, kb.scheme(spelling))[1])


def test_rules_by_the_largest_magnitude() -> None:
    """Those listed see no difference when the rest of a block changes; each of the others does."""
    s, a = kb.scheme("uint4-b4-percentile-f32+percentile=99"), Arithmetic("float32")
    full = normals(1, 300)
    full[0, 7] = -7
    other = np.where(np.abs(full) == 7, full, full / 2)
    listed = []
    for name, rule in RULES.items():
        blocks = full, -full, other, full[:, 7:8], np.full((1, 9), F32(7))
        scales = [[float(scale[0, 0]) for scale in rule.candidates(s, a, block, None)] for block in blocks]
        if len(scales[0]) == 1 and all(scale == scales[0] for scale in scales):
            listed.append(name)
    assert sorted(listed) == sorted(kernels.BY_LARGEST)


# A fault is found ------------------------------------------------------------------------------


def half_of_a_block(words: Array, size: int, room: kernels.Room) -> Array:
    return np.maximum.reduceat(words.reshape(-1, size)[:, : -(-size // 2)].ravel(), np.arange(0, words.size, size) // 2)


def without_the_last(n: int, size: int, whole: Any = kernels.stretches) -> Iterator[tuple[slice, slice]]:
    yield from list(whole(n, size))[: max(1, n * size // kernels.STRETCH)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_most", half_of_a_block),
        ("stretches", without_the_last),
        ("TO_INTEGER", np.nextafter(kernels.TO_INTEGER, F32(0))),
        ("MAGNITUDE", np.uint32(0xFFFFFFFF)),
        ("_is_integer", lambda dtype: dtype.name == "uint8"),
    ],
)
def test_a_fault_would_be_found(name: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare() -> None:
        for spelling in ("int8-b16-absmax-f32", "uint8-b16-absmax-f32"):
            for x in (*SPECIALS.values(), normals(149)):
                same(x, spelling)

    compare()
    monkeypatch.setattr(kernels, name, fault)
    with pytest.raises(AssertionError):
        compare()


def test_integers_out_of_range_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the largest magnitude were told too small, the bound of the integers would be believed."""
    right = kernels.encode_blocks

    def believing(dtype: Any, blocks: Array, how: str, operand: Array, largest: Array, *rest: Any) -> None:
        right(dtype, blocks, how, operand, largest * F32(0), *rest)

    monkeypatch.setattr(there, "encode_blocks", believing)
    with pytest.raises(AssertionError):
        test_largest_result_of_integers_is_in_range()


def test_a_wrong_level_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels._levels_of_words
    monkeypatch.setattr(kernels, "_levels_of_words", lambda *args: right(*args)[:, ::-1])
    with pytest.raises(AssertionError):
        same(normals(64), "nf4-b16-absmax-f32")
