"""What `encode` and `decode` do with arrays: shapes, strides, threads, `out`, memory, and errors."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import light

import kbit_ref as kb
from kbit_ref.engine import codec as engine
from kbit_ref.errors import BadInput, BadType, UnknownName

RNG = np.random.default_rng(7)
SIZES = [0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 192, 193, 640, 641]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 elements, and threads from the first one on."""
    monkeypatch.setattr(engine, "CHUNK", 64)
    monkeypatch.setattr(engine, "LEAST_FOR_THREADS", 1)


def by_hand(x: Any) -> list[int]:
    """int4: round half to even, clip, two's complement."""
    return [int(np.clip(np.rint(v), -8, 7)) % 16 for v in np.asarray(x, np.float64).ravel()]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [None, 1, 2, 3, 1000])
@pytest.mark.parametrize("size", SIZES)
def test_threads_and_pieces(size: int, threads: int | None) -> None:
    x = RNG.normal(scale=4, size=size)
    for kind in ("float16", "float32", "float64", "longdouble"):
        given = x.astype(kind)
        codes = kb.encode("int4", given, threads=threads)
        assert codes.tolist() == by_hand(given)
        values = np.clip(np.rint(given.astype(np.float64)), -8, 7)
        assert kb.decode("int4", codes, threads=threads).tolist() == values.tolist()


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads: int) -> None:
    with pytest.raises(BadInput, match=f"threads = {threads}, it is a number of threads from 1; leave it out"):
        kb.encode("int4", [1.0], threads=threads)


SHAPES: dict[str, Any] = {
    "C order": lambda x: x,
    "F order": np.asfortranarray,
    "transposed": lambda x: x.transpose(2, 0, 1),
    "every second": lambda x: x[:, ::2],
    "backwards": lambda x: x[::-1, :, ::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "field of a record": lambda x: np.rec.fromarrays([np.zeros(x.shape, np.int8), x], names="a,b").b,
    "one element": lambda x: x[0, 0, 0],
    "no dimension": lambda x: np.array(x[1, 1, 1]),
    "empty": lambda x: x[:, :0],
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("how", SHAPES)
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "longdouble"])
def test_shapes_and_strides(how: str, kind: str) -> None:
    given = SHAPES[how](RNG.normal(scale=4, size=(5, 6, 7)).astype(kind))
    before = np.array(given)
    codes = kb.encode("int4", given)
    assert codes.shape == given.shape
    assert codes.dtype == np.uint8
    assert codes.ravel().tolist() == by_hand(given)
    assert np.array_equal(before, given)
    values = kb.decode("int4", SHAPES[how](np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7) % 16))
    assert values.dtype == np.float32
    signed = SHAPES[how](np.arange(5 * 6 * 7).reshape(5, 6, 7) % 16)
    assert values.tolist() == np.where(signed < 8, signed, signed - 16).tolist()


def test_unaligned() -> None:
    x = np.zeros(41, np.uint8)[1:].view(np.float32)
    x[:] = np.arange(10) - 5
    assert not x.flags.aligned
    assert kb.encode("int4", x).tolist() == by_hand(x)


def test_wide_types_give_uint16() -> None:
    assert kb.encode("f16", [1.0]).dtype == np.uint16
    assert kb.decode("f16", np.array([0x3C00], np.uint16)).tolist() == [1.0]


def test_odd_addresses_and_counts_of_codes() -> None:
    codes = np.arange(12, dtype=np.uint8)
    for begin in range(3):
        for end in range(begin, 13):
            values = kb.decode("uint4", codes[begin:end])
            assert values.tolist() == list(range(begin, min(end, 12)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64, np.int64, ">u2"])
def test_codes_of_any_integers(dtype: Any) -> None:
    assert kb.decode("int4", np.array([0, 7, 8, 15], dtype)).tolist() == [0, 7, -8, -1]


# out --------------------------------------------------------------------------------------------


def test_out() -> None:
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    codes, values = np.full((3, 4), 99, np.uint8), np.full((3, 4), 99, np.float32)
    assert kb.encode("int4", x, out=codes) is codes
    assert codes.ravel().tolist() == by_hand(x)
    assert kb.decode("int4", codes, out=values) is values
    assert values.tolist() == np.rint(x).tolist()


