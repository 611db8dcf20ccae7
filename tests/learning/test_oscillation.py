"""Oscillating nudges: against the lagging chip's own linear response, and in the order of the lag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.periphery import Periphery
from ohmostat.learning.estimators import exact_response
from ohmostat.learning.nudges import Nudge, SquaredError
from ohmostat.learning.oscillation import SETTLING, Oscillation, continuous, lock_in, trajectory

from .comparing import ENTROPY, SAMPLES, SQUARED

TAU, LEAK = 1e-7, 1e-5  # of the default neuron: 1 pF, 10 uS, and a swing of 1 V


@pytest.fixture(scope="module")
def free(make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray]) -> Equilibrium:
    """Asymmetric, and with unequal capacitors."""
    skew = {"mismatch.conductance": 0.5, "mismatch.capacitance": 0.2, "learning.angle": 60.0}
    return make_chip(skew).relax(inputs(SAMPLES))


def relative(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@pytest.mark.parametrize("cost", [SQUARED, ENTROPY], ids=["squared", "entropy"])
def test_continuous_is_the_linear_response_at_its_frequency(free: Equilibrium, cost: SquaredError) -> None:
    """``Re (J̃ - pM)⁻¹ ∂L/∂s`` to 1e-8 at a finite β: p = iω as backward differences see it."""
    period, steps = 60 * TAU, 64
    response = continuous(0.05 * LEAK, period, steps).response(free, cost)
    assert response.valid.all()
    z, h = np.exp(-2j * np.pi / steps), period / steps
    p = (11 - 18 * z + 9 * z**2 - 2 * z**3) / (6 * h)
    assert p == pytest.approx(2j * np.pi / period, rel=1e-3)
    gradient = cost.gradient(free.outputs, np.arange(SAMPLES))
    for k in range(SAMPLES):
        rhs = np.zeros(free.circuit.size)
        rhs[free.circuit.output] = gradient[k]
        storage = np.diag(p * free.circuit.capacitance / free.slopes()[k])
        expected = np.linalg.solve(free.port_jacobian(k) - storage, rhs).real
        assert relative(response.epsilon[k], expected) < 1e-8
    assert relative(response.epsilon, exact_response(free, cost).epsilon) > 1e-3  # the lag is there


def test_running_average_of_a_complex_oscillation_is_the_free_state(free: Equilibrium) -> None:
    betas = 0.3 * LEAK * np.array(continuous(1.0, 1.0, 64).nodes)
    shifts, end = trajectory(free, SQUARED, betas, 60 * TAU)
    assert end.settled.all()
    assert np.abs(shifts).max() > 1e-2
    assert np.abs(shifts.mean(axis=0)).max() < 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda period: continuous(0.02 * LEAK, period, 128),
        lambda period: lock_in(0.02 * LEAK, 8, period, 128),
    ],
    ids=["continuous", "lock-in"],
)
def test_lag_is_of_second_order(free: Equilibrium, make: Callable[[float], Oscillation]) -> None:
    exact = exact_response(free, ENTROPY).epsilon
    periods = np.array([400.0, 800.0, 1600.0])
    error = [relative(make(period * TAU).response(free, ENTROPY).epsilon, exact) for period in periods]
    assert np.polyfit(np.log(periods), np.log(error), 1)[0] == pytest.approx(-2, abs=0.05)
    assert error[0] < 5e-3


def test_what_is_in_quadrature_is_of_first_order(free: Equilibrium) -> None:
    """The fundamental's other phase shows the lag itself: what a lock-in must reject."""
    quadrature = []
    periods = np.array([400.0, 800.0, 1600.0])
    for period in periods:
        wave = lock_in(0.02 * LEAK, 2, period * TAU)
        turned = replace(wave, weights=tuple(np.roll(wave.weights, len(wave.weights) // 4)))
        quadrature.append(np.linalg.norm(turned.response(free, ENTROPY).epsilon))
    assert np.polyfit(np.log(periods), np.log(quadrature), 1)[0] == pytest.approx(-1, abs=0.02)


def test_slow_lock_in_is_exact(free: Equilibrium) -> None:
    """To 1e-8, at a lag of (ωτ)² = 4e-13, by harmonics 1 to 11; and truncated as nudges at rest would be."""
    beta, slow = 0.05 * LEAK, 1e7 * TAU
    response = lock_in(beta, 12, slow).response(free, ENTROPY)
    assert response.valid.all()
    assert relative(response.epsilon, exact_response(free, ENTROPY).epsilon) < 1e-8
    for count in (2, 4):
        wave = lock_in(0.3 * LEAK, count, slow)
        nudge = Nudge(SQUARED, np.repeat(np.array(wave.nodes) * wave.beta, SAMPLES), SAMPLES)
        steps = len(wave.nodes)
        still = free.under(nudge, steps, certify=0).ports.reshape(steps, SAMPLES, -1)
        epsilon = wave.response(free, SQUARED, 0).epsilon
        assert relative(epsilon, np.tensordot(wave.weights, still, axes=1) / wave.beta) < 1e-8
        assert relative(epsilon, exact_response(free, SQUARED).epsilon) > 1e-3


def test_harmonics_correct_the_finite_nudge(free: Equilibrium) -> None:
    exact = exact_response(free, SQUARED).epsilon
    waves = [lock_in(0.4 * LEAK, count, 1e5 * TAU) for count in (2, 4, 6, 8)]
    error = [relative(wave.response(free, SQUARED).epsilon, exact) for wave in waves]
    assert error[0] > 0.03
    assert all(later < earlier / 4 for earlier, later in pairwise(error))


def runge_kutta(free: Equilibrium, beta: float, period: float, steps: int) -> np.ndarray:
    """Ports after one and a half periods of ``β sin³ ωt``, by the classical method of fourth order.

    (A nudge without the kink that a sine starts with: backward differences see no derivative there.)
    """
    circuit, rows = free.circuit, np.arange(SAMPLES)

    def rate(v: np.ndarray, t: float) -> np.ndarray:
        s = circuit.ports(v)[0]
        nudge = Nudge(SQUARED, np.full(SAMPLES, beta * np.sin(2 * np.pi * t / period) ** 3), SAMPLES)
        current = circuit.current(v, free.injected)
        current[:, circuit.output] += nudge.current(s[:, circuit.output], rows)
        slope: np.ndarray = current / circuit.capacitance
        return slope

    v, h = free.voltages, period / steps
    for n in range(round((1 + SETTLING) * steps)):
        t = n * h
        k1 = rate(v, t)
        k2 = rate(v + h / 2 * k1, t + h / 2)
        k3 = rate(v + h / 2 * k2, t + h / 2)
        v = v + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(v + h * k3, t + h))
    ports: np.ndarray = circuit.ports(v)[0]
    return ports


def test_trajectory_is_the_chips_own_to_third_order_in_the_step(free: Equilibrium) -> None:
    period, beta = 20 * TAU, 0.4 * LEAK
    true = runge_kutta(free, beta, period, 800)
    errors = []
    for steps in (64, 128, 256):
        betas = beta * np.sin(2 * np.pi * np.arange(steps) / steps) ** 3
        _, end = trajectory(free, SQUARED, betas, period)
        errors.append(np.abs(end.ports - true).max())
    assert np.polyfit(np.log([64, 128, 256]), np.log(errors), 1)[0] == pytest.approx(-3, abs=0.2)
    assert errors[-1] < 1e-3 * np.abs(true - free.ports).max()


@pytest.mark.parametrize("nudges", [2, 12, 16, 18, 32, 64])
def test_a_lock_in_differentiates_polynomials_below_its_degree(nudges: int) -> None:
    """Of ``x^k``: one harmonic would show as another, did it read too seldom."""
    wave = lock_in(1.0, nudges, 1.0)
    nodes, weights = np.array(wave.nodes), np.array(wave.weights)
    slopes = [weights @ nodes**k for k in range(nudges)]
    np.testing.assert_allclose(slopes, np.eye(1, nudges, 1)[0], atol=1e-11)
    noise = np.sqrt(nudges * (nudges**2 - 1) / 3 / len(nodes))  # docs/estimators.md
    assert np.linalg.norm(weights) == pytest.approx(noise, rel=0.03)


def test_price_is_chip_time() -> None:
    for wave in (lock_in(1e-7, 4, 50 * TAU), continuous(1e-7, 50 * TAU)):
        assert wave.relaxations == 1
        assert wave.seconds == pytest.approx(75 * TAU)


def test_a_sample_that_does_not_return_is_left_out(free: Equilibrium) -> None:
    moved = replace(free, injected=free.injected + LEAK * np.array([[0.0], [0.3], [0.0]]))
    response = lock_in(0.01 * LEAK, 2, 50 * TAU).response(moved, SQUARED)
    np.testing.assert_array_equal(response.valid, [True, False, True])
    assert not response.epsilon[1].any() and response.epsilon[0].any()
    assert response.nudged is not None and response.nudged.jumped is not None
    np.testing.assert_array_equal(response.nudged.jumped, [False, True, False])
    taken = replace(lock_in(0.01 * LEAK, 2, 50 * TAU), judged=False).response(moved, SQUARED)
    assert taken.valid.all() and taken.epsilon[1].any()


def test_a_step_that_does_not_settle_is_counted(free: Equilibrium) -> None:
    shaky = replace(free, settled=np.array([True, True, False]))
    response = continuous(0.01 * LEAK, 50 * TAU).response(shaky, SQUARED, certify=0)
    np.testing.assert_array_equal(response.valid, [True, True, False])


def test_what_the_sources_offsets_shift_is_no_jump(free: Equilibrium) -> None:
    """They move the ports in common, several times as far as the nudge moves them apart."""
    wave, offset = lock_in(0.01 * LEAK, 2, 1e4 * TAU), np.full(4, 0.05 * LEAK)
    shifted = wave.response(replace(free, periphery=Periphery(nudge_offset=offset)), SQUARED)
    assert shifted.valid.all()
    assert relative(shifted.epsilon, wave.response(free, SQUARED).epsilon) < 0.2


@pytest.mark.parametrize("wave", [lock_in(0.01 * LEAK, 2, 1e5 * TAU), continuous(0.01 * LEAK, 1e5 * TAU)])
def test_the_sources_gain_acts_once(free: Equilibrium, wave: Oscillation) -> None:
    """A nudge by sources of gain 1.2 is one of a β 1.2 times as large, read as if it were not."""
    gained = replace(free, periphery=Periphery(nudge_gain=1.2))
    found = wave.response(gained, SQUARED).epsilon
    expected = 1.2 * replace(wave, beta=1.2 * wave.beta).response(free, SQUARED).epsilon
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
