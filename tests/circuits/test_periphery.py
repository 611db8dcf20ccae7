"""Nudge sources and sense amplifiers: what they deliver and read, how they are drawn, what EP makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.periphery import IDEAL, Periphery
from ohmostat.circuits.specs import MismatchSpec
from ohmostat.learning.catalogue import RULES
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Stencil, cauchy, centered, exact_response, one_sided
from ohmostat.learning.nudges import CrossEntropy, Nudge, SquaredError
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, Update
from ohmostat.learning.training import Trainer

ChipOf = Callable[..., Chip]
SPREADS = {
    "mismatch__nudge_gain": 0.1, "mismatch__nudge_offset": "2nA", "mismatch__sense_gain": 0.1,
    "mismatch__sense_offset": "20mV",
}  # fmt: skip
COST = SquaredError(np.random.default_rng(1).random((5, 4)), 1.0)
INPUTS = np.random.default_rng(0).random((5, 64))
DESIGN = Design()
FLOAT = np.dtype(float)


def gradient(chip: Chip, estimator: Stencil) -> dict[str, np.ndarray]:
    found = EquilibriumPropagation(estimator).update(chip, INPUTS, chip.relax(INPUTS), COST).gradients
    return {name: g.devices() for name, g in found.items()}


def test_no_spread_is_no_periphery_to_the_bit(chip_of: ChipOf) -> None:
    """The drawn periphery of spreads 0 and its absence give the same bits, and so does reading through it."""
    chip = chip_of("twin", "passive", dtype="float32")
    assert chip.periphery.reads_truly
    drawn = gradient(chip, centered(1e-7))
    chip.periphery = IDEAL
    for name, expected in gradient(chip, centered(1e-7)).items():
        np.testing.assert_array_equal(drawn[name], expected, strict=True)


def test_draws_are_those_of_their_address_with_the_spread_asked_for() -> None:
    mismatch = MismatchSpec(nudge_gain=0.2, nudge_offset=1e-9, sense_gain=0.05, sense_offset=2e-3)
    wide = Periphery.drawn({"0": slice(0, 4000), "1": slice(4000, 8000)}, mismatch, DESIGN, 3, FLOAT)
    for values, mean, sd in (
        (wide.nudge_gain, 1, 0.2),
        (wide.nudge_offset, 0, 1e-9),
        (wide.sense_gain, 1, 0.05),
        (wide.sense_offset, 0, 2e-3),
    ):
        assert np.mean(values) == pytest.approx(mean, abs=4 * sd / 60)
        assert np.std(values) == pytest.approx(sd, rel=0.05)
    moved = Periphery.drawn(
        {"1": slice(0, 4), "0": slice(4, 8), "2": slice(8, 9)}, mismatch, DESIGN, 3, FLOAT
    )
    np.testing.assert_array_equal(np.asarray(moved.sense_gain)[4:8], np.asarray(wide.sense_gain)[:4])
    other = Periphery.drawn({"0": slice(0, 4000)}, mismatch, DESIGN, 4, FLOAT)
    assert abs(np.corrcoef(np.asarray(wide.sense_gain)[:4000], np.asarray(other.sense_gain))[0, 1]) < 0.06


def test_a_source_delivers_gain_and_offset_and_no_current_when_off() -> None:
    rng = np.random.default_rng(2)
    bench = Periphery(rng.normal(1, 0.1, 4), rng.normal(0, 1e-9, 4))
    cost = CrossEntropy(rng.normal(size=(3, 4)), np.zeros(3), np.arange(5) % 3, 1.0)
    asked = Nudge(cost, np.full(5, 1e-6), 5)
    nudge, ports, rows = bench.deliver(asked, rng.random((5, 4))), rng.random((5, 4)), np.arange(5)
    expected = bench.nudge_gain * asked.current(ports, rows) + bench.nudge_offset
    np.testing.assert_allclose(nudge.current(ports, rows), expected, rtol=1e-15)
    step = 1e-6 * np.eye(4)
    measured = [
        (nudge.current(ports[2:3] + d, rows[2:3]) - nudge.current(ports[2:3] - d, rows[2:3]))[0] / 2e-6
        for d in step
    ]
    np.testing.assert_allclose(nudge.slope(ports[2], 2), np.transpose(measured), rtol=1e-8, atol=1e-15)
    assert IDEAL.deliver(asked, rng.random((5, 4))) is asked


def test_a_reading_has_gain_offset_and_noise_of_its_own_address() -> None:
    bench = Periphery(sense_gain=1.1, sense_offset=0.2, noise=1e-3, seed=5)
    volts = np.random.default_rng(0).random((400, 50))
    read = bench.read(volts)
    noise = read - (1.1 * volts + 0.2)
    assert np.std(noise) == pytest.approx(1e-3, rel=0.03)
    np.testing.assert_array_equal(bench.read(volts[100:], first=100), read[100:])
    for other in (bench.at(1).read(volts), bench.read(volts, quantity="node"), bench.read(volts, first=400)):
        assert abs(np.corrcoef(np.ravel(other - 1.1 * volts - 0.2), noise.ravel())[0, 1]) < 0.03


def test_a_difference_of_readings_is_that_of_two_readings() -> None:
    bench = Periphery(sense_gain=np.linspace(0.9, 1.1, 7), sense_offset=0.2, noise=1e-3, seed=5)
    rng = np.random.default_rng(0)
    rest, shifts = rng.random((6, 7)), 0.1 * rng.random((2, 6, 7))
    nudged = bench.read((rest + shifts).reshape(12, 7), first=6).reshape(2, 6, 7)
    np.testing.assert_allclose(
        bench.read_shifts(shifts, 6, rest), nudged - bench.read(rest), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_sensing_scales_each_nodes_response_and_the_voltages_that_drive_devices(
    chip_of: ChipOf, columns: str
) -> None:
    """``-(1 + γ_i) ε_i ((1 + γ_j) s_j + u_j - κ ((1 + γ_i) v_i + u_i))``, ε being the ideal chip's."""
    chip = chip_of("twin", columns, **{k: v for k, v in SPREADS.items() if "sense" in k})
    free = chip.relax(INPUTS)
    bench, blocks = chip.periphery, chip.blocks
    ideal = centered(1e-7).response(replace(free, periphery=IDEAL), COST).epsilon * bench.sense_gain
    ports = free.ports * bench.sense_gain + bench.sense_offset
    nodes = (free.voltages * bench.sense_gain + bench.sense_offset) * chip.circuit.kappa
    found = gradient(chip, centered(1e-7))["forward1"]
    post, pre = blocks.slices[1], blocks.slices[0]
    for sign, plane in zip((1, -1), found, strict=True):
        across = sign * ports[:, None, pre] - nodes[:, post, None]
        expected = -np.mean(ideal[:, post, None] * across, axis=0)
        np.testing.assert_allclose(plane, expected, rtol=1e-7, atol=1e-10 * np.abs(found).max())


