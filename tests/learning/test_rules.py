"""Gradients of every physical device against finite differences of the loss at re-relaxed equilibria."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.families import BIAS, INPUT
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import KEYS
from ohmostat.circuits.units import Choice
from ohmostat.learning.catalogue import RULES
from ohmostat.learning.data import load
from ohmostat.learning.estimators import (
    Stencil,
    adjoint_response,
    centered,
    exact_response,
    one_sided,
)
from ohmostat.learning.nudges import Cost, CrossEntropy, SquaredError, beta_in_watts
from ohmostat.learning.rules import (
    Adjoint,
    EquilibriumPropagation,
    drive_voltages,
    gradients,
    mirrored,
)
from ohmostat.learning.subcircuits import part
from ohmostat.learning.training import Trainer

from .comparing import distance, order

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
    "relay": {"chip.family": "relay", "chip.relays": 7},
}
LACKING = {
    "twin": ("product-feedback",),
    "shared": ("product-feedback", "kolen-pollack"),
    "relay": ("aep", "aep-measured", "contrastive", "dual-propagation", "kolen-pollack"),
}
DECAYING = ("kolen-pollack", "product-feedback")


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
    found = gradients(chip, x, free, adjoint_response(free, loss).epsilon)
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
    found = gradients(chip, x, free, adjoint_response(free, loss).epsilon)
    for name, gradient in found.items():
        devices = gradient.devices()
        for at in some_devices(devices.shape, 4):
            up, down = (mean_loss(rebuilt(chip, name, at, sign * STEP), x, loss) for sign in (1, -1))
            assert abs((up - down) / (2 * STEP) - devices[at]) < 1e-6 * np.abs(devices).max(), (name, at)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_ep_is_exact_on_a_symmetric_chip(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    """Twins written equal, or one array with equal drivers, whatever its mismatch and its amplifiers'."""
    parts = PARTS if family == "shared" else {**PARTS, "mismatch.conductance": 0, "mismatch.programming": 0}
    chip = make_chip(parts | {"chip.family": family, "chip.columns": columns})
    x, cost = inputs(SAMPLES), COSTS["entropy"]
    free = chip.relax(x)
    ep, adjoint = (response(free, cost).epsilon for response in (exact_response, adjoint_response))
    np.testing.assert_allclose(ep, adjoint, rtol=0, atol=1e-10 * np.abs(adjoint).max())
    by_ep, by_adjoint = gradients(chip, x, free, ep), gradients(chip, x, free, adjoint)
    measured = gradients(chip, x, free, centered(1e-8).response(free, cost).epsilon)
    for name, gradient in by_adjoint.items():
        true = gradient.devices()
        np.testing.assert_allclose(by_ep[name].devices(), true, rtol=0, atol=1e-10 * np.abs(true).max())
        np.testing.assert_allclose(measured[name].devices(), true, rtol=0, atol=1e-4 * np.abs(true).max())


def test_ep_is_wrong_on_an_asymmetric_chip(make_chip: Make, inputs: Inputs) -> None:
    """So that the tests of exactness above could fail."""
    chip = make_chip(PARTS | CHIPS["twin"])
    x, cost = inputs(SAMPLES), COSTS["entropy"]
    free = chip.relax(x)
    ep, adjoint = (response(free, cost).epsilon for response in (exact_response, adjoint_response))
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
    found = gradients(chip, x, free, adjoint_response(free, cost).epsilon)
    for name, gradient in found.items():
        devices = chip.devices[name]
        slopes = gradient.along_pair(devices.target)
        assert slopes.shape == devices.weight.shape
        positive = devices.target[0] >= devices.target[1]
        width = np.abs(devices.target[0] - devices.target[1])
        for sign in (True, False):  # one pair whose g+ carries the weight, one whose g- does
            carried = np.where((positive == sign) & (width < 0.9 * chip.limits[1]), width, -1.0)
            at = np.unravel_index(np.argmax(carried), width.shape)
            if not carried[at] > 10 * STEP:
                continue  # a bias at rest, or that of relays, of one sign
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


