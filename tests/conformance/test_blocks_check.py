"""Judging block formats: right libraries agree part by part, and every kind of wrong one is found where it is wrong."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.cli._page import notes
from kbit_ref.conformance.definition import block_index, reference
from kbit_ref.conformance.diagnosis.counterexample import complexity, shrink, spell_block
from kbit_ref.conformance.implementations.adapters import (
    BlockAdapter,
    BlockProfile,
    KnownDifference,
    block_adapters,
)
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.implementations.worker import stored
from kbit_ref.conformance.inputs.of_schemes import cases, narrowed
from kbit_ref.conformance.judge import judge_profile
from kbit_ref.conformance.libraries import by
from kbit_ref.conformance.matrix import tables
from kbit_ref.conformance.variants import choices
from kbit_ref.conformance.verdict import Verdict


class Mine(BlockAdapter):
    """A library that does what a scheme says, perhaps another one than it claims."""

    library, module, install = "mine", "numpy", "pip install numpy"

    def __init__(self, claimed, done=None, change=None, **options):
        self.done, self.change = kb.scheme(done or claimed), change or (lambda parts, x: parts)
        self.profiles = (BlockProfile(claimed, "theirs", **options),)

    def quantize(self, theirs, x, source):
        q = kb.quantize(x, self.done, bfloat16=source == "bfloat16")
        parts = {"codes": q.codes, "packed": q.packed, "scales": q.scales, "decoded": kb.dequantize(q)}
        optional = {"offsets": q.offsets, "zero_points": q.zero_points, "global_scale": q.global_scale}
        parts |= {name: value for name, value in optional.items() if value is not None}
        return self.change({name: np.array(value) for name, value in parts.items()}, x)


def judge(adapter):
    """Its one profile, judged in this process."""

    def ask(theirs, source, **arrays):
        return stored(adapter, theirs, source, arrays)

    return judge_profile(adapter, adapter.profiles[0], ask)


def statuses(row):
    return {part.part: part.status for part in row.parts}


def kinds(row, part):
    return [kind.cause for kind in row.part(part).differences]


# Right libraries agree ---------------------------------------------------------------------------

SCHEMES = [
    ("int4-b32-absmax-f32+scalerange=clamp", {"shapes": "any", "sources": ("float32", "float16", "bfloat16")}),
    ("nf4-b64-absmax-f32+layout=high4", {"shapes": "any"}),
    ("uint4-b32@-1-minmax-f32+scalerange=clamp", {}),
    ("uint4-b32@0-affine-f32+scalerange=clamp", {"shapes": "ragged"}),
    ("e2m1fn-b16@-1-absmax-e4m3fn+global=divisor+scalerange=clamp", {}),
    ("e4m3fn-b32@-1-pow2floor-e8m0fnu+nan=code+inf=saturate", {}),
    ("int8-channel-absmax-f32+scalerange=clamp", {}),
]


@pytest.mark.parametrize(("text", "options"), SCHEMES, ids=[text for text, _ in SCHEMES])
def test_a_library_that_does_what_it_says_agrees(text, options):
    row = judge(Mine(text, **options))
    assert row.status == "agree", row
    assert {"scales", "codes", "packed", "decoded"} <= set(statuses(row))
    assert all(part.tried > 20 for part in row.parts if part.part != "global_scale")


def test_what_the_profile_has_no_answer_for_is_counted_and_told():
    """Block scales beyond float16 are refused by the scheme; its nearest scale comes as near as float16 allows."""
    row = judge(Mine("int4-b32-absmax-f16", "int4-b32-absmax-f16+scalerange=clamp", shapes="any"))
    assert statuses(row)["codes"] == "agree"
    found = row.special("refused")
    assert "blocks that are refused (it becomes 0.0 in f16; it becomes inf in f16;" in found.does
    assert (found.word, found.status, found.choice) == ("near", "told", "")
    assert row.notes == ()
    clamped = judge(Mine("int4-b32-absmax-f16+scalerange=clamp", shapes="any"))
    assert row.part("scales").tried + int(found.does.split()[0]) == clamped.part("scales").tried


# Wrong ones are found, part by part --------------------------------------------------------------

INT4 = "int4-b32-absmax-f32+scalerange=clamp"


def changed(part, at, by):
    def change(parts, x):
        flat = parts[part].reshape(-1)
        flat[at % flat.size] = by(flat[at % flat.size])
        return parts

    return change


WRONG = {
    "one code": (changed("codes", 7, lambda c: (c + 1) % 8), {"codes", "packed", "decoded"}),
    "one scale": (changed("scales", 3, lambda s: s * 2), {"scales", "decoded"}),
    "one byte": (changed("packed", 5, lambda b: b ^ 16), {"packed"}),
    "one decoded number": (changed("decoded", 9, lambda y: y + 1), {"decoded"}),
    "the sign of a zero": (lambda parts, x: parts | {"decoded": np.where(x == 0, -0.0, parts["decoded"])}, {"decoded"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_part_is_judged_alone(name):
    """A flipped code of a library that gives codes and bytes makes the bytes wrong for the code, but no scale."""
    change, parts = WRONG[name]
    found = statuses(judge(Mine(INT4, change=change)))
    assert {part for part, status in found.items() if status == "disagree"} == parts
    assert set(found.values()) <= {"agree", "disagree"}


def test_a_wrong_code_in_bytes_alone_is_a_wrong_code_and_no_wrong_byte():
    def change(parts, x):
        parts["packed"][0] ^= 1
        return {name: parts[name] for name in ("packed", "scales")}

    row = judge(Mine(INT4, change=change))
    assert {part: status for part, status in statuses(row).items() if status != "agree"} == {"codes": "disagree"}


def test_codes_that_differ_since_the_scale_does_are_said_to_follow():
    def change(parts, x):
        q = kb.quantize(x * np.float32(1.25), INT4)
        return parts | {"scales": q.scales, "codes": kb.quantize(x, INT4).codes ^ 1}

    row = judge(
        Mine(INT4, change=lambda parts, x: {k: v for k, v in change(parts, x).items() if k in ("codes", "scales")})
    )
    assert "follows from the scale" in kinds(row, "codes")


def test_the_shrunk_example_keeps_the_cause():
    """Wrong codes in blocks with a wrong scale, and in blocks of zeros, which are simpler, with the right one."""

    def change(parts, x):
        parts["scales"] = parts["scales"] * 3
        codes = parts["codes"].reshape(-1, 32)
        codes[:, 0] = (codes[:, 0] + 5) % 16
        return {"codes": parts["codes"], "scales": parts["scales"]}

    examples = {kind.cause: kind.example for kind in judge(Mine(INT4, change=change)).part("codes").differences}
    assert set(examples) == {"follows from the scale", "unexplained"}
    follows = examples["follows from the scale"]
    assert follows.theirs.rpartition("(scale ")[2] != follows.ours.rpartition("(scale ")[2]
    zeros = examples["unexplained"]
    assert (zeros.block, zeros.theirs, zeros.ours) == ("[0 x 32]", "0x5 = 5  (scale 0)", "0x0 = 0  (scale 0)")
    assert zeros.steps == ("our scale is 0: nothing is divided by it, every number is encoded as 0",)


EXPLAINED = {
    "int4-b32-absmax-f32+arith=reciprocal+scalerange=clamp": ["multiplies-by-reciprocal"],
    "int4-b32-absmax-f32+scalerange=clamp+ties=away": ["ties-away"],
    "int4-b32-absmaxhalf-f32+scalerange=clamp": ["scale-over-half-the-range"],
    "int4-b32-absmax-f32+arith=reciprocal+scalerange=clamp+ties=away": ["ties-away + multiplies-by-reciprocal"],
}


@pytest.mark.parametrize("done", EXPLAINED)
def test_a_named_choice_is_found_by_name(done):
    row = judge(Mine(INT4, done))
    causes = {cause for part in row.parts for cause in kinds(row, part.part)}
    parts = {frozenset(cause.split(" + ")) for cause in causes}  # of two at once, in either order
    assert {frozenset(cause.split(" + ")) for cause in EXPLAINED[done]} <= parts
    assert "unexplained" not in causes
    assert "disagree" in statuses(row).values()  # it belongs in the profile


def test_a_choice_that_holds_in_some_blocks_only_is_no_explanation():
    """A library that rounds the exponent up just below powers of two: a logarithm, but for a few blocks."""
    floor, ceil = (kb.scheme(f"e2m1fn-b32@-1-pow2{way}-e8m0fnu+scalerange=clamp") for way in ("floor", "ceil"))

    class Logarithm(Mine):
        def quantize(self, theirs, x, source):
            q, up = kb.quantize(x, floor), kb.quantize(x, ceil)
            fraction = np.frexp(np.abs(x).max(axis=1).astype(np.float64))[0]
            near = (fraction > 1 - 2**-22)[:, None]
            codes, scales = np.where(near, up.codes, q.codes), np.where(near, up.scales, q.scales)
            return {"codes": codes, "scales": scales}

    row = judge(Logarithm(str(floor)))
    assert kinds(row, "scales") == ["exponent-by-logarithm(by=log2)", "unexplained"]
    logarithm, left = row.part("scales").differences
    assert logarithm.count > left.count
    assert "because the exponent comes from log2 in float32" in row.diagnosis.sentence


def test_bytes_in_another_layout():
    row = judge(Mine("int4-b32-absmax-f32+scalerange=clamp", "int4-b32-absmax-f32+layout=high4+scalerange=clamp"))
    assert kinds(row, "packed") == ["+layout=high4"]
    assert statuses(row)["codes"] == "agree"


def test_counterexample_by_hand():
    """2.5 of int4 is a tie between 2 (even) and 3 (away); nothing else differs, so the block shrinks to ties."""
    row = judge(Mine(INT4, INT4 + "+ties=away"))
    (kind,) = row.part("codes").differences
    example = kind.example
    numbers = [float(text) for text in example.block.strip("[]").partition(", 0 x")[0].split(", ")]
    assert len(numbers) <= 2  # all others are 0
    theirs, ours = (int(text.split(" = ")[1].split()[0]) for text in (example.theirs, example.ours))
    assert (abs(theirs) - abs(ours), ours % 2) == (1, 0)
    assert example.steps[-1].endswith("ties=even decides")
    assert f"x / scale = {min(theirs, ours) + 0.5:g}" == example.steps[0]


def test_decoded_with_the_scale_of_another_block():
    """Rows of 1.5 blocks, whose scales are looked up by row: the second row begins with the scale of block 1."""

    def change(parts, x):
        if x.ndim == 2 and x.shape[1] % 32:
            per_row = x.shape[1] // 32
            if per_row:
                index = np.arange(x.shape[0])[:, None] * per_row + np.arange(x.shape[1]) // 32
                scale = parts["scales"].reshape(-1)[np.minimum(index, parts["scales"].size - 1)]
                parts["decoded"] = kb.decode("int4", parts["codes"]) * scale
        return parts

    row = judge(Mine(INT4, change=change, shapes="any"))
    assert kinds(row, "decoded") == ["the scale of another block"]
    assert "block i full of i + 1" in row.part("decoded").differences[0].example.block
    assert row.part("codes").status == "agree"


@pytest.mark.parametrize(("form", "more"), [("bfloat16", ""), ("float16", "(form=float16)")])
def test_decoded_in_half_precision(form, more):
    def change(parts, x):
        words = narrowed(parts["decoded"], form)
        parts["decoded"] = (words.astype(np.uint32) << 16).view(np.float32) if form == "bfloat16" else words
        return parts

    assert f"values-in-bf16{more}" in kinds(judge(Mine(INT4, change=change)), "decoded")


# Scales that are quantized again, and answers without codes ----------------------------------------

NESTED = "nf4-b64-absmax-f32+double=bnb+scaleuse=unrounded"


def nested(parts, x):
    q = kb.quantize(x, NESTED).double
    again = {"scale_codes": q.codes, "scale_scales": q.scales, "scale_offset": q.offsets}
    return parts | {name: np.array(value) for name, value in again.items()}


def test_scales_that_are_quantized_again_are_judged_part_by_part():
    def change(name, by):
        def changed(parts, x):
            parts = nested(parts, x)
            parts[name].reshape(-1)[-1] = by(parts[name].reshape(-1)[-1])
            return parts

        return statuses(judge(Mine(NESTED, change=changed, shapes="flat")))

    names = ("scale_codes", "scale_scales", "scale_offset")
    right = statuses(judge(Mine(NESTED, change=nested, shapes="flat")))
    assert {right[name] for name in names} == {"agree"}
    for name, way in zip(names, (lambda c: c ^ 1, lambda s: s * 2, lambda m: m + 1), strict=True):
        assert [each for each in names if change(name, way)[each] == "disagree"] == [name]


def test_too_few_codes_of_scales_are_no_answer():
    def short(parts, x):
        parts = nested(parts, x)
        return parts | {"scale_codes": parts["scale_codes"].reshape(-1)[1:]}

    row = judge(Mine(NESTED, change=short, shapes="flat"))
    assert row.status == "error"
    assert "scale_codes came back, there are" in row.errors[0]


def test_decoded_numbers_alone_are_compared_with_ours():
    alone = judge(Mine(INT4, change=lambda parts, x: {"decoded": parts["decoded"]}))
    assert statuses(alone) == {"decoded": "agree"}
    wrong = judge(Mine(INT4, INT4 + "+ties=away", change=lambda parts, x: {"decoded": parts["decoded"]}))
    assert statuses(wrong) == {"decoded": "disagree"}


# One NaN, one infinity -----------------------------------------------------------------------------


class Odd(Mine):
    """Does as its scheme says, but for arrays with NaN or infinities."""

    odd = None

    def quantize(self, theirs, x, source):
        if np.isfinite(x).all():
            return super().quantize(theirs, x, source)
        return type(self).odd(self, x)


def both(adapter):
    return {special.number: (special.word, special.status, special.choice) for special in judge(adapter).specials}


def test_a_library_that_refuses_what_the_profile_refuses_agrees():
    assert both(Mine(INT4)) == {"nan": ("raises", "agree", ""), "inf": ("raises", "agree", "")}


def test_what_becomes_of_nan_and_infinity_is_told_and_named_where_a_choice_gives_it():
    lax = Mine(INT4, INT4 + "+inf=saturate+nan=zero")
    assert both(lax) == {"nan": ("zero", "told", "+nan=zero"), "inf": ("number", "told", "+inf=saturate")}
    assert judge(lax).status == "agree"


def test_a_block_that_becomes_nan_and_one_that_spreads():
    class Block(Odd):
        def odd(self, x):
            scales = np.abs(x).max(axis=1) / np.float32(7)
            return {
                "codes": np.zeros(x.shape, np.uint8),
                "scales": scales,
                "decoded": np.zeros(x.shape) * scales[:, None],
            }

    word, status, _ = both(Block(INT4))["nan"]
    assert (word, status) == ("spreads", "told")  # the codes of the others are all 0

    class Whole(Odd):
        def odd(self, x):
            parts = super().quantize("theirs", np.where(np.isfinite(x), x, 0), "float32")
            parts["decoded"][~np.isfinite(x).all(axis=1)] = np.nan
            return parts

    found = judge(Whole(INT4)).specials[0]
    assert (found.word, found.status) == ("block", "told")
    assert found.does == "it becomes NaN, all others of the block become NaN"


def test_where_the_profile_says_what_happens_it_is_judged():
    claimed = "int4-b32-absmax-f32+nan=zero+scalerange=clamp"
    assert both(Mine(claimed))["nan"] == ("zero", "agree", "+nan=zero")

    class Wrong(Odd):
        def odd(self, x):
            return super().quantize("theirs", np.where(np.isnan(x), np.float32(0.5), x), "float32")

    row = judge(Wrong(claimed))
    assert row.special("nan").status == "disagree"
    assert row.status == "disagree"


# No fault passes for agreement -------------------------------------------------------------------


def raises(parts, x):
    raise ValueError("no such block")


def mutates(parts, x):
    x.reshape(-1)[0] = 1
    return parts


FAULTS = {
    "it raised ValueError: no such block": raises,
    "it changed the array that it was given": mutates,
    "neither codes nor packed bytes nor decoded numbers came back": lambda parts, x: {"scales": parts["scales"]},
    "codes have the shape": lambda parts, x: parts | {"codes": parts["codes"].reshape(-1)[:-1]},
    "scales came back for": lambda parts, x: parts | {"scales": parts["scales"].reshape(-1)[:-1]},
    "packed bytes came back": lambda parts, x: parts | {"packed": parts["packed"][:-1]},
    "decoded has the shape": lambda parts, x: parts | {"decoded": parts["decoded"][..., :-1]},
    "there is no part named scale;": lambda parts, x: parts | {"scale": parts["scales"]},
    "codes are an array of float32, not integers": lambda parts, x: parts | {"codes": parts["codes"].astype("f")},
    "packed is an array of int16": lambda parts, x: parts | {"packed": parts["packed"].astype(np.int16)},
    "zero_points came back, and": lambda parts, x: parts | {"zero_points": parts["scales"]},
    "it raised TypeError: scales is an array of dtype object": lambda parts, x: parts | {"scales": None},
}


@pytest.mark.parametrize("text", FAULTS)
def test_no_fault_passes_for_agreement(text):
    row = judge(Mine(INT4, change=FAULTS[text]))
    assert row.status == "error"
    assert any(text in error for error in row.errors), row.errors


def test_an_error_on_one_array_is_an_error():
    row = judge(Mine(INT4, change=lambda parts, x: raises(parts, x) if x.shape == (3, 32) else parts))
    assert row.status == "error"
    assert [error.endswith("(shape 3x32, float32)") for error in row.errors] == [True]
    assert statuses(row)["codes"] == "agree"


def test_an_unknown_profile_is_an_error():
    row = judge_profile(Mine(INT4), BlockProfile("no-such-profile", "theirs"), None)
    assert row.status == "error"


# Differences on record ---------------------------------------------------------------------------


def test_known_differences_must_still_occur():
    adapter = Mine(INT4, INT4 + "+ties=away")
    adapter.known = (KnownDifference("codes", "+ties=away", "https://example.org/7"),)
    row = judge(adapter)
    assert row.status == "known"
    right = Mine(INT4)
    right.known = adapter.known
    assert judge(right).errors == ("no longer differs: codes, +ties=away (https://example.org/7)",)


# Inputs, shrinking, the definition ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["int4-b32-absmax-f32", "uint4-b32@0-minmax-f16", "e2m1fn-b16@-1-absmax-e4m3fn+global=divisor"]
)
def test_the_inputs_reach_every_hard_class(text):
    s = kb.scheme(text)
    made = cases(s, ("float32",), "rows", 1, 32)
    width = s.cut.size
    blocks = np.concatenate([s.cut.rows(c.words).reshape(-1, width) for c in made if c.words.size % width == 0])
    largest = np.abs(blocks).max(axis=1)
    assert (largest == 0).any()
    assert (largest == 2.0**-149).any()
    assert (largest == np.finfo(np.float32).max).any()
    assert ((largest > 0) & (largest < 2.0**-118)).any()
    assert (largest == np.nextafter(np.float32(8), np.float32(0))).any()
    assert (largest == np.nextafter(np.float32(8), np.float32(16))).any()
    assert (blocks[largest == 1] == np.float32(1e-6)).any()
    assert (np.signbit(blocks) & (blocks == 0)).any()
    assert np.isfinite(blocks).all()


def test_half_precision_by_hand():
    """1 + 2**-8 is a tie of bfloat16, 1 is even; 1e39 does not fit and becomes the largest number."""
    assert narrowed(np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32), "bfloat16").tolist() == [0x3F80, 0x3F82]
    assert narrowed(np.array([3.4e38, np.inf], np.float32), "bfloat16").tolist() == [0x7F7F, 0x7F80]
    assert narrowed(np.array([1e6, -np.inf], np.float32), "float16").tolist() == [65504.0, -np.inf]


def test_shrinking_by_hand():
    """What shows that the fourth number is above 2.5 while another one is above 100."""
    rng = np.random.default_rng(1)
    block = rng.uniform(-2, 2, 16).astype(np.float32)
    block[3], block[9] = 3.777, 1234.5
    shows = lambda blocks: (blocks[:, 3] > 2.5) & ((blocks > 100).sum(axis=1) == 1)  # noqa: E731
    best = shrink(block, shows)
    assert shows(best[None])[0]
    assert np.count_nonzero(best) <= 2
    assert complexity(best) < complexity(block)
    assert spell_block(np.array([1, -0.0, 0, 0], np.float32)) == "[1, -0, 0 x 2]"


def test_blocks_are_numbered_in_the_order_of_the_cut():
    assert block_index(kb.scheme("int8-b2@0-absmax-f32"), (3, 2)).tolist() == [[0, 2], [0, 2], [1, 3]]
    assert block_index(kb.scheme("int8-b4-absmax-f32"), (2, 3)).tolist() == [[0, 0, 0], [0, 1, 1]]


def test_refused_blocks_are_found_one_by_one():
    s = kb.scheme("int8-b4@-1-absmax-f16")
    x = np.ones((9, 4), np.float32)
    x[4] = 1e30
    found = reference(s, x, "float32")
    assert found.refused.tolist() == [i == 4 for i in range(9)]
    assert (found.codes[4] == -1).all()
    assert (found.codes[5] == 127).all()


def test_choices_differ_in_one_word_or_two():
    s = kb.scheme("int4-b32-absmax-f32+ties=away")
    assert str(choices.singles(s)["+ties=even"]) == "int4-b32-absmax-f32"
    assert "+arith=reciprocal+ties=even" in choices.pairs(s)
    assert all(str(made) != str(s) for made in choices.singles(s).values())


def test_a_rival_with_a_scale_of_the_whole_array_is_a_misfit_and_no_crash():
    """NVFP4 with and without it are kin: the values of one cannot be read as the other."""
    plain, whole = kb.scheme("torchao-nvfp4"), "torchao-nvfp4-global"

    def nvfp4(x):
        q = kb.quantize(x, plain)
        return {"codes": q.codes, "scales": q.scales, "values": kb.dequantize(q)}

    ranking = kb.check(nvfp4, plain, shapes=False, rank=True).ranking
    assert any("torchao-nvfp4" in name.split(" = ") for name in ranking.conforms)
    misfits = {name for each in ranking.rivals if each.misfit for name in each.name.split(" = ")}
    assert whole in misfits
    assert {each.misfit for each in ranking.rivals if whole in each.name.split(" = ")} == {
        "no scale of the whole array came back"
    }


# In a process of its own -------------------------------------------------------------------------

PREFIX = """
import os, sys, time
import numpy as np
import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import BlockAdapter, BlockProfile

