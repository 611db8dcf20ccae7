"""The circuit's equations, F(x, t) + d/dt Q(x) = 0, for a batch of parameter values: modified nodal analysis.

A solution x (B, size) holds the node voltages [V] and the currents [A] of the voltage-defined devices. F is
Kirchhoff's current law, the sum of the currents that *leave* each node [A], and the constraint [V] of each
voltage-defined device; Q the charges [C] and fluxes [Wb]. Everything linear is summed once into constant
matrices, F = A x + sources + Σ nonlinear, Q = C x + Σ nonlinear. Rows and columns are those of the unknowns
alone (:mod:`ohmostat.simulator.structure`); x is always complete.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import sparse_kernels as kernels
from .banks import Bank
from .devices import Array, Law
from .netlist import Netlist
from .overrides import Overrides, replace_parameters
from .structure import Pattern, Places, Structure

EPSILON = float(np.finfo(np.float64).eps)
HARMLESS = 0.01  # [V] that port voltages may move without any device's limiting
LawOf = Callable[[Bank], Law | None]  # a bank's law or its storage


@dataclass(frozen=True, eq=False)
class Drive:
    """What the sources say at one time: ``constant`` (b, n) of F's rows, ``known`` (b, k) node voltages [V].

    ``size`` is that of the terms summed in ``constant``; each b is 1 or the batch. ``time`` is None at a DC
    operating point, where waveforms rest; ``scale`` multiplies all independent outputs.
    """

    constant: Array
    size: Array
    known: Array
    time: float | None = None
    scale: float = 1.0

    def take(self, rows: NDArray[np.intp]) -> Drive:
        """Of some samples only."""
        constant, size, known = (_pick(part, rows) for part in (self.constant, self.size, self.known))
        return Drive(constant, size, known, self.time, self.scale)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A circuit made easier: what continuations fade out, and starting points hold for a while."""

    shunt: Array | float = 0.0  # conductance (nodes,) from every node to its anchor [S]
    anchor: Array | float = 0.0  # (nodes,) [V]
    output_resistance: float = 0.0  # of nonlinear voltage-defined devices [ohm]


@dataclass(frozen=True, eq=False)
class State:
    """F (b, n) at one x, its slopes (b, nnz) on the structure's pattern, and the size of its rounding errors.

    ``limited`` (b,) marks samples linearised at other port voltages than x's; ``ports`` (b, p) has those.
    """

    residual: Array
    slopes: Array
    rounding: Array
    limited: NDArray[np.bool_]
    ports: Array


