"""Learning in resistive networks: every gradient against the adjoint and finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design, DesignError
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.fluctuation import observed
from ohmostat.learning import asymmetry
from ohmostat.learning.catalogue import make_rule
from ohmostat.learning.contrast import ContrastiveEP, CoupledLearning
from ohmostat.learning.data import load_task
from ohmostat.learning.estimators import (
    adjoint_response,
    cauchy,
    centered,
    chebyshev,
    exact_response,
    one_sided,
)
from ohmostat.learning.feedback import AntisymmetricFeedback
from ohmostat.learning.nudges import SquaredError, beta_in_watts, differences
from ohmostat.learning.probes import Prober
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, Gradients, contracted, gradients
from ohmostat.learning.training import Trainer, initialise
from ohmostat.learning.trim import DriverTrim, gain_ratio

Array = np.ndarray[Any, Any]
BASE = {
    "name": "resistive",
    "chip.family": "resistive",
    "chip.columns": "passive",
    "chip.layers": [64, 7, 6, 10],
    "task.data": "digits",
    "homeostat.mode": "off",
    "learning.cost": "squared-error",
    "learning.dtype": "float64",
    "learning.tolerance": 1e-13,
    "resistive.input_gain": 8.0,
    "resistive.diode": "shockley",
    "resistive.ideality": 4.0,
    "resistive.saturation": "1uA",
    "resistive.gain": 2.0,
    "mismatch.conductance": 0.3,
}
CURVE = [["-1V", "-1nA"], ["0V", "0A"], ["0.3V", "1uA"], ["0.6V", "50uA"]]


def make(seed: int = 0, **changes: object) -> tuple[Chip, Array, Equilibrium, SquaredError]:
    """A chip with its starting conductances, settled on four samples."""
    design = Design.named("fashion").replace(BASE | {k.replace("__", "."): v for k, v in changes.items()})
    chip = Circuit(design).fabricate(seed=seed)
    initialise(chip, seed, 1.0, 0.0)
    rng = np.random.default_rng(seed)
    x = chip._checked_inputs(8.0 * rng.random((4, 64)))
    free = chip.relax(x)
    assert free.sound.all()
    paired = design.resistive.outputs == "paired"
    targets = np.eye(10)[rng.integers(0, 10, 4)][:, : design.chip.layers[-1] // (2 if paired else 1)]
    weight = differences(targets.shape[1], chip.dtype) if paired else None
    return chip, x, free, SquaredError(targets, 1.0, weight)


def small(chip: Chip) -> float:
    return 0.02 * float(chip.blocks.load[chip.blocks.output].min())  # [S], at a swing of 1 V: what holds it


def assert_same(found: Gradients, true: Gradients, rel: float) -> None:
    for name, gradient in true.items():
        a, b = found[name].devices(), gradient.devices()
        assert a.shape == b.shape
        assert a == pytest.approx(b, rel=rel, abs=rel * np.abs(b).max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resistive__diode": "ideal"},
        {"resistive__diode": "measured", "resistive__curve": CURVE},
        {"resistive__hidden": "pair", "resistive__barrier": "0.2V"},
        {"resistive__hidden": "none", "resistive__outputs": "paired", "chip__layers": [64, 7, 6, 20]},
        {"mismatch__amplifier_gain": 0.3, "mismatch__amplifier_offset": "20mV"},
        {"chip__layers": [64, "3x3x3 stride 2", "2x2x4", 10], "chip__sharing": "replicated"},
    ],
)
def test_the_adjoint_is_the_slope_of_the_loss_in_every_device(changes: dict[str, object]) -> None:
    """Against central differences, device by device, amplifiers matched or not."""
    chip, x, free, cost = make(**changes)
    true = Adjoint().update(chip, x, free, cost).gradients
    rng, rows = np.random.default_rng(1), np.arange(len(x))
    for array in chip.circuit.arrays:
        actual = chip.devices[array.name].actual
        for _ in range(6):
            at = tuple(int(rng.integers(0, n)) for n in array.shape)
            losses, kept, step = [], actual[at], 1e-4 * max(actual[at], 1e-7)
            for sign in (1, -1):
                actual[at] = kept + sign * step
                chip.refresh()
                losses.append(cost.value(chip.relax(x, start=free).outputs, rows).mean())
                actual = chip.devices[array.name].actual
                actual[at] = kept
            chip.refresh()
            slope = (losses[0] - losses[1]) / (2 * step)
            want = true[array.name].devices()[at]
            assert slope == pytest.approx(want, rel=2e-5, abs=1e-5 * np.abs(true[array.name].devices()).max())


DIODES: dict[str, dict[str, object]] = {
    "shockley": {},
    "ideal": {"resistive__diode": "ideal"},
    "pairs": {"resistive__hidden": "pair", "resistive__barrier": "0.3V"},
    "none": {"resistive__hidden": "none"},
}


@given(
    seed=st.integers(0, 10_000), gain=st.floats(0.5, 4.0), diodes=st.sampled_from(sorted(DIODES)),
    hidden=st.lists(st.integers(3, 9), min_size=1, max_size=3),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_with_matched_amplifiers_every_network_is_symmetric_and_ep_exact(
    seed: int, gain: float, diodes: str, hidden: list[int]
) -> None:
    keys = DIODES[diodes] | {"chip__layers": [64, *hidden, 10], "device__g_min": "0.5uS"}
    chip, x, free, cost = make(seed, resistive__gain=gain, **keys)
    moving = free.slopes() > 0.5
    assume(all(free.circuit.layer(moving, k).any(axis=1).all() for k in range(len(hidden))))
    jacobian = free.port_jacobian()
    off = jacobian - np.diag(np.diag(jacobian))
    assert np.abs(off - off.T).max() <= 4e-16 * np.abs(off).max()
    assert asymmetry.symmetry(free).measure == pytest.approx(1.0, abs=1e-14)
    ep = EquilibriumPropagation(chebyshev(small(chip), 8)).update(chip, x, free, cost)
    assert isinstance(ep.nudged, Equilibrium)
    assume(((ep.nudged.slopes() > 0.5).reshape(8, *moving.shape) == moving).all())  # no ideal diode lets go
    assert ep.valid.all()
    assert_same(ep.gradients, Adjoint().update(chip, x, free, cost).gradients, rel=1e-8)


def test_complex_nudges_are_as_exact_on_shockley_diodes_and_refused_on_others() -> None:
    chip, x, free, cost = make()
    ep = EquilibriumPropagation(cauchy(small(chip), 8)).update(chip, x, free, cost)
    assert_same(ep.gradients, Adjoint().update(chip, x, free, cost).gradients, rel=1e-6)
    chip, x, free, cost = make(resistive__diode="ideal")
    with pytest.raises(ValueError, match="no complex voltages"):
        EquilibriumPropagation(cauchy(small(chip), 8)).update(chip, x, free, cost)


@pytest.mark.parametrize(
    ("estimator", "bound"),
    [
        ("lock-in", 2e-3),
        ("continuous", 2e-2),
        ("cauchy", 1e-6),
        ("chebyshev", 1e-8),
        ("exact", 1e-9),
        ("negative", 0.02),
    ],
)
def test_every_estimator_measures_a_diode_network(estimator: str, bound: float) -> None:
    chip, x, free, cost = make(
        chip__layers=[64, 7, 10], learning__estimator=estimator, learning__nudges=8, learning__beta=1e-3,
        learning__period=2e4, learning__tolerance=1e-12,
    )  # fmt: skip
    true = Adjoint().update(chip, x, free, cost).gradients
    found = make_rule(chip.circuit.design).update(chip, x, free, cost)
    assert found.valid.all()
    for name, gradient in true.items():
        want = gradient.devices()
        assert np.abs(found.gradients[name].devices() - want).max() < bound * np.abs(want).max()


def test_mismatched_amplifiers_bias_ep_as_predicted_and_three_cures_restore_it() -> None:
    chip, x, free, cost = make(mismatch__amplifier_gain=0.3, homeostat__mode="trim")
    assert asymmetry.symmetry(free).measure < 0.98
    epsilon, delta = exact_response(free, cost).epsilon, adjoint_response(free, cost).epsilon
    for k in range(len(x)):
        jacobian = free.port_jacobian(k)
        assert epsilon[k] == pytest.approx(
            np.linalg.solve(jacobian, jacobian.T @ delta[k]), rel=1e-8, abs=1e-8
        )
    true = Adjoint().update(chip, x, free, cost).gradients
    ep = EquilibriumPropagation(chebyshev(small(chip), 8))
    apart = asymmetry.alignment(ep.update(chip, x, free, cost).gradients, true)
    assert min(apart.values()) < 0.999
    # 1: the correction current of antisymmetric feedback leaves the chip as it is
    corrected = AntisymmetricFeedback(chebyshev(small(chip), 8)).update(chip, x, free, cost)
    assert_same(corrected.gradients, true, rel=1e-8)
    # 2: what is left is diagnosed as the drivers', none of it trainable
    for skew in asymmetry.diagnosis(chip).values():
        assert skew.total == pytest.approx(skew.drivers) and skew.trainable == 0
    # 3: trimming the amplifiers, by probes alone, makes the network itself symmetric
    trim = DriverTrim.from_design(chip.circuit.design, 0)
    for _ in range(-(-trim.prober.cycle(17) // trim.probes)):
        trim.correct(chip)
    for forward, backward in chip.circuit.feedback_pairs:
        assert chip.drivers[backward.name] == pytest.approx(chip.drivers[forward.name], rel=1e-12)
    free = chip.relax(x)
    assert asymmetry.symmetry(free).measure == pytest.approx(1.0, abs=1e-12)
    true = Adjoint().update(chip, x, free, cost).gradients
    assert_same(ep.update(chip, x, free, cost).gradients, true, rel=1e-8)


def test_one_hidden_layer_needs_only_a_rate_per_node_and_two_need_more() -> None:
    """A node's ratio ``a_f / a_b`` is a learning rate of its own, unless nodes above it have theirs."""
    after = {
        layers: asymmetry.symmetry(make(chip__layers=layers, mismatch__amplifier_gain=0.3)[2]).after
        for layers in ((64, 7, 10), (64, 7, 6, 10))
    }
    assert after[64, 7, 10] == pytest.approx(1.0, abs=1e-9)
    assert after[64, 7, 6, 10] < 0.995


