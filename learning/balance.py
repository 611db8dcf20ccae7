"""Errors read from the balance of two currents at every node, excitatory and inhibitory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.equilibrium import Equilibrium
from ..simulator.blocks import Array
from .contrast import nudged_states
from .estimators import Response, Stencil
from .nudges import Cost
from .rules import EstimatorRule, Update, contracted, drive_voltages, require_amplifiers


@dataclass(frozen=True)
class BalanceErrors(EstimatorRule):
    """The error of a neuron is by how much its two currents lose their balance while a controller acts on
    the outputs (Rossbroich and Zenke 2025, "Breaking balance", doi:10.1101/2025.05.12.653626).

    Excitation is the current of a node's g+ columns, inhibition that of its g- columns
    (:func:`column_currents`). With ``ΔI`` the shift of their difference, and of the controller's own current
    into an output, between a nudged and the free state, ``ε_i = (f'_i / leak) ΔI_i / β``: by Kirchhoff's law
    ``leak Δv = ΔI``, so that it is EP's response, linearised at the node itself, and as exact as EP. Ports
    are not compared at all: a neuron learns from its own two currents and its own slope. The controller is
    the nudge: proportional to the error, of gain β. It is taken to deliver what it was asked for, and the
    currents are read as voltages across the leak, with the errors of a port's amplifier.
    """

    estimator: Stencil
    name: str = "balance"

    def check(self, circuit: Circuit) -> None:
        require_amplifiers(circuit, self.name)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        measured = self.estimator.response(free, cost, certify)
        nudged, nodes, rates = nudged_states(self.estimator, measured)
        copies, samples = len(nodes), len(free.ports)
        current = imbalance(chip, np.tile(inputs, (copies, 1)), nudged)
        slope = cost.gradient(nudged.outputs, np.tile(np.arange(samples), copies))
        push = np.repeat(nodes * self.estimator.beta, samples)
        current[:, free.circuit.output] -= push[:, None].astype(current.dtype) * slope
        rest, leak = imbalance(chip, inputs, free), free.ports.dtype.type(chip.neuron.leak)
        shifts = (current.reshape(copies, samples, -1) - rest) / leak
        shifts = free.periphery.read_shifts(shifts, samples, None)
        epsilon = np.tensordot(rates.astype(shifts.dtype), shifts, axes=1).real * free.slopes()
        epsilon[~measured.valid] = 0
        return contracted(chip, inputs, free, Response(epsilon, measured.valid, nudged, measured=True))


def imbalance(chip: Chip, inputs: Array, state: Equilibrium) -> Array:
    """Excitation minus inhibition [A] (batch, N)."""
    excitation, inhibition = column_currents(chip, inputs, state)
    return excitation - inhibition


def column_currents(chip: Chip, inputs: Array, state: Equilibrium) -> tuple[Array, Array]:
    """Currents [A] (batch, N) of every node's g+ and g- columns, as their two sense amplifiers read them.

    ``Σ_j g+_ij (a_j s_j - κ v_i)`` into the node, and ``Σ_j g-_ij (a_j s_j + κ v_i)`` out of it.
    """
    excitation, inhibition = np.zeros_like(state.ports), np.zeros_like(state.ports)
    kappa = state.voltages.real.dtype.type(chip.circuit.kappa)
    for bank in chip.circuit.banks:
        nodes, volts = chip.blocks.slices[bank.post], drive_voltages(chip, bank, inputs, state)
        planes = chip.planes(bank, chip.seen(bank.array))
        for total, plane, loaded in ((excitation, 0, -kappa), (inhibition, 1, kappa)):
            devices = planes[plane]
            load = loaded * devices.sum(axis=1)
            total[:, nodes] += volts @ devices.T + load * state.voltages[:, nodes]
    return excitation, inhibition
