"""DC operating point of a netlist: modified nodal analysis, Newton's method, sparse LU.

The unknowns x are the node voltages (n,) [V] and the currents (m,) [A] of the voltage-defined devices.
The equations F(x) = 0 are Kirchhoff's current law, the sum of the currents **into** each node [A], and
the constraint of each voltage-defined device [V] (:mod:`ohmostat.simulator.devices`).

Full Newton steps come first: saturating amplifiers often carry them past where careful ones get stuck.
Then steps are shortened until the next correction, by the same factors, shrinks (the natural monotonicity
test of Deuflhard, *Newton Methods for Nonlinear Problems*, 2004, section 3.3), which does not depend on
the scales of the equations, a mixture of amperes and volts. Where that fails, continuations follow:
conductances from every node to its start fading away (gmin stepping), all sources and amplifier outputs
rising from zero (source stepping), and equal capacitors on all nodes charging in ever longer steps
(pseudo-transient; it alone passes the folds of a circuit with several operating points).

The answer always satisfies the equations of the netlist itself, down to rounding. It need not be stable:
that is for the circuit's dynamics to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import SuperLU, splu

from .devices import Array
from .netlist import GROUND, Netlist

FULL_STEPS = 30  # iterations of undamped Newton
NEWTON_LIMIT = 100  # iterations of damped Newton
SHORTEST_STEP = 2.0**-12  # of a Newton step
SHORTEST_CONTINUATION = 1e-5  # of the whole path
CHARGING_LIMIT = 300  # pseudo-transient steps
EPSILON = float(np.finfo(np.float64).eps)


class ConvergenceError(RuntimeError):
    """No operating point was found; names the nodes where Kirchhoff's current law is violated most."""


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """Node voltages (n,) [V] and branch currents (m,) [A] that satisfy the circuit's equations."""

    nodes: tuple[str, ...]
    voltages: Array
    branches: tuple[str, ...]  # the voltage-defined devices
    currents: Array  # from each one's first node, through it, into its second
    residual: float  # largest |sum of currents into a node| [A], of the netlist's own equations
    voltage_residual: float  # largest violation of a voltage-defined device's law [V]
    iterations: int  # of Newton's method, all attempts together
    method: str  # "newton", "gmin stepping", "source stepping" or "pseudo-transient"

    def __getitem__(self, node: str) -> float:
        """Voltage [V] of a node by name."""
        return self._by_node[node]

    def current(self, device: str) -> float:
        """Current [A] through a voltage-defined device, by name."""
        return float(self.currents[self.branches.index(device)])

    def voltages_by_node(self) -> dict[str, float]:
        """Voltage [V] of every node, ground included."""
        return dict(self._by_node)

    @cached_property
    def _by_node(self) -> dict[str, float]:
        return {GROUND: 0.0, **dict(zip(self.nodes, self.voltages.tolist(), strict=True))}


def operating_point(net: Netlist, *, initial: Mapping[str, float] | None = None) -> OperatingPoint:
    """Solve for the DC operating point; capacitors are open.

    ``initial`` gives voltages [V] of some nodes to start from, as SPICE's ``.nodeset``: they are held
    at first and then let go. They choose between several operating points, and never change one.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for floating nodes, loops of voltage
    sources and unknown nodes in ``initial``, and :class:`ConvergenceError`.
    """
    net.validate()
    equations = Equations(net)
    zero = np.zeros(equations.size)
    start, spent = _held(equations, initial) if initial else (zero, 0)
    attempts: tuple[tuple[str, Callable[[], Attempt]], ...] = (
        ("newton", lambda: _newton(equations, start, damped=False)),
        ("newton", lambda: _newton(equations, start)),
        ("gmin stepping", lambda: _follow(equations, start, _gmin_path(equations, start))),
        ("source stepping", lambda: _follow(equations, zero, _source_path)),
        ("pseudo-transient", lambda: _charge(equations, start)),
    )
    for method, attempt in attempts:
        end = attempt()
        spent += end.iterations
        if end.converged:
            return _result(equations, end, spent, method)
    raise ConvergenceError(_diagnosis(equations, end.x, spent))


