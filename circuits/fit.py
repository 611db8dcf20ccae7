"""Fit the programming model to measured curves: ``[device]``, ``[programming]``, ``[mismatch]``, with errors.

Each device is fitted by itself (:mod:`.fit_device`). Over devices: means of ln g, of ln pulse, of nu and a;
and sds, less what the devices' own errors account for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .fit_device import Array, DeviceFit, Estimate, fit_device, uncut_steps
from .measurements import Curves, without_wrong

ODD = (
    0.02,
    3,
)  # a residual remarked upon: of the range at least, and so many times the median device's
OPEN = 1.02  # how many times wider or smaller a range can be before it is remarked upon


@dataclass(frozen=True)
class Fit:
    """Keys of a design with their estimates (None: not to be told), and how well the model fits.

    ``r_squared`` and ``residual`` (rms, share of the range) compare each device's measured curve with the
    model's, run freely from its first reading. ``pattern[direction][bin]`` is the mean residual of single
    steps in fifths of the range, over the step in mid-range, with its error (None: too few steps there to
    tell). ``remarks`` say what is wrong.
    """

    devices: tuple[DeviceFit, ...]
    values: dict[str, Estimate | None]
    r_squared: float
    residual: float
    pattern: dict[int, list[Estimate | None]]
    remarks: tuple[str, ...]


def fit(curves: Sequence[Curves]) -> Fit:
    """Fit all devices; MeasurementError where there is too little, or pulses that move a device the wrong
    way.
    """
    devices = tuple(fit_device(without_wrong(device)) for device in curves)
    squares = [_squares(device) for device in devices]
    left, all_, count = (sum(part) for part in zip(*squares, strict=True))
    pattern = {sign: _pattern(devices, sign) for sign in (1, -1)}
    values, beyond = _values(devices)
    residuals = [math.sqrt(part / rows) for part, _, rows in squares]
    left_out = _left_out(curves, devices)
    remarks = (*_remarks(devices, pattern), *left_out, *_worst(devices, residuals), *beyond)
    r_squared = 1 - left / all_ if all_ else 0.0
    return Fit(devices, values, r_squared, math.sqrt(left / count), pattern, remarks)


def _values(devices: tuple[DeviceFit, ...]) -> tuple[dict[str, Estimate | None], list[str]]:
    low, high = ([d.g_min for d in devices], [d.g_max for d in devices])
    at_low, at_high = ([d.limit_error(sign) for d in devices] for sign in (-1, 1))
    relative = [error / g for error, g in zip(at_high, high, strict=True)]
    log_high = _mean([math.log(g) for g in high], relative)
    log_pulse = [math.log(d.pulse) for d in devices]
    errors, own = [d.pulse_error for d in devices], [d.asymmetry for d in devices]
    own_errors = [d.asymmetry_error for d in devices]
    # What all devices are off by in one way, where limits were not seen: no mean makes that smaller.
    edge = float(np.mean([d.limits.open * (d.g_max - d.g_min) / 2 for d in devices]))
    scale = float(np.mean([math.log(d.limits.factor) / 2 for d in devices]))
    bent = float(np.mean([d.limits.open * d.lines.bend.value for d in devices]))
    values = {
        "device.g_min": _mean(low, at_low, edge),
        "device.g_max": _exponential(
            Estimate(log_high.value, math.hypot(log_high.error, edge / math.exp(log_high.value)))
        ),
        "programming.pulse": _exponential(_mean(log_pulse, errors, scale)),
        "programming.nonlinearity": _mean(
            [d.lines.bend.value for d in devices], [d.lines.bend.error for d in devices], bent
        ),
        "programming.asymmetry": _mean(own, own_errors),
        "programming.cycle": _mean(
            [d.lines.cycle.value for d in devices], [d.lines.cycle.error for d in devices]
        ),
        "programming.read_noise": _mean(
            [d.lines.read.value for d in devices], [d.lines.read.error for d in devices]
        ),
        "mismatch.conductance": _spread([math.log(g) for g in high], relative),
        "mismatch.programming": _spread(log_pulse, errors),
        "mismatch.programming_bias": _spread(own, own_errors),
    }
    return _within(values)


def _within(values: dict[str, Estimate | None]) -> tuple[dict[str, Estimate | None], list[str]]:
    """Values that a design takes: the nearest, with a remark, where one is beyond the model."""
    from .specs import KEYS
    from .units import Number

    inside: dict[str, Estimate | None] = {}
    remarks = []
    for key, estimate in values.items():
        kind = KEYS[key]
        if estimate is not None and isinstance(kind, Number) and estimate.value not in kind.range:
            nearest = min(max(estimate.value, kind.range.low), kind.range.high)
            remarks.append(f"{key} = {estimate.value:.3g} is beyond {kind.allowed()}: written as {nearest:g}")
            estimate = Estimate(nearest, estimate.error)
        inside[key] = estimate
    return inside, remarks


def _exponential(of: Estimate) -> Estimate:
    value = math.exp(of.value)
    return Estimate(value, value * of.error)


def _mean(values: list[float], errors: list[float], shared: float = 0.0) -> Estimate:
    """Over devices, whose own errors are the least that its error can be; ``shared`` is what all are off."""
    own = math.sqrt(float(np.mean(np.square(errors))))
    seen = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Estimate(float(np.mean(values)), math.hypot(max(own, seen) / math.sqrt(len(values)), shared))


def _spread(values: list[float], errors: list[float]) -> Estimate | None:
    """The sd over devices, less their own errors'; its error is that of a normal sample's sd."""
    count = len(values)
    if count < 2:
        return None
    seen = float(np.var(values, ddof=1))
    square = max(seen - float(np.mean(np.square(errors))), 0.0)
    error = seen * math.sqrt(2 / (count - 1))  # of the variance
    value = math.sqrt(square)
    return Estimate(value, error / (2 * value) if value else math.sqrt(error))


# -- how well --------------------------------------------------------------------------------------


def _squares(device: DeviceFit) -> tuple[float, float, int]:
    """Sums of squares of a device's x: about the model's curve, and about its own mean; rows."""
    span, g = device.g_max - device.g_min, device.measured.conductance
    left, all_ = (g - device.curve) / span, (g - g.mean()) / span
    return float(left @ left), float(all_ @ all_), len(left)


def relative_steps(devices: tuple[DeviceFit, ...], sign: int) -> tuple[Array, Array, Array]:
    """All steps (n,) of one direction that no limit cuts: the reading two before their end (a place that is
    free of their own noise), their size, and the size expected; sizes over the device's step in mid-range.
    """
    columns: list[tuple[Array, Array, Array]] = []
    for d in devices:
        lines = d.lines
        of = (d.steps.sign == sign) & uncut_steps(
            d.steps, lines.up.value, lines.down.value, lines.bend.value, lines.cycle.value, lines.read_noise
        )
        middle = (lines.up if sign > 0 else lines.down).value
        columns.append((d.steps.before[of], d.steps.size[of] / middle, d.expected[of] / middle))
    place, size, expected = (np.concatenate(part) for part in zip(*columns, strict=True))
    return place, size, expected


def _pattern(devices: tuple[DeviceFit, ...], sign: int, bins: int = 5) -> list[Estimate | None]:
    """Mean residual of the steps in each part of the range, over the step in mid-range."""
    place, size, expected = relative_steps(devices, sign)
    of_bin = np.clip((place * bins).astype(int), 0, bins - 1)
    parts = [(size - expected)[of_bin == k] for k in range(bins)]
    return [
        Estimate(float(p.mean()), float(p.std() / math.sqrt(len(p)))) if len(p) > 2 else None for p in parts
    ]


def _left_out(curves: Sequence[Curves], devices: tuple[DeviceFit, ...]) -> list[str]:
    """Readings that were taken for wrong."""
    count = sum(len(c.pulse) - len(d.measured.pulse) for c, d in zip(curves, devices, strict=True))
    if not count:
        return []
    return [
        f"{count} of {sum(len(c.pulse) for c in curves)} readings are far off those before and after them, "
        "and were left out as wrong"
    ]


def _worst(devices: tuple[DeviceFit, ...], residuals: list[float]) -> list[str]:
    """The device whose curve the model misses by far more than the others'."""
    k = int(np.argmax(residuals))
    least, times = ODD
    usual = float(np.median(residuals))  # read noise is in it
    if residuals[k] <= max(least, times * usual):
        return []
    return [
        f"device {devices[k].device} fits worst: residual {residuals[k]:.1%} of its range, of the median "
        f"device {usual:.1%}; leave it out or look at its curve"
    ]


