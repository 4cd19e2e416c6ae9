"""Faults of public reports, written apart from the variants: each kind is named, whatever the type, width and layout.

Every fault is a few lines of its own on what `kb.quantize` stores. It is given to `diagnose` as a reader (bytes and
scales in, values out), as a writer (numbers in, values out), or both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.diagnosis import Diagnosis, diagnose

F32 = np.float32
Fault = Callable[[Any, Any], Any]  # (x, QTensor) -> values


def numbers(text: str, shape: tuple[int, ...] = (16, 64), seed: int = 0) -> Any:
    """Normals, rows and columns of many magnitudes, so that no two scales are alike."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.uniform(-3, 3, (*shape[:-1], 1)) * 2.0 ** rng.uniform(-2, 2, shape[-1])
    return x.astype(F32)


def given(q: Any) -> dict[str, Any]:
    """What a reader is given."""
    parts = {name: getattr(q, name) for name in ("packed", "scales", "offsets", "zero_points", "global_scale")}
    return {name: part for name, part in parts.items() if part is not None}


def of_reader(text: str, fault: Fault, x: Any = None) -> Diagnosis:
    x = numbers(text) if x is None else x
    q = kb.quantize(x, text)
    return diagnose(fault(x, q), scheme=text, **given(q))


def of_writer(text: str, fault: Fault, x: Any = None) -> Diagnosis:
    x = numbers(text) if x is None else x
    return diagnose(fault(x, kb.quantize(x, text)), x=x, scheme=text)


def check(found: Diagnosis, name: str) -> None:
    """All is explained, by this mistake or by what gives the same here."""
    assert found.explained == found.total, found
    assert found.verdict == "mistake", found
    assert any(member == name or member.startswith(f"{name}(") for member in found.names), found


def rows(q: Any, grid: Any) -> Any:
    """One number a block -> one an element, for blocks along the last axis, or flat."""
    length = q.shape[-1] if q.scheme.cut.axis is not None else int(np.prod(q.shape))
    size = q.scheme.cut.size or length
    return np.repeat(grid, size, axis=1)[:, :length].reshape(q.shape)


def levels(q: Any) -> Any:
    return kb.decode(q.scheme.dtype, q.codes)


# Codes --------------------------------------------------------------------------------------------


def as_sign_and_magnitude(x: Any, q: Any) -> Any:
    half = 2 ** (q.scheme.dtype.bits - 1)
    c = q.codes.astype(int)
    unit = F32(1 / 64) if q.scheme.dtype.name == "mxint8" else F32(1)
    return (np.where(c >= half, -(c - half), c).astype(F32) * unit * rows(q, q.scales)).astype(F32)


SIGNED = (
    "int4-channel-absmax-f32",
    "int8-b32-absmax-f16",
    "int3-b32@-1-absmax-f32",
    "int4-b32-absmax-f32+layout=high4",
)


@pytest.mark.parametrize("text", [*SIGNED, "oint4-b32@-1-absmax-f32", "ocp-mxint8", "int4sym-channel-absmax-f32"])
def test_read_as_sign_and_magnitude(text: str) -> None:
    """Samsung/ONE, pull request 12801."""
    check(of_reader(text, as_sign_and_magnitude), "read-as-sign-and-magnitude")
    check(of_writer(text, as_sign_and_magnitude), "read-as-sign-and-magnitude")


@pytest.mark.parametrize("text", SIGNED)
def test_written_as_sign_and_magnitude(text: str) -> None:
    """Codes that are sign and magnitude, told from what is stored."""
    x = numbers(text)
    q = kb.quantize(x, text)
    half = 2 ** (q.scheme.dtype.bits - 1)
    n = levels(q).astype(int)
    codes = np.where(n < 0, half - np.maximum(n, 1 - half), n).astype(np.uint8)
    check(diagnose(codes, x=x, scheme=text), "written-in-another-form")


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_an_excess_that_wraps(bits: int) -> None:
    def fault(x: Any, q: Any) -> Any:
        return ((q.codes.astype(int) - 8) % 2**bits).astype(F32) * rows(q, q.scales)

    check(of_reader("oint4-b32@-1-absmax-f32", fault), "excess-wraps")


