"""Dual propagation: neurons as dyads that carry value and error at once, on a feed-forward chip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.equilibrium import Equilibrium, certified, settle
from ..simulator.blocks import Array, BlockCircuit
from .estimators import Nudging, Response, read_outputs
from .nudges import Cost, Nudge
from .rules import LearningRule, Update, contracted, mirrored, require_amplifiers, require_feedback
from .subcircuits import part

MAX_SWEEPS = 200


@dataclass(frozen=True)
class DualPropagation(LearningRule):
    """Dual propagation in its adjoint form (Høier and Zach 2024, "Two tales …", arXiv:2402.08573).

    Every neuron is a dyad of ports ``s⁺`` and ``s⁻``. Forward banks read the mean ``s̄ = αs⁺ + (1-α)s⁻``,
    feedback banks the difference alone:

        load v⁺ = W_f s̄ + injected + (1-α) W_b (s⁺ - s⁻),
        load v⁻ = W_f s̄ + injected -    α  W_b (s⁺ - s⁻),

    and the outputs take ``-(1-α) β ∂L/∂s⁺`` and ``+α β ∂L/∂s⁻`` [A]. Then ``ε = (s⁺ - s⁻) / β``, contracted
    with ``s̄``, is backpropagation's as β → 0 where ``W_b = W_fᵀ``: error O(β²) at α = ½, O(β) at any other,
    where the amplifiers' curvature does not cancel. For any α the mean does not move to first order in β:
    errors do not act back on the values that make them, which keeps the adjoint form stable however strong
    the weights. (The original form has α and 1-α the other way round, and closes that loop unless α = ½.)

    The chip learned is the feed-forward reading of the same devices, which training, evaluation and
    diagnosis all use (:meth:`relax`). It needs two ports a neuron, and feedback banks that are driven by
    their difference. A feedback twin takes the forward array's update.
    """

    beta: float
    alpha: float = 0.5
    name: str = "dual-propagation"

    @property
    def nudging(self) -> Nudging:
        """Two currents, and two readings: a dyad's."""
        return Nudging(2)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be 0 to 1, and 0.5 has the smallest error")

    def check(self, circuit: Circuit) -> None:
        require_amplifiers(circuit, self.name)
        require_feedback(circuit, self.name)

    def relax(self, chip: Chip, inputs: Array, certify: int | None = None) -> Equilibrium:
        """The feed-forward equilibria: no feedback bank is driven, though it loads its columns."""
        circuit = _one_way(chip.blocks, ahead=True)
        tolerance = chip.circuit.design.learning.tolerance
        state = settle(circuit, chip.injected(inputs), tolerance=tolerance, periphery=chip.periphery)
        rows = None if certify is None else np.arange(min(certify, len(state.ports)))
        return certified(circuit, state, None, None, rows)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        """As :meth:`LearningRule.update`; dyads have no circuit of their own that could be certified."""
        dyads = self.dyads(chip, free, cost)
        plus, minus = free.periphery.read(dyads.ports, len(free.ports)).reshape(2, len(free.ports), -1)
        valid = free.sound & dyads.settled.reshape(2, -1).all(axis=0)
        epsilon = (plus - minus) / plus.dtype.type(self.beta)
        epsilon[~valid] = 0
        voltages, ports = self._mean(dyads.voltages), self._mean(dyads.ports)
        mean = replace(free, voltages=voltages, ports=ports)
        update = contracted(chip, inputs, mean, Response(epsilon, valid, dyads, measured=True))
        return replace(update, gradients=mirrored(chip.circuit, update.gradients))

    def _mean(self, dyads: Array) -> Array:
        plus, minus = dyads.reshape(2, len(dyads) // 2, -1)
        mean: Array = minus + dyads.dtype.type(self.alpha) * (plus - minus)
        return mean

    def dyads(self, chip: Chip, free: Equilibrium, cost: Cost) -> Equilibrium:
        """Settled dyads (2 * batch), all ``s⁺`` first, from the ``free`` equilibria.

        All nodes at once: errors travel one layer a sweep, values another, and either only one way.
        """
        ahead, back, batch = free.circuit, _one_way(chip.blocks, ahead=False), len(free.ports)
        rows, flat = np.tile(np.arange(batch), 2), (2 * batch, ahead.size)
        shares = np.array([1 - self.alpha, -self.alpha], free.ports.dtype)[:, None, None]
        ports, settled, sweeps = np.tile(free.ports, (2, 1)), np.zeros(2 * batch, bool), 0
        nudge = free.periphery.deliver(
            Nudge(cost, np.full(2 * batch, self.beta, ports.dtype), batch), read_outputs(free)
        )
        while sweeps < MAX_SWEEPS and not (settled.all() and sweeps >= len(ahead.sizes)):
            forward = ahead.drive(self._mean(ports)) + free.injected
            error = np.tile(back.drive(ports[:batch] - ports[batch:]), (2, 1))
            error[:, ahead.output] = nudge.current(ports[:, ahead.output], rows)
            voltages = ((forward + shares * error.reshape(2, batch, -1)) / ahead.load).reshape(flat)
            before, ports = ports, ahead.ports(voltages)[0]
            settled = np.abs(ports - before).max(axis=1) <= free.tolerance * ahead.swing
            sweeps += 1
        return replace(
            free, voltages=voltages, ports=ports, injected=np.tile(free.injected, (2, 1)), settled=settled,
            sweeps=np.full(2 * batch, sweeps), checked=None, residual=None, stable=None, jumped=None,
        )  # fmt: skip


def _one_way(blocks: BlockCircuit, ahead: bool) -> BlockCircuit:
    """The circuit with its forward blocks alone, or its feedback blocks alone."""
    ends = [(post, pre) for post, pre in blocks.couplings if (pre < post) == ahead]
    return part(blocks, len(blocks.sizes), ends)
