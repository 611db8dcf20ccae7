"""Runs the analyses of a deck, in its order, each into vectors by name.

    results = run_deck(read_spice("filter.cir"))
    results["ac"].vectors["v(out)"]       # complex (F,) [V]
    results["op"].answer.residual         # the analysis's own result

Vectors are named as SPICE names them: ``v(node)``, ``i(device)``, ``time``, ``frequency``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import spice_analyses as cards
from .deck import Deck
from .device_points import DevicePoints, device_points
from .devices import Array, Current
from .measure import Measured, measure
from .netlist import GROUND, Netlist, NetlistError
from .noise import NoiseSpectrum, noise
from .operating_point import ConvergenceError, OperatingPoint, operating_point
from .small_signal import LinearCircuit, SmallSignal, TransferFunction, ac, transfer
from .spice_lines import SpiceSyntaxError
from .sweeps import DcCurves, MonteCarloPoints, Swept, dc_sweep, monte_carlo, temperature_sweep
from .temperature import TEMPERATURE
from .transient import Transient, TransientError, transient

Answer = (
    OperatingPoint | DcCurves | Transient | SmallSignal | NoiseSpectrum | TransferFunction | MonteCarloPoints
)
Failure = ConvergenceError | TransientError
KINDS = {
    cards.OperatingPoint: "op",
    cards.DcSweep: "dc",
    cards.Transient: "tran",
    cards.Ac: "ac",
    cards.Noise: "noise",
    cards.Transfer: "tf",
    cards.MonteCarlo: "mc",
}
_SWEPT = {"voltage_source": "V", "current_source": "A"}  # else it is the temperature
TRANSIENT_RTOL = 1e-4  # a deck's reltol, of which SPICE's default is 1e-3, can only tighten it


@dataclass(frozen=True, eq=False)
class Result:
    """One analysis: its result as such, and as vectors (points,), or (outer, inner) of a double sweep.

    ``axis`` names the vector over which the others run. Units are those of ``units``, by name of the vector.
    """

    card: cards.Analysis
    answer: Answer
    vectors: Mapping[str, Array]
    units: Mapping[str, str]
    axis: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)  # .meas, by name
    devices: DevicePoints = field(default_factory=dict)  # .op: transistors and diodes, by name

    @property
    def kind(self) -> str:
        """``op``, ``dc``, ``tran``, ``ac``, ``noise``, ``tf`` or ``mc``."""
        return KINDS[type(self.card)]


def run_deck(deck: Deck, *, most_points: int = cards.MOST_POINTS) -> dict[str, Result]:
    """As :func:`run_analyses`, where every analysis has its result; otherwise raises what the first lacks."""
    results, failures = run_analyses(deck, most_points=most_points)
    for error in failures.values():
        raise error
    return results


def run_analyses(
    deck: Deck, *, most_points: int = cards.MOST_POINTS
) -> tuple[dict[str, Result], dict[str, Failure]]:
    """Results by kind, in the deck's order: ``op``, ``ac``, a second one as ``ac 2``, and so on; and by the
    same names why the others have none.

    The operating point comes first; only a deck of nothing but transients with ``uic`` has none. An analysis
    of more than ``most_points`` points, or time steps, is an error.

    Failures are :class:`~ohmostat.simulator.operating_point.ConvergenceError` and
    :class:`~ohmostat.simulator.transient.TransientError`, with ``FILE:LINE:`` of the analysis in front. So it
    is in :class:`~ohmostat.simulator.netlist.NetlistError`, which is raised. A circuit that cannot have an
    operating point raises :class:`~ohmostat.simulator.spice_lines.SpiceSyntaxError`.
    """
    runs = _Runs(deck, most_points)
    points = [c for c in deck.analyses if isinstance(c, cards.OperatingPoint)]
    wanted: list[cards.Analysis] = [c for c in deck.analyses if not isinstance(c, cards.OperatingPoint)]
    without = [c for c in wanted if isinstance(c, cards.Transient) and c.use_initial_conditions]
    if len(without) < len(deck.analyses) or not deck.analyses:
        deck.validate(runs.net)
        wanted.insert(0, points[0] if points else cards.OperatingPoint(origin=deck.origin))
    results: dict[str, Result] = {}
    failures: dict[str, Failure] = {}
    counts: dict[str, int] = {}
    for card in wanted:
        kind = KINDS[type(card)]
        counts[kind] = counts.get(kind, 0) + 1
        name = kind if counts[kind] == 1 else f"{kind} {counts[kind]}"
        try:
            results[name] = _measured(runs.run(card), deck)
        except (NetlistError, ConvergenceError, TransientError) as error:
            placed = type(error)(f"{card.origin}: {error}" if card.origin else str(error))
            if isinstance(placed, NetlistError):
                raise placed from None
            failures[name] = placed
    return results, failures


def _measured(result: Result, deck: Deck) -> Result:
    """The result with the deck's measurements of its kind."""
    wanted = [one for one in deck.measures if one.kind == result.kind]
    if not wanted or result.axis is None:
        return result
    wave = result.answer if isinstance(result.answer, Transient) else None
    return replace(result, measured=measure(wanted, result.vectors, result.axis, wave))


