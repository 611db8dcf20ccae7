"""How far answers may lie from ngspice's, and by how much they do.

Every comparison returns the :class:`Excess` that is worst: an error in units of what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytest

from ohmostat.simulator.ngspice import (
    TIGHT,
    TIGHT_TRANSIENT,
    Waves,
    ngspice_available,
    simulate_with_ngspice,
    with_options,
    with_steps,
)

Array = np.ndarray[Any, Any]

MICROVOLT = 1e-6
OF_SWING = 1e-3  # transients, at equal times
OF_PERIOD = 1e-3  # oscillators
OF_SWING_ALIGNED = 5e-3  # oscillators, over one cycle of aligned phase
OF_NOISE = 1e-3

STEPS = 20_000  # of ngspice's transients, which then err by less than a third of what is allowed

_ANALYSIS = re.compile(r"^\.(op|dc|ac|noise|tran|tf)\b.*\n", re.MULTILINE)
_INTERNAL = re.compile(r"#|_int\d+\)$")  # series resistances; E and G given by expressions


class ByNode(Protocol):
    """Values by the name of a node."""

    def __getitem__(self, node: str, /) -> Array: ...


@dataclass(frozen=True, order=True)
class Excess:
    """An error in units of what is allowed: of which vector, and where."""

    value: float
    name: str = ""
    at: float = 0.0  # [s], [Hz] or the index of a point


def require_ngspice() -> None:
    """Skips a test where ngspice is missing, or fails it where that must not be."""
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")


def reference(text: str, kind: str) -> Waves:
    """The answer of ngspice to the one analysis ``kind`` of a netlist ("op", "dc", ...), run tight."""
    alone = _ANALYSIS.sub(lambda card: card.group() if card[1] == kind else "", text)
    if kind == "tran":
        alone = with_options(with_steps(alone, STEPS), TIGHT_TRANSIENT)
    else:
        alone = with_options(alone, TIGHT)
    return simulate_with_ngspice(alone)[kind]


def node_vectors(waves: Waves) -> Iterator[tuple[str, Array]]:
    """Names and voltages of all nodes but those that ngspice makes up inside its devices."""
    for name, values in waves.vectors.items():
        if name.startswith("v(") and not _INTERNAL.search(name):
            yield name[2:-1], values


def points(ours: ByNode, waves: Waves) -> Excess:
    """Operating points and DC sweeps, (points,) by node: within 1 µV + 1e-6 of the value."""
    return max(
        _worst(node, ours[node], theirs, MICROVOLT + 1e-6 * np.abs(theirs), np.arange(theirs.size))
        for node, theirs in node_vectors(waves)
    )


def small_signals(ours: ByNode, waves: Waves) -> Excess:
    """AC voltages (points,) by node: within 1e-6 of their magnitude.

    Where signals cancel, both programs carry rounding errors of the largest voltage: 1e-12 of it is allowed.
    """
    largest = max(np.abs(theirs).max() for _, theirs in node_vectors(waves))
    return max(
        _worst(node, ours[node], theirs, 1e-6 * np.abs(theirs) + 1e-12 * largest, waves["frequency"])
        for node, theirs in node_vectors(waves)
    )


def noise(output: Array, referred: Array, waves: Waves) -> Excess:
    """Noise densities (points,) [V/√Hz]: at the output, and referred to the input."""
    return max(
        _worst(name, ours, waves[name], OF_NOISE * np.abs(waves[name]), waves["frequency"])
        for name, ours in (("onoise_spectrum", output), ("inoise_spectrum", referred))
    )


def transfer(gain: float, input_resistance: float, output_resistance: float, waves: Waves) -> Excess:
    """Results of ``.tf``: within 1e-6 of their values.

    ngspice's 1e20 ohm is infinite at the input. At the output it stands for any current's resistance.
    """
    ours = {"transfer_function": gain, "input_impedance": min(input_resistance, 1e20)}
    if waves["output_impedance"] != 1e20:
        ours["output_impedance"] = output_resistance
    return max(
        _worst(name, np.array([x]), waves[name], 1e-6 * np.abs(waves[name]) + 1e-12, np.zeros(1))
        for name, x in ours.items()
    )


def transient(ours: Callable[[Array], ByNode], waves: Waves) -> Excess:
    """``ours(times)`` (points,) by node at ngspice's own time points: within 0.1 % of the swing + 1 µV."""
    times = waves["time"]
    values = ours(times)
    return max(
        _worst(node, values[node], theirs, OF_SWING * np.ptp(theirs) + MICROVOLT, times)
        for node, theirs in node_vectors(waves)
    )


def oscillation(ours: Callable[[Array], ByNode], waves: Waves, by: str) -> Excess:
    """As :func:`transient`, over the last full cycle of node ``by``: its period, then waveforms by phase."""
    times = waves["time"]
    nodes = dict(node_vectors(waves))
    mine, theirs = last_cycle(times, ours(times)[by]), last_cycle(times, nodes[by])
    period = theirs[1] - theirs[0]
    worst = Excess(abs(mine[1] - mine[0] - period) / (OF_PERIOD * period), f"period of {by}", theirs[0])
    phases = np.linspace(0.0, 1.0, 2001)
    values = ours(mine[0] + (mine[1] - mine[0]) * phases)
    for node, wave in nodes.items():
        expected = np.interp(theirs[0] + period * phases, times, wave)
        allowed = OF_SWING_ALIGNED * np.ptp(expected) + MICROVOLT
        worst = max(worst, _worst(node, values[node], expected, allowed, phases * period))
    return worst


def last_cycle(times: Array, wave: Array) -> tuple[float, float]:
    """Start and end [s] of the last full cycle: rising crossings of the middle of the second half's range."""
    late = wave[times > times[-1] / 2]
    middle = (late.max() + late.min()) / 2
    k = np.flatnonzero((wave[:-1] < middle) & (wave[1:] >= middle))
    assert k.size >= 3, f"{k.size} rising crossings of {middle:g} V: no oscillation"
    crossings = times[k] + (middle - wave[k]) / (wave[k + 1] - wave[k]) * (times[k + 1] - times[k])
    return float(crossings[-2]), float(crossings[-1])


def _worst(name: str, ours: Array, theirs: Array, allowed: Array, where: Array) -> Excess:
    excess = np.abs(ours - theirs) / allowed
    k = int(np.argmax(np.where(np.isfinite(excess), excess, np.inf)))
    return Excess(float(excess[k]) if np.isfinite(excess[k]) else np.inf, name, float(where[k]))
