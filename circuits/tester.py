"""A chip's devices as tables: all of them as they are, what a tester is to program, and what it measured.

A device's address is its array, row and column there, and plane (``+`` or ``-``). A tester's list divides an
array into tiles: the address then has the tile's name, and row and column within that tile.
"""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from ..simulator.blocks import Array
from .chip import Chip
from .files import atomic_write
from .specs import DeviceSpec, ProgrammingSpec
from .tables import MeasurementError, Row, read_table
from .units import format_quantity
from .wiring import tiles

TILE = (128, 128)
ROOM = 0.1  # beyond the devices' own range, of g_max - g_min: what reading and programming may be off
OUTSIDE = 0.05  # of the devices may lie beyond that, before the unit of a tester's list is doubted
OFF, LOST = 10, 100  # times may their median be off the targets' before it is doubted, or refused
MANY = 20  # devices are not all stuck
UNIT = "check the unit in the header (conductance_S, _uS, _nS), and that the run is this chip's"
FIELDS = ("target", "actual", "deviation", "step")
ADDRESS = ("array", "row", "column", "plane")

CSV_COLUMNS = (
    "array", "banks", "row", "column", "plane", "target_S", "actual_S", "deviation", "step_gain",
    "g_min_S", "g_max_S", "chip_seed",
)  # fmt: skip


def export_csv(chip: Chip, path: str | Path) -> None:
    """Write one line for every physical device (columns: ``docs/hdf5-schema.md``), array by array.

    Numbers are the shortest that give back the same bits in the chip's dtype.
    """
    with atomic_write(path) as part, part.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for array in chip.circuit.arrays:
            banks = "+".join(bank.name for bank in chip.circuit.banks if bank.array == array.name)
            fields = [getattr(chip.devices[array.name], name) for name in FIELDS]
            for plane, row in np.ndindex(array.shape[:2]):
                texts = (values[plane, row].astype(str).tolist() for values in fields)
                before = map(repeat, (array.name, banks, row))
                after, sign = map(repeat, (*chip.limits, chip.seed)), array.plane_names[plane]
                lines = zip(*before, range(array.columns), repeat(sign), *texts, *after, strict=False)
                writer.writerows(lines)


def pulses_to(target: Array, device: DeviceSpec, spec: ProgrammingSpec) -> Array:
    """Pulses up that take a nominal device from ``g_min`` nearest to ``target`` [S] (whole numbers).

    The law's recurrence (:mod:`.programming`) solved for their number; a target that no number of pulses
    reaches, at a soft limit, gets those that come within half a pulse of it.
    """
    x = np.clip((target - device.g_min) / (device.g_max - device.g_min), 0, 1)
    stride, bend = spec.pulse * (1 + spec.asymmetry), spec.nonlinearity
    if not bend:
        return np.rint(x / stride)
    rest, keep = 0.5 + 1 / bend, max(1 - stride * bend, 0.0)
    if keep == 0:
        return np.rint(x)  # one pulse goes all the way
    share = np.maximum(1 - x / rest, keep ** math.ceil(math.log(stride / 2) / math.log(keep)))
    counted: Array = np.rint(np.log(share) / math.log(keep))
    return counted


def tile_of(chip: Chip) -> tuple[int, int]:
    """Rows and columns of the tiles that a chip's arrays are made of, as its wires have them, or ``TILE``."""
    wires = chip.circuit.design.wires
    return (wires.tile, wires.tile) if wires.resistive else TILE


