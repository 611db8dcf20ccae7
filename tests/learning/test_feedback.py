"""Corrected and learned feedback: antisymmetric-feedback EP against the adjoint, Kolen-Pollack's approach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.sections import DesignError
from ohmostat.learning.asymmetry import weight_angles
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Estimator, Exact, centered, exact_response, one_sided
from ohmostat.learning.feedback import (
    AntisymmetricFeedback,
    KolenPollack,
    ProductFeedback,
    exact_skew,
    with_correction,
)
from ohmostat.learning.homeostat import WeightDecay
from ohmostat.learning.nudges import beta_in_watts
from ohmostat.learning.optimizers import make_optimizer
from ohmostat.learning.probes import READING, Prober
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, LearningRule
from ohmostat.learning.training import Trainer

from .comparing import ENTROPY, FAMILIES, PARTS, SAMPLES, SQUARED, distance, order

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def twin(make_chip: Make) -> Chip:
    return make_chip(PARTS | FAMILIES["twin"])


@pytest.fixture(scope="module")
def free(twin: Chip, inputs: Inputs) -> Equilibrium:
    state = twin.relax(inputs(SAMPLES))
    assert state.sound.all()
    return state


# -- antisymmetric-feedback EP ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", FAMILIES)
def test_is_the_adjoint_on_a_skewed_chip(make_chip: Make, inputs: Inputs, family: str, columns: str) -> None:
    chip, x = make_chip(PARTS | FAMILIES[family] | {"chip.columns": columns}), inputs(SAMPLES)
    free = chip.relax(x)
    for cost in (SQUARED, ENTROPY):
        true = Adjoint().update(chip, x, free, cost).gradients
        found = AntisymmetricFeedback(Exact()).update(chip, x, free, cost)
        assert distance(found.gradients, true) < 1e-8
        assert found.valid.all() and found.measurements == 0
        plain = EquilibriumPropagation(Exact()).update(chip, x, free, cost)
        assert distance(plain.gradients, true) > 0.1


@pytest.mark.parametrize(("estimator", "expected"), [(one_sided, 1), (centered, 2)])
def test_order_in_beta(
    twin: Chip, free: Equilibrium, inputs: Inputs, estimator: Callable[[float], Estimator], expected: int
) -> None:
    """Of the error to the adjoint: nothing is left as β → 0."""
    true = Adjoint().update(twin, inputs(SAMPLES), free, SQUARED).gradients
    betas, errors = [0.04, 0.02, 0.01], []
    for beta in betas:
        rule = AntisymmetricFeedback(estimator(beta_in_watts(twin.circuit.design, beta)))
        update = rule.update(twin, inputs(SAMPLES), free, SQUARED)
        assert update.valid.all()
        errors.append(distance(update.gradients, true))
    assert order(betas, errors) == pytest.approx(expected, abs=0.1)


def test_the_correction_moves_nothing_and_transposes_the_jacobian(twin: Chip, free: Equilibrium) -> None:
    corrected = with_correction(free, exact_skew(twin))
    current = corrected.circuit.current(corrected.voltages, corrected.injected)
    assert np.abs(current).max() < 1e-10 * twin.circuit.design.neuron.leak
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        np.testing.assert_allclose(
            corrected.port_jacobian(k), jacobian.T, rtol=0, atol=1e-14 * np.abs(jacobian).max()
        )
    assert free.circuit is twin.blocks  # the chip itself is as it was
    np.testing.assert_allclose(free.circuit.current(free.voltages, free.injected), 0, atol=1e-16)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("scheme", "probes", "count"), [("hadamard", 16, 16), ("one-port", 11, 20)])
def test_a_measured_skew_serves_as_well(
    make_chip: Make, inputs: Inputs, family: str, scheme: str, probes: int, count: int
) -> None:
    """Whole cycles without noise are exact, drivers included, and counted: the wider colour has 10 ports."""
    chip, x = make_chip(PARTS | FAMILIES[family]), inputs(SAMPLES)
    free = chip.relax(x)
    true = Adjoint().update(chip, x, free, SQUARED).gradients
    prober = Prober(scheme, inputs=True)
    rule = AntisymmetricFeedback(Exact(), prober, probes)
    for batch in (1, 2):
        update = rule.update(chip, x, free, SQUARED)
        assert distance(update.gradients, true) < 1e-8
        assert (update.measurements, prober.spent.measurements) == (count, batch * count)


def test_probes_behind_the_drivers_miss_their_skew(make_chip: Make, inputs: Inputs) -> None:
    """On `shared` nothing is left of it but plain EP."""
    chip, x = make_chip(PARTS | FAMILIES["shared"]), inputs(SAMPLES)
    free = chip.relax(x)
    plain = EquilibriumPropagation(Exact()).update(chip, x, free, SQUARED).gradients
    blind = AntisymmetricFeedback(Exact(), Prober()).update(chip, x, free, SQUARED).gradients
    assert distance(blind, plain) < 1e-8


def test_an_error_of_the_skew_leaves_a_proportionate_one(
    twin: Chip, free: Equilibrium, inputs: Inputs
) -> None:
    x, noises, errors = inputs(SAMPLES), [4e-10, 2e-10, 1e-10], []
    true = Adjoint().update(twin, x, free, SQUARED).gradients
    for noise in noises:
        rule = AntisymmetricFeedback(Exact(), Prober(noise=noise, inputs=True))
        errors.append(distance(rule.update(twin, x, free, SQUARED).gradients, true))
    assert order(noises, errors) == pytest.approx(1, abs=0.05)
    assert errors[0] > 1e-5


def test_first_order_of_an_error_of_the_skew(twin: Chip, free: Equilibrium) -> None:
    """``ε - δ = 2 J̃⁻ᵀ E δ`` where A is taken to be ``A + E``: here too small, ``2E = -share (J̃ - J̃ᵀ)``."""
    skew = exact_skew(twin)
    jacobian = free.port_jacobian(0)
    delta = exact_response(with_correction(free, skew), SQUARED).epsilon[0]
    left_over = []
    for share in (0.02, 0.01):
        found = exact_response(with_correction(free, {k: (1 - share) * a for k, a in skew.items()}), SQUARED)
        twice = -share * (jacobian - jacobian.T)
        bias = found.epsilon[0] - delta - np.linalg.solve(jacobian.T, twice @ delta)
        left_over.append(float(np.linalg.norm(bias)))
    assert order([2, 1], left_over) == pytest.approx(2, abs=0.1)
    assert left_over[1] < 0.01 * np.linalg.norm(delta)


# -- Kolen-Pollack ---------------------------------------------------------------------------------


def difference(chip: Chip, target: bool = False) -> np.ndarray:
    """``W_f - W_bᵀ`` of all pairs, as it conducts or as it was written."""
    parts = []
    for forward, backward in chip.circuit.feedback_pairs:
        wf, wb = (chip.devices[b.array].target if target else chip.devices[b.array].actual
                  for b in (forward, backward))  # fmt: skip
        parts.append(((wf[0] - wf[1]) - (wb[0] - wb[1]).T).ravel())
    return np.concatenate(parts)


def test_the_twin_gets_the_forward_update(twin: Chip, free: Equilibrium, inputs: Inputs) -> None:
    x, beta = inputs(SAMPLES), beta_in_watts(twin.circuit.design, 0.01)
    found = KolenPollack(centered(beta)).update(twin, x, free, SQUARED)
    plain = EquilibriumPropagation(centered(beta)).update(twin, x, free, SQUARED)
    for forward, backward in twin.circuit.feedback_pairs:
        expected = plain.gradients[forward.array].differential
        np.testing.assert_array_equal(found.gradients[forward.array].differential, expected)
        np.testing.assert_array_equal(found.gradients[backward.array].differential, expected.T)
    others = [name for name in plain.gradients if not name.startswith("feedback")]
    assert distance(found.gradients, plain.gradients, others) == 0


@pytest.mark.parametrize(("angle", "least", "most"), [(0.0, 0.0, 1e-8), (60.0, 0.1, np.inf)])
def test_forward_arrays_take_the_true_gradient_once_the_twins_have_met(
    make_chip: Make, inputs: Inputs, angle: float, least: float, most: float
) -> None:
    chip, x = make_chip({"learning.angle": angle, "mismatch.amplifier_gain": 0.15}), inputs(SAMPLES)
    free = chip.relax(x)
    for cost in (SQUARED, ENTROPY):
        true = Adjoint().update(chip, x, free, cost).gradients
        found = KolenPollack(Exact()).update(chip, x, free, cost).gradients
        forward = [name for name in true if not name.startswith("feedback")]
        assert least <= distance(found, true, forward) < most


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_meet_at_the_rate_of_the_decay(make_chip: Make, inputs: Inputs, optimizer: str) -> None:
    """Whatever the updates and the optimiser, ``W_f - W_bᵀ`` shrinks by ``1 - share`` at every step."""
    wide = {"learning.angle": 80.0, "device.g_min": 0.0, "device.g_max": "1mS"}  # limits are never hit
    chip, share = make_chip(wide), 0.05
    x, decay = inputs(SAMPLES), WeightDecay(share)
    rule = KolenPollack(centered(beta_in_watts(chip.circuit.design, 0.01)))
    update = rule.update(chip, x, chip.relax(x), SQUARED)  # constant from here on
    step, leak = make_optimizer(optimizer, 0.01, 0.9), chip.circuit.design.neuron.leak
    angles = []
    for _ in range(120):
        before, changes = difference(chip), decay.correct(chip)
        for name, gradient in update.gradients.items():
            change = step.step(name, gradient.along_pair(chip.devices[name].target) * leak) * leak
            changes[name] = changes.get(name, 0.0) + change
        chip.program(changes)
        np.testing.assert_allclose(difference(chip), (1 - share) * before, rtol=0, atol=1e-18)
        angles.append(weight_angles(chip)["forward1"])
    # Once the weights rest at the balance of update and decay, the angle is that of the difference alone.
    assert angles[-1] < 0.1 * angles[0]
    np.testing.assert_allclose(np.divide(angles[-9:], angles[-10:-1]), 1 - share, rtol=0.01)


def test_on_passive_columns_weights_nearly_meet_at_that_rate(make_chip: Make, inputs: Inputs) -> None:
    """The load's part of an update goes with the device that carries the weight: twins of opposite sign."""
    wide = {"learning.angle": 80.0, "device.g_min": 0.0, "device.g_max": "1mS", "chip.columns": "passive"}
    chip, x, share = make_chip(wide), inputs(SAMPLES), 0.05
    rule, leak = KolenPollack(centered(beta_in_watts(chip.circuit.design, 0.01))), 1e-5
    update = rule.update(chip, x, chip.relax(x), SQUARED)
    before, changes = difference(chip), WeightDecay(share).correct(chip)
    for name, gradient in update.gradients.items():
        change = -0.5 * leak**2 * gradient.along_pair(chip.devices[name].target)
        changes[name] = changes.get(name, 0.0) + change
    chip.program(changes)
    ratio = np.linalg.norm(difference(chip)) / np.linalg.norm(before)
    assert ratio == pytest.approx(1 - share, abs=1e-3)
    assert np.abs(difference(chip) - (1 - share) * before).max() > 1e-6 * np.abs(before).max()


