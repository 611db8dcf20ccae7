"""Low-frequency and thermal noise: what conductances do between one training step and the next, and what a
reading of a settled node adds (physics, section 7: Operating conditions).

A device's conductance at step n is ``g (1 + σ z_n + a (b_n - ½))``: flicker, drawn anew at each step, and a
trap that is full or empty (``b_n``). All phases of a step see the same conductances.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..simulator.blocks import Array
from ..simulator.semiconductors import BOLTZMANN
from . import mismatch as draws
from .equilibrium import Equilibrium
from .specs import NoiseSpec

if TYPE_CHECKING:
    from .chip import Chip

MOST_DRAWS = 1 << 22  # at a time


@dataclass
class Fluctuation:
    """What the devices of chip ``seed`` are at any step, addressed by array, device and step.

    Steps in order cost one draw a device; a step back begins the traps anew from step 0.
    """

    spec: NoiseSpec
    seed: int
    _traps: dict[str, Traps] = field(default_factory=dict, repr=False)

    def factor(self, array: str, shape: tuple[int, ...], step: int) -> Array:
        """Conductance at ``step`` over its mean, of every device of an array; never negative."""
        found = np.ones(shape)
        if self.spec.flicker:
            sigma = self.spec.flicker_sd
            found += sigma * draws.standard_normals(self.seed, f"{array}/flicker/{step}", shape)
        if self.spec.traps:
            traps = self._traps.get(array)
            if traps is None or traps.step > step:
                traps = self._traps[array] = Traps.at_rest(self.spec, self.seed, array, shape)
            full = traps.advance(self.spec, self.seed, array, step)
            found.reshape(-1)[traps.places] += self.spec.telegraph_amplitude * (full - 0.5)
        return np.maximum(found, 0.0, out=found)


@dataclass
class Traps:
    """The devices (flat ``places``) of an array that have a trap, and which are ``full`` at ``step``."""

    places: NDArray[np.int64]
    full: NDArray[np.bool_]
    step: int = 0

    @classmethod
    def at_rest(cls, spec: NoiseSpec, seed: int, array: str, shape: tuple[int, ...]) -> Traps:
        """At step 0: half of them are full."""
        places = np.flatnonzero(draws.uniforms(seed, f"{array}/traps", shape) < spec.telegraph_share)
        full = draws.uniforms(seed, f"{array}/traps/full", shape).reshape(-1)[places] < 0.5
        return cls(places, full)

    def advance(self, spec: NoiseSpec, seed: int, array: str, step: int) -> NDArray[np.bool_]:
        """Which are full at a later ``step``: at each, one switches with the probability of the spec."""
        n = len(self.places)
        while n and self.step < step:
            steps = min(step - self.step, max(MOST_DRAWS // n, 1))
            u = draws.uniforms(seed, f"{array}/traps/switch", (steps, n), self.step * n)
            self.full = self.full ^ np.logical_xor.reduce(u < spec.telegraph_rate, axis=0)
            self.step += steps
        return self.full


def fluctuating(chip: Chip, step: int) -> AbstractContextManager[None]:
    """While it lasts, ``chip`` conducts as at ``step``; nothing where its design has no such noise."""
    spec = chip.circuit.design.noise
    return _fluctuating(chip, step) if spec.flicker or spec.traps else nullcontext()


@contextmanager
def _fluctuating(chip: Chip, step: int) -> Iterator[None]:
    noise = chip.fluctuation = chip.fluctuation or Fluctuation(chip.circuit.design.noise, chip.seed)
    chip.factors = {
        name: noise.factor(name, array.actual.shape, step).astype(chip.dtype)
        for name, array in chip.devices.items()
    }
    chip.refresh()
    try:
        yield
    finally:
        chip.factors = None
        chip.refresh()


def observed(chip: Chip, free: Equilibrium, step: int) -> Equilibrium:
    """``free`` as it is read at ``step``, with thermal noise beside that of the amplifiers."""
    thermal = 0.0 if not chip.circuit.design.noise.bandwidth else thermal_noise(chip, free)
    return replace(free, periphery=chip.periphery.at(step, thermal))


def thermal_noise(chip: Chip, free: Equilibrium) -> Array:
    """Rms thermal noise [V] (batch, N) of a reading of each port, ``f'(v_i) √(4 k T Δf G_i) / load_i``.

    ``G_i`` is all that conducts into node i, devices and leak; with passive columns that is its load, and the
    node's own noise ``√(4 k T Δf / G_i)``. (What comes back through a node's own amplifier of current counts
    ``a_b²`` times.) Neither loops through other neurons nor the node's own bandwidth shape it.
    """
    design, blocks = chip.circuit.design, chip.blocks
    total = np.full(blocks.size, chip.leak)
    for bank in chip.circuit.banks:
        passed = chip.drivers[bank.name] ** 2 if bank.returned else 1
        total[blocks.slices[bank.post]] += passed * chip.fan_in_load(bank)
    current = np.sqrt(4 * BOLTZMANN * design.corner.temperature * design.noise.bandwidth * total)
    noise: Array = np.abs(free.slopes()) * (current / blocks.load).astype(chip.dtype)
    return noise
