"""A chip's periphery: the sources that nudge its outputs, and the amplifiers that read its ports.

The source at output o, asked for the current ``I``, delivers ``(1 + γ_o) I + i_o`` for as long as it is on,
which is while the chip is nudged. The amplifier at node i reads ``(1 + γ_i) s_i + u_i`` and the noise of that
reading. In the difference of two readings ``u_i`` cancels, so that a response takes the gain and the noise
alone; the free state's ports, which drive the devices in the local rule, are read with all three. Where
readings or nudges go through converters, each is one of their codes: a difference is that of two codes, and a
nudge is made once, from the outputs as they are read, and held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..simulator.blocks import Array
from . import mismatch as draws
from .converters import Converter, converter, signed
from .specs import MismatchSpec

if TYPE_CHECKING:
    from ..simulator.kernels import Push
    from .design import Design


class Nudge(Protocol):
    """What pushes current into the output layer (see :mod:`ohmostat.learning.nudges`).

    One with a ``push`` of constants that relaxation knows (:class:`.kernels.Push`) relaxes faster.
    A complex ``beta`` makes the chip's analytic continuation settle.
    """

    @property
    def beta(self) -> Array:
        """Strength [W] for every sample (batch,)."""

    def current(self, ports: Array, rows: Array) -> Array:
        """Current [A] (m, n_out) into the output nodes at their ports [V], for samples ``rows``."""

    def slope(self, ports: Array, row: int) -> Array:
        """Its Jacobian ``∂I/∂s`` [S] (n_out, n_out) for one sample."""


@dataclass(frozen=True, eq=False)
class Periphery:
    """Errors of the nudge sources, ``nudge_gain`` [A/A] and ``nudge_offset`` [A] (n_out,), and of the sense
    amplifiers, ``sense_gain`` [V/V] and ``sense_offset`` [V] (N,) in state order, ``noise`` [V] rms, of all
    readings or of each sample's ports (batch, N).

    A scalar stands for equal ones; by default all are ideal. Noise is addressed: the reading of a state at
    training step ``step`` on chip ``seed`` is the same number whatever else was read.
    """

    nudge_gain: Array | float = 1.0
    nudge_offset: Array | float = 0.0
    sense_gain: Array | float = 1.0
    sense_offset: Array | float = 0.0
    noise: Array | float = 0.0
    seed: int = 0
    step: int = 0
    readings: Converter | None = None
    nudges: Converter | None = None

    @classmethod
    def drawn(
        cls, layers: dict[str, slice], mismatch: MismatchSpec, design: Design, seed: int, dtype: np.dtype
    ) -> Periphery:
        """That of chip ``seed``: ``layers`` are their slices of the state, by address, the outputs' last."""
        gains, offsets = np.ones((2, max(where.stop for where in layers.values())))
        for layer, where in layers.items():
            n = (where.stop - where.start,)
            gains[where] = draws.relative(seed, f"sense{layer}/gain", n, mismatch.sense_gain)
            offsets[where] = mismatch.sense_offset * draws.standard_normals(seed, f"sense{layer}/offset", n)
        return cls(
            draws.relative(seed, "nudge/gain", n, mismatch.nudge_gain).astype(dtype),
            (mismatch.nudge_offset * draws.standard_normals(seed, "nudge/offset", n)).astype(dtype),
            gains.astype(dtype), offsets.astype(dtype), seed=seed,
        ).used(design)  # fmt: skip

    def used(self, design: Design) -> Periphery:
        """The same sources and amplifiers, with a design's noise of readings and its converters."""
        spec, neuron = design.converters, design.neuron
        largest = spec.nudge_range * design.learning.beta * neuron.leak * neuron.swing
        return replace(
            self, noise=design.learning.read_noise,
            readings=converter(neuron.low, neuron.high, spec.reading_bits),
            nudges=signed(largest, 2**spec.nudge_bits) if spec.nudge_bits else None,
        )  # fmt: skip

    def at(self, step: int, thermal: Array | float = 0.0) -> Periphery:
        """The same, its readings having the noise of training step ``step``; ``thermal`` [V] rms (batch, N)
        is that of the ports themselves, which adds in quadrature.
        """
        noise = np.hypot(self.noise, thermal) if np.any(thermal) else self.noise
        return replace(self, step=step, noise=noise) if np.any(noise) else self

    @cached_property
    def reads_truly(self) -> bool:
        """Whether readings are the voltages themselves."""
        erring = np.any(self.sense_gain != 1) or np.any(self.sense_offset) or np.any(self.noise)
        return not (erring or self.readings)

    @cached_property
    def delivers_truly(self) -> bool:
        """Whether the sources deliver what they are asked for."""
        return not (np.any(self.nudge_gain != 1) or np.any(self.nudge_offset))

    def deliver(self, nudge: Nudge, outputs: Array) -> Nudge:
        """What the sources make of a nudge; ``outputs`` (samples, n_out) [V] are those at rest, as read."""
        if self.nudges:
            nudge = Held.at(nudge, outputs, self.nudges)
        return nudge if self.delivers_truly else Delivered(nudge, self)

    def read(self, volts: Array, first: int = 0, quantity: str = "port") -> Array:
        """Readings [V] of ``volts`` (m, N), real or complex; ``first`` is the address of the first of them.

        Complex states, which no chip has, are read part by part, as by two amplifiers.
        """
        if self.reads_truly:
            return volts
        read: Array = volts * self.sense_gain + self.sense_offset
        if np.any(self.noise):
            read += np.resize(self.noise, volts.shape) * self._normals(volts, first, quantity)
        if self.readings and quantity == "port":
            read = self.readings(read)
        return read.astype(volts.dtype, copy=False)

    def read_shifts(self, shifts: Array, first: int, rest: Array | None) -> Array:
        """Readings [V] of ``shifts`` (k, m, N) from the m states ``rest`` (m, N) at address 0; ``first`` is
        the first's. Without ``rest`` they are those of nodes, which no converter reads.

        They are differences of two readings: offsets cancel, and the noise of the states at rest is in each.
        """
        if self.reads_truly:
            return shifts
        if self.readings and rest is not None:
            states = (rest + shifts).reshape(-1, shifts.shape[2])
            codes: Array = self.read(states, first).reshape(shifts.shape) - self.read(rest)
            return codes.astype(shifts.dtype, copy=False)
        read: Array = shifts * self.sense_gain
        if np.any(self.noise):
            noise = self._normals(shifts.reshape(-1, shifts.shape[2]), first, "port").reshape(shifts.shape)
            read += self.noise * (noise - self._normals(shifts[0].real, 0, "port"))
        return read.astype(shifts.dtype, copy=False)

    def _normals(self, volts: Array, first: int, quantity: str) -> Array:
        def part(name: str) -> Array:
            address = f"read/{self.step}/{quantity}{name}"
            return draws.standard_normals(self.seed, address, volts.shape, first * volts.shape[1])

        return part("") + 1j * part("/imaginary") if np.iscomplexobj(volts) else part("")


