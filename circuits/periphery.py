"""A chip's periphery: the sources that nudge its outputs, and the amplifiers that read its ports.

The source at output o, asked for the current ``I``, delivers ``(1 + γ_o) I + i_o`` for as long as it is on,
which is while the chip is nudged. The amplifier at node i reads ``(1 + γ_i) s_i + u_i`` and the noise of that
reading. In the difference of two readings ``u_i`` cancels, so that a response takes the gain and the noise
alone; the free state's ports, which drive the devices in the local rule, are read with all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..simulator.blocks import Array
from . import mismatch as draws
from .specs import MismatchSpec

if TYPE_CHECKING:
    from ..simulator.kernels import Push
    from .equilibrium import Nudge


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

    @classmethod
    def drawn(
        cls, layers: dict[int, slice], mismatch: MismatchSpec, noise: float, seed: int, dtype: np.dtype
    ) -> Periphery:
        """That of chip ``seed``, addressed by layer: ``layers`` are their slices of the state."""
        gains, offsets = np.ones((2, max(where.stop for where in layers.values())))
        for k, where in layers.items():
            n = (where.stop - where.start,)
            gains[where] = draws.relative(seed, f"sense{k}/gain", n, mismatch.sense_gain)
            offsets[where] = mismatch.sense_offset * draws.standard_normals(seed, f"sense{k}/offset", n)
        return cls(
            draws.relative(seed, "nudge/gain", n, mismatch.nudge_gain).astype(dtype),
            (mismatch.nudge_offset * draws.standard_normals(seed, "nudge/offset", n)).astype(dtype),
            gains.astype(dtype), offsets.astype(dtype), noise, seed,
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
        return not (np.any(self.sense_gain != 1) or np.any(self.sense_offset) or np.any(self.noise))

    @cached_property
    def delivers_truly(self) -> bool:
        """Whether the sources deliver what they are asked for."""
        return not (np.any(self.nudge_gain != 1) or np.any(self.nudge_offset))

    def deliver(self, nudge: Nudge) -> Nudge:
        """What the sources make of a nudge."""
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
        return read.astype(volts.dtype, copy=False)

    def read_shifts(self, shifts: Array, first: int) -> Array:
        """Readings [V] of ``shifts`` (k, m, N) from the m states at address 0, ``first`` being the first's.

        They are differences of two readings: offsets cancel, and the noise of the states at rest is in each.
        """
        if self.reads_truly:
            return shifts
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
