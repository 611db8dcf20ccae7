"""What settling returns, with the evidence that it can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..simulator import relaxation, stability
from ..simulator.blocks import Array, BlockCircuit

BRANCH_MARGIN = 100.0  # a released state further than this many tolerances from the free one has jumped


class Nudge(Protocol):
    """What pushes current into the output layer (see :mod:`ohmostat.learning.nudges`).

    A complex ``beta`` makes the chip's analytic continuation settle, in complex128.
    """

    @property
    def beta(self) -> Array:
        """Strength [W] for every sample (batch,)."""

    def current(self, ports: Array, rows: Array) -> Array:
        """Current [A] (m, n_out) into the output nodes at their ports [V], for samples ``rows``."""

    def slope(self, ports: Array, row: int) -> Array:
        """Its Jacobian ``∂I/∂s`` [S] (n_out, n_out) for one sample."""


@dataclass(frozen=True)
class Equilibrium:
    """Settled states of a batch of samples.

    Attributes:
        voltages, ports: (batch, N) [V], in the state order of ``circuit`` (use :meth:`layer`).
        injected: current [A] (batch, N) that inputs and biases pushed in.
        settled: (batch,) whether each sample met ``tolerance`` (a share of full swing).
        sweeps: (batch,) relaxation sweeps, or integration steps of a transient.
        checked: (batch,) whether the sample was certified; the next three hold for those only.
        residual: (batch,) largest ``|I|`` [A] over the nodes.
        stable: (batch,) whether the ODE stays there.
        jumped: (batch,) whether a nudged state, released, did not return to its free state.
        time, energy: (batch,) settling time [s] and dissipated energy [J], of a transient.
    """

    circuit: BlockCircuit
    voltages: Array
    ports: Array
    injected: Array
    settled: Array
    tolerance: float
    sweeps: Array
    checked: Array | None = None
    residual: Array | None = None
    stable: Array | None = None
    jumped: Array | None = None
    time: Array | None = None
    energy: Array | None = None

    def layer(self, k: int) -> Array:
        """Port voltages [V] (batch, n_k) of layer ``k``."""
        return self.circuit.layer(self.ports, k)

    @property
    def outputs(self) -> Array:
        """Port voltages [V] (batch, n_out) of the output layer."""
        return self.ports[:, self.circuit.output]

    def slopes(self) -> Array:
        """Amplifier slopes ``f'(v)`` [V/V] (batch, N)."""
        return self.circuit.ports(self.voltages)[1]

    def jacobian(self, sample: int = 0) -> Array:
        """``J = ∂I/∂v`` (N, N) [S] of one sample (nudge excluded)."""
        return self.circuit.jacobian(self.voltages[sample])

    def port_jacobian(self, sample: int = 0) -> Array:
        """``J̃ = ∂I/∂s`` (N, N) [S] of one sample (nudge excluded)."""
        return self.circuit.port_jacobian(self.voltages[sample])


def certified(
    circuit: BlockCircuit,
    state: Equilibrium,
    nudge: Nudge | None,
    start: Equilibrium | None,
    samples: int | None,
) -> Equilibrium:
    """``state`` with residual, stability and branch of its first ``samples`` samples (None: all)."""
    batch = len(state.voltages)
    count = batch if samples is None else min(samples, batch)
    checked = np.arange(batch) < count
    residual, stable = np.full(batch, np.nan), np.zeros(batch, bool)
    if count:
        rows = np.arange(count)
        current = circuit.current(state.voltages[:count], state.injected[:count])
        if nudge is not None:
            current[:, circuit.output] += nudge.current(state.outputs[:count], rows)
        residual[:count] = np.abs(current).max(axis=1)
        real = not np.iscomplexobj(state.voltages)  # a complex state is not one of the circuit's
        for row in np.flatnonzero(state.settled[:count] & real):
            slope = None if nudge is None else nudge.slope(state.outputs[row], int(row))
            stable[row] = stability.is_stable(circuit, state.voltages[row], slope)
    jumped = np.zeros(batch, bool)
    if nudge is not None and start is not None and count:
        jumped[:count] = _jumped(circuit, state, start, count)
    return replace(state, checked=checked, residual=residual, stable=stable, jumped=jumped)


def _jumped(circuit: BlockCircuit, state: Equilibrium, free: Equilibrium, count: int) -> Array:
    """Release the nudge: a state on the free state's branch returns to it."""
    released = relaxation.relax(
        circuit, state.injected[:count], start=state.ports[:count], tolerance=state.tolerance
    )
    distance = np.abs(released.ports - free.ports[:count]).max(axis=1)
    far: Array = distance > BRANCH_MARGIN * state.tolerance * circuit.swing
    return far
