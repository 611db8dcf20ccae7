"""Optimisers, in the dimensionless weights ``W = (g+ - g-) / leak`` of the literature.

A gradient ``dL/dw`` [1/S] goes in, a change ``Δw`` [S] comes out; in between it descends in ``W = w / unit``:
``dL/dW = unit dL/dw``, ``Δw = unit ΔW``. With the leak as unit, a published learning rate means here what it
means there (physics, section 1: The circuit).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..simulator import device_kernels
from ..simulator.blocks import Array


class Optimizer(Protocol):
    """Turns a named gradient into a named change; keeps its state by name."""

    rate: float
    state: dict[str, Array]

    def step(self, name: str, gradient: Array, unit: float = 1.0) -> Array:
        """The change of weights whose gradient is given; ``unit`` [S] makes them dimensionless."""


@dataclass
class SGD:
    """Stochastic gradient descent with momentum: ``m ← μ m + g``, ``Δ = -rate m``; ``threads`` share it."""

    rate: float
    momentum: float = 0.9
    threads: int = 1
    state: dict[str, Array] = field(default_factory=dict)

    def step(self, name: str, gradient: Array, unit: float = 1.0) -> Array:
        one = gradient.dtype.type
        m = self.state.get(f"{name}/m")
        if m is None:
            m = self.state[f"{name}/m"] = np.zeros(gradient.shape, gradient.dtype)
        change = np.empty_like(m)
        flat = m.reshape(-1), np.ascontiguousarray(gradient).reshape(-1)
        numbers = one(self.momentum), one(unit), one(self.rate)
        device_kernels.descend(self.threads, *flat, *numbers, change.reshape(-1))
        return change


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015), betas 0.9 and 0.999, epsilon 1e-8."""

    rate: float
    state: dict[str, Array] = field(default_factory=dict)

    def step(self, name: str, gradient: Array, unit: float = 1.0) -> Array:
        one = gradient.dtype.type
        gradient = gradient * one(unit)
        m = self.state.setdefault(f"{name}/m", np.zeros_like(gradient))
        v = self.state.setdefault(f"{name}/v", np.zeros_like(gradient))
        t = self.state.setdefault(f"{name}/t", np.zeros(1))
        t += 1
        m += one(0.1) * (gradient - m)
        v += one(0.001) * (gradient * gradient - v)
        rate = self.rate / (1 - 0.9 ** t[0])
        change: Array = one(-rate * unit) * m / (np.sqrt(v * one(1 / (1 - 0.999 ** t[0]))) + one(1e-8))
        return change


def make_optimizer(kind: str, rate: float, momentum: float, threads: int = 1) -> Optimizer:
    """``"sgd"`` or ``"adam"``."""
    return SGD(rate, momentum, threads) if kind == "sgd" else Adam(rate)
