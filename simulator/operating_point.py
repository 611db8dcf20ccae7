"""DC operating points of a netlist, one or a batch.

Newton's method with full steps comes first, then with damped ones (:mod:`ohmostat.simulator.newton`), then
continuations (:mod:`ohmostat.simulator.continuation`), for the samples that need them.

The answer always satisfies the equations of the netlist itself, down to rounding. It need not be stable:
that is for the circuit's dynamics to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array

from .banks import GROUND
from .continuation import continued
from .devices import Array
from .equations import Drive, Equations, Relaxation
from .lookup import branch_current, node_voltage
from .netlist import Netlist, NetlistError
from .newton import HELD_SLACK, newton
from .overrides import Overrides
from .structure import Structure

SHARE = 2**21  # bytes of matrices and factors that make a thread worth starting
MEMORY = 2**28  # bytes of matrices and factors at a time, at most, unless one sample takes more


class ConvergenceError(RuntimeError):
    """No operating point was found; names the nodes where Kirchhoff's current law is violated most."""


@dataclass(frozen=True, eq=False)
class _Solution:
    """What one point and a batch of them have in common; a batch in the first axis."""

    nodes: tuple[str, ...]
    voltages: Array  # (n,) or (B, n) [V]
    branches: tuple[str, ...]  # the voltage-defined devices
    solved: Array = field(repr=False)  # x, where the currents of eliminated sources are still missing
    complete: Callable[[], Array] = field(repr=False)  # adds them

    @cached_property
    def x(self) -> Array:
        """Voltages, then currents: a solution of :class:`~ohmostat.simulator.equations.Equations`."""
        return self.complete()

    @property
    def currents(self) -> Array:
        """Branch currents (m,) or (B, m) [A], from each device's first node, through it, into its second."""
        return np.asarray(self.x[..., len(self.nodes) :])


@dataclass(frozen=True, eq=False)
class OperatingPoint(_Solution):
    """Node voltages (n,) [V] and branch currents (m,) [A] that satisfy the circuit's equations."""

    residual: float  # largest |sum of currents into a node| [A], of the netlist's own equations
    voltage_residual: float  # largest violation of a voltage-defined device's law [V]
    iterations: int  # of Newton's method, all attempts together
    method: str  # "newton", "damped newton", "gmin stepping", "source stepping" or "pseudo-transient"

    def __getitem__(self, node: str) -> float:
        """Voltage [V] of a node by name."""
        value: float = node_voltage(self.nodes, self.voltages, node).item()
        return value

    def current(self, device: str) -> float:
        """Current [A] through a voltage-defined device, by name."""
        value: float = branch_current(self.branches, self.currents, device).item()
        return value

    def voltages_by_node(self) -> dict[str, float]:
        """Voltage [V] of every node, ground included."""
        return {GROUND: 0.0, **dict(zip(self.nodes, self.voltages.tolist(), strict=True))}


@dataclass(frozen=True, eq=False)
class OperatingPoints(_Solution):
    """Operating points of B samples; those that were not found say so in ``converged``."""

    residual: Array  # (B,) [A], as of an OperatingPoint
    voltage_residual: Array  # (B,) [V]
    iterations: NDArray[np.int64]  # (B,)
    method: tuple[str, ...]  # of each sample; "" where none was found
    converged: NDArray[np.bool_]  # (B,)
    errors: Mapping[int, str]  # by sample: what is wrong where none was found
    completed: Callable[[NDArray[np.intp]], Array] = field(repr=False)  # x of some samples

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.voltages)

    def __getitem__(self, node: str) -> Array:
        """Voltages (B,) [V] of a node by name."""
        return node_voltage(self.nodes, self.voltages, node)

    def current(self, device: str) -> Array:
        """Currents (B,) [A] through a voltage-defined device, by name."""
        return branch_current(self.branches, self.currents, device)

    def require(self) -> OperatingPoints:
        """Itself where every sample converged; otherwise raises :class:`ConvergenceError`."""
        if self.errors:
            first, message = next(iter(self.errors.items()))
            which = f"{len(self.errors)} of {len(self)} samples failed; sample {first}: "
            raise ConvergenceError(message if len(self) == 1 else which + message)
        return self

    def point(self, sample: int) -> OperatingPoint:
        """One sample's; raises :class:`ConvergenceError` where it was not found."""
        if not self.converged[sample]:
            raise ConvergenceError(self.errors[sample])
        return OperatingPoint(
            self.nodes, self.voltages[sample], self.branches, self.solved[sample],
            lambda: self.completed(np.array([sample]))[0], float(self.residual[sample]),
            float(self.voltage_residual[sample]), int(self.iterations[sample]), self.method[sample],
        )  # fmt: skip


