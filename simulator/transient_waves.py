"""What a transient gives: voltages and currents at its accepted points, between them, and energies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, make_interp_spline

from .banks import Bank
from .devices import Array
from .equations import Equations
from .lookup import branch_current, node_voltage
from .transient_steps import Counts

UNEVEN = 8.0  # ratio of two steps in a row, beyond which a spline ends between them


@dataclass(frozen=True, eq=False)
class Traces:
    """Voltages and branch currents at ``times`` (T,) [s]; of B > 1 samples, every (T, ...) is (T, B, ...)."""

    times: NDArray[np.float64]
    nodes: tuple[str, ...]
    branches: tuple[str, ...]  # the voltage-defined devices
    x: Array  # (T, n+m): voltages [V], then currents [A]

    @property
    def voltages(self) -> Array:
        """Node voltages (T, n) [V]."""
        return np.asarray(self.x[..., : len(self.nodes)])

    @property
    def currents(self) -> Array:
        """Branch currents (T, m) [A], from each device's first node, through it, into its second."""
        return np.asarray(self.x[..., len(self.nodes) :])

    def __getitem__(self, node: str) -> Array:
        """Voltage (T,) [V] of a node by name."""
        return node_voltage(self.nodes, self.voltages, node)

    def current(self, device: str) -> Array:
        """Current (T,) [A] through a voltage-defined device, by name."""
        return branch_current(self.branches, self.currents, device)


@dataclass(frozen=True, eq=False)
class Energy:
    """Energies (T,) [J]: ``delivered`` by each source and ``dissipated`` since time 0, and ``stored``.

    All devices but independent sources and inductors count as dissipating; controlled sources may deliver.
    In an exact transient ``Σ delivered = dissipated + stored - stored[0]``.
    """

    times: NDArray[np.float64]
    delivered: Mapping[str, Array]
    dissipated: Array
    stored: Array

    @property
    def imbalance(self) -> Array:
        """What the equation above leaves (T,) [J]."""
        return np.asarray(sum(self.delivered.values()) - self.dissipated - (self.stored - self.stored[0]))


