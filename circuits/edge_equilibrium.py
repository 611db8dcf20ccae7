"""Equilibria of networks of transistors, and how they answer to a nudge.

Newton's method runs on every sample in compiled code (:mod:`ohmostat.simulator.channel_kernels`); where it
does not settle, the netlist engine is asked. Raising one node's voltage raises the current into every other
one, and lowers it into the node itself by at least as much (the matrix ``-∂I/∂v`` is an M-matrix): so there
is one equilibrium, it is stable, and every node's voltage rises with every input's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..simulator import channel_kernels as kernels
from ..simulator.blocks import Array
from ..simulator.netlist import Netlist
from ..simulator.operating_point import ConvergenceError, operating_point
from .graphs import NetworkError
from .periphery import Nudge

if TYPE_CHECKING:
    from .edges import EdgeChip

LINEARISATIONS = 30  # of a nudge, at most
BATCHED = ("gates", "voltages", "settled", "iterations", "residual")
AGREEMENT = 1e-13  # of its current with the one settled under, relative to the largest of its terms


@dataclass(frozen=True, eq=False)
class EdgeEquilibrium:
    """Settled states of a batch of samples.

    Attributes:
        chip, copy: the network.
        gates: (batch, k) [V].
        voltages: (batch, n) [V], in the order of the graph's nodes.
        settled: (batch,) whether Newton's method, or the netlist engine, found it.
        iterations: (batch,) of Newton's method; negative where it failed.
        residual: (batch,) largest current [A] that is left unbalanced at a node.
    """

    chip: EdgeChip
    copy: int
    gates: Array
    voltages: Array
    settled: Array
    iterations: Array
    residual: Array

    @property
    def ports(self) -> Array:
        """Voltages (batch, n) [V]: every node is its own port; those that sources hold do not respond."""
        return self.voltages

    @property
    def outputs(self) -> Array:
        """Voltages [V] (batch, m) of the output nodes."""
        outputs: Array = self.voltages[:, self.chip.network.output_nodes]
        return outputs

    @property
    def readings(self) -> Array:
        """What is read of them [V] (batch, outputs): voltages, or differences."""
        readings: Array = self.outputs @ self.chip.network.readout.T
        return readings

    @property
    def sound(self) -> Array:
        """(batch,) samples that can be believed."""
        return self.settled

    @property
    def checked(self) -> Array:
        """(batch,) none is certified one by one: there is one equilibrium, and it is stable."""
        return np.zeros(len(self.voltages), bool)

    @property
    def jumped(self) -> Array:
        """(batch,) whether it is on another branch than the free state: there is none."""
        return np.zeros(len(self.voltages), bool)

    @property
    def drops(self) -> Array:
        """Voltage [V] (batch, k) across every edge, first end minus second."""
        first, second = self.chip.network.graph.ends
        drops: Array = self.voltages[:, first] - self.voltages[:, second]
        return drops

    @cached_property
    def conduction(self) -> Array:
        """(4, batch, k): current [A] of every edge, and its slopes [S] by first end, second end and gate."""
        found = np.empty((4, *self.gates.shape))
        kernels.conduct(self.chip.channels(self.copy), self.gates, self.voltages, found)
        return found

    @property
    def power(self) -> Array:
        """Dissipated in the network [W] (batch,)."""
        power: Array = np.sum(self.conduction[0] * self.drops, axis=1)
        return power

    def jacobian(self) -> Array:
        """``∂I/∂v`` (batch, f, f) [S] of the currents into the f nodes that no source holds."""
        (first, second), free = self.chip.network.graph.ends, ~self.chip.network.held
        _, by_first, by_second, _ = self.conduction
        full = np.zeros((len(free), len(free), len(self.voltages)))
        for row, sign in ((first, -1.0), (second, 1.0)):
            np.add.at(full, (row, first), sign * by_first.T)
            np.add.at(full, (row, second), sign * by_second.T)
        return np.moveaxis(full[np.ix_(free, free)], 2, 0)

    def solve(self, gradient: Array, *, transposed: bool = False) -> Array:
        """``ε`` (batch, n) [V/W] from ``J ε = g``, or ``Jᵀ ε = g``, ``g`` (batch, m) [1/V] at the outputs."""
        network, jacobian = self.chip.network, self.jacobian()
        rhs = np.zeros_like(self.voltages)
        rhs[:, network.output_nodes] = gradient
        found = np.zeros_like(rhs)
        matrix = jacobian.swapaxes(1, 2) if transposed else jacobian
        found[:, ~network.held] = np.linalg.solve(matrix, rhs[:, ~network.held, None])[..., 0]
        return found

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> EdgeEquilibrium:
        """Equilibria (copies * batch) under a real nudge, from these; as of an
        :class:`~ohmostat.circuits.equilibrium.Equilibrium`. A nudge that is affine takes one linearisation.
        """
        if np.iscomplexobj(nudge.beta):
            raise NetworkError("this network settles under real nudges only: use an estimator of real ones")
        rows = np.tile(np.arange(len(self.voltages)), copies)
        state, going = self._taken(rows), np.flatnonzero(self.settled[rows])
        for _ in range(LINEARISATIONS):
            if not len(going):
                break
            at = state.outputs[going]
            slope = -np.stack([nudge.slope(port, int(row)) for row, port in zip(going, at, strict=True)])
            constant = nudge.current(at, going) + np.einsum("brc,bc->br", slope, at)
            found = _found(self.chip, self.copy, state.gates[going], state.voltages[going], constant, slope)
            state = state._with(going, found)
            made = constant - np.einsum("brc,bc->br", slope, found.outputs)
            then = nudge.current(found.outputs, going)
            differs = np.abs(then - made).max(axis=1) > AGREEMENT * np.abs(constant).max(axis=1)
            going = going[found.settled & differs]
        state.settled[going] = False
        return state

    def _taken(self, rows: Array) -> EdgeEquilibrium:
        """Copies of some samples."""
        return replace(self, **{name: getattr(self, name)[rows] for name in BATCHED})

    def _with(self, rows: Array, others: EdgeEquilibrium) -> EdgeEquilibrium:
        """With the samples ``rows`` replaced."""
        arrays = {name: getattr(self, name).copy() for name in BATCHED}
        for name, array in arrays.items():
            array[rows] = getattr(others, name)
        return replace(self, **arrays)


def settle(
    chip: EdgeChip, gates: ArrayLike, inputs: ArrayLike, copy: int = 0, clamp: ArrayLike | None = None
) -> EdgeEquilibrium:
    """As :meth:`~ohmostat.circuits.edges.EdgeChip.settle`."""
    network = chip.network
    sources = network.sources(inputs)
    state = np.asarray(gates, np.float64)
    if state.shape not in ((chip.edges,), (len(sources), chip.edges)) or not np.isfinite(state).all():
        raise NetworkError(
            f"gates of shape {state.shape}; give finite voltages ({chip.edges},) or "
            f"({len(sources)}, {chip.edges})"
        )
    if copy not in (0, 1):
        raise NetworkError(f"copy is {copy}; a chip has the networks 0 (free) and 1 (clamped)")
    v = np.empty((len(sources), len(network.graph)))
    v[...] = sources.mean(axis=1, keepdims=True)
    v[:, network.held_nodes] = sources
    if clamp is not None:
        held = np.asarray(clamp, np.float64)
        if held.shape != (len(v), len(network.output_nodes)):
            raise NetworkError(f"clamp of shape {held.shape}; give {(len(v), len(network.output_nodes))}")
        v[:, network.output_nodes] = held
    state = np.ascontiguousarray(np.broadcast_to(state, (len(v), chip.edges)))
    return _found(chip, copy, state, v, clamped=clamp is not None)


def _found(
    chip: EdgeChip, copy: int, gates: Array, start: Array, constant: Array | None = None,
    slope: Array | None = None, *, clamped: bool = False,
) -> EdgeEquilibrium:  # fmt: skip
    """Equilibria from ``start`` (B, n) [V], which also has what sources hold, under a push that is affine."""
    network, batch, v = chip.network, len(start), start.copy()
    out, held = network.output_nodes, network.held.copy()
    held[out] |= clamped
    m = len(out)
    constant = np.zeros((batch, m)) if constant is None else constant
    slope = np.zeros((batch, m, m)) if slope is None else slope
    iterations, residual = np.empty(batch, np.int64), np.empty(batch)
    kernels.settle_batch(chip.channels(copy), gates, held, out, constant, slope, v, iterations, residual)
    settled = iterations > 0
    for b in np.flatnonzero(~settled):
        clamp = start[b, out] if clamped else None
        net = chip.netlist(gates[b], start[b, network.held_nodes[: len(network.inputs)]], copy, clamp)
        _add_push(net, [f"n{network.graph.names[k]}" for k in out], constant[b], slope[b])
        try:
            point = operating_point(net)
        except ConvergenceError:
            v[b] = start[b]
            continue
        v[b] = [point[f"n{name}"] for name in network.graph.names]
        settled[b], residual[b] = True, point.residual
    return EdgeEquilibrium(chip, copy, gates, v, settled, iterations, residual)


def _add_push(net: Netlist, nodes: list[str], constant: Array, slope: Array) -> None:
    """``constant - slope v`` [A] into the ``nodes``."""
    if not (constant.any() or slope.any()):
        return
    net.bank("current_source", [f"Ip{k}" for k in range(len(nodes))], "0", nodes, current=constant)
    for row, node in enumerate(nodes):
        for column, other in enumerate(nodes):
            net.vccs(f"Gp{row}_{column}", node, "0", other, "0", float(slope[row, column]))
