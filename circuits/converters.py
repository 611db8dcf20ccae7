"""Converters between a chip and what is digital: uniform, without errors but their resolution and range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulator.blocks import Array


@dataclass(frozen=True)
class Converter:
    """``2^bits`` codes from ``low`` to ``high``, both included; every value takes the nearest."""

    low: float
    high: float
    bits: int

    @property
    def step(self) -> float:
        """Between two codes (LSB)."""
        return (self.high - self.low) / float(2**self.bits - 1)

    def __call__(self, values: Array) -> Array:
        """What the nearest codes stand for, within the range; complex values as by two converters, of which
        that of the imaginary part is centred on 0.
        """
        if np.iscomplexobj(values):
            half = (self.high - self.low) / 2
            imaginary = Converter(-half, half, self.bits)(values.imag)
            converted: Array = (self(values.real) + 1j * imaginary).astype(values.dtype)
            return converted
        codes = np.rint((values - self.low) / self.step)
        found = self.low + self.step * np.clip(codes, 0, 2**self.bits - 1)
        nearest: Array = found.astype(values.dtype)
        return nearest


def converter(low: float, high: float, bits: int) -> Converter | None:
    """None where there are no bits: the value stays analog."""
    return Converter(low, high, bits) if bits else None