@dataclass(frozen=True, eq=False)
class Transient(Traces):
    """A transient at its accepted time points.

    Corners of sources stand twice in ``times``, before and after: currents differ there, and voltages where a
    source jumps. ``residual`` [A] is the largest violation of Kirchhoff's current law at any time point, with
    the currents of storage as the method has them; ``voltage_residual`` [V] that of a device's law.
    """

    counts: Counts
    residual: float
    voltage_residual: float
    _equations: Equations = field(repr=False)
    _starts: tuple[int, ...] = field(repr=False)  # where smooth pieces begin

    def at(self, times: ArrayLike) -> Traces:
        """At any ``times`` (T,) [s], by splines between corners; at a corner, just after it, and where one is
        given more than once in a row, just before it until the last.
        """
        t = np.atleast_1d(np.asarray(times, np.float64))
        if not ((t >= 0.0) & (t <= self.times[-1])).all():
            raise ValueError(f"times from {t.min():g} s to {t.max():g} s; give 0 s to {self.times[-1]:g} s")
        x, stretches = np.empty((len(t), *self.x.shape[1:])), self._stretches
        begins = np.array([self.times[stretch.start] for stretch in stretches])
        which = np.searchsorted(begins, t, side="right") - 1
        again = np.append(t[1:] == t[:-1], False)
        which[again & (t == begins[which]) & (which > 0)] -= 1
        for k in np.unique(which):
            x[which == k] = self._spline(stretches[k], self.x)(t[which == k])
        return Traces(t, self.nodes, self.branches, x)

    def energy(self) -> Energy:
        """Energies at the accepted points; powers are integrated as splines."""
        x = self.x.reshape(len(self.times), -1, self.x.shape[-1])
        full = np.zeros((*x.shape[:2], x.shape[2] + 2))  # ground, x, time
        full[..., 1:-1], full[..., -1] = x, self.times[:, None]
        delivered: dict[str, Array] = {}
        dissipated, stored = np.zeros((2, *x.shape[:2]))
        for k, bank in enumerate(self._equations.banks):
            u = np.moveaxis(full[..., bank.terminals[:, 0, :]] - full[..., bank.terminals[:, 1, :]], 2, 0)
            power = u[0] * self._current(k, u, full)
            if bank.device.linear and bank.device.source_parameters:
                totals = self._integral(-power)
                delivered |= {name: self._shaped(totals[..., j]) for j, name in enumerate(bank.names)}
                continue
            if bank.device.storage is not None:
                stored += _stored_energy(bank, self._equations.parameters(k), u)
            if bank.device.storage is None or not bank.device.voltage_defined:  # inductors lose nothing
                dissipated += self._integral(power.sum(axis=-1))
        return Energy(self.times, delivered, self._shaped(dissipated), self._shaped(stored))

    def _current(self, k: int, u: Array, full: Array) -> Array:
        """Currents (T, B, k) of a bank, without those of its storage."""
        bank, equations = self._equations.banks[k], self._equations
        if bank.branches is not None:
            return np.asarray(full[..., bank.branches])
        if not (bank.device.linear and bank.device.source_parameters):
            return bank.device.law(equations.parameters(k), u)[0]
        margin = 4.0 * np.spacing(self.times)
        moments = self.times.copy()  # corners are on the sides that they stand for
        for piece in self._pieces():
            moments[piece.start] += margin[piece.start]
            moments[piece.stop - 1] -= margin[piece.stop - 1]
        values = [
            bank.device.law(equations._source_values(k, t, 1.0), u[:, j])[0] for j, t in enumerate(moments)
        ]
        return np.stack(values)

    def _pieces(self) -> list[slice]:
        return [slice(i, j) for i, j in zip(self._starts, (*self._starts[1:], len(self.times)), strict=True)]

    @cached_property
    def _stretches(self) -> list[slice]:
        """Of smooth pieces: steps none of which is ``UNEVEN`` times its neighbour. They share their ends."""
        found = []
        for piece in self._pieces():
            steps = np.log(np.diff(self.times[piece]))
            cuts = 1 + np.flatnonzero(np.abs(np.diff(steps)) > np.log(UNEVEN))
            ends = itertools.pairwise([0, *cuts.tolist(), len(steps)])
            found += [slice(piece.start + first, piece.start + last + 1) for first, last in ends]
        return found

    def _integral(self, values: Array) -> Array:
        """Of ``values`` (T, ...) over time, from 0 to each time point."""
        total, before = np.zeros_like(values), np.zeros_like(values[0])
        for stretch in self._stretches:
            total[stretch] = before + self._spline(stretch, values).antiderivative()(self.times[stretch])
            before = total[stretch.stop - 1].copy()
        return total

    def _spline(self, stretch: slice, values: Array) -> BSpline:
        """Through ``values`` (T, ...) at the points of a stretch.

        Cubic: splines of degree 5 ring longer where a diode or transistor makes a derivative jump. And none
        beyond a stretch: through a step far shorter than its neighbour, in which something snaps, or rounding
        alone moves, it would swing for many steps.
        """
        degree = min(3, stretch.stop - stretch.start - 1)
        return make_interp_spline(self.times[stretch], values[stretch], k=degree)

    def _shaped(self, values: Array) -> Array:
        return values.reshape(self.x.shape[:-1])


def _stored_energy(bank: Bank, p: Mapping[str, Array], u: Array) -> Array:
    """``∫ u dQ`` (T, B) [J] from rest, of all devices of the bank: ``u² ∫₀¹ s C(su) ds``."""
    assert bank.device.storage is not None
    port, sign = (1, -1.0) if bank.device.voltage_defined else (0, 1.0)  # an inductor's flux is -L i
    places, weights = np.polynomial.legendre.leggauss(1 if bank.device.linear else 32)
    total = np.zeros_like(u[0])
    for s, w in zip((places + 1.0) / 2.0, weights / 2.0, strict=True):
        total += w * s * sign * bank.device.storage(p, s * u)[1][port]
    return np.asarray((u[port] ** 2 * total).sum(axis=-1))
