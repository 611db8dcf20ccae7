"""Figures: functions that draw on axes they are given, in one style, legible in greyscale."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..circuits.specs import KEYS
from ..circuits.units import UNITS
from ..simulator.blocks import Array
from .points import text_of
from .sweep_result import SweepResult, accuracy_gap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .audit import Audit
    from .corners import CornerResult
    from .training import Epoch

# Okabe and Ito's colour-blind safe colours; marker and dash tell the arms apart without colour.
STYLES: dict[str, dict[str, Any]] = {
    "none": {"color": "#D55E00", "marker": "o", "linestyle": "-", "label": "EP, no homeostat"},
    "homeostat": {
        "color": "#0072B2",
        "marker": "s",
        "linestyle": "-",
        "label": "EP with homeostat",
    },
    "homeostat-feedback": {
        "color": "#56B4E9",
        "marker": "<",
        "linestyle": "-",
        "label": "EP with homeostat, of the feedback alone",
    },
    "decay": {
        "color": "#E69F00",
        "marker": "^",
        "linestyle": "--",
        "label": "EP, weight decay in its place",
    },
    "adjoint-homeostat": {
        "color": "#009E73",
        "marker": "v",
        "linestyle": "-.",
        "label": "adjoint with homeostat",
    },
    "adjoint": {
        "color": "#000000",
        "marker": "D",
        "linestyle": ":",
        "label": "adjoint (reference)",
    },
    "trim": {"color": "#0072B2", "marker": "s", "linestyle": "--", "label": "EP, drivers trimmed"},
    "adjoint-trim": {
        "color": "#000000",
        "marker": "d",
        "linestyle": "--",
        "label": "adjoint, drivers trimmed",
    },
    "aep": {"color": "#009E73", "marker": "^", "linestyle": "-", "label": "antisymmetric-feedback EP"},
    "coupled": {"color": "#56B4E9", "marker": "P", "linestyle": "--", "label": "coupled learning"},
    "kolen-pollack": {"color": "#CC79A7", "marker": "v", "linestyle": ":", "label": "Kolen-Pollack"},
    "product-feedback": {"color": "#E69F00", "marker": "X", "linestyle": "-.", "label": "product feedback"},
}
PANELS = (
    ("accuracy", "test accuracy"),
    ("alignment/forward0", "first-layer cosine\nof EP to adjoint"),
    ("angle/forward1", "forward–feedback\nangle [degrees]"),
)


MOST_COLUMNS = 6
CAPTION = 84  # characters of a line above the narrowest figure
LEAST_SPAN = 0.01  # of an upright axis, over its largest value: a hundredth
WIDE = 5.0  # last over first of levels that may be logarithmic
PREFIXED = UNITS.keys() - {"deg"}  # units that take SI prefixes


def sweep_panel(
    axes: Axes, result: SweepResult, quantity: str, label: str, key: str | None, rows: Sequence[int]
) -> Axes:
    """One quantity against a varied key at the points ``rows``, every arm with a band of ±1 standard
    deviation over chips. Points that differ in other keys as well are marked, and not joined; without a key,
    one point.
    """
    x = result.numbers(key)[list(rows)] if key else np.zeros(1)
    joined = is_line(result, key, rows)
    for arm in result.arms:
        mean, sd = (part[list(rows)] for part in result.mean_sd(quantity, arm))
        style, beside = STYLES[arm], result.arms.index(arm) - (len(result.arms) - 1) / 2
        if joined:
            order = np.argsort(x)
            axes.plot(x[order], mean[order], markersize=4, linewidth=1.4, **style)
            low, high = (mean - sd)[order], (mean + sd)[order]
            axes.fill_between(x[order], low, high, color=style["color"], alpha=0.15, linewidth=0)
        else:  # no line to band: a bar, each arm beside the other
            log = logarithmic(x)
            step = 0.02 * (float(np.ptp(np.log(x) if log else x)) or 1.0) / max(len(x) / 4, 1)
            shifted = x * np.exp(step * beside) if log else x + step * beside
            loose = style | {"linestyle": "none"}
            axes.errorbar(shifted, mean, sd, capsize=2, markersize=4, elinewidth=0.8, **loose)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3, linewidth=0.5)
    return axes


def is_line(result: SweepResult, key: str | None, rows: Sequence[int]) -> bool:
    """Whether these points, two at least, differ in that key alone, each by a level of its own."""
    levels = {dict(result.points[row]).get(key or "") for row in rows}
    rest = {tuple(item for item in result.points[row] if item[0] != key) for row in rows}
    return len(rest) == 1 and len(levels) == len(rows) > 1


def columns(result: SweepResult) -> list[tuple[str | None, str, list[int]]]:
    """What each column of a sweep's figure shows: the key against which, a title, and the points.

    Of a grid, the numeric key of most levels, a column for every combination of the others; else each
    numeric key in turn, along the base point's line where there is one.
    """
    every = list(range(len(result.points)))
    if not result.numeric:
        return [(None, text_of(result.points[row]), [row]) for row in every]
    if result.is_grid:
        key = max(result.numeric, key=lambda name: len(result.levels(name)))
        return [(key, title, rows) for title, rows in result.lines(key).items()]
    longest = {key: max(result.lines(key).values(), key=len) for key in result.numeric}
    return [(key, "", rows if len(rows) > 1 else every) for key, rows in longest.items()]


def sweep_figure(result: SweepResult, path: Path) -> None:
    """Accuracy, and alignment and asymmetry beneath it, a column for every line through the points; saved as
    the suffix of ``path`` says.
    """
    from matplotlib.figure import Figure

    drawn = columns(result)[:MOST_COLUMNS]
    shown = [panel for panel in PANELS if panel[0] in result.values]  # a loop has no angle
    figure = Figure(figsize=(2.2 + 4.2 * len(drawn), 7.4), layout="constrained")
    panels = figure.subplots(len(shown), len(drawn), sharex="col", sharey="row", squeeze=False)
    for k, (key, title, rows) in enumerate(drawn):
        for axes, (quantity, label) in zip(panels[:, k], shown, strict=True):
            sweep_panel(axes, result, quantity, label if k == 0 else "", key, rows)
        panels[0, k].set_title(title, fontsize=9)
        scale_x(panels[-1, k], key, result.numbers(key)[rows] if key else [])
        if key is None:
            panels[-1, k].set_xticks([])
    for axes in panels[:, 0]:
        widen(axes)
    figure.suptitle(_caption(result), fontsize=9)
    panels[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def axis_label(key: str | None, unit: str | None = None) -> str:
    """What an axis along a key is called, with its unit, or another one."""
    if key is None:
        return ""
    known = {"mismatch.conductance": "device mismatch σ", "learning.angle": "starting angle"}
    unit = getattr(KEYS[key], "unit", "") if unit is None else unit
    return known.get(key, key) + (f" [{unit}]" if unit else "")


def scale_x(axes: Axes, key: str | None, values: ArrayLike) -> None:
    """Label an axis along a key, its ticks with SI prefixes, logarithmic where the values are."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    unit = getattr(KEYS.get(key or ""), "unit", "")
    axes.set_xlabel(axis_label(key, "" if unit in PREFIXED else unit))
    if logarithmic(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    if unit in PREFIXED:
        axes.xaxis.set_major_formatter(EngFormatter(unit=unit))


def logarithmic(values: ArrayLike) -> bool:
    """Whether levels are spread over a wide range more evenly in their logarithm than as they are: so were
    they chosen.
    """
    levels = np.unique(np.asarray(values, float))
    if len(levels) < 3 or levels[0] <= 0 or levels[-1] < WIDE * levels[0]:
        return False

    def uneven(x: Array) -> float:
        return float(np.abs((x - x[0]) / (x[-1] - x[0]) - np.linspace(0, 1, len(x))).max())

    return uneven(np.log(levels)) < uneven(levels)


def widen(axes: Axes) -> None:
    """Give an upright axis the least span, lest it draw the rounding of equal values as a trend."""
    low, high = axes.get_ylim()
    spare = (LEAST_SPAN * max(abs(low), abs(high)) - (high - low)) / 2
    if spare > 0:
        axes.set_ylim(low - spare, high + spare)


def counted(number: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _caption(result: SweepResult) -> str:
    design, chips = result.design, result.chips
    layers = "-".join(str(n) for n in design.chip.layers)
    unsettled = max(float(np.max(cells)) for cells in result.values["unsettled_test"].values())
    count = len(columns(result))
    lines = (
        f"{design.chip.family} {layers}, {design.task.data}, {counted(design.learning.epochs, 'epoch')}, "
        + counted(chips, "chip")
        + (" (band: ±1 sd)" if chips > 1 else ""),
        f"at most {100 * unsettled:.2g} % of test samples unsettled"
        if unsettled
        else "all test samples settled",
        f"the first {MOST_COLUMNS} of {count} columns" if count > MOST_COLUMNS else "",
        accuracy_gap(result).replace(" (", "\n(").replace(". Its", ".\nIts"),
    )
    return "\n".join(textwrap.fill(text, CAPTION) for line in lines for text in line.splitlines())


def training_figure(history: list[Epoch], path: Path, title: str = "") -> None:
    """Accuracy, training loss, alignment by array, and weight angle over epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 8.2), layout="constrained")
    panels = top, second, middle, bottom = figure.subplots(4, 1, sharex=True)
    epochs = [e.epoch for e in history]
    top.plot(epochs, [e.accuracy for e in history], "k-o", markersize=3)
    top.set_ylabel("test accuracy")
    top.set_title(title, fontsize=9)
    second.plot(epochs, [e.loss for e in history], "k-o", markersize=3)  # of none before training
    second.set_ylabel("training loss")
    dashes = ("-", "--", "-.", ":")
    for axes, quantity in ((middle, "alignment"), (bottom, "angle")):
        for k, name in enumerate(n for n in getattr(history[0], quantity) if "bias" not in n):
            values = [getattr(e, quantity)[name] for e in history]
            axes.plot(epochs, values, dashes[k % 4], marker="o", markersize=3, label=name)
        axes.legend(fontsize=8, frameon=False)
    middle.set_ylabel("cosine of EP to adjoint")
    bottom.set_ylabel("forward–feedback\nangle [degrees]")
    bottom.set_xlabel("epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels:
        axes.grid(alpha=0.3, linewidth=0.5)
    figure.savefig(path, dpi=150)


# Grey by itself tells neighbours apart, hatching the rest: colour only helps.
AUDIT_STYLES: dict[str, dict[str, Any]] = {
    "settling": {"facecolor": "#F0E442", "hatch": ""},
    "finite nudge": {"facecolor": "#E69F00", "hatch": "//"},
    "asymmetry": {"facecolor": "#404040", "hatch": ""},
    "nudge gain": {"facecolor": "#56B4E9", "hatch": ""},
    "nudge offset": {"facecolor": "#56B4E9", "hatch": ".."},
    "sense gain": {"facecolor": "#009E73", "hatch": "\\\\"},
    "sense offset": {"facecolor": "#9BE0C8", "hatch": "xx"},
    "wires": {"facecolor": "#CC79A7", "hatch": "||"},
    "noise": {"facecolor": "#E0E0E0", "hatch": "oo"},
    "conversion": {"facecolor": "#999999", "hatch": "++"},
    "interaction": {"facecolor": "white", "hatch": "---"},
}
SMALLEST = 0.005  # share of an error; parts that are less in every array are not drawn


def audit_figure(audit: Audit, path: Path, title: str = "") -> None:
    """Each array's error as a bar of signed shares: right of 0 what adds to it, left what cancels. Beside it
    the error over the gradient's length, and the cosine to the adjoint.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.9 + 0.42 * len(audit.arrays)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(audit.arrays))
    ends = {+1: np.zeros(len(place)), -1: np.zeros(len(place))}
    for name in audit.contributions:
        shares = np.array([audit.share(name, array) for array in audit.arrays])
        if np.abs(shares).max() < SMALLEST:
            continue
        label: str | None = name
        for sign, end in ends.items():
            width = np.where(shares * sign > 0, shares, 0)
            style = {"label": label, "edgecolor": "black", "linewidth": 0.6} | AUDIT_STYLES[name]
            axes.barh(place, width, 0.68, left=end, **style)
            ends[sign], label = end + width, None
    texts = [f"{a}\nerror {audit.error(a):.1%}, cosine {audit.alignment(a):.3f}" for a in audit.arrays]
    axes.use_sticky_edges = False
    axes.set_yticks(place, texts, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("signed share of the gradient's error")
    axes.set_title(title, fontsize=8)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def corners_figure(found: Sequence[CornerResult], path: Path, title: str) -> None:
    """Accuracy against temperature, a panel for every process, a line for every supply."""
    from matplotlib.figure import Figure

    processes = list(dict.fromkeys(one.corner.process for one in found))
    supplies = sorted({one.corner.voltage for one in found})
    figure = Figure(figsize=(3.2 * len(processes) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(processes), sharey=True, squeeze=False)[0]
    for axes, process in zip(panels, processes, strict=True):
        for k, supply in enumerate(supplies):
            line = [one for one in found if (one.corner.process, one.corner.voltage) == (process, supply)]
            line.sort(key=lambda one: one.corner.temperature)
            x, y = [one.corner.temperature for one in line], [one.accuracy for one in line]
            style = {"color": ("#0072B2", "#000000", "#D55E00")[k % 3], "marker": "sovD^"[k % 5]}
            axes.plot(x, y, ("-", "--", "-.", ":")[k % 4], markersize=4, label=f"{supply:g}", **style)
        axes.set_title(process, fontsize=9)
        axes.set_xlabel("temperature [K]")
        axes.grid(alpha=0.3, linewidth=0.5)
    panels[0].set_ylabel("test accuracy")
    panels[-1].legend(title="supply, of nominal", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=150)
