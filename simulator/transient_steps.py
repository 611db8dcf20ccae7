"""One time step of F(x, t) + d/dt Q(x) = 0 by a Runge-Kutta method: stages, and the local error.

The charges Q [C, or Wb of voltage-defined devices] are what is integrated, with the currents K = dQ/dt:

    Q(X_i) = Q_0 + h Σ_j a_ij K_j,   K_i = -F(X_i, t + c_i h).

A stage with a_ii = 0 is explicit; otherwise it is the companion model ``F(X) + (Q(X) - R)/(a_ii h) = 0``,
with R known. Its Jacobian ``F' + Q'/(a_ii h)`` is the same for all stages of a step. K is taken from the
charges, as ``(Q(X) - R)/(a_ii h)``: it is then exactly zero where nothing is stored, and what Newton's method
leaves undone is not amplified (Shampine, *Math. Comp.* 34 (1980) 115). All methods end at their last stage
(stiffly accurate), so that algebraic equations hold at every time point.

The local error in Q becomes one in x by the same Jacobian, which takes out of it what the
method damps (Hosea and Shampine, *Appl. Numer. Math.* 20 (1996) 21).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import sparse_kernels as kernels
from .banks import NetlistError, some
from .devices import Array
from .equations import Drive, Equations
from .factorization import Factors

SAFE = 0.05  # Newton's error left in a stage, in units of the tolerance
SLOW = 0.1  # ratio of Newton's steps above which the Jacobian is taken anew
JUMP = 10.0  # in units of the allowed error: what is no inaccuracy of a start
NEWTON_LIMIT = 20  # iterations of a stage, before the step is cut
KEPT = 40  # factors of linear circuits, by step


@dataclass(frozen=True, eq=False)
class Method:
    """A Runge-Kutta method: ``a`` (s, s), and ``error`` (s,), its weights minus the embedded method's.

    ``order`` is the power of h with which the local error's estimate shrinks.
    """

    a: Array
    error: Array
    order: int

    @property
    def c(self) -> Array:
        """Times of the stages (s,), in steps."""
        return np.asarray(self.a.sum(axis=1))

    @property
    def diagonal(self) -> float:
        """a_ii of the implicit stages, all alike."""
        return float(self.a[-1, -1])

    @property
    def starts_itself(self) -> bool:
        """Whether it needs no K at the start of its step."""
        return bool(self.a[0, 0] != 0.0)


def _method(order: int, rows: Sequence[Sequence[float]], embedded: Sequence[float]) -> Method:
    a = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        a[i, : len(row)] = row
    return Method(a, a[-1] - np.array(embedded), order)


def _tr_bdf2() -> Method:
    """Bank et al., *IEEE Trans. Electron Devices* 32 (1985) 1992; embedded method of Hosea and Shampine."""
    w, d = np.sqrt(2.0) / 4.0, 1.0 - np.sqrt(0.5)
    return _method(3, [[0.0], [d, d], [w, w, d]], [(1.0 - w) / 3.0, (1.0 + 3.0 * w) / 3.0, d / 3.0])


def _starter() -> Method:
    """Alexander's L-stable method of two stages, *SIAM J. Numer. Anal.* 14 (1977) 1006; error: of order 1.

    It needs no derivative where it starts, so it may start at a discontinuity. Its diagonal is TR-BDF2's.
    """
    d = 1.0 - np.sqrt(0.5)
    return _method(2, [[d], [1.0 - d, d]], [1.0, 0.0])


STARTER = _starter()
METHODS = {
    "tr-bdf2": _tr_bdf2(),
    # Kennedy and Carpenter, Appl. Numer. Math. 44 (2003) 139, the implicit part of ARK4(3)6L[2]SA.
    "esdirk4": _method(
        4,
        [
            [0.0],
            [1 / 4, 1 / 4],
            [8611 / 62500, -1743 / 31250, 1 / 4],
            [5012029 / 34652500, -654441 / 2922500, 174375 / 388108, 1 / 4],
            [
                15267082809 / 155376265600, -71443401 / 120774400, 730878875 / 902184768, 2285395 / 8070912,
                1 / 4,
            ],
            [82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 1 / 4],
        ],
        [
            4586570599 / 29645900160, 0.0, 178811875 / 945068544, 814220225 / 1159782912,
            -3700637 / 11593932, 61727 / 225920,
        ],
    ),
    # Bogacki and Shampine, Appl. Math. Lett. 2 (1989) 321.
    "explicit": _method(
        3, [[0.0], [1 / 2], [0.0, 3 / 4], [2 / 9, 1 / 3, 4 / 9, 0.0]], [7 / 24, 1 / 4, 1 / 3, 1 / 8]
    ),
}  # fmt: skip


class StepFailure(Exception):
    """A stage found no solution; ``trouble`` (size,) says how far each unknown still is from it."""

    def __init__(self, reason: str, trouble: Array) -> None:
        super().__init__(reason)
        self.trouble = trouble


@dataclass
class Counts:
    """What a transient took: steps, LU factorizations, solved stages, and Newton iterations of all stages.

    By an exponential integrator: points for steps, and vectors of Krylov spaces for stages.
    """

    accepted: int = 0
    rejected: int = 0
    factorizations: int = 0
    stages: int = 0
    iterations: int = 0


@dataclass(frozen=True, eq=False)
class Point:
    """The circuit at one time [s]: x (B, size), charges Q and currents K = dQ/dt (B, n), None if unknown."""

    time: float
    x: Array
    q: Array
    k: Array | None


@dataclass(frozen=True, eq=False)
class Step:
    """Where a step ended, and its local ``error`` over what is allowed; ``excess`` (size,) is each unknown's.

    ``path`` are times and values at the stages. ``start`` is x just after the step's beginning, as seen by a
    method that starts itself: at a discontinuity it is not where the step before ended.
    """

    end: Point
    error: float
    excess: NDArray[np.float64]
    path: list[tuple[float, Array]]
    start: Array


Guess = Callable[[], Array]


class Stages(Protocol):
    """How a stage's equation is solved."""

    def solve(
        self, known: Array, drive: Drive, step: float, guess: Guess, weight: Array
    ) -> tuple[Array, Array, Array]:
        """Solution x (B, size), Q and K (B, n) of ``Q = known + step K = known - step F(x)``.

        Raises :class:`StepFailure`.
        """

    def to_unknowns(self, charge: Array, step: float) -> Array:
        """The change of x (B, size) that a small change of Q (B, n) makes, once stiff parts have settled."""

    def residual(self, x: Array, drive: Drive) -> Array:
        """F (B, n) at x."""


