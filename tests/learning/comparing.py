"""Common ground of the tests that compare gradients: costs, chips, how far apart, how fast an error falls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ohmostat.circuits.chip import Chip
from ohmostat.learning.nudges import CrossEntropy, SquaredError, beta_in_watts
from ohmostat.learning.rules import Gradients

SAMPLES = 3
SQUARED = SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0)
ENTROPY = CrossEntropy(np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.array([0, 1, 2]), 1.0)
PARTS: dict[str, object] = {
    "mismatch.conductance": 0.5, "mismatch.amplifier_gain": 0.15, "learning.init_scale": 0.6,
}  # fmt: skip
FAMILIES: dict[str, dict[str, object]] = {
    "twin": {"learning.angle": 60.0},
    "shared": {"chip.family": "shared", "mismatch.driver_gain": 0.2},
}


def watts(chip: Chip, beta: float) -> float:
    """β [W] of a design's β."""
    return beta_in_watts(chip.circuit.design, beta)


def distance(found: Gradients, expected: Gradients, names: Iterable[str] | None = None) -> float:
    """Largest error of a device's gradient, relative to the largest gradient of its array."""
    errors = []
    for name in expected if names is None else names:
        true = expected[name].devices()
        errors.append(float(np.abs(found[name].devices() - true).max() / np.abs(true).max()))
    return max(errors)


def order(steps: Sequence[float], errors: Sequence[float]) -> float:
    """Slope of the logarithm of an error over that of the step that makes it."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
