"""The Hebbian contrast against vector-field gradients, and held outputs against dense algebra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.sections import DesignError
from ohmostat.learning.asymmetry import cosine
from ohmostat.learning.catalogue import make_rule
from ohmostat.learning.contrast import ContrastiveEP, CoupledLearning, HeldOutputs
from ohmostat.learning.estimators import Exact, Stencil, cauchy, centered, chebyshev, one_sided
from ohmostat.learning.nudges import Cost, SquaredError
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation

from .comparing import ENTROPY, PARTS, SAMPLES, SQUARED, distance, order, watts

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

SKEWED = PARTS | {"learning.angle": 60.0}
BETAS, ETAS = [0.04, 0.02, 0.01], [0.01, 0.005, 0.0025]


@pytest.fixture(scope="module")
def twin(make_chip: Make) -> Chip:
    return make_chip(SKEWED)


@pytest.fixture(scope="module")
def free(twin: Chip, inputs: Inputs) -> Equilibrium:
    state = twin.relax(inputs(SAMPLES))
    assert state.sound.all()
    return state


# -- the Hebbian contrast --------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("estimator", [chebyshev, cauchy])
def test_of_twins_it_is_the_sum_of_both_gradients(
    make_chip: Make, inputs: Inputs, columns: str, estimator: Callable[[float, int], Stencil]
) -> None:
    """``ε_i s_j + s_i ε_j``: what nudges of finite size converge to, real or complex."""
    chip, x = make_chip(SKEWED | {"chip.columns": columns}), inputs(SAMPLES)
    free = chip.relax(x)
    own = EquilibriumPropagation(Exact()).update(chip, x, free, SQUARED).gradients
    found = ContrastiveEP(estimator(watts(chip, 0.02), 8)).update(chip, x, free, SQUARED).gradients
    for forward, backward in chip.circuit.feedback_pairs:
        total = own[forward.array].differential + own[backward.array].differential.T
        close = 1e-8 * np.abs(total).max()
        np.testing.assert_allclose(found[forward.array].differential, total, rtol=0, atol=close)
        np.testing.assert_array_equal(found[backward.array].differential, found[forward.array].differential.T)
        assert np.abs(total - own[forward.array].differential).max() > 1e6 * close  # it is not one of them
    outside = ["forward0", *(f"bias{k}" for k in range(3))]
    assert distance(found, own, outside) < 1e-8


def test_of_one_array_it_is_that_arrays_gradient(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(PARTS | {"chip.family": "shared"}), inputs(SAMPLES)
    free = chip.relax(x)
    found = ContrastiveEP(chebyshev(watts(chip, 0.02), 8)).update(chip, x, free, ENTROPY).gradients
    assert distance(found, EquilibriumPropagation(Exact()).update(chip, x, free, ENTROPY).gradients) < 1e-8
    assert distance(found, Adjoint().update(chip, x, free, ENTROPY).gradients) < 1e-8


def test_of_symmetric_twins_it_is_the_gradient_of_tied_weights(make_chip: Make, inputs: Inputs) -> None:
    """Both twins' adjoint gradients: what moving both together does."""
    chip, x = make_chip({"learning.init_scale": 0.6}), inputs(SAMPLES)
    free = chip.relax(x)
    true = Adjoint().update(chip, x, free, SQUARED).gradients
    found = ContrastiveEP(chebyshev(watts(chip, 0.02), 8)).update(chip, x, free, SQUARED).gradients
    for forward, backward in chip.circuit.feedback_pairs:
        tied = true[forward.array].differential + true[backward.array].differential.T
        np.testing.assert_allclose(
            found[forward.array].differential, tied, rtol=0, atol=1e-8 * np.abs(tied).max()
        )


def test_it_is_the_contrast_of_products(twin: Chip, free: Equilibrium, inputs: Inputs) -> None:
    """``[(s_i s_j)^β - (s_i s_j)^0] / β`` itself, second order and all, from ports alone."""
    beta, x = watts(twin, 0.1), inputs(SAMPLES)
    update = ContrastiveEP(one_sided(beta)).update(twin, x, free, SQUARED)
    assert isinstance(update.nudged, Equilibrium)
    products = [np.einsum("bi,bj->ij", s.layer(2), s.layer(1)) / SAMPLES for s in (update.nudged, free)]
    expected = -(products[0] - products[1]) / beta
    np.testing.assert_allclose(update.gradients["forward2"].differential, expected, rtol=1e-9)


@pytest.mark.parametrize(("estimator", "expected"), [(one_sided, 1), (centered, 2)])
def test_order_of_the_contrast(
    twin: Chip, free: Equilibrium, inputs: Inputs, estimator: Callable[[float], Stencil], expected: int
) -> None:
    x, errors = inputs(SAMPLES), []
    limit = ContrastiveEP(chebyshev(watts(twin, 0.02), 8)).update(twin, x, free, SQUARED).gradients
    for beta in BETAS:
        update = ContrastiveEP(estimator(watts(twin, beta))).update(twin, x, free, SQUARED)
        errors.append(distance(update.gradients, limit))
    assert order(BETAS, errors) == pytest.approx(expected, abs=0.1)