class LinearStages:
    """Of linear devices: one solve a stage, with the factors of the steps used last; a step is one call."""

    def __init__(self, equations: Equations, counts: Counts) -> None:
        self.equations, self.counts = equations, counts
        zero, drive = np.zeros((equations.batch, equations.structure.size)), equations.drive(0.0)
        self.conduct, self.store = equations.evaluate(zero, drive).slopes, equations.charge(zero, drive)[1]
        self.which = np.arange(len(zero)) if len(self.store) > 1 else np.zeros(len(zero), np.intp)
        self.factors = functools.lru_cache(KEPT)(self._factorize)
        pattern, kept = equations.structure.pattern, self.store[0] != 0.0
        before = np.concatenate([[0], np.cumsum(kept)])
        self.storage = before[pattern.starts], pattern.indices[kept], self.store[0][kept]  # of one circuit

    @np.errstate(over="ignore")  # what is not finite is refused
    def _factorize(self, step: float) -> Factors:
        self.counts.factorizations += 1
        return _sound(self.equations, self.conduct + self.store / step)

    def solve(
        self, known: Array, drive: Drive, step: float, guess: Guess, weight: Array
    ) -> tuple[Array, Array, Array]:
        self.counts.stages += 1
        x = self.factors(step).solve(known / step - drive.constant)
        q = self.product(self.store, x)
        return x, q, (q - known) / step

    def step(
        self, method: Method, drive_at: Callable[[float], Drive], begin: Point, h: float, weight: Array
    ) -> Step:
        """As :func:`take_step`, of a circuit alone."""
        factors = self.factors(h * method.diagonal)
        assert factors.plan is not None and factors.numeric is not None
        first, count, (n,) = int(begin.k is not None), len(method.a), begin.q[0].shape
        x, constant, currents = np.empty((3, count, n))
        q, excess = np.empty(n), np.empty(n)
        times = begin.time + method.c * h
        if begin.k is not None:
            currents[0] = begin.k[0]
        constant[first:] = [drive_at(t).constant[0] for t in times[first:].tolist()]
        kernels.linear_step(
            *factors.plan.patterns, *factors.numeric.factors, *self.storage, method.a, method.error, h, first,
            constant, begin.q[0], weight[0], x, q, currents, excess,
        )  # fmt: skip
        self.counts.stages += count - first
        path = [(float(times[i]), x[i : i + 1]) for i in range(first, count)]
        last, k = x[-1:].copy(), currents[-1:].copy()  # which may be kept for long: without the other stages
        return _step(begin, Point(begin.time + h, last, q[None], k), excess, path)

    def to_unknowns(self, charge: Array, step: float) -> Array:
        return self.factors(step).solve(charge / step)

    def residual(self, x: Array, drive: Drive) -> Array:
        return np.asarray(self.product(self.conduct, x) + drive.constant)

    def product(self, data: Array, x: Array) -> Array:
        """Matrices of values ``data`` (B, nnz) times x (B, n)."""
        pattern = self.equations.structure.pattern
        out, sizes = np.zeros_like(x), np.zeros_like(x)
        kernels.multiply(pattern.starts, pattern.indices, data, self.which, x, out, sizes)
        return out


