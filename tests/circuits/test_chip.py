"""Chips: Kirchhoff's law device by device, fabrication, writing and programming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import root

from ohmostat.circuits import mismatch as draws
from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip

Array = np.ndarray[Any, Any]
FAMILIES, COLUMNS = ("twin", "shared"), ("virtual-ground", "passive")
families = pytest.mark.parametrize("family", FAMILIES)
all_columns = pytest.mark.parametrize("columns", COLUMNS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
INPUTS = np.random.default_rng(1).random((3, 64))


def rebuilt(chip: Chip) -> Chip:
    """A new chip from the same devices: what the blocks have to be."""
    blocks = chip.blocks
    parts = {name: getattr(blocks, name) for name in ("gain", "offset", "capacitance")}
    return Chip(chip.circuit, chip.mismatch, chip.seed, chip.devices, parts, chip.drivers)


def state_of(chip: Chip) -> list[Array]:
    """Everything that makes one chip behave differently from another."""
    b = chip.blocks
    arrays = [b.dense(), b.load, b.gain, b.offset, b.capacitance, chip.bias, chip.input_weight]
    return arrays + [
        getattr(d, f) for d in chip.devices.values() for f in ("target", "actual", "deviation", "step")
    ]


# -- Kirchhoff ----------------------------------------------------------------------------------------


@families
@all_columns
@pytest.mark.parametrize("law", ["logistic", "tanh", "softplus"])
def test_currents_and_heat_are_the_devices(
    chip_of: Callable, flat: Any, family: str, columns: str, law: str
) -> None:
    chip = chip_of(family, columns, neuron__law=law, neuron__low="-0.5V")
    oracle, leak = flat(chip), chip.circuit.design.neuron.leak
    v = np.random.default_rng(2).uniform(-1, 1, (3, chip.blocks.size))
    current = chip.blocks.current(v, chip.injected(INPUTS))
    heat = chip.dissipation(INPUTS)(v, chip.blocks.ports(v)[0], np.arange(3))
    for row in range(3):
        want, watts = oracle.balance(oracle.natural(v[row]), INPUTS[row])
        assert oracle.natural(current[row]) == pytest.approx(want, abs=1e-12 * leak * 64)
        assert heat[row] == pytest.approx(watts, rel=1e-10)


@families
@all_columns
@pytest.mark.parametrize("law", ["logistic", "softplus"])
def test_both_ways_of_settling_find_the_devices_equilibrium(
    chip_of: Callable, flat: Any, family: str, columns: str, law: str
) -> None:
    chip = chip_of(family, columns, neuron__law=law)
    oracle, leak = flat(chip), chip.circuit.design.neuron.leak
    found = chip.relax(INPUTS)
    walked = chip.relax(INPUTS, method="transient", tolerance=1e-8, rtol=1e-5)
    for state, error in ((found, 1e-10), (walked, 1e-6)):
        assert state.settled.all() and state.stable.all() and not state.jumped.any()
        want = root(lambda v: oracle.balance(v, INPUTS[0])[0] / leak, np.zeros(15), tol=1e-13)
        assert want.success
        assert oracle.natural(state.voltages[0]) == pytest.approx(want.x, abs=error)
        assert oracle.natural(state.ports[0]) == pytest.approx(oracle.neuron(want.x), abs=error)
        assert [state.layer(k).shape for k in range(3)] == [(3, 6), (3, 5), (3, 4)]
        assert np.array_equal(state.outputs, state.layer(2))
    assert np.all(found.residual < 1e-10 * leak) and np.all(walked.residual < 1e-6 * leak * 5)


@families
@all_columns
def test_energy_is_the_devices_heat_until_they_settle(
    chip_of: Callable, flat: Any, family: str, columns: str
) -> None:
    chip = chip_of(family, columns, chip__layers=[64, 3, 2])
    oracle, leak = flat(chip), chip.circuit.design.neuron.leak
    capacitance = oracle.natural(chip.blocks.capacitance)
    load, tau = oracle.natural(chip.blocks.load), chip.circuit.design.neuron.tau
    x, tolerance = INPUTS[0], 1e-4

    def rate(_: float, y: Array) -> Array:
        current, heat = oracle.balance(y[:-1], x)
        return np.append(current / capacitance * tau, heat / leak)

    def balanced(_: float, y: Array) -> float:
        return float(np.abs(oracle.balance(y[:-1], x)[0] / load).max() - tolerance)

    balanced.terminal = True  # type: ignore[attr-defined]
    true = solve_ivp(rate, (0, 100), np.zeros(6), rtol=1e-7, atol=1e-9, events=balanced)
    end = chip.relax(x, method="transient", tolerance=tolerance, rtol=tolerance / 100)
    assert end.time[0] == pytest.approx(true.t[-1] * tau, rel=0.006)
    assert end.energy[0] == pytest.approx(true.y[-1, -1] * leak * tau, rel=0.006)
    assert oracle.natural(end.voltages[0]) == pytest.approx(true.y[:-1, -1], abs=2 * tolerance)


@families
@dtypes
def test_a_sample_settles_to_the_same_bits_in_any_batch(chip_of: Callable, family: str, dtype: str) -> None:
    chip = chip_of(family, dtype=dtype)
    x = np.random.default_rng(3).random((9, chip.circuit.inputs))
    whole = chip.relax(x)
    for rows in (slice(0, 1), slice(2, 9), slice(5, 7)):
        part = chip.relax(x[rows])
        assert np.array_equal(part.ports, whole.ports[rows])
        assert np.array_equal(part.voltages, whole.voltages[rows])


# -- fabrication --------------------------------------------------------------------------------------


@families
@dtypes
def test_the_same_seed_is_the_same_chip_bit_for_bit(chip_of: Callable, family: str, dtype: str) -> None:
    first = state_of(chip_of(family, dtype=dtype))
    chip_of(family, seed=4)
    np.random.default_rng().random(10)
    again = state_of(chip_of(family, dtype=dtype))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = chip_of(family, seed=4, dtype=dtype)
    assert not np.isin(other.devices["forward1"].deviation, first[9]).any()


def test_an_array_is_the_same_on_a_deeper_chip(chip_of: Callable) -> None:
    small, deep = chip_of(chip__layers=[64, 6, 5]), chip_of(chip__layers=[64, 6, 5, 9, 4])
    for name in small.devices:
        assert np.array_equal(small.devices[name].deviation, deep.devices[name].deviation)


def test_devices_and_twins_are_drawn_apart(chip_of: Callable) -> None:
    chip = chip_of(chip__layers=[64, 30, 30])
    planes = [plane.ravel() for name in ("forward1", "feedback1") for plane in chip.devices[name].deviation]
    planes.append(chip.devices["feedback1"].deviation[0].T.ravel())
    correlation = np.corrcoef(np.log(planes)) - np.eye(5)
    assert np.abs(correlation).max() < 0.15
    assert np.log(planes).std() == pytest.approx(0.4, rel=0.1)
    gain = chip.devices["forward1"].step / chip.devices["forward1"].deviation
    assert np.log(gain).std() == pytest.approx(0.3, rel=0.1)


def test_without_mismatch_every_part_is_nominal(chip_of: Callable) -> None:
    none = {f"mismatch__{key}": 0 for key in ("conductance", "programming", "amplifier_gain", "driver_gain")}
    chip = chip_of("shared", mismatch__amplifier_offset="0V", mismatch__capacitance=0, **none)
    spec = chip.circuit.design.neuron
    for array in chip.devices.values():
        assert np.all(array.deviation == 1) and np.all(array.step == 1)
        assert np.array_equal(array.actual, array.target)
    assert all(np.all(gains == 1) for gains in chip.drivers.values())
    b = chip.blocks
    assert np.all(b.gain == spec.gain) and np.all(b.offset == spec.offset)
    assert np.all(b.capacitance == spec.capacitance) and np.all(b.load == spec.leak)


def test_an_unwritten_chip_rests_at_g_min(chip_of: Callable) -> None:
    chip = chip_of().circuit.fabricate(seed=5)
    g_min, _ = chip.limits
    for array in chip.devices.values():
        assert np.all(array.target == g_min) and np.array_equal(array.actual, g_min * array.deviation)


def test_transistors_spread_by_pelgroms_law(chip_of: Callable) -> None:
    """``σ(V_t) = A_Vt / √(W L)``, ``σ(β)/β = A_β / √(W L)``; beside other causes, by the root of squares."""
    sizes = {"width": "2um", "length": "500nm"}  # √(W L) = 1 µm
    keys = {f"mismatch__{part}_{k}": v for part in ("amplifier", "device") for k, v in sizes.items()}
    keys |= {"mismatch__vt_coefficient": "3nVm", "mismatch__beta_coefficient": "10nm"}
    found = chip_of(chip__layers=[64, 600, 4], mismatch__device_overdrive="50mV", mismatch__conductance=0.08,
                    mismatch__amplifier_offset="4mV", mismatch__amplifier_gain=0.0, **keys)  # fmt: skip
    m = found.mismatch
    assert m.conductance_sd == pytest.approx(np.sqrt(0.08**2 + (3 / 50) ** 2 + 0.01**2))
    assert m.amplifier_offset_sd == pytest.approx(5e-3) and m.amplifier_gain_sd == pytest.approx(0.01)
    spec, where = found.circuit.design.neuron, found.blocks.slices[0]
    for measured, sd in (
        (np.log(found.devices["forward0"].deviation), m.conductance_sd),
        (found.blocks.offset[where] - spec.offset, 5e-3),
        (found.blocks.gain[where] / spec.gain - 1, 0.01),
    ):
        assert measured.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * measured.size))
    large = replace(m, amplifier_width=2e-4)  # a hundred times the area, a tenth of the spread
    assert large.amplifier_gain_sd == pytest.approx(1e-3)
    none = replace(m, vt_coefficient=0.0, beta_coefficient=0.0)
    assert (none.conductance_sd, none.amplifier_offset_sd, none.amplifier_gain_sd) == (0.08, 4e-3, 0.0)
    assert replace(m, device_overdrive=0.0).conductance_sd == 0.08


@families
def test_what_lies_in_an_array_is_common_to_a_pair_and_multiplies_the_rest(
    chip_of: Callable, family: str
) -> None:
    drawn = {"mismatch__gradient": 0.2, "mismatch__correlated": 0.4, "mismatch__correlation_length": 3.0}
    plain, chip = chip_of(family, seed=4), chip_of(family, seed=4, **drawn)
    for a in chip.circuit.arrays:
        common = chip.devices[a.name].deviation / plain.devices[a.name].deviation
        place = a.shape[1:]
        expected = np.exp(0.4 * draws.correlated_normals(4, f"{a.name}/correlated", place, 3.0))
        expected *= draws.gradient(4, f"{a.name}/gradient", place, 0.2)
        np.testing.assert_allclose(common, np.broadcast_to(expected, a.shape), rtol=1e-6)
        np.testing.assert_allclose(
            chip.devices[a.name].step / plain.devices[a.name].step, common, rtol=1e-6
        )  # a larger device takes larger steps


@dtypes
def test_stuck_devices_stay_whatever_is_written_or_programmed(
    chip_of: Callable, dtype: str, tmp_path: Path
) -> None:
    faults = {"mismatch__stuck_open": 0.2, "mismatch__stuck_closed": 0.1}
    plain, chip = chip_of(seed=4, dtype=dtype), chip_of(seed=4, dtype=dtype, **faults)
    g_max, rng = chip.limits[1], np.random.default_rng(0)
    for turn in range(3):
        for c in (plain, chip):
            c.write({"forward0": np.full(c.weight("forward0").shape, (turn - 1) * g_max / 3)})
        changes = {name: rng.normal(0, g_max, array.weight.shape) for name, array in chip.devices.items()}
        for c in (plain, chip):
            c.program(changes)
        for a in chip.circuit.arrays:
            opened, closed = draws.stuck(4, f"{a.name}/stuck", a.shape, 0.2, 0.1)
            found, sound = chip.devices[a.name], plain.devices[a.name]
            assert np.all(found.actual[opened] == 0)
            np.testing.assert_allclose(found.actual[closed], g_max * sound.deviation[closed], rtol=1e-6)
            rest = ~(opened | closed)
            np.testing.assert_array_equal(found.actual[rest], sound.actual[rest])
            np.testing.assert_array_equal(found.target, sound.target)  # the programmer does not know
            np.testing.assert_array_equal(chip.weight(a.name), found.actual[0] - found.actual[1])
    save_chip(tmp_path / "chip.h5", chip)
    again = load_chip(tmp_path / "chip.h5")
    for c in (again, chip):
        c.program(changes)
    for name, array in chip.devices.items():
        np.testing.assert_array_equal(again.devices[name].actual, array.actual)


# -- writing and programming --------------------------------------------------------------------------


@families
@dtypes
def test_a_write_codes_each_weight_on_one_device_of_its_pair(
    chip_of: Callable, weights_of: Callable, family: str, dtype: str
) -> None:
    chip = chip_of(family, dtype=dtype)
    g_min, g_max = chip.limits
    wanted = weights_of(chip, 1, 5.0)  # beyond g_max in part
    chip.write(wanted)
    for name, w in wanted.items():
        array = chip.devices[name]
        for sign, target in zip((1, -1), array.target, strict=True):
            want = np.where(sign * w > 0, np.minimum(g_min + np.abs(w), g_max), g_min)
            assert target == pytest.approx(want, rel=1e-6)
        assert np.array_equal(array.actual, array.deviation * array.target)
        assert np.array_equal(chip.weight(name), array.actual[0] - array.actual[1])
    assert max(np.abs(w).max() for w in wanted.values()) > g_max
    assert all(np.array_equal(a, b) for a, b in zip(state_of(chip), state_of(rebuilt(chip)), strict=True))


@families
@all_columns
@dtypes
def test_blocks_stay_in_step_with_the_devices(
    chip_of: Callable, weights_of: Callable, family: str, columns: str, dtype: str
) -> None:
    chip = chip_of(family, columns, dtype=dtype)
    names = list(chip.devices)
    for k in range(60):
        changes = weights_of(chip, k, 0.3)
        chip.program({name: changes[name] for name in names if (k + len(name)) % 3})
        if k == 30:
            chip.write({names[k % len(names)]: changes[names[k % len(names)]]})
    assert all(np.array_equal(a, b) for a, b in zip(state_of(chip), state_of(rebuilt(chip)), strict=True))
    g_min, g_max = chip.limits
    for array in chip.devices.values():  # every device within its own limits
        assert np.all(array.actual >= array.deviation * g_min * (1 - 1e-6))
        assert np.all(array.actual <= array.deviation * g_max * (1 + 1e-6))


def test_a_device_moves_by_its_own_step_and_stops_at_its_own_limits(chip_of: Callable) -> None:
    chip, name = chip_of(), "forward1"
    g_min, g_max = chip.limits
    chip.write({name: np.zeros((5, 6))})
    array, up = chip.devices[name], np.full((5, 6), 0.2 * g_max)
    before = array.actual.copy()
    chip.program({name: up})
    assert array.actual[0] - before[0] == pytest.approx(array.step[0] * up) and np.all(
        array.actual[1] == before[1]
    )
    for _ in range(20):
        chip.program({name: up})
    assert array.target[0] == pytest.approx(np.full((5, 6), g_max))
    # A target that has come to its end asks for no more, so a device of small gain stays below its limit.
    gain = array.step[0] / array.deviation[0]
    reached = array.deviation[0] * np.minimum(g_min + gain * (g_max - g_min), g_max)
    assert array.actual[0] == pytest.approx(reached)
    for _ in range(40):
        chip.program({name: -up})
    assert array.target[0] == pytest.approx(np.full((5, 6), g_min))
    assert array.target[1] == pytest.approx(np.full((5, 6), g_max))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_targets_follow_the_commands_and_cancel(chip_of: Callable, weights_of: Callable, seed: int) -> None:
    """Inside the limits a chip without step errors returns when a change is taken back."""
    chip = chip_of(mismatch__programming=0.0)
    chip.write(weights_of(chip, seed, 0.3))
    before = {name: chip.weight(name).copy() for name in chip.devices}
    changes = weights_of(chip, seed + 1, 0.3)
    chip.program(changes)
    for name, change in changes.items():
        array = chip.devices[name]
        assert np.minimum(array.target[0], array.target[1]) == pytest.approx(chip.limits[0])
        assert array.actual == pytest.approx(array.deviation * array.target)
        assert not np.allclose(chip.weight(name), before[name]) and np.any(change != 0)
    chip.program({name: -change for name, change in changes.items()})
    for name, weight in before.items():
        assert chip.weight(name) == pytest.approx(weight, abs=1e-18)


def test_a_shared_array_is_read_both_ways_through_its_drivers(chip_of: Callable) -> None:
    chip = chip_of("shared")
    chip.program({"forward1": np.full((5, 6), 1e-6)})
    forward, backward = chip.circuit.feedback_pairs[0]
    w = chip.weight("forward1")
    a_f, a_b = chip.drivers[forward.name], chip.drivers[backward.name]
    assert a_f.shape == (6,) and a_b.shape == (5,) and np.ptp(a_f) > 0.01
    assert chip.blocks.weight(1, 0) == pytest.approx(w * a_f)
    assert chip.blocks.weight(0, 1) == pytest.approx(w.T * a_b)


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["write", "program"])
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("forward1", np.zeros((6, 5)), ValueError, r"\(5, 6\) pairs"),
        ("forward1", np.zeros((500, 600)), ValueError, r"\(5, 6\) pairs"),
        ("forward1", 0.0, ValueError, r"\(5, 6\) pairs"),
        ("forward1", np.full((5, 6), np.nan), ValueError, "NaN or infinity"),
        ("forward1", np.full((5, 6), np.inf), ValueError, "NaN or infinity"),
        ("backward1", np.zeros((5, 6)), KeyError, "no array 'backward1'; it has forward0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_moves(
    chip_of: Callable, method: str, name: str, value: Any, error: type[Exception], message: str
) -> None:
    chip = chip_of()
    before = [a.copy() for a in state_of(chip)]
    with pytest.raises(error, match=message):
        getattr(chip, method)({"forward0": np.full((6, 64), 1e-6), name: value})
    assert all(np.array_equal(a, b) for a, b in zip(before, state_of(chip), strict=True))


@pytest.mark.parametrize("shape", [(63,), (3, 65), (2, 64, 1), ()])
def test_inputs_of_another_shape_are_refused(chip_of: Callable, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="64 input ports"):
        chip_of().relax(np.zeros(shape))


@pytest.mark.parametrize("evil", [np.nan, np.inf])
def test_inputs_must_be_finite(chip_of: Callable, evil: float) -> None:
    x = INPUTS.copy()
    x[1, 5] = evil
    with pytest.raises(ValueError, match="finite"):
        chip_of().relax(x)


def test_methods_are_two(chip_of: Callable) -> None:
    with pytest.raises(ValueError, match="'equilibrium' or 'transient'"):
        chip_of().relax(INPUTS, method="newton")


def test_one_sample_is_a_batch_of_one(chip_of: Callable) -> None:
    chip = chip_of()
    one = chip.relax(INPUTS[1])
    assert one.ports == pytest.approx(chip.relax(INPUTS).ports[1:2], abs=1e-11)
    assert one.jacobian() == pytest.approx(one.port_jacobian() * one.slopes(), abs=1e-18)
    again = chip.relax(INPUTS[1], start=one)
    assert again.sweeps[0] == 1
