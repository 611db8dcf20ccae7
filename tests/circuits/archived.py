"""A chip to archive, and the documented recipes for what is in its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hdf5-schema.md"
EXAMPLE, RECIPE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
PLANE = "devices/forward0/actual"


def checksum(file: h5py.Group) -> bytes:
    """The documented recipe, as the page has it."""
    names: dict[str, Callable[[h5py.Group], str]] = {}
    exec(RECIPE, names)
    return names["checksum"](file).encode()


def text(item: h5py.HLObject, name: str, value: bytes) -> None:
    """Set a text attribute as archives have them."""
    item.attrs[name] = np.bytes_(value)


def trained_chip(family: str = "twin", columns: str = "virtual-ground", dtype: str = "float32") -> Chip:
    """A small chip with every kind of mismatch, after a few programming steps, some into the limits."""
    twin = family == "twin"
    design = Design().replace(
        {
            "chip.family": family, "chip.layers": [64, 9, 7, 10], "chip.columns": columns,
            "task.data": "digits", "learning.dtype": dtype,
            "mismatch.conductance": 0.5, "mismatch.programming": 0.3, "mismatch.amplifier_gain": 0.1,
            "mismatch.amplifier_offset": "20mV", "mismatch.capacitance": 0.2,
            "mismatch.driver_gain": 0.0 if twin else 0.1,
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate(replace(design.mismatch, conductance=0.4), seed=3)
    rng = np.random.default_rng(5)
    spreads = {a.name: 1e-5 / np.sqrt(a.columns) for a in chip.circuit.arrays}
    chip.write({a.name: spreads[a.name] * rng.standard_normal(a.shape[1:]) for a in chip.circuit.arrays})
    for step in (0.5, 8.0, 0.5):
        chip.program(
            {a.name: step * spreads[a.name] * rng.standard_normal(a.shape[1:]) for a in chip.circuit.arrays}
        )
    return chip
