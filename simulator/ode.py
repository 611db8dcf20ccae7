"""The circuit's own dynamics, ``C dv/dt = I(v)``: an adaptive transient, sample by sample.

Bogacki and Shampine's embedded Runge-Kutta pair of orders 3(2) (Appl. Math. Lett. 2 (1989) 321), with
local extrapolation and first-same-as-last. Each sample of the batch has its own time and step; one
that has settled leaves the batch. Crossbar chips are not stiff (every node has nearly the same time
constant), so an explicit method costs one evaluation a stage and no factorization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .blocks import Array, BlockCircuit
from .relaxation import NudgeCurrent

PowerLaw = Callable[[Array, Array, Array], Array]
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# Local error allowed for as a share of the step's own movement. Without it the fastest mode rides the
# method's stability limit at an amplitude of about rtol, and where that is above the tolerance the sample
# never settles.
_CALM = 0.01
_ROUNDOFF = 4.0  # and, in units of the last place of full swing, what cannot be asked for


@dataclass
class Settling:
    """End of a transient: ``voltages``, ``ports`` (batch, N) [V]; per sample the ``time`` [s] at which it
    settled (or was given up), the ``energy`` [J] dissipated until then, whether it ``settled``, and the
    number of accepted and rejected ``steps``.
    """

    voltages: Array
    ports: Array
    time: Array
    energy: Array
    settled: Array
    steps: Array


def settle(
    circuit: BlockCircuit,
    injected: Array,
    *,
    start: Array | None = None,
    nudge: NudgeCurrent | None = None,
    power: PowerLaw | None = None,
    tolerance: float = 1e-5,
    rtol: float | None = None,
    max_time: float | None = None,
    max_steps: int = 20_000,
) -> Settling:
    """Integrate from node voltages ``start`` (batch, N) [V] (default 0 V) until the currents balance.

    A sample has settled when ``|I| / load <= tolerance * swing`` at every node, that is, when no node
    is further than that from where its present currents would take it; it is given up after
    ``max_time`` [s] (default: 1000 of the slowest node's time constants). The local error of each step is
    kept below ``rtol`` (default: ``tolerance``) of full swing and below 1 % of the step's movement.
    ``power(voltages, ports, rows)`` [W] is integrated to the energy. Settling time and energy are good to
    some 10 %, with ``rtol = tolerance / 100`` to some 0.5 %.
    """
    injected = np.asarray(injected, np.result_type(injected, circuit.dtype))
    run = _Transient(circuit, injected, nudge, power, tolerance, tolerance if rtol is None else rtol)
    horizon = 1000 * float(np.max(circuit.capacitance / circuit.load)) if max_time is None else max_time
    voltages = np.zeros_like(injected)
    voltages[...] = 0 if start is None else start
    return run(voltages, horizon, max_steps)


class _Transient:
    def __init__(
        self, circuit: BlockCircuit, injected: Array, nudge: NudgeCurrent | None,
        power: PowerLaw | None, tolerance: float, rtol: float,
    ) -> None:  # fmt: skip
        self.circuit, self.injected, self.nudge, self.power = circuit, injected, nudge, power
        self.close = tolerance * circuit.swing
        self.error = rtol * circuit.swing
        self.roundoff = _ROUNDOFF * float(np.finfo(injected.dtype).eps) * circuit.swing

    def rate(self, v: Array, rows: Array) -> tuple[Array, Array, Array]:
        """``I / load`` [V], ``dv/dt`` [V/s] and dissipated power [W] of the given samples."""
        circuit = self.circuit
        s = circuit.ports(v)[0]
        current = circuit.drive(s) + self.injected[rows] - circuit.load * v
        if self.nudge is not None:
            current[:, circuit.output] += self.nudge(s[:, circuit.output], rows)
        power = np.zeros(len(rows)) if self.power is None else self.power(v, s, rows)
        return current / circuit.load, current / circuit.capacitance, power

    def __call__(self, v: Array, horizon: float, max_steps: int) -> Settling:
        batch = len(v)
        time, energy, steps = np.zeros(batch), np.zeros(batch), np.zeros(batch, np.int64)
        settled = np.zeros(batch, bool)
        rows = np.arange(batch)
        end = v.copy()
        distance, k1, p1 = self.rate(v, rows)
        tau = float(np.min(self.circuit.capacitance / self.circuit.load))
        h = np.full(batch, 0.1 * tau)
        for _ in range(max_steps):
            near = np.abs(distance).max(axis=1) <= self.close
            leave = near | (time[rows] >= horizon) | ~np.isfinite(distance).all(axis=1)
            if leave.any():
                settled[rows[near]] = True
                end[rows[leave]] = v[leave]
                stay = ~leave
                rows, v, k1, p1, h, distance = (a[stay] for a in (rows, v, k1, p1, h, distance))
                if not rows.size:
                    break
            h = np.minimum(h, horizon - time[rows])
            trial, k4, distance4, joules, p4, excess = self._step(v, k1, p1, h, rows)
            good = excess <= 1
            share = np.where(good, self._share(distance, distance4), 0.0)
            v = np.where(good[:, None], trial, v)
            k1 = np.where(good[:, None], k4, k1)
            distance = np.where(good[:, None], distance4, distance)
            p1 = np.where(good, p4, p1)
            time[rows] += share * h
            energy[rows] += share * joules
            steps[rows] += 1
            h = h * np.clip(_SAFETY / np.cbrt(np.maximum(excess, 1e-9)), _SHRINK, _GROW)
        end[rows] = v
        return Settling(end, self.circuit.ports(end)[0], time, energy, settled, steps)

    def _step(
        self, v: Array, k1: Array, p1: Array, h: Array, rows: Array
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        """One trial step: new state, its rate, its distance from balance, energy, power, and its local
        error over what is allowed.
        """
        dt = h[:, None].astype(self.injected.real.dtype)
        _, k2, p2 = self.rate(v + dt / 2 * k1, rows)
        _, k3, p3 = self.rate(v + 3 * dt / 4 * k2, rows)
        trial = v + dt / 9 * (2 * k1 + 3 * k2 + 4 * k3)
        distance, k4, p4 = self.rate(trial, rows)
        error = np.abs(dt * (-5 / 72 * k1 + k2 / 12 + k3 / 9 - k4 / 8)).max(axis=1)
        allowed = np.maximum(_CALM * np.abs(dt * k1).max(axis=1), self.roundoff)
        excess = error / np.minimum(allowed, self.error)
        excess = np.where(np.isfinite(excess), excess, np.inf)
        return trial, k4, distance, h / 9 * (2 * p1 + 3 * p2 + 4 * p3), p4, excess

    def _share(self, before: Array, after: Array) -> Array:
        """Share of a step at which the sample has settled, 1 if it does not: ``before`` and ``after`` are
        its distances from balance [V], taken to decay exponentially in between.
        """
        d0, d1 = np.abs(before).max(axis=1), np.abs(after).max(axis=1)
        share = np.ones(len(d0))
        inside = (d1 < self.close) & (self.close < d0) & (d1 > 0)
        share[inside] = np.log(d0[inside] / self.close) / np.log(d0[inside] / d1[inside])
        return share
