"""Resistive networks: conductances between nodes, and diodes that hold these (docs/resistive.md).

Layers of nodes are joined by single conductances. An input comes at both signs, so that a pair of devices
makes its weight; a hidden node has diodes; an output is a bare node, or the difference of two. Between layers
there may be bidirectional amplifiers (Kendall et al. 2020, arXiv:2006.01981), of gain ``a_f`` for voltages on
their way up and ``a_b`` for currents on their way down: through the conductance g between node j and node i
above it

    g (a_f v_j - v_i) flows into i, and a_b g (v_i - a_f v_j) into j.

``J̃`` is symmetric, and the network the minimum of one dissipated power, where ``a_f = a_b`` at every node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..simulator.blocks import Array, BlockCircuit
from ..simulator.clamps import NO_CURVE, Clamps, curve_through
from ..simulator.semiconductors import thermal_voltage
from ..simulator.temperature import diode_saturation
from .specs import ROOM

if TYPE_CHECKING:
    from .chip import Chip
    from .design import Design


def clamps(design: Design, blocks: BlockCircuit) -> Clamps:
    """The diodes of a design's nodes, in state order, at its corner's temperature: none on the outputs."""
    spec, last = design.resistive, len(blocks.sizes) - 1
    up, down = np.zeros((2, blocks.size), bool)  # whether a diode holds the node up, or down
    for k, where in blocks.slices.items():
        if k < last:
            place = np.arange(where.stop - where.start)
            half = (len(place) + 1) // 2
            up[where] = spec.hidden == "pair" or (spec.hidden == "alternating" and place < half)
            down[where] = spec.hidden == "pair" or (spec.hidden == "alternating" and place >= half)
    none = np.inf if spec.diode == "ideal" else abs(spec.barrier)  # a barrier without a diode
    low, high = np.where(up, -spec.barrier, -none), np.where(down, spec.barrier, none)
    size, hot = 1.0, design.corner.temperature
    if spec.diode == "shockley":  # of silicon, as SPICE has it
        size = float(diode_saturation(spec.saturation, spec.ideality, 1.11, 3.0, hot, ROOM))
    return Clamps(
        spec.diode, low, high, size * up, size * down,
        thermal=spec.ideality * float(thermal_voltage(hot)),
        curve=curve_through(*zip(*spec.curve, strict=True)) if spec.diode == "measured" else NO_CURVE,
    )  # fmt: skip


def starting_conductances(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> Array:
    """``max(0, u)`` [S] for u uniform within ``± spread`` [S]: half of the devices rest (as published:
    Scellier 2024, arXiv:2402.11674).
    """
    found: Array = np.maximum(spread * rng.uniform(-1.0, 1.0, shape), 0.0)
    return found


def inputs_at_full(chip: Chip) -> float:
    """Voltage [V] of an input of 1: the upper rail, times the gain of a resistive network's inputs."""
    gain = chip.circuit.design.resistive.input_gain if chip.circuit.resistive else 1.0
    return chip.neuron.high * gain
