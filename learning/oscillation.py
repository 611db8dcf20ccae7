"""Estimators that read the response from a slow oscillation of the nudge, in the chip's own dynamics.

The nudge runs round a closed path, ``β x(ωt)``, and a weighted average of the ports over one period is the
response: a :class:`~.estimators.Stencil` whose nodes are visited in time. The chip lags behind its
equilibrium. Reversing time turns ω into -ω and the path round, and leaves such averages as they are: they are
even in ω, so that the lag costs ``O((ωτ)²)``, τ being the slowest time constant; what is in quadrature, and
of first order, averages out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..circuits.equilibrium import Equilibrium, on_another_branch
from ..circuits.periphery import Nudge as AnyNudge
from ..circuits.periphery import push_of
from ..simulator import relaxation
from ..simulator.blocks import Array
from .differences import NOW, Past
from .estimators import (
    Nudging,
    Phase,
    Response,
    believed,
    is_smooth,
    offset_shifts,
    periphery,
    precision,
    read_outputs,
    series_slope,
)
from .netlist_phase import TOLERANCE, NetlistPhase, NetlistSteps
from .nudges import Cost, Nudge

STEPS = 16  # of a period of the nudge: more change the answer by less than the lag does
SETTLING = 0.5  # of a period, before the average begins


@dataclass(frozen=True)
class Oscillation:
    """A nudge that runs through ``nodes`` x (steps,) in a ``period`` [s], and ``weights`` of the ports then.

    ``β`` in watts; ``terms`` of the ports' Chebyshev series are read (of real nodes). The chip's ODE is
    integrated by steps of equal length (:func:`trajectory`).
    """

    name: str
    nodes: tuple[complex, ...]
    weights: tuple[complex, ...]
    beta: float
    period: float
    terms: int = 2
    relaxations: int = 1  # the free phase
    judged: bool = True  # whether responses that are not smooth, or did not return, are left out

    @property
    def seconds(self) -> float:
        """Settling, and one period's average."""
        return (1 + SETTLING) * self.period

    @property
    def nudging(self) -> Nudging:
        """A nudge is made for every step."""
        return Nudging(round((1 + SETTLING) * len(self.nodes)), self.seconds, not np.iscomplexobj(self.nodes))

    def response(self, free: Phase, cost: Cost, certify: int | None = None) -> Response:
        """Measure ``ds*/dβ`` of the free equilibria, from where the oscillation starts.

        As in :meth:`.Stencil.response`, a sample is left out where a step did not settle and, if ``judged``,
        where the shifts under real nudges are not smooth, and where it did not return to its free state when
        it was released afterwards (which all are: ``certify`` does not matter).
        """
        nodes, weights = np.asarray(self.nodes), np.asarray(self.weights) / self.beta
        shifts, end = trajectory(free, cost, nodes * self.beta, self.period)
        end = _released(end, free, cost)
        moved = shifts - offset_shifts(free, cost)
        valid = free.sound & believed(end, self.judged)
        if self.judged and not np.iscomplexobj(nodes):
            valid &= is_smooth(nodes, moved, self.terms)
        read = periphery(free).read_shifts(shifts, len(free.ports), free.ports)
        epsilon = np.tensordot(weights.astype(read.dtype), read, axes=1).real.astype(free.ports.dtype)
        epsilon[~valid] = 0
        return Response(epsilon, valid, end, measured=True)


def lock_in(beta: float, nudges: int, period: float, steps: int = 2 * STEPS) -> Oscillation:
    """One real oscillation, ``β sin ωt``, which starts at the free state and ends there.

    With ``θ = ωt - π/2``, ``s(β cos θ) = a_0/2 + Σ_k a_k cos kθ``: the Chebyshev coefficients are in-phase
    harmonics, and ``ds/dβ = (1/β) Σ_{k odd} (-1)^{(k-1)/2} k a_k`` as in :func:`.estimators.chebyshev`, up
    to k = ``nudges`` - 1. The weights are that sum of reference waves, ready made. Harmonics are faster than
    the nudge, and so are the ``steps``. At least two for each of the ``nudges`` are made: with fewer, one
    harmonic shows as another.
    """
    steps = max(steps, 2 * nudges)
    phase = 2 * np.pi * np.arange(steps) / steps
    waves = np.cos(np.outer(np.arange(nudges), phase - np.pi / 2))
    weights = 2 / steps * series_slope(nudges) @ waves
    nodes = np.sin(phase)
    name = f"lock-in-{nudges}"
    return Oscillation(name, tuple(nodes.tolist()), tuple(weights.tolist()), beta, period, nudges)


