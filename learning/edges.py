"""Learning in networks of transistors (:mod:`ohmostat.circuits.edges`): gradients, and a machine's own rule.

The one local rule of every network reads here ``dL/dVg = (ε_a - ε_b) ∂i/∂Vg`` for an edge from a to b, ε
being the nodes' response to a nudge, measured (EP) or solved for (the adjoint). In a reciprocal network it is
also a contrast of what each edge stores of its *co-content* (:func:`content_contrast`).

The machine has something simpler at each edge: the squares of the voltage drops in a free and in a pushed
state, and a multiplier that lets their difference charge the gate (:class:`EdgeMachine`),

    ``C dVg/dt = gain (Δv_free² - Δv_pushed²) + offset``,

which is coupled learning where the outputs are held (Stern, Hexner, Rocks and Liu, *Phys. Rev. X* 11 (2021)
021045; Dillavou et al. 2024), and the contrast of EP on linear resistors where a current pushes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..circuits.edge_equilibrium import EdgeEquilibrium
from ..circuits.edges import Array, EdgeChip, check_ranges
from ..circuits.graphs import NetworkError
from ..circuits.mismatch import generator
from ..simulator import channel_kernels as kernels
from .estimators import Stencil
from .nudges import Cost

POINTS = 64  # of Gauss and Legendre's rule along a channel: 1e-14 for drops of 2 V, 1e-9 for 5 V
DRIVES = {"held": kernels.HELD, "current": kernels.CURRENT}
TIMINGS = {"twin": kernels.TOGETHER, "in turn": kernels.IN_TURN}


# -- gradients ---------------------------------------------------------------------------------------------


def gate_gradient(free: EdgeEquilibrium, epsilon: Array) -> Array:
    """The batch's mean ``dL/dVg`` (k,) [1/V] by the local rule, from responses ``ε`` (batch, n) [V/W]."""
    first, second = free.chip.network.graph.ends
    slopes = (epsilon[:, first] - epsilon[:, second]) * free.conduction[3]
    return np.asarray(slopes.mean(axis=0))


def content_slope(state: EdgeEquilibrium) -> Array:
    """``∂Φ/∂Vg`` (batch, k) [A] of each edge's co-content ``Φ = ∫ i du`` [W], from 0 to its voltage drop.

    Only a current that depends on the drop alone has a co-content (Millar, *Phil. Mag.* 42 (1951) 1150). With
    gate and bulk held against ground it depends on both voltages: NetworkError.
    """
    network = state.chip.network
    if network.reference != "middle":
        raise NetworkError(
            f"reference is {network.reference!r}: a channel's current is no function of the drop across it, "
            'and has no co-content; use reference = "middle", or gate_gradient'
        )
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    total, found = np.zeros(state.gates.shape), np.empty((4, *state.gates.shape))
    channels = state.chip.channels(state.copy)
    for node, weight in zip(0.5 * (nodes + 1.0), 0.5 * weights, strict=True):
        kernels.conduct(channels, state.gates, node * state.voltages, found)  # every drop shrinks alike
        total += weight * found[3] * state.drops
    return total


def content_contrast(free: EdgeEquilibrium, cost: Cost, estimator: Stencil) -> Array:
    """``dL/dVg`` (k,) as edges of a reciprocal network can find it: ``Σ_j w_j ∂Φ/∂Vg(x_j β) / β``, the
    batch's mean, over the estimator's nudges ``x_j β`` and weights. Samples that do not settle count as 0.
    """
    response = estimator.response(free, cost)
    nudged = response.nudged
    assert isinstance(nudged, EdgeEquilibrium)
    slopes = content_slope(nudged).reshape(len(estimator.nodes), *free.gates.shape)
    weights = np.append(estimator.weights, -sum(estimator.weights)).real
    contrast = np.tensordot(weights, np.concatenate([slopes, content_slope(free)[None]]), axes=1)
    return np.asarray(np.where(response.valid[:, None], contrast / estimator.beta, 0.0).mean(axis=0))


# -- the machine ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EdgeTask:
    """What a network is to learn: ``inputs`` (samples, n_in) [V] and ``targets`` (samples, outputs) [V]."""

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            values = np.ascontiguousarray(np.atleast_2d(np.asarray(getattr(self, name), np.float64)))
            if values.ndim != 2 or not values.size or not np.isfinite(values).all():
                raise NetworkError(f"{name} of shape {values.shape}; give finite voltages (samples, nodes)")
            object.__setattr__(self, name, values)
        if len(self.inputs) != len(self.targets):
            raise NetworkError(f"{len(self.inputs)} inputs and {len(self.targets)} targets; give one to each")


@dataclass(frozen=True)
class EdgeRun:
    """How a machine learned: at each record (records,), from the start on.

    Attributes:
        time: [s] of learning until then.
        energy: [J] dissipated in the channels of all networks that were on.
        error: root mean square [V] of the free network's readings against the targets.
        gates: (records, k) [V].
        unsettled: substeps in which a state did not settle, and so the gates rested.
    """

    time: Array
    energy: Array
    error: Array
    gates: Array
    unsettled: Array


