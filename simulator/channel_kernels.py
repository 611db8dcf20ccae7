"""Compiled loops over networks whose edges are channels of EKV transistors: settling, and learning in time.

The law of a channel is :func:`ohmostat.simulator.semiconductors.ekv`, one device at a time (n channel), with
a leakage beside it. All jitted functions that call each other live in this one file, because numba's cache
does not see an edit in a callee in another file. They check nothing and raise nothing: a status comes back.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .exponentials import compiled

Array = NDArray[Any]

MOST_STEPS = 100  # of Newton's method
SHORTEST_STEP = 2.0**-20  # of a Newton step
TOLERANCE = 1e-9  # [V] of a full Newton step, after which its square is left: rounding
# Of the steepest channel's slope [V]: what balances may lack by rounding alone. (A current is the difference
# of two terms, each of about the slope times a volt.)
ROUNDING = 1e-15
HELD, CURRENT = 0, 1  # ways to push the outputs towards their targets
TOGETHER, IN_TURN = 0, 1  # the two states: in two networks at once, or in one network one after the other


class Channels(NamedTuple):
    """Edges of one network (k,): ends, parameters of the law (SI), and how their gates are held.

    ``strength`` is ``kp w/l`` [A/V²], ``leak`` [S]. The gate of a ``closed`` channel is at the ``rail`` [V],
    whatever it is told. A gate voltage counts from ground, as the bulk is; or, if ``floating``, both follow
    the middle between the channel's ends.
    """

    first: Array
    second: Array
    vto: Array
    strength: Array
    gamma: Array
    phi: Array
    lambda_: Array
    leak: Array
    closed: Array
    rail: float
    thermal: float
    floating: bool


class Push(NamedTuple):
    """Of one sample: current ``constant - slope v`` [A] into the nodes ``into`` (m,), at their voltages v."""

    into: Array
    constant: Array
    slope: Array


class Rule(NamedTuple):
    """How gates learn: ``dVg/dt = rate (du_free² - du_pushed²) + drift`` between the rails (low, high)."""

    rate: float  # [1/(V s)]
    drift: Array  # (k,) [V/s]
    low: float
    high: float
    amount: float  # eta of a held output, or the conductance [S] of the nudge
    drive: int
    timing: int
    period: float  # [s] that each sample is shown for, in each phase
    substeps: int


@compiled()
def channel(channels, k, gate, a, b):
    """Current [A] from the first end through edge ``k`` into the second, and its slopes [S] by the voltages
    ``a`` and ``b`` of these, and by the gate's.
    """
    vt, vds = channels.thermal, a - b
    vs = -0.5 * vds if channels.floating else b
    gamma, phi = channels.gamma[k], channels.phi[k]
    if channels.closed[k]:
        gate = channels.rail
    lifted = gate - channels.vto[k] + phi + gamma * math.sqrt(phi)
    vp, vp_g = -phi, 0.0
    if lifted > 0.0:
        root = math.sqrt(lifted + 0.25 * gamma * gamma)
        vp = lifted - gamma * (root - 0.5 * gamma) - phi
        vp_g = 1.0 - 0.5 * gamma / root
    depth = math.sqrt(phi + vp + 4.0 * vt)
    n, n_p = 1.0 + 0.5 * gamma / depth, -0.25 * gamma / depth**3
    forward, forward_slope = _interpolation((vp - vs) / (2.0 * vt))
    reverse, reverse_slope = _interpolation((vp - vs - vds) / (2.0 * vt))
    scale = 2.0 * n * channels.strength[k] * vt * vt
    bend = math.sqrt(vds * vds + 16.0 * vt * vt)
    longer = 1.0 + channels.lambda_[k] * (bend - 4.0 * vt)
    difference = forward - reverse
    g_source = scale * longer * forward_slope / (2.0 * vt)
    g_drain = scale * longer * reverse_slope / (2.0 * vt)
    g_length = scale * difference * channels.lambda_[k] * vds / bend
    g_gate = (g_source - g_drain + scale * longer * difference * n_p / n) * vp_g
    if channels.floating:  # both ends move against the middle by half of what they move apart
        g_a = 0.5 * (g_source + g_drain) + g_length
        g_b = -g_a
    else:
        g_a, g_b = g_drain + g_length, -g_source - g_length
    if channels.closed[k]:
        g_gate = 0.0
    leak = channels.leak[k]
    return scale * longer * difference + leak * vds, g_a + leak, g_b - leak, g_gate


@compiled()
def _interpolation(u):
    """``ln²(1 + exp u)`` and its derivative, without overflow."""
    e = math.exp(-abs(u))
    logarithm = max(u, 0.0) + math.log1p(e)
    return logarithm * logarithm, 2.0 * logarithm * (1.0 if u > 0.0 else e) / (1.0 + e)


@compiled()
def balance(channels, gates, held, push, v, current, jacobian):
    """Currents (n,) [A] into the nodes at voltages ``v`` (n,), and their slopes (n, n) [S]; the largest, and
    what of it may be rounding.

    A held node keeps its voltage: its current counts as 0.
    """
    current[:] = 0.0
    jacobian[:, :] = 0.0
    steepest = 0.0
    for k in range(channels.first.shape[0]):
        a, b = channels.first[k], channels.second[k]
        i, g_a, g_b, _ = channel(channels, k, gates[k], v[a], v[b])
        steepest = max(steepest, abs(g_a), abs(g_b))
        current[a] -= i
        current[b] += i
        jacobian[a, a] -= g_a
        jacobian[a, b] -= g_b
        jacobian[b, a] += g_a
        jacobian[b, b] += g_b
    for r in range(push.into.shape[0]):
        node = push.into[r]
        current[node] += push.constant[r]
        for c in range(push.into.shape[0]):
            current[node] -= push.slope[r, c] * v[push.into[c]]
            jacobian[node, push.into[c]] -= push.slope[r, c]
    largest = 0.0
    for node in range(v.shape[0]):
        if held[node]:
            current[node] = 0.0
            jacobian[node, :] = 0.0
            jacobian[node, node] = 1.0
        largest = max(largest, abs(current[node]))
    return largest, ROUNDING * steepest


@compiled()
def _solve(matrix, x):
    """``x`` becomes ``matrix⁻¹ x`` by elimination with partial pivoting; False if it is singular."""
    n = x.shape[0]
    for c in range(n):
        p = c
        for r in range(c + 1, n):
            if abs(matrix[r, c]) > abs(matrix[p, c]):
                p = r
        if not abs(matrix[p, c]) > 0.0:
            return False
        if p != c:
            for j in range(c, n):
                matrix[c, j], matrix[p, j] = matrix[p, j], matrix[c, j]
            x[c], x[p] = x[p], x[c]
        for r in range(c + 1, n):
            share = matrix[r, c] / matrix[c, c]
            if share != 0.0:
                for j in range(c + 1, n):
                    matrix[r, j] -= share * matrix[c, j]
                x[r] -= share * x[c]
    for c in range(n - 1, -1, -1):
        for j in range(c + 1, n):
            x[c] -= matrix[c, j] * x[j]
        x[c] /= matrix[c, c]
    return True


@compiled()
def settle(channels, gates, held, push, v):
    """Move ``v`` (n,) [V] to where every node balances that is not ``held`` (n,), by Newton's method with
    steps halved until the largest current falls; iterations, negative if it did not settle, and that current
    [A].
    """
    n = v.shape[0]
    current, jacobian, trial = np.empty(n), np.empty((n, n)), np.empty(n)
    largest, _ = balance(channels, gates, held, push, v, current, jacobian)
    for count in range(1, MOST_STEPS + 1):
        step = -current
        if not _solve(jacobian, step):
            return -count, largest
        size = 0.0
        for node in range(n):
            size = max(size, abs(step[node]))
        if not size < math.inf:
            return -count, largest
        share = 1.0
        while True:
            for node in range(n):
                trial[node] = v[node] + share * step[node]
            left, rounding = balance(channels, gates, held, push, trial, current, jacobian)
            fell = left <= (1.0 - share / 4.0) * largest
            settled = size <= TOLERANCE or (not fell and left <= rounding)
            if settled or fell:
                break
            share *= 0.5
            if share < SHORTEST_STEP:
                return -count, largest
        v[:] = trial
        largest = left
        if settled:
            return count, largest
    return -MOST_STEPS, largest


@compiled()
def settle_batch(channels, gates, held, into, constant, slope, v, iterations, residual):
    """:func:`settle` on every sample: gates (B, k), pushes ``constant`` (B, m) and ``slope`` (B, m, m)."""
    for b in range(v.shape[0]):
        push = Push(into, constant[b], slope[b])
        iterations[b], residual[b] = settle(channels, gates[b], held, push, v[b])


@compiled()
def conduct(channels, gates, v, found):
    """:func:`channel` of every sample and edge: ``found`` (4, B, k) are the current and its slopes."""
    for b in range(v.shape[0]):
        for k in range(channels.first.shape[0]):
            ends = v[b, channels.first[k]], v[b, channels.second[k]]
            found[0, b, k], found[1, b, k], found[2, b, k], found[3, b, k] = channel(
                channels, k, gates[b, k], ends[0], ends[1]
            )


@compiled()
def _power(channels, gates, v):
    """Dissipated in all channels [W]."""
    total = 0.0
    for k in range(channels.first.shape[0]):
        a, b = v[channels.first[k]], v[channels.second[k]]
        total += channel(channels, k, gates[k], a, b)[0] * (a - b)
    return total


@compiled()
def _pushed(channels, rule, readout, gates, held, out, target, free, v):
    """Settle the second state at ``v`` (n,), its outputs pushed from those of the ``free`` one."""
    m = out.shape[0]
    push = Push(out[:0], np.empty(0), np.empty((0, 0)))
    holding = held.copy()
    if rule.drive == HELD:
        for j in range(m):
            holding[out[j]] = True
            v[out[j]] = free[out[j]]
        for t in range(readout.shape[0]):
            error, size = target[t], 0.0
            for j in range(m):
                error -= readout[t, j] * free[out[j]]
                size += readout[t, j] ** 2
            for j in range(m):
                v[out[j]] += rule.amount * error * readout[t, j] / size
    else:
        slope, constant = rule.amount * (readout.T @ readout), np.zeros(m)
        for t in range(readout.shape[0]):
            for j in range(m):
                constant[j] += rule.amount * readout[t, j] * target[t]
        push = Push(out, constant, slope)
    return settle(channels, gates, holding, push, v)[0]


@compiled()
def learn(ours, theirs, rule, order, inputs, targets, where, held, out, readout, gates, free, pushed):
    """Show the samples ``order`` one after the other, while the gates (k,) integrate; energy [J] dissipated,
    and in how many of the substeps a state did not settle (and the gates rested).

    ``ours`` are the channels of the free network, ``theirs`` of the pushed one; ``free`` and ``pushed``
    (samples, n) [V] hold the states in which each sample was last seen, and are where it settles from.
    """
    step, energy, unsettled = rule.period / rule.substeps, 0.0, 0
    for sample in order:
        v, w = free[sample], pushed[sample]
        for j in range(where.shape[0]):
            v[where[j]] = inputs[sample, j]
            w[where[j]] = inputs[sample, j]
        free_settled = True
        for turn in range(rule.substeps):
            if turn == 0 or rule.timing == TOGETHER:
                push = Push(out[:0], np.empty(0), np.empty((0, 0)))
                free_settled = settle(ours, gates, held, push, v)[0] > 0
                energy += _power(ours, gates, v) * (step if rule.timing == TOGETHER else rule.period)
            settled = _pushed(theirs, rule, readout, gates, held, out, targets[sample], v, w) > 0
            energy += _power(theirs, gates, w) * step
            if not (free_settled and settled):
                unsettled += 1
                continue
            for k in range(gates.shape[0]):
                a, b = ours.first[k], ours.second[k]
                contrast = (v[a] - v[b]) ** 2 - (w[a] - w[b]) ** 2
                moved = gates[k] + step * (rule.rate * contrast + rule.drift[k])
                gates[k] = min(max(moved, rule.low), rule.high)
    return energy, unsettled
