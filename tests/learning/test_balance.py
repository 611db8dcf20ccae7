"""Errors from the balance of two column currents against EP's response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.families import BIAS, INPUT
from ohmostat.learning.balance import BalanceErrors, column_currents, imbalance
from ohmostat.learning.estimators import (
    Exact,
    Stencil,
    cauchy,
    centered,
    chebyshev,
    exact_response,
    one_sided,
)
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation

from .comparing import ENTROPY, FAMILIES, PARTS, SAMPLES, SQUARED, distance, order, watts

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

COLUMNS = ["virtual-ground", "passive"]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_two_currents_device_by_device(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    chip, x = make_chip(PARTS | FAMILIES[family] | {"chip.columns": columns}), inputs(1)
    free, kappa = chip.relax(x), 1.0 if columns == "passive" else 0.0
    excitation, inhibition = column_currents(chip, x, free)
    for layer, node in ((0, 2), (1, 0), (2, 3)):
        v, plus, minus = free.voltages[0, chip.blocks.slices[layer]][node], 0.0, 0.0
        for bank in chip.circuit.banks:
            if bank.post != layer:
                continue
            ports = {INPUT: x[0], BIAS: np.ones(1)}.get(bank.pre, free.layer(max(bank.pre, 0))[0])
            for j, s in enumerate(ports * chip.drivers.get(bank.name, 1.0)):
                at = (j, node) if bank.transposed else (node, j)
                devices = chip.devices[bank.array].actual[:, *at]
                plus += devices[0] * (s - kappa * v)
                minus += devices[1] * (s + kappa * v)
        place = chip.blocks.slices[layer].start + node
        np.testing.assert_allclose([excitation[0, place], inhibition[0, place]], [plus, minus], rtol=1e-12)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_at_rest_the_imbalance_feeds_the_leak(
    make_chip: Make, inputs: Inputs, family: str, columns: str
) -> None:
    """Kirchhoff's current law, from currents that know nothing of the engine's blocks and loads."""
    chip, x = make_chip(PARTS | FAMILIES[family] | {"chip.columns": columns}), inputs(SAMPLES)
    free = chip.relax(x)
    leak = chip.circuit.design.neuron.leak
    np.testing.assert_allclose(imbalance(chip, x, free), leak * free.voltages, rtol=0, atol=1e-10 * leak)


def test_currents_are_those_behind_the_wires(make_chip: Make, inputs: Inputs) -> None:
    wires = {"wires.row": "200Ohm", "wires.column": "200Ohm"}
    chip, x = make_chip(PARTS | FAMILIES["twin"] | wires), inputs(SAMPLES)
    assert chip.seen("forward0").sum() < 0.99 * chip.conducting("forward0").sum()
    free, leak = chip.relax(x), chip.circuit.design.neuron.leak
    np.testing.assert_allclose(imbalance(chip, x, free), leak * free.voltages, rtol=0, atol=1e-10 * leak)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("estimator", "nudges"), [(chebyshev, 8), (cauchy, 12)])
def test_errors_are_eps_response(
    make_chip: Make, inputs: Inputs, family: str, columns: str,
    estimator: Callable[[float, int], Stencil], nudges: int,
) -> None:  # fmt: skip
    """As the nudge vanishes: with EP's own bias on a skewed chip, exact on a symmetric one."""
    chip, x = make_chip(PARTS | FAMILIES[family] | {"chip.columns": columns}), inputs(SAMPLES)
    free, rule = chip.relax(x), BalanceErrors(estimator(watts(chip, 0.02), nudges))
    for cost in (SQUARED, ENTROPY):
        ep = EquilibriumPropagation(Exact()).update(chip, x, free, cost).gradients
        update = rule.update(chip, x, free, cost)
        assert update.valid.all() and distance(update.gradients, ep) < 1e-8
        assert distance(update.gradients, Adjoint().update(chip, x, free, cost).gradients) > 0.1


def test_exact_on_a_symmetric_chip(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip({"learning.init_scale": 0.6}), inputs(SAMPLES)
    free = chip.relax(x)
    update = BalanceErrors(chebyshev(watts(chip, 0.02), 8)).update(chip, x, free, ENTROPY)
    assert distance(update.gradients, Adjoint().update(chip, x, free, ENTROPY).gradients) < 1e-8


@pytest.mark.parametrize(("estimator", "expected"), [(one_sided, 1), (centered, 2)])
def test_order_in_beta(
    make_chip: Make, inputs: Inputs, estimator: Callable[[float], Stencil], expected: int
) -> None:
    chip, x = make_chip(PARTS | FAMILIES["twin"]), inputs(SAMPLES)
    free, betas, errors = chip.relax(x), [0.04, 0.02, 0.01], []
    ep = EquilibriumPropagation(Exact()).update(chip, x, free, SQUARED).gradients
    for beta in betas:
        update = BalanceErrors(estimator(watts(chip, beta))).update(chip, x, free, SQUARED)
        errors.append(distance(update.gradients, ep))
    assert order(betas, errors) == pytest.approx(expected, abs=0.1)


def test_hidden_errors_are_the_shift_of_two_currents(make_chip: Make, inputs: Inputs) -> None:
    """``(f'/leak) ΔI / β`` with nothing but hidden nodes' own currents; the outputs' shift needs the
    controller's current beside it.
    """
    chip, x = make_chip(PARTS | FAMILIES["twin"]), inputs(SAMPLES)
    free, beta = chip.relax(x), watts(chip, 1e-4)
    state = centered(beta).response(free, SQUARED).nudged
    assert isinstance(state, Equilibrium)
    current = imbalance(chip, np.tile(x, (2, 1)), state)
    shift = (current[:SAMPLES] - current[SAMPLES:]) / (2 * beta)
    error = free.slopes() * shift / chip.circuit.design.neuron.leak
    ep, output = exact_response(free, SQUARED).epsilon, free.circuit.output
    hidden = np.setdiff1d(np.arange(ep.shape[1]), np.arange(output.start, output.stop))
    np.testing.assert_allclose(error[:, hidden], ep[:, hidden], rtol=0, atol=1e-6 * np.abs(ep).max())
    assert np.abs(error[:, output] - ep[:, output]).max() > 0.1 * np.abs(ep).max()


def test_a_sample_that_is_left_out_has_no_error(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(PARTS), inputs(SAMPLES)
    free = replace(chip.relax(x), settled=np.zeros(SAMPLES, bool))
    update = BalanceErrors(centered(watts(chip, 0.02))).update(chip, x, free, SQUARED)
    assert not update.valid.any()
    assert not any(gradient.devices().any() for gradient in update.gradients.values())