def test_asymmetry_shows_beside_nodes_that_ideal_diodes_hold() -> None:
    """The measure is that of the nodes which move."""
    free = make(mismatch__amplifier_gain=0.5, resistive__diode="ideal")[2]
    moving = free.slopes()[0] > 0.5
    assert 0 < moving.sum() < len(moving)
    jacobian = free.port_jacobian()[np.ix_(moving, moving)]
    s, a = np.linalg.norm(jacobian + jacobian.T), np.linalg.norm(jacobian - jacobian.T)
    found = asymmetry.symmetry(free)
    assert found.measure == pytest.approx(s / (s + a)) and found.measure < 0.97
    assert (found.rates[~moving] == 1).all()


def test_samples_that_run_away_under_a_nudge_leave_the_contrast_of_powers_finite() -> None:
    chip, x, free, cost = make()
    found = ContrastiveEP(centered(beta_in_watts(chip.circuit.design, 50.0))).update(chip, x, free, cost)
    assert not found.valid.all()
    assert all(np.isfinite(g.devices()).all() for g in found.gradients.values())


def test_a_gain_that_no_probe_can_tell_from_noise_is_left() -> None:
    g, noise = (
        np.random.default_rng(0).random((50, 3)),
        1e-3 * np.random.default_rng(1).standard_normal((50, 3)),
    )
    g[:, 2] = 0
    assert gain_ratio(1.5 * g + noise, (g - noise).T)[2] == 1.0


