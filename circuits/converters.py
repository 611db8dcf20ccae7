"""Converters between a chip and what is digital: uniform, without errors but their resolution and range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulator.blocks import Array


@dataclass(frozen=True)
class Converter:
    """So many ``codes`` from ``low`` to ``high``, both included; every value takes the nearest."""

    low: float
    high: float
    codes: int

    @property
    def step(self) -> float:
        """Between two codes (LSB)."""
        return (self.high - self.low) / (self.codes - 1)

    def __call__(self, values: Array) -> Array:
        """What the nearest codes stand for, within the range; complex values as by two converters, of which
        that of the imaginary part has 0 in its middle.
        """
        if np.iscomplexobj(values):
            imaginary = signed((self.high - self.low) / 2, self.codes)(values.imag)
            converted: Array = (self(values.real) + 1j * imaginary).astype(values.dtype)
            return converted
        codes = np.rint((values - self.low) / self.step)
        found = self.low + self.step * np.clip(codes, 0, self.codes - 1)
        nearest: Array = found.astype(values.dtype)
        return nearest


def converter(low: float, high: float, bits: int) -> Converter | None:
    """Of ``2^bits`` codes; None where there are no bits: the value stays analog."""
    return Converter(low, high, 2**bits) if bits else None


def signed(high: float, codes: int) -> Converter:
    """From ``-high`` to ``high``, with 0 among the codes: of an even number one is not used (but of two)."""
    return Converter(-high, high, codes - 1 if codes % 2 == 0 and codes > 2 else codes)
