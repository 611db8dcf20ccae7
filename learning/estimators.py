"""Estimators of the response ``ε = ds*/dβ``: which nudges, and how their equilibria combine.

An estimator is a rule of numerical differentiation, ``ε ≈ (1/β) Σ_k w_k s*(x_k β)``: a list of nodes
``x_k`` and weights ``w_k`` of the shifts from the free state, ``Σ w_k x_k = 1``. All nudges relax as one
batch, from the free state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium, certified
from ..simulator import relaxation
from ..simulator.blocks import Array, BlockCircuit
from .nudges import Cost, Nudge

# Of what nudges of both signs move apart, what they may move in common. A jump under one of the two signs
# moves as much in common as apart; a smooth response less by O(β).
MOST_COMMON = 0.5


@dataclass(frozen=True)
class Response:
    """``epsilon`` (batch, N) [V/W], with the nudged equilibria behind it (None for a linear solve).

    ``valid`` (batch,) tells which samples can be believed; the others' ``epsilon`` is zero, so that they
    do not take part in an update.
    """

    epsilon: Array
    valid: Array
    nudged: Equilibrium | None = None


@dataclass(frozen=True)
class Estimator:
    """A differentiation rule on nudges ``x_k β``; ``β`` in watts. The free state itself is free (x = 0)."""

    name: str
    nodes: tuple[complex, ...]
    weights: tuple[complex, ...]
    beta: float

    @property
    def relaxations(self) -> int:
        """Relaxations per gradient, the free phase included."""
        return 1 + len(self.nodes)

    def response(self, chip: Chip, free: Equilibrium, cost: Cost, certify: int | None = None) -> Response:
        """Measure ``ds*/dβ`` of the free equilibria by relaxing the chip under every nudge.

        A sample is left out where a phase did not settle or failed its certificate, or where nudges of both
        signs moved the chip half as much in common as apart: that is no derivative, often a jump to another
        branch, and ``1/β`` times it would drown the batch. (Jumps of both phases, each along its own push,
        pass; the release test of a certified sample sees them.)
        """
        samples, copies = len(free.ports), len(self.nodes)
        nodes = np.asarray(self.nodes)
        dtype = np.complex128 if np.iscomplexobj(nodes) else free.ports.dtype
        nudge = Nudge(cost, np.repeat(nodes * self.beta, samples).astype(dtype), samples)
        start = _repeated(free, copies)
        state = chip.settle(start.injected, nudge, start, tolerance=free.tolerance)
        rows = np.arange(copies)[:, None] * samples + np.arange(samples if certify is None else certify)
        state = certified(chip.blocks, state, nudge, start, rows.ravel())
        shifts = (state.ports - start.ports).reshape(copies, samples, -1)
        weights = (np.asarray(self.weights) / self.beta).astype(shifts.dtype)
        valid = free.sound & state.sound.reshape(copies, samples).all(axis=0) & self._is_odd(shifts)
        epsilon = np.tensordot(weights, shifts, axes=1).real
        epsilon[~valid] = 0
        return Response(epsilon, valid, state)

    def _is_odd(self, shifts: Array) -> Array:
        """Whether each sample's shifts (nudges, samples, N) are odd rather than even in the nudge."""
        if abs(sum(self.nodes)) > 1e-9 or np.iscomplexobj(shifts):  # nudges of one sign cannot tell
            return np.ones(shifts.shape[1], bool)
        odd = np.tensordot(np.asarray(self.nodes).astype(shifts.dtype), shifts, axes=1)
        common = np.linalg.norm(shifts.sum(axis=0), axis=1)
        is_odd: Array = common <= MOST_COMMON * np.linalg.norm(odd, axis=1)
        return is_odd


def one_sided(beta: float) -> Estimator:
    """``(s(β) - s(0)) / β``: two relaxations, error O(β)."""
    return Estimator("one-sided", (1.0,), (1.0,), beta)


def centered(beta: float) -> Estimator:
    """``(s(β) - s(-β)) / 2β``: three relaxations, error O(β²)."""
    return Estimator("centered", (1.0, -1.0), (0.5, -0.5), beta)


ESTIMATORS = {"one-sided": one_sided, "centered": centered}


def exact_response(chip: Chip, free: Equilibrium, cost: Cost) -> Response:
    """``ε`` at β = 0 exactly, from ``J̃ ε = ∂L/∂s`` (physics, section 3: Gradients)."""
    return _solved(chip.blocks, free, cost)


def adjoint_response(chip: Chip, free: Equilibrium, cost: Cost) -> Response:
    """``δ = -λ`` from ``J̃ᵀ δ = ∂L/∂s``: what ``ε`` would have to be for the true gradient."""
    return _solved(chip.blocks.transposed(), free, cost)


def _solved(circuit: BlockCircuit, free: Equilibrium, cost: Cost) -> Response:
    rhs = np.zeros_like(free.ports)
    rhs[:, free.circuit.output] = cost.gradient(free.outputs, np.arange(len(rhs)))
    tolerance = min(1e-6, free.tolerance)  # relative: as fine as the equilibria themselves
    epsilon = relaxation.solve_linear(circuit, free.slopes(), rhs, tolerance=tolerance)
    epsilon[~free.sound] = 0
    return Response(epsilon, free.sound)


def _repeated(free: Equilibrium, copies: int) -> Equilibrium:
    """The free equilibria, once for every nudge."""
    tile = {name: np.tile(getattr(free, name), (copies, 1)) for name in ("voltages", "ports", "injected")}
    return Equilibrium(
        free.circuit, tile["voltages"], tile["ports"], tile["injected"],
        np.tile(free.settled, copies), free.tolerance, np.tile(free.sweeps, copies),
    )  # fmt: skip
