"""Runs, or sweeps, beside each other: what differs in their designs, and in what they came to.

The first is the base: differences are the others' less its own. Chip k has the same seed in every sweep, so
that differences are taken chip by chip, over the chips that two sweeps share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..circuits.archive import Run
from ..circuits.design import Design
from ..circuits.specs import KEYS
from .points import Level, Point, text_of, value_of
from .quantities import GROUPS, amount, in_group, label
from .sweep_result import COLUMNS, SweepResult

Cells = NDArray[np.float64]
Mean = tuple[float, float]
"""Over chips, and its standard error: NaN where there is one chip alone."""
ABOUT = (
    "Differences are from the first, chip by chip over the chips that two files share; "
    "± is one standard error, where there are several chips."
)
WITHOUT = (  # of a chip as measured
    "What they came to is not compared: {names} has no history, being no chip that was trained as it is. "
    "'ohmostat corners' of {files} tells the accuracy of each, and 'ohmostat measured' told how far "
    "conductances are off."
)
SHARED = (*(name for name, _ in COLUMNS), "inference_time", "inference_energy", "step_time", "step_energy")


class Row(NamedTuple):
    """One quantity under an ``arm`` at a ``point`` (of a run: neither), and its final ``values`` in every
    file, by chip (chips,).
    """

    quantity: str
    arm: str
    point: Point
    values: tuple[Cells, ...]

    def words(self) -> str:
        """What it is."""
        place = in_words(self.arm, self.point)
        return label(self.quantity) + (f" ({place})" if place else "")

    def means(self) -> list[Mean]:
        """Of every file."""
        return [_mean(cells) for cells in self.values]

    def differences(self) -> list[Mean]:
        """Of every other file from the first."""
        base, *others = self.values
        both = ((base[: len(cells)], cells[: len(base)]) for cells in others)
        return [_mean(cells - first) for first, cells in both]

    def cells(self) -> list[str]:
        """For a table: :meth:`means`, then :meth:`differences`."""
        found = [_amount(self.quantity, mean) for mean in self.means()]
        return found + [_amount(self.quantity, mean, sign=True) for mean in self.differences()]


@dataclass(frozen=True)
class Comparison:
    """What is compared: ``names`` of the files, their ``designs`` and ``chips`` (seeds, in words), and the
    ``rows`` of what they came to; without any, a ``remark`` says where to look.
    """

    names: tuple[str, ...]
    designs: tuple[Design, ...]
    chips: tuple[str, ...]
    rows: tuple[Row, ...]
    remark: str = ""

    def differing(self) -> list[tuple[str, ...]]:
        """The keys in which the designs differ, each with every design's value as TOML; and the chips."""
        found = [(key, *(KEYS[key].literal(value_of(d, key)) for d in self.designs)) for key in KEYS]
        found.append(("chip seeds", *self.chips))
        return [row for row in found if len(set(row[1:])) > 1]

    def lines(self) -> list[tuple[str, ...]]:
        """Every row for a table, beneath :meth:`heads`."""
        return [(row.words(), *row.cells()) for row in self.rows]

    def heads(self) -> tuple[str, ...]:
        """Of the columns that :meth:`Row.cells` makes."""
        first, *others = self.names
        return (*self.names, *(f"{name} - {first}" for name in others))


def compare_runs(names: Sequence[str], runs: Sequence[Run]) -> Comparison:
    """Runs' last epochs, in every quantity that all of them recorded: none where one is a chip as measured,
    whose history was another chip's. Raises ValueError where one is a chip that was never trained.
    """
    bare = [name for name, run in zip(names, runs, strict=True) if not any(map(len, run.history.values()))]
    for name, run in zip(names, runs, strict=True):
        if name in bare and run.readout is None:
            raise ValueError(f"{name}: holds a chip without a history; give what 'ohmostat train' wrote")
    common = set() if bare else set.intersection(*(set(run.history) for run in runs))
    rows = [
        Row(quantity, "", (), tuple(run.history[quantity][-1:] for run in runs))
        for group in GROUPS
        for quantity in in_group(group, common)
    ]
    designs, chips = tuple(run.chip.circuit.design for run in runs), tuple(str(run.chip.seed) for run in runs)
    remark = WITHOUT.format(names=", ".join(bare), files=" and of ".join(names)) if bare else ""
    return Comparison(distinct(names), designs, chips, tuple(rows), remark)


def compare_sweeps(names: Sequence[str], sweeps: Sequence[SweepResult]) -> Comparison:
    """Sweeps' final values at the points, and under the arms, that all of them have. Raises ValueError where
    there are none.
    """
    places = list(shared(sweeps))
    if not places:
        files = " and ".join(names)
        raise ValueError(f"{files} share no point and arm; sweep the same levels to compare them")
    there = [(sweep.values, row_of(sweep)) for sweep in sweeps]
    rows = [
        Row(quantity, arm, point, tuple(found[quantity][arm][row[frozenset(point)]] for found, row in there))
        for quantity in SHARED
        for arm, point in places
        if all(arm in sweep.values.get(quantity, {}) for sweep in sweeps)
    ]
    designs, chips = (s.design for s in sweeps), (f"0 to {s.chips - 1}" for s in sweeps)
    return Comparison(distinct(names), tuple(designs), tuple(chips), tuple(rows))


def shared(sweeps: Sequence[SweepResult]) -> Iterator[tuple[str, Point]]:
    """Arms and points that all the sweeps have, in the order of the first."""
    first, *others = sweeps
    rows = [row_of(other) for other in others]
    for point in first.points:
        if all(frozenset(point) in there for there in rows):
            yield from ((arm, point) for arm in first.arms if all(arm in other.arms for other in others))


def row_of(sweep: SweepResult) -> dict[frozenset[tuple[str, Level]], int]:
    """Where a sweep has each of its points, in whatever order their keys are."""
    return {frozenset(point): row for row, point in enumerate(sweep.points)}


def in_words(arm: str, point: Point) -> str:
    """An arm at a point."""
    return f"{arm}, {text_of(point)}" if point else arm


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number before each where two are the same."""
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{k}: {name}" for k, name in enumerate(names, 1))


def _mean(cells: Cells) -> Mean:
    chips = len(cells)
    return float(cells.mean()), float(cells.std(ddof=1)) / math.sqrt(chips) if chips > 1 else math.nan


def _amount(quantity: str, found: Mean, sign: bool = False) -> str:
    mean, error = found
    text = ("+" if sign and mean > 0 else "") + amount(quantity, mean)
    return text if math.isnan(error) else f"{text} ± {amount(quantity, float(f'{error:.2g}'))}"


def plain(what: Comparison) -> dict[str, object]:
    """For a program: the keys that differ, with every design's value as TOML, and every row's numbers."""
    rows = [
        {
            "quantity": row.quantity, "arm": row.arm, "point": dict(row.point),
            "means": row.means(), "differences": row.differences(),
        }
        for row in what.rows
    ]  # fmt: skip
    return {
        "names": what.names,
        "differing": {key: values for key, *values in what.differing()},
        "rows": rows,
        "remark": what.remark,
    }


def text_table(what: Comparison) -> str:
    """For a terminal: the keys that differ, and the final figures."""
    keys = what.differing()
    designs = _columns([("key", *what.names), *keys]) if keys else "The designs are equal."
    if what.remark:
        return f"{designs}\n\n{what.remark}"
    return f"{designs}\n\n{_columns([('at the end of training', *what.heads()), *what.lines()])}\n\n{ABOUT}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])