def _remarks(devices: tuple[DeviceFit, ...], pattern: dict[int, list[Estimate | None]]) -> list[str]:
    remarks = []
    if len(devices) == 1:
        remarks.append("one device alone: how devices differ cannot be told, and is not written")
    moving = [d.limits for d in devices if d.limits.factor > OPEN]
    if moving:
        soft = sum(limits.soft for limits in moving)
        taken = "about the ends of what was measured"
        if soft > len(moving) / 2:
            taken = "where the steps would vanish, as at soft bounds"
        remarks.append(
            f"{len(moving)} of {len(devices)} devices still moved at the ends of their curves, so that "
            f"limits were not seen: g_min and g_max are {taken}. The range, and with it pulse and "
            "nonlinearity, is known within its error only; measure until pulses move a device no more"
        )
    noisy = sum(d.lines.cycle.value > 1 for d in devices)
    if noisy:
        remarks.append(
            f"{noisy} of {len(devices)} devices vary by more than a step from pulse to pulse: limits cut "
            "many steps, and pulse comes out too large, cycle too small"
        )
    up, down = (
        _mean([d.lines.bends[k].value for d in devices], [d.lines.bends[k].error for d in devices])
        for k in (0, 1)
    )
    if abs(up.value - down.value) > max(0.2, 3 * math.hypot(up.error, down.error)):
        remarks.append(
            f"nonlinearity is {up.value:.2f} up and {down.value:.2f} down: the model has one for both, "
            "and misses by that"
        )
    bent = [
        (sign, k)
        for sign, parts in pattern.items()
        for k, part in enumerate(parts)
        if part is not None and abs(part.value) > max(0.1, 4 * part.error)
    ]
    if bent:
        where = ", ".join(f"{'up' if s > 0 else 'down'} in fifth {k + 1}" for s, k in bent)
        remarks.append(f"steps are off the model's straight line ({where}): see the residuals")
    return remarks