@dataclass(frozen=True)
class EdgeMachine:
    """A chip that learns by itself: the samples are shown one after the other, for a ``period`` [s] each.

    Node voltages are taken as settled at every instant; gates integrate, by Euler's method in ``substeps`` of
    a period, between the rails. (The tests hold both against a transient of the whole machine.)

    Attributes:
        gain: of the multipliers [A/V²].
        drive: ``held`` (coupled learning: outputs held at ``o + nudge (target - o)``) or ``current`` (EP: a
            current ``nudge (target - o)`` [A] into them).
        nudge: the share η, or the conductance β [S].
        timing: ``twin``: free and pushed networks side by side. ``in turn``: the free network alone, used
            twice: a period free, its voltage drops sampled and held, and a period pushed, while gates move.
    """

    chip: EdgeChip
    gain: float = 1e-9
    drive: str = "held"
    nudge: float = 0.1
    timing: str = "twin"
    period: float = 1e-5
    substeps: int = 1

    def __post_init__(self) -> None:
        highest = 1.0 if self.drive == "held" else 1e3
        check_ranges("machine", self, {
            "gain": (0.0, 1.0, "A/V²"), "nudge": (1e-12, highest, "" if self.drive == "held" else "S"),
            "period": (1e-15, 1e6, "s"), "substeps": (1, 10**6, ""),
        })  # fmt: skip
        for name, known in (("drive", DRIVES), ("timing", TIMINGS)):
            if getattr(self, name) not in known:
                raise NetworkError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(known)}")

    @property
    def sample_time(self) -> float:
        """Time [s] that one sample takes."""
        return self.period * (1 if self.timing == "twin" else 2)

    def error(self, gates: ArrayLike, task: EdgeTask) -> float:
        """Root mean square [V] of the free network's readings against the targets; infinite where a sample
        does not settle.
        """
        state = self.chip.settle(gates, task.inputs)
        if not state.settled.all():
            return float("inf")
        return float(np.sqrt(np.mean((state.readings - task.targets) ** 2)))

    def learn(
        self, task: EdgeTask, gates: ArrayLike, epochs: int, *, seed: int = 0, every: int = 1,
        enough: float = 0.0,
    ) -> EdgeRun:  # fmt: skip
        """Learn for ``epochs`` from ``gates`` (k,) [V], in each of which every sample is shown once, in an
        order drawn from ``seed``; recorded ``every`` so many epochs, until the error is at most ``enough``
        [V].

        Raises NetworkError for arrays that do not fit the chip.
        """
        self._check(task, gates, every)
        network, now = self.chip.network, np.array(gates, np.float64)
        free = self.chip.settle(now, task.inputs).voltages
        fixed = (
            self.chip.channels(0), self.chip.channels(1 if self.timing == "twin" else 0), self._rule()
        )  # fmt: skip
        shown = network.sources(task.inputs), task.targets, network.held_nodes, network.held
        state = network.output_nodes, network.readout, now, free, free.copy()
        records: list[tuple[Any, ...]] = [(0.0, 0.0, self.error(now, task), now.copy(), 0)]
        energy, unsettled, rng = 0.0, 0, generator(seed, "edges", "order")
        for epoch in range(1, epochs + 1):
            order = rng.permutation(len(task.inputs))
            spent, failed = kernels.learn(*fixed, order, *shown, *state)
            energy, unsettled = energy + spent, unsettled + failed
            if epoch % every == 0 or epoch == epochs:
                time = epoch * len(order) * self.sample_time
                records.append((time, energy, self.error(now, task), now.copy(), unsettled))
                if records[-1][2] <= enough:
                    break
        return EdgeRun(*(np.array(column) for column in zip(*records, strict=True)))

    def _check(self, task: EdgeTask, gates: ArrayLike, every: int) -> None:
        outputs = len(self.chip.network.outputs)
        if task.targets.shape[1] != outputs:
            raise NetworkError(f"{task.targets.shape[1]} targets for {outputs} outputs; give one each")
        if np.shape(gates) != (self.chip.edges,):
            raise NetworkError(f"gates of shape {np.shape(gates)}; give a voltage each, ({self.chip.edges},)")
        if every < 1:
            raise NetworkError(f"every is {every}; record every epoch (1), or every so many")

    def _rule(self) -> kernels.Rule:
        capacitance, (low, high) = self.chip.network.gate_capacitance, self.chip.network.rails
        return kernels.Rule(
            self.gain / capacitance, self.chip.offset / capacitance, float(low), float(high),
            float(self.nudge), DRIVES[self.drive], TIMINGS[self.timing], float(self.period),
            int(self.substeps),
        )  # fmt: skip
