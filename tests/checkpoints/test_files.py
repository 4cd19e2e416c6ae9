"""`kbit-ref quantize` and `dequantize`: what the files hold, what is refused, and what a kill or a full disk leaves."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
from helpers import children
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import kbit_ref as kb
from kbit_ref.checkpoints import Container, Writer, dequantize_file, open_checkpoint, quantize_file
from kbit_ref.checkpoints.header import Spec
from kbit_ref.checkpoints.kbit import _warn
from kbit_ref.checkpoints.pieces import AT_ONCE, contiguous, part_of, pieces
from kbit_ref.checkpoints.stored import parts
from kbit_ref.checkpoints.table import Tensor
from kbit_ref.cli import main
from kbit_ref.errors import BadInput
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.rules import RULES

BF16 = ml_dtypes.bfloat16
COMMAND = [sys.executable, "-m", "kbit_ref"]
ENV = os.environ | {"PYTHONPATH": str(Path(kb.__file__).parent.parent), "OMP_NUM_THREADS": "1"}


def numbers(shape: tuple[int, ...], dtype: object, seed: int) -> np.ndarray:
    """Some numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


TENSORS = {
    "a": numbers((37, 50), np.float32, 1),
    "layer.w": numbers((16, 3, 33), np.float16, 2),
    "head": numbers((24, 40), BF16, 3),
    "wide": numbers((5, 129), np.float64, 4),
    "bias": numbers((7,), np.float32, 5),
    "ids": np.arange(12).reshape(3, 4),
    "none": np.empty((0, 4), np.float32),
}
NO_NAME = "no floating tensor with a dimension and an element has such a name"
MATRICES = ("a", "layer.w", "head", "wide")

SCHEMES = [
    "nf4-b64-absmax-f32",
    "uint4-b32@-1-minmax-f16",
    "uint3-b16@0-affine-bf16",
    "e2m1fn-b32@-1-pow2floor-e8m0fnu",
    "e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier",
    "int8-channel-absmax-f32",
    "int8-channel@1-absmax-f16",
    "int4-tensor-absmax-f32",
    "nf4-b64-absmax-f32+double=bnb",
    "nf4-b64-absmax-f32+double=torchao",
    "int4-b32-signedmax-f16+layout=split4x32",
    "int5-b7@1-absmax-f32+center=tensor",
    "int5-b7@0-absmax-bf16+center=block",
    "uint4-b64-hqq-f16",
    "uint6-b20-affine-e4m4",
    "binary-b5-absmax-f32+scaleuse=unrounded",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of all kinds of tensors."""
    save_file(TENSORS, tmp_path / "in.safetensors", metadata={"format": "pt", "note": 'a "quoted" ü'})
    return tmp_path / "in.safetensors"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to write."""
    return tmp_path / "out.safetensors"


def test_a_file_by_hand(tmp_path: Path, out: Path) -> None:
    save_file({"X": np.array([[0.5, -1, 3, 6]], np.float32)}, tmp_path / "in")
    quantize_file(tmp_path / "in", "e2m1fn-b2-absmax-f32", out)
    found = load_file(out)
    assert sorted(found) == ["X.packed", "X.scales"]
    # 1/6: 3 and -6 are 0101 and 1111; 1: 3 and 6 are 0101 and 0111; the first in the low nibble
    assert found["X.packed"].tolist() == [0xF5, 0x75]
    assert found["X.scales"].tolist() == [[float(np.float32(1 / 6)), 1.0]]
    document = json.loads(Container(out).metadata["kbit_ref"])
    row = {"scheme": "e2m1fn-b2-absmax-f32", "shape": [1, 4], "dtype": "F32"}
    assert document == {"format": 1, "tensors": {"X": row}}


@pytest.mark.parametrize(
    ("scheme", "scales", "dtype"),
    [
        ("int8-b2-absmax-f16", [0x00, 0x3C, 0x00, 0x40], "F16"),  # 1 and 2, little-endian
        ("int8-b2-absmax-bf16", [0x80, 0x3F, 0x00, 0x40], "BF16"),
        ("int8-b2-pow2floor-e8m0fnu", [0x7F + 0, 0x7F + 1], "F8_E8M0"),
        ("int8-b2-absmax-e4m3fn", [0x38, 0x40], "F8_E4M3"),
        ("int8-b2-absmax-ue4m3", [0x38, 0x40], "U8"),
        ("uint4-b2-affine-f16", [0x00, 0x3C, 0x00, 0x40], "F16"),
    ],
)
def test_scales_take_the_bits_of_their_type(tmp_path: Path, scheme: str, scales: list[int], dtype: str) -> None:
    largest = (15, 30) if scheme.startswith("uint4") else (127, 254)
    save_file({"X": np.array([[largest[0], 1], [largest[1], 0]], np.float32)}, tmp_path / "in")
    quantize_file(tmp_path / "in", scheme, tmp_path / "out")
    entries = dict(safetensors.deserialize((tmp_path / "out").read_bytes()))
    assert list(entries["X.scales"]["data"]) == scales
    assert (entries["X.scales"]["dtype"], entries["X.scales"]["shape"]) == (dtype, [1, 2])


def test_zero_points_lie_packed(tmp_path: Path, out: Path) -> None:
    """-3 ... 12 has the zero point 3, and 0 ... 15 has 0: [3, 0, 3] in nibbles, the first one low."""
    save_file({"X": np.array([[-3, 12], [0, 15], [-3, 12]], np.float32)}, tmp_path / "in")
    quantize_file(tmp_path / "in", "uint4-b2-affine-f32", out)
    assert load_file(out)["X.zero_points"].tolist() == [0x03, 0x03]
    checkpoint = open_checkpoint(out)
    assert checkpoint["X"].zero_points.tolist() == [[3, 0, 3]]


def in_small_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int, neighbours: int = 4) -> None:
    """Tensors go through so many elements at a time."""
    monkeypatch.setitem(pieces.__kwdefaults__, "at_once", at_once)
    monkeypatch.setattr("kbit_ref.checkpoints.pieces.NEIGHBOURS", neighbours)
    monkeypatch.setattr("kbit_ref.checkpoints.pieces.TILE", 3)


