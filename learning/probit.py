"""Probit regression of pass or fail on one level: the fit, also where it has no maximum, and the likelihood's
interval for a level.

Arrays: distinct ``levels`` (P,), rising; ``passed`` (R, P) chips of ``total`` (P,), in rows that are fitted
each by itself, since a bootstrap fits thousands. Derivations: ``docs/yield.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Width of a curve that the data leave undetermined, over the spacing of levels where chips begin to fail.
#: Centred between two levels, such a curve is at 98 % on one and 2 % on the other: tens of chips do not tell
#: it from a step.
SHARPEST = 0.25
# Slopes of a curve that are as good as none over all levels, and as good as a step between any two.
FLATTEST, STEEPEST = 1e-4, 50.0


@dataclass(frozen=True)
class Transition:
    """Where passing turns into failing in each row of counts (R,): ``sign`` -1 if yield falls, +1 if it
    rises, 0 if the rows overlap or nothing changes; then the yield at ``centre`` is ``share``, and ``gap``
    is the mean spacing of the levels around it.
    """

    sign: Counts
    centre: Floats
    share: Floats
    gap: Floats


def transition(levels: Floats, passed: Counts, total: Counts) -> Transition:
    """Separation, complete or but for one mixed level (quasi-complete)."""
    good, bad = passed > 0, passed < total
    last = len(levels) - 1
    first_good, first_bad = good.argmax(axis=1), bad.argmax(axis=1)
    last_good, last_bad = (last - flags[:, ::-1].argmax(axis=1) for flags in (good, bad))
    varies = good.any(axis=1) & bad.any(axis=1)
    falls, rises = varies & (last_good <= first_bad), varies & (last_bad <= first_good)
    lower, upper = np.where(rises, last_bad, last_good), np.where(rises, first_good, first_bad)
    mixed = lower == upper
    below, above = np.where(mixed, np.maximum(lower - 1, 0), lower), np.where(mixed, lower + 1, upper)
    above = np.minimum(above, last)
    gap = (levels[above] - levels[below]) / np.maximum(above - below, 1)
    share = np.where(mixed, np.take_along_axis(passed, lower[:, None], axis=1)[:, 0] / total[lower], 0.5)
    return Transition(rises.astype(np.int64) - falls, (levels[lower] + levels[upper]) / 2, share, gap)


def fit(levels: Floats, passed: Counts, total: Counts) -> tuple[Floats, Flags, Floats]:
    """Lines a, b (R, 2) of ``Φ(a + b x)`` for rows of counts (R, P), which of them are sharp, and the largest
    log-likelihood of each; if sharp, its supremum.
    """
    from scipy.special import ndtri, xlogy

    edge = transition(levels, passed, total)
    sharp = edge.sign != 0
    lines = np.zeros((len(passed), 2))
    lines[:, 0] = np.where((passed > 0).any(axis=1), np.inf, -np.inf)  # where all pass, or all fail
    slope = edge.sign[sharp] / (SHARPEST * edge.gap[sharp])
    lines[sharp] = np.stack([ndtri(edge.share[sharp]) - slope * edge.centre[sharp], slope], axis=1)
    overlap = ~sharp & (passed > 0).any(axis=1) & (passed < total).any(axis=1)
    lines[overlap] = _maximum_likelihood(levels, passed[overlap], total)
    failed = total - passed
    best = (xlogy(passed, passed / total) + xlogy(failed, failed / total)).sum(axis=1)
    eta = lines[overlap, :1] + lines[overlap, 1:] * levels
    best[overlap] = _log_likelihood(eta, passed[overlap], failed[overlap])
    return lines, sharp, best


def _maximum_likelihood(levels: Floats, passed: Counts, total: Counts) -> Floats:
    """Newton's method on the concave log-likelihood, all rows at once, a step that loses being halved."""
    middle, half = (levels[0] + levels[-1]) / 2, (levels[-1] - levels[0]) / 2
    design = np.stack([np.ones_like(levels), (levels - middle) / half], axis=1)
    failed, theta = total - passed, np.zeros((len(passed), 2))
    for _ in range(100):
        eta = theta @ design.T
        up, down = _inverse_mills(eta), _inverse_mills(-eta)
        gradient = (passed * up - failed * down) @ design
        curvature = passed * up * (up + eta) + failed * down * (down - eta)
        hessian = np.einsum("rp,pi,pj->rij", curvature, design, design)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        now = _log_likelihood(eta, passed, failed)
        for _ in range(30):
            loses = _log_likelihood((theta + step) @ design.T, passed, failed) < now - 1e-9
            if not loses.any():
                break
            step[loses] /= 2
        theta += step
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    slope = theta[:, 1] / half
    return np.stack([theta[:, 0] - slope * middle, slope], axis=1)


