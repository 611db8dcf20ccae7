"""Continuations: operating points that Newton's method does not find from where it starts.

Three easier circuits are followed to the circuit itself, one sample at a time: conductances from every node
to its start fading away (gmin stepping), all sources and amplifier outputs rising from zero (source
stepping), and equal capacitors on all nodes charging in ever longer steps (pseudo-transient; it alone passes
the folds of a circuit with several operating points).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .devices import Array
from .equations import Drive, Equations, Relaxation
from .newton import SLACK, Attempt, newton

SHORTEST_CONTINUATION = 1e-5  # of the whole path
CHARGING_LIMIT = 300  # pseudo-transient steps
MOST_ITERATIONS = 1000  # of Newton's method along one path: what is found at all is found in far fewer


def continued(equations: Equations, drive: Drive, start: Array) -> tuple[Attempt, str]:
    """One sample by continuations; the method's name is empty where all fail."""
    attempts: dict[str, Callable[[], Attempt]] = {
        "gmin stepping": lambda: gmin_stepping(equations, drive, start),
        "source stepping": lambda: source_stepping(equations, drive),
        "pseudo-transient": lambda: charge(equations, drive, start),
    }
    spent = np.zeros(1, np.int64)
    for method, attempt in attempts.items():
        end = attempt()
        spent += end.iterations
        if end.converged[0]:
            return Attempt(end.x, spent, end.converged), method
    return Attempt(end.x, spent, end.converged), ""


def _relaxed(
    equations: Equations, x: Array, drive: Drive, relaxation: Relaxation | None = None, slack: float = SLACK
) -> Attempt:
    """A step of a continuation: where devices limit their steps full Newton is best, damped elsewhere."""
    end = newton(equations, x, drive, relaxation, damped=not equations.limits, slack=slack)
    if end.converged[0] or not equations.limits:
        return end
    again = newton(equations, x, drive, relaxation, damped=True, slack=slack)
    return Attempt(again.x, end.iterations + again.iterations, again.converged)


def _follow(x: Array, solve: Callable[[Array, float], Attempt]) -> Attempt:
    """Follow a path of easier circuits from t = 0, whose solution is x, to the circuit itself at t = 1."""
    t, step, spent = 0.0, 0.1, 0
    while t < 1.0 and spent < MOST_ITERATIONS:
        attempt = solve(x, min(1.0, t + step))
        spent += int(attempt.iterations[0])
        if attempt.converged[0]:
            t, x, step = min(1.0, t + step), attempt.x, 2.0 * step
        else:
            step /= 4.0
            if step < SHORTEST_CONTINUATION:
                break
    return Attempt(x, np.array([spent]), np.array([t >= 1.0]))


def tied(equations: Equations, drive: Drive, start: Array, held: Relaxation, slack: float) -> Attempt:
    """One sample with nodes tied to their anchors by ``held``: drawn there from ``start``, or charged."""
    begin = start[0, : equations.structure.nodes]

    def solve(x: Array, t: float) -> Attempt:
        anchor = begin + t * (held.anchor - begin)
        return _relaxed(equations, x, drive, Relaxation(held.shunt, anchor), slack)

    end = _follow(start, solve)
    return end if end.converged[0] else charge(equations, drive, start, held, slack)


def gmin_stepping(equations: Equations, drive: Drive, start: Array) -> Attempt:
    """Shunts from every node to its start, from 10³ to 10⁻¹² of the largest conductance, then none."""
    largest, anchor = equations.largest_conductance(), start[0, : equations.structure.nodes]

    def solve(x: Array, t: float) -> Attempt:
        shunt = 0.0 if t >= 1.0 else largest * 10.0 ** (3.0 - 15.0 * t)
        return _relaxed(equations, x, drive, Relaxation(shunt, anchor))

    return _follow(start, solve)


def source_stepping(equations: Equations, drive: Drive) -> Attempt:
    """All sources and amplifier outputs, from zero to themselves."""

    def solve(x: Array, t: float) -> Attempt:
        return _relaxed(equations, x, equations.drive(drive.time, t))

    return _follow(np.zeros((1, equations.structure.size)), solve)


def charge(
    equations: Equations, drive: Drive, x: Array, held: Relaxation | None = None, slack: float = SLACK
) -> Attempt:
    """Implicit Euler steps with equal capacitors on all nodes, each twice as long as the one before; of a
    circuit with nodes ``held``, with these beside.
    """
    n, spent, unit = equations.structure.nodes, 0, equations.largest_conductance()

    def charging(shunt: float, volts: Array) -> Relaxation:
        if held is None:
            return Relaxation(shunt, volts)
        both = shunt + held.shunt
        return Relaxation(both, (shunt * volts + held.shunt * held.anchor) / both)

    shunt = 10.0 * unit  # capacitance over time step
    for _ in range(CHARGING_LIMIT):
        if spent >= MOST_ITERATIONS:
            break
        attempt = _relaxed(equations, x, drive, charging(shunt, x[0, :n]), slack)
        spent += int(attempt.iterations[0])
        shunt *= 0.5 if attempt.converged[0] else 4.0
        if not attempt.converged[0]:
            continue
        moved, x = np.abs(attempt.x[0, :n] - x[0, :n]).max(), attempt.x
        if moved < 1e-6 or shunt < 1e-12 * unit:  # near rest
            attempt = _relaxed(equations, x, drive, held, slack)
            spent += int(attempt.iterations[0])
            if attempt.converged[0]:
                return Attempt(attempt.x, np.array([spent]), attempt.converged)
    # From there without the capacitors, whose currents would be all that an error could tell of.
    last = newton(equations, x, drive, held, damped=True, slack=slack)
    return Attempt(last.x, spent + last.iterations, last.converged)