class Fake(BlockAdapter):
    library, module, install = "fake", "{module}", "pip install fake"
    profiles = (BlockProfile("int4-b32-absmax-f32+scalerange=clamp", "theirs"),)

    def quantize(self, theirs, x, source):
        {body}
        q = kb.quantize(x, "{scheme}")
        return {{"codes": q.codes, "scales": q.scales, "decoded": kb.dequantize(q)}}
"""


def write(folder: Path, body="pass", scheme=INT4, module="numpy") -> list[str]:
    (folder / "fake.py").write_text(PREFIX.format(body=body, scheme=scheme, module=module), "utf-8")
    return ["check", "fake", "--blocks", "--adapters", str(folder)]


def one_by_one(folder, timeout=60.0):
    adapter = block_adapters([folder])["fake"]
    with Library("fake", timeout, [folder]) as library:
        return judge_profile(adapter, adapter.profiles[0], by(library))


def test_a_crash_costs_one_array(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # last words reach us in any environment
    write(tmp_path, "os._exit(3) if x.shape == (3, 32) else print('not an answer')")
    row = one_by_one(tmp_path)
    assert row.errors == ("its process died: exit code 3 (not an answer) (shape 3x32, float32)",)
    assert statuses(row) == {"scales": "agree", "codes": "agree", "decoded": "agree"}


def test_a_hang_costs_one_array(tmp_path):
    write(tmp_path, "time.sleep(100 if x.shape == (3, 32) else 0)")
    row = one_by_one(tmp_path, timeout=4.0)
    assert row.errors == ("it was silent for 4 s, and was ended (shape 3x32, float32)",)


def test_what_cannot_be_imported_is_an_error(tmp_path):
    write(tmp_path, module="kbit_ref.no_such_room")
    row = one_by_one(tmp_path)
    assert row.status == "error"
    assert "it cannot be imported" in row.errors[0]


# The command -------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_agrees(tmp_path, capsys):
    assert main([*write(tmp_path), "--details"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[2:] == ["checked", "as", "scales", "codes", "decoded", "nan", "inf", "faults"]
    assert lines[1].split() == ["theirs", INT4, "agree", "agree", "agree", "raises", "raises", "0"]
    last = r"1 type or format of 1 library: 1 agree, 0 known, 0 disagree, 0 error; 0 findings\."
    assert re.fullmatch(last + r" [\d,]+ values, \d+ s\.", " ".join(lines[-2:]))


def test_the_command_tells_the_difference_and_writes_the_matrix(tmp_path, capsys):
    file = tmp_path / "matrix.csv"
    command = write(tmp_path, scheme=INT4 + "+ties=away")
    assert main([*command, "--csv", str(file)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^1  0\.0\d\d  fake theirs +codes: ties-away", out, re.M)
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert tuple(rows[0]) == tables.COLUMNS
    (codes,) = [row for row in rows if row["part"] == "codes"]
    assert (codes["library"], codes["profile"], codes["verdict"], codes["cause"]) == (
        "fake",
        INT4,
        "disagree",
        "ties-away",
    )
    assert codes["differing"] != "0"
    assert "theirs 0x" in codes["example"]
    assert [row["verdict"] for row in rows if row["part"] == "scales"] == ["agree"]


def test_the_command_speaks_json(tmp_path, capsys):
    main([*write(tmp_path, scheme=INT4 + "+ties=away"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert (row["library"], row["spelling"], row["status"]) == ("fake", INT4, "disagree")
    assert [part["status"] for part in row["rows"]] == ["agree", "disagree", "agree"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--type", "int4"], "check: type = int4, --blocks, --profile and --csv are for block formats"),
        (["--profile", "nope"], "check: profile = 'nope', there is no such name"),
        (["--csv", "/nope/x.csv"], "check: csv = /nope/x.csv, No such file or directory"),
    ],
)
def test_usage(tmp_path, capsys, more, text):
    assert main([*write(tmp_path), *more]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["ml_dtypes", "--blocks"], "check: library = ml_dtypes, it has data types only; ask for"),
        (["gguf", "--type", "int4"], "check: library = gguf, it has block formats only; ask for"),
        (["ml_dtypes", "--profile", "nope"], "check: profile = 'nope', there is no such name"),
    ],
)
def test_what_a_library_has_not(capsys, argv, text):
    assert main(["check", *argv]) == 2
    assert text in capsys.readouterr().err


def test_the_library_of_a_profile_is_named_if_it_is_absent(monkeypatch, capsys):
    monkeypatch.setattr(BlockAdapter, "installed", lambda self: False)
    assert main(["check", "--profile", "ggml-q4_0"]) == 2
    expected = "check: profile = ggml-q4_0, gguf has it, and is not installed; pip install gguf"
    assert expected in capsys.readouterr().err


def test_the_notes_say_what_was_left_out():
    good = judge(Mine("int4-b32-absmax-f16", shapes="any"))
    assert [line.partition(": ")[0] for line in notes([good])[:1]] == ["note      mine, theirs"]
    assert notes([Verdict("p", "", (), "mine", theirs="broken", errors=("it raised",))]) == []


def test_an_absent_library_is_said_so(tmp_path, capsys):
    assert main(write(tmp_path, module="no_such_module_of_anybody")) == 2
    assert "check: library = fake, it is not installed; pip install fake" in capsys.readouterr().err