def write_list(chip: Chip, path: str | Path, tile: tuple[int, int] | None = None) -> int:
    """Write every device's target [S], and the pulses that take a nominal one there from ``g_min``, tile by
    tile (default: :func:`tile_of`), row by row; the number of devices.
    """
    design, count, tile = chip.circuit.design, 0, tile or tile_of(chip)
    with atomic_write(path) as part, part.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["array", "tile", *ADDRESS[1:], "target_S", "pulses", "tile_size"])
        size = f"{tile[0]}x{tile[1]}"
        for name, array, planes in (
            (a.name, chip.devices[a.name], a.plane_names) for a in chip.circuit.arrays
        ):
            pulses = pulses_to(array.target.astype(np.float64), design.device, design.programming)
            for where, rows, columns in tiles(array.target.shape[1:], tile):
                for plane, row, column in np.ndindex(len(planes), len(rows), len(columns)):
                    place = plane, rows[row], columns[column]
                    target, sent = str(array.target[place]), int(pulses[place])
                    writer.writerow([name, where, row, column, planes[plane], target, sent, size])
                    count += 1
    return count


@dataclass(frozen=True)
class Deviation:
    """How measured conductances differ, over an array's measured devices (``count`` of ``devices``), from
    those that a chip had (``rms``, ``largest``) and from its programmer's targets (``target_rms``,
    ``target_largest``): root mean square and largest, as shares of ``g_max - g_min``.
    """

    array: str
    count: int
    devices: int
    rms: float
    largest: float
    target_rms: float
    target_largest: float


def take_measured(
    chip: Chip, path: str | os.PathLike[str], tile: tuple[int, int] | None = None
) -> list[Deviation]:
    """:func:`read_measured`, put into the chip by :func:`put_measured`."""
    return put_measured(chip, read_measured(chip, path, tile))


def read_measured(
    chip: Chip, path: str | os.PathLike[str], tile: tuple[int, int] | None = None
) -> dict[str, Array]:
    """Measured conductances [S] by array (planes, rows, columns), nan where the file has none.

    The file has the columns of an address and ``conductance_UNIT``. With a column ``tile``, rows and columns
    are those within the tile (default: :func:`tile_of`); where the file says so (``tile_size``), its tiles
    must be of this size. Without, they are the whole array's. Raises MeasurementError for a file that does
    not fit the chip, with all lines that do not.
    """
    tile = tile or tile_of(chip)
    found = {name: np.full(array.actual.shape, np.nan) for name, array in chip.devices.items()}
    parts = {name: {part[0]: part[1:] for part in tiles(v.shape[1:], tile)} for name, v in found.items()}
    planes = {array.name: array.plane_names for array in chip.circuit.arrays}

    def take(row: Row, scale: float) -> None:
        texts = row.texts
        if texts["array"] not in found:
            arrays = ", ".join(found)
            raise MeasurementError(f"{row.place}: array = {texts['array']!r}; the chip has {arrays}")
        known = planes[texts["array"]]
        if texts["plane"] not in known:
            raise MeasurementError(f"{row.place}: plane = {texts['plane']!r}; write {' or '.join(known)}")
        values = found[texts["array"]]
        down, across = _part(row, parts[texts["array"]], tile) or map(range, values.shape[1:])
        place = (
            known.index(texts["plane"]),
            down[row.whole("row", len(down) - 1)],
            across[row.whole("column", len(across) - 1)],
        )
        measured = row.siemens(scale)
        if not np.isnan(values[place]):
            raise MeasurementError(f"{row.place}: this device is in the file already; give each once")
        values[place] = measured

    read_table(path, ADDRESS, take, ("tile", "tile_size"))
    if all(np.isnan(values).all() for values in found.values()):
        raise MeasurementError(f"{Path(path)}: has no rows of data; give one row for each device")
    return found


def put_measured(chip: Chip, measured: dict[str, Array]) -> list[Deviation]:
    """Put the conductances of :func:`read_measured` into the chip, and say how they differ from its own.

    Devices without one stay as they are. The programmer's targets stay: what it believes has not changed. A
    device above its own largest conductance is taken for one of a range as much wider.
    """
    return [_put(chip, name, values) for name, values in measured.items()]