@pytest.mark.parametrize("text", ["e4m3fn-b32@-1-absmax-f32", "nf4-b64-absmax-f32", "e2m1fn-b32@-1-pow2floor-e8m0fnu"])
@pytest.mark.parametrize("signed", [True, False])
def test_codes_used_as_numbers(text: str, signed: bool) -> None:
    def fault(x: Any, q: Any) -> Any:
        c, half = q.codes.astype(int), 2 ** (q.scheme.dtype.bits - 1)
        return np.where(signed & (c >= half), c - 2 * half, c).astype(F32) * rows(q, q.scales)

    check(of_reader(text, fault), "float-read-as-integer")


@pytest.mark.parametrize("text", ["int4-b32-absmax-f32", "uint8-channel-minmax-f32", "int3-b32@-1-absmax-f16"])
def test_codes_masked_for_another_width(text: str) -> None:
    def fault(x: Any, q: Any) -> Any:
        c = q.codes & (2 ** (q.scheme.dtype.bits - 1) - 1)
        values = kb.decode(q.scheme.dtype, c) * rows(q, q.scales)
        return values if q.offsets is None else values + rows(q, q.offsets)

    check(of_reader(text, fault), "wrong-stride")


def test_a_stream_of_four_bits_read_by_threes() -> None:
    def fault(x: Any, q: Any) -> Any:
        bits = np.unpackbits(q.packed, bitorder="little")[: 3 * q.codes.size].reshape(-1, 3)
        codes = (bits * [1, 2, 4]).sum(axis=1).astype(np.uint8).reshape(q.shape)
        return kb.decode("int4", codes) * rows(q, q.scales)

    check(of_reader("int4-b32-absmax-f32", fault), "codes-of-another-width")


def test_a_byte_taken_for_a_code() -> None:
    """safetensors/safetensors, 839: shapes count elements in the header and bytes in torch."""

    def fault(x: Any, q: Any) -> Any:
        codes = np.zeros(q.codes.size, np.uint8)
        codes[: q.packed.size] = q.packed & 15
        return kb.decode("e2m1fn", codes.reshape(q.shape)) * rows(q, q.scales)

    check(of_reader("ocp-mxfp4", fault), "a-code-a-byte")


@pytest.mark.parametrize("text", ["int4-channel-absmax-f32", "uint4-b32@-1-affine-f32", "int3-b32@-1-absmax-f32"])
def test_rows_read_as_if_padded(text: str) -> None:
    x = numbers(text, (8, 37))

    def fault(x: Any, q: Any) -> Any:
        n, bits = q.shape[1], q.scheme.dtype.bits
        stride = (n + 1) // 2 if bits == 4 else -(-n // 8) * 3
        filled = np.concatenate([q.packed, np.zeros(stride * len(x), np.uint8)])
        codes = np.stack([kb.unpack(filled[r * stride :][:stride], q.scheme.layout, n) for r in range(len(x))])
        values = kb.decode(q.scheme.dtype, codes)
        if q.zero_points is not None:
            values = values - rows(q, q.zero_points)
        return (values * rows(q, q.scales)).astype(F32)

    check(of_reader(text, fault, x), "rows-read-padded")


# Zero points --------------------------------------------------------------------------------------


AFFINE = ("uint8-channel-affine-f32", "uint4-b32@-1-affine-f32", "int8-channel-affine-f32", "uint4-b32@-1-affine-f16")


def steps_of(x: Any, q: Any) -> tuple[Any, Any, Any]:
    """round(x / scale), zero points and scales, one an element."""
    scale, zero = rows(q, q.scales), rows(q, q.zero_points).astype(np.int64)
    return np.rint(x / scale), zero, scale


def ends(q: Any) -> tuple[float, float]:
    return float(q.scheme.dtype.levels.min()), float(q.scheme.dtype.levels.max())


