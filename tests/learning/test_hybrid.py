"""Chains of analog blocks through digital layers against finite differences of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.learning.estimators import adjoint_response, centered, chebyshev, exact_response, read_outputs
from ohmostat.learning.hybrid import Affine, Chain, LinearCost, input_gradient
from ohmostat.learning.nudges import SquaredError, beta_in_watts

from .comparing import ENTROPY, PARTS, SAMPLES, distance, order

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

STEP = 2e-9  # S, of a leak of 1e-5
SKEWED = PARTS | {"learning.angle": 60.0}
SYMMETRIC = {"learning.init_scale": 0.6, "mismatch.amplifier_gain": 0.15}


def chain(make_chip: Make, changes: dict[str, object], response: Callable[..., object]) -> Chain:
    """Three blocks that differ, each of 64 inputs, and two digital layers."""
    blocks = [
        make_chip(changes | {"chip.layers": layers}, chip_seed=k, weight_seed=k)
        for k, layers in enumerate(([64, 5, 3], [64, 4, 6, 5], [64, 6, 4]))
    ]
    rng = np.random.default_rng(3)
    layers = [Affine(rng.normal(size=(64, n)) / 4, rng.random(64) / 2) for n in (3, 5)]
    return Chain(blocks, layers, response)  # type: ignore[arg-type]


def mean_loss(links: Chain, x: np.ndarray) -> float:
    outputs = links.relax(x)[-1][1].outputs
    return float(ENTROPY.value(outputs, np.arange(len(x))).mean())


def slope(loss: Callable[[float], float], step: float) -> float:
    return (loss(step) - loss(-step)) / (2 * step)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_input_gradient_of_one_block(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    skew = {"learning.angle": 60.0} if family == "twin" else {"mismatch.driver_gain": 0.2}
    chip = make_chip(PARTS | skew | {"chip.family": family, "chip.columns": columns})
    x = inputs(SAMPLES)
    found = input_gradient(chip, adjoint_response(chip.relax(x), ENTROPY).epsilon)
    assert found.shape == x.shape
    for sample, place in ((0, 3), (1, 40), (2, 63)):

        def loss(by: float, sample: int = sample, place: int = place) -> float:
            moved = x.copy()
            moved[sample, place] += by
            outputs = chip.relax(moved, certify=0).outputs
            return float(ENTROPY.value(outputs, np.arange(SAMPLES))[sample])

        assert abs(slope(loss, 1e-4) - found[sample, place]) < 1e-6 * np.abs(found).max()


def test_linear_cost_is_the_tangent_of_a_cost() -> None:
    ports, rows = np.random.default_rng(0).random((SAMPLES, 4)), np.arange(SAMPLES)
    cost = SquaredError(np.full((SAMPLES, 4), 0.3), 1.0)
    tangent = LinearCost(cost.gradient(ports, rows))
    np.testing.assert_array_equal(tangent.gradient(ports + 1, rows[::-1]), cost.gradient(ports, rows)[::-1])
    moved = 1e-6 * np.random.default_rng(1).normal(size=ports.shape)
    np.testing.assert_allclose(
        tangent.value(ports + moved, rows) - tangent.value(ports, rows),
        cost.value(ports + moved, rows) - cost.value(ports, rows), rtol=1e-4, atol=1e-11,
    )  # fmt: skip
    assert not tangent.hessian(ports[0], 0).any()


def test_gradients_of_the_whole_chain(make_chip: Make, rebuilt: Rebuild, inputs: Inputs) -> None:
    """Every block's devices, every digital parameter, and the inputs, on skewed blocks by their adjoints."""
    links, x = chain(make_chip, SKEWED, adjoint_response), inputs(SAMPLES)
    found = links.update(links.relax(x), ENTROPY)
    assert found.valid.all()
    rng = np.random.default_rng(0)
    for k, chip in enumerate(links.blocks):
        for name, gradient in found.blocks[k].items():
            devices = gradient.devices()
            at = tuple(int(rng.integers(n)) for n in devices.shape)

            def loss(by: float, k: int = k, name: str = name, at: tuple[int, ...] = at) -> float:
                blocks = [*links.blocks]
                blocks[k] = rebuilt(links.blocks[k], name, at, by)
                return mean_loss(Chain(blocks, links.layers, links.response), x)

            assert abs(slope(loss, STEP) - devices[at]) < 1e-6 * np.abs(devices).max(), (k, name)
        assert found.blocks[k].keys() == chip.devices.keys()
    for k, layer in enumerate(links.layers):
        for name, gradient in found.layers[k].items():
            at = tuple(int(rng.integers(n)) for n in gradient.shape)
            parameter = getattr(layer, name)

            def moved(by: float, parameter: np.ndarray = parameter, at: tuple[int, ...] = at) -> float:
                parameter[at] += by
                result = mean_loss(links, x)
                parameter[at] -= by
                return result

            assert abs(slope(moved, 1e-4) - gradient[at]) < 1e-6 * np.abs(gradient).max(), (k, name)
    place = (1, 17)

    def shifted(by: float) -> float:
        volts = x.copy()
        volts[place] += by
        return SAMPLES * mean_loss(links, volts)

    assert abs(slope(shifted, 1e-4) - found.inputs[place]) < 1e-6 * np.abs(found.inputs).max()


