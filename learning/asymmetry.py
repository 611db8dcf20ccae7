"""How asymmetric a chip's Jacobian is, what that does to EP's gradient, and the exact objective.

All in port coordinates, ``J̃ = ∂I/∂s``: for a chip of neurons ``J̃ = G - diag(load / f')``, so that only
``G ≠ Gᵀ`` counts (physics, section 1: The circuit).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium
from ..simulator.blocks import Array, BlockCircuit
from .rules import Gradients


@dataclass(frozen=True)
class Symmetry:
    """``measure = |S| / (|S| + |A|)`` of J̃ (1 is symmetric; Laborieux and Zenke 2024), and the same
    ``after`` the best positive rate per neuron, constant on the outputs.
    """

    measure: float
    after: float
    rates: Array


def symmetry(free: Equilibrium, sample: int = 0, relays: Iterable[int] = ()) -> Symmetry:
    """Symmetry of J̃ at one sample, before and after the best diagonal D (J̃D symmetric).

    Nodes that an ideal diode holds do not move, and take no part: their rate is 1. Layers of ``relays`` are
    eliminated, ``J̃_nn - J̃_nr J̃_rr⁻¹ J̃_rn``: to the others they are the way back, and no more.
    """
    moving, passing = np.ones(free.circuit.size, bool), np.zeros(free.circuit.size, bool)
    if free.circuit.clamps:
        moving = free.slopes()[sample] > np.finfo(free.ports.dtype).eps
    for layer in relays:
        passing[free.circuit.slices[layer]] = True
    whole, moving = free.port_jacobian(sample).astype(np.float64), moving & ~passing
    jacobian = whole[moving][:, moving]
    if passing.any():
        inner, into, out = (whole[rows][:, columns] for rows, columns in
                            ((passing, passing), (passing, moving), (moving, passing)))  # fmt: skip
        jacobian -= out @ np.linalg.solve(inner, into)
    output, rates = np.zeros(free.circuit.size, bool), np.ones(free.circuit.size)
    output[free.circuit.output] = True
    rates[moving] = best_rates(jacobian, output[moving])
    return Symmetry(_measure(jacobian), _measure(jacobian * rates[moving]), rates)


def _measure(matrix: Array) -> float:
    matrix = matrix / np.abs(matrix).max()  # a saturated neuron's load / f' may be too large to square
    s = np.linalg.norm(matrix + matrix.T)
    return float(s / (s + np.linalg.norm(matrix - matrix.T)))


def best_rates(jacobian: Array, output: slice | Array) -> Array:
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
    """Angle [degrees] between each forward bank's ``W_f`` and its feedback's ``W_bᵀ``, drivers included; over
    relays, ``W_b`` is the product of the two crossbars.
    """
    weight = chip.blocks.weight
    back = {(f.array, f.post, f.pre): weight(b.post, b.pre) for f, b in chip.circuit.feedback_pairs}
    for f, listening, b in chip.circuit.relay_paths:
        back[f.array, f.post, f.pre] = weight(b.post, b.pre) @ weight(listening.post, listening.pre)
    return {
        array: float(np.degrees(np.arccos(np.clip(cosine(weight(post, pre), wb.T), -1, 1))))
        for (array, post, pre), wb in back.items()
    }


def objective(chip: Chip) -> tuple[float, dict[str, Array]]:
    """The homeostatic objective ``H = ½ |J̃ - J̃ᵀ|²`` [S²] and its gradient in each array's pairs [S].

    ``H = E_ε[|J̃ε|² - εᵀJ̃²ε]`` for ε ~ N(0, I) (Laborieux and Zenke 2024). The gradient is in the *actual*
    differential conductance; on the `shared` family it is ``2 w_ij (a_f[j] - a_b[i])²``: pure shrinkage; so
    it is wherever a coupling has no partner (`loop`), ``2 w_ij``.
    """
    total, layouts = 0.0, chip.circuit.layouts
    slopes: dict[str, Array] = {}
    paired = {bank.name for pair in chip.circuit.feedback_pairs for bank in pair}
    for bank in chip.circuit.banks:
        if bank.pre >= 0 and bank.name not in paired:
            weight = chip.blocks.weight(bank.post, bank.pre).astype(np.float64)
            total += float(np.sum(weight**2))
            slopes[bank.array] = layouts[bank.array].fold(2 * weight)
    for forward, backward in chip.circuit.feedback_pairs:
        wf = chip.blocks.weight(forward.post, forward.pre).astype(np.float64)
        skew = wf - chip.blocks.weight(backward.post, backward.pre).T
        total += float(np.sum(skew**2))
        for bank, slope in ((forward, 2 * skew), (backward, -2 * skew.T)):
            part = slope * chip.drivers[bank.name] if bank.driven else slope
            part = layouts[bank.array].fold(part.T if bank.transposed else part)
            slopes[bank.array] = slopes.get(bank.array, 0.0) + part
    return total, slopes


@dataclass(frozen=True)
class Skew:
    """How much of one array's asymmetry the devices can take out: root sums of squares of G - Gᵀ [S].

    ``total² = trainable² + drivers² + limits²``. ``trainable`` vanishes where every pair stands at its
    nearest reachable symmetric point, ``one_sided`` being the part of it in pairs where one twin meets its
    own limit first and the other must come all the way. ``limits`` is what is left of pairs whose
    ranges do not meet (dead and stuck devices); where the homeostat moves the feedback alone, the forward
    device's range is where it stands. ``drivers`` is a shared array's, which moving devices only shrinks, and
    trimming drivers takes out (:mod:`.trim`).
    """

    total: float
    trainable: float
    one_sided: float
    limits: float
    drivers: float


def diagnosis(chip: Chip) -> dict[str, Skew]:
    """What of a chip's asymmetry is trainable, and what is fixed, by forward array."""
    found, alone = {}, chip.circuit.design.homeostat.moves == "feedback"
    for forward, backward in chip.circuit.feedback_pairs:
        wf = chip.blocks.weight(forward.post, forward.pre).astype(np.float64)
        skew = wf - chip.blocks.weight(backward.post, backward.pre).T
        total = float(np.linalg.norm(skew))
        if backward.transposed:  # no twin of its own, but the same array read the other way
            found[forward.array] = Skew(total, 0.0, 0.0, 0.0, total)
            continue
        low_b, high_b = reach(chip, backward.array)
        (low_f, high_f), middle = reach(chip, forward.array), wf - skew / 2
        if alone:
            low_f = high_f = middle = wf
        low, high = np.maximum(low_f, low_b.T), np.minimum(high_f, high_b.T)
        blocked = (low <= high) & ((middle < low) | (middle > high))
        limits = float(np.linalg.norm(np.maximum(low - high, 0)))
        trainable = float(np.sqrt(max(total**2 - limits**2, 0.0)))
        found[forward.array] = Skew(total, trainable, float(np.linalg.norm(skew[blocked])), limits, 0.0)
    return found