Start = OperatingPoint | OperatingPoints | Array
Circuit = Netlist | Structure | Equations


def operating_point(
    net: Circuit, *, initial: Mapping[str, float] | None = None, at: Overrides | None = None,
    start: Start | None = None, time: float | None = None,
) -> OperatingPoint:  # fmt: skip
    """Solve for the DC operating point; capacitors are open, inductors shorts.

    ``initial`` gives voltages [V] of some nodes to start from, as SPICE's ``.nodeset``: they are held
    at first and then let go. They choose between several operating points, and never change one. ``start``
    is a solution to start from. ``at`` replaces parameters (:class:`~.equations.Equations`), also by complex
    values, where every device is analytic. With ``time`` [s], sources stand where their waveforms then are.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for floating nodes, loops of voltage
    sources, unknown nodes in ``initial`` and impossible replacements, and :class:`ConvergenceError`.
    """
    points = operating_points(net, at, initial=initial, start=start, time=time)
    if len(points) != 1:
        raise NetlistError(f"values of {len(points)} samples for one operating point: use operating_points")
    return points.point(0)


def operating_points(
    net: Circuit, at: Overrides | None = None, *, initial: Mapping[str, float] | None = None,
    start: Start | None = None, time: float | None = None, threads: int = 1,
) -> OperatingPoints:  # fmt: skip
    """Operating points of a batch: ``at`` replaces parameters by one value a sample (:class:`~.Equations`).

    The analysis of the topology is shared by the batch. To keep it between calls, make
    ``Structure(net)`` (:mod:`~ohmostat.simulator.structure`) once and pass that; it is not validated again.
    ``start`` is one solution, or one a sample. At most ``threads`` share the batch out. Memory: the results,
    and at most 256 MB of matrices and factors at a time, unless one sample takes more. Never raises for a
    sample that fails: see ``converged``, or call :meth:`OperatingPoints.require`.
    """
    equations = _equations(net, at)
    if (
        equations.is_complex and start is None
    ):  # the solution meant is the one that the real circuit grows into
        start = operating_points(equations.real_part(), initial=initial, time=time, threads=threads)
        initial = None
    drive = equations.drive(time)
    x, spent = _start(equations, drive, initial, start)
    found = _Search(equations, drive, x).run(threads)
    return _collect(equations, drive, found, spent)


def jacobian_at(net: Netlist, voltages: ArrayLike) -> csc_array:
    """Sparse ∂F/∂x (n+m, n+m) at node voltages (n,) [V] in the order of ``net.nodes``.

    F counts the currents that leave a node. Branch currents matter only to devices controlled by them, and
    are taken as zero.
    """
    equations = Equations(net, eliminate=False)
    at = equations.structure
    x = np.zeros((1, at.size))
    x[0, : at.nodes] = voltages
    slopes = equations.evaluate(x, equations.drive()).slopes[0]
    return csc_array((slopes, at.pattern.indices, at.pattern.starts), shape=(at.size, at.size))


def _equations(net: Circuit, at: Overrides | None) -> Equations:
    if isinstance(net, Equations):
        if at:
            raise NetlistError("equations have their values already: pass their structure with new ones")
        return net
    if isinstance(net, Structure):
        return Equations(net, at)
    net.validate()
    return Equations(net, at)