def test_digital_layers_take_what_is_read(make_chip: Make, inputs: Inputs) -> None:
    erring = {"mismatch.sense_gain": 0.2, "mismatch.sense_offset": "100mV", "learning.read_noise": "10mV"}
    links, x = chain(make_chip, erring, exact_response), inputs(SAMPLES)
    (_, first), (volts, second), _ = states = links.relax(x)
    read = read_outputs(first)
    assert np.abs(read - first.outputs).max() > 0.02
    np.testing.assert_array_equal(volts, links.layers[0].forward(read))
    assert not np.array_equal(links.relax(x, 1)[1][0], volts)  # at another step, with other noise
    update = links.update(states, ENTROPY)
    slopes = input_gradient(links.blocks[2], links.response(states[2][1], ENTROPY).epsilon)
    want = links.layers[1].backward(read_outputs(second), slopes)[1]["weight"]
    np.testing.assert_allclose(update.layers[1]["weight"], want, rtol=1e-12)


def test_ep_in_symmetric_blocks_is_exact(make_chip: Make, inputs: Inputs) -> None:
    x, found = inputs(SAMPLES), {}
    for response in (exact_response, adjoint_response):
        links = chain(make_chip, SYMMETRIC, response)
        found[response] = links.update(links.relax(x), ENTROPY)
    ep, true = found[exact_response], found[adjoint_response]
    for ours, theirs in zip(ep.blocks, true.blocks, strict=True):
        assert distance(ours, theirs) < 1e-8
    for mine, other in zip(ep.layers, true.layers, strict=True):
        for name, gradient in other.items():
            np.testing.assert_allclose(mine[name], gradient, rtol=0, atol=1e-8 * np.abs(gradient).max())
    np.testing.assert_allclose(ep.inputs, true.inputs, rtol=0, atol=1e-8 * np.abs(true.inputs).max())


def test_nudges_of_finite_size(make_chip: Make, inputs: Inputs) -> None:
    """Centered: O(β²) through the whole chain. Chebyshev-8: nothing left at 1e-8."""
    x, limit = inputs(SAMPLES), chain(make_chip, SYMMETRIC, exact_response)
    true, states = limit.update(limit.relax(x), ENTROPY).blocks[0], limit.relax(x)
    unit = beta_in_watts(limit.blocks[0].circuit.design, 1.0)
    betas, errors = [0.04, 0.02, 0.01], []
    for beta in betas:
        links = Chain(limit.blocks, limit.layers, centered(beta * unit).response)
        errors.append(distance(links.update(states, ENTROPY).blocks[0], true))
    assert order(betas, errors) == pytest.approx(2, abs=0.1)
    links = Chain(limit.blocks, limit.layers, chebyshev(0.03 * unit, 8).response)
    assert distance(links.update(states, ENTROPY).blocks[0], true) < 1e-8


def test_ep_in_skewed_blocks_is_wrong(make_chip: Make, inputs: Inputs) -> None:
    """So that the tests of exactness could fail."""
    x, found = inputs(SAMPLES), []
    for response in (exact_response, adjoint_response):
        links = chain(make_chip, SKEWED, response)
        found.append(links.update(links.relax(x), ENTROPY).blocks)
    apart = [distance(ours, theirs) for ours, theirs in zip(*found, strict=True)]
    assert min(apart) > 0.05


def test_a_sample_is_valid_where_every_block_is(make_chip: Make, inputs: Inputs) -> None:
    links = chain(make_chip, SYMMETRIC, exact_response)
    states = links.relax(inputs(SAMPLES))
    for k in range(3):
        shaky = [*states]
        volts, free = states[k]
        shaky[k] = (volts, replace(free, settled=np.arange(SAMPLES) != k))
        np.testing.assert_array_equal(links.update(shaky, ENTROPY).valid, np.arange(SAMPLES) != k)


def test_a_sample_that_is_not_valid_takes_part_nowhere(make_chip: Make, inputs: Inputs) -> None:
    """In whichever block it fails: the update is the same."""
    links = chain(make_chip, SYMMETRIC, exact_response)
    states, updates = links.relax(inputs(SAMPLES)), []
    for k in range(3):
        shaky = [*states]
        shaky[k] = (states[k][0], replace(states[k][1], settled=np.arange(SAMPLES) != 1))
        updates.append(links.update(shaky, ENTROPY))
    whole = links.update(states, ENTROPY)
    for update in updates:
        for found, first, full in zip(update.blocks, updates[0].blocks, whole.blocks, strict=True):
            assert distance(found, first) < 1e-12 and distance(found, full) > 1e-3
        for found, first in zip(update.layers, updates[0].layers, strict=True):
            np.testing.assert_allclose(found["weight"], first["weight"], rtol=1e-9)
        assert not update.inputs[1].any() and update.inputs[0].any()


def test_a_chain_with_a_layer_missing(make_chip: Make) -> None:
    chip = make_chip()
    with pytest.raises(ValueError, match="2 blocks has 0 digital layers"):
        Chain([chip, chip], [], exact_response)
