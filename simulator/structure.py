"""Where a netlist's devices stand in its equations: unknowns, sparsity pattern, places of every stamp.

All of it depends on the topology alone. Nodes that a grounded voltage source fixes are no unknowns, and
neither is that source's current, unless a device is controlled by it: circuits with many inputs become
small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .banks import Bank, NetlistError
from .devices import Array
from .factorization import SparseSolver
from .netlist import Netlist
from .sparse_kernels import compress, scatter

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Stamp:
    """One bank's places: rows of the equations, and entries of the two patterns.

    A current leaves its first node's row and enters its second's; a constraint has one row. Of all groups
    (sign, row or port, places (k,)) only those with an unknown are kept; a negative place is none.
    """

    rows: tuple[tuple[float, Index], ...]
    entries: tuple[tuple[float, int, Index], ...]  # by the unknowns
    known_entries: tuple[tuple[float, int, Index], ...]  # by the known voltages

    def add_values(self, f: Array, out: Array) -> None:
        """``f`` (b, k) into rows ``out`` (b, n)."""
        for sign, rows in self.rows:
            scatter(f, sign, rows, out)

    def add_slopes(self, slopes: Array, out: Array) -> None:
        """``slopes`` (ports, b, k) into ``out`` (b, nnz)."""
        for sign, port, places in self.entries:
            scatter(slopes[port], sign, places, out)

    def add_known_slopes(self, slopes: Array, out: Array) -> None:
        """Likewise, for the pattern of known voltages."""
        for sign, port, places in self.known_entries:
            scatter(slopes[port], sign, places, out)


@dataclass(frozen=True, eq=False)
class Places:
    """Where some banks' values and slopes stand, side by side, so that one pass over all sums them.

    Devices (m,) come bank by bank, ports (p,) bank by bank and port by port; a slope belongs to a port.
    """

    banks: tuple[int, ...]
    devices: tuple[slice, ...]  # of each bank
    ports: tuple[slice, ...]  # of each bank
    first: Index  # (p,) ends of each port in the full vector
    second: Index
    device: Index  # (p,) whose port it is
    rows: Index  # (2, m) that a value leaves, and enters
    entries: Index  # (4, p) of a slope: +, -, -, +

    @property
    def shape(self) -> tuple[int, int]:
        """Devices, ports."""
        return self.rows.shape[1], len(self.first)


class Pattern:
    """A sparse pattern in compressed columns, from the positions (rows, columns) of several sets of entries.

    ``slots`` are the places of each set's entries in the pattern; negative rows or columns have none.
    """

    def __init__(self, positions: Sequence[tuple[Index, Index]], shape: tuple[int, int]) -> None:
        height, width = shape
        row, column = (np.concatenate([np.empty(0, np.intp), *part]) for part in zip(*positions, strict=True))
        self.starts = np.empty(width + 1, np.intp)
        indices, slots = np.empty((2, len(row)), np.intp)
        self.nnz = int(compress(row, column, height, self.starts, indices, slots))
        self.indices = indices[: self.nnz].copy()
        self.slots = np.split(slots, np.cumsum([len(rows) for rows, _ in positions])[:-1])


class Structure:
    """Unknowns and pattern of a netlist.

    A full solution x (size,) holds the node voltages and then all branch currents; ``free`` are its places
    that are solved for, in the order of rows and columns of the equations, ``known`` the nodes fixed by the
    voltage sources ``known_sources`` (places in their bank) with ``known_signs``.
    """

    def __init__(self, net: Netlist, *, eliminate: bool = True) -> None:
        self.net, self.banks = net, net.banks
        self.node_names, self.branch_names = net.nodes, net.branches
        self.nodes = len(self.node_names)
        self.size = self.nodes + len(self.branch_names)
        self._find_known(eliminate)
        places = np.arange(self.size + 2)  # of the full vector: ground, x, time
        solved = np.ones(self.size + 2, bool)
        solved[[0, -1]] = solved[self.known + 1] = solved[self.known_branches + 1] = False
        self.free = places[solved] - 1
        self.free_places = self.free + 1  # in the full vector
        self.free_nodes = int(np.sum(self.free < self.nodes))
        self.row_of = np.full(self.size + 2, -1, np.intp)  # place in the full vector -> row
        self.row_of[solved] = np.arange(len(self.free))
        self._find_places()
        self.nominal: tuple[Array, ...] | None = None  # linear parts of the equations at the netlist's values

    def _find_known(self, eliminate: bool) -> None:
        sensed = np.zeros(self.size + 2, bool)
        for bank in self.banks:
            sensed[bank.terminals[1:].ravel()] = True
        sources = [bank for bank in self.banks if bank.kind == "voltage_source"]
        empty = np.empty(0, np.intp)
        self.known, self.known_branches, self.known_sources, self.known_signs = empty, empty, empty, empty
        if not sources or not eliminate:
            return
        (bank,) = sources
        assert bank.branches is not None
        a, b = bank.terminals[0]
        grounded = ((a == 0) != (b == 0)) & ~sensed[bank.branches]
        node = np.maximum(a, b)
        _, first = np.unique(node[grounded], return_index=True)  # of sources in parallel, one
        self.known_sources = np.flatnonzero(grounded)[np.sort(first)]
        self.known = node[self.known_sources] - 1
        self.known_signs = np.where(b[self.known_sources] == 0, 1, -1)
        self.known_branches = bank.branches[self.known_sources] - 1

    def _find_places(self) -> None:
        """Patterns of the equations' slopes, by the unknowns and by the known voltages."""
        column_of_known = np.full(self.size + 2, -1, np.intp)
        column_of_known[self.known + 1] = np.arange(len(self.known))
        n = len(self.free)
        nodes, outputs = self.row_of[1 : self.nodes + 1], self._outputs()
        rows = [self._rows(bank) for bank in self.banks]
        by_bank = [_entries(bank, row, self.row_of) for bank, row in zip(self.banks, rows, strict=True)]
        branch, diagonals = self._branch_entries(), [(nodes, nodes), (outputs, outputs)]
        self.pattern = Pattern([*by_bank, branch, *diagonals], (n, n))
        *slots, self.branch_slots, self.node_slots, self.output_slots = self.pattern.slots
        by_known = [_entries(bank, row, column_of_known) for bank, row in zip(self.banks, rows, strict=True)]
        self.known_pattern = Pattern([*by_known, (nodes[:0], nodes[:0])], (n, len(self.known)))
        known_slots = self.known_pattern.slots[:-1]
        self.stamps = tuple(map(_stamp, self.banks, rows, slots, known_slots))
        nonlinear = [k for k, bank in enumerate(self.banks) if not bank.device.linear]
        storing = [k for k in nonlinear if self.banks[k].device.storage is not None]
        self.laws, self.storages = (_places(self.banks, rows, slots, which) for which in (nonlinear, storing))

    def _rows(self, bank: Bank) -> Index:
        """Rows that a bank's values enter: (2, k) of its nodes for currents, (1, k) for constraints."""
        rows: Index = self.row_of[bank.terminals[0] if bank.branches is None else bank.branches[None]]
        return rows

    def _branch_entries(self) -> tuple[Index, Index]:
        """Positions of the branch currents in Kirchhoff's law: all first nodes, then all second ones."""
        defined = [bank for bank in self.banks if bank.branches is not None]
        ends = [np.empty((2, 0), np.intp), *(bank.terminals[0] for bank in defined)]
        own = [np.empty(0, np.intp), *(bank.branches for bank in defined if bank.branches is not None)]
        return self.row_of[np.concatenate(ends, axis=1)].ravel(), np.tile(self.row_of[np.concatenate(own)], 2)

    def _outputs(self) -> Index:
        """Rows of the nonlinear voltage-defined devices, which continuations give a resistance."""
        own = [bank.branches for bank in self.banks if bank.branches is not None and not bank.device.linear]
        self.outputs = np.concatenate([np.empty(0, np.intp), *own])  # in the full vector
        rows: Index = self.row_of[self.outputs]
        return rows

    @cached_property
    def solver(self) -> SparseSolver:
        """Factorizes matrices of the pattern; analysed once, at the first."""
        return SparseSolver(self.pattern.starts, self.pattern.indices)

    @cached_property
    def not_analytic(self) -> tuple[str, ...]:
        """Names of the devices that refuse complex voltages."""
        return tuple(
            name
            for bank in self.banks
            if not (bank.device.analytic and (bank.expression is None or bank.expression.analytic))
            for name in bank.names
        )

    def check_analytic(self) -> None:
        """Raise a :class:`NetlistError` if a device refuses complex voltages."""
        if self.not_analytic:
            name = self.not_analytic[0]
            raise NetlistError(
                f"{name}: a {self.net.kind(name)} that is not analytic takes no complex values: use ekv for "
                "mosfet, and smooth functions for abs, min, max and switches"
            )

    @property
    def branch_signs(self) -> Array:
        """Values of ``branch_slots``."""
        half = len(self.branch_slots) // 2
        return np.concatenate([np.ones(half), -np.ones(half)])


