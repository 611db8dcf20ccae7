"""Sparse LU of many matrices of one pattern: one analysis, then numeric work in compiled code.

    solver = SparseSolver(starts, indices)     # compressed columns of the pattern, n columns
    lu = solver.factorize(data)                # data (B, nnz): values of B matrices
    x = lu.solve(rhs)                          # (B, n), or (B, r, n) for r right-hand sides each

The first matrix is factorized by SuperLU, which chooses an order of little fill and its pivots; the pattern
of L and U then follows once, and every later factorization is numeric, on fixed pivots. Where these have
become poor (a multiplier far above those of the first matrix) they are chosen anew: for a matrix alone, to
stay; for a sample of a batch, only for itself (``lu.fallbacks`` says which), so that a sample's solution does
not depend on what shares its batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import SuperLU, splu

from . import sparse_kernels as kernels

Array = NDArray[Any]
Index = NDArray[np.int64]
Place = NDArray[np.uint32]

GROWTH = 1e3  # of a column's largest multiplier, above that (or 1) when the pivots were chosen
FILL = 2.0  # entries of L and U over those of the matrix, above which another order is tried
LARGE = 500  # unknowns, from which on a symmetric pattern is given to the second order alone
ORDERS: tuple[dict[str, Any], ...] = (
    {"permc_spec": "COLAMD", "panel_size": 1},  # its pivots are the better ones
    {
        "permc_spec": "MMD_AT_PLUS_A",
        "panel_size": 1,
        "diag_pivot_thresh": 0.01,
        "options": {"SymmetricMode": True},
    },
)


@dataclass(frozen=True, eq=False)
class Plan:
    """An order of pivots and the patterns of L and U (strictly triangular, compressed columns)."""

    column_order: Place  # column of A at each place
    row_place: Place  # place of each row of A
    l_starts: Place
    l_rows: Place
    u_starts: Place
    u_rows: Place
    limit: Array  # (n,) allowed multipliers

    @property
    def patterns(self) -> tuple[Place, ...]:
        """In the order in which kernels take them."""
        return (
            self.column_order, self.row_place, self.l_starts, self.l_rows, self.u_starts, self.u_rows
        )  # fmt: skip


def _unsigned(places: NDArray[Any]) -> Place:
    return places.astype(np.uint32)


class SparseSolver:
    """Factorizes matrices (n, n) of one pattern, given by ``starts`` (n+1,) and ``indices`` (nnz,)."""

    def __init__(self, starts: NDArray[Any], indices: NDArray[Any]) -> None:
        self.starts, self.indices = np.asarray(starts, np.int64), np.asarray(indices, np.int64)
        self.size = len(starts) - 1
        self.plan: Plan | None = None

    @property
    def room(self) -> int:
        """Bytes that one factorized real matrix takes, its values included."""
        fill = 0 if self.plan is None else len(self.plan.l_rows) + len(self.plan.u_rows)
        return 8 * (fill + 2 * self.size + 2 * len(self.indices))

    def factorize(self, data: Array) -> Factors:
        """Of values (B, nnz) or (nnz,), real or complex. Singular matrices: see :attr:`Factors.singular`."""
        data = np.ascontiguousarray(np.atleast_2d(data))
        if self.size == 0:
            return Factors(None, None, np.zeros(len(data), bool), {}, 0)
        numeric: Numeric | None = None
        if self.plan is None:
            first = next((found for values in data if (found := self._analyse(values)) is not None), None)
            if first is None:
                return Factors(None, None, np.ones(len(data), bool), {}, self.size)
            self.plan, numeric = first
        if numeric is None or len(data) > 1:
            numeric = self._numeric(self.plan, data)
        singular, fallbacks = numeric.poor(self.plan), {}
        for b in np.flatnonzero(singular).tolist():
            if (found := self._analyse(data[b])) is not None:
                singular[b], (plan, own) = False, found
                if len(data) == 1:
                    self.plan, numeric = plan, own
                else:
                    fallbacks[b] = Factors(plan, own, np.zeros(1, bool), {}, self.size)
        return Factors(self.plan, numeric, singular, fallbacks, self.size)

    def _analyse(self, values: Array) -> tuple[Plan, Numeric] | None:
        """SuperLU's pivots, in its order of less fill, with factors on them; None for a singular matrix."""
        found = self._superlu(values)
        if found is None:
            return None
        n, room = self.size, found.nnz + self.size
        order, place = np.argsort(found.perm_c).astype(np.int64), found.perm_r.astype(np.int64)
        l_starts, u_starts = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
        while True:  # SuperLU's count is close
            l_rows, u_rows = np.empty(room, np.int64), np.empty(room, np.int64)
            done = kernels.symbolic(
                self.starts, self.indices, order, place, l_starts, l_rows, u_starts, u_rows
            )
            if done == n:
                break
            room *= 2
        free = Plan(
            _unsigned(order), _unsigned(place), _unsigned(l_starts), _unsigned(l_rows[: l_starts[n]]),
            _unsigned(u_starts), _unsigned(u_rows[: u_starts[n]]), np.full(n, np.inf),
        )  # fmt: skip
        numeric = self._numeric(free, values[None])
        return replace(free, limit=GROWTH * np.maximum(1.0, np.nan_to_num(numeric.largest))), numeric

    def _superlu(self, values: Array) -> SuperLU[Any] | None:
        if not np.isfinite(values).all():
            return None
        matrix = csc_array((values, self.indices, self.starts), shape=(self.size, self.size))
        found: list[SuperLU[Any]] = []
        for options in ORDERS[1:] if self.size >= LARGE and self._symmetric(matrix) else ORDERS:
            try:
                found.append(splu(matrix, **options))
            except RuntimeError:  # exactly singular
                return None
            if found[-1].nnz <= FILL * len(values):
                break
        return min(found, key=lambda factors: factors.nnz)

    def _symmetric(self, matrix: csc_array) -> bool:
        """Whether the pattern is: for others, minimum degree is the order of another matrix."""
        rows = matrix.tocsr()
        return np.array_equal(rows.indptr, self.starts) and np.array_equal(rows.indices, self.indices)

    def _numeric(self, plan: Plan, data: Array) -> Numeric:
        batch, dtype = len(data), np.result_type(data.dtype, np.float64)
        tail = (batch,) if batch > 1 else ()
        lengths = (len(plan.l_rows), len(plan.u_rows), self.size)
        lower, upper, pivots = (np.empty((length, *tail), dtype) for length in lengths)
        numeric = Numeric(lower, upper, pivots, np.empty((self.size, *tail)))
        kernel = kernels.factorize_batch if batch > 1 else kernels.factorize
        values = np.ascontiguousarray(data.T if batch > 1 else data[0], dtype)
        kernel(self.starts, self.indices, values, *plan.patterns, *numeric.factors, numeric.largest)
        return numeric


