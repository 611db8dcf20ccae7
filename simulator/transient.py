"""Transients: a circuit's voltages and currents in time, F(x, t) + d/dt Q(x) = 0.

    wave = transient(net, stop=1e-6)
    wave["out"]             # voltage [V] at wave.times
    wave.at(times)["out"]   # in between: a spline through the accepted points
    wave.energy()           # delivered by each source, dissipated, stored

Linear circuits go from corner to corner of their sources by an exponential integrator
(:mod:`.transient_exponential`), all others by steps as long as the local error allows. Steps end exactly at
every corner, and where a switch changes; at the beginning, and where something jumps, a method starts that
needs no derivative. Lengths of steps lie on a grid, so that factors serve many of them; as that damps the
control of the step, a plain integral controller is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .banks import NetlistError
from .devices import Array
from .equations import Drive, Equations
from .netlist import Netlist
from .operating_point import Start
from .overrides import Overrides
from .transient_events import Switches
from .transient_exponential import Declined, Exponential
from .transient_sources import SHORTEST, DriveAt, Sources
from .transient_start import beginning
from .transient_steps import (
    METHODS,
    STARTER,
    Counts,
    ExplicitStages,
    LinearStages,
    Method,
    NewtonStages,
    Point,
    Stages,
    Step,
    StepFailure,
    after_jumps,
    extrapolated,
    take_step,
)
from .transient_waves import Energy, Traces, Transient

__all__ = ["Energy", "Traces", "Transient", "TransientError", "transient"]

STEPS = 50  # of a whole transient, at least, where something may happen between corners of the sources
FIRST, FIRST_AT_REST = 1e-5, 1e-3  # of the whole transient: the first step tried, and from an operating point
INSTANT = 1e-9  # of the whole transient: a step in which a switch may change
SAFETY, SHRINK, GROW = 0.9, 0.1, 2.0
PLATEAU = 0.9  # a step that should shrink by less than this is kept
RESTART = 0.1  # of the last step: the first one after a corner at which nothing jumps
PIECE_STEPS = 3  # from one corner to the next, at least: what a cubic spline needs
TIGHTEST = 1e-12  # relative tolerance
BEND = 10.0  # in units of the allowed error: what interpolation between two points may miss


class TransientError(RuntimeError):
    """No step leads on, however short; names the time and the nodes."""


def transient(
    net: Netlist, stop: float, *, initial: Mapping[str, float] | None = None, uic: bool = False,
    stored: Mapping[str, float] | None = None, start: Start | None = None, at: Overrides | None = None,
    method: str = "auto", max_step: float | None = None, rtol: float = 1e-4, atol: float = 1e-6,
    current_atol: float = 1e-9, max_steps: int = 1_000_000,
) -> Transient:  # fmt: skip
    """Solve F(x, t) + d/dt Q(x) = 0 from 0 to ``stop`` [s].

    Args:
        net: the circuit.
        stop: end [s].
        initial: voltages [V] by node at which the transient starts: held while the operating point is found
            (SPICE's ``.ic``) or, with ``uic``, together with 0 V at all other nodes in its place.
        uic: start from charges, without an operating point. Nodes without storage follow at once.
        stored: with ``uic``, voltages [V] by capacitor and currents [A] by inductor, above ``initial``
            (SPICE's ``ic=``).
        start: a solution from which the operating point is searched, as that of
            :func:`~ohmostat.simulator.operating_point.operating_point` with SPICE's ``.nodeset``.
        at: parameters replaced, for a batch by one value a sample (:class:`~.equations.Equations`). All
            samples take the same steps.
        method: ``auto`` (one linear circuit whose sources are straight between their corners: an exponential
            integrator, as far as that takes fewer solves; all else: ``tr-bdf2``), or steps by ``tr-bdf2``
            (L-stable, order 2), ``esdirk4`` (L-stable, order 4: fewer steps at an ``rtol`` of 1e-5 or less,
            but long ones may pass over what a diode does), or ``explicit`` (order 3, for circuits that are
            not stiff, in which every node that no source fixes has a capacitor to ground, and no other
            capacitors exist).
        max_step: longest step [s], and time between points; ``stop / 50`` unless given, and none for linear
            circuits whose sources are straight between their corners.
        rtol: local error allowed, relative to the largest value that the unknown has had.
        atol: that of node voltages [V] in any case.
        current_atol: that of inductors' currents [A]. Other branch currents follow from these.
        max_steps: after so many steps it gives up.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for impossible arguments,
    :class:`~ohmostat.simulator.operating_point.ConvergenceError` without an operating point to start from,
    and :class:`TransientError`. See :mod:`~.transient_steps` for the methods and their sources.
    """
    _check("stop", stop, "s")
    _check("max_step", stop if max_step is None else max_step, "s")
    _check("rtol", rtol, "", TIGHTEST)
    _check("atol", atol, "V")
    _check("current_atol", current_atol, "A")
    if method not in ("auto", *METHODS):
        raise NetlistError(f"transient method {method!r}; use one of {', '.join(METHODS)}, auto")
    if stored and not uic:
        raise NetlistError(f"stored {', '.join(stored)}: only a transient with uic=True starts from these")
    equations = Equations(net, at, eliminate=method == "explicit")
    begin = beginning(equations, at, initial or {}, stored or {}, start, uic)
    sources = Sources(equations, stop)
    foreseeable = sources.straight and all(bank.device.linear for bank in equations.banks)
    if max_step is None:  # errors within a step then tell of all that follows
        max_step = stop if foreseeable else stop / STEPS
    run = _Run(sources, METHODS.get(method, METHODS["tr-bdf2"]), min(max_step, stop), max_steps)
    if method == "auto" and foreseeable and equations.batch == 1 and not equations.is_complex:
        run.leap()
    run.set_tolerances(rtol, atol, current_atol, begin.x)
    run(begin)
    return run.result()


def _check(name: str, value: float, unit: str, bound: float = 0.0) -> None:
    if not (math.isfinite(value) and value > bound):
        raise NetlistError(
            f"transient: {name} is {value:g} {unit}; give a finite value above {bound:g} {unit}"
        )


class _Run:
    """Steps from 0 to the end, and the points that they reach."""

    def __init__(self, sources: Sources, method: Method, max_step: float, max_steps: int) -> None:
        self.sources, self.equations, self.stop = sources, sources.equations, sources.stop
        self.method, self.max_step, self.max_steps = method, max_step, max_steps
        self.counts = Counts()
        self.stages = _stages(self.equations, method, self.counts)
        # Where all is linear nothing bends, and stages of esdirk4 are too inaccurate to tell.
        self.bending = isinstance(self.stages, NewtonStages) and method is METHODS["tr-bdf2"]
        self.start_step = self.finest = min(FIRST * self.stop, max_step)
        self.step = FIRST_AT_REST * self.stop / RESTART
        self.switches, self.instant = Switches(self.equations), INSTANT * self.stop
        self.times: list[float] = []
        self.values: list[Array] = []  # (T, B, size), of some points each
        self.starts: list[int] = []
        self.residuals = np.zeros(len(self.equations.structure.free))
        self.exponential: Exponential | None = None

    def set_tolerances(self, rtol: float, atol: float, current_atol: float, x: Array) -> None:
        """Allowed errors, of the voltages and the inductors' currents; others are not controlled."""
        at = self.equations.structure
        floor = np.full(at.size, np.inf)
        floor[: at.nodes] = atol
        for bank in self.equations.banks:
            if bank.kind == "inductor" and bank.branches is not None:
                floor[bank.branches - 1] = current_atol
        self.rtol, self.floor, self.peak = rtol, floor, np.abs(x)

    @property
    def weight(self) -> Array:
        """Allowed error (B, size) of each unknown."""
        return np.asarray(self.floor + self.rtol * self.peak)

    def __call__(self, point: Point) -> None:
        """From ``point`` at time 0, corner by corner."""
        for end in self.sources.corners():
            drive_at = self.sources.between(point.time, end)
            if self.exponential is not None:
                point = self._leapt(self.exponential, point, drive_at, end)
            if point.time < end:
                point = self._piece(point, drive_at, end)

    def _piece(self, point: Point, drive_at: DriveAt, end: float) -> Point:
        """To the next corner of the sources, in at least ``PIECE_STEPS`` steps."""
        recent: list[tuple[float, Array]] = [(point.time, point.x)]
        most = (end - point.time) / PIECE_STEPS
        before, point = point, self._prepared(point, drive_at(point.time))
        h = self.start_step if point.k is None else RESTART * self.step
        h = self._fitting(min(h, most), end - point.time)

        while point.time < end:
            method = STARTER if point.k is None else self.method
            step = self._tried(method, drive_at, point, h, recent)
            shorter = self._shorter(method, point, step, h, recent)
            if shorter is not None:
                self.counts.rejected += 1
                h = shorter
                if len(recent) == 1:  # K may have jumped with a source's slope
                    point = self._restarting(point)
                continue
            assert step is not None
            if len(recent) == 1:
                recent = [(point.time, self._begin(before.x, point.time, step.start))]
            landed = end if h >= end - point.time else step.end.time
            before, point = point, Point(landed, step.end.x, step.end.q, step.end.k)
            self._accept(point, drive_at)
            h, recent = self._longer(method, before, step, h), [*recent, *step.path][-3:]
            if self.switches.reached(before, point, self.weight):
                before, h, recent = point, self.start_step, [(point.time, point.x)]
                point = self._restarting(point)
            h = self._fitting(min(h, most), end - point.time)
        return point

    def leap(self) -> None:
        """From corner to corner at a time, as far as an exponential integrator leads."""
        assert isinstance(self.stages, LinearStages)
        self.exponential = Exponential(self.stages, self.max_step)

    def _leapt(self, exponential: Exponential, point: Point, drive_at: DriveAt, end: float) -> Point:
        """Where an exponential integrator leads, on the way to the next corner; elsewhere, steps go on."""

        def allowed(x: Array) -> Array:
            return np.asarray(self.floor + self.rtol * np.maximum(self.peak[0], np.abs(x)))

        try:
            for arc in exponential.arcs(point, drive_at, end, allowed):
                if arc.begins:
                    self.starts.append(len(self.times))
                self.residuals = np.maximum(self.residuals, arc.residual)
                self._record(arc.times.tolist(), arc.x[:, None])
                point = Point(self.times[-1], arc.x[-1:], arc.q[None], None)
        except (Declined, StepFailure):
            self.exponential = None
        return point

    def _shorter(
        self, method: Method, point: Point, step: Step | None, h: float, recent: Sequence[tuple[float, Array]]
    ) -> float | None:
        """The next step to try [s] where a step of ``h`` does not stand."""
        if step is not None and h > self.instant:
            share = self.switches.passed(point, step.end, self.weight)
            if share < np.inf:
                return max(share * h, self.instant)
        if step is None or step.error > 1.0:
            if h <= SHORTEST * self.stop:
                raise TransientError(self._diagnosis(point, h, step))
            return self._on_grid(h / GROW if step is None else h * _growth(step.error, method.order))
        if h > self.finest and self._bends(step, recent):
            return self._on_grid(h / GROW)
        return None

    def _longer(self, method: Method, begin: Point, step: Step, h: float) -> float:
        """The step to try after one of ``h`` [s] that stands."""
        grow = _growth(step.error, method.order)
        if begin.k is None:
            self.start_step = min(h * grow, self.max_step)
        self.step = h if PLATEAU <= grow < 1.0 else h * grow
        return self.step

    def _restarting(self, point: Point) -> Point:
        """To go on from by the method that needs no K."""
        return Point(point.time, point.x, point.q, None) if self.method.diagonal else point

    def _prepared(self, point: Point, drive: Drive) -> Point:
        """With K of the circuit under ``drive`` for an explicit method, for others without: a source's corner
        may be a corner of currents, too.
        """
        if not self.method.diagonal:
            x = point.x.copy()
            self.equations.impose(x, drive)
            self.equations.complete(x, drive)
            return Point(point.time, x, point.q, -self.equations.evaluate(x, drive).residual)
        return self._restarting(point)

    def _tried(
        self, method: Method, drive_at: DriveAt, point: Point, h: float,
        recent: Sequence[tuple[float, Array]],
    ) -> Step | None:  # fmt: skip
        """The step, or None where some stage has no solution."""
        try:
            return take_step(method, self.stages, drive_at, point, h, recent, self.weight)
        except StepFailure as failure:
            self.failure = failure
            return None

    def _bends(self, step: Step, recent: Sequence[tuple[float, Array]]) -> bool:
        """Whether a node turned within a step more sharply than an interpolation can follow.

        Voltages without storage have no local error; where a diode starts or stops to conduct, only this
        tells that something happened between two points.
        """
        if (
            len(recent) < 3
            or self.method is not METHODS["tr-bdf2"]
            or not isinstance(self.stages, NewtonStages)
        ):
            return False
        *inner, end = step.path
        points = [*recent[-3:], end]
        limit = BEND * self.weight
        return any((np.abs(x - extrapolated(points, t)) > limit).any() for t, x in inner if t < end[0])

    def _fitting(self, h: float, remaining: float) -> float:
        """At most h: on the grid, or so that the corner is reached exactly, in two equal steps at the end."""
        h = self._on_grid(h)
        if h >= (1.0 - 1e-9) * remaining:
            return remaining
        return remaining / 2.0 if 2.0 * h > remaining else h

    def _on_grid(self, h: float) -> float:
        """The longest step [s] of the grid up to h: factors serve all steps of one length."""
        return float(self.max_step * 2.0 ** min(0.0, math.floor(math.log2(h / self.max_step) + 1e-6)))

    def _begin(self, before: Array, time: float, after: Array) -> Array:
        """Record the first point of a smooth piece, and return it."""
        start = after_jumps(before, after, self.weight)
        self.starts.append(len(self.times))
        self.times.append(time)
        self.values.append(start[None])
        return start

    def _accept(self, point: Point, drive_at: DriveAt) -> None:
        assert point.k is not None
        drive = drive_at(point.time)
        self.equations.complete(point.x, drive)
        balance = np.abs(self.stages.residual(point.x, drive) + point.k).max(axis=0)
        self.residuals = np.maximum(self.residuals, balance)
        self._record([point.time], point.x[None])

    def _record(self, times: list[float], x: Array) -> None:
        """Points at ``times`` (T,) [s], x (T, B, size)."""
        self.peak = np.maximum(self.peak, np.abs(x).max(axis=0))
        self.times.extend(times)
        self.values.append(x)
        self.counts.accepted += len(times)
        if self.counts.accepted >= self.max_steps:
            raise TransientError(
                f"netlist {self.equations.structure.net.title!r}: {self.max_steps} steps led only to "
                f"{times[-1]:g} s of {self.stop:g} s: allow more max_steps, or a larger rtol"
            )

    def _diagnosis(self, point: Point, h: float, step: Step | None) -> str:
        """Where no step leads on, and why."""
        at = self.equations.structure
        if step is None:
            reason, trouble = str(self.failure), self.failure.trouble
        else:
            reason, trouble = "the local error stays too large", step.excess
        names, x = (*at.node_names, *at.branch_names), point.x[0]
        trouble = np.where(np.isnan(trouble), np.inf, trouble)
        worst = [k for k in np.argsort(-trouble)[:5] if trouble[k] > 0.0]
        listed = ", ".join(f"{names[k]!r} ({x[k]:.6g} {'V' if k < at.nodes else 'A'})" for k in worst)
        return (
            f"netlist {at.net.title!r}: no step leads on from {point.time:.9g} s, down to {h:.3g} s: {reason}"
            f"{' at ' + listed if listed else ''}: give these nodes capacitance to ground, or a larger rtol"
        )

    def result(self) -> Transient:
        """All that was recorded."""
        at = self.equations.structure
        x = np.concatenate(self.values)
        nodes = at.free_nodes
        return Transient(
            np.array(self.times), at.node_names, at.branch_names, x[:, 0] if x.shape[1] == 1 else x,
            self.counts, float(self.residuals[:nodes].max(initial=0.0)),
            float(self.residuals[nodes:].max(initial=0.0)), self.equations, tuple(self.starts)
        )  # fmt: skip


def _stages(equations: Equations, method: Method, counts: Counts) -> Stages:
    if not method.diagonal:
        return ExplicitStages(equations, counts)
    linear = all(bank.device.linear for bank in equations.banks)
    return LinearStages(equations, counts) if linear else NewtonStages(equations, counts)


def _growth(error: float, order: int) -> float:
    """By how much the next step may be longer. The grid damps what a proportional part would."""
    return float(min(GROW, max(SHRINK, SAFETY * max(error, 1e-9) ** (-1.0 / order))))
