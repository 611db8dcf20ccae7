"""What a fit found, as a table, as TOML that a design reads, and as a figure."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .fit import Fit, relative_steps
from .fit_device import DeviceFit, Estimate
from .specs import KEYS
from .units import Number, format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from .measurements import Curves

BEGINNING = "# Fitted to "  # of every file that a fit has written
HEADER = BEGINNING + "{source}: {devices}, {steps} steps. Standard errors after each value."
SHOWN = 4  # devices whose curves are drawn
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
WAYS = {1: ("up", "#0072B2", "^"), -1: ("down", "#D55E00", "v")}


def table(fit: Fit) -> str:
    """Values with errors, how well the model fits, and what is wrong."""
    lines = [f"{'key':<27} {'value':>11}   standard error"]
    for key, estimate in fit.values.items():
        if estimate is None:
            lines.append(f"{key:<27} {'-':>11}   one device tells no spread")
        else:
            value, error = _written(key, estimate)
            lines.append(f"{key:<27} {value:>11}   {error}")
    lines += [
        "",
        f"curves: R^2 {fit.r_squared:.4f}, residual {fit.residual:.2%} of the range (rms)",
        "steps: mean residual in fifths of the range, bottom to top, in % of the step in mid-range",
        *(f"  {WAYS[sign][0]:<5} {_pattern(parts)}" for sign, parts in fit.pattern.items()),
    ]
    if any(part is None for parts in fit.pattern.values() for part in parts):
        lines.append("  (-: too few steps there to tell)")
    remarks = [textwrap.fill(r, 100, initial_indent="! ", subsequent_indent="  ") for r in fit.remarks]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def _pattern(parts: list[Estimate | None]) -> str:
    texts = (f"{100 * p.value:+6.1f} ± {100 * p.error:<4.1f}" if p else f"{'-':>6}       " for p in parts)
    return "  ".join(texts).rstrip()


def _written(key: str, estimate: Estimate) -> tuple[str, str]:
    """Value (to four digits) and error (to two), with their unit."""
    kind = KEYS[key]
    unit = kind.unit if isinstance(kind, Number) else ""
    value, error = float(f"{estimate.value:.4g}"), float(f"{estimate.error:.2g}")
    return format_quantity(value, unit), format_quantity(error, unit)


def plain(fit: Fit) -> dict[str, object]:
    """Values and standard errors by key [SI], None where one device tells no spread; how well they fit."""
    return {
        "values": {key: None if of is None else of._asdict() for key, of in fit.values.items()},
        "devices": len(fit.devices), "r_squared": fit.r_squared, "residual": fit.residual,
        "pattern": {
            WAYS[sign][0]: [None if part is None else part._asdict() for part in parts]
            for sign, parts in fit.pattern.items()
        },
        "remarks": fit.remarks,
    }  # fmt: skip


def to_toml(fit: Fit, source: str) -> str:
    """``[device]``, ``[programming]`` and ``[mismatch]`` as a design reads them."""
    count, steps = len(fit.devices), sum(len(d.steps.size) for d in fit.devices)
    source = source if source.isprintable() else ascii(source)
    lines = [HEADER.format(source=source, devices=f"{count} device{'s' * (count > 1)}", steps=steps)]
    lines += [
        f"# The model's curves: R^2 {fit.r_squared:.4f}, residual {fit.residual:.2%} of the range (rms)."
    ]
    for remark in fit.remarks:
        lines += textwrap.wrap(remark, 108, initial_indent="# ! ", subsequent_indent="#   ")
    section = ""
    for key, estimate in fit.values.items():
        new, leaf = key.split(".")
        if new != section:
            lines += ["", f"[{new}]"] + (['mode = "pulses"'] if new == "programming" else [])
            section = new
        if estimate is None:
            lines.append(f"# {leaf}: one device tells no spread")
            continue
        value, error = _written(key, estimate)
        quoted = f'"{value}"' if value[-1].isalpha() else value
        lines.append(f"{f'{leaf} = {quoted}':<32}# ± {error}")
    return "\n".join(lines) + "\n"


def figure(fit: Fit, path: Path, title: str) -> None:
    """Curves measured and fitted, their residuals, steps against conductance; saved as the suffix says."""
    from matplotlib.figure import Figure

    from .files import atomic_write

    page = Figure(figsize=(10, 7), layout="constrained")
    page.suptitle(title)
    axes: Any = page.subplot_mosaic([["curves", "curves"], ["residuals", "steps"]])
    for k, device in enumerate(fit.devices[:SHOWN]):
        _curve(axes["curves"], device, COLORS[k])
        span = device.g_max - device.g_min
        left = 100 * (device.measured.conductance - device.curve) / span
        axes["residuals"].plot(pulses(device.measured), left, color=COLORS[k], linewidth=0.8)
    of = f" ({SHOWN} of {len(fit.devices)} devices)" if len(fit.devices) > SHOWN else ""
    axes["curves"].plot([], ".", color="black", markersize=4, label="measured")
    axes["curves"].set(xlabel=f"pulse, counted through{of}", ylabel="conductance [µS]")
    axes["curves"].legend(
        fontsize=8, ncols=SHOWN + 1, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False
    )
    axes["residuals"].axhline(0, color="black", linewidth=0.6)
    axes["residuals"].set(
        xlabel=f"pulse, counted through{of}", ylabel="measured less fitted\n[% of the range]"
    )
    _steps(axes["steps"], fit)
    for each in axes.values():
        each.grid(alpha=0.3, linewidth=0.5)
    with atomic_write(path) as part:
        page.savefig(part, format=path.suffix.lstrip(".") or "png", dpi=150)


def _curve(axes: Axes, device: DeviceFit, color: str) -> None:
    x = pulses(device.measured)
    axes.plot(x, 1e6 * device.measured.conductance, ".", color=color, markersize=2, alpha=0.6)
    axes.plot(x, 1e6 * device.curve, color=color, linewidth=1.2, label=f"device {device.device[:20]}, fitted")


def pulses(measured: Curves) -> NDArray[np.int64]:
    """(n,) the pulse of every row, counted through all cycles: files may begin anew with each."""
    steps = np.where(np.diff(measured.cycle) == 0, np.diff(measured.pulse), 1)
    return np.concatenate([measured.pulse[:1], measured.pulse[:1] + np.cumsum(steps)])


def _steps(axes: Axes, fit: Fit, bins: int = 10) -> None:
    """Mean step in each tenth of the range with its error, and the model's mean for the same steps."""
    for sign, (name, color, marker) in WAYS.items():
        place, size, expected = relative_steps(fit.devices, sign)
        of_bin = np.clip((place * bins).astype(int), 0, bins - 1)
        parts = [
            (place[of], size[of], expected[of]) for of in (of_bin == k for k in range(bins)) if of.sum() > 2
        ]
        x = [float(part[0].mean()) for part in parts]
        mean = [float(part[1].mean()) for part in parts]
        error = [float(part[1].std() / len(part[1]) ** 0.5) for part in parts]
        axes.errorbar(x, mean, error, fmt=marker, color=color, capsize=2, markersize=4, label=name)
        line = [float(part[2].mean()) for part in parts]
        axes.plot(x, line, color=color, linewidth=1, label=f"{name}, fitted")
    axes.set(xlabel="conductance, share of the range", ylabel="step, over that in mid-range", ylim=(0, None))
    axes.legend(fontsize=8)
