"""Compiled inner loops: flat arrays in, filled arrays out, no allocation, no exceptions.

All jitted functions that call each other live in this one file, because numba's cache does not see
an edit in a callee in another file. Every kernel is generic over float32, float64 and complex128.
The public functions around them (`relaxation`, `ode`, `blocks`) validate and allocate.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit, types
from numba.extending import overload

LOGISTIC, SOFTPLUS, LINEAR = 0, 1, 2

# Division as in NumPy: the default tests each divisor, and that branch keeps LLVM from vectorising
# (12x on the logistic). Sums may be reordered; NaN and infinity keep their meaning.
compiled = functools.partial(njit, cache=True, error_model="numpy")
FAST = {"contract", "reassoc", "nsz"}


def _exp(x):  # pragma: no cover - replaced by the overload below
    """Exponential; for float32 a polynomial that LLVM vectorises, 3 ulp (libm's scalar call is 8x slower)."""
    raise NotImplementedError


@overload(_exp, inline="always")
def _exp_overload(x):
    if x == types.float32:
        return _exp_float32
    if isinstance(x, types.Complex):
        return _exp_complex
    return lambda x: np.exp(x)


def _exp_complex(x):
    # Capped where 1 + exp(x) is all exp(x): beyond, inf * sin(0) would be NaN. NaN itself passes.
    if x.real > 350.0:
        return np.exp(complex(350.0, x.imag))
    return np.exp(x)


def _exp_float32(x):
    # exp(x) = 2^n exp(r), |r| <= ln(2)/2: Cody-Waite reduction, then a degree-6 Taylor polynomial.
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * (np.int32((np.int32(n) + np.int32(127)) << np.int32(23))).view(np.float32)


@compiled(inline="always")
def _softplus(u):
    """log(1 + exp(u)) without overflow, real or complex."""
    if u.real > 0.0:
        return u + np.log(1.0 + np.exp(-u))
    return np.log(1.0 + np.exp(u))


@compiled(fastmath=FAST)
def activate(current, injected, rows, start, law, load, low, swing, gain, offset, knee, voltages, ports):
    """Settle one layer given its column currents: ``v = (current + injected) / load``, ``s = f(v)``.

    ``current`` (m, n) and ``ports`` (m, N) are compact (active samples only), ``injected`` and
    ``voltages`` (batch, N) are addressed by ``rows``; the layer's nodes are ``start : start + n``.
    With ``law == LINEAR`` the layer is ``s = v`` (``load`` is then 1 / slope, per sample).
    """
    n = current.shape[1]
    for a in range(rows.shape[0]):
        row = rows[a]
        drive = current[a]
        bias = injected[row, start : start + n]
        v = voltages[row, start : start + n]
        s = ports[a, start : start + n]
        g = load[row if load.shape[0] > 1 else 0, start : start + n]
        if law == LINEAR:
            for i in range(n):
                v[i] = (drive[i] + bias[i]) / g[i]
                s[i] = v[i]
            continue
        amp = gain[start : start + n]
        mid = offset[start : start + n]
        for i in range(n):
            v[i] = (drive[i] + bias[i]) / g[i]
        transfer(law, v, low, swing, amp, mid, knee, s)


@compiled(fastmath=FAST)
def transfer(law, v, low, swing, gain, offset, knee, s):
    """``s = f(v)`` for one sample's nodes; the laws are those of :mod:`.neurons`."""
    one = swing / swing
    if law == LOGISTIC:
        slope = (one + one + one + one) / swing
        for i in range(v.shape[0]):
            s[i] = low + swing / (one + _exp(-slope * gain[i] * (v[i] - offset[i])))
    else:
        for i in range(v.shape[0]):
            u = (v[i] - offset[i]) / knee
            s[i] = low + gain[i] * knee * (_softplus(u) - _softplus(u - swing / (gain[i] * knee)))


@compiled()
def _solve(matrix, rhs, n):
    """Solve the leading n x n system in place by Gaussian elimination with pivoting; False if singular."""
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(matrix[i, k]) > abs(matrix[pivot, k]):
                pivot = i
        if abs(matrix[pivot, k]) == 0.0:
            return False
        if pivot != k:
            for j in range(n):
                matrix[k, j], matrix[pivot, j] = matrix[pivot, j], matrix[k, j]
            rhs[k], rhs[pivot] = rhs[pivot], rhs[k]
        for i in range(k + 1, n):
            factor = matrix[i, k] / matrix[k, k]
            for j in range(k, n):
                matrix[i, j] -= factor * matrix[k, j]
            rhs[i] -= factor * rhs[k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            rhs[k] -= matrix[k, j] * rhs[j]
        rhs[k] /= matrix[k, k]
    return True


@compiled(fastmath=FAST)
def _dot(a, b):
    total = np.conj(a[0]) * b[0]
    for i in range(1, a.shape[0]):
        total += np.conj(a[i]) * b[i]
    return total


@compiled(fastmath=FAST)
def _largest_difference(a, b):
    """Largest ``|a - b|``; infinity or NaN if any is (a maximum passes over a NaN, their sum does not)."""
    worst = abs(a[0] - b[0])
    total = worst
    for i in range(1, a.shape[0]):
        worst = max(worst, abs(a[i] - b[i]))
    for i in range(1, a.shape[0]):  # a loop of its own, so that it vectorises
        total += abs(a[i] - b[i])
    return worst if math.isfinite(total) else total


@compiled(fastmath=FAST)
def _mix(x, image, window, count, last_r, last_t, d_r, d_t, gram, work, coefficients):
    """Anderson's type-II step for one sample: the next iterate replaces ``image`` (the map's value at x).

    Minimises ``|r - sum_k c_k dr_k|`` over the last ``window`` differences by (regularised) normal
    equations and returns ``t - sum_k c_k dt_k`` (Walker and Ni 2011, eq. 2.2, with beta = 1).
    """
    depth = min(count, window)
    slot = (count - 1) % window
    if count > 0:
        for i in range(x.shape[0]):
            r = image[i] - x[i]
            d_r[slot, i] = r - last_r[i]
            d_t[slot, i] = image[i] - last_t[i]
            last_r[i] = r
            last_t[i] = image[i]
        for k in range(depth):
            gram[slot, k] = _dot(d_r[slot], d_r[k])
            gram[k, slot] = np.conj(gram[slot, k])
    else:
        for i in range(x.shape[0]):
            last_r[i] = image[i] - x[i]
            last_t[i] = image[i]
    if depth == 0:
        return
    trace = abs(gram[0, 0])
    for k in range(1, depth):
        trace += abs(gram[k, k])
    for k in range(depth):
        for j in range(depth):
            work[k, j] = gram[k, j]
        work[k, k] += 1e-7 * trace
        coefficients[k] = _dot(d_r[k], last_r)
    if not _solve(work, coefficients, depth):
        return
    for k in range(depth):
        c = d_t.dtype.type(coefficients[k])
        for i in range(x.shape[0]):
            image[i] -= c * d_t[k, i]


@compiled()
def anderson(
    ports,
    x,
    rows,
    start,
    scale,
    tolerance,
    window,
    settled_ports,
    count,
    status,
    residual,
    last_r,
    last_t,
    d_r,
    d_t,
    gram,
    work,
    coefficients,
):
    """Judge every active sample and choose its next iterate; returns how many stay active.

    ``ports[:, start:]`` holds the image T(x) of the iterate ``x``; a sample whose ``|T(x) - x|`` is at
    most ``tolerance * scale[row]`` leaves with ``status`` 1, one that is no longer finite with -1. The
    survivors are packed to the front of ``ports``, ``x`` and ``rows``, so that what has settled costs
    nothing more. ``count`` counts each sample's sweeps. ``window == 0`` is plain relaxation.
    """
    kept = 0
    for a in range(rows.shape[0]):
        row = rows[a]
        image = ports[a, start:]
        iterate = x[a]
        worst = _largest_difference(image, iterate)
        residual[row] = worst
        done = worst <= tolerance * scale[row]
        if done or not math.isfinite(worst):
            status[row] = 1 if done else -1
            count[row] += 1
            for i in range(ports.shape[1]):
                settled_ports[row, i] = ports[a, i]
            continue
        if window > 0:
            _mix(
                iterate,
                image,
                window,
                count[row],
                last_r[row],
                last_t[row],
                d_r[row],
                d_t[row],
                gram[row],
                work,
                coefficients,
            )
        count[row] += 1
        for i in range(image.shape[0]):
            x[kept, i] = image[i]
            ports[kept, start + i] = image[i]
        rows[kept] = row
        kept += 1
    return kept


@compiled()
def program_pairs(target, actual, deviation, step, change, g_min, g_max, weight):
    """Move differential pairs by ``change`` [S] and refresh ``weight = g+ - g-``, device by device.

    Pair coding: the weight sits on one device, the other rests at ``g_min``. A write moves the actual
    conductance by ``step`` times the commanded change; limits are each device's own, ``deviation``
    times the nominal ones.
    """
    for i in range(change.shape[0]):
        for j in range(change.shape[1]):
            w = target[0, i, j] - target[1, i, j] + change[i, j]
            plus = min(g_min + max(w, g_min * 0), g_max)
            minus = min(g_min + max(-w, g_min * 0), g_max)
            for p in range(2):
                goal = plus if p == 0 else minus
                g = actual[p, i, j] + step[p, i, j] * (goal - target[p, i, j])
                m = deviation[p, i, j]
                actual[p, i, j] = min(max(g, m * g_min), m * g_max)
                target[p, i, j] = goal
            weight[i, j] = actual[0, i, j] - actual[1, i, j]
