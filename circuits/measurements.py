"""Measured programming curves: a table of conductances, one row a pulse (docs/devices.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..simulator.faults import Faults
from .tables import MeasurementError, Row, read_table

MAX_DEVICES = 10_000
DIRECTIONS = {"up": 1, "+1": 1, "1": 1, "down": -1, "-1": -1}
AROUND = 4  # steps on each side of a reading that tell how far the device steps there
FAR, SLACK = 8.0, 0.03  # when a reading is wrong (:func:`without_wrong`)
MOST_WRONG = 0.1  # of a device's readings
NEEDED = ("device", "pulse", "direction")


@dataclass(frozen=True)
class Curves:
    """One device's rows (n,), ordered by cycle and pulse.

    ``conductance`` [S] is what was read after the row's pulse, of ``direction`` +1 or -1; ``follows`` tells
    whether the row before is the reading just before that pulse, so that their difference is one step.
    """

    device: str
    cycle: NDArray[np.int64]
    pulse: NDArray[np.int64]
    direction: NDArray[np.int64]
    conductance: NDArray[np.float64]

    @property
    def follows(self) -> NDArray[np.bool_]:
        """(n,) whether a row is one pulse after the row before it, in the same cycle."""
        after = np.zeros(len(self.pulse), bool)
        after[1:] = (np.diff(self.pulse) == 1) & (np.diff(self.cycle) == 0)
        return after


def read_curves(path: str | os.PathLike[str]) -> list[Curves]:
    """Read ``device, cycle, pulse, direction, conductance_UNIT`` (cycle may be left out), device by device.

    Raises MeasurementError, which starts with ``FILE:LINE:`` where a line is at fault, and tells of all.
    """
    source, devices = os.fspath(path), dict[str, list[Pulse]]()

    def take(row: Row, scale: float) -> None:
        name = row.texts["device"]
        if not name:
            raise MeasurementError(f"{row.place}: has no device; give each a name or number")
        devices.setdefault(name, []).append(_pulse(row, scale))

    read_table(path, NEEDED, take, ("cycle",))
    if not devices:
        raise MeasurementError(f"{source}: has no rows of data; give one row for each pulse")
    if len(devices) > MAX_DEVICES:
        raise MeasurementError(f"{source}: {len(devices)} devices, over {MAX_DEVICES}; fit fewer at a time")
    faults = Faults(MeasurementError)
    curves = [_ordered(source, device, pulses, faults) for device, pulses in devices.items()]
    faults.tell()
    return curves


Pulse = tuple[int, int, int, float, int]  # cycle, pulse, direction, conductance, line


def _pulse(row: Row, scale: float) -> Pulse:
    cycle = row.whole("cycle") if "cycle" in row.texts else 0
    direction = DIRECTIONS.get(row.texts["direction"].lower())
    if direction is None:
        fault = f"direction = {row.texts['direction']!r}"
        raise MeasurementError(f"{row.place}: {fault}; write up or down, or +1 or -1")
    return cycle, row.whole("pulse"), direction, row.siemens(scale), row.line


def _ordered(source: str, device: str, rows: list[Pulse], faults: Faults) -> Curves:
    rows = sorted(rows, key=lambda row: row[:2])
    for before, row in pairwise(rows):
        if before[:2] == row[:2]:
            fault = f"device {device}, cycle {row[0]}, pulse {row[1]} is on line {before[4]} already"
            remedy = "count the pulses of both directions through"
            with faults:
                raise MeasurementError(f"{source}:{row[4]}: {fault}; {remedy}")
    cycle, pulse, direction = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    return Curves(device, cycle, pulse, direction, np.array([row[3] for row in rows]))


def without_wrong(curves: Curves) -> Curves:
    """The rows whose readings are not far off those on both their sides.

    Between turns a device goes one way, so that only noise, and variation of the pulses, makes a reading lie
    beyond both the one before and the one after, or beyond the two at a distance of two. Far is ``FAR`` times
    as much as all but a fifth of them are, ``SLACK`` of the range, and, around a turn, the steps there. Where
    more than ``MOST_WRONG`` of them are, that is how the device is, and all stay.
    """
    g = curves.conductance
    if len(g) < 2 * AROUND:
        return curves
    low, high = np.quantile(g, (0.02, 0.98))
    steps = np.pad(np.abs(np.diff(g)), (AROUND, AROUND), mode="edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(steps, 2 * AROUND), axis=1)
    wrong = np.zeros(len(g), bool)
    for lag in (1, 2):
        rows = slice(lag, -lag)
        before, after = g[rows] - g[: -2 * lag], g[rows] - g[2 * lag :]
        beyond = np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
        way = np.lib.stride_tricks.sliding_window_view(curves.direction, 2 * lag + 1)
        turn = np.ptp(way, axis=1) > 0
        usual = float(np.quantile(beyond if turn.all() else beyond[~turn], 0.8))
        far = FAR * usual + SLACK * (high - low) + np.where(turn, (1 + lag) * local[rows], 0.0)
        wrong[rows] |= (beyond > far) & (curves.cycle[: -2 * lag] == curves.cycle[2 * lag :])
    if not wrong.any() or wrong.mean() > MOST_WRONG:
        return curves
    kept = ~wrong
    return Curves(curves.device, curves.cycle[kept], curves.pulse[kept], curves.direction[kept], g[kept])
