"""Compiled inner loops over devices: programming, descent, and copies. They check nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from .blocks import room
from .exponentials import compiled, parallel
from .kernels import FAST, Array

PAGE = 4096  # bytes
WORTH_SHARING = 10_000  # pairs: fewer are dealt with before another thread has begun


def placed(array: Array, place: int) -> Array:
    """``array`` in row-major order, beginning ``place`` strides of five cache lines into a page of memory.

    Large arrays begin a page each, and what lies alike in its page competes for the same few lines of a
    cache: a dozen of them, streamed together, take a third longer than when each begins elsewhere.
    """
    offset = place * 320
    if array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % PAGE == offset:
        return array
    found: Array = room(array.nbytes, PAGE, offset).view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def transpose(threads: int, source: Array, target: Array) -> None:
    """``target = source^T``, by ``threads`` that have their share of the source's columns each."""
    if threads > 1 and source.size > WORTH_SHARING:
        _transpose_shared(threads, source, target)
    else:
        _transpose(source, target)


@parallel
def _transpose_shared(threads, source, target):
    for k in prange(threads):
        first, last = source.shape[1] * k // threads, source.shape[1] * (k + 1) // threads
        _transpose(source[:, first:last], target[first:last])


@compiled()
def _transpose(source, target):
    """By 16 rows of the source at a time, which the cache holds."""
    rows, columns = source.shape
    whole = rows - rows % 16
    for first in range(0, whole, 16):
        for j in range(columns):
            out = target[j]
            for i in range(16):
                out[first + i] = source[first + i, j]
    for i in range(whole, rows):
        for j in range(columns):
            target[j, i] = source[i, j]


def descend(
    threads: int, momentum: Array, gradient: Array, keep: Any, unit: Any, rate: Any, change: Array
) -> None:
    """``m = keep m + unit gradient`` in place, and ``change = -rate unit m``; all flat, by ``threads``."""
    if threads > 1 and change.size > WORTH_SHARING:
        _descend_shared(threads, momentum, gradient, keep, unit, rate, change)
    else:
        _descend(momentum, gradient, keep, unit, rate, change)


@parallel
def _descend_shared(threads, momentum, gradient, keep, unit, rate, change):
    for k in prange(threads):
        first, last = change.shape[0] * k // threads, change.shape[0] * (k + 1) // threads
        _descend(momentum[first:last], gradient[first:last], keep, unit, rate, change[first:last])


@compiled(fastmath=FAST)
def _descend(momentum, gradient, keep, unit, rate, change):
    for i in range(momentum.shape[0]):
        m = keep * momentum[i] + unit * gradient[i]
        momentum[i] = m
        change[i] = -rate * (unit * m)


def program(
    threads: int, target: Array, actual: Array, deviation: Array, step: Array, change: Array,
    g_min: Any, g_max: Any, weight: Array,
) -> None:  # fmt: skip
    """Move differential pairs by ``change`` [S] and refresh ``weight = g+ - g-``; (2, n), and (n,).

    Pair coding: the weight sits on one device, the other rests at ``g_min``. A write moves the actual
    conductance by ``step`` times the commanded change; limits are each device's own, ``deviation``
    times the nominal ones. A device that is beyond a limit already, by drift, goes no further beyond.
    """
    arrays = target, actual, deviation, step, change, g_min, g_max, weight
    if threads > 1 and change.size > WORTH_SHARING:
        _program_shared(threads, *arrays)
    else:
        _program(0, change.size, *arrays)


@parallel
def _program_shared(threads, target, actual, deviation, step, change, g_min, g_max, weight):
    for k in prange(threads):
        first, last = change.shape[0] * k // threads, change.shape[0] * (k + 1) // threads
        _program(first, last, target, actual, deviation, step, change, g_min, g_max, weight)


