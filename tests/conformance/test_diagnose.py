"""`diagnose` names what is wrong: mutants, faults written apart from them, pairs; and accuses no correct library."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import cases, light, needed

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.conformance.diagnosis import Diagnosis, diagnose
from kbit_ref.conformance.implementations.adapters import Adapter, KnownDifference, block_adapters
from kbit_ref.conformance.implementations.worker import stored as stored_by
from kbit_ref.conformance.variants import mutants
from kbit_ref.errors import BadInput, KbitError
from kbit_ref.tensors.steps import Runner, reference

SECONDS = 4.0  # of the processor, for one diagnosis; pairs take half of it on an idle machine
F32 = np.float32


def normals(shape: tuple[int, ...] = (64, 64), seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


def timed(*args: Any, **kwargs: Any) -> Diagnosis:
    """A diagnosis, and that it takes no longer than it may."""
    began = time.process_time()
    found = diagnose(*args, **kwargs)
    assert time.process_time() - began < SECONDS
    return found


# Mutants --------------------------------------------------------------------------------------------

SINGLE = ("ggml-q4_0", "ort-matmulnbits-4-asym")
MORE = ("nf4-b48@-1-absmax-f32", "e4m3fn-b32@-1-pow2floor-e8m0fnu+nan=code", "int3-b32-absmax-f16")
ALL = (*kb.profiles(), *MORE, "uint4-b32@-1-affine-f32", "int4-b64-signedmax-f32")


def changed(text: str, x: Any) -> tuple[Any, dict[str, Any]]:
    """The reference's output, and that of each mutant that makes another one."""
    runner, steps = Runner(x), reference(text)
    ours = runner(steps)
    made = {}
    for name, mutant in mutants().items():
        mutated = mutant(steps)
        if mutated is None:
            continue
        try:
            output = runner(mutated)
        except KbitError:
            continue
        if differs(output, ours):
            made[name] = output
    return ours, made


def differs(a: Any, b: Any, names: tuple[str, ...] = ("values", "packed", "scales", "zero_points")) -> bool:
    for name in names:
        one, other = getattr(a, name), getattr(b, name)
        if one is not None and one.tobytes() != other.tobytes():
            return True
    return False


def stored(output: Any, ours: Any) -> dict[str, Any]:
    """What they stored, where it has the shape that it should have."""
    names = ("packed", "scales", "offsets", "zero_points", "global_scale")
    parts = {name: getattr(output, name) for name in names if getattr(output, name) is not None}
    return {name: part for name, part in parts.items() if np.shape(part) == np.shape(getattr(ours, name))}


def check_singles(text: str, x: Any, every: int = 1) -> int:
    """Every mutant is named first, or its equals are; from values alone where these differ."""
    ours, made = changed(text, x)
    for name, output in list(made.items())[::every]:
        alone = differs(output, ours, ("values",))
        found = timed(output.values, x=x, scheme=text, **({} if alone else stored(output, ours)))
        assert found.verdict in ("mistake", "choice", "zeros"), (text, name)
        assert found.explained == found.total
        assert name in found.names, (text, name, found.names)
        if found.names[0] != name and found.names[0] in made:  # then the two are equal here
            assert not differs(made[found.names[0]], output, ("values",))
    return len(made)


@pytest.mark.parametrize("text", SINGLE)
def test_every_mutant_is_named_on_the_probe(text: str) -> None:
    assert check_singles(text, kb.probe(text), 12) > 30


def test_every_mutant_is_named_on_random_numbers() -> None:
    assert check_singles("int4-b32@-1-absmax-f32", normals(), 12) > 20


@pytest.mark.slow
@pytest.mark.parametrize("text", [*ALL[::20], *MORE])
def test_every_mutant_of_many_profiles_is_named(text: str) -> None:
    assert check_singles(text, kb.probe(text)) > 20
    assert check_singles(text, normals()) > 10


