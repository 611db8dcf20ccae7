"""Analog blocks chained through digital layers: EP inside each block, backpropagation between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium
from ..circuits.families import INPUT
from ..circuits.fluctuation import observed
from ..simulator.blocks import Array
from .estimators import Response, read_outputs
from .nudges import Cost
from .rules import Gradients, contracted


def input_gradient(chip: Chip, epsilon: Array) -> Array:
    """``dL/dx = -Σ_i ε_i W_i`` [1/V] (batch, n_in): what a response says about the chip's input voltages.

    The input-side contrast ``[∂E/∂x^β - ∂E/∂x^-β] / 2β`` of Nest and Ernoult 2024 (arXiv:2409.03306): inputs
    enter by ``W x`` alone, so it is ``ε`` seen back through the input crossbar, read against its columns.
    """
    gradient = np.zeros((len(epsilon), chip.circuit.inputs), epsilon.dtype)
    for bank in chip.circuit.banks:
        if bank.pre == INPUT:
            gradient -= epsilon[:, chip.blocks.slices[bank.post]] @ chip.block(bank.array)
    return gradient


@dataclass(frozen=True)
class LinearCost:
    """``L = Σ c s_out`` with ``slopes`` c (batch, n_out) [1/V]: what comes back from further down a chain.

    Its nudge is a constant current, ``-β c`` [A].
    """

    slopes: Array

    def value(self, ports: Array, rows: Array) -> Array:
        total: Array = np.sum(self.slopes[rows] * ports, axis=1)
        return total

    def gradient(self, ports: Array, rows: Array) -> Array:
        slope: Array = self.slopes[rows].astype(ports.dtype)
        return slope

    def hessian(self, ports: Array, row: int) -> Array:
        return np.zeros((len(ports), len(ports)))


class DigitalLayer(Protocol):
    """Digital arithmetic between a block's output ports and the next block's input voltages."""

    def forward(self, ports: Array) -> Array:
        """Input voltages [V] (batch, n_in) of the next block."""

    def backward(self, ports: Array, slopes: Array) -> tuple[Array, dict[str, Array]]:
        """From ``slopes`` ``dL/dx`` (batch, n_in): ``dL/ds`` (batch, n_out), and the batch's mean gradient
        of every parameter, by name.
        """


@dataclass
class Affine:
    """``x = s Wᵀ + b``: ``weight`` W (n_in, n_out), ``bias`` b (n_in,) [V]."""

    weight: Array
    bias: Array

    def forward(self, ports: Array) -> Array:
        volts: Array = ports @ self.weight.T + self.bias
        return volts

    def backward(self, ports: Array, slopes: Array) -> tuple[Array, dict[str, Array]]:
        mean = slopes / len(slopes)
        return slopes @ self.weight, {"weight": mean.T @ ports, "bias": mean.sum(axis=0)}


@dataclass(frozen=True)
class ChainUpdate:
    """Gradients of a chain: ``blocks`` [1/S] and ``layers``, in order; ``inputs`` ``dL/dx`` (batch, n_in)
    [1/V] of the first block; the samples (batch,) that are ``valid`` in every block, and alone take part.
    """

    blocks: list[Gradients]
    layers: list[dict[str, Array]]
    inputs: Array
    valid: Array


@dataclass(frozen=True)
class Chain:
    """Analog ``blocks`` with a digital layer after each but the last (Nest and Ernoult 2024).

    The blocks settle in turn, each on what the digital layer makes of the outputs before it, as they are
    read. Then, from the last to the first, each is nudged by the gradient that has come back so far,
    ``response`` measures its ``ε`` (``centered(β).response``, or ``exact_response``), the local rule makes
    its update of it, and :func:`input_gradient` passes the gradient on through the digital layer.
    It is the exact gradient of the whole chain where every block is symmetric and β → 0.
    """

    blocks: Sequence[Chip]
    layers: Sequence[DigitalLayer]
    response: Callable[[Equilibrium, Cost], Response]

    def __post_init__(self) -> None:
        if len(self.layers) != len(self.blocks) - 1:
            raise ValueError(
                f"a chain of {len(self.blocks)} blocks has {len(self.layers)} digital layers; "
                "give one between every two blocks"
            )

    def relax(self, inputs: Array, step: int = 0) -> list[tuple[Array, Equilibrium]]:
        """Inputs [V] and equilibria of every block, in order, on ``inputs`` (batch, n_in) of the first; as
        they are read at training step ``step``, at each with other noise.
        """
        volts, states = inputs, list[tuple[Array, Equilibrium]]()
        for k, chip in enumerate(self.blocks):
            volts = self.layers[k - 1].forward(read_outputs(states[-1][1])) if k else volts
            states.append((volts, observed(chip, chip.relax(volts), step)))
        return states

    def update(self, states: Sequence[tuple[Array, Equilibrium]], cost: Cost) -> ChainUpdate:
        """Gradients of the batch's mean ``cost``, from the free ``states`` of :meth:`relax`."""
        responses = self._responses(states, cost)
        valid = np.all([response.valid for response in responses], axis=0)
        blocks: list[Gradients] = []
        layers: list[dict[str, Array]] = []
        for k, (chip, (volts, free), response) in enumerate(zip(self.blocks, states, responses, strict=True)):
            response = replace(response, epsilon=np.where(valid[:, None], response.epsilon, 0))
            blocks.append(contracted(chip, volts, free, response).gradients)
            slopes = input_gradient(chip, response.epsilon)
            if k:
                layers.append(self.layers[k - 1].backward(read_outputs(states[k - 1][1]), slopes)[1])
            else:
                inputs = slopes
        return ChainUpdate(blocks, layers, inputs, valid)

    def _responses(self, states: Sequence[tuple[Array, Equilibrium]], cost: Cost) -> list[Response]:
        """Of every block, in order, to the gradient that has come back to it."""
        found: list[Response] = []
        for k in reversed(range(len(self.blocks))):
            found.insert(0, self.response(states[k][1], cost))
            if k:
                slopes = input_gradient(self.blocks[k], found[0].epsilon)
                cost = LinearCost(self.layers[k - 1].backward(read_outputs(states[k - 1][1]), slopes)[0])
        return found