def _log_likelihood(eta: Floats, passed: Counts, failed: Counts) -> Floats:
    from scipy.special import log_ndtr

    total: Floats = (passed * log_ndtr(eta) + failed * log_ndtr(-eta)).sum(axis=-1)
    return total


def _inverse_mills(eta: Floats) -> Floats:
    """``φ(η)/Φ(η)``, the slope of ``ln Φ``; its tails neither overflow nor cancel."""
    from scipy.special import erfcx

    ratio: Floats = math.sqrt(2 / math.pi) / erfcx(-eta / math.sqrt(2))
    return ratio


def profile(levels: Floats, passed: Counts, total: Counts, goal: float, x: float, sign: int) -> Floats:
    """Largest log-likelihood (R,) of curves with the yield ``Φ(goal)`` at x, ``Φ(goal + sign s (x' - x))``.

    It is concave in s, whose logarithm is bisected by the sign of the slope.
    """
    failed, distance = total - passed, sign * (levels - x)
    low = np.full(len(passed), FLATTEST / (levels[-1] - levels[0]))
    high = np.full(len(passed), STEEPEST / np.diff(levels).min())
    for _ in range(28):  # the likelihood is flat there: an error in s counts squared
        middle = np.sqrt(low * high)
        eta = goal + middle[:, None] * distance
        slope = (passed * _inverse_mills(eta) - failed * _inverse_mills(-eta)) @ distance
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return _log_likelihood(goal + low[:, None] * distance, passed, failed)


def likelihood_interval(
    levels: Floats, passed: Counts, total: Counts, goal: float, sign: int, allowed: float
) -> tuple[float, float]:
    """Levels x at which counts (P,) do not refute the yield ``Φ(goal)``: twice the log-likelihood that
    :func:`profile` loses is at most ``allowed``. Infinite where the levels swept do not end them.

    These x are an interval, since the log-likelihood is concave in (a, b), and x a quotient of the two.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    row, (first, last) = passed[None], (float(levels[0]), float(levels[-1]))
    lines, sharp, best = fit(levels, row, total)

    def excess(x: float) -> float:
        return 2 * float(best[0] - profile(levels, row, total, goal, x, sign)[0]) - allowed

    if sharp[0]:  # the supremum belongs to the steepest curves
        edge, steepest = transition(levels, row, total), STEEPEST / float(np.diff(levels).min())
        inner = float(edge.centre[0] + sign * (goal - ndtri(edge.share[0])) / steepest)
    else:
        a, b = lines[0]
        inner = float((goal - a) / b) if b else math.copysign(math.inf, a - goal)
    inner, close = min(max(inner, first), last), 1e-6 * (last - first)
    if excess(inner) > 0:  # all beyond the levels swept
        return (-math.inf, -math.inf) if inner == first else (math.inf, math.inf)
    return (
        -math.inf if excess(first) <= 0 else float(brentq(excess, first, inner, xtol=close)),
        math.inf if excess(last) <= 0 else float(brentq(excess, inner, last, xtol=close)),
    )
