"""Results of a deck as an HDF5 file, and as a figure that stays legible in greyscale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from .. import __version__
from .analyses import Result
from .devices import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA, SCHEMA_VERSION = "ohmostat-waves", 1
LONGEST_TEXT = 1000  # characters of a title that are kept

# Okabe and Ito's colour-blind safe colours; dashes tell curves apart without colour.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
MOST_CURVES = len(COLOURS)


class WavesError(ValueError):
    """Results that cannot be shown as was asked; names the remedy."""


def write_waves(path: str | Path, title: str, results: Mapping[str, Result]) -> None:
    """One group for each analysis, one data set for each vector, with units as attributes.

    Vectors are float64 or complex128, named as in SPICE. A slash in a name, which HDF5 reserves, becomes
    ``|``, with a number after it where that name is taken; the attribute ``name`` has the original. The
    attribute ``axis`` of a group names the vector over which the others run; ``measured NAME`` is the
    value of a ``.meas``, NaN where it failed.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(
            schema=SCHEMA, schema_version=SCHEMA_VERSION, ohmostat=__version__, title=title[:LONGEST_TEXT]
        )
        for kind, result in results.items():
            group = file.create_group(kind)
            group.attrs.update(result.attributes)
            group.attrs.update({f"measured {name}": found.value for name, found in result.measured.items()})
            if result.axis is not None:
                group.attrs["axis"] = result.axis
            for name, values in result.vectors.items():
                data = group.create_dataset(_free_name(group, name), data=np.asarray(values))
                data.attrs.update(name=name, unit=result.units[name])


def _free_name(group: h5py.Group, name: str) -> str:
    """A name that HDF5 allows and that the group does not have yet."""
    allowed = name.replace("/", "|")
    numbered = (f"{allowed} {k}" for k in count(2))
    return next(free for free in chain([allowed], numbered) if free not in group)


def plot_waves(path: str | Path, title: str, results: Mapping[str, Result]) -> None:
    """Transients and sweeps as curves, small signals by magnitude and phase, noise by density.

    At most seven curves a panel, those that move most. Saved as the suffix of ``path`` says.
    """
    from matplotlib.figure import Figure

    panels = [
        (name, result, draw) for name, result in results.items() for draw in _DRAWN.get(result.kind, ())
    ]
    if not panels:
        raise WavesError("nothing to plot: the file has no .dc, .tran, .ac or .noise analysis")
    figure = Figure(figsize=(7.2, 1.0 + 2.8 * len(panels)), layout="constrained")
    places = figure.subplots(len(panels), squeeze=False).flat
    for axes, (name, result, draw) in zip(places, panels, strict=True):
        draw(axes, result)
        axes.set_title(name, fontsize=9, loc="left")
        axes.grid(alpha=0.3, linewidth=0.5)
    figure.suptitle(_plain(title[:100]), fontsize=9)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:  # a suffix that no backend writes
        raise WavesError(f"{path}: {error}") from None


def _plain(text: str) -> str:
    """Text in which ``$`` starts no formula."""
    return text.replace("$", r"\$")


def _curves(
    axes: Axes, x: Array, curves: Mapping[str, Array], weight: Callable[[Array], Any] = np.ptp
) -> None:
    """The curves (points,) or (outer, points) of most weight, each in its own colour and dash."""
    shown = sorted(curves, key=lambda name: -float(weight(curves[name])))[:MOST_CURVES]
    for name, colour, dash in zip(shown, COLOURS, DASHES, strict=False):
        for k, curve in enumerate(np.atleast_2d(curves[name])):
            label = "_" if k else _plain(name)  # matplotlib leaves names with _ out of the legend
            axes.plot(x, curve, color=colour, linestyle=dash, linewidth=1.2, label=label)
    if shown:
        more = len(curves) - len(shown)
        axes.legend(
            title=f"and {more} more" if more else None, loc="upper left", bbox_to_anchor=(1.0, 1.0),
            fontsize=7, title_fontsize=7, frameon=False,
        )  # fmt: skip


def _voltages(result: Result) -> dict[str, Array]:
    """Node voltages, but for those that are 0 throughout."""
    return {name: v for name, v in result.vectors.items() if name.startswith("v(") and v.any()}


def _against_axis(axes: Axes, result: Result) -> None:
    from matplotlib.ticker import EngFormatter

    assert result.axis is not None
    _curves(axes, result.vectors[result.axis], _voltages(result))
    what = "time" if result.axis == "time" else result.attributes["source"].split()[0]
    axes.xaxis.set_major_formatter(EngFormatter(unit=result.units[result.axis]))
    axes.set(xlabel=_plain(what), ylabel="voltage [V]")


def _magnitude(axes: Axes, result: Result) -> None:
    levels = {name: 20.0 * np.log10(np.abs(v)) for name, v in _voltages(result).items() if v.all()}
    _curves(axes, result.vectors["frequency"], levels)
    axes.set(xscale="log", xlabel="frequency [Hz]", ylabel="magnitude [dB of 1 V]")


def _phase(axes: Axes, result: Result) -> None:
    turns = {name: np.degrees(np.unwrap(np.angle(v))) for name, v in _voltages(result).items()}
    _curves(axes, result.vectors["frequency"], turns)
    axes.set(xscale="log", xlabel="frequency [Hz]", ylabel="phase [degrees]")


def _density(axes: Axes, result: Result) -> None:
    parts = {name: v for name, v in result.vectors.items() if name.startswith("onoise") and v.all()}
    _curves(axes, result.vectors["frequency"], parts, np.max)
    axes.set(xscale="log", yscale="log", xlabel="frequency [Hz]", ylabel="density [V/√Hz]")


_DRAWN: dict[str, tuple[Callable[[Axes, Result], None], ...]] = {
    "dc": (_against_axis,),
    "tran": (_against_axis,),
    "ac": (_magnitude, _phase),
    "noise": (_density,),
}
