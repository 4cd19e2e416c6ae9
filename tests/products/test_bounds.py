"""Intervals of dot products: sound in every order of additions, near what happens, and able to find what is wrong."""

import itertools
import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from helpers.libraries import heavy, light

import kbit_ref as kb
from kbit_ref.arithmetic import Arithmetic
from kbit_ref.errors import BadInput, UnknownName
from kbit_ref.products import interval
from kbit_ref.products.accumulate import ORDERS, Accumulator, accumulator, defined, order, spelled
from kbit_ref.products.bounds import dot_bound
from kbit_ref.products.exact_product import exact_product
from kbit_ref.products.replay import Arrays, half_ulp, replay, rounded_sum

MODELS = ("float32", "float32_fma", "float16", "float16_fma", "bfloat16", "bfloat16_fma", "float64")
MODELS += ("bfloat16_via_float32", "float16_via_float32", "float16+products=float32", "float32+products=float16")
GROUPED = ("float32_b8", "float16_b8", "bfloat16_b4")
SHORT = ("sequential", "reverse", "pairwise", "strided2", "strided4", "strided8", "strided16", "numpy", "blocked3")


def numbers(rng, shape, form: str = "float32", spread: int = 12):
    """Numbers of a format, of many magnitudes, as float64."""
    wide = rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, spread + 1, shape)
    if form == "bfloat16":
        return (wide.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    return wide.astype(form).astype(np.float64)


def exactly(a, b) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))


def same(x, y) -> bool:
    return float(x) == float(y) or (math.isnan(x) and math.isnan(y))


# --- orders ---


@pytest.mark.parametrize(
    ("name", "n", "tree"),
    [
        ("sequential", 4, "(((0+1)+2)+3)"),
        ("reverse", 4, "(((3+2)+1)+0)"),
        ("pairwise", 4, "((0+1)+(2+3))"),
        ("pairwise", 3, "((0+1)+2)"),
        ("blocked3", 8, "((((0+1)+2)+((3+4)+5))+(6+7))"),
        ("strided2", 5, "(((0+2)+4)+(1+3))"),
        ("strided4", 3, "((0+1)+2)"),
        ("numpy", 9, "((((0+1)+(2+3))+((4+5)+(6+7)))+8)"),
    ],
)
def test_orders_by_hand(name, n, tree):
    assert spelled(name, n) == tree


def test_every_order_adds_each_product_once():
    for name, n in itertools.product([*ORDERS.names(), "blocked7"], (1, 2, 9, 300)):
        found = spelled(name, n).replace("(", "").replace(")", "").split("+")
        assert sorted(map(int, found)) == list(range(n))


