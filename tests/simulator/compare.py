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
from numpy.typing import ArrayLike

from ohmostat.simulator.banks import GROUND
from ohmostat.simulator.ngspice import (
    TIGHT,
    TIGHT_TRANSIENT,
    Waves,
    ngspice_available,
    simulate_with_ngspice,
    with_options,
    with_steps,
)
from ohmostat.simulator.noise import NoiseSpectrum
from ohmostat.simulator.spice_cards import CARDS, Element, Models
from ohmostat.simulator.spice_reader import parse_spice

Array = np.ndarray[Any, Any]

MICROVOLT = 1e-6
PICOAMPERE = 1e-12
OF_SWING = 1e-3  # transients, at equal times
OF_PERIOD = 1e-3  # oscillators
OF_SWING_ALIGNED = 5e-3  # oscillators, over one cycle of aligned phase
OF_NOISE = 1e-3

CORNER = 1e-12  # of a time: by so much before a corner, at which ngspice's values are those before it
WINDOWS = 200  # of a transient, over each of which currents are averaged
STEPS = 20_000  # of ngspice's transients, which then err by less than a third of what is allowed

_ANALYSIS = re.compile(r"^\.(op|dc|ac|noise|tran|tf)\b.*\n", re.MULTILINE)
_NOISE_OF = {
    "d": "id",
    "m": "id",
}  # ngspice's word for the noise of the device itself, beside its resistances
_EKV_MODEL = re.compile(r"^\.model \S+ \S+\(LEVEL=44.*\n", re.MULTILINE)
# What ngspice makes up: nodes of series resistances, nodes and B sources of E and G given by formulas, all
# inside an EKV transistor.
_INTERNAL = re.compile(r"#|_int\d+\)$|\bb[eg]\w*\)$|\bxm\d+\.")


class Answer(Protocol):
    """Voltages by node, and currents by voltage-defined device."""

    @property
    def nodes(self) -> tuple[str, ...]: ...

    @property
    def branches(self) -> tuple[str, ...]: ...

    def __getitem__(self, node: str, /) -> ArrayLike: ...

    def current(self, device: str, /) -> ArrayLike: ...


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
    alone = _ANALYSIS.sub(lambda card: card.group() if card[1] == kind else "", without_ekv(text))
    if kind == "tran":
        alone = with_options(with_steps(alone, STEPS), TIGHT_TRANSIENT)
    else:
        alone = with_options(alone, TIGHT)
    return simulate_with_ngspice(alone)[kind]


def without_ekv(text: str) -> str:
    """``text`` with its EKV transistors, which ngspice lacks, as subcircuits that ``write_spice`` emits."""
    deck, models = parse_spice(text), Models()
    net = deck.netlist()
    nodes = (GROUND, *net.nodes)
    for bank in net.banks:
        for name, ports, parameters in bank.rows() if bank.kind == "ekv" else ():
            card = CARDS["ekv"](Element([(nodes[a], nodes[b]) for a, b in ports], parameters), models)
            text = re.sub(rf"^{name} .*$", f"X{name} {card}", text, flags=re.MULTILINE | re.IGNORECASE)
    text = _EKV_MODEL.sub("", text)
    return re.sub(r"^\.end$", "\n".join([*models.lines(), ".end"]), text, flags=re.MULTILINE)


def _pairs(ours: Answer, waves: Waves) -> Iterator[tuple[str, Array, Array]]:
    """Name, our values and ngspice's, of every node's voltage and every branch's current."""
    theirs = {name for name in waves.vectors if name[:2] in ("v(", "i(") and not _INTERNAL.search(name)}
    voltages = {f"v({node})": ours[node] for node in ours.nodes if "#" not in node}
    currents = {f"i({device})": ours.current(device) for device in ours.branches}
    assert theirs == voltages.keys() | currents.keys(), theirs ^ (voltages.keys() | currents.keys())
    for name, values in (voltages | currents).items():
        yield name, np.ravel(values), waves[name]


def _floor(name: str) -> float:
    """An absolute error that is allowed [V or A], as it is by SPICE's own default tolerances."""
    return MICROVOLT if name.startswith("v(") else PICOAMPERE


def points(ours: Answer, waves: Waves) -> Excess:
    """Operating points and DC sweeps, within 1e-6 of the value and 1 µV or 1 pA."""
    return max(
        _worst(name, mine, theirs, _floor(name) + 1e-6 * np.abs(theirs), np.arange(theirs.size))
        for name, mine, theirs in _pairs(ours, waves)
    )


