"""Estimators of the response ``ε = ds*/dβ``: which nudges, and how their equilibria combine.

Most are a :class:`Stencil`, ``ε ≈ (1/β) Σ_k w_k s*(x_k β)``: a list of nodes ``x_k`` and weights ``w_k`` of
the shifts from the free state, ``Σ w_k x_k = 1``. Their nudges relax together, from the free state.
:class:`Exact` solves for ``ε`` instead, and those of :mod:`.oscillation` read it from a slow oscillation.

The derivations, and which of them to choose, are in ``docs/estimators.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..circuits.edge_equilibrium import EdgeEquilibrium
from ..circuits.equilibrium import Equilibrium
from ..circuits.periphery import IDEAL, Periphery
from ..simulator import relaxation
from ..simulator.blocks import Array
from .netlist_phase import NetlistPhase
from .nudges import Cost, Nudge

# Of what two opposite nudges move apart, what they may move in common. A jump under one of them moves as much
# in common as apart; a smooth response less by O(β).
MOST_COMMON = 0.5
# Of the largest odd term of a Chebyshev series, what the last may be. The terms of a step do not decay:
# wherever it lies, of up to 12 nudges the last is more than a third.
MOST_LAST = 1 / 3

Phase = Equilibrium | NetlistPhase
"""Settled states of a batch, on either engine, that can be nudged, also in time."""
Settled = Phase | EdgeEquilibrium
"""Settled states of a batch that can be nudged."""


@dataclass(frozen=True)
class Response:
    """``epsilon`` (batch, N) [V/W], with the nudged equilibria behind it (None for a linear solve).

    ``valid`` (batch,) tells which samples can be believed; the others' ``epsilon`` is zero, so that they
    do not take part in an update. ``measured`` by the chip's amplifiers, which then read its free state too.
    """

    epsilon: Array
    valid: Array
    nudged: Settled | None = None
    measured: bool = False


class Nudging(NamedTuple):
    """What a step asks of a chip for a sample, beside its free phase: to be nudged, and converted, so many
    ``times``, settling each time, or changing all along for ``seconds`` [s]; and whether a chip can do it: it
    solves no equations, and has no imaginary currents.
    """

    times: int = 0
    seconds: float = 0.0
    possible: bool = True


SOLVED = Nudging(possible=False)


class Estimator(Protocol):
    """Measures the response of free equilibria to a nudge by a cost's gradient.

    Its price is known beforehand: ``relaxations``, the free phase included, and ``seconds`` of chip time
    under an oscillating nudge. (What judges a response relaxes once more, for the simulation alone.)
    """

    @property
    def name(self) -> str:
        """As recorded with a run."""

    @property
    def relaxations(self) -> int:
        """Relaxations per gradient, the free phase included."""

    @property
    def seconds(self) -> float:
        """Chip time [s] under an oscillating nudge; 0 where there is none."""

    @property
    def nudging(self) -> Nudging:
        """Of a chip."""

    def response(self, free: Equilibrium, cost: Cost, certify: int | None = None) -> Response:
        """Of the ``free`` equilibria on a ``cost``; ``certify`` samples are certified under each nudge
        (default: all).
        """


@dataclass(frozen=True)
class Stencil:
    """A differentiation rule on nudges ``x_k β``; ``β`` in watts. The free state itself is free (x = 0).

    ``judged``: whether responses that are not smooth, or jumped to another branch, are left out.
    """

    name: str
    nodes: tuple[complex, ...]
    weights: tuple[complex, ...]
    beta: float
    seconds: float = 0.0
    judged: bool = True

    @property
    def relaxations(self) -> int:
        """One for each node, and the free phase."""
        return 1 + len(self.nodes)

    @property
    def nudging(self) -> Nudging:
        """Once for each node."""
        return Nudging(len(self.nodes), possible=self.real)

    @property
    def real(self) -> bool:
        """Whether no nudge is complex."""
        return not np.imag(self.nodes).any()

    @property
    def noise(self) -> float:
        """Standard deviation of ``ε`` [1/W] for each unit of that of a reading, ``|w| / |β|``.

        Every settled state is read once, the free one included where the others' weights do not cancel, and
        complex ones in both their parts.
        """
        readings = np.append(self.weights, sum(self.weights).real)
        return float(np.linalg.norm(readings) / abs(self.beta))

    def response(self, free: Settled, cost: Cost, certify: int | None = None) -> Response:
        """Measure ``ds*/dβ`` of the free equilibria by relaxing their circuit under every nudge.

        A sample is left out where a phase did not settle or is not stable, or, if ``judged``, where its
        shifts under real nudges of both signs are not smooth (:func:`is_smooth`): that is no derivative,
        often a jump to another branch, and ``1/β`` times it would drown the batch. (Jumps under both of two
        nudges, each along its own push, pass; the release test of a certified sample sees them.) That is
        judged by the ports themselves, less what the sources' offsets shift; ``ε`` is what the chip's
        amplifiers read.
        """
        samples, dtype, chip = len(free.ports), free.ports.dtype, periphery(free)
        epsilon, valid, states = np.zeros_like(free.ports), free.sound, []
        offsets, taken = offset_shifts(free, cost), samples  # taken: readings, of the free state
        for nodes, weights in self._real_and_complex():
            beta = (nodes * self.beta).astype(precision(nodes, dtype))
            nudge = chip.deliver(Nudge(cost, np.repeat(beta, samples), samples), read_outputs(free))
            state = free.under(nudge, len(nodes), certify)
            shifts = state.ports.reshape(len(nodes), samples, -1) - free.ports
            read = chip.read_shifts(shifts, taken, free.ports)
            taken += len(state.ports)
            scaled = (weights / self.beta).astype(shifts.dtype)
            epsilon += np.tensordot(scaled, read, axes=1).real
            valid = valid & believed(state, self.judged).reshape(len(nodes), samples).all(axis=0)
            if self.judged and self.real:
                valid &= is_smooth(nodes, shifts - offsets, len(nodes))
            states.append(state)
        epsilon[~valid] = 0
        return Response(epsilon, valid, _joined(states), measured=True)

    def _real_and_complex(self) -> list[tuple[Array, Array]]:
        """Nodes and weights, apart: real nudges need no complex arithmetic."""
        nodes, weights = np.asarray(self.nodes), np.asarray(self.weights)
        real = nodes.imag == 0
        parts = [(nodes[real].real, weights[real].real), (nodes[~real], weights[~real])]
        return [part for part in parts if len(part[0])]


def believed(state: Settled, judged: bool) -> Array:
    """(batch,) nudged samples that are sound, those on another branch among them unless ``judged``."""
    if judged or isinstance(state, EdgeEquilibrium):  # which has no other branch
        return state.sound
    return replace(state, jumped=np.zeros_like(state.settled)).sound


def periphery(free: Settled) -> Periphery:
    """What nudges and reads the circuit; only a crossbar chip's sources and meters are not ideal."""
    return free.periphery if isinstance(free, Equilibrium) else IDEAL


