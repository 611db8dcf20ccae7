"""Compiled inner loops: flat arrays in, filled arrays out, no allocation, no exceptions.

All jitted functions that call each other live in this one file, because numba's cache does not see
an edit in a callee in another file. Every kernel is generic over float32, float64, complex64 and complex128.
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
SOON, FEW = (
    16,
    3,
)  # sweeps in which most samples settle, and how many of them are then kept: they fit the cache
SMALLEST = 1e-34  # squared residual below which single precision has lost it


def _power(x):  # pragma: no cover - replaced by the overload below
    """2^x, real; for float32 a polynomial that LLVM vectorises, 3 ulp (libm's scalar call is 8x slower)."""
    raise NotImplementedError


@overload(_power, inline="always")
def _power_overload(x):
    if x == types.float32:
        return _power_float32
    return lambda x: np.exp2(x)


def _power_float32(x):
    # 2^x = 2^n 2^r, |r| <= 1/2, and 2^r by a series to degree 6, its coefficients fitted to that range.
    x = min(max(x, np.float32(-126.0)), np.float32(126.0))
    n = np.floor(x + np.float32(0.5))
    r = x - n
    p = np.float32(1.535336188319500e-4)
    p = p * r + np.float32(1.339887440266574e-3)
    p = p * r + np.float32(9.618437357674640e-3)
    p = p * r + np.float32(5.550332471162809e-2)
    p = p * r + np.float32(2.402264791363012e-1)
    p = p * r + np.float32(6.931472028550421e-1)
    p = p * r + np.float32(1.0)
    return p * (np.int32((np.int32(n) + np.int32(127)) << np.int32(23))).view(np.float32)


def _phase(x):  # pragma: no cover - replaced by the overload below
    """2^ix as (real, imaginary), x real; for float32 by polynomials that LLVM vectorises, to 2e-7."""
    raise NotImplementedError


@overload(_phase, inline="always")
def _phase_overload(x):
    if x == types.float32:
        return _phase_float32
    return lambda x: (math.cos(math.log(2.0) * x), math.sin(math.log(2.0) * x))


def _phase_float32(x):
    # In turns, to the nearest half turn, |r| <= 1/4, and two series in r² fitted to that range.
    t = np.float32(0.1103178000763258) * x
    half = np.floor(np.float32(2.0) * t + np.float32(0.5))
    r = t - np.float32(0.5) * half
    sign = np.float32(1.0) - np.float32(2.0) * np.float32(np.int32(half) & np.int32(1))
    y = r * r
    c = np.float32(-24.981836318969727)
    c = c * y + np.float32(60.143951416015625)
    c = c * y + np.float32(-85.45356750488281)
    c = c * y + np.float32(64.93934631347656)
    c = c * y + np.float32(-19.739208221435547)
    c = c * y + np.float32(1.0)
    s = np.float32(39.76072311401367)
    s = s * y + np.float32(-76.58128356933594)
    s = s * y + np.float32(81.60247802734375)
    s = s * y + np.float32(-41.34168243408203)
    s = s * y + np.float32(6.2831854820251465)
    return sign * c, sign * s * r


def _share(x, one):  # pragma: no cover - replaced by the overload below
    """``1 / (1 + 2^x)``, real or complex, without branches; ``one`` is of the real type."""
    raise NotImplementedError


@overload(_share, inline="always")
def _share_overload(x, one):
    if isinstance(x, types.Complex):
        return _share_complex
    return lambda x, one: one / (one + _power(x))


def _share_complex(x, one):
    # Capped where 1 + 2^x is all 2^x: beyond, its square would overflow. NaN itself passes.
    a, most = x.real, one * np.float32(60.0)
    e = _power(most if a > most else a)
    c, s = _phase(x.imag)
    re, im = one + e * c, e * s
    inverse = one / (re * re + im * im)
    return complex(re * inverse, -im * inverse)


@compiled(inline="always")
def _softplus(u):
    """log(1 + exp(u)) without overflow, real or complex."""
    if u.real > 0.0:
        return u + np.log(1.0 + np.exp(-u))
    return np.log(1.0 + np.exp(u))


@compiled(fastmath=FAST)
def activate(nodes, injected, rows, first, last, law, resistance, limits, gain, offset, ports):
    """Settle nodes ``first : last``: ``v = (current + injected) resistance``, ``s = f(v)``.

    ``nodes`` (m, N) holds the synapses' currents, and the voltages afterwards: one array less to stream. It
    and ``ports`` (m, N) are compact (active samples only), ``injected`` (batch, N) is addressed by ``rows``;
    ``resistance`` is 1 / load, (1, N) or per sample. With ``law == LINEAR``, ``s = v`` (``resistance`` is
    then slope / load). ``limits`` holds low, swing and knee: an array passes faster than three scalars.
    """
    low, swing, knee = limits[0], limits[1], limits[2]
    one = swing / swing
    slope = limits.dtype.type(-4.0 / math.log(2.0)) / swing  # of the exponent, in powers of two
    for a in range(rows.shape[0]):
        row = rows[a]
        v, bias = nodes[a, first:last], injected[row, first:last]
        s = ports[a, first:last]
        r = resistance[row if resistance.shape[0] > 1 else 0, first:last]
        amp, mid = gain[first:last], offset[first:last]
        if law == LOGISTIC:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                s[i] = low + swing * _share(slope * amp[i] * (v[i] - mid[i]), one)
        elif law == SOFTPLUS:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                u = (v[i] - mid[i]) / knee
                s[i] = low + amp[i] * knee * (_softplus(u) - _softplus(u - swing / (amp[i] * knee)))
        else:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                s[i] = v[i]


@compiled()
def _solve(matrix, rhs, n):
    """Solve the leading n x n Hermitian system in place, by L D L*; False if it is not positive definite."""
    for k in range(n):
        pivot = matrix[k, k].real
        if not pivot > 0.0:
            return False
        inverse = 1.0 / pivot
        for i in range(k + 1, n):
            factor = matrix[i, k] * inverse
            for j in range(k + 1, n):
                matrix[i, j] -= factor * matrix[k, j]
            rhs[i] -= factor * rhs[k]
        matrix[k, k] = inverse
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            rhs[k] -= matrix[k, j] * rhs[j]
        rhs[k] *= matrix[k, k]
    return True


@compiled(fastmath=FAST)
def _dot(a, b):
    total = np.conj(a[0]) * b[0]
    for i in range(1, a.shape[0]):
        total += np.conj(a[i]) * b[i]
    return total


@compiled(fastmath=FAST)
def _remember(image, residual, past):
    """Turn the iterate x, which ``residual`` holds, into ``T(x) - x`` and keep T(x); returns the square."""
    for i in range(image.shape[0]):
        residual[i] = image[i] - residual[i]
        past[i] = image[i]
    return _dot(residual, residual).real


@compiled()
def _within(values, allowed):
    """Is no component larger? Counted, since a running maximum would not vectorise."""
    larger = 0
    for i in range(values.shape[0]):
        larger += abs(values[i]) > allowed
    return larger == 0


@compiled(fastmath=FAST)
def _weigh(slot, depth, residuals, row, gram, work, shares):
    """Shares a of the images in Anderson's step for one sample; False where they cannot be had.

    Minimises ``|sum_k a_k r_k|`` with ``sum_k a_k = 1`` over the last ``depth`` residuals r, the latest of
    which is in ``slot`` (Walker and Ni 2011, eq. 2.1). By normal equations ``G a ∝ 1``, scaled to a unit
    diagonal; the shares of all but the latest are regularised relative to the largest residual, so that late,
    small ones do not fit the map's curvature.
    """
    trace = 0.0
    for k in range(depth):
        if k != slot:
            gram[k, slot] = _dot(residuals[k, row], residuals[slot, row])
            gram[slot, k] = np.conj(gram[k, slot])
        if gram[k, k].real < SMALLEST:
            return False
        trace += gram[k, k].real
    norms = work[depth]  # the row below the system
    for k in range(depth):
        shares[k] = norms[k] = 1.0 / np.sqrt(gram[k, k].real)
    for k in range(depth):
        for j in range(depth):
            work[k, j] = gram[k, j] * (norms[k] * norms[j])
        if k != slot:
            work[k, k] += 1e-7 * trace / gram[k, k].real
    if not _solve(work, shares, depth):
        return False
    total = shares[0] * 0.0
    for k in range(depth):
        shares[k] *= norms[k]
        total += shares[k]
    if abs(total) == 0.0:
        return False
    for k in range(depth):
        shares[k] /= total
    return True


@compiled(inline="always")
def _remembered(count, kept):
    """Sweeps since the history was begun, after ``count`` sweeps in all, and how many of these it holds.

    What has not settled soon begins anew with a longer one.
    """
    if count < SOON:
        return count, min(kept, FEW)
    return count - SOON, kept


@compiled()
def _copy(source, target):
    """Between views: an index that is a sum might be negative, to the compiler, and would not vectorise."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@compiled(fastmath=FAST)
def _combine(images, row, depth, shares, out):
    """``out = sum_k shares[k] images[k, row]``."""
    share, first = out.dtype.type(shares[0]), images[0, row]
    for i in range(out.shape[0]):
        out[i] = share * first[i]
    for k in range(1, depth):
        share, image = out.dtype.type(shares[k]), images[k, row]
        for i in range(out.shape[0]):
            out[i] += share * image[i]


@compiled()
def anderson(
    ports, nodes, rows, start, scale, tolerance, most, settled_ports, voltages, count, status,
    residuals, images, gram, work, shares,
):  # fmt: skip
    """Judge every active sample and choose its next iterate; returns how many stay active.

    ``ports[:, start:]`` holds the image T(x) of the iterate x. A sample whose ``|T(x) - x|`` is at most
    ``tolerance * scale[row]`` leaves with ``status`` 1, one that is no longer finite with -1, one that has
    had its ``most`` sweeps with 0; its ports and ``nodes`` are its result. The survivors are packed to the
    front of ``ports`` and ``rows``, so that what has settled costs nothing more. ``count`` counts each
    sample's sweeps; ``residuals`` and ``images`` (kept, batch, n) hold its last ones, in turn, and the place
    of the next residual its iterate. With one kept there is nothing to mix: plain relaxation.
    """
    kept = residuals.shape[0]
    packed = 0
    for a in range(rows.shape[0]):
        row = rows[a]
        image = ports[a, start:]
        age, length = _remembered(count[row], kept)
        slot, depth = age % length, min(age + 1, length)
        count[row] += 1
        residual = residuals[slot, row]
        square = _remember(image, residual, images[slot, row])
        allowed = tolerance * scale[row]
        sound = math.isfinite(square)
        # The largest component is at least the root mean square, which costs a tenth of it to find.
        done = sound and square <= residual.shape[0] * allowed * allowed and _within(residual, allowed)
        if done or not sound or count[row] >= most:
            status[row] = 1 if done else (0 if sound else -1)
            _copy(ports[a], settled_ports[row])
            _copy(nodes[a], voltages[row])
            continue
        gram[row, slot, slot] = square
        mixed = depth > 1 and _weigh(slot, depth, residuals, row, gram[row], work, shares)
        age, length = _remembered(count[row], kept)
        following = residuals[age % length, row]
        if mixed:
            _combine(images, row, depth, shares, following)
        else:
            _copy(image, following)
        _copy(following, ports[packed, start:])
        rows[packed] = row
        packed += 1
    return packed


@compiled()
def transpose(source, target):
    """``target = source^T``, by 16 rows of the source at a time, which the cache holds."""
    rows, columns = source.shape
    whole = rows - rows % 16
    for first in range(0, whole, 16):
        for j in range(columns):
            out = target[j]
            for i in range(16):
                out[first + i] = source[first + i, j]
    for i in range(whole, rows):
        for j in range(columns):
            target[j, i] = source[i, j]


@compiled(fastmath=FAST)
def descend(momentum, gradient, keep, unit, rate, change):
    """``m = keep m + unit gradient`` in place, and ``change = -rate unit m``; all flat."""
    for i in range(momentum.shape[0]):
        m = keep * momentum[i] + unit * gradient[i]
        momentum[i] = m
        change[i] = -rate * (unit * m)


@compiled()
def program_pairs(target, actual, deviation, step, change, g_min, g_max, weight):
    """Move differential pairs by ``change`` [S] and refresh ``weight = g+ - g-``, device by device.

    Pair coding: the weight sits on one device, the other rests at ``g_min``. A write moves the actual
    conductance by ``step`` times the commanded change; limits are each device's own, ``deviation``
    times the nominal ones.
    """
    zero = g_min - g_min
    for i in range(change.shape[0]):  # views of rows, for an index with a plane in it does not vectorise
        want, got = (target[0, i], target[1, i]), (actual[0, i], actual[1, i])
        gain, pace = (deviation[0, i], deviation[1, i]), (step[0, i], step[1, i])
        moved, out = change[i], weight[i]
        for j in range(moved.shape[0]):
            w = want[0][j] - want[1][j] + moved[j]
            plus = min(g_min + max(w, zero), g_max)
            minus = min(g_min + max(-w, zero), g_max)
            g = got[0][j] + pace[0][j] * (plus - want[0][j])
            got[0][j] = min(max(g, gain[0][j] * g_min), gain[0][j] * g_max)
            g = got[1][j] + pace[1][j] * (minus - want[1][j])
            got[1][j] = min(max(g, gain[1][j] * g_min), gain[1][j] * g_max)
            want[0][j] = plus
            want[1][j] = minus
            out[j] = got[0][j] - got[1][j]
