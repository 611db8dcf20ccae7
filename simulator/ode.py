"""The circuit's own dynamics, ``C dv/dt = I(v)``: an adaptive transient, sample by sample.

Bogacki and Shampine's embedded Runge-Kutta pair of orders 3(2) (Appl. Math. Lett. 2 (1989) 321), with
local extrapolation and first-same-as-last. Each sample of the batch has its own time and step; one
that has settled leaves the batch. Crossbar chips are not stiff (every node has nearly the same time
constant), so an explicit method costs one evaluation a stage and no factorization.

Diodes make a network stiff, and ideal ones give it no rate at all: there each step is two implicit ones, the
singly diagonally implicit method of order 2 of Alexander (SIAM J. Numer. Anal. 14 (1977) 1006), which damps
what is fast at once. An implicit step is a relaxation, of a network that its capacitors load too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import relaxation
from .blocks import Array, BlockCircuit
from .relaxation import NudgeCurrent

PowerLaw = Callable[[Array, Array, Array], Array]
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
# Local error allowed for as a share of the step's own movement. Without it the fastest mode rides the
# method's stability limit at an amplitude of about rtol, and where that is above the tolerance the sample
# never settles.
_CALM = 0.01
_ROUNDOFF = 4.0  # and, in units of the last place of full swing, what cannot be asked for
_GAMMA = 1 - np.sqrt(0.5)  # share of a step that each of its two implicit ones takes
_COARSE = (
    1e-3  # local error of implicit steps, of full swing, where none is asked for: no mode rides its limit
)
_FINE = 0.01  # of that error, what is left by a relaxation


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
    is further than that from where its present currents would take it (past its diodes, where it has some);
    it is given up after ``max_time`` [s] (default: 1000 of the slowest node's time constants). The local
    error of each step is kept below ``rtol`` (default: ``tolerance``) of full swing and below 1 % of the
    step's movement; with diodes, below ``rtol`` (default: 1e-3) alone.
    ``power(voltages, ports, rows)`` [W] is integrated to the energy. Settling time and energy are good to
    some 10 %, with ``rtol = tolerance / 100`` to some 0.5 %.
    """
    injected = np.asarray(injected, np.result_type(injected, circuit.dtype))
    if circuit.clamps:
        run: _Transient = _Implicit(circuit, injected, nudge, power, tolerance, rtol or _COARSE)
    else:
        run = _Transient(circuit, injected, nudge, power, tolerance, rtol or tolerance)
    horizon = 1000 * float(np.max(circuit.capacitance / circuit.load)) if max_time is None else max_time
    voltages = np.zeros_like(injected)
    voltages[...] = 0 if start is None else start
    return run(circuit.held(voltages), horizon, max_steps)


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
        current = circuit.drive(s) + self.injected[rows]
        if self.nudge is not None:
            current[:, circuit.output] += self.nudge(s[:, circuit.output], rows)
        current = circuit.balance(v, current)
        power = np.zeros(len(rows)) if self.power is None else self.power(v, s, rows)
        return current / circuit.steepness(v), current / circuit.capacitance, power

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


class _Implicit(_Transient):
    """With ``γ = 1 - 1/√2``, from v: ``w = v + γ h f(w)``, then ``v' = v + (1-γ) h f(w) + γ h f(v')``, the
    end.

    The error is judged by what the two rates differ by, ``γ h (f(v') - f(w))``: that of a method of order 1.
    """

    def _step(
        self, v: Array, k1: Array, p1: Array, h: Array, rows: Array
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        dtype = self.injected.real.dtype
        held = self.circuit.capacitance / (_GAMMA * h[:, None]).astype(dtype)  # [S]
        middle, settled = self._implicit(v, v, held, rows)
        base = v + dtype.type((1 - _GAMMA) / _GAMMA) * (middle - v)
        trial, settled_too = self._implicit(base, middle, held, rows)
        distance, k, p = self.rate(trial, rows)
        error = np.abs((trial - base) - (middle - v)).max(axis=1)
        excess = error / max(self.error, self.roundoff)
        excess = np.where(np.isfinite(excess) & settled & settled_too, excess, np.inf)
        return trial, k, distance, h / 2 * (p1 + p), p, excess

    def _implicit(self, base: Array, start: Array, held: Array, rows: Array) -> tuple[Array, Array]:
        """Where currents balance what it takes to move the capacitors from ``base`` [V] in ``γ h``."""
        nudge = self.nudge
        found = relaxation.relax(
            self.circuit, self.injected[rows] + held * base, start=start,
            nudge=None if nudge is None else lambda ports, some: nudge(ports, rows[some]),
            tolerance=_FINE * self.error / self.circuit.swing, beside=held,
        )  # fmt: skip
        return found.voltages, found.settled
