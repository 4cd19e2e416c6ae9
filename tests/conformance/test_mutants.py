"""Mutants: the reference equals `kb.quantize`, every mutant differs from it somewhere, no two are equal everywhere."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.variants import CONSTRUCTED, Mutant, mutants
from kbit_ref.errors import KbitError
from kbit_ref.tensors.steps import ORDER, READER, WRITER, Output, Runner, read, reference, run

# Schemes that show every mutant: formats of libraries, and what none of them has.
SCHEMES = (
    *("bnb-cuda-nf4", "bnb-cpu-fp4", "bnb-nested", "torchao-nf4", "ocp-mxfp4", "ocp-mxfp8-e4m3", "ct-nvfp4"),
    *("ggml-q4_0", "ggml-q5_0", "ggml-q4_1", "ort-matmulnbits-4-asym", "keras-int4", "mlx-affine-3", "bnb-dynamic8"),
    *("int4-b32-absmax-f32", "int3-b32-absmax-f16", "uint3-b32-minmax-f16+layout=word3", "int4-b64-signedmax-f32"),
    *("int4-b32@-1-absmax-f32+layout=awq4", "nf4-b48@-1-absmax-f32", "nf4-b48-absmax-f32+arith=reciprocal"),
    *("uint4-b48@-1-minmax-f16", "uint4-b32@-1-affine-f32", "e4m3fnuz-b64-absmax-f32"),
    *("e5m2-b64-absmax-f32+inf=saturate+nan=code", "e4m3fn-b32@-1-pow2ceil-e8m0fnu+nan=code"),
    *("int4-b64-absmax-f16+scaleuse=unrounded", "int5-b48@-1-absmax-f32+arith=reciprocal", "jax-nvfp4"),
    *("torchao-mxfp4", "quanto-qint4-zeropoint"),
)


def arrays(text: str) -> list[Any]:
    """The probe; rows of an odd number of elements; NaN of several kinds, where NaN has a code."""
    found = [kb.probe(text)]
    if found[0].ndim == 2:
        found.append(np.random.default_rng(3).standard_normal((6, 5)).astype(np.float32))
    if kb.scheme(text)["nan"] == "code":
        words = np.array([0x3F800000, 0x7F800001, 0x7FA00000, 0xFFC00001] * 16, np.uint32)
        found.append(words.view(np.float32).reshape(2, 32))
    return found


@cache
def outputs(text: str) -> dict[str, bytes]:
    """What each applicable mutant makes of the arrays, those left out that change nothing; the reference is ''."""
    runners, steps = [Runner(x) for x in arrays(text)], reference(text)

    def made_by(steps: Any) -> bytes:
        made = b""
        for runner in runners:
            try:
                made += everything(runner(steps))
            except KbitError:
                made += b"refused"
        return made

    found = {"": made_by(steps)}
    for name, mutant in mutants().items():
        mutated = mutant(steps)
        if mutated is not None and (made := made_by(mutated)) not in (found[""], b"refused" * len(runners)):
            found[name] = made
    return found


def everything(output: Output) -> bytes:
    """An output as bytes."""
    parts = [(name, part.shape, part.dtype.str, part.tobytes()) for name, part in output.parts().items()]
    return repr(parts).encode()


@pytest.mark.parametrize("name", kb.profiles())
def test_the_reference_is_the_library(name: str) -> None:
    x = kb.probe(name)
    q, output = kb.quantize(x, name), run(reference(name), x)
    for part in ("packed", "codes", "scales", "offsets", "zero_points", "global_scale"):
        assert same(getattr(output, part), getattr(q, part)), part
    assert same(output.values, kb.dequantize(q))


@pytest.mark.parametrize("text", ["nf4-b48-absmax-f32+arith=reciprocal+tailarith=divide", "uint4-b32@0-affine-f32"])
@pytest.mark.parametrize("shape", [(100,), (7, 50), (2, 3, 50)])
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_shapes_and_sources(text: str, shape: tuple[int, ...], source: str) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(source)
    q, output = kb.quantize(x, text), run(reference(text, source), x)
    assert same(output.packed, q.packed)
    assert same(output.scales, q.scales)
    assert same(output.values, kb.dequantize(q))


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, or both absent."""
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_there_are_enough() -> None:
    assert len(mutants()) >= 40
    assert sum(m.source == CONSTRUCTED for m in mutants().values()) <= len(mutants()) // 6


