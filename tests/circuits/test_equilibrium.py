"""Certificates: chips that oscillate, chips with several equilibria, nudges that change the branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import root

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.equilibrium import Equilibrium

Array = np.ndarray[Any, Any]
IDEAL = {
    "neuron__law": "tanh", "neuron__low": "-1V", "neuron__high": "1V", "neuron__offset": "0V",
    "device__g_min": "0S", "mismatch__conductance": 0, "mismatch__programming": 0,
    "mismatch__amplifier_gain": 0, "mismatch__amplifier_offset": "0V", "mismatch__capacitance": 0,
}  # fmt: skip


@dataclass
class Pull:
    """The nudge ``beta (target - s)`` [A] with beta [S] for each sample."""

    beta: Array
    target: Any

    def current(self, ports: Array, rows: Array) -> Array:
        return (self.beta[rows, None] * (self.target - ports)).astype(ports.dtype)

    def slope(self, ports: Array, row: int) -> Array:
        return -self.beta[row] * np.eye(len(ports))


@pytest.fixture(scope="module")
def oscillator(chip_of: Callable) -> Chip:
    """Four neurons in an inverting ring, 2 + 2: ``s0 -> v1 -> … -> -v0`` with three times the gain needed."""
    chip: Chip = chip_of(chip__layers=[64, 2, 2], neuron__gain=3.0, **IDEAL)
    leak = chip.circuit.design.neuron.leak
    nothing = {name: np.zeros(chip.weight(name).shape) for name in chip.devices}
    ring = {"forward1": leak * np.eye(2), "feedback1": leak * np.array([[0.0, -1.0], [1.0, 0.0]])}
    chip.write(nothing | ring | {"forward0": np.full((2, 64), 0.01 * leak)})
    return chip


@pytest.fixture(scope="module")
def latch(chip_of: Callable) -> Chip:
    """Two neurons that excite each other: up, down, and an unstable point between."""
    chip: Chip = chip_of(chip__layers=[64, 1, 1], neuron__gain=2.0, **IDEAL)
    leak = chip.circuit.design.neuron.leak
    one = {name: np.full((1, 1), leak) for name in ("forward1", "feedback1")}
    quiet = {name: np.zeros((1, 1)) for name in ("bias0", "bias1")}
    chip.write({"forward0": np.full((1, 64), leak / 32), **one, **quiet})
    return chip


def inputs(*levels: float) -> Array:
    return np.outer(levels, np.ones(64))


# -- oscillation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_an_oscillating_chip_never_settles_but_has_an_equilibrium(oscillator: Chip, level: float) -> None:
    tau = oscillator.circuit.design.neuron.tau
    x = inputs(level)
    found = oscillator.relax(x)
    assert found.settled.all() and np.all(found.residual < 1e-15)
    assert not found.stable.any()
    kicked = replace(found, voltages=found.voltages + np.array([1e-3, 0, 0, 0]))
    moved = oscillator.relax(x, start=kicked, method="transient", tolerance=1e-5, max_time=100 * tau)
    assert not moved.settled.any() and not moved.stable.any()
    assert moved.time == pytest.approx([100 * tau])
    later = oscillator.relax(x, start=moved, method="transient", tolerance=1e-5, max_time=1 * tau)
    assert np.abs(later.ports - moved.ports).max() > 0.3  # still swinging


def test_samples_that_settle_are_certified_beside_those_that_swing(oscillator: Chip) -> None:
    """Strong inputs saturate the ring: it has a stable equilibrium there."""
    x = inputs(0.0, 8.0, -8.0)
    tau = oscillator.circuit.design.neuron.tau
    found = oscillator.relax(x)
    assert found.settled.all() and found.stable.tolist() == [False, True, True]
    moved = oscillator.relax(x + 1e-3, method="transient", tolerance=1e-6, max_time=60 * tau)
    assert moved.settled.tolist() == moved.stable.tolist() == [False, True, True]
    assert moved.voltages[1:] == pytest.approx(oscillator.relax(x + 1e-3).voltages[1:], abs=1e-5)


# -- several equilibria -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["equilibrium", "transient"])
def test_both_stable_branches_are_found_from_their_own_side(latch: Chip, method: str) -> None:
    """A strong input sets the latch; released, it remembers."""
    tolerance = 1e-10 if method == "equilibrium" else 1e-6
    options = {"method": method, "tolerance": tolerance}
    set_ = latch.relax(inputs(1.0, -1.0), **options)
    kept = latch.relax(inputs(0.02, 0.02), start=set_, **options)
    assert kept.settled.all() and kept.stable.all()
    assert np.sign(kept.ports).tolist() == [[1, 1], [-1, -1]]


def test_the_equilibrium_between_is_flagged_unstable(latch: Chip, flat: Any) -> None:
    oracle, x, leak = flat(latch), inputs(0.02), latch.circuit.design.neuron.leak
    roots = [
        root(lambda v: oracle.balance(v, x[0])[0] / leak, np.full(2, guess), tol=1e-14).x
        for guess in (-1, 0, 1)
    ]
    assert roots[0][0] < -0.5 and -0.1 < roots[1][0] < 0 and roots[2][0] > 0.5
    up = latch.relax(x, start=latch.relax(inputs(1.0)))
    assert oracle.natural(up.voltages[0]) == pytest.approx(roots[2], abs=1e-9)
    for point, stable in zip(roots, (True, False, True), strict=True):
        start = replace(up, voltages=point[None], ports=oracle.neuron(point)[None])
        again = latch.relax(x, start=start, tolerance=1e-9)
        assert again.settled.all() and again.voltages[0] == pytest.approx(point, abs=1e-8)
        assert again.stable[0] == stable


# -- nudges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["equilibrium", "transient"])
def test_a_nudge_that_switches_the_branch_is_flagged(latch: Chip, method: str) -> None:
    x, leak = inputs(0.0, 0.0, 0.0), latch.circuit.design.neuron.leak
    free = latch.relax(x, start=latch.relax(inputs(1.0, 1.0, 1.0)))
    assert np.all(free.ports > 0.5) and not free.jumped.any()
    pull = Pull(np.array([0.05, 5.0, 0.0]) * leak, -1.0)
    nudged = latch.relax(x, pull, start=free, method=method, tolerance=1e-6)
    assert nudged.settled.all() and nudged.stable.all()
    assert nudged.jumped.tolist() == [False, True, False]
    assert nudged.outputs[0, 0] < free.outputs[0, 0] - 1e-3 and nudged.outputs[1, 0] < 0
    assert nudged.ports[2] == pytest.approx(free.ports[2], abs=1e-5)


def test_residual_and_stability_are_those_under_the_nudge(chip_of: Callable, flat: Any) -> None:
    chip = chip_of("shared", "passive")
    oracle, x, leak = flat(chip), np.random.default_rng(0).random((2, 64)), chip.circuit.design.neuron.leak
    free = chip.relax(x)
    pull = Pull(np.full(2, 2 * leak), 0.3)
    nudged = chip.relax(x, pull, start=free, tolerance=1e-4)
    for row in range(2):
        current = oracle.balance(oracle.natural(nudged.voltages[row]), x[row])[0]
        current[-4:] += 2 * leak * (0.3 - nudged.outputs[row])
        assert nudged.residual[row] == pytest.approx(np.abs(current).max(), rel=1e-6)
        assert 0 < nudged.residual[row] < 1e-3 * leak
    assert nudged.stable.all()
    one = chip.relax(x[0])  # pushed away from where they are, the outputs balance but do not stay
    pushed = chip.relax(x[0], Pull(np.array([-400 * leak]), one.outputs[0]), start=one, tolerance=1e-9)
    assert pushed.settled[0] and not pushed.stable[0] and not pushed.jumped[0]


# -- how much is certified ----------------------------------------------------------------------------


@pytest.mark.parametrize("certify", [0, 2, None, 9])
def test_certificates_are_given_to_the_samples_asked_for(chip_of: Callable, certify: int | None) -> None:
    chip = chip_of()
    state = chip.relax(np.random.default_rng(0).random((4, 64)), certify=certify)
    count = 4 if certify is None else min(certify, 4)
    first = np.arange(4) < count
    assert np.array_equal(state.checked, first) and np.array_equal(state.stable, first)
    assert np.array_equal(np.isfinite(state.residual), first)


def test_infinite_currents_are_never_stable(chip_of: Callable) -> None:
    """A saturated port hides an infinite voltage; the residual shows it."""
    chip = chip_of()
    endless = Pull(np.array([0.0, np.inf]), 2.0)
    with np.errstate(invalid="ignore"):
        state = chip.relax(np.zeros((2, 64)), endless)
    assert state.stable.tolist() == [True, False]


def test_the_unsettled_are_never_stable(chip_of: Callable) -> None:
    chip = chip_of()
    state: Equilibrium = chip.relax(np.random.default_rng(0).random((2, 64)), max_sweeps=2)
    assert not state.settled.any() and not state.stable.any() and state.checked.all()
    assert np.all(state.residual > 0) and np.all(state.sweeps == 2)
    brief = chip.relax(np.zeros((1, 64)), method="transient", max_time=1e-9)
    assert not brief.settled.any() and not brief.stable.any() and brief.time[0] == 1e-9
