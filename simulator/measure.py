"""Measurements on the curves of an analysis (``.meas``): extremes, means, crossings, delays.

Curves are straight between the points of ``.dc`` and ``.ac``. Those of ``.tran`` are splines through the
solver's own points (:meth:`.Transient.at`), taken at ``FINER`` times as many, so that an extreme or a
crossing does not depend on where the points happen to lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .devices import Array, Control, Current, Time
from .expressions import Expression
from .netlist import GROUND
from .spice_measures import (
    LAST,
    At,
    Between,
    Computed,
    Crossing,
    Event,
    Found,
    Measure,
    Reduced,
    Signal,
    Window,
)
from .spice_numbers import ExpressionError
from .transient import Transient

FINER = 8  # parts of each interval of a transient
MOST_FINER = 4_000_000  # values of its curves at once; beyond, fewer parts
NEAR = 1e-9  # of an axis: how far beyond its end a place may lie by rounding; of a height: what is none


class MeasureError(ValueError):
    """A measurement that has no answer on these curves; says why."""


@dataclass(frozen=True)
class Measured:
    """A measurement's ``value``, and ``beside`` it where it was found, by SPICE's words (``at``, ``from`` …);
    or why it ``failed``.
    """

    value: float
    beside: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""


def measure(
    measures: Sequence[Measure], vectors: Mapping[str, Array], axis: str, transient: Transient | None = None
) -> dict[str, Measured]:
    """Every measurement by name, on ``vectors`` (points,) over the one called ``axis``, or on a transient, of
    which ``vectors`` has the times.
    """
    found: dict[str, Measured] = {}
    for one in measures:
        try:
            if isinstance(one.task, Computed):
                result = Measured(_computed(one.task, found))
            else:
                ports = tuple(dict.fromkeys(port for signal in one.signals for port in signal.ports))
                result = _Curves(*_curves(ports, vectors, axis, transient)).measured(one.task)
            if not math.isfinite(result.value):
                raise MeasureError("what is measured is not finite there")
        except (MeasureError, ExpressionError) as error:
            result = Measured(math.nan, failed=str(error))
        found[one.name] = result
    return found


def _computed(task: Computed, found: Mapping[str, Measured]) -> float:
    def value(name: str) -> float:
        if name not in found:
            return task.parameter(name)
        if found[name].failed:
            raise MeasureError(f"needs {name}, which failed")
        return found[name].value

    return task.formula.constant(value)


def _curves(
    ports: tuple[Control, ...], vectors: Mapping[str, Array], axis: str, transient: Transient | None
) -> tuple[Array, dict[Control, Array]]:
    """The axis (n,), and each port's values (n,) along it."""
    x = vectors[axis]
    if transient is not None:
        x = _with_corners(_finer(x, 1 + len(ports)), transient.times)
        vectors = _between(transient, ports, x)
    return x, {port: _port(port, x, vectors) for port in ports}


