"""Is an equilibrium stable for the physical circuit, ``C dv/dt = I(v)``?

An accelerated solver can land where the circuit itself would not stay. Two tests, cheap one first:

1. If the symmetric part of ``J̃ = ∂I/∂s`` is negative definite, the equilibrium is stable for *any*
   capacitors: with ``σ = δs`` and ``M = C / f'``, the energy ``σᵀMσ`` decays at ``2 σᵀJ̃σ < 0``.
2. Otherwise the rightmost eigenvalue of ``C⁻¹J`` decides.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from .blocks import Array, BlockCircuit


def is_stable(circuit: BlockCircuit, voltages: Array, nudge_slope: Array | None = None) -> bool:
    """Whether the equilibrium ``voltages`` (N,) [V] is stable; ``nudge_slope`` as for the Jacobian."""
    return (
        is_contracting(circuit, voltages, nudge_slope) or rightmost(circuit, voltages, nudge_slope).real < 0
    )


def is_contracting(circuit: BlockCircuit, voltages: Array, nudge_slope: Array | None = None) -> bool:
    """Sufficient test 1: ``-(J̃ + J̃ᵀ)/2`` has a Cholesky factor.

    Scaled by ``m = √(f'/load)`` on both sides it is ``1 - m S m``, S the symmetric part of all couplings,
    which also holds where a neuron is saturated (f' = 0). Nodes of the first colour do not couple to each
    other: they are eliminated at once, and only the others' Schur complement is factorized.
    """
    coupling = circuit.coupling(nudge_slope)
    scale = np.sqrt(circuit.ports(voltages)[1].astype(np.float64) / circuit.load)  # float32 passes too many
    n = circuit.derived
    beside = 0.5 * (coupling[:n, n:] + coupling[n:, :n].T) * np.outer(scale[:n], scale[n:])
    among = 0.5 * (coupling[n:, n:] + coupling[n:, n:].T) * np.outer(scale[n:], scale[n:])
    schur = np.eye(len(among)) - among - beside.T @ beside
    if not np.isfinite(schur).all():
        return False
    try:
        linalg.cholesky(schur, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        return False
    return True


def rightmost(circuit: BlockCircuit, voltages: Array, nudge_slope: Array | None = None) -> complex:
    """Rightmost eigenvalue of ``C⁻¹J`` [1/s]: its real part is the slowest decay rate, with sign."""
    jacobian = circuit.jacobian(voltages, nudge_slope).astype(np.float64)
    moving = np.arange(circuit.size)
    if circuit.clamps:  # a node that an ideal diode holds stays
        moving = np.flatnonzero(circuit.ports(voltages)[1] > np.finfo(voltages.dtype).eps)
    if not moving.size:
        return complex(-np.inf)
    eigenvalues = linalg.eigvals(jacobian[np.ix_(moving, moving)] / circuit.capacitance[moving, None])
    return complex(eigenvalues[np.argmax(eigenvalues.real)])