WRITTEN = {  # what is added before the clamp
    "zero-point-not-added": lambda zero: 0 * zero,
    "zero-point-added-twice": lambda zero: 2 * zero,
    "zero-point-subtracted-on-writing": lambda zero: -zero,
    "zero-point-added-off-by-one": lambda zero: zero + 1,
}


@pytest.mark.parametrize("text", AFFINE)
@pytest.mark.parametrize("name", WRITTEN)
def test_zero_points_added_wrongly(name: str, text: str) -> None:
    """The first is hatchetProject/QuEST, issue 18."""

    def fault(x: Any, q: Any) -> Any:
        y, zero, scale = steps_of(x, q)
        return ((np.clip(y + WRITTEN[name](zero), *ends(q)) - zero) * scale).astype(F32)

    check(of_writer(text, fault, numbers(text) + F32(0.3)), name)


READ = {
    "zero-point-dropped": lambda zero: 0 * zero,
    "zero-point-subtracted-twice": lambda zero: 2 * zero,
    "zero-point-added-on-reading": lambda zero: -zero,
    "zero-point-off-by-one": lambda zero: zero - 1,
}


@pytest.mark.parametrize("text", AFFINE)
@pytest.mark.parametrize("name", READ)
def test_zero_points_subtracted_wrongly(name: str, text: str) -> None:
    def fault(x: Any, q: Any) -> Any:
        return ((levels(q) - READ[name](rows(q, q.zero_points).astype(int))) * rows(q, q.scales)).astype(F32)

    check(of_reader(text, fault), name)
    check(of_writer(text, fault), name)


@pytest.mark.parametrize("text", ["uint8-channel-affine-f32", "uint4-b32@-1-affine-f32"])
@pytest.mark.parametrize("bits", [8, 32])
def test_code_minus_zero_point_wraps(text: str, bits: int) -> None:
    """tile-ai/tilelang, issue 2947."""

    def fault(x: Any, q: Any) -> Any:
        left = (q.codes.astype(int) - rows(q, q.zero_points).astype(int)) % 2**bits
        return left.astype(F32) * rows(q, q.scales)

    check(of_reader(text, fault), "code-minus-zero-wraps")
    check(of_writer(text, fault), "code-minus-zero-wraps")


