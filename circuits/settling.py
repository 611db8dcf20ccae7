"""What settling a chip took, as numbers and in words, and its course."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..simulator.blocks import Array
from .chip import Chip
from .equilibrium import Equilibrium, on_another_branch

Spread = tuple[float, float]
"""Mean and standard deviation over samples; NaN where there are none."""


@dataclass(frozen=True)
class Settling:
    """What settling took and how far it can be believed, over samples.

    ``settled_by_ode``, ``settled_by_relaxation``, ``stable``: shares of samples. ``time`` [s] and ``energy``
    [J, of devices and leaks] by the ODE, where it settled. ``residual`` [A]: the largest by relaxation, after
    ``sweeps`` in the mean. ``difference`` [V]: the largest between both where they agree on the branch, which
    they do not for ``elsewhere`` of ``compared`` samples.
    """

    design: str
    chip: int
    samples: int
    time_constant: float
    settled_by_ode: float
    settled_by_relaxation: float
    stable: float
    time: Spread
    energy: Spread
    residual: float
    sweeps: float
    difference: float
    elsewhere: int
    compared: int

    @classmethod
    def of(cls, chip: Chip, ode: Equilibrium, fast: Equilibrium) -> Settling:
        """Of the same samples by the ODE (``method="transient"``) and by relaxation."""
        tolerance = max(ode.tolerance, fast.tolerance) * fast.circuit.swing
        both = ode.settled & fast.settled
        elsewhere = both & on_another_branch(ode.ports, fast.ports, tolerance)
        assert ode.time is not None and ode.energy is not None
        assert fast.residual is not None and fast.stable is not None
        return cls(
            design=chip.circuit.design.name,
            chip=chip.seed,
            samples=len(both),
            time_constant=float(chip.neuron.tau),
            settled_by_ode=float(ode.settled.mean()),
            settled_by_relaxation=float(fast.settled.mean()),
            stable=float(fast.stable.mean()),
            time=_spread(ode.time[ode.settled]),
            energy=_spread(ode.energy[ode.settled]),
            residual=float(fast.residual.max()),
            sweeps=float(fast.sweeps.mean()),
            difference=float(abs(ode.voltages - fast.voltages)[both & ~elsewhere].max(initial=0.0)),
            elsewhere=int(elsewhere.sum()),
            compared=int(both.sum()),
        )

    def words(self) -> str:
        """For a terminal."""
        return "\n".join((
            f"{self.design}, chip {self.chip}, {self.samples} samples, "
            f"time constant {self.time_constant:.3g} s",
            f"settled          {self.settled_by_ode:.1%} by the ODE, {self.settled_by_relaxation:.1%} by "
            "relaxation",
            f"stable           {self.stable:.1%}",
            f"settling time    {_words(self.time)} s",
            f"energy           {_words(self.energy)} J (devices and leaks)",
            f"residual         {self.residual:.3g} A at most, after {self.sweeps:.1f} sweeps",
            f"ODE - relaxation {self.difference:.3g} V at most; "
            f"on another branch: {self.elsewhere} of {self.compared} samples",
        ))  # fmt: skip


def _spread(values: Array) -> Spread:
    return (float(values.mean()), float(values.std())) if len(values) else (float("nan"), float("nan"))


def _words(spread: Spread) -> str:
    mean, deviation = spread
    return f"{mean:.3g} ± {deviation:.2g}" if mean == mean else "–"


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