def read_outputs(free: Settled, first: int = 0) -> Array:
    """Its outputs (batch, n_out) [V] as the circuit's amplifiers read them; ``first`` is the address of the
    first reading.
    """
    if not isinstance(free, Equilibrium) or free.periphery.reads_truly:
        return free.outputs
    read: Array = free.periphery.read(free.ports, first)[:, free.circuit.output]
    return read


def offset_shifts(free: Settled, cost: Cost) -> Array | float:
    """How far the ports move [V] (batch, N) when the nudge sources are on, and nothing is asked of them."""
    chip, samples = periphery(free), len(free.ports)
    if not np.any(chip.nudge_offset):
        return 0.0
    nothing = Nudge(cost, np.zeros(samples, free.ports.dtype), samples)
    shifts: Array = free.under(chip.deliver(nothing, free.outputs), certify=0).ports - free.ports
    return shifts


def precision(nodes: Array, ports: np.dtype[Any]) -> np.dtype[Any]:
    """Of the ports under nudges at ``nodes``: their own, or its complex kin."""
    return np.result_type(ports, np.complex64) if np.iscomplexobj(nodes) else ports


def is_smooth(nodes: Array, shifts: Array, terms: int) -> Array:
    """Whether each sample's shifts (nudges, samples, N) under real ``nodes`` are those of a smooth response.

    By what they move in common: of two nudges well below what they move apart, of more no larger. And by the
    odd terms ``k a_k``, k < ``terms``, of their Chebyshev series, the last of which must be well below the
    largest.
    """
    if abs(sum(nodes)) > 1e-9:  # nudges of one sign cannot tell
        return np.ones(shifts.shape[1], bool)
    k = np.arange(1, terms, 2)[:, None]
    series = np.vstack([k * np.cos(k * np.arccos(nodes)), np.ones(len(nodes))]).astype(shifts.dtype)
    moves = np.tensordot(series, shifts, axes=1)
    *sizes, common = np.sqrt(np.einsum("kmn,kmn->km", moves, moves))
    smooth: Array
    if len(k) == 1:
        smooth = common <= MOST_COMMON * sizes[0]
    else:
        smooth = (common <= sizes[0]) & (sizes[-1] <= MOST_LAST * np.max(sizes, axis=0))
    return smooth


def _joined(states: Sequence[Settled]) -> Settled:
    """States under several nudges, as those of one batch."""
    first, *others = states
    if not others:
        return first
    batched: dict[str, Any] = {
        f.name: np.concatenate([getattr(state, f.name) for state in states])
        for f in fields(first)
        if isinstance(getattr(first, f.name), np.ndarray)
    }
    return replace(first, **batched)


