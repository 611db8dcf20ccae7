"""What a sweep found: final values by quantity, arm, point and chip; as a table, and in one line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..circuits.design import Design
from ..circuits.files import check_hdf5
from .points import Level, Point, checked, shown, texts_of
from .quantities import known
from .sweep import ARMS, SCHEMA, SCHEMA_VERSION, RunKey, SweepError

REMEDY = "make one with 'ohmostat sweep'"
ALIGNED = 0.95  # a first-layer cosine to the adjoint below this is a wrong gradient


@dataclass(frozen=True)
class SweepResult:
    """A sweep's final values: ``values[quantity][arm]`` is (points, chips)."""

    design: Design
    points: tuple[Point, ...]
    arms: tuple[str, ...]
    values: dict[str, dict[str, NDArray[np.float64]]]

    def mean_sd(self, quantity: str, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (n - 1) over chips, each (points,)."""
        cells = self.values[quantity][arm]
        one = cells.shape[-1] == 1  # no spread to be had
        spread = np.full(cells.shape[:-1], np.nan) if one else cells.std(axis=-1, ddof=1)
        return cells.mean(axis=-1), spread

    @property
    def chips(self) -> int:
        """Chips at every point."""
        return int(next(iter(self.values["accuracy"].values())).shape[-1])

    def levels(self, key: str) -> tuple[Level, ...]:
        """The different values of a key, in the order of the points; empty where it was not given."""
        return tuple(dict.fromkeys(dict(point)[key] for point in self.points if key in dict(point)))

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that take more than one value."""
        keys = dict.fromkeys(key for point in self.points for key, _ in point)
        return tuple(key for key in keys if len(self.levels(key)) > 1)

    @property
    def is_grid(self) -> bool:
        """Whether every combination of the varied keys' levels is there."""
        count = int(np.prod([len(self.levels(key)) for key in self.varied], dtype=np.int64))
        return len(self.points) == count

    @property
    def numeric(self) -> list[str]:
        """The varied keys whose levels are numbers."""
        return [key for key in self.varied if all(isinstance(v, int | float) for v in self.levels(key))]

    def lines(self, key: str) -> dict[str, list[int]]:
        """Points that differ in that key alone, by what the other varied keys are there."""
        found: dict[str, list[int]] = {}
        others = set(self.varied) - {key}
        rest = [tuple(item for item in point if item[0] in others) for point in self.points]
        for row, text in enumerate(texts_of(rest)):
            found.setdefault(text, []).append(row)
        return found

    @property
    def unchanged(self) -> dict[str, tuple[Level, ...]]:
        """The varied keys, with their levels, along which every final value of every run stays the same, to
        the last bit.
        """
        cells = [by_arm[arm] for by_arm in self.values.values() for arm in by_arm]
        found = {}
        for key in self.varied:
            lines = [rows for rows in self.lines(key).values() if len(rows) > 1]
            same = (np.array_equal(c[rows], c[rows[:1] * len(rows)], True) for rows in lines for c in cells)
            if lines and all(same):
                found[key] = self.levels(key)
        return found

    def numbers(self, key: str) -> NDArray[np.float64]:
        """The values of a numeric key at every point (points,). Raises SweepError where it has none."""
        try:
            return np.array([float(dict(point)[key]) for point in self.points])  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            known = ", ".join(self.varied) or "none"
            raise SweepError(f"the sweep has no numeric values of {key!r}; it varied {known}") from None


def read_sweep(path: Path) -> SweepResult:
    """Read a merged sweep file. Raises ArchiveError or SweepError if it is not one."""
    with _opened(path) as file:
        return _result(file)


def read_histories(path: Path, result: SweepResult, quantity: str) -> dict[str, NDArray[np.float64]]:
    """One quantity's whole course by arm, (points, chips, epochs + 1); NaN where a run had fewer epochs, or
    lacks it.
    """
    with _opened(path) as file:
        found = {
            (arm, i, chip): np.asarray(history.get(quantity, []), np.float64)
            for arm, i, chip, history in _histories(file, result.points, result.arms, result.chips)
        }
    longest = max(len(values) for values in found.values())
    courses = {arm: np.full((len(result.points), result.chips, longest), np.nan) for arm in result.arms}
    for (arm, point, chip), values in found.items():
        courses[arm][point, chip, : len(values)] = values
    return courses


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A sweep file of this schema; what cannot be read is an ArchiveError or a SweepError."""
    import h5py

    check_hdf5(path, REMEDY)
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("schema") != SCHEMA:
                raise SweepError(f"{path} is not a sweep file; {REMEDY}")
            if int(file.attrs["schema_version"]) > SCHEMA_VERSION:
                raise SweepError(f"{path} is of a newer schema; read it with a newer ohmostat")
            if int(file.attrs["schema_version"]) < SCHEMA_VERSION:
                raise SweepError(f"{path} was made by an earlier ohmostat; run its sweep again")
            yield file
    except SweepError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SweepError(f"{path} cannot be read as a sweep file ({error}); {REMEDY}") from error


def _result(file: Any) -> SweepResult:
    arms, chips = tuple(str(a) for a in file.attrs["arms"]), int(file.attrs["chips"])
    points = tuple(
        tuple((str(key), tuple(value) if isinstance(value, list) else value) for key, value in point)
        for point in json.loads(file["points"][()])
    )
    for point in points:
        checked(point)
    if strange := [arm for arm in arms if arm not in ARMS]:
        raise ValueError(f"there is no arm {strange[0]!r:.60}")
    values: dict[str, dict[str, NDArray[np.float64]]] = {}
    for arm, i, chip, history in _histories(file, points, arms, chips):
        for name, last in _last_values(history):
            empty = np.full((len(points), chips), np.nan)
            values.setdefault(name, {}).setdefault(arm, empty)[i, chip] = last
    if "accuracy" not in values:
        raise ValueError("its runs record no accuracy")
    return SweepResult(Design.from_text(str(file.attrs["design"])), points, arms, values)


def _histories(
    file: Any, points: tuple[Point, ...], arms: tuple[str, ...], chips: int
) -> Iterator[tuple[str, int, int, Any]]:
    """Every run's arm, point, chip and group of histories."""
    for arm in arms:
        for i, point in enumerate(points):
            for chip in range(chips):
                yield arm, i, chip, file["runs"][RunKey(arm, point, chip).name]["history"]


def _last_values(history: Any) -> Iterator[tuple[str, float]]:
    names: list[str] = []
    history.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    for name in names:
        yield name, float(history[name][-1])


COLUMNS = (
    ("accuracy", "accuracy"),
    ("alignment/forward0", "alignment"),
    ("measured/forward0", "measured"),
    ("angle/forward1", "angle [deg]"),
    ("unsettled_test", "unsettled"),
    ("left_out", "left out"),
    ("unstable", "unstable"),
)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, a rule beneath its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


LEGEND = {
    "accuracy": "accuracy: of the test",
    "alignment/forward0": "alignment: cosine of EP's gradient in the first array (nudge to 0) to the "
    "adjoint's, whatever the arm learned by",
    "measured/forward0": "measured: the same of what the arm learned by",
    "angle/forward1": "angle: between forward and feedback weights",
    "unsettled_test": "unsettled: share of test samples",
    "left_out": "left out: share of training samples, of no use to an update",
    "unstable": "unstable: share of those certified",
}  # of each of the columns, in a few words


def legend(result: SweepResult) -> str:
    """What the columns of a table are."""
    words = "; ".join(LEGEND[name] for name, _ in COLUMNS if name in result.values)
    return f"{words}. Mean ± standard deviation over chips."


def accuracy_gap(result: SweepResult) -> str:
    """In a sentence or two: what EP without the homeostat loses to the adjoint, over all levels, chip by
    chip.
    """
    accuracy = result.values["accuracy"]
    if not {"none", "adjoint"} <= accuracy.keys():
        return ""
    lost = (accuracy["adjoint"] - accuracy["none"]).mean(axis=0)
    mean, points = float(lost.mean()), len(result.points)
    over = f", mean over {points} points" if points > 1 else ""
    text = f"EP is {abs(mean):.3f} {'less' if mean > 0 else 'more'} accurate than the adjoint"
    if len(lost) < 2:
        return f"{text} (one chip{over}: no interval)."
    from scipy.stats import t

    half = float(t.ppf(0.975, len(lost) - 1) * lost.std(ddof=1) / np.sqrt(len(lost)))
    ends = f"95 % interval of the accuracy lost {mean - half:.3f} to {mean + half:.3f}"
    counted = f"({ends}; {len(lost)} chips, each under both arms{over})"
    if mean > half:
        return f"{text} {counted}."
    unclear = "" if mean < -half else f", which {len(lost)} chips cannot tell from nothing"
    cosine = float(result.values["alignment/forward0"]["none"].mean())
    wrong = f" Its gradient is wrong all the same: the first layer's cosine is {cosine:.2f}."
    return f"{text}{unclear} {counted}.{wrong if unclear and cosine < ALIGNED else ''}"


def plain(result: SweepResult) -> dict[str, object]:
    """All final values: points by key, arms, and every quantity by arm (points, chips); keys that changed
    none of them.
    """
    points = [dict(point) for point in result.points]
    return {
        "points": points, "chips": result.chips, "arms": result.arms, "values": result.values,
        "unchanged": result.unchanged,
    }  # fmt: skip


def table_rows(result: SweepResult) -> list[list[str]]:
    """Mean ± standard deviation over chips, a row for every point and arm, under a head.

    A quantity that the family has not (the angle between weights that have no partner) has no column.
    """
    columns = [(name, title) for name, title in COLUMNS if name in result.values]
    found = {(name, arm): result.mean_sd(name, arm) for name, _ in columns for arm in result.arms}
    keys = result.varied
    rows = [[*(key.rpartition(".")[2] for key in keys), "arm", *(title for _, title in columns)]]
    for i, point in enumerate(result.points):
        place = [shown(key, dict(point)[key]) for key in keys]
        for arm in result.arms:
            cells = [*place, arm]
            for name, _ in columns:
                mean, sd = found[name, arm]
                cells.append(f"{known(mean[i], '.3f')} ± {known(sd[i], '.3f')}")
            rows.append(cells)
    return rows


def remarks(result: SweepResult) -> list[str]:
    """What stands under it: what its columns are, the gap to the adjoint, keys that changed nothing."""
    lines = [legend(result)]
    lines += [gap] if (gap := accuracy_gap(result)) else []
    lines += [
        f"{key} changed nothing: every value of every run is the same, to the last bit, at "
        f"{', '.join(shown(key, level) for level in levels)}."
        for key, levels in result.unchanged.items()
    ]
    return lines


def table(result: SweepResult) -> str:
    """The table and its remarks, for a terminal."""
    first, *others = remarks(result)
    return "\n".join([*aligned(table_rows(result)), textwrap.fill(first, 110), *others])
