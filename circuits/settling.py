"""What settling a chip took, in words, and its course."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..simulator.blocks import Array
from .chip import Chip
from .equilibrium import Equilibrium, on_another_branch


def settling_report(chip: Chip, ode: Equilibrium, fast: Equilibrium) -> str:
    """What settling took and how far it can be believed, over samples (mean ± standard deviation)."""
    tolerance = max(ode.tolerance, fast.tolerance) * fast.circuit.swing
    both = ode.settled & fast.settled
    elsewhere = both & on_another_branch(ode.ports, fast.ports, tolerance)
    apart = abs(ode.voltages - fast.voltages)[both & ~elsewhere].max(initial=0.0)
    assert ode.time is not None and ode.energy is not None
    assert fast.residual is not None and fast.stable is not None
    lines = (
        f"{chip.circuit.design.name}, chip {chip.seed}, {len(both)} samples, "
        f"time constant {chip.neuron.tau:.3g} s",
        f"settled          {ode.settled.mean():.1%} by the ODE, {fast.settled.mean():.1%} by relaxation",
        f"stable           {fast.stable.mean():.1%}",
        f"settling time    {_spread(ode.time[ode.settled])} s",
        f"energy           {_spread(ode.energy[ode.settled])} J (devices and leaks)",
        f"residual         {fast.residual.max():.3g} A at most, after {fast.sweeps.mean():.1f} sweeps",
        f"ODE - relaxation {apart:.3g} V at most; "
        f"on another branch: {elsewhere.sum()} of {both.sum()} samples",
    )
    return "\n".join(lines)


def _spread(values: Array) -> str:
    return f"{values.mean():.3g} ± {values.std():.2g}" if len(values) else "–"


@dataclass(frozen=True)
class Waves:
    """A settling chip, watched: ``time`` (points,) [s] and node ``voltages`` (points, batch, N) [V], in the
    chip's state order; ``settled`` (batch,).
    """

    time: Array
    voltages: Array
    settled: Array


def waves(chip: Chip, inputs: ArrayLike, points: int = 101) -> Waves:
    """Watch the free phase on ``inputs`` (batch, n_in) [V], from 0 V, at even times until the last sample has
    settled; samples that never do are watched for that long, or for 50 time constants if none does.
    """
    whole = chip.relax(inputs, method="transient", certify=0)
    assert whole.time is not None
    end = float(whole.time.max(initial=0.0, where=whole.settled)) or 50 * chip.neuron.tau
    time, state = np.linspace(0.0, end, points), None
    voltages = np.zeros((points, *whole.voltages.shape), chip.dtype)
    for k, step in enumerate(np.diff(time), start=1):
        state = chip.settle(whole.injected, start=state, method="transient", max_time=float(step))
        voltages[k] = state.voltages
    return Waves(time, voltages, whole.settled)
