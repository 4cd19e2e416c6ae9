"""Errors: one line each, catchable as what they are, and with the nearest names."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.errors import BadInput, BadType, KbitError, MissingLibrary, UnknownName, message


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(BadInput, ValueError), (BadType, TypeError), (UnknownName, ValueError), (MissingLibrary, ImportError)],
)
def test_each_is_a_builtin_too(kind: type[KbitError], builtin: type[Exception]) -> None:
    assert issubclass(kind, KbitError)
    assert issubclass(kind, builtin)
    assert str(pickle.loads(pickle.dumps(kind("encode: x, y; z")))) == "encode: x, y; z"


def test_a_message_is_one_line() -> None:
    told = message("encode", "x = [1\n 2]", "it is   two lines", "flatten it")
    assert told == "encode: x = [1 2], it is two lines; flatten it"


@pytest.mark.parametrize(
    ("name", "near"),
    [("nf44", "nf4"), ("e4m3", None), ("int-4", "int4"), ("e4m3fnu", "e4m3fn"), ("fp4_bnd", "fp4_bnb"), ("zzzz", "")],
)
def test_near_misses(name: str, near: str | None) -> None:
    if near is None:
        assert kb.datatype(name).name == name
        return
    with pytest.raises(UnknownName) as caught:
        kb.datatype(name)
    text = str(caught.value)
    assert text.startswith(f"datatype: name = '{name}', there is no such name; ")
    assert (f"did you mean {near}" in text) if near else ("did you mean" not in text)
    assert text.endswith("`kbit-ref list` shows all; a type made at run time resolves after kb.register")
    assert "\n" not in text


@pytest.mark.parametrize(
    "name", ["", "+", "nf4+", "nf4+ties", "nf4+ties=even=odd", "nf04", " nf4", "Binary8p9se"]
)
def test_odd_spellings_are_refused(name: str) -> None:
    with pytest.raises(KbitError):
        kb.datatype(name)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: kb.datatype("E4M3FM"), r"datatype: name = 'E4M3FM', there is no such name; did you mean e4m3fn"),
        (lambda: kb.datatype("Binary8p9se"), r"datatype: .* names Binary\{K\}p\{P\}\{sign\}\{domain\}: "),
        (lambda: kb.decode("int4", [1], threads="2"), r"decode: threads = '2', it is a number of threads from 1"),
        (lambda: kb.quantize([1.0], "nf4-b4-absmax-f32", threads=-1), r"quantize: threads = -1, it is a number"),
        (lambda: kb.quantize([float("nan")], "nf4-b4-absmax-f32"), r"quantize: x\[0\] = nan, .*, or use \+nan=zero$"),
        (lambda: kb.quantize(np.float32("nan"), "e4m3fn-b4-absmax-f32"), r"quantize: x = nan, .*\+nan=code or"),
    ],
)
def test_the_way_out_is_told(call: Callable[[], object], text: str) -> None:
    with pytest.raises(kb.KbitError, match=f"^{text}"):
        call()
