"""Methods that keep columns, rotate, or learn levels; what they look at; and their place in a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.linalg import hadamard as sylvester

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.errors import BadInput, UnknownName
from kbit_ref.methods import Coded, Given, method, methods
from kbit_ref.methods import inputs as listening
from kbit_ref.methods.inputs import inputs_of, previous_of
from kbit_ref.methods.learned import RowTables, lloyd
from kbit_ref.methods.proxy import chosen_columns
from kbit_ref.methods.rotate import RotatedBack, hadamard, signs
from kbit_ref.transformer import Model
from kbit_ref.transformer.config import Config, Rotary, shapes
from kbit_ref.transformer.forward import attention, embed, norm, stand
from kbit_ref.transformer.products import product, rows_of

INT4 = "int4sym-b4-absmax-f16"  # levels -7 ... 7
MODELS = Path(__file__).parents[2] / "data" / "models"


def heavy_tailed(shape: tuple[int, ...], seed: int = 0) -> Any:
    """float32, Student's t."""
    return np.random.default_rng(seed).standard_t(4, shape).astype(np.float32)


def squared(x: Any, y: Any, axis: Any = None) -> Any:
    """The squared error."""
    return np.square(x.astype(np.float64) - y).sum(axis=axis)


# The registry ---------------------------------------------------------------------------------


def test_a_part_may_be_needed_by_one_choice_alone() -> None:
    assert method("proxy").needs == ("previous",)
    assert method("proxy+axis=authors").needs == ()
    assert method("gptq").needs == ("inputs",)
    assert method("learned").needs == ()
    assert method("learned+weigh=inputs").needs == ("inputs",)
    assert method("proxy").lacks(Given(inputs=np.eye(4))) == ("previous",)
    assert method("proxy").lacks(Given(previous=np.eye(4))) == ()
    for row in methods().values():
        for choice in filter(None, row.needs.values()):
            name, value = choice.split("=")
            assert value in row.choices[name]  # else nothing would ever need it


@pytest.mark.parametrize(
    ("spelling", "given", "said"),
    [
        ("proxy", Given(), "proxy: previous = None, proxy needs it; give Given(previous=...)"),
        ("proxy+share=1.5+axis=authors", Given(), "proxy: share = 1.5, it is from 0 to 1; 0.02 is the paper's"),
        ("proxy", Given(previous=np.eye(3)), "proxy: previous of 3 rows, it has one for each of 4 inputs"),
        ("proxy+share=0.5+axis=authors", Given(), "proxy: weights, columns that are kept are float16"),
        ("rotate+seed=-1", Given(), "rotate: seed = -1, it is from 0 to 2**32 - 1"),
        ("learned+weigh=inputs", Given(), "learned: inputs = None, learned+weigh=inputs needs it"),
        ("learned+by=quantile", Given(), "learn: x has 8 elements, at least 256 are needed"),
    ],
)
def test_what_is_refused(spelling: str, given: Given, said: str) -> None:
    w = np.array([[1, 2, 3, 4], [5, 6, 7, 70000]], np.float32)
    with pytest.raises(BadInput) as caught:
        method(spelling)(w, "int4sym-b4-absmax-f32", given)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "spelling"),
    [
        ("uint4-b64-affine-f16", "learned"),
        ("int4-b64-absmax-f32+scaleas=divisor+zeroblock=one", "learned"),
        ("uint4-b64-minmax-f16", "learned+by=quantile"),
    ],
)
def test_schemes_whose_levels_are_not_learned(scheme: str, spelling: str) -> None:
    with pytest.raises(BadInput, match="learned: scheme = "):
        method(spelling)(heavy_tailed((8, 64)), scheme)


def test_a_choice_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean axis"):
        method("proxy+axes=paper")


def test_a_choice_that_is_made_twice() -> None:
    with pytest.raises(BadInput, match="method: order = act and order = given, a choice is made once"):
        method("gptq+order=act+order=given")


