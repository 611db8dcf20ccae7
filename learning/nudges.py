"""Costs, and the nudge currents that pull the output layer towards them.

A cost ``L(s_out)`` is a dimensionless number per sample; the nudge current ``-β ∂L/∂s_out`` [A] is
re-evaluated as the circuit moves. β [W] is given in units of ``leak * swing²`` (:func:`beta_in_watts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..circuits.design import Design
from ..simulator.blocks import Array
from ..simulator.kernels import SOFTMAX, SQUARED, Push


class Cost(Protocol):
    """A cost of a batch; ``rows`` picks the samples that ``ports`` (m, n_out) [V] belong to."""

    def value(self, ports: Array, rows: Array) -> Array:
        """``L`` (m,)."""

    def gradient(self, ports: Array, rows: Array) -> Array:
        """``∂L/∂s_out`` (m, n_out) [1/V]."""

    def hessian(self, ports: Array, row: int) -> Array:
        """``∂²L/∂s_out²`` (n_out, n_out) [1/V²] of one sample at ``ports`` (n_out,)."""


@dataclass(frozen=True)
class SquaredError:
    """``L = ½ Σ ((o - y) / swing)²`` for targets ``y`` (batch, classes) [V].

    The outputs ``o`` are the ports themselves, or fixed sums of them, ``weight`` (classes, n_out):
    differences of two each (:func:`differences`).
    """

    targets: Array
    swing: float
    weight: Array | None = None

    def outputs(self, ports: Array) -> Array:
        """``o`` (m, classes) [V] of ``ports`` (m, n_out)."""
        return ports if self.weight is None else ports @ self.weight.T

    def value(self, ports: Array, rows: Array) -> Array:
        error = (self.outputs(ports) - self.targets[rows]) / self.swing
        half: Array = 0.5 * np.sum(error**2, axis=1)
        return half

    def gradient(self, ports: Array, rows: Array) -> Array:
        slope: Array = (self.outputs(ports) - self.targets[rows]) / ports.real.dtype.type(self.swing**2)
        return slope if self.weight is None else slope @ self.weight

    def hessian(self, ports: Array, row: int) -> Array:
        weight = np.eye(len(ports)) if self.weight is None else self.weight
        curve: Array = weight.T @ weight / self.swing**2
        return curve

    def push(self, beta: Array) -> Push | None:
        """The constants of its nudge of strengths ``beta`` (batch,) [W], for relaxation."""
        if type(self).gradient is not SquaredError.gradient:
            return None
        weight = np.zeros((0, 0)) if self.weight is None else self.weight
        return Push(SQUARED, beta, self.targets / self.swing, weight, np.zeros(len(weight)), self.swing)


def differences(classes: int, dtype: np.dtype[Any]) -> Array:
    """Weights (classes, 2 classes) of outputs that are each the difference of two neighbouring ports."""
    return np.kron(np.eye(classes), [1.0, -1.0]).astype(dtype)


@dataclass(frozen=True)
class CrossEntropy:
    """``L = -log p[label]``, ``p = softmax(R s / swing + c)``: a digital readout outside the circuit.

    ``weight`` is R (classes, n_out), ``bias`` c (classes,), ``labels`` (batch,). Analytic in ``ports``, so
    that it also serves complex nudges.
    """

    weight: Array
    bias: Array
    labels: Array
    swing: float

    def _logits(self, ports: Array) -> Array:
        """Logits (m, classes), less each sample's largest, so that none overflows."""
        logits: Array = ports @ self.weight.T / ports.real.dtype.type(self.swing) + self.bias
        shifted: Array = logits - logits.real.max(axis=1, keepdims=True)
        return shifted

    def probabilities(self, ports: Array) -> Array:
        """``p`` (m, classes)."""
        e = np.exp(self._logits(ports))
        p: Array = e / e.sum(axis=1, keepdims=True)
        return p

    def _error(self, ports: Array, rows: Array) -> Array:
        error = self.probabilities(ports)
        error[np.arange(len(rows)), self.labels[rows]] -= 1
        return error

    def value(self, ports: Array, rows: Array) -> Array:
        logits = self._logits(ports)
        own = logits[np.arange(len(rows)), self.labels[rows]]
        loss: Array = np.log(np.exp(logits).sum(axis=1)) - own  # finite where p itself is not above 0
        return loss

    def gradient(self, ports: Array, rows: Array) -> Array:
        slope: Array = self._error(ports, rows) @ self.weight / ports.real.dtype.type(self.swing)
        return slope

    def hessian(self, ports: Array, row: int) -> Array:
        p = self.probabilities(ports[None])[0]
        scaled = self.weight / self.swing
        hessian: Array = scaled.T @ (np.diag(p) - np.outer(p, p)) @ scaled
        return hessian

    def push(self, beta: Array) -> Push | None:
        """The constants of its nudge of strengths ``beta`` (batch,) [W], for relaxation."""
        if type(self).gradient is not CrossEntropy.gradient:
            return None
        return Push(SOFTMAX, beta, np.eye(len(self.bias))[self.labels], self.weight, self.bias, self.swing)

    def readout_gradients(self, ports: Array, valid: Array | None = None) -> tuple[Array, Array]:
        """Exact gradient of the batch's mean cost in R and c, at ``ports`` (batch, n_out).

        Samples that are not ``valid`` count as zero, as they do in the devices' gradient.
        """
        if valid is not None:
            ports = np.where(valid[:, None], ports, 0)
        error = self._error(ports, np.arange(len(ports))) / len(ports)
        if valid is not None:
            error[~valid] = 0
        return error.T @ (ports / ports.dtype.type(self.swing)), error.sum(axis=0)


@dataclass(frozen=True)
class Nudge:
    """The current ``-β ∂L/∂s_out`` [A] into the output nodes.

    ``beta`` [W] is one value per sample of the relaxed batch; a batch that holds several nudges of the
    same samples repeats them in blocks, sample ``r`` of the cost being row ``r mod samples``.
    """

    cost: Cost
    beta: Array
    samples: int

    def current(self, ports: Array, rows: Array) -> Array:
        push: Array = -self.beta[rows, None] * self.cost.gradient(ports, rows % self.samples)
        return push

    def slope(self, ports: Array, row: int) -> Array:
        curve: Array = -self.beta[row] * self.cost.hessian(ports, row % self.samples)
        return curve

    @property
    def push(self) -> Push | Callable[[Array, Array], Array]:
        """For relaxation: the constants of its law, or, where the kernels do not know it, ``current``."""
        constants = getattr(self.cost, "push", None)
        known: Push | None = constants(self.beta) if constants else None
        if known is None or len(known.targets) < self.samples or type(self).current is not Nudge.current:
            return self.current
        return known._replace(targets=known.targets[: self.samples])


def beta_in_watts(design: Design, beta: float) -> float:
    """β [W] from the design's, in units of ``leak * swing²`` (physics, section 1: The circuit)."""
    neuron = design.neuron
    return beta * neuron.leak * (neuron.high - neuron.low) ** 2