def small_signals(ours: Answer, waves: Waves) -> Excess:
    """AC amplitudes: within 1e-6 of their magnitude.

    Where signals cancel, both programs carry rounding errors of the largest voltage, or current: 1e-12 of it
    is allowed.
    """
    pairs = list(_pairs(ours, waves))
    largest = {
        kind: max(np.abs(theirs).max() for name, _, theirs in pairs if name[0] == kind) for kind in "vi"
    }
    return max(
        _worst(name, mine, theirs, 1e-6 * np.abs(theirs) + 1e-12 * largest[name[0]], waves["frequency"])
        for name, mine, theirs in pairs
    )


def noise(ours: NoiseSpectrum, waves: Waves) -> Excess:
    """Noise densities (points,): at the output, referred to the input, and each device's part.

    Within 0.1 %, and of a part within 1e-6 of the whole: parts of less change nothing.
    """
    output = waves["onoise_spectrum"]
    pairs = [("onoise_spectrum", np.sqrt(ours.output), 0.0), ("inoise_spectrum", np.sqrt(ours.input), 0.0)]
    for device in ours.devices:
        name, _, part = device.partition("#")
        tag = f"_{part or _NOISE_OF[name[0]]}" if name[0] in _NOISE_OF else ""
        if part not in ("bd", "bs"):  # ngspice's bulk junctions are silent
            pairs.append((f"onoise_{name}{tag}", np.sqrt(ours.contribution(device)), 1e-6))
    return max(
        _worst(name, mine, waves[name], OF_NOISE * waves[name] + floor * output, waves["frequency"])
        for name, mine, floor in pairs
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


def transient(ours: Callable[[Array], Answer], waves: Waves) -> Excess:
    """Voltages at ngspice's own time points, and mean currents: within 0.1 % of their swing.

    Beside that, 1 µV, and 1 pA + 1e-6 of the largest current, which ngspice iterates to, are allowed. By the
    trapezoidal rule, ngspice's currents of capacitances alternate about their course from each corner on, and
    switches turn a little earlier or later: currents are therefore means over windows.
    """
    times = waves["time"]
    worst = Excess(0.0)
    for name, mine, theirs in _pairs(ours(times * (1.0 - CORNER)), waves):
        allowed, where = OF_SWING * np.ptp(theirs) + _floor(name), times
        if name.startswith("i("):
            allowed += 1e-6 * np.abs(theirs).max()
            where = np.linspace(times[0], times[-1], WINDOWS + 1)
            mine, theirs = (_means(times, values, where) for values in (mine, theirs))
        worst = max(worst, _worst(name, mine, theirs, allowed, where))
    return worst


def _means(times: Array, values: Array, edges: Array) -> Array:
    """Means (windows,) between successive edges."""
    integral = np.concatenate([[0.0], np.cumsum(np.diff(times) * (values[1:] + values[:-1]) / 2.0)])
    return np.asarray(np.diff(np.interp(edges, times, integral)) / np.diff(edges))


def oscillation(ours: Callable[[Array], Answer], waves: Waves, by: str) -> Excess:
    """As :func:`transient`, over the last full cycle of node ``by``: its period, then waveforms by phase."""
    times = waves["time"]
    mine, theirs = last_cycle(times, np.asarray(ours(times)[by])), last_cycle(times, waves[f"v({by})"])
    period = theirs[1] - theirs[0]
    worst = Excess(abs(mine[1] - mine[0] - period) / (OF_PERIOD * period), f"period of {by}", theirs[0])
    phases = np.linspace(0.0, 1.0, 2001)
    values = ours(mine[0] + (mine[1] - mine[0]) * phases)
    for name, wave, other in _pairs(values, waves):
        expected = np.interp(theirs[0] + period * phases, times, other)
        allowed = OF_SWING_ALIGNED * np.ptp(expected) + _floor(name)
        worst = max(worst, _worst(name, wave, expected, allowed, phases * period))
    return worst


def last_cycle(times: Array, wave: Array) -> tuple[float, float]:
    """Start and end [s] of the last full cycle: rising crossings of the middle of the second half's range."""
    late = wave[times > times[-1] / 2]
    middle = (late.max() + late.min()) / 2
    k = np.flatnonzero((wave[:-1] < middle) & (wave[1:] >= middle))
    assert k.size >= 3, f"{k.size} rising crossings of {middle:g} V: no oscillation"
    crossings = times[k] + (middle - wave[k]) / (wave[k + 1] - wave[k]) * (times[k + 1] - times[k])
    return float(crossings[-2]), float(crossings[-1])


def _worst(name: str, ours: Array, theirs: Array, allowed: Array | float, where: Array) -> Excess:
    error = np.abs(ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(error == 0.0, 0.0, error / allowed)
    k = int(np.argmax(np.nan_to_num(excess, nan=np.inf)))
    return Excess(float(np.nan_to_num(excess[k], nan=np.inf)), name, float(where[k]))