def test_a_sample_that_is_left_out_has_no_contrast(twin: Chip, free: Equilibrium, inputs: Inputs) -> None:
    x, rule = inputs(SAMPLES), ContrastiveEP(centered(watts(twin, 0.01)))
    shaky = replace(free, settled=np.array([True, False, True]))
    without = rule.update(twin, x, shaky, SQUARED)
    np.testing.assert_array_equal(without.valid, [True, False, True])
    alone = replace(free, settled=np.array([False, True, False]))
    whole, rest = rule.update(twin, x, free, SQUARED), rule.update(twin, x, alone, SQUARED)
    for name in ("forward1", "feedback2"):
        parts = without.gradients[name].differential + rest.gradients[name].differential
        np.testing.assert_allclose(parts, whole.gradients[name].differential, atol=1e-12)


@pytest.mark.parametrize("rule", ["contrastive", "coupled", "balance"])
def test_an_estimator_without_states_is_refused(rule: str) -> None:
    keys = {"chip.layers": [64, 6, 10], "task.data": "digits", "learning.rule": rule}
    design = Design().replace(keys)
    assert make_rule(design).name == rule
    with pytest.raises(DesignError, match=r'learning.rule = ".*write "centered"'):
        make_rule(design.replace("learning.estimator", "exact"))


# -- coupled learning ------------------------------------------------------------------------------


def held_response(chip: Chip, free: Equilibrium, cost: Cost, estimator: Stencil) -> np.ndarray:
    response = estimator.response(HeldOutputs.of(free, chip.circuit.design.neuron.leak), cost)
    assert response.valid.all()
    return response.epsilon