class _Runs:
    """What the analyses of one deck share: its netlist, operating point and linear circuit."""

    def __init__(self, deck: Deck, most_points: int) -> None:
        self.deck, self.net, self.most_points = deck, deck.netlist(), most_points

    @cached_property
    def point(self) -> OperatingPoint:
        return operating_point(self.net, initial=self.deck.nodeset)

    @cached_property
    def linear(self) -> LinearCircuit:
        if "point" not in self.__dict__:  # of every deck with such an analysis it is the first
            raise ConvergenceError("no operating point to linearise the circuit at")
        return LinearCircuit(self.net, self.point)

    def run(self, card: cards.Analysis) -> Result:
        if card.points > self.most_points:
            raise NetlistError(f"{card.points} points; at most {self.most_points} are allowed")
        match card:
            case cards.OperatingPoint():
                return self._operating_point(card)
            case cards.DcSweep():
                return self._dc(card)
            case cards.Transient():
                return self._transient(card)
            case cards.Ac():
                return self._ac(card)
            case cards.Noise():
                return self._noise(card)
            case cards.Transfer():
                return self._transfer(card)
            case cards.MonteCarlo():
                return self._monte_carlo(card)

    def _operating_point(self, card: cards.OperatingPoint) -> Result:
        point = self.point
        vectors, units = self._named(point.voltages[None], point.currents[None])
        attributes = {
            "residual": point.residual,
            "voltage_residual": point.voltage_residual,
            "method": point.method,
            "iterations": point.iterations,
        }
        devices = device_points(self.net, point)
        return Result(card, point, vectors, units, attributes=attributes, devices=devices)

    def _dc(self, card: cards.DcSweep) -> Result:
        sweeps: dict[Swept, Array] = {sweep.source: sweep.values() for sweep in card.sweeps}
        if TEMPERATURE in sweeps:
            curves = temperature_sweep(self._net_at, sweeps, initial=self.deck.nodeset)
        else:
            curves = dc_sweep(self.net, sweeps, initial=self.deck.nodeset)
        vectors, units = self._named(curves.voltages, curves.currents)
        axes = {}
        for name, (source, values) in zip(("sweep", "outer"), curves.axes.items(), strict=False):
            axes[name] = values
            units[name] = _SWEPT.get(self.net.kind(str(source)) or "", "°C")
        attributes = {"source": " ".join(str(key) for key in curves.axes), "residual": curves.residual}
        return Result(card, curves, axes | vectors, units, "sweep", attributes)

    def _net_at(self, celsius: float) -> Netlist:
        assert self.deck.at_temperature is not None  # as the deck's card was read
        try:
            return self.deck.at_temperature(celsius).netlist()
        except SpiceSyntaxError as error:
            raise SpiceSyntaxError(error.file, error.line, f"at {celsius:g} °C: {error.message}") from None

    def _transient(self, card: cards.Transient) -> Result:
        deck, uic, start = self.deck, card.use_initial_conditions, None
        if deck.nodeset and not uic:
            start = operating_point(self.net, initial=deck.nodeset, time=0.0)
        stored = {element.name: element.initial for element in deck.elements if element.initial is not None}
        found = transient(
            self.net, card.stop, initial=deck.ic, uic=uic, stored=stored if uic else None, start=start,
            max_step=card.longest_step, max_steps=self.most_points,
            rtol=min(TRANSIENT_RTOL, deck.options.reltol), atol=deck.options.vntol,
        )  # fmt: skip
        kept = found.at(_times(card, found.times))
        vectors, units = self._named(kept.voltages, kept.currents)
        vectors, units = {"time": kept.times} | vectors, units | {"time": "s"}
        attributes = {"residual": found.residual} | asdict(found.counts)
        return Result(card, found, vectors, units, "time", attributes)

    def _ac(self, card: cards.Ac) -> Result:
        response = ac(self.linear, card.frequencies())
        vectors, units = self._named(response.voltages, response.currents)
        vectors, units = {"frequency": response.frequencies} | vectors, units | {"frequency": "Hz"}
        return Result(card, response, vectors, units, "frequency")

    def _noise(self, card: cards.Noise) -> Result:
        spectrum = noise(self.linear, card.output, card.source, card.frequencies())
        source = "V" if self.net.kind(card.source) == "voltage_source" else "A"
        vectors = {
            "frequency": spectrum.frequencies,
            "onoise_spectrum": np.sqrt(spectrum.output),
            "inoise_spectrum": np.sqrt(spectrum.input),
        }
        units = {"frequency": "Hz", "onoise_spectrum": "V/√Hz", "inoise_spectrum": f"{source}/√Hz"}
        for device, density in zip(spectrum.devices, spectrum.contributions, strict=True):
            vectors[f"onoise({device})"], units[f"onoise({device})"] = np.sqrt(density), "V/√Hz"
        attributes: dict[str, Any] = {"output": _probed(card.output), "source": card.source}
        if len(spectrum.frequencies) > 1:
            attributes |= {"onoise_total": spectrum.output_total(), "inoise_total": spectrum.input_total()}
        return Result(card, spectrum, vectors, units, "frequency", attributes)

    def _transfer(self, card: cards.Transfer) -> Result:
        output = card.output
        assert isinstance(output, tuple | Current)  # as .tf's card is read
        found = transfer(self.linear, output, card.source)
        top = "A" if isinstance(output, Current) else "V"
        bottom = "V" if self.net.kind(card.source) == "voltage_source" else "A"
        values = {
            "transfer_function": (found.gain, f"{top}/{bottom}"),
            "input_impedance": (found.input_resistance, "ohm"),
            "output_impedance": (found.output_resistance, "ohm"),
        }
        vectors = {name: np.array([value]) for name, (value, _) in values.items()}
        return Result(card, found, vectors, {name: unit for name, (_, unit) in values.items()})

    def _monte_carlo(self, card: cards.MonteCarlo) -> Result:
        found = monte_carlo(
            self.net, self.deck.mismatch, card.samples, seed=card.seed, initial=self.deck.nodeset
        )
        vectors, units = self._named(found.voltages, found.currents)
        attributes = {"seed": card.seed, "failed": int((~found.converged).sum())}
        return Result(card, found, vectors, units, attributes=attributes)

    def _named(self, voltages: Array, currents: Array) -> tuple[dict[str, Array], dict[str, str]]:
        """Vectors and units of node voltages (..., n) and branch currents (..., m)."""
        vectors = {f"v({node})": voltages[..., k] for k, node in enumerate(self.net.nodes)}
        units = dict.fromkeys(vectors, "V")
        currents_by_name = {f"i({name})": currents[..., k] for k, name in enumerate(self.net.branches)}
        return vectors | currents_by_name, units | dict.fromkeys(currents_by_name, "A")


def _probed(output: tuple[str, str]) -> str:
    """A node pair as SPICE writes it."""
    first, second = output
    return f"v({first})" if second == GROUND else f"v({first},{second})"


def _times(card: cards.Transient, accepted: Array) -> Array:
    """The solver's own time points, and those that the card wants printed."""
    printed = card.start + card.step * np.arange(int((card.stop - card.start) / card.step) + 1)
    return np.union1d(accepted[accepted >= card.start], np.minimum(printed, accepted[-1]))
