"""Random networks, each with an oracle: the same network as one dense matrix, written out anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ohmostat.simulator.blocks import BlockCircuit

Array = np.ndarray[Any, Any]


@dataclass
class Oracle:
    """``C dv/dt = W f(v) + injected - load v`` in *layer* order, with textbook neurons and Newton's method.

    It shares no code with the engine; :meth:`from_state` and :meth:`to_state` change the order of nodes.
    """

    circuit: BlockCircuit
    W: Array
    load: Array
    capacitance: Array
    gain: Array
    offset: Array

    def neuron(self, v: Array) -> tuple[Array, Array]:
        c = self.circuit
        swing = c.high - c.low
        if c.law == "softplus":
            u = (v - self.offset) / c.knee
            w = u - swing / (self.gain * c.knee)
            s = c.low + self.gain * c.knee * (np.log(1 + np.exp(u)) - np.log(1 + np.exp(w)))
            return s, self.gain * (1 / (1 + np.exp(-u)) - 1 / (1 + np.exp(-w)))
        t = np.tanh(2 * self.gain * (v - self.offset) / swing)
        return c.low + swing / 2 * (1 + t), self.gain * (1 - t**2)

    def current(self, v: Array, injected: Array) -> Array:
        return self.neuron(v)[0] @ self.W.T + injected - self.load * v

    def jacobian(self, v: Array) -> Array:
        return self.W * self.neuron(v)[1] - np.diag(self.load)

    def newton(
        self, v: Array, injected: Array, push: Array | float = 0.0, target: Array | float = 0.0
    ) -> Array:
        """The zero of the current that Newton's method finds from ``v``, under ``push * (target - s)``."""
        for _ in range(100):
            s, slope = self.neuron(v)
            residual = self.current(v, injected) + push * (target - s)
            jacobian = self.jacobian(v) - np.diag(push * slope)
            step = np.linalg.solve(jacobian, residual)
            v = v - step / max(1.0, np.abs(step).max() / 0.5)
            if np.abs(step).max() < 1e-15:
                break
        return v

    def _places(self) -> list[slice]:
        stops = np.cumsum(self.circuit.sizes)
        return [slice(stop - n, stop) for stop, n in zip(stops, self.circuit.sizes, strict=True)]

    def to_state(self, values: Array) -> Array:
        state = np.empty_like(values)
        for k, place in enumerate(self._places()):
            self.circuit.layer(state, k)[...] = values[..., place]
        return state

    def from_state(self, state: Array) -> Array:
        return np.concatenate([self.circuit.layer(state, k) for k in range(len(self.circuit.sizes))], axis=-1)


def chain(layers: int) -> list[tuple[int, int]]:
    """Couplings of a layered network, forward and back."""
    return [(k, k - 1) for k in range(1, layers)] + [(k - 1, k) for k in range(1, layers)]


def make_network(
    seed: int,
    sizes: tuple[int, ...] = (8, 6, 4),
    couplings: list[tuple[int, int]] | None = None,
    *,
    scale: float = 0.6,
    law: str = "logistic",
    dtype: Any = np.float64,
    low: float = -1.0,
    high: float = 1.0,
    gain: float = 1.0,
    knee: float = 0.2,
) -> tuple[BlockCircuit, Oracle]:
    """A random network; with ``scale`` well below 1 its one equilibrium is stable."""
    rng = np.random.default_rng(seed)
    couplings = chain(len(sizes)) if couplings is None else couplings
    circuit = BlockCircuit(sizes, couplings, np.dtype(dtype), law, low, high, knee)
    n = sum(sizes)
    values = {
        "load": 1 + 0.5 * rng.random(n),
        "capacitance": 1 + 2 * rng.random(n),
        "gain": gain * (1 + 0.2 * rng.random(n)),
        "offset": 0.2 * rng.standard_normal(n),
    }
    values = {name: value.astype(dtype).astype(float) for name, value in values.items()}
    oracle = Oracle(circuit, np.zeros((n, n)), **values)
    places = oracle._places()
    for post, pre in couplings:
        block = scale * rng.standard_normal((sizes[post], sizes[pre])) / np.sqrt(sizes[pre])
        circuit.weight(post, pre)[...] = block
        oracle.W[places[post], places[pre]] = block.astype(dtype)
    for name, value in values.items():
        getattr(circuit, name)[:] = oracle.to_state(value)
    return circuit, oracle


@pytest.fixture(scope="session")
def network() -> Callable[..., tuple[BlockCircuit, Oracle]]:
    """``network(seed, sizes, couplings, …) -> (circuit, oracle)``."""
    return make_network


@pytest.fixture(scope="session")
def ring() -> Callable[..., tuple[BlockCircuit, Oracle]]:
    """``ring(gain, capacitance)``: three inverting neurons in a loop, which oscillates above gain 2."""

    def make(gain: float, capacitance: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Any:
        circuit, oracle = make_network(0, (1, 1, 1), [(1, 0), (2, 1), (0, 2)])
        for post, pre in circuit.couplings:
            circuit.weight(post, pre)[...] = -1.0
            oracle.W[post, pre] = -1.0
        for name, values in (("load", 1.0), ("gain", gain), ("offset", 0.0), ("capacitance", capacitance)):
            getattr(oracle, name)[:] = values
            getattr(circuit, name)[:] = oracle.to_state(getattr(oracle, name))
        return circuit, oracle

    return make