@pytest.mark.parametrize(
    ("out", "text"),
    [
        (np.empty(3, np.uint8), "out of shape (3,) and dtype uint8, the result has shape (2,) and dtype uint8"),
        (np.empty(2, np.int8), "out of shape (2,) and dtype int8, the result has shape (2,) and dtype uint8"),
        (np.empty(4, np.uint8)[::2], "out, it is read-only or not C-contiguous"),
        ([0, 0], "out of shape None and dtype list, the result has shape (2,) and dtype uint8"),
    ],
    ids=["shape", "dtype", "strides", "list"],
)
def test_out_that_does_not_fit(out: Any, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        kb.encode("int4", np.zeros(2), out=out)
    assert str(caught.value).startswith(f"encode: {text}; ")


def test_out_read_only_or_shared() -> None:
    out = np.empty(2, np.uint8)
    out.flags.writeable = False
    with pytest.raises(BadInput, match="read-only"):
        kb.encode("int4", np.zeros(2), out=out)
    x = np.zeros(2, np.float32)
    with pytest.raises(BadInput, match="encode: out, it shares memory with the input; allocate an array of its own"):
        kb.encode("int4", x, out=x.view(np.uint8)[:2])
    codes = np.zeros(8, np.uint8)
    with pytest.raises(BadInput, match="decode: out, it shares memory"):
        kb.decode("int4", codes[:2], out=codes.view(np.float32))


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("at", [0, 63, 64, 500, 639])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "longdouble"])
def test_nan_is_told_with_its_position(kind: str, at: int, threads: int) -> None:
    x = np.zeros(640, np.uint16 if kind == "bfloat16" else kind)
    x[at] = 0x7FC1 if kind == "bfloat16" else np.nan
    text = "int4 has no NaN level; clean the input or use a type with NaN"
    with pytest.raises(BadInput) as caught:
        kb.encode("int4", x, threads=threads, bfloat16=kind == "bfloat16")
    assert str(caught.value) == f"encode: x[{at}] = nan, {text}"
    with pytest.raises(BadInput) as caught:
        kb.encode("int4", x.reshape(4, 160).T[::-1], bfloat16=kind == "bfloat16")
    assert str(caught.value) == f"encode: x[{159 - at % 160}, {at // 160}] = nan, {text}"


def test_the_first_nan_is_told() -> None:
    with pytest.raises(BadInput, match=r"x\[1, 0\] = nan"):
        kb.encode("int4", [[0.0, 1.0], [np.nan, np.nan]])
    with pytest.raises(BadInput, match=r"x = nan"):
        kb.encode("int4", np.float32(np.nan))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("at", [0, 127, 128, 400])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_codes_out_of_range_are_told_with_their_position(at: int, dtype: Any) -> None:
    codes = np.zeros(401, dtype)
    codes[at] = 16
    with pytest.raises(BadInput) as caught:
        kb.decode("int4", codes)
    assert str(caught.value) == f"decode: codes[{at}] = 16, codes of 4 bits are 0 to 15; mask or unpack them first"


@pytest.mark.parametrize(("codes", "told"), [([256], "256"), ([-1], "-1"), ([2**40], str(2**40))])
def test_codes_beyond_a_byte(codes: list[int], told: str) -> None:
    with pytest.raises(BadInput, match=rf"decode: codes\[0\] = {told}, codes of 8 bits are 0 to 255;"):
        kb.decode("int8", codes)


def test_other_errors() -> None:
    with pytest.raises(BadType, match="decode: codes of dtype float32, codes are integers; pass uint8"):
        kb.decode("int4", np.zeros(2, np.float32))
    with pytest.raises(BadType, match="decode: codes of dtype bool, codes are integers"):
        kb.decode("int4", np.zeros(2, bool))
    with pytest.raises(UnknownName, match=r"datatype: name = 'nf44', there is no such name; did you mean nf4"):
        kb.encode("nf44", [1.0])
    with pytest.raises(BadInput, match=r"encode: rounding = stochastic_a, it needs random bits; use kb.encode_stoch"):
        kb.encode("int4+rounding=stochastic_a", [1.0])


# Against others ---------------------------------------------------------------------------------


