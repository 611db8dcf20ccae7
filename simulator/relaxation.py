"""The accelerated equilibrium: block relaxation, colour by colour, with Anderson acceleration.

A sweep settles the layers of one colour against the others, in turn (for a layered chip: even layers
given odd ones, and back). The iterate is the ports of every colour but the first, which the first
sweep step derives from them. Anderson's acceleration mixes the last few sweeps, sample by sample
(Walker and Ni 2011; for EP: Goemaere et al. 2023). A sample that has settled leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import kernels, neurons
from .blocks import Array, BlockCircuit, multiply, strips

WINDOW = 3  # differences kept by Anderson's acceleration, two at first: more gains nothing on these circuits
NudgeCurrent = Callable[[Array, Array], Array]
"""(ports of the output layer (m, n_out) [V], their rows in the batch (m,)) -> current (m, n_out) [A]."""


@dataclass
class Relaxed:
    """Settled states: ``voltages``, ``ports`` (batch, N) [V], and per sample the number of ``sweeps``, and
    whether it ``settled``.
    """

    voltages: Array
    ports: Array
    sweeps: Array
    settled: Array


def relax(
    circuit: BlockCircuit,
    injected: Array,
    *,
    start: Array | None = None,
    nudge: NudgeCurrent | None = None,
    tolerance: float = 1e-5,
    max_sweeps: int = 200,
    window: int = WINDOW,
) -> Relaxed:
    """Equilibria of ``circuit`` under ``injected`` (batch, N) [A], from the ports ``start`` (batch, N).

    Without a ``start``, from where inputs and biases alone would take each neuron, which saves a sweep where
    the inputs reach the iterate. A sample has settled when a whole sweep moves no port of the iterate (of
    every colour but the first, which the sweep derives from them) by more than ``tolerance`` of full swing.
    ``window = 0`` switches the acceleration off. Raises ValueError for arrays of another shape, and for
    options out of range.
    """
    _check_shapes(circuit.size, injected=injected, start=injected if start is None else start)
    _check_options(tolerance, max_sweeps, window)
    load = circuit.load[np.newaxis]
    scale = np.full(len(injected), circuit.swing, circuit.dtype)
    law = neurons.LAWS[circuit.law]
    return _iterate(circuit, injected, start, law, load, scale, nudge, tolerance, max_sweeps, window)


def solve_linear(
    circuit: BlockCircuit,
    slopes: Array,
    rhs: Array,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 200,
    scale: float | None = None,
) -> Array:
    """Solve ``(W - diag(load / slopes)) x = rhs`` for every sample, by the same relaxation.

    ``slopes`` and ``rhs`` are (batch, N); with ``circuit.transposed()`` this is the adjoint's equation.
    ``tolerance`` is relative to ``scale``, by default each solution's own. Samples that do not converge,
    where the equilibrium itself is not one that relaxation finds, are solved densely. Raises ValueError as
    :func:`relax` does.
    """
    _check_shapes(circuit.size, rhs=rhs, slopes=slopes)
    _check_options(tolerance, max_sweeps, WINDOW)
    load = circuit.load / slopes
    size = np.abs(rhs / load).max(axis=1, keepdims=True)
    if scale is not None:
        size[...] = scale
    size[size == 0] = 1
    rhs = rhs / size  # to unit scale, far from underflow
    units = np.ones(len(rhs), circuit.dtype)
    found = _iterate(
        circuit, -rhs, None, kernels.LINEAR, load, units, None, tolerance, max_sweeps, WINDOW
    )  # fmt: skip
    solution = found.ports
    unsettled = np.flatnonzero(~found.settled)
    if unsettled.size:
        dense = circuit.dense().astype(np.float64)
        for row in unsettled:
            solution[row] = np.linalg.solve(dense - np.diag(load[row]), rhs[row])
    solution *= size
    return solution


def _check_shapes(size: int, **arrays: Array) -> None:
    """All (batch, size) and of one batch: the kernels take that for granted."""
    first = next(iter(arrays))
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape != (len(arrays[first]), size):
            raise ValueError(
                f"{name} has shape {array.shape}; it must be (batch, {size}), a value for each node of the "
                f"circuit, with as many rows as {first}"
            )


def _check_options(tolerance: float, max_sweeps: int, window: int) -> None:
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}; it must be above 0 and finite, such as 1e-5")
    for name, value, least in (("max_sweeps", max_sweeps, 1), ("window", window, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be a whole number, at least {least}")


def _iterate(
    circuit: BlockCircuit,
    injected: Array,
    start: Array | None,
    law: int,
    load: Array,
    scale: Array,
    nudge: NudgeCurrent | None,
    tolerance: float,
    max_sweeps: int,
    window: int,
) -> Relaxed:
    batch, size = injected.shape
    dtype = np.result_type(injected, circuit.dtype)
    first = circuit.derived  # the iterate's first node
    voltages, settled_ports = np.empty((batch, size), dtype), np.empty((batch, size), dtype)
    count, status, rows = np.zeros(batch, np.int64), np.zeros(batch, np.int64), np.arange(batch)
    ports, nodes, *history = _workspace(circuit, (batch, size, size - first, window), dtype)
    sweep = _Sweep(circuit, injected, law, 1 / load, nudge)
    if start is None:
        sweep.undriven(ports, rows, first, nodes)
    else:
        ports[...] = start
        if nudge is not None:
            sweep.output(ports, rows, nodes)
    history[0][0] = ports[:, first:]  # the iterate

    active = batch
    while active:
        sweep(ports[:active], rows[:active], nodes)
        active = kernels.anderson(
            ports, nodes, rows[:active], first, scale, tolerance, max_sweeps, settled_ports, voltages,
            count, status, *history,
        )  # fmt: skip
    return Relaxed(voltages, settled_ports, count, status == 1)


def _workspace(circuit: BlockCircuit, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> list[Array]:
    """Scratch arrays of a relaxation, kept with the circuit: fresh ones would cost more than they hold."""
    key = (*shape, dtype)
    if key not in circuit.scratch:
        batch, size, width, window = shape
        exact = np.promote_types(dtype, np.float64)
        kept = window + 1
        shapes = [*[(batch, size)] * 2, *[(kept, batch, width)] * 2]
        small = [(batch, kept, kept), (kept + 1, kept), (kept,)]
        if len(circuit.scratch) >= 4:
            circuit.scratch.clear()
        circuit.scratch[key] = [np.empty(s, dtype) for s in shapes] + [np.empty(s, exact) for s in small]
    return circuit.scratch[key]


class _Sweep:
    """One pass over all colours for the active samples."""

    def __init__(
        self, circuit: BlockCircuit, injected: Array, law: int, resistance: Array,
        nudge: NudgeCurrent | None,
    ) -> None:  # fmt: skip
        self.circuit, self.injected, self.nudge = circuit, injected, nudge
        limits = np.array([circuit.low, circuit.swing, circuit.knee], circuit.dtype)
        self.curve = (law, resistance, limits, circuit.gain, circuit.offset)
        self.product = multiply if np.iscomplexobj(injected) else np.matmul
        self.active = -1

    def _bind(self, ports: Array, nodes: Array) -> None:
        """Views of the active samples for every product, made anew only when samples have left."""
        circuit, self.active = self.circuit, len(ports)
        nodes = nodes[: self.active]
        self.nodes, self.colours = nodes, []
        for members in circuit.colours:
            products = []
            for k in members:
                fan, where = circuit.fan_in[k], circuit.slices[k]
                drivers, column, weight = ports[:, fan.lo : fan.hi], nodes[:, where], fan.weight.T
                # a complex product is two real ones, made from a copy: once, not once a strip
                several = strips(self.active, *weight.shape) if self.product is np.matmul else [slice(None)]
                cut = [(drivers, weight[:, s], column[:, s]) for s in several]
                nudged = self.nudge is not None and where == circuit.output
                products.append((cut, column, ports[:, where] if nudged else None))
            first, last = circuit.slices[members[0]].start, circuit.slices[members[-1]].stop
            self.colours.append((products, first, last))

    def undriven(self, ports: Array, rows: Array, first: int, nodes: Array) -> None:
        """Settle the nodes from ``first`` on, those of the iterate, on their injected currents alone."""
        nodes[:, first:] = 0
        kernels.activate(nodes, self.injected, rows, first, ports.shape[1], *self.curve, ports)

    def output(self, ports: Array, rows: Array, nodes: Array) -> None:
        """Settle the output layer alone: all that a first sweep under a nudge moves, from an equilibrium."""
        fan, where = self.circuit.fan_in[len(self.circuit.sizes) - 1], self.circuit.output
        self.product(ports[:, fan.lo : fan.hi], fan.weight.T, nodes[:, where])
        assert self.nudge is not None
        nodes[:, where] += self.nudge(ports[:, where], rows)
        kernels.activate(nodes, self.injected, rows, where.start, where.stop, *self.curve, ports)

    def __call__(self, ports: Array, rows: Array, nodes: Array) -> None:
        """``nodes`` (m, N) takes the synapses' currents [A], and then the voltages."""
        if len(rows) != self.active:
            self._bind(ports, nodes)
        for products, first, last in self.colours:
            for cut, column, outputs in products:
                for factors in cut:
                    self.product(*factors)
                if outputs is not None and self.nudge is not None:
                    column += self.nudge(outputs, rows)
            kernels.activate(self.nodes, self.injected, rows, first, last, *self.curve, ports)
