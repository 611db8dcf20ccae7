"""Learning rules: a response of the ports, contracted with the voltages that drive the devices.

For any conductance, ``dL/dg = -Σ_i ε_i d_i`` over the nodes i that it feeds, ``d_i = ∂I_i/∂g`` being the
voltage that drives it in the free state (physics, section 3: Gradients). Rules differ in where ``ε``
comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.equilibrium import Equilibrium
from ..circuits.families import BIAS, INPUT, Bank
from ..circuits.layout import Layout
from ..circuits.sections import refuse
from ..simulator import products
from ..simulator.blocks import Array
from .estimators import SOLVED, Estimator, Nudging, Response, Settled, adjoint_response
from .nudges import Cost
from .probes import Prober


@dataclass(frozen=True)
class PairGradient:
    """Gradient of an array's devices, ``dL/dg± = common ± differential`` [1/S] (rows, columns).

    ``common`` vanishes on virtual-ground columns, where only ``g+ - g-`` matters; it broadcasts. Single
    devices (one of the ``planes``) have g+ alone.
    """

    differential: Array
    common: Array | float
    planes: int = 2

    def devices(self) -> Array:
        """``dL/dg`` (planes, rows, columns), g+ first."""
        plus = self.common + self.differential
        return np.stack([plus, self.common - self.differential]) if self.planes > 1 else plus[None]

    def along_pair(self, target: Array) -> Array:
        """``dL/dw`` (rows, columns) where one device of each pair carries the weight (pair coding)."""
        if np.isscalar(self.common):
            return self.differential
        return self.differential + np.where(target[0] >= target[1], self.common, -self.common)

    def folded(self, layout: Layout) -> PairGradient:
        """That of the devices which make a block, from that of the block's entries (nodes, ports)."""
        if layout.dense:
            return self
        common = self.common
        if isinstance(common, np.ndarray):
            common = layout.fold(np.broadcast_to(common, self.differential.shape))
        return replace(self, differential=layout.fold(self.differential), common=common)

    def transposed(self) -> PairGradient:
        """That of the array turned round, (columns, rows)."""
        common = self.common.T if isinstance(self.common, np.ndarray) else self.common
        return replace(self, differential=self.differential.T, common=common)


Gradients = Mapping[str, PairGradient]


@dataclass(frozen=True)
class Update:
    """What a rule makes of a batch: its mean gradient in every array [1/S], the samples (batch,) that took
    part, the nudged equilibria behind it (None where none were needed), how many ``measurements`` of
    the chip's devices it took, and which arrays are ``kept`` as they are.
    """

    gradients: Gradients
    valid: Array
    nudged: Settled | None = None
    measurements: int = 0
    kept: frozenset[str] = frozenset()


class LearningRule(Protocol):
    """Turns the free equilibria of a batch into a gradient of every array.

    A rule says what it needs of a chip (:meth:`check`), how the chip is used (:meth:`relax`), and what it
    learns from a batch (:meth:`update`); nothing else is asked of it.
    """

    @property
    def name(self) -> str:
        """As recorded with a run."""

    @property
    def nudging(self) -> Nudging:
        """What it asks of a chip beside the free phase, probes aside. Of a rule that does not say, a step has
        no price.
        """
        return SOLVED

    @property
    def prober(self) -> Prober | None:
        """What probes the chip for it, and keeps the account."""
        return None

    def check(self, circuit: Circuit) -> None:
        """Refuse a circuit that lacks the hardware which the rule needs, with a DesignError."""
        return

    def relax(self, chip: Chip, inputs: Array, certify: int | None = None) -> Equilibrium:
        """The equilibria that the chip is used at, in training as in evaluation: here its own."""
        return chip.relax(inputs, certify=certify)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        """From ``inputs`` (batch, n_in) [V], the ``free`` equilibria on them, and their ``cost``.

        ``certify`` samples of each nudged phase are certified (default: all).
        """


class EstimatorRule(LearningRule):
    """One that nudges as its ``estimator`` does."""

    estimator: Estimator

    @property
    def nudging(self) -> Nudging:
        return self.estimator.nudging


@dataclass(frozen=True)
class EquilibriumPropagation(EstimatorRule):
    """Vector-field EP (Scellier et al. 2018): ``ε`` is measured by nudging the chip itself.

    Exact only where ``J̃`` is symmetric: ``ε = J̃⁻¹J̃ᵀδ``.
    """

    estimator: Estimator
    name: str = "ep"

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        return contracted(chip, inputs, free, self.estimator.response(free, cost, certify))


@dataclass(frozen=True)
class Adjoint(LearningRule):
    """The true gradient by implicit differentiation (recurrent backpropagation): the reference."""

    name: str = "adjoint"
    nudging: Nudging = SOLVED

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        return contracted(chip, inputs, free, adjoint_response(free, cost))