@compiled()
def _program(first, last, target, actual, deviation, step, change, g_min, g_max, weight):
    zero = g_min - g_min
    part = slice(first, last)
    want, got = (target[0, part], target[1, part]), (actual[0, part], actual[1, part])
    gain, pace = (deviation[0, part], deviation[1, part]), (step[0, part], step[1, part])
    change, weight = change[part], weight[part]
    for j in range(change.shape[0]):
        w = want[0][j] - want[1][j] + change[j]
        plus = min(g_min + max(w, zero), g_max)
        minus = min(g_min + max(-w, zero), g_max)
        g = got[0][j] + pace[0][j] * (plus - want[0][j])
        got[0][j] = min(max(g, min(gain[0][j] * g_min, got[0][j])), max(gain[0][j] * g_max, got[0][j]))
        g = got[1][j] + pace[1][j] * (minus - want[1][j])
        got[1][j] = min(max(g, min(gain[1][j] * g_min, got[1][j])), max(gain[1][j] * g_max, got[1][j]))
        want[0][j] = plus
        want[1][j] = minus
        weight[j] = got[0][j] - got[1][j]


@compiled()
def command(change, target, step, inverse, found):
    """What to command, for pairs (rows, columns) to move by ``change``: by the step gain of the device that
    carries the weight, and beyond zero by the other's. ``inverse`` is 1 / ``step`` (2, rows, columns), or 0
    of a dead device.
    """
    for i in range(change.shape[0]):
        for j in range(change.shape[1]):
            carried = target[0, i, j] - target[1, i, j]
            plus = carried >= 0
            own = inverse[0, i, j] if plus else inverse[1, i, j]
            other = inverse[1, i, j] if plus else inverse[0, i, j]
            left = change[i, j] + carried * (step[0, i, j] if plus else step[1, i, j])  # once it rests
            crosses = (left < 0) == plus
            found[i, j] = left * other - carried if crosses else change[i, j] * own


@compiled()
def move(target, actual, deviation, step, change, g_min, g_max):
    """As :func:`program`, of devices that are each commanded by themselves; all flat."""
    for j in range(change.shape[0]):
        want = min(max(target[j] + change[j], g_min), g_max)
        g = actual[j] + step[j] * (want - target[j])
        low, high = min(deviation[j] * g_min, actual[j]), max(deviation[j] * g_max, actual[j])
        actual[j] = min(max(g, low), high)
        target[j] = want


@compiled()
def pulse(
    actual, deviation, step, where, pulses, asymmetry, noise, size, nonlinearity, cycle, g_min, g_max
):  # fmt: skip
    """Give the devices ``where`` (k,) each its ``pulses`` (k,), up if positive; all else flat, by device.

    The law is in :mod:`ohmostat.circuits.programming`; a device without a step, or a range, stays as it is.
    """
    for k in range(where.shape[0]):
        i = where[k]
        n, gain = abs(pulses[k]), deviation[i]
        if n == 0 or step[i] == 0 or gain == 0:
            continue
        up = 1.0 if pulses[k] > 0 else -1.0
        low, span = gain * g_min, gain * (g_max - g_min)
        x = (actual[i] - low) / span
        stride = size * (step[i] / gain) * (1.0 + up * asymmetry[k])
        if nonlinearity > 0:
            rest = 0.5 + up / nonlinearity  # the fixed point of the recurrence
            y = rest + (x - rest) * max(1.0 - stride * nonlinearity, 0.0) ** n
        else:
            y = x + up * stride * n
        y += cycle * (y - x) * noise[k] / np.sqrt(n)
        actual[i] = low + span * min(max(y, min(x, 0.0)), max(x, 1.0))


@compiled()
def attenuate(cells, row, column, tile, found):
    """Conductances that ``cells`` (nodes, ports) seem to have behind resistive wires, tile by tile, to first
    order in the wires' drops; see :meth:`ohmostat.circuits.wiring.Wiring.estimate`.
    """
    nodes, ports = cells.shape
    for i0 in range(0, nodes, tile):
        for j0 in range(0, ports, tile):
            i1, j1 = min(i0 + tile, nodes), min(j0 + tile, ports)
            for j in range(j0, j1):  # along the row wire of a port, past one node after the other
                beyond = 0.0
                for i in range(i0, i1):
                    beyond += cells[i, j]
                drop = 0.0
                for i in range(i0, i1):
                    drop += row * beyond
                    beyond -= cells[i, j]
                    found[i, j] = 1.0 + drop
            for i in range(i0, i1):  # up the column wire of a node, from where it is sensed
                before = 0.0
                for j in range(j0, j1):
                    before += cells[i, j]
                drop = 0.0
                for j in range(j1 - 1, j0 - 1, -1):
                    drop += column * before
                    before -= cells[i, j]
                    found[i, j] = cells[i, j] / (found[i, j] + drop)
