"""Checkpoints of bitsandbytes: bytes laid by hand, what the library itself writes, and damaged files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

import kbit_ref as kb
from kbit_ref.checkpoints.bitsandbytes import read as found
from kbit_ref.checkpoints.container import Container, Writer
from kbit_ref.checkpoints.foreign import ROWS
from kbit_ref.checkpoints.header import Spec
from kbit_ref.transformer import load_model

NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453]  # the first levels, as published
DYNAMIC8 = {0: -0.99296875, 127: 0.0, 255: 1.0}  # of the 256, in ascending order


def read(file: Container, name: str) -> kb.QTensor | None:
    """The matrix, [d_out, d_in] in every family."""
    answer = found(file, name)
    assert answer is None or answer[1] == ROWS
    return None if answer is None else answer[0]


def written(path: Path, tensors: dict[str, tuple[str, Any]]) -> Container:
    """A file of tensors, each a type of safetensors and an array."""
    arrays = {name: (kind, np.ascontiguousarray(array)) for name, (kind, array) in tensors.items()}
    specs = [Spec(name, kind, array.shape) for name, (kind, array) in arrays.items()]
    with Writer(path, specs, {}, force=True) as file:
        for name, (_, array) in arrays.items():
            file.view(name)[:] = np.frombuffer(array.tobytes(), np.uint8)
    return Container(path)


def text(**facts: Any) -> tuple[str, Any]:
    """A quant_state."""
    return "U8", np.frombuffer(json.dumps(facts).encode(), np.uint8)


def plain(**more: Any) -> dict[str, tuple[str, Any]]:
    """Three rows of two, blocks of four: codes 0 1 2 3 0 3, scales 2 and 10."""
    state = {"quant_type": "nf4", "blocksize": 4, "dtype": "float32", "shape": [3, 2]}
    return {
        "w": ("U8", np.array([[0x01], [0x23], [0x03]], np.uint8)),  # the first code stands in the high half
        "w.absmax": ("F32", np.array([2, 10], np.float32)),
        "w.quant_map": ("F32", np.zeros(16, np.float32)),
        "w.quant_state.bitsandbytes__nf4": text(**(state | more)),
    }


def nested() -> dict[str, tuple[str, Any]]:
    """The same codes; scales 255 and 0 of dynamic8 times 8, plus 3: 11 and -4.94375."""
    tensors = plain(nested_blocksize=256, nested_offset=3.0, nested_dtype="float32")
    return tensors | {
        "w.absmax": ("U8", np.array([255, 0], np.uint8)),
        "w.nested_absmax": ("F32", np.array([8], np.float32)),
        "w.nested_quant_map": ("F32", np.zeros(256, np.float32)),
    }


def numbers(codes: list[int], scales: list[float]) -> Any:
    """Levels times scales in float32."""
    levels = np.array(NF4, np.float32)[codes]
    return (levels * np.array(scales, np.float32)).reshape(3, 2)


def test_bytes_by_hand(tmp_path: Path) -> None:
    q = read(written(tmp_path / "a.safetensors", plain()), "w")
    assert q is not None
    assert np.array_equal(kb.dequantize(q), numbers([0, 1, 2, 3, 0, 3], [2, 2, 2, 2, 10, 10]))
    assert q.bits == 3 * 8 + 2 * 32


def test_nested_bytes_by_hand(tmp_path: Path) -> None:
    q = read(written(tmp_path / "a.safetensors", nested()), "w")
    assert q is not None
    second = float(np.float32(np.float32(DYNAMIC8[0]) * np.float32(8)) + np.float32(3))
    assert np.array_equal(kb.dequantize(q), numbers([0, 1, 2, 3, 0, 3], [11, 11, 11, 11, second, second]))
    assert q.bits == 3 * 8 + 2 * 8 + 32 + 32  # codes, scales, the scale of scales, the offset


def test_fp4_by_hand(tmp_path: Path) -> None:
    tensors = plain()
    tensors["w.quant_state.bitsandbytes__fp4"] = tensors.pop("w.quant_state.bitsandbytes__nf4")
    q = read(written(tmp_path / "a.safetensors", tensors), "w")
    assert q is not None
    levels = np.array([0, 0.00520833333, 0.6666667, 1.0], np.float32)[[0, 1, 2, 3, 0, 3]]
    assert np.array_equal(kb.dequantize(q).reshape(-1), levels * np.array([2, 2, 2, 2, 10, 10], np.float32))


def test_what_is_not_of_bitsandbytes_is_left_to_others(tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", {"w": ("F32", np.ones((3, 2), np.float32))})
    assert read(file, "w") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"w.absmax": ("F32", np.ones(3, np.float32))}, "absmax of F32 [3], it holds 2 float32 numbers"),
        ({"w.absmax": ("F32", np.array([1, np.nan], np.float32))}, "absmax, it holds a number that is not finite"),
        ({"w": ("U8", np.zeros(4, np.uint8))}, "shape = [3, 2], its codes have 4 bytes"),
        ({"w.quant_state.bitsandbytes__nf4": text(blocksize=4)}, "quant_state, it cannot be read (KeyError)"),
        ({"w.quant_state.bitsandbytes__nf4": text(blocksize=0, shape=[6])}, "it cannot be read (ValueError)"),
        ({"w.quant_state.bitsandbytes__nf4": text(blocksize=4, shape=[2**60])}, "it cannot be read (ValueError)"),
        ({"w.quant_state.bitsandbytes__nf4": ("U8", np.full(9, 255, np.uint8))}, "(UnicodeDecodeError)"),
        ({"w.nested_absmax": ("F32", np.ones(1, np.float32))}, "nested_blocksize = None"),
    ],
)
def test_damage_is_told_in_one_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(kb.KbitError) as caught:
        read(written(tmp_path / "a.safetensors", plain() | change), "w")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_what_the_library_writes_decodes_to_what_it_decodes(kind: str, double: bool, tmp_path: Path) -> None:
    torch = heavy("torch")
    functional = heavy("bitsandbytes.functional")
    x = torch.tensor(np.random.default_rng(0).normal(size=(96, 256)).astype(np.float32))
    codes, state = functional.quantize_4bit(x, blocksize=64, quant_type=kind, compress_statistics=double)
    parts = {"w": codes} | {f"w.{name}": value for name, value in state.as_dict(packed=True).items()}
    names = {torch.uint8: "U8", torch.float32: "F32"}
    tensors = {name: (names[value.dtype], value.numpy()) for name, value in parts.items()}
    q = read(written(tmp_path / "a.safetensors", tensors), "w")
    assert q is not None
    assert np.array_equal(kb.dequantize(q), functional.dequantize_4bit(codes, state).numpy())


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_checkpoint_of_transformers_runs(family: str, kind: str, tmp_path: Path) -> None:
    """Loaded in 4 bits and saved by transformers; its products on the CPU round weights to bfloat16 (0.4 %)."""
    torch, transformers = heavy("torch"), heavy("transformers")
    heavy("bitsandbytes")
    from test_transformer import theirs

    model = theirs(family if family == "gpt2" else "llama-128", 0)
    model.save_pretrained(tmp_path / "float")
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "float", quantization_config=how, device_map="cpu", dtype=torch.float32
    )
    loaded.save_pretrained(tmp_path / "4bit")
    tokens = np.random.default_rng(0).integers(0, 97, (2, 12))
    with torch.no_grad():
        answer = loaded(torch.tensor(tokens)).logits.numpy()
    ours = load_model(tmp_path / "4bit")
    logits = ours.forward(tokens)
    assert ours.bits_per_parameter < 9
    assert np.abs(logits - answer).max() < 0.02 * np.abs(answer).max()
    decoded = load_model(tmp_path / "float").quantize(f"bnb-cuda-{kind}-double" if kind == "nf4" else "bnb-cuda-fp4")
    other = decoded.forward(tokens)
    assert np.abs(logits - other).max() < 0.05 * np.abs(other).max()
