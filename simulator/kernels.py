"""Compiled inner loops: flat arrays in, filled arrays out, no exceptions.

All jitted functions that call each other live in this one file (and `exponentials`, `products`), because
numba's cache does not see an edit in a callee in another file. Every kernel is generic over float32, float64,
complex64 and complex128. The functions around them (`relaxation`, `chip`) validate and allocate all that is
large.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import overload
from numpy.typing import NDArray

from .exponentials import compiled, parallel, share, softplus
from .products import multiply

Array = NDArray[Any]

LOGISTIC, SOFTPLUS, LINEAR, CLAMP, SHOCKLEY, MEASURED = 0, 1, 2, 3, 4, 5  # laws of nodes
NONE, GIVEN, SQUARED, SOFTMAX = 0, 1, 2, 3  # laws of nudges

FAST = {"contract", "reassoc", "nsz"}  # sums may be reordered; NaN and infinity keep their meaning
SOON, FEW = 16, 3  # sweeps in which most samples settle, and how many are kept till then: they fit the cache
MOST_STEPS = 100  # of Newton's method at one node
SMALLEST = 1e-34  # squared residual below which single precision has lost it


@compiled(fastmath=FAST)
def activate(nodes, injected, rows, first, last, law, resistance, limits, parameters, curve, ports):
    """Settle nodes ``first : last``: ``v = (current + injected) resistance``, ``s = f(v)``.

    ``nodes`` (m, N) holds the synapses' currents, and the voltages afterwards: one array less to stream. It
    and ``ports`` (m, N) are compact (active samples only), ``injected`` (batch, N) is addressed by ``rows``;
    ``resistance`` is 1 / load, (1, N) or per sample. With ``law == LINEAR``, ``s = v`` (``resistance`` is
    then slope / load). ``limits`` holds low, swing and knee: an array passes faster than three scalars.
    ``parameters`` (2, N) are the amplifiers' gain and offset. From `CLAMP` on a node is its own port, and
    diodes hold it (:mod:`.clamps`): ``limits`` is then their thermal voltage and the precision asked for,
    ``parameters`` (4, N) their barriers and saturation currents, low ones first, ``curve`` what was measured.
    """
    if law >= CLAMP:
        _hold(nodes, injected, rows, first, last, law, resistance, limits, parameters, curve, ports)
        return
    low, swing, knee = limits[0], limits[1], limits[2]
    one = swing / swing
    slope = limits.dtype.type(-4.0 / math.log(2.0)) / swing  # of the exponent, in powers of two
    for a in range(rows.shape[0]):
        row = rows[a]
        v, bias = nodes[a, first:last], injected[row, first:last]
        s = ports[a, first:last]
        r = resistance[row if resistance.shape[0] > 1 else 0, first:last]
        amp, mid = parameters[0, first:last], parameters[1, first:last]
        if law == LOGISTIC:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                s[i] = low + swing * share(slope * amp[i] * (v[i] - mid[i]), one)
        elif law == SOFTPLUS:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                u = (v[i] - mid[i]) / knee
                s[i] = low + amp[i] * knee * (softplus(u) - softplus(u - swing / (amp[i] * knee)))
        else:
            for i in range(v.shape[0]):
                v[i] = (v[i] + bias[i]) * r[i]
                s[i] = v[i]


@compiled()
def _diode_above(u, resistance, barrier, size, thermal, enough):
    """Where a node that would be at ``u`` settles with one diode, of saturation current ``size``, above it.

    Newton's method on ``s - u + resistance i(s) = 0`` from beyond the solution, towards which it falls
    without passing it: the function is convex. (Beyond is no further than the barrier, or than the current
    that leaks back can lift the node, and where u is past the barrier than the logarithm of all of its
    current.)
    """
    beyond = u - barrier
    if beyond > 0:
        s = barrier + min(beyond, thermal * math.log1p(beyond / (resistance * size)))
    else:
        s = min(u + resistance * size, barrier)
    for _ in range(MOST_STEPS):
        out = size * math.exp((s - barrier) / thermal)
        step = (s - u + resistance * (out - size)) / (1 + resistance * out / thermal)
        s -= step
        if abs(step) <= enough * (abs(s) + abs(u) + thermal):
            return s
    return s * math.nan


@compiled()
def _shockley(u, resistance, low, high, below, above, thermal, enough):
    """The real voltage of a node that would be at ``u`` without its diodes; NaN where none is found.

    With both, it lies between where either alone would leave it, or its barrier: see :mod:`.clamps`.
    """
    if above == 0 and below == 0:
        return u
    if below == 0:
        return _diode_above(u, resistance, high, above, thermal, enough)
    if above == 0:
        return -_diode_above(-u, resistance, -low, below, thermal, enough)
    b = max(_diode_above(u, resistance, high, above, thermal, enough), low)
    a = min(-_diode_above(-u, resistance, -low, below, thermal, enough), high)
    s, stride = min(max(u, a), b), b - a
    for _ in range(MOST_STEPS):
        out, into = above * math.exp((s - high) / thermal), below * math.exp((low - s) / thermal)
        excess = s - u + resistance * ((out - into) - (above - below))
        if excess > 0:
            b = s
        else:
            a = s
        following = s - excess / (1 + resistance * (out + into) / thermal)
        if not a <= following <= b or 2 * abs(following - s) > stride:  # Newton's steps do not shrink: halve
            following = a + (b - a) / 2
        stride = abs(following - s)
        s = following
        if stride <= enough * (abs(s) + abs(u) + thermal):
            return s
    return s * math.nan


@compiled()
def _continued(u, s, resistance, low, high, below, above, thermal, enough):
    """The complex voltage of a node that would be at ``u``, by Newton's method from the real one, ``s``."""
    for _ in range(MOST_STEPS):
        out, into = s * 0, s * 0
        if above > 0:
            out = above * np.exp((s - high) / thermal)
        if below > 0:
            into = below * np.exp((low - s) / thermal)
        excess = s - u + resistance * ((out - into) - (above - below))
        step = excess / (1 + resistance * (out + into) / thermal)
        s = s - step
        if abs(step) <= enough * (abs(s) + abs(u) + thermal):
            return s
    return s * math.nan


