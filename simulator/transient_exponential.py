"""Linear circuits from one corner of their sources to the next, by an exponential integrator.

Between corners the sources are straight lines and the circuit is ``C x' + G x + b(t) = 0``. A straight line p
solves it, and what is left decays by itself: x = p + d with ``C d' + G d = 0``. Its course lies nearly in a
Krylov space of few dimensions,

    S = (G + C/γ)⁻¹ C/γ,    S V ≈ V H,    d(t) ≈ V exp(-t (H⁻¹ - 1)/γ) V* d(0),

so that one factorization and some ten solves lead across all that a method of steps would resolve, however
stiff: S makes of every rate λ a number 1/(1 + γλ), and of algebraic equations 0 (van den Eshof and
Hochbruck, *SIAM J. Sci. Comput.* 27 (2006) 1438; for circuits Zhuang et al., "MATEX", *DAC* 2014). V is
orthonormal in the inner product of the stored energy, in which a passive circuit can only decay; then so
does its projection.

The space grows until its last vectors change d nowhere by more than is allowed. Where that takes too many,
a shorter time is led across, with a smaller γ. Points are as dense as a cubic spline through them asks for.
Waves on lines of many sections, and modes that are nearly parallel, are left to steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import sparse_kernels as kernels
from .devices import Array
from .equations import EPSILON
from .structure import Pattern
from .transient_sources import DriveAt
from .transient_steps import LinearStages, Point

SIZES = (4, 7, 10, 14, 19, 25)  # of the Krylov space, at which it is judged
GROWTH = ((7, 8.0), (10, 2.0))  # of the time led across next, where no larger size was needed
SHRINK = 8.0  # of this time, where the largest size does not suffice
HOPE = 8.0  # by how much less a size may change than the one before: where more is needed, it is given up
SHIFT = 0.15  # γ over the time led across, at most
INFINITE = 1e-7  # eigenvalues of S below it are those of infinite rates: a double 0, with rounding
INSTANT, INSTANTS = 1e-10, 1e-7  # of the way between corners: what counts as no time, and what still may
REFINEMENTS = 3  # of what is found over no time
SHORTEST = 1e-9  # of the way between corners: the shortest time led across
DEAR, PATIENCE = 2.0, 200  # solves a point, of at least so many points: with more, steps are cheaper
ATTEMPT = 6  # what an attempt costs besides, in solves
ROUNDING = 1e-12  # of projections, which are at most 1 in a passive circuit
MOMENTS = np.linspace(-1.0, 0.0, 20)  # at which d is judged, in powers of the fastest rate
EARLIEST = 0.1  # the first of them, of the time in which the fastest mode decays
UNSEEN = 0.1  # in units of the allowed error: what is not looked at
SPLINE = 384.0 / 5.0 / 5.0  # h⁴ x⁗ over the error of a cubic spline, which is allowed a fifth of all
GRADE = 0.7  # by how much the distance of points may grow, of the time that passes
FEWEST, MOST = 3, 400  # points of an arc

Vector = NDArray[np.float64]
Allowed = Callable[[Array], Array]


class Declined(Exception):
    """Steps are to lead on: they are cheaper, or more robust."""


@dataclass(frozen=True, eq=False)
class Arc:
    """Some of a transient: x (T, size) at ``times`` (T,) [s], and Q (size,) at the last.

    ``residual`` (size,) is the largest violation of each equation of a row that stores nothing. The first
    one, which ``begins``, has the point just after a corner.
    """

    times: Vector
    x: Vector
    q: Vector
    residual: Vector
    begins: bool


class _Rows:
    """Some rows of a matrix, ``wanted`` (n,), each of which has entries: ``which`` (k,)."""

    def __init__(self, pattern: Pattern, values: Vector, wanted: NDArray[np.bool_]) -> None:
        kept = np.flatnonzero(wanted[pattern.indices])
        kept = kept[np.argsort(pattern.indices[kept], kind="stable")]
        rows = pattern.indices[kept]
        self._starts = np.flatnonzero(np.diff(rows, prepend=-1))
        self.which = rows[self._starts]
        self._columns = np.searchsorted(pattern.starts, kept, side="right") - 1
        self._values = values[kept]

    def times(self, x: Vector) -> Vector:
        """Their products (T, k) with vectors x (T, n)."""
        return np.asarray(np.add.reduceat(self._values * x[:, self._columns], self._starts, axis=1))


@dataclass(frozen=True, eq=False)
class _Line:
    """A straight line that solves the equations from ``begin`` [s] on, where b is ``first`` and ``rises``."""

    begin: float
    first: Vector
    rises: Vector
    level: Vector
    slope: Vector

    def at(self, time: float) -> Vector:
        """Where it is (size,)."""
        return np.asarray(self.level + (time - self.begin) * self.slope)


class _Decay:
    """d(t) in a Krylov space where S is ``projected`` (m, m), from d(0), ``size`` times the first vector."""

    def __init__(self, projected: Vector, shift: float, size: float) -> None:
        start = np.zeros(len(projected))
        start[:1] = size
        try:
            if (np.abs(projected - projected.T) <= ROUNDING).all():  # of a reciprocal circuit
                values, vectors = np.linalg.eigh(projected)
                modes = vectors * (start @ vectors)
            else:
                values, vectors = np.linalg.eig(projected)
                modes = vectors * np.linalg.solve(vectors, start)
        except np.linalg.LinAlgError as error:
            raise Declined("modes are parallel") from error
        lasting = np.abs(values) > INFINITE
        self.rates, self.modes = (1.0 / values[lasting] - 1.0) / shift, modes[:, lasting]
        self.lost = modes[:, ~lasting].sum(axis=1).real  # of d(0), at once

    def __len__(self) -> int:
        """Size of the space."""
        return len(self.modes)

    def at(self, times: Vector) -> Vector:
        """Coefficients (T, m) of d at ``times`` (T,) > 0 [s]."""
        return np.ascontiguousarray((np.exp(-np.outer(times, self.rates)) @ self.modes.T).real)

    def bend(self, times: Vector, seen: NDArray[np.bool_]) -> Vector:
        """Likewise of its fourth derivative, as far as modes are ``seen``."""
        rates = self.rates[seen]
        decayed = np.exp(-np.outer(times, rates)) * rates**4
        return np.ascontiguousarray((decayed @ self.modes[:, seen].T).real)


@dataclass(frozen=True, eq=False)
class _Course:
    """How d goes on, to ``reach`` [s], on ``basis`` (m, size): in units of the allowed errors, ``scaled``."""

    decay: _Decay
    basis: Vector
    scaled: Vector
    reach: float

    @cached_property
    def amplitudes(self) -> Vector:
        """Of the modes, at most: where they begin, or end."""
        growth = np.exp(np.maximum(-self.decay.rates.real * self.reach, 0.0))
        return np.asarray(np.abs(self.scaled).max(axis=1) @ np.abs(self.decay.modes) * growth)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Modes of some amplitude."""
        return self.amplitudes > UNSEEN

    @cached_property
    def moments(self) -> Vector:
        """Times (T,) [s] that show what happens, from before the fastest mode decays to the end."""
        rate = np.abs(self.decay.rates[self.seen]).max(initial=0.0) * self.reach / EARLIEST
        return np.asarray(self.reach * max(rate, 1.0 / EARLIEST) ** MOMENTS)

    def errors(self, before: _Decay | None, *, exact: bool) -> Vector:
        """At the moments (T,): what the space has changed since ``before``, what is lost, and rounding."""
        lost = np.abs(self.decay.lost @ self.scaled).max(initial=0.0) + EPSILON * self.amplitudes.sum()
        if exact:
            return np.full(len(MOMENTS), lost)
        change = self.decay.at(self.moments)
        if before is not None:
            change[:, : len(before)] -= before.at(self.moments)
        return np.asarray(lost + np.abs(change @ self.scaled).max(axis=1))

    @np.errstate(over="ignore", divide="ignore")
    def times(self, first: float, max_step: float) -> Vector:
        """Times (T,) [s] to the end, as dense as a cubic spline through the points asks for.

        At most ``first`` [s] apart at the beginning, and neighbouring steps in a ratio of about 2: a spline
        overshoots where short steps meet long ones.
        """
        moments = self.moments
        bend = np.abs(self.decay.bend(moments, self.seen) @ self.scaled).max(axis=1)
        bend[1:-1] = np.maximum(bend[1:-1], np.maximum(bend[:-2], bend[2:]))  # where it passes through zero
        step = np.minimum((SPLINE / bend) ** 0.25, np.minimum(first + GRADE * moments, max_step))
        step = (step + GRADE * np.abs(moments[:, None] - moments)).min(axis=1)
        mean = (step + np.concatenate([step[:1], step[:-1]])) / 2.0
        count = np.cumsum(np.diff(moments, prepend=0.0) / mean)
        total = min(max(int(np.ceil(count[-1])), FEWEST), MOST)
        places = np.linspace(0.0, min(count[-1], MOST), total + 1)[1:]
        return np.asarray(np.interp(places, [0.0, *count], [0.0, *moments]))


