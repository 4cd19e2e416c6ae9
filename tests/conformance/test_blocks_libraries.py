"""The adapters of block formats: each library answers, and one flipped code or scale in its answer is found."""

import warnings

import ml_dtypes
import numpy as np
import pytest
from helpers.libraries import needed

from kbit_ref.conformance.implementations.adapters import Adapter, adapters, block_adapters
from kbit_ref.conformance.implementations.worker import stored
from kbit_ref.conformance.inputs.of_stored import stored_cases
from kbit_ref.conformance.judge import judge_profile
from kbit_ref.conformance.matrix.block_pairs import BlockGroups
from kbit_ref.tensors.scheme import scheme

ADAPTERS = block_adapters()
HEAVY = {"bitsandbytes", "torchao", "compressed-tensors", "optimum-quanto", "hqq", "jax", "keras"}

# For each library the profile whose answer is changed, by their name.
CHANGED = {
    "bitsandbytes": "nf4",
    "compressed-tensors": "int4",
    "gguf": "Q8_0",
    "hqq": "4 bits",
    "jax": "scaled_dot_general nvfp4",
    "keras": "abs_max_quantize (-7, 7)",
    "onnx": "QuantizeLinear UINT4",
    "onnxruntime": "MatMulBnb4 FP4",
    "optimum-quanto": "qint8",
    "torchao": "fp8_e4m3 floor",
}


def libraries(names=CHANGED):
    marks = {name: [pytest.mark.slow, pytest.mark.heavy] if name in HEAVY else [] for name in names}
    return [pytest.param(name, marks=marks[name], id=name) for name in names]


def loaded(name: str) -> Adapter:
    adapter = ADAPTERS[name]
    needed(name, adapter.installed())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what they import
        adapter.load()
    return adapter


class Changed:
    """A library, in this process, with one value of a part changed in its largest answer."""

    def __init__(self, adapter: Adapter, part: str = "", by=None):
        self.adapter, self.part, self.by, self.done = adapter, part, by, False

    def __call__(self, theirs, source, **arrays):
        found = stored(self.adapter, theirs, source, arrays)
        if self.part and not self.done and arrays["x"].size > 10_000 and np.abs(arrays["x"]).max() < 1e5:
            flat = found.parts[self.part] = found.parts[self.part].copy()
            flat.reshape(-1)[-1] = self.by(flat.reshape(-1)[-1])
            self.done = True
        return found


def judged(adapter: Adapter, theirs: str, ask: Changed):
    profile = next(p for p in adapter.formats if p.theirs == theirs)
    return judge_profile(adapter, profile, ask)


def test_every_adapter_is_tried():
    assert set(CHANGED) == set(ADAPTERS)


@pytest.mark.parametrize("name", libraries())
def test_one_flipped_code_and_one_flipped_scale_are_found(name):
    adapter = loaded(name)
    theirs = CHANGED[name]
    plain = judged(adapter, theirs, Changed(adapter))
    raw = {"gguf": "packed", "bitsandbytes": "packed", "onnxruntime": "packed"}.get(name, "codes")
    wrong = judged(adapter, theirs, Changed(adapter, raw, lambda code: code ^ 1))
    assert wrong.part("codes").different == plain.part("codes").different + 1
    if plain.part("scales") is not None:  # onnx is given its scales
        scaled = judged(adapter, theirs, Changed(adapter, "scales", lambda scale: scale * 2))
        assert scaled.part("scales").different == plain.part("scales").different + 1
        assert scaled.part("codes").different == plain.part("codes").different


def test_onnxruntime_without_the_module_of_one_tool(monkeypatch):
    """Its tool for MatMulNBits needs onnx_ir: without it the operators and the other tool answer all the same."""
    import sys

    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    for name in [name for name in sys.modules if name.startswith("onnxruntime.quantization")]:
        monkeypatch.delitem(sys.modules, name)
    adapter = loaded("onnxruntime")
    x = np.ones((64, 64), np.float32)
    why = stored(adapter, "MatMulNBits 4 bits", "float32", {"x": x}).error
    assert why.startswith("it raised ModuleNotFoundError")
    assert why.endswith("; pip install onnx_ir")
    for theirs, more in (("QuantizeLinear INT8", {"scales": np.ones((64, 2), np.float32)}), ("MatMulBnb4 NF4", {})):
        assert stored(adapter, theirs, "float32", {"x": x, **more}).error == ""


