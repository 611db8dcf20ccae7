"""A relaxation's matrix products alone, by NumPy: what `relaxation` and `training_step` are set beside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ohmostat.circuits.chip import Chip
from ohmostat.simulator.blocks import Array


def of_relaxation(chip: Chip, x: Array, *sweeps: Array) -> Callable[[], None]:
    """Those of the inputs ``x``, and of phases whose samples took so many ``sweeps`` each: in every sweep, of
    the samples still active.
    """
    blocks = chip.blocks
    most = max(map(len, sweeps))
    ports = np.random.default_rng(0).random((most, blocks.size)).astype(chip.dtype)
    out = {k: np.empty((most, n), chip.dtype) for k, n in enumerate(blocks.sizes)}
    active = [int(np.sum(s >= k)) for s in sweeps for k in range(1, int(s.max()) + 1)]
    layers = [k for colour in blocks.colours for k in colour]
    weights = {k: np.ascontiguousarray(fan.weight.T) for k, fan in blocks.fan_in.items()}
    driven = np.ascontiguousarray(chip.input_weight.T)

    def run() -> None:
        np.matmul(x, driven)
        for m in active:
            for k in layers:
                fan = blocks.fan_in[k]
                np.matmul(ports[:m, fan.lo : fan.hi], weights[k], out=out[k][:m])

    return run
