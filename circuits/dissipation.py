"""What a chip turns into heat as it settles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..simulator.blocks import Array
from .families import BIAS, INPUT

if TYPE_CHECKING:
    from .chip import Chip


def power_of(chip: Chip, x: NDArray[np.float64]) -> Callable[[Array, Array, Array], NDArray[np.float64]]:
    """Power [W] that devices and leaks turn into heat on inputs ``x`` (batch, n_in) [V], as a function of
    (v, s, rows).

    A device between driver and column dissipates ``g (±a s_j - κ v_i)²``; summed over a pair,
    ``(g+ + g-)(a² s² + κ² v²) - 2 κ (g+ - g-) a s v``. So does one of a resistive network, once for both
    its banks; diodes, and the sources behind them, take their current at their node's voltage.
    Amplifiers' own consumption is not included.
    """
    kappa, blocks = chip.circuit.kappa, chip.blocks
    fixed = np.zeros(len(x))
    per_port, per_node = np.zeros(blocks.size), np.full(blocks.size, chip.leak)
    for bank in chip.circuit.banks:
        if bank.returned:
            continue
        per_node[blocks.slices[bank.post]] += kappa**2 * chip.fan_in_load(bank)
        fan_out = chip.planes(bank).sum(axis=(0, 1))
        if bank.pre == INPUT:
            fixed += x**2 @ fan_out
        elif bank.pre == BIAS:
            fixed += chip.bias_voltage**2 * fan_out.sum()
        else:
            per_port[blocks.slices[bank.pre]] += fan_out * chip.drivers.get(bank.name, 1.0) ** 2
    injected = chip.injected(x) if kappa else None  # without loads, devices see no node's voltage
    back = [(bank.post, bank.pre) for bank in chip.circuit.banks if bank.returned]

    def power(v: Array, s: Array, rows: Array) -> NDArray[np.float64]:
        heat = fixed[rows] + s**2 @ per_port + v**2 @ per_node
        if injected is not None:
            current = blocks.drive(s) + injected[rows]
            heat -= 2 * kappa * np.sum(v * current, axis=1)
            for post, pre in back:  # counted with the bank that brought it here
                drawn = blocks.layer(s, pre) @ blocks.weight(post, pre).T
                heat += 2 * kappa * np.sum(blocks.layer(v, post) * drawn, axis=1)
            if blocks.clamps:
                left = current - blocks.load * v
                heat += np.sum(v * (left - blocks.diodes.balance(v, left)), axis=1)
        result: NDArray[np.float64] = heat
        return result

    return power