@dataclass(frozen=True, eq=False)
class Numeric:
    """Values on a plan's patterns: (nnz,) of one matrix, or (nnz, B)."""

    lower: Array
    upper: Array
    pivots: Array
    largest: Array  # multiplier of each column

    @property
    def factors(self) -> tuple[Array, Array, Array]:
        """In the order in which kernels take them."""
        return self.lower, self.upper, self.pivots

    def poor(self, plan: Plan) -> NDArray[np.bool_]:
        """(B,) matrices with a pivot that is none, or far below its column."""
        sound = np.isfinite(self.pivots) & (plan.limit >= self.largest.T).T
        return ~np.atleast_1d(sound.all(axis=0))


@dataclass(frozen=True, eq=False)
class Factors:
    """LU factors of B matrices."""

    plan: Plan | None  # None where every matrix is singular
    numeric: Numeric | None
    singular: NDArray[np.bool_]  # (B,): their solutions are NaN
    fallbacks: dict[int, Factors]  # samples with pivots of their own
    size: int

    def solve(self, rhs: Array, *, transposed: bool = False) -> Array:
        """``A⁻¹ rhs`` or ``A⁻ᵀ rhs`` for ``rhs`` (B, n) or (B, r, n), in its shape.

        Factors of one matrix take any (r, n).
        """
        batch, shape = len(self.singular), rhs.shape
        if self.plan is None or self.numeric is None:
            return np.full(shape, np.nan, np.result_type(rhs, np.float64))
        numeric = self.numeric
        dtype = np.result_type(rhs, numeric.pivots)
        stacked = np.ascontiguousarray(rhs, dtype).reshape(batch, -1, self.size)
        out = np.empty_like(stacked)
        if batch == 1:
            kernel = kernels.solve_transposed if transposed else kernels.solve
            kernel(*self.plan.patterns, *numeric.factors, stacked[0], out[0])
        else:
            kernel = kernels.solve_transposed_batch if transposed else kernels.solve_batch
            columns = np.empty((self.size, batch), dtype)
            for r in range(stacked.shape[1]):
                right = np.ascontiguousarray(stacked[:, r].T)
                kernel(*self.plan.patterns, *numeric.factors, right, columns)
                out[:, r] = columns.T
        out[self.singular] = np.nan
        for b, own in self.fallbacks.items():
            out[b] = own.solve(stacked[b], transposed=transposed)
        return out.reshape(shape)
