"""Where a transient starts: an operating point, one with nodes held, or given charges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .banks import NetlistError
from .continuation import tied
from .devices import Array
from .equations import Drive, Equations, Relaxation
from .lookup import node_place
from .newton import HELD_SLACK, newton
from .operating_point import ConvergenceError, Start, operating_points
from .overrides import Overrides
from .transient_steps import Point


def beginning(
    equations: Equations,
    replaced: Overrides | None,
    initial: Mapping[str, float],
    stored: Mapping[str, float],
    start: Start | None,
    uic: bool,
) -> Point:
    """The circuit at time 0; at an operating point no charge moves, and K is 0.

    The point is that of :func:`~.operating_point.operating_points`, so of its equations: among those of a
    transient, which keep the sources' nodes as unknowns, a continuation may take other ways.
    """
    at, drive = equations.structure, equations.drive(0.0)
    voltages = at.net.checked_voltages(initial)
    places = [node_place(at.node_names, node) for node in voltages]
    if uic:
        x = np.zeros((equations.batch, at.size))
        x[:, places] = list(voltages.values())
        return Point(0.0, *_charged(equations, drive, x, stored), None)
    points = operating_points(at.net, replaced, start=start, initial=voltages or None, time=0.0)
    if voltages:
        x = _held(equations, drive, np.array(points.x), points.converged, places, list(voltages.values()))
    else:
        x = np.array(points.require().x)
    q = equations.charge(x, drive)[0]
    return Point(0.0, x, q, None if voltages else np.zeros_like(q))


def _held(
    equations: Equations, drive: Drive, x: Array, rests: NDArray[np.bool_], places: Sequence[int],
    volts: Sequence[float],
) -> Array:  # fmt: skip
    """The operating point with nodes tied to voltages [V], from ``x``: the one without them of samples that
    have one (``rests``).

    Where Newton's method does not lead there, the nodes are drawn from where they rest, step by step; those
    of a circuit without rest start from 0 V.
    """
    x = np.where(rests[:, None], x, 0.0)
    shunt, anchor = np.zeros((2, equations.structure.nodes))
    shunt[places], anchor[places] = 1e9 * equations.largest_conductance(), volts
    held = Relaxation(shunt, anchor)
    found = newton(equations, x, drive, held, damped=not equations.limits, slack=HELD_SLACK)
    for k in np.flatnonzero(~found.converged):
        one = np.array([k])
        drawn = tied(equations.take(one), drive.take(one), x[one], held, HELD_SLACK)
        found.x[one], found.converged[one] = drawn.x, drawn.converged
    if not found.converged.all():
        names = ", ".join(repr(equations.structure.node_names[place]) for place in places)
        raise ConvergenceError(
            f"netlist {equations.structure.net.title!r}: no operating point with initial voltages at {names}"
            ": check them, or start from charges with uic=True"
        )
    found.x[:, places] = volts
    return found.x


def _charged(
    equations: Equations, drive: Drive, x: Array, stored: Mapping[str, float]
) -> tuple[Array, Array]:
    """Unknowns and charges, with capacitors at voltages [V] and inductors at currents [A] of their own."""
    found = {
        name: (k, j)
        for k, bank in enumerate(equations.banks)
        for j, name in enumerate(bank.names)
        if name in stored
    }
    extra = np.zeros((len(x), len(equations.structure.free)))
    for name, value in stored.items():
        k, j = found.get(name, (-1, -1))
        if k < 0 or equations.banks[k].kind not in ("capacitor", "inductor") or not math.isfinite(value):
            raise NetlistError(f"stored {name!r}: {value:g}; give finite values of capacitors and inductors")
        bank = equations.banks[k]
        if bank.branches is not None:
            x[:, bank.branches[j] - 1] = value
            continue
        a, b = bank.terminals[0, :, j]
        volts = value - (x[:, a - 1] if a else 0.0) + (x[:, b - 1] if b else 0.0)
        charge = equations.parameters(k)["capacitance"][..., j] * volts
        for sign, rows in equations.structure.stamps[k].rows:
            if rows[j] >= 0:
                extra[:, rows[j]] += sign * charge
    q = equations.charge(x, drive)[0] + extra
    _raise_sources(equations, drive, x)
    return x, q


def _raise_sources(equations: Equations, drive: Drive, x: Array) -> None:
    """Write the voltages of grounded sources into x, from which Newton's method then starts."""
    at = equations.structure
    equations.impose(x, drive)
    for bank in equations.banks:
        if bank.kind != "voltage_source" or bank.branches is None or at.known.size:
            continue
        volts = -drive.constant[:, at.row_of[bank.branches]]  # its constraint is v - volts
        a, b = bank.terminals[0]
        for ends, others, sign in ((a, b, 1.0), (b, a, -1.0)):
            grounded = others == 0
            x[:, ends[grounded] - 1] = sign * volts[:, grounded]
