"""Yield, its curve over levels, and what matters to it, each against a closed form, scipy or brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtri
from scipy.stats import beta, binom, binomtest, chi2, qmc, sobol_indices, ttest_1samp, uniform

from ohmostat.learning.importance import effects, importance
from ohmostat.learning.probit import SHARPEST, fit, likelihood_interval, profile
from ohmostat.learning.yields import (
    Requirement,
    YieldCurve,
    chips_to_certify,
    meets,
    proportion,
    summary,
)

LEVELS = np.linspace(0, 1, 6)


# -- requirements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quantity", "relation", "limit", "unit"),
    [
        ("accuracy >= 0.9", "accuracy", ">=", 0.9, ""),
        ("accuracy>=90%", "accuracy", ">=", 0.9, ""),
        ("inference_energy <= 1nJ", "inference_energy", "<=", 1e-9, "J"),
        ("settling_time <= 2.5 us", "settling_time", "<=", 2.5e-6, "s"),
        ("alignment/forward0 ≥ -.5", "alignment/forward0", ">=", -0.5, ""),
        ("size <= 2e0m", "size", "<=", 2.0, "m"),
        ("turn <= 1rad", "turn", "<=", 1.0, "rad"),
    ],
)
def test_requirement(text: str, quantity: str, relation: str, limit: float, unit: str) -> None:
    read = Requirement.parse(text)
    assert (read.quantity, read.relation, read.unit) == (quantity, relation, unit)
    assert read.limit == pytest.approx(limit, rel=1e-14)
    assert Requirement.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accuracy", "is no requirement"),
        ("accuracy > 0.9", "allowed: >= and <="),
        ("accuracy >= good", "not a number"),
        ("accuracy >= nan", "not a number"),
        ("accuracy >= 1,5", "not a number"),
        ("accuracy >= 1e400", "not finite"),
        ("accuracy >= 900m", "milli and as metres"),
        ("inference_energy <= 1nS", 'is in "S"; inference_energy needs a limit in "J"'),
        ("inference_energy <= 1e-9", "has no unit"),
        ("accuracy >= 1V", "needs a plain number"),
        ("accuracy >= 45", "outside 0 to 1, where accuracy always is; write 45% or 0.45"),
        ("accuracy >= 450", "where accuracy always is; give one inside"),
        ("left_out <= 110%", "always is; give one inside"),
        ("alignment/forward0 >= 2", "outside -1 to 1, where alignment/forward0 always is; give one inside"),
    ],
)
def test_refused_requirements(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Requirement.parse(text, {"inference_energy": "J", "accuracy": ""})


def test_meets_every_requirement_and_nan_never_does() -> None:
    quantities = {"accuracy": [[0.95, 0.9, np.nan], [0.8, 1.0, 0.9]], "energy": [[1, 2, 1], [1, 1, np.nan]]}
    high, low = Requirement.parse("accuracy >= 0.9"), Requirement.parse("energy <= 1")
    np.testing.assert_array_equal(meets(quantities, [high, low]), [[1, 0, 0], [0, 1, 0]])


def test_what_meets_refuses() -> None:
    with pytest.raises(ValueError, match=r'"acuracy" \(did you mean "accuracy"\?\); known: accuracy, energy'):
        meets({"accuracy": [[1]], "energy": [[1]]}, [Requirement.parse("acuracy >= 1")])
    with pytest.raises(ValueError, match="no requirement"):
        meets({"accuracy": [[1]]}, [])
    both = [Requirement.parse("a >= 1"), Requirement.parse("b >= 1")]
    with pytest.raises(ValueError, match="give one shape"):
        meets({"a": [[1, 1]], "b": [[1]]}, both)


# -- one level -------------------------------------------------------------------------------------


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_exact_interval(counts: tuple[int, int], level: float) -> None:
    """Beta quantiles, and tails of exactly ``(1 - level)/2`` at its ends."""
    passed, total = counts
    found, tail = proportion(passed, total, level), (1 - level) / 2
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    if passed:
        assert found.low == pytest.approx(beta.ppf(tail, passed, total - passed + 1), rel=1e-6)
        assert binom.sf(passed - 1, total, found.low) == pytest.approx(tail, rel=1e-6)
    if passed < total:
        assert binom.cdf(passed, total, found.high) == pytest.approx(tail, rel=1e-6)


def test_impossible_proportions() -> None:
    for passed, total in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="is no proportion"):
            proportion(passed, total)
    with pytest.raises(ValueError, match=r"confidence level is 95; allowed: above 0, below 1"):
        proportion(1, 2, 95)


def test_chips_to_certify() -> None:
    assert [chips_to_certify(share) for share in (0.9, 0.95, 0.99)] == [29, 59, 299]
    assert chips_to_certify(0.5, 0.75) == 2  # exactly
    for share in (0.3, 0.8, 0.97):
        chips = chips_to_certify(share, 0.9)
        low = [binomtest(n, n, alternative="greater").proportion_ci(0.9).low for n in (chips - 1, chips)]
        assert low[0] < share <= low[1]


# -- the curve -------------------------------------------------------------------------------------


def thresholds(seed: int, shape: tuple[int, ...], x50: float = 0.55, width: float = 0.2) -> np.ndarray:
    """Levels above which chips fail: their distribution function is the curve."""
    return x50 + width * np.random.default_rng(seed).standard_normal(shape)


def test_fit_is_the_maximum_of_the_likelihood() -> None:
    levels, passed, total = LEVELS**2, np.array([19, 17, 15, 9, 4, 1]), np.array([20, 20, 20, 20, 20, 40])
    line = fit(levels, passed[None], total)[0][0]

    def loss(theta: np.ndarray) -> float:
        eta = theta[0] + theta[1] * levels
        return -float(passed @ log_ndtr(eta) + (total - passed) @ log_ndtr(-eta))

    reference = minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(line, reference.x, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=7), st.floats(-5, 5), st.floats(0.01, 100))
def test_fit_of_any_counts_is_finite_and_moves_with_the_levels(
    counts: list[int], shift: float, scale: float
) -> None:
    passed, levels = np.array([counts]), np.arange(len(counts), dtype=float)
    total = np.full(len(counts), 9)
    line, sharp, best = fit(levels, passed, total)
    moved, again, same = fit(shift + scale * levels, passed, total)
    assert not np.isnan(line).any() and best[0] <= 1e-12
    np.testing.assert_array_equal(sharp, again)
    np.testing.assert_allclose(same, best, atol=1e-6)
    if np.isfinite(line).all():
        np.testing.assert_allclose(moved[0, 1], line[0, 1] / scale, rtol=1e-5, atol=1e-6 / scale)
        eta = moved[0, 0] + moved[0, 1] * (shift + scale * levels)
        np.testing.assert_allclose(eta, line[0, 0] + line[0, 1] * levels, rtol=1e-5, atol=1e-5)


def test_points_of_one_level_are_pooled_in_any_order() -> None:
    passes = LEVELS[:, None] < thresholds(1, (30,))
    halves = np.concatenate([passes[:, 15:], passes[::-1, :15]])
    pooled = YieldCurve.fit(np.concatenate([LEVELS, LEVELS[::-1]]), halves)
    whole = YieldCurve.fit(LEVELS, passes)
    np.testing.assert_array_equal(pooled.passed, whole.passed)
    assert (pooled.x50, pooled.width) == pytest.approx((whole.x50, whole.width))


def test_a_rising_curve_is_the_mirror_of_a_falling_one() -> None:
    chips = thresholds(2, (25,))
    falling = YieldCurve.fit(LEVELS, LEVELS[:, None] < chips, seed=4)
    rising = YieldCurve.fit(-LEVELS[::-1], (LEVELS[:, None] < chips)[::-1], seed=4)
    assert not falling.rising and rising.rising and falling.width > 0 > rising.width
    assert (rising.x50, rising.width) == pytest.approx((-falling.x50, -falling.width))
    one, other = falling.largest(0.8), rising.largest(0.8)
    assert one.largest and not other.largest
    assert other.words("gain").startswith(f"80 % yield is kept from gain = {-one.x:.2g} on (95 % interval ")
    assert (other.x, other.low, other.high) == pytest.approx((-one.x, -one.high, -one.low), abs=0.03)


@pytest.mark.parametrize("resample", ["chips", "levels"])
def test_the_interval_holds_the_true_level(resample: str) -> None:
    """In at least 34 of 40 seeds, of which 38 are expected and fewer than 34 have a chance of 1 %."""
    inside, true = 0, 0.55 - 0.2 * float(ndtri(0.9))
    for seed in range(40):
        chips = thresholds(seed, (20,) if resample == "chips" else (6, 20))
        passes = np.broadcast_to(LEVELS[:, None] < chips, (6, 20))
        limit = YieldCurve.fit(LEVELS, passes, resample=resample, replicates=200, seed=seed).largest(0.9)
        inside += limit.low <= true <= limit.high
        assert limit.low <= limit.x <= limit.high
    assert inside >= 34


def test_the_same_seed_gives_the_same_interval() -> None:
    passes = LEVELS[:, None] < thresholds(7, (20,))
    one, same, other = (YieldCurve.fit(LEVELS, passes, seed=seed).largest(0.9) for seed in (1, 1, 2))
    assert one == same and one != other


def test_chips_shared_by_the_levels_are_one_sample() -> None:
    """Ten copies of the same levels tell no more of the chips: the interval must not shrink by √10."""
    passes = LEVELS[:, None] < thresholds(8, (30,))
    once = YieldCurve.fit(LEVELS, passes).largest(0.5)
    shared, apart = (
        YieldCurve.fit(np.tile(LEVELS, 10), np.tile(passes, (10, 1)), resample=how).largest(0.5)
        for how in ("chips", "levels")
    )
    assert shared.high - shared.low == pytest.approx(once.high - once.low, rel=0.2)
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_profile_and_likelihood_interval_by_brute_force() -> None:
    total, passed = np.full(6, 20), np.array([20, 19, 13, 6, 1, 0])
    goal, slopes = float(ndtri(0.8)), np.linspace(0, 40, 40_001)

    def lost(x: float) -> float:
        eta = goal - slopes[:, None] * (LEVELS - x)
        likelihood = log_ndtr(eta) @ passed + log_ndtr(-eta) @ (total - passed)
        return float(fit(LEVELS, passed[None], total)[2][0] - likelihood.max())

    ends = likelihood_interval(LEVELS, passed, total, goal, -1, float(chi2.ppf(0.95, 1)))
    for end in ends:
        assert 2 * lost(end) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)
        best = profile(LEVELS, passed[None], total, goal, end, -1)
        assert fit(LEVELS, passed[None], total)[2] - best == pytest.approx([lost(end)], abs=1e-6)
    assert 2 * lost(ends[0] - 0.01) > chi2.ppf(0.95, 1) > 2 * lost(ends[0] + 0.01)


@pytest.mark.parametrize(("at", "centre"), [(0.5, 0.5), (0.6, 0.6)])  # between two levels; on one, half pass
def test_data_that_separate_get_a_width_and_an_interval(at: float, centre: float) -> None:
    chips = np.where(np.arange(20) < 10, at - 1e-9, at + 1e-9)
    curve = YieldCurve.fit(LEVELS, LEVELS[:, None] < chips)
    assert curve.sharp
    assert curve.x50 == pytest.approx(centre)
    assert curve.width == pytest.approx(SHARPEST * 0.2)
    limit = curve.largest(0.95)
    assert 0.2 < limit.low < 0.41 and 0.55 < limit.high < 0.61  # the levels around, however sure the chips
    assert "the curve's width is set, not fitted" in summary("sigma", curve, 0.95)[-2]


def test_levels_may_be_spaced_very_unevenly() -> None:
    """Levels that are far below the transition, and close together, change nothing."""
    passes = LEVELS[:, None] < thresholds(9, (20,))
    passes[0] = True
    one = YieldCurve.fit(LEVELS, passes).largest(0.7)
    levels = np.concatenate([[-1e4, -1e4 + 1e-3], LEVELS])
    other = YieldCurve.fit(levels, np.concatenate([np.ones((2, 20), bool), passes])).largest(0.7)
    assert (other.x, other.low, other.high) == pytest.approx((one.x, one.low, one.high), abs=0.01)


def test_nothing_is_extrapolated() -> None:
    always = YieldCurve.fit(LEVELS, np.ones((6, 29), bool))
    never = YieldCurve.fit(LEVELS, np.zeros((6, 5), bool))
    words = always.largest(0.9).words("sigma")
    assert words == (
        "90 % yield is kept at every sigma that was swept, 0 to 1; where it ends is not found "
        "(no interval, since no chip fails)"
    )
    words = never.largest(0.9).words("sigma")
    assert words == (
        "90 % yield is kept at no sigma that was swept, 0 to 1 (no interval, since every chip fails)"
    )
    leaks = replace(never, levels=np.array([1e-6, 1e-5]), passed=np.zeros(2, np.int64), total=np.full(2, 5))
    assert "swept, 1uS to 10uS (" in leaks.largest(0.9).words("neuron.leak")
    assert len(summary("sigma", never, 0.9)) == 6 + 2  # levels, the limit, and what certifies: no curve
    assert always.x50 == np.inf and never.x50 == -np.inf
    np.testing.assert_array_equal([always.at(LEVELS), never.at(LEVELS)], [np.ones(6), np.zeros(6)])
    curve = YieldCurve.fit(LEVELS, LEVELS[:, None] < thresholds(3, (40,), x50=0.95))
    low = curve.largest(0.1)  # beyond 1, where the fitted yield is about 0.4
    assert low.x == np.inf and low.reached and not low.inside
    flat = YieldCurve.fit(LEVELS, np.tile([True, False], (6, 5)))
    assert flat.width == np.inf and np.isnan(flat.x50)
    assert flat.largest(0.3).x == np.inf and flat.largest(0.7).x == -np.inf


def test_what_levels_do_not_tell_is_called_not_determined() -> None:
    sharp = YieldCurve.fit(LEVELS, np.repeat(LEVELS[:, None] < 0.5, 4, axis=1)).largest(0.95)
    assert sharp.inside and sharp.sharp and not sharp.determined
    assert sharp.words("sigma").startswith(
        "The largest sigma with 95 % yield is not determined (95 % interval "
    )
    few = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], bool)
    wide = YieldCurve.fit([0.0, 0.5, 1.0], few).largest(0.75)
    assert wide.inside and not wide.sharp and not wide.determined
    assert wide.words("sigma").endswith("(95 % interval below the swept levels to above them)")
    low = YieldCurve.fit(LEVELS, LEVELS[:, None] < thresholds(5, (20,), x50=0.3)).largest(0.9)
    assert low.low == -np.inf and "interval below the swept levels to 0." in low.words("sigma")


def test_what_the_curve_refuses() -> None:
    for levels, passes, says in (
        ([1.0], [[1]], "two finite levels"),
        ([1.0, np.nan], [[1], [0]], "two finite levels"),
        ([1.0, 2.0], [[1, 0]], "do not fit"),
    ):
        with pytest.raises(ValueError, match=says):
            YieldCurve.fit(levels, passes)
    with pytest.raises(ValueError, match=r'allowed: "chips" \| "levels"'):
        YieldCurve.fit([0, 1], [[1], [0]], resample="all")
    with pytest.raises(ValueError, match="yield is 90; allowed: above 0, below 1"):
        YieldCurve.fit([0, 1], [[1], [0]]).largest(90)


def test_summary() -> None:
    passes = LEVELS[:, None] < thresholds(5, (6, 20))
    curve = YieldCurve.fit(LEVELS, passes, resample="levels")
    *levels, limit, curve_of, last = summary("mismatch.conductance", curve, 0.9)
    assert levels[0] == f"mismatch.conductance = 0: {proportion(int(passes[0].sum()), 20)}"
    assert str(proportion(18, 20)) == "18 of 20 chips pass, 90 % (95 % interval 68 to 99 %)"
    assert limit.startswith(
        f"90 % yield is kept up to mismatch.conductance = {curve.largest(0.9).x:.2g} (95 % interval "
    )
    assert curve_of == "This is read from a curve fitted over 120 chips at 6 levels."
    assert last == "To certify 90 % at a level, with 95 % confidence, 29 chips must all pass there."


# -- importance ------------------------------------------------------------------------------------


def points(count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return low + (high - low) * qmc.Sobol(3, seed=1).random(count)


def test_indices_of_a_polynomial_are_exact() -> None:
    """``Π (1 + 3 x²)/2`` of three factors on [0, 1]: variance 0.728, alone 0.2747, pairs 0.0549, all 0.0110
    (Sudret 2008).
    """
    x = points(128)
    found = importance(x, np.prod((1 + 3 * x**2) / 2, axis=1), "abc", degree=6, ranges=[[0, 1]] * 3)
    one, two, three = (0.2**k / (1.2**3 - 1) for k in (1, 2, 3))
    assert found.mean == pytest.approx(1)
    assert found.variance == pytest.approx(0.728)
    np.testing.assert_allclose(found.first, one)
    np.testing.assert_allclose(found.total, one + 2 * two + three)
    assert found.q2 == pytest.approx(1) and np.isnan(found.noise)


def ishigami(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]))


def test_indices_of_the_ishigami_function() -> None:
    """Against its closed form and against scipy's estimate by sampling."""
    ends, v13 = np.pi, 0.01 * np.pi**8 * 8 / 225
    v1, v2 = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 49 / 8
    x = points(512, -ends, ends)
    found = importance(x, ishigami(x.T), "abc", degree=9, ranges=[[-ends, ends]] * 3, replicates=20)
    np.testing.assert_allclose(found.first, np.array([v1, v2, 0]) / (v1 + v2 + v13), atol=0.01)
    np.testing.assert_allclose(found.total, np.array([v1 + v13, v2, v13]) / (v1 + v2 + v13), atol=0.01)
    spread = uniform(-ends, 2 * ends)
    sampled = sobol_indices(func=ishigami, n=2048, dists=[spread] * 3, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.first, sampled.first_order, atol=0.03)
    np.testing.assert_allclose(found.total, sampled.total_order, atol=0.03)


