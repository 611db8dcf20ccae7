"""Product feedback alignment: errors that return through two crossbars in series, against the adjoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.families import Bank
from ohmostat.learning.asymmetry import weight_angles
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Exact, adjoint_response, centered
from ohmostat.learning.feedback import ProductFeedback
from ohmostat.learning.homeostat import WeightDecay
from ohmostat.learning.nudges import SquaredError, beta_in_watts
from ohmostat.learning.rules import Adjoint, gradients
from ohmostat.learning.training import Trainer

from .comparing import SAMPLES, SQUARED, distance

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]


def relayed(make_chip: Make, **more: object) -> Chip:
    changes = {"chip.family": "relay", "chip.relays": 9, "device.g_min": 0.0, "device.g_max": "1mS"}
    return make_chip(changes | {key.replace("__", "."): value for key, value in more.items()})


def heard(chip: Chip, free: Equilibrium, listening: Bank) -> np.ndarray:
    """``F B`` (m, n) of one sample: what relays answer to the shifts of the layer that they listen to."""
    slopes = chip.blocks.layer(free.slopes() / chip.blocks.load, listening.post)
    found: np.ndarray = slopes[0][:, None] * chip.blocks.weight(listening.post, listening.pre)
    return found


def aligned(chip: Chip, x: np.ndarray, factor: float) -> Equilibrium:
    """Write R until ``R F B = factor W_fᵀ`` at the free state on one sample, which it moves."""
    for _ in range(60):
        free = chip.relax(x)
        weights = {
            back.array: factor * chip.weight(ahead.array).T @ np.linalg.pinv(heard(chip, free, listening))
            for ahead, listening, back in chip.circuit.relay_paths
        }
        chip.write(weights)
    assert free.sound.all()
    return free


@pytest.mark.parametrize("factor", [1.0, 0.6])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_forward_arrays_take_the_true_gradient_where_the_product_is_the_transpose(
    make_chip: Make, inputs: Inputs, columns: str, factor: float
) -> None:
    """Of a multiple c of it, every layer's response is ``c^depth`` of the true one: same direction."""
    chip, x = relayed(make_chip, chip__columns=columns, learning__init_scale=0.6), inputs(1)
    free = aligned(chip, x, factor)
    cost = SquaredError(SQUARED.targets[:1], 1.0)
    true = Adjoint().update(chip, x, free, cost).gradients
    found = ProductFeedback(Exact()).update(chip, x, free, cost).gradients
    for name, depth in (("forward2", 0), ("bias2", 0), ("forward1", 1), ("bias1", 1), ("forward0", 2)):
        expected = factor**depth * true[name].devices()
        np.testing.assert_allclose(
            found[name].devices(), expected, rtol=0, atol=1e-8 * np.abs(expected).max()
        )


def test_a_product_that_is_not_the_transpose_biases_as_it_does_ep(make_chip: Make, inputs: Inputs) -> None:
    """``ε = J̃⁻¹J̃ᵀδ``, relays included: far from the truth as weights are drawn, and exactly that far."""
    chip, x = relayed(make_chip), inputs(SAMPLES)
    free = chip.relax(x)
    rule = ProductFeedback(centered(beta_in_watts(chip.circuit.design, 1e-4)))
    found, true = (r.update(chip, x, free, SQUARED).gradients for r in (rule, Adjoint()))
    delta, epsilon = adjoint_response(free, SQUARED).epsilon, np.zeros_like(free.ports)
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        epsilon[k] = np.linalg.solve(jacobian, jacobian.T @ delta[k])
    expected = gradients(chip, x, free, epsilon)
    forward = [name for name in true if name.startswith(("forward", "bias"))]
    assert distance(found, expected, forward) < 1e-6 and distance(found, true, ["forward0"]) > 0.1