def check_pairs(texts: tuple[str, ...], n: int, seed: int) -> tuple[int, int]:
    """(named, tried): pairs of mutants that change values, each alone too; in one account, or each of its answers."""
    rng = np.random.default_rng(seed)
    named = tried = 0
    while tried < n:
        text = str(rng.choice(texts))
        x = kb.probe(text) if tried % 2 else normals(seed=int(rng.integers(1000)))
        ours, made = changed(text, x)
        names = [name for name, output in made.items() if differs(output, ours, ("values",))]
        if len(names) < 2:
            continue
        for _ in range(4):
            first, second = (str(name) for name in rng.choice(names, 2, replace=False))
            one = mutants()[first](reference(text))
            assert one is not None
            both = mutants()[second](one)
            if both is None:
                continue
            try:
                output = Runner(x)(both)
            except KbitError:
                continue
            if not differs(output, ours, ("values",)):
                continue
            found = timed(output.values, x=x, scheme=text)
            tried += 1
            members = [set(member.split(" + ")) for member in found.names]
            single = [name for name in found.names if name in made and (made[name].values == output.values).all()]
            each = [{member.name for member in finding.members} for finding in found.findings]
            apart = all(any(name in names for names in each) for name in (first, second))
            named += found.explained == found.total and ({first, second} in members or bool(single) or apart)
    return named, tried


def test_pairs_are_named() -> None:
    named, tried = check_pairs(("ggml-q4_0", "int4-b32@-1-absmax-f32", "ocp-mxfp4"), 4, 3)
    assert named == tried


@pytest.mark.slow
def test_many_pairs_are_named() -> None:
    named, tried = check_pairs(ALL, 100, 4)
    assert named >= 0.95 * tried  # 98 of 102


# Faults that no mutant has made --------------------------------------------------------------------

SOURCE = r"""
#include <math.h>
#include <stdint.h>

/* Q4_0 from our parts: neighbours instead of halves */
void q4_0_in_pairs(const uint8_t *q, const float *d, float *y, int n) {
    for (int b = 0; b < n / 32; b++)
        for (int j = 0; j < 16; j++) {
            y[32 * b + 2 * j] = (float)((q[16 * b + j] & 15) - 8) * d[b];
            y[32 * b + 2 * j + 1] = (float)((q[16 * b + j] >> 4) - 8) * d[b];
        }
}
/* int4: the high nibble first */
void int4_high_first(const uint8_t *q, const float *d, float *y, int n) {
    for (int i = 0; i < n; i++) {
        int v = i % 2 ? q[i / 2] & 15 : q[i / 2] >> 4;
        y[i] = (float)(v >= 8 ? v - 16 : v) * d[i / 32];
    }
}
/* int4: the nibble as it is */
void int4_unsigned(const uint8_t *q, const float *d, float *y, int n) {
    for (int i = 0; i < n; i++) y[i] = (float)((q[i / 2] >> (4 * (i % 2))) & 15) * d[i / 32];
}
/* e4m3: the leading one also for exponent 0 */
void e4m3_no_subnormals(const uint8_t *q, const float *d, float *y, int n) {
    for (int i = 0; i < n; i++) {
        int e = q[i] >> 3 & 15, m = q[i] & 7;
        float v = ldexpf(1.0f + (float)m / 8, e - 7);
        y[i] = (q[i] & 128 ? -v : v) * d[i / 32];
    }
}
/* int8: lroundf, which is away from zero */
void int8_lround(const float *x, uint8_t *q, float *d, float *y, int n) {
    for (int b = 0; b < n / 32; b++) {
        float most = 0;
        for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[32 * b + j]));
        d[b] = most / 127;
        for (int j = 0; j < 32; j++) {
            int v = d[b] == 0 ? 0 : (int)lroundf(x[32 * b + j] / d[b]);
            q[32 * b + j] = (uint8_t)v;
            y[32 * b + j] = (float)v * d[b];
        }
    }
}
/* int8: a cast, which truncates */
void int8_cast(const float *x, uint8_t *q, float *d, float *y, int n) {
    int8_lround(x, q, d, y, n);
    for (int i = 0; i < n; i++) {
        int v = d[i / 32] == 0 ? 0 : (int)(x[i] / d[i / 32]);
        q[i] = (uint8_t)v;
        y[i] = (float)v * d[i / 32];
    }
}
/* E2M1 by comparisons, all of them >= */
void mxfp4_greater_equal(const float *x, uint8_t *q, float *d, float *y, int n) {
    static const float at[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
    static const float level[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (int b = 0; b < n / 32; b++) {
        float most = 0;
        int e = 0;
        for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[32 * b + j]));
        frexpf(most, &e);
        d[b] = most == 0 ? ldexpf(1, -127) : ldexpf(1, e - 3 < -127 ? -127 : e - 3);
        for (int j = 0; j < 32; j++) {
            float v = x[32 * b + j] / d[b];
            int c = 0;
            while (c < 7 && fabsf(v) >= at[c]) c++;
            q[32 * b + j] = (uint8_t)(c | (signbit(v) ? 8 : 0));
            y[32 * b + j] = (signbit(v) ? -level[c] : level[c]) * d[b];
        }
    }
}
"""


