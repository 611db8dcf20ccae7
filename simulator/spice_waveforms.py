"""PULSE, SIN, EXP and PWL on source cards, with the defaults that SPICE takes from ``.tran``."""

from __future__ import annotations

import math
from collections.abc import Callable

from .spice_lines import Fields
from .spice_scope import Conditions
from .waveforms import Exponential, PiecewiseLinear, Pulse, Sine, Waveform

Numbers = list[float]


def read_waveform(f: Fields, conditions: Conditions, shape: str, numbers: Numbers, factor: float) -> Waveform:
    """The waveform of a source card, ``factor`` times."""
    if shape not in _SHAPES:
        raise f.error(f"{shape[:40]!r} where dc, ac, {', '.join(_SHAPES)} or a number was expected")
    least, most, build = _SHAPES[shape]
    if not least <= len(numbers) <= most:
        raise f.error(f"{shape} has {len(numbers)} numbers; expected {least} to {most}")
    if shape != "pwl":
        numbers = [factor * number for number in numbers[:2]] + numbers[2:]
    else:
        numbers = [number * (factor if k % 2 else 1.0) for k, number in enumerate(numbers)]
    try:
        return build(conditions, numbers)
    except ValueError as error:  # of the waveform's own checks
        raise f.error(str(error)) from None


def _default(numbers: Numbers, place: int, default: float) -> float:
    """SPICE takes a missing number, and zero, as the default."""
    return (numbers[place] if place < len(numbers) else 0.0) or default


def _pulse(conditions: Conditions, numbers: Numbers) -> Waveform:
    delay = _default(numbers, 2, 0.0)
    rise, fall = (_default(numbers, k, conditions.step) for k in (3, 4))
    width, period = (_default(numbers, k, math.inf) for k in (5, 6))
    return Pulse(numbers[0], numbers[1], delay, rise, fall, width, period)


def _sine(conditions: Conditions, numbers: Numbers) -> Waveform:
    """Without a frequency, one cycle over the whole run."""
    if conditions.stop is None and not _default(numbers, 2, 0.0):
        raise ValueError("sin has no frequency, and no .tran to take one from; give one [Hz]")
    frequency = _default(numbers, 2, 1.0 / (conditions.stop or 1.0))
    return Sine(numbers[0], numbers[1], frequency, *numbers[3:])


def _exponential(conditions: Conditions, numbers: Numbers) -> Waveform:
    """Without times, those of one print step."""
    step = conditions.step
    rise_delay = _default(numbers, 2, step)
    rise_tau, fall_tau = (_default(numbers, k, step) for k in (3, 5))
    fall_delay = _default(numbers, 4, rise_delay + step)
    return Exponential(numbers[0], numbers[1], rise_delay, rise_tau, fall_delay, fall_tau)


def _piecewise(conditions: Conditions, numbers: Numbers) -> Waveform:
    return PiecewiseLinear(tuple(numbers[::2]), tuple(numbers[1::2]))


_SHAPES: dict[str, tuple[int, int, Callable[[Conditions, Numbers], Waveform]]] = {
    "pulse": (2, 7, _pulse),
    "sin": (2, 6, _sine),
    "exp": (2, 6, _exponential),
    "pwl": (2, 1_000_000, _piecewise),
}
