"""Programming: pulses one by one, their moments, verified writes, levels, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits import mismatch as draws
from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.programming import paired

Array = np.ndarray[Any, Any]
NAME = "forward1"
SPREADS = ("conductance", "programming", "amplifier_gain", "capacitance")
PERFECT = {f"mismatch__{key}": 0.0 for key in SPREADS} | {"mismatch__amplifier_offset": "0V"}
MODES = ("ideal", "pulses", "sign", "write-verify")


@pytest.fixture
def blank(chip_of: Callable) -> Callable[..., Chip]:
    """A chip whose devices rest at ``g_min``."""

    def made(**keys: Any) -> Chip:
        chip: Chip = chip_of(**keys).circuit.fabricate(seed=3)
        return chip

    return made


def shares(chip: Chip) -> Array:
    """``x = (g - g_min) / (g_max - g_min)``, each device within its own limits."""
    array, (g_min, g_max) = chip.devices[NAME], chip.limits
    found: Array = (array.actual / array.deviation - g_min) / (g_max - g_min)
    return found


def ask(chip: Chip, pulses: float) -> None:
    """Command as much as so many pulses are worth, everywhere in the array."""
    change = np.full(chip.weight(NAME).shape, pulses * chip.programmer.unit)
    chip.program({NAME: change})


@pytest.mark.parametrize("nonlinearity", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("asymmetry", [0.0, 0.3])
def test_pulses_in_a_row_are_each_pulse_after_the_other(
    blank: Callable, nonlinearity: float, asymmetry: float
) -> None:
    chip = blank(
        programming__mode="pulses", programming__pulse=0.03, programming__rounding="nearest",
        programming__nonlinearity=nonlinearity, programming__asymmetry=asymmetry,
        mismatch__programming_bias=0.2,
    )  # fmt: skip
    array = chip.devices[NAME]
    gain = array.step / array.deviation
    bias = 0.2 * draws.standard_normals(chip.seed, f"{NAME}/programming bias", (array.target.size,))
    a = np.clip(asymmetry + bias.reshape(array.target.shape), -0.95, 0.95)[0]
    x = shares(chip)[0]
    for pulses in (5, 1, 12, -3, -9, 2, 20):
        ask(chip, pulses)
        for _ in range(abs(pulses)):
            if pulses > 0:
                x = x + 0.03 * gain[0] * (1 + a) * (1 + nonlinearity * (0.5 - x))
            else:
                x = x - 0.03 * gain[0] * (1 - a) * (1 + nonlinearity * (x - 0.5))
        x = np.clip(x, 0, 1)  # a run of pulses one way meets one limit only
        assert shares(chip)[0] == pytest.approx(x, abs=1e-9)
    assert np.array_equal(chip.weight(NAME), chip.devices[NAME].weight)


def test_the_programmer_believes_in_nominal_pulses(blank: Callable) -> None:
    chip = blank(programming__mode="pulses", programming__pulse=0.01, programming__rounding="nearest")
    ask(chip, 7.4)
    ask(chip, 7.4)  # what was rounded away is not remembered
    g_min, _ = chip.limits
    assert chip.devices[NAME].target[0] == pytest.approx(g_min + 14 * chip.programmer.unit)
    assert chip.programmer.pulses == 14 * chip.weight(NAME).size and chip.programmer.reads == 0


def test_rounding_is_right_in_the_mean_or_to_the_nearest(blank: Callable) -> None:
    keys = {"programming__mode": "pulses", "programming__pulse": 0.01, "chip__layers": [64, 100, 100]}
    chip = blank(**PERFECT, **keys)
    ask(chip, 0.3)
    moved = shares(chip)[0] / 0.01
    assert set(np.unique(moved.round(6))) == {0.0, 1.0}
    assert moved.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / moved.size))
    nearest = blank(**PERFECT, **keys, programming__rounding="nearest")
    ask(nearest, 0.3)
    assert np.all(shares(nearest)[0] == 0)


def test_cycle_to_cycle_variation_grows_with_the_root_of_the_pulses(blank: Callable) -> None:
    for pulses in (1, 25):
        chip = blank(**PERFECT, chip__layers=[64, 100, 100], programming__mode="pulses",
                       programming__pulse=0.01, programming__cycle=0.3)  # fmt: skip
        ask(chip, 20.0)  # away from the limit
        before = shares(chip)[0]
        ask(chip, pulses)
        moved = (shares(chip)[0] - before) / 0.01
        assert moved.mean() == pytest.approx(pulses, abs=4 * 0.3 * np.sqrt(pulses) / 100)
        assert moved.std() == pytest.approx(0.3 * np.sqrt(pulses), rel=4 / np.sqrt(2 * moved.size))


def test_a_sign_is_one_pulse_whatever_the_change(blank: Callable) -> None:
    chip = blank(programming__mode="sign", programming__pulse=0.01, **PERFECT)
    ask(chip, 40)
    chip.program({NAME: np.zeros(chip.weight(NAME).shape)})
    ask(chip, 1e-6)
    assert shares(chip)[0] == pytest.approx(np.full((5, 6), 0.02))
    ask(chip, -0.1)
    assert shares(chip)[0] == pytest.approx(np.full((5, 6), 0.01))


@pytest.mark.parametrize("levels", [0, 17])
def test_a_verified_write_fits_where_the_device_can(blank: Callable, levels: int) -> None:
    chip = blank(programming__mode="write-verify", programming__tolerance=0.02, programming__pulse=0.01,
                 programming__cycle=0.3, programming__levels=levels, programming__most_pulses=5000,
                 programming__nonlinearity=1.0)  # fmt: skip
    (g_min, g_max), rng = chip.limits, np.random.default_rng(3)
    for turn in range(4):
        weight = rng.uniform(-1, 1, (5, 6)) * g_max
        if turn % 2:
            chip.program({NAME: weight - (chip.devices[NAME].target[0] - chip.devices[NAME].target[1])})
        else:
            chip.write({NAME: weight})
        array = chip.devices[NAME]
        if levels:
            place = (array.target - g_min) / (g_max - g_min) * (levels - 1)
            assert place == pytest.approx(np.rint(place), abs=1e-6)
        else:
            assert array.target == pytest.approx(paired(weight, chip.circuit.design.device))
        reach = (array.target > array.deviation * g_min * 1.5) & (array.target < array.deviation * g_max)
        off = np.abs(array.actual - array.target) / (g_max - g_min)
        assert np.all(off[reach] <= 0.02) and reach.mean() > 0.3
        beyond = array.target > 1.1 * array.deviation * g_max  # no pulses bring a device past its limit
        assert np.all(array.actual[beyond] <= array.deviation[beyond] * g_max * (1 + 1e-9))
    assert chip.programmer.pulses > 0 and chip.programmer.reads > 0


def test_a_write_from_scratch_takes_the_pulses_that_it_needs(blank: Callable) -> None:
    """Fewer than a change may have would leave devices that conduct far more than they are said to, on their
    way: the next change, however small, then brings them all the rest of it.
    """
    few = {"programming__mode": "write-verify", "programming__pulse": 0.002, "programming__most_pulses": 20}
    chip = blank(**PERFECT | {"mismatch__conductance": 0.7} | few)
    (g_min, g_max), rng = chip.limits, np.random.default_rng(3)
    chip.write({NAME: rng.uniform(-1, 1, (5, 6)) * g_max})
    array = chip.devices[NAME]
    before, targets = array.actual.copy(), array.target.copy()
    reach = (targets > 1.5 * array.deviation * g_min) & (targets < array.deviation * g_max)
    assert np.abs((before - targets)[reach]).max() <= chip.programmer.spec.tolerance * (g_max - g_min)
    assert (
        np.abs((array.deviation - 1) * targets)[reach].max() > 0.1 * g_max
    )  # as unverified ones would be off
    change = 1e-3 * g_max * np.ones((5, 6))
    chip.program({NAME: change})
    most = 2 * chip.programmer.spec.tolerance * (g_max - g_min) + 1e-3 * g_max
    assert np.abs(array.actual - before)[reach].max() <= most


def test_what_verification_costs(blank: Callable) -> None:
    """A perfect device, 30 pulses from its target: a run of pulses, and a read before and after."""
    chip = blank(**PERFECT, programming__mode="write-verify", programming__pulse=0.01)
    p, size = chip.programmer, chip.weight(NAME).size
    before = p.pulses, p.reads
    ask(chip, 30)
    assert (p.pulses - before[0], p.reads - before[1]) == (30 * size, 2 * size)
    stuck = blank(**PERFECT, programming__mode="write-verify", programming__pulse=0.01,
                    programming__most_pulses=45, mismatch__stuck_open=1.0)  # fmt: skip
    before = stuck.programmer.pulses, stuck.programmer.reads
    ask(stuck, 30)
    assert stuck.programmer.pulses - before[0] == 45 * size  # then it is left alone
    assert not stuck.devices[NAME].actual.any()


def test_a_noisy_read_shifts_what_is_written(blank: Callable) -> None:
    noise = 0.02
    chip = blank(**PERFECT, chip__layers=[64, 60, 60], programming__mode="write-verify",
                   programming__pulse=1e-4, programming__read_noise=noise, programming__tolerance=1e-3,
                   programming__most_pulses=100_000)  # fmt: skip
    chip.write({NAME: np.full((60, 60), 0.5 * chip.limits[1])})
    off = (chip.devices[NAME].actual - chip.devices[NAME].target)[0] / (chip.limits[1] - chip.limits[0])
    assert np.abs(off).max() > 0.02 and abs(off.mean()) < 0.002
    assert 0.3 * noise < off.std() < 1.2 * noise


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_levels_of_an_ideal_write(blank: Callable, rounding: str) -> None:
    chip = blank(**PERFECT, chip__layers=[64, 60, 60], programming__levels=9, programming__rounding=rounding)
    span = chip.limits[1] - chip.limits[0]
    chip.write({NAME: np.full((60, 60), 0.3 * span)})
    mean = {"stochastic": 0.3 * 8, "nearest": 2.0}[rounding]
    assert (shares(chip)[0] * 8).mean() == pytest.approx(mean, abs=4 * 0.5 / 60)
    chip.program({NAME: np.full((60, 60), 0.01 * span)})
    step = {"stochastic": 0.08, "nearest": 0.0}[rounding]
    assert (shares(chip)[0] * 8).mean() == pytest.approx(mean + step, abs=6 * 0.5 / 60)
    assert np.ptp(chip.devices[NAME].actual[1]) == 0


@pytest.mark.parametrize("mode", MODES)
def test_no_change_moves_nothing_and_the_same_seed_the_same(
    chip_of: Callable, weights_of: Callable, mode: str, tmp_path: Path
) -> None:
    def fresh() -> Chip:
        chip: Chip = chip_of(programming__mode=mode, programming__cycle=0.2, programming__pulse=0.01)
        chip.write(weights_of(chip, 1, 0.3))
        return chip

    first, again = fresh(), fresh()
    before = {name: array.actual.copy() for name, array in first.devices.items()}
    for chip in (first, again):
        chip.program({name: np.zeros(chip.weight(name).shape) for name in chip.devices})
    assert all(np.array_equal(before[n], a.actual) for n, a in first.devices.items())
    for turn in (2, 3):
        for chip in (first, again):
            chip.program(weights_of(chip, turn, 0.1))
    assert all(np.array_equal(a.actual, again.devices[n].actual) for n, a in first.devices.items())
    save_chip(tmp_path / "chip.h5", first)
    read = load_chip(tmp_path / "chip.h5")
    for chip in (first, read):
        chip.program(weights_of(chip, 4, 0.1))
    for name, array in first.devices.items():
        assert np.array_equal(array.actual, read.devices[name].actual)
    counts = [(c.programmer.writes, c.programmer.pulses, c.programmer.reads) for c in (first, read)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("mode", MODES)
def test_the_homeostat_reaches_symmetry_through_any_programming(blank: Callable, mode: str) -> None:
    from ohmostat.learning.homeostat import Homeostat
    from ohmostat.learning.training import initialise

    layers = [64, 14, 12, 10]
    keys = {"programming__mode": mode, "programming__pulse": 0.002, "programming__tolerance": 0.003}
    chip = blank(chip__layers=layers, **keys)
    initialise(chip, 0, 0.8, 60.0)
    homeostat = Homeostat.from_spec(chip.circuit.design.homeostat, 0)
    (bank, *_) = (forward.name for forward, _ in chip.circuit.feedback_pairs)
    before = np.abs(homeostat.asymmetry(chip)[bank]).mean()
    for _ in range(120):
        chip.program(homeostat.correct(chip))
    span = chip.limits[1] - chip.limits[0]
    floor = {"ideal": 1e-6, "pulses": 0.004, "sign": 0.01, "write-verify": 0.006}[mode] * span
    assert np.abs(homeostat.asymmetry(chip)[bank]).mean() < floor < before / 4


@pytest.mark.parametrize("levels", [0, 16])
@pytest.mark.parametrize("mode", MODES)
def test_what_drifted_beyond_its_limits_stays_until_it_is_moved(
    chip_of: Callable, mode: str, levels: int
) -> None:
    if levels and mode in ("pulses", "sign"):
        pytest.skip("have no levels")
    chip = chip_of(dtype="float32", programming__mode=mode, programming__levels=levels,
                   drift__exponent=0.0, drift__exponent_spread=0.2)  # fmt: skip
    chip.age(1e4)
    (g_min, g_max), counts = chip.limits, (chip.programmer.pulses, chip.programmer.reads)
    before = {name: array.actual.copy() for name, array in chip.devices.items()}
    assert any(np.any(a.actual > a.deviation * g_max * 1.01) for a in chip.devices.values())
    chip.program({})
    assert chip.since_write == 1e4
    for _ in range(20):
        chip.program({name: np.zeros(chip.weight(name).shape) for name in chip.devices})
    assert all(np.array_equal(before[name], array.actual) for name, array in chip.devices.items())
    if mode != "ideal":
        assert counts == (chip.programmer.pulses, chip.programmer.reads)
    chip.program({name: np.full(chip.weight(name).shape, g_max / 4) for name in chip.devices})
    for name, array in chip.devices.items():  # up, but none beyond its limit further than it was
        top = np.maximum(array.deviation * g_max, before[name])
        assert np.all(array.actual[0] >= before[name][0] * (1 - 1e-6)) or mode == "write-verify"
        assert np.all(array.actual <= top * (1 + 1e-5)) and g_min >= 0