def jacobian_at(net: Netlist, voltages: ArrayLike) -> csc_array:
    """Sparse ∂F/∂x (n+m, n+m) at node voltages (n,) [V] in the order of ``net.nodes``.

    The equations are linear in the m branch currents, so that these do not matter.
    """
    equations = Equations(net)
    x = np.zeros(equations.size)
    x[: equations.nodes] = voltages
    return equations.evaluate(x).jacobian


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A circuit made easier: what continuations fade out, and starting points hold for a while."""

    scale: float = 1.0  # of all independent sources and amplifier outputs
    shunt: Array | float = 0.0  # conductance (n,) from every node to its anchor [S]
    anchor: Array | float = 0.0  # (n,) [V]
    output_resistance: float = 0.0  # of the amplifiers [ohm]


@dataclass(frozen=True, eq=False)
class State:
    """The equations at one x: residual F (n+m,), its slopes, and the size of F's rounding errors."""

    residual: Array
    jacobian: csc_array
    rounding: Array


@dataclass(frozen=True, eq=False)
class Attempt:
    """Where Newton's method ended."""

    x: Array
    iterations: int
    converged: bool


class Equations:
    """F(x) and ∂F/∂x of a netlist, on one sparsity pattern."""

    def __init__(self, net: Netlist) -> None:
        self.net, self.banks = net, net.banks
        self.nodes = len(net.nodes)
        self.branch_names: list[str] = []
        self._branches: list[NDArray[np.intp] | None] = []
        for bank in self.banks:
            defined = bank.device.voltage_defined
            first = 1 + self.nodes + len(self.branch_names)
            self._branches.append(first + np.arange(len(bank.names)) if defined else None)
            self.branch_names += bank.names if defined else ()
        self.size = self.nodes + len(self.branch_names)
        self._pattern()

    def _pattern(self) -> None:
        """Merge the positions of all stamps, in the order of :meth:`_slopes`, into one CSC pattern."""
        diagonal = np.arange(1, self.nodes + 1)
        rows, columns = [diagonal], [diagonal]
        for bank, branch in zip(self.banks, self._branches, strict=True):
            a, b, c, d = bank.terminals
            if branch is None:
                rows += [a, a, b, b, a, a, b, b]
                columns += [a, b, a, b, c, d, c, d]
            else:
                rows += [a, b, branch, branch, branch, branch, branch]
                columns += [branch, branch, a, b, c, d, branch]
        row, column = np.concatenate(rows) - 1, np.concatenate(columns) - 1
        self._kept = (row >= 0) & (column >= 0)  # ground has neither an equation nor an unknown
        entry, self._place = np.unique((column * self.size + row)[self._kept], return_inverse=True)
        self._indices = (entry % self.size).astype(np.int32)
        ends = np.arange(self.size + 1) * self.size
        self._starts = np.searchsorted(entry, ends).astype(np.int32)

    def evaluate(self, x: Array, relaxation: Relaxation | None = None) -> State:
        """Residual, slopes and rounding errors at x (n+m,), of the circuit or of an easier one."""
        relaxed = relaxation or Relaxation()
        full = np.concatenate([[0.0], x])  # with ground
        residual, size = np.zeros(self.size + 1), np.zeros(self.size + 1)
        shunt = np.broadcast_to(relaxed.shunt, self.nodes)
        residual[1 : self.nodes + 1] = -shunt * (x[: self.nodes] - relaxed.anchor)
        slopes = [-shunt]
        for bank, branch in zip(self.banks, self._branches, strict=True):
            a, b, c, d = bank.terminals
            f, f_v, f_c = bank.evaluate(full[a] - full[b], full[c] - full[d], relaxed.scale)
            current = f
            if branch is not None:
                current = full[branch]
                series = 0.0 if bank.device.linear else relaxed.output_resistance
                residual[branch] = f - series * current
                size[branch] += np.abs(f - f_v * (full[a] - full[b]))
                one = np.ones_like(f)
                slopes += [-one, one, f_v, -f_v, f_c, -f_c, -series * one]
            else:
                slopes += [-f_v, f_v, f_v, -f_v, -f_c, f_c, f_c, -f_c]
            for end, sign in ((a, -1.0), (b, 1.0)):
                residual += sign * np.bincount(end, current, self.size + 1)
                size += np.bincount(end, np.abs(current), self.size + 1)
        data = np.bincount(self._place, np.concatenate(slopes)[self._kept], len(self._indices))
        jacobian = csc_array((data, self._indices, self._starts), shape=(self.size, self.size))
        return State(residual[1:], jacobian, EPSILON * (size[1:] + abs(jacobian) @ np.abs(x)))

    def largest_conductance(self) -> float:
        """Largest slope di/dv [S] of any device at 0 V."""
        largest = 0.0
        for bank in self.banks:
            if not bank.device.voltage_defined:
                zero = np.zeros(len(bank.names))
                _, f_v, f_c = bank.evaluate(zero, zero)
                largest = max(largest, float(np.abs(f_v).max()), float(np.abs(f_c).max()))
        return largest or 1.0