@cache
def compiled(folder: str) -> Any:
    """The faults in C."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "there is no C compiler"  # a failure, not a reason to skip
    source, library = Path(folder) / "faults.c", Path(folder) / "faults.so"
    source.write_text(SOURCE)
    flags = ["-O1", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-lm"], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(str(tmp_path_factory.mktemp("faults")))


def pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


READERS_IN_C = {
    "q4_0_in_pairs": ("ggml-q4_0", "split-read-linear"),
    "int4_high_first": ("int4-b32-absmax-f32", "nibbles-swapped"),
    "int4_unsigned": ("int4-b32-absmax-f32", "sign-not-extended"),
    "e4m3_no_subnormals": ("e4m3fn-b32-absmax-f32", "subnormals-read-as-normal"),
}


@pytest.mark.parametrize("name", READERS_IN_C)
def test_readers_in_c(c: Any, name: str) -> None:
    text, expected = READERS_IN_C[name]
    small = 2.0 ** np.random.default_rng(2).uniform(-18, 0, (64, 64))  # so that there are subnormals
    q = kb.quantize((normals() * small).astype(F32), text)
    y = np.empty(q.shape, F32)
    getattr(c, name)(pointer(q.packed), pointer(q.scales), pointer(y), y.size)
    found = timed(y, packed=q.packed, scales=q.scales, scheme=text)
    assert found.verdict == "mistake"
    assert expected in found.names


WRITERS_IN_C = {
    "int8_lround": ("int8-b32-absmax-f32", "ties-away"),
    "int8_cast": ("int8-b32-absmax-f32", "truncates"),
    "mxfp4_greater_equal": ("e2m1fn-b32-pow2floor-e8m0fnu", "ties-away"),
}


@pytest.mark.parametrize("name", WRITERS_IN_C)
def test_writers_in_c(c: Any, name: str) -> None:
    text, expected = WRITERS_IN_C[name]
    x = kb.probe(text)
    x = np.where(np.isfinite(x), x, F32(0))
    codes, scales, y = np.empty(x.shape, np.uint8), np.empty(x.size // 32, F32), np.empty(x.shape, F32)
    getattr(c, name)(pointer(x), pointer(codes), pointer(scales), pointer(y), x.size)
    found = timed(codes, x=x, scheme=text)
    assert expected in found.names, found
    assert timed(y, x=x, scheme=text, scales=scales).explained == found.total + scales.size


def blocks_of(x: Any, size: int = 32) -> Any:
    return x.reshape(-1, size)


def symmetric(x: Any, reach: float, top: int = 127, rounded: Callable[[Any], Any] = np.rint) -> Any:
    """Whole numbers of blocks of 32, and back."""
    b = blocks_of(x)
    scale = (np.abs(b).max(axis=1, keepdims=True) / F32(reach)).astype(F32)
    return (np.clip(rounded(b / scale), -top - 1, top).astype(F32) * scale).reshape(x.shape)


def nf4_typed(x: Any) -> Any:
    """NF4 with a digit of one entry swapped, in the table that both sides use."""
    levels = kb.datatype("nf4").levels.astype(F32)
    levels[12] = 0.4470  # 0.4407 it is
    b = blocks_of(x, 64)
    scale = np.abs(b).max(axis=1, keepdims=True)
    middle = (levels[1:] + levels[:-1]) / 2
    return (levels[np.searchsorted(middle, b / scale)] * scale).reshape(x.shape)


def int8_scaled(x: Any) -> Any:
    """Everything a factor too large."""
    q = kb.quantize(x, "int8-b32-absmax-f32")
    scales = q.scales.reshape(-1, 1) * F32(1.3)
    return (q.codes.view(np.int8).astype(F32).reshape(-1, 32) * scales).reshape(x.shape)


def int8_unfinished(x: Any) -> Any:
    """The last 5 blocks are not written."""
    values = symmetric(x, 127).reshape(-1)
    values[-160:] = 0
    return values.reshape(x.shape)


def affine(x: Any, more: int = 0, cut_off: bool = False) -> Any:
    """uint4 with a zero point in blocks of 32."""
    b = blocks_of(x)
    low, high = np.minimum(b.min(axis=1, keepdims=True), 0), np.maximum(b.max(axis=1, keepdims=True), 0)
    scale = (high - low) / F32(15)
    zero = (np.trunc if cut_off else np.rint)(-low / scale)
    codes = np.clip(np.rint(b / scale) + zero, 0, 15)
    return ((codes - (zero + more)).astype(F32) * scale).reshape(x.shape)


def mx_three_low(x: Any) -> Any:
    """MXFP8 with scales three powers of two too low."""
    b = blocks_of(x)
    scale = 2.0 ** (np.floor(np.log2(np.abs(b).max(axis=1, keepdims=True))) - 8 - 3)
    return (kb.decode("e4m3fn", kb.encode("e4m3fn", b / scale)) * scale).astype(F32).reshape(x.shape)


def signed_maximum(x: Any) -> Any:
    """int8 by max(x), and not by max|x|."""
    b = blocks_of(x)
    scale = b.max(axis=1, keepdims=True) / F32(127)
    return (np.clip(np.rint(b / scale), -128, 127).astype(F32) * scale).reshape(x.shape)


def groups_of_16(x: Any) -> Any:
    """Scales of blocks of 32 looked up as if the blocks were of 16."""
    q = kb.quantize(x, "int8-b32-absmax-f32")
    at = np.minimum(np.arange(x.size) // 16, q.scales.size - 1)
    return (q.codes.view(np.int8).reshape(-1).astype(F32) * q.scales.reshape(-1)[at]).reshape(x.shape)


def scales_across(x: Any) -> Any:
    """[rows, blocks] scales read as [blocks, rows]."""
    q = kb.quantize(x, "int8-b32@-1-absmax-f32")
    grid = q.scales.reshape(q.scales.shape[::-1]).T
    return q.codes.view(np.int8).astype(F32) * np.repeat(grid, 32, axis=1)


def by_columns(x: Any) -> Any:
    """Blocks along the wrong axis."""
    return np.ascontiguousarray(symmetric(np.ascontiguousarray(x.T), 127).T)


def ten_in_a_word(x: Any) -> Any:
    """3-bit codes of a dense stream, read ten to a word."""
    q = kb.quantize(x, "int3-b32-absmax-f32")
    raw = np.concatenate([q.packed, np.zeros(400, np.uint8)])
    words = raw[: raw.size // 4 * 4].view("<u4")
    codes = np.stack([(words >> np.uint32(3 * i)) & np.uint32(7) for i in range(10)], axis=1).reshape(-1)[: x.size]
    levels = np.where(codes > 3, codes - 8.0, codes).astype(F32)
    return (levels.reshape(-1, 32) * q.scales.reshape(-1, 1)).reshape(x.shape)


def minimum_subtracted(x: Any) -> Any:
    """uint4 with the minimum taken off once more."""
    q = kb.quantize(x, "uint4-b32-minmax-f32")
    levels = q.codes.reshape(-1, 32).astype(F32) * q.scales.reshape(-1, 1)
    return (levels - q.offsets.reshape(-1, 1)).reshape(x.shape)


def nf4_as_fp4(x: Any) -> Any:
    """NF4 codes looked up in the other table of the library."""
    q = kb.quantize(x, "nf4-b64-absmax-f32")
    levels = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], F32)
    return (np.concatenate([levels, -levels])[q.codes].reshape(-1, 64) * q.scales.reshape(-1, 1)).reshape(x.shape)


BY_HAND: dict[str, tuple[str, Callable[[Any], Any], str]] = {  # scheme, what they do, the line that names it
    "typed table": ("nf4-b64-absmax-f32", nf4_typed, "code 12 as 0.447 instead of 0.440"),
    "over 120": ("int8-b32-absmax-f32", lambda x: symmetric(x, 120), "divided by 120 instead of 127"),
    "over 7.25": ("int4-b32-absmax-f32", lambda x: symmetric(x, 7.25, 7), "divided by 7.25 instead of 7"),
    "times 1.3": ("int8-b32-absmax-f32", int8_scaled, "1.3 times"),
    "five blocks": ("int8-b32-absmax-f32", int8_unfinished, "the last 5 blocks"),
    "clamp to 5": (
        "int4-b32-absmax-f32",
        lambda x: symmetric(x, 7, 7, lambda y: np.clip(np.rint(y), -5, 5)),
        "clamped to -5 ... 5",
    ),
    "half up": ("int8-b32-absmax-f32", lambda x: symmetric(x, 127, 127, lambda y: np.floor(y + 0.5)), "floor(y + 0.5)"),
    "zero point + 2": ("uint4-b32-affine-f32", lambda x: affine(x, 2), "+2"),
    "zero point cut off": ("uint4-b32-affine-f32", lambda x: affine(x, cut_off=True), "cut off to an integer"),
    "three low": ("e4m3fn-b32-pow2floor-e8m0fnu", mx_three_low, "found as 2^-3 times"),
    "no abs": ("int8-b32-absmax-f32", signed_maximum, "max(x) instead of max|x|"),
    "groups of 16": ("int8-b32-absmax-f32", groups_of_16, "0.5 times as large"),
    "scales across": ("int8-b32@-1-absmax-f32", scales_across, "transpose"),
    "by columns": ("int8-b32@-1-absmax-f32", by_columns, "the other of the last two axes"),
    "ten in a word": ("int3-b32-absmax-f32", ten_in_a_word, "words of 32 // bits codes"),
    "minimum subtracted": ("uint4-b32-minmax-f32", minimum_subtracted, "offset is subtracted"),
    "nf4 as fp4": ("nf4-b64-absmax-f32", nf4_as_fp4, "table of bitsandbytes' FP4"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_faults_by_hand(name: str) -> None:
    text, fault, line = BY_HAND[name]
    x = kb.probe(text) if name == "half up" else normals(seed=7)
    x = np.where(np.abs(blocks_of(x)).max(axis=1, keepdims=True) > 0, blocks_of(x), F32(1)).reshape(x.shape)
    if name == "half up":
        x = np.where(np.isfinite(x), x, F32(0)) + F32(0)
    found = timed(fault(x), x=x, scheme=text)
    assert found.explained == found.total, found
    assert any(line in member.why for member in found.members), found


def test_there_are_enough_faults() -> None:
    assert len(READERS_IN_C) + len(WRITERS_IN_C) + len(BY_HAND) >= 15


# Correct libraries are not accused -------------------------------------------------------------------

ADAPTERS = block_adapters()
ACCUSED = ("mistake", "partly", "unexplained")
RIGHTLY = {"bnb-dynamic8": "+encoder=bnb_bins"}  # of the CPU, which by it moves zeros: `kbit-ref departures`
ROUGH = ("nvfp4",)  # decoded by their libraries in bfloat16: these values are left out


def right_answers(adapter: Adapter) -> list[tuple[str, Any, dict[str, Any]]]:
    """(profile, x, what they store) of every profile without a difference on record, for a few arrays."""
    found = []
    for profile in adapter.formats:
        s = kb.scheme(profile.profile)
        known = any(isinstance(k, KnownDifference) and k.concerns(profile.name) for k in adapter.known)
        decoder = profile.what == "decode"
        if known or decoder or "float32" not in profile.sources or s.double is not None:  # sums have other orders
            continue
        for seed, spread in enumerate((0, 6)):
            rng = np.random.default_rng(seed)
            x = (rng.standard_normal((32, 256)) * 2.0 ** rng.uniform(-spread, spread, (32, 1))).astype(F32)
            arrays = {"x": x}
            if profile.given:
                q = kb.quantize(x, s)
                arrays["scales"] = q.scales
                if q.zero_points is not None:
                    arrays["zero_points"] = q.zero_points
            made = stored_by(adapter, profile.theirs, "float32", arrays)
            if not made.error:
                parts = made.parts
                if any(word in profile.theirs.casefold() + str(s) for word in ROUGH):
                    parts.pop("decoded", None)
                found.append((profile.profile, x, parts))
    return found


def accused(adapter: Adapter) -> tuple[list[str], int]:
    """Who was accused, and how many answers there were."""
    answers = right_answers(adapter)
    wrong = []
    for profile, x, parts in answers:
        names = ("scales", "offsets", "zero_points", "global_scale", *(() if "order" in parts else ("packed", "codes")))
        given = {name: parts[name] for name in names if name in parts}
        found = timed(parts.get("decoded"), x=x, scheme=profile, **given)
        if found.verdict in ACCUSED and RIGHTLY.get(profile) not in found.names[:1]:
            wrong.append(f"{profile}: {found.sentence}")
    return wrong, len(answers)


def loaded(name: str) -> Adapter:
    adapter = ADAPTERS[name]
    needed(name, adapter.installed())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what they import
        adapter.load()
    return adapter


@pytest.mark.parametrize("name", ["gguf", "onnx", "onnxruntime"])
@pytest.mark.filterwarnings("ignore")
def test_light_libraries_are_not_accused(name: str) -> None:
    wrong, n = accused(loaded(name))
    assert wrong == []
    assert n >= 15


@pytest.mark.slow
@pytest.mark.parametrize("name", cases(sorted(set(ADAPTERS) - {"gguf", "onnx", "onnxruntime"})))
@pytest.mark.filterwarnings("ignore")
def test_other_libraries_are_not_accused(name: str) -> None:
    wrong, n = accused(loaded(name))
    assert wrong == []
    assert n >= 3


def cast_by_ml_dtypes(y: Any, name: str) -> Any:
    """float32 to the type and back."""
    ml_dtypes = light("ml_dtypes")
    kind = getattr(ml_dtypes, f"float{4 if name == 'e2m1fn' else 6 if name[1] in '23' else 8}_{name}")
    most = float(ml_dtypes.finfo(kind).max)
    return np.clip(y, -most, most).astype(kind).astype(F32)


def cast_by_gfloat(y: Any, name: str) -> Any:
    """The same."""
    formats = light("gfloat.formats")
    gfloat = light("gfloat")
    kinds = {"e4m3fn": "ocp_e4m3", "e5m2": "ocp_e5m2", "e2m1fn": "ocp_e2m1", "e2m3fn": "ocp_e2m3", "e3m2fn": "ocp_e3m2"}
    info = getattr(formats, f"format_info_{kinds[name]}")
    return gfloat.round_ndarray(info, y.astype(np.float64), sat=True).astype(F32)


@pytest.mark.parametrize("cast", [cast_by_ml_dtypes, cast_by_gfloat])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1fn", "e2m3fn", "e3m2fn"])
def test_casts_of_libraries_are_not_accused(cast: Callable[[Any, str], Any], name: str) -> None:
    text = f"{name}-b32@-1-pow2floor-e8m0fnu"
    for x in (normals((16, 64)), kb.probe(text)[::4]):
        x = np.where(np.isfinite(x), x, F32(0))
        q = kb.quantize(x, text)
        scale = np.repeat(q.scales, 32, axis=1)
        assert timed(cast(x / scale, name) * scale, x=x, scheme=text, scales=q.scales).verdict == "agrees"


# What is said ----------------------------------------------------------------------------------------


def test_the_sentence() -> None:
    x = normals()
    q = kb.quantize(x, "int4-b32-absmax-f32")
    swapped = kb.unpack(q.packed, "high4", x.size)
    values = (kb.decode("int4", swapped).reshape(-1, 32) * q.scales.reshape(-1, 1)).reshape(x.shape)
    found = diagnose(values, x=x, scheme="int4-b32-absmax-f32", packed=q.packed, scales=q.scales)
    assert found.verdict == "mistake"
    assert found.names[0] == "nibbles-swapped"
    assert found.sentence == (
        "3,740 answers differ (of 4,096 values, 2,048 bytes and 128 scales), all because the codes of a byte are read "
        "from the other end: the first one from the high bits instead of the low ones "
        "(nibbles-swapped, https://github.com/sgl-project/sglang/pull/23625)"
    )
    json.dumps(found.as_dict())


def test_two_that_are_the_same_here_are_told_apart() -> None:
    """From values alone nobody can say whether the writer or the reader swaps; the bytes tell, and one number does."""
    x = normals()
    q = kb.quantize(x, "int4-b32-absmax-f32")
    swapped = kb.unpack(q.packed, "high4", x.size)
    values = (kb.decode("int4", swapped).reshape(-1, 32) * q.scales.reshape(-1, 1)).reshape(x.shape)
    found = diagnose(values, x=x, scheme="int4-b32-absmax-f32")
    assert {"nibbles-swapped", "nibbles-packed-swapped"} <= set(found.names)
    settling = found.settle
    assert settling is not None
    assert settling.part == "packed"
    assert np.count_nonzero(settling.x) <= 2
    first, second = (mutants()[name](reference("int4-b32-absmax-f32")) for name in (settling.first, settling.second))
    assert first is not None
    assert second is not None
    made = [Runner(settling.x)(steps).packed[settling.index] for steps in (first, second)]
    assert made == list(settling.gives)


def test_what_is_not_explained_is_taken_apart() -> None:
    x = normals()
    text = "int4-b32-absmax-f32"
    q = kb.quantize(x, text)
    values = kb.dequantize(q).copy()
    values[2, 5] = 77
    found = diagnose(values, x=x, scheme=text)
    assert found.verdict == "unexplained"
    assert (found.explained, found.total) == (4095, 4096)
    assert found.first is not None
    assert (found.first.index, found.first.theirs) == ((2, 5), 77)
    assert found.first.explanation is not None
    assert found.first.explanation.code == q.codes[2, 5]
    assert "midpoint" in str(found)
    assert found.sentence.startswith("1 answer differs (of 4,096 values), for no reason that is known")
    json.dumps(found.as_dict())


def test_most_is_better_than_nothing() -> None:
    """Ties away and one value spoilt: the mistake is named, with what it leaves."""
    text = "int8-b32-absmax-f32"
    x = kb.probe(text)
    away = mutants()["ties-away"](reference(text))
    assert away is not None
    values = Runner(x)(away).values.copy()
    values[10, 10] += 1
    found = diagnose(values, x=x, scheme=text)
    assert found.verdict == "partly"
    assert found.names == ("ties-away", "+ties=away")
    assert found.total - found.explained == 1
    assert found.first is not None
    assert found.first.index == (10, 10)


def as_another(text: str, other: str) -> Diagnosis:
    x = kb.probe(text)
    x = np.where(np.isfinite(x), x, F32(0))
    return diagnose(kb.dequantize(kb.quantize(x, other)), x=x, scheme=text)


def test_what_a_document_allows_is_no_accusation() -> None:
    found = as_another("ocp-mxfp4", "e2m1fn-b32@-1-pow2ceil-e8m0fnu")  # OCP MX 1.0, section 6.3, allows other rules
    assert found.verdict == "choice"
    assert "no mistake in itself" in found.sentence


def test_what_no_document_says_is_a_mistake_whichever_library_does_it() -> None:
    found = as_another("int8-b32-absmax-f32", "int8-b32-absmax-f32+ties=away")
    assert found.verdict == "mistake"
    assert "ties-away" in found.names


def test_signs_of_zeros_are_told_and_not_held_against_anybody() -> None:
    x = normals()
    values = symmetric(x, 127)
    assert (np.signbit(values) & (values == 0)).any()
    found = diagnose(values, x=x, scheme="int8-b32-absmax-f32")
    assert found.verdict == "zeros"
    assert found.sentence.endswith("in the sign of a zero alone")
    assert found.members == ()


def test_answers_in_half_precision() -> None:
    q = kb.quantize(x := normals(), "nf4-b64-absmax-f32")
    assert diagnose(kb.dequantize(q).astype(np.float16), x=x, scheme="nf4-b64-absmax-f32").verdict == "agrees"


def test_scales_may_be_bytes_and_codes_may_be_negative() -> None:
    x = normals()
    q = kb.quantize(x, "ocp-mxfp4")
    found = diagnose(x=x, scheme="ocp-mxfp4", scales=kb.encode("e8m0fnu", q.scales), packed=q.packed.tobytes())
    assert found.verdict == "agrees"
    q = kb.quantize(x, "int4-b32-absmax-f32")
    signed = kb.decode("int4", q.codes).astype(np.int8)
    assert diagnose(signed, x=x, scheme="int4-b32-absmax-f32").verdict == "agrees"


def test_mistakes_of_the_caller() -> None:
    x = normals((4, 32))
    with pytest.raises(BadInput, match=r"theirs = None, there is nothing to judge"):
        diagnose(x=x, scheme="int4-b32-absmax-f32")
    with pytest.raises(BadInput, match=r"values of shape \(32, 4\)?|values of shape \(3, 4\)"):
        diagnose(np.zeros((3, 4), F32), x=x, scheme="int4-b32-absmax-f32")
    with pytest.raises(BadInput, match=r"x = None, without x the bytes that they read are needed"):
        diagnose(x, scheme="int4-b32-absmax-f32")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = normals()
    q = kb.quantize(x, "int4-b32-absmax-f32")
    right = kb.dequantize(q)
    turned = kb.unpack(q.packed, "high4", x.size)
    wrong = (kb.decode("int4", turned).reshape(-1, 32) * q.scales.reshape(-1, 1)).reshape(x.shape)
    for name, array in {"x": x, "right": right, "wrong": wrong, "packed": q.packed, "scales": q.scales}.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = {name: str(tmp_path / f"{name}.npy") for name in ("x", "right", "wrong", "packed", "scales")}
    scheme = "int4-b32-absmax-f32"
    assert main(["diagnose", scheme, "--x", files["x"], "--values", files["right"]]) == 0
    assert capsys.readouterr().out == "all 4,096 values equal the reference\n"
    options = ["--packed", files["packed"], "--scales", files["scales"], "--json"]
    assert main(["diagnose", scheme, "--values", files["wrong"], *options]) == 1
    assert json.loads(capsys.readouterr().out)["members"][0]["name"] == "nibbles-swapped"
    assert main(["diagnose", scheme, "--x", "x.txt", "--values", files["wrong"]]) == 2
    assert "it is no .npy" in capsys.readouterr().err
