"""Newton's method for a batch of circuits of one topology, full with junction limiting, or damped.

Full steps: devices limit how far from their last linearisation they are taken (Nagel, *SPICE2*, 1975), and
saturating amplifiers are often carried past where careful steps get stuck. Damped steps: shortened until the
next correction, by the same factors, shrinks (the natural monotonicity test of Deuflhard, *Newton Methods for
Nonlinear Problems*, 2004, section 3.3), which does not depend on the scales of the equations, a mixture of
amperes and volts.

Every sample stops on its own, where all its equations hold to a multiple of their own rounding errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .devices import Array
from .equations import EPSILON, Drive, Equations, Relaxation, State
from .factorization import Factors

FULL_STEPS = 30  # iterations of undamped Newton, where nothing limits a step
NEWTON_LIMIT = 100  # iterations of damped Newton, and of undamped with junction limiting
SLACK = 16.0  # in units of rounding: what an equation that holds may leave
HELD_SLACK = 1e-6 / EPSILON  # the same where nodes are held, by currents that are large
SHORTEST_STEP = 2.0**-12  # of a Newton step

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Attempt:
    """Where Newton's method ended: x (b, size), and iterations and convergence of each sample (b,).

    A step that had to be halved counts once more for every halving: each costs as much as an iteration.
    """

    x: Array
    iterations: NDArray[np.int64]
    converged: Flags


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a wild step is tested, and shortened
def newton(
    equations: Equations, x: Array, drive: Drive, relaxation: Relaxation | None = None, *,
    damped: bool = False, slack: float = SLACK,
) -> Attempt:  # fmt: skip
    """From x (b, size) until every equation holds to ``slack`` times its rounding error."""
    iteration = _Iteration(equations, x, drive, relaxation, damped)
    limit = NEWTON_LIMIT if damped or equations.limits else FULL_STEPS
    for count in range(limit):
        if count:  # never without a step: it shows singular equations
            iteration.leave(iteration.balanced(slack), converged=True)
        if not len(iteration.active):
            break
        iteration.step()
    else:
        iteration.leave(iteration.balanced(slack), converged=True)
    return iteration.end()


class _Iteration:
    """The samples still on their way, packed: ``x``, ``state`` and the rest hold the active ones only."""

    def __init__(
        self, equations: Equations, x: Array, drive: Drive, relaxation: Relaxation | None, damped: bool
    ) -> None:
        self.equations, self.drive, self.relaxation, self.damped = equations, drive, relaxation, damped
        self.structure = equations.structure
        self.active: Rows = np.arange(len(x))
        self.result = x.astype(np.result_type(x, drive.constant, drive.known))
        self.converged = np.zeros(len(x), bool)
        self.iterations = np.zeros(len(x), np.int64)
        equations.impose(self.result, drive)
        self.x = self.result.copy()
        self.state = self._evaluate(self.x)
        self.result = self.result.astype(self.state.residual.dtype)

    def _evaluate(self, x: Array, ports: Array | None = None) -> State:
        return self.equations.evaluate(x, self.drive, self.relaxation, ports)

    def balanced(self, slack: float) -> Flags:
        """Samples whose equations hold."""
        holds = np.abs(self.state.residual) <= slack * self.state.rounding
        return np.asarray(holds.all(axis=1) & ~self.state.limited)

    def leave(self, which: Flags, *, converged: bool) -> None:
        """Record the samples marked, and pack the others."""
        if not which.any():
            return
        gone, keep = self.active[which], np.flatnonzero(~which)
        self.result[gone] = self.x[which]
        self.converged[gone] = converged
        self.active, self.x = self.active[keep], self.x[keep]
        self.equations, self.drive = self.equations.take(keep), self.drive.take(keep)
        old = self.state
        self.state = State(
            old.residual[keep], old.slopes[keep], old.rounding[keep], old.limited[keep],
            old.ports[keep],
        )  # fmt: skip

    def step(self) -> None:
        """One iteration of every active sample."""
        at = self.structure
        factors = self.equations.solver.factorize(self.state.slopes)
        step = factors.solve(-self.state.residual)
        self.iterations[self.active] += 1
        lost = np.asarray(~np.isfinite(step).all(axis=1))
        size = _largest(step[:, : at.free_nodes])
        volts = _largest(self.x[:, : at.nodes])
        small = (size <= 32.0 * EPSILON * np.maximum(1.0, volts)) & ~self.state.limited
        if self.damped:
            lost |= self._shorten(factors, step, size, small | lost)
        else:
            self._take(step)
        self.leave(lost, converged=False)
        self.leave(small[~lost], converged=True)  # nothing was left but rounding

    def _take(self, step: Array) -> None:
        self.x = self.x.astype(np.result_type(self.x, step))
        self.x[:, self.structure.free] += np.where(np.isfinite(step), step, 0.0)
        self.state = self._evaluate(self.x, self.state.ports)

    def _shorten(self, factors: Factors, step: Array, size: Array, any_size: Flags) -> Flags:
        """Halve each sample's step until the next correction shrinks; returns where that failed.

        Samples in ``any_size`` take their full step whatever follows.
        """
        n, free = self.structure.free_nodes, self.structure.free
        step = np.where(np.isfinite(step), step, 0.0)
        start = self.x.astype(np.result_type(self.x, step))
        fraction, pending, failed = np.ones(len(step)), ~any_size, np.zeros(len(step), bool)
        while True:
            self.x = start.copy()
            self.x[:, free] += fraction[:, None] * step
            self.state = self._evaluate(self.x)
            remaining = _largest(factors.solve(-self.state.residual)[:, :n])
            pending &= ~(remaining <= (1.0 - fraction / 4.0) * size)
            if not pending.any():
                return failed
            fraction[pending] /= 2.0
            self.iterations[self.active[pending]] += 1
            failed |= pending & (fraction < SHORTEST_STEP)
            fraction[failed], pending = 0.0, pending & ~failed

    def end(self) -> Attempt:
        """All samples, those still on their way where they are."""
        self.result[self.active] = self.x
        return Attempt(self.result, self.iterations, self.converged)


def _largest(values: Array) -> Array:
    """Of each sample; 0 without unknowns, NaN where one is."""
    return np.asarray(np.abs(values).max(axis=1, initial=0.0))