def reach(chip: Chip, array: str) -> tuple[Array, Array]:
    """Least and largest actual weight [S] (nodes, ports) that one command could give each pair, where it is.

    A device moves by its step gain, as far as its target can go, within its own limits; one of a pair rests.
    What resistive wires take off is left out (some per cent where they take some): it hangs on where all the
    others then stand.
    """
    g_min, g_max = chip.limits
    a = chip.devices[array]
    actual, step, target = (plane.astype(np.float64) for plane in (a.actual, a.step, a.target))
    low, high = (
        np.clip(actual + step * (g - target), a.deviation * g_min, a.deviation * g_max)
        for g in (g_min, g_max)
    )
    unfold = chip.circuit.layouts[array].unfold
    return unfold(chip.conduction * (low[0] - high[1])), unfold(chip.conduction * (high[0] - low[1]))


def alignment(measured: Gradients, true: Gradients) -> dict[str, float]:
    """Cosine of a gradient to the true one, for every array, over all its devices."""
    return {name: cosine(measured[name].devices(), true[name].devices()) for name in true}


def response_alignment(
    circuit: BlockCircuit, measured: Array, true: Array, names: Sequence[str] = ()
) -> dict[str, float]:
    """Cosine of a response (batch, N) [V/W] to the true one in every layer, the mean over the samples; by the
    layers' ``names``, or their numbers.

    The published programs report this one. That of the batch's gradient, :func:`alignment`, is larger: what
    differs from sample to sample averages out.
    """
    names = names or [f"layer{k}" for k in range(len(circuit.sizes))]
    return {
        name: _row_cosines(*(circuit.layer(e, k) for e in (measured, true))) for k, name in enumerate(names)
    }


def _row_cosines(a: Array, b: Array) -> float:
    """Mean of the rows' cosines, those without a direction left out."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    rows = length > 0
    return float(np.mean((a * b).sum(axis=1)[rows] / length[rows])) if rows.any() else float("nan")


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays; NaN if either vanishes."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length > 0 else float("nan")