@np.errstate(over="ignore", invalid="ignore")  # a wild step is tested, and shortened
def _newton(
    equations: Equations, x: Array, relaxation: Relaxation | None = None, *, damped: bool = True,
    slack: float = 16.0,
) -> Attempt:  # fmt: skip
    """Newton from x until every equation holds to ``slack`` times its rounding error."""
    n = equations.nodes
    limit = NEWTON_LIMIT if damped else FULL_STEPS
    state = equations.evaluate(x, relaxation)
    for iteration in range(limit):
        if iteration and np.all(np.abs(state.residual) <= slack * state.rounding):
            return Attempt(x, iteration, True)  # never without a step: it shows singular equations
        factors = _factorise(state.jacobian)
        if factors is None:
            return Attempt(x, iteration, False)
        step = factors.solve(-state.residual)
        size, fraction = _largest(step[:n]), 1.0
        if size <= 32.0 * EPSILON * max(1.0, _largest(x[:n])):  # nothing left but rounding
            return Attempt(x + step, iteration + 1, True)
        while True:
            trial = x + fraction * step
            state = equations.evaluate(trial, relaxation)
            remaining = _largest(factors.solve(-state.residual)[:n])
            if remaining <= (1.0 - fraction / 4.0) * size or (not damped and np.isfinite(remaining)):
                break
            fraction /= 2.0
            if not (np.isfinite(size) and fraction >= SHORTEST_STEP):
                return Attempt(x, iteration, False)
        x = trial
    return Attempt(x, limit, False)


def _largest(values: Array) -> float:
    return float(np.abs(values).max())


def _factorise(jacobian: csc_array) -> SuperLU | None:
    try:
        return splu(jacobian)
    except RuntimeError:  # exactly singular
        return None


def _follow(equations: Equations, x: Array, path: Callable[[float], Relaxation]) -> Attempt:
    """Follow a path of relaxations from t = 0, whose solution is x, to the circuit itself at t = 1."""
    t, step, spent = 0.0, 0.1, 0
    while t < 1.0:
        attempt = _newton(equations, x, path(min(1.0, t + step)))
        spent += attempt.iterations
        if attempt.converged:
            t, x, step = min(1.0, t + step), attempt.x, 2.0 * step
        else:
            step /= 4.0
            if step < SHORTEST_CONTINUATION:
                return Attempt(x, spent, False)
    return Attempt(x, spent, True)