class NewtonStages:
    """Of any circuit: Newton's method, its Jacobian anew for each stage and kept while it serves within one.

    Factors of an earlier stage would find no fault where diodes have turned off since: what is far too stiff
    hardly moves, and a small move passes for a small error.
    """

    def __init__(self, equations: Equations, counts: Counts) -> None:
        self.equations, self.counts = equations, counts
        self.factors: Factors | None = None

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a wild iterate only costs the step
    def solve(
        self, known: Array, drive: Drive, step: float, guess: Guess, weight: Array
    ) -> tuple[Array, Array, Array]:
        x, ports, previous, stale = guess(), None, np.inf, True
        self.counts.stages += 1
        for count in range(NEWTON_LIMIT):
            self.counts.iterations += 1
            state = self.equations.evaluate(x, drive, ports=ports)
            q, store = self.equations.charge(x, drive)
            limited = bool(state.limited.any())
            if stale or limited or self.factors is None:
                self.counts.factorizations += 1
                self.factors = _sound(self.equations, state.slopes + store / step)
            move = self.factors.solve(-(state.residual + (q - known) / step))
            x, ports = x + move, state.ports
            size = float(np.max(np.abs(move) / weight))
            if not np.isfinite(size):
                break
            rate = min(1.0, size / previous) if count else 1.0  # of what the next iteration would leave
            if size * rate <= SAFE and not limited:
                q = self.equations.charge(x, drive)[0]
                return x, q, (q - known) / step
            stale, previous = bool(count and rate > SLOW), size
        self.factors = None
        raise StepFailure("Newton's method does not converge", np.abs(move / weight).max(axis=0))

    def to_unknowns(self, charge: Array, step: float) -> Array:
        assert self.factors is not None
        return self.factors.solve(charge / step)

    def residual(self, x: Array, drive: Drive) -> Array:
        return self.equations.evaluate(x, drive).residual


class ExplicitStages:
    """Of a circuit whose unknowns are the voltages of capacitors to ground: no equation is left to solve."""

    def __init__(self, equations: Equations, counts: Counts) -> None:
        self.equations, self.counts = equations, counts
        self.capacitance = _grounded_capacitance(equations)

    def solve(
        self, known: Array, drive: Drive, step: float, guess: Guess, weight: Array
    ) -> tuple[Array, Array, Array]:
        at = self.equations.structure
        x = np.zeros((len(known), at.size))
        x[:, at.free] = known / self.capacitance
        self.equations.impose(x, drive)
        self.counts.stages += 1
        return x, known, -self.equations.evaluate(x, drive).residual

    def to_unknowns(self, charge: Array, step: float) -> Array:
        at = self.equations.structure
        x = np.zeros((len(charge), at.size))
        x[:, at.free] = charge / self.capacitance
        return x

    def residual(self, x: Array, drive: Drive) -> Array:
        return self.equations.evaluate(x, drive).residual


def _sound(equations: Equations, slopes: Array) -> Factors:
    """Factors of regular matrices."""
    at = equations.structure
    factors = at.solver.factorize(slopes)
    if factors.singular.any():
        raise StepFailure("the equations are singular", np.zeros(at.size))
    return factors