def test_gain_ratio_is_exact_whatever_the_conductances_and_leaves_dead_nodes_alone() -> None:
    g, (ahead, back) = np.random.default_rng(0).random((5, 3)), np.random.default_rng(1).random((2, 3)) + 0.5
    g[:, 2] = 0
    assert gain_ratio(g * ahead, (g * back).T) == pytest.approx([*(ahead / back)[:2], 1.0])


def test_ep_is_exact_in_a_convolutional_network_too_and_by_powers_as_well() -> None:
    chip, x, free, cost = make(
        chip__layers=[64, "3x3x3 stride 2", "2x2x4", 10], chip__sharing="replicated"
    )  # fmt: skip
    jacobian = free.port_jacobian()
    assert np.abs(jacobian - jacobian.T).max() <= 4e-16 * np.abs(jacobian).max()
    true = Adjoint().update(chip, x, free, cost).gradients
    for rule in (EquilibriumPropagation, ContrastiveEP):
        assert_same(rule(chebyshev(small(chip), 8)).update(chip, x, free, cost).gradients, true, rel=1e-7)


@pytest.mark.parametrize("outputs", ["single", "paired"])
def test_the_power_in_a_device_under_two_nudges_is_its_gradient(outputs: str) -> None:
    """The contrast of squared voltages that a resistive machine learns by, as exact as its estimator."""
    chip, x, free, cost = make(
        resistive__outputs=outputs, chip__layers=[64, 7, 6, 20 if outputs == "paired" else 10]
    )
    beta = beta_in_watts(chip.circuit.design, 1e-3)
    true = Adjoint().update(chip, x, free, cost).gradients
    found = ContrastiveEP(chebyshev(beta, 8)).update(chip, x, free, cost)
    assert_same(found.gradients, true, rel=1e-7)
    error = [
        max(
            np.abs(rule.update(chip, x, free, cost).gradients[n].devices() - t.devices()).max()
            for n, t in true.items()
        )
        for rule in (ContrastiveEP(centered(beta * factor)) for factor in (1, 0.5))
    ]
    assert error[0] / error[1] == pytest.approx(4.0, rel=0.05)  # centered: O(β²)


