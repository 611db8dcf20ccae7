"""Gradients of every physical device against finite differences of the loss at re-relaxed equilibria."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import BIAS, INPUT
from ohmostat.learning.estimators import adjoint_response, centered, exact_response
from ohmostat.learning.nudges import Cost, CrossEntropy, SquaredError
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, drive_voltages, gradients

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

SAMPLES = 3
STEP = 2e-9  # S, of a leak of 1e-5: error of the central difference about (STEP / leak)²
PARTS = {
    "mismatch.conductance": 0.5,
    "mismatch.programming": 0.3,
    "mismatch.amplifier_gain": 0.15,
    "mismatch.amplifier_offset": "30mV",
    "mismatch.capacitance": 0.2,
    "learning.init_scale": 0.6,  # far from where feedback makes a chip bistable, and its derivatives large
}
COSTS: dict[str, Cost] = {
    "squared": SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0),
    "entropy": CrossEntropy(
        np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.array([0, 1, 2]), 1.0
    ),
}
CHIPS = {
    "twin": {"learning.angle": 60.0},
    "shared": {"chip.family": "shared", "mismatch.driver_gain": 0.2},
}


def mean_loss(chip: Chip, x: np.ndarray, cost: Cost) -> float:
    free = chip.relax(x, certify=0)
    assert free.settled.all()
    return float(cost.value(free.outputs, np.arange(len(x))).mean())


def some_devices(shape: tuple[int, ...], count: int = 8) -> list[tuple[int, ...]]:
    """A few devices, as many g+ as g-."""
    rng = np.random.default_rng(7)
    picked = [(k % 2, int(rng.integers(shape[1])), int(rng.integers(shape[2]))) for k in range(count)]
    return sorted(set(picked))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", CHIPS)
def test_adjoint_gradient_of_every_kind_of_device(
    make_chip: Make, rebuilt: Rebuild, inputs: Inputs, family: str, columns: str, cost: str
) -> None:
    chip = make_chip(PARTS | CHIPS[family] | {"chip.columns": columns})
    x, loss = inputs(SAMPLES), COSTS[cost]
    free = chip.relax(x)
    assert free.stable is not None and free.stable.all()
    found = gradients(chip, x, free, adjoint_response(chip, free, loss).epsilon)
    assert found.keys() == chip.devices.keys()
    for name, gradient in found.items():
        devices = gradient.devices()
        assert devices.shape == chip.devices[name].actual.shape
        for at in some_devices(devices.shape):
            up, down = (mean_loss(rebuilt(chip, name, at, sign * STEP), x, loss) for sign in (1, -1))
            error = (up - down) / (2 * STEP) - devices[at]
            assert abs(error) < 1e-6 * np.abs(devices).max(), (name, at)


def test_adjoint_gradient_with_rectifiers(make_chip: Make, rebuilt: Rebuild, inputs: Inputs) -> None:
    law = {"neuron.law": "softplus", "neuron.offset": 0.0, "neuron.knee": "0.1V"}
    chip = make_chip(PARTS | CHIPS["twin"] | law)
    x, loss = inputs(SAMPLES), COSTS["squared"]
    free = chip.relax(x)
    found = gradients(chip, x, free, adjoint_response(chip, free, loss).epsilon)
    for name, gradient in found.items():
        devices = gradient.devices()
        for at in some_devices(devices.shape, 4):
            up, down = (mean_loss(rebuilt(chip, name, at, sign * STEP), x, loss) for sign in (1, -1))
            assert abs((up - down) / (2 * STEP) - devices[at]) < 1e-6 * np.abs(devices).max(), (name, at)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", CHIPS)
def test_ep_is_exact_on_a_symmetric_chip(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    """Twins written equal, or one array with equal drivers, whatever its mismatch and its amplifiers'."""
    parts = PARTS if family == "shared" else {**PARTS, "mismatch.conductance": 0, "mismatch.programming": 0}
    chip = make_chip(parts | {"chip.family": family, "chip.columns": columns})
    x, cost = inputs(SAMPLES), COSTS["entropy"]
    free = chip.relax(x)
    ep, adjoint = (response(chip, free, cost).epsilon for response in (exact_response, adjoint_response))
    np.testing.assert_allclose(ep, adjoint, rtol=0, atol=1e-10 * np.abs(adjoint).max())
    by_ep, by_adjoint = gradients(chip, x, free, ep), gradients(chip, x, free, adjoint)
    measured = gradients(chip, x, free, centered(1e-8).response(chip, free, cost).epsilon)
    for name, gradient in by_adjoint.items():
        true = gradient.devices()
        np.testing.assert_allclose(by_ep[name].devices(), true, rtol=0, atol=1e-10 * np.abs(true).max())
        np.testing.assert_allclose(measured[name].devices(), true, rtol=0, atol=1e-4 * np.abs(true).max())


