"""Noise: thermal and shot noise of every device, at one output, through one adjoint solve a frequency.

Each device is a current source of density S [A²/Hz] across its first port, independent of all others. With
the adjoint y of the output c, ``(G + jωC)ᵀ y = c``, a device between a and b gives ``|y_a - y_b|² S`` [V²/Hz]
(Rohrer, Nagel, Meyer and Weber, *IEEE J. Solid-State Circuits* 6 (1971) 204).

S is ``4kT g`` for resistors and switches, ``2q|i|`` for junctions, ``(8/3) kT gm`` for the level 1 MOSFET and
its continuation to weak inversion for the EKV MOSFET. There is no flicker noise. ngspice's MOSFET has no shot
noise in its bulk junctions; ours has, which matters where these conduct.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .banks import NetlistError
from .devices import Array
from .small_signal import Circuit, Frequencies, LinearCircuit, Probe, checked_frequencies, linearised

Band = tuple[float, float]


@dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """Noise at an output, with U its unit (V, or A of a current) and W that of the source."""

    frequencies: Frequencies  # (F,) [Hz]
    devices: tuple[str, ...]
    contributions: Array  # (devices, F) [U²/Hz]
    gain: Array  # (F,) complex, from the source to the output [U/W]
    residual: float  # of the operating point [A]
    backward_error: float  # of the adjoint solves: see LinearCircuit

    @property
    def output(self) -> Array:
        """Density (F,) [U²/Hz] at the output, of all devices."""
        return np.asarray(self.contributions.sum(axis=0))

    @property
    def input(self) -> Array:
        """Density (F,) [W²/Hz] that, at the source, would give the same; infinite where its gain is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.output / np.abs(self.gain) ** 2)

    def contribution(self, device: str) -> Array:
        """Density (F,) [U²/Hz] at the output, of one device."""
        if device not in self.devices:
            raise NetlistError(f"device {device!r} has no noise, or does not exist")
        return np.asarray(self.contributions[self.devices.index(device)])

    def totals(self, band: Band | None = None) -> dict[str, float]:
        """Mean square [U²] of each device within ``band`` [Hz] (all frequencies), the largest first."""
        squares = integrated(self.frequencies, self.contributions, band)
        order = np.argsort(-squares, kind="stable")
        return {self.devices[k]: float(squares[k]) for k in order}

    def output_total(self, band: Band | None = None) -> float:
        """Root mean square [U] at the output within ``band`` [Hz], or all frequencies of the spectrum."""
        return float(np.sqrt(integrated(self.frequencies, self.contributions, band).sum()))

    def input_total(self, band: Band | None = None) -> float:
        """Root mean square [W], referred to the source, within ``band`` [Hz]."""
        return float(np.sqrt(integrated(self.frequencies, self.input, band)))


def noise(circuit: Circuit, output: Probe, source: str, frequencies: ArrayLike) -> NoiseSpectrum:
    """SPICE's ``.noise``: at a node, a pair of nodes or a ``Current``, and referred to an independent source.

    ``frequencies`` (F,) [Hz]. The devices are at the netlist's temperature. Memory: 8 bytes a noisy device
    and frequency, 16 an unknown and frequency, and that of :meth:`~.small_signal.LinearCircuit.solve`.
    """
    linear = linearised(circuit)
    into = linear.excitation({source: 1.0})
    f, row = checked_frequencies(frequencies), linear.probe(output)[None]
    solved = linear.solve(f, row, transposed=True)
    adjoint = solved[:, 0]
    full = np.pad(adjoint, ((0, 0), (1, 1)))
    names: list[str] = []
    parts = [np.empty((0, len(adjoint)))]
    for k, bank in enumerate(linear.structure.banks):
        density = _density(linear, k)
        if density is not None:
            a, b = bank.terminals[0]
            parts.append((np.abs(full[:, a] - full[:, b]) ** 2 * density).T)
            names += bank.names
    error = linear.backward_error(f, solved, row, transposed=True)
    return NoiseSpectrum(f, tuple(names), np.concatenate(parts), adjoint @ into, linear.point.residual, error)


def _density(linear: LinearCircuit, k: int) -> Array | None:
    """Current noise density (k,) [A²/Hz] of a bank's devices, None if they have none."""
    bank = linear.structure.banks[k]
    if bank.device.noise is None:
        return None
    full = np.concatenate([[0.0], linear.point.x, [0.0]])
    u = full[bank.terminals[:, 0]] - full[bank.terminals[:, 1]]
    density = bank.device.noise(linear.equations.parameters(k), u[:, None], linear.net.temperature)
    return np.asarray(np.broadcast_to(density, (1, len(bank.names)))[0])


def integrated(frequencies: Frequencies, density: Array, band: Band | None = None) -> Array:
    """Integral over ``band`` [Hz] of densities (..., F): a power of f between any two frequencies.

    That is exact for white noise and its filtered flanks, and what SPICE does. From 0 Hz, and where a density
    is 0, straight lines.
    """
    if not (np.diff(frequencies) > 0.0).all():
        raise NetlistError("frequencies do not rise; give rising ones to integrate over")
    first, last = frequencies[0], frequencies[-1]
    low, high = (first, last) if band is None else band
    if not first <= low <= high <= last:
        raise NetlistError(f"band {low:g} Hz to {high:g} Hz; give one within {first:g} to {last:g} Hz")
    left, right = frequencies[:-1], frequencies[1:]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a density may be 0 or infinite
        exponent = np.log(density[..., 1:] / density[..., :-1]) / np.log(right / left)
        start, end = np.clip(low, left, right), np.clip(high, left, right)
        shape = _integral(end / left, exponent) - _integral(start / left, exponent)
        power = density[..., :-1] * left * shape
        slope = (density[..., 1:] - density[..., :-1]) / (right - left)
        straight = (end - start) * (density[..., :-1] + slope * (0.5 * (start + end) - left))
    pieces = np.where(end > start, np.where(np.isfinite(power), power, straight), 0.0)
    pieces[np.isnan(pieces)] = np.inf  # of an infinite density
    return np.asarray(pieces.sum(axis=-1))


def _integral(x: Array, exponent: Array) -> Array:
    """``∫ t^exponent dt`` from 1 to x, also near the exponent -1 where it is a logarithm."""
    rise, log = exponent + 1.0, np.log(x)
    return np.asarray(np.where(np.abs(rise * log) < 1e-9, log, np.expm1(rise * log) / rise))