@pytest.mark.parametrize("name", [*MODELS, *GROUPED])
def test_replay_is_the_definition(name):
    rng = np.random.default_rng(7)
    for i, (named, form) in enumerate(itertools.product(SHORT, ("float32", "float16"))):
        model = accumulator(f"{name}+order={named}")
        n = 5 + i
        a, b = numbers(rng, (1, n), form), numbers(rng, (n, 2), form)
        scales = numbers(rng, (-(-n // (model.group or n)), 2))
        found, _ = replay(model, a, b, scales)
        for j in range(2):
            assert same(defined(model, a[0], b[:, j], scales[:, j]), found[0, j]), (str(model), n)


def test_a_fused_product_is_not_rounded():
    """(1 + 2**-12)**2 is a tie of float32, and so is its rounded value plus 2**-24: twice down, or up by an ulp."""
    x = 1 + 2.0**-12
    a, b = np.array([[2.0**-24, x]]), np.array([[1.0], [x]])
    assert replay(accumulator("float32_fma+order=sequential"), a, b)[0][0, 0] == 1 + 2.0**-11 + 2.0**-23
    assert replay(accumulator("float32+order=sequential"), a, b)[0][0, 0] == 1 + 2.0**-11
    assert rounded_sum("float32", 2.0**-24, x * x) == 1 + 2.0**-11 + 2.0**-23


def test_numpy_adds_in_the_orders_that_bear_the_names():
    rng = np.random.default_rng(0)
    for n in (1, 7, 8, 9, 127, 128, 129, 1000):
        x, y = rng.standard_normal((2, n)).astype(np.float32)
        bound = dot_bound(x[None], y[:, None], "float32+order=numpy")
        assert bound.equal(np.sum(x * y).reshape(1, 1))
        bound = dot_bound(x[None], y[:, None], "float32+order=sequential")
        assert bound.equal(np.cumsum(x * y)[-1:, None])
        if n > 100:
            said = bound.equal(np.sum(x * y).reshape(1, 1))
            assert not said
            assert str(said).startswith("0 of 1 equal, error ")
            assert f"sequential gives {bound.replayed[0, 0]:.9g}: exact " in str(said)


def test_numpys_halves_add_in_order():
    x, y = np.random.default_rng(1).standard_normal((2, 300)).astype(np.float16)
    assert dot_bound(x[None], y[:, None], "float16+order=sequential").equal(np.cumsum(x * y)[-1:, None])


def test_int32_wraps():
    found = dot_bound([[2.0**20] * 3], [[2.0**10]] * 3, "int32+order=sequential")
    assert found.replayed[0, 0] == 3 * 2**30 - 2**32
    assert not found.bounded[0, 0]


def test_half_ulps_by_hand():
    x = np.array([1.0, 1.99, 2.0, 0.0, 2.0**-149])
    assert half_ulp("float32", x).tolist() == [2.0**-24, 2.0**-24, 2.0**-23, 2.0**-150, 2.0**-150]
    assert half_ulp("bfloat16", x[:1]).tolist() == [2.0**-8]


# --- the exact product ---


@pytest.mark.parametrize("spread", [0, 12, 120])
def test_the_centre_is_the_exact_product_rounded(spread):
    rng = np.random.default_rng(spread)
    a, b = numbers(rng, (6, 40), spread=spread), numbers(rng, (40, 5), spread=spread)
    a[0, 20:], b[20:] = -a[0, :20], b[:20]  # cancels to zero, exactly
    centre, rest, doubt = exact_product(a, b)
    for i, j in np.ndindex(6, 5):
        exact = exactly(a[i], b[:, j])
        assert Fraction(centre[i, j]) == Fraction(float(exact))
        assert abs(exact - Fraction(centre[i, j]) - Fraction(rest[i, j])) <= Fraction(doubt[i, j])
    assert (centre[0] == 0).all()


def test_the_centre_beside_a_tie():
    """1 + 2**-53 is a tie of float64, and 2**-120 more or less decides."""
    a = np.array([[1.0, 2.0**-53, sign * 2.0**-120] for sign in (-1, 0, 1)])
    assert exact_product(a, np.ones((3, 1))).centre[:, 0].tolist() == [1.0, 1.0, 1 + 2.0**-52]


# --- sound ---


def random_tree(seed: int):
    """A binary tree of additions, any shape, products in any order; some products join sums, some begin one."""

    def run(machine, n):
        rng = np.random.default_rng(seed)
        left = [*range(n)]  # products (int) and sums
        while len(left) > 1 or isinstance(left[0], int):
            one = left.pop(rng.integers(len(left)))
            two = left.pop(rng.integers(len(left))) if left else None
            if isinstance(one, int):
                one, two = (two, one) if not isinstance(two, int | None) else (machine.start(one), two)
            if isinstance(two, int):
                one = machine.step(one, two)
            elif two is not None:
                one = machine.join(one, two)
            left.append(one)
        return left[0]

    return run


def adversarial(rng, kind: int, m: int, k: int, n: int, form: str):
    """Operands [m, k] and [k, n] of one kind of hard case."""
    a, b = numbers(rng, (m, k), form, 1 + kind), numbers(rng, (k, n), form, 1 + kind)
    if kind == 1:  # one large sum, and all others about half its ulp
        p = {"float16": 11, "bfloat16": 8, "float32": 24}[form]
        a, b = np.sign(a) * rng.choice([1.0, 1.5, 0.75], (m, k)), np.ones((k, n))
        a[:, 1:] *= 2.0**-p
        a[:, 0] = 1
        if rng.integers(2):
            a = np.abs(a)
    elif kind == 2:  # cancellation
        half = k // 2
        a[:, half : 2 * half], b[half : 2 * half] = -a[:, :half], b[:half]
    elif kind == 3:  # all positive, nearly powers of two
        a, b = 2.0 ** np.rint(a % 3) - 2.0**-7, 2.0 ** np.rint(b % 3)
    elif kind == 4:  # products that underflow
        tiny = {"float16": -12, "bfloat16": -68, "float32": -75}[form]
        a, b = a * 2.0**tiny, b * 2.0**tiny
        a = (a.astype(np.float16) if form == "float16" else a.astype(np.float32)).astype(np.float64)
        b = (b.astype(np.float16) if form == "float16" else b.astype(np.float32)).astype(np.float64)
    elif kind == 5:  # zeros of both signs
        a[rng.random((m, k)) < 0.7] = -0.0
        b[rng.random((k, n)) < 0.3] = 0.0
    elif kind == 6 and form == "float16":  # near overflow
        a = (a * 64).astype(np.float16).clip(-6e4, 6e4).astype(np.float64)
    return a, b


SOUND = ("float16", "bfloat16", "float32", "float16_fma", "bfloat16_fma", "float32_fma", "bfloat16_via_float32")
SOUND += ("float16+products=float32", "float32+products=float16", "float16_b5", "bfloat16_b3", "float32+out=float16")


@lru_cache
def cases(count: int, size: int):
    """`count` rounds of size * size dot products: model, operands, answer, bound."""
    found = []
    rng = np.random.default_rng(count)
    for i in range(count):
        name = SOUND[i % len(SOUND)]
        form = next(f for f in ("bfloat16", "float16", "float32") if f in name)
        k = int(rng.choice([1, 2, 3, 7, 16, 33]))
        a, b = adversarial(rng, i // len(SOUND) % 7, size, k, size, form)
        model, scales = accumulator(name), None
        if model.group:
            scales = numbers(rng, (-(-k // model.group), size), form, 2)
        bound = dot_bound(a, b, model, scales=scales)
        if model.group or i % 3 == 0:  # a named order
            named = rng.choice(["sequential", "reverse", "pairwise", "blocked4", "strided4"])
            answer = replay(accumulator(f"{name}+order={named}"), a, b, scales)[0]
        else:
            with np.errstate(all="ignore"):  # overflow
                answer = random_tree(i)(Arrays(model, a, b), k)
            answer = Arithmetic(model.out).round(answer)
        found.append((model, a, b, scales, np.asarray(answer, np.float64), bound))
    return found


def sound(found) -> float:
    """The share of bounded cases; every one of them inside."""
    bounded = []
    for model, _, _, _, answer, bound in found:
        with np.errstate(invalid="ignore"):
            inside = (bound.lower <= answer) & (answer <= bound.upper)
        assert (inside | ~bound.bounded).all(), (str(model), bound.holds(answer))
        assert bound.holds(answer)
        bounded.append(bound.bounded.mean())
    return float(np.mean(bounded))


def test_no_order_leaves_the_interval():
    assert sound(cases(168, 12)) > 0.8


@pytest.mark.slow
def test_no_order_leaves_the_interval_in_a_million_cases():
    found = cases(700, 38)
    assert sum(case[4].size for case in found) > 10**6
    assert sound(found) > 0.8
    assert judged_in_rationals(found) > 600


def interval_in_rationals(model: Accumulator, a, b) -> tuple[Fraction, Fraction]:
    """The theorem again, in rationals, without groups: exact product and radius before the last rounding."""
    digits = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149)}  # precision, least number
    n, terms = len(a), [Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    total = sum(map(abs, terms))
    p, least = digits[model.sums]
    u, eta = Fraction(1, 2**p), Fraction(2) ** least / 2
    lost = Fraction(0)
    if model.products != "exact":
        q, smallest = digits[model.products]
        lost = Fraction(1, 2**q) * total + n * Fraction(2) ** smallest / 2
    if model.products not in (model.sums, "float16"):
        lost += u * (total + lost) + (2 * n - 1) * eta
    return sum(terms, Fraction(0)), (lost + (n - 1) * u * (total + lost)) if total else Fraction(0)


def judged_in_rationals(found) -> int:
    """Of each round the element nearest to an edge, and one more, again in rationals; how many they were."""
    count = 0
    for model, a, b, _, answer, bound in found:
        if model.group or model.out != model.sums:
            continue
        with np.errstate(all="ignore"):
            near = np.nan_to_num(np.abs(answer - bound.centre) / bound.width)
        near[~bound.bounded] = -1
        for i, j in (np.unravel_index(near.argmax(), near.shape), (3, 4)):
            if not bound.bounded[i, j]:
                continue
            count += 1
            exact, radius = interval_in_rationals(model, a[i], b[:, j])
            assert abs(Fraction(answer[i, j]) - exact) <= radius
            low, high = Fraction(bound.lower[i, j]), Fraction(bound.upper[i, j])
            assert low <= exact - radius
            assert exact + radius <= high
            assert high - low <= 2 * radius * (1 + Fraction(1, 10**9)) + abs(exact) * Fraction(1, 2**50)
    return count


def test_the_interval_is_that_of_the_theorem_in_rationals():
    """It contains it, and is no more than a part in 10**9 wider."""
    assert judged_in_rationals(cases(168, 12)) > 150


def test_the_interval_is_reached():
    """2**p + 1 + ... + 1 in order stays 2**p: the error is 8, the radius that of eight additions and of a product."""
    for form, p in (("float16", 11), ("bfloat16", 8)):
        a = np.ones((1, 9))
        a[0, 0] = 2.0**p
        judged = dot_bound(a, np.ones((9, 1)), form).holds([[2.0**p]])
        assert judged
        assert judged.error[0, 0] == 8
        assert judged.nearest[0] == 8
        assert 9 < judged.nearest[1] < 9.4


def test_a_narrower_interval_would_be_left(monkeypatch):
    """The cases are hard enough: with three quarters of the roundoff they find a violation."""
    unit = interval._unit
    monkeypatch.setattr(interval, "_unit", lambda form: unit(form) * 0.75)
    with pytest.raises(AssertionError):
        sound(cases.__wrapped__(168, 12))


def test_an_interval_without_underflow_would_be_left(monkeypatch):
    monkeypatch.setattr(interval, "_half_least", lambda form: 0.0)
    with pytest.raises(AssertionError):
        sound(cases.__wrapped__(168, 12))


# --- what has no bound, or no error ---


def test_overflow_has_no_bound():
    bound = dot_bound([[300.0, 300.0]], [[300.0, 1.0], [-300.0, 1.0]], "float16")
    assert bound.bounded.tolist() == [[False, True]]
    assert (bound.lower[0, 0], bound.upper[0, 0]) == (-np.inf, np.inf)
    said = bound.holds(np.array([[np.nan, 600]], np.float16))
    assert said
    assert str(said).startswith("1 of 2 inside, 1 without a bound: may overflow, no error")
    assert dot_bound([[300.0, 300.0]], [[300.0], [-300.0]], "float32").bounded.all()


def test_sums_may_overflow_on_the_way():
    """60000 + 60000 - 60000 is 60000 or infinite in float16, by order."""
    bound = dot_bound([[6e4, 6e4, -6e4]], [[1.0]] * 3, "float16+order=sequential")
    assert bound.replayed[0, 0] == np.inf
    assert not bound.bounded[0, 0]


def test_whole_numbers_have_no_error():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (5, 300)).astype(np.int8), rng.integers(-128, 128, (300, 4)).astype(np.int8)
    bound = dot_bound(a, b, "int32")
    true = a.astype(np.int64) @ b.astype(np.int64)
    assert (bound.width == 0).all()
    assert bound.holds(true.astype(np.int32))
    just, size = (
        f"[{true[3, 2]}, {true[3, 2]}]",
        f"sum|a*b| {np.abs(a[3].astype(int)) @ np.abs(b[:, 2].astype(int)):.4g}",
    )
    true[3, 2] += 1
    assert str(bound.holds(true)).endswith(f"c[3, 2] = {true[3, 2]}, outside {just}: exact {true[3, 2] - 1}, {size}")


def test_zero_is_exact():
    bound = dot_bound([[0.0, -0.0]], [[5.0], [3.0]])
    assert bound.lower[0, 0] == bound.upper[0, 0] == bound.probable[0, 0] == 0
    assert bound.holds([[-0.0]])
    assert not bound.holds([[1e-45]])


def test_the_result_rounded_to_half_precision():
    bound = dot_bound([[1.0, 2.0**-9]], [[1.0], [1.0]], "bfloat16_via_float32")
    assert (bound.lower[0, 0], bound.upper[0, 0]) == (1, 1)  # 1 + 2**-9 and its neighbours round to 1


# --- probable ---


@pytest.mark.parametrize("data", ["normal", "positive"])
@pytest.mark.parametrize("named", ["sequential", "pairwise", "strided16", "blocked64"])
def test_the_probable_width_is_near_what_happens(named, data):
    """float32, K = 4096: the quantile of 99.9 % is within a factor of 4, and delta is kept."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((32, 4096)).astype(np.float32), rng.standard_normal((4096, 64)).astype(np.float32)
    if data == "positive":
        a, b = np.abs(a), np.abs(b)
    bound = dot_bound(a, b, f"float32+order={named}", delta=0.001)
    error = np.abs(bound.replayed - bound.centre)
    assert (error > bound.probable).mean() <= 0.001
    assert bound.probable.mean() <= 4 * np.quantile(error, 0.999)
    assert np.quantile(error / bound.probable, 0.999) >= 0.25
    assert bound.holds(bound.replayed).improbable == (error > bound.probable).sum()
    assert (bound.probable < bound.width / (500 if data == "normal" else 50)).all()


@pytest.mark.parametrize(
    "model", ["float32_b64", "float32_fma", "bfloat16_via_float32", "int32_b64", "float16", "bfloat16"]
)
def test_the_probable_width_of_other_models(model):
    rng = np.random.default_rng(6)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((24, 1024), (1024, 48)))
    if model == "int32_b64":
        a, b = np.rint(a * 40), np.rint(b * 40)
    scales = np.exp(rng.standard_normal((16, 48))).astype(np.float32)
    bound = dot_bound(a, b, f"{model}+order=strided8", scales=scales if "_b" in model else None)
    error = np.abs(bound.replayed - bound.centre)
    assert (error > bound.probable).mean() <= 0.001
    assert np.quantile(error / bound.probable, 0.999) >= 0.25


def test_the_probable_width_of_any_order_is_that_of_the_theorem():
    a = np.ones((1, 1024))
    bound = dot_bound(a, a.T, delta=0.01)
    wanted = math.sqrt(2 * math.log(200) * 1023) * 2.0**-24 * 1024
    assert wanted < bound.probable[0, 0] < 1.01 * wanted


# --- what it says of implementations ---


def operands(k: int, dtype=np.float32):
    rng = np.random.default_rng(k)
    return rng.standard_normal((8, k)).astype(dtype), rng.standard_normal((k, 24)).astype(dtype)


def test_numpy_matmul():
    for k in (1, 33, 1000):
        a, b = operands(k)
        said = dot_bound(a, b, "float32+order=sequential").holds(a @ b)
        assert said
        assert said.improbable == 0
        wide = a.astype(np.float64) @ b.astype(np.float64)
        assert dot_bound(a, b, "float64").holds(wide)
        assert dot_bound(a, b, "float32").holds(wide.astype(np.float32))


def test_a_product_of_rounded_weights_is_outside():
    """Weights in bfloat16, computed with in float32, against the product of the float32 weights."""
    a, b = operands(256)
    rounded = (b.view(np.uint32) & 0xFFFF0000).view(np.float32)
    said = dot_bound(a, b).holds(a @ rounded)
    assert not said
    assert said.outside.mean() > 0.9
    assert dot_bound(a, rounded).holds(a @ rounded)


def test_jax_matmul():
    jnp = light("jax.numpy")
    a, b = operands(500)
    assert dot_bound(a, b, "float32").holds(np.asarray(jnp.matmul(a, b)))


@pytest.mark.heavy
@pytest.mark.slow
def test_torch_matmul():
    torch = heavy("torch")
    a, b = operands(500)
    assert dot_bound(a, b).holds((torch.from_numpy(a) @ torch.from_numpy(b)).numpy())
    for form, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        x, y = torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)
        said = dot_bound(x.float().numpy(), y.float().numpy(), f"{form}_via_float32").holds((x @ y).float().numpy())
        assert said, said
    x, y = (torch.from_numpy(np.clip(v * 40, -128, 127).astype(np.int8)) for v in (np.tile(a, (4, 1)), b))
    assert dot_bound(x.numpy(), y.numpy(), "int32").holds(torch._int_mm(x, y).numpy())


@pytest.mark.heavy
@pytest.mark.slow
def test_bitsandbytes_4_bit_product():
    torch = heavy("torch")
    functional = heavy("bitsandbytes.functional")
    bnb = heavy("bitsandbytes")
    a, b = operands(256)
    weight = torch.from_numpy(np.ascontiguousarray(b.T))
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    theirs = bnb.matmul_4bit(torch.from_numpy(a), packed.t(), quant_state=state).float().numpy()
    decoded = functional.dequantize_4bit(packed, state).float().numpy().T
    assert dot_bound(a, decoded).holds(theirs), str(dot_bound(a, decoded).holds(theirs))


def matmul_n_bits(a, q, level: int):
    """onnxruntime's product of a [M, K] with int4 weights [K, N] in blocks of 32 along K."""
    ort = light("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    k, n = q.shape
    codes = (q.codes.astype(np.uint8) ^ 8) & 15  # zero point 8
    blocks = np.ascontiguousarray(codes.T).reshape(n, k // 32, 16, 2)
    weights = {"B": blocks[..., 0] | blocks[..., 1] << 4, "scales": np.ascontiguousarray(q.scales).reshape(-1)}
    choices = {"K": k, "N": n, "bits": 4, "block_size": 32, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", ["A", *weights], ["Y"], domain="com.microsoft", **choices)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (len(a), m)) for name, m in (("A", k), ("Y", n)))
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(w, name) for name, w in weights.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"A": a})[0]


@pytest.mark.parametrize("k", [256, 4096])
def test_onnxruntime_with_quantized_activations_is_found(k):
    """MatMulNBits is the product at level 1; at level 4 activations are rounded, which no order of additions does."""
    a, b = operands(k)
    q = kb.quantize(b, "int4-b32@0-absmax-f32")
    bound = dot_bound(a, q, "float32+order=sequential")
    exact, fast = (bound.holds(matmul_n_bits(a, q, level)) for level in (1, 4))
    assert exact
    assert exact.improbable == 0
    assert fast.outside.any()
    assert fast.outside.sum() + fast.improbable > 0.95 * fast.outside.size
    assert k > 256 or fast.outside.mean() > 0.95


# --- groups, arguments ---


def test_groups_take_scales_from_a_qtensor():
    rng = np.random.default_rng(2)
    a = rng.integers(-127, 128, (3, 64))
    w = rng.standard_normal((64, 5)).astype(np.float32)
    q = kb.quantize(w, "int4-b32@0-absmax-f32")
    bound = dot_bound(a, q, "int32_b32+order=sequential")
    codes = q.codes.astype(np.int8)
    levels = np.where(codes > 7, codes - 16, codes).astype(np.int64)
    first, second = ((a[:, p] @ levels[p]).astype(np.float32) for p in (slice(0, 32), slice(32, 64)))
    wanted = first * q.scales[:, 0] + second * q.scales[:, 1]
    assert bound.equal(wanted)
    assert bound.holds(wanted)
    for i, j in np.ndindex(3, 5):
        exact = exactly(a[i].astype(float), levels[:, j] * np.repeat(q.scales[j].astype(float), 32))
        assert bound.centre[i, j] == float(exact)
    assert dot_bound(a, levels.astype(np.int8), "int32_b32", scales=q.scales.T).holds(wanted)
    assert not dot_bound(a, q, "int32_b32").holds(wanted * np.float32(1 + 2.0**-20))


def test_no_rows_are_no_rows():
    bound = dot_bound(np.zeros((0, 3)), np.zeros((3, 2)))
    assert bound.centre.shape == (0, 2)
    assert str(bound.holds(np.zeros((0, 2)))) == "0 of 0 inside, no error"


def test_leading_axes_and_other_arrays_stay():
    a, b = operands(16)
    bound = dot_bound(a.reshape(2, 4, 16), b)
    assert bound.centre.shape == (2, 4, 24)
    assert bound.holds((a @ b).reshape(2, 4, 24))
    assert (a == operands(16)[0]).all()


def test_tiles_are_one_result(monkeypatch):
    from kbit_ref.products import exact_product as bounds_product

    a, b = operands(50)
    whole = dot_bound(a, b, "float32+order=pairwise")
    monkeypatch.setattr(bounds_product, "TILE", 5)
    parts = dot_bound(a, b, "float32+order=pairwise")
    for name in ("centre", "lower", "upper", "probable", "replayed"):
        assert (getattr(whole, name) == getattr(parts, name)).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dot_bound([[np.nan, 1]], [[1.0], [1.0]]), r"dot_bound: a\[0, 0\] = nan, a product with it has no"),
        (lambda: dot_bound([[1.0]], [[1.0], [2.0]]), "they are .* K >= 1"),
        (lambda: dot_bound(np.longdouble([[1.0]]), [[1.0]]), "a of dtype longdouble"),
        (lambda: dot_bound(np.zeros((2, 0)), np.zeros((0, 2))), "they are .* K >= 1"),
        (lambda: dot_bound([[1.5]], [[1.0]], "int32"), "int32 adds whole numbers"),
        (lambda: dot_bound([[1e300]], [[1.0]], "float64"), "scale it by a power of two"),
        (lambda: dot_bound([[1.0]], [[1.0]], delta=0), "delta = 0, it is a probability"),
        (lambda: dot_bound([[1.0]], [[1.0]], scales=[[1.0]]), "the accumulator has no groups"),
        (lambda: dot_bound([[1.0]], [[1.0]]).equal([[1.0]]), "any order has no one answer"),
        (lambda: dot_bound([[1.0]], [[1.0]]).holds([1.0]), "the product has shape"),
        (lambda: dot_bound([[0.1]], [[0.1]], "float32_fma+order=sequential"), "no float64 numbers"),
    ],
)
def test_mistakes(call, text):
    with pytest.raises(BadInput, match=text):
        call()


@pytest.mark.parametrize(
    "name", ["float23", "float32+order=sideways", "float32+fma=yes", "float32+out=float8", "float32+group=0"]
)
def test_unknown_names(name):
    with pytest.raises(UnknownName, match=r"^accumulator: "):
        accumulator(name)


def test_records_make_sense():
    assert Accumulator("int32", "exact", group=32) == accumulator("int32_b32") == accumulator("int32+group=32")
    assert accumulator("float32+group=8+outer=bfloat16").out == "bfloat16"
    for arguments in (
        ("int32", "float16"),
        ("float32", "exact", "any", 0),
        ("float32", "exact", "any", None, "", "int32"),
    ):
        with pytest.raises(BadInput, match=r"^accumulator: sums = "):
            Accumulator(*arguments)
    with pytest.raises(UnknownName, match="sums = 'tf32'"):
        Accumulator("tf32", "exact")


def test_spellings_are_read():
    for name in (*MODELS, *GROUPED, "int32", "int32_b32"):
        record = accumulator(name)
        assert accumulator(record) is record
        assert accumulator(str(record)) == record
        assert hash(record) == hash(accumulator(name))
    assert callable(order("blocked32"))
