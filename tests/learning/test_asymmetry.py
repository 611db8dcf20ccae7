"""Symmetry measures, the best rates, the homeostatic objective, EP's alignment with the adjoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.learning.asymmetry import (
    alignment,
    best_rates,
    cosine,
    objective,
    response_alignment,
    symmetry,
    weight_angles,
)
from ohmostat.learning.estimators import adjoint_response, exact_response
from ohmostat.learning.nudges import Cost, SquaredError
from ohmostat.learning.rules import gradients

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

SAMPLES = 3
COST = SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0)
FAMILIES = {
    "twin": {"learning.angle": 50.0},
    "shared": {"chip.family": "shared", "mismatch.driver_gain": 0.3},
}


def cosines_to_the_adjoint(
    chip: Chip, x: np.ndarray, free: Equilibrium, cost: Cost = COST
) -> dict[str, float]:
    """Of EP's exact response."""
    ep, true = (gradients(chip, x, free, f(free, cost).epsilon) for f in (exact_response, adjoint_response))
    return alignment(ep, true)


# -- symmetry --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["twin", "shared"])
def test_a_symmetric_chip_measures_one(make_chip: Make, inputs: Inputs, family: str) -> None:
    chip = make_chip({"chip.family": family, "mismatch.conductance": 0.5 if family == "shared" else 0.0})
    found = symmetry(chip.relax(inputs(2)), 1)
    assert found.measure == pytest.approx(1, abs=1e-14)
    assert found.after == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.rates, 1, atol=1e-12)
    if family == "twin":
        np.testing.assert_allclose(list(weight_angles(chip).values()), 0, atol=1e-5)
    cosines = cosines_to_the_adjoint(chip, inputs(SAMPLES), chip.relax(inputs(SAMPLES)))
    np.testing.assert_allclose(list(cosines.values()), 1, atol=1e-12)


def test_measure_is_that_of_the_port_jacobian(make_chip: Make, inputs: Inputs) -> None:
    free = make_chip(FAMILIES["twin"]).relax(inputs(2))
    jacobian = free.port_jacobian(1)
    s, a = (np.linalg.norm(jacobian + sign * jacobian.T) / 2 for sign in (1, -1))
    assert symmetry(free, 1).measure == pytest.approx(s / (s + a), rel=1e-12)
    assert symmetry(free, 1).measure < 0.999


def planted(size: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    m = rng.normal(size=(size, size))
    rates = np.exp(rng.normal(size=size))
    rates[-outputs:] = 1
    return (m + m.T - 9 * np.eye(size)) / rates, rates


@pytest.mark.parametrize("size", [5, 30])
def test_best_rates_recover_a_planted_diagonal(size: int) -> None:
    jacobian, rates = planted(size, 3)
    np.testing.assert_allclose(best_rates(jacobian, slice(size - 3, size)), rates, rtol=1e-9)
    np.testing.assert_allclose(best_rates(1e-6 * jacobian, slice(size - 3, size)), rates, rtol=1e-9)


def test_best_rates_do_not_shrink_what_they_cannot_make_symmetric() -> None:
    """Noise on top of a planted diagonal leaves its scale (a linear fit comes out at a quarter)."""
    jacobian, rates = planted(60, 5)
    noisy = jacobian * np.exp(0.5 * np.random.default_rng(1).normal(size=jacobian.shape))
    log_error = np.log(best_rates(noisy, slice(55, 60)) / rates)[:55]
    assert abs(np.mean(log_error)) < 0.5
    assert np.std(log_error) < 0.5


def test_best_rates_leave_alone_what_nothing_couples() -> None:
    jacobian, rates = planted(6, 2)
    jacobian[0, 1:] = jacobian[1:, 0] = 0
    found = best_rates(jacobian, slice(4, 6))
    assert found[0] == pytest.approx(1)
    np.testing.assert_allclose(found[1:], rates[1:], rtol=1e-9)


def test_a_planted_rate_per_neuron_is_all_that_ep_gets_wrong(make_chip: Make, inputs: Inputs) -> None:
    """If ``J̃D`` is symmetric, each hidden neuron's gradient row is the adjoint's, times its rate."""
    chip = make_chip({"chip.layers": [64, 6, 4]})
    rates = np.linspace(0.5, 2, 6)
    weight = chip.weight("forward1").copy()
    g_min = chip.circuit.design.device.g_min
    chip.write({"forward1": weight / rates, "feedback1": weight.T})
    assert np.abs(chip.weight("feedback1")).max() + g_min < chip.limits[1]
    x = inputs(SAMPLES)
    free = chip.relax(x)
    found = symmetry(free)
    assert found.measure < found.after and found.after == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found.rates[chip.blocks.slices[0]], rates, rtol=1e-6)
    ep = gradients(chip, x, free, exact_response(free, COST).epsilon)
    true = gradients(chip, x, free, adjoint_response(free, COST).epsilon)
    for name, expected in (("forward0", rates[:, None]), ("feedback1", rates[:, None]), ("forward1", 1.0)):
        np.testing.assert_allclose(ep[name].differential, expected * true[name].differential, rtol=1e-6)
    assert cosines_to_the_adjoint(chip, x, free)["forward0"] < 0.999


def test_driver_skew_is_partly_a_rate_per_neuron(make_chip: Make, inputs: Inputs) -> None:
    free = make_chip({**FAMILIES["shared"], "learning.init_scale": 0.6}).relax(inputs(1))
    found = symmetry(free)
    assert found.measure < found.after < 1
    assert (found.rates > 0).all() and (found.rates[free.circuit.output] == 1).all()


