"""Converters: codes, differences of codes, nudges that are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.converters import Converter, converter, signed
from ohmostat.circuits.design import Design
from ohmostat.circuits.periphery import Periphery
from ohmostat.learning.data import load_task
from ohmostat.learning.estimators import centered, chebyshev
from ohmostat.learning.nudges import Nudge, SquaredError
from ohmostat.learning.training import Trainer, predicted

INPUTS = np.random.default_rng(1).random((3, 64))


def test_codes_are_the_nearest_of_as_many_as_the_bits_allow() -> None:
    values = np.random.default_rng(0).uniform(-1.3, 1.3, 1000)
    three = Converter(-1.0, 1.0, 8)
    codes = np.linspace(-1, 1, 8)
    nearest = codes[np.abs(values[:, None] - codes).argmin(axis=1)]
    assert three(values) == pytest.approx(nearest) and three.step == pytest.approx(2 / 7)
    assert np.array_equal(three(three(values)), three(values))
    assert three(values.astype(np.float32)).dtype == np.float32
    mixed = three(values + 1j * values[::-1])
    middle = np.linspace(-1, 1, 7)
    nearest_signed = middle[np.abs(values[::-1, None] - middle).argmin(axis=1)]
    assert mixed.real == pytest.approx(nearest) and mixed.imag == pytest.approx(nearest_signed)
    assert converter(-1.0, 1.0, 0) is None and converter(0.0, 1.0, 8) == Converter(0.0, 1.0, 256)
    assert signed(2.0, 16)(np.zeros(1)) == 0 and signed(2.0, 2)(np.array([0.5])) == 2.0


def test_a_difference_is_that_of_two_readings() -> None:
    rng = np.random.default_rng(1)
    bench = Periphery(sense_gain=1.1, sense_offset=0.02, noise=0.01, seed=5, readings=Converter(0.0, 1.0, 64))
    rest, shifts = rng.random((3, 7)), rng.normal(0, 0.05, (2, 3, 7))
    found = bench.read_shifts(shifts, 3, rest)
    states = (rest + shifts).reshape(6, 7)
    assert found == pytest.approx(bench.read(states, 3).reshape(2, 3, 7) - bench.read(rest))
    assert found * 63 == pytest.approx(np.rint(found * 63), abs=1e-9)
    assert not bench.reads_truly
    node = bench.read(rest, 0, "node")  # nodes leave the rails: they are read as before
    assert node == pytest.approx(replace(bench, readings=None).read(rest, 0, "node"))


@pytest.mark.parametrize("mismatch", [{}, {"nudge_gain": 1.2, "nudge_offset": 1e-9}])
def test_a_nudge_is_made_once_from_the_outputs_as_read(mismatch: dict[str, float]) -> None:
    rng = np.random.default_rng(2)
    cost, beta = SquaredError(rng.random((3, 4)), 1.0), np.repeat([1e-6, -1e-6], 3)
    asked, outputs, convert = Nudge(cost, beta, 3), rng.random((3, 4)), signed(1e-6, 32)
    found = Periphery(nudges=convert, **mismatch).deliver(asked, outputs)
    rows = np.array([4, 0, 2])
    wanted = convert(asked.current(outputs[rows % 3], rows))
    wanted = wanted * mismatch.get("nudge_gain", 1.0) + mismatch.get("nudge_offset", 0.0)
    for ports in rng.random((2, 3, 4)):
        assert found.current(ports, rows) == pytest.approx(wanted, abs=1e-15)
    assert not found.slope(outputs[0], 1).any() and np.array_equal(found.beta, beta)


def response_of(chip: Any, estimator: Any, **keys: object) -> Any:
    """The response of a chip with other converters."""
    layers = {name.address: chip.blocks.slices[k] for k, name in enumerate(chip.circuit.layer_names)}
    periphery = Periphery.drawn(
        layers, chip.mismatch,
        chip.circuit.design.replace({f"converters.{key}": value for key, value in keys.items()}),
        chip.seed, chip.dtype,
    )  # fmt: skip
    free = replace(chip.relax(INPUTS), periphery=periphery)
    return estimator.response(free, SquaredError(np.full((3, 4), 0.7), 1.0))


def test_many_bits_are_as_good_as_analog_and_few_cost_as_predicted(chip_of: Callable) -> None:
    chip, beta = chip_of(), 2e-6
    analog = response_of(chip, centered(beta)).epsilon
    scale = np.abs(analog).max()
    fine = response_of(chip, centered(beta), reading_bits=24).epsilon
    assert fine == pytest.approx(analog, abs=2**-24 / beta)
    for bits in (8, 12):  # an error uniform over a step, in each of two readings, over 2 β
        off = response_of(chip, centered(beta), reading_bits=bits).epsilon - analog
        step = 1 / (2**bits - 1)
        assert 0.3 < off.std() / (step / np.sqrt(6) / (2 * beta)) < 2
    assert scale > 0
    blind = response_of(chip, centered(beta / 1e4), reading_bits=8)  # shifts below half a step
    assert np.mean(blind.epsilon == 0) > 0.9


def test_a_held_nudge_has_the_same_response_for_small_nudges(chip_of: Callable) -> None:
    chip = chip_of()
    wanted = response_of(chip, chebyshev(1e-9, 4)).epsilon
    held = response_of(chip, chebyshev(1e-9, 4), nudge_bits=24).epsilon  # of the design's β, far larger
    assert held == pytest.approx(wanted, rel=1e-2, abs=1e-2 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["digits", "fashion-6k"])
def test_nudges_of_the_shipped_designs_are_within_range(name: str) -> None:
    design = Design.named(name).replace({"task.train": 100, "task.test": 50})
    trainer = Trainer.from_design(design, load_task(design.task, None))
    converted = Trainer.from_design(design.replace("converters.nudge_bits", 12), trainer.data)
    for t in (trainer, converted):
        t.rule.relax(t.chip, t.inputs(t.data.test_x[:1]), 0)
    first, second = (t.diagnose()[2] for t in (trainer, converted))
    assert all(abs(first[array] - second[array]) < 0.02 for array in first)


def test_a_readout_sees_codes() -> None:
    """With two codes to a port, outputs on one side of the middle are one and the same."""
    design = Design.named("digits").replace(
        {"task.train": 100, "task.test": 50, "converters.reading_bits": 1}
    )
    trainer = Trainer.from_design(design, load_task(design.task, None))
    free = trainer.rule.relax(trainer.chip, trainer.inputs(trainer.data.test_x), 0)
    codes = np.where(free.outputs > 0.5, 1.0, 0.0)
    assert np.array_equal(predicted(trainer.chip, trainer.readout, free), codes.argmax(axis=1))
    assert not np.array_equal(free.outputs.argmax(axis=1), codes.argmax(axis=1))