def _grounded_capacitance(equations: Equations) -> Array:
    """Capacitance (B or 1, n) [F] of each unknown's node, of a circuit that an explicit method can take."""
    at = equations.structure
    remedy = "use method='tr-bdf2'"
    if at.free_nodes < len(at.free):
        names = [at.branch_names[place - at.nodes] for place in at.free[at.free_nodes :]]
        raise NetlistError(
            f"an explicit transient cannot take the branch currents of {some(names)}: {remedy}"
        )
    total = np.zeros((1, len(at.free)))
    for k, bank in enumerate(equations.banks):
        if bank.device.storage is None:
            continue
        slopes = bank.device.storage(
            equations.parameters(k), np.zeros((len(bank.terminals), 1, len(bank.names)))
        )[1][0]
        rows, grounded = at.row_of[bank.terminals[0]].max(axis=0), (bank.terminals[0] == 0).any(axis=0)
        wrong = (slopes != 0.0).any(axis=0) & ~((rows >= 0) & grounded & (bank.kind == "capacitor"))
        if wrong.any():
            names = [bank.names[j] for j in np.flatnonzero(wrong)]
            raise NetlistError(
                "an explicit transient takes only capacitors from a free node to ground, "
                f"which {some(names)} is not: {remedy}"
            )
        kept = np.flatnonzero(rows >= 0)
        total = np.array(np.broadcast_to(total, (max(len(total), len(slopes)), total.shape[1])))
        for j in kept:
            total[:, rows[j]] += slopes[:, j]
    bare = np.flatnonzero((total <= 0.0).any(axis=0))
    if bare.size:
        names = [at.node_names[at.free[j]] for j in bare]
        raise NetlistError(
            f"an explicit transient needs a capacitor to ground at {some(names, 'node')}: {remedy}"
        )
    return total


def take_step(
    method: Method, stages: Stages, drive_at: Callable[[float], Drive], begin: Point, h: float,
    recent: Sequence[tuple[float, Array]], weight: Array,
) -> Step:  # fmt: skip
    """One step of ``h`` [s] from ``begin``; ``weight`` (B, size) are the allowed errors of the unknowns.

    ``recent`` times and values tell where Newton's method starts. Raises :class:`StepFailure`.
    """
    if isinstance(stages, LinearStages) and len(begin.q) == 1:
        return stages.step(method, drive_at, begin, h, weight)
    path, step = list(recent), h * method.diagonal
    currents = np.empty((len(method.c), *begin.q.shape))
    flat = currents.reshape(len(currents), -1)
    x, q, first = begin.x, begin.q, 0
    if begin.k is not None:
        currents[0], first = begin.k, 1
    for i in range(first, len(currents)):
        time = begin.time + method.c[i] * h
        known = begin.q + (h * method.a[i, :i] @ flat[:i]).reshape(q.shape)
        guess = functools.partial(extrapolated, path[-3:], time)
        x, q, currents[i] = stages.solve(known, drive_at(time), step, guess, weight)
        if i == 0:  # at a corner nodes without storage may jump, which is nothing to extrapolate
            path[-1] = begin.time, after_jumps(begin.x, x, weight)
        path.append((time, x))
    local = (h * method.error @ flat).reshape(q.shape)
    excess = (np.abs(stages.to_unknowns(local, step)) / weight).max(axis=0)
    return _step(begin, Point(begin.time + h, x, q, currents[-1]), excess, path[len(recent) :])


def _step(begin: Point, end: Point, excess: NDArray[np.float64], path: list[tuple[float, Array]]) -> Step:
    start = begin.x if begin.k is not None else extrapolated(path, begin.time)
    return Step(end, float(excess.max(initial=0.0)), excess, path, start)


def after_jumps(before: Array, after: Array, weight: Array) -> Array:
    """``before``, but ``after`` where these differ by more than inaccuracies, or nothing tells of them."""
    return np.where(~(np.abs(after - before) <= JUMP * weight) | np.isinf(weight), after, before)


def extrapolated(points: Sequence[tuple[float, Array]], t: float) -> Array:
    """The polynomial through ``points`` at time t."""
    total: Array | float = 0.0
    for i, (ti, x) in enumerate(points):
        share = math.prod((t - tj) / (ti - tj) for j, (tj, _) in enumerate(points) if j != i)
        total = total + share * x
    return np.asarray(total)