@pytest.mark.parametrize("angle", [30.0, 75.0])
def test_weight_angles(make_chip: Make, angle: float) -> None:
    chip = make_chip({"learning.angle": angle})
    for (forward, backward), found in zip(
        chip.circuit.feedback_pairs, weight_angles(chip).values(), strict=True
    ):
        wf, wb = chip.weight(forward.array), chip.weight(backward.array)
        expected = np.sum(wf * wb.T) / np.linalg.norm(wf) / np.linalg.norm(wb)
        assert np.cos(np.radians(found)) == pytest.approx(expected, abs=1e-12)


def test_drivers_count_as_part_of_the_angle(make_chip: Make) -> None:
    assert min(weight_angles(make_chip(FAMILIES["shared"])).values()) > 3


# -- the homeostatic objective ---------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_objective_is_the_norm_of_the_antisymmetric_part(
    make_chip: Make, inputs: Inputs, family: str
) -> None:
    """And ``E[|J̃ε|² - εᵀJ̃²ε] = tr(J̃ᵀJ̃) - tr(J̃²)``, the neurons' loads having dropped out."""
    chip = make_chip(FAMILIES[family] | {"mismatch.conductance": 0.5, "chip.columns": "passive"})
    jacobian = chip.relax(inputs(1)).port_jacobian()
    value = objective(chip)[0]
    assert value == pytest.approx(0.5 * np.linalg.norm(jacobian - jacobian.T) ** 2, rel=1e-10)
    assert value == pytest.approx(np.trace(jacobian.T @ jacobian) - np.trace(jacobian @ jacobian), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_the_objective(make_chip: Make, rebuilt: Callable[..., Chip], family: str) -> None:
    """In the actual conductances, every device of every array: g+ up and g- down by it."""
    chip = make_chip(FAMILIES[family] | {"mismatch.conductance": 0.5})
    slopes, step = objective(chip)[1], 1e-7
    assert slopes.keys() == {b.array for pair in chip.circuit.feedback_pairs for b in pair}
    for name, slope in slopes.items():
        for at in np.ndindex(2, *slope.shape):
            up, down = (objective(rebuilt(chip, name, at, sign * step))[0] for sign in (1, -1))
            expected = slope[at[1:]] * (1 if at[0] == 0 else -1)
            assert (up - down) / (2 * step) == pytest.approx(expected, abs=1e-8 * np.abs(slope).max())


def test_objective_of_the_shared_family_is_pure_shrinkage(make_chip: Make) -> None:
    chip = make_chip(FAMILIES["shared"] | {"mismatch.conductance": 0.5})
    slopes = objective(chip)[1]
    for forward, backward in chip.circuit.feedback_pairs:
        skew = chip.drivers[forward.name][None, :] - chip.drivers[backward.name][:, None]
        expected = 2 * chip.weight(forward.array) * skew**2
        np.testing.assert_allclose(slopes[forward.array], expected, rtol=1e-9, atol=1e-20)


# -- alignment -------------------------------------------------------------------------------------


def test_alignment_falls_with_the_angle(make_chip: Make, inputs: Inputs) -> None:
    x, found = inputs(SAMPLES), []
    for angle in (0.0, 30.0, 90.0):
        chip = make_chip({"learning.angle": angle, "chip.columns": "passive"})
        cosines = cosines_to_the_adjoint(chip, x, chip.relax(x))
        assert cosines.keys() == chip.devices.keys()
        found.append(cosines["forward0"])
    assert found[0] == pytest.approx(1, abs=1e-12)
    assert found[0] > found[1] > found[2] > -1


def test_alignment_leaves_out_what_has_not_settled(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip({"learning.angle": 60.0}), inputs(SAMPLES)
    free = chip.relax(x)
    first = chip.relax(x[:1])
    alone = cosines_to_the_adjoint(chip, x[:1], first, SquaredError(COST.targets[:1], 1.0))
    shaky = replace(free, settled=np.array([True, False, False]))
    assert cosines_to_the_adjoint(chip, x, shaky) == pytest.approx(alone, abs=1e-9)


def test_cosine() -> None:
    a = np.array([[1.0, 2.0], [0.0, -1.0]])
    assert cosine(a, 3 * a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5))
    assert np.isnan(cosine(a, 0 * a))
    assert cosine(np.float32([1e-30, 0]), np.float32([1e-30, 0])) == pytest.approx(1)  # no underflow


def test_on_a_loop_the_objective_is_the_sum_of_squares_and_its_slope_decay(
    make_chip: Make, inputs: Inputs
) -> None:
    chip = make_chip({"chip.family": "loop"})
    jacobian = chip.relax(inputs(1)).port_jacobian()
    total, slopes = objective(chip)
    assert total == pytest.approx(np.sum((jacobian - jacobian.T) ** 2) / 2, rel=1e-12)
    assert set(slopes) == {"forward1", "forward2", "feedback2"}
    assert all(np.array_equal(slope, 2 * chip.weight(name)) for name, slope in slopes.items())


def test_alignment_of_responses_is_the_mean_over_samples(make_chip: Callable[..., Chip]) -> None:
    circuit = make_chip().blocks
    true = np.random.default_rng(0).normal(size=(4, circuit.size))
    along = np.array([2.0, 0.5, -1.0, 0.0])[:, None]  # two with it, one against, one that says nothing
    measured = along * true
    found = response_alignment(circuit, measured, true)
    assert found == pytest.approx({f"layer{k}": 1 / 3 for k in range(len(circuit.sizes))})
    assert all(np.isnan(value) for value in response_alignment(circuit, 0 * true, true).values())
