"""What settling returns, with the evidence that it can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..simulator import relaxation, stability
from ..simulator.blocks import Array, BlockCircuit
from .periphery import IDEAL, Nudge, Periphery, push_of

BRANCH_MARGIN = 100.0  # states further apart than this many tolerances are two equilibria, not one


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
        periphery: through which a chip's states are nudged and read; ``ports`` are never its readings.
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
    periphery: Periphery = IDEAL

    def layer(self, k: int) -> Array:
        """Port voltages [V] (batch, n_k) of layer ``k``."""
        return self.circuit.layer(self.ports, k)

    @property
    def outputs(self) -> Array:
        """Port voltages [V] (batch, n_out) of the output layer."""
        return self.ports[:, self.circuit.output]

    @property
    def sound(self) -> Array:
        """(batch,) samples that settled, and were not found to be unstable or on another branch."""
        if self.checked is None or self.stable is None or self.jumped is None:
            return self.settled
        unstable = ~self.stable & (not np.iscomplexobj(self.ports))
        sound: Array = self.settled & ~(self.checked & (unstable | self.jumped))
        return sound

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> Equilibrium:
        """Equilibria (copies * batch) of the same circuit under a nudge, relaxed from this state.

        The nudge holds the batch ``copies`` times, one strength after the other; ``certify`` samples of
        each are certified (default: all).
        """
        batch = len(self.ports)
        start = self._repeated(copies)
        state = settle(
            self.circuit, start.injected, nudge, start, tolerance=self.tolerance, periphery=self.periphery
        )
        rows = np.arange(copies)[:, None] * batch + np.arange(batch if certify is None else certify)
        return certified(self.circuit, state, nudge, start, rows.ravel())

    def _repeated(self, copies: int) -> Equilibrium:
        def tile(values: Array) -> Array:
            return np.concatenate([values] * copies)

        return Equilibrium(
            self.circuit, tile(self.voltages), tile(self.ports), tile(self.injected),
            tile(self.settled), self.tolerance, tile(self.sweeps),
        )  # fmt: skip

    def slopes(self) -> Array:
        """Amplifier slopes ``f'(v)`` [V/V] (batch, N)."""
        return self.circuit.ports(self.voltages)[1]

    def jacobian(self, sample: int = 0) -> Array:
        """``J = ∂I/∂v`` (N, N) [S] of one sample (nudge excluded)."""
        return self.circuit.jacobian(self.voltages[sample])

    def port_jacobian(self, sample: int = 0) -> Array:
        """``J̃ = ∂I/∂s`` (N, N) [S] of one sample (nudge excluded)."""
        return self.circuit.port_jacobian(self.voltages[sample])


def settle(
    circuit: BlockCircuit, injected: Array, nudge: Nudge | None = None, start: Equilibrium | None = None, *,
    tolerance: float, periphery: Periphery = IDEAL, **options: Any,
) -> Equilibrium:  # fmt: skip
    """Relax a circuit under ``injected`` (batch, N) [A] and a nudge, from ``start``; not certified."""
    injected = continued(injected, nudge)
    found = relaxation.relax(
        circuit, injected, start=None if start is None else start.ports,
        nudge=push_of(nudge), tolerance=tolerance, **options,
    )  # fmt: skip
    return Equilibrium(
        circuit, found.voltages, found.ports, injected, found.settled, tolerance, found.sweeps,
        periphery=periphery,
    )  # fmt: skip


def continued(injected: Array, nudge: Nudge | None) -> Array:
    """``injected`` in the precision of the states: complex, at its own width, under a complex nudge."""
    if nudge is None or not np.iscomplexobj(nudge.beta):
        return injected
    return injected.astype(np.result_type(injected, np.complex64))


def certified(
    circuit: BlockCircuit,
    state: Equilibrium,
    nudge: Nudge | None,
    start: Equilibrium | None,
    rows: Array | None,
) -> Equilibrium:
    """``state`` with residual, stability and branch of the samples ``rows`` (None: all)."""
    batch = len(state.voltages)
    rows = np.arange(batch) if rows is None else np.asarray(rows, np.int64)
    checked, stable, jumped = (np.zeros(batch, bool) for _ in range(3))
    residual = np.full(batch, np.nan)
    if rows.size:
        checked[rows] = True
        current = circuit.current(state.voltages[rows], state.injected[rows])
        if nudge is not None:
            current[:, circuit.output] += nudge.current(state.outputs[rows], rows)
        residual[rows] = np.abs(current).max(axis=1)
        real = not np.iscomplexobj(state.voltages)  # a complex state is not one of the circuit's
        for row in rows[state.settled[rows] & real & np.isfinite(residual[rows])]:
            slope = None if nudge is None else nudge.slope(state.outputs[row], int(row))
            stable[row] = stability.is_stable(circuit, state.voltages[row], slope)
        if nudge is not None and start is not None:
            jumped[rows] = _jumped(circuit, state, start, rows)
    return replace(state, checked=checked, residual=residual, stable=stable, jumped=jumped)


def _jumped(circuit: BlockCircuit, state: Equilibrium, free: Equilibrium, rows: Array) -> Array:
    """Release the nudge: a state on the free state's branch returns to it."""
    released = relaxation.relax(
        circuit, state.injected[rows], start=state.ports[rows], tolerance=state.tolerance
    )
    return on_another_branch(released.ports, free.ports[rows], state.tolerance * circuit.swing)


def on_another_branch(ports: Array, others: Array, tolerance: float) -> Array:
    """(batch,) whether two solutions' ports (batch, N) [V], each settled to ``tolerance`` [V], lie further
    apart than solving for the same equilibrium twice could leave them.
    """
    far: Array = np.abs(ports - others).max(axis=1) > BRANCH_MARGIN * tolerance
    return far