@pytest.mark.parametrize("layers", [[64, 6, 5, 4], [64, 5, 4], [64, 4, 6, 5, 4]])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_held_outputs_against_dense_algebra(
    make_chip: Make, inputs: Inputs, layers: list[int], columns: str
) -> None:
    """``ε_o = (y - o) / (leak swing²)`` and ``ε_h = -J̃_hh⁻¹ J̃_ho ε_o``, on a skewed chip."""
    chip = make_chip(SKEWED | {"chip.layers": layers, "chip.columns": columns})
    free, unit = chip.relax(inputs(SAMPLES)), watts(chip, 1.0)
    epsilon = held_response(chip, free, SQUARED, chebyshev(0.05 * unit, 8))
    output = free.circuit.output
    hidden = np.setdiff1d(np.arange(epsilon.shape[1]), np.arange(output.start, output.stop))
    for k in range(SAMPLES):
        towards = (SQUARED.targets[k] - free.outputs[k]) / unit
        np.testing.assert_allclose(epsilon[k, output], towards, rtol=1e-10)
        jacobian = free.port_jacobian(k)
        inner, across = jacobian[np.ix_(hidden, hidden)], jacobian[hidden][:, output]
        expected = -np.linalg.solve(inner, across @ towards)
        np.testing.assert_allclose(epsilon[k, hidden], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_outputs_are_held_a_step_towards_the_target(twin: Chip, free: Equilibrium) -> None:
    """At ``o + η (y - o)``; for cross-entropy along its nudge, ``o - η swing² ∂L/∂o``."""
    eta, held = 0.2, HeldOutputs.of(free, twin.circuit.design.neuron.leak)
    for cost in (SQUARED, ENTROPY):
        state = one_sided(watts(twin, eta)).response(held, cost).nudged
        assert isinstance(state, Equilibrium)
        step = -eta * cost.gradient(free.outputs, np.arange(SAMPLES))  # a swing of 1 V
        np.testing.assert_allclose(state.outputs, free.outputs + step, rtol=1e-12)
        if cost is SQUARED:
            np.testing.assert_allclose(step, eta * (SQUARED.targets - free.outputs), rtol=1e-12)


def test_held_states_settle_with_the_outputs_as_they_are(twin: Chip, free: Equilibrium) -> None:
    """Kirchhoff's law at every hidden node of the whole circuit; certified samples carry their evidence."""
    held = HeldOutputs.of(free, twin.circuit.design.neuron.leak)
    state = centered(watts(twin, 0.2)).response(held, SQUARED, certify=1).nudged
    assert isinstance(state, Equilibrium)
    circuit = state.circuit
    current = circuit.drive(state.ports) + state.injected - circuit.load * state.voltages
    assert np.abs(current).max() < 1e-10 * twin.circuit.design.neuron.leak  # of ports as they are held
    own = circuit.ports(state.voltages)[0]
    for k, name in enumerate(("hidden", "hidden", "output")):
        apart = np.abs(circuit.layer(own - state.ports, k)).max()
        assert apart > 0.01 if name == "output" else apart < 1e-15
    assert state.checked is not None and state.stable is not None and state.residual is not None
    np.testing.assert_array_equal(np.flatnonzero(state.checked), [0, SAMPLES])
    assert state.stable[state.checked].all() and state.residual[0] < 1e-16


@pytest.mark.parametrize(
    ("estimator", "expected"), [(one_sided, 1), (lambda beta: one_sided(-beta), 1), (centered, 2)]
)
def test_order_of_the_forms_of_coupled_learning(
    twin: Chip, free: Equilibrium, inputs: Inputs, estimator: Callable[[float], Stencil], expected: int
) -> None:
    """Positive, negative and centered, towards their common limit η → 0."""
    x, errors = inputs(SAMPLES), []
    limit = CoupledLearning(chebyshev(watts(twin, 0.05), 8)).update(twin, x, free, SQUARED).gradients
    for eta in ETAS:
        update = CoupledLearning(estimator(watts(twin, eta))).update(twin, x, free, SQUARED)
        errors.append(distance(update.gradients, limit))
    assert order(ETAS, errors) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("outputs", [1, 4])
def test_parallel_to_the_adjoint_with_one_output_alone(make_chip: Make, inputs: Inputs, outputs: int) -> None:
    """On a symmetric chip. With several outputs, each one's share is another."""
    x, gradients = inputs(1), []
    chip = make_chip({"chip.layers": [64, 6, 5, outputs], "learning.init_scale": 0.6})
    cost = SquaredError(np.random.default_rng(4).random((1, outputs)), 1.0)
    free = chip.relax(x)
    for rule in (CoupledLearning(chebyshev(watts(chip, 0.05), 8)), Adjoint()):
        update = rule.update(chip, x, free, cost)
        gradients.append(np.concatenate([g.devices().ravel() for g in update.gradients.values()]))
    apart = 1 - cosine(*gradients)
    assert apart < 1e-12 if outputs == 1 else apart > 1e-4


def test_hidden_response_is_eps_to_the_same_outputs(twin: Chip, free: Equilibrium) -> None:
    """What sets coupled learning apart from EP is ``ε_o`` alone: hidden nodes answer their outputs alike."""
    ep = Exact().response(free, SQUARED).epsilon
    held = held_response(twin, free, SQUARED, chebyshev(watts(twin, 0.05), 8))
    output = free.circuit.output
    for epsilon in (ep, held):
        jacobian = free.port_jacobian(0)
        current = jacobian @ epsilon[0]  # none into a hidden node
        current[output] = 0
        assert np.abs(current).max() < 1e-8 * np.abs(jacobian @ epsilon[0]).max()
    assert np.abs(ep[:, output] - held[:, output]).max() > 0.1 * np.abs(ep[:, output]).max()


def test_held_states_that_complex_nudges_left_are_released_as_they_are(twin: Chip, free: Equilibrium) -> None:
    """A complex state returns from where it is, not from its real part alone."""
    held = HeldOutputs.of(free, twin.circuit.design.neuron.leak)
    response = cauchy(watts(twin, 0.05), 6).response(held, SQUARED)
    assert response.valid.all()
    assert isinstance(response.nudged, Equilibrium) and response.nudged.jumped is not None
    assert np.iscomplexobj(response.nudged.ports) and not response.nudged.jumped.any()


def test_a_jump_of_the_hidden_nodes_is_flagged() -> None:
    """Two hidden neurons that hold each other fall to the other side as the output is held low."""
    design = Design().replace(
        {
            "chip.layers": [64, 1, 1, 1], "task.data": "digits", "learning.dtype": "float64",
            "learning.tolerance": 1e-11, "neuron.low": -1.0, "neuron.high": 1.0, "neuron.offset": 0.0,
            "neuron.gain": 1.3, "device.g_min": 0.0,
        }
    )  # fmt: skip
    chip, leak = Circuit(design).fabricate(), 1e-5
    loop, one = np.full((1, 1), 1.2 * leak), leak * np.eye(1, 64)
    chip.write({"forward0": one, "forward1": loop, "feedback1": loop})
    chip.write({"forward2": 0.1 * loop, "feedback2": 0.7 * loop})
    up, x = np.zeros((1, 64)), np.zeros((1, 64))
    up[0, 0] = 0.5
    free = chip.relax(x, start=chip.relax(up))
    assert free.sound.all() and free.layer(0)[0, 0] > 0.5
    held, cost = HeldOutputs.of(free, leak), SquaredError(np.array([[-1.0]]), 2.0)
    near, far = (one_sided(watts(chip, eta)).response(held, cost) for eta in (0.05, 1.0))
    assert near.valid.all() and not far.valid.any()
    for response, jumped in ((near, False), (far, True)):
        assert isinstance(response.nudged, Equilibrium) and response.nudged.jumped is not None
        assert response.nudged.jumped[0] == jumped and response.nudged.settled.all()