def test_gains_of_the_sources_act_on_the_response_to_first_order(chip_of: ChipOf) -> None:
    """``J̃ ε = Γ ∂L/∂s`` for centered nudges, whose offset cancels; one-sided ones add ``-J̃⁻¹ i / β``."""
    chip = chip_of("twin", **SPREADS | {"mismatch__sense_gain": 0.0, "mismatch__sense_offset": 0.0})
    free = chip.relax(INPUTS)
    bench, rhs = chip.periphery, np.zeros_like(free.ports)
    rhs[:, chip.blocks.output] = COST.gradient(free.outputs, np.arange(5)) * bench.nudge_gain
    small = replace(bench, nudge_offset=np.asarray(bench.nudge_offset) * 1e-3)
    beta = 1e-9
    for estimator, offset in ((centered(beta), 0.0), (one_sided(beta), small.nudge_offset)):
        found = estimator.response(replace(free, periphery=small), COST)
        assert found.valid.all()
        for k in range(5):
            push = rhs[k].copy()
            push[chip.blocks.output] -= np.asarray(offset) / beta
            expected = np.linalg.solve(free.port_jacobian(k), push)
            np.testing.assert_allclose(found.epsilon[k], expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_an_offset_of_the_sources_does_not_pass_for_a_jump(chip_of: ChipOf) -> None:
    """A common shift far above the nudge's own leaves no sample out."""
    chip = chip_of("twin", mismatch__nudge_offset="100nA")
    found = centered(1e-8).response(chip.relax(INPUTS), COST)
    assert found.valid.all()
    assert np.ptp(found.epsilon) > 0


@pytest.mark.parametrize(
    "estimator", [centered(1e-7), one_sided(1e-7), cauchy(1e-7, 6)], ids=lambda e: e.name
)
def test_read_noise_reaches_the_response_as_the_estimator_says(chip_of: ChipOf, estimator: Stencil) -> None:
    chip = chip_of("twin", learning__read_noise="10uV")
    free = chip.relax(INPUTS)
    ideal = estimator.response(replace(free, periphery=IDEAL), COST).epsilon
    errors = [
        estimator.response(replace(free, periphery=chip.periphery.at(step)), COST).epsilon - ideal
        for step in range(20)
    ]
    assert np.std(errors) == pytest.approx(1e-5 * estimator.noise, rel=0.06)
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(np.size(errors))


def test_what_is_solved_is_not_measured(chip_of: ChipOf) -> None:
    chip, ideal = chip_of("twin", **SPREADS), chip_of("twin")
    one, two = (exact_response(c.relax(INPUTS), COST) for c in (chip, ideal))
    np.testing.assert_array_equal(one.epsilon, two.epsilon)
    assert not one.measured


@pytest.mark.parametrize(
    "name", ["ep", "contrastive", "coupled", "aep", "kolen-pollack", "dual-propagation", "balance"]
)
def test_every_measuring_rule_goes_through_the_periphery(chip_of: ChipOf, name: str) -> None:
    """Sources' gains and amplifiers' gains change the response that it measures (the bias device's partner,
    1 V, is known); the adjoint's gradient stays.
    """
    plain = chip_of("twin", homeostat__mode="decay")
    rules = [RULES[k](plain.circuit.design, 0) for k in (name, "adjoint")]
    for key in ("mismatch__nudge_gain", "mismatch__sense_gain"):
        other = chip_of("twin", homeostat__mode="decay", **{key: 0.1})
        for rule, changes in zip(rules, (True, False), strict=True):
            one, two = (
                rule.update(c, INPUTS, rule.relax(c, INPUTS), COST).gradients["bias1"].differential
                for c in (plain, other)
            )
            apart = np.linalg.norm(one - two) / np.linalg.norm(one)
            assert (apart > 0.01) if changes else (apart == 0), (key, rule.name)


def test_every_training_step_has_noise_of_its_own() -> None:
    """The free states that a rule is given are addressed by the step: the same in a run that was taken up."""
    seen: list[int] = []

    class Recorder(Adjoint):
        def update(self, chip: Chip, inputs: np.ndarray, free: Equilibrium, *rest: object) -> Update:
            seen.append(free.periphery.step)
            return super().update(chip, inputs, free, *rest)  # type: ignore[arg-type]

    noisy = Design.named("digits").replace("learning.read_noise", "1uV")
    trainer = Trainer.from_design(noisy, load("digits"))
    trainer.rule, trainer.steps = Recorder(), 7
    for _ in range(2):
        trainer.step(trainer.data.train_x[:50], trainer.data.train_y[:50])
    assert seen == [7, 8]


def test_an_archive_holds_what_was_drawn(tmp_path: Path, chip_of: ChipOf) -> None:
    chip = chip_of("twin", dtype="float32", **SPREADS)
    for name in ("nudge_gain", "sense_offset"):  # as no seed draws it
        getattr(chip.periphery, name)[1] *= 2
    save_chip(tmp_path / "chip.h5", chip)
    again = load_chip(tmp_path / "chip.h5")
    for name in ("nudge_gain", "nudge_offset", "sense_gain", "sense_offset"):
        one, two = getattr(chip.periphery, name), getattr(again.periphery, name)
        np.testing.assert_array_equal(one, two, strict=True)
        assert np.ptp(one) > 0


def test_a_chip_that_is_to_learn_otherwise_is_the_one_that_was_made_to() -> None:
    """Its draws stay; the converter of its nudges, which depends on β, and the noise of readings follow."""
    base = {name.replace("__", "."): value for name, value in SPREADS.items()}
    design = Design().replace(
        base | {"chip.layers": [64, 6, 10], "task.data": "digits", "converters.nudge_bits": 6,
                "mismatch.conductance": 0.5, "mismatch.amplifier_offset": "10mV"}
    )  # fmt: skip
    other = design.replace({
        "learning.beta": 0.1, "learning.read_noise": "1mV", "learning.rule": "adjoint", "learning.threads": 2,
        "homeostat.mode": "decay",
    })  # fmt: skip
    made, first = (Circuit(one).fabricate(seed=4) for one in (other, design))
    changed = first.to_learn(other)
    for field, value in vars(made.periphery).items():
        np.testing.assert_equal(vars(changed.periphery)[field], value)
    assert made.periphery.nudges != first.periphery.nudges and made.periphery.noise == 1e-3
    for name, array in made.devices.items():
        np.testing.assert_equal(vars(changed.devices[name]), vars(array))
    x = INPUTS[:, :64]
    assert np.array_equal(changed.relax(x).ports, made.relax(x).ports)
