"""Estimators of ds/dβ against the exact response; what the response is when J̃ is not symmetric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.learning.estimators import (
    ESTIMATORS,
    _repeated,
    adjoint_response,
    centered,
    exact_response,
    one_sided,
)
from ohmostat.learning.nudges import CrossEntropy, Nudge, SquaredError, beta_in_watts

BETAS = np.array([0.2, 0.1, 0.05, 0.025])
SAMPLES = 4
COSTS = {
    "squared": SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0),
    "entropy": CrossEntropy(
        np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.array([0, 1, 2, 1]), 1.0
    ),
}


@pytest.fixture(scope="module")
def asymmetric(make_chip: Callable[..., Chip]) -> Chip:
    return make_chip({"mismatch.conductance": 0.5, "learning.angle": 60.0})


@pytest.fixture(scope="module")
def free(asymmetric: Chip, inputs: Callable[..., np.ndarray]) -> Equilibrium:
    state = asymmetric.relax(inputs(SAMPLES))
    assert state.settled.all() and state.stable is not None and state.stable.all()
    return state


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("name", "order"), [("one-sided", 1), ("centered", 2)])
def test_order_of_the_error_in_beta(
    asymmetric: Chip, free: Equilibrium, cost: str, name: str, order: int
) -> None:
    exact = exact_response(asymmetric, free, COSTS[cost]).epsilon
    errors = []
    for beta in BETAS:
        estimator = ESTIMATORS[name](beta_in_watts(asymmetric.circuit.design, beta))
        response = estimator.response(asymmetric, free, COSTS[cost])
        assert response.valid.all()
        errors.append(np.linalg.norm(response.epsilon - exact) / np.linalg.norm(exact))
    slope = np.polyfit(np.log(BETAS), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1)
    assert errors[-1] < 0.03**order  # at a beta of 0.025


@pytest.mark.parametrize("name", ESTIMATORS)
def test_rule_of_differentiation(name: str) -> None:
    estimator = ESTIMATORS[name](1.0)
    nodes, weights = np.array(estimator.nodes), np.array(estimator.weights)
    assert weights @ nodes == 1
    assert estimator.relaxations == 1 + len(nodes)
    if name == "centered":
        assert weights.sum() == weights @ nodes**2 == 0


def test_all_nudges_in_one_batch_are_the_separate_relaxations(asymmetric: Chip, free: Equilibrium) -> None:
    cost, beta = COSTS["squared"], 4e-6
    phases = [
        asymmetric.settle(free.injected, Nudge(cost, np.full(SAMPLES, sign * beta), SAMPLES), free).ports
        for sign in (1, -1)
    ]
    both = centered(beta).response(asymmetric, free, cost)
    np.testing.assert_allclose(both.epsilon, (phases[0] - phases[1]) / (2 * beta), rtol=1e-6, atol=1e-3)
    one = one_sided(beta).response(asymmetric, free, cost)
    np.testing.assert_allclose(one.epsilon, (phases[0] - free.ports) / beta, rtol=1e-6, atol=1e-3)
    assert both.nudged is not None and len(both.nudged.ports) == 2 * SAMPLES


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_exact_response_and_adjoint_solve_their_equations(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray], columns: str
) -> None:
    chip = make_chip({"chip.columns": columns, "mismatch.conductance": 0.5, "learning.angle": 90.0})
    free, cost = chip.relax(inputs(SAMPLES)), COSTS["entropy"]
    ep, adjoint = exact_response(chip, free, cost), adjoint_response(chip, free, cost)
    assert ep.valid.all() and ep.nudged is None
    gradient = cost.gradient(free.outputs, np.arange(SAMPLES))
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        rhs = np.zeros(len(jacobian))
        rhs[free.circuit.output] = gradient[k]
        for response, matrix in ((ep, jacobian), (adjoint, jacobian.T)):
            expected = np.linalg.solve(matrix, rhs)
            error = np.abs(response.epsilon[k] - expected).max()
            assert error < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["twin", "shared"])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_bias_of_ep_on_an_asymmetric_chip(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray], family: str, columns: str
) -> None:
    """``ε = J̃⁻¹J̃ᵀδ`` (physics, section 3: Gradients), far from ``δ`` itself."""
    skew = {"learning.angle": 70.0} if family == "twin" else {"mismatch.driver_gain": 0.3}
    chip = make_chip({"chip.family": family, "chip.columns": columns, "mismatch.conductance": 0.4} | skew)
    free, cost = chip.relax(inputs(SAMPLES)), COSTS["squared"]
    epsilon = exact_response(chip, free, cost).epsilon
    delta = adjoint_response(chip, free, cost).epsilon
    assert np.linalg.norm(epsilon - delta) > 0.02 * np.linalg.norm(delta)
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        expected = np.linalg.solve(jacobian, jacobian.T @ delta[k])
        assert np.abs(epsilon[k] - expected).max() < 1e-8 * np.abs(expected).max()


def test_first_order_of_the_bias(make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray]) -> None:
    """``ε = δ - 2 S⁻¹A δ + O(A²)``."""
    left_over = []
    for angle in (2.0, 1.0, 0.5):
        chip = make_chip({"learning.angle": angle})
        free, cost = chip.relax(inputs(1)), SquaredError(np.full((1, 4), 0.3), 1.0)
        delta = adjoint_response(chip, free, cost).epsilon[0]
        jacobian = free.port_jacobian()
        s, a = (jacobian + jacobian.T) / 2, (jacobian - jacobian.T) / 2
        bias = exact_response(chip, free, cost).epsilon[0] - delta
        left_over.append(np.linalg.norm(bias + 2 * np.linalg.solve(s, a @ delta)))
    slope = np.polyfit(np.log([2, 1, 0.5]), np.log(left_over), 1)[0]
    assert slope == pytest.approx(2, abs=0.05)


def test_an_unsettled_sample_is_left_out(asymmetric: Chip, free: Equilibrium) -> None:
    settled = np.array([True, False, True, True])
    shaky, cost = replace(free, settled=settled), COSTS["squared"]
    for response in (
        centered(1e-6).response(asymmetric, shaky, cost),
        exact_response(asymmetric, shaky, cost),
        adjoint_response(asymmetric, shaky, cost),
    ):
        np.testing.assert_array_equal(response.valid, settled)
        assert not response.epsilon[1].any() and response.epsilon[settled].any(axis=1).all()


# -- jumps -----------------------------------------------------------------------------------------

LEAK = 1e-5


@pytest.fixture(scope="module")
def latch() -> Chip:
    """Two neurons that hold each other: stable at both rails, if the input does not object."""
    design = Design().replace(
        {
            "chip.layers": [64, 1, 1], "task.data": "digits", "learning.dtype": "float64",
            "learning.tolerance": 1e-11, "neuron.low": -1.0, "neuron.high": 1.0, "neuron.offset": 0.0,
            "neuron.gain": 1.3, "device.g_min": 0.0,
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate()
    first = LEAK * np.eye(1, 64)
    loop = np.full((1, 1), 1.2 * LEAK)
    chip.write({"forward0": first, "forward1": loop, "feedback1": loop})
    return chip


@pytest.fixture(scope="module")
def three_level() -> Chip:
    """Outputs, all alike, that hold two neurons with thresholds on either side of 0: three stable levels."""
    design = Design().replace(
        {
            "chip.layers": [64, 2, 10], "task.data": "digits", "learning.dtype": "float64",
            "learning.tolerance": 1e-11, "neuron.low": -1.0, "neuron.high": 1.0, "neuron.offset": 0.0,
            "neuron.gain": 4.0, "device.g_min": 0.0,
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate()
    thresholds = np.zeros((2, 64))
    thresholds[:, 0] = LEAK * np.array([-0.5, 0.5])
    loop = {"forward1": np.full((10, 2), 0.3 * LEAK), "feedback1": np.full((2, 10), 0.09 * LEAK)}
    chip.write({"forward0": thresholds, **loop})
    return chip


def held_up(latch: Chip, push: float) -> Equilibrium:
    """The upper branch at an input that pushes down."""
    high, x = np.zeros((1, 64)), np.zeros((1, 64))
    high[0, 0], x[0, 0] = 0.5, push
    state = latch.relax(x, start=latch.relax(high))
    assert state.settled.all() and state.stable is not None and state.stable.all()
    return state


def test_a_jump_of_every_phase_is_left_out(latch: Chip) -> None:
    """The free state is on a branch that has gone by the time of the nudges: both fall to the other one."""
    free = held_up(latch, -0.1)
    assert free.outputs[0, 0] > 0.5
    gone = replace(free, injected=free.injected - 0.5 * LEAK)
    cost = SquaredError(np.array([[1.0]]), 2.0)
    response = centered(0.02 * LEAK).response(latch, gone, cost, certify=0)  # shifts alone tell
    assert response.nudged is not None and (response.nudged.outputs < 0).all()
    assert gone.sound.all() and response.nudged.sound.all()
    assert not response.valid.any() and not response.epsilon.any()


def test_a_jump_of_one_phase_is_left_out(latch: Chip) -> None:
    """Its shift is as much in common with the other phase's as apart from it: no certificate is needed."""
    free, cost = held_up(latch, -0.2), SquaredError(np.array([[-1.0]]), 2.0)
    response = centered(0.8 * LEAK).response(latch, free, cost, certify=0)
    assert response.nudged is not None
    np.testing.assert_array_equal(response.nudged.outputs[:, 0] < 0, [True, False])
    assert free.sound.all() and response.nudged.sound.all()
    assert not response.valid.any() and not response.epsilon.any()
    assert centered(0.02 * LEAK).response(latch, free, cost, certify=0).valid.all()