def _finer(x: Array, curves: int) -> Array:
    """Points between those of ``x``, as many as ``curves`` of them may have."""
    parts = int(np.clip(MOST_FINER // (len(x) * curves), 1, FINER))
    places = np.arange((len(x) - 1) * parts + 1) / parts
    return np.interp(places, np.arange(len(x)), x)


def _with_corners(x: Array, times: Array) -> Array:
    """``x`` with both sides of every corner that the solver met within."""
    corners = times[1:][np.diff(times) == 0.0]
    corners = corners[(corners > x[0]) & (corners < x[-1])]
    return np.sort(np.concatenate([np.setdiff1d(x, corners), corners, corners]))


def _between(transient: Transient, ports: tuple[Control, ...], times: Array) -> dict[str, Array]:
    """Vectors of the nodes and devices that the ports need, at any times."""
    pairs = [port for port in ports if isinstance(port, tuple)]
    nodes = tuple({node: None for pair in pairs for node in pair if node != GROUND})
    devices = tuple(port.device for port in ports if isinstance(port, Current))
    columns = [transient.nodes.index(node) for node in nodes]
    columns += [len(transient.nodes) + transient.branches.index(device) for device in devices]
    if not columns:
        return {"time": times}
    some = replace(transient, nodes=nodes, branches=devices, x=transient.x[:, columns]).at(times)
    vectors = {f"v({node})": some[node] for node in nodes} | {"time": times}
    return vectors | {f"i({device})": some.current(device) for device in devices}


def _port(port: Control, x: Array, vectors: Mapping[str, Array]) -> Array:
    if isinstance(port, Time):
        return vectors.get("time", np.zeros(len(x)))
    if isinstance(port, Current):
        return vectors[f"i({port.device})"]
    first, second = (0.0 if node == GROUND else vectors[f"v({node})"] for node in port)
    return np.broadcast_to(np.asarray(first - second), len(x))


class _Curves:
    """Ports' values over an axis that rises or falls throughout."""

    def __init__(self, x: Array, ports: Mapping[Control, Array]) -> None:
        self.x, self.ports = x, ports
        self.span = float(x.min()), float(x.max())

    def measured(self, task: Reduced | Found | Between) -> Measured:
        match task:
            case Reduced():
                return self._reduced(task)
            case Between():
                (trigger, _), (target, _) = self._place(task.trigger), self._place(task.target)
                return Measured(target - trigger, {"targ": target, "trig": trigger})
            case Found():
                place, read = self._place(task.event)
                return Measured(place if task.signal is None else read(self._values(task.signal)))

    def _values(self, signal: Signal) -> Array:
        if isinstance(signal.source, Expression):
            u = [self.ports[port] for port in signal.source.ports]
            return signal.source.evaluate(np.reshape(u, (len(u), len(self.x))))[0]
        y = self.ports[signal.source]
        with np.errstate(divide="ignore"):  # 0 has no decibels
            return _PARTS[signal.part](y) if np.iscomplexobj(y) or signal.part else y

    def _at(self, y: Array, place: float) -> float:
        rising = slice(None, None, 1 if self.x[-1] >= self.x[0] else -1)
        return float(np.interp(place, self.x[rising], y[rising]))

    def _reduced(self, task: Reduced) -> Measured:
        x, y = self._within(task.window, self._values(task.signal))
        ends = {"from": float(x[0]), "to": float(x[-1])}
        place = int(np.argmin(y) if task.function.startswith("min") else np.argmax(y))
        extreme, where = float(y[place]), float(x[place])
        if task.function in ("max", "min"):
            return Measured(extreme, {"at": where})
        if task.function in ("max_at", "min_at"):
            return Measured(where, {"with": extreme})
        if task.function == "pp":
            return Measured(float(np.ptp(y)), ends)
        a, b, width = y[:-1], y[1:], np.diff(x)
        if task.function == "integ":
            return Measured(float(np.sum(width * (a + b) / 2.0)), ends)
        if x[0] == x[-1]:
            raise MeasureError(f"a mean from {x[0]:g} to {x[-1]:g}, which are one point")
        total = (a + b) / 2.0 if task.function == "avg" else (a * a + a * b + b * b) / 3.0
        mean = float(np.sum(width * total)) / float(x[-1] - x[0])
        return Measured(mean if task.function == "avg" else math.sqrt(max(mean, 0.0)), ends)

    def _within(self, window: Window, y: Array) -> tuple[Array, Array]:
        """The curve inside a window, whose ends become points of their own; in the axis' own direction."""
        low, high = max(window.start, self.span[0]), min(window.stop, self.span[1])
        if low > high:
            raise MeasureError(
                f"from {window.start:g} to {window.stop:g} is nothing of {self.span[0]:g} to {self.span[1]:g}"
            )
        inside = (self.x > low) & (self.x < high)
        ends = (low, high) if self.x[-1] >= self.x[0] else (high, low)
        x = np.concatenate(([ends[0]], self.x[inside], [ends[1]]))
        return x, np.concatenate(([self._at(y, ends[0])], y[inside], [self._before(y, ends[1])]))

    def _before(self, y: Array, place: float) -> float:
        """At a place of which the earlier side counts, where there are two."""
        first = int(np.argmax(self.x == place))
        return float(y[first]) if self.x[first] == place else self._at(y, place)

    def _place(self, event: Event) -> tuple[float, Callable[[Array], float]]:
        """Where on the axis an event is, and what a curve is there."""
        low, high = self.span
        if isinstance(event, At):
            if not low - NEAR * (high - low) <= event.place <= high + NEAR * (high - low):
                raise MeasureError(f"at {event.place:g} is outside of {low:g} to {high:g}")
            return event.place, lambda y: self._at(y, event.place)
        after, shares, rising = _crossings(self._height(event))
        places = self.x[after] + shares * (self.x[after + 1] - self.x[after])
        wanted = (places >= event.window.start) & (places <= event.window.stop)
        if event.edge != "cross":
            wanted &= rising == (event.edge == "rise")
        found = np.flatnonzero(wanted)
        if not len(found) or event.count > len(found):
            raise MeasureError(_missing(event, len(found)))
        one = found[event.count - 1 if event.count != LAST else -1]
        k, share = after[one], shares[one]  # in a jump, too, where the axis alone would not tell
        return float(places[one]), lambda y: float(y[k] + share * (y[k + 1] - y[k]))

    def _height(self, event: Crossing) -> Array:
        """Of the signal above the level."""
        signal = self._values(event.signal)
        level = self._values(event.level) if isinstance(event.level, Signal) else np.array(event.level)
        height = np.asarray(signal - level)
        if not np.isfinite(height).all():
            raise MeasureError(f"{event.signal.text} is not finite everywhere")
        close = NEAR * (
            np.abs(signal).max() + np.abs(level).max()
        )  # as the solver's rounding leaves a plateau
        return np.where(np.abs(height) <= close, 0.0, height)


def _crossings(height: Array) -> tuple[Array, Array, Array]:
    """Where a curve (n,) goes through 0 by straight lines: after which points, at what share of the way to
    the next, and whether upwards. One that reaches 0 has gone through, as in SPICE, and goes through again
    when it turns back; one that begins there is above.
    """
    signs = np.sign(height)
    last = np.maximum.accumulate(np.where(signs != 0, np.arange(len(height)), -1))  # so far that is not 0
    side = np.where(signs != 0, signs, np.where(last >= 0, -signs[last], 1.0))
    (after,) = np.nonzero(side[1:] != side[:-1])
    a, b = height[after], height[after + 1]
    return after, a / (a - b), side[after + 1] > 0


def _missing(event: Crossing, found: int) -> str:
    level = event.level.text if isinstance(event.level, Signal) else f"{event.level:g}"
    how = {"rise": "rises", "fall": "falls", "cross": "goes"}[event.edge]
    where = "" if event.window == Window() else f" from {event.window.start:g} to {event.window.stop:g}"
    if found:
        return f"{event.signal.text} {how} through {level}{where} {found} times only, not {event.count}"
    return f"{event.signal.text} never {how} through {level}{where}"


_PARTS: dict[str, Callable[[Array], Array]] = {
    "": np.real,
    "r": np.real,
    "i": np.imag,
    "m": np.abs,
    "p": np.angle,
    "db": lambda y: 20.0 * np.log10(np.abs(y)),
}
