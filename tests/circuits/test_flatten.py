"""The crossbar engine, the netlist engine and ngspice agree on the same chip, device by device."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.families import BIAS, INPUT
from ohmostat.circuits.flatten import (
    SquaredErrorNudge,
    flatten,
    initial_guess,
    voltages,
    voltages_by_node,
)
from ohmostat.learning.nudges import Nudge, SquaredError
from ohmostat.learning.training import initialise
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice import ngspice_available, run_ngspice, write_spice

MICROVOLT = 1e-6


def chip_of(family: str, columns: str, law: str) -> Chip:
    design = Design().replace(
        {
            "chip.family": family,
            "chip.layers": [64, 7, 6, 10],
            "chip.relays": 9,
            "chip.columns": columns,
            "neuron.law": law,
            "task.data": "digits",
            "learning.dtype": "float64",
            "learning.tolerance": 1e-12,
            "mismatch.conductance": 0.5,
            "mismatch.gradient": 0.1,
            "mismatch.correlated": 0.2,
            "mismatch.stuck_open": 0.1,
            "mismatch.stuck_closed": 0.02,
            "mismatch.amplifier_gain": 0.1,
            "mismatch.amplifier_offset": "20mV",
            "mismatch.driver_gain": 0.1 if family == "shared" else 0.0,
            "learning.angle": 60.0 if family == "twin" else 0.0,
        }
    )
    chip = Circuit(design).fabricate(seed=3)
    initialise(chip, 5, 1.0, design.learning.angle)
    return chip


@pytest.mark.parametrize("nudged", [False, True], ids=["free", "nudged"])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize(
    ("family", "law"),
    [("twin", "logistic"), ("shared", "logistic"), ("twin", "softplus"), ("relay", "logistic")],
)
def test_three_engines_agree_to_a_microvolt(family: str, law: str, columns: str, nudged: bool) -> None:
    chip = chip_of(family, columns, law)
    x = np.random.default_rng(1).random(64)
    targets = np.eye(10)[4]
    free = chip.relax(x)
    state, flat_nudge = free, None
    if nudged:
        beta = 0.5 * chip.circuit.design.neuron.leak
        nudge = Nudge(SquaredError(targets[None], 1.0), np.array([beta]), 1)
        state = chip.relax(x, nudge, start=free)
        flat_nudge = SquaredErrorNudge(beta, targets)
        assert np.abs(state.voltages - free.voltages).max() > 1e-3
    assert state.settled.all() and state.stable.all() and not state.jumped.any()

    net = flatten(chip, x, flat_nudge)
    flat = operating_point(net)
    assert np.abs(voltages(chip, flat.voltages_by_node()) - state.voltages[0]).max() < MICROVOLT
    transient = chip.relax(x, nudge if nudged else None, method="transient", tolerance=1e-9)
    assert np.abs(transient.voltages - state.voltages).max() < MICROVOLT
    if not ngspice_available() and not os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
        pytest.skip("ngspice is not installed: two of the three engines were compared")
    spice = run_ngspice(write_spice(net))
    assert np.abs(voltages(chip, spice) - state.voltages[0]).max() < MICROVOLT


def test_initial_guess_saves_iterations() -> None:
    chip = chip_of("twin", "virtual-ground", "logistic")
    x = np.random.default_rng(2).random(64)
    state = chip.relax(x)
    net = flatten(chip, x)
    warm = operating_point(net, initial=initial_guess(chip, state))
    assert warm.iterations < operating_point(net).iterations
    assert np.abs(voltages(chip, warm.voltages_by_node()) - state.voltages[0]).max() < 1e-9


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_every_node_of_a_flat_chip_by_name(family: str, columns: str) -> None:
    """Of the second sample of two, against the netlist engine: nodes, ports and all that lies between."""
    chip = chip_of(family, columns, "logistic")
    x = np.random.default_rng(4).random((2, 64))
    flat = operating_point(flatten(chip, x[1])).voltages_by_node()
    found = voltages_by_node(chip, x[1], chip.relax(x), sample=1)
    assert found == pytest.approx({name: flat[name] for name in flat if name != "0"}, abs=MICROVOLT)


@pytest.mark.parametrize("diode", ["ideal", "shockley"])
def test_every_node_of_a_flat_resistive_network_by_name(diode: str) -> None:
    chip, x, free = resistive(diode, 4.0)
    flat = operating_point(flatten(chip, x)).voltages_by_node()
    found = voltages_by_node(chip, x, free)
    assert found == pytest.approx({name: flat[name] for name in flat if name != "0"}, abs=10 * MICROVOLT)


def test_a_flat_chip_takes_one_sample() -> None:
    with pytest.raises(ValueError, match="one sample of 64 voltages"):
        flatten(chip_of("twin", "passive", "logistic"), np.zeros(3))


@pytest.mark.parametrize("nudged", [False, True], ids=["free", "nudged"])
@pytest.mark.parametrize("gain", [1.0, 4.0], ids=["unit gain", "amplified"])
@pytest.mark.parametrize("diode", ["ideal", "shockley", "convolutional"])
def test_three_engines_agree_on_a_resistive_network(diode: str, gain: float, nudged: bool) -> None:
    """To a millionth, diodes, mismatched bidirectional amplifiers and all; at 350 K."""
    layers: list[int | str] = [64, 7, 6, 10]
    if diode == "convolutional":
        diode, layers = "shockley", [64, "3x3x2 stride 2", "2x2x3", 10]
    chip, x, free = resistive(diode, gain, layers)
    state, flat_nudge = free, None
    if nudged:
        targets, beta = np.eye(10)[4], 0.01 * chip.circuit.design.neuron.leak
        nudge = Nudge(SquaredError(targets[None], 1.0), np.array([beta]), 1)
        state = chip.relax(x, nudge, start=free)
        flat_nudge = SquaredErrorNudge(beta, targets)
        assert np.abs(state.voltages - free.voltages).max() > 1e-4
    assert state.settled.all() and state.stable.all() and not state.jumped.any()
    net = flatten(chip, x, flat_nudge)
    flat = operating_point(net)
    scale = np.abs(state.voltages).max()
    assert np.abs(voltages(chip, flat.voltages_by_node()) - state.voltages[0]).max() < MICROVOLT * scale
    transient = chip.relax(x, nudge if nudged else None, method="transient", tolerance=1e-9)
    assert np.abs(transient.voltages - state.voltages).max() < MICROVOLT * scale
    if not ngspice_available() and not os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
        pytest.skip("ngspice is not installed: two of the three engines were compared")
    spice = run_ngspice(write_spice(net))
    assert np.abs(voltages(chip, spice) - state.voltages[0]).max() < MICROVOLT * scale


def resistive(
    diode: str, gain: float, layers: list[int | str] | None = None
) -> tuple[Chip, np.ndarray, Equilibrium]:
    design = chip_of("twin", "passive", "logistic").circuit.design.replace(
        {
            "chip.family": "resistive", "chip.layers": layers or [64, 7, 6, 10], "chip.sharing": "replicated",
            "learning.angle": 0.0, "homeostat.mode": "off",
            "resistive.diode": diode, "resistive.gain": gain,
            "resistive.saturation": "10pA", "resistive.input_gain": 10.0,
            "resistive.barrier": "-0.3V" if diode == "shockley" else 0.0, "corner.temperature": "350K",
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate(seed=3)
    initialise(chip, 5, 1.0, 0.0)
    x = 10 * np.random.default_rng(1).random(64)
    return chip, x, chip.relax(x)


def test_the_power_of_a_resistive_network_is_that_of_its_conductances_and_diodes() -> None:
    """Counted device by device, each once, behind the amplifier that drives it."""
    chip, x, free = resistive("shockley", 4.0)
    v, heat = free.voltages, 0.0
    for bank in (bank for bank in chip.circuit.banks if not bank.returned):
        drive = {INPUT: x, BIAS: np.full(1, chip.bias_voltage)}.get(bank.pre)
        drive = chip.blocks.layer(v, bank.pre)[0] * chip.drivers[bank.name] if drive is None else drive
        below = chip.blocks.layer(v, bank.post)[0][:, None]
        for sign, plane in zip((1, -1), chip.conducting(bank.array), strict=False):
            heat += float(np.sum(plane * (sign * drive - below) ** 2))
    heat += float(np.sum(v * chip.blocks.diodes.current(v)[0]))
    assert chip.dissipation(x)(v, v, np.arange(1))[0] == pytest.approx(heat, rel=1e-9)


def test_measured_diodes_are_not_flattened() -> None:
    chip, x, _ = resistive("shockley", 1.0)
    curve = (("0V", "0A"), ("0.5V", "1uA"))
    design = chip.circuit.design.replace({"resistive.diode": "measured", "resistive.curve": curve})
    with pytest.raises(ValueError, match="SPICE has no element for measured diodes"):
        flatten(chip.copy(design), x)
