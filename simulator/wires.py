"""Crossbars with resistive wires, solved by their structure: every node voltage, or the transfer matrix.

    array = crossbar(128, 128, g, 1.0, 1.0)
    solution = array.solve(inputs)          # (batch, 128) [V]: node voltages, device and output currents
    outputs = inputs @ array.transfer().T   # the same outputs [A], by one matrix product

Device (i, j) joins node (i, j) of row wire i to node (i, j) of column wire j. A row wire is a chain: driver,
segment 0, node (i, 0), segment 1, node (i, 1), …, and, where it is driven from the right too, segment C. A
column wire runs from the top down and is sensed below node (R - 1, j) through segment R, and where it is
sensed at the top too, above node (0, j) through segment 0. By default drivers are on the left and sense
amplifiers at the bottom, behind one segment each and with nothing beyond the last device: the layout of
badcrossbar (Joksas and Mehonic, SoftwareX 12, 100617, 2020).

Method. Take the longer side of the array as K slices of n nodes. Each slice's own wire is a ladder and drops
out in closed form, which leaves the n wires that cross it with the dense admittance ``A_k = G - G N_k G`` to
ground, N_k the ladder's impedance matrix. From the far end inward, with R_k = diag(r) the segments between
slices k - 1 and k,

    Y_k = A_k + W_{k+1},     W_k = (Y_k^-1 + R_k)^-1 = Y_k - X^T X,

    L L^T = 1 + R_k^½ Y_k R_k^½,     X = L^-1 R_k^½ Y_k,

where W_k is the admittance that slice k - 1 sees beyond itself. Conductances of devices are never added to
those of wires, often a million times larger: R_k may be zero (a short), and no digit of a small drop is lost.
It takes K Cholesky factors of order n, about 7/3 K n³ operations and 16 K n² bytes (512 × 512: 2.1 GB). The
transfer matrix needs 16 n K + 40 n² bytes: its rows are swept along, and no factor is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import ThreadpoolController

from .cells import Cell, Diode, Linear, Selector, Sinh
from .netlist import GROUND, Netlist
from .operating_point import ConvergenceError
from .wire_kernels import Array, Elimination, Wires, largest_imbalance

__all__ = ["Cell", "Crossbar", "Diode", "Linear", "Selector", "Sinh", "WireSolution", "crossbar"]

MOST_STEPS = 200  # of Newton's method, for one sample
EPSILON = float(np.finfo(np.float64).eps)
LEAST = 1e-24  # [A], an electron in two days: less is no current
HALVINGS = 12  # of a limited step, to find where it ends
REUSE = 0.1  # a factor is kept while each step with it shrinks the mismatch at least this much


@dataclass(frozen=True, eq=False)
class WireSolution:
    """All of a crossbar at its operating points, for a batch of inputs."""

    row_voltages: Array  # (batch, R, C) [V], of the nodes on the row wires
    column_voltages: Array  # (batch, R, C) [V]
    currents: Array  # (batch, R, C) [A], through the devices from row to column
    outputs: Array  # (batch, C) [A], into the sense amplifiers; of both ends together where both sense
    residual: Array  # (batch,) [A], the largest |sum of currents| at any node of the arrays' equations
    steps: NDArray[np.intp]  # (batch,) steps of Newton's method; 1 with linear cells


@dataclass(frozen=True, eq=False)
class Crossbar:
    """R rows, C columns: devices g (R, C) [S] and the segments of all wires [Ω], ends included.

    Segments are at least 0; ``inf`` is a break, or at an end: no driver, no sense amplifier. :func:`crossbar`
    builds one. ``ValueError`` names what is out of range, and nodes that nothing connects to a terminal.
    """

    conductance: Array  # (R, C) [S]
    row_wire: Array  # (R, C + 1) [Ω], left to right
    column_wire: Array  # (R + 1, C) [Ω], top to bottom
    cell: Cell = field(default_factory=Linear)

    def __post_init__(self) -> None:
        rows, columns = np.shape(self.conductance)
        checks = (("conductance", "S", (rows, columns), False), ("row_wire", "Ω", (rows, columns + 1), True),
                  ("column_wire", "Ω", (rows + 1, columns), True))  # fmt: skip
        for name, unit, shape, unbounded in checks:
            values = _broadcast(name, getattr(self, name), shape)
            _nonnegative(name, values, unit, unbounded)
            object.__setattr__(self, name, values)
        self._check_connected()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, columns = self.conductance.shape
        return rows, columns

    def solve(self, inputs: ArrayLike, *, tolerance: float = 1e-12) -> WireSolution:
        """Operating points under ``inputs`` (batch, R) or (R,) [V], the voltages of the rows' drivers.

        Nonlinear cells by Newton's method, sample by sample, until the current of every device agrees with
        its law to ``tolerance`` of the largest; ``ConvergenceError`` where it does not. BLAS runs on one
        thread; blocks of this size gain nothing from more, and lose much where cores are busy.
        """
        rows, _ = self.shape
        u = np.atleast_2d(np.asarray(inputs, np.float64))
        if u.ndim != 2 or not len(u) or u.shape[1] != rows or not np.isfinite(u).all():
            raise ValueError(f"inputs have shape {np.shape(inputs)}; give finite volts (batch, {rows})")
        wires = Wires.of(self.row_wire, self.column_wire)
        g = wires.oriented(self.conductance)
        with _blas().limit(limits=1, user_api="blas"):
            if isinstance(self.cell, Linear):
                v, w = Elimination(wires, g).factored().solve(*wires.terminals(u))
                return self._solution(wires, v, w, u, np.ones(len(u), np.intp))
            samples = [
                _relax(wires, self.cell, g, *wires.terminals(u[b : b + 1]), tolerance) for b in range(len(u))
            ]
        v, w = (np.concatenate([sample[k] for sample in samples], axis=2) for k in (0, 1))
        return self._solution(wires, v, w, u, np.array([sample[2] for sample in samples], np.intp))

    def transfer(self) -> Array:
        """(C, R) [S]: ``outputs = inputs @ transfer.T``, at the cost of one or two factorizations.

        Linear cells only (``ValueError``). The adjoint equations are solved for the outputs of slice after
        slice while those are eliminated, so that no factor is stored. With slices along the rows the same
        sweep gives currents into row drivers for a volt on each column: by reciprocity, the transpose.
        """
        if not isinstance(self.cell, Linear):
            raise ValueError(f"transfer: cells are {self.cell}; only linear ones have a transfer matrix")
        wires = Wires.of(self.row_wire, self.column_wire)
        with _blas().limit(limits=1, user_api="blas"):
            matrix = Elimination(wires, wires.oriented(self.conductance)).transfer()
        return matrix if wires.upright else matrix.T.copy()

    def netlist(self, inputs: ArrayLike) -> Netlist:
        """The same circuit, flat, for the netlist engine and SPICE, under ``inputs`` (R,) [V].

        Nodes ``in{i}``, ``r{i}_{j}``, ``c{i}_{j}`` and ``out{j}``, shorted ones under one name; the cell at a
        crossing is ``Rg{i}_{j}``, ``Dg{i}_{j}`` or ``Bg{i}_{j}``; output j is the current of the 0 V source
        ``Vs{j}``.
        """
        rows, columns = self.shape
        net = Netlist(f"crossbar {rows} x {columns}")
        node: dict[tuple[str, int, int], str] = {}
        for i, volts in enumerate(np.broadcast_to(np.asarray(inputs, np.float64), (rows,)).tolist()):
            net.voltage_source(f"V{i}", f"in{i}", GROUND, volts)
            names = _chain(net, f"Rr{i}", f"in{i}", [f"r{i}_{j}" for j in range(columns)], self.row_wire[i])
            node.update({("r", i, j): name for j, name in enumerate(names)})
        for j in range(columns):
            net.voltage_source(f"Vs{j}", f"out{j}", GROUND, 0.0)
            names = _chain(
                net, f"Rc{j}", f"out{j}", [f"c{i}_{j}" for i in range(rows)], self.column_wire[:, j]
            )
            node.update({("c", i, j): name for i, name in enumerate(names)})
        for (i, j), g in np.ndenumerate(self.conductance):
            self.cell.join(net, f"g{i}_{j}", node["r", i, j], node["c", i, j], float(g))
        return net

    def _solution(
        self, wires: Wires, v: Array, w: Array, inputs: Array, steps: NDArray[np.intp]
    ) -> WireSolution:
        """Answers in the array's own orientation, and their certificate."""
        back = (2, 1, 0) if wires.upright else (2, 0, 1)
        row, column = (np.transpose(values, back) for values in ((v, w) if wires.upright else (w, v)))
        currents = self.cell(self.conductance, row - column)[0]
        residual = np.zeros(len(inputs))
        ground = np.zeros((self.shape[1], len(inputs)))
        largest_imbalance(
            self.row_wire, inputs.T, row.transpose(1, 2, 0), currents.transpose(1, 2, 0), residual
        )
        largest_imbalance(
            self.column_wire.T, ground, column.transpose(2, 1, 0), -currents.transpose(2, 1, 0), residual
        )
        return WireSolution(row, column, currents, currents.sum(axis=1), residual, steps)

    def _check_connected(self) -> None:
        """Every node has a path to a driver or a sense amplifier."""
        rows, columns = self.shape
        node = np.arange(1, 2 * rows * columns + 1).reshape(2, rows, columns)
        lines = np.pad(node[0], ((0, 0), (1, 1))), np.pad(node[1], ((1, 1), (0, 0)))  # 0: the terminals
        edges = [
            (lines[0][:, :-1], lines[0][:, 1:], np.isfinite(self.row_wire)),
            (lines[1][:-1], lines[1][1:], np.isfinite(self.column_wire)),
            (node[0], node[1], self.conductance > 0.0),
        ]
        a, b = (np.concatenate([edge[end][edge[2]] for edge in edges]) for end in (0, 1))
        graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(node.size + 1,) * 2)
        part = connected_components(graph, directed=False)[1]
        adrift = np.argwhere(part[1:].reshape(node.shape) != part[0])
        if len(adrift):
            which, i, j = adrift[0]
            wire = ("row", "column")[which]
            raise ValueError(
                f"floating: {len(adrift)} nodes, the first at ({i}, {j}) of a {wire} wire, lack a path "
                "to a driver or sense amplifier: close a segment, or give a device above 0 S"
            )