def doubts(chip: Chip, measured: dict[str, Array]) -> list[str]:
    """What makes one doubt the unit of the conductances of :func:`read_measured`, for a warning; nothing if
    nothing does. ``chip`` is the one before they are put into it, whose devices tell how far they spread.

    Raises MeasurementError where their median is off the targets' by so many times that nothing of what the
    chip learned could be in them.
    """
    g_min, g_max = chip.limits
    room, rest = ROOM * (g_max - g_min), g_min + ROOM * (g_max - g_min)
    outside, count, pairs = 0, 0, []
    for name, values in measured.items():
        array, of = chip.devices[name], ~np.isnan(values)
        spread = array.deviation[array.deviation > 0]
        low, high = (g * edge for g, edge in zip((g_min, g_max), _edges(spread), strict=True))
        outside += int(np.count_nonzero((values[of] < low - room) | (values[of] > high + room)))
        count += int(np.count_nonzero(of))
        pairs.append(np.stack((values[of], array.target[of])))
    found, target = np.concatenate(pairs, axis=1)
    written = target > rest if np.any(target > rest) else np.ones(count, bool)  # at rest, noise decides
    middle, wanted = (float(np.median(g[written])) for g in (found, target))
    lines = []
    if not wanted / OFF <= middle <= wanted * OFF:
        fault = (
            f"the median of the measured conductances is {_rounded(middle)}, and that of their targets "
            f"{_rounded(wanted)}"
        )
        if written.sum() >= MANY and not wanted / LOST <= middle <= wanted * LOST:
            raise MeasurementError(f"{fault}: nothing was taken over; {UNIT} and was programmed")
        lines.append(fault)
    if outside > (OUTSIDE + chip.circuit.design.mismatch.stuck_open) * count:
        lines.append(
            f"{outside} of {count} measured conductances ({outside / count:.0%}) are beyond "
            f"{_rounded(g_min)} to {_rounded(g_max)}, the range of the design's devices, and their mismatch"
        )
    return [*lines, UNIT] if lines else []


def _rounded(conductance: float) -> str:
    return format_quantity(float(f"{conductance:.3g}"), "S")


def _edges(spread: Array) -> tuple[float, float]:
    """The least and largest deviation of an array's devices, 1 among them."""
    return float(spread.min(initial=1.0)), float(spread.max(initial=1.0))


def _part(
    row: Row, parts: dict[str, tuple[range, range]], tile: tuple[int, int]
) -> tuple[range, range] | None:
    """Rows and columns of the tile that a line of a table names; None if it has no tiles."""
    size, theirs = f"{tile[0]}x{tile[1]}", row.texts.get("tile_size", "")
    if theirs and theirs != size:
        fault = f"tile_size = {theirs!r}, where tiles of {size} are meant"
        raise MeasurementError(f"{row.place}: {fault}; pass --tile {theirs}")
    name = row.texts.get("tile")
    if name is None and theirs:
        raise MeasurementError(f"{row.place}: has tile_size and no column tile; keep both, or neither")
    if name is None:
        return None
    if name not in parts:
        fault = f"tile = {name!r}; {row.texts['array']} has {len(parts)} of {size}"
        raise MeasurementError(f"{row.place}: {fault}, from r0c0; mind --tile")
    return parts[name]


def _put(chip: Chip, name: str, values: Array) -> Deviation:
    array, measured = chip.devices[name], ~np.isnan(values)
    g_min, g_max = chip.limits
    before, target = (
        _rms_and_largest((values - g)[measured] / (g_max - g_min)) for g in (array.actual, array.target)
    )
    array.actual[measured] = values[measured]
    # Above its limit, deviation times g_max, a device is one of a wider range. Below g_min it is as if it had
    # drifted there: its range, and its steps, stay.
    within = array.deviation[measured]
    wider = np.where(array.step[measured] > 0, np.maximum(within, array.actual[measured] / g_max), within)
    array.step[measured] *= np.divide(wider, within, out=np.ones_like(wider), where=within > 0)
    array.deviation[measured] = wider
    chip.refresh()
    return Deviation(name, int(measured.sum()), measured.size, *before, *target)


def _rms_and_largest(off: Array) -> tuple[float, float]:
    return (float(np.sqrt(np.mean(off**2))), float(np.abs(off).max())) if off.size else (0.0, 0.0)
