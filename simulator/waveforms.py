"""Waveforms of independent sources: SPICE's PULSE, SIN, EXP and PWL, with SPICE's meaning.

Times are in seconds, values in the source's unit. SPICE's defaults that depend on the run (a rise time of
one print step, a width of the whole run) are for the reader of a deck to fill in; here a rise time of 0 is a
jump, and the value at the jump is the one after it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

MOST_BREAKPOINTS = 1_000_000  # of a waveform in one transient


class Waveform(Protocol):
    """What a source follows in time."""

    def value(self, t: float) -> float:
        """Value at time t [s]; at negative times that of the start."""

    def breakpoints(self, t_end: float) -> list[float]:
        """Times in (0, t_end] [s], in order, at which a derivative jumps."""

    def spice(self) -> str:
        """As on a SPICE card."""


@dataclass(frozen=True)
class Pulse:
    """From ``initial`` to ``pulsed`` after ``delay``, there for ``width``, back; again every ``period``."""

    initial: float
    pulsed: float
    delay: float = 0.0
    rise: float = 0.0
    fall: float = 0.0
    width: float = math.inf
    period: float = math.inf

    def __post_init__(self) -> None:
        _finite(self, "initial", "pulsed", "delay", "rise", "fall")
        for name in ("rise", "fall", "width"):
            _require(self, name, getattr(self, name) >= 0.0, "at least 0 s")
        busy = self.rise + self.width + self.fall
        _require(self, "period", self.period > 0.0, "above 0 s")
        if math.isfinite(self.width):
            _require(self, "period", self.period >= busy, f"at least rise + width + fall = {busy:g} s")

    def value(self, t: float) -> float:
        t -= self.delay
        if t < 0.0:
            return self.initial
        if t >= self.period:
            t = math.fmod(t, self.period)
        height = self.pulsed - self.initial
        if t < self.rise:
            return self.initial + height * t / self.rise
        if t < self.rise + self.width:
            return self.pulsed
        t -= self.rise + self.width
        return self.pulsed - height * t / self.fall if t < self.fall else self.initial

    def breakpoints(self, t_end: float) -> list[float]:
        corners = [0.0, self.rise, self.rise + self.width, self.rise + self.width + self.fall]
        periods = max(0.0, (t_end - self.delay) / self.period)
        if len(corners) * periods > MOST_BREAKPOINTS:
            raise ValueError(
                f"Pulse: period is {self.period:g} s, which makes {len(corners) * periods:.3g} corners up to "
                f"{t_end:g} s; at most {MOST_BREAKPOINTS} are allowed: give a longer one, or an earlier end"
            )
        starts = [self.delay + k * self.period if k else self.delay for k in range(int(periods) + 2)]
        return sorted({t for start in starts for corner in corners if 0.0 < (t := start + corner) <= t_end})

    def spice(self) -> str:
        return _card("PULSE", [getattr(self, f.name) for f in fields(self)])


@dataclass(frozen=True)
class Sine:
    """``offset + amplitude sin(2π frequency τ + phase) exp(-τ damping)``, ``τ = t - delay``.

    Before ``delay``: as at ``delay``. ``phase`` in degrees, ``frequency`` [Hz], ``damping`` [1/s].
    """

    offset: float
    amplitude: float
    frequency: float
    delay: float = 0.0
    damping: float = 0.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        _finite(self, *(f.name for f in fields(self)))

    def value(self, t: float) -> float:
        t = max(t - self.delay, 0.0)
        angle = 2.0 * math.pi * self.frequency * t + math.radians(self.phase)
        return self.offset + self.amplitude * math.sin(angle) * math.exp(-t * self.damping)

    def breakpoints(self, t_end: float) -> list[float]:
        return [self.delay] if 0.0 < self.delay <= t_end else []

    def spice(self) -> str:
        return _card("SIN", [getattr(self, f.name) for f in fields(self)])


@dataclass(frozen=True)
class Exponential:
    """From ``initial`` towards ``pulsed`` with ``rise_tau`` after ``rise_delay``; back with ``fall_tau``."""

    initial: float
    pulsed: float
    rise_delay: float
    rise_tau: float
    fall_delay: float
    fall_tau: float

    def __post_init__(self) -> None:
        _finite(self, *(f.name for f in fields(self)))
        for name in ("rise_tau", "fall_tau"):
            _require(self, name, getattr(self, name) > 0.0, "above 0 s")
        _require(self, "fall_delay", self.fall_delay >= self.rise_delay, "at least rise_delay")

    def value(self, t: float) -> float:
        height, v = self.pulsed - self.initial, self.initial
        if t > self.rise_delay:
            v -= height * math.expm1(-(t - self.rise_delay) / self.rise_tau)
        if t > self.fall_delay:
            v += height * math.expm1(-(t - self.fall_delay) / self.fall_tau)
        return v

    def breakpoints(self, t_end: float) -> list[float]:
        return sorted({t for t in (self.rise_delay, self.fall_delay) if 0.0 < t <= t_end})

    def spice(self) -> str:
        return _card("EXP", [getattr(self, f.name) for f in fields(self)])


@dataclass(frozen=True)
class PiecewiseLinear:
    """Straight between points (time, value), constant before the first and after the last."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(float(t) for t in self.times))
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if not self.times or len(self.times) != len(self.values):
            raise ValueError(
                f"PWL: {len(self.times)} times and {len(self.values)} values; give one each, at least 1"
            )
        if not all(map(math.isfinite, (*self.times, *self.values))):
            raise ValueError("PWL: a time or value is not finite; give finite numbers")
        for before, after in zip(self.times, self.times[1:], strict=False):
            if after <= before:
                raise ValueError(f"PWL: time {after:g} s follows {before:g} s; give rising times")

    def value(self, t: float) -> float:
        k = bisect_right(self.times, t)
        if k in (0, len(self.times)):
            return self.values[0 if k == 0 else -1]
        (t0, t1), (v0, v1) = self.times[k - 1 : k + 1], self.values[k - 1 : k + 1]
        return v0 + (v1 - v0) * (t - t0) / (t1 - t0)

    def breakpoints(self, t_end: float) -> list[float]:
        return [t for t in self.times if 0.0 < t <= t_end]

    def spice(self) -> str:
        return _card("PWL", [x for point in zip(self.times, self.values, strict=True) for x in point])


def _card(word: str, values: Sequence[float]) -> str:
    """Trailing values that are infinite are SPICE's defaults: left out."""
    kept = list(values)
    while kept and math.isinf(kept[-1]):
        kept.pop()
    return f"{word}({' '.join(repr(float(min(v, 1e30))).removesuffix('.0') for v in kept)})"


def _finite(waveform: object, *names: str) -> None:
    for name in names:
        _require(waveform, name, math.isfinite(getattr(waveform, name)), "a finite number")


def _require(waveform: object, name: str, holds: bool, allowed: str) -> None:
    if not holds:
        value = getattr(waveform, name)
        raise ValueError(f"{type(waveform).__name__}: {name} is {value:g}; give {allowed}")
