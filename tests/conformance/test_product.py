"""`kb.check` of functions that multiply matrices: right ones agree, wrong ones are named."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.errors import BadInput
from kbit_ref.products.accumulate import accumulator

Array = Any
F = np.float32


def bf16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).astype(F)


def split_k(a: Array, b: Array) -> Array:
    total = np.zeros((len(a), b.shape[1]), F)
    for columns in np.array_split(np.arange(a.shape[1]), 4):
        total = bf16(total + bf16(a[:, columns] @ b[columns]))
    return total


def sequential(a: Array, b: Array) -> Array:
    total = np.zeros((len(a), b.shape[1]), F)
    for k in range(a.shape[1]):
        total = total + a[:, k : k + 1] * b[k]
    return total


def int8_activations(a: Array, b: Array) -> Array:
    scale = np.abs(a).max(axis=1, keepdims=True) / F(127)
    return np.rint(a / np.where(scale == 0, F(1), scale)).astype(F) * scale @ b


@pytest.mark.parametrize(
    ("function", "model"),
    [
        (np.matmul, "float32"),
        (sequential, "float32"),
        (sequential, "float32+order=sequential"),
        (lambda a, b: np.einsum("mk,kn->mn", a, b), "float32"),
        (lambda a, b: bf16(a @ b), "bfloat16_via_float32"),
        (lambda a, b: (a.astype(np.int32) @ b.astype(np.int32)).astype(np.int64), "int32"),
    ],
)
def test_right_products_agree(function: Any, model: str) -> None:
    verdict = kb.check(function, model, what="multiply")
    assert verdict.agree, str(verdict)
    assert verdict.tried > 70


@pytest.mark.parametrize(
    ("function", "model", "name"),
    [
        (split_k, "float32+out=bfloat16+order=sequential", "partial-sums-rounded(form=bfloat16, parts=4)"),
        (int8_activations, "float32", "activations-quantized(scheme=int8-channel-absmax-f32)"),
        (lambda a, b: bf16(a @ b), "float32+order=sequential", "result-rounded(form=bfloat16)"),
        (lambda a, b: (a @ b).astype(np.int16).astype(np.int64), "int32", "int-wraps(bits=16)"),
        (lambda a, b: (a.astype(F) @ b.astype(F)).astype(np.int64), "int32", "sums-in-float32"),
        (lambda a, b: np.zeros((len(a), b.shape[1]), F), "float32", "nothing-computed"),
    ],
)
def test_wrong_products_are_named(function: Any, model: str, name: str) -> None:
    verdict = kb.check(function, accumulator(model))
    assert verdict.status == "disagree"
    causes = [difference.cause for difference in verdict.differences]
    assert max(set(causes), key=causes.count) == name, str(verdict)


def test_answers_that_are_no_product_are_errors() -> None:
    def changes(a: Array, b: Array) -> Array:
        a[0] = 0
        return a @ b

    for function, text in (
        (lambda a, b: (a @ b).T, "has shape"),
        (changes, "it changed the matrices"),
        (lambda a, b: a @ b.T, "it raised ValueError"),
        (lambda a, b: np.rint(a @ b).astype(np.int64), "give real numbers"),
    ):
        verdict = kb.check(function, "float32", what="multiply")
        assert verdict.status == "error"
        assert text in str(verdict)
    with pytest.raises(BadInput, match="a product is judged by an accumulator"):
        kb.check(np.matmul, kb.datatype("int4"), what="multiply")