def crossbar(
    rows: int, columns: int, g: ArrayLike, r_row: ArrayLike, r_col: ArrayLike, *,
    drive: str = "left", sense: str = "bottom", r_driver: ArrayLike = 0.0, r_sense: ArrayLike = 0.0,
    cell: Cell | None = None,
) -> Crossbar:  # fmt: skip
    """A crossbar of devices ``g`` (rows, columns) [S]; everything broadcasts.

    ``r_row`` (rows, columns + 1) and ``r_col`` (rows + 1, columns) are the segments [Ω], those to the
    terminals included (see the module's first lines): 0 is a short, inf a break. ``drive`` is left, right or
    both, ``sense`` bottom, top or both; each end in use has one driver of ``r_driver`` (rows,), or one load
    ``r_sense`` (columns,) [Ω] to ground, in series with its segment. 0 makes a sense end a virtual ground.
    """
    ends = {"left": (True, False), "right": (False, True), "both": (True, True),
            "top": (True, False), "bottom": (False, True)}  # fmt: skip
    if drive not in ("left", "right", "both") or sense not in ("bottom", "top", "both"):
        raise ValueError(
            f"drive={drive!r}, sense={sense!r}: give left, right or both, and bottom, top or both"
        )
    row_wire = _broadcast("r_row", r_row, (rows, columns + 1))
    column_wire = _broadcast("r_col", r_col, (rows + 1, columns))
    drivers = _broadcast("r_driver", r_driver, (rows,))
    loads = _broadcast("r_sense", r_sense, (columns,))
    for k, driven, sensed in zip((0, -1), ends[drive], ends[sense], strict=True):
        row_wire[:, k] = row_wire[:, k] + drivers if driven else np.inf
        column_wire[k] = column_wire[k] + loads if sensed else np.inf
    return Crossbar(_broadcast("g", g, (rows, columns)), row_wire, column_wire, cell or Linear())


