"""The accelerated equilibrium: block relaxation, colour by colour, with Anderson acceleration.

A sweep settles the layers of one colour against the others, in turn (for a layered chip: even layers
given odd ones, and back). The iterate is the ports of every colour but the first, which the first
sweep step derives from them. Anderson's acceleration mixes the last few sweeps, sample by sample
(Walker and Ni 2011; for EP: Goemaere et al. 2023). A sample that has settled leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import kernels, neurons
from .blocks import Array, BlockCircuit

KEPT = 4  # workspaces, of several batches
WINDOW = 3  # differences kept by Anderson's acceleration, two at first: more gains nothing on these circuits
NudgeCurrent = Callable[[Array, Array], Array]
"""(ports of the output layer (m, n_out) [V], their rows in the batch (m,)) -> current (m, n_out) [A]."""
Nudge = NudgeCurrent | kernels.Push
"""A current that is asked for once a sweep, or one that the kernels know."""


@dataclass
class Relaxed:
    """Settled states: ``voltages``, ``ports`` (batch, N) [V], and per sample the number of ``sweeps``, and
    whether it ``settled``.
    """

    voltages: Array
    ports: Array
    sweeps: Array
    settled: Array


def relax(
    circuit: BlockCircuit,
    injected: Array,
    *,
    start: Array | None = None,
    nudge: Nudge | None = None,
    tolerance: float = 1e-5,
    max_sweeps: int = 200,
    window: int = WINDOW,
    beside: Array | None = None,
) -> Relaxed:
    """Equilibria of ``circuit`` under ``injected`` (batch, N) [A], from the ports ``start`` (batch, N).

    Without a ``start``, from where inputs and biases alone would take each neuron, which saves a sweep where
    the inputs reach the iterate. A sample has settled when a whole sweep moves no port of the iterate (of
    every colour but the first, which the sweep derives from them) by more than ``tolerance`` of full swing.
    ``window = 0`` switches the acceleration off; ``beside`` (batch or 1, N) [S] loads each sample's nodes
    besides the circuit's own ``load``. Raises ValueError for arrays of another shape, and for options out of
    range.
    """
    _check_shapes(circuit.size, injected=injected, start=injected if start is None else start)
    _check_options(tolerance, max_sweeps, window)
    load = circuit.load[np.newaxis] if beside is None else circuit.load + beside
    scale = np.full(len(injected), circuit.swing, circuit.dtype)
    if np.iscomplexobj(injected) and circuit.clamps and not circuit.clamps.analytic:
        raise ValueError(
            f"{circuit.clamps.kind} diodes have no complex voltages, so that complex nudges mean nothing to "
            'them: take "shockley" diodes, or an estimator of real nudges, such as "chebyshev"'
        )
    law = circuit.clamps.law if circuit.clamps else neurons.LAWS[circuit.law]
    return _iterate(circuit, injected, start, law, load, scale, nudge, tolerance, max_sweeps, window)


def solve_linear(
    circuit: BlockCircuit,
    slopes: Array,
    rhs: Array,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 200,
    scale: float | None = None,
) -> Array:
    """Solve ``(W - diag(load / slopes)) x = rhs`` for every sample, by the same relaxation.

    ``slopes`` and ``rhs`` are (batch, N); with ``circuit.transposed()`` this is the adjoint's equation.
    ``tolerance`` is relative to ``scale``, by default each solution's own. Samples that do not converge,
    where the equilibrium itself is not one that relaxation finds, are solved densely. Raises ValueError as
    :func:`relax` does.
    """
    _check_shapes(circuit.size, rhs=rhs, slopes=slopes)
    _check_options(tolerance, max_sweeps, WINDOW)
    load = circuit.load / slopes
    size = np.abs(rhs / load).max(axis=1, keepdims=True)
    if scale is not None:
        size[...] = scale
    size[size == 0] = 1
    rhs = rhs / size  # to unit scale, far from underflow
    units = np.ones(len(rhs), circuit.dtype)
    found = _iterate(
        circuit, -rhs, None, kernels.LINEAR, load, units, None, tolerance, max_sweeps, WINDOW
    )  # fmt: skip
    solution = found.ports
    unsettled = np.flatnonzero(~found.settled)
    if unsettled.size:
        dense = circuit.dense().astype(np.float64)
        for row in unsettled:
            solution[row] = np.linalg.solve(dense - np.diag(load[row]), rhs[row])
    solution *= size
    return solution


def _check_shapes(size: int, **arrays: Array) -> None:
    """All (batch, size) and of one batch: the kernels take that for granted."""
    first = next(iter(arrays))
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape != (len(arrays[first]), size):
            raise ValueError(
                f"{name} has shape {array.shape}; it must be (batch, {size}), a value for each node of the "
                f"circuit, with as many rows as {first}"
            )


def _check_options(tolerance: float, max_sweeps: int, window: int) -> None:
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}; it must be above 0 and finite, such as 1e-5")
    for name, value, least in (("max_sweeps", max_sweeps, 1), ("window", window, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be a whole number, at least {least}")


def _iterate(
    circuit: BlockCircuit,
    injected: Array,
    start: Array | None,
    law: int,
    load: Array,
    scale: Array,
    nudge: Nudge | None,
    tolerance: float,
    max_sweeps: int,
    window: int,
) -> Relaxed:
    (batch, size), dtype = injected.shape, np.result_type(injected, circuit.dtype)
    real = np.zeros(0, dtype).real.dtype
    key = batch, window, dtype  # taken out, since a nudge's own current may relax the circuit once more
    state, history = circuit.scratch.pop(key, None) or _workspace(circuit, *key)
    state.rows[:] = np.arange(batch)
    if start is not None:
        state.ports[...] = start
    (voltages, ports), (sweeps, status) = np.empty((2, batch, size), dtype), np.zeros((2, batch), np.int64)
    found = kernels.Found(voltages, ports, sweeps, status)
    problem = (
        _circuit(circuit, law, real), _known(nudge, state.push.shape, dtype),
        _fixed(injected, dtype), _fixed(1 / load, np.result_type(real, load)),
    )  # fmt: skip
    limits = scale.astype(real, copy=False), real.type(tolerance), max_sweeps

    arrays = state, history, found
    if callable(nudge):
        _sweep_asking(nudge, circuit.output, start is None, problem, limits, *arrays)
    elif circuit.threads > 1:
        kernels.relax_shared(circuit.threads, *problem, start is None, *limits, *arrays)
    else:
        kernels.begin(*problem, start is None, state, history.residuals)
        kernels.relax(*problem, *limits, max_sweeps, batch, *arrays)
    if len(circuit.scratch) >= KEPT:
        circuit.scratch.clear()
    circuit.scratch[key] = state, history
    return Relaxed(ports if circuit.clamps else voltages, ports, sweeps, status == 1)


def _sweep_asking(
    nudge: NudgeCurrent, output: slice, undriven: bool, problem: tuple[Any, ...], limits: tuple[Any, ...],
    state: kernels.State, history: kernels.History, found: kernels.Found,
) -> None:  # fmt: skip
    """Sweep by sweep, under a current that the kernels do not know."""
    active = len(state.rows)

    def ask() -> None:
        np.copyto(state.push[:active], nudge(state.ports[:active, output], state.rows[:active]))

    if not undriven:
        ask()
    kernels.begin(*problem, undriven, state, history.residuals)
    while active:
        ask()
        active = kernels.relax(*problem, *limits, 1, active, state, history, found)


def _circuit(circuit: BlockCircuit, law: int, real: np.dtype[Any]) -> kernels.Blocks:
    """``circuit`` as the kernels see it, in one precision."""
    limits, parameters, curve = (_fixed(a, real) for a in circuit.parameters(real))
    weights = _fixed(circuit.weights, real)
    return kernels.Blocks(circuit.layers, weights, law, limits, parameters, curve, circuit.derived)


def _fixed(array: Array, dtype: np.dtype[Any]) -> Array:
    """In the one layout that the kernels are compiled for; a complex number is not made a real one."""
    return np.require(
        np.asarray(array).astype(dtype, casting="same_kind", copy=False), requirements=["C", "W"]
    )


def _known(nudge: Nudge | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> kernels.Push:
    """What the kernels know of a nudge of currents (batch, n_out), in one precision."""
    real = np.zeros(0, dtype).real.dtype
    if nudge is None or callable(nudge):
        law = kernels.NONE if nudge is None else kernels.GIVEN
        none = np.zeros((1, 0), real)
        return kernels.Push(law, none[0].astype(dtype), none, none, none[0], real.type(1), none[0], none[0])
    if getattr(nudge, "law", None) not in (kernels.SQUARED, kernels.SOFTMAX):
        raise TypeError(
            f"nudge is {nudge!r}; it must be a function of (ports, rows), or a Push of a law that is known: "
            "of a Nudge, pass its push"
        )
    _check_push(nudge, *shape)
    targets, weight, bias = (_fixed(a, real) for a in (nudge.targets, nudge.weight, nudge.bias))
    gain, offset = (np.full(shape[1], source, real) for source in (nudge.gain, nudge.offset))
    beta = _fixed(nudge.beta, dtype)
    return kernels.Push(nudge.law, beta, targets, weight, bias, real.type(nudge.swing), gain, offset)


def _check_push(nudge: kernels.Push, batch: int, outputs: int) -> None:
    """The shapes that the kernels take for granted."""
    width = outputs
    if nudge.law == kernels.SOFTMAX or len(nudge.weight):
        width = len(nudge.bias)
        if np.shape(nudge.weight) != (width, outputs):
            raise ValueError(
                f"the nudge's readout has shape {np.shape(nudge.weight)}; with {width} classes and {outputs} "
                f"outputs it must be ({width}, {outputs})"
            )
    if np.shape(nudge.beta) != (batch,):
        raise ValueError(
            f"the nudge has strengths of shape {np.shape(nudge.beta)}; it must have one for each of the "
            f"batch's {batch} samples"
        )
    if np.ndim(nudge.targets) != 2 or np.shape(nudge.targets)[1] != width or not len(nudge.targets):
        raise ValueError(
            f"the nudge has targets of shape {np.shape(nudge.targets)}; they must be (samples, {width})"
        )


def _workspace(
    circuit: BlockCircuit, batch: int, window: int, dtype: np.dtype[Any]
) -> tuple[kernels.State, kernels.History]:
    """Room for a relaxation, to be kept with the circuit: fresh arrays would cost more than they hold."""
    size, kept, outputs = circuit.size, window + 1, circuit.output.stop - circuit.output.start
    exact, real = np.promote_types(dtype, np.float64), np.zeros(0, dtype).real.dtype
    planes = np.empty((4 * batch if dtype.kind == "c" else 0, size), real)
    ports, nodes = np.empty((2, batch, size), dtype)
    push, rows = np.empty((batch, outputs), dtype), np.empty(batch, np.int64)
    residuals, images = np.empty((2, kept, batch, size - circuit.derived), dtype)
    history = kernels.History(residuals, images, np.empty((batch, kept, kept), exact))
    return kernels.State(ports, nodes, rows, push, planes), history
