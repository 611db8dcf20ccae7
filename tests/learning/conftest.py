"""Small chips in float64, settled to rounding, and chips made by hand from given devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.learning.training import initialise

SMALL = {
    "chip.layers": [64, 6, 5, 4],  # a design must fit a data set: 64 pixels
    "task.data": "digits",
    "learning.dtype": "float64",
    "learning.tolerance": 1e-13,
    "learning.init_scale": 1.0,
}


def _make_chip(
    changes: Mapping[str, object] | None = None, *, chip_seed: int = 3, weight_seed: int = 5
) -> Chip:
    design = Design().replace(SMALL | dict(changes or {}))
    chip = Circuit(design).fabricate(seed=chip_seed)
    start = design.learning
    initialise(chip, weight_seed, start.init_scale, start.angle, start.input_scale, start.feedback_spread)
    return chip


def _rebuilt(chip: Chip, array: str | None = None, device: tuple[int, ...] = (), by: float = 0.0) -> Chip:
    """The same chip from copies of its devices, one of them having moved ``by`` [S]."""
    devices = {
        name: replace(a, target=a.target.copy(), actual=a.actual.copy()) for name, a in chip.devices.items()
    }
    if array is not None:
        devices[array].actual[device] += by
    parts = {name: getattr(chip.blocks, name) for name in ("gain", "offset", "capacitance")}
    return Chip(chip.circuit, chip.mismatch, chip.seed, devices, parts, chip.drivers)


def _inputs(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((samples, 64))


@pytest.fixture(scope="session")
def make_chip() -> Callable[..., Chip]:
    """``make_chip({"dotted.key": value}, chip_seed=, weight_seed=)``: a small chip with starting weights."""
    return _make_chip


@pytest.fixture(scope="session")
def rebuilt() -> Callable[..., Chip]:
    """``rebuilt(chip, array, (plane, row, column), by)``: a copy with one actual conductance moved."""
    return _rebuilt


@pytest.fixture(scope="session")
def inputs() -> Callable[..., np.ndarray]:
    """``inputs(samples, seed)``: input voltages (samples, 64) in [0, 1] V."""
    return _inputs