@compiled()
def _along(curve, u):
    """Current and slope of a measured ``curve`` at ``u``."""
    first, last = 0, curve.shape[1] - 1
    while first < last:  # the last piece that begins at or before u
        middle = (first + last + 1) // 2
        if curve[0, middle] <= u:
            first = middle
        else:
            last = middle - 1
    x = u - curve[0, max(first, 1)]
    a, b, c, d = curve[1, first], curve[2, first], curve[3, first], curve[4, first]
    return ((a * x + b) * x + c) * x + d, (3 * a * x + 2 * b) * x + c


@compiled()
def _measured(u, resistance, low, high, below, above, curve, enough):
    """As :func:`_shockley`, of a measured curve: Newton's method within a bracket that bisection closes."""
    start = above * _along(curve, u - high)[0] - below * _along(curve, low - u)[0]
    a, b = min(u, u - resistance * start), max(u, u - resistance * start)
    s, stride = u, b - a
    for _ in range(MOST_STEPS):
        out, steep = _along(curve, s - high)
        into, steeper = _along(curve, low - s)
        excess = s - u + resistance * (above * out - below * into)
        if excess > 0:
            b = s
        else:
            a = s
        following = s - excess / (1 + resistance * (above * steep + below * steeper))
        if not a <= following <= b or 2 * abs(following - s) > stride:
            following = a + (b - a) / 2
        stride = abs(following - s)
        s = following
        if stride <= enough * (abs(s) + abs(u)):
            return s
    return s * math.nan


def _settled(u, *diodes):  # pragma: no cover - replaced by the overload below
    """:func:`_shockley`, of a real or a complex ``u``."""
    raise NotImplementedError


