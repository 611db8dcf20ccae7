"""What a chip costs: time and energy of an inference and of a training step, from the circuit itself.

The free phase and one nudged phase of a few samples are walked as transients (the ODE): their settling times
[s], and the heat [J] of devices and leaks until then. That is the chip's own circuit under EP's nudge,
whatever the rule: those that hold outputs, correct the skew, or drive one way only settle otherwise.
Converters and programming pulses are added from the design's ``[converters]`` and ``[programming]``. Probes,
amplifiers' own consumption, clocks and the digital side are in none of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..circuits.chip import Chip
from ..circuits.design import Design
from ..simulator.blocks import Array
from .estimators import Nudging
from .nudges import Cost, Nudge, beta_in_watts

SAMPLES = 4  # that are walked


@dataclass(frozen=True)
class Phase:
    """Time [s] and energy [J] that a sample takes."""

    time: float = 0.0
    energy: float = 0.0

    def __add__(self, other: Phase) -> Phase:
        return Phase(self.time + other.time, self.energy + other.energy)

    def __mul__(self, count: float) -> Phase:
        return Phase(self.time * count, self.energy * count)


@dataclass(frozen=True)
class Costs:
    """Of one sample: ``inference``, its inputs' and outputs' conversions included, and ``training``, all of
    its phases; of one step of training: ``writing``.
    """

    inference: Phase
    training: Phase
    writing: Phase

    def step(self, batch: int) -> Phase:
        """A step of training on a batch, one sample after the other. What probes keeps its own account."""
        return self.training * batch + self.writing


def costs(chip: Chip, inputs: Array, cost: Cost, nudging: Nudging, pulses: float, reads: float) -> Costs:
    """Of a chip that settles on ``inputs`` (m, n_in) [V], of which the first few are walked.

    A step nudges each sample as ``nudging`` says (NaN where no chip can), and sends so many ``pulses`` and
    ``reads``. Samples that do not settle count with the time after which they are given up.
    """
    design, x = chip.circuit.design, inputs[:SAMPLES]
    free = chip.relax(x, method="transient", certify=0)
    settled = _phase(free.time, free.energy)
    readings = _conversions(design, "reading", sum(chip.circuit.sizes))  # every port, once
    nudged, converted = Phase(), readings + _conversions(design, "nudge", design.sizes[-1])
    if not nudging.possible:
        nudged = Phase(math.nan, math.nan)
    elif nudging.seconds:  # conversions fall within it
        power = float(np.mean(chip.dissipation(x)(free.voltages, free.ports, np.arange(len(x)))))
        nudged = Phase(nudging.seconds, power * nudging.seconds + converted.energy * nudging.times)
    elif nudging.times:
        beta = np.full(len(x), beta_in_watts(design, design.learning.beta), x.dtype)
        pushed = chip.relax(x, Nudge(cost, beta, len(x)), start=free, method="transient", certify=0)
        nudged = (_phase(pushed.time, pushed.energy) + converted) * nudging.times
    driven = settled + _conversions(design, "input", design.sizes[0])
    inference = driven + _conversions(design, "reading", design.sizes[-1])
    training = driven + readings + nudged
    return Costs(inference, training, _writing(design, pulses, reads))


def _phase(time: Array | None, energy: Array | None) -> Phase:
    assert time is not None and energy is not None
    return Phase(float(np.mean(time)), float(np.mean(energy)))


def _conversions(design: Design, kind: str, count: int) -> Phase:
    """So many conversions, all at a time: each takes ``2^bits`` of the figure of merit (Walden 1999)."""
    spec = design.converters
    bits: int = getattr(spec, f"{kind}_bits")
    return Phase(spec.time, count * spec.merit * 2**bits) if bits else Phase()


def _writing(design: Design, pulses: float, reads: float) -> Phase:
    """``parallel`` devices are pulsed, or read, at a time."""
    spec = design.programming
    spent = Phase(spec.pulse_time, spec.pulse_energy) * pulses + _conversions(design, "reading", 1) * reads
    return Phase(spent.time / spec.parallel, spent.energy)