def test_a_bank_outside_the_free_circuit_drives_nothing(make_chip: Make, inputs: Inputs) -> None:
    """It still loads its columns, where these are passive."""
    chip, x = make_chip({"chip.columns": "passive"}), inputs(SAMPLES)
    free = chip.relax(x)
    ahead = part(chip.blocks, 3, [(1, 0), (2, 1)])
    found = gradients(chip, x, replace(free, circuit=ahead), np.ones_like(free.ports))
    for name, whole in gradients(chip, x, free, np.ones_like(free.ports)).items():
        np.testing.assert_array_equal(found[name].common, whole.common)
        if name.startswith("feedback"):
            assert not found[name].differential.any() and whole.differential.any()
        else:
            np.testing.assert_array_equal(found[name].differential, whole.differential)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_mirrored_gradients(make_chip: Make, inputs: Inputs, columns: str) -> None:
    """Device (j, i) of the feedback twin takes that of device (i, j)."""
    chip, x = make_chip({"chip.columns": columns}), inputs(SAMPLES)
    free = chip.relax(x)
    found = gradients(chip, x, free, np.random.default_rng(0).normal(size=free.ports.shape))
    twins = mirrored(chip.circuit, found)
    for k in (1, 2):
        np.testing.assert_array_equal(
            twins[f"feedback{k}"].devices(), found[f"forward{k}"].devices().transpose(0, 2, 1)
        )
        assert twins[f"forward{k}"] is found[f"forward{k}"]
    shared = make_chip({"chip.family": "shared", "chip.columns": columns})
    assert mirrored(shared.circuit, found) == found


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
    x, cost = inputs(SAMPLES), COSTS["squared"]
    free = chip.relax(x)
    adjoint, ep = Adjoint(), EquilibriumPropagation(centered(1e-6))
    assert (adjoint.name, ep.name) == ("adjoint", "ep")
    for rule, response in (
        (adjoint, adjoint_response(free, cost)),
        (ep, centered(1e-6).response(free, cost)),
    ):
        update, expected = rule.update(chip, x, free, cost), gradients(chip, x, free, response.epsilon)
        assert update.gradients.keys() == expected.keys()
        for name, gradient in update.gradients.items():
            np.testing.assert_array_equal(gradient.devices(), expected[name].devices())
        np.testing.assert_array_equal(update.valid, response.valid)


# -- positive, negative and centered EP ------------------------------------------------------------


FORMS: dict[str, Callable[[float], Stencil]] = {
    "positive": one_sided,
    "negative": lambda beta: one_sided(-beta),
    "centered": centered,
}


@pytest.mark.parametrize("family", ["symmetric", *CHIPS])
@pytest.mark.parametrize(("form", "expected"), [("positive", 1), ("negative", 1), ("centered", 2)])
def test_forms_of_ep_against_the_adjoint(
    make_chip: Make, inputs: Inputs, family: str, form: str, expected: int
) -> None:
    """What is left as β → 0 is the bias ``ε = J̃⁻¹J̃ᵀδ`` alone: nothing on a symmetric chip."""
    changes = {"learning.init_scale": 0.6} if family == "symmetric" else PARTS | CHIPS[family]
    chip, x, cost = make_chip(changes), inputs(SAMPLES), COSTS["entropy"]
    free = chip.relax(x)
    delta = adjoint_response(free, cost).epsilon
    jacobians = [free.port_jacobian(k) for k in range(SAMPLES)]
    biased = [np.linalg.solve(j, j.T @ d) for j, d in zip(jacobians, delta, strict=True)]
    limit = gradients(chip, x, free, delta if family == "symmetric" else np.array(biased))
    betas, errors = [0.02, 0.01, 0.005], []
    for beta in betas:
        update = EquilibriumPropagation(FORMS[form](beta_in_watts(chip.circuit.design, beta))).update(
            chip, x, free, cost
        )
        assert update.valid.all()
        errors.append(distance(update.gradients, limit))
    assert order(betas, errors) == pytest.approx(expected, abs=0.1)


def test_centered_ep_is_the_mean_of_the_two_others(make_chip: Make, inputs: Inputs) -> None:
    chip, x, cost = make_chip(PARTS | CHIPS["twin"]), inputs(SAMPLES), COSTS["squared"]
    free, beta = chip.relax(x), beta_in_watts(chip.circuit.design, 0.05)
    found = {
        form: EquilibriumPropagation(make(beta)).update(chip, x, free, cost).gradients
        for form, make in FORMS.items()
    }
    for name, gradient in found["centered"].items():
        mean = (found["positive"][name].devices() + found["negative"][name].devices()) / 2
        np.testing.assert_allclose(gradient.devices(), mean, rtol=0, atol=1e-9 * np.abs(mean).max())
    assert distance(found["positive"], found["negative"]) > 1e-3


# -- the catalogue ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CHIPS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_trains_or_says_what_it_lacks(family: str, rule: str) -> None:
    keys = {
        "chip.layers": [64, 8, 10], "task.data": "digits", "chip.family": family, "learning.batch": 20,
        "learning.rule": rule, "homeostat.mode": "decay" if rule in DECAYING else "off", "chip.relays": 12,
    }  # fmt: skip
    design, data = Design().replace(keys), load("digits").subset(40, 20)
    if rule in LACKING[family]:
        with pytest.raises(DesignError, match=f'learning.rule = "{rule}": needs .* "{family}" has not'):
            Trainer.from_design(design, data)
        return
    trainer = Trainer.from_design(design, data)
    before = {name: chip.actual.copy() for name, chip in trainer.chip.devices.items()}
    last = trainer.fit(1)[-1]
    assert trainer.rule.name == rule and last.left_out == 0 and np.isfinite(last.loss)
    moved = {name for name, actual in before.items() if (trainer.chip.devices[name].actual != actual).any()}
    assert before.keys() - moved == ({"listen1", "rest1"} if rule == "product-feedback" else set())


def test_a_design_can_name_every_rule() -> None:
    kind = KEYS["learning.rule"]
    assert isinstance(kind, Choice) and set(kind.options) == set(RULES)