@overload(_settled)
def _settled_overload(u, resistance, low, high, below, above, thermal, enough):
    if not isinstance(u, types.Complex):
        return lambda u, resistance, low, high, below, above, thermal, enough: _shockley(
            u, resistance, low, high, below, above, thermal, enough
        )

    def settled(u, resistance, low, high, below, above, thermal, enough):
        s = _shockley(u.real, resistance, low, high, below, above, thermal, enough)
        return _continued(u, u * 0 + s, resistance, low, high, below, above, thermal, enough)

    return settled


@compiled()
def _hold(nodes, injected, rows, first, last, law, resistance, limits, parameters, curve, ports):
    """:func:`activate` where diodes hold the nodes; ``nodes`` and ``ports`` are the same voltages then.

    Of complex voltages only Shockley's law is asked for.
    """
    thermal, enough = limits[0], limits[1]
    for a in range(rows.shape[0]):
        row = rows[a]
        r = resistance[row if resistance.shape[0] > 1 else 0]
        for i in range(first, last):
            u = (nodes[a, i] + injected[row, i]) * r[i]
            low, high, below, above = parameters[0, i], parameters[1, i], parameters[2, i], parameters[3, i]
            nodes[a, i] = u
            if law == SHOCKLEY:
                nodes[a, i] = _settled(u, r[i].real, low, high, below, above, thermal, enough)
            elif law == MEASURED:
                nodes[a, i] = _measured(u.real, r[i].real, low, high, below, above, curve, enough)
            elif u.real < low:
                nodes[a, i] = low
            elif u.real > high:
                nodes[a, i] = high
            ports[a, i] = nodes[a, i]


@compiled()
def _solve(matrix, rhs, n):
    """Solve the leading n x n Hermitian system in place, by L D L*; False if it is not positive definite."""
    for k in range(n):
        pivot = matrix[k, k].real
        if not pivot > 0.0:
            return False
        inverse = 1.0 / pivot
        for i in range(k + 1, n):
            factor = matrix[i, k] * inverse
            for j in range(k + 1, n):
                matrix[i, j] -= factor * matrix[k, j]
            rhs[i] -= factor * rhs[k]
        matrix[k, k] = inverse
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            rhs[k] -= matrix[k, j] * rhs[j]
        rhs[k] *= matrix[k, k]
    return True


@compiled(fastmath=FAST)
def _dot(a, b):
    total = np.conj(a[0]) * b[0]
    for i in range(1, a.shape[0]):
        total += np.conj(a[i]) * b[i]
    return total


@compiled(fastmath=FAST)
def _remember(image, residual, past):
    """Turn the iterate x, which ``residual`` holds, into ``T(x) - x`` and keep T(x); returns the square."""
    for i in range(image.shape[0]):
        residual[i] = image[i] - residual[i]
        past[i] = image[i]
    return _dot(residual, residual).real


@compiled()
def _within(values, allowed):
    """Is no component larger? Counted, since a running maximum would not vectorise."""
    larger = 0
    for i in range(values.shape[0]):
        larger += abs(values[i]) > allowed
    return larger == 0


@compiled(fastmath=FAST)
def _weigh(slot, depth, residuals, row, gram, work, shares):
    """Shares a of the images in Anderson's step for one sample; False where they cannot be had.

    Minimises ``|sum_k a_k r_k|`` with ``sum_k a_k = 1`` over the last ``depth`` residuals r, the latest of
    which is in ``slot`` (Walker and Ni 2011, eq. 2.1). By normal equations ``G a ∝ 1``, scaled to a unit
    diagonal; the shares of all but the latest are regularised relative to the largest residual, so that late,
    small ones do not fit the map's curvature.
    """
    trace = 0.0
    for k in range(depth):
        if k != slot:
            gram[k, slot] = _dot(residuals[k, row], residuals[slot, row])
            gram[slot, k] = np.conj(gram[k, slot])
        if gram[k, k].real < SMALLEST:
            return False
        trace += gram[k, k].real
    norms = work[depth]  # the row below the system
    for k in range(depth):
        shares[k] = norms[k] = 1.0 / np.sqrt(gram[k, k].real)
    for k in range(depth):
        for j in range(depth):
            work[k, j] = gram[k, j] * (norms[k] * norms[j])
        if k != slot:
            work[k, k] += 1e-7 * trace / gram[k, k].real
    if not _solve(work, shares, depth):
        return False
    total = shares[0] * 0.0
    for k in range(depth):
        shares[k] *= norms[k]
        total += shares[k]
    if abs(total) == 0.0:
        return False
    for k in range(depth):
        shares[k] /= total
    return True


