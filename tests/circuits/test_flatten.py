"""The crossbar engine, the netlist engine and ngspice agree on the same chip, device by device."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.flatten import SquaredErrorNudge, flatten, initial_guess, voltages
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
    ("family", "law"), [("twin", "logistic"), ("shared", "logistic"), ("twin", "softplus")]
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


def test_a_flat_chip_takes_one_sample() -> None:
    with pytest.raises(ValueError, match="one sample of 64 voltages"):
        flatten(chip_of("twin", "passive", "logistic"), np.zeros(3))