def test_the_way_back_learns_what_relays_hear(make_chip: Make, inputs: Inputs) -> None:
    """``ΔR = (F B ΔW_f)ᵀ`` of one sample, exactly; what relays listen by stays."""
    chip, x = relayed(make_chip), inputs(1)
    free = chip.relax(x)
    cost = SquaredError(SQUARED.targets[:1], 1.0)
    found = ProductFeedback(Exact()).update(chip, x, free, cost).gradients
    for ahead, listening, back in chip.circuit.relay_paths:
        expected = (heard(chip, free, listening) @ found[ahead.array].differential).T
        np.testing.assert_allclose(
            found[back.array].differential, expected, rtol=0, atol=1e-10 * np.abs(expected).max()
        )
        assert not found[listening.array].devices().any()
        assert not found[chip.circuit.bias(listening.post)].devices().any()


def test_the_way_back_becomes_what_relays_hear_of_the_forward_weights(
    make_chip: Make, inputs: Inputs
) -> None:
    """``R - (F B W_f)ᵀ`` shrinks by ``1 - share`` a step, as twins' difference does, F being held."""
    chip, x, share = relayed(make_chip), inputs(1), 0.05
    free, decay, leak = chip.relax(x), WeightDecay(share), chip.circuit.design.neuron.leak
    cost = SquaredError(SQUARED.targets[:1], 1.0)
    update = ProductFeedback(Exact()).update(chip, x, free, cost)
    hears = {back.array: heard(chip, free, listening) for _, listening, back in chip.circuit.relay_paths}

    def apart() -> np.ndarray:
        paths = chip.circuit.relay_paths
        return np.concatenate(
            [(chip.weight(b.array) - (hears[b.array] @ chip.weight(a.array)).T).ravel() for a, _, b in paths]
        )

    before = {name: devices.actual.copy() for name, devices in chip.devices.items()}
    for _ in range(100):
        last, changes = apart(), decay.correct(chip)
        assert changes.keys() == {"forward1", "feedback1", "forward2", "feedback2"}
        for name, gradient in update.gradients.items():
            changes[name] = changes.get(name, 0.0) - 0.1 * leak**2 * gradient.differential
        chip.program(changes)
        np.testing.assert_allclose(apart(), (1 - share) * last, rtol=0, atol=1e-17)
    moved = {name for name, devices in chip.devices.items() if (devices.actual != before[name]).any()}
    assert before.keys() - moved == {"listen1", "listen2", "rest1", "rest2"}


@pytest.mark.parametrize("relays", [12, 100, 400])
def test_random_relays_lead_back_at_the_cosine_of_their_number(make_chip: Make, relays: int) -> None:
    """``cos(R B, Wᵀ) = 1/√(1 + n/m)`` for R = (B W)ᵀ, n neurons above and m relays."""
    chip = relayed(make_chip, chip__layers=[64, 30, 40, 10], chip__relays=relays)
    ahead, listening, back = chip.circuit.relay_paths[0]
    chip.write({back.array: 1e5 * (chip.weight(listening.array) @ chip.weight(ahead.array)).T})
    expected = 1 / np.sqrt(1 + 40 / relays)
    assert np.cos(np.radians(weight_angles(chip)["forward1"])) == pytest.approx(expected, abs=0.03)


def test_relays_start_at_their_steepest_and_hear_every_neuron_alike(make_chip: Make) -> None:
    chip = relayed(make_chip, chip__relays=400)
    neuron, (_, listening, _) = chip.circuit.design.neuron, chip.circuit.relay_paths[0]
    rest = chip.weight(chip.circuit.bias(listening.post)) * chip.bias_voltage / neuron.leak
    np.testing.assert_allclose(rest, neuron.offset, rtol=1e-12)
    lengths = np.linalg.norm(chip.weight(listening.array) / neuron.leak, axis=0)
    np.testing.assert_allclose(lengths, 1, atol=0.15)


def test_product_feedback_aligns_as_it_learns() -> None:
    changes = {
        "chip.family": "relay", "chip.relays": 100, "chip.layers": [64, 16, 10], "learning.batch": 20,
        "learning.rule": "product-feedback", "homeostat.mode": "decay",
    }  # fmt: skip
    trainer = Trainer.from_design(Design.named("digits").replace(changes), load("digits").subset(1000, 100))
    first, *_, last = trainer.fit(3)
    assert first.angle["forward1"] > 60 > 35 > last.angle["forward1"]
    assert last.measured["forward0"] > 0.5 > 0.3 > abs(first.measured["forward0"])
    assert last.accuracy > 0.6