@pytest.mark.slow
@pytest.mark.heavy
def test_what_jax_gets_behind_an_array_changes_nothing():
    """Arrays are padded to a few lengths: the answer for some rows is that among others, NaN among them."""
    adapter = loaded("jax")
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2050, 32)) * 2.0 ** rng.integers(-20, 20, (2050, 1))).astype(np.float32)
    x[[2, 2049]] = np.nan
    for mode in ("mxfp8", "nvfp4"):
        many = stored(adapter, f"scaled_dot_general {mode}", "float32", {"x": x}).parts  # as long as the third length
        for n in (1, 3, 2048):
            few = stored(adapter, f"scaled_dot_general {mode}", "float32", {"x": x[:n]}).parts
            assert few["codes"].shape == (n, 32)
            for name, part in few.items():
                assert part.tobytes() == many[name][:n].tobytes(), (mode, n, name)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_profiles_exist_and_are_named_once(name):
    adapter = ADAPTERS[name]
    assert len({p.name for p in adapter.formats}) == len(adapter.formats) > 0
    assert len({(p.theirs, source) for p in adapter.formats for source in p.sources}) == sum(
        len(p.sources) for p in adapter.formats
    )
    for profile in adapter.formats:
        scheme(profile.profile)


def test_no_adapter_reaches_into_private_names():
    """Public entry points only: no name of a library that begins with an underscore, some tensors' fields excepted."""
    import ast
    import inspect

    fields = {"_data", "_scale", "_shift"}  # of optimum-quanto's tensors, which have no public name for them
    for adapter in adapters().values():
        module = inspect.getmodule(type(adapter))
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                assert node.attr in fields
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                private = [n for n in names if any(part.startswith("_") for part in n.split("."))]
                assert set(private) <= {"__future__"}


@pytest.mark.slow
@pytest.mark.heavy
def test_bitsandbytes_never_gives_the_code_of_zero():
    """[1, 0, 0, ...] comes back with 2.125e-05: the fault is found unaided, shrunk to nothing but zeros, and named."""
    adapter = loaded("bitsandbytes")
    if adapter.version() != "0.50.2":
        pytest.skip("the fault is that of 0.50.2")
    row = judged(adapter, "blockwise", Changed(adapter))
    (kind,) = row.part("codes").differences
    assert kind.cause == "bnb-cpu-dynamic8"  # 65,536 bins, as the profile of that library has them
    assert kind.example.block == "[0 x 64]"
    assert kind.example.theirs.startswith("0x00 = -0.99296")
    assert kind.example.ours.startswith("0x7f = 0 ")
    assert row.part("scales").status == "agree"


@pytest.mark.slow
@pytest.mark.heavy
def test_bitsandbytes_takes_the_scale_of_another_block():
    """Rows of 96 are one and a half blocks of 64; the vector code looks scales up by row."""
    adapter = loaded("bitsandbytes")
    import torch

    if adapter.version() != "0.50.2" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the fault is that of 0.50.2 with AVX-512")
    row = judged(adapter, "nf4", Changed(adapter))
    kind = next(kind for kind in row.part("decoded").differences if kind.cause == "the scale of another block")
    assert kind.example.block == "array 2 x 96, block i full of i + 1"
    assert (kind.example.at, kind.example.theirs, kind.example.ours) == ("[1, 32]", "2", "3")