def _start(
    equations: Equations, drive: Drive, initial: Mapping[str, float] | None, start: Start | None
) -> tuple[Array, NDArray[np.int64]]:
    """Where every sample starts (B, size), and iterations spent on that."""
    size, batch = equations.structure.size, equations.batch
    x = np.zeros(size) if start is None else start if isinstance(start, np.ndarray) else start.solved
    if x.shape not in ((size,), (1, size), (batch, size)):
        raise NetlistError(f"start of shape {x.shape}; give ({size},) or ({batch}, {size})")
    x = np.array(np.broadcast_to(x, (batch, size)))
    spent = np.zeros(batch, np.int64)
    return _held(equations, drive, x, initial) if initial else (x, spent)


@dataclass(frozen=True, eq=False)
class _Found:
    """Samples' end points (b, size), iterations, the method that found each ("" for none), residuals (b,)."""

    x: Array
    iterations: NDArray[np.int64]
    method: list[str]
    residual: Array  # [A]
    voltage_residual: Array  # [V]


class _Search:
    """Attempt after attempt, until every sample has its operating point."""

    def __init__(self, equations: Equations, drive: Drive, start: Array) -> None:
        self.equations, self.drive, self.start = equations, drive, start

    def run(self, threads: int) -> _Found:
        """All samples, shared out to threads; an answer does not depend on how."""
        batch = self.equations.batch
        if batch == 1:
            return self._search(self.equations, self.drive, self.start)
        if self.equations.solver.plan is None:  # the first sample chooses pivots for all
            first = self.equations.take(np.zeros(1, np.intp))
            first.solver = self.equations.solver
            newton(first, self.start[:1], self.drive.take(np.zeros(1, np.intp)))
        threads = max(1, min(threads, batch * self.equations.solver.room // SHARE))
        chunks = _chunks(self.equations, np.arange(batch), threads)
        if threads == 1:
            parts = [self._chunk(rows) for rows in chunks]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(self._chunk, chunks))
        return _Found(
            np.concatenate([p.x for p in parts]), np.concatenate([p.iterations for p in parts]),
            [method for p in parts for method in p.method], np.concatenate([p.residual for p in parts]),
            np.concatenate([p.voltage_residual for p in parts]),
        )  # fmt: skip

    def _chunk(self, rows: NDArray[np.intp]) -> _Found:
        return self._search(self.equations.take(rows), self.drive.take(rows), self.start[rows])

    def _search(self, equations: Equations, drive: Drive, start: Array) -> _Found:
        full = newton(equations, start, drive)
        method = ["newton" if ok else "" for ok in full.converged]
        x, spent = full.x, full.iterations
        left = np.flatnonzero(~full.converged)
        if left.size:
            damped = newton(equations.take(left), start[left], drive.take(left), damped=True)
            x, spent[left] = _assigned(x, left, damped.x), spent[left] + damped.iterations
            for b, ok in zip(left, damped.converged, strict=True):
                method[b] = "damped newton" if ok else ""
        for k in [k for k, found in enumerate(method) if not found]:
            one = np.array([k])
            end, method[k] = continued(equations.take(one), drive.take(one), start[one])
            x, spent[k] = _assigned(x, one, end.x), spent[k] + end.iterations[0]
        left_over = np.abs(equations.evaluate(x, drive).residual)
        n = equations.structure.free_nodes
        return _Found(
            x, spent, method, left_over[:, :n].max(axis=1, initial=0.0),
            left_over[:, n:].max(axis=1, initial=0.0),
        )  # fmt: skip


def _chunks(equations: Equations, rows: NDArray[np.intp], threads: int = 1) -> list[NDArray[np.intp]]:
    """Samples in parts of which ``threads`` at a time keep to MEMORY, and no fewer parts than threads."""
    at_a_time = max(1, MEMORY // threads // max(1, equations.solver.room))
    return np.array_split(rows, max(threads, -(-len(rows) // at_a_time)))


def _assigned(x: Array, rows: NDArray[np.intp], values: Array) -> Array:
    x = x.astype(np.result_type(x, values))
    x[rows] = values
    return x


def _held(
    equations: Equations, drive: Drive, x: Array, initial: Mapping[str, float]
) -> tuple[Array, NDArray[np.int64]]:
    """Where the circuit settles, roughly, with nodes held at ``initial`` [V]; Newton iterations spent.

    Held against amplifiers too: their outputs are let through a resistance.
    """
    at = equations.structure
    index = {node: k for k, node in enumerate(at.node_names)}
    shunt, anchor, x = np.zeros(at.nodes), np.zeros(at.nodes), x.copy()
    strength = 1e3 * equations.largest_conductance()
    for node, volts in at.net.checked_voltages(initial).items():
        k = index[node]
        x[:, k], anchor[k], shunt[k] = volts, volts, 1e3 * strength
    holding = Relaxation(shunt, anchor, output_resistance=1.0 / strength)
    held = newton(equations, x, drive, holding, damped=not equations.limits, slack=HELD_SLACK)
    return np.where(held.converged[:, None], held.x, x), held.iterations


def _collect(equations: Equations, drive: Drive, found: _Found, spent: NDArray[np.int64]) -> OperatingPoints:
    at = equations.structure
    converged = np.array([method != "" for method in found.method])
    iterations = found.iterations + spent
    errors = {
        int(b): _diagnosis(equations, drive, found.x, int(b), int(iterations[b]))
        for b in np.flatnonzero(~converged)
    }

    def completed(rows: NDArray[np.intp]) -> Array:
        parts = []
        for part in _chunks(equations, rows):
            parts.append(found.x[part])
            equations.take(part).complete(parts[-1], drive.take(part))
        return np.concatenate(parts)

    return OperatingPoints(
        nodes=at.node_names,
        voltages=found.x[:, : at.nodes],
        branches=at.branch_names,
        solved=found.x,
        complete=lambda: completed(np.arange(len(found.x))),
        residual=found.residual,
        voltage_residual=found.voltage_residual,
        iterations=iterations,
        method=tuple(found.method),
        converged=converged,
        errors=errors,
        completed=completed,
    )


def _diagnosis(equations: Equations, drive: Drive, x: Array, sample: int, spent: int) -> str:
    """Where the equations are violated most, or which nodes they do not determine."""
    at, one = equations.structure, np.array([sample])
    equations, drive, x = equations.take(one), drive.take(one), x[one]
    state = equations.evaluate(x, drive)
    free = at.free[: at.free_nodes]
    head = f"netlist {at.net.title!r}: no operating point after {spent} Newton iterations"
    if equations.solver.factorize(state.slopes).singular[0]:
        leak = Relaxation(np.full(at.nodes, 1e-9 * equations.largest_conductance()))
        leaky = equations.solver.factorize(equations.evaluate(x, drive, leak).slopes)
        if not leaky.singular[0]:
            drift = np.abs(leaky.solve(np.ones((1, len(at.free))))[0, : at.free_nodes])
            worst = [k for k in np.argsort(-drift)[:5] if drift[k] > 0.1 * drift.max()]
            loose = ", ".join(repr(at.node_names[free[k]]) for k in worst)
            return f"{head}: the equations are singular and do not determine {loose}"
    error = np.abs(state.residual[0, : at.free_nodes])
    listed = ", ".join(
        f"{at.node_names[free[k]]!r} ({error[k]:.3g} A at {x[0, free[k]]:.6g} V)"
        for k in np.argsort(-error)[:5]
        if not error[k] <= 1e-3 * error.max()  # the others' is of rounding, or follows
    )
    return (
        f"{head}, by Newton and three continuations; currents do not balance at {listed}: "
        "check these nodes' devices, or pass initial voltages"
    )
