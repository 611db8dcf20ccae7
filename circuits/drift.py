"""A chip later: drift (physics, section 7: Operating conditions)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..simulator.blocks import Array
from . import mismatch as draws

if TYPE_CHECKING:
    from .chip import Chip


def age(chip: Chip, seconds: float) -> None:
    """Let ``seconds`` [s] pass for ``chip`` without a write: each device's conductance falls as
    ``g(t) = g0 (t / t0)^-ν``; at ``t0`` (``drift.reference``) after its write it has what was written.

    ν is a device's own (:func:`drift_exponents`). Stuck devices do not drift, and the programmer's targets
    stay as they are. The time since the last write is taken as common to all devices: whatever is written,
    all of them drift anew. Ageing twice is ageing by the sum, to rounding.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a chip cannot age by {seconds!r} s; give a finite time of 0 s or more")
    drift = chip.circuit.design.drift
    passed = math.log1p(seconds / (drift.reference + chip.since_write))
    chip.since_write += seconds
    if not (seconds and (drift.exponent or drift.exponent_spread)):
        return
    for name, array in chip.devices.items():
        fall = np.exp(-passed * drift_exponents(chip, name)).astype(chip.dtype)
        np.multiply(array.actual, fall, out=array.actual, where=array.step != 0)
    chip.refresh()


def drift_exponents(chip: Chip, array: str) -> Array:
    """ν of every device of an array (2, rows, columns), ``exponent + exponent_spread z``: normal, so that a
    wide spread lets some devices rise.
    """
    drift, shape = chip.circuit.design.drift, chip.devices[array].actual.shape
    return drift.exponent + drift.exponent_spread * draws.standard_normals(chip.seed, f"{array}/drift", shape)
