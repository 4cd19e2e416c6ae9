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
)


@cache
def outputs(text: str) -> dict[str, bytes]:
    """What each applicable mutant makes of the probe, those left out that change nothing; the reference is ''."""
    runner, steps = Runner(kb.probe(text)), reference(text)
    found = {"": everything(runner(steps))}
    for name, mutant in mutants().items():
        mutated = mutant(steps)
        if mutated is None:
            continue
        try:
            made = everything(runner(mutated))
        except KbitError:
            continue
        if made != found[""]:
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
    assert sum(m.source == CONSTRUCTED for m in mutants().values()) <= 10


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
    x = kb.probe(text)
    runner, steps = Runner(x), reference(text)
    stored = runner.write(steps).stored
    right = read(steps, stored)
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
                assert same(runner.write(mutated).stored.packed, stored.packed)
                assert not same(read(mutated, stored), right)


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
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    text, numbers, values = HAND[name]
    mutated = mutants()[name](reference(text))
    assert mutated is not None
    np.testing.assert_array_equal(run(mutated, np.array(numbers, np.float32)).values, np.array(values, np.float32))


def test_variants_have_other_parameters() -> None:
    lost = mutants()["last-blocks-lost"]
    variants = list(lost.variants())
    assert variants[0] is lost
    assert variants[1].name == "last-blocks-lost(n=1)"
    assert "the last 1 blocks" in variants[1].why
    steps = variants[1](reference("int4-b2-absmax-f32"))
    assert steps is not None
    assert run(steps, np.array([7, 7, 7, 7], np.float32)).values.tolist() == [7, 7, 0, 0]


def test_nan_and_infinity_are_refused_as_in_quantize() -> None:
    with pytest.raises(KbitError, match="nan"):
        run(reference("int4-b2-absmax-f32"), np.array([1, np.nan], np.float32))
