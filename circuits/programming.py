"""Programming: how a commanded change of weights becomes conductances, and what that takes.

Learning and homeostat command changes; only a :class:`Programmer` moves devices. In units of a device's own
range, ``x = (g - g_min) / (g_max - g_min)``, a pulse moves it by

    up:    +p γ (1 + a) (1 + ν (1/2 - x))        down:    -p γ (1 - a) (1 + ν (x - 1/2))

with the design's pulse p and nonlinearity ν (0: linear, 2: soft bounds), the device's gain γ
(``mismatch.programming``) and asymmetry a (``programming.asymmetry``, and ``mismatch.programming_bias`` about
it). n pulses in a row are the n-th term of that linear recurrence; cycle to cycle variation of relative sd c
adds ``c / √n`` times the way gone, normally distributed (docs/programming.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..simulator import device_kernels
from ..simulator.blocks import Array
from . import mismatch as draws
from .specs import DeviceSpec, MismatchSpec, ProgrammingSpec

if TYPE_CHECKING:
    from .device_array import DeviceArray

COUNTED = ("writes", "pulses", "reads")


class Programmer:
    """Programs the devices of one chip, or of ``copies`` networks side by side with the same commands.

    Attributes: ``writes``, how often it was asked to change an array (the address of its next draw);
    ``pulses`` and ``reads`` of single devices (an ideal write counts as one pulse a pair).
    """

    def __init__(
        self, spec: ProgrammingSpec, device: DeviceSpec, mismatch: MismatchSpec, seed: int, copies: int = 1
    ) -> None:
        self.spec, self.device, self.seed, self.copies = spec, device, seed, copies
        self.writes = self.pulses = self.reads = 0
        self._limits = device.g_min, device.g_max
        self._bias_sd, self._bias = mismatch.programming_bias, dict[str, Array]()

    @property
    def verifies(self) -> bool:
        """Whether a write is read back, so that a target is what conducts, to the tolerance."""
        return self.spec.mode == "write-verify"

    @property
    def unit(self) -> float:
        """What a pulse moves a nominal device by, in mid-range [S]."""
        return self.spec.pulse * (self.device.g_max - self.device.g_min)

    def program(self, name: str, array: DeviceArray, change: Array, weight: Array, threads: int = 1) -> None:
        """Change the array's differential conductances by ``change`` [S] (rows, columns), or each device by
        its own (planes, rows, columns), as far as this programmer can. Of pairs, bring ``weight`` (rows,
        columns) up to date with them.
        """
        self.writes += 1
        change = np.ascontiguousarray(change, weight.dtype)
        if self.spec.mode != "ideal" or self.spec.levels:
            self._move(name, array, change)
            if change.ndim == 2:
                weight[...] = array.weight
            return
        self.pulses += change.size
        fields = array.target, array.actual, array.deviation, array.step
        g_min, g_max = (array.actual.dtype.type(g) for g in self._limits)
        if change.ndim == 2:
            target, actual, deviation, step = (field.reshape(2, -1) for field in fields)
            device_kernels.program(
                threads, target, actual, deviation, step, change.reshape(-1), g_min, g_max, weight.reshape(-1)
            )
        else:
            flat = (field.reshape(-1) for field in fields)
            device_kernels.move(*flat, change.reshape(-1), g_min, g_max)

    def write(self, name: str, array: DeviceArray, weight: Array) -> None:
        """Write an array from scratch to differential targets [S], or each device to its own: no pulses, but
        levels and verification, by as many pulses as lead through the range ten times: fast devices swing.
        """
        self.writes += 1
        rng = self._generator(name)
        array.target[...] = self._on_levels(self._coded(weight), rng)
        np.multiply(array.deviation, array.target, out=array.actual, where=array.step != 0)
        if self.verifies:
            most = max(self.spec.most_pulses, math.ceil(10 / self.spec.pulse))
            self._verify(name, array, np.arange(array.target.size), rng, most)

    def _move(self, name: str, array: DeviceArray, change: Array) -> None:
        """Move every device that is asked to; those that are not stay, whatever rounding makes of 0."""
        rng = self._generator(name)
        before = array.target if change.ndim == 3 else array.target[0] - array.target[1]
        wanted = self._coded(before + change)
        if self.spec.mode in ("ideal", "write-verify"):
            wanted = self._on_levels(wanted, rng)
        wanted = np.where(change == 0, array.target, wanted)
        if self.spec.mode in ("pulses", "sign"):
            ahead = (wanted - array.target) / array.target.dtype.type(self.unit)
            pulses = np.sign(ahead) if self.spec.mode == "sign" else self._whole(ahead, rng)
            believed = array.target + pulses * array.target.dtype.type(self.unit)
            np.clip(believed, self.device.g_min, self.device.g_max, out=array.target)
            where = np.flatnonzero(pulses)
            self._pulse(name, array, where, pulses.reshape(-1)[where].astype(np.int64), rng)
            return
        changed = np.flatnonzero(wanted != array.target)
        if self.verifies:
            array.target[...] = wanted
            self._verify(name, array, changed, rng, self.spec.most_pulses)
            return
        low, high = (array.deviation * array.actual.dtype.type(g) for g in self._limits)
        low, high = np.minimum(low, array.actual), np.maximum(high, array.actual)
        np.clip(array.actual + array.step * (wanted - array.target), low, high, out=array.actual)
        array.target[...] = wanted
        self.pulses += changed.size

    def _verify(
        self, name: str, array: DeviceArray, open_: Array, rng: np.random.Generator, most: int
    ) -> None:
        """Read, and pulse as often as what is read is off, until it fits or ``most`` pulses are spent.

        A device that goes beyond its target gets half as many from then on, or those of more than twice the
        nominal step would swing about it for ever.
        """
        span, target, actual = np.ptp(self._limits), array.target.reshape(-1), array.actual.reshape(-1)
        spent, pace, came = np.zeros((3, target.size))
        while open_.size:
            self.reads += open_.size
            read = actual[open_] + self.spec.read_noise * span * rng.standard_normal(open_.size)
            off = target[open_] - read
            keep = (np.abs(off) > self.spec.tolerance * span) & (spent[open_] < most)
            open_, off = open_[keep], off[keep]
            pace[open_] += came[open_] * off < 0
            came[open_] = off
            size = np.maximum(np.rint(np.abs(off) / self.unit * 0.5 ** pace[open_]), 1)
            size = np.minimum(size, most - spent[open_])
            spent[open_] += size
            self._pulse(name, array, open_, np.copysign(size, off).astype(np.int64), rng)

    def _pulse(
        self, name: str, array: DeviceArray, where: Array, pulses: Array, rng: np.random.Generator
    ) -> None:
        """Give the devices at the flat addresses ``where`` so many pulses each, up if positive."""
        self.pulses += int(np.abs(pulses).sum())
        spec, g_min, g_max = self.spec, self.device.g_min, self.device.g_max
        noise = rng.standard_normal(where.size) if spec.cycle else np.zeros(where.size)
        asymmetry = np.clip(spec.asymmetry + self._biases(name, array)[where], -0.95, 0.95)
        planes = (field.reshape(-1) for field in (array.actual, array.deviation, array.step))
        device_kernels.pulse(
            *planes, where, pulses, asymmetry, noise, spec.pulse, spec.nonlinearity, spec.cycle, g_min, g_max
        )  # fmt: skip

    def _biases(self, name: str, array: DeviceArray) -> Array:
        """What each device's asymmetry differs by, flat; drawn once."""
        if name not in self._bias:
            shape = (array.target.size,)
            bias = np.zeros(shape)
            if self._bias_sd:
                bias = self._bias_sd * draws.standard_normals(self.seed, f"{name}/programming bias", shape)
            self._bias[name] = bias
        return self._bias[name]

    def _coded(self, wanted: Array) -> Array:
        """Targets [S] of the devices: of pairs, by their difference; of devices by themselves, in range."""
        if wanted.ndim == 2:
            return paired(wanted, self.device)
        return np.clip(wanted, *self._limits)

    def _on_levels(self, wanted: Array, rng: np.random.Generator) -> Array:
        if not self.spec.levels:
            return wanted
        step = (self.device.g_max - self.device.g_min) / (self.spec.levels - 1)
        whole = self._whole((wanted - self.device.g_min) / step, rng)
        levels: Array = (self.device.g_min + step * whole).astype(wanted.dtype)
        return levels

    def _whole(self, numbers: Array, rng: np.random.Generator) -> Array:
        """Whole numbers: the nearest, or one of the two beside, whose mean is the number itself."""
        if self.spec.rounding == "nearest":
            nearest: Array = np.rint(numbers)
            return nearest
        one = len(numbers) // self.copies, *numbers.shape[1:]  # networks side by side take the same commands
        drawn = np.concatenate([rng.random(one, np.float32)] * self.copies)
        stochastic: Array = np.floor(numbers + drawn)
        return stochastic

    def _generator(self, name: str) -> np.random.Generator:
        return draws.generator(self.seed, "write", name, str(self.writes))


def paired(weight: Array, device: DeviceSpec) -> Array:
    """Targets [S] (2, rows, columns) of differential conductances: one device of a pair carries the weight,
    the other rests at ``g_min``.
    """
    return np.clip(device.g_min + np.maximum([weight, -weight], 0), device.g_min, device.g_max)
