"""Free and nudged phases of any netlist: what estimators and the local rule need, from the netlist engine.

    free = free_phase(net, outputs=["out"], at={"Vx": inputs})
    centered(beta).response(free, cost)                       # as on the crossbar engine
    conductance_gradients(free, exact_response(free, cost).epsilon)

Every measured node has a *port*, the node whose voltage it is measured by: the output of its neuron's
amplifier, or the node itself (physics, section 1: The circuit). A nudge pushes current into output nodes
and reads their ports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse import csc_array

from ..circuits.equilibrium import on_another_branch
from ..circuits.periphery import Nudge
from ..simulator.banks import NetlistError
from ..simulator.devices import Array
from ..simulator.equations import Drive, Equations
from ..simulator.factorization import Factors
from ..simulator.lookup import node_place
from ..simulator.netlist import Netlist
from ..simulator.newton import newton
from ..simulator.operating_point import operating_points
from ..simulator.overrides import Overrides
from ..simulator.structure import Structure
from .differences import NOW, Past

ITERATIONS = 30  # of Newton's method on the nudge current, at most
AGREEMENT = 1e-12  # of that current with the cost's at the ports that it makes, relative to the largest
TOLERANCE = 1e-9  # [V] to which two solutions for the same state agree
ROUNDING = 1e-9  # of a time constant, relative to the largest
LOCAL = {"resistor": "conductance", "vccs": "transconductance"}  # devices whose gradient is local


@dataclass(frozen=True)
class Measured:
    """The measured nodes by name, the outputs last: ``rows`` (N,) are their places among the equations
    (Kirchhoff's current law at the node), ``places`` (N,) their ports' in a solution.
    """

    nodes: tuple[str, ...]
    rows: Array
    places: Array
    output: slice


@dataclass(frozen=True, eq=False)
class NetlistPhase:
    """Operating points of a batch of samples.

    Attributes:
        equations: of the netlist, with every sample's values.
        measured: its measured nodes and their ports.
        x: (batch, size) the solutions: node voltages [V], then branch currents [A].
        settled: (batch,) whether Newton's method converged.
        checked: (batch,) whether the sample was certified; the next two hold for those only.
        stable: (batch,) whether the circuit's dynamics stays there. (A circuit that stores nothing does.)
        jumped: (batch,) whether a nudged state, released, did not return to its free state.
    """

    equations: Equations
    measured: Measured
    x: Array
    settled: Array
    checked: Array = field(repr=False)
    stable: Array = field(repr=False)
    jumped: Array = field(repr=False)

    @property
    def ports(self) -> Array:
        """Port voltages [V] (batch, N)."""
        return self.x[:, self.measured.places]

    @property
    def outputs(self) -> Array:
        """Port voltages [V] (batch, n_out) of the output nodes."""
        return self.ports[:, self.measured.output]

    @property
    def sound(self) -> Array:
        """(batch,) samples that settled, and were not found to be unstable or on another branch."""
        sound: Array = self.settled & ~(self.checked & (~self.stable | self.jumped))
        return sound

    # -- nudged ----------------------------------------------------------------------------------------

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> NetlistPhase:
        """Operating points (copies * batch) under a nudge, from this state: as of an
        :class:`~ohmostat.circuits.equilibrium.Equilibrium`.
        """
        batch = len(self.x)
        rows = np.tile(np.arange(batch), copies)
        equations = self.equations.take(rows)
        x, settled = _nudged(equations, self.measured, self.x[rows], nudge)
        none = np.zeros(len(rows), bool)
        state = NetlistPhase(equations, self.measured, x, settled, none, none, none)
        some = np.arange(batch if certify is None else min(certify, batch))
        return _certified(state, (np.arange(copies)[:, None] * batch + some).ravel(), nudge, self.x[rows])

    # -- linearised ------------------------------------------------------------------------------------

    def solve(self, gradient: Array, *, transposed: bool = False) -> Array:
        """``ε`` (batch, N) from ``J̃ ε = g`` for ``g`` (batch, n_out) at the outputs, 0 elsewhere; or from
        ``J̃ᵀ ε = g``.

        In the equations' own coordinates, ``J̃⁻¹ = -P G⁻¹ E``: G has their slopes, E pushes current into
        the measured nodes and P picks their ports.
        """
        at, measured = self.equations.structure, self.measured
        factors = at.solver.factorize(_slopes(self.equations, self.x))
        read, push = (at.row_of[measured.places + 1], measured.rows)[:: -1 if transposed else 1]
        rhs = np.zeros((len(self.x), len(at.free)))
        rhs[:, push[measured.output]] = gradient
        return -factors.solve(rhs, transposed=transposed)[:, read]

    def port_jacobian(self, sample: int = 0) -> Array:
        """``J̃ = ∂I/∂s`` (N, N) [S] of one sample, all nodes that are not measured eliminated."""
        at, n = self.equations.structure, len(self.measured.nodes)
        slopes = _slopes(self.equations.take(np.array([sample])), self.x[[sample]])
        push = np.zeros((1, n, len(at.free)))
        push[0, np.arange(n), self.measured.rows] = 1
        response = at.solver.factorize(slopes).solve(push)[0][:, at.row_of[self.measured.places + 1]]
        return -linalg.inv(response.T)


def free_phase(
    net: Netlist,
    outputs: Sequence[str],
    *,
    ports: Mapping[str, str] | None = None,
    at: Overrides | None = None,
    initial: Mapping[str, float] | None = None,
    certify: int | None = None,
) -> NetlistPhase:
    """Operating points of ``net`` for every value in ``at``, near the voltages ``initial`` [V] of some nodes
    (:func:`~ohmostat.simulator.operating_point.operating_points`).

    Args:
        outputs: the nodes that will be nudged.
        ports: each measured node's port. Default: every node that no voltage source or amplifier drives, and
            itself as its port.
        certify: how many samples' stability to check; default all.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for nodes that cannot be measured so, and for
    what the netlist engine refuses; samples without an operating point are flagged.
    """
    net.validate()
    structure = Structure(net)
    equations = Equations(structure, at)
    measured = _measured(structure, outputs, ports)
    points = operating_points(equations, initial=initial)
    none = np.zeros(len(points), bool)
    state = NetlistPhase(equations, measured, points.solved, points.converged, none, none, none)
    return _certified(state, np.arange(len(points) if certify is None else min(certify, len(points))))


def conductance_gradients(free: NetlistPhase, epsilon: Array) -> dict[tuple[str, str], Array]:
    """The batch's mean gradient [1/S] of every conductance and transconductance, from ``ε`` (batch, N).

    A device's current ``g u`` leaves its first terminal a and enters its second b, so the one local rule
    ``dL/dg = -Σ_i ε_i ∂I_i/∂g`` reads ``(ε_a - ε_b) u``, ``u`` being the voltage across a resistor or that
    of a VCCS's control. Nodes that are not measured, such as held ones, do not respond: ``ε = 0``.
    Keys and shapes are those by which values are replaced (:mod:`~ohmostat.simulator.overrides`).
    """
    structure = free.equations.structure
    full = np.pad(free.x, ((0, 0), (1, 1)))  # ground, x, time
    response = np.zeros_like(full)
    response[:, structure.free_places[free.measured.rows]] = epsilon
    gradients = {}
    for bank in structure.banks:
        if bank.kind in LOCAL:
            (a, b), (first, second) = bank.terminals[0], bank.terminals[-1]
            slope = (response[:, a] - response[:, b]) * (full[:, first] - full[:, second])
            gradients[bank.kind, LOCAL[bank.kind]] = slope.mean(axis=0)
    return gradients


def _measured(structure: Structure, outputs: Sequence[str], ports: Mapping[str, str] | None) -> Measured:
    """Look the nodes up; NetlistError for one that is held, and so cannot respond."""
    if ports is None:
        held = {k for bank in structure.banks if bank.branches is not None for k in bank.terminals[0].ravel()}
        ports = {name: name for k, name in enumerate(structure.node_names, 1) if k not in held}
    hidden = [node for node in ports if node not in outputs]
    nodes = (*hidden, *outputs)
    places = [node_place(structure.node_names, ports.get(node, node)) for node in nodes]
    rows = structure.row_of[[node_place(structure.node_names, node) + 1 for node in nodes]]
    if len(set(rows)) < len(rows) or len(set(places)) < len(places):
        raise NetlistError(
            "two outputs, or two nodes' ports, are the same: give each node once, and its own port"
        )
    for node, place, row in zip(nodes, places, rows, strict=True):
        if row < 0 or structure.row_of[place + 1] < 0:
            raise NetlistError(
                f"node {node!r}: a voltage source holds it or its port {structure.node_names[place]!r}, so "
                "neither responds to a nudge: measure and nudge free nodes"
            )
    return Measured(nodes, rows, np.array(places), slice(len(hidden), len(nodes)))


def _slopes(equations: Equations, x: Array) -> Array:
    return equations.evaluate(x, equations.drive()).slopes


def _pushed(equations: Equations, measured: Measured, current: Array) -> Drive:
    """The sources, and a current (batch, n_out) [A] into the output nodes."""
    drive = equations.drive()
    shape = len(current), drive.constant.shape[1]
    constant = np.array(np.broadcast_to(drive.constant, shape), np.result_type(drive.constant, current))
    size = np.array(np.broadcast_to(drive.size, shape))
    rows = measured.rows[measured.output]
    constant[:, rows] -= current  # F counts what leaves a node
    size[:, rows] += np.abs(current)
    return replace(drive, constant=constant, size=size)


def _nudged(equations: Equations, measured: Measured, start: Array, nudge: Nudge) -> tuple[Array, Array]:
    """Solutions under a nudge, and which settled: Newton's method on the nudge current, each of whose
    iterates is an operating point under a current that is held.
    """
    x, lost = start, np.zeros(len(start), bool)
    outputs, samples = measured.places[measured.output], np.arange(len(start))
    current = nudge.current(x[:, outputs], samples)
    for _ in range(ITERATIONS):
        found = newton(equations, x, _pushed(equations, measured, current))
        lost |= ~found.converged
        x = np.where(lost[:, None], start, found.x)
        error = nudge.current(x[:, outputs], samples) - current
        agrees = np.abs(error).max(axis=1) <= AGREEMENT * np.abs(current).max(axis=1)
        if (agrees | lost).all():
            break
        factors = equations.structure.solver.factorize(_slopes(equations, x))
        loop = _nudge_slopes(nudge, x[:, outputs]) @ _responses(equations, measured, factors)[1]
        current = current + np.linalg.solve(np.eye(len(outputs)) - loop, error[..., None])[..., 0]
    return x, agrees & ~lost


def _nudge_slopes(nudge: Nudge, outputs: Array) -> Array:
    """``∂i/∂s_out`` (batch, n_out, n_out) [S] of a nudge's currents."""
    return np.stack([nudge.slope(ports, row) for row, ports in enumerate(outputs)])


def _responses(equations: Equations, measured: Measured, factors: Factors) -> tuple[Array, Array]:
    """To 1 A into each output node: all unknowns (batch, n_out, n), and of these the output ports
    (batch, n_out, n_out) [ohm], by port and node.
    """
    at, rows = equations.structure, measured.rows[measured.output]
    push = np.zeros((len(factors.singular), len(rows), len(at.free)))
    push[:, np.arange(len(rows)), rows] = 1
    spread = factors.solve(push)
    return spread, spread[..., at.row_of[measured.places[measured.output] + 1]].swapaxes(1, 2)


class NetlistSteps:
    """The circuit in time, ``F(x) + dQ/dt = i`` under a nudge i, from rest at ``free``: backward
    differences (:class:`.Past`) of the charges Q, with steps of ``length`` [s].

    Each call takes one step, by Newton's method, and returns the ports (batch, N) [V] and whether they
    settled; ``end`` is the last state.
    """

    def __init__(self, free: NetlistPhase, length: float, dtype: np.dtype[Any]) -> None:
        self.end = replace(free, x=free.x.astype(dtype))
        self.rate, self.drive = 1 / length, free.equations.drive()
        self.x = Past.at_rest(self.end.x)
        self.charge = Past.at_rest(free.equations.charge(self.end.x, self.drive)[0])

    def __call__(self, nudge: Nudge) -> tuple[Array, Array]:
        equations, measured = self.end.equations, self.end.measured
        at, places = equations.structure, measured.places[measured.output]
        rows, read = measured.rows[measured.output], at.row_of[places + 1]
        x, samples = self.x.ahead, np.arange(len(self.end.x))
        past = self.rate * self.charge.known
        for _ in range(ITERATIONS):
            state, (charge, storage) = equations.evaluate(x, self.drive), equations.charge(x, self.drive)
            residual = state.residual + NOW * self.rate * charge - past
            residual[:, rows] -= nudge.current(x[:, places], samples)
            factors = at.solver.factorize(state.slopes + NOW * self.rate * storage)
            spread, resistance = _responses(equations, measured, factors)
            slopes, move = _nudge_slopes(nudge, x[:, places]), factors.solve(-residual)
            reaction = np.linalg.solve(  # of the nudge, to the move: Woodbury's formula
                np.eye(len(rows)) - slopes @ resistance, slopes @ move[:, read, None]
            )
            move += (reaction.swapaxes(1, 2) @ spread)[:, 0]
            x[:, at.free] += move
            settled = np.abs(move).max(axis=1) <= TOLERANCE
            if settled.all():
                break
        self.end, self.x = replace(self.end, x=x), self.x.then(x)
        self.charge = self.charge.then(equations.charge(x, self.drive)[0])
        return self.end.ports, settled


def _certified(
    state: NetlistPhase, rows: Array, nudge: Nudge | None = None, free: Array | None = None
) -> NetlistPhase:
    """``state`` with stability and branch of the samples ``rows``; ``free`` are all samples' free states."""
    checked, stable, jumped = state.checked.copy(), state.stable.copy(), state.jumped.copy()
    checked[rows] = True
    for row in rows[state.settled[rows]]:
        stable[row] = np.iscomplexobj(state.x) or _is_stable(state, int(row), nudge)
    if free is not None and rows.size:
        equations, places = state.equations.take(rows), state.measured.places
        released = newton(equations, state.x[rows], equations.drive())
        other = on_another_branch(released.x[:, places], free[rows][:, places], TOLERANCE)
        jumped[rows] = other | ~released.converged
    return replace(state, checked=checked, stable=stable, jumped=jumped)


def _is_stable(state: NetlistPhase, row: int, nudge: Nudge | None) -> bool:
    """Whether the zeros s of ``det(G + s C)`` lie on the left: ``-1/s`` are the eigenvalues of ``G⁻¹C``."""
    at, x, measured = state.equations.structure, state.x[[row]], state.measured
    equations = state.equations.take(np.array([row]))
    storage = equations.charge(x, equations.drive())[1][0]
    shape = len(at.free), len(at.free)
    g, c = (
        csc_array((data, at.pattern.indices, at.pattern.starts), shape=shape).toarray()
        for data in (_slopes(equations, x)[0], storage)
    )
    if nudge is not None:
        ports = at.row_of[measured.places[measured.output] + 1]
        g[np.ix_(measured.rows[measured.output], ports)] -= nudge.slope(state.outputs[row], row)
    inverses = linalg.eigvals(linalg.lu_solve(linalg.lu_factor(g), c))
    return bool(inverses.real.min() >= -ROUNDING * np.abs(inverses).max())  # those that store nothing have 0