def test_mismatch_of_the_devices_stays(make_chip: Make) -> None:
    """What was written meets; devices that differ go on differing."""
    chip = make_chip({"mismatch.conductance": 0.3, "learning.angle": 60.0, "device.g_min": 0.0})
    update = {"forward1": np.full((5, 6), 2e-7), "feedback1": np.full((6, 5), 2e-7),
              "forward2": np.full((4, 5), 2e-7), "feedback2": np.full((5, 4), 2e-7)}  # fmt: skip
    for _ in range(300):
        changes = WeightDecay(0.05).correct(chip)
        chip.program({name: changes[name] + update[name] for name in update})
    weight = np.abs(chip.weight("forward1")).mean()
    assert np.abs(difference(chip, target=True)).max() < 1e-6 * weight
    assert np.abs(difference(chip)).mean() > 0.1 * weight


# -- what a rule needs of a chip -------------------------------------------------------------------


def small(**changes: object) -> Circuit:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return Circuit(Design().replace({"chip.layers": [64, 6, 10], "task.data": "digits"} | keys))


REFUSED: list[tuple[LearningRule, dict[str, object], str]] = [
    (KolenPollack(centered(1e-8)), {"chip__family": "shared"}, 'chip.family = "twin"'),
    (KolenPollack(centered(1e-8)), {"homeostat__mode": "off"}, 'homeostat.mode = "decay"'),
    (ProductFeedback(centered(1e-8)), {"homeostat__mode": "decay"}, 'chip.family = "relay"'),
    (ProductFeedback(centered(1e-8)), {"chip__family": "shared"}, 'chip.family = "relay"'),
    (ProductFeedback(centered(1e-8)), {"chip__family": "relay"}, 'homeostat.mode = "decay"'),
    (KolenPollack(centered(1e-8)), {"chip__family": "relay"}, 'chip.family = "twin"'),
    (AntisymmetricFeedback(centered(1e-8)), {"chip__family": "relay"}, 'chip.family = "twin"'),
]