def _gmin_path(equations: Equations, start: Array) -> Callable[[float], Relaxation]:
    """Shunts from every node to its start, from 10³ to 10⁻¹² of the largest conductance, then none."""
    largest, anchor = equations.largest_conductance(), start[: equations.nodes]

    def path(t: float) -> Relaxation:
        return Relaxation(shunt=0.0 if t >= 1.0 else largest * 10.0 ** (3.0 - 15.0 * t), anchor=anchor)

    return path


def _source_path(t: float) -> Relaxation:
    """All sources and amplifier outputs, from zero to themselves."""
    return Relaxation(scale=t)


def _charge(equations: Equations, x: Array) -> Attempt:
    """Implicit Euler steps with equal capacitors on all nodes, each twice as long as the one before."""
    n, spent, unit = equations.nodes, 0, equations.largest_conductance()
    shunt = 10.0 * unit  # capacitance over time step
    for _ in range(CHARGING_LIMIT):
        attempt = _newton(equations, x, Relaxation(shunt=shunt, anchor=x[:n]))
        spent += attempt.iterations
        shunt *= 0.5 if attempt.converged else 4.0
        if not attempt.converged:
            continue
        moved, x = _largest(attempt.x[:n] - x[:n]), attempt.x
        if moved < 1e-6 or shunt < 1e-12 * unit:  # near rest
            attempt = _newton(equations, x)
            spent += attempt.iterations
            if attempt.converged:
                return Attempt(attempt.x, spent, True)
    return Attempt(x, spent, False)


def _held(equations: Equations, initial: Mapping[str, float]) -> tuple[Array, int]:
    """Where the circuit settles, roughly, with nodes held at ``initial`` [V]; Newton iterations spent.

    Held against amplifiers too: their outputs are let through a resistance.
    """
    index = {node: k for k, node in enumerate(equations.net.nodes)}
    x, shunt = np.zeros(equations.size), np.zeros(equations.nodes)
    strength = 1e3 * equations.largest_conductance()
    for node, volts in equations.net.checked_voltages(initial).items():
        x[index[node]], shunt[index[node]] = volts, 1e3 * strength
    holding = Relaxation(shunt=shunt, anchor=x[: equations.nodes], output_resistance=1.0 / strength)
    held = _newton(equations, x, holding, slack=1e-6 / EPSILON)
    return (held.x if held.converged else x), held.iterations


def _result(equations: Equations, attempt: Attempt, spent: int, method: str) -> OperatingPoint:
    n, residual = equations.nodes, np.abs(equations.evaluate(attempt.x).residual)
    return OperatingPoint(
        nodes=equations.net.nodes,
        voltages=attempt.x[:n].copy(),
        branches=tuple(equations.branch_names),
        currents=attempt.x[n:].copy(),
        residual=float(residual[:n].max()),
        voltage_residual=float(residual[n:].max(initial=0.0)),
        iterations=spent,
        method=method,
    )


def _diagnosis(equations: Equations, x: Array, spent: int) -> str:
    """Where the equations are violated most, or which nodes they do not determine."""
    state, nodes = equations.evaluate(x), equations.net.nodes
    head = f"netlist {equations.net.title!r}: no operating point after {spent} Newton iterations"
    if _factorise(state.jacobian) is None:
        leak = np.full(equations.nodes, 1e-9 * equations.largest_conductance())
        leaky = _factorise(equations.evaluate(x, Relaxation(shunt=leak)).jacobian)
        if leaky is not None:
            drift = np.abs(leaky.solve(np.ones(equations.size))[: equations.nodes])
            loose = ", ".join(repr(nodes[k]) for k in np.argsort(-drift)[:5] if drift[k] > 0.1 * drift.max())
            return f"{head}: the equations are singular and do not determine {loose}"
    error = np.abs(state.residual[: equations.nodes])
    worst = np.argsort(-error)[:5]
    listed = ", ".join(f"{nodes[k]!r} ({error[k]:.3g} A at {x[k]:.6g} V)" for k in worst if error[k] > 0)
    return (
        f"{head}, by Newton and three continuations; currents do not balance at {listed}: "
        "check these nodes' devices, or pass initial voltages"
    )
