"""Charts of a page as plain values: what the page's own script draws, in the style of :mod:`.figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..circuits.units import PREFIXES
from .figures import AUDIT_STYLES, PREFIXED, SMALLEST, STYLES
from .quantities import axis, label

MOST_POINTS = 200  # of a series: more cannot be told apart on a screen


@dataclass(frozen=True)
class Series:
    """One line, or loose points, of a panel: ``x`` and ``y`` (n,); ``low`` and ``high`` (n,) are the ends of
    a band about a line, and of a bar at a loose point. NaN is a gap.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    style: Mapping[str, Any] = field(default_factory=dict)
    joined: bool = True

    def plain(self, across: float = 1.0, up: float = 1.0) -> dict[str, Any]:
        """As JSON takes it, x and y times these factors."""
        style = {key: self.style.get(key, "") for key in ("color", "marker", "linestyle")}
        count = np.size(self.y)
        name = self.name + (f" ({MOST_POINTS} of {count} points)" if count > MOST_POINTS else "")
        ends = {} if self.low is None else {"low": _thin(self.low, up), "high": _thin(self.high, up)}
        return {
            "name": name, "x": _thin(self.x, across), "y": _thin(self.y, up), "joined": self.joined, **style,
            **ends,
        }  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """What a chart shows at one choice: ``at`` has an entry for each of the chart's choices. ``x`` and ``y``
    name the axes, with their SI units in brackets; ``log``: the one across is logarithmic.
    """

    at: tuple[str, ...]
    x: str
    y: str
    series: list[Series]
    log: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON takes it, in units with prefixes that suit the values."""
        x, across = prefixed(self.x, [series.x for series in self.series])
        y, up = prefixed(self.y, [series.y for series in self.series])
        series = [one.plain(across, up) for one in self.series]
        return {"at": list(self.at), "x": x, "y": y, "log": self.log, "series": series}


@dataclass(frozen=True)
class Chart:
    """Panels, of which one is shown: ``choices`` name what is chosen, such as quantity and point. ``about``
    tells those who do not see it what is drawn.
    """

    about: str
    choices: tuple[str, ...]
    panels: Sequence[Panel]

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        panels = [panel.plain() for panel in self.panels]
        return {"about": self.about, "choices": list(self.choices), "panels": panels}


def prefixed(name: str, values: Sequence[ArrayLike]) -> tuple[str, float]:
    """The name of an axis, its unit with the SI prefix that suits ``values`` [SI], and the factor that takes
    them to it: ``time [s]`` becomes ``time [ns]``, 1e9.
    """
    about, _, unit = name.removesuffix("]").rpartition(" [")
    sizes = np.abs(
        np.concatenate([np.zeros(1), *(np.ravel(np.asarray(part, np.float64)) for part in values)])
    )
    largest = np.max(sizes, where=np.isfinite(sizes), initial=0.0)
    if unit not in PREFIXED or not largest:
        return name, 1.0
    power = min(max(3 * math.floor(math.log10(largest) / 3 + 1e-9), min(PREFIXES)), max(PREFIXES))
    return f"{about} [{PREFIXES[power].replace('u', 'µ')}{unit}]", 10.0**-power


def style(place: int) -> Mapping[str, Any]:
    """Colour, marker and dash of the series at a place, where it is no arm that has its own."""
    return list(STYLES.values())[place % len(STYLES)]


def banded(
    name: str, x: ArrayLike, cells: NDArray[np.float64], style: Mapping[str, Any], *,
    joined: bool = True, of_mean: bool = False,
) -> Series:  # fmt: skip
    """Mean over chips of ``cells`` (n, chips), and either side one standard deviation (n - 1), or one
    standard error ``of_mean``; of a single chip neither.
    """
    mean, chips = cells.mean(axis=1), cells.shape[1]
    if chips < 2:
        return Series(name, x, mean, style=style, joined=joined)
    spread = cells.std(axis=1, ddof=1) / (np.sqrt(chips) if of_mean else 1.0)
    return Series(name, x, mean, mean - spread, mean + spread, style, joined)


def by_subject(names: Sequence[str]) -> dict[str, list[str]]:
    """Names such as ``alignment/forward0`` by what stands before the array: what one panel shows."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def history_panels(history: Mapping[str, Any], names: Sequence[str]) -> list[Panel]:
    """A run's quantities over epochs: a panel for each subject, a line for each array."""
    epochs = next((np.arange(len(values)) for values in history.values()), np.arange(0))
    return [
        Panel((label(subject),), "epoch", axis(subject), [
            Series(name.partition("/")[2] or label(name), epochs, history[name], style=style(k))
            for k, name in enumerate(group)
        ])
        for subject, group in by_subject(names).items()
    ]  # fmt: skip


def audit_bars(shares: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Stacked bars of an audit's signed ``shares[part][array]``, as JSON takes it. Parts that are small in
    every array are not drawn.
    """
    rows = list(next(iter(shares.values())))
    parts = [
        {"name": name, "fill": AUDIT_STYLES[name]["facecolor"], "hatch": AUDIT_STYLES[name]["hatch"],
         "values": _thin([values[row] for row in rows])}
        for name, values in shares.items()
        if name in AUDIT_STYLES and np.nanmax(np.abs(list(values.values()))) >= SMALLEST
    ]  # fmt: skip
    return {"about": "signed shares of the gradient's error, by array", "rows": rows, "parts": parts}


def _thin(values: ArrayLike | None, factor: float = 1.0) -> list[float | None]:
    """Five digits of at most ``MOST_POINTS`` values times a factor, the first and the last among them."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    if len(array) > MOST_POINTS:
        array = array[np.linspace(0, len(array) - 1, MOST_POINTS).round().astype(np.int64)]
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in (array * factor).tolist()]