@pytest.mark.parametrize("by", ["or", "sum"])
@pytest.mark.parametrize("along", ["row", "column"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_borrow_of_gptq(by: str, along: str, masked: bool) -> None:
    """AutoGPTQ, issue 331: zeros are stored minus one, in 32-bit words."""
    x = numbers("", (16, 256))
    x[3::4, 96:128] = np.abs(x[3::4, 96:128])  # the fourth zero point of eight in a word is 0

    def fault(x: Any, q: Any) -> Any:
        zero = q.zero_points.astype(object)
        lines = zero if along == "row" else zero.T
        flat = list(lines.reshape(-1))
        read = []
        for begin in range(0, len(flat), 8):
            word = 0
            for i, z in enumerate(flat[begin : begin + 8]):
                part = (int(z) - 1) << 4 * i
                word = word | part if by == "or" else word + part
            read += [(word >> 4 * i & 15) + 1 & (15 if masked else 31) for i in range(8)]
        found = np.array(read[: len(flat)]).reshape(lines.shape)
        return ((levels(q) - rows(q, found if along == "row" else found.T)) * rows(q, q.scales)).astype(F32)

    check(of_reader("uint4-b32@-1-affine-f32", fault, x), "zero-point-borrows")


def test_zero_points_out_of_range_wrap() -> None:
    text = "uint4-b32@-1-affineplain-f32"
    x = np.abs(numbers(text)) + F32(3)

    def fault(x: Any, q: Any) -> Any:
        blocks = x.reshape(-1, 32)
        low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
        scale = (high - low) / F32(15)
        zero = np.rint(-low / scale).astype(int) % 16
        return ((np.clip(np.rint(blocks / scale) + zero, 0, 15) - zero) * scale).astype(F32).reshape(x.shape)

    check(of_writer(text, fault, x), "zero-point-overflows")


@pytest.mark.parametrize("text", ["uint4-channel-minmax-f32", "uint8-b32@-1-minmax-f32", "uint4-b32@-1-minmax-f16"])
@pytest.mark.parametrize("both_sides", [True, False])
def test_a_range_that_padding_widens(text: str, both_sides: bool) -> None:
    """InternLM/lmdeploy, issue 4849; once from values alone, once from all that is stored."""
    s = kb.scheme(text)
    x = np.abs(numbers(text)) * F32(0.1) + F32(2)
    x[both_sides::2] *= F32(-1)  # where all are negative the offset stays, and the range does not
    x[1::2] *= F32(1 if both_sides else -1)
    blocks = x.reshape(-1, s.cut.size or x.shape[1])
    low, high = np.minimum(blocks.min(1, keepdims=True), 0), np.maximum(blocks.max(1, keepdims=True), 0)
    narrow = np.float16 if s.scale_dtype == "f16" else F32
    scale, offset = ((high - low) / F32(2**s.dtype.bits - 1)).astype(narrow), low.astype(narrow)
    codes = np.clip(np.rint((blocks - offset.astype(F32)) / scale.astype(F32)), 0, 2**s.dtype.bits - 1)
    values = (codes.astype(F32) * scale.astype(F32) + offset.astype(F32)).reshape(x.shape)
    check(diagnose(values, x=x, scheme=text), "offset-through-zero")
    stored = {"codes": codes.astype(np.uint8).reshape(x.shape), "scales": scale, "offsets": offset}
    check(diagnose(values, x=x, scheme=text, **stored), "offset-through-zero")


# Scales -------------------------------------------------------------------------------------------

MX = ("ocp-mxfp4", "ocp-mxfp8-e4m3", "ocp-mxfp6-e2m3", "ocp-mxint8")


def of_byte(change: Callable[[Any], Any]) -> Fault:
    """A reader that makes another number of the byte of a scale."""

    def fault(x: Any, q: Any) -> Any:
        with np.errstate(all="ignore"):
            scale = np.asarray(change(kb.encode(q.scheme.scale_dtype, q.scales)), F32)
            return (levels(q) * rows(q, scale)).astype(F32)

    return fault


BYTES = {
    "scale-without-bias": lambda b: np.ldexp(1.0, b.astype(int)),
    "scale-with-another-bias": lambda b: np.ldexp(1.0, b.astype(int) - 15),
    "scale-byte-as-number": lambda b: b,
    "scale-byte-signed": lambda b: np.ldexp(1.0, np.where(b > 127, b.astype(int) - 256, b) - 127),
    "scale-read-as-another-type": lambda b: kb.decode("e4m3fn", b),
}


@pytest.mark.parametrize("text", MX)
@pytest.mark.parametrize("name", BYTES)
def test_bytes_of_scales(name: str, text: str) -> None:
    """tile-ai/tilelang, issue 2748; jundot/omlx, pull request 2159; and their kin, bytes given as bytes."""
    x = numbers(text) * F32(32)
    q = kb.quantize(x, text)
    values = of_byte(BYTES[name])(x, q)
    parts = given(q) | {"scales": kb.encode("e8m0fnu", q.scales)}
    check(diagnose(values, scheme=text, **parts), name)
    check(of_reader(text, of_byte(BYTES[name]), x), name)
    check(of_writer(text, of_byte(BYTES[name]), x), name)


@pytest.mark.parametrize("text", ["ct-nvfp4", "nvfp4-modelopt", "jax-nvfp4", "e4m3fn-b32@-1-absmax-f16"])
def test_bytes_of_other_scales_as_numbers(text: str) -> None:
    def fault(x: Any, q: Any) -> Any:
        kind = q.scheme.scale_dtype
        word = kb.encode(kind, q.scales).astype(F32)
        whole = F32(1) if q.global_scale is None else q.global_scale
        scale = word / whole if q.scheme["global"] == "divisor" else word * whole
        return (levels(q) * rows(q, scale)).astype(F32)

    check(of_reader(text, fault), "scale-byte-as-number")


def test_the_least_scale() -> None:
    """NVIDIA/TransformerEngine, pull request 3262: byte 0 is 2**-127 and read as 0; and read as half of it."""
    x = (numbers("") * F32(2.0**-126)).astype(F32)
    for change, name in (
        (lambda b: np.where(b == 0, 0, np.ldexp(1.0, b.astype(int) - 127)), "scale-byte-shifted"),
        (lambda b: np.where(b == 0, 2.0**-128, np.ldexp(1.0, b.astype(int) - 127)), "least-scale-halved"),
    ):
        check(of_reader("torchao-mxfp8-e4m3", of_byte(change), x), name)


@pytest.mark.parametrize("text", ["ocp-mxfp4", "e4m3fn-b32@-1-absmax-f32", "int4-b32-absmax-f16", "nf4-b64-absmax-f32"])
def test_scales_dropped(text: str) -> None:
    """wuwangzhang1216/abliterix, pull request 93."""
    check(of_reader(text, lambda x, q: levels(q)), "scale-dropped")
    check(of_writer(text, lambda x, q: levels(q)), "scale-dropped")


@pytest.mark.parametrize("text", ["ct-nvfp4", "nvfp4-modelopt"])
def test_scales_dropped_beside_a_global_one(text: str) -> None:
    def fault(x: Any, q: Any) -> Any:
        one = F32(1)
        return (levels(q) * (one / q.global_scale if q.scheme["global"] == "divisor" else q.global_scale)).astype(F32)

    check(of_reader(text, fault), "scale-dropped")


@pytest.mark.parametrize("text", ["ct-nvfp4", "nvfp4-modelopt"])
@pytest.mark.parametrize("held", [0.0, float("nan")])
def test_a_global_scale_that_nobody_wrote(text: str, held: float) -> None:
    """vllm-project/vllm, issue 54444."""

    def fault(x: Any, q: Any) -> Any:
        with np.errstate(all="ignore"):
            divides = q.scheme["global"] == "divisor"
            scale = q.scales / F32(held) if divides else q.scales * F32(held)
            return (levels(q) * rows(q, scale)).astype(F32)

    check(of_reader(text, fault), "global-scale-uninitialised")


@pytest.mark.parametrize("text", ["e4m3fn-b32@-1-absmax-f32", "int4-b32-absmax-f16", "jax-nvfp4"])
def test_scales_cut_to_powers_of_two(text: str) -> None:
    """sgl-project/sglang, 39193."""

    def fault(x: Any, q: Any) -> Any:
        return (levels(q) * rows(q, np.exp2(np.floor(np.log2(q.scales.astype(np.float64)))))).astype(F32)

    check(of_reader(text, fault), "scale-cut-to-a-power-of-two")


@pytest.mark.parametrize("text", ["bnb-cuda-nf4-double", "bnb-nested", "torchao-nf4"])
@pytest.mark.parametrize("as_float32", [True, False])
def test_the_mean_of_nested_scales_lost(text: str, as_float32: bool) -> None:
    """bitsandbytes, pull request 1971: two bytes of bfloat16 read as float32, about 1e-41."""
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(F32)

    def fault(x: Any, q: Any) -> Any:
        inner = q.double
        offset = (inner.offsets.view(np.uint32) >> 16).view(F32) if as_float32 else F32(0)
        levels_ = kb.decode(inner.scheme.dtype, inner.codes).reshape(1, -1)
        divides = inner.scheme["scaleas"] == "divisor"
        scales = (levels_ / inner.scales if divides else levels_ * inner.scales) + offset
        return (levels(q) * rows(q, scales.astype(F32))).astype(F32)

    check(of_writer(text, fault, x), "double-without-offset")


ALONG = {
    ("int8-channel-absmax-f32", (64, 64)): (1, 64),
    ("e4m3fn-channel-absmax-f32", (32, 32)): (1, 32),
    ("int8-channel@2-absmax-f32", (2, 4, 4)): (1, 4, 1),
    ("int4-channel@1-absmax-f32", (6, 6)): (6, 1),
}


@pytest.mark.parametrize(("text", "shape"), ALONG)
def test_scales_along_another_axis(text: str, shape: tuple[int, ...]) -> None:
    """apple/coreai-torch, pull request 24: the axis is off by one and the sizes are equal."""
    x = numbers(text, shape)

    def fault(x: Any, q: Any) -> Any:
        return (levels(q) * q.scales.reshape(ALONG[text, shape])).astype(F32)

    check(of_reader(text, fault, x), "scales-along-another-axis")
    check(of_writer(text, fault, x), "scales-along-another-axis")


def test_scales_of_blocks_along_another_axis() -> None:
    x = numbers("", (64, 64))

    def fault(x: Any, q: Any) -> Any:
        return (levels(q) * np.repeat(q.scales.T, 32, axis=0)).astype(F32)

    check(of_reader("int8-b32@-1-absmax-f32", fault, x), "scales-along-another-axis")


def swizzled(grid: Any) -> Any:
    """Tiles of 128 rows and 4 columns, in each rows r, r + 32, r + 64, r + 96 together; padded with zeros."""
    n_rows, n_columns = grid.shape
    padded = np.zeros((-(-n_rows // 128) * 128, -(-n_columns // 4) * 4), grid.dtype)
    padded[:n_rows, :n_columns] = grid
    return padded.reshape(len(padded) // 128, 4, 32, -1, 4).transpose(0, 3, 2, 1, 4).reshape(-1)


@pytest.mark.parametrize("text", ["jax-nvfp4", "ocp-mxfp4"])
def test_scales_of_tensor_cores_read_plainly(text: str) -> None:
    x = numbers(text, (160, 128))

    def fault(x: Any, q: Any) -> Any:
        memory = swizzled(q.scales)[: q.scales.size]
        return (levels(q) * rows(q, memory.reshape(q.scales.shape))).astype(F32)

    check(of_reader(text, fault, x), "scales-swizzled")


def test_scales_of_four_tokens_together() -> None:
    """vllm-project/vllm, issue 50084: [T / 4, 4, 4, S / 4] becomes [T / 4, 4, S / 4, 4]."""
    x = numbers("", (16, 128))

    def fault(x: Any, q: Any) -> Any:
        t, s = q.scales.shape
        memory = q.scales.reshape(t // 4, 4, 4, s // 4).transpose(0, 2, 3, 1)
        return (levels(q) * rows(q, memory.reshape(t, s))).astype(F32)

    check(of_reader("jax-nvfp4", fault, x), "scales-swizzled")


@pytest.mark.parametrize("text", ["int4-b32@-1-absmax-f32", "int8-b32-absmax-f32"])
def test_strided_groups(text: str) -> None:
    """HQQ's axis 0: the array as [size, n] has its groups in columns."""
    x = numbers(text, (16, 64))

    def fault(x: Any, q: Any) -> Any:
        groups = x.reshape(32, -1)
        scale = np.abs(groups).max(axis=0, keepdims=True) / F32(q.scheme.dtype.top)
        return (np.rint(groups / scale) * scale).astype(F32).reshape(x.shape)

    check(of_writer(text, fault, x), "groups-strided")


@pytest.mark.parametrize("high", [4, 16, 32])
def test_blocks_that_are_tiles(high: int) -> None:
    x = numbers("", (64, 64))
    wide = 32 if high == 32 else 32 // high

    def fault(x: Any, q: Any) -> Any:
        tiles = x.reshape(64 // high, high, 64 // wide, wide)
        scale = np.abs(tiles).max(axis=(1, 3), keepdims=True) / F32(127)
        return (np.rint(tiles / scale) * scale).astype(F32).reshape(x.shape)

    check(of_writer("int8-b32@-1-absmax-f32", fault, x), "blocks-in-tiles")


@pytest.mark.parametrize("text", ["uint4-b32@-1-affine-f16", "int4-b32@-1-absmax-f32", "int8-b64@-1-absmax-f16"])
def test_groups_of_an_activation_order(text: str) -> None:
    """vllm-project/llm-compressor, issue 1780: groups are of ordered columns, and g_idx says which."""
    rng = np.random.default_rng(0)
    x, size = numbers(text, (16, 256)), kb.scheme(text).cut.size
    order = rng.permutation(256)
    q = kb.quantize(x[:, order], text)
    codes, values = np.empty((16, 256), np.uint8), np.empty((16, 256), F32)
    codes[:, order], values[:, order] = q.codes, kb.dequantize(q)
    assert size
    numbers_of_blocks = {name: part for name, part in given(q).items() if name != "packed"}
    for found in (  # a reader that knows the order; both sides know it
        diagnose(values, scheme=text, packed=kb.pack(codes, q.scheme.layout), **numbers_of_blocks),
        diagnose(values, x=x, scheme=text, **numbers_of_blocks),
    ):
        assert found.explained == found.total, found
        assert found.names[0] == "columns of other groups", found
        assert "g_idx" in found.sentence


@pytest.mark.parametrize("from_element", [0, 512, 1000])
def test_what_was_there(from_element: int) -> None:
    """Nothing is written, into memory that holds the numbers that were given."""

    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q).reshape(-1).copy()
        values[from_element:] = x.reshape(-1)[from_element:]
        return values.reshape(x.shape)

    found = of_writer("int4-b32-absmax-f32", fault)
    assert found.explained == found.total, found
    assert "memory held the numbers that were given" in found.sentence


# Numbers ------------------------------------------------------------------------------------------


def test_int32_overflows_before_the_clip() -> None:
    """onnx's reference of QuantizeLinear: what is beyond 2**31 gives the lowest code."""
    text = "int8-b128-percentile-f32"
    x = numbers(text, (8, 128)) * F32(1e-6)
    x[:, 64] = 1e9

    def fault(x: Any, q: Any) -> Any:
        y = np.rint(x / rows(q, q.scales)).astype(np.float64)
        y = np.where(np.abs(y) >= 2.0**31, -(2.0**31), y)
        return (np.clip(y, -128, 127) * rows(q, q.scales)).astype(F32)

    check(of_writer("int8-b128-percentile-f32+percentile=99", fault, x), "overflows-int32")


@pytest.mark.parametrize("lost", [1, 2])
def test_fewer_bits_of_significand(lost: int) -> None:
    def fault(x: Any, q: Any) -> Any:
        sign, y = np.sign(x), np.abs(x) / rows(q, q.scales)
        kept = np.array(kb.datatype("e4m3fn").levels[: 0x7F : 2**lost])
        middle = (kept[1:] + kept[:-1]) / 2
        low = np.searchsorted(middle, y)  # ties to the lower one
        tie = (low < middle.size) & (middle[np.minimum(low, middle.size - 1)] == y)
        codes = low + (tie & (low % 2 == 1))
        return (np.copysign(kept[codes], sign).astype(F32) * rows(q, q.scales)).astype(F32)

    small = 2.0 ** np.random.default_rng(1).uniform(-16, 0, (16, 64))  # so that there are subnormals
    check(of_writer("ocp-mxfp8-e4m3", fault, (numbers("") * small).astype(F32)), "fewer-significand-bits")


@pytest.mark.parametrize(("text", "n"), [("ggml-q8_0", 4), ("int8-channel-absmax-f32", 1), ("ocp-mxfp8-e4m3", 2)])
def test_low_bits_dropped(text: str, n: int) -> None:
    def fault(x: Any, q: Any) -> Any:
        return (kb.decode(q.scheme.dtype, q.codes & (256 - 2**n)) * rows(q, q.scales)).astype(F32)

    check(of_writer(text, fault), "low-bits-dropped")


# What is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["int4-b32-absmax-f32", "ocp-mxfp4"])
@pytest.mark.parametrize("held", [0, 0xA5])
def test_nothing_written(text: str, held: int) -> None:
    """ml-explore/mlx, issue 4250."""
    memory = np.full((16, 64, 4), held, np.uint8).view(F32)[..., 0]
    check(of_reader(text, lambda x, q: memory), "nothing-written")
    check(of_writer(text, lambda x, q: memory), "nothing-written")


@pytest.mark.parametrize("held", [0, 0xA5])
def test_a_tail_that_is_not_written(held: int) -> None:
    memory = np.full((16, 40, 4), held, np.uint8).view(F32)[..., 0]

    def fault(x: Any, q: Any) -> Any:
        return np.where(np.arange(40) < 32, kb.dequantize(q), memory)

    x = numbers("", (16, 40))
    check(of_writer("int8-b32@-1-absmax-f32", fault, x), "tail-dropped")


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("held", [0, 0xA5])
def test_last_blocks_that_are_not_written(blocks: int, held: int) -> None:
    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q).reshape(-1).copy()
        values[-32 * blocks :] = np.full((32 * blocks, 4), held, np.uint8).view(F32)[:, 0]
        return values.reshape(x.shape)

    check(of_writer("int4-b32-absmax-f32", fault), "last-blocks-lost")


@pytest.mark.parametrize("text", ["nf4-b64-absmax-f32", "int4-b32@-1-absmax-f32", "int3-b32-absmax-f32"])
@pytest.mark.parametrize("whole_block", [True, False])
def test_bytes_of_the_end_that_are_not_written(text: str, whole_block: bool) -> None:
    """The last block, or code, in bytes that are 0 before the codes are put in."""
    x = numbers(text, (16, 75))
    q = kb.quantize(x, text)
    codes = q.codes.reshape(-1).copy()
    length = 75 if q.scheme.cut.axis is not None else 16 * 75
    codes[-(length % q.scheme.cut.size) if whole_block else -1 :] = 0
    packed = kb.pack(codes, q.scheme.layout)
    assert not np.array_equal(packed, q.packed)
    check(diagnose(x=x, scheme=text, packed=packed, scales=q.scales), "bytes-not-written")


def test_values_that_are_added_to_themselves() -> None:
    check(of_writer("int8-b32-absmax-f32", lambda x, q: kb.dequantize(q) * F32(2)), "values-added-twice")


def test_blocks_that_are_written_twice() -> None:
    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q).reshape(-1, 2, 32).copy()
        values[:, 1] = values[:, 0]
        return values.reshape(x.shape)

    check(of_writer("int8-b32-absmax-f32", fault), "blocks-written-twice")


def test_values_that_are_written_an_element_too_far() -> None:
    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q).reshape(-1)
        return np.concatenate([[F32(0)], values[:-1]]).reshape(x.shape)

    check(of_writer("int4-b32-absmax-f32", fault), "written-elsewhere")


def test_rows_that_are_written_too_long() -> None:
    """ROCm/aiter, pull request 5290: each row also writes the first element of the next, with its own scale."""

    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q).copy()
        values[1:, 0] = levels(q)[1:, 0] * q.scales[:-1, -1]
        return values

    check(of_writer("int8-channel-absmax-f32", fault), "row-written-too-long")


@pytest.mark.parametrize("order", ["swapped", "in turns", "apart"])
def test_gate_and_up(order: str) -> None:
    """sgl-project/sglang, 32430."""

    def fault(x: Any, q: Any) -> Any:
        values = kb.dequantize(q)
        first, second = values[:8], values[8:]
        if order == "swapped":
            return np.concatenate([second, first])
        return (
            np.stack([first, second], 1).reshape(x.shape)
            if order == "in turns"
            else np.vstack([values[::2], values[1::2]])
        )

    check(of_writer("ocp-mxfp4", fault), "halves-swapped")
