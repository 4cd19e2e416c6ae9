"""Types from data, against cases small enough to work out."""

import numpy as np
import pytest

import kbit_ref as kb

RAMP = np.arange(1, 4097, dtype=np.float64)  # order statistic r is r + 1


def test_quantiles_of_a_ramp() -> None:
    # 2 bits: 3 quantiles, offset 1/6, kept of 256: 0, 127, 255; probabilities 1/6, 1/6 + 127 * (2/3)/255, 5/6;
    # ranks of 4095: 682.5 -> 683, 2042.2 -> 2042, 3412.5 -> 3413 (half away from zero); values one more
    wanted = [np.float32(value / 3414) for value in (0, 684, 2043, 3414)]
    assert kb.learn(RAMP, "quantile2", estimator="exact").levels.tolist() == wanted
    assert kb.learn(RAMP[::-1], "quantile2").levels.tolist() == wanted


def test_sram_is_the_mean_over_blocks_and_leaves_out_the_last() -> None:
    both = np.concatenate([RAMP, RAMP + 4096, [1e6] * 100])
    # blocks have 684, 2043, 3414 and 4096 more; the means are 2048 more; the partial third block is left out
    wanted = [np.float32(value / (3414 + 2048)) for value in (0, 684 + 2048, 2043 + 2048, 3414 + 2048)]
    assert kb.learn(both, "quantile2", estimator="sram").levels.tolist() == wanted
    assert kb.learn(both, "quantile2", estimator="exact").levels.tolist() != wanted


def test_one_short_block() -> None:
    # n = 300: ranks of 299: 49.83 -> 50, 149.1 -> 149, 249.17 -> 249; values one more
    wanted = [np.float32(value / 250) for value in (0, 51, 150, 250)]
    assert kb.learn(np.arange(1, 301.0), "quantile2").levels.tolist() == wanted


def test_lloyd_of_two_heaps() -> None:
    x = np.concatenate([np.full(200, -3.0), np.full(100, 1.0), np.full(100, 2.0), np.full(100, 10.0)])
    assert kb.learn(x, "lloyd2").levels.tolist() == [-3, 1, 2, 10]


def test_lloyd_is_a_fixed_point_and_beats_its_start() -> None:
    x = np.random.default_rng(0).standard_normal(20_000)
    d = kb.learn(x, "lloyd3")
    codes = kb.encode(d, x)
    means = [float(np.float32(x[codes == code].mean())) for code in range(8)]
    assert np.abs(d.levels - means).max() <= 2**-22
    distortion = np.mean((x - kb.decode(d, codes)) ** 2)
    assert distortion < np.mean((x - kb.decode("lloyd3", kb.encode("lloyd3", x))) ** 2) < 0.036


def test_names_tell_the_levels() -> None:
    a, b = kb.learn(RAMP, "quantile4"), kb.learn(RAMP + 1, "quantile4")
    assert a.name.startswith("quantile4~")
    assert len(a.name) == len("quantile4~") + 8
    assert a.name != b.name
    assert a == kb.learn(RAMP.copy(), "quantile4")
    kb.register(a)
    assert kb.datatype(a.name) is a


@pytest.mark.parametrize(
    ("x", "method", "text"),
    [
        (RAMP, "quantil4", r"^learn: method = 'quantil4', there is no such name; did you mean quantile4"),
        (RAMP, "lloyd9", r"^learn: method = 'lloyd9', there is no such name"),
        (RAMP[:10], "lloyd4", r"^learn: x has 10 elements, at least 256 are needed; give more data$"),
        (np.append(RAMP, np.nan), "lloyd4", r"^learn: x\[4096\] = nan, quantiles of NaN or infinity are not defined"),
        (RAMP * 1e300, "lloyd4", r"^learn: max\|x\| = .*, float32 ends at 3.4e38; scale x down$"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_errors(x: np.ndarray, method: str, text: str) -> None:
    with pytest.raises(kb.KbitError, match=text):
        kb.learn(x, method)
