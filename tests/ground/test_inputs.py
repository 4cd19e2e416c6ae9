"""What encode and decode take, and the line they say to everything else."""

from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy, light

import kbit_ref as kb
from kbit_ref.inputs import real_array

X = np.array([0.3, -1.7, 5.0, 100.0, -0.0], np.float32)
CODES = [1, 11, 6, 7, 8]  # e2m1fn by hand: 0.5, -1.5, 4 (the tie at 5 is even), 6, -0


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_float_formats(dtype: str) -> None:
    assert kb.encode("e2m1fn", X.astype(dtype)).tolist() == CODES


def test_float16_and_bfloat16() -> None:
    assert kb.encode("e2m1fn", X.astype(np.float16)).tolist() == CODES
    bits = (X.view(np.uint32) >> 16).astype(np.uint16)
    assert kb.encode("e2m1fn", bits, bfloat16=True).tolist() == CODES
    ml_dtypes = light("ml_dtypes")
    assert kb.encode("e2m1fn", X.astype(ml_dtypes.bfloat16)).tolist() == CODES


def test_python_numbers() -> None:
    assert kb.encode("e2m1fn", [0.3, -1.7, 5, 100, -0.0]).tolist() == CODES
    assert kb.encode("int4", [1, 2, -3]).tolist() == [1, 2, 13]
    assert kb.encode("e2m1fn", 1.0).shape == ()


def test_empty_and_no_dimension() -> None:
    assert kb.encode("nf4", []).tolist() == []
    assert kb.encode("nf4", np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert kb.decode("nf4", []).tolist() == []
    assert kb.decode("nf4", np.uint8(7)).shape == ()


class OnlyDLPack:
    """An array that says what it is by DLPack alone."""

    def __init__(self, array: np.ndarray[Any, Any]):
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_dlpack_shares_memory() -> None:
    shared = real_array("encode", OnlyDLPack(X)).array
    assert np.shares_memory(shared, X)
    assert kb.encode("e2m1fn", OnlyDLPack(X)).tolist() == CODES


@pytest.mark.heavy
def test_torch() -> None:
    torch = heavy("torch")
    tensor = torch.from_numpy(X.copy())
    assert kb.encode("e2m1fn", tensor).tolist() == CODES
    assert real_array("encode", tensor).array.ctypes.data == tensor.data_ptr()
    assert kb.encode("e2m1fn", tensor.to(torch.bfloat16).view(torch.uint16), bfloat16=True).tolist() == CODES
    with pytest.raises(TypeError, match=r"^encode: x is a torch.bfloat16 tensor, NumPy has no such dtype; "):
        kb.encode("e2m1fn", tensor.to(torch.bfloat16))
    with pytest.raises(TypeError, match=r"^encode: x requires grad, a NumPy view .*; pass x.detach\(\)$"):
        kb.encode("e2m1fn", tensor.requires_grad_())
    assert kb.decode("e2m1fn", torch.tensor(CODES, dtype=torch.uint8)).tolist() == [0.5, -1.5, 4, 6, 0]


def test_jax() -> None:
    jnp = light("jax.numpy")
    assert kb.encode("e2m1fn", jnp.asarray(X)).tolist() == CODES
    assert kb.encode("e2m1fn", jnp.asarray(X).astype(jnp.bfloat16)).tolist() == CODES


def test_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras = light("keras")
    assert kb.encode("e2m1fn", keras.ops.convert_to_tensor(X)).tolist() == CODES


@pytest.mark.heavy
def test_tensorflow() -> None:
    tensorflow = heavy("tensorflow")
    assert kb.encode("e2m1fn", tensorflow.constant(X)).tolist() == CODES


class Broken:
    """An array whose library fails."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("device lost\nsecond line")


REFUSED = [
    (np.array([1, 2]), r"^encode: x of dtype int64, integers are codes or counts, not reals; convert: x.astype"),
    (np.array([1, 2], np.uint16), r"^encode: x of dtype uint16, it is not real numbers; bits of bfloat16 need "),
    (np.array([1j]), r"^encode: x of dtype complex128, x is float16, bfloat16, float32, float64, longdouble; "),
    (np.array([True]), r"^encode: x of dtype bool, x is float16"),
    (["a"], r"^encode: x of dtype str32, x is float16"),
    (None, r"^encode: x of dtype object, x is float16"),
    (np.ma.masked_array([1.0]), r"^encode: x is a masked array, its mask would be lost; pass x.filled\(value\)$"),
    ([[1.0], [1.0, 2.0]], r"^encode: x is builtins list, it does not become a NumPy array \(setting an array"),
    (Broken(), r"it does not become a NumPy array \(device lost second line\); pass an array in CPU memory$"),
]


@pytest.mark.parametrize(("x", "text"), REFUSED)
def test_refused_in_one_line(x: Any, text: str) -> None:
    with pytest.raises(kb.KbitError, match=text) as caught:
        kb.encode("nf4", x)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_nan_tells_where() -> None:
    x = np.zeros((3, 200_000), np.float32)
    x[2, 150_000] = np.nan
    with pytest.raises(ValueError, match=r"^encode: x\[2, 150000\] = nan, nf4 has no NaN level; clean the input"):
        kb.encode("nf4", x)


@pytest.mark.parametrize("codes", [[0, 16], [-1], np.array([0, 16], np.uint8), np.array([0, 300], np.int64)])
def test_codes_out_of_range(codes: Any) -> None:
    with pytest.raises(kb.KbitError, match=r"^decode: codes\[\d\] = -?\d+, codes of 4 bits are 0 to 15; mask or"):
        kb.decode("nf4", codes)


def test_codes_are_integers() -> None:
    with pytest.raises(TypeError, match=r"^decode: codes of dtype float32, codes are integers; "):
        kb.decode("nf4", np.zeros(2, np.float32))


def test_out() -> None:
    out = np.empty(5, np.uint8)
    assert kb.encode("e2m1fn", X, out=out) is not None
    assert out.tolist() == CODES
    for bad in (np.empty(4, np.uint8), np.empty(5, np.int8), np.empty(10, np.uint8)[::2], [0] * 5):
        with pytest.raises(kb.KbitError, match=r"^encode: out"):
            kb.encode("e2m1fn", X, out=bad)  # type: ignore[arg-type]
    with pytest.raises(kb.KbitError, match=r"^encode: out, it shares memory with the input; "):
        kb.encode("e2m1fn", X, out=X.view(np.uint8)[:5])


def test_input_is_not_touched() -> None:
    x = X.copy()
    x.flags.writeable = False
    kb.encode("e2m1fn", x)
    assert x.tobytes() == X.tobytes()


def test_names() -> None:
    with pytest.raises(kb.KbitError, match=r"^datatype: name = 'nf44', there is no such name; did you mean nf4"):
        kb.encode("nf44", X)
    with pytest.raises(kb.KbitError, match=r"^datatype: choice = 'tie', there is no such name; did you mean ties"):
        kb.encode("nf4+tie=even", X)
    with pytest.raises(kb.KbitError, match=r"^datatype: name = 7, it is no name and no DataType; "):
        kb.encode(7, X)  # type: ignore[arg-type]


def test_codes_are_called_codes() -> None:
    masked = np.ma.masked_array([1])
    for function in (kb.decode, lambda form, codes: kb.pack(codes, "low4")):
        with pytest.raises(kb.KbitError, match=r": codes is a masked array, .*; pass codes\.filled\(value\)$"):
            function("int4", masked)
    with pytest.raises(kb.KbitError, match=r"^decode: codes = 99, "):
        kb.decode("int4", np.int64(99))