ONES = np.ones((3, 64), np.float32)
HOLED = np.where(np.arange(64) == 5, np.nan, ONES).T  # [64, 3], its row 5 is NaN


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("spelling", "weights", "given", "said"),
    [
        *[(m, np.ones((2, 64), int), Given(), f"{m}: x of dtype int64, integers are") for m in ("rotate", "nearest")],
        ("rotate", np.ones((2, 64), complex), Given(), "rotate: x of dtype complex128, x is float16"),
        ("rotate", np.full((2, 64), 3e38, np.float32), Given(), "rotate: row 0, rotated it is not finite in float32"),
        ("rotate", np.where(np.eye(2, 64), np.nan, 1), Given(), "rotate: row 0, rotated it is not finite"),
        ("proxy", ONES, Given(previous=HOLED), "proxy: a spread of nan at input 5, what is not finite cannot"),
        ("proxy", ONES, Given(previous=HOLED * np.inf), "proxy: a spread of nan at input 0"),
        ("proxy", ONES, Given(previous=HOLED.astype(object)), "proxy: x of dtype object"),
        ("learned+weigh=inputs", ONES, Given(HOLED.T), "learned: inputs[0, 5] = nan, its outputs have no distance"),
        ("learned+weigh=inputs", ONES, Given(ONES[:, 1:]), "learned: inputs of shape (3, 63), the matrix has d_in"),
        ("learned+weigh=inputs", ONES, Given(ONES[:0]), "learned: inputs of shape (0, 64)"),
    ],
)
def test_what_is_no_matrix_of_real_numbers(spelling: str, weights: Any, given: Given, said: str) -> None:
    """None of these may pass in silence, nor as a warning of NumPy; `+nan=zero` hides them from `quantize`."""
    with pytest.raises(kb.KbitError) as caught:
        method(spelling)(weights, "nf4-b64-absmax-f32+nan=zero", given)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spelling", ["learned", "learned+per=row", "learned+by=quantile"])
def test_levels_that_float16_does_not_hold_are_refused(spelling: str) -> None:
    """The top of this type is 2**30: as float16 its tables were infinite, and everything decoded to about 0."""
    with pytest.raises(BadInput, match=r"learned: a level of 1\.07\de\+09, levels are stored in float16"):
        method(spelling)(heavy_tailed((8, 64)), "kfloat6_e5m0-b32-absmax-f32")


# Words of schemes that need no method ----------------------------------------------------------


def test_clipping_and_centering_are_words_of_schemes() -> None:
    x = heavy_tailed((16, 64)) + np.float32(0.5)
    nearest = method("nearest")
    plain, clipped = (nearest(x, f"int3sym-b64-{rule}-f16") for rule in ("absmax", "clip"))
    assert squared(x, clipped.decoded()) < squared(x, plain.decoded())
    of_tensor, of_block = (nearest(x, f"int3sym-b64-absmax-f16+center={what}") for what in ("tensor", "block"))
    assert clipped.bits == plain.bits == 3 * 1024 + 16 * 16
    assert of_tensor.bits == plain.bits + 16
    assert of_block.bits == plain.bits + 16 * 16
    assert squared(x, of_block.decoded()) < squared(x, plain.decoded())


# Proxy ----------------------------------------------------------------------------------------


def test_the_two_axes_by_hand() -> None:
    """The previous matrix spreads most in the row of input 1; the matrix itself in column 3."""
    w = np.array([[7, 3, -2, 60], [-7, 3, 1, -60]], np.float32)
    previous = np.array([[1, 1, 1], [9, -9, 0], [2, 1, 2], [5, 5, 5]], np.float32)
    given = Given(previous=previous)
    paper = method("proxy+share=0.25")(w, INT4, given)
    authors = method("proxy+share=0.25+axis=authors")(w, INT4, given)
    # without 60 the scale of a block is 1, and what is left are whole numbers up to 7; with it 60/7: 7 becomes 8.57
    assert np.array_equal(authors.decoded(), w)
    step = float(np.float16(60 / 7))
    assert np.array_equal(paper.decoded(), np.array([[step, 3, 0, 7 * step], [-step, 3, 0, -7 * step]], np.float32))
    # 8 codes of 4 bits, 2 scales of 16; a column of 2 numbers in 16 instead of 4, an index of 2
    assert paper.bits == authors.bits == 8 * 4 + 2 * 16 + 2 * (16 - 4) + 2


