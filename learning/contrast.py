"""Contrastive rules: products of ports under two conditions, and outputs that are held, not nudged."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.equilibrium import Equilibrium, certified, on_another_branch, settle
from ..circuits.fluctuation import observed
from ..circuits.periphery import Nudge
from ..simulator.blocks import Array, BlockCircuit
from .estimators import Response, Stencil
from .nudges import Cost
from .rules import (
    EstimatorRule,
    PairGradient,
    Update,
    as_read,
    contracted,
    drive_voltages,
    require_feedback,
)
from .subcircuits import part, places

# -- the Hebbian contrast ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ContrastiveEP(EstimatorRule):
    """EP in its contrastive, Hebbian form: ``dL/dW_ij = -[(s_i s_j)^β - (s_i s_j)^0] / β`` (Scellier and
    Bengio 2017), with any estimator's nudges and weights in place of the single β.

    To first order the contrast is ``ε_i s_j + s_i ε_j``, the sum of a device's own vector-field gradient and
    its feedback twin's. Both twins get it, so that their difference never changes; for one array that is
    read both ways it is that array's vector-field gradient. Input and bias devices have no partner:
    theirs is ``ε_i x_j``. Products are taken of the ports themselves, before any drivers.

    A conductance of a resistive network learns from the power in it: ``dL/dg = (½/β) [(Δv)²^β - (Δv)²^0]`` of
    the voltage across it (Kendall et al. 2020, arXiv:2006.01981), with no regard to where it lies. Of twin
    networks the nudged one's power is compared with the free one's, mismatch and all: ``1/β`` of what the two
    differ by at rest goes into it, unless the nudges' weights add up to 0, and nothing is asked of the free
    one.
    """

    estimator: Stencil
    name: str = "contrastive"

    def check(self, circuit: Circuit) -> None:
        require_feedback(circuit, self.name)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        nudged = chip.twin() if chip.circuit.copies > 1 else chip
        rest = free
        if nudged is not chip:  # read at the same step, by amplifiers of its own
            rest = observed(nudged, nudged.relax(inputs, certify=certify), free.periphery.step)
        response = self.estimator.response(rest, cost, certify)
        response = replace(response, valid=response.valid & free.sound)
        if chip.circuit.resistive:
            powers = self._powers(chip, nudged, inputs, free, response)
            return Update(powers, response.valid, response.nudged)
        found = dict(contracted(chip, inputs, free, response).gradients)
        for forward, backward in chip.circuit.feedback_pairs:
            contrast = self._contrast(free, response, forward.post, forward.pre)
            contrast = chip.circuit.layouts[forward.array].fold(contrast)
            found[forward.array] = replace(found[forward.array], differential=contrast)
            if not backward.transposed:
                found[backward.array] = replace(found[backward.array], differential=contrast.T)
        return Update(found, response.valid, response.nudged)

    def _powers(
        self, chip: Chip, other: Chip, inputs: Array, free: Equilibrium, response: Response
    ) -> dict[str, PairGradient]:
        """``(1/β) Σ_k w_k ½ [(a s_j - v_i)²^k - (a s_j - v_i)²^0]`` of every array, mean over the batch."""
        nudged, _, rates = nudged_states(self.estimator, response)
        nudged, free = as_read(nudged, len(free.ports)), as_read(free)
        share, found = response.valid / len(free.ports), {}
        for bank in (bank for bank in chip.circuit.banks if not bank.returned):
            nodes, array = chip.blocks.slices[bank.post], chip.devices[bank.array]
            differential = common = np.zeros((1, 1), nudged.ports.dtype)
            states = (other, nudged, np.outer(rates, share).ravel()), (chip, free, -rates.sum() * share)
            for owner, state, weights in states:
                believed = weights != 0  # what is not may be infinite
                drive = drive_voltages(owner, bank, np.resize(inputs, (len(weights), inputs.shape[1])), state)
                drive, v, weights = drive[believed], state.voltages[believed, nodes], weights[believed]
                differential = differential - (v.T * weights) @ drive
                common = common + 0.5 * ((weights @ v**2)[:, None] + weights @ drive**2)
            d, c = (part.real.astype(chip.dtype) for part in (differential, common))
            whole = PairGradient(d, c, len(chip.own(array.target)))
            found[bank.array] = whole.folded(chip.circuit.layouts[bank.array])
        return found

    def _contrast(self, free: Equilibrium, response: Response, post: int, pre: int) -> Array:
        """``-(1/β) Σ_k w_k [(s_i s_j)^k - (s_i s_j)^0]`` [V²/W] (n_post, n_pre), mean over the batch."""
        nudged, _, rates = nudged_states(self.estimator, response)
        nudged, free = as_read(nudged, len(free.ports)), as_read(free)
        share = response.valid / -len(free.ports)
        product = (nudged.layer(post).T * np.outer(rates, share).ravel()) @ nudged.layer(pre)
        rest = (free.layer(post).T * (rates.sum() * share)) @ free.layer(pre)
        contrast: Array = (product - rest).real.astype(free.ports.dtype)
        return contrast


def nudged_states(estimator: Stencil, response: Response) -> tuple[Equilibrium, Array, Array]:
    """The states that an estimator nudged, copy after copy; and each copy's node ``x_k`` and rate
    ``w_k / β`` [1/W]. (Real nudges relax, and so come, before complex ones.)
    """
    if not isinstance(response.nudged, Equilibrium):
        raise TypeError("this response has no nudged equilibria; take it from a Stencil on a chip")
    nodes, weights = np.asarray(estimator.nodes), np.asarray(estimator.weights)
    order = np.argsort(nodes.imag != 0, kind="stable")
    return response.nudged, nodes[order], weights[order] / estimator.beta


# -- held outputs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoupledLearning(EstimatorRule):
    """Coupled learning (Stern et al. 2021): hold the outputs a step towards the target, and compare.

    The output ports are held at ``o + η (y - o)``, the hidden nodes relax, and ``ε = Δs / η`` is contracted
    like any response. η is the design's β; one-sided nudges of either sign, or both, make the positive,
    negative and centered forms (Scellier et al. 2023, arXiv:2312.15103). In general the step is
    ``-η swing² ∂L/∂o``: for the squared error ``y - o``; for cross-entropy, which has no target voltage,
    the direction of its nudge.

    As η → 0, ``ε_o = y - o`` and ``ε_h = -J̃_hh⁻¹ J̃_ho (y - o)``. EP's hidden response to its own ``ε_o`` is
    the same, so the two differ in ``ε_o`` alone: EP's is shaped by the outputs' own stiffness. With one
    output the gradients of a symmetric chip are parallel to the adjoint's; with several they are not.
    It needs sources that can hold the output ports against their amplifiers.
    """

    estimator: Stencil
    name: str = "coupled"

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        held = HeldOutputs.of(free, chip.circuit.design.neuron.leak)
        return contracted(chip, inputs, free, self.estimator.response(held, cost, certify))


@dataclass(frozen=True)
class HeldOutputs(Equilibrium):
    """Free equilibria whose nudges hold the outputs instead of pushing current into them.

    The outputs are held where the nudge's current at rest, ``-β ∂L/∂o``, would move them through one
    ``leak`` [S]: at ``o - η swing² ∂L/∂o`` for the dimensionless ``η = β / (leak swing²)``. So an estimator's
    ``Δs / β`` [V/W] is ``Δs / η`` over ``leak swing²``, in the units of EP's response.
    """

    leak: float = field(kw_only=True)

    @classmethod
    def of(cls, free: Equilibrium, leak: float) -> HeldOutputs:
        """The same equilibria, to be held."""
        return cls(**{f.name: getattr(free, f.name) for f in fields(free)}, leak=leak)

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> Equilibrium:
        """Equilibria (copies * batch) with the outputs held; see :meth:`Equilibrium.under`.

        Certified samples are those of the hidden nodes' own circuit, and must return when the outputs do.
        """
        batch, circuit = len(self.ports), self.circuit
        hidden, where = _hidden(circuit)
        rest = self._repeated(copies)
        outputs = rest.outputs
        held = outputs + nudge.current(outputs, np.arange(len(outputs))) / outputs.dtype.type(self.leak)
        start = Equilibrium(
            hidden, rest.voltages[:, where], rest.ports[:, where],
            (rest.injected + _driven_by_outputs(circuit, outputs))[:, where],
            rest.settled, self.tolerance, rest.sweeps,
        )  # fmt: skip
        pushed = (rest.injected + _driven_by_outputs(circuit, held))[:, where]
        state = settle(hidden, pushed, None, start, tolerance=self.tolerance)
        rows = np.arange(copies)[:, None] * batch + np.arange(batch if certify is None else certify)
        state = _certified(state, start, rows.ravel())
        return _embedded(state, circuit, where, held, rest.injected)


def _hidden(circuit: BlockCircuit) -> tuple[BlockCircuit, Array]:
    """The circuit without its output layer, and where its state lies in the whole one's."""
    layers = len(circuit.sizes) - 1
    inner = [(post, pre) for post, pre in circuit.couplings if layers not in (post, pre)]
    hidden = part(circuit, layers, inner)
    return hidden, places(hidden, circuit)


