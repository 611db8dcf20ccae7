"""Block elimination of crossbars with resistive wires; :mod:`wires` states the method.

The kernels treat a *ladder*, one wire: m nodes in a chain, segment i of resistance r[i] before node i,
segments 0 and m to its terminals, a shunt g[i] at each node. Zero resistance is a short and infinite
resistance a break; either is exact, because a chain is reduced by dividers ``z / (z + r)`` of impedances,
never by ``1/r``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf

from .operating_point import ConvergenceError

Array = NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])
compiled = cast(Callable[[Kernel], Kernel], functools.partial(njit, cache=True, error_model="numpy"))


@compiled
def reduce_ladders(
    g: Array, r: Array, divider: Array, parallel: Array, driving: Array, shunted: Array
) -> int:
    """Eliminate each ladder, terminals at 0 V: g (w, m), r (w, m + 1) -> four arrays (w, m); 0 if it can.

    With ``z`` the impedance to ground from node i along all that lies before it: ``divider = z / (z + r)``
    and ``parallel = z r / (z + r)`` over segment i + 1 (at the last node: 0 and the whole impedance).
    ``driving``: impedance from node i to ground. ``shunted``: conductance in series with node i's own g,
    ``g y / (g + y)``, where y is that of the wire on both sides. A node without any path returns 1.
    """
    wires, m = g.shape
    for w in range(wires):
        before = 1.0 / r[w, 0]
        for i in range(m):
            shunted[w, i] = before
            z = 1.0 / (before + g[w, i])
            segment = r[w, i + 1]
            if segment == np.inf or z == np.inf:
                divider[w, i] = 0.0 if segment == np.inf else 1.0
                parallel[w, i] = min(z, segment)
            elif segment == 0.0:
                divider[w, i] = 1.0
                parallel[w, i] = 0.0
            else:
                divider[w, i] = z / (z + segment)
                parallel[w, i] = divider[w, i] * segment
            before = 1.0 / (z + segment)
        divider[w, m - 1] = 0.0
        after = 1.0 / r[w, m]
        for i in range(m - 1, -1, -1):
            wire = shunted[w, i] + after
            total = wire + g[w, i]
            if total == 0.0:
                return 1
            driving[w, i] = 1.0 / total
            shunted[w, i] = g[w, i] / (1.0 + g[w, i] / wire) if g[w, i] > 0.0 else 0.0
            after = 1.0 / (1.0 / (after + g[w, i]) + r[w, i])
        parallel[w, m - 1] = driving[w, m - 1]
    return 0


@compiled
def add_admittance(
    g: Array, divider: Array, driving: Array, shunted: Array, held: NDArray[np.bool_], out: Array
) -> None:
    """Add to the upper triangle of ``out`` (m, m) the admittance of one ladder: ``diag(g) - g N g``.

    N is the ladder's impedance matrix, ``N[i, j] = driving[j] * divider[i] ... divider[j - 1]`` for i < j.
    Nodes that are ``held`` get a row of their own: 1 S on the diagonal.
    """
    m = g.size
    for j in range(m):
        if held[j]:
            out[j, j] += 1.0
            continue
        out[j, j] += shunted[j]
        voltage = driving[j] * g[j]
        for i in range(j - 1, -1, -1):
            voltage *= divider[i]
            if not held[i]:
                out[i, j] -= g[i] * voltage


@compiled
def scale_slice(y: Array, scale: Array, closed: NDArray[np.bool_], matrix: Array, image: Array) -> None:
    """Of symmetric ``y``, its upper triangle given: ``R^½ y``, and the upper triangle of ``1 + R^½ y R^½``.

    R = diag(scale² / closed): a break is 1 / 0, and its node is eliminated as it stands.
    """
    m = scale.size
    for i in range(m):
        for j in range(i):
            image[i, j] = scale[i] * y[j, i]
        for j in range(i, m):
            image[i, j] = scale[i] * y[i, j]
            matrix[i, j] = image[i, j] * scale[j]
        matrix[i, i] += closed[i]


@compiled
def ladder_voltages(divider: Array, parallel: Array, v: Array) -> None:
    """In place: v (m, batch) from currents into one ladder's nodes [A] to their voltages [V]."""
    m, batch = v.shape
    for i in range(m - 1):
        for b in range(batch):
            v[i + 1, b] += divider[i] * v[i, b]
    for b in range(batch):
        v[m - 1, b] *= parallel[m - 1]
    for i in range(m - 2, -1, -1):
        for b in range(batch):
            v[i, b] = divider[i] * v[i + 1, b] + parallel[i] * v[i, b]