def _relax(
    wires: Wires, cell: Cell, g: Array, across: Array, along: Array | None, tolerance: float
) -> tuple[Array, Array, int]:
    """One sample by Newton's method: node voltages (K, n, 1), steps; g (K, n), terminals (n, 1), (K, 1).

    It starts from devices that take the whole voltage of their terminals, or the current that their wires
    would carry if that is less. A factor is kept for as long as it shrinks the mismatch fast.
    """
    sign = 1.0 if wires.upright else -1.0  # device voltage = sign (across - along)
    whole = np.broadcast_to(sign * (across.T if along is None else across.T - along), g.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        drop = _carrying(cell, g, np.zeros_like(g), whole, whole / wires.series)
    elimination, mismatch = None, np.inf
    for step in range(1, MOST_STEPS + 1):
        current, slope = cell(g, drop)
        if elimination is None:
            elimination = Elimination(wires, slope).factored()
        source = current - elimination.g * drop
        v, w = elimination.solve(across, along, -sign * source[..., None])
        reached = sign * (v - w)[..., 0]
        expected = source + elimination.g * reached
        with np.errstate(over="ignore"):
            actual = cell(g, reached)[0]
            before, mismatch = mismatch, float(np.abs(actual - expected).max())
            nothing = LEAST + EPSILON * float(np.abs(whole).max() * slope.max())  # from rounded volts
            if mismatch <= tolerance * float(np.abs(expected).max()) + nothing:
                return v, w, step
            drop = _carrying(cell, g, drop, reached, expected)
        if mismatch > REUSE * before:
            elimination = None
    raise ConvergenceError(
        f"a crossbar of {cell}: after {MOST_STEPS} steps a device's current is {mismatch:g} A off its law; "
        f"the tolerance is {tolerance:g} of the largest current"
    )


def _carrying(cell: Cell, g: Array, start: Array, end: Array, current: Array) -> Array:
    """Voltages from ``start`` to ``end`` [V] at which devices carry ``current`` [A]; ``end`` if none do.

    This limits a step of Newton's method: where a law is steeper than its tangent, the tangent's current is
    the better guess than its voltage, as in SPICE's limiting of junctions, but for any law.
    """
    way = end - start
    low, high = np.zeros_like(way), np.ones_like(way)
    beyond = (cell(g, end)[0] - current) * way > 0.0
    if not beyond.any():
        return end
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        over = (cell(g, start + middle * way)[0] - current) * way > 0.0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where(beyond, start + 0.5 * (low + high) * way, end)


@functools.cache
def _blas() -> ThreadpoolController:
    """Looked for once: finding the libraries takes as long as solving a small array."""
    return ThreadpoolController()


def _chain(net: Netlist, name: str, terminal: str, nodes: Sequence[str], segments: Array) -> list[str]:
    """Add one wire's segments between ``nodes``, its terminal at both ends; the nodes' names after shorts."""
    names = [terminal, *nodes, terminal]
    for k in range(1, len(names) - 1):
        if segments[k - 1] == 0.0:
            names[k] = names[k - 1]
    if segments[-1] == 0.0:
        names = [terminal if node == names[-2] else node for node in names]
    for k, ohms in enumerate(segments.tolist()):
        if ohms > 0.0 and np.isfinite(ohms) and names[k] != names[k + 1]:
            net.resistor(f"{name}_{k}", names[k], names[k + 1], conductance=1.0 / ohms)
    return names[1:-1]


def _broadcast(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """A copy of ``values`` in that shape."""
    try:
        return np.broadcast_to(np.asarray(values, np.float64), shape).copy()
    except ValueError:
        raise ValueError(f"{name} has shape {np.shape(values)}; give what broadcasts to {shape}") from None


def _nonnegative(name: str, values: Array, unit: str, unbounded: bool) -> None:
    """Every value at least 0, and finite unless ``unbounded``."""
    bad = ~(values >= 0.0) if unbounded else ~((values >= 0.0) & np.isfinite(values))
    if bad.any():
        where = tuple(np.argwhere(bad)[0].tolist())
        allowed = "at least 0, inf for a break" if unbounded else "finite and at least 0"
        raise ValueError(f"{name}{list(where)} is {values[where]:g} {unit}; give a value {allowed}")