# What is asked beside casts and blocks --------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_dynamic_quantization(name):
    """[-1, 0, 3] is 4 / 255 apart: the zero point is round(63.75), and 3 / scale is round(191.25)."""
    x = np.array([[-1, 0, 3]], np.float32)
    parts = stored(loaded(name), "DynamicQuantizeLinear", "float32", {"x": x}).parts
    assert parts["codes"].tolist() == [[0, 64, 255]]
    assert (parts["scales"], parts["zero_points"]) == (np.float32(4) / np.float32(255), 64)
    assert parts["decoded"].tolist() == (np.float32([[-64, 0, 191]]) * parts["scales"]).tolist()
    zeros = stored(loaded(name), "DynamicQuantizeLinear", "float32", {"x": x * 0}).parts
    assert not zeros["decoded"].any()


def test_a_wrong_dynamic_quantization_of_zeros_is_found():
    adapter = loaded("onnxruntime")
    profile = next(each for each in adapter.profiles if each.theirs == "DynamicQuantizeLinear")

    def ones(theirs, source, **arrays):
        found = stored(adapter, theirs, source, arrays)
        if not arrays["x"].any():
            found.parts["decoded"] = np.ones_like(found.parts["decoded"])
        return found

    right, wrong = (judge_profile(adapter, profile, ask) for ask in (Changed(adapter), ones))
    assert right.part("decoded").status == "agree"
    assert wrong.part("decoded").status == "disagree"


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("make_tensor FLOAT8E4M3FN", [0x38, 0x7E, 0x00, 0xB8]),
        ("make_tensor FLOAT4E2M1", [0x2, 0x7, 0x0, 0xA]),
        ("make_tensor INT4", [1, None, 0, 0xF]),  # 1000 is beyond it
        ("to_float8e8m0 down", [127, 127 + 9, 0, None]),  # of a negative scale nothing is said
        ("saturate_cast float8_e4m3fn", [0x38, 0x7E, 0x00, 0xB8]),
    ],
)
def test_helpers_of_onnx(name, codes):
    x = np.array([1, 1000, 0, -1], np.float32)
    answer = np.asarray(loaded("onnx").encode(name, x, "float32")).view(np.uint8)
    answer &= 15 if name.endswith(("4E2M1", "INT4")) else 255
    assert [None if b is None else a for a, b in zip(answer.tolist(), codes, strict=True)] == codes


@pytest.mark.parametrize("name", ["ggml-q4_1", "ggml-q8_0", "uint4-b32@-1-minmax-f16", "int4-b32-absmax-bf16"])
def test_what_a_decoder_is_given_can_be_stored(name):
    """Scales and offsets of 16 bits are numbers of that type, and offsets are finite."""
    s = scheme(name)
    kind = np.float16 if s.scale_dtype == "f16" else ml_dtypes.bfloat16
    for _, q in stored_cases(s, "rows"):
        for part in [q.scales] if q.offsets is None else [q.scales, q.offsets]:
            with np.errstate(over="ignore"):
                assert (part.astype(kind).astype(np.float32) == part).all()
        assert q.offsets is None or np.isfinite(q.offsets).all()


def test_decoders_and_one_scale_for_all_have_no_pairs():
    """They store nothing, or one scale for all rows: nobody does the same to the same blocks."""
    groups = BlockGroups([ADAPTERS[name] for name in ("gguf", "onnx", "onnxruntime")])
    members = [profile for found in groups.formats.values() for _, profile, _ in found]
    assert {"Q8_0", "QuantizeLinear INT8"} <= {profile.theirs for profile in members}
    assert {profile.what for profile in members} == {"quantize"}
    assert "DynamicQuantizeLinear" not in {profile.theirs for profile in members}


def test_gguf_reads_the_code_of_minus_zero_as_zero():
    """Its table of MXFP4 is of integers; the other formats are read as they are defined."""
    parts = {"packed": np.full((1, 16), 0x88, np.uint8), "scales": np.float32([[2]]), "shape": np.array([1, 32])}
    answer = loaded("gguf").dequantize("dequantize MXFP4", parts | {"scale_bytes": np.uint8([[128]])})
    assert (answer == 0).all()
    halves = loaded("gguf").dequantize("dequantize Q4_0", parts | {"packed": np.full((1, 16), 0x9F, np.uint8)})
    assert halves.tolist() == [[14.0] * 16 + [2.0] * 16]  # low nibbles first, then the high ones, less 8
