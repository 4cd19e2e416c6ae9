"""bitsandbytes' tables: a few entries as it made them, and all of them where it is installed."""

import warnings
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

import kbit_ref as kb

FLOATS = [name for name in kb.datatypes(grammar=True) if name.startswith("bnbfloat")]


def distinct(name: str) -> Any:
    """The different levels of a type as float32, ascending."""
    return np.unique(kb.datatype(name).levels.astype(np.float32))


ENTRIES = {  # of np.unique(table), made by bitsandbytes 0.50.2
    "bnbfloat8_e4m3": {
        0: "-0x1p+0",
        1: "-0x1.dddddep-1",
        2: "-0x1.bbbbbcp-1",
        60: "-0x1.777778p-8",
        126: "-0x1.111112p-20",
        127: "0x0p+0",
        128: "0x1.111112p-20",
        129: "0x1.111112p-19",
        200: "0x1.333334p-7",
        253: "0x1.dddddep-1",
        254: "0x1p+0",
    },
    "bnbfloat8_e5m2": {
        0: "-0x1p+0",
        1: "-0x1.b6db6ep-1",
        60: "-0x1p-15",
        126: "-0x1.24924ap-35",
        127: "0x0p+0",
        128: "0x1.24924ap-35",
        200: "0x1.6db6dcp-14",
        254: "0x1p+0",
    },
    "bnbfloat4_e2m1": {
        0: "-0x1p+0",
        1: "-0x1.555556p-1",
        2: "-0x1p-1",
        3: "-0x1.555556p-2",
        4: "-0x1p-2",
        5: "-0x1.555556p-3",
        6: "-0x1.555556p-6",
        7: "0x0p+0",
        8: "0x1.555556p-6",
        14: "0x1p+0",
    },
    "udynamic8": {
        0: "0x0p+0",
        1: "0x1.5cf754p-22",
        2: "0x1.a0133p-21",
        40: "0x1.e147aep-9",
        100: "0x1.00f5c4p-4",
        128: "0x1.c4ccccp-4",
        200: "0x1.3bccccp-1",
        254: "0x1.fe3334p-1",
        255: "0x1p+0",
    },
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries(name: str) -> None:
    levels = distinct(name)
    assert {at: levels[at] for at in ENTRIES[name]} == {at: float.fromhex(v) for at, v in ENTRIES[name].items()}


@pytest.fixture(scope="module")
def functional() -> Any:
    """`bitsandbytes.functional`; what it warns of while it is imported is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heavy("torch")
        return heavy("bitsandbytes.functional")


@pytest.mark.heavy
@pytest.mark.parametrize("bits", range(2, 9))
def test_dynamic(functional: Any, bits: int) -> None:
    signed, unsigned = (functional.create_dynamic_map(s, bits - 1, bits).numpy() for s in (True, False))
    assert np.array_equal(np.unique(signed), distinct(f"dynamic{bits}"))
    assert np.array_equal(np.unique(unsigned), distinct(f"udynamic{bits}"))


@pytest.mark.heavy
@pytest.mark.parametrize("bits", range(2, 9))
def test_linear(functional: Any, bits: int) -> None:
    assert np.array_equal(np.unique(functional.create_linear_map(True, bits).numpy()), distinct(f"linear{bits}"))


@pytest.mark.heavy
@pytest.mark.parametrize("name", FLOATS)
def test_floats(functional: Any, name: str) -> None:
    bits, split = name.removeprefix("bnbfloat").split("_e")
    exponent, precision = map(int, split.split("m"))
    if precision == 0:
        return  # bitsandbytes makes none; the formula is the same
    table = functional.create_fp8_map(True, exponent, precision, int(bits)).numpy()
    assert np.array_equal(np.unique(table), distinct(name))


@pytest.mark.heavy
def test_four_bits(functional: Any) -> None:
    for theirs, ours in (("nf4", "nf4"), ("fp4", "fp4_bnb")):
        table = functional.get_4bit_type(theirs, device="cpu").numpy()
        assert np.array_equal(table, kb.datatype(ours).levels.astype(np.float32)), theirs
    af4 = functional.get_4bit_type("af4", device="cpu").numpy()  # it lists this one from the top
    assert np.array_equal(af4[::-1], kb.datatype("af4_b64").levels.astype(np.float32))
