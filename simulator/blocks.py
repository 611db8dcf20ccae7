"""The crossbar engine's circuit: layers of neurons coupled by dense blocks of conductance.

One node per neuron, voltage ``v``, and one port ``s = f(v)`` that drives the synapses:

    C dv/dt = I = W s + injected - load * v,        equilibrium: I = 0

``W[i, j]`` [S] is the current into node i per volt on port j, ``load`` [S] what draws current out of a
node per volt on it, ``injected`` [A] what inputs, biases and nudges push in. The engine knows nothing
of devices, chips or learning.

The state vector is stored colour by colour: layers of one colour do not drive each other, so that they
settle together (even-odd relaxation is the case of two colours). Use :meth:`BlockCircuit.layer` or
``slices`` to find a layer; never assume the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import neurons
from .clamps import NO_CURVE, Clamps

Array = NDArray[Any]
LINE = 64  # bytes of a line of a processor's cache


@dataclass(frozen=True)
class FanIn:
    """What drives one layer: ports ``lo : hi`` of the state, through ``weight`` (n, hi - lo) [S].

    A view of the circuit's ``weights``, which relaxation reads: there its columns follow one another, from
    ``at`` on, each :func:`spaced` from the next.
    """

    lo: int
    hi: int
    at: int
    weight: Array


@dataclass
class BlockCircuit:
    """A network of dense blocks (see the module's equation).

    Args:
        sizes: neurons in each layer; the last layer is the output.
        couplings: pairs ``(post, pre)`` of layers, the second driving the first.
        dtype: of weights and states, float32 or float64 (complex states promote by themselves).
        threads: that share a relaxation's batch; how many changes nothing in what comes out.

    Attributes (arrays over the N neurons, in state order): ``load`` [S], ``capacitance`` [F], ``gain``
    [V/V] and ``offset`` [V] of the amplifiers; ``low``, ``high``, ``knee`` [V] and ``law`` are common.

    With ``clamps`` nodes have no amplifiers but diodes: each is its own port, ``s = v``, and

        C dv/dt = I = W v + injected - load * v - i(v).

    ``offset`` then moves the barriers of its diodes; ``low`` and ``high`` say what counts as full swing.
    """

    sizes: tuple[int, ...]
    couplings: Iterable[tuple[int, int]]
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float64))
    law: str = "logistic"
    low: float = 0.0
    high: float = 1.0
    knee: float = 0.05
    threads: int = 1
    clamps: Clamps | None = None

    def __post_init__(self) -> None:
        self.dtype = np.dtype(self.dtype)
        self.couplings = tuple(self.couplings)
        self.colours = _colour(len(self.sizes), self.couplings)
        self.slices = _places(self.sizes, self.colours)
        self.size = sum(self.sizes)
        sizes = (spaced(n, self.dtype) * (hi - lo) for n, (lo, hi) in self._driven())
        self.weights = _zeros(sum(sizes), self.dtype)
        self.fan_in = self._views()
        self.layers = np.array(
            [
                (
                    self.slices[k].start, self.slices[k].stop, fan.lo, fan.hi,
                    fan.at, spaced(self.sizes[k], self.dtype), k == members[-1],
                )
                for members in self.colours
                for k, fan in ((k, self.fan_in[k]) for k in members)
            ],
            np.int64,
        )  # fmt: skip # as :class:`.kernels.Blocks` wants them
        self.scratch: dict[tuple[Any, ...], Any] = {}  # of the solvers, by shape
        self.load = np.ones(self.size, self.dtype)
        self.capacitance = np.ones(self.size, self.dtype)
        self.gain = np.ones(self.size, self.dtype)
        self.offset = np.zeros(self.size, self.dtype)

    def _driven(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Size of every layer, and the first and last port that drive it."""
        for k, n in enumerate(self.sizes):
            drivers = [self.slices[pre] for post, pre in self.couplings if post == k]
            ends = min((s.start for s in drivers), default=0), max((s.stop for s in drivers), default=0)
            yield n, ends

    def _views(self) -> dict[int, FanIn]:
        """Every layer's part of the ``weights``."""
        found, at = {}, 0
        for k, (n, (lo, hi)) in enumerate(self._driven()):
            apart = spaced(n, self.dtype)
            end = at + apart * (hi - lo)
            found[k] = FanIn(lo, hi, at, self.weights[at:end].reshape(hi - lo, apart)[:, :n].T)
            at = end
        return found

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made of the rest: views, which a copy would turn into arrays of their own, and
        scratch.
        """
        return {name: value for name, value in vars(self).items() if name not in ("fan_in", "scratch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.weights = _zeros(state["weights"].size, self.dtype)
        self.weights[:] = state["weights"]
        self.fan_in, self.scratch = self._views(), {}

    @property
    def derived(self) -> int:
        """Nodes of the first colour, at the front of the state: they do not couple to each other, so that all
        others give theirs. 0 for a single colour, which has no others.
        """
        return sum(self.sizes[k] for k in self.colours[0]) if len(self.colours) > 1 else 0

    @property
    def swing(self) -> float:
        """Full swing of a port [V]."""
        return self.high - self.low

    @property
    def output(self) -> slice:
        """Where the output layer lies in the state."""
        return self.slices[len(self.sizes) - 1]

    def layer(self, state: Array, k: int) -> Array:
        """Layer ``k`` of a state (..., N), as a view."""
        return state[..., self.slices[k]]

    def weight(self, post: int, pre: int) -> Array:
        """The block (n_post, n_pre) [S] from layer ``pre`` into layer ``post``, as a writable view."""
        if (post, pre) not in tuple(self.couplings):
            raise KeyError(f"layer {pre} does not drive layer {post}; couplings are {self.couplings}")
        fan, s = self.fan_in[post], self.slices[pre]
        return fan.weight[:, s.start - fan.lo : s.stop - fan.lo]

    def dense(self) -> Array:
        """``W`` (N, N) [S] in state order."""
        full = np.zeros((self.size, self.size), self.dtype)
        for k, fan in self.fan_in.items():
            full[self.slices[k], fan.lo : fan.hi] = fan.weight
        return full

    def transposed(self) -> BlockCircuit:
        """The same circuit with every block turned round (``Wᵀ``): the adjoint's network. A copy."""
        turned = BlockCircuit(
            self.sizes, [(pre, post) for post, pre in self.couplings], self.dtype,
            self.law, self.low, self.high, self.knee, self.threads, self.clamps,
        )  # fmt: skip
        for post, pre in self.couplings:
            turned.weight(pre, post)[...] = self.weight(post, pre).T
        for name in ("load", "capacitance", "gain", "offset"):
            setattr(turned, name, getattr(self, name))
        return turned

    def ports(self, voltages: Array) -> tuple[Array, Array]:
        """Port voltages ``f(v)`` [V] and slopes ``f'(v)`` of states (..., N).

        Where diodes hold the nodes, the slope is that of the node itself over the voltage that it would have
        without them, ``load / (load + i'(v))``: the part that it takes in ``J̃ = W - diag(load / f')``.
        """
        if self.clamps:
            return voltages, self.diodes.slopes(voltages, self.load)
        return neurons.evaluate(self.law, voltages, self.low, self.high, self.gain, self.offset, self.knee)

    @property
    def diodes(self) -> Clamps:
        """The clamps, at barriers that the nodes' offsets have moved."""
        assert self.clamps is not None
        return replace(self.clamps, low=self.clamps.low + self.offset, high=self.clamps.high + self.offset)

    def parameters(self, real: np.dtype[Any]) -> tuple[Array, Array, Array]:
        """What the kernels know the nodes' law by: see :func:`.kernels.activate`."""
        if self.clamps is None:
            common = np.array([self.low, self.swing, self.knee])
            return common, np.stack([self.gain, self.offset]), NO_CURVE
        held = self.diodes
        common = np.array([held.thermal, 4 * np.finfo(real).eps])
        return common, np.stack([held.low, held.high, held.below, held.above]), held.curve

    def drive(self, ports: Array, out: Array | None = None) -> Array:
        """Synaptic currents ``W s`` [A] of ports (m, N)."""
        out = np.empty_like(ports) if out is None else out
        for k, fan in self.fan_in.items():
            multiply(ports[:, fan.lo : fan.hi], fan.weight.T, out[:, self.slices[k]])
        return out

    def current(self, voltages: Array, injected: Array) -> Array:
        """Kirchhoff's residual ``I(v)`` [A] (m, N): zero at an equilibrium."""
        return self.balance(voltages, self.drive(self.ports(voltages)[0]) + injected)

    def balance(self, voltages: Array, current: Array) -> Array:
        """What loads and diodes leave of the ``current`` [A] (m, N) that flows into nodes at ``voltages``."""
        left: Array = current - self.load * voltages
        return self.diodes.balance(voltages, left) if self.clamps else left

    def steepness(self, voltages: Array) -> Array:
        """What a node's own current rises by per volt on it [S]: through its load, and its diodes where they
        let it move.
        """
        if self.clamps is None or self.clamps.kind == "ideal":
            return self.load
        steep: Array = self.load + self.diodes.current(voltages)[1]
        return steep

    def held(self, voltages: Array) -> Array:
        """Voltages as ideal diodes, where there are any, hold them."""
        return self.diodes.held(voltages) if self.clamps else voltages

    def jacobian(self, voltages: Array, nudge_slope: Array | None = None) -> Array:
        """``J = ∂I/∂v`` (N, N) [S] at one state (N,); ``J̃ = J diag(1/f')`` is :meth:`port_jacobian`.

        ``nudge_slope`` (n_out, n_out) [S] is ``∂I_nudge/∂s_out``, for states under a nudge.
        """
        if self.clamps:  # a node is its own port
            return self.port_jacobian(voltages, nudge_slope)
        jacobian: Array = self.coupling(nudge_slope) * self.ports(voltages)[1] - np.diag(self.load)
        return jacobian

    def port_jacobian(self, voltages: Array, nudge_slope: Array | None = None) -> Array:
        """``J̃ = ∂I/∂s = W - diag(load / f')`` (N, N) [S] at one state (N,) (physics, section 1)."""
        jacobian: Array = self.coupling(nudge_slope) - np.diag(self.load / self.ports(voltages)[1])
        return jacobian

    def coupling(self, nudge_slope: Array | None) -> Array:
        """``∂I/∂s`` (N, N) [S] of synapses and nudge alone."""
        full = self.dense()
        if nudge_slope is not None:
            full = full.astype(np.result_type(full, nudge_slope))
            full[self.output, self.output] += nudge_slope
        return full


def spaced(width: int, dtype: np.dtype[Any]) -> int:
    """How many numbers from the beginning of a row of ``width`` to that of the next, where it takes a
    processor least time to go down its columns.

    Every row begins a line of the cache, so that a tile's vectors lie in one each. Rows of four lines, or a
    multiple, take one more: what lies in one column would otherwise compete for the same few places in the
    cache.
    """
    line = LINE // dtype.itemsize
    lines = -(-width // line)
    return line * (lines + (lines > 0 and lines % 4 == 0))


def spaced_zeros(rows: int, width: int, dtype: np.dtype[Any]) -> Array:
    """Zeros (rows, width), the rows :func:`spaced`."""
    apart = spaced(width, dtype)
    return _zeros(rows * apart, dtype).reshape(rows, apart)[:, :width]


def _zeros(count: int, dtype: np.dtype[Any]) -> Array:
    """So many numbers, from the beginning of a line."""
    found: Array = room(count * dtype.itemsize, LINE).view(dtype)
    found[:] = 0
    return found


def room(size: int, boundary: int, offset: int = 0) -> Array:
    """So many bytes, of no value yet, that begin ``offset`` past a multiple of ``boundary`` in memory."""
    whole = np.empty(size + boundary, np.uint8)
    first = (offset - whole.ctypes.data) % boundary
    return whole[first : first + size]


def multiply(drivers: Array, weight: Array, out: Array) -> None:
    """``out = drivers @ weight``, the weights real.

    Complex drivers are two real batches: a complex product would carry the weights' zeros along, at twice
    the work, and convert them every time.
    """
    if not np.iscomplexobj(drivers):
        np.matmul(drivers, weight, out=out)
        return
    both = np.concatenate([drivers.real, drivers.imag]) @ weight
    out.real, out.imag = np.split(both, 2)


def _colour(layers: int, couplings: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Greedy colouring: layers of one colour do not drive each other. The output's colour comes last.

    A nudge depends on the output's own port, so the output must be part of the iterate, and the first
    colour is derived from the others (see :mod:`.relaxation`).
    """
    linked: Mapping[int, set[int]] = {k: set() for k in range(layers)}
    for post, pre in couplings:
        if post == pre:
            raise ValueError(f"layer {post} drives itself: split it, no block may couple a layer to itself")
        linked[post].add(pre)
        linked[pre].add(post)
    colours: list[list[int]] = []
    for k in range(layers):
        for members in colours:
            if not linked[k].intersection(members):
                members.append(k)
                break
        else:
            colours.append([k])
    return sorted(colours, key=lambda members: layers - 1 in members)


def _places(sizes: tuple[int, ...], colours: list[list[int]]) -> dict[int, slice]:
    """Each layer's slice of the state, colour after colour."""
    places, start = {}, 0
    for k in (k for members in colours for k in members):
        places[k] = slice(start, start + sizes[k])
        start += sizes[k]
    return dict(sorted(places.items()))