@pytest.mark.parametrize("mutant", mutants().values(), ids=lambda m: m.name)
def test_facts(mutant: Mutant) -> None:
    assert set(mutant.steps) <= set(ORDER)
    assert mutant.source == CONSTRUCTED or mutant.source.startswith("https://github.com/")
    assert mutant.why
    assert "\n" not in mutant.why
    assert "{" not in mutant.why
    assert mutant.why[0].islower() or mutant.why.split()[0].isupper() or not mutant.why[0].isalpha()
    assert mutant.side in ("writer", "reader", "both")
    assert mutant.build.__doc__


def test_every_mutant_differs_somewhere() -> None:
    shown = {name for text in SCHEMES for name in outputs(text)}
    assert set(mutants()) - shown == set()


def test_no_two_are_equal_everywhere() -> None:
    found: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for text in SCHEMES:
        for name, made in outputs(text).items():
            found[name][text] = made
    names = list(mutants())
    equal = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if found[a] == found[b]]
    assert equal == []


def test_two_that_are_equal_would_be_found() -> None:
    """The comparison above tells ties to even from ties away, and not ties to even from themselves."""
    text = "int8-b32-absmax-f32"
    runner, steps = Runner(kb.probe(text)), reference(text)
    away = mutants()["ties-away"](steps)
    assert away is not None
    assert everything(runner(away)) != everything(runner(steps))
    assert everything(runner(replace(steps, encode=steps.encode))) == everything(runner(steps))


@pytest.mark.parametrize("text", SCHEMES[::3])
def test_sides(text: str) -> None:
    """A writer's mutant changes what is stored; a reader's leaves it, and changes values given the right bytes."""
    runners, steps = [Runner(x) for x in arrays(text)], reference(text)
    stored = [runner.write(steps).stored for runner in runners]
    right = [read(steps, given) for given in stored]
    for name in outputs(text):
        if name:
            mutant = mutants()[name]
            mutated = mutant(steps)
            assert mutated is not None
            changed = {step for step in ORDER if getattr(mutated, step) is not getattr(steps, step)}
            assert changed <= set(mutant.steps)
            if mutant.side == "writer":
                assert changed <= set(WRITER)
            if mutant.side == "reader":
                assert changed <= set(READER)
                written = [runner.write(mutated).stored.packed for runner in runners]
                assert all(map(same, written, [given.packed for given in stored]))
                assert not all(map(same, [read(mutated, given) for given in stored], right))


def test_pairs_compose() -> None:
    steps = reference("int4-b4-absmax-f32")
    swapped, unsigned = mutants()["nibbles-swapped"], mutants()["sign-not-extended"]
    first = swapped(steps)
    assert first is not None
    both = unsigned(first)
    assert both is not None
    x = np.array([1.0, -2.0, 3.0, 7.0], np.float32)
    # by hand: the codes are 1, 14, 3, 7; read pairwise swapped 14, 1, 7, 3, and unsigned
    assert run(both, x).values.tolist() == [14, 1, 7, 3]


