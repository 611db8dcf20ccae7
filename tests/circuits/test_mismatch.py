"""Addressed draws: the same number whatever is asked for beside it, and the right distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ohmostat.circuits import mismatch
from ohmostat.circuits.mismatch import conductance_gain, generator, relative, standard_normals

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
