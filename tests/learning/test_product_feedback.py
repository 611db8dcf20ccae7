"""Product feedback alignment: errors that return through two crossbars in series, against the adjoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.families import Bank
from ohmostat.learning.asymmetry import symmetry, weight_angles
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


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_the_way_back_learns_what_relays_hear(make_chip: Make, inputs: Inputs, columns: str) -> None:
    """``ΔR = (F B ΔW_f)ᵀ`` of one sample, exactly, as it is programmed; what relays listen by stays."""
    chip, x = relayed(make_chip, chip__columns=columns), inputs(1)
    free = chip.relax(x)
    cost = SquaredError(SQUARED.targets[:1], 1.0)
    update = ProductFeedback(Exact()).update(chip, x, free, cost)
    found = update.gradients
    for ahead, listening, back in chip.circuit.relay_paths:
        expected = (heard(chip, free, listening) @ found[ahead.array].differential).T
        step = found[back.array].along_pair(chip.devices[back.array].target)
        np.testing.assert_allclose(step, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert update.kept == {"listen1", "rest1", "listen2", "rest2"}
    assert not any(found[name].devices().any() for name in update.kept)


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
        for name in update.gradients.keys() - update.kept:
            gradient = update.gradients[name]
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


@pytest.mark.parametrize("law", ["logistic", "softplus", "tanh"])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_relays_start_at_their_steepest_and_hear_every_neuron_at_unit_length(
    make_chip: Make, columns: str, law: str
) -> None:
    """So what returns is ``W_fᵀ`` times a c of at most 1, and nothing flows back from relays at rest."""
    chip = relayed(make_chip, chip__relays=400, chip__columns=columns, neuron__law=law, neuron__gain=3.0)
    rest = np.zeros((1, chip.blocks.size))
    for _, listening, back in chip.circuit.relay_paths:
        where = chip.blocks.slices[listening.post]
        bias = chip.weight(chip.circuit.bias(listening.post))[:, 0] * chip.bias_voltage
        rest[0, where] = bias / chip.blocks.load[where]
        ports, slopes = chip.blocks.ports(rest)
        np.testing.assert_allclose(slopes[0, where], 3.0, rtol=0.08)  # a softplus has its knees
        hears = (slopes[0, where] / chip.blocks.load[where])[:, None] * chip.weight(listening.array)
        np.testing.assert_allclose(np.linalg.norm(hears, axis=0), 1, atol=0.15)
        assert (
            np.abs(chip.weight(back.array) @ ports[0, where]).max() < 1e-9 * chip.circuit.design.neuron.leak
        )
        assert np.abs(hears.sum(axis=0)).max() < 0.2


def test_two_relays_are_enough_to_start_with(make_chip: Make, inputs: Inputs) -> None:
    chip = relayed(make_chip, chip__relays=2)
    assert all(np.isfinite(chip.weight(name)).all() for name in chip.devices)
    assert chip.relax(inputs(2)).sound.all()


def test_on_passive_columns_many_neurons_are_heard_as_far_as_the_load_lets_them(make_chip: Make) -> None:
    """Of 60 columns a relay's gain of 1 is spent on its own load: no B could make it 1."""
    chip = relayed(make_chip, chip__layers=[64, 60, 50, 10], chip__relays=60, chip__columns="passive")
    _, listening, _ = chip.circuit.relay_paths[0]
    where, gain = chip.blocks.slices[listening.post], chip.circuit.design.neuron.gain
    hears = gain / chip.blocks.load[where][:, None] * chip.weight(listening.array)
    loudest = gain / np.abs(chip.weight(listening.array)).sum(axis=1)[:, None] * chip.weight(listening.array)
    heard, most = (np.linalg.norm(answer, axis=0).mean() for answer in (hears, loudest))
    assert 0.3 * most < heard < most < 1


@pytest.mark.parametrize("hidden", [(16,), (24, 16)])
def test_product_feedback_aligns_as_it_learns(hidden: tuple[int, ...]) -> None:
    """What it measures comes near the truth, on a chip of two hidden layers, too; nothing is left out."""
    changes = {
        "chip.family": "relay", "chip.relays": 100, "chip.layers": [64, *hidden, 10], "learning.batch": 20,
        "learning.rule": "product-feedback", "homeostat.mode": "decay", "mismatch.conductance": 0.2,
    }  # fmt: skip
    trainer = Trainer.from_design(Design.named("digits").replace(changes), load("digits").subset(1000, 100))
    first, *_, last = trainer.fit(5)
    for k in range(1, len(hidden) + 1):
        assert first.angle[f"forward{k}"] > 60 > 50 > last.angle[f"forward{k}"]
        assert last.measured[f"forward{k}"] > 0.5
    assert last.measured["forward0"] > 0.5 > 0.3 > abs(first.measured["forward0"])
    assert last.left_out < 0.05
    writes = trainer.chip.programmer
    assert writes.pulses < trainer.steps * 2 * sum(trainer.chip.weight(n).size for n in trainer.chip.devices)


def test_an_aligned_chip_is_symmetric_but_for_its_relays(make_chip: Make, inputs: Inputs) -> None:
    """With the relays eliminated, J̃ is symmetric where ``R F B = W_fᵀ``; with them in it, it is not."""
    chip, x = relayed(make_chip, learning__init_scale=0.6), inputs(1)
    free = aligned(chip, x, 1.0)
    relays = [listening.post for _, listening, _ in chip.circuit.relay_paths]
    assert symmetry(free, relays=relays).measure == pytest.approx(1, abs=1e-9)
    assert symmetry(free).measure < 0.99
    names = [str(name) for name in chip.circuit.layer_names]
    assert names == ["layer0", "layer1", "relays1", "relays2", "layer2"]


def test_neurons_are_those_of_a_twin_of_the_same_seed(make_chip: Make) -> None:
    spread = {"mismatch.amplifier_gain": 0.1, "mismatch.sense_gain": 0.1, "mismatch.sense_offset": "5mV"}
    chips = [make_chip({"chip.family": family, "chip.relays": 9, **spread}) for family in ("relay", "twin")]
    gains, sensed = [], []
    for chip in chips:
        neurons = [k for k, name in enumerate(chip.circuit.layer_names) if name.kind == "neurons"]
        slices = [chip.blocks.slices[k] for k in neurons]
        gains.append(np.concatenate([chip.blocks.gain[where] for where in slices]))
        sensed.append(np.concatenate([np.asarray(chip.periphery.sense_offset)[where] for where in slices]))
    np.testing.assert_array_equal(*gains)
    np.testing.assert_array_equal(*sensed)
    assert np.ptp(gains[0]) > 0 and np.ptp(sensed[0]) > 0