def contracted(chip: Chip, inputs: Array, free: Equilibrium, response: Response) -> Update:
    """The update that a response makes by the one local rule."""
    grads = gradients(chip, inputs, seen_by(response, free), response.epsilon)
    return Update(grads, response.valid, response.nudged)


def seen_by(response: Response, free: Equilibrium) -> Equilibrium:
    """``free`` as it is read where the response is measured, and as it is where that is solved for."""
    return as_read(free) if response.measured else free


def descent(epsilon: Array) -> Array:
    """``-ε`` over the size of its batch: what a mean gradient is contracted from."""
    down: Array = epsilon * epsilon.dtype.type(-1.0 / len(epsilon))
    return down


def as_read(state: Equilibrium, first: int = 0) -> Equilibrium:
    """``state`` with its ports and nodes [V] as the chip's sense amplifiers read them (``first``: the address
    of the first reading).
    """
    if state.periphery.reads_truly:
        return state
    read = state.periphery.read
    return replace(state, ports=read(state.ports, first), voltages=read(state.voltages, first, "node"))


def gradients(chip: Chip, inputs: Array, free: Equilibrium, epsilon: Array) -> dict[str, PairGradient]:
    """Contract a response ``epsilon`` (batch, N) [V/W] into the batch's mean gradient of every array."""
    total: dict[str, PairGradient] = {}
    down = descent(epsilon)
    for bank in chip.circuit.banks:
        part = _bank_gradient(chip, bank, inputs, free, down)
        known = total.get(bank.array)
        total[bank.array] = part if known is None else _sum(known, part)
    return total


def _bank_gradient(chip: Chip, bank: Bank, inputs: Array, free: Equilibrium, down: Array) -> PairGradient:
    """One bank's part, by ``down``, its :func:`descent`.

    The current into node i is ``g+ (s_j - κ v_i) + g- (-s_j - κ v_i)``; through a node's own amplifiers,
    ``a_b g (s_j - a_f v_i)``.
    """
    nodes = chip.blocks.slices[bank.post]
    pull = down[:, nodes]
    load: Array | float = chip.circuit.kappa
    if bank.returned:
        pull, load = pull * chip.drivers[bank.name], load * chip.reflected(bank)
    drive = drive_voltages(chip, bank, inputs, free)
    differential = products.product(pull.T, drive, chip.blocks.threads)
    common: Array | float = 0.0
    if chip.circuit.kappa:
        loaded = down[:, nodes] * free.voltages[:, nodes]
        common = -(loaded.sum(axis=0) * np.asarray(load, down.dtype))[:, None]
    gradient = PairGradient(differential, common, len(chip.own(chip.devices[bank.array].target)))
    gradient = gradient.transposed() if bank.transposed else gradient
    return gradient.folded(chip.circuit.layouts[bank.array])


def drive_voltages(chip: Chip, bank: Bank, inputs: Array, free: Equilibrium) -> Array:
    """Voltages (batch, n_pre) [V] that drive a bank's devices, behind its drivers.

    A bank that is no part of the free state's circuit rests at 0 V: it loads its columns and no more.
    """
    if bank.pre == INPUT:
        return inputs
    if bank.pre == BIAS:
        return np.full((len(inputs), 1), chip.bias_voltage, inputs.dtype)
    ports = free.layer(bank.pre)
    if (bank.post, bank.pre) not in tuple(free.circuit.couplings):
        return np.zeros_like(ports)
    return ports * chip.drivers[bank.name] if bank.driven and not bank.returned else ports


def mirrored(circuit: Circuit, found: Gradients) -> dict[str, PairGradient]:
    """``found`` with every forward array's gradient also given, turned round, to its feedback twin."""
    twins = {
        backward.array: found[forward.array].transposed()
        for forward, backward in circuit.feedback_pairs
        if not backward.transposed
    }
    return {**found, **twins}


def require_feedback(circuit: Circuit, rule: str) -> None:
    """Refuse a circuit with a coupling between layers that has no partner the other way."""
    paired = {bank.name for pair in circuit.feedback_pairs for bank in pair}
    for bank in circuit.banks:
        if bank.pre >= 0 and bank.name not in paired:
            lacks(circuit, rule, f"a way back along {bank.name}", 'write chip.family = "twin" or "shared"')


def require_amplifiers(circuit: Circuit, rule: str) -> None:
    """Refuse a circuit whose nodes have no amplifiers to read them without drawing current."""
    if circuit.resistive:
        lacks(circuit, rule, "a neuron's own amplifier and feedback columns", 'write chip.family = "twin"')


def lacks(circuit: Circuit, rule: str, hardware: str, remedy: str) -> NoReturn:
    """Raise the DesignError of a rule that needs ``hardware`` which the chip's family does not have."""
    family = f'chip.family = "{circuit.design.chip.family}"'
    refuse("learning.rule", rule, f"needs {hardware}, which {family} has not; {remedy}", "chip.family")


def _sum(a: PairGradient, b: PairGradient) -> PairGradient:
    return replace(a, differential=a.differential + b.differential, common=a.common + b.common)