def test_coupled_learning_is_the_adjoint_of_outputs_that_are_held() -> None:
    """Its ``ε_h`` solves the hidden nodes' own circuit, driven by outputs that move by ``y - o``."""
    chip, x, free, cost = make()
    found = CoupledLearning(chebyshev(small(chip), 8)).update(chip, x, free, cost)
    assert found.valid.all()
    out, leak = chip.blocks.output, chip.neuron.leak
    epsilon = np.zeros_like(free.ports)
    for k in range(len(x)):
        jacobian, hidden = free.port_jacobian(k), np.ones(chip.blocks.size, bool)
        hidden[out] = False
        held = -cost.gradient(free.outputs[k : k + 1], np.array([k]))[0] / leak
        epsilon[k, out] = held
        epsilon[k, hidden] = -np.linalg.solve(
            jacobian[np.ix_(hidden, hidden)], jacobian[np.ix_(hidden, ~hidden)] @ held
        )
    assert_same(found.gradients, gradients(chip, x, free, epsilon), rel=1e-7)


def test_paired_outputs_are_nudged_apart_by_the_kernel_as_by_the_cost() -> None:
    chip, x, free, cost = make(resistive__outputs="paired", chip__layers=[64, 7, 6, 20])
    rows, beta = np.arange(len(x)), np.full(len(x), small(chip))
    push = cost.push(beta)
    assert push is not None
    known = free.under(_nudge(cost, beta))
    asked = free.under(_Asked(cost, beta))
    assert known.ports == pytest.approx(asked.ports, abs=1e-11)
    step = 1e-6
    for k in range(len(x)):
        moved = free.outputs[k] + step * np.eye(free.outputs.shape[1])
        numeric = (cost.gradient(moved, np.full(len(moved), k)) - cost.gradient(free.outputs, rows)[k]) / step
        assert numeric == pytest.approx(cost.hessian(free.outputs[k], k), abs=1e-8)


def _nudge(cost: SquaredError, beta: Array) -> Any:
    from ohmostat.learning.nudges import Nudge

    return Nudge(cost, beta, len(beta))


