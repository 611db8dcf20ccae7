"""Drift: the law itself, its composition, its exponents' moments, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.drift import drift_exponents
from ohmostat.circuits.files import ArchiveError
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import CornerSpec
from ohmostat.learning.training import initialise

DRIFT = {"drift.exponent": 0.05, "drift.exponent_spread": 0.02}


def chip_of(changes: dict[str, object] | None = None, seed: int = 3) -> Chip:
    small = {
        "chip.layers": [64, 7, 6, 10], "task.data": "digits", "learning.dtype": "float64",
        "chip.columns": "passive", "mismatch.conductance": 0.3,
        "mismatch.stuck_open": 0.1, "mismatch.stuck_closed": 0.1,
    }  # fmt: skip
    chip = Circuit(Design().replace(small | (DRIFT if changes is None else changes))).fabricate(seed=seed)
    initialise(chip, 5, 1.0, 0.0)
    return chip


def actual(chip: Chip) -> dict[str, np.ndarray]:
    return {name: array.actual.copy() for name, array in chip.devices.items()}


def test_every_device_follows_its_own_power_of_time() -> None:
    chip = chip_of(DRIFT | {"drift.reference": "10s"})
    before, targets = actual(chip), {name: a.target.copy() for name, a in chip.devices.items()}
    weights = chip.blocks.weights.copy()
    chip.age(3590.0)
    for name, array in chip.devices.items():
        exponent = np.where(array.step == 0, 0.0, drift_exponents(chip, name))
        np.testing.assert_allclose(array.actual, before[name] * (3600 / 10) ** -exponent, rtol=1e-12)
        assert np.array_equal(array.target, targets[name])
        assert np.array_equal(chip.weight(name), array.actual[0] - array.actual[1])
    assert chip.since_write == 3590.0 and not np.array_equal(chip.blocks.weights, weights)
    kept = chip.blocks.load.copy()
    chip.refresh()
    assert np.array_equal(chip.blocks.load, kept)


def test_ageing_twice_is_ageing_by_the_sum() -> None:
    once, twice = chip_of(), chip_of()
    once.age(1e7)
    for part in (0.0, 3.0, 1e3, 1e7 - 1003.0):
        twice.age(part)
    assert twice.since_write == once.since_write
    for name, array in once.devices.items():
        np.testing.assert_allclose(twice.devices[name].actual, array.actual, rtol=1e-12)


def test_without_an_exponent_time_passes_and_nothing_moves() -> None:
    chip, fresh = chip_of({}), chip_of({})
    chip.age(1e9)
    assert chip.since_write == 1e9
    for name, values in actual(fresh).items():
        assert np.array_equal(chip.devices[name].actual, values)


def test_exponents_are_normal_and_addressed() -> None:
    chip = Circuit(Design().replace({"chip.layers": [784, 40, 10]} | DRIFT)).fabricate(seed=1)
    nu, count = drift_exponents(chip, "forward0"), 2 * 784 * 40
    assert nu.mean() == pytest.approx(0.05, abs=4 * 0.02 / np.sqrt(count))
    assert nu.std() == pytest.approx(0.02, rel=4 / np.sqrt(2 * count))
    other = Circuit(chip.circuit.design).fabricate(seed=2)
    correlation = np.corrcoef(nu.ravel(), drift_exponents(other, "forward0").ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(count)
    same = Circuit(chip.circuit.design).fabricate(seed=1)
    assert np.array_equal(nu, drift_exponents(same, "forward0"))


def test_a_write_starts_the_clock_anew() -> None:
    chip = chip_of(DRIFT)
    chip.age(1e6)
    with pytest.raises(ValueError, match="NaN"):
        chip.program({"bias0": np.full((7, 1), np.nan)})
    assert chip.since_write == 1e6
    chip.program({"bias0": np.zeros((7, 1))})
    assert chip.since_write == 0
    chip.age(1e6)
    initialise(chip, 5, 1.0, 0.0)
    assert chip.since_write == 0
    for name, values in actual(chip_of(DRIFT)).items():
        np.testing.assert_array_equal(chip.devices[name].actual, values)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_time_that_cannot_pass(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"cannot age by .* s; give a finite time of 0 s or more"):
        chip_of().age(seconds)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exponent", 0.6),
        ("exponent_spread", -0.1),
        ("reference", 0.0),
        ("reference", "1K"),
        ("reference", "2e9s"),
    ],
)
def test_drifts_that_cannot_be(key: str, value: object) -> None:
    with pytest.raises(DesignError, match=rf"drift.{key} = .*allowed: "):
        Design().replace(f"drift.{key}", value)


def test_a_file_keeps_the_age(tmp_path: Path) -> None:
    chip, whole = chip_of(), chip_of()
    chip.age(100.0)
    save_chip(tmp_path / "chip.h5", chip.at(CornerSpec(voltage=0.9)))
    again = load_chip(tmp_path / "chip.h5").at(CornerSpec())
    again.age(1e5 - 100.0)
    whole.age(1e5)
    for name, array in whole.devices.items():
        np.testing.assert_allclose(again.devices[name].actual, array.actual, rtol=1e-12)
    with h5py.File(tmp_path / "chip.h5", "r+") as file:
        assert file.attrs["since_write"] == 100.0
        file.attrs["since_write"] = -1.0
    with pytest.raises(ArchiveError, match=r"since_write is -1\.0; it must be a finite time"):
        load_chip(tmp_path / "chip.h5")
