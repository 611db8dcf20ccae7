"""Is an equilibrium stable for the physical circuit, ``C dv/dt = I(v)``?

An accelerated solver can land where the circuit itself would not stay. Three tests, cheap ones first:

1. If the symmetric part of ``J̃ = ∂I/∂s`` is negative definite, the equilibrium is stable for *any*
   capacitors: with ``σ = δs`` and ``M = C / f'``, the energy ``σᵀMσ`` decays at ``2 σᵀJ̃σ < 0``.
2. If some power of an Euler step, ``Z = 1 + h C⁻¹J``, has a norm below 1, no eigenvalue of ``Z`` reaches the
   unit circle, so that none of ``C⁻¹J`` reaches the imaginary axis.
3. Otherwise the rightmost eigenvalue of ``C⁻¹J`` decides.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from . import products
from .blocks import Array, BlockCircuit

DOUBLINGS = 8  # of the number of Euler steps: 256 of half the fastest node's time constant
RETURNED = 0.5  # a norm well below 1
LOST = 1e2  # and one beyond which single precision, which errs with its square, might decide


def is_stable(circuit: BlockCircuit, voltages: Array, nudge_slope: Array | None = None) -> bool:
    """Whether the equilibrium ``voltages`` (N,) [V] is stable; ``nudge_slope`` as for the Jacobian."""
    if is_contracting(circuit, voltages, nudge_slope):
        return True
    rates = moving_rates(circuit, voltages, nudge_slope)
    return is_returning(rates) or rightmost(rates).real < 0


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


def moving_rates(circuit: BlockCircuit, voltages: Array, nudge_slope: Array | None = None) -> Array:
    """``C⁻¹J`` (n, n) [1/s] of the nodes that can move: one that an ideal diode holds stays."""
    rates = circuit.jacobian(voltages, nudge_slope).astype(np.float64)
    if not circuit.clamps:
        return rates / circuit.capacitance[:, None]
    moving = np.flatnonzero(circuit.ports(voltages)[1] > np.finfo(voltages.dtype).eps)
    return rates[np.ix_(moving, moving)] / circuit.capacitance[moving, None]


def is_returning(rates: Array) -> bool:
    """Sufficient test 2, in single precision: a product takes a fiftieth of the eigenvalues' time.

    The step is half the time constant of the node with the largest rate of its own.
    """
    if not rates.size or not np.isfinite(rates).all():
        return not rates.size
    fastest = max(float(-np.diag(rates).min()), np.finfo(float).tiny)
    steps = (np.eye(len(rates)) + 0.5 / fastest * rates).astype(np.float32)
    for _ in range(DOUBLINGS):
        steps = products.product(steps, steps)
        size = float(np.linalg.norm(steps))
        if not RETURNED <= size <= LOST:
            return size < RETURNED
    return False


def rightmost(rates: Array) -> complex:
    """Rightmost eigenvalue of ``C⁻¹J`` [1/s]: its real part is the slowest decay rate, with sign."""
    if not rates.size:
        return complex(-np.inf)
    eigenvalues = linalg.eigvals(rates)
    return complex(eigenvalues[np.argmax(eigenvalues.real)])