@pytest.mark.parametrize("at_once", [AT_ONCE, 40])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_there_and_back(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, at_once: int) -> None:
    in_small_pieces(monkeypatch, at_once)
    quantize_file(source, scheme, out)
    back = out.with_name("back.safetensors")
    dequantize_file(out, back)
    found, checkpoint = load_file(back), open_checkpoint(out)
    assert sorted(found) == sorted(checkpoint) == sorted(TENSORS)
    assert Container(back).metadata == checkpoint.metadata == {"format": "pt", "note": 'a "quoted" ü'}
    for name, x in TENSORS.items():
        assert found[name].dtype == x.dtype
        if name not in MATRICES:
            assert found[name].tobytes() == np.asarray(checkpoint[name]).tobytes() == x.tobytes()
            continue
        q = kb.quantize(x, scheme)
        assert found[name].tobytes() == kb.dequantize(q).astype(x.dtype).tobytes()
        assert checkpoint.dequantize(name).tobytes() == kb.dequantize(q).tobytes()
        same(checkpoint[name], q)


def same(ours: kb.QTensor, wanted: kb.QTensor) -> None:
    """All fields are equal, to the bit."""
    assert (str(ours.scheme), ours.shape) == (str(wanted.scheme), wanted.shape)
    for field in ("packed", "scales", "offsets", "zero_points", "global_scale"):
        a, b = getattr(ours, field), getattr(wanted, field)
        assert (a is None) == (b is None)
        assert a is None or (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert (ours.double is None) == (wanted.double is None)
    if ours.double is not None:
        same(ours.double, wanted.double)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_file_has_the_bits_that_are_counted(source: Path, out: Path, scheme: str) -> None:
    """But for the padding of each part to whole groups of the layout, or bytes."""
    for tensor in quantize_file(source, scheme, out).tensors:
        counted = kb.quantize(TENSORS[tensor.name], scheme).bits
        assert 0 <= 8 * tensor.n_bytes - counted < 96


def test_every_field_is_stored() -> None:
    """A field that `QTensor` gets is an entry; the plan knows those of each scheme."""
    stored = {part.path.split(".")[0] for text in SCHEMES for part in parts(kb.scheme(text), (8, 64))}
    fields = set(kb.QTensor.__dataclass_fields__) - {"shape", "scheme"}
    assert stored == fields


LARGE = ["tensor", "channel@1", "b50@0"]  # pieces of 48 elements, or of 16 columns, hold a part of a block
RULED = {  # a scheme without its cut for every rule
    "absmax": "nf4-absmax-f32+nan=zero+inf=saturate",
    "absmaxhalf": "int4-absmaxhalf-f16+encoder=addhalf",
    "absmaxfull": "int8-absmaxfull-f32+scaleas=divisor+zeroblock=one",
    "percentile": "int8-percentile-f32+percentile=99",
    "clip": "int3-clip-bf16",
    "signedmax": "int4-signedmax-f16+zeroblock=quotient",
    "rms": "lloyd3-rms-f32+center=tensor",
    "minmax": "uint4-minmax-f16+arith=reciprocal",
    "affine": "uint5-affine-f32+flatzero=middle",
    "affineplain": "int6-affineplain-f32+flat=widen",
    "mlx": "uint4-mlx-f16",
    "hqq": "uint2-hqq-f32",
    "pow2floor": "e2m1fn-pow2floor-e8m0fnu+nan=zero",
    "pow2ceil": "e4m3fn-pow2ceil-e8m0fnu+nan=code",
    "pow2even": "e2m3fn-pow2even-e8m0fnu+arith=exact",
    "pow2even1": "e3m2fn-pow2even1-f32",
    "pow2rceil": "e5m2-pow2rceil-e8m0fnu+inf=saturate",
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cut", LARGE)
def test_a_block_larger_than_a_piece(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, cut: str, rule: str
) -> None:
    """The same bytes as of the tensor at once, for every rule, and whatever is odd in it."""
    in_small_pieces(monkeypatch, 48, neighbours=3)
    dtype, text = RULED[rule].split("-", 1)
    scheme = f"{dtype}-{cut}-{text}"
    if cut == "b50@0":  # the last one is short
        scheme += "+tail=pad" + "+tailarith=divide" * ("arith=reciprocal" in text)
    x = numbers((4, 31, 3), np.float32, 8)
    x[0, ::2, 0], x[3, ::2, 2] = 9, -9  # far from each other, of one magnitude
    x[2] = 0
    x[:, 5] = -0.0
    if "nan=" in text:
        x[1, 3], x[3] = np.nan, np.nan
    if "inf=" in text:
        x[0, 2, 2], x[0] = -np.inf, np.inf
    tensors = {"cube": x, "half": x.reshape(-1, 2).astype("f2"), "wide": (abs(x.reshape(62, 6)) + 1).astype("f8")}
    save_file(tensors, tmp_path / "in")
    quantize_file(tmp_path / "in", scheme, out)
    checkpoint = open_checkpoint(out)
    for name, value in tensors.items():
        same(checkpoint[name], kb.quantize(value, scheme))
    dequantize_file(out, tmp_path / "back")
    found = load_file(tmp_path / "back")
    for name, value in tensors.items():
        with np.errstate(over="ignore", invalid="ignore"):
            expected = kb.dequantize(kb.quantize(value, scheme)).astype(value.dtype)
        assert found[name].tobytes() == expected.tobytes(), name


cuts = st.sampled_from(["tensor", "channel", "channel@1", "b3", "b64", "b3@0", "b5@-1", "b2@1", "b7@1"])


@given(cut=cuts, shape=st.lists(st.integers(0, 20), min_size=2, max_size=3), data=st.data())
def test_pieces_are_the_rows_of_the_cut(cut: str, shape: list[int], data: st.DataObject) -> None:
    group, zeros = data.draw(st.sampled_from([1, 2, 8, 32])), data.draw(st.sampled_from([1, 8]))
    at_once, split = data.draw(st.integers(1, 100)), data.draw(st.booleans())
    x = np.arange(int(np.prod(shape))).reshape(shape)
    c = Cut.parse(cut)
    rows = c.rows(x)
    assert c.grid(x.shape) == rows.shape or x.size == 0
    seen, blocks, at = np.zeros(rows.shape, int), [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kbit_ref.checkpoints.pieces.NEIGHBOURS", data.draw(st.integers(1, 6)))
        found = list(pieces(c, x.shape, group, zeros, split=split, at_once=at_once))
    for piece in found:
        own = slice(*piece.elements.rows), slice(*piece.elements.columns)
        seen[own] += 1
        assert part_of(x, c, piece).reshape(piece.shape).tolist() == rows[own].tolist()
        assert contiguous(part_of(x, c, piece), piece.shape).tolist() == rows[own].tolist()
        for place, unit in ((piece.elements, group), (piece.blocks, zeros)):  # rectangles are of whole groups
            first, last = place.columns
            if not place.joined:
                assert place.length % unit == 0
                assert first % unit == last % unit == 0
        width = c.size or rows.shape[1]
        first, last = piece.elements.columns
        assert piece.blocks.columns == (first // width, -(-last // width))
        if piece.whole:
            assert first % width == 0
            assert last % width == 0 or last == rows.shape[1]
            blocks.append(piece.blocks)
        else:
            assert split
            assert piece.blocks.shape[1] == 1
            assert piece.elements.size <= at_once  # nothing else makes it larger
            if not blocks or blocks[-1] != piece.blocks:
                blocks.append(piece.blocks)
        if piece.elements.joined:  # what is joined to a group that is begun comes in order
            assert piece.elements.first % group == 0 or piece.elements.first == at
            at = piece.elements.first + piece.elements.size
    assert (seen == 1).all()
    assert len(set(blocks)) == len(blocks)  # the pieces of a block come one after another


@pytest.mark.parametrize(("length", "joined"), [(12, False), (13, True)])
def test_rectangles_are_of_whole_groups(length: int, joined: bool) -> None:
    """Rows of 12 codes fill whole bytes of two; of 13 they do not, and only whole rows go through together."""
    found = list(pieces(Cut.parse("b3@0"), (length, 8), 2, at_once=48))
    assert all(piece.elements.joined for piece in found) == joined


def test_which_tensors(source: Path, tmp_path: Path) -> None:
    def names(**options: list[str]) -> set[str]:
        out = tmp_path / "out"
        return {t.name for t in quantize_file(source, "int8-b4-absmax-f32", out, force=True, **options).tensors}

    assert names() == set(MATRICES)
    assert names(exclude=["h*", "wide"]) == {"a", "layer.w"}
    assert names(include=["bias", "layer.?"]) == {"bias", "layer.w"}
    assert names(include="layer*") == {"layer.w"}  # not the letters of the pattern
    assert names(include="*", exclude="a") == names(include=["*"], exclude=["a"]) == {"bias", "layer.w", "head", "wide"}


def test_values_beyond_the_type_round_once(tmp_path: Path, out: Path) -> None:
    """65504 in half precision: 1 level of scale 65536 is infinite in float16; bfloat16 rounds to even."""
    x = {"h": np.full((1, 2), 65504, np.float16), "b": np.array([[1 + 2**-7, 3]], BF16)}
    save_file(x, tmp_path / "in")
    quantize_file(tmp_path / "in", "int2-b2-pow2ceil-f32", out)
    dequantize_file(out, tmp_path / "back")
    assert load_file(tmp_path / "back")["h"].tolist() == [[np.inf, np.inf]]


def test_an_old_file_that_is_not_aligned(tmp_path: Path, out: Path) -> None:
    x = numbers((9, 65), np.float32, 7)
    header = json.dumps({"w": {"dtype": "F32", "shape": [9, 65], "data_offsets": [0, x.nbytes]}})
    header += " " * (-len(header) % 8 + 1)
    (tmp_path / "in").write_bytes(len(header).to_bytes(8, "little") + header.encode() + x.tobytes())
    for scheme in ("nf4-b64-absmax-f32", "nf4-tensor-absmax-f32", "int8-b64@0-absmax-f16+center=tensor"):
        quantize_file(tmp_path / "in", scheme, out, force=True)
        same(open_checkpoint(out)["w"], kb.quantize(x, scheme))


def test_plain_tensors_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with Writer(path, [Spec("b", "BF16", (2,)), Spec("f", "F8_E4M3", (2,)), Spec("i", "I8", (2,))]) as file:
        file.view("b")[:] = 0x80, 0x3F, 0x00, 0xC0
        file.view("f")[:] = 0x38, 0x7F
        file.view("i")[:] = 1, 255
    checkpoint = open_checkpoint(path)
    assert list(checkpoint) == ["b", "f", "i"]
    assert checkpoint["b"].tolist() == [1.0, -2.0]
    assert repr(checkpoint["f"].tolist()) == "[1.0, nan]"
    assert checkpoint["i"].tolist() == [1, -1]
    assert "x" not in checkpoint
    with pytest.raises(KeyError):
        checkpoint["x"]


# The command line --------------------------------------------------------------------------------


def said(argv: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails prints: one line, and exit code 2."""
    assert main([str(arg) for arg in argv]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.count("\n") == 1
    return told


def test_commands(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    back = out.with_name("back")
    assert main(["quantize", str(source), "int8-channel-absmax-f32", "-o", str(out)]) == 0
    printed, told = capsys.readouterr()
    assert printed.startswith(f"{out}: 4 tensors as int8-channel-absmax-f32, 3 copied\n")
    # 8 bits, and 32 for each of the 37 + 16 + 24 + 5 channels of 1850 + 1584 + 960 + 645 elements
    assert f"{8 + 32 * 82 / 5039:.3f} bits a quantized parameter" in printed
    assert told == ""
    assert main(["dequantize", str(out), "-o", str(back)]) == 0
    assert capsys.readouterr().out.startswith(f"{back}: 4 tensors dequantized, 3 copied\n")
    assert main(["quantize", str(source), "nf4-b64-absmax-f32", "-o", str(out), "--force", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["output"], document["copied"], document["after"]) == (str(out), 3, out.stat().st_size)
    assert {row["name"]: row["bytes"] for row in document["tensors"]}["a"] == 925 + 4 * 29
    assert main(["dequantize", str(out), "-o", str(back), "--force", "--json"]) == 0
    assert [row["shape"] for row in json.loads(capsys.readouterr().out)["tensors"] if row["name"] == "a"] == [[37, 50]]


@pytest.mark.parametrize(
    ("scheme", "options", "told"),
    [
        ("nf44-b64-absmax-f32", [], "did you mean nf4"),
        ("nf4-b64-absmin-f32", [], "did you mean absmax"),
        ("ocp-mxfp5", [], "did you mean ocp-mxfp4"),
        ("nf4", [], "a scheme is DTYPE-CUT-RULE-SCALE"),
        ("int8-channel@2-absmax-f32", [], "tensor wide: cut = channel@2 for x of 2 dimensions, axes are -2 to 1"),
        ("int8-b64@-1-absmax-f32+tail=error", [], "rows of 129 elements, blocks are of 64; pad x, or use +tail=own"),
        ("int8-b64-absmax-f32+rounding=stochastic_a", [], "files are quantized without random bits"),
        ("int8-b64-absmax-f32", ["--include", "layers.*"], f"include = layers.*, {NO_NAME}"),
        ("int8-b64-absmax-f32", ["--include", "ids"], f"include = ids, {NO_NAME}; the first of them are "),
        ("int8-b64-absmax-f32", ["--include", "none"], f"include = none, {NO_NAME}"),
        ("int8-b64-absmax-f32", ["--exclude", "hed"], f"exclude = hed, {NO_NAME}"),
        ("int8-b64-absmax-f32", ["--exclude", "*"], "no floating tensor of two or more dimensions to quantize"),
        ("int8-b64-absmax-f32", ["--threads", "0"], "it is a number of threads from 1"),
    ],
)
def test_mistakes(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str], scheme: str, options: list[str], told: str
) -> None:
    assert told in said(["quantize", source, scheme, "-o", out, *options], capsys)
    assert os.listdir(out.parent) == [source.name]


@pytest.mark.parametrize("scheme", ["nf4-b64-absmax-f32", "int8-channel@1-absmax-f16", "nf4-tensor-absmax-f32"])
@pytest.mark.parametrize("dtype", [np.float32, BF16])
def test_nan_is_named_by_tensor_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scheme: str, dtype: type
) -> None:
    in_small_pieces(monkeypatch, 64)
    x = np.ones((40, 50), dtype)
    x[33, 7] = np.nan
    save_file({"a": np.ones((3, 3), dtype), "model.w": x}, tmp_path / "in")
    told = said(["quantize", tmp_path / "in", scheme, "-o", tmp_path / "out"], capsys)
    assert told.startswith("kbit-ref quantize: model.w[33, 7] = nan, a block with NaN has no scale; ")
    assert os.listdir(tmp_path) == ["in"]


def test_input_and_output(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = source.read_bytes()
    quantize = ["quantize", source, "nf4-b64-absmax-f32"]
    (source.parent / "link").symlink_to(source)
    for same_file in (source, source.parent / "link", source.parent / "." / source.name):
        for force in ([], ["--force"]):
            assert "it is the input; name another output" in said([*quantize, "-o", same_file, *force], capsys)
    assert "there is no such folder" in said([*quantize, "-o", source.parent / "none" / "x"], capsys)
    (source.parent / "loop").symlink_to("pool")
    (source.parent / "pool").symlink_to("loop")
    for force in ([], ["--force"]):
        assert "loop, it is a link that ends nowhere" in said([*quantize, "-o", source.parent / "loop", *force], capsys)
    assert (source.parent / "loop").is_symlink()
    out.write_text("old")
    assert "it exists; name another output, or add --force" in said([*quantize, "-o", out], capsys)
    assert out.read_text() == "old"
    assert "there is no such file" in said(["quantize", "none", "nf4-b64-absmax-f32", "-o", out], capsys)
    assert "holds no tensors that kbit-ref has quantized" in said(["dequantize", source, "-o", out, "--force"], capsys)
    assert main([*map(str, quantize), "-o", str(out), "--force"]) == 0
    capsys.readouterr()
    again = ["quantize", out, "nf4-b64-absmax-f32", "-o", out.with_name("again")]
    assert "it holds tensors that kbit-ref has quantized; dequantize it first" in said(again, capsys)
    assert source.read_bytes() == content


def test_names_that_collide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.ones((2, 2), np.float32)
    save_file({"X": x, "X.scales": x[0]}, tmp_path / "in")
    told = said(["quantize", tmp_path / "in", "int8-b2-absmax-f32", "-o", tmp_path / "out"], capsys)
    assert "it would hold two tensors X.scales; rename one, or leave one out" in told
    assert os.listdir(tmp_path) == ["in"]


# Files that lie about what they hold -------------------------------------------------------------


def changed(source: Path, out: Path, change: object) -> Path:
    """A quantized file with other metadata of ours."""
    with Container(source) as old:
        document = json.loads(old.metadata["kbit_ref"])
        text = change(document)  # type: ignore[operator]
        metadata = {"kbit_ref": text if isinstance(text, str) else json.dumps(document)}
        with Writer(out, old.entries.values(), metadata) as new:
            for name in old.entries:
                new.view(name)[:] = old.raw(name)
    return out


def setting(**facts: object) -> object:
    """A change of what is said of X."""
    return lambda document: document["tensors"]["X"].update(facts)


LIES = {
    "nested": (lambda _: "[" * 50_000, "metadata kbit_ref is no JSON"),
    "no JSON": (lambda _: "{", "metadata kbit_ref is no JSON"),
    "deep": (lambda _: "[" * 70_000, "metadata kbit_ref is longer than its tensors explain"),
    "no object": (lambda _: "[]", "metadata kbit_ref has no tensors"),
    "no tensors": (lambda d: d.pop("tensors") and None, "metadata kbit_ref has no tensors"),
    "format 2": (lambda d: d.update(format=2), "its format is 2, this version reads 1; install a newer kbit_ref"),
    "no scheme": (lambda d: d["tensors"]["X"].pop("scheme") and None, "it has not just scheme, shape and dtype"),
    "a scheme of a number": (setting(scheme=4), "dtype or scheme is none that kbit-ref writes"),
    "a scheme of a page": (setting(scheme="nf4-b" + "9" * 600), "dtype or scheme is none that kbit-ref writes"),
    "an unknown scheme": (setting(scheme="nf44-b64-absmax-f32"), "tensor X: datatype: name = 'nf44'"),
    "another scheme": (setting(scheme="nf4-b32-absmax-f32"), "X.scales is F32 [1, 2], its scheme needs F32 [1, 4]"),
    "a scheme of more parts": (setting(scheme="uint4-b64-minmax-f32"), "X.offsets is not there, its scheme needs F32"),
    "an axis": (setting(scheme="nf4-b64@2-absmax-f32"), "cut = b64@2 for x of 2 dimensions"),
    "a shape of text": (setting(shape="12"), "the shape 12 is none of an array"),
    "a shape of true": (setting(shape=[True, 100]), "the shape [True, 100] is none of an array"),
    "a negative shape": (setting(shape=[-1, 100]), "the shape [-1, 100] is none of an array"),
    "a shape of nothing": (setting(shape=[0, 100]), "the shape [0, 100] is none of an array"),
    "a shape beyond memory": (setting(shape=[2**40, 2**40]), "is none of an array"),
    "a larger shape": (setting(shape=[2**30, 2**20]), "X.packed is U8 [50], its scheme needs U8 [562949953421312]"),
    "a type": (setting(dtype="I8"), "dtype or scheme is none that kbit-ref writes"),
    "another name": (lambda d: d["tensors"].update(Y=d["tensors"].pop("X")), "Y.packed is not there"),
    "a name that is there": (
        lambda d: d["tensors"].update({"X.packed": d["tensors"].pop("X")}),
        "tensor X.packed: the file holds the tensor itself too",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], lie: str) -> None:
    change, told = LIES[lie]
    save_file({"X": numbers((1, 100), np.float32, 1)}, tmp_path / "in")
    quantize_file(tmp_path / "in", "nf4-b64-absmax-f32", tmp_path / "quantized")
    changed(tmp_path / "quantized", out, change)
    assert told in said(["dequantize", out, "-o", tmp_path / "back"], capsys)
    with pytest.raises(BadInput):
        open_checkpoint(out)
    assert not (tmp_path / "back").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small quantized file with many kinds of parts."""
    folder = tmp_path_factory.mktemp("whole")
    save_file({"X": numbers((3, 20), BF16, 1), "b": np.ones(3, np.float32)}, folder / "in")
    quantize_file(folder / "in", "uint4-b8@-1-affine-f16", folder / "q")
    return folder / "q"


@given(flips=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), min_size=1, max_size=4), cut=st.booleans())
def test_damaged_files(whole: Path, flips: list[tuple[int, int]], cut: bool) -> None:
    """They dequantize to something, or are told in one line; the output is there, or is not."""
    content = bytearray(whole.read_bytes())
    for at, value in flips:
        content[at % len(content)] = value
    damaged, back = whole.with_name("damaged"), whole.with_name("back")
    damaged.write_bytes(content[: flips[0][0] % len(content)] if cut else content)
    back.unlink(missing_ok=True)
    told = ""
    try:
        dequantize_file(damaged, back)
    except kb.KbitError as error:
        told = str(error)
    assert told.isprintable()
    assert back.exists() == (told == "")
    assert not list(whole.parent.glob(".*"))


# Types that no registry knows ---------------------------------------------------------------------

RAMP = np.linspace(-1, 3, 4096)


def in_a_process(code: str, *args: object) -> str:
    """What a fresh Python prints."""
    argv = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(argv, env=ENV, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A file with one tensor."""
    save_file({"X": numbers((9, 65), np.float32, 1)}, tmp_path / "matrix")
    return tmp_path / "matrix"


def of_type(dtype: kb.DataType, text: str = "b64-absmax-f32") -> kb.Scheme:
    """A scheme of a type that is registered nowhere."""
    return dataclasses.replace(kb.scheme(f"nf4-{text}"), dtype=dtype)


OWN = [
    kb.learn(RAMP, "quantile4"),
    kb.learn(RAMP, "lloyd8"),
    kb.DataType.from_levels([-1, -0.0, 0, 0.1875, 2.5, np.nan, np.inf], name="odd_7", ties="away", beyond=4.0),
    kb.DataType.from_levels([-(2**-149), 0, 2**-149, 2.0**127], name="ends", unused=[1], ties="upper"),
]


@pytest.mark.parametrize("dtype", OWN, ids=str)
def test_a_type_of_its_own_is_read_by_a_fresh_process(matrix: Path, out: Path, dtype: kb.DataType) -> None:
    known = kb.datatypes()
    quantize_file(matrix, s := of_type(dtype), out)
    found = open_checkpoint(out)["X"]
    same(found, kb.quantize(load_file(matrix)["X"], s))
    assert found.scheme == s
    assert found.scheme.dtype == dtype
    assert main(["dequantize", str(out), "-o", str(out.with_name("here"))]) == 0
    assert kb.datatypes() == known  # nothing was registered, here
    subprocess.run([*COMMAND, "dequantize", out, "-o", out.with_name("there")], env=ENV, check=True)
    expected = kb.dequantize(kb.quantize(load_file(matrix)["X"], s))
    for name in ("here", "there"):
        assert load_file(out.with_name(name))["X"].tobytes() == expected.tobytes()
    code = "import sys, kbit_ref as kb; n = kb.datatypes(); q = kb.open_checkpoint(sys.argv[1])['X']"
    told = in_a_process(f"{code}; print(q.scheme, q.scheme.dtype.levels.tolist(), n == kb.datatypes())", out)
    assert told == f"{s} {dtype.levels.tolist()} True\n"


def test_levels_stand_in_hexadecimal(matrix: Path, out: Path) -> None:
    quantize_file(matrix, of_type(kb.DataType.from_levels([-1, 0.1875, 2], name="three", ties="zero")), out)
    with Container(out) as file:
        types = json.loads(file.metadata["kbit_ref"])["types"]
    assert set(types) == {"three"}
    levels = ["-0x1.0000000000000p+0", "0x1.8000000000000p-3", "0x1.0000000000000p+1", "0x1.0000000000000p+1"]
    assert {key: types["three"][key] for key in ("bits", "levels", "unused", "ties", "beyond")} == {
        "bits": 2,
        "levels": levels,
        "unused": [3],
        "ties": "zero",
        "beyond": None,
    }


def test_a_registered_type_and_its_choices(matrix: Path, out: Path) -> None:
    dtype = kb.register(kb.DataType.from_levels([-2, -1, 0, 1.5], name="registered_for_a_file"))
    scheme = "registered_for_a_file-tensor-absmax-f32+ties=away"
    quantize_file(matrix, scheme, out)
    q = open_checkpoint(out)["X"]
    assert q.scheme == kb.scheme(scheme)
    assert q.scheme.dtype == dtype.with_choices(ties="away")
    code = "import sys, kbit_ref as kb; q = kb.open_checkpoint(sys.argv[1])['X']; print(q.scheme, q.scheme.dtype.ties)"
    assert in_a_process(code, out) == f"{scheme} away\n"


def test_two_types_of_one_name(matrix: Path, out: Path) -> None:
    """Each file has its own, and what is registered under that name stays."""
    registered = kb.register(kb.DataType.from_levels([-1, 0, 1], name="three_of_a_file"))
    other = kb.DataType.from_levels([-1, 0, 0.5], name="three_of_a_file")
    quantize_file(matrix, of_type(registered), out)
    quantize_file(matrix, of_type(other), out.with_name("other"))
    for _ in range(2):
        assert open_checkpoint(out)["X"].scheme.dtype == registered
        assert open_checkpoint(out.with_name("other"))["X"].scheme.dtype == other
        assert kb.datatype("three_of_a_file") == registered


def test_a_type_that_a_file_cannot_hold(matrix: Path, out: Path) -> None:
    for dtype, told in [
        (kb.DataType.from_levels([-1, 0, 1], name="nf4"), "which is another scheme"),
        (kb.DataType.from_levels([-1, 0, 1], name="a type"), "a name is letters, digits, _ . ~"),
        (kb.DataType.from_levels([-1, 0, 1, -np.nan], name="odd_nan"), "which is another scheme"),
        (kb.datatype("e4m3fn+overflow=ieee"), "which is another scheme"),  # whose spelling leaves out the choice
        (kb.learn(RAMP, "quantile3").with_choices(ties="away"), "there is no such name"),
        (dataclasses.replace(kb.learn(RAMP, "quantile3"), name="quantile3~01234567"), "the hash of other levels"),
    ]:
        with pytest.raises(kb.KbitError, match=re.escape(told)) as caught:
            quantize_file(matrix, of_type(dtype), out)
        assert str(caught.value).startswith("quantize: ")
        assert not out.exists()


def of_the_type(**facts: object) -> object:
    """A change of what is said of the type."""
    return lambda document: next(iter(document["types"].values())).update(facts)


ONE, NAME = "0x1.0000000000000p+0", kb.learn(RAMP, "quantile2").name
TYPE_LIES = {
    "no table": (lambda d: d.update(types=[]), "metadata kbit_ref has types that are no table"),
    "no type": (lambda d: d["types"].clear(), f"name = '{NAME}', there is no such name"),
    "no row": (lambda d: d["types"].update({NAME: 4}), "it has not just bits, levels, unused"),
    "a fact too many": (of_the_type(family="p3109"), "it has not just bits, levels, unused"),
    "bits of text": (of_the_type(bits="2"), "bits = 2, schemes are for 1 to 8"),
    "bits of true": (of_the_type(bits=True), "bits = True, schemes are for 1 to 8"),
    "many bits": (of_the_type(bits=60), "bits = 60, schemes are for 1 to 8"),
    "few levels": (of_the_type(levels=[ONE] * 3), "it has not 2**2 levels"),
    "levels of numbers": (of_the_type(levels=[1.0] * 4), "a level is no number in hexadecimal"),
    "levels in decimal": (of_the_type(levels=["1.0"] * 4), "a level is no number in hexadecimal"),
    "a level beyond float64": (of_the_type(levels=["0x1p+9999"] * 4), "a level is no number in hexadecimal"),
    "a level between float32": (
        of_the_type(levels=["0x1.0000000000001p+0", ONE, ONE, ONE]),
        "levels[0] = 1.0000000000000002, it is not a float32 number",
    ),
    "only NaN": (of_the_type(levels=["nan"] * 4), "no finite level is left to emit"),
    "other levels": (of_the_type(levels=["0x0.0p+0", ONE, ONE, ONE]), "its name is the hash of other levels"),
    "unused of text": (of_the_type(unused=["0"]), "unused is no list of codes"),
    "unused beyond": (of_the_type(unused=[4]), "codes are 0 to 3"),
    "an unknown choice": (of_the_type(ties="often"), "ties = 'often'"),
    "a choice of a number": (of_the_type(ties=4), "a choice is no name"),
    "even where it cannot be": (of_the_type(ties="even", unused=[1]), "codes of the same parity"),
    "an overflow to nothing": (of_the_type(overflow="ieee"), "overflow = 'ieee', the level after the last"),
    "beyond of text": (of_the_type(beyond="x"), "a level is no number in hexadecimal"),
    "a name with a space": (lambda d: d["types"].update({"a b": {}}), "a name is letters, digits, _ . ~"),
    "a name of a page": (lambda d: d["types"].update({"a" * 101: {}}), "a name is letters, digits, _ . ~"),
    "another nf4": (
        lambda d: d["types"].update(nf2=d["types"][NAME]),
        "type: name = nf2, this version has another type of that name",
    ),
}


@pytest.mark.parametrize("lie", TYPE_LIES)
def test_types_that_lie(matrix: Path, out: Path, capsys: pytest.CaptureFixture[str], lie: str) -> None:
    change, told = TYPE_LIES[lie]
    quantize_file(matrix, of_type(kb.learn(RAMP, "quantile2")), out.with_name("good"))
    known = kb.datatypes()
    assert told in said(["dequantize", changed(out.with_name("good"), out, change), "-o", out.with_name("b")], capsys)
    assert kb.datatypes() == known
    assert not out.with_name("b").exists()


# Kill, full disk, memory -------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real refusal by the system, in a process that may write 10 kB files."""

    save_file({"w": numbers((200, 200), np.float32, 1)}, tmp_path / "in")
    (tmp_path / "out").write_text("old")
    rest = ["quantize", tmp_path / "in", "int8-b64-absmax-f32", "-o", tmp_path / "out", "--force"]
    argv = children.command(*rest, first=children.SHORT_FILES)
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "bytes are more than a file may have here" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
    assert (tmp_path / "out").read_text() == "old"


def killed_after(argv: list[object], seconds: float, number: signal.Signals) -> int:
    """Run, send a signal after so long; the exit code."""
    process = subprocess.Popen(
        children.command(*argv[len(COMMAND) :], first=children.INTERRUPTS),
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    process.send_signal(number)
    return process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files without names are of Linux")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_at_any_moment(tmp_path: Path, number: signal.Signals) -> None:
    """The output is the old one or complete, and nothing else is in the folder."""
    save_file({"w": numbers((4000, 4000), np.float32, 1), "v": numbers((1000, 999), BF16, 2)}, tmp_path / "in")
    out, argv = tmp_path / "out", [*COMMAND, "quantize", tmp_path / "in", "e2m1fn-b32-absmax-f16", "--force", "-o"]
    begin = time.monotonic()
    subprocess.run([*argv, tmp_path / "whole"], env=ENV, check=True, capture_output=True)
    seconds, whole = time.monotonic() - begin, (tmp_path / "whole").read_bytes()
    (tmp_path / "whole").unlink()
    draw, ends = random.Random(int(number)), set()
    for share in [*(draw.uniform(0, 1.1) for _ in range(12)), 3]:
        out.write_text("old")
        code = killed_after([*argv, out], share * seconds, number)
        left = out.read_bytes()
        assert left in (b"old", whole)
        assert code != 0 or left == whole
        assert sorted(os.listdir(tmp_path)) == ["in", "out"]
        ends.add(left == whole)
    assert ends == {True, False}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "scheme",
    [
        *("nf4-b64-absmax-f32", "e2m1fn-b16@-1-absmax-e4m3fn", "int8-b32@0-absmax-f16"),
        *("nf4-b64-absmax-f32+double=bnb", "nf4-tensor-absmax-f32", "uint3-channel@1-affine-f16"),
        *("lloyd4-b99999999-rms-f32", "int4-b64-absmax-f32+center=tensor"),
    ],
)
def test_memory(tmp_path: Path, scheme: str) -> None:
    """One tensor of 1 GB there and back; no page of the files is counted."""
    name, n_rows = "in", 1 << 17
    with Writer(tmp_path / name, [Spec("w", "BF16", (n_rows, 4096))]) as file:
        some = (numbers((1 << 20,), np.float32, 1).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        view = file.view("w").reshape(-1, some.size)
        for row in view:
            row[:] = some
            file.release()
    argv = ["quantize", tmp_path / name, scheme, "-o", tmp_path / "q"]
    assert peak([*COMMAND, *argv]) < 300e6
    assert peak([*COMMAND, "dequantize", tmp_path / "q", "-o", tmp_path / "back"]) < 300e6
    assert (tmp_path / "back").stat().st_size > 1e9


MEMORY = [  # tensors of one gibibyte of bfloat16, and what is said of them
    ("int4-tensor-percentile-f32", "w takes about 14.0 GB of memory, because percentile needs all of a block together"),
    ("int4-tensor-clip-f32", "w takes about 14.0 GB of memory, because clip needs all of a block together"),
    ("int4-b16-absmax-f32+double=torchao", "w takes about 0.5 GB of memory, because all its scales are quantized"),
    ("int4-tensor-absmax-f32+center=block", "w takes about 14.0 GB of memory, because center=block needs all"),
    ("int4-tensor-absmax-f32", None),
    ("int4-channel@1-percentile-f32", None),
    ("int4-b64-percentile-f32", None),
]


@pytest.mark.parametrize(("scheme", "told"), MEMORY)
def test_much_memory_is_told_before_it_is_taken(scheme: str, told: str | None) -> None:
    lines: list[str] = []
    tensor = Tensor("w", kb.scheme(scheme), (1 << 17, 1 << 12), "BF16")
    _warn(tensor, lines.append)
    assert lines == [] if told is None else lines[0].startswith(told)
    if told is not None:
        with pytest.warns(UserWarning, match=f"quantize: {told}"):
            _warn(tensor, None)


def test_much_memory_is_told_by_the_command(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbit_ref.checkpoints.kbit.MUCH", 1)
    monkeypatch.setattr("kbit_ref.checkpoints.writing.AT_ONCE", 1)
    argv = ["quantize", str(source), "int4-tensor-percentile-f32", "-o", str(out), "--include", "a"]
    assert main(argv) == 0
    told = capsys.readouterr().err
    assert told.startswith("kbit-ref quantize: a takes about 0.0 GB of memory, because percentile needs all of a block")
    assert told.count("\n") == 1


def peak(argv: list[object]) -> int:
    """The most memory of its own that a command has, in bytes."""
    process = subprocess.Popen(argv, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        most = max(most, 1024 * (sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)))
        time.sleep(0.01)
    assert process.wait() == 0
    assert most > 10e6  # a Python with NumPy: it was measured
    return most


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_measure_sees_memory() -> None:
    held = "import time; x = b'x' * 400_000_000; time.sleep(0.5)"
    assert peak([sys.executable, "-c", held]) > 400e6


@pytest.mark.parametrize("name", kb.profiles())
def test_every_profile_survives_a_file(name: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    source, small, back = (tmp_path / f"{part}.safetensors" for part in ("x", "q", "y"))
    save_file({"w": x}, source)
    quantize_file(source, name, small)
    dequantize_file(small, back)
    assert load_file(back)["w"].tobytes() == kb.dequantize(kb.quantize(x, name)).tobytes()