def test_jumps_of_both_phases_along_their_pushes_pass_until_they_are_released(three_level: Chip) -> None:
    """Odd shifts, like those of a derivative: only the release test of a certified sample tells."""
    x = np.zeros((1, 64))
    x[0, 0] = 1.0
    free, cost = three_level.relax(x), SquaredError(np.ones((1, 10)), 2.0)
    assert free.sound.all() and np.abs(free.outputs).max() < 1e-6
    unseen = centered(0.5 * LEAK).response(three_level, free, cost, certify=0)
    assert unseen.nudged is not None
    assert (unseen.nudged.outputs[0] > 0.9).all() and (unseen.nudged.outputs[1] < -0.9).all()
    seen = centered(0.5 * LEAK).response(three_level, free, cost, certify=1)
    assert seen.nudged is not None and seen.nudged.jumped is not None
    assert unseen.valid.all() and seen.nudged.jumped.all() and not seen.valid.any()


def test_a_jump_is_flagged_by_its_release(latch: Chip) -> None:
    free, cost = held_up(latch, -0.2), SquaredError(np.array([[-1.0]]), 2.0)
    small = centered(0.02 * LEAK).response(latch, free, cost)
    large = centered(0.8 * LEAK).response(latch, free, cost)
    assert small.nudged is not None and large.nudged is not None
    assert small.nudged.jumped is not None and not small.nudged.jumped.any()
    np.testing.assert_array_equal(large.nudged.jumped, [True, False])


def test_complex_nudges_reach_the_exact_response(asymmetric: Chip, free: Equilibrium) -> None:
    """Cauchy's formula on 16 complex nudges: the circuit is complex-differentiable, and settles so."""
    cost = COSTS["entropy"]
    samples, nudges = len(free.ports), 16
    beta = beta_in_watts(asymmetric.circuit.design, 0.05)
    phase = np.exp(2j * np.pi * np.arange(nudges) / nudges)
    nudge = Nudge(cost, np.repeat(beta * phase, samples), samples)
    start = _repeated(free, nudges)
    state = asymmetric.settle(start.injected, nudge, start, tolerance=1e-13)
    assert state.settled.all()
    assert state.ports.dtype == np.complex128
    shifts = state.ports.reshape(nudges, samples, -1)
    epsilon = np.tensordot(phase.conj() / (nudges * beta), shifts, axes=1)
    exact = exact_response(asymmetric, free, cost).epsilon
    assert np.abs(epsilon - exact).max() < 1e-8 * np.abs(exact).max()