@compiled
def largest_imbalance(r: Array, terminal: Array, v: Array, leaving: Array, largest: Array) -> None:
    """Raise ``largest`` (batch,) to the largest |sum of currents| [A] of any node of any wire.

    r (w, m + 1), terminal (w, batch), v and ``leaving`` (w, m, batch): voltages, and currents that leave
    the wire through the devices. Nodes joined by shorts count as one; one that is shorted to a terminal
    is balanced by it.
    """
    wires, m, batch = v.shape
    sum_ = np.empty(batch)
    for w in range(wires):
        held = r[w, 0] == 0.0
        for b in range(batch):
            sum_[b] = 0.0 if held else (terminal[w, b] - v[w, 0, b]) / r[w, 0]
        for i in range(m):
            segment = r[w, i + 1]
            for b in range(batch):
                after = v[w, i + 1, b] if i + 1 < m else terminal[w, b]
                current = 0.0 if segment == 0.0 else (v[w, i, b] - after) / segment
                sum_[b] -= leaving[w, i, b] + current
                if segment != 0.0:
                    if not held:
                        largest[b] = max(largest[b], abs(sum_[b]))
                    sum_[b] = current
            if segment != 0.0:
                held = False


@dataclass(frozen=True, eq=False)
class Wires:
    """The wires of a crossbar as K slices of n nodes: ``across`` wires cross them, each has one ``along``.

    Nodes of an across wire that shorts join to its terminal are ``held`` at the terminal's voltage; a segment
    between such a node, or the terminal, and a free one is the free node's ``shunt`` [S] to the terminal.
    """

    link: Array  # (K + 1, n) [Ω], segments of the across wires
    rungs: Array  # (K, n + 1) [Ω], segments of the along wires
    upright: bool  # rows cross the slices, which are columns
    held: NDArray[np.bool_]  # (K, n)
    shunt: Array  # (K, n) [S]
    coupling: Array  # (K, n) [Ω] between slice k - 1 and k, infinite where neither is free

    @classmethod
    def of(cls, row_wire: Array, column_wire: Array) -> Wires:
        """Of segments (R, C + 1) and (R + 1, C) [Ω]; slices are as wide as the shorter side."""
        upright = len(row_wire) <= column_wire.shape[1]
        link, rungs = (row_wire.T, column_wire.T) if upright else (column_wire, row_wire)
        shorted = link == 0.0
        held = np.logical_and.accumulate(shorted[:-1]) | np.logical_and.accumulate(shorted[:0:-1])[::-1]
        tied = np.pad(held, ((1, 1), (0, 0)), constant_values=True)
        with np.errstate(divide="ignore"):
            s = 1.0 / link
        shunt = np.where(tied[:-2], s[:-1], 0.0) + np.where(tied[2:], s[1:], 0.0)
        coupling = np.where(tied[:-2] | held, np.inf, link[:-1])
        return cls(
            np.ascontiguousarray(link),
            np.ascontiguousarray(rungs),
            upright,
            held,
            np.where(held, 0.0, shunt),
            coupling,
        )

    def oriented(self, values: Array) -> Array:
        """(R, C) as (K, n)."""
        return np.ascontiguousarray(values.T if self.upright else values)

    def terminals(self, inputs: Array) -> tuple[Array, Array | None]:
        """Voltages at the ends of across wires (n, batch) and along wires (K, batch), None for ground."""
        if self.upright:
            return inputs.T.copy(), None
        return np.zeros((self.held.shape[1], len(inputs))), inputs.T

    @property
    def series(self) -> Array:
        """Resistance (K, n) [Ω] of each device's wires to their nearer terminals."""
        across, along = (
            np.minimum(np.cumsum(r[:-1], 0), np.cumsum(r[:0:-1], 0)[::-1]) for r in (self.link, self.rungs.T)
        )
        return across + along.T


@dataclass(frozen=True, eq=False)
class Step:
    """Slice k, eliminated: ``R_k^½`` (n,), ``L`` and ``X`` (n, n), as in :mod:`wires`.

    What passes through the segments to slice k - 1 is multiplied by ``closed`` (n,): a break then passes
    nothing, not even rounding errors of whatever lies beyond it.
    """

    k: int
    closed: NDArray[np.bool_]
    scale: Array
    lower: Array
    image: Array

    def reduced(self, source: Array) -> Array:
        """``L^-1 R^½ source``, (n, m)."""
        return _triangular(self.lower, self.scale[:, None] * source, transposed=True)

    def expanded(self, y: Array) -> Array:
        """``R^½ L^-T y``, (n, m)."""
        return self.scale[:, None] * _triangular(self.lower, y, transposed=False)


