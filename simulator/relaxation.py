"""The accelerated equilibrium: block relaxation, colour by colour, with Anderson acceleration.

A sweep settles the layers of one colour against the others, in turn (for a layered chip: even layers
given odd ones, and back). The iterate is the ports of every colour but the first, which the first
sweep step derives from them. Anderson's acceleration mixes the last few sweeps, sample by sample
(Walker and Ni 2011; for EP: Goemaere et al. 2023). A sample that has settled leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import kernels, neurons
from .blocks import Array, BlockCircuit

WINDOW = 4  # differences kept by Anderson's acceleration: more gains nothing on these circuits
NudgeCurrent = Callable[[Array, Array], Array]
"""(ports of the output layer (m, n_out) [V], their rows in the batch (m,)) -> current (m, n_out) [A]."""


@dataclass
class Relaxed:
    """Settled states: ``voltages``, ``ports`` (batch, N) [V], and per sample the ``change`` of the last
    sweep [V], the number of ``sweeps``, and whether it ``settled``.
    """

    voltages: Array
    ports: Array
    change: Array
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

    A sample has settled when a whole sweep moves no port by more than ``tolerance`` of full swing.
    ``window = 0`` switches the acceleration off.
    """
    ports = np.empty(injected.shape, np.result_type(injected, circuit.dtype))
    ports[...] = circuit.ports(np.zeros(circuit.size, circuit.dtype))[0] if start is None else start
    load = circuit.load[np.newaxis]
    scale = np.full(len(injected), circuit.swing, circuit.dtype)
    law = neurons.LAWS[circuit.law]
    return _iterate(circuit, injected, ports, law, load, scale, nudge, tolerance, max_sweeps, window)


def solve_linear(
    circuit: BlockCircuit,
    slopes: Array,
    rhs: Array,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 200,
) -> Array:
    """Solve ``(W - diag(load / slopes)) x = rhs`` for every sample, by the same relaxation.

    ``slopes`` and ``rhs`` are (batch, N); with ``circuit.transposed()`` this is the adjoint's equation.
    ``tolerance`` is relative to each solution's scale. Samples that do not converge, where the
    equilibrium itself is not one that relaxation finds, are solved densely.
    """
    load = circuit.load / slopes
    first_guess = -rhs / load
    scale = np.abs(first_guess).max(axis=1)
    scale[scale == 0] = 1
    found = _iterate(
        circuit, -rhs, np.zeros_like(rhs), kernels.LINEAR, load, scale, None, tolerance, max_sweeps, WINDOW
    )  # fmt: skip
    solution = found.ports
    unsettled = np.flatnonzero(~found.settled)
    if unsettled.size:
        dense = circuit.dense().astype(np.float64)
        for row in unsettled:
            solution[row] = np.linalg.solve(dense - np.diag(load[row]), rhs[row])
    return solution


def _iterate(
    circuit: BlockCircuit,
    injected: Array,
    ports: Array,
    law: int,
    load: Array,
    scale: Array,
    nudge: NudgeCurrent | None,
    tolerance: float,
    max_sweeps: int,
    window: int,
) -> Relaxed:
    batch, size = ports.shape
    dtype = ports.dtype
    derived = circuit.colours[0] if len(circuit.colours) > 1 else ()  # a single colour is the iterate itself
    first = sum(circuit.sizes[k] for k in derived)
    width = size - first
    voltages, settled_ports = np.zeros((batch, size), dtype), ports.copy()
    change, count = np.full(batch, np.inf, circuit.dtype), np.zeros(batch, np.int64)
    status, rows = np.zeros(batch, np.int64), np.arange(batch)
    x = ports[:, first:].copy()
    columns = {k: np.empty((batch, n), dtype) for k, n in enumerate(circuit.sizes)}
    history = [np.zeros((batch, width), dtype) for _ in range(2)]
    history += [np.zeros((batch, window, width), dtype) for _ in range(2)]
    exact = np.promote_types(dtype, np.float64)
    gram = np.zeros((batch, window, window), exact)
    work, coefficients = np.zeros((window, window), exact), np.zeros(window, exact)
    sweep = _Sweep(circuit, injected, law, load, nudge, voltages)

    active = batch
    for _ in range(max_sweeps):
        sweep(ports[:active], rows[:active], columns)
        active = kernels.anderson(
            ports, x, rows[:active], first, scale, tolerance, window, settled_ports, count, status,
            change, *history, gram, work, coefficients,
        )  # fmt: skip
        if not active:
            break
    left = rows[:active]  # `ports` holds their next iterates by now: give them those of their voltages
    settled_ports[left] = voltages[left] if law == kernels.LINEAR else circuit.ports(voltages[left])[0]
    return Relaxed(voltages, settled_ports, change, count, status == 1)


class _Sweep:
    """One pass over all colours for the active samples."""

    def __init__(
        self, circuit: BlockCircuit, injected: Array, law: int, load: Array,
        nudge: NudgeCurrent | None, voltages: Array,
    ) -> None:  # fmt: skip
        self.circuit, self.injected, self.load = circuit, injected, load
        self.nudge, self.voltages, self.law = nudge, voltages, law
        scalar = circuit.dtype.type
        self.curve = (scalar(circuit.low), scalar(circuit.swing), circuit.gain, circuit.offset)
        self.knee = scalar(circuit.knee)
        self.order = [k for members in circuit.colours for k in members]
        self.last = len(circuit.sizes) - 1

    def __call__(self, ports: Array, rows: Array, columns: dict[int, Array]) -> None:
        for k in self.order:
            fan = self.circuit.fan_in[k]
            column = columns[k][: len(rows)]
            np.matmul(ports[:, fan.lo : fan.hi], fan.weight.T, out=column)
            if self.nudge is not None and k == self.last:
                column += self.nudge(ports[:, self.circuit.output], rows)
            kernels.activate(
                column, self.injected, rows, self.circuit.slices[k].start, self.law, self.load,
                *self.curve, self.knee, self.voltages, ports,
            )  # fmt: skip