def test_all_columns_none_and_how_many() -> None:
    w = heavy_tailed((8, 64))
    previous = heavy_tailed((64, 5), seed=1)
    whole = method("proxy+share=1")(w, INT4, Given(previous=previous))
    assert np.array_equal(whole.decoded(), w.astype(np.float16))
    assert whole.bits == 16 * 8 * 64 + 16 * 8 * 64 // 4 + 6 * 64  # numbers, scales of zeros, indices
    none = method("proxy+share=0")(w, INT4, Given(previous=previous))
    assert np.array_equal(none.decoded(), method("nearest")(w, INT4).decoded())
    assert none.bits == method("nearest")(w, INT4).bits
    spread = np.arange(100.0)
    assert [len(chosen_columns(spread[:n], 0.02)) for n in (100, 64, 24, 75)] == [2, 1, 1, 2]
    assert chosen_columns(np.array([1.0, 9.0, 3.0, 9.0]), 0.5).tolist() == [1, 3]


@pytest.mark.filterwarnings("error")
def test_z_scores_of_the_authors() -> None:
    """30 columns, of which one spreads: z = 29 / sqrt(30) = 5.29, whatever it is. Of 17 it is 3.88."""
    assert chosen_columns(np.ones(1), 0.5, "zscore").tolist() == []  # nothing to stand out from
    for n, expected in ((30, [4]), (17, [])):
        spread = np.ones(n)
        spread[4] = 1.5
        assert chosen_columns(spread, 0.5, "zscore").tolist() == expected
    w = np.tile(np.array([[1.0], [-1.0]], np.float32), 30)
    w[:, 4] *= 50
    coded = method("proxy+axis=authors+pick=zscore")(w, "int4sym-b30-absmax-f16")
    assert np.array_equal(coded.decoded()[:, 4], [50, -50])
    assert coded.bits == 60 * 4 + 2 * 16 + 2 * 12 + 5