def test_ep_is_wrong_on_an_asymmetric_chip(make_chip: Make, inputs: Inputs) -> None:
    """So that the tests of exactness above could fail."""
    chip = make_chip(PARTS | CHIPS["twin"])
    x, cost = inputs(SAMPLES), COSTS["entropy"]
    free = chip.relax(x)
    ep, adjoint = (response(chip, free, cost).epsilon for response in (exact_response, adjoint_response))
    assert np.linalg.norm(ep - adjoint) > 0.1 * np.linalg.norm(adjoint)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", CHIPS)
def test_gradient_along_a_pair_is_that_of_programming_it(
    make_chip: Make, rebuilt: Rebuild, inputs: Inputs, family: str, columns: str
) -> None:
    """Per siemens of actual weight: commands are given in targets, so the step gain is divided out."""
    chip = make_chip(PARTS | CHIPS[family] | {"chip.columns": columns})
    x, cost = inputs(SAMPLES), COSTS["squared"]
    free = chip.relax(x)
    found = gradients(chip, x, free, adjoint_response(chip, free, cost).epsilon)
    for name, gradient in found.items():
        devices = chip.devices[name]
        slopes = gradient.along_pair(devices.target)
        assert slopes.shape == devices.weight.shape
        positive = devices.target[0] >= devices.target[1]
        width = np.abs(devices.target[0] - devices.target[1])
        for sign in (True, False):  # one pair whose g+ carries the weight, one whose g- does
            at = np.unravel_index(np.argmax(np.where(positive == sign, width, -1.0)), width.shape)
            if not width[at] > 10 * STEP:
                continue  # a bias at rest
            command = np.zeros_like(slopes)
            command[at] = STEP / devices.step[(0 if sign else 1, *at)]
            losses = []
            for direction in (1, -1):
                moved = rebuilt(chip)
                moved.program({name: direction * command})
                assert moved.weight(name)[at] - devices.weight[at] == pytest.approx(
                    direction * STEP, rel=1e-6
                )
                losses.append(mean_loss(moved, x, cost))
            error = (losses[0] - losses[1]) / (2 * STEP) - slopes[at]
            assert abs(error) < 1e-6 * np.abs(slopes).max(), (name, at)


def test_virtual_grounds_feel_the_difference_alone(make_chip: Make, inputs: Inputs) -> None:
    chip = make_chip()
    x = inputs(SAMPLES)
    free = chip.relax(x)
    for name, gradient in gradients(chip, x, free, np.ones_like(free.ports)).items():
        np.testing.assert_array_equal(gradient.devices()[0], -gradient.devices()[1])
        np.testing.assert_array_equal(gradient.along_pair(chip.devices[name].target), gradient.differential)


def test_drive_voltages(make_chip: Make, inputs: Inputs) -> None:
    chip = make_chip(CHIPS["shared"] | {"neuron.high": "800mV"})
    x = inputs(SAMPLES)
    free = chip.relax(x)
    for bank in chip.circuit.banks:
        volts = drive_voltages(chip, bank, x, free)
        if bank.pre == INPUT:
            np.testing.assert_array_equal(volts, x)
        elif bank.pre == BIAS:
            np.testing.assert_array_equal(volts, np.full((SAMPLES, 1), 0.8))
        else:
            gains = chip.drivers[bank.name]
            assert np.ptp(gains) > 0.01
            np.testing.assert_allclose(volts, free.layer(bank.pre) * gains)


def test_gradient_is_the_mean_over_the_batch(make_chip: Make, inputs: Inputs) -> None:
    """A sample that is left out, of response 0, counts as one without a gradient."""
    chip = make_chip({"chip.columns": "passive"})
    x = inputs(SAMPLES)
    free = chip.relax(x)
    epsilon = np.random.default_rng(3).normal(size=free.ports.shape)
    whole = gradients(chip, x, free, epsilon)
    parts = [gradients(chip, x, free, epsilon * (np.arange(SAMPLES) == k)[:, None]) for k in range(SAMPLES)]
    for name, gradient in whole.items():
        total = sum(part[name].devices() for part in parts)
        np.testing.assert_allclose(gradient.devices(), total, atol=1e-12)


def test_rules_name_and_answer(make_chip: Make, inputs: Inputs) -> None:
    chip = make_chip({"learning.angle": 60.0})
    free, cost = chip.relax(inputs(SAMPLES)), COSTS["squared"]
    adjoint, ep = Adjoint(), EquilibriumPropagation(centered(1e-6))
    assert (adjoint.name, ep.name) == ("adjoint", "ep")
    expected = adjoint_response(chip, free, cost).epsilon
    np.testing.assert_array_equal(adjoint.response(chip, free, cost, 0).epsilon, expected)
    measured = centered(1e-6).response(chip, free, cost).epsilon
    np.testing.assert_array_equal(ep.response(chip, free, cost, 0).epsilon, measured)