@dataclass(frozen=True)
class Held:
    """A nudge that a converter made of the outputs at rest, ``held`` (batch, n_out) [A]."""

    asked: Nudge
    held: Array

    @classmethod
    def at(cls, nudge: Nudge, outputs: Array, convert: Converter) -> Held:
        """By the nudge's law at ``outputs`` (samples, n_out) [V], for every copy of the samples."""
        rows = np.arange(len(nudge.beta))
        return cls(nudge, convert(nudge.current(np.resize(outputs, (len(rows), outputs.shape[1])), rows)))

    @property
    def beta(self) -> Array:
        """That of the nudge asked for."""
        return self.asked.beta

    def current(self, ports: Array, rows: Array) -> Array:
        """Current [A] (m, n_out), whatever the ports do."""
        now: Array = self.held[rows]
        return now

    def slope(self, ports: Array, row: int) -> Array:
        """Its Jacobian [S] (n_out, n_out): none."""
        return np.zeros((len(ports), len(ports)), ports.dtype)

    @property
    def push(self) -> Callable[[Array, Array], Array]:
        """For relaxation, which does not know it."""
        return self.current


@dataclass(frozen=True)
class Delivered:
    """A nudge as a periphery's sources deliver it."""

    asked: Nudge
    periphery: Periphery

    @property
    def beta(self) -> Array:
        """That of the nudge asked for."""
        return self.asked.beta

    def current(self, ports: Array, rows: Array) -> Array:
        """Current [A] (m, n_out), gain and offset included."""
        asked = self.asked.current(ports, rows)
        delivered: Array = asked * self.periphery.nudge_gain + self.periphery.nudge_offset
        return delivered

    def slope(self, ports: Array, row: int) -> Array:
        """Its Jacobian [S] (n_out, n_out)."""
        gain = np.broadcast_to(self.periphery.nudge_gain, len(ports))
        slope: Array = gain[:, None] * self.asked.slope(ports, row)
        return slope

    @property
    def push(self) -> Push | Callable[[Array, Array], Array]:
        """For relaxation: the constants of the nudge asked for, with these sources."""
        asked, ours = push_of(self.asked), self.periphery
        if asked is None or callable(asked):
            return self.current
        offset = ours.nudge_gain * asked.offset + ours.nudge_offset
        return asked._replace(gain=ours.nudge_gain * asked.gain, offset=offset)


def push_of(nudge: Nudge | None) -> Push | Callable[[Array, Array], Array] | None:
    """What relaxation takes of a nudge: constants that it knows, or else the current itself."""
    push: Push | Callable[[Array, Array], Array] | None
    push = None if nudge is None else getattr(nudge, "push", nudge.current)
    return push


IDEAL = Periphery()
