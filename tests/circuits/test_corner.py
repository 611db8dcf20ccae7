"""Corners: what each cause does to a chip, the three engines there, and that the nominal one does nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.flatten import flatten, voltages
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import CornerSpec
from ohmostat.circuits.wiring import Wiring
from ohmostat.learning.training import initialise
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice import ngspice_available, run_ngspice, write_spice

MICROVOLT = 1e-6
HARSH = CornerSpec(process="slow", process_spread=0.2, voltage=0.8, temperature=398.0, device_tempco=-1.5e-3,
                   leak_tempco=3e-3, inversion="weak")  # fmt: skip


def chip_of(changes: Mapping[str, object] | None = None) -> Chip:
    small = {
        "chip.layers": [64, 7, 6, 10], "task.data": "digits", "learning.dtype": "float64",
        "learning.tolerance": 1e-12, "neuron.low": "-100mV", "mismatch.conductance": 0.5,
        "mismatch.amplifier_gain": 0.1, "mismatch.amplifier_offset": "20mV", "mismatch.stuck_open": 0.1,
    }  # fmt: skip
    chip = Circuit(Design().replace(small | dict(changes or {}))).fabricate(seed=3)
    initialise(chip, 5, 1.0, 0.0)
    return chip


def state_of(chip: Chip) -> dict[str, np.ndarray]:
    """All that decides where a chip settles."""
    blocks = chip.blocks
    found = {name: getattr(blocks, name) for name in ("weights", "load", "gain", "offset", "capacitance")}
    return found | {
        "input": chip.input_weight,
        "bias": chip.bias,
        "rails": np.array([blocks.low, blocks.high]),
    }


def assert_same(a: Chip, b: Chip) -> None:
    for name, values in state_of(a).items():
        np.testing.assert_array_equal(values, state_of(b)[name], err_msg=name, strict=True)


# -- what it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_nominal_corner_is_the_identity(dtype: str) -> None:
    chip = chip_of({"learning.dtype": dtype, "learning.tolerance": 1e-6})
    for nominal in (CornerSpec(), CornerSpec(process_spread=0.9, inversion="weak", leak_tempco=1e-3)):
        assert nominal.operated(chip.circuit.design.neuron) == chip.circuit.design.neuron
        assert_same(chip, chip.at(nominal))
    assert_same(chip.at(HARSH), chip.at(HARSH).at(HARSH))
    np.testing.assert_allclose(chip.at(HARSH).at(CornerSpec()).blocks.gain, chip.blocks.gain, rtol=3e-7)
    assert chip.conducting("forward0") is chip.devices["forward0"].actual


def test_each_cause_does_what_it_says_and_no_more() -> None:
    chip = chip_of({"chip.columns": "passive"})
    before = {name: values.copy() for name, values in state_of(chip).items()}
    leak, hot = chip.neuron.leak, {"temperature": 400.0}
    devices = before["load"] - leak
    expected: list[tuple[CornerSpec, dict[str, object]]] = [
        (CornerSpec(process="fast", process_spread=0.2), {"gain": 1.2 * before["gain"]}),
        (CornerSpec(process="slow"), {"gain": 0.9 * before["gain"]}),
        (CornerSpec(voltage=1.25), {"rails": 1.25 * before["rails"]}),
        (CornerSpec(**hot), {}),
        (CornerSpec(**hot, inversion="weak"), {"gain": 0.75 * before["gain"]}),
        (CornerSpec(**hot, leak_tempco=2e-3), {"load": devices + 1.2 * leak}),
        (CornerSpec(**hot, device_tempco=-1e-3), {
            "load": 0.9 * devices + leak, "weights": 0.9 * before["weights"],
            "input": 0.9 * before["input"], "bias": 0.9 * before["bias"],
        }),
    ]  # fmt: skip
    for corner, changed in expected:
        after = state_of(chip.at(corner))
        for name, values in after.items():
            np.testing.assert_allclose(values, changed.get(name, before[name]), rtol=1e-12, err_msg=name)
    assert chip.at(CornerSpec(voltage=1.25)).bias_voltage == pytest.approx(1.25 * chip.bias_voltage)


def test_a_process_moves_devices_that_are_transistors() -> None:
    slow = CornerSpec(process="slow", process_spread=0.2)
    assert chip_of().at(slow).conduction == 1
    assert chip_of({"mismatch.device_overdrive": "0.5V"}).at(slow).conduction == pytest.approx(0.8)


def test_a_chip_at_a_corner_is_a_copy() -> None:
    chip = chip_of()
    there = chip.at(HARSH)
    assert there.circuit.design == chip.circuit.design.replace("corner", HARSH)
    kept = chip.devices["forward0"].actual.copy()
    assert there.programmer.writes == chip.programmer.writes > 0
    there.program({"forward0": np.full((7, 64), 1e-6)})
    assert np.array_equal(chip.devices["forward0"].actual, kept)


def test_a_chip_made_at_a_corner_is_the_chip_brought_there() -> None:
    made = Circuit(chip_of().circuit.design.replace("corner", HARSH)).fabricate(seed=3)
    initialise(made, 5, 1.0, 0.0)
    brought = chip_of().at(HARSH)
    np.testing.assert_allclose(made.blocks.gain, brought.blocks.gain, rtol=1e-15)
    brought.blocks.gain[:] = made.blocks.gain
    assert_same(made, brought)
    made.program({"forward1": np.full((6, 7), 1e-6)})  # programming keeps the blocks at the corner
    brought.program({"forward1": np.full((6, 7), 1e-6)})
    assert_same(made, brought)
    made.refresh()
    np.testing.assert_allclose(made.blocks.weights, brought.blocks.weights, rtol=1e-12)


# -- engines and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize(
    ("family", "law"), [("twin", "logistic"), ("shared", "logistic"), ("twin", "softplus")]
)
def test_three_engines_agree_at_a_corner(family: str, law: str, columns: str) -> None:
    nominal = chip_of({"chip.family": family, "neuron.law": law, "chip.columns": columns})
    chip, x = nominal.at(HARSH), np.random.default_rng(1).random(64)
    state = chip.relax(x)
    assert state.settled.all() and state.stable is not None and state.stable.all()
    assert np.abs(state.voltages - nominal.relax(x).voltages).max() > 1e-2
    net = flatten(chip, x)
    flat = voltages(chip, operating_point(net).voltages_by_node())
    assert np.abs(flat - state.voltages[0]).max() < MICROVOLT
    transient = chip.relax(x, method="transient", tolerance=1e-9)
    assert np.abs(transient.voltages - state.voltages).max() < MICROVOLT
    if not ngspice_available() and not os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
        pytest.skip("ngspice is not installed: two of the three engines were compared")
    assert np.abs(voltages(chip, run_ngspice(write_spice(net))) - state.voltages[0]).max() < MICROVOLT


def test_power_at_a_corner_is_that_of_every_element() -> None:
    """Dissipation against a sum over devices and leaks, one by one."""
    chip = chip_of({"chip.columns": "passive"}).at(HARSH)
    x = np.random.default_rng(1).random(64)
    state = chip.relax(x)
    heat = chip.neuron.leak * np.sum(state.voltages[0] ** 2)
    for bank in chip.circuit.banks:
        drive = {-1: x, -2: np.array([chip.bias_voltage])}.get(bank.pre)
        drive = state.layer(bank.pre)[0] if drive is None else drive
        v = chip.blocks.layer(state.voltages, bank.post)[0]
        for plane, sign in enumerate((1, -1)):
            heat += np.sum(chip.conducting(bank.array)[plane] * (sign * drive - v[:, None]) ** 2)
    power = chip.dissipation(x)(state.voltages, state.ports, np.array([0]))
    assert power[0] == pytest.approx(heat, rel=1e-9)


def test_wires_see_what_conducts_at_the_corner() -> None:
    chip = chip_of().at(HARSH)
    effective = Wiring(20.0, 10.0).effective(chip.conducting("forward1")[0])
    wired = Wiring(20.0, 10.0).chip(chip)
    np.testing.assert_allclose(wired.conducting("forward1")[0], effective, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_is_read_once_at_its_corner(tmp_path: Path, dtype: str) -> None:
    chip = chip_of({"learning.dtype": dtype, "learning.tolerance": 1e-6}).at(HARSH)
    for place in ("one.h5", "two.h5"):
        save_chip(tmp_path / place, chip)
        chip, written = load_chip(tmp_path / place), chip
        assert_same(chip, written)
        assert chip.circuit.design.corner == HARSH
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("process", "quick"), ("process_spread", 1.0), ("process_spread", -0.1), ("voltage", 0.4),
        ("voltage", 1.6), ("temperature", 199.0), ("temperature", "501K"), ("temperature", "30s"),
        ("device_tempco", 5e-3), ("device_tempco", "-5m/K"), ("leak_tempco", "5e-3/K"), ("inversion", "deep"),
    ],
)  # fmt: skip
def test_corners_that_cannot_be(key: str, value: object) -> None:
    with pytest.raises(DesignError, match=rf"corner.{key} = .*allowed: ") as caught:
        Design().replace(f"corner.{key}", value)
    assert caught.value.key == f"corner.{key}"


def test_a_neuron_pushed_out_of_its_range_is_refused() -> None:
    design = Design().replace({"neuron.gain": 1000.0, "corner.process": "fast"})
    with pytest.raises(DesignError, match=r"neuron.gain = 1100\.0"):
        Circuit(design).fabricate()


def test_conductances_are_positive_at_every_corner() -> None:
    for temperature in (200.0, 500.0):
        for tempco in (-4e-3, 4e-3):
            corner = CornerSpec(temperature=temperature, device_tempco=tempco, leak_tempco=tempco)
            assert corner.conduction(transistors=False) > 0.1
            assert corner.operated(Design().neuron).leak > 0
    assert replace(HARSH, process="fast").gain_factor == pytest.approx(1.2)