def continuous(beta: float, period: float, steps: int = STEPS) -> Oscillation:
    """One complex oscillation, ``β e^{iωt}`` (Laborieux and Zenke 2022, arXiv:2209.00530): ``ds/dβ`` is the
    average of ``s e^{-iωt} / β``, and that of s itself is the free state, at any β inside the disc of
    analyticity. The lag turns it into ``Re (J̃ - iωM)⁻¹ ∂L/∂s``, ``M = diag(C / f')``.
    """
    nodes = np.exp(2j * np.pi * np.arange(steps) / steps)
    weights = nodes.conj() / steps
    return Oscillation("continuous", tuple(nodes.tolist()), tuple(weights.tolist()), beta, period)


def trajectory(free: Phase, cost: Cost, betas: Array, period: float) -> tuple[Array, Phase]:
    """Shifts of the ports from ``free`` (steps, batch, N) [V] at ``betas`` (steps,) [W] of one period, once
    the chip has settled into it; and the last state, ``settled`` where every step did.

    By third-order backward differences. A step resolves the nudge alone: faster modes follow at once.
    """
    steps, samples, dtype = len(betas), len(free.ports), precision(betas, free.ports.dtype)
    length = period / steps
    step = (
        NetlistSteps(free, length, dtype)
        if isinstance(free, NetlistPhase)
        else BlockSteps(free, length, dtype)
    )
    shifts, settled = np.empty((steps, *free.ports.shape), dtype), free.settled.copy()
    outputs = read_outputs(free)
    for n in range(1, round((1 + SETTLING) * steps) + 1):
        nudge = Nudge(cost, np.full(samples, betas[n % steps], dtype), samples)
        ports, found = step(periphery(free).deliver(nudge, outputs))
        shifts[n % steps] = ports - free.ports
        settled &= found
    return shifts, replace(step.end, settled=settled)


class BlockSteps:
    """A chip in time, ``C dv/dt = I(v)``, from rest at ``free``: backward differences (:class:`.Past`) with
    steps h of ``length`` [s].

    Capacitors become conductances ``11C / 6h`` beside currents from the past (companion models), so that a
    step is a relaxation of the same circuit, from where the last three steps lead. Each call takes one, and
    returns the ports (batch, N) [V] and whether they settled; ``end`` is the last state.
    """

    def __init__(self, free: Equilibrium, length: float, dtype: np.dtype[Any]) -> None:
        self.per_step = free.circuit.capacitance / free.circuit.dtype.type(length)
        v, s = free.voltages.astype(dtype), free.ports.astype(dtype)
        self.end = replace(free, voltages=v, ports=s)
        self.voltages, self.ports = Past.at_rest(v), Past.at_rest(s)

    def __call__(self, nudge: AnyNudge) -> tuple[Array, Array]:
        end = self.end
        found = relaxation.relax(
            end.circuit, end.injected + self.per_step * self.voltages.known, start=self.ports.ahead,
            nudge=push_of(nudge), tolerance=end.tolerance, beside=NOW * self.per_step[np.newaxis],
        )  # fmt: skip
        self.voltages, self.ports = self.voltages.then(found.voltages), self.ports.then(found.ports)
        sweeps = end.sweeps + found.sweeps
        self.end = replace(end, voltages=found.voltages, ports=found.ports, sweeps=sweeps)
        return found.ports, found.settled


def _released(end: Phase, free: Phase, cost: Cost) -> Phase:
    """``end``, marked where it does not return to ``free`` without a nudge.

    (Under an oscillating nudge, no state is an equilibrium whose stability could be asked for.)
    """
    samples = len(free.ports)
    back = end.under(Nudge(cost, np.zeros(samples, end.ports.dtype), samples), certify=0)
    margin = TOLERANCE if isinstance(free, NetlistPhase) else free.tolerance * free.circuit.swing
    jumped = on_another_branch(back.ports, free.ports, margin)
    everywhere = np.ones(samples, bool)
    return replace(end, checked=everywhere, stable=everywhere, jumped=jumped)