@compiled(inline="always")
def _remembered(count, kept):
    """Sweeps since the history was begun, after ``count`` sweeps in all, and how many of these it holds.

    What has not settled soon begins anew with a longer one.
    """
    if count < SOON:
        return count, min(kept, FEW)
    return count - SOON, kept


@compiled()
def _copy(source, target):
    """Between views: an index that is a sum might be negative, to the compiler, and would not vectorise."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@compiled(fastmath=FAST)
def _combine(images, row, depth, shares, out):
    """``out = sum_k shares[k] images[k, row]``."""
    share, first = out.dtype.type(shares[0]), images[0, row]
    for i in range(out.shape[0]):
        out[i] = share * first[i]
    for k in range(1, depth):
        share, image = out.dtype.type(shares[k]), images[k, row]
        for i in range(out.shape[0]):
            out[i] += share * image[i]


@compiled()
def anderson(
    ports, nodes, rows, start, scale, tolerance, most, settled_ports, voltages, count, status,
    residuals, images, gram, work, shares,
):  # fmt: skip
    """Judge every active sample and choose its next iterate; returns how many stay active.

    ``ports[:, start:]`` holds the image T(x) of the iterate x. A sample whose ``|T(x) - x|`` is at most
    ``tolerance * scale[row]`` leaves with ``status`` 1, one that is no longer finite with -1, one that has
    had its ``most`` sweeps with 0; its ports and ``nodes`` are its result. The survivors are packed to the
    front of ``ports`` and ``rows``, so that what has settled costs nothing more. ``count`` counts each
    sample's sweeps; ``residuals`` and ``images`` (kept, batch, n) hold its last ones, in turn, and the place
    of the next residual its iterate. With one kept there is nothing to mix: plain relaxation.
    """
    kept = residuals.shape[0]
    packed = 0
    for a in range(rows.shape[0]):
        row = rows[a]
        image = ports[a, start:]
        age, length = _remembered(count[row], kept)
        slot, depth = age % length, min(age + 1, length)
        count[row] += 1
        residual = residuals[slot, row]
        square = _remember(image, residual, images[slot, row])
        allowed = tolerance * scale[row]
        sound = math.isfinite(square)
        # The largest component is at least the root mean square, which costs a tenth of it to find.
        done = sound and square <= residual.shape[0] * allowed * allowed and _within(residual, allowed)
        if done or not sound or count[row] >= most:
            status[row] = 1 if done else (0 if sound else -1)
            _copy(ports[a], settled_ports[row])
            _copy(nodes[a], voltages[row])
            continue
        gram[row, slot, slot] = square
        mixed = depth > 1 and _weigh(slot, depth, residuals, row, gram[row], work, shares)
        age, length = _remembered(count[row], kept)
        following = residuals[age % length, row]
        if mixed:
            _combine(images, row, depth, shares, following)
        else:
            _copy(image, following)
        _copy(following, ports[packed, start:])
        rows[packed] = row
        packed += 1
    return packed


# -- a whole relaxation ------------------------------------------------------------------------------


class Blocks(NamedTuple):
    """A circuit of N nodes: its ``layers``, colour after colour, each a row of its first and last node, the
    first and last port that drive it, where in ``weights`` its block begins and how far its columns lie
    apart, and whether its colour ends.

    ``weights[at + apart j + i]`` is what port j drives into node i.
    ``law``, ``limits``, ``parameters`` and ``curve`` are the nodes' (:func:`activate`), ``first`` is the
    first node of the iterate.
    """

    layers: Array
    weights: Array
    law: int
    limits: Array
    parameters: Array
    curve: Array
    first: int


class Push(NamedTuple):
    """A nudge of a batch, ``-beta ∂L/∂s`` [A] into the output nodes, as its sources deliver it: times
    ``gain`` and plus ``offset`` (n_out,) [A].

    ``L`` is that of sample ``row mod samples``: half the squared distance of ``s / swing``, or (with a
    ``weight``) of ``weight s / swing``, from ``targets`` (samples, classes) (``law == SQUARED``), or the
    cross-entropy of ``softmax(weight s / swing + bias)`` to ``targets`` (samples, classes) (``SOFTMAX``).
    ``law == GIVEN``: the current is in the state's ``push``.
    """

    law: int
    beta: Array
    targets: Array
    weight: Array
    bias: Array
    swing: Any
    gain: Any = 1.0
    offset: Any = 0.0


class State(NamedTuple):
    """Of the active samples, packed: ``ports``, ``nodes`` (m, N), their ``rows`` in the batch, and room for
    the ``push`` (m, n_out) and, if they are complex, for ``planes`` (4 m, N) of real and imaginary parts.
    """

    ports: Array
    nodes: Array
    rows: Array
    push: Array
    planes: Array


class History(NamedTuple):
    """Of every sample: its last ``residuals`` and ``images`` (kept, batch, n), and the residuals' ``gram``
    matrix (batch, kept, kept); see :func:`anderson`.
    """

    residuals: Array
    images: Array
    gram: Array


class Found(NamedTuple):
    """Results of every sample: ``voltages``, ``ports`` (batch, N), how many ``sweeps``, and ``status``."""

    voltages: Array
    ports: Array
    sweeps: Array
    status: Array


def _multiply(drivers, weights, out, planes):  # pragma: no cover - replaced by the overload below
    """``out (m, n) = drivers (m, k) @ weights (k, n)``, the weights real."""
    raise NotImplementedError


@overload(_multiply)
def _multiply_overload(drivers, weights, out, planes):
    if isinstance(drivers.dtype, types.Complex):
        return _multiply_complex
    return lambda drivers, weights, out, planes: multiply(drivers, weights, out)


def _multiply_complex(drivers, weights, out, planes):
    """As two real batches."""
    (rows, depth), width = drivers.shape, out.shape[1]
    split, product = planes[: 2 * rows, :depth], planes[2 * rows :, :width]
    for a in range(rows):
        for j in range(depth):
            split[a, j] = drivers[a, j].real
            split[rows + a, j] = drivers[a, j].imag
    multiply(split, weights, product[: 2 * rows])
    for a in range(rows):
        for i in range(width):
            out[a, i] = complex(product[a, i], product[rows + a, i])


@compiled(fastmath=FAST)
def _slopes(nudge, ports, target, p, out):
    """``swing ∂L/∂s`` of one sample into ``out`` (n_out,); ``p`` (classes,) is scratch."""
    if p.shape[0] == 0:
        for i in range(out.shape[0]):
            out[i] = ports[i] / nudge.swing - target[i]
        return
    most = -np.inf
    for c in range(p.shape[0]):
        logit = out.dtype.type(0)
        for i in range(out.shape[0]):
            logit += nudge.weight[c, i] * ports[i]
        p[c] = logit / nudge.swing + nudge.bias[c]
        most = max(most, p[c].real)
    total = out.dtype.type(1)
    if nudge.law == SOFTMAX:
        total = out.dtype.type(0)
        for c in range(p.shape[0]):
            p[c] = np.exp(p[c] - nudge.bias.dtype.type(most))
            total += p[c]
    out[:] = 0
    for c in range(p.shape[0]):
        error = p[c] / total - target[c]
        for i in range(out.shape[0]):
            out[i] += error * nudge.weight[c, i]


@compiled(fastmath=FAST)
def deliver(nudge, ports, rows, push):
    """The nudge's current ``push`` (m, n_out) [A] at output ``ports`` (m, n_out) of the samples ``rows``."""
    samples, p = nudge.targets.shape[0], np.empty(nudge.bias.shape[0], push.dtype)
    for a in range(rows.shape[0]):
        row, current = rows[a], push[a]
        _slopes(nudge, ports[a], nudge.targets[row % samples], p, current)
        strength = -nudge.beta[row] / nudge.swing
        for i in range(current.shape[0]):
            current[i] = nudge.gain[i] * (strength * current[i]) + nudge.offset[i]


