"""Learning rules: a response of the ports, contracted with the voltages that drive the devices.

For any conductance, ``dL/dg = -Σ_i ε_i d_i`` over the nodes i that it feeds, ``d_i = ∂I_i/∂g`` being the
voltage that drives it in the free state (physics, section 3: Gradients). Rules differ in where ``ε``
comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import BIAS, INPUT, Bank
from ..circuits.equilibrium import Equilibrium
from ..simulator.blocks import Array
from .estimators import Estimator, Response, adjoint_response
from .nudges import Cost


@dataclass(frozen=True)
class PairGradient:
    """Gradient of an array's devices, ``dL/dg± = common ± differential`` [1/S] (rows, columns).

    ``common`` vanishes on virtual-ground columns, where only ``g+ - g-`` matters; it broadcasts.
    """

    differential: Array
    common: Array | float

    def devices(self) -> Array:
        """``dL/dg`` (2, rows, columns), g+ first."""
        return np.stack([self.common + self.differential, self.common - self.differential])

    def along_pair(self, target: Array) -> Array:
        """``dL/dw`` (rows, columns) where one device of each pair carries the weight (pair coding)."""
        if np.isscalar(self.common):
            return self.differential
        return self.differential + np.where(target[0] >= target[1], self.common, -self.common)


Gradients = Mapping[str, PairGradient]


class LearningRule(Protocol):
    """Where a gradient's port response comes from."""

    @property
    def name(self) -> str:
        """As recorded with a run."""

    def response(self, chip: Chip, free: Equilibrium, cost: Cost, certify: int | None) -> Response:
        """``ε`` of every port, for the free equilibria of a batch."""


@dataclass(frozen=True)
class EquilibriumPropagation:
    """Vector-field EP (Scellier et al. 2018): ``ε`` is measured by nudging the chip itself.

    Exact only where ``J̃`` is symmetric: ``ε = J̃⁻¹J̃ᵀδ``.
    """

    estimator: Estimator
    name: str = "ep"

    def response(self, chip: Chip, free: Equilibrium, cost: Cost, certify: int | None) -> Response:
        return self.estimator.response(chip, free, cost, certify)


@dataclass(frozen=True)
class Adjoint:
    """The true gradient by implicit differentiation (recurrent backpropagation): the reference."""

    name: str = "adjoint"

    def response(self, chip: Chip, free: Equilibrium, cost: Cost, certify: int | None) -> Response:
        return adjoint_response(chip, free, cost)


def gradients(chip: Chip, inputs: Array, free: Equilibrium, epsilon: Array) -> dict[str, PairGradient]:
    """Contract a response ``epsilon`` (batch, N) [V/W] into the batch's mean gradient of every array."""
    total: dict[str, PairGradient] = {}
    for bank in chip.circuit.banks:
        part = _bank_gradient(chip, bank, inputs, free, epsilon)
        known = total.get(bank.array)
        total[bank.array] = part if known is None else _sum(known, part)
    return total


def _bank_gradient(chip: Chip, bank: Bank, inputs: Array, free: Equilibrium, epsilon: Array) -> PairGradient:
    """One bank's part: the current into node i is ``g+ (s_j - κ v_i) + g- (-s_j - κ v_i)``."""
    nodes = chip.blocks.slices[bank.post]
    scaled = epsilon[:, nodes] * epsilon.dtype.type(-1.0 / len(epsilon))
    differential = scaled.T @ drive_voltages(chip, bank, inputs, free)
    common: Array | float = 0.0
    if chip.circuit.kappa:
        kappa = epsilon.dtype.type(chip.circuit.kappa)
        common = -kappa * np.sum(scaled * free.voltages[:, nodes], axis=0)[:, None]
    if bank.transposed:
        return PairGradient(differential.T, common.T if isinstance(common, np.ndarray) else common)
    return PairGradient(differential, common)


def drive_voltages(chip: Chip, bank: Bank, inputs: Array, free: Equilibrium) -> Array:
    """Voltages (batch, n_pre) [V] that drive a bank's devices, behind its drivers."""
    if bank.pre == INPUT:
        return inputs
    if bank.pre == BIAS:
        return np.full((len(inputs), 1), chip.bias_voltage, inputs.dtype)
    ports = free.layer(bank.pre)
    return ports * chip.drivers[bank.name] if bank.driven else ports


def _sum(a: PairGradient, b: PairGradient) -> PairGradient:
    return PairGradient(a.differential + b.differential, a.common + b.common)