class Elimination:
    """Block elimination of an array with conductances g (K, n) [S], and solutions by it."""

    def __init__(self, wires: Wires, g: Array) -> None:
        self.wires, self.g = wires, g
        self._steps: list[Step] = []
        self._divider, self._parallel, self._driving, self._shunted = (np.empty_like(g) for _ in range(4))
        if reduce_ladders(g, wires.rungs, self._divider, self._parallel, self._driving, self._shunted):
            raise ConvergenceError("a wire of the array floats: all devices on it conduct less than 1e-308 S")

    def factored(self) -> Elimination:
        """Itself, with all factors kept."""
        count, n = self.g.shape
        self._steps = list(self._eliminated(np.empty((count, 2, n, n))))
        return self

    def _eliminated(self, room: Array) -> Iterator[Step]:
        """Slices from the far end to the near one, their factors in ``room`` (1 or K, 2, n, n) in turn."""
        wires, (count, n) = self.wires, self.g.shape
        y = np.zeros((n, n))  # its upper triangle; everything below works in place
        for k in range(count - 1, -1, -1):
            add_admittance(self.g[k], self._divider[k], self._driving[k], self._shunted[k], wires.held[k], y)
            y.flat[:: n + 1] += wires.shunt[k]
            closed = np.isfinite(wires.coupling[k])
            scale = np.sqrt(wires.coupling[k], where=closed, out=np.ones(n))
            matrix, scaled = room[k % len(room)]
            scale_slice(y, scale, closed, matrix, scaled)
            lower, failed = dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
            if failed:
                raise ConvergenceError(
                    f"slice {k} of the array is singular: no path to a terminal conducts, or devices of "
                    f"{self.g.min():g} to {self.g.max():g} S are further apart than double precision resolves"
                )
            # from the right, which OpenBLAS does a third faster: X^T = (Y R^½) L^-T
            image = dtrsm(1.0, lower, scaled.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
            yield Step(k, closed, scale, lower, image)
            dsyrk(-1.0, image.T, 1.0, y.T, lower=1, overwrite_c=1)
            if not closed.all():
                y *= closed[:, None] & closed

    def solve(self, across: Array, along: Array | None, injected: Array | None = None) -> tuple[Array, Array]:
        """Node voltages [V] of across and along wires, (K, n, batch).

        ``across`` (n, batch) and ``along`` (K, batch) or None for zero: the terminals' voltages [V];
        ``injected`` (K, n, batch): currents [A] out of each along node into the across node, or none.
        """
        count, n = self.g.shape
        v, w = np.empty((2, count, n, across.shape[1]))
        pushed: dict[int, Array] = {}  # slices with sources of their own or beyond them
        total: Array | None = None
        for step in self._steps:
            total = _sum(total, self._source(step.k, across, along, injected))
            if total is not None:
                pushed[step.k] = step.reduced(total)
                total = step.closed[:, None] * (total - step.image.T @ pushed[step.k])
        before = np.zeros_like(across)
        for step in reversed(self._steps):
            before = step.closed[:, None] * before
            y = step.image @ before
            if step.k in pushed:
                y -= pushed[step.k]
            before = np.subtract(before, step.expanded(y), out=v[step.k])
            w[step.k] = self._along(step.k, before, along, injected)
        return v, w

    def transfer(self) -> Array:
        """(K, n) [S]: current into the terminals of along wire k, for 1 V on across wire i."""
        count, n = self.g.shape
        unit = np.eye(n)
        rows, result = np.empty((count, n)), np.zeros((count, n))
        total: Array | None = None
        for step in self._eliminated(np.empty((1, 2, n, n))):
            # reciprocity: of a current into node i the terminals get the share that 1 V there gives node i
            share = self.g[step.k][:, None].copy()
            ladder_voltages(self._divider[step.k], self._parallel[step.k], share)
            rows[step.k] = self.g[step.k] * (1.0 - share[:, 0])
            beyond = rows[step.k :]  # outputs of this slice and those beyond, per volt of this slice's nodes
            z = step.reduced(beyond.T)
            total = _sum(total, self._source(step.k, unit, None, None))
            if total is not None:
                y = step.reduced(total)
                result[step.k :] += z.T @ y
                total = step.closed[:, None] * (total - step.image.T @ y)
            beyond -= z.T @ step.image
            beyond *= step.closed
        return result

    def _source(self, k: int, across: Array, along: Array | None, injected: Array | None) -> Array | None:
        """Currents [A] into slice k's free across nodes while at 0 V; the voltages [V] of held ones."""
        wires, held = self.wires, self.wires.held[k][:, None]
        if along is None and injected is None and not held.any():
            return wires.shunt[k][:, None] * across if wires.shunt[k].any() else None
        own = self._along(k, np.where(held, across, 0.0), along, injected)
        source = wires.shunt[k][:, None] * across + self.g[k][:, None] * own
        if injected is not None:
            source += injected[k]
        return np.where(held, across, source)

    def _along(self, k: int, v: Array, along: Array | None, injected: Array | None) -> Array:
        """Voltages of along wire k (n, batch), given those of the across nodes ``v`` (n, batch)."""
        w: Array = self.g[k][:, None] * (v if along is None else v - along[k])
        if injected is not None:
            w -= injected[k]
        ladder_voltages(self._divider[k], self._parallel[k], w)
        return w if along is None else w + along[k]


def _sum(a: Array | None, b: Array | None) -> Array | None:
    """Of what is there."""
    return b if a is None else a if b is None else a + b


def _triangular(lower: Array, y: Array, *, transposed: bool) -> Array:
    """``L^-T y``, or with ``transposed`` ``L^-1 y``: from the right, as BLAS wants its columns contiguous."""
    rows: Array = dtrsm(1.0, lower, y.T, side=1, lower=1, trans_a=int(transposed), overwrite_b=1)
    return rows.T
