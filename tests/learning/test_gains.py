"""Gains: schedules against closed forms, and the automatic one against the filter that knows its noise."""

from __future__ import annotations

import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.specs import HomeostatSpec
from ohmostat.learning.data import load
from ohmostat.learning.gains import AutomaticGain, FixedGain, Gain, Move, make_gain
from ohmostat.learning.training import Trainer

PAIRS = (60, 50)


def followed(gain: Gain, growth: float, noise: float, cycles: int, start: float = 10.0) -> list[float]:
    """Mean square asymmetry before each cycle, of pairs that drift and are measured with noise."""
    rng = np.random.default_rng(0)
    a, powers = start * rng.standard_normal(PAIRS), []
    for _ in range(cycles):
        powers.append(float(np.mean(a**2)))
        measured = a + noise * rng.standard_normal(PAIRS)
        a = a - 2 * gain.choose(Move("a", measured)) * measured + growth * rng.standard_normal(PAIRS)
    return powers


# -- schedules -------------------------------------------------------------------------------------


def test_a_fixed_gain_is_so_much_a_step_and_never_more_than_all() -> None:
    assert FixedGain(0.1).choose(Move("a", np.ones(1), steps=3)) == pytest.approx(0.3)
    assert FixedGain(0.1).choose(Move("a", np.ones(1), steps=9)) == 0.5


@pytest.mark.parametrize(("pace", "expected"), [(1.0, 0.2), (0.25, 0.05), (0.0, 0.0), (3.0, 0.2)])
def test_a_gain_that_follows_the_rate(pace: float, expected: float) -> None:
    gain = FixedGain(0.2, "rate")
    for _ in range(2):
        assert gain.choose(Move("a", np.ones(1), pace=pace)) == pytest.approx(expected)


def test_a_falling_gain_leaves_the_mean_of_the_noise() -> None:
    """From a share of 1, whatever the asymmetry was; each array on its own."""
    rng, gain = np.random.default_rng(1), FixedGain(0.5, "falling")
    for name in ("a", "b"):
        noise, a = rng.standard_normal((20, 7)), rng.standard_normal(7)
        for n in noise:
            a = a - 2 * gain.choose(Move(name, a + n)) * (a + n)
        np.testing.assert_allclose(a, -noise.mean(axis=0), atol=1e-12)


def test_make_gain() -> None:
    assert make_gain(HomeostatSpec()) == AutomaticGain()
    assert make_gain(HomeostatSpec(schedule="falling", gain=0.1)) == FixedGain(0.1, "falling")


# -- the automatic gain ----------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0, 10.0])
def test_it_finds_the_kalman_gain(noise: float) -> None:
    """``P² = Q P + Q R`` for the filter's own variance, ``K = P / (P + R)``; and leaves as little as it."""
    q, r = 1.0, noise**2
    p = (q + np.sqrt(q**2 + 4 * q * r)) / 2
    gain = AutomaticGain()
    powers = followed(gain, 1.0, noise, 400)
    assert gain.share["a"] == pytest.approx(p / (p + r), abs=0.08)
    assert np.mean(powers[200:]) == pytest.approx(p, rel=0.05)
    grid = np.linspace(0.025, 0.5, 20)
    by_hand = min(np.mean(followed(FixedGain(k), 1.0, noise, 400)[200:]) for k in grid)
    assert np.mean(powers[200:]) < 1.05 * by_hand


def test_without_noise_it_removes_all_after_watching_once() -> None:
    gain = AutomaticGain()
    powers = followed(gain, 0.0, 0.0, 5)
    assert powers[1] == powers[0] and powers[2] < 1e-25 * powers[0]


def test_it_rests_where_there_is_nothing_but_noise() -> None:
    gain = AutomaticGain()
    powers = followed(gain, 0.0, 1.0, 400, start=0.0)
    assert gain.share["a"] < 0.06 and powers[-1] < 0.03


