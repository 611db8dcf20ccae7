"""Fit the programming model to one device's measured curves.

With ``x = (g - g_min)/(g_max - g_min)`` a pulse moves a device by

    up    u (1 + nu (1/2 - x)),        down    d (1 + nu (x - 1/2)),        u, d = pulse gamma (1 ± a),

so that both laws are straight lines in x, fitted to single steps, device by device:

1. ``g_min`` and ``g_max`` are the extremes of what was measured (a running median of five: a bad reading is
   none).
2. Each direction's line, by least squares with the reading before as the instrument (two-stage least
   squares): a reading's noise is in the step as well as in the x from which it starts, and would bend plain
   least squares. Steps that a limit may have cut are left out.
3. One nu for both lines, weighted by their errors; u and d anew, given it.
4. What is left has the variance ``cycle^2 step^2 + 2 r^2`` and, from one step to the next, the covariance
   ``-r^2``, r being the noise of a reading: that tells the two apart, and weighs the steps in the next of a
   few rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .measurements import Curves
from .tables import MeasurementError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FEWEST = 12  # steps of a device in each direction
ROUNDS = 5


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Steps:
    """Single steps (n,) of a device: from ``start``, by ``size`` along the pulse, both as shares of its
    range.

    ``before`` is the reading before the start; ``next_to`` tells steps that follow the one before in the
    arrays.
    """

    sign: NDArray[np.int64]
    start: Array
    size: Array
    before: Array
    next_to: Mask


@dataclass(frozen=True)
class DeviceFit:
    """One device: limits [S], u and d (``up``, ``down``), nu (``bend``; ``bends``: of each direction alone,
    before they are made one), ``cycle``, ``read_noise`` r as a share of the range; its steps with what the
    model says of them, and the model's curve [S] through its rows.
    """

    device: str
    g_min: float
    g_max: float
    up: Estimate
    down: Estimate
    bend: Estimate
    bends: tuple[Estimate, Estimate]
    cycle: Estimate
    read_noise: float
    steps: Steps
    expected: Array
    curve: Array
    saturates: bool

    @property
    def pulse(self) -> float:
        """``pulse gamma`` of the device."""
        return (self.up.value + self.down.value) / 2

    @property
    def asymmetry(self) -> float:
        """``a`` of the device."""
        return (self.up.value - self.down.value) / (self.up.value + self.down.value)

    def limit_error(self, sign: int) -> float:
        """Of g_max (+1) or g_min (-1) [S]: a reading's noise, and half of the step that ends there."""
        last = (self.up if sign > 0 else self.down).value * (1 - self.bend.value / 2)
        return math.hypot(self.read_noise, last / 2) * (self.g_max - self.g_min)

    @property
    def pulse_error(self) -> float:
        """Standard error of ln pulse, and of the asymmetry too: both are of ``u ± d`` over ``u + d``."""
        return math.hypot(self.up.error, self.down.error) / (self.up.value + self.down.value)


def fit_device(curves: Curves) -> DeviceFit:
    """Fit one device, as above; MeasurementError where that cannot be."""
    low, high = _limits(curves)
    steps = _steps(curves, low, high)
    counts = {sign: int(np.count_nonzero(steps.sign == sign)) for sign in (1, -1)}
    for sign, count in counts.items():
        if count < FEWEST:
            fault = (
                f"has {count} steps {'up' if sign > 0 else 'down'} after a reading and a step; needs {FEWEST}"
            )
            remedy = "measure more pulses in a row, both up and down" if count else "measure both directions"
            raise MeasurementError(f"device {curves.device}: {fault}; {remedy}")
    cycle, bend = 0.0, Estimate(0.0, 1.0)
    up, down = (Estimate(float(np.mean(steps.size[steps.sign == sign])), 0.0) for sign in (1, -1))
    middle = steps.size - np.where(steps.sign > 0, up.value, down.value)
    noise = _noise(steps, middle, np.ones(len(middle), bool), up.value, down.value, 0.0)[1]
    for _ in range(ROUNDS):
        uncut = uncut_steps(steps, up.value, down.value, bend.value, cycle, noise)
        typical = law(steps.sign, steps.before, up.value, down.value, bend.value)
        variance = (cycle * typical) ** 2 + 2 * noise**2 + (0.1 * (up.value + down.value) / 2) ** 2
        weight = uncut / variance  # the last part: steps that all but vanish at a limit do not decide
        bends = (_bend(curves.device, steps, 1, weight), _bend(curves.device, steps, -1, weight))
        bend = _together(bends)
        up, down = (_level(steps, sign, weight, bend.value) for sign in (1, -1))
        left = steps.size - law(steps.sign, steps.start, up.value, down.value, bend.value)
        spread, noise = _noise(steps, left, uncut, up.value, down.value, bend.value)
        cycle = spread.value
    expected = law(steps.sign, steps.start, up.value, down.value, bend.value)
    share = _run(curves, (curves.conductance - low) / (high - low), up.value, down.value, bend.value)
    return DeviceFit(
        curves.device, low, high, up, down, bend, bends, spread, noise, steps, expected,
        low + share * (high - low), _saturates(curves, low, high, up.value, down.value, bend.value),
    )  # fmt: skip


def _limits(curves: Curves) -> tuple[float, float]:
    g = curves.conductance
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(g, 5), axis=1) if len(g) > 5 else g
    low, high = float(smooth.min()), float(smooth.max())
    if not high > low:
        raise MeasurementError(f"device {curves.device}: its conductance does not move; leave it out")
    return low, high


