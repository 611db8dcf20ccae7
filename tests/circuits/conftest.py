"""Small mismatched chips, and Kirchhoff's law for them device by device, in plain loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ohmostat.circuits.archive import Run, write_run
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.families import BIAS, INPUT

from .archived import trained_chip

Array = np.ndarray[Any, Any]
MISMATCH = {
    "mismatch.conductance": 0.4,
    "mismatch.programming": 0.3,
    "mismatch.amplifier_gain": 0.1,
    "mismatch.amplifier_offset": "30mV",
    "mismatch.capacitance": 0.3,
}


class Device(NamedTuple):
    """One conductance ``g`` [S] from a driver of ``gain`` on a port (layer, index) to a node."""

    g: float
    gain: float
    port: tuple[int, int]
    node: tuple[int, int]


class Flat:
    """The chip as a list of devices; states are in layer order, one sample at a time."""

    def __init__(self, chip: Chip) -> None:
        self.chip, self.devices = chip, list[Device]()
        for bank in chip.circuit.banks:
            planes = chip.devices[bank.array].actual
            for sign, plane in zip((1.0, -1.0), planes, strict=True):
                for row in range(plane.shape[0]):
                    for column in range(plane.shape[1]):
                        node, port = (column, row) if bank.transposed else (row, column)
                        gain = float(chip.drivers[bank.name][port]) if bank.driven else 1.0
                        ends = (bank.pre, port), (bank.post, node)
                        self.devices.append(Device(float(plane[row, column]), sign * gain, *ends))

    def natural(self, state: Array) -> Array:
        """A state of the engine (..., N) in layer order."""
        layers = range(len(self.chip.circuit.sizes))
        return np.concatenate([self.chip.blocks.layer(state, k) for k in layers], axis=-1)

    def neuron(self, v: Array) -> Array:
        spec = self.chip.circuit.design.neuron
        gain, offset = (
            self.natural(np.asarray(x, float)) for x in (self.chip.blocks.gain, self.chip.blocks.offset)
        )
        swing = spec.high - spec.low
        if spec.law == "softplus":
            u = (v - offset) / spec.knee
            return spec.low + gain * spec.knee * (
                np.logaddexp(0, u) - np.logaddexp(0, u - swing / (gain * spec.knee))
            )
        return spec.low + swing / 2 * (1 + np.tanh(2 * gain * (v - offset) / swing))

    def balance(self, v: Array, x: Array) -> tuple[Array, float]:
        """Current into every node [A] and power that devices and leaks turn into heat [W]."""
        spec, kappa = self.chip.circuit.design.neuron, self.chip.circuit.kappa
        starts = np.cumsum([0, *self.chip.circuit.sizes])
        s, current = self.neuron(v), -spec.leak * v
        heat = float(np.sum(spec.leak * v**2))
        for d in self.devices:
            layer, index = d.port
            volts = x[index] if layer == INPUT else spec.high if layer == BIAS else s[starts[layer] + index]
            node = starts[d.node[0]] + d.node[1]
            across = d.gain * volts - kappa * v[node]
            current[node] += d.g * across
            heat += d.g * across**2
        return current, heat


def make_chip(
    family: str = "twin",
    columns: str = "virtual-ground",
    seed: int = 3,
    dtype: str = "float64",
    **more: object,
) -> Chip:
    """A chip 64-6-5-4 with every kind of mismatch and random weights."""
    changes = {
        "chip.family": family, "chip.columns": columns, "chip.layers": [64, 6, 5, 4], "task.data": "digits",
        "learning.dtype": dtype, "learning.tolerance": 1e-12 if dtype == "float64" else 1e-6, **MISMATCH,
        "mismatch.driver_gain": 0.1 if family == "shared" else 0.0,
    }  # fmt: skip
    design = Design().replace(changes | {key.replace("__", "."): value for key, value in more.items()})
    chip = Circuit(design).fabricate(seed=seed)
    chip.write(random_weights(chip))
    return chip


def random_weights(chip: Chip, seed: int = 0, scale: float = 0.7) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    leak = chip.circuit.design.neuron.leak
    return {
        a.name: scale * leak * rng.standard_normal((a.rows, a.columns)) / np.sqrt(a.columns)
        for a in chip.circuit.arrays
    }


@pytest.fixture(scope="session")
def chip_of() -> Callable[..., Chip]:
    """``chip_of(family, columns, seed, dtype, section__key=value)``."""
    return make_chip


@pytest.fixture(scope="session")
def weights_of() -> Callable[..., dict[str, Array]]:
    """``weights_of(chip, seed, scale)``: random differential conductances [S] for every array."""
    return random_weights


@pytest.fixture(scope="session")
def flat() -> type[Flat]:
    """``flat(chip)``: the oracle."""
    return Flat


# -- archives --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chip() -> Chip:
    return trained_chip()


@pytest.fixture
def run(chip: Chip) -> Run:
    history = {"accuracy": np.array([0.1, 0.5, 0.7]), "alignment/forward0": np.array([0.9, np.nan, 1.0])}
    readout = (np.arange(30, dtype=np.float32).reshape(3, 10), np.arange(3.0))
    return Run(chip, readout, history, {"rule": "ep", "β": 0.5, "probes": 5, "note": " µS, \n ", "none": ""})


@pytest.fixture
def path(tmp_path: Path, run: Run) -> Path:
    write_run(tmp_path / "run.h5", run)
    return tmp_path / "run.h5"