class Exponential:
    """Leads one linear circuit across the pieces between corners of straight sources."""

    def __init__(self, stages: LinearStages, max_step: float) -> None:
        at, n = stages.equations.structure, len(stages.equations.structure.free)
        self.stages, self.max_step = stages, max_step
        self.signs = np.ones(n)
        self.signs[at.free_nodes :] = -1.0  # an inductor's flux is -L i, its energy positive
        self.storing = np.flatnonzero(np.diff(stages.storage[0]))
        self.floating = not np.array_equal(self.storing, stages.storage[1])  # some capacitors are
        idle = np.ones(n, bool)
        idle[stages.storage[1]] = False
        self.idle = _Rows(at.pattern, stages.conduct[0], idle)  # that store nothing
        self.basis, self.dual = np.empty((2, SIZES[-1] + 1, n))
        self.first, self.instant = np.inf, np.inf

    def arcs(self, begin: Point, drive_at: DriveAt, end: float, allowed: Allowed) -> Iterator[Arc]:
        """From ``begin``, at a corner, to the next one at ``end`` [s].

        ``allowed`` gives the errors allowed (size,) if x (size,) is reached. Raises :class:`Declined`, and
        :class:`~.transient_steps.StepFailure` where the circuit has no solution at rest.
        """
        line, whole, time = self._line(drive_at, begin.time, end), end - begin.time, begin.time
        d = self._settled(begin.q[0] - self._charge(line.level), whole, allowed(line.level))
        length, step, points, tries, spent = self.first, np.inf, 0, 0, self.stages.counts.stages
        while time < end:
            cost = self.stages.counts.stages - spent + ATTEMPT * tries
            if cost > DEAR * max(points, PATIENCE) or length < SHORTEST * whole:
                raise Declined("steps take fewer solves")
            length, tries = _fitting(length, end - time), tries + 1
            course = self._course(d, length, line.at(time + length), allowed)
            if course is None:
                length /= SHRINK
                continue
            times = course.times(step, self.max_step)
            moved, landed = course.decay.at(times) @ course.basis, time + times
            if end - landed[-1] <= SHORTEST * whole:  # rounding, and too little to go on with
                landed[-1] = end
            if not (np.diff(landed, prepend=time) > 0.0).all():
                raise Declined("the points are too close for their times to differ")
            yield self._arc(line, time, d, landed, moved)
            if times[-1] == length:
                length *= next((growth for size, growth in GROWTH if len(course.decay) <= size), 1.0)
            else:
                length = float(times[-1])
            if time == begin.time:
                self.first = np.inf if landed[-1] == end else length
            d, points, step = moved[-1], points + len(times), 2.0 * float(np.diff(times[-2:])[0])
            time = float(landed[-1])

    def _arc(self, line: _Line, begin: float, d: Vector, times: Vector, moved: Vector) -> Arc:
        """From ``d`` at ``begin`` [s], with d (T, size) as it has ``moved`` at ``times`` (T,)."""
        if begin == line.begin:
            times, moved = np.concatenate([[begin], times]), np.concatenate([d[None], moved])
        passed, idle = (times - line.begin)[:, None], self.idle.which
        x = passed * line.slope
        x += line.level
        x += moved
        residual = np.zeros(x.shape[1])
        residual[idle] = np.abs(self.idle.times(x) + line.first[idle] + passed * line.rises[idle]).max(axis=0)
        return Arc(times, x, self._charge(x[-1]), residual, begin == line.begin)

    def _charge(self, x: Vector) -> Vector:
        """C x."""
        q = np.empty_like(x)
        kernels.charge(*self.stages.storage, x, q)
        return q

    def _line(self, drive_at: DriveAt, begin: float, end: float) -> _Line:
        first, last = (drive_at(time).constant[0] for time in (begin, end))
        rises, rest = (last - first) / (end - begin), self.stages.factors(np.inf)
        slope = rest.solve(-rises[None])[0] if rises.any() else np.zeros(len(rises))
        return _Line(begin, first, rises, rest.solve(-(first + self._charge(slope))[None])[0], slope)

    def _settled(self, charge: Vector, whole: float, allowed: Vector) -> Vector:
        """The d of this charge C d, when its algebraic equations hold: S d, S of hardly any γ.

        Where sources charge capacitors directly it takes this twice (index 2).
        """
        if self.instant > INSTANTS * whole:
            self.instant = _power_of_two(INSTANT * whole)
        for _ in range(REFINEMENTS):
            once = self._instantly(charge, allowed)
            twice = self._instantly(self._charge(once), allowed)
            if (np.abs(twice - once) <= UNSEEN * allowed)[self.storing].all():  # so little has decayed
                return twice
            self.instant /= 2.0**10
        raise Declined("something decays at once")

    def _instantly(self, charge: Vector, allowed: Vector) -> Vector:
        """S d, refined where capacitors between nodes hide how these are connected otherwise."""
        factors = self.stages.factors(self.instant)
        d = factors.solve(charge[None] / self.instant)
        if not self.floating:
            return np.asarray(d[0])
        for _ in range(REFINEMENTS):
            left = (charge - self._charge(d[0])) / self.instant - self.stages.product(self.stages.conduct, d)
            move = factors.solve(left)
            d = d + move
            if (np.abs(move) <= UNSEEN * allowed).all():
                return np.asarray(d[0])
        raise Declined("capacitors between nodes are too large")

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what grows without bound is refused
    def _course(self, d: Vector, length: float, line: Vector, allowed: Allowed) -> _Course | None:
        """How d goes on for ``length`` [s], or the first part of it; None if that takes too many vectors.

        ``line`` is where the straight line then is.
        """
        before: _Decay | None = None
        large = bool((np.abs(d) > allowed(line)).any())
        for left, (decay, exact) in zip(range(len(SIZES))[::-1], self._spaces(d, length), strict=False):
            if large and before is None and not exact:  # nothing to judge it by
                before = decay
                continue
            basis = self.basis[: len(decay)]
            end = line + decay.at(np.array([length]))[0] @ basis
            course = _Course(decay, basis, basis / allowed(end), length)
            errors = course.errors(before, exact=exact)
            good = int(np.argmin([*(errors <= 1.0), False]))
            if good == len(MOMENTS):
                return course
            if exact:
                raise Declined("modes are nearly parallel, or too fast")
            if left == 0 or not errors.max() <= HOPE**left:
                break
            before = decay
        if good == 0 or course.moments[good - 1] < length / SHRINK:
            return None
        return replace(course, reach=float(course.moments[good - 1]))

    def _spaces(self, d: Vector, length: float) -> Iterator[tuple[_Decay, bool]]:
        """Krylov spaces of growing SIZES with how d decays in them; and whether it does so exactly."""
        dual = self.signs * self._charge(d)
        size = float(np.sqrt(d @ dual))
        if size == 0.0:
            yield _Decay(np.zeros((0, 0)), 1.0, 0.0), True
            return
        self.basis[0], self.dual[0] = d / size, dual / size
        shift, done, projected = _power_of_two(SHIFT * length), 0, np.zeros((SIZES[-1] + 1, SIZES[-1]))
        factors = self.stages.factors(shift)
        assert factors.plan is not None and factors.numeric is not None
        for wanted in SIZES:
            begun, done = done, kernels.krylov(
                *factors.plan.patterns, *factors.numeric.factors, *self.stages.storage, self.signs, shift,
                done, wanted, self.basis, self.dual, projected,
            )  # fmt: skip
            self.stages.counts.stages += done - begun
            yield _Decay(projected[:done, :done], shift, size), done < wanted
            if done < wanted:
                return


def _fitting(length: float, remaining: float) -> float:
    """At most ``length``, and leaving nothing tiny."""
    if length >= (1.0 - 1e-9) * remaining:
        return remaining
    return min(length, remaining / 2.0)


def _power_of_two(time: float) -> float:
    """At most ``time``: factors serve many lengths."""
    return float(2.0 ** np.floor(np.log2(time)))
