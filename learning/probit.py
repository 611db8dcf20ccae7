"""Probit regression of pass or fail on one level: the fit, also where it has no maximum, and the likelihood's
interval for a level.

Arrays: distinct ``levels`` (P,), rising; ``passed`` (R, P) chips of ``total`` (P,), in rows that are fitted each by
itself, since a bootstrap fits thousands. Derivations: ``docs/yield.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Width of a curve that the data leave undetermined, as a part of the spacing of levels where chips begin to
#: fail: such a curve falls from 98 % halfway from one level to the next, and no wider one would be seen.
SHARPEST = 0.25


@dataclass(frozen=True)
class Transition:
    """Where passing turns into failing in each row of counts (R,): ``sign`` -1 if yield falls, +1 if it rises,
    0 if the rows overlap or nothing changes; then the yield at ``centre`` is ``share``, and ``gap`` is the
    mean spacing of the levels around it.
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


def fit(levels: Floats, passed: Counts, total: Counts) -> tuple[Floats, Flags]:
    """Lines a, b (R, 2) for rows of counts (R, P), and which are sharp."""
    from scipy.special import ndtri

    edge = transition(levels, passed, total)
    sharp = edge.sign != 0
    lines = np.zeros((len(passed), 2))
    lines[:, 0] = np.where((passed > 0).any(axis=1), np.inf, -np.inf)  # where all pass, or all fail
    slope = edge.sign[sharp] / (SHARPEST * edge.gap[sharp])
    lines[sharp] = np.stack([ndtri(edge.share[sharp]) - slope * edge.centre[sharp], slope], axis=1)
    overlap = ~sharp & (passed > 0).any(axis=1) & (passed < total).any(axis=1)
    lines[overlap] = _maximum_likelihood(levels, passed[overlap], total)
    return lines, sharp


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
    """``φ(η)/Φ(η)``, the slope of ``ln Φ``."""
    from scipy.special import log_ndtr

    ratio: Floats = np.exp(-(eta**2) / 2 - log_ndtr(eta)) / math.sqrt(2 * math.pi)
    return ratio


def likelihood_interval(
    levels: Floats, passed: Counts, total: Counts, goal: float, confidence: float
) -> tuple[float, float]:
    """Levels x at which the yield ``Φ(goal)`` is not refuted by the likelihood ratio, for counts (P,) that
    separate: twice the log-likelihood lost by ``Φ(goal + b (x' - x))``, at its best b, is at most the quantile
    of χ² with one degree of freedom. Infinite where the levels swept do not end it.
    """
    from scipy.optimize import brentq, minimize_scalar
    from scipy.special import ndtri, xlogy
    from scipy.stats import chi2

    edge, failed = transition(levels, passed[None], total), total - passed
    sign, steepest = float(edge.sign[0]), 50 / float(edge.gap[0])
    supremum = float((xlogy(passed, passed / total) + xlogy(failed, failed / total)).sum())
    allowed = float(chi2.ppf(confidence, 1))

    def excess(x: float) -> float:
        def loss(slope: float) -> float:
            return -float(_log_likelihood(goal + sign * slope * (levels - x), passed, failed))

        found = minimize_scalar(
            loss, bounds=(0, steepest), method="bounded", options={"xatol": 1e-6 * steepest}
        )
        return 2 * (supremum + float(found.fun)) - allowed

    best = float(edge.centre[0] + sign * (goal - ndtri(edge.share[0])) / steepest)
    first, last = float(levels[0]), float(levels[-1])
    low = -math.inf if best < first or excess(first) <= 0 else float(brentq(excess, first, best))
    high = math.inf if best > last or excess(last) <= 0 else float(brentq(excess, best, last))
    return low if low <= last else math.inf, high if high >= first else -math.inf