def one_sided(beta: float) -> Stencil:
    """``(s(β) - s(0)) / β``: error O(β). A negative β pushes away from the target."""
    return Stencil("one-sided" if beta > 0 else "negative", (1.0,), (1.0,), beta)


def centered(beta: float) -> Stencil:
    """``(s(β) - s(-β)) / 2β``: error O(β²)."""
    return Stencil("centered", (1.0, -1.0), (0.5, -0.5), beta)


def cauchy(beta: float, nudges: int) -> Stencil:
    """Cauchy's integral on the circle of radius β by ``nudges`` points (Laborieux and Zenke 2022,
    arXiv:2209.00530).

    ``ds/dβ = (1/N) Σ_k s(β e^{iθ_k}) e^{-iθ_k} / β``, ``θ_k = 2πk/N``. The circuit being real, states under
    conjugate nudges are conjugate: only nudges of the upper half plane relax, and their weights count twice.
    The error, ``Σ_m c_{1+mN} β^{mN}`` of the Taylor coefficients ``c``, falls as ``(β/ρ)^N`` inside the disc
    of analyticity, of radius ρ.
    """
    angles = 2 * np.pi * np.arange(nudges // 2 + 1) / nudges
    nodes = np.exp(1j * angles)
    alone = np.isclose(nodes.imag, 0)
    nodes[alone] = nodes[alone].real
    weights = np.where(alone, 1, 2) * nodes.conj() / nudges
    return Stencil(f"cauchy-{nudges}", tuple(nodes.tolist()), tuple(weights.tolist()), beta)


def chebyshev(beta: float, nudges: int) -> Stencil:
    """The derivative at 0 of the Chebyshev series on [-β, β], by its ``nudges`` nodes: real nudges alone.

    ``ds/dβ = (1/β) Σ_{k odd} (-1)^{(k-1)/2} k a_k`` with ``a_k = (2/N) Σ_n s(β cos θ_n) cos kθ_n``,
    ``θ_n = (2n-1)π/2N``. The error falls exponentially in N while the response is analytic on [-β, β]
    (Trefethen, *Approximation Theory and Approximation Practice*, 2013, theorem 8.2); for small β it is
    ``2^{1-N}`` of Cauchy's. ``nudges`` must be even: an odd number brings its node at 0, and no order more.
    """
    angles = (2 * np.arange(1, nudges + 1) - 1) * np.pi / (2 * nudges)
    series = np.cos(np.outer(np.arange(nudges), angles))
    weights = 2 / nudges * series_slope(nudges) @ series
    return Stencil(f"chebyshev-{nudges}", tuple(np.cos(angles).tolist()), tuple(weights.tolist()), beta)


def series_slope(terms: int) -> Array:
    """Slopes ``T_k'(0) = k sin(kπ/2)`` of the Chebyshev polynomials k < ``terms``: ±k, or 0 for even k."""
    k = np.arange(terms)
    slope: Array = np.where(k % 2, k * (-1.0) ** (k // 2), 0.0)
    return slope


@dataclass(frozen=True)
class Exact:
    """No nudge: ``J̃ ε = ∂L/∂s`` is solved, which no chip can do.

    The crossbar engine solves it by relaxing the linearised circuit: the second of ``relaxations``.
    """

    name: str = "exact"
    relaxations: int = 2
    seconds: float = 0.0
    nudging: Nudging = SOLVED

    def response(self, free: Settled, cost: Cost, certify: int | None = None) -> Response:
        return exact_response(free, cost)


def exact_response(free: Settled, cost: Cost) -> Response:
    """``ε`` at β = 0 exactly, from ``J̃ ε = ∂L/∂s`` (physics, section 3: Gradients)."""
    return _solved(free, cost, transposed=False)


def adjoint_response(free: Settled, cost: Cost) -> Response:
    """``δ = -λ`` from ``J̃ᵀ δ = ∂L/∂s``: what ``ε`` would have to be for the true gradient."""
    return _solved(free, cost, transposed=True)


def _solved(free: Settled, cost: Cost, *, transposed: bool) -> Response:
    gradient = cost.gradient(free.outputs, np.arange(len(free.ports)))
    if isinstance(free, Equilibrium):
        epsilon = _solved_blocks(free, gradient, transposed=transposed)
    else:
        epsilon = free.solve(gradient, transposed=transposed)
    epsilon[~free.sound] = 0
    return Response(epsilon, free.sound)


def _solved_blocks(free: Equilibrium, gradient: Array, *, transposed: bool) -> Array:
    circuit = free.circuit.transposed() if transposed else free.circuit
    rhs = np.zeros_like(free.ports)
    rhs[:, circuit.output] = gradient
    tolerance = min(1e-6, free.tolerance)  # relative: as fine as the equilibria themselves
    return relaxation.solve_linear(circuit, free.slopes(), rhs, tolerance=tolerance)
