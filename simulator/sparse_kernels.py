"""Compiled loops of the netlist engine: sums into sparse patterns, LU on a fixed pattern, solves.

Flat arrays in, filled arrays out, no exceptions; real or complex. All run without Python's lock, so that
threads can share a batch out. Sparse matrices are in compressed columns, of one pattern for a whole batch.
A batch in the last axis is what the compiler vectorises (5x on 64 matrices); one matrix alone has its own
loops, without that axis (2x).

Patterns of L and U have unsigned indices: with signed ones numba tests each for being negative (1.8x in a
solve).

Factorization, left-looking on a pattern found once: Gilbert and Peierls, *SIAM J. Sci. Stat. Comput.* 9
(1988) 862; Davis and Palamadai Natarajan, "KLU", *ACM Trans. Math. Softw.* 37 (2010) 36.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit

compiled = functools.partial(njit, cache=True, error_model="numpy", nogil=True)


@compiled
def scatter(values, sign, slots, out):
    """``out[b, slots[k]] += sign * values[b, k]``; negative slots drop out. One row of values serves all."""
    for b in range(out.shape[0]):
        a = b if values.shape[0] > 1 else 0
        for k in range(slots.shape[0]):
            if slots[k] >= 0:
                out[b, slots[k]] += sign * values[a, k]


@compiled
def compress(rows, columns, height, starts, indices, slots):
    """Compressed columns of the positions given: ``starts``, ``indices``, and the place of each in ``slots``.

    Positions may repeat; negative ones have no place (-1). Buckets of rows first, so that every column then
    receives its entries in order. Returns the number of entries.
    """
    count, width = rows.shape[0], starts.shape[0] - 1
    ends = np.zeros(height + 1, np.int64)
    for e in range(count):
        if rows[e] >= 0 and columns[e] >= 0:
            ends[rows[e] + 1] += 1
    for i in range(height):
        ends[i + 1] += ends[i]
    kept = ends[height]
    order = np.empty(kept, np.int64)
    for e in range(count):
        slots[e] = -1
        if rows[e] >= 0 and columns[e] >= 0:
            order[ends[rows[e]]] = e
            ends[rows[e]] += 1
    last = np.full(width, -1, np.int64)  # row of each column's latest entry
    starts[:] = 0
    for k in range(kept):
        i, j = rows[order[k]], columns[order[k]]
        if last[j] != i:
            last[j] = i
            slots[order[k]] = starts[j + 1]  # within the column, so far
            starts[j + 1] += 1
        else:
            slots[order[k]] = starts[j + 1] - 1
    for j in range(width):
        starts[j + 1] += starts[j]
    for k in range(kept):
        e = order[k]
        slots[e] += starts[columns[e]]
        indices[slots[e]] = rows[e]
    return starts[width]


@compiled
def stamp(f, s, u, full, first, second, device, rows, entries, residual, slopes, size, limited):
    """Sum devices' values f (b, m) and slopes s (b, p), taken at port voltages u (b, p), into the equations.

    Ports lie between the places ``first`` and ``second`` of ``full``, and belong to ``device`` (p,). Where u
    is not what ``full`` says, f is extrapolated in place, and the sample is ``limited``. A value leaves
    rows[0] and enters rows[1]; a slope has four ``entries``. Negative places are none. ``size`` takes the
    sizes of all terms.
    """
    terms = np.empty(f.shape[1])
    for b in range(f.shape[0]):
        for m in range(f.shape[1]):
            terms[m] = 0.0
        for p in range(s.shape[1]):
            m, head, tail = device[p], full[b, first[p]], full[b, second[p]]
            away = head - tail - u[b, p]
            if away != 0.0:
                f[b, m] += s[b, p] * away
                limited[b] = True
            terms[m] += abs(s[b, p]) * (abs(head) + abs(tail))
            for k in range(4):
                place = entries[k, p]
                if place >= 0:
                    slopes[b, place] += s[b, p] if k == 0 or k == 3 else -s[b, p]
        for m in range(f.shape[1]):
            for k in range(2):
                place = rows[k, m]
                if place >= 0:
                    residual[b, place] += f[b, m] if k == 0 else -f[b, m]
                    size[b, place] += abs(f[b, m]) + terms[m]


@compiled
def multiply(starts, indices, data, which, x, out, size):
    """``out[b] += A[which[b]] x[b]``, and the sizes of its terms into ``size``."""
    for b in range(x.shape[0]):
        a = which[b]
        for j in range(x.shape[1]):
            xj = x[b, j]
            for p in range(starts[j], starts[j + 1]):
                term = data[a, p] * xj
                out[b, indices[p]] += term
                size[b, indices[p]] += abs(term)


@compiled
def multiply_shared(starts, indices, data, x, out, size):
    """``out += A x`` for one matrix and columns x (m, b), with the batch in the inner loop."""
    for j in range(x.shape[0]):
        for p in range(starts[j], starts[j + 1]):
            i, a = indices[p], data[p]
            for b in range(x.shape[1]):
                term = a * x[j, b]
                out[i, b] += term
                size[i, b] += abs(term)


@compiled
def _sort(starts, rows):
    """Put the rows of every column in rising order: into buckets by row, and from these back by column."""
    n = starts.shape[0] - 1
    ends = np.zeros(n + 1, np.int64)
    for p in range(starts[n]):
        ends[rows[p] + 1] += 1
    for i in range(n):
        ends[i + 1] += ends[i]
    columns, place = np.empty(starts[n], np.int64), starts.copy()
    for j in range(n):
        for p in range(starts[j], starts[j + 1]):
            columns[ends[rows[p]]] = j
            ends[rows[p]] += 1
    begin = 0
    for i in range(n):
        for p in range(begin, ends[i]):
            rows[place[columns[p]]] = i
            place[columns[p]] += 1
        begin = ends[i]


@compiled
def _pruned(rows, begin, end, j):
    """Where ``rows`` up to j end, put before those beyond it; if j is none of them, ``end``."""
    for p in range(begin, end):
        if rows[p] == j:
            break
    else:
        return end
    for p in range(begin, end):
        if rows[p] <= j:
            rows[begin], rows[p] = rows[p], rows[begin]
            begin += 1
    return begin


@compiled
def symbolic(starts, indices, column_order, row_place, l_starts, l_rows, u_starts, u_rows):
    """Patterns of L (below) and U (above the diagonal) for a given order of pivots.

    Returns the number of columns done: fewer than all where ``l_rows`` or ``u_rows`` is too short. Of a
    column k of L that updates column j and has a row j, rows beyond j are found through column j, too, and
    no longer looked at (symmetric pruning: Eisenstat and Liu, *SIAM J. Matrix Anal. Appl.* 13 (1992) 202).
    """
    n = column_order.shape[0]
    mark = np.full(n, -1, np.int64)
    stack = np.empty(n, np.int64)
    looked = np.empty(n, np.int64)  # end of the rows of each column that are looked at
    l_end, u_end = 0, 0
    l_starts[0] = 0
    u_starts[0] = 0
    for j in range(n):
        if l_end + n - j > l_rows.shape[0] or u_end + j > u_rows.shape[0]:
            return j
        mark[j] = j
        column = column_order[j]
        for p in range(starts[column], starts[column + 1]):
            i = row_place[indices[p]]
            if mark[i] == j:
                continue
            mark[i] = j
            if i > j:
                l_rows[l_end] = i
                l_end += 1
                continue
            stack[0] = i
            depth = 1
            while depth > 0:
                depth -= 1
                k = stack[depth]
                u_rows[u_end] = k
                u_end += 1
                for r in range(l_starts[k], looked[k]):
                    i = l_rows[r]
                    if mark[i] != j:
                        mark[i] = j
                        if i > j:
                            l_rows[l_end] = i
                            l_end += 1
                        else:
                            stack[depth] = i
                            depth += 1
        l_starts[j + 1] = l_end
        u_starts[j + 1] = u_end
        looked[j] = l_end
        for p in range(u_starts[j], u_end):
            k = u_rows[p]
            if looked[k] == l_starts[k + 1]:
                looked[k] = _pruned(l_rows, l_starts[k], l_starts[k + 1], j)
    _sort(l_starts, l_rows)
    _sort(u_starts, u_rows)
    return n


@compiled
def _divisor(x):
    """NaN for 0: for a complex divisor of 0 numba raises an exception, whatever its error model."""
    return x + np.nan if x == 0.0 else x


@compiled
def factorize(
    starts, indices, data, column_order, row_place, l_starts, l_rows, u_starts, u_rows,
    lower, upper, pivots, largest,
):  # fmt: skip
    """Numeric LU of one matrix on the pattern of :func:`symbolic`.

    A pivot of 0 becomes NaN; ``largest[j]`` is the largest multiplier of column j. Nothing else is tested.
    """
    n = column_order.shape[0]
    x = np.zeros(n, data.dtype)
    for j in range(n):
        column = column_order[j]
        for p in range(starts[column], starts[column + 1]):
            x[row_place[indices[p]]] = data[p]
        for p in range(u_starts[j], u_starts[j + 1]):  # rising, so that each is final when its turn comes
            k = u_rows[p]
            xk = x[k]
            x[k] = 0.0
            upper[p] = xk
            if xk != 0.0:
                for r in range(l_starts[k], l_starts[k + 1]):
                    x[l_rows[r]] -= lower[r] * xk
        pivots[j] = _divisor(x[j])
        inverse = 1.0 / pivots[j]
        x[j] = 0.0
        most = 0.0
        for r in range(l_starts[j], l_starts[j + 1]):
            lower[r] = x[l_rows[r]] * inverse
            x[l_rows[r]] = 0.0
            most = max(most, abs(lower[r]))
        largest[j] = most


@compiled
def factorize_batch(
    starts, indices, data, column_order, row_place, l_starts, l_rows, u_starts, u_rows,
    lower, upper, pivots, largest,
):  # fmt: skip
    """As :func:`factorize`, for matrices in the last axis of all values: one pass, vectorised over them."""
    n, batch = column_order.shape[0], data.shape[1]
    x = np.zeros((n, batch), data.dtype)
    inverse = np.empty(batch, data.dtype)
    for j in range(n):
        column = column_order[j]
        for p in range(starts[column], starts[column + 1]):
            i = row_place[indices[p]]
            for b in range(batch):
                x[i, b] = data[p, b]
        for p in range(u_starts[j], u_starts[j + 1]):
            k = u_rows[p]
            for b in range(batch):
                upper[p, b] = x[k, b]
            for b in range(batch):
                x[k, b] = 0.0
            for r in range(l_starts[k], l_starts[k + 1]):
                i = l_rows[r]
                for b in range(batch):
                    x[i, b] -= lower[r, b] * upper[p, b]
        for b in range(batch):
            pivots[j, b] = _divisor(x[j, b])
            inverse[b] = 1.0 / pivots[j, b]
            largest[j, b] = 0.0
        for b in range(batch):
            x[j, b] = 0.0
        for r in range(l_starts[j], l_starts[j + 1]):
            i = l_rows[r]
            for b in range(batch):
                lower[r, b] = x[i, b] * inverse[b]
                largest[j, b] = max(largest[j, b], abs(lower[r, b]))
            for b in range(batch):
                x[i, b] = 0.0


@compiled
def _solve_one(
    column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, y, out
):  # fmt: skip
    """``out = A⁻¹ rhs``; ``y`` (n,) is room."""
    n = column_order.shape[0]
    for i in range(n):
        y[row_place[i]] = rhs[i]
    for j in range(n):
        yj = y[j]
        if yj != 0.0:
            for p in range(l_starts[j], l_starts[j + 1]):
                y[l_rows[p]] -= lower[p] * yj
    for j in range(n - 1, -1, -1):
        yj = y[j] / pivots[j]
        if yj != 0.0:
            for p in range(u_starts[j], u_starts[j + 1]):
                y[u_rows[p]] -= upper[p] * yj
        out[column_order[j]] = yj


@compiled
def solve(column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, out):
    """``out[r] = A⁻¹ rhs[r]`` for one matrix."""
    y = np.empty(column_order.shape[0], out.dtype)
    for r in range(rhs.shape[0]):
        _solve_one(
            column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots,
            rhs[r], y, out[r],
        )  # fmt: skip


@compiled
def _add_multiples(factors, h, rows, count, out):
    """``out += h Σ_j factors[j] rows[j]`` over the first ``count`` rows."""
    for j in range(count):
        factor = h * factors[j]
        if factor != 0.0:
            for k in range(out.shape[0]):
                out[k] += factor * rows[j, k]


@compiled
def charge(starts, indices, storage, x, q):
    """``q = C x`` for a matrix of values ``storage``."""
    q[:] = 0.0
    for j in range(x.shape[0]):
        for p in range(starts[j], starts[j + 1]):
            q[indices[p]] += storage[p] * x[j]


@compiled
def linear_step(
    column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots,
    starts, indices, storage, a, embedded, h, first, constant, start, weight, x, q, currents, excess,
):  # fmt: skip
    """One Runge-Kutta step of ``G x + constant + d/dt C x = 0`` (:mod:`.transient_steps`), error included.

    The factors are those of ``G + C/(h a_ii)``; ``storage`` has C's values, ``start`` is Q_0. Stages
    ``first ...`` are solved: x, ``constant`` and ``currents`` (s, n) of each; q is Q at the last. ``excess``
    (n,) is the local error over ``weight``.
    """
    count, n = x.shape
    step = h * a[count - 1, count - 1]
    known, rhs, y = np.empty(n), np.empty(n), np.empty(n)
    for i in range(first, count):
        known[:] = start
        _add_multiples(a[i], h, currents, i, known)
        for k in range(n):
            rhs[k] = known[k] / step - constant[i, k]
        _solve_one(
            column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, y, x[i]
        )
        charge(starts, indices, storage, x[i], q)
        for k in range(n):
            currents[i, k] = (q[k] - known[k]) / step
    rhs[:] = 0.0
    _add_multiples(embedded, h / step, currents, count, rhs)
    _solve_one(
        column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, y, excess
    )
    for k in range(n):
        excess[k] = abs(excess[k]) / weight[k]


@compiled
def krylov(
    column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots,
    starts, indices, storage, signs, shift, done, wanted, basis, dual, projected,
):  # fmt: skip
    """Vectors ``basis[done + 1 : wanted + 1]`` of the Krylov space of ``S = (G + C/shift)⁻¹ C/shift``.

    Orthonormal in the product ``u · (signs C v)``; ``dual`` has signs C times each vector, ``projected`` is
    S on the space. The factors are those of ``G + C/shift``. Returns the size of the space: less than
    ``wanted`` where S does not lead out of it.
    """
    n = basis.shape[1]
    rhs, y = np.empty(n), np.empty(n)
    for j in range(done, wanted):
        v = basis[j + 1]
        for k in range(n):
            rhs[k] = signs[k] * dual[j, k] / shift
        _solve_one(
            column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, y, v
        )
        square = 0.0
        for i in range(j + 1):
            share = np.dot(dual[i], v)
            for k in range(n):
                v[k] -= share * basis[i, k]
            projected[i, j] = share
            square += share * share
        charge(starts, indices, storage, v, dual[j + 1])
        for k in range(n):
            dual[j + 1, k] *= signs[k]
        rest = np.dot(dual[j + 1], v)
        if not rest > 1e-24 * square:
            return j + 1
        norm = np.sqrt(rest)
        projected[j + 1, j] = norm
        for k in range(n):
            v[k] /= norm
            dual[j + 1, k] /= norm
    return wanted


@compiled
def solve_transposed(
    column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, out
):
    """``out[r] = A⁻ᵀ rhs[r]`` for one matrix, not conjugated."""
    n = column_order.shape[0]
    y = np.empty(n, out.dtype)
    for right in range(rhs.shape[0]):
        for j in range(n):
            yj = y.dtype.type(rhs[right, column_order[j]])
            for p in range(u_starts[j], u_starts[j + 1]):
                yj -= upper[p] * y[u_rows[p]]
            y[j] = yj / pivots[j]
        for j in range(n - 1, -1, -1):
            yj = y[j]
            for p in range(l_starts[j], l_starts[j + 1]):
                yj -= lower[p] * y[l_rows[p]]
            y[j] = yj
        for i in range(n):
            out[right, i] = y[row_place[i]]


@compiled
def solve_batch(column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, out):
    """``out[:, b] = A[b]⁻¹ rhs[:, b]``: matrices and right-hand sides (n, batch) in the last axis."""
    n, batch = rhs.shape
    y = np.empty((n, batch), out.dtype)
    for i in range(n):
        for b in range(batch):
            y[row_place[i], b] = rhs[i, b]
    for j in range(n):
        for p in range(l_starts[j], l_starts[j + 1]):
            i = l_rows[p]
            for b in range(batch):
                y[i, b] -= lower[p, b] * y[j, b]
    for j in range(n - 1, -1, -1):
        for b in range(batch):
            y[j, b] /= pivots[j, b]
        for p in range(u_starts[j], u_starts[j + 1]):
            i = u_rows[p]
            for b in range(batch):
                y[i, b] -= upper[p, b] * y[j, b]
        for b in range(batch):
            out[column_order[j], b] = y[j, b]


@compiled
def solve_transposed_batch(
    column_order, row_place, l_starts, l_rows, u_starts, u_rows, lower, upper, pivots, rhs, out
):
    """``out[:, b] = A[b]⁻ᵀ rhs[:, b]``, not conjugated."""
    n, batch = rhs.shape
    y = np.empty((n, batch), out.dtype)
    for j in range(n):
        for b in range(batch):
            y[j, b] = rhs[column_order[j], b]
        for p in range(u_starts[j], u_starts[j + 1]):
            i = u_rows[p]
            for b in range(batch):
                y[j, b] -= upper[p, b] * y[i, b]
        for b in range(batch):
            y[j, b] /= pivots[j, b]
    for j in range(n - 1, -1, -1):
        for p in range(l_starts[j], l_starts[j + 1]):
            i = l_rows[p]
            for b in range(batch):
                y[j, b] -= lower[p, b] * y[i, b]
    for i in range(n):
        for b in range(batch):
            out[i, b] = y[row_place[i], b]