# Rotation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "run"), [(24, 8), (48, 16), (144, 16), (64, 64), (128, 128), (7, 1), (1, 1)])
def test_hadamard_is_sylvesters_matrix_in_runs(d: int, run: int) -> None:
    whole = block_diag(*[sylvester(run)] * (d // run))  # whole numbers, from scipy
    assert np.array_equal(hadamard(np.eye(d)) * np.sqrt(run), np.round(hadamard(np.eye(d)) * np.sqrt(run)))
    assert np.array_equal(np.round(hadamard(np.eye(d)) * np.sqrt(run)), whole)
    assert np.array_equal(whole @ whole.T, run * np.eye(d))  # orthogonal, exactly
    x = np.random.default_rng(d).integers(-99, 99, (3, d)).astype(np.float64)
    assert np.array_equal(np.round(hadamard(x) * np.sqrt(run)), x @ whole)


def test_a_rotation_without_quantization_error_gives_the_matrix_back() -> None:
    """Rotated it has the levels themselves: W = L H D, with H's 1/4 no number is rounded anywhere."""
    random = np.random.default_rng(3)
    levels = random.integers(-7, 8, (6, 48)).astype(np.float64)
    levels[:, ::4] = 7  # the absmax of every block: the scale is 1
    w = (hadamard(levels) * signs(48, 5)).astype(np.float32)
    coded = method("rotate+seed=5")(w, INT4)
    assert np.array_equal(kb.dequantize(coded.q), levels)
    assert np.array_equal(coded.decoded(), w)
    assert coded.bits == 6 * 48 * 4 + 6 * 12 * 16 + 32
    assert not np.array_equal(RotatedBack(6)(levels), w)  # other signs


def test_a_rotation_keeps_errors_and_spreads_outliers() -> None:
    w = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    w[:, 3] *= 50
    coded = method("rotate")(w, "int4sym-channel-absmax-f16")
    rotated = hadamard(w.astype(np.float64) * signs(64, 0))
    assert squared(w, coded.decoded()) == pytest.approx(squared(rotated, kb.dequantize(coded.q)), rel=1e-5)
    assert squared(w, coded.decoded()) < squared(w, method("nearest")(w, "int4sym-channel-absmax-f16").decoded()) / 2
    assert set(signs(1000, 0)) == {-1, 1}


# Learned levels -------------------------------------------------------------------------------


def test_four_numbers_a_row_are_learned_exactly() -> None:
    """Two rows of four numbers each: a table for each row has them, one for both has half of them."""
    rows = np.array([[-1, 0.25, 0.5, 1], [-0.75, -0.5, 0.125, 1]], np.float32)
    w = np.repeat(rows, 8, axis=1) * np.array([[4], [2]], np.float32)
    of_rows = method("learned+per=row")(w, "nf2-channel-absmax-f16")
    of_all = method("learned")(w, "nf2-channel-absmax-f16")
    assert np.array_equal(of_rows.decoded(), w)
    assert squared(w, of_all.decoded()) > 0
    assert of_all.bits == 64 * 2 + 2 * 16 + 4 * 16
    assert of_rows.bits == 64 * 2 + 2 * 16 + 2 * 4 * 16
    assert of_all.scheme.dtype.bits == 2
    (table,) = of_rows.steps
    assert isinstance(table, RowTables)
    assert np.array_equal(table.tables.astype(np.float32), rows)


@pytest.mark.parametrize(
    "scheme",
    [
        *("nf4-b32-absmax-f16", "int3sym-tensor-absmax-f16", "e2m1fn-b16-absmax-e4m3fn+global=multiplier"),
        *("uint4-b64@-1-minmax-f16", "int4sym-b32-absmax-f16+center=tensor", "int2sym-b40-absmax-f32+center=block"),
        *("nf4-b64@0-absmax-f16", "lloyd3-channel-rms-f16", "nf4-b64-absmax-f32+double=bnb"),
    ],
)
def test_learned_levels_are_never_worse(scheme: str) -> None:
    """Than the type of the scheme, up to the rounding of levels; and for no row than those of the matrix."""
    w = heavy_tailed((24, 96)) * np.linspace(0.1, 3, 24, dtype=np.float32)[:, None]
    given = (
        squared(w, method(name)(w, scheme).decoded(), axis=1) for name in ("nearest", "learned", "learned+per=row")
    )
    nearest, of_all, of_rows = given
    assert of_all.sum() < nearest.sum()
    assert (of_rows <= of_all * (1 + 1e-6)).all()
    assert of_rows.sum() < of_all.sum() * 0.95


def test_one_table_is_the_types_and_decodes_without_steps() -> None:
    w = heavy_tailed((8, 64))
    coded = method("learned")(w, "nf4-b32-absmax-f16")
    assert np.array_equal(coded.decoded(), kb.dequantize(coded.q))
    levels = coded.scheme.dtype.levels
    assert np.array_equal(levels, levels.astype(np.float16))
    scale = np.repeat(kb.quantize(w, "nf4-b32-absmax-f16").scales.ravel(), 32).reshape(w.shape)  # stays as it was
    nearest = np.abs(levels - (w / scale)[..., None].astype(np.float64)).min(axis=-1)
    found = np.abs(levels[coded.q.codes] - (w / scale).astype(np.float64))
    assert np.array_equal(found, nearest)


def test_weights_of_lloyd_are_repetitions() -> None:
    random = np.random.default_rng(0)
    y, times = random.normal(size=50), random.integers(0, 5, 50)
    start = np.array([-1.0, 0.0, 0.5, 1.0])
    repeated = lloyd(np.repeat(y, times), np.ones(times.sum()), start)
    assert lloyd(y, times.astype(float), start) == pytest.approx(repeated, rel=1e-12)
    cells = np.abs(np.subtract.outer(y, repeated)).argmin(axis=1)  # a fixed point: each the mean of its cell
    means = [np.average(y[cells == i], weights=times[cells == i]) for i in range(4)]
    assert means == pytest.approx(repeated, rel=1e-12)


def test_inputs_that_are_never_there_do_not_count() -> None:
    w = np.tile(np.array([[1, -0.5, 0.25, 0.125]], np.float32), (8, 16))
    w[:, 32:] = heavy_tailed((8, 32)).clip(-1, 1)
    inputs = np.ones((5, 64), np.float32)
    inputs[:, 32:] = 0
    scheme = "nf2-channel-absmax-f16"
    weighed = method("learned+weigh=inputs")(w, scheme, Given(inputs=inputs))
    assert np.array_equal(weighed.decoded()[:, :32], w[:, :32])
    assert not np.array_equal(method("learned")(w, scheme).decoded()[:, :32], w[:, :32])


def test_quantiles_are_those_of_the_tensor() -> None:
    w = heavy_tailed((16, 64))
    coded = method("learned+by=quantile")(w, "int4sym-b64-absmax-f32")
    levels = kb.learn(w, "quantile4").levels  # in [-1, 1]; the scale of int4sym is max / 7
    assert np.array_equal(coded.scheme.dtype.levels, (levels * 7).astype(np.float16))
    assert np.array_equal(coded.q.scales, kb.quantize(w, "int4sym-b64-absmax-f32").scales)


# What methods look at -------------------------------------------------------------------------


def model_of(seed: int = 0, zero_bias: bool = False, dtype: str = "float32", **facts: Any) -> Model:
    """A small model of random numbers."""
    sizes = {"n_vocab": 40, "n_layer": 2, "n_head": 4, "d_model": 32, "d_ff": 48, "n_positions": 16}
    c = Config("gpt2", **{**sizes, **facts})
    random = np.random.default_rng(seed)
    parameters = {name: random.normal(size=shape).astype(dtype) * np.float32(0.3) for name, shape in shapes(c).items()}
    if zero_bias:
        parameters = {name: value * (not name.endswith("bias")) for name, value in parameters.items()}
    return Model(c, parameters)


TOKENS = np.random.default_rng(1).integers(0, 40, (6, 10))


def test_inputs_are_what_the_layers_compute() -> None:
    model = model_of(n_layer=1, qkv="thirds")
    p, c = model.parameters, model.config
    heard = inputs_of(model, TOKENS)
    w, positions = stand(c, TOKENS.shape, None, 0, np.dtype(np.float32))
    x = embed(TOKENS, p, c, positions)
    y = norm(x, p, c, "blocks.0.norm1")
    assert np.array_equal(heard["blocks.0.attention.qkv.weight"], y.reshape(-1, 32))
    mixed = attention(y, p, c, 0, w)
    again = heard["blocks.0.attention.out.weight"] @ p["blocks.0.attention.out.weight"].T
    assert again + p["blocks.0.attention.out.bias"] == pytest.approx(mixed.reshape(-1, 32), abs=1e-5)
    up = norm(x + mixed, p, c, "blocks.0.norm2")
    assert np.array_equal(heard["blocks.0.mlp.up.weight"], up.reshape(-1, 32))
    logits = model.forward(TOKENS).reshape(-1, 40)
    assert heard["embed.weight"] @ p["embed.weight"].T == pytest.approx(logits, abs=1e-5)  # tied
    assert "positions.weight" not in heard
    assert set(heard) == {name for name, value in p.items() if value.ndim == 2} - {"positions.weight"}
    assert "embed.weight" not in inputs_of(model_of(tied=False), TOKENS)
    assert np.array_equal(model.forward(TOKENS).reshape(-1, 40), logits)  # nothing of it is left in the model


def test_a_limit_keeps_the_same_tokens_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dtype="float64")
    whole, part = inputs_of(model, TOKENS), inputs_of(model, TOKENS, limit=7, seed=3)
    assert {len(rows) for rows in whole.values()} == {60}
    first = whole["blocks.0.mlp.down.weight"]
    at = [int(np.flatnonzero((first == row).all(axis=1))[0]) for row in part["blocks.0.mlp.down.weight"]]
    assert len(set(at)) == 7
    assert at == sorted(at)
    for name, rows in part.items():
        assert np.array_equal(rows, whole[name][at])
        assert rows.dtype == np.float32
    other = inputs_of(model, TOKENS, limit=7, seed=4)["blocks.0.mlp.down.weight"]
    assert not np.array_equal(other, part["blocks.0.mlp.down.weight"])
    monkeypatch.setattr(listening, "TOKENS", 20)  # two sequences at a time; some batches keep no row
    for name, rows in inputs_of(model, TOKENS, limit=7, seed=3).items():
        assert rows == pytest.approx(part[name], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("tokens", "limit", "said"),
    [(TOKENS, 0, "limit = 0"), ([1, 2], 5, "tokens of shape (2,)"), ([[99]], 5, "tokens[0, 0] = 99")],
)
def test_calibration_that_is_refused(tokens: Any, limit: int, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        inputs_of(model_of(), tokens, limit)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "facts",
    [
        {"qkv": "separate"},
        {"qkv": "separate", "n_kv_head": 2, "d_head": 6},
        {"qkv": "thirds"},
        {"qkv": "by_head"},
    ],
)
def test_the_matrix_before(facts: dict[str, Any]) -> None:
    """A token that stands alone attends to itself: what goes into `out` is v, unit by unit."""
    model = model_of(zero_bias=True, activation="relu", positions="rotary", rotary=Rotary(2), **facts)
    heard, before = inputs_of(model, TOKENS[:, :1]), previous_of(model)
    of_v = heard["blocks.1.attention." + ("v" if facts["qkv"] == "separate" else "qkv") + ".weight"]
    out = of_v @ before["blocks.1.attention.out.weight"].T
    assert out == pytest.approx(heard["blocks.1.attention.out.weight"], abs=1e-5)
    down = np.maximum(heard["blocks.1.mlp.up.weight"] @ before["blocks.1.mlp.down.weight"].T, 0)
    assert down == pytest.approx(heard["blocks.1.mlp.down.weight"], abs=1e-5)
    for name, matrix in before.items():
        assert len(matrix) == model.parameters[name].shape[1]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_who_wrote_to_the_stream(parallel: bool, narrow: bool) -> None:
    model = model_of(parallel=parallel, tied=False, gated=True, d_embed=8 if narrow else 32)
    before, p = previous_of(model), model.parameters
    first = p["project_in.weight"] if narrow else p["embed.weight"].T
    second = p["blocks.0.mlp.down.weight"]
    after = {0: first if parallel else p["blocks.0.attention.out.weight"]}
    after[1] = second if parallel else p["blocks.1.attention.out.weight"]
    expected = {"head.weight": p["project_out.weight"] if narrow else p["blocks.1.mlp.down.weight"]}
    if narrow:
        expected |= {"project_in.weight": p["embed.weight"].T, "project_out.weight": p["blocks.1.mlp.down.weight"]}
    for i, stream in enumerate((first, second)):
        expected |= {f"blocks.{i}.attention.{part}.weight": stream for part in "qkv"}
        expected |= {f"blocks.{i}.mlp.{part}.weight": after[i] for part in ("up", "gate")}
        expected[f"blocks.{i}.attention.out.weight"] = p[f"blocks.{i}.attention.v.weight"]
        expected[f"blocks.{i}.mlp.down.weight"] = p[f"blocks.{i}.mlp.up.weight"]
    assert set(before) == set(expected)
    assert all(np.array_equal(before[name], matrix) for name, matrix in expected.items())
    tied = previous_of(model_of())
    assert "head.weight" not in tied
    assert "embed.weight" in tied  # it is the output matrix, too


# In a model -----------------------------------------------------------------------------------

SCHEME = "nf4-b32-absmax-f16"


@pytest.mark.parametrize(
    "spelling",
    ["nearest", "proxy", "proxy+axis=authors", "rotate", "learned", "learned+per=row", "gptq", "awq"],
)
def test_a_model_is_quantized_by_a_spelling(spelling: str) -> None:
    model = model_of()
    quantized = model.quantize(SCHEME, method=spelling, calibration=TOKENS, skip=())
    how, inputs, before = method(spelling), inputs_of(model, TOKENS), previous_of(model)
    decoded, bits = dict(model.parameters), 0
    for name, value in model.parameters.items():
        if value.ndim < 2:
            bits += 32 * value.size
            continue
        given = Given(inputs.get(name), before.get(name))
        coded = method("nearest" if name == "positions.weight" and how.needs else spelling)(value, SCHEME, given)
        bits += coded.bits
        decoded[name] = coded.decoded()
        matrix = quantized.parameters[name]
        x = np.random.default_rng(0).normal(size=(3, value.shape[1])).astype(np.float32)
        assert product(x, matrix) == pytest.approx(x @ decoded[name].T, abs=1e-4)
        assert np.array_equal(rows_of(matrix, np.array([[1, 0], [2, 1]])), decoded[name][[[1, 0], [2, 1]]])
        assert (len(matrix.steps) > 0) == (len(coded.steps) > 0)
    assert quantized.bits == bits
    assert quantized.forward(TOKENS) == pytest.approx(Model(model.config, decoded).forward(TOKENS), abs=1e-4)


def test_activations_are_rounded_before_a_matrix_with_steps() -> None:
    model = model_of()
    spelled = "int8-channel-absmax-f32"
    matrix = model.quantize(SCHEME, method="rotate", activations=spelled).parameters["blocks.0.mlp.up.weight"]
    x = heavy_tailed((5, 32))
    decoded = method("rotate")(model.parameters["blocks.0.mlp.up.weight"], SCHEME).decoded()
    rounded = kb.dequantize(kb.quantize(x, spelled))
    assert np.array_equal(product(x, matrix), rounded @ decoded.T)


def test_a_function_may_be_the_method() -> None:
    model = model_of()
    by_name = model.quantize(SCHEME, method="learned")
    for made in (
        model.quantize(SCHEME, method=method("learned")),
        model.quantize(SCHEME, method=lambda w, s: method("learned")(w, s)),
    ):
        assert np.array_equal(made.forward(TOKENS), by_name.forward(TOKENS))
        assert made.bits == by_name.bits
    plain = model.quantize(SCHEME, method=kb.quantize)
    assert np.array_equal(plain.forward(TOKENS), model.quantize(SCHEME).forward(TOKENS))
    assert plain.astype("float64").bits > plain.bits  # norms and biases alone


def test_a_method_that_looks_at_inputs_wants_a_text() -> None:
    said = "quantize: method = gptq, it looks at what matrices are multiplied with; give it a text (calibration)"
    with pytest.raises(BadInput) as caught:
        model_of().quantize(SCHEME, method="gptq")
    assert str(caught.value) == said
    with pytest.raises(UnknownName, match="did you mean gptq"):
        model_of().quantize(SCHEME, method="gtpq")


def test_steps_are_done_in_order_and_counted() -> None:
    w = np.ones((2, 64), np.float32)

    class Twice:
        bits = 7

        def __call__(self, x: Any) -> Any:
            return x * 2

    class More:
        bits = 1

        def __call__(self, x: Any) -> Any:
            return x + 1

    coded = Coded(kb.quantize(w, "nf4-b64-absmax-f16"), [Twice(), More()])
    assert np.array_equal(coded.decoded(), 3 * w)
    assert coded.bits == 128 * 4 + 2 * 16 + 8


def test_the_command_takes_a_method_and_a_text(tmp_path: Path, capsys: Any) -> None:
    directory = str(MODELS / "xxs-0")
    text = tmp_path / "text.txt"
    text.write_text("ask: " * 200)

    def bits(*more: str) -> float:
        arguments = ["eval", directory, "--world", "-n", "2", "--scheme", SCHEME, *more, "--json"]
        assert main(arguments) == 0, capsys.readouterr().err
        return float(json.loads(capsys.readouterr().out)["bits_per_parameter"])

    plain = bits()
    assert bits("--method", "gptq", "--calibration", str(text)) == plain
    assert bits("--method", "proxy") > plain
    for more, said in (
        (["--method", "gptq"], "give it a text (calibration)"),
        (["--method", "gptq", "--calibration", str(tmp_path / "no")], "it cannot be read"),
        (["--method", "gpt"], "did you mean gptq"),
        (["--calibration", str(text)], "--calibration, nearest does not look at what matrices are multiplied with"),
    ):
        assert main(["eval", directory, "--world", "-n", "2", "--scheme", SCHEME, *more]) != 0
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