def _steps(curves: Curves, low: float, high: float) -> Steps:
    x, follows = (curves.conductance - low) / (high - low), curves.follows
    last = (
        np.flatnonzero(follows[2:] & follows[1:-1]) + 2
    )  # rows that end a step with a reading before its start
    sign = curves.direction[last]
    next_to = np.zeros(len(last), bool)
    next_to[1:] = np.diff(last) == 1
    return Steps(sign, x[last - 1], sign * (x[last] - x[last - 1]), x[last - 2], next_to)


def law(sign: NDArray[np.int64], x: Array, up: float, down: float, bend: float) -> Array:
    """The model's step along the pulse, from ``x``."""
    step: Array = np.where(sign > 0, up, down) * (1 + bend * sign * (0.5 - x))
    return step


def uncut_steps(steps: Steps, up: float, down: float, bend: float, cycle: float, noise: float) -> Mask:
    """Steps that no limit cuts short, by three sds of their size and of a reading.

    Judged by the reading before the start, two steps away: the start's own noise is in the step.
    """
    reach = (2 + 3 * cycle) * np.maximum(law(steps.sign, steps.before, up, down, bend), 0)
    room = np.where(steps.sign > 0, 1 - steps.before, steps.before)
    uncut: Mask = room > reach + 3 * noise
    for sign in (1, -1):
        if (
            np.count_nonzero(uncut & (steps.sign == sign)) < FEWEST
        ):  # a range of a few steps: take what there is
            uncut = uncut | (steps.sign == sign)
    return uncut


def _bend(device: str, steps: Steps, sign: int, weight: Array) -> Estimate:
    """The nu of one direction's line alone."""
    of = steps.sign == sign
    w, y = weight[of], steps.size[of]
    x, z = (np.column_stack((np.ones(len(y)), part[of] - 0.5)) for part in (steps.start, steps.before))
    try:
        inverse = np.linalg.inv(z.T @ (w[:, None] * x))
    except np.linalg.LinAlgError:
        raise MeasurementError(
            f"device {device}: its steps all start at one conductance; measure a range"
        ) from None
    middle, slope = inverse @ (z.T @ (w * y))
    if not middle > 0:
        way, other = ("up", "lower") if sign > 0 else ("down", "raise")
        fault = f"pulses {way} {other} its conductance"
        raise MeasurementError(
            f"device {device}: {fault}; are up and down exchanged, or is there only noise?"
        )
    left = y - x @ np.array((middle, slope))
    covariance = inverse @ (z.T @ ((w * left)[:, None] ** 2 * z)) @ inverse.T
    gradient = np.array((slope / middle**2, -1 / middle))
    return Estimate(float(-sign * slope / middle), math.sqrt(max(gradient @ covariance @ gradient, 0.0)))


def _together(bends: tuple[Estimate, Estimate]) -> Estimate:
    """Both directions' nu as one, within 0 to 2: 0 is the model's straightest, 2 its most bent."""
    weights = [1 / max(e.error, 1e-9) ** 2 for e in bends]
    value = sum(w * e.value for w, e in zip(weights, bends, strict=True)) / sum(weights)
    return Estimate(min(max(value, 0.0), 2.0), 1 / math.sqrt(sum(weights)))


def _level(steps: Steps, sign: int, weight: Array, bend: float) -> Estimate:
    """The step u or d: the step in mid-range, given nu."""
    of = steps.sign == sign
    w, y, shape = weight[of], steps.size[of], 1 + bend * sign * (0.5 - steps.start[of])
    level = float((w @ y) / (w @ shape))
    left = y - level * shape
    return Estimate(level, float(np.sqrt((w * left) @ (w * left)) / (w @ shape)))


def _noise(
    steps: Steps, left: Array, uncut: Mask, up: float, down: float, bend: float
) -> tuple[Estimate, float]:
    """Cycle to cycle, relative, and the noise of a reading, as a share of the range."""
    signed = steps.sign * left
    pair = steps.next_to & uncut & np.roll(uncut, 1)
    pair[0] = False
    both = signed[pair] * np.roll(signed, 1)[pair]
    read = -float(both.mean()) if both.size else 0.0
    if read < 2 * float(both.std()) / math.sqrt(max(both.size, 1)):  # none that is sure
        read = 0.0
    step = law(steps.sign, steps.before, up, down, bend)[uncut] ** 2
    own = left[uncut] ** 2 - 2 * read
    square = max(float(own.sum() / step.sum()), 0.0)
    error = float(np.sqrt(np.sum((own - square * step) ** 2)) / step.sum())
    value = math.sqrt(square)
    return Estimate(value, error / (2 * value) if value else math.sqrt(error)), math.sqrt(read)


def _run(curves: Curves, x: Array, up: float, down: float, bend: float) -> Array:
    """The model's x at every row, pulse by pulse from the first reading of each uninterrupted stretch."""
    follows, out, now = curves.follows.tolist(), [], 0.0
    for k, sign in enumerate(curves.direction.tolist()):
        if follows[k]:
            size = up if sign > 0 else down
            now = min(max(now + sign * size * (1 + bend * sign * (0.5 - now)), 0.0), 1.0)
        else:
            now = float(x[k])
        out.append(now)
    return np.array(out)


def _saturates(curves: Curves, low: float, high: float, up: float, down: float, bend: float) -> bool:
    """Whether it stayed at both ends for some pulses, or had nearly stopped there."""
    x = (curves.conductance - low) / (high - low)
    stay = np.count_nonzero(x > 1 - up / 2) >= 4 and np.count_nonzero(x < down / 2) >= 4
    return bool(stay or bend > 1.6)
