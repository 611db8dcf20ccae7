"""Exponentials for compiled loops: without branches, so that they vectorise, and without overflow.

Numba's cache does not see an edit here in the kernels that call these: delete it (``__pycache__``) after one.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit, types
from numba.extending import overload

# Division as in NumPy: the default tests each divisor, and that branch keeps LLVM from vectorising
# (12x on the logistic). And no licence to reorder sums but where a kernel asks for it: numba would hand it on
# from a kernel to those that are compiled on its behalf, and their rounding would hang on who came first.
compiled = functools.partial(njit, cache=True, error_model="numpy", fastmath=False)

# For a caller who asks for several threads. GNU OpenMP ends a forked child of a process that had them.
parallel = compiled(parallel=True)


def power(x):  # pragma: no cover - replaced by the overload below
    """2^x, real; for float32 a polynomial that LLVM vectorises, 3 ulp (libm's scalar call is 8x slower)."""
    raise NotImplementedError


@overload(power, inline="always")
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


def phase(x):  # pragma: no cover - replaced by the overload below
    """2^ix as (real, imaginary), x real; for float32 by polynomials that LLVM vectorises, to 2e-7."""
    raise NotImplementedError


@overload(phase, inline="always")
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


def share(x, one):  # pragma: no cover - replaced by the overload below
    """``1 / (1 + 2^x)``, real or complex, without branches; ``one`` is of the real type."""
    raise NotImplementedError


@overload(share, inline="always")
def _share_overload(x, one):
    if isinstance(x, types.Complex):
        return _share_complex
    return lambda x, one: one / (one + power(x))


def _share_complex(x, one):
    # Capped where 1 + 2^x is all 2^x: beyond, its square would overflow. NaN itself passes.
    a, most = x.real, one * np.float32(60.0)
    e = power(most if a > most else a)
    c, s = phase(x.imag)
    re, im = one + e * c, e * s
    inverse = one / (re * re + im * im)
    return complex(re * inverse, -im * inverse)


@compiled(inline="always")
def softplus(u):
    """log(1 + exp(u)) without overflow, real or complex."""
    if u.real > 0.0:
        return u + np.log(1.0 + np.exp(-u))
    return np.log(1.0 + np.exp(u))
