"""How asymmetric a chip's Jacobian is, what that does to EP's gradient, and the exact objective.

All in port coordinates, ``J̃ = ∂I/∂s``: for a chip of neurons ``J̃ = G - diag(load / f')``, so that only
``G ≠ Gᵀ`` counts (physics, section 1: The circuit).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium
from ..simulator.blocks import Array
from .estimators import Response, adjoint_response, exact_response
from .nudges import Cost
from .rules import gradients


@dataclass(frozen=True)
class Symmetry:
    """``measure = |S| / (|S| + |A|)`` of J̃ (1 is symmetric; Laborieux and Zenke 2024), and the same
    ``after`` the best positive rate per neuron, constant on the outputs.
    """

    measure: float
    after: float
    rates: Array


def symmetry(free: Equilibrium, sample: int = 0) -> Symmetry:
    """Symmetry of J̃ at one sample, before and after the best diagonal D (J̃D symmetric)."""
    jacobian = free.port_jacobian(sample).astype(np.float64)
    rates = best_rates(jacobian, free.circuit.output)
    return Symmetry(_measure(jacobian), _measure(jacobian * rates), rates)


def _measure(matrix: Array) -> float:
    matrix = matrix / np.abs(matrix).max()  # a saturated neuron's load / f' may be too large to square
    s = np.linalg.norm(matrix + matrix.T)
    return float(s / (s + np.linalg.norm(matrix - matrix.T)))


def best_rates(jacobian: Array, output: slice) -> Array:
    """The positive diagonal D, 1 on the outputs, that makes ``J̃D`` most nearly symmetric.

    Least squares of ``log(J̃_ij d_j) - log(J̃_ji d_i)`` over the pairs of equal sign, each weighted by
    ``J̃_ij J̃_ji``: exact where such a D exists, and positive by itself. (The same fit without the logarithms
    shrinks whatever it cannot make symmetric, and so leaves ``J̃D`` less symmetric than ``J̃``.)
    """
    coupling = jacobian - np.diag(np.diag(jacobian))
    weight = np.maximum(coupling * coupling.T, 0.0)
    ratio = np.log(np.abs(coupling.T), out=np.zeros_like(weight), where=weight > 0)  # [i, j]: d_j over d_i
    ratio -= ratio.T
    laplacian = np.diag(weight.sum(axis=1)) - weight
    free = np.ones(len(jacobian), bool)
    free[output] = False
    rates = np.ones(len(jacobian))
    pull = -(weight * ratio).sum(axis=1)
    rates[free] = np.exp(np.linalg.lstsq(laplacian[np.ix_(free, free)], pull[free], rcond=None)[0])
    return rates


def weight_angles(chip: Chip) -> dict[str, float]:
    """Angle [degrees] between each forward bank's ``W_f`` and its feedback's ``W_bᵀ``, drivers included."""
    angles = {}
    for forward, backward in chip.circuit.feedback_pairs:
        wf = chip.blocks.weight(forward.post, forward.pre)
        wb = chip.blocks.weight(backward.post, backward.pre)
        angles[forward.array] = float(np.degrees(np.arccos(np.clip(cosine(wf, wb.T), -1, 1))))
    return angles


def objective(chip: Chip) -> tuple[float, dict[str, Array]]:
    """The homeostatic objective ``H = ½ |J̃ - J̃ᵀ|²`` [S²] and its gradient in each array's pairs [S].

    ``H = E_ε[|J̃ε|² - εᵀJ̃²ε]`` for ε ~ N(0, I) (Laborieux and Zenke 2024). The gradient is in the *actual*
    differential conductance; on the `shared` family it is ``2 w_ij (a_f[j] - a_b[i])²``: pure shrinkage.
    """
    total = 0.0
    slopes: dict[str, Array] = {}
    for forward, backward in chip.circuit.feedback_pairs:
        wf = chip.blocks.weight(forward.post, forward.pre).astype(np.float64)
        skew = wf - chip.blocks.weight(backward.post, backward.pre).T
        total += float(np.sum(skew**2))
        for bank, slope in ((forward, 2 * skew), (backward, -2 * skew.T)):
            part = slope * chip.drivers[bank.name] if bank.driven else slope
            part = part.T if bank.transposed else part
            slopes[bank.array] = slopes.get(bank.array, 0.0) + part
    return total, slopes


def alignment(
    chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, response: Response | None = None
) -> dict[str, float]:
    """Cosine of a response's gradient (default: EP's exact one, β → 0) to the adjoint's, for every array."""
    response = response or exact_response(chip, free, cost)
    ep = gradients(chip, inputs, free, response.epsilon)
    true = gradients(chip, inputs, free, adjoint_response(chip, free, cost).epsilon)
    return {name: cosine(ep[name].devices(), true[name].devices()) for name in true}


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays; NaN if either vanishes."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length > 0 else float("nan")
