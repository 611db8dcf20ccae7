"""Figures of yield and of what matters to it: functions that draw on axes they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .figures import scale_x
from .importance import Effect, Importance
from .yields import Limit, YieldCurve, proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, with marker, dash and hatch beside them for greyscale.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
BAND = 17  # yields at which the curve's interval is asked for


def yield_panel(
    axes: Axes, levels: ArrayLike, passes: ArrayLike, curve: YieldCurve, target: float, key: str | None = None
) -> Axes:
    """Yield against levels, of a ``key`` of the design: points with exact intervals, the fitted curve with
    its band, the ``target`` yield as a line, and on it the largest level that gives it, with its interval.

    ``levels`` (points,), ``passes`` (points, chips). The band is the interval of ``curve.largest`` at every
    yield; an interval that leaves the levels swept ends in an arrow.
    """
    x, flags = np.asarray(levels, dtype=float), np.asarray(passes, dtype=bool)
    shares = [proportion(int(row.sum()), row.size, curve.level) for row in flags]
    y = np.array([share.estimate for share in shares])
    below = [share.estimate - share.low for share in shares]
    above = [share.high - share.estimate for share in shares]
    exact = f"{flags.shape[1]} chips, exact {100 * curve.level:g} %"
    axes.errorbar(x, y, [below, above], fmt="o", color=BLACK, markersize=4, capsize=2, label=exact)
    first, last = float(curve.levels[0]), float(curve.levels[-1])
    fine = np.linspace(first, last, 200)
    fitted = "fitted curve" + (" (width set)" if curve.sharp else "")
    axes.plot(fine, curve.at(fine), color=BLUE, linewidth=1.4, label=fitted)
    _band(axes, curve, first, last)
    axes.axhline(target, color=ORANGE, linestyle="--", linewidth=1, label=f"{100 * target:g} % yield")
    _mark(axes, curve.largest(target), curve.level)
    scale_x(axes, key, x)
    axes.set(ylabel="yield", ylim=(-0.04, 1.04))
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return axes


def _band(axes: Axes, curve: YieldCurve, first: float, last: float) -> None:
    from scipy.special import ndtr

    yields = ndtr(np.linspace(-2.6, 2.6, BAND))
    limits = [curve.largest(float(share)) for share in yields]
    if any(np.isnan(limit.low) for limit in limits):
        return
    low, high = (np.clip([getattr(limit, end) for limit in limits], first, last) for end in ("low", "high"))
    told = f"{100 * curve.level:g} % interval of the curve"
    axes.fill_betweenx(yields, low, high, color=BLUE, alpha=0.15, linewidth=0, label=told)


def _mark(axes: Axes, limit: Limit, level: float) -> None:
    """The limit on the target's line: a diamond and its interval, dropped to the level's axis."""
    if np.isnan(limit.low):
        return
    low, high = (float(np.clip(end, *limit.swept)) for end in (limit.low, limit.high))
    beyond = "" if np.isfinite([limit.low, limit.high]).all() else " (arrow: open)"
    style: dict[str, Any] = {"linewidth": 3.5, "alpha": 0.6, "solid_capstyle": "butt"}
    told = f"{100 * level:g} % interval of the limit{beyond}"
    axes.plot([low, high], [limit.yield_] * 2, color=ORANGE, label=told, **style)
    for end, at, marker in ((limit.low, low, "<"), (limit.high, high, ">")):
        if not np.isfinite(end):
            axes.plot([at], [limit.yield_], marker=marker, color=ORANGE, markersize=7, clip_on=False)
    if limit.determined:
        axes.vlines(limit.x, 0, limit.yield_, color=ORANGE, linestyle=":", linewidth=1.2)
        word = "largest" if limit.largest else "smallest"
        axes.plot([limit.x], [limit.yield_], "D", color=ORANGE, markersize=6, label=f"{word}: {limit.x:.2g}")


def importance_panel(axes: Axes, importance: Importance) -> Axes:
    """Sobol indices, first-order and total, as bars with their intervals, the largest on top."""
    order = np.argsort(importance.total, kind="stable")
    place = np.arange(len(order))
    styles: tuple[dict[str, Any], ...] = ({"color": "#E69F00", "hatch": "//"}, {"color": BLUE})
    kinds = (
        ("total", importance.total, importance.total_interval, styles[0], -0.19),
        ("alone", importance.first, importance.first_interval, styles[1], 0.19),
    )
    for name, index, interval, style, shift in kinds:
        value, (low, high) = index[order], interval[order].T
        axes.barh(place + shift, value, 0.36, edgecolor=BLACK, linewidth=0.6, label=name, **style)
        spread = np.abs([value - low, high - value])
        axes.errorbar(value, place + shift, xerr=spread, fmt="none", ecolor=BLACK, capsize=2, elinewidth=1)
    axes.set_yticks(place, [importance.names[k] for k in order], fontsize=8)
    noise = "" if np.isnan(importance.noise) else f", {importance.noise:.0%} of the variance between chips"
    axes.set_title(f"Q² = {importance.q2:.2f}{noise}", fontsize=8)
    axes.set(xlabel="share of the variance", xlim=(0, None))
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8, frameon=False, loc="lower right")
    return axes


def effects_panel(axes: Axes, effects: Sequence[Effect], label: str) -> Axes:
    """Changes from the base point with their paired intervals, the largest on top; filled where the interval
    leaves out no change at all.
    """
    order = sorted(effects, key=lambda effect: abs(effect.change))
    for place, effect in enumerate(order):
        clear = effect.low > 0 or effect.high < 0
        color, marker = (ORANGE, "<") if effect.change < 0 else (GREEN, ">")
        spread = [[effect.change - effect.low], [effect.high - effect.change]]
        style: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "markerfacecolor": color if clear else "white",
        }
        axes.errorbar([effect.change], [place], xerr=spread, capsize=3, markersize=7, **style)
    axes.set_yticks(range(len(order)), [f"{e.name}\n{e.start:.4g} to {e.end:.4g}" for e in order], fontsize=8)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.axvline(0, color=BLACK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    return axes