def _entries(bank: Bank, rows: Index, column_of: Index) -> tuple[Index, Index]:
    """Positions of a bank's slopes: row by row, port by port, first and second end."""
    ends = bank.terminals.reshape(-1, len(bank.names))  # (ports * 2, k)
    columns = np.tile(column_of[ends], (len(rows), 1))
    return np.repeat(rows, len(ends), axis=0).ravel(), columns.ravel()


def _stamp(bank: Bank, rows: Index, slots: Index, known_slots: Index) -> Stamp:
    signs = (1.0, -1.0)[: len(rows)]
    groups = [
        (sign * end, port) for sign in signs for port in range(len(bank.terminals)) for end in (1.0, -1.0)
    ]

    def kept(places: Index) -> tuple[tuple[float, int, Index], ...]:
        parts = zip(groups, places.reshape(len(groups), -1), strict=True)
        return tuple((sign, port, part.copy()) for (sign, port), part in parts if (part >= 0).any())

    heads = tuple((sign, row.copy()) for sign, row in zip(signs, rows, strict=True) if (row >= 0).any())
    return Stamp(heads, kept(slots), kept(known_slots))


def _places(banks: Sequence[Bank], rows: Sequence[Index], slots: Sequence[Index], which: list[int]) -> Places:
    devices, ports, owner = [], [], [np.empty(0, np.intp)]
    ends, heads, entries = ([np.empty((n, 0), np.intp)] for n in (2, 2, 4))
    m, p = 0, 0
    for k in which:
        count, size = len(banks[k].terminals), len(banks[k].names)
        devices.append(slice(m, m + size))
        ports.append(slice(p, p + count * size))
        owner.append(np.tile(np.arange(m, m + size), count))
        ends.append(np.moveaxis(banks[k].terminals, 1, 0).reshape(2, -1))
        heads.append(_padded(rows[k], 2))
        own = slots[k].reshape(len(rows[k]), count, 2, size)
        entries.append(_padded(np.moveaxis(own, 2, 1).reshape(-1, count * size), 4))
        m, p = m + size, p + count * size
    first, second = np.concatenate(ends, axis=1)
    return Places(
        tuple(which), tuple(devices), tuple(ports), first, second, np.concatenate(owner),
        np.concatenate(heads, axis=1), np.concatenate(entries, axis=1),
    )  # fmt: skip


def _padded(places: Index, height: int) -> Index:
    """With rows of no place: a constraint has one row only."""
    return np.pad(places, ((0, height - len(places)), (0, 0)), constant_values=-1)