def edges(kind: str) -> Any:
    """Random words of the format, every magnitude alike, and the neighbours of every float16 midpoint."""
    word = {"float32": np.uint32, "float64": np.uint64}[kind]
    words = RNG.integers(0, np.iinfo(word).max, 200_000, dtype=word)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = ((halves[1:] + halves[:-1]) / 2).astype(kind)
    near = [middle, np.nextafter(middle, np.array(np.inf, kind)), np.nextafter(middle, np.array(0, kind))]
    band = np.array([65504, 65519.99, 65520, 65536, 1e9, np.inf, 0.0, np.nan], kind)
    normal = RNG.normal(size=100_000).astype(kind)
    x = np.concatenate([words.view(kind), normal, *near, band])
    return np.concatenate([x, -x])


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_float16_as_numpy_does(kind: str) -> None:
    x = edges(kind)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        theirs = x.astype(np.float16).view(np.uint16)
    ours = kb.encode("f16+overflow=ieee", x)
    number = ~np.isnan(x)
    assert (ours[number] == theirs[number]).all()
    assert set(ours[~number].tolist()) == {0x7E00}


def test_bfloat16_as_ml_dtypes_does() -> None:
    ml_dtypes = light("ml_dtypes")
    x = edges("float32")
    with np.errstate(invalid="ignore"):  # some NaNs signal
        theirs = x.astype(ml_dtypes.bfloat16).view(np.uint16)
    number = ~np.isnan(x)
    assert (kb.encode("bf16+overflow=ieee", x)[number] == theirs[number]).all()


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_16_bit_types_are_the_identity_on_themselves(name: str) -> None:
    words = np.arange(65536, dtype=np.uint16)
    x = words if name == "bf16" else words.view(np.float16)
    codes = kb.encode(name, x, bfloat16=name == "bf16")
    infinity = {"f16": 0x7C00, "bf16": 0x7F80}[name]
    number = (words & 0x7FFF) <= infinity
    assert (codes[number] == words[number]).all()
    assert set(codes[~number].tolist()) == {infinity + (0x0200 if name == "f16" else 0x40)}
    decoded = kb.decode(name, words)
    as_float = x.astype(np.float32) if name == "f16" else (words.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(decoded, as_float, equal_nan=True)
    assert (np.signbit(decoded) == np.signbit(as_float))[number].all()


# Memory and size --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["e4m3fn", "nf4", "f16", "fp4_bnb"])
def test_scratch_memory(kind: str, name: str) -> None:
    x = np.zeros((1 << 21) + 3, kind)
    codes = np.empty(x.size, kb.datatype(name).code_dtype)
    kb.encode(name, x[:10])  # tables are built once
    tracemalloc.start()
    try:
        kb.encode(name, x, out=codes, threads=1)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.reset_peak()
        kb.encode(name, x[::-1], out=codes)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_scratch_memory_of_decode() -> None:
    codes = np.zeros(1 << 21, np.uint8)
    values = np.empty(codes.size, np.float32)
    kb.decode("e4m3fn", codes[:10])
    tracemalloc.start()
    try:
        kb.decode("e4m3fn", codes, out=values, threads=1)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def available_gib() -> float:
    """Memory that can be had, where the system tells; else infinite."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20


BEYOND = 2**31 + 5


@pytest.mark.slow
@pytest.mark.skipif(available_gib() < 6, reason="takes 6 GiB of memory")
def test_encode_more_than_2_to_31_elements() -> None:
    codes = kb.encode("int4", np.broadcast_to(np.float16(-3), BEYOND))  # strides of 0
    assert codes.shape == (BEYOND,)
    assert int(codes.max()) == int(codes.min()) == 13
    x = np.zeros(BEYOND, np.float16)
    x[-2] = 7
    kb.encode("int4", x, out=codes)
    assert np.flatnonzero(codes[-1000:]).tolist() == [998]
    assert int(codes[:-1000].max()) == 0
    x[-1] = np.nan
    with pytest.raises(BadInput, match=rf"x\[{BEYOND - 1}\] = nan"):
        kb.encode("int4", x, out=codes)


@pytest.mark.slow
@pytest.mark.skipif(available_gib() < 12, reason="takes 12 GiB of memory")
def test_decode_more_than_2_to_31_elements() -> None:
    codes = np.full(BEYOND, 13, np.uint8)
    codes[-1] = 7
    values = kb.decode("int4", codes)
    assert values.shape == (BEYOND,)
    assert values[-2:].tolist() == [-3, 7]
    assert float(values[:-1].min()) == float(values[:-1].max()) == -3
    codes[-1] = 16
    with pytest.raises(BadInput, match=rf"codes\[{BEYOND - 1}\] = 16"):
        kb.decode("int4", codes, out=values)
