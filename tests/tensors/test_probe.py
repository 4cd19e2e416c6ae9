"""`kb.probe`: the values separate a scheme from every choice that can make a difference to it."""

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.tensors.scheme import CHOICES

# What the choice cannot change for any input, or has no say in, by reasoning; everything else must be separated.
POWER_OF_TWO = ["arith=reciprocal", "arith=reciprocals", "arith=exact", "eps=1e-7", "eps=1e-5"]  # exact quotients
NEVER = {  # of each scheme: choices that are about other rules, other sources, short blocks, or what would be refused
    *("compute=float32", "compute=float64", "fill=zero", "inf=saturate", "nan=code", "nan=zero"),
    *("percentile=99", "percentile=99.5", "percentile=99.99", "signedtie=negative"),
    *("scalerange=clamp", "scalerange=keep", "scalerange=zeroblock"),
    *("tail=pad", "tail=error", "tailarith=divide", "zeroadd=before", "scaleuse=unrounded"),
    *("globalby=reciprocal", "flatzero=middle", "flat=widen"),
}
LEAST_USED = ["leastused=1e-38", "leastused=1.17549435e-38"]  # below every scale of a narrow type
EPS = ["eps=1e-7", "eps=1e-5"]  # of rules that add none
# one block has one scale, 1/3, which no least scale, no sum with 1e-7, and no second quantization of one number changes
CODE0 = ["zerocode=code0"]  # of types whose code 0 is 0.0
ONE_BLOCK = [*LEAST_USED, *CODE0, "eps=1e-7", "double=bnb", "double=torchao", "leastscale=0.015625", "leastscale=1e-5"]
ONE_BLOCK += ["double=bnb_cpu", "leastscale=1.1920929e-07", "zeroblock=one", "zeroblock=0.125", "zeroblock=0.015625"]

SEPARATED = {  # scheme: exceptions to NEVER, that are separated; and more that cannot be
    "int8-b64-absmax-f32": (["compute=float64"], CODE0),
    "nf4-b64-absmax-f32": (["compute=float64"], ["encoder=argmin"]),  # differences are exact next to a midpoint
    # a midpoint times a scale of 11 bits is a float32, and its neighbours are too far from it to be divided onto it
    "e4m3fn-b64-absmax-f16": (["scaleuse=unrounded"], [*LEAST_USED, *CODE0, "arith=exact"]),
    "int4-channel-absmax-f32": (["compute=float64"], CODE0),
    "int4-tensor-absmax-f32": (["compute=float64"], ONE_BLOCK),
    "uint4-b32@-1-affine-f32": (["zeroadd=before", "compute=float64", "flatzero=middle"], CODE0),
    "uint4-b32@-1-minmax-f16": (["scaleuse=unrounded", "compute=float64"], [*LEAST_USED, *CODE0, "arith=exact"]),
    "int4-b64-signedmax-f32": (["signedtie=negative", "compute=float64"], [*EPS, *CODE0]),
    "e2m1fn-b32@-1-pow2floor-e8m0fnu": ([], [*POWER_OF_TWO, *CODE0]),
    "e2m1fn-b16-absmax-e4m3fn+global=multiplier": (
        ["scaleuse=unrounded", "compute=float64", "globalby=reciprocal"],
        [*LEAST_USED, *CODE0, "globalat=top"],
    ),
}


def answer(text: str, x: np.ndarray) -> object:  # type: ignore[type-arg]
    """Everything that a scheme gives for x, to compare."""
    try:
        q = kb.quantize(x, text)
    except kb.KbitError:
        return "refused"
    parts = [q.codes, q.scales, q.offsets, q.zero_points, q.global_scale, kb.dequantize(q)]
    return [None if part is None else np.asarray(part).tobytes() for part in parts]


def neighbours(text: str) -> list[str]:
    """Every valid choice that the scheme does not make."""
    s, found = kb.scheme(text), []
    for name, values in CHOICES.items():
        for value in values:
            if value == s[name] or name in s.choices:
                continue
            try:
                kb.scheme(f"{text}+{name}={value}")
            except kb.KbitError:
                continue
            found.append(f"{name}={value}")
    return found


@pytest.mark.parametrize("text", SEPARATED)
def test_the_probe_separates(text: str) -> None:
    x = kb.probe(text)
    ours = answer(text, x)
    assert x.size == 4096
    assert ours != "refused"
    same = {choice for choice in neighbours(text) if answer(f"{text}+{choice}", x) == ours}
    exceptions, more = SEPARATED[text]
    assert same <= (NEVER - set(exceptions)) | set(more) | {"zeroblock=1.1920929e-07"}, same


def test_normals_do_not_separate() -> None:
    x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    text = "int8-b64-absmax-f32"
    assert answer(text, x) == answer(text + "+arith=reciprocal", x)
    assert answer(text, kb.probe(text)) != answer(text + "+arith=reciprocal", kb.probe(text))


@pytest.mark.parametrize("ties", ["away", "zero", "lower", "upper"])
def test_the_probe_separates_ties(ties: str) -> None:
    text = "int4-b64-absmax-f32"
    assert answer(text, kb.probe(text)) != answer(f"{text}+ties={ties}", kb.probe(text))


@pytest.mark.parametrize("name", kb.profiles())
def test_every_profile_has_a_probe(name: str) -> None:
    x = kb.probe(name)
    assert x.size == 4096
    assert answer(name, x) != "refused"
    assert np.array_equal(x, kb.probe(name), equal_nan=True)


@pytest.mark.parametrize("rounding", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_stochastic_rounding_has_a_probe(rounding: str) -> None:
    plain, drawn = (kb.probe(f"e2m1fn-b32-absmax-f16{more}") for more in ("", f"+rounding={rounding}"))
    assert drawn.shape == plain.shape
    assert np.isfinite(drawn).all()


def test_specials_are_there_where_they_have_an_answer() -> None:
    assert not np.isfinite(kb.probe("e4m3fn-b64-absmax-f32+nan=code+inf=saturate")).all()
    assert np.isfinite(kb.probe("e4m3fn-b64-absmax-f32")).all()
