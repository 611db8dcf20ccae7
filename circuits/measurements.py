"""Measured programming curves: a CSV of conductances, one row a pulse, read with every fault named by its
line.

Only Python's csv module reads it; nothing in it is executed. The format is in docs/devices.md.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 * 2**20
MAX_ROWS = 1_000_000
MAX_DEVICES = 10_000
SCALES = {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "µS": 1e-6, "μS": 1e-6, "nS": 1e-9, "pS": 1e-12}
DIRECTIONS = {"up": 1, "+1": 1, "1": 1, "down": -1, "-1": -1}
NEEDED = ("device", "pulse", "direction")


class MeasurementError(ValueError):
    """A file of measurements that cannot be used; says where, what is wrong, and the remedy."""


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

    Raises MeasurementError, which starts with ``FILE:LINE:`` where a line is at fault.
    """
    source = os.fspath(path)
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise MeasurementError(
                f"{source}: has {size} bytes, over {MAX_BYTES}; fit fewer devices at a time"
            )
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _curves(source, csv.reader(file, strict=True))
    except OSError as error:
        raise MeasurementError(f"{source}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise MeasurementError(f"{source}: is not UTF-8; save it as CSV in UTF-8") from None


Row = tuple[int, int, int, float, int]  # cycle, pulse, direction, conductance, line


def _curves(source: str, lines: Iterator[list[str]]) -> list[Curves]:
    devices: dict[str, list[Row]] = {}
    reader = _checked(source, lines)
    _, header = next(reader, (0, []))
    places, scale = _columns(source, header)
    for count, (line, fields) in enumerate(reader, start=1):
        if count > MAX_ROWS:
            raise MeasurementError(f"{source}:{line}: over {MAX_ROWS} rows; fit fewer devices at a time")
        if len(fields) != len(header):
            fault = f"{len(fields)} fields, where the header has {len(header)}"
            raise MeasurementError(f"{source}:{line}: {fault}; give one value for each column")
        device, row = _row(f"{source}:{line}", fields, places, scale, line)
        devices.setdefault(device, []).append(row)
        if len(devices) > MAX_DEVICES:
            raise MeasurementError(f"{source}:{line}: over {MAX_DEVICES} devices; fit fewer at a time")
    if not devices:
        raise MeasurementError(f"{source}: has no rows of data; give one row for each pulse")
    return [_ordered(source, device, rows) for device, rows in devices.items()]


def _checked(source: str, lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, with their numbers; what csv refuses becomes an error with its line."""
    number = 0
    while True:
        number = getattr(lines, "line_num", number) + 1
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise MeasurementError(f"{source}:{number}: is not CSV ({error}); save it as plain CSV") from None
        if any(field.strip() for field in fields):
            yield number, [field.strip() for field in fields]


def _columns(source: str, header: list[str]) -> tuple[dict[str, int], float]:
    """Where each column is, and how many siemens the conductance's unit has."""
    names = [name.lower() for name in header]
    found = [name for name in header if name.lower().startswith("conductance")]
    wanted = "device, cycle (optional), pulse, direction, and conductance_S or conductance_uS"
    for name in NEEDED:
        if names.count(name) != 1:
            fault = "no column" if name not in names else "two columns"
            raise MeasurementError(f"{source}:1: has {fault} {name!r}; the header needs {wanted}")
    unit = found[0][len("conductance") :].strip(" _()[]") if len(found) == 1 else ""
    if unit not in SCALES:
        fault = f"{', '.join(found) or 'no column'} where one conductance with its unit is needed"
        units = ", ".join(unit for unit in SCALES if unit.isascii())
        raise MeasurementError(f"{source}:1: has {fault}: conductance_ and one of {units}")
    places = {name: names.index(name) for name in (*NEEDED, "cycle") if name in names}
    return places | {"conductance": header.index(found[0])}, SCALES[unit]


def _row(place: str, fields: list[str], places: dict[str, int], scale: float, line: int) -> tuple[str, Row]:
    text = {name: fields[column] for name, column in places.items()}
    whole = {}
    for name in ("cycle", "pulse"):
        value = text.get(name, "0")
        digits = value.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
            raise MeasurementError(f"{place}: {name} = {value!r}; give a whole number, from 0")
        whole[name] = int(digits)
    direction = DIRECTIONS.get(text["direction"].lower())
    if direction is None:
        raise MeasurementError(f"{place}: direction = {text['direction']!r}; write up or down, or +1 or -1")
    try:
        conductance = float(text["conductance"]) * scale
    except ValueError:
        conductance = math.nan
    if not 0 <= conductance <= 1:
        fault = "is negative" if conductance < 0 else "is no number of siemens from 0 to 1"
        remedy = "take the offset off" if conductance < 0 else "mind the unit in the header"
        raise MeasurementError(f"{place}: conductance = {text['conductance']!r} {fault}; {remedy}")
    if not text["device"]:
        raise MeasurementError(f"{place}: has no device; give each a name or number")
    return text["device"], (whole["cycle"], whole["pulse"], direction, conductance, line)


def _ordered(source: str, device: str, rows: list[Row]) -> Curves:
    rows = sorted(rows, key=lambda row: row[:2])
    for before, row in pairwise(rows):
        if before[:2] == row[:2]:
            fault = f"device {device}, cycle {row[0]}, pulse {row[1]} is on line {before[4]} already"
            raise MeasurementError(f"{source}:{row[4]}: {fault}; count the pulses of both directions through")
    cycle, pulse, direction = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    return Curves(device, cycle, pulse, direction, np.array([row[3] for row in rows]))
