"""The devices of one array of a chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulator import device_kernels
from ..simulator.blocks import Array
from . import mismatch as draws
from .families import CrossbarArray
from .specs import DeviceSpec, MismatchSpec


@dataclass
class DeviceArray:
    """The devices of one array; every field has shape (planes, rows, columns), of pairs g+ first.

    ``actual`` [S] is what conducts, at the nominal corner; ``target`` [S] is what the programmer believes it
    wrote. A write of ``d`` moves the actual conductance by ``step * d`` (``step`` = ``deviation`` times the
    device's programming gain), within ``deviation * [g_min, g_max]``. A device without a step is stuck where
    it is.
    """

    target: Array
    actual: Array
    deviation: Array
    step: Array

    def __post_init__(self) -> None:
        self.lie_flat()

    def lie_flat(self) -> None:
        """Bring every field into the order, and to the place in memory, where programming is fast."""
        for place, (name, field) in enumerate(vars(self).items()):
            setattr(self, name, device_kernels.placed(field, place))

    @classmethod
    def fabricate(
        cls, array: CrossbarArray, device: DeviceSpec, mismatch: MismatchSpec, seed: int, dtype: np.dtype
    ) -> DeviceArray:
        """Those of chip ``seed``, resting at ``g_min``. Both of a pair lie at one place, for what depends on
        it; stuck ones have no step, and open ones no conductance.
        """
        name, shape, place = array.name, array.shape, array.shape[1:]
        deviation = draws.conductance_gain(
            seed, f"{name}/conductance", shape, mismatch.conductance_sd, mismatch.distribution
        )
        deviation *= draws.gradient(seed, f"{name}/gradient", place, mismatch.gradient)
        if mismatch.correlated:
            shared = draws.correlated_normals(seed, f"{name}/correlated", place, mismatch.correlation_length)
            deviation *= np.exp(mismatch.correlated * shared)
        step = deviation * draws.conductance_gain(seed, f"{name}/programming", shape, mismatch.programming)
        opened, closed = draws.stuck(seed, f"{name}/stuck", shape, mismatch.stuck_open, mismatch.stuck_closed)
        deviation[opened] = step[opened | closed] = 0
        rest = np.full(shape, device.g_min)
        actual = deviation * np.where(closed, device.g_max, rest)
        return cls(*(field.astype(dtype) for field in (rest, actual, deviation, step)))

    @property
    def weight(self) -> Array:
        """Differential conductance ``g+ - g-`` [S] (rows, columns)."""
        return differential(self.actual)


def differential(planes: Array) -> Array:
    """``g+ - g-`` of pairs, ``g`` of single devices: (rows, columns) of (planes, rows, columns)."""
    difference: Array = planes[0] - planes[1] if len(planes) > 1 else planes[0]
    return difference