@compiled()
def _sweep(blocks, nudge, injected, resistance, state, since):
    """Settle the layers from ``since`` on, one colour after the other."""
    ports, nodes, rows, push, planes = state
    begun = blocks.layers[since, 0]
    for k in range(since, blocks.layers.shape[0]):
        first, last, lo, hi, at, apart, ends = blocks.layers[k]
        column = nodes[:, first:last]
        n = last - first
        weights = blocks.weights[at : at + apart * (hi - lo)].reshape((hi - lo, apart))[:, :n]
        _multiply(ports[:, lo:hi], weights, column, planes)
        if nudge.law != NONE and k == blocks.layers.shape[0] - 1:  # the output's, which its own ports nudge
            if nudge.law != GIVEN:
                deliver(nudge, ports[:, first:last], rows, push)
            for a in range(rows.shape[0]):
                for i in range(n):
                    column[a, i] += push[a, i]
        if ends:
            activate(
                nodes, injected, rows, begun, last, blocks.law, resistance, blocks.limits,
                blocks.parameters, blocks.curve, ports,
            )  # fmt: skip
            begun = last


@compiled()
def begin(blocks, nudge, injected, resistance, undriven, state, residuals):
    """The first iterate: of the injected currents alone where a state is ``undriven``; else the state's own,
    of which a nudge moves the output layer, and at first nothing else.
    """
    ports, nodes, rows = state.ports, state.nodes, state.rows
    if undriven:
        nodes[:, blocks.first :] = 0
        activate(
            nodes, injected, rows, blocks.first, ports.shape[1], blocks.law, resistance, blocks.limits,
            blocks.parameters, blocks.curve, ports,
        )  # fmt: skip
    elif nudge.law != NONE:
        _sweep(blocks, nudge, injected, resistance, state, blocks.layers.shape[0] - 1)
    for a in range(rows.shape[0]):
        _copy(ports[a, blocks.first :], residuals[0, rows[a]])


