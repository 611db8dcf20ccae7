"""Fit the programming model to one device's measured curves.

With ``x = (g - g_min)/(g_max - g_min)`` a pulse moves a device by

    up    u (1 + nu (1/2 - x)),        down    d (1 + nu (x - 1/2)),        u, d = pulse gamma (1 ± a),

so that both laws are straight lines in x, fitted to single steps, device by device:

1. ``g_min`` and ``g_max`` are the extremes of what was measured (a running median of five: a bad reading is
   none), where the device came to rest at both, or, of noisy readings, the median of those that it rested
   for (:func:`_plateau`), or at which it stayed in the end (:func:`_tails`). Where it did neither, the two
   lines tell more (:func:`_limits`).
2. Each direction's line, by least squares with the reading before as the instrument (two-stage least
   squares): a reading's noise is in the step as well as in the x from which it starts, and would bend plain
   least squares. Steps that a limit may have cut are left out.
3. One nu for both lines, weighted by their errors; u and d anew, given it.
4. What is left has the variance ``cycle^2 step^2 + (1 + k^2) r^2`` and, from one step to the next, the
   covariance ``-k r^2``, r being the noise of a reading and k = 1 - nu u: that tells the two apart, and
   weighs the steps in the next of a few rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .measurements import Curves
from .tables import MeasurementError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FEWEST = 12  # steps of a device in each direction
FITTED = 3  # values that the lines take from the steps: u, d and nu
ROUNDS = 5
MEDIAN = math.sqrt(math.pi / 2)  # the error of a median over that of a mean
WRONG = 9.0  # times the median residual, six sds, is what no step is off by: a reading is wrong
CAREFUL = 0.3  # what pulses may vary by, at least, before a step is taken for wrong
VAGUE = 0.1  # of the measured range: an error of the middle, from which on the lines do not tell it
MOST = 3  # times the measured range is what soft bounds may add, as long as they are believed
ANY = 5  # times the measured range may that of a device be of which nothing tells


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
class Lines:
    """Both directions' lines, given the limits: u and d (``up``, ``down``), nu (``bend``; ``bends``: of each
    direction alone, before they are made one), ``cycle``, the noise r of a reading (``read``) as a share of
    the range; and the steps that they were fitted to.
    """

    up: Estimate
    down: Estimate
    bend: Estimate
    bends: tuple[Estimate, Estimate]
    cycle: Estimate
    read: Estimate
    steps: Steps

    @property
    def read_noise(self) -> float:
        """The value of ``read``."""
        return self.read.value


@dataclass(frozen=True)
class Limits:
    """g_min and g_max [S] (``low``, ``high``), their standard errors as far as they come from the lines (0:
    they were measured), and that of the middle between them, as a share of the range.

    ``factor``: the range could as well be so much smaller (``soft``), or wider (not ``soft``). ``plateaus``:
    the standard errors [S] of limits that are a plateau's; None: a single reading's noise is in that limit.
    """

    low: float
    high: float
    errors: tuple[float, float] = (0.0, 0.0)
    middle_error: float = 0.0
    factor: float = 1.0
    soft: bool = False
    plateaus: tuple[float | None, float | None] = (None, None)

    @property
    def open(self) -> float:
        """Half of what the range may be off, as a share of it."""
        return (1 - 1 / self.factor if self.soft else self.factor - 1) / 2


@dataclass(frozen=True)
class DeviceFit:
    """One device: the rows that were fitted, its limits and lines; what they say of its steps, and the
    model's curve [S] through its rows.
    """

    measured: Curves
    limits: Limits
    lines: Lines
    expected: Array
    curve: Array

    @property
    def device(self) -> str:
        """Its name."""
        return self.measured.device

    @property
    def g_min(self) -> float:
        """Lower limit [S]."""
        return self.limits.low

    @property
    def g_max(self) -> float:
        """Upper limit [S]."""
        return self.limits.high

    @property
    def steps(self) -> Steps:
        """The steps that were fitted."""
        return self.lines.steps

    @property
    def pulse(self) -> float:
        """``pulse gamma`` of the device."""
        return (self.lines.up.value + self.lines.down.value) / 2

    @property
    def asymmetry(self) -> float:
        """``a`` of the device."""
        up, down = self.lines.up.value, self.lines.down.value
        return (up - down) / (up + down)

    def limit_error(self, sign: int) -> float:
        """Of g_max (+1) or g_min (-1) [S]: a reading's or a plateau's noise, half of the last step, the
        lines' own error.
        """
        lines, span = self.lines, self.g_max - self.g_min
        last = (lines.up if sign > 0 else lines.down).value * (1 - lines.bend.value / 2)
        plateau = self.limits.plateaus[sign > 0]
        read = lines.read_noise * span if plateau is None else plateau
        return math.hypot(read, last * span / 2, self.limits.errors[sign > 0])

    @property
    def pulse_error(self) -> float:
        """Standard error of ln pulse, and of the asymmetry too: both are of ``u ± d`` over ``u + d``."""
        up, down = self.lines.up, self.lines.down
        return math.hypot(up.error, down.error) / (up.value + down.value)

    @property
    def asymmetry_error(self) -> float:
        """That, and what a shifted middle adds to one direction and takes from the other."""
        return math.hypot(self.pulse_error, self.lines.bend.value * self.limits.middle_error)


def fit_device(curves: Curves) -> DeviceFit:
    """Fit one device, as above; MeasurementError where that cannot be."""
    low, high = _extremes(curves)
    lines = _lines(curves, low, high)
    ends = _plateau(curves, lines, low, high, -1), _plateau(curves, lines, low, high, 1)
    bottom, top = (at if end is None else end.value for at, end in zip((low, high), ends, strict=True))
    if bottom < top and (bottom, top) != (low, high):
        low, high = bottom, top
        lines = _lines(curves, low, high)
    limits = Limits(low, high) if all(ends) else _limits(lines, low, high)
    kept = limits.low == low, limits.high == high
    plateaus = tuple(end.error if end and keep else None for end, keep in zip(ends, kept, strict=True))
    limits = replace(limits, plateaus=(plateaus[0], plateaus[1]))
    if (limits.low, limits.high) != (low, high):
        low, high = limits.low, limits.high
        lines = _lines(curves, low, high)
    values = lines.up.value, lines.down.value, lines.bend.value
    share = _run(curves, (curves.conductance - low) / (high - low), *values)
    expected = law(lines.steps.sign, lines.steps.start, *values)
    found = DeviceFit(curves, limits, lines, expected, low + share * (high - low))
    if not found.pulse > 0:
        raise MeasurementError(f"device {curves.device}: its pulses move it either way; is there only noise?")
    return found


def _lines(curves: Curves, low: float, high: float) -> Lines:
    steps = _steps(curves, low, high)
    counts = {sign: int(np.count_nonzero(steps.sign == sign)) for sign in (1, -1)}
    for sign, count in counts.items():
        if count < FEWEST:
            fault = (
                f"has {count} steps {'up' if sign > 0 else 'down'} after a reading and a step; needs {FEWEST}"
            )
            remedy = "measure more pulses in a row, both up and down" if count else "measure both directions"
            raise MeasurementError(f"device {curves.device}: {fault}; {remedy}")
    cycle, bend, read = 0.0, Estimate(0.0, 1.0), Estimate(0.0, 0.0)
    up, down = (Estimate(float(np.mean(steps.size[steps.sign == sign])), 0.0) for sign in (1, -1))
    noise, usual = _first_noise(steps), np.ones(len(steps.size), bool)
    for _ in range(ROUNDS):
        uncut = usual & uncut_steps(steps, up.value, down.value, bend.value, cycle, noise)
        typical = law(steps.sign, steps.before, up.value, down.value, bend.value)
        variance = (cycle * typical) ** 2 + 2 * noise**2 + (0.1 * (up.value + down.value) / 2) ** 2
        weight = uncut / variance  # the last part: steps that all but vanish at a limit do not decide
        bends = (_bend(curves.device, steps, 1, weight), _bend(curves.device, steps, -1, weight))
        bend = _together(bends)
        up, down = (_level(steps, sign, weight, bend.value) for sign in (1, -1))
        left = steps.size - law(steps.sign, steps.start, up.value, down.value, bend.value)
        spared = np.sqrt(variance + (CAREFUL * typical) ** 2)  # as long as cycle is not known
        usual = _usual(steps, np.abs(left) / spared, uncut)
        uncut &= usual
        spread, read = _noise(steps, left, uncut, up.value, down.value, bend.value)
        cycle, noise = spread.value, read.value
    return Lines(up, down, bend, bends, spread, read, steps)


def _usual(steps: Steps, off: Array, uncut: Mask) -> Mask:
    """Steps that are not off by so much that a reading must be wrong; where few would be left, all."""
    usual: Mask = off < max(WRONG * float(np.median(off[uncut])), 6.0)
    few = any(np.count_nonzero(usual & uncut & (steps.sign == sign)) < FEWEST for sign in (1, -1))
    return np.ones_like(usual) if few else usual


def _extremes(curves: Curves) -> tuple[float, float]:
    g = curves.conductance
    if len(g) < 2:
        raise MeasurementError(f"device {curves.device}: has one reading, and no pulse; leave it out")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(g, 5), axis=1) if len(g) > 5 else g
    low, high = float(smooth.min()), float(smooth.max())
    if not high > low:
        raise MeasurementError(f"device {curves.device}: its conductance does not move; leave it out")
    return low, high


def _plateau(curves: Curves, lines: Lines, low: float, high: float, sign: int) -> Estimate | None:
    """A limit [S] by all readings at which the device surely rested there: an extreme of noisy ones is beyond
    it. None where it did not rest, or where the readings still go somewhere.
    """
    if not _rests(lines, sign):
        return _tails(curves, lines, low, high, sign)
    depth = _depth(curves, lines, low, high, sign)
    there = depth >= 0
    g, depth = curves.conductance[there], depth[there]
    return _level_of(g, depth > np.median(depth)) if len(g) else None


def _level_of(g: Array, late: Mask) -> Estimate | None:
    """The median of readings, unless the late ones lie elsewhere than those before."""
    if len(g) < FEWEST or not late.any() or late.all():
        return None
    error = MEDIAN * float(g.std()) / math.sqrt(len(g))
    if abs(float(np.median(g[late]) - np.median(g[~late]))) > 6 * error:  # 3 sds of that
        return None
    return Estimate(float(np.median(g)), error)


def _tails(curves: Curves, lines: Lines, low: float, high: float, sign: int) -> Estimate | None:
    """A limit [S] that a device comes to ever more slowly, as at soft bounds: by the last readings of each
    stretch of pulses that way, if they are noise alone. None without such noise: the extreme is as good.
    """
    noise = lines.read_noise * (high - low)
    if not noise:
        return None
    way, g = curves.direction, curves.conductance
    turns = (np.diff(way) != 0) | (np.diff(curves.cycle) != 0)
    starts = [0, *(np.flatnonzero(turns) + 1).tolist()]
    halves: tuple[list[float], list[float]] = ([], [])  # of tails, early and late
    for start, end in zip(starts, [*starts[1:], len(g)], strict=True):
        half = (end - start) // 8
        tail = g[end - 2 * half : end].tolist()
        if half < 2 or way[start] != sign:
            continue
        if abs(float(np.median(tail)) - (high if sign > 0 else low)) < 6 * noise:
            halves[0].extend(tail[:half])
            halves[1].extend(tail[half:])
    early, late = (np.array(part) for part in halves)
    found = _level_of(np.concatenate((early, late)), np.arange(2 * len(early)) >= len(early))
    if found is None:
        return None
    still = float(np.median(late) - np.median(early))  # it may go as far again
    return Estimate(found.value, math.hypot(found.error, still))


def _depth(curves: Curves, lines: Lines, low: float, high: float, sign: int) -> Array:
    """For every row, how many pulses ago the device surely was at a limit; negative: it surely was not yet.

    The model's curve says when, and is given a tenth more pulses, three sds of their sizes and of a reading.
    """
    values = lines.up.value, lines.down.value, lines.bend.value
    last = (lines.up if sign > 0 else lines.down).value * (1 - lines.bend.value / 2)
    wait = 3 + 3 * lines.read_noise / last if last > 0 else math.inf
    run = _run(curves, (curves.conductance - low) / (high - low), *values)
    at, follows, way = run >= 1 if sign > 0 else run <= 0, curves.follows, curves.direction
    out, count, ready = [], 0, math.inf
    for k in range(len(run)):
        if not follows[k] or way[k] != way[k - 1]:
            count, ready = 0, math.inf
        count += 1
        if way[k] == sign and at[k] and ready == math.inf:
            ready = 1.1 * count + 3 * lines.cycle.value * math.sqrt(count) + wait
        out.append(count - ready)
    return np.array(out)


def _limits(lines: Lines, low: float, high: float) -> Limits:
    """The device's own limits, by lines that were fitted with the extremes ``low`` and ``high`` as limits.

    A direction's steps vanish at ``1/2 ± 1/nu``, so that the lines tell the middle between the limits, and
    one limit where the other was reached. Where none was, the range is open: from the least that holds what
    was measured, to the one of which nu is 2, soft bounds, at whose limits the steps vanish. That one is
    taken where steps more than halve over what was measured.
    """
    span, rest = high - low, (_rests(lines, -1), _rests(lines, 1))
    if all(rest):
        return Limits(low, high)
    (top, top_error), (bottom, bottom_error) = (
        (0.5 + sign / bend.value, bend.error / bend.value**2) if bend.value > 0 else (math.inf, math.inf)
        for sign, bend in zip((1, -1), lines.bends, strict=True)
    )
    if not math.hypot(top_error, bottom_error) / 2 < VAGUE:  # as of straight ones, which vanish nowhere
        return Limits(low, high, middle_error=0.5, factor=ANY)
    if bottom >= 0 and top <= 1:
        return Limits(low, high)
    middle, half, error = (top + bottom) / 2, (top - bottom) / 2, math.hypot(top_error, bottom_error)
    least = max(middle, 1 - middle)
    most = max(least, min(half, middle + low / span))  # no conductance is below 0
    soft = not any(rest) and half <= MOST * least
    own = most if soft else least
    errors = (bottom_error, top_error) if soft else (error * (own > middle), error * (own > 1 - middle))
    if half < least:  # of noise: the steps vanish within what was measured
        errors = bottom_error + abs(middle - own - bottom), top_error + abs(middle + own - top)
    return Limits(
        max(low + (middle - own) * span, 0.0), low + (middle + own) * span,
        (errors[0] * span, errors[1] * span), error / 2 / (2 * own),
        1.0 if any(rest) else min(most / least, ANY), soft,
    )  # fmt: skip


def _rests(lines: Lines, sign: int) -> bool:
    """Whether pulses at an end of what was measured surely move the device by less than half of what the line
    says of them: a limit holds it.
    """
    steps = lines.steps
    room = 1 - steps.before if sign > 0 else steps.before
    last = (lines.up if sign > 0 else lines.down).value * max(1 - lines.bends[sign < 0].value / 2, 0.0)
    there = (steps.sign == sign) & (room < 1.5 * last + 3 * lines.read_noise)
    count = np.count_nonzero(there)
    if count < 4:
        return False
    mean, error = steps.size[there].mean(), steps.size[there].std() / math.sqrt(count)
    return bool(mean < last / 2 and mean + 2 * error < last)


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


def _first_noise(steps: Steps) -> float:
    """The noise of a reading while no lines are known: of four steps in a row, (1st - 2nd) (3rd - 4th) has
    the mean r^2, whatever the steps' law is, as long as it is smooth.
    """
    same = steps.next_to[1:] & (np.diff(steps.sign) == 0)
    four, size = same[:-2] & same[1:-1] & same[2:], steps.size
    products = ((size[:-3] - size[1:-2]) * (size[2:-1] - size[3:]))[four]
    square = float(products.mean()) if products.size else 0.0
    sure = square > 2 * float(products.std()) / math.sqrt(max(products.size, 1))
    return math.sqrt(square) if sure else 0.0


def _noise(
    steps: Steps, left: Array, uncut: Mask, up: float, down: float, bend: float
) -> tuple[Estimate, Estimate]:
    """Cycle to cycle, relative, and the noise r of a reading, as a share of the range.

    A step's residual has the noise of its end, less that of its start, a part of which the law gives back.
    """
    signed = steps.sign * left
    pair = steps.next_to & uncut & np.roll(uncut, 1)
    pair[0] = False
    both = signed[pair] * np.roll(signed, 1)[pair]
    kept = max(1 - bend * (up + down) / 2, 0.5)
    read = -float(both.mean()) / kept if both.size else 0.0
    read_error = float(both.std()) / kept / math.sqrt(max(both.size, 1))
    noise = Estimate(math.sqrt(max(read, 0.0)), read_error / (2 * math.sqrt(read)) if read > 0 else 0.0)
    if read < 2 * read_error:  # none that is sure
        noise = Estimate(0.0, math.sqrt(read_error))
        read, read_error = 0.0, 0.0
    step = law(steps.sign, steps.start, up, down, bend)[uncut] ** 2
    count = len(step)
    own = left[uncut] ** 2 * count / (count - FITTED) - (1 + kept**2) * read
    square = max(float(own.sum() / step.sum()), 0.0)
    scatter = float(np.sum((own - square * step) ** 2))
    error = math.hypot(math.sqrt(scatter), 2 * count * read_error) / float(step.sum())
    value = math.sqrt(square)
    return Estimate(value, error / (2 * value) if value else math.sqrt(error)), noise


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