def test_it_answers_a_new_asymmetry() -> None:
    """Whatever share it had come to: after a jump, nearly all is gone within a few cycles."""
    gain, rng = AutomaticGain(), np.random.default_rng(2)
    for _ in range(300):
        gain.choose(Move("a", rng.standard_normal(PAIRS)))
    assert gain.share["a"] < 0.1
    a = 100 * rng.standard_normal(PAIRS)
    for _ in range(12):
        measured = a + rng.standard_normal(PAIRS)
        a = a - 2 * gain.choose(Move("a", measured)) * measured
    assert np.mean(a**2) < 4


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1.0, 1e150])
def test_it_stays_within_what_is_stable(scale: float) -> None:
    gain, rng = AutomaticGain(), np.random.default_rng(3)
    for k in range(50):
        chosen = gain.choose(Move("a", scale * (-2.0) ** (k // 7) * rng.standard_normal((3, 2))))
        assert 0 <= chosen <= 0.5


def test_what_spoils_running_samples_counts() -> None:
    """Learning adds along the samples' voltages, noise everywhere: judged by pairs, the share is smaller,
    and the asymmetric currents that the samples see are larger.
    """
    rng = np.random.default_rng(4)
    drive = (0.5 + 0.1 * rng.random((20, 60)), 0.5 + 0.1 * rng.random((20, 50)))
    left = {}
    for seen in (drive, None):
        gain, a, currents = AutomaticGain(), np.zeros(PAIRS), []
        noise = np.random.default_rng(5)
        for _ in range(300):
            y = a + noise.standard_normal(PAIRS)
            a = a - 2 * gain.choose(Move("a", y, drive=seen)) * y
            for k in range(2):
                a = a + 0.03 * np.outer(noise.standard_normal(60), drive[1][k])
            currents.append(np.mean((a @ drive[1].T) ** 2))
        left[seen is None] = (gain.share["a"], np.mean(currents[100:]))
    assert left[False][0] > 2 * left[True][0]
    assert left[False][1] < 0.5 * left[True][1]


def test_a_batch_of_which_nothing_settled_judges_by_pairs() -> None:
    none = (np.zeros((0, 60)), np.zeros((0, 50)))
    gains, rng = (AutomaticGain(), AutomaticGain()), np.random.default_rng(6)
    for _ in range(3):
        skew = rng.standard_normal(PAIRS)
        assert gains[0].choose(Move("a", skew, drive=none)) == gains[1].choose(Move("a", skew))


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("noise", ["0A", "3nA"])
def test_untouched_it_serves_a_decade_of_learning_rates(rate: float, noise: str) -> None:
    """Digits at a constant rate and σ = 0.5: first-layer alignment, with and without."""
    data = load("digits").subset(500, 100)
    base = {"learning.schedule": "constant", "learning.epochs": 2, "learning.rate": rate,
            "mismatch.conductance": 0.5, "homeostat.noise": noise}  # fmt: skip
    design = Design.named("digits").replace(base)
    last = {}
    for mode in ("probe", "off"):
        last[mode] = Trainer.from_design(design.replace("homeostat.mode", mode), data, 0).fit()[-1]
    assert last["probe"].alignment["forward0"] > 0.98 > last["off"].alignment["forward0"]


def test_training_tells_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate of a cosine over its first, and the running samples' voltages: at every move."""
    moves: list[Move] = []

    def watched(gain: FixedGain, move: Move) -> float:
        moves.append(move)
        return 0.0

    monkeypatch.setattr(FixedGain, "choose", watched)
    data = load("digits").subset(60, 20)
    design = Design.named("digits").replace({"learning.epochs": 1, "homeostat.schedule": "rate"})
    Trainer.from_design(design, data, 0).fit()
    np.testing.assert_allclose([m.pace for m in moves], 0.5 * (1 + np.cos(np.pi * np.arange(6) / 6)))
    assert all(m.drive is not None and [len(s[0]) for s in m.drive] == [10, 32] for m in moves)
