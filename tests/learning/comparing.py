"""How far one gradient is from another, and how fast an error falls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ohmostat.learning.rules import Gradients


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