class _Asked:
    """The same nudge, known to relaxation by its current alone."""

    def __init__(self, cost: SquaredError, beta: Array) -> None:
        self.asked = _nudge(cost, beta)
        self.beta, self.current, self.slope = beta, self.asked.current, self.asked.slope


@pytest.mark.parametrize("rule", ["balance", "dual-propagation", "kolen-pollack", "product-feedback"])
def test_rules_that_need_other_hardware_say_so(rule: str) -> None:
    design = Design.named("fashion").replace(BASE | {"learning.rule": rule})
    with pytest.raises(DesignError, match=f'learning.rule = "{rule}": needs'):
        make_rule(design).check(Circuit(design))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learning.rule": "contrastive"},
        {"learning.rule": "coupled"},
        {"learning.rule": "aep", "resistive.gain": 1.5, "mismatch.amplifier_gain": 0.1},
        {"programming.mode": "pulses", "programming.pulse": 0.001},
        {"programming.mode": "write-verify", "programming.levels": 1024, "programming.tolerance": 0.0005,
         "programming.pulse": 0.0005},
        {"learning.cost": "cross-entropy"},
        {"homeostat.mode": "trim", "resistive.gain": 1.5, "mismatch.amplifier_gain": 0.1},
        {"resistive.outputs": "paired", "chip.layers": [64, 20, 20]},
        {"chip.layers": [64, "3x3x4 stride 2", 10], "chip.sharing": "replicated",
         "learning.cost": "cross-entropy", "learning.epochs": 6, "resistive.input_gain": 10.0},
    ],
)  # fmt: skip
def test_digits_are_learned_in_place(changes: dict[str, object]) -> None:
    settings = {
        "learning.dtype": "float32", "learning.tolerance": 1e-5, "learning.epochs": 2, "learning.beta": 0.02,
        "learning.rate": 0.02, "learning.batch": 4, "learning.momentum": 0.0, "learning.input_scale": 1.0,
        "learning.init_scale": 1.0, "chip.layers": [64, 20, 10], "resistive.input_gain": 20.0,
        "resistive.gain": 1.0, "device.g_max": "100uS", "task.train": 400, "task.test": 100,
    }  # fmt: skip
    design = Design.named("fashion").replace(BASE | settings | changes)
    trainer = Trainer.from_design(design, load_task(design.task, None), 0)
    history = trainer.fit()
    assert history[-1].accuracy > 0.45 and history[-1].unsettled_test == 0
    assert history[-1].inference_time > 0 and history[-1].inference_energy > 0
    again = Trainer.from_design(design, load_task(design.task, None), 0)
    assert again.fit()[-1].accuracy == history[-1].accuracy


def test_contraction_of_ep_and_of_its_exact_response_agree() -> None:
    chip, x, free, cost = make()
    exact = contracted(chip, x, free, exact_response(free, cost)).gradients
    assert_same(exact, Adjoint().update(chip, x, free, cost).gradients, rel=1e-9)


TWIN = {"resistive__copies": "twin", "learning__rule": "contrastive"}


def test_twin_networks_without_mismatch_learn_as_one_used_twice() -> None:
    once = make(mismatch__conductance=0.0)
    twice = make(mismatch__conductance=0.0, **TWIN)
    rule = ContrastiveEP(one_sided(small(once[0])))
    found, want = (rule.update(*each).gradients for each in (twice, once))
    assert_same(found, want, rel=1e-12)
    chip = twice[0]
    chip.program({name: 1e-8 * np.ones_like(g.devices()) for name, g in found.items()})
    for devices in chip.devices.values():
        half = len(devices.actual) // 2
        assert (devices.actual[:half] == devices.actual[half:]).all()