def _driven_by_outputs(circuit: BlockCircuit, outputs: Array) -> Array:
    """Current [A] (m, N) that output ports (m, n_out) drive into every node."""
    ports = np.zeros((len(outputs), circuit.size), outputs.dtype)
    ports[:, circuit.output] = outputs
    return circuit.drive(ports)


def _certified(state: Equilibrium, start: Equilibrium, rows: Array) -> Equilibrium:
    """Residual and stability of ``rows``, and whether they stay away when the outputs return."""
    state = certified(state.circuit, state, None, None, rows)
    if not rows.size or state.jumped is None:
        return state
    held = replace(state, voltages=state.voltages[rows], ports=state.ports[rows])
    injected = start.injected[rows].astype(state.injected.dtype, copy=False)  # complex after complex nudges
    released = settle(state.circuit, injected, None, held, tolerance=state.tolerance)
    close = state.tolerance * state.circuit.swing
    jumped = state.jumped.copy()
    jumped[rows] = on_another_branch(released.ports, start.ports[rows], close)
    return replace(state, jumped=jumped)


def _embedded(
    state: Equilibrium, circuit: BlockCircuit, where: Array, held: Array, injected: Array
) -> Equilibrium:
    """Hidden nodes' ``state`` and ``held`` outputs as one state of the whole circuit."""
    ports = np.empty((len(held), circuit.size), state.ports.dtype)
    ports[:, where], ports[:, circuit.output] = state.ports, held
    voltages = ports
    if not circuit.clamps:  # where a node is its own port, it is what is held
        voltages = (circuit.drive(ports) + injected) / circuit.load
        voltages[:, where] = state.voltages
    return replace(state, circuit=circuit, voltages=voltages, ports=ports, injected=injected)
