"""Dual propagation against backpropagation of the feed-forward reading of the same chip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.families import BIAS, INPUT
from ohmostat.learning.data import load
from ohmostat.learning.dual import DualPropagation
from ohmostat.learning.nudges import beta_in_watts
from ohmostat.learning.rules import Adjoint
from ohmostat.learning.training import Trainer

from .comparing import ENTROPY, SAMPLES, SQUARED, distance, order

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

STEP = 2e-9  # S, of a leak of 1e-5
NEURONS = {"mismatch.amplifier_gain": 0.15, "mismatch.amplifier_offset": "30mV", "mismatch.capacitance": 0.2}
MATCHED: dict[str, dict[str, object]] = {
    "twin": NEURONS,
    "shared": {**NEURONS, "chip.family": "shared", "mismatch.conductance": 0.5},
}
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def rule(chip: Chip, beta: float, alpha: float = 0.5) -> DualPropagation:
    return DualPropagation(beta_in_watts(chip.circuit.design, beta), alpha)


def forward_only(chip: Chip) -> list[str]:
    """Arrays that carry values, not only errors."""
    return [name for name in chip.devices if not name.startswith("feedback")]


def feed_forward(chip: Chip, x: np.ndarray) -> np.ndarray:
    """Output ports by one pass from layer to layer."""
    neuron, ports = chip.circuit.design.neuron, x
    for k in range(len(chip.circuit.sizes)):
        nodes, current = chip.blocks.slices[k], 0.0
        for bank in chip.circuit.banks:
            if bank.post == k and bank.pre in (INPUT, BIAS, k - 1):
                volts = np.full((len(x), 1), neuron.high) if bank.pre == BIAS else ports
                gains = chip.drivers.get(bank.name, 1.0) if bank.pre >= 0 else 1.0
                current = current + (volts * gains) @ chip.weight(bank.array).T
        v = current / chip.blocks.load[nodes]
        steepness = 4 * chip.blocks.gain[nodes] / neuron.swing
        ports = neuron.low + neuron.swing / (1 + np.exp(-steepness * (v - chip.blocks.offset[nodes])))
    return ports


# -- the feed-forward reading ----------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", MATCHED)
def test_the_chip_is_used_feed_forward(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    chip, x = make_chip(MATCHED[family] | {"chip.columns": columns}), inputs(SAMPLES)
    free = rule(chip, 0.01).relax(chip, x)
    assert free.sound.all() and free.stable is not None and free.stable.all()
    np.testing.assert_allclose(free.outputs, feed_forward(chip, x), rtol=0, atol=1e-12)
    assert np.abs(chip.relax(x).outputs - free.outputs).max() > 1e-3  # the loop does matter
    some = rule(chip, 0.01).relax(chip, x, certify=2)
    assert some.checked is not None and some.checked.sum() == 2


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", MATCHED)
def test_its_adjoint_is_the_gradient_of_every_device(
    make_chip: Make, rebuilt: Rebuild, inputs: Inputs, family: str, columns: str
) -> None:
    """Against finite differences of a feed-forward pass; feedback devices load columns, no more."""
    skew = {"mismatch.conductance": 0.4, "learning.angle": 60.0} if family == "twin" else {}
    chip, x = make_chip(MATCHED[family] | skew | {"chip.columns": columns}), inputs(SAMPLES)
    free = rule(chip, 0.01).relax(chip, x)
    found, rng = Adjoint().update(chip, x, free, ENTROPY).gradients, np.random.default_rng(0)
    for name, gradient in found.items():
        devices = np.broadcast_to(gradient.devices(), chip.devices[name].actual.shape)
        for plane in (0, 1):
            at = (plane, int(rng.integers(devices.shape[1])), int(rng.integers(devices.shape[2])))
            losses = []
            for sign in (1, -1):
                outputs = feed_forward(rebuilt(chip, name, at, sign * STEP), x)
                losses.append(float(ENTROPY.value(outputs, np.arange(SAMPLES)).mean()))
            error = (losses[0] - losses[1]) / (2 * STEP) - devices[at]
            largest = max(np.abs(devices).max(), np.abs(found["forward0"].devices()).max())
            assert abs(error) < 1e-6 * largest, (name, at)
    if columns == "virtual-ground" and family == "twin":
        assert not found["feedback1"].devices().any()


# -- the dyads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", MATCHED)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_dyads_backpropagate(
    make_chip: Make, inputs: Inputs, family: str, columns: str, alpha: float
) -> None:
    """O(β²) at α = ½; O(β) at any other: curvature of the amplifiers does not cancel."""
    chip, x = make_chip(MATCHED[family] | {"chip.columns": columns}), inputs(SAMPLES)
    for cost in (SQUARED, ENTROPY):
        free = rule(chip, 0.01).relax(chip, x)
        true, names = Adjoint().update(chip, x, free, cost).gradients, forward_only(chip)
        betas, errors = [0.01, 0.005, 0.0025], []
        for beta in betas:
            update = rule(chip, beta, alpha).update(chip, x, free, cost)
            assert update.valid.all()
            errors.append(distance(update.gradients, true, names))
        assert order(betas, errors) == pytest.approx(2 if alpha == 0.5 else 1, abs=0.1)
        assert errors[-1] < (1e-4 if alpha == 0.5 else 0.05)


def test_in_the_limit_of_small_nudges_nothing_is_left(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(NEURONS), inputs(SAMPLES)
    free = rule(chip, 0.01).relax(chip, x)
    true = Adjoint().update(chip, x, free, SQUARED).gradients
    update = rule(chip, 1e-4).update(chip, x, free, SQUARED)
    assert distance(update.gradients, true, forward_only(chip)) < 1e-8


def test_the_twin_gets_the_forward_update(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(NEURONS), inputs(SAMPLES)
    dual = rule(chip, 0.01)
    found = dual.update(chip, x, dual.relax(chip, x), SQUARED).gradients
    for forward, backward in chip.circuit.feedback_pairs:
        ours, theirs = found[forward.array].differential, found[backward.array].differential
        np.testing.assert_array_equal(theirs, ours.T)


def test_errors_return_through_the_feedback_devices(make_chip: Make, inputs: Inputs) -> None:
    """With twins that differ: ``ε_k = (f'/load) W_b ε_{k+1}``, feedback alignment, not backpropagation."""
    chip, x = make_chip({**NEURONS, "learning.angle": 90.0}), inputs(SAMPLES)
    dual = rule(chip, 1e-4)
    free = dual.relax(chip, x)
    dyads = dual.dyads(chip, free, SQUARED)
    epsilon = (dyads.ports[:SAMPLES] - dyads.ports[SAMPLES:]) / dual.beta
    for k in (0, 1):
        nodes, above = (chip.blocks.slices[j] for j in (k, k + 1))
        current = epsilon[:, above] @ chip.weight(f"feedback{k + 1}").T
        expected = (free.slopes() / chip.blocks.load)[:, nodes] * current
        np.testing.assert_allclose(epsilon[:, nodes], expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_mean_does_not_move_to_first_order(make_chip: Make, inputs: Inputs, alpha: float) -> None:
    chip, betas, moved = make_chip(NEURONS), [0.01, 0.005, 0.0025], []
    for beta in betas:
        dual = rule(chip, beta, alpha)
        free = dual.relax(chip, inputs(SAMPLES))
        plus, minus = dual.dyads(chip, free, SQUARED).ports.reshape(2, SAMPLES, -1)
        moved.append(float(np.abs(alpha * plus + (1 - alpha) * minus - free.ports).max()))
    if alpha in (0, 1):  # the mean is one of the two, and that one is not pushed at all
        assert max(moved) < 1e-13
    else:
        assert order(betas, moved) == pytest.approx(2, abs=0.1)


def dyad_jacobian(chip: Chip, beta: float, alpha: float, shares: tuple[float, float]) -> np.ndarray:
    """``∂I/∂(v⁺, v⁻)`` over ``load`` of dyads at their steepest slope, pushed by the ``shares`` of a squared
    error's nudge.
    """
    blocks = chip.blocks
    size, slope, dense = blocks.size, blocks.gain, blocks.dense()
    ahead, nudge = rule(chip, beta).relax(chip, np.zeros((1, 64)), 0).circuit.dense(), np.zeros(size)
    nudge[blocks.output] = beta_in_watts(chip.circuit.design, beta)  # times a Hessian of 1 / V²
    jacobian = np.empty((2 * size, 2 * size))
    for side, share in enumerate(shares):
        parts = [alpha * ahead + share * (dense - ahead), (1 - alpha) * ahead - share * (dense - ahead)]
        parts[side] = parts[side] - share * np.diag(nudge)
        jacobian[side * size : (side + 1) * size] = np.hstack([part * slope for part in parts])
    return jacobian / np.tile(blocks.load, 2)[:, None] - np.eye(2 * size)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_stable_for_every_alpha(make_chip: Make, alpha: float) -> None:
    """However strong the weights: values and errors meet in the output layer alone. In the original form,
    with the two shares exchanged, errors move the mean, which closes a loop, unless α = ½.
    """
    rightmost = {}
    for scale in (0.1, 4.0):
        chip = make_chip({"learning.init_scale": scale, "device.g_max": "1mS"})
        for form, shares in {"adjoint": (1 - alpha, -alpha), "original": (alpha, alpha - 1)}.items():
            jacobian = dyad_jacobian(chip, 0.3, alpha, shares)
            rightmost[form, scale] = float(np.linalg.eigvals(jacobian).real.max())
    assert rightmost["adjoint", 4.0] < -0.5
    assert (rightmost["original", 4.0] > 0) == (alpha != 0.5)
    assert rightmost["original", 0.1] < 0


@pytest.mark.parametrize("alpha", ALPHAS)
def test_settles_under_strong_nudges(make_chip: Make, inputs: Inputs, alpha: float) -> None:
    chip = make_chip({"learning.init_scale": 2.0, "device.g_max": "1mS"})
    dual = rule(chip, 0.3, alpha)
    update = dual.update(chip, inputs(SAMPLES), dual.relax(chip, inputs(SAMPLES)), SQUARED)
    assert update.valid.all() and update.nudged is not None and update.nudged.settled.all()


def test_alpha_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"alpha is 1\.5; it must be 0 to 1"):
        DualPropagation(1e-8, 1.5)


# -- training --------------------------------------------------------------------------------------


def trained() -> Trainer:
    keys = {
        "chip.layers": [64, 16, 10], "task.data": "digits", "learning.rule": "dual-propagation",
        "learning.cost": "squared-error", "homeostat.mode": "off", "learning.rate": 0.5, "learning.batch": 20,
        "learning.schedule": "constant",
    }  # fmt: skip
    trainer = Trainer.from_design(Design().replace(keys), load("digits").subset(400, 100))
    trainer.fit(6)
    return trainer


def test_the_trainer_learns_and_judges_the_feed_forward_chip() -> None:
    trainer = trained()
    first, last = trainer.history[0], trainer.history[-1]
    assert last.accuracy > first.accuracy + 0.3 and last.left_out == 0
    outputs = feed_forward(trainer.chip, trainer.inputs(trainer.data.test_x))
    assert last.accuracy == np.mean(np.argmax(outputs, axis=1) == trainer.data.test_y)
    for name in ("forward0", "forward1", "bias0"):
        assert last.measured[name] > 0.999
    assert np.isnan(last.measured["feedback1"])  # has no gradient to align with