class Equations:
    """F, Q and their slopes for a netlist, with the values of some parameters replaced for a batch.

    Args:
        net: the netlist, or its :class:`Structure`, which many equations can share.
        at: replaced values (:func:`~ohmostat.simulator.overrides.replace_parameters`).
        eliminate: whether grounded voltage sources leave the unknowns.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for what cannot be replaced so.
    """

    def __init__(
        self, net: Netlist | Structure, at: Overrides | None = None, *, eliminate: bool = True
    ) -> None:
        self.structure = net if isinstance(net, Structure) else Structure(net, eliminate=eliminate)
        self.banks = self.structure.banks
        replaced = replace_parameters(self.banks, at or {})
        self.overrides, self._held, self.batch = replaced.values, replaced.held, replaced.batch
        self.solver = self.structure.solver
        self._rows: NDArray[np.intp] | None = None
        self._kept: dict[int, dict[str, Any]] = {}  # parameters by bank
        self._sum_linear()

    # -- values ----------------------------------------------------------------------------------------

    def take(self, rows: NDArray[np.intp]) -> Equations:
        """The same equations for some samples of the batch only."""
        part = copy.copy(self)
        part.solver = copy.copy(self.solver)  # whose pivots may change for these samples alone
        part._rows = rows if self._rows is None else self._rows[rows]
        part.batch, part._kept = len(rows), {}
        return part

    def real_part(self) -> Equations:
        """The same equations with the real parts of all replaced values."""
        part = copy.copy(self)
        part.__dict__.pop("is_complex", None)
        part.overrides = tuple(
            {name: _pick(values, self._rows).real.copy() for name, values in bank.items()}
            for bank in self.overrides
        )
        part._rows, part._kept = None, {}
        part._sum_linear()
        return part

    def _parameters(self, k: int, scale: float) -> dict[str, Any]:
        """As :meth:`parameters`, to be read only: kept, for they are asked for at every iteration."""
        if scale != 1.0:
            return self.parameters(k, scale)
        if k not in self._kept:
            self._kept[k] = self.parameters(k)
        return self._kept[k]

    def parameters(self, k: int, scale: float = 1.0) -> dict[str, Any]:
        """What the law of bank k takes."""
        values = {name: _pick(v, self._rows) for name, v in self.overrides[k].items()}
        return self.banks[k].law_parameters(values, scale)

    @cached_property
    def is_complex(self) -> bool:
        """Whether a replaced value is complex."""
        return any(np.iscomplexobj(value) for bank in self.overrides for value in bank.values())

    @cached_property
    def limits(self) -> bool:
        """Whether any device limits its steps."""
        return any(bank.device.limit is not None for bank in self.banks)

    # -- linear parts ----------------------------------------------------------------------------------

    def _sum_linear(self) -> None:
        """A and C, by unknowns and by known voltages, on their two patterns."""
        at = self.structure
        own = not any(
            set(values) - set(bank.device.source_parameters)
            for bank, values in zip(self.banks, self.overrides, strict=True)
            if bank.device.linear
        )
        parts = at.nominal if own else None
        if parts is None:
            branch = np.zeros((1, at.pattern.nnz))
            kernels.scatter(at.branch_signs[None], 1.0, at.branch_slots, branch)
            conduct, conduct_known = self._linear_slopes(_law)
            store, store_known = self._linear_slopes(_storage)
            parts = (conduct + branch, conduct_known, store, store_known)
            at.nominal = parts if own else at.nominal
        self._conduct, self._conduct_known, self._store, self._store_known = parts

    def _linear_slopes(self, law_of: LawOf) -> tuple[Array, Array]:
        pattern, known = self.structure.pattern, self.structure.known_pattern
        total, total_known = np.zeros((1, pattern.nnz)), np.zeros((1, known.nnz))
        for k, bank in enumerate(self.banks):
            law = law_of(bank) if bank.device.linear else None
            if law is None:
                continue
            slopes = law(self.parameters(k), np.zeros((len(bank.terminals), 1, len(bank.names))))[1]
            stamp = self.structure.stamps[k]
            total = _enlarged(total, slopes)
            total_known = _enlarged(total_known, slopes)
            stamp.add_slopes(slopes, total)
            stamp.add_known_slopes(slopes, total_known)
        return total, total_known

    def drive(self, time: float | None = None, scale: float = 1.0) -> Drive:
        """The sources at ``time`` [s], or at rest (DC), all independent outputs times ``scale``."""
        at = self.structure
        constant, known = np.zeros((1, len(at.free))), np.zeros((1, 0))
        for k, bank in enumerate(self.banks):
            if not (bank.device.linear and bank.device.source_parameters):
                continue
            values = self._source_values(k, time, scale)
            f = bank.device.law(values, np.zeros((1, 1, len(bank.names))))[0]
            constant = _enlarged(constant, f[None])
            at.stamps[k].add_values(f, constant)
            if bank.kind == "voltage_source":
                known = at.known_signs * np.atleast_2d(values["voltage"])[:, at.known_sources]
        size = np.abs(constant)
        if known.size:
            constant, size = self._add_known(self._conduct_known, known, constant, size)
        return Drive(constant, size, known, time, scale)

    def _source_values(self, k: int, time: float | None, scale: float) -> dict[str, Any]:
        bank = self.banks[k]
        values = self.parameters(k)
        (name,) = bank.device.source_parameters
        if time is not None and bank.waveforms:
            values[name] = np.array(values[name])
            for place, waveform in bank.waveforms.items():
                if place not in self._held[k]:
                    values[name][..., place] = waveform.value(time)
        values[name] = scale * values[name]
        return values

    def _add_known(self, matrix: Array, known: Array, constant: Array, size: Array) -> tuple[Array, Array]:
        """``constant + matrix known`` and the sizes of the terms."""
        batch = max(self.batch if len(matrix) > 1 else 1, len(known), len(constant))
        known = np.broadcast_to(known, (batch, known.shape[1]))
        return self._product(self.structure.known_pattern, matrix, known, constant, size)

    def _product(
        self, pattern: Pattern, matrix: Array, x: Array, constant: Array, size: Array
    ) -> tuple[Array, Array]:
        """``matrix x + constant`` for x (b, m), and the sizes of all terms."""
        dtype, together = np.result_type(constant, matrix, x), len(matrix) == 1 and len(x) > 1
        shape = (constant.shape[1], len(x)) if together else (len(x), constant.shape[1])
        out, sizes = np.empty(shape, dtype), np.empty(shape)
        out[:], sizes[:] = (constant.T, size.T) if together else (constant, size)
        if together:  # the batch in the inner loop
            columns = np.ascontiguousarray(x.T)
            kernels.multiply_shared(pattern.starts, pattern.indices, matrix[0], columns, out, sizes)
            return np.ascontiguousarray(out.T), np.ascontiguousarray(sizes.T)
        x, which = np.ascontiguousarray(x), self._which(matrix, len(x))
        kernels.multiply(pattern.starts, pattern.indices, matrix, which, x, out, sizes)
        return out, sizes

    def _which(self, matrix: Array, batch: int) -> NDArray[np.intp]:
        """The matrix of each sample."""
        if len(matrix) == 1:
            return np.zeros(batch, np.intp)
        return np.arange(batch) if self._rows is None else self._rows

    # -- the equations at a point ----------------------------------------------------------------------

    def impose(self, x: Array, drive: Drive) -> None:
        """Write the known node voltages into x (b, size)."""
        x[:, self.structure.known] = drive.known

    def evaluate(
        self,
        x: Array,
        drive: Drive,
        relaxation: Relaxation | None = None,
        ports: Array | None = None,
    ) -> State:
        """F and its slopes at x (b, size), of the circuit or of an easier one.

        With ``ports``, the port voltages of the last linearisation, devices may be linearised nearer to these
        than x asks for (junction limiting); F is then extrapolated to x.
        """
        full, at = self._full(x, drive), self.structure.laws
        residual, slopes, size = self._linear(self._conduct, full, drive.constant, drive.size)
        u = full[:, at.first] - full[:, at.second]
        u = u if ports is None else self._limited(u, ports, drive.scale)
        limited = self._add(at, _law, u, full, drive.scale, residual, slopes, size)
        if relaxation is not None:
            self._relax(relaxation, full, residual, slopes, size)
        return State(residual, slopes, EPSILON * size, limited, u)

    def charge(self, x: Array, drive: Drive) -> tuple[Array, Array]:
        """Q (b, n) [C or Wb] and its slopes (b, nnz) at x (b, size)."""
        full, at = self._full(x, drive), self.structure.storages
        nothing = np.zeros((1, len(self.structure.free)))
        if drive.known.size:
            nothing, _ = self._add_known(self._store_known, drive.known, nothing, nothing)
        q, slopes, size = self._linear(self._store, full, nothing, np.zeros_like(nothing, float))
        self._add(at, _storage, full[:, at.first] - full[:, at.second], full, 1.0, q, slopes, size)
        return q, slopes

    def _full(self, x: Array, drive: Drive) -> Array:
        """The full vector: ground, x, time."""
        full = np.zeros((len(x), x.shape[1] + 2), np.complex128 if self.is_complex else x.dtype)
        if full.dtype.kind == "c":
            self.structure.check_analytic()
        full[:, 1:-1] = x
        full[:, -1] = drive.time or 0.0
        return full

    def _linear(self, matrix: Array, full: Array, constant: Array, size: Array) -> tuple[Array, Array, Array]:
        """``matrix x + constant``, the matrix for every sample, and the sizes of all terms."""
        at = self.structure
        residual, size = self._product(at.pattern, matrix, full[:, at.free_places], constant, size)
        slopes = matrix[self._which(matrix, len(full))]
        return residual.astype(full.dtype, copy=False), slopes.astype(full.dtype, copy=False), size

    def _limited(self, u: Array, last: Array, scale: float) -> Array:
        """Port voltages nearer to those of the last linearisation, where devices ask for it."""
        if not self.limits or np.abs(u - last).max(initial=0.0) <= HARMLESS:
            return u
        u, at = u.copy(), self.structure.laws
        for k, ports in zip(at.banks, at.ports, strict=True):
            limit = self.banks[k].device.limit
            if limit is not None:
                new, old = self._by_port(k, u[:, ports]), self._by_port(k, last[:, ports])
                new[...] = limit(self._parameters(k, scale), new, old)
        return u

    def _add(
        self, at: Places, law_of: LawOf, u: Array, full: Array, scale: float,
        total: Array, slopes: Array, size: Array,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Add the devices' values and slopes at port voltages u (b, p); returns the samples extrapolated."""
        limited = np.zeros(len(u), bool)
        if not at.banks:
            return limited
        f, s = (np.empty((len(u), length), full.dtype) for length in at.shape)
        for k, devices, ports in zip(at.banks, at.devices, at.ports, strict=True):
            law = law_of(self.banks[k])
            assert law is not None
            f[:, devices], self._by_port(k, s[:, ports])[...] = law(
                self._parameters(k, scale), self._by_port(k, u[:, ports])
            )
        kernels.stamp(
            f, s, u, full, at.first, at.second, at.device, at.rows, at.entries, total, slopes, size, limited
        )
        return limited

    def _by_port(self, k: int, values: Array) -> Array:
        """A bank's ports (b, ports * k) as a view (ports, b, k)."""
        bank = self.banks[k]
        return values.reshape(len(values), len(bank.terminals), len(bank.names)).swapaxes(0, 1)

    def _relax(self, r: Relaxation, full: Array, residual: Array, slopes: Array, size: Array) -> None:
        at, nodes = self.structure, self.structure.nodes
        shunt = np.array(np.broadcast_to(r.shunt, nodes))
        leak = shunt * (full[:, 1 : nodes + 1] - r.anchor)
        rows = at.row_of[1 : nodes + 1]
        kernels.scatter(leak, 1.0, rows, residual)
        kernels.scatter(np.abs(leak), 1.0, rows, size)
        kernels.scatter(shunt[None], 1.0, at.node_slots, slopes)
        if r.output_resistance and at.outputs.size:
            drop = r.output_resistance * full[:, at.outputs]
            kernels.scatter(drop, -1.0, at.row_of[at.outputs], residual)
            kernels.scatter(np.full((1, at.outputs.size), r.output_resistance), -1.0, at.output_slots, slopes)

    # -- after the solution ----------------------------------------------------------------------------

    def complete(self, x: Array, drive: Drive) -> None:
        """Write the eliminated sources' currents into x (b, size), by Kirchhoff's law at their nodes."""
        at = self.structure
        if not at.known.size:
            return
        x[:, at.known_branches] = 0.0
        full = self._full(x, drive)
        balance = np.zeros((len(x), at.nodes + 1), full.dtype)
        for current, ends in self._currents(full, drive):
            for sign, places in zip((1.0, -1.0), ends, strict=True):
                kernels.scatter(current, sign, places, balance)
        x[:, at.known_branches] = -at.known_signs * balance[:, at.known + 1]

    def _currents(self, full: Array, drive: Drive) -> Iterator[tuple[Array, NDArray[np.intp]]]:
        """Currents (b, k) and terminals (2, k) of the devices that touch a node fixed by a source."""
        fixed = np.zeros(full.shape[1], bool)
        fixed[self.structure.known + 1] = True
        for k, bank in enumerate(self.banks):
            if not fixed[bank.terminals[0]].any():
                continue
            if bank.branches is not None:
                yield full[:, bank.branches], bank.terminals[0]
                continue
            u = full[:, bank.terminals[:, 0]] - full[:, bank.terminals[:, 1]]
            source = bank.device.linear and bool(bank.device.source_parameters)
            p = self._source_values(k, drive.time, drive.scale) if source else self.parameters(k, drive.scale)
            f = bank.device.law(p, np.moveaxis(u, 1, 0))[0]
            yield np.ascontiguousarray(np.broadcast_to(f, (len(full), f.shape[-1]))), bank.terminals[0]

    def largest_conductance(self) -> float:
        """Largest slope di/du [S] of any device with its ports at 0, or of one that is off there when on."""
        largest = 0.0
        for k, bank in enumerate(self.banks):
            if bank.device.voltage_defined:
                continue
            values = self.parameters(k)
            slopes = [bank.device.law(values, np.zeros((len(bank.terminals), 1, len(bank.names))))[1]]
            if bank.device.conducting is not None:
                slopes.append(bank.device.conducting(values))
            largest = max(largest, *(float(np.abs(part).max()) for part in slopes))
        return largest or 1.0


def _law(bank: Bank) -> Law:
    return bank.device.law


def _storage(bank: Bank) -> Law | None:
    return bank.device.storage


def _pick(array: Array, rows: NDArray[np.intp] | None) -> Array:
    """Some samples of what is batched; all of what is not."""
    return array if rows is None or len(array) == 1 else array[rows]


def _enlarged(total: Array, slopes: Array) -> Array:
    """``total`` (b, m) with room for the batch and the dtype of ``slopes`` (…, b, k)."""
    batch = max(len(total), slopes.shape[-2])
    if batch == len(total) and np.can_cast(slopes.dtype, total.dtype):
        return total
    return np.array(np.broadcast_to(total, (batch, total.shape[1])), np.result_type(total, slopes))
