"""Addressed draws: the same number whatever is asked for beside it, and the right distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ohmostat.circuits import mismatch
from ohmostat.circuits.mismatch import (
    conductance_gain,
    correlated_normals,
    generator,
    gradient,
    relative,
    standard_normals,
    stuck,
)

SAMPLES = 40_000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1), st.text(max_size=20), st.integers(0, 300), st.integers(0, 70))
def test_a_draw_is_addressed_by_its_device(seed: int, quantity: str, first: int, count: int) -> None:
    everything = standard_normals(seed, quantity, (first + count,))
    assert np.array_equal(standard_normals(seed, quantity, (count,), first=first), everything[first:])


def test_the_shape_is_row_major() -> None:
    flat = standard_normals(3, "a", (24,))
    assert np.array_equal(standard_normals(3, "a", (2, 3, 4)), flat.reshape(2, 3, 4))
    assert standard_normals(3, "a", ()).shape == () and standard_normals(3, "a", (0, 5)).shape == (0, 5)


def test_draws_do_not_depend_on_what_was_drawn_before() -> None:
    a = standard_normals(5, "a", (10,))
    np.random.default_rng(0).random(7)
    generator(5, "a").random(3)
    standard_normals(5, "b", (1000,))
    assert np.array_equal(standard_normals(5, "a", (10,)), a)


def test_draws_are_the_same_on_every_machine() -> None:
    """Recorded once: a chip must not change with a release."""
    recorded = [-0.80194683, -0.56325728, -0.06583939, 1.21856225]
    assert standard_normals(0, "forward0/conductance", (4,)) == pytest.approx(recorded, abs=1e-8)


def test_seeds_and_quantities_are_independent() -> None:
    draws = [standard_normals(seed, q, (SAMPLES,)) for seed in (0, 1, 10) for q in ("a", "b", "1/a")]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / np.sqrt(SAMPLES)
    lag = np.corrcoef(draws[0][:-1], draws[0][1:])[0, 1]
    assert abs(lag) < 5 / np.sqrt(SAMPLES)


def test_draws_are_standard_normal() -> None:
    z = standard_normals(7, "moments", (SAMPLES,))
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(z.mean()) < 4 / np.sqrt(SAMPLES)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * SAMPLES))
    assert stats.kurtosis(z) == pytest.approx(0, abs=4 * np.sqrt(24 / SAMPLES))


@pytest.mark.parametrize(("word", "deviate"), [(0, -8.29), (2**64 - 1, 8.21)])
def test_the_outermost_words_are_finite(monkeypatch: pytest.MonkeyPatch, word: int, deviate: float) -> None:
    class Extreme:
        def __init__(self, key: int) -> None:
            assert 0 <= key < 2**128

        def advance(self, blocks: int) -> None:
            assert blocks == 0

        def random_raw(self, count: int) -> np.ndarray:
            return np.full(count, word, np.uint64)

    monkeypatch.setattr(mismatch.np.random, "Philox", Extreme)
    assert standard_normals(0, "a", (3,)) == pytest.approx([deviate] * 3, abs=0.01)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_lognormal_has_median_one(sigma: float) -> None:
    gain = conductance_gain(1, "g", (SAMPLES,), sigma)
    logs = np.log(gain)
    assert abs(logs.mean()) < 4 * sigma / np.sqrt(SAMPLES)
    assert logs.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * SAMPLES))
    spread = np.sqrt((np.exp(sigma**2) - 1) * np.exp(sigma**2) / SAMPLES)
    assert gain.mean() == pytest.approx(np.exp(sigma**2 / 2), abs=5 * spread)  # 1.65 at sigma = 1
    assert logs == pytest.approx(sigma * standard_normals(1, "g", (SAMPLES,)))


def test_gaussian_is_cut_off_at_zero() -> None:
    gain = conductance_gain(2, "g", (SAMPLES,), 0.2, "gaussian")
    assert gain.mean() == pytest.approx(1, abs=4 * 0.2 / np.sqrt(SAMPLES))
    assert gain.std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * SAMPLES))
    wide = conductance_gain(2, "g", (SAMPLES,), 1.0, "gaussian")
    assert wide.min() == 0 and np.mean(wide == 0) == pytest.approx(stats.norm.cdf(-1), abs=0.01)


def test_relative_never_vanishes() -> None:
    factor = relative(3, "c", (SAMPLES,), 0.1)
    assert factor.mean() == pytest.approx(1, abs=4 * 0.1 / np.sqrt(SAMPLES))
    assert factor.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * SAMPLES))
    assert relative(3, "c", (SAMPLES,), 1.0).min() == 0.05


def test_sigma_zero_is_the_identity() -> None:
    for draw in (
        conductance_gain(4, "g", (2, 3), 0.0),
        conductance_gain(4, "g", (2, 3), 0.0, "gaussian"),
        relative(4, "g", (2, 3), 0.0),
    ):
        assert np.array_equal(draw, np.ones((2, 3)))


def test_generators_are_keyed_by_seed_and_purpose() -> None:
    assert generator(1, "a", "b").random() == generator(1, "a", "b").random()
    assert len({generator(s, *p).random() for s in (1, 2) for p in (("a",), ("b",), ("a", "b"))}) == 6


# -- over an array ---------------------------------------------------------------------------------


def test_a_gradient_is_linear_with_the_spread_asked_for() -> None:
    found = np.array([gradient(seed, "a", (9, 5), 0.1) for seed in range(2000)])
    np.testing.assert_allclose(np.diff(found, 2, axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(found, 2, axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(found[:, 4, 2], 1)
    down, across = found[:, -1, 2] - found[:, 0, 2], found[:, 4, -1] - found[:, 4, 0]
    for change in (down, across):
        assert change.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * len(change)))
        assert abs(change.mean()) < 4 * 0.1 / np.sqrt(len(change))
    assert abs(np.corrcoef(down, across)[0, 1]) < 4 / np.sqrt(len(down))
    assert np.all(gradient(1, "a", (4, 3), 0.0) == 1) and np.all(gradient(1, "a", (1, 1), 0.5) == 1)
    assert min(gradient(seed, "a", (4, 3), 1.0).min() for seed in range(50)) == 0.05


@pytest.mark.parametrize("length", [0.5, 3.0, 100.0])
def test_a_correlated_field_has_the_moments_it_says(length: float) -> None:
    """Over chips, at fixed places: normal, of variance 1, correlated by their distance alone."""
    found = np.array([correlated_normals(seed, "a", (8, 6), length) for seed in range(2000)])
    assert stats.kstest(found[:, 3, 2], "norm").pvalue > 1e-3
    assert found.std(axis=0) == pytest.approx(np.ones((8, 6)), abs=0.08)
    for place in ((3, 2), (4, 2), (3, 5), (7, 5), (0, 0)):
        distance = np.hypot(place[0] - 3, place[1] - 2)
        expected = np.exp(-((distance / length) ** 2) / 2)
        assert np.mean(found[:, 3, 2] * found[:, *place]) == pytest.approx(expected, abs=0.12)


def test_a_correlated_field_is_addressed_by_place() -> None:
    wide = correlated_normals(3, "a", (20, 30), 4.0)
    np.testing.assert_allclose(correlated_normals(3, "a", (5, 7), 4.0), wide[:5, :7], atol=1e-12)
    assert np.abs(correlated_normals(4, "a", (5, 7), 4.0) - wide[:5, :7]).max() > 0.1


def test_stuck_devices_are_the_share_asked_for_and_a_larger_share_holds_a_smaller() -> None:
    opened, closed = stuck(5, "a", (200, 200), 0.1, 0.03)
    assert not (opened & closed).any()
    for mask, share in ((opened, 0.1), (closed, 0.03)):
        assert mask.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / mask.size))
    more_open, more_closed = stuck(5, "a", (200, 200), 0.3, 0.2)
    assert np.all(more_open[opened]) and np.all(more_closed[closed])
    assert not any(mask.any() for mask in stuck(5, "a", (200, 200), 0.0, 0.0))
    assert stuck(5, "a", (9,), 1.0, 0.0)[0].all() and stuck(5, "a", (9,), 0.0, 1.0)[1].all()
