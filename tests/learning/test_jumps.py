"""What cannot be a derivative is left out: jumps to another branch, and shifts that are not smooth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.learning.estimators import Stencil, cauchy, centered, chebyshev, exact_response, is_smooth
from ohmostat.learning.nudges import SquaredError

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
    response = centered(0.02 * LEAK).response(gone, cost, certify=0)  # shifts alone tell
    assert response.nudged is not None and (response.nudged.outputs < 0).all()
    assert gone.sound.all() and response.nudged.sound.all()
    assert not response.valid.any() and not response.epsilon.any()


@pytest.mark.parametrize("two", [centered, lambda beta: cauchy(beta, 2)], ids=["centered", "cauchy-2"])
def test_a_jump_of_one_phase_is_left_out(latch: Chip, two: Callable[[float], Stencil]) -> None:
    """Its shift is as much in common with the other phase's as apart from it: no certificate is needed."""
    free, cost = held_up(latch, -0.2), SquaredError(np.array([[-1.0]]), 2.0)
    response = two(0.8 * LEAK).response(free, cost, certify=0)
    assert response.nudged is not None
    np.testing.assert_array_equal(response.nudged.outputs[:, 0] < 0, [True, False])
    assert free.sound.all() and response.nudged.sound.all()
    assert not response.valid.any() and not response.epsilon.any()
    assert two(0.02 * LEAK).response(free, cost, certify=0).valid.all()
    taken = replace(two(0.8 * LEAK), judged=False).response(free, cost, certify=0)
    assert taken.valid.all() and np.abs(taken.epsilon).max() > 0.5 / LEAK


def test_jumps_of_both_phases_along_their_pushes_pass_until_they_are_released(three_level: Chip) -> None:
    """Odd shifts, like those of a derivative: only the release test of a certified sample tells."""
    x = np.zeros((1, 64))
    x[0, 0] = 1.0
    free, cost = three_level.relax(x), SquaredError(np.ones((1, 10)), 2.0)
    assert free.sound.all() and np.abs(free.outputs).max() < 1e-6
    unseen = centered(0.5 * LEAK).response(free, cost, certify=0)
    assert unseen.nudged is not None
    assert (unseen.nudged.outputs[0] > 0.9).all() and (unseen.nudged.outputs[1] < -0.9).all()
    seen = centered(0.5 * LEAK).response(free, cost, certify=1)
    assert seen.nudged is not None and seen.nudged.jumped is not None
    assert unseen.valid.all() and seen.nudged.jumped.all() and not seen.valid.any()
    taken = replace(centered(0.5 * LEAK), judged=False).response(free, cost, certify=1)
    assert taken.valid.all()
    np.testing.assert_array_equal(taken.epsilon, unseen.epsilon)


@pytest.mark.parametrize("count", range(4, 13, 2))
def test_steps_anywhere_and_kinks_are_not_smooth(count: int) -> None:
    nodes = np.array(chebyshev(1.0, count).nodes)
    edges = (nodes[1:] + nodes[:-1]) / 2
    one_jump = (nodes[:, None] > edges).astype(float)
    jumps_both_ways = np.sign(nodes)[:, None] * (np.abs(nodes[:, None]) > np.abs(edges))
    kink = np.maximum(nodes, 0)[:, None]  # saturated under the nudges of one sign
    for shifts in (one_jump, jumps_both_ways, kink):
        assert not is_smooth(nodes, shifts[..., None], count).any()
    assert is_smooth(nodes, np.tanh(nodes)[:, None, None], count).all()


@pytest.mark.parametrize("count", [4, 6])
def test_jumps_are_left_out_without_a_certificate(latch: Chip, three_level: Chip, count: int) -> None:
    """Where more than two nudges show that the series does not decay: of one phase, and of both alike."""
    x = np.zeros((1, 64))
    x[0, 0] = 1.0
    level = three_level.relax(x), SquaredError(np.ones((1, 10)), 2.0), 0.5
    for free, cost, strength in ((held_up(latch, -0.2), SquaredError(np.array([[-1.0]]), 2.0), 0.8), level):
        response = chebyshev(strength * LEAK, count).response(free, cost, certify=0)
        assert response.nudged is not None and response.nudged.sound.all()
        assert np.abs(response.nudged.outputs - free.outputs).max() > 0.5
        assert not response.valid.any() and not response.epsilon.any()
        assert chebyshev(0.02 * LEAK, count).response(free, cost, certify=0).valid.all()


def test_a_strong_smooth_response_is_kept(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray]
) -> None:
    """Its even part disqualifies two nudges; the series of four converges."""
    chip = make_chip({"mismatch.conductance": 0.5, "learning.angle": 60.0})
    free, cost = chip.relax(inputs(1)), SquaredError(np.random.default_rng(1).random((1, 4)), 1.0)
    exact = exact_response(free, cost).epsilon
    assert not centered(0.6 * LEAK).response(free, cost).valid.any()
    four = chebyshev(0.6 * LEAK, 4).response(free, cost)
    assert four.valid.all()
    assert np.linalg.norm(four.epsilon - exact) < 0.02 * np.linalg.norm(exact)


def test_a_jump_is_flagged_by_its_release(latch: Chip) -> None:
    free, cost = held_up(latch, -0.2), SquaredError(np.array([[-1.0]]), 2.0)
    small = centered(0.02 * LEAK).response(free, cost)
    large = centered(0.8 * LEAK).response(free, cost)
    assert small.nudged is not None and large.nudged is not None
    assert small.nudged.jumped is not None and not small.nudged.jumped.any()
    np.testing.assert_array_equal(large.nudged.jumped, [True, False])