@pytest.mark.parametrize(("rule", "changes", "remedy"), REFUSED)
def test_a_chip_without_the_hardware_is_refused(
    rule: LearningRule, changes: dict[str, object], remedy: str
) -> None:
    with pytest.raises(DesignError, match=r"learning\.rule") as refused:
        rule.check(small(**changes))
    assert refused.value.key == "learning.rule"
    assert f'learning.rule = "{rule.name}"' in str(refused.value) and remedy in str(refused.value)


def test_chips_with_the_hardware_are_not() -> None:
    KolenPollack(centered(1e-8)).check(small(homeostat__mode="decay"))
    ProductFeedback(centered(1e-8)).check(small(chip__family="relay", homeostat__mode="decay"))
    for family in FAMILIES:
        AntisymmetricFeedback(centered(1e-8)).check(small(chip__family=family))


def test_the_trainer_asks_the_rule() -> None:
    design = small().design.replace({"learning.rule": "product-feedback"})
    with pytest.raises(DesignError, match="twin"):
        Trainer.from_design(design, load("digits").subset(60, 10))


def test_the_trainer_records_what_a_rule_measures() -> None:
    changes = {"learning.rule": "aep-measured", "learning.angle": 60.0, "learning.batch": 20}
    design = small().design.replace({**changes, "homeostat.mode": "off", "homeostat.probes": 10})
    trainer = Trainer.from_design(design, load("digits").subset(60, 10))
    trainer.fit(1)
    cycle = 16  # patterns for the 10 ports of the wider colour
    assert [epoch.rule_measurements for epoch in trainer.history] == [0, 3 * cycle]
    assert [epoch.measurements for epoch in trainer.history] == [0, 0]  # the homeostat's
    for epoch in trainer.history:
        assert epoch.measured["forward0"] > 0.999 > 0.95 > epoch.alignment["forward0"]
    prober = trainer.rule.prober
    assert prober is not None and prober.spent.measurements == 3 * cycle  # diagnosis is on no account
    assert [epoch.probe_time for epoch in trainer.history] == [0, prober.spent.time]
    assert prober.spent.time == pytest.approx(3 * cycle * READING * trainer.chip.neuron.tau)
    assert 0 < prober.spent.energy == trainer.history[-1].probe_energy


def test_probes_of_a_rule_are_superposed_on_its_samples_or_have_slots(
    make_chip: Make, inputs: Inputs
) -> None:
    spent = {}
    for slots in ("superposed", "dedicated"):
        chip = make_chip(PARTS | FAMILIES["twin"] | {"homeostat.slots": slots})
        rule, x = AntisymmetricFeedback(Exact(), Prober(inputs=True), 16), inputs(SAMPLES)
        rule.update(chip, x, chip.relax(x), SQUARED)
        assert rule.prober is not None
        spent[slots] = rule.prober.spent
    assert spent["superposed"].time < spent["dedicated"].time
    assert spent["superposed"].energy > 100 * spent["dedicated"].energy  # the sample's own power
