"""Everyday names find the one thing that bears them, or the error lists what there is."""

import re
import sys

import pytest

import kbit_ref as kb
from kbit_ref.tensors.scheme import named


@pytest.mark.parametrize(
    ("everyday", "name"),
    [
        *(("NF4", "nf4"), ("FP4_BNB", "fp4_bnb"), ("binary8P3SE", "Binary8p3se"), ("E5M2", "e5m2")),
        *(("float8_e4m3fn", "e4m3fn"), ("Float8E4M3FN", "e4m3fn"), ("FLOAT8E5M2FNUZ", "e5m2fnuz")),
        *(("float8_e4m3", "e4m3"), ("float8_e8m0fnu", "e8m0fnu"), ("F8_E5M2", "e5m2"), ("ue8m0", "e8m0fnu")),
        *(("float4_e2m1fn_x2", "e2m1fn"), ("FLOAT4E2M1", "e2m1fn"), ("fp6_e3m2", "e3m2fn"), ("fp4 e2m1", "e2m1fn")),
        *(("half", "f16"), ("float16", "f16"), ("bfloat16", "bf16"), ("FP16", "f16")),
    ],
)
def test_a_name_for_one_type_finds_it(everyday: str, name: str) -> None:
    assert kb.datatype(everyday) == kb.datatype(name)
    assert kb.datatype(everyday).name == named(everyday).name == name


def test_choices_follow_an_everyday_name() -> None:
    assert kb.datatype("float8_e4m3fn+overflow=ieee").name == "e4m3fn+overflow=ieee"
    assert str(kb.scheme("Q8_0+nan=zero")) == str(kb.scheme("ggml-q8_0+nan=zero"))
    assert str(kb.scheme("NF4-B64-AbsMax-FP32+layout=high4")) == "nf4-b64-absmax-f32+layout=high4"


@pytest.mark.parametrize(
    ("everyday", "profile"),
    [("mxfp4", "ocp-mxfp4"), ("MXFP4", "ocp-mxfp4"), ("Q4_0", "ggml-q4_0"), ("tq1_0", "ggml-tq1_0")],
)
def test_a_name_for_one_scheme_finds_it(everyday: str, profile: str) -> None:
    assert kb.scheme(everyday) == named(everyday) == kb.scheme(profile)


def test_exact_names_come_first() -> None:
    assert kb.datatype("e4m3").top == 240  # E4M3 may be another one, e4m3 is this one
    assert (named("mxint8"), kb.scheme("mxint8")) == (kb.datatype("mxint8"), kb.scheme("ocp-mxint8"))


FP8 = "4 different data types have that name; use e4m3fn (OCP FP8 E4M3), e5m2 (OCP FP8 E5M2), e4m3fnuz ("
ERRORS = [
    (kb.datatype, "fp4", "2 different data types have that name; use e2m1fn (OCP FP4 E2M1) or fp4_bnb (bitsandbytes' "),
    (named, "fp4", "2 different data types have that name; use e2m1fn (OCP FP4 E2M1) or fp4_bnb (bitsandbytes' "),
    *((call, name, FP8) for call in (kb.datatype, named) for name in ("fp8", "FP8", "float8")),
    (kb.datatype, "E4M3", "3 different data types have that name; use e4m3fn (OCP FP8 E4M3), e4m3 (IEEE-like E4M3) or"),
    (kb.datatype, "mxfp4", "it is a scheme and no data type; as such it is ocp-mxfp4 (OCP Microscaling formats (MX) "),
    (kb.datatype, "nf4-b64-absmax-f32", "there is no such name; a spelling with dashes is a scheme: use kb.scheme"),
    (kb.scheme, "fp4", "3 different schemes have that name; use ocp-mxfp4 (OCP Microscaling formats (MX) 1.0), nvfp"),
    (kb.scheme, "nvfp4", "7 different schemes have that name; use torchao-nvfp4 (torchao 0.18.0), nvfp4-te (Transf"),
    (kb.scheme, "NF4", "it is a data type and no scheme; a scheme is DTYPE-CUT-RULE-SCALE, e.g. nf4-b64-absmax-f32,"),
    (kb.scheme, "e2m1fn", "it is a data type and no scheme; a scheme is DTYPE-CUT-RULE-SCALE, e.g. e2m1fn-b64-absmax"),
    (kb.scheme, "int4 g128", "3 different schemes have that name; use int4-b128@-1-absmax-f16 (symmetric), uint4-b12"),
    (named, "Q4_K", "there is no such type, scheme or profile; did you mean ggml-q4_1, ggml-q4_0? kb.profiles() has"),
    (named, "nf44", "there is no such name; did you mean nf4"),
]


@pytest.mark.parametrize(("call", "name", "text"), ERRORS)
def test_a_name_for_several_things_lists_them(call, name: str, text: str) -> None:
    with pytest.raises(kb.KbitError) as caught:
        call(name)
    assert text in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["int4 g128", "uint3-g64", "oint8_g32", "INT4SYM group=32", "int2 groupsize128"])
def test_grouped_integers_list_schemes_that_exist(name: str) -> None:
    try:
        offered = [str(kb.scheme(name))]
    except kb.KbitError as error:
        offered = re.findall(r"\S+-absmax-f16|\S+-affine-f16|\S+-minmax-f16", str(error))
    bits, size = (int(n) for n in re.findall(r"\d+", name))
    assert offered
    for each in map(kb.scheme, offered):
        assert (each.dtype.bits, each.cut.size, each.cut.axis) == (bits, size, -1)


def test_of_two_types_that_differ_in_case_neither_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[kb.DataType.__module__], "_registered", {})
    for name in ("Paired", "paired"):
        kb.register(kb.DataType.from_levels([-1, 1], name=name))
    assert kb.datatype("paired").name == "paired"
    with pytest.raises(kb.KbitError, match=r"2 different data types have that name; use Paired \(.*\) or paired \("):
        kb.datatype("PAIRED")


def test_check_takes_everyday_names() -> None:
    assert kb.check(lambda x: kb.encode("nf4", x), "NF4", sources=("float32",)).agree
    assert kb.check(lambda x: kb.quantize(x, "ocp-mxfp4"), "mxfp4", sources=("float32",), shapes=False).agree