@compiled()
def relax(blocks, nudge, injected, resistance, scale, tolerance, most, sweeps, active, state, history, found):
    """At most ``sweeps`` sweeps of the ``active`` first samples of a ``state``; returns how many stay so.

    A sample is done when it has settled, or has had its ``most`` sweeps; see :func:`anderson`. ``injected``
    [A] and ``resistance`` [1/S] are as for :func:`activate`.
    """
    kept = history.gram.shape[1]
    work = np.empty((kept + 1, kept), history.gram.dtype)
    shares = np.empty(kept, history.gram.dtype)
    while active and sweeps:
        rows = state.rows[:active]
        now = State(state.ports[:active], state.nodes[:active], rows, state.push[:active], state.planes)
        _sweep(blocks, nudge, injected, resistance, now, 0)
        active = anderson(
            state.ports, state.nodes, rows, blocks.first, scale, tolerance, most, found.ports, found.voltages,
            found.sweeps, found.status, history.residuals, history.images, history.gram, work, shares,
        )  # fmt: skip
        sweeps -= 1
    return active


@parallel
def relax_shared(
    threads, blocks, nudge, injected, resistance, undriven, scale, tolerance, most, state, history, found
):  # fmt: skip
    """A whole relaxation, each thread having its share of the batch."""
    batch = state.rows.shape[0]
    for k in prange(threads):
        a, b = batch * k // threads, batch * (k + 1) // threads
        part = State(
            state.ports[a:b], state.nodes[a:b], state.rows[a:b], state.push[a:b], state.planes[4 * a : 4 * b]
        )
        begin(blocks, nudge, injected, resistance, undriven, part, history.residuals)
        relax(
            blocks, nudge, injected, resistance, scale, tolerance, most, most, b - a, part, history, found
        )  # fmt: skip