def noisy(seed: int, count: int = 40, chips: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """``x + y/2`` and noise of standard deviation 0.2 at uniform points; a third factor does nothing."""
    random = np.random.default_rng(seed)
    x = random.random((count, 3))
    return x, (x @ [1, 0.5, 0])[:, None] + 0.2 * random.standard_normal((count, chips))


def test_left_out_errors_are_those_of_leaving_points_out() -> None:
    x, values = noisy(1, chips=1)
    found = importance(x, values, "abc", ranges=[[0, 1]] * 3, degree=2)
    y, z = values[:, 0], 2 * x - 1
    columns = [np.ones(len(x)), *z.T, *(z**2).T, z[:, 0] * z[:, 1], z[:, 0] * z[:, 2], z[:, 1] * z[:, 2]]
    basis = np.stack(columns, axis=1)
    errors = [
        y[k] - basis[k] @ np.linalg.lstsq(np.delete(basis, k, 0), np.delete(y, k), rcond=None)[0]
        for k in range(len(y))
    ]
    assert found.q2 == pytest.approx(1 - np.sum(np.square(errors)) / np.sum((y - y.mean()) ** 2), rel=1e-9)
    assert np.isnan(found.noise) and found.coefficients == 10


def test_noise_and_intervals() -> None:
    x, values = noisy(2)
    found = importance(x, values, ["one", "half", "nothing"], ranges=[[0, 1]] * 3)
    variance = (1 + 0.25) / 12
    assert found.noise == pytest.approx(0.04 / (0.04 + variance), abs=0.03)
    assert found.variance == pytest.approx(variance, rel=0.2)
    np.testing.assert_allclose(found.first, [0.8, 0.2, 0], atol=0.04)
    assert np.all(found.first_interval[:, 0] <= found.first_interval[:, 1])
    low, high = found.first_interval[:2].T
    assert np.all(low < [0.8, 0.2]) and np.all(high > [0.8, 0.2])
    assert found.lines("accuracy")[1].lstrip().startswith("one ")


def test_the_degree_follows_from_levels_and_points() -> None:
    grid = np.array(np.meshgrid([0, 1], [0, 1], [0.0, 0.5, 1])).reshape(3, -1).T
    found = importance(grid, grid @ [1, 2, 3], "abc")  # no square of a factor with two levels
    assert found.degree <= 2
    assert importance(grid, grid @ [1, 2, 3], "abc", degree=2).coefficients == 8
    x = points(64)
    assert importance(x, x[:, 0] ** 3, "abc").degree == 3
    assert importance(x[:30], x[:30, 0] ** 3, "abc").degree == 2  # 20 coefficients take 40 points


def test_of_many_terms_those_are_kept_that_predict() -> None:
    """Eight factors, 45 terms, 90 points, of which four matter: noise is not fitted."""
    rng = np.random.default_rng(5)
    x = 2 * qmc.LatinHypercube(8, rng=rng).random(90) - 1
    y = 1 + x[:, 0] + 0.5 * x[:, 1] + 0.6 * x[:, 2] * x[:, 3]
    true = np.array([1 / 3, 0.25 / 3, 0.36 / 9, 0.36 / 9, 0, 0, 0, 0])
    total = true / (1 / 3 + 0.25 / 3 + 0.36 / 9)
    noisy = y + 0.2 * rng.standard_normal(90)
    sparse, full = importance(x, noisy, "abcdefgh"), importance(x, noisy, "abcdefgh", degree=2)
    assert sparse.q2 > full.q2 and sparse.coefficients < 30 < full.coefficients == 45
    for found in (sparse.total, sparse.total_interval[:, 0] - 0.02):
        assert np.all(found <= np.maximum(total, 0.03) * 1.6)
    assert np.all(sparse.total_interval[:, 1] >= total * 0.9)
    assert np.all(
        (sparse.total_interval[:, 0] <= sparse.total) & (sparse.total <= sparse.total_interval[:, 1])
    )
    np.testing.assert_allclose(sparse.total, total, atol=0.07)


def test_what_importance_refuses() -> None:
    x, values = noisy(3, count=12)
    constant = np.concatenate([x[:, :2], np.ones((12, 1))], axis=1)
    together = np.concatenate([x[:, :1], x[:, :1], x[:, 2:]], axis=1)
    spoilt = values.copy()
    spoilt[4, 2] = np.nan
    for where, what, says in (
        (x[:10], values[:10], "10 points are too few for the 10 coefficients of degree 2 in 3 factors"),
        (constant, values, "c has one level only, 1"),
        (together, values, "do not tell the 10 coefficients of degree 2 apart"),
        (x, spoilt, "point 4 has levels or values that are not finite"),
        (x, np.ones((12, 2)), "all points have the same mean, 1"),
        (x, values[:5], "do not fit"),
    ):
        with pytest.raises(ValueError, match=says):
            importance(where, what, "abc")
    with pytest.raises(ValueError, match="a has levels outside its range"):
        importance(x, values, "abc", ranges=[[0, 0.1], [0, 1], [0, 1]])


def test_effects_are_paired() -> None:
    random = np.random.default_rng(4)
    chips = random.standard_normal(15)
    values = np.stack([chips, chips + 0.3 + 0.01 * random.standard_normal(15), chips - 0.1])
    values[1, 3] = np.nan
    up, down = effects([[1, 5], [2, 5], [1, 7]], values, ["sigma", "gain"])
    paired = ttest_1samp(np.delete(values[1] - values[0], 3), 0).confidence_interval(0.95)
    assert (up.name, up.start, up.end, up.chips) == ("sigma", 1, 2, 14)
    assert (up.low, up.high) == pytest.approx(tuple(paired))
    assert (down.name, down.change) == ("gain", pytest.approx(-0.1))
    assert down.high - down.low < 1e-12  # what sets chips apart cancels
    for where, says in (([[1, 5], [2, 6]], "in 2 factors"), ([[1, 5], [1, 5]], "in 0 factors")):
        with pytest.raises(ValueError, match=says):
            effects(where, values[:2], ["sigma", "gain"])
    with pytest.raises(ValueError, match="base is 3; allowed: 0 to 2"):
        effects([[1, 5], [2, 5], [1, 7]], values, ["sigma", "gain"], base=3)


# -- figures ---------------------------------------------------------------------------------------


def test_figures_show_what_they_are_given(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from ohmostat.learning.yield_figures import effects_panel, importance_panel, yield_panel

    figure = Figure()
    left, middle, right = figure.subplots(1, 3)
    passes = LEVELS[:, None] < thresholds(6, (20,))
    curve = YieldCurve.fit(LEVELS, passes, replicates=20)
    assert yield_panel(left, LEVELS, passes, curve, 0.9) is left
    _, labels = left.get_legend_handles_labels()
    assert {"95 % interval of the curve", "95 % interval of the limit", "fitted curve"} <= set(labels)
    drawn, diamond = left.containers[0].lines[0], left.get_lines()[-1]
    np.testing.assert_array_equal(drawn.get_ydata(), passes.mean(axis=1))
    assert (*diamond.get_xdata(), *diamond.get_ydata()) == (curve.largest(0.9).x, 0.9)
    x, values = noisy(5)
    found = importance(x, values, ["one", "half", "nothing"], replicates=50)
    importance_panel(middle, found)
    widths = [[bar.get_width() for bar in bars] for bars in middle.containers if len(bars) == 3 and bars[0]]
    np.testing.assert_allclose(widths[0], np.sort(found.total))
    changes = effects([[0, 0], [1, 0], [0, 1]], values[:3], ["one", "half"])
    effects_panel(right, changes, "change")
    marks = sorted(float(bar.lines[0].get_xdata()[0]) for bar in right.containers)
    assert marks == sorted(effect.change for effect in changes)
    figure.savefig(tmp_path / "yield.png")