HAND = {  # what a few mutants make of a few numbers, by hand: (scheme, numbers, values)
    # 2.5 and -2.5 are ties: away from zero they are 3 and -3, to even 2 and -2
    "ties-away": ("int4-b4-absmax-f32", [7, 2.5, -2.5, 1], [7, 3, -3, 1]),
    "truncates": ("int4-b4-absmax-f32", [7, 2.9, -2.9, 1], [7, 2, -2, 1]),
    "half-added-in-float32": ("int4-b4-absmax-f32", [7, 0.49999997, -2.5, 1], [7, 1, -2, 1]),
    # -8 / -8: the scale is 1; 7.9 rounds to 8, which wraps to -8
    "wraps": ("int4-b2-signedmax-f32", [-8, 7.9], [-8, -8]),
    # codes 7, 3, 14, 1 as nibbles 37 1e hex; read from the high end: 3, 7, 1, 14 = -2
    "nibbles-swapped": ("int4-b4-absmax-f32", [7, 3, -2, 1], [3, 7, 1, -2]),
    "sign-not-extended": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 3, 14, 9]),
    # excess 7: codes 7, 3, 14 (-2), 9 (-7) read as code - 7
    "excess-one-less": ("int4-b4-absmax-f32", [7, 3, -2, -7], [0, -4, 7, 2]),
    # max(x) = 3.5, so the scale is 0.5, and -7 saturates at -8 * 0.5
    "max-without-abs": ("int4-b4-absmax-f32", [3.5, 3, -7, 1], [3.5, 3, -4, 1]),
    "scale-divides": ("int4-b2-absmax-f32", [14, 6], [3.5, 1.5]),
    "last-binade-saturates": ("e4m3fn-b2-absmax-f32", [448, 256], [448, 448]),
    "zero-block-nan": ("int4-b2-absmax-f32", [0, 0], [np.nan, np.nan]),
    "offset-subtracted": ("uint4-b2-minmax-f32", [1, 16], [-1, 14]),
    "zero-point-off-by-one": ("uint4-b2-affine-f32", [-5, 10], [-6, 9]),
    "fnuz-confused": ("e4m3fn-b2-absmax-f32", [448, 2], [224, 1]),
    "e2m1-entry-0.0625": ("e2m1fn-b2-absmax-f32", [6, 0.5], [6, 0.0625]),
    "part-of-each-block": ("int4-b4-absmax-f32", [7, 3, -2, 1], [7, 0, 0, 0]),
    "global-scale-ignored": ("e2m1fn-b2-absmax-e4m3fn+global=multiplier", [6, 3], [2688, 1344]),
    # scales: 14 / 7 = 2, 7 / 7 = 1; a byte of e8m0 is 127 + exponent
    "scale-dropped": ("int4-b2-absmax-f32", [14, 6, 7, 1], [7, 3, 7, 1]),
    "scale-without-bias": ("e2m1fn-b2-pow2floor-e8m0fnu", [6 * 2.0**-127, 2.0**-127], [6, 1]),
    "scale-with-another-bias": ("e2m1fn-b2-pow2floor-e8m0fnu", [6, 1], [3, 0.5]),
    "scale-byte-shifted": ("e2m1fn-b2-pow2floor-e8m0fnu", [4 * 2.0**-127, 2.0**-127, 6, 1], [0, 0, 6, 1]),
    "scale-byte-signed": ("e2m1fn-b2-pow2floor-e8m0fnu", [4, 1, 8, 2], [4, 1, 0, 0]),
    "scale-read-as-another-type": ("e2m1fn-b2-absmax-e4m3fn", [6, 1], [6 * 2.0**-71, 2.0**-71]),  # 1 is byte 56
    "scale-cut-to-a-power-of-two": ("int4-b2-absmax-f32", [21, 3], [14, 2]),
    "least-scale-halved": ("e2m1fn-b2-pow2floor-e8m0fnu", [4 * 2.0**-127, 2.0**-127], [2.0**-126, 2.0**-128]),
    "global-scale-uninitialised": ("e2m1fn-b2-absmax-e4m3fn+global=multiplier", [6, 3], [0, 0]),
    # 2^-128, as e2m1fn goes to 4 * 2^-126: the exponent 2^-129 has no byte, and wraps to that of 2^127
    "scale-exponent-wraps": ("e2m1fn-b2-pow2floor-e8m0fnu+scalerange=clamp", [2.0**-127, 0], [0, 0]),
    # blocks: 0 2, 1 3 in turns; the largest of each is 14 and 7
    "groups-strided": ("int4-b2-absmax-f32", [14, 7, 1, 1], [14, 7, 0, 1]),
    "scales-strided": ("int4-b2-absmax-f32", [14, 2, 7, 1], [14, 1, 14, 1]),
    "values-added-twice": ("int4-b2-absmax-f32", [7, 1], [14, 2]),
    "values-times-a-constant": ("int4-b2-absmax-f32", [10, 0], [np.float32(13), 0]),
    "blocks-written-twice": ("int4-b2-absmax-f32", [7, 1, 14, 2], [7, 1, 7, 1]),
    "written-elsewhere": ("int4-b2-absmax-f32", [7, 1, 14, 2], [0, 7, 1, 14]),
    "halves-swapped": ("int4-b2-absmax-f32", [7, 1, 14, 2], [14, 2, 7, 1]),
    "nothing-written": ("int4-b2-absmax-f32", [7, 1, 14, 2], [0, 0, 0, 0]),
    "last-element-lost": ("int4-b2-absmax-f32", [7, 1, 14, 2], [7, 1, 14, 0]),
    # codes: 7, 3, -2 = 14 = 1110, -7 = 9 = 1001
    "read-as-sign-and-magnitude": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 3, -6, -1]),
    "written-in-another-form": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 3, -6, -1]),  # 2 is 1010, 7 is 1111
    "wrong-stride": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 3, 6, 1]),
    "codes-shifted": ("int4-b4-absmax-f32", [7, 3, -2, -7], [-2, 6, -4, 2]),  # 1110, 0110, 1100, 0010
    # 7, 3, 14, 9 from the low bit: 1110 1100 0111 1001; by threes 111 011 000 111
    "codes-of-another-width": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 6, 0, 7]),
    "a-code-a-byte": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, -2, 0, 0]),
    "low-bits-dropped": ("int4-b4-absmax-f32", [7, 3, -2, -7], [6, 2, -2, -8]),
    "bytes-not-written": ("int4-b4-absmax-f32", [7, 3, -2, -7], [7, 3, 0, 0]),
    "excess-wraps": ("oint4-b2-absmax-f32", [7, -2], [7, 254]),
    "float-read-as-integer": ("e2m1fn-b2-absmax-f32", [6, -6], [7, -1]),  # 0111, 1111
    # without its bit of significand E2M1 has 0 1 2 4, and 3 and 1.5 are ties
    "fewer-significand-bits": ("e2m1fn-b4-absmax-f32", [6, 3, 1.5, 1], [4, 2, 2, 1]),
    # zero points: -5 ... 10 in uint4 is scale 1, zero point 5, codes 0 and 15
    "zero-point-dropped": ("uint4-b2-affine-f32", [-5, 10], [0, 15]),
    "zero-point-subtracted-twice": ("uint4-b2-affine-f32", [-5, 10], [-10, 5]),
    "zero-point-added-on-reading": ("uint4-b2-affine-f32", [-5, 10], [5, 20]),
    "zero-point-not-added": ("uint4-b2-affine-f32", [-5, 10], [-5, 5]),
    "zero-point-added-twice": ("uint4-b2-affine-f32", [-5, 10], [0, 10]),
    "zero-point-subtracted-on-writing": ("uint4-b2-affine-f32", [-5, 10], [-5, 0]),
    "zero-point-added-off-by-one": ("uint4-b2-affine-f32", [-5, 10], [-4, 10]),
    "zero-points-read-in-pairs": ("uint4-b2-affine-f32", [-5, 10], [-5, 10]),
    "code-minus-zero-wraps": ("uint4-b2-affine-f32", [-5, 10], [251, 10]),
    # 5 ... 20 is scale 1, zero point -5, which wraps to 11; 5 + 11 = 16 saturates at 15
    "zero-point-overflows": ("uint4-b2-affineplain-f32", [5, 20], [4, 4]),
    "offset-through-zero": ("uint4-b2-minmax-f32", [5, 15], [5, 15]),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    text, numbers, values = HAND[name]
    mutated = mutants()[name](reference(text))
    assert mutated is not None
    np.testing.assert_array_equal(run(mutated, np.array(numbers, np.float32)).values, np.array(values, np.float32))


def test_variants_have_other_parameters() -> None:
    lost = mutants()["last-blocks-lost"]
    variants = {variant.name: variant for variant in lost.variants()}
    assert variants["last-blocks-lost"] is lost
    assert len(variants) == 14
    for name, held in {"n=1": "0x0p0", "n=1, hold=0xa5": "-0x1.4b4b4ap-52"}.items():
        variant = variants[f"last-blocks-lost({name})"]
        assert "the last 1 blocks" in variant.why
        steps = variant(reference("int4-b2-absmax-f32"))
        assert steps is not None
        values = run(steps, np.array([7, 7, 7, 7], np.float32)).values.tolist()
        assert values == [7, 7, float.fromhex(held), float.fromhex(held)]


def test_nan_and_infinity_are_refused_as_in_quantize() -> None:
    with pytest.raises(KbitError, match="nan"):
        run(reference("int4-b2-absmax-f32"), np.array([1, np.nan], np.float32))
