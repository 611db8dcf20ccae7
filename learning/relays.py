"""How the way back over relays begins (the family `relay`)."""

from __future__ import annotations

import numpy as np

from ..circuits.chip import Chip
from ..simulator.blocks import Array


def shape(chip: Chip, weights: dict[str, Array]) -> None:
    """Bring the starting ``weights`` B and R of every way back over relays, and their rest, into shape.

    B is as it was drawn, but with columns that sum to zero and are of such a length that a relay's answer to
    the ports that it hears, ``F B`` (F its peak slope over its load), has columns of length 1. (On passive
    columns B and the rest load a relay, too: where more of B would hardly be heard any better, B is what half
    of the gain would ask for without that.) Rows of R sum to zero: what relays rest at drives nothing at
    first, and B keeps it so as R learns. And relays rest where they are steepest, as far as the bias and
    ``g_max`` reach.
    """
    neuron, kappa = chip.circuit.design.neuron, chip.circuit.kappa
    steepest = neuron.offset + (neuron.swing / (2 * neuron.gain) if neuron.law == "softplus" else 0.0)
    reach = chip.bias_voltage - kappa * steepest
    grown = chip.bias_voltage / reach if reach > 0 else 1.0  # load with the rest, over that without
    for _, listening, back in chip.circuit.relay_paths:
        heard, drives = weights[listening.array], weights[back.array]
        drives -= drives.mean(axis=1, keepdims=True)
        heard -= heard.mean(axis=0)
        heard /= np.sqrt(np.mean(np.sum(heard**2, axis=0)))
        idle = neuron.leak + kappa * 2 * (heard.shape[1] + 1) * chip.limits[0]
        own = kappa * np.mean(np.sum(np.abs(heard), axis=1))
        heard *= grown * idle / max(neuron.gain - grown * own, neuron.gain / 2)
        if reach > 0:
            load = idle + kappa * np.sum(np.abs(heard), axis=1)
            weights[chip.circuit.bias(listening.post)][:, 0] = load * steepest / reach
