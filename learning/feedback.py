"""Rules about the way back: corrected, learned, or asked for.

EP's error comes from feedback that is not the forward path's transpose, ``A = (J̃ - J̃ᵀ)/2 ≠ 0``. It can be
corrected by a current while the chip is nudged, or learned away, on one crossbar or on two in series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.equilibrium import Equilibrium
from ..circuits.sections import refuse
from ..simulator import products
from ..simulator.blocks import Array
from .estimators import Estimator
from .homeostat import Running
from .nudges import Cost
from .probes import Prober
from .rules import (
    EquilibriumPropagation,
    EstimatorRule,
    Update,
    contracted,
    descent,
    lacks,
    mirrored,
    require_feedback,
    seen_by,
)
from .subcircuits import part

Ends = tuple[int, int]
"""A forward block: the layer that it feeds, and the one that drives it."""


@dataclass(frozen=True)
class AntisymmetricFeedback(EstimatorRule):
    """EP with the extra current ``-2A (s - s⁰)`` while nudged (Scurria et al. 2026, arXiv:2602.03670).

    It turns ``J̃`` into ``J̃ - 2A = J̃ᵀ`` for all that moves away from the free state, so that
    ``J̃ᵀ ε = ∂L/∂s`` is the adjoint's own equation: exact under any skew, at the price of knowing A. A
    ``prober`` measures it anew for every batch, by whole cycles of patterns, at least ``probes`` of them; an
    error of A leaves a proportionate one of ε. It must probe drivers' inputs, or their skew is missed.
    Without a prober A is taken as known exactly.

    The correction is a source at every node that computes with both crossbars' conductances, and needs the
    ports' free voltages held beside the moving ones.
    """

    estimator: Estimator
    prober: Prober | None = None
    probes: int = 256
    name: str = "aep"

    def check(self, circuit: Circuit) -> None:
        require_feedback(circuit, self.name)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        if self.prober is None:
            skew, measurements = exact_skew(chip), 0
        else:
            held = Running.beside(chip, inputs, free).held
            skew, measurements = self._measured_skew(chip, self.prober, held)
        response = self.estimator.response(with_correction(free, skew), cost, certify)
        return replace(contracted(chip, inputs, free, response), measurements=measurements)

    def _measured_skew(self, chip: Chip, prober: Prober, held: float | None) -> tuple[dict[Ends, Array], int]:
        """``2A`` [S] of every pair of banks, and how many measurements that took."""
        cycle = prober.steps(chip, 1)  # of one measurement each; 1 for random patterns, which have no cycle
        count = -(-self.probes // cycle) * cycle
        found = prober.couplings(chip, count, held=held)
        pairs = chip.circuit.feedback_pairs
        return {(f.post, f.pre): found[f.name] - found[b.name].T for f, b in pairs}, count


def exact_skew(chip: Chip) -> dict[Ends, Array]:
    """``2A_ij = G_ij - G_ji`` [S] (n_post, n_pre) of every forward block, drivers included."""
    weight = chip.blocks.weight
    ends = [(forward.post, forward.pre) for forward, _ in chip.circuit.feedback_pairs]
    return {(i, j): weight(i, j) - weight(j, i).T for i, j in ends}


def with_correction(free: Equilibrium, skew: Mapping[Ends, Array]) -> Equilibrium:
    """``free`` as an equilibrium of the circuit with the current ``-2A (s - s⁰)`` added, which is 0 there.

    The current is linear in the ports, so the circuit is one of blocks ``G - 2A``, into whose nodes
    ``+2A s⁰`` is injected. All that works on an equilibrium works on this one unchanged.
    """
    blocks, injected = free.circuit, free.injected.copy()
    circuit = part(blocks, len(blocks.sizes), blocks.couplings)
    for (i, j), twice in skew.items():
        circuit.weight(i, j)[...] -= twice
        circuit.weight(j, i)[...] += twice.T
        injected[:, blocks.slices[i]] += free.layer(j) @ twice.T
        injected[:, blocks.slices[j]] -= free.layer(i) @ twice
    return replace(free, circuit=circuit, injected=injected)


@dataclass(frozen=True)
class KolenPollack(EstimatorRule):
    """The forward array's update given to its feedback twin as well, and decay of both.

    ``ΔW_b = ΔW_fᵀ`` and ``ΔW = -share W`` leave ``W_f - W_bᵀ`` to shrink by ``1 - share`` a step, whatever
    the updates (Kolen and Pollack 1994; Akrout et al. 2019, arXiv:1904.05391); on passive columns nearly so,
    where twins of opposite sign take the load's part oppositely. Both act on what is written: mismatch of
    the devices themselves stays. The decay is the one that ``homeostat.mode = "decay"``
    programs; the update is EP's.
    """

    estimator: Estimator
    name: str = "kolen-pollack"

    def check(self, circuit: Circuit) -> None:
        require_feedback(circuit, self.name)
        if any(backward.transposed for _, backward in circuit.feedback_pairs):
            lacks(circuit, self.name, "a feedback array of its own", 'write chip.family = "twin"')
        _require_decay(circuit, self.name)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        update = EquilibriumPropagation(self.estimator).update(chip, inputs, free, cost, certify)
        return replace(update, gradients=mirrored(chip.circuit, update.gradients))


@dataclass(frozen=True)
class ProductFeedback(EstimatorRule):
    """Product feedback alignment (Ji-An and Benna 2024, arXiv:2405.20594): the way back is ``W_b = R F B``,
    through relays, and neither factor is like ``W_f``.

    B, by which the relays z listen, and their rest stay as they were written. R is changed by the port s of
    the neuron that it drives times the response of the relay that drives it: descent along ``-<s ε_zᵀ>``,
    which is no gradient. Relays answer with ``ε_z = F B ε``, F being their slopes over their load, so that
    one sample's ``ΔR = (F B ΔW_f)ᵀ`` under SGD (but for what passive columns add to ``ΔW_f`` for its own
    load). So R grows to ``(<F> B W_f)ᵀ`` as ``W_f`` grows, and what both started from is forgotten as they
    decay, in ``1 / share`` steps: as feedback twins become alike (:class:`KolenPollack`). Then
    ``R F B = W_fᵀ (BᵀF²B)``: c times the transpose where B has many more rows than columns, all random, c
    being 1 for columns of ``F B`` of length 1; of n columns and m rows alike, the cosine between the two is
    ``1/√(1 + n/m)``. The other arrays' update is EP's: exact where ``R F B = W_fᵀ``, and of the k-th layer
    below the outputs ``c^k`` times the true one where it is ``c W_fᵀ``.
    """

    estimator: Estimator
    name: str = "product-feedback"

    def check(self, circuit: Circuit) -> None:
        if not circuit.relay_paths:
            lacks(circuit, self.name, "a way back over relays", 'write chip.family = "relay"')
        if not all(circuit.layouts[forward.array].dense for forward, _, _ in circuit.relay_paths):
            fault = "moves R as it moves single weights, and a convolution moves many at a time"
            remedy = "write plain sizes after the inputs"
            refuse("learning.rule", self.name, f"{fault}; {remedy}", "chip.layers")
        _require_decay(circuit, self.name)

    def update(
        self, chip: Chip, inputs: Array, free: Equilibrium, cost: Cost, certify: int | None = None
    ) -> Update:
        response = self.estimator.response(free, cost, certify)
        update = contracted(chip, inputs, free, response)
        found, kept = dict(update.gradients), set[str]()
        seen, down = seen_by(response, free), descent(response.epsilon)
        for _, listening, back in chip.circuit.relay_paths:
            heard = chip.blocks.layer(down, listening.post)
            learned = products.product(seen.layer(back.post).T, heard, chip.blocks.threads)
            found[back.array] = replace(found[back.array], differential=learned, common=0.0)
            kept |= {listening.array, chip.circuit.bias(listening.post)}
        for array in kept:
            still = np.zeros_like(found[array].differential)
            found[array] = replace(found[array], differential=still, common=0.0)
        return replace(update, gradients=found, kept=frozenset(kept))


def _require_decay(circuit: Circuit, rule: str) -> None:
    if circuit.design.homeostat.mode != "decay":
        fault = 'the two arrays only meet as both decay; write homeostat.mode = "decay"'
        refuse("learning.rule", rule, fault, "homeostat.mode")
