"""A product that is wrong is named: each mistake is made here, in NumPy, apart from the variants."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.products.variants import product_variants

Array = Any
F = np.float32


def bf16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).astype(F)


def operands(k: int, seed: int = 0) -> tuple[Array, Array]:
    """Numbers of bfloat16, whose sums cancel."""
    rng = np.random.default_rng(seed)
    return bf16(rng.uniform(-1, 1, (16, k)).astype(F)), bf16(rng.uniform(-1, 1, (k, 8)).astype(F))


def split(a: Array, b: Array, parts: int) -> Array:
    """Partial sums in bfloat16, one after the other."""
    total = np.zeros((len(a), b.shape[1]), F)
    for columns in np.array_split(np.arange(a.shape[1]), parts):
        total = bf16(total + bf16(a[:, columns] @ b[columns]))
    return total


def int8_rows(a: Array) -> Array:
    """Each row in 8 bits: the largest magnitude over 127."""
    scale = (np.abs(a).max(axis=1, keepdims=True) / F(127)).astype(F)
    return np.rint(a / scale).astype(F) * scale


FAULTS: dict[str, Callable[[Array, Array], Array]] = {
    "activations-quantized(scheme=int8-channel-absmax-f32)": lambda a, b: int8_rows(a) @ b,
    "block-left-out(block=64)": lambda a, b: a[:, :-64] @ b[:-64],
    "times-constant(numerator=127, denominator=128)": lambda a, b: (a @ b) * F(127 / 128),
    "times(1.3)": lambda a, b: (a @ b) * F(1.3),
    "times(2^3)": lambda a, b: (a @ b) * F(8),
    "result-rounded(form=bfloat16)": lambda a, b: bf16(a @ b),
    "nothing-computed": lambda a, b: np.zeros((len(a), b.shape[1]), F),
    "sign-lost": lambda a, b: -(a @ b),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_product_is_named(name: str) -> None:
    a, b = operands(2048)
    found = kb.dot_bound(a, b, "float32+order=sequential").holds(FAULTS[name](a, b)).diagnosis
    assert found is not None
    assert found.names[0] == name
    assert found.explained > 0.9 * found.total


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_partial_sums_in_bfloat16_are_named(parts: int) -> None:
    a, b = operands(1024)
    bound = kb.dot_bound(a, b, "float32+out=bfloat16+order=sequential")
    judged = bound.holds(split(a, b, parts))
    assert judged.diagnosis is not None
    assert judged.diagnosis.names == (f"partial-sums-rounded(form=bfloat16, parts={parts})",)
    assert "modular/modular/issues/7165" in str(judged)
    assert bound.holds(bf16(a @ b)).diagnosis is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("int-wraps(bits=16)", lambda exact: exact.astype(np.int16)),
        ("int-wraps(bits=32)", lambda exact: exact.astype(np.int32)),
        ("int-saturates(bits=24)", lambda exact: np.clip(exact, -(2**23), 2**23 - 1)),
    ],
)
def test_integer_overflow_is_named(name: str, fault: Callable[[Array], Array]) -> None:
    rng = np.random.default_rng(1)
    most = 20_000 if "32" in name else 128
    a, b = rng.integers(most // 2, most, (4, 2048)), rng.integers(most // 2, most, (2048, 3))
    exact = a @ b
    model = "float64" if "32" in name else "int32"
    given = [x.astype(np.float64) for x in (a, b)] if model == "float64" else [a, b]
    found = kb.dot_bound(*given, model).holds(fault(exact).astype(np.float64 if model == "float64" else np.int64))
    assert found.diagnosis is not None
    assert found.diagnosis.names[0] == name


def test_whole_numbers_past_two_to_the_24_in_float32_are_named() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(900, 1001, (6, 601)), rng.integers(900, 1001, (601, 4))
    total = np.zeros((6, 4), F)
    for k in range(601):
        total += a[:, k : k + 1].astype(F) * b[k].astype(F)
    found = kb.dot_bound(a, b, "int32").holds(total.astype(np.int64)).diagnosis
    assert found is not None
    assert found.names == ("sums-in-float32",)


def test_noise_is_unexplained_and_a_right_product_is_not_accused() -> None:
    a, b = operands(2048, 3)
    bound = kb.dot_bound(a, b, "float32+order=sequential")
    noise = np.random.default_rng(4).standard_normal((16, 8)).astype(F)
    judged = bound.holds(a @ b + noise)
    assert judged.diagnosis is not None
    assert judged.diagnosis.names == ()
    assert "unexplained" in str(judged)
    for right in (
        a @ b,
        (b.T @ a.T).T,
        np.einsum("mk,kn->mn", a, b),
        sum(np.split(a, 4, 1)[i] @ np.split(b, 4)[i] for i in range(4)),
    ):
        assert bound.holds(right).diagnosis is None


def test_every_variant_says_what_it_is_and_where_it_happened() -> None:
    names = [variant.name for variant in product_variants()]
    assert len(names) == len(set(names))
    for variant in product_variants():
        assert variant.why
        assert variant.source == "constructed" or variant.source.startswith("https://github.com/")