def test_what_twins_differ_by_at_rest_goes_into_their_contrast_unless_the_second_is_nudged_twice() -> None:
    chip, x, free, cost = make(mismatch__amplifier_offset="5mV", **TWIN)
    other, beta = chip.twin(), small(chip)
    rest = other.relax(x)
    assert (chip.conducting("forward1") != other.conducting("forward1")).all()
    for estimator in (one_sided(beta), centered(beta)):
        found = ContrastiveEP(estimator).update(chip, x, free, cost).gradients
        nudged = estimator.response(rest, cost).nudged
        assert isinstance(nudged, Equilibrium)
        halves = [replace(nudged, ports=part) for part in np.split(nudged.ports, len(estimator.nodes))]
        for bank in (bank for bank in chip.circuit.banks if bank.pre >= 0 and not bank.returned):
            powers = [_powers(other, bank, half) for half in halves]
            bias = (_powers(other, bank, rest) - _powers(chip, bank, free)) / beta
            if len(halves) == 1:
                alone = (powers[0] - _powers(other, bank, rest)) / beta
                want = alone + bias
                assert np.abs(bias).max() > 10 * np.abs(alone).max()  # it drowns what there is to learn
            else:
                want = (powers[0] - powers[1]) / (2 * beta)
            assert found[bank.array].devices()[0] == pytest.approx(
                want, rel=1e-7, abs=1e-7 * np.abs(want).max()
            )


def test_a_twins_readings_have_the_noise_of_the_step_and_the_bandwidth() -> None:
    """Both networks are read anew at every step, with thermal noise: the contrast scatters as of one network
    used twice.
    """
    for key, value in (("learning__read_noise", "1mV"), ("noise__bandwidth", "1THz")):
        scatter = []
        for copies in (TWIN, {}):
            chip, x, free, cost = make(**copies, **{key: value})
            rule = ContrastiveEP(centered(small(chip)))
            steps = (rule.update(chip, x, observed(chip, free, step), cost) for step in range(12))
            scatter.append(np.std([step.gradients["forward1"].devices() for step in steps], axis=0).mean())
        assert 0.5 < scatter[0] / scatter[1] < 2


def test_a_sample_that_either_twin_does_not_settle_on_takes_no_part() -> None:
    chip, x, free, cost = make(**TWIN)
    rule, shaky = ContrastiveEP(centered(small(chip))), replace(free, settled=np.arange(4) != 2)
    found = rule.update(chip, x, shaky, cost)
    np.testing.assert_array_equal(found.valid, np.arange(4) != 2)
    kept = [0, 1, 3]
    fewer = replace(free, voltages=free.voltages[kept], ports=free.ports[kept], settled=free.settled[kept],
                    checked=None)  # fmt: skip
    want = rule.update(chip, x[kept], fewer, SquaredError(cost.targets[kept], 1.0)).gradients
    for name, gradient in found.gradients.items():
        expected = 0.75 * want[name].devices()
        assert gradient.devices() == pytest.approx(expected, rel=1e-6, abs=1e-9 * np.abs(expected).max())


def test_trims_of_bidirectional_amplifiers_average_the_noise_of_all_cycles() -> None:
    gained = []
    for seed in range(8):
        chip = make(mismatch__amplifier_gain=0.3, homeostat__mode="trim")[0]
        trim, off = DriverTrim(64, Prober(noise=2e-10, seed=seed, inputs=True)), []
        for _ in range(16):
            trim.correct(chip)
            ratios = [chip.drivers[b.name] / chip.drivers[f.name] for f, b in chip.circuit.feedback_pairs]
            off.append(np.log(np.abs(np.log(np.concatenate(ratios)))))
        gained.append(off[0] - off[-1])
    assert np.exp(np.mean(gained)) == pytest.approx(4, rel=0.4)


def _powers(chip: Chip, bank: Any, state: Equilibrium) -> Array:
    """``½ (a s_j - v_i)²`` of a bank's devices, mean over samples."""
    drive, node = state.layer(bank.pre) * chip.drivers[bank.name], state.layer(bank.post)
    return 0.5 * ((drive[:, None, :] - node[:, :, None]) ** 2).mean(axis=0)


def test_twins_have_a_rule_of_their_own() -> None:
    with pytest.raises(DesignError, match=r'resistive.copies = "twin": .*learning.rule = "contrastive"'):
        Design.named("fashion").replace(BASE | {"resistive.copies": "twin"})
    with pytest.raises(ValueError, match="has no twin"):
        make()[0].twin()
