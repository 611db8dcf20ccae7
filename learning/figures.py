"""Figures: functions that draw on axes they are given, in one style, legible in greyscale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .sweep import SweepResult, accuracy_gap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
}
PANELS = (
    ("accuracy", "test accuracy"),
    ("alignment/forward0", "first-layer cosine\nof EP to adjoint"),
    ("angle/forward1", "forward–feedback\nangle [degrees]"),
)


def sweep_panel(axes: Axes, result: SweepResult, quantity: str, label: str, angle: int = 0) -> Axes:
    """One quantity against mismatch at one angle (or against the angle, if only that varies), with a band of
    ±1 standard deviation over chips for every arm.
    """
    over_angle = len(result.sigmas) == 1 and len(result.angles) > 1
    x = result.angles if over_angle else result.sigmas
    for arm in result.arms:
        values = result.mean_sd(quantity, arm)
        mean, sd = (part[0] if over_angle else part[:, angle] for part in values)
        style = STYLES[arm]
        if len(x) == 1:  # no line to band: a bar, each arm beside the other
            place = x[0] + 0.02 * (result.arms.index(arm) - (len(result.arms) - 1) / 2)
            axes.errorbar([place], mean, sd, capsize=3, markersize=5, **style)
            axes.set(xlim=(x[0] - 0.1, x[0] + 0.1), xticks=[x[0]])
            continue
        axes.plot(x, mean, markersize=4, linewidth=1.4, **style)
        axes.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3, linewidth=0.5)
    return axes


def sweep_figure(result: SweepResult, path: Path) -> None:
    """Accuracy, and alignment and asymmetry beneath it, a column for every starting angle; saved as the
    suffix of ``path`` says.
    """
    from matplotlib.figure import Figure

    over_angle = len(result.sigmas) == 1 and len(result.angles) > 1
    columns = 1 if over_angle else len(result.angles)
    figure = Figure(figsize=(2.2 + 4.2 * columns, 7.4), layout="constrained")
    panels = figure.subplots(len(PANELS), columns, sharex=True, sharey="row", squeeze=False)
    for column in range(columns):
        for axes, (quantity, label) in zip(panels[:, column], PANELS, strict=True):
            sweep_panel(axes, result, quantity, label if column == 0 else "", column)
        if not over_angle:
            panels[0, column].set_title(f"starting angle {result.angles[column]:g}°", fontsize=9)
    kind = result.design.mismatch.distribution
    for axes in panels[-1]:
        axes.set_xlabel("starting angle [degrees]" if over_angle else f"device mismatch σ ({kind})")
    figure.suptitle(_caption(result), fontsize=9)
    panels[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def _caption(result: SweepResult) -> str:
    design, chips = result.design, next(iter(result.values["accuracy"].values())).shape[-1]
    layers = "-".join(str(n) for n in design.chip.layers)
    unsettled = max(float(np.max(cells)) for cells in result.values["unsettled_test"].values())
    lines = (
        f"{design.chip.family} {layers}, {design.task.data}, {design.learning.epochs} epochs, "
        + (f"{chips} chips (band: ±1 sd)" if chips > 1 else "1 chip"),
        f"at most {unsettled:.1%} of test samples unsettled",
        accuracy_gap(result).replace(": ", ":\n"),
    )
    return "\n".join(line for line in lines if line)


def training_figure(history: list[Epoch], path: Path, title: str = "") -> None:
    """Accuracy, alignment by array, and weight angle over epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    epochs = [e.epoch for e in history]
    top.plot(epochs, [e.accuracy for e in history], "k-o", markersize=3)
    top.set_ylabel("test accuracy")
    top.set_title(title, fontsize=9)
    dashes = ("-", "--", "-.", ":")
    for axes, quantity in ((middle, "alignment"), (bottom, "angle")):
        for k, name in enumerate(n for n in getattr(history[0], quantity) if "bias" not in n):
            values = [getattr(e, quantity)[name] for e in history]
            axes.plot(epochs, values, dashes[k % 4], marker="o", markersize=3, label=name)
        axes.legend(fontsize=8, frameon=False)
    middle.set_ylabel("cosine of EP to adjoint")
    bottom.set_ylabel("forward–feedback\nangle [degrees]")
    bottom.set_xlabel("epoch")
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3, linewidth=0.5)
    figure.savefig(path, dpi=150)
