"""Neuron amplifier laws ``s = f(v)``: one table of smooth, saturating transfer curves.

Every law rises from ``low`` to ``high`` [V] with peak slope ``gain`` [V/V] around ``offset`` [V]:

* ``logistic`` and ``tanh`` are the same curve (a tanh is a logistic between symmetric rails),
  ``s = low + (high - low) / (1 + exp(-4 gain (v - offset) / (high - low)))``;
* ``softplus`` is a rectifier with rounded knees of width ``knee`` [V]: it leaves ``low`` at ``offset``
  and reaches ``high`` a swing / gain later,
  ``s = low + gain knee [sp((v - a) / knee) - sp((v - b) / knee)]``, ``sp(u) = log(1 + exp(u))``,
  ``a = offset``, ``b = offset + (high - low) / gain``.

Both are analytic, so that they also accept complex voltages (complex nudges).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAWS = {"logistic": 0, "tanh": 0, "softplus": 1}


def evaluate(
    law: str,
    v: Array,
    low: Array | float,
    high: Array | float,
    gain: Array | float,
    offset: Array | float,
    knee: Array | float,
) -> tuple[Array, Array]:
    """Output ``f(v)`` [V] and slope ``f'(v)`` [V/V], elementwise, for real or complex ``v`` [V].

    This is the readable reference; the fused kernels of the crossbar engine are tested against it.
    """
    if LAWS[law] == 0:
        y, slope = _logistic(4.0 * gain * (v - offset) / (high - low))
        return low + (high - low) * y, above_zero(4.0 * gain * slope)
    lower = (v - offset) / knee
    upper = lower - (high - low) / (gain * knee)
    s = low + gain * knee * (_softplus(lower) - _softplus(upper))
    slope = np.where(
        lower.real + upper.real > 0,  # whichever difference does not cancel
        _logistic(-upper)[0] - _logistic(-lower)[0],
        _logistic(lower)[0] - _logistic(upper)[0],
    )
    return s, above_zero(gain * slope)


def _logistic(u: Array) -> tuple[Array, Array]:
    """``y = 1 / (1 + exp(-u))`` and ``dy/du = y (1 - y)``, without overflow or cancellation."""
    rising = u.real < 0
    e = np.exp(np.where(rising, u, -u))  # |e| <= 1
    return np.where(rising, e, 1.0) / (1.0 + e), e / (1.0 + e) ** 2


def above_zero(slope: Array) -> Array:
    """A saturated slope, kept at the smallest normal number at least, so that ``1 / f'`` stays finite.

    NaN stays NaN.
    """
    smallest = np.finfo(slope.dtype).tiny
    return np.where(np.abs(slope) < smallest, smallest, slope)


def _softplus(u: Array) -> Array:
    positive = u.real > 0
    return np.where(positive, u, 0.0) + np.log1p(np.exp(np.where(positive, -u, u)))
