"""The homeostat: a controller that restores the Jacobian's symmetry from what a chip can measure.

Probes tell the two conductances that couple i and j, one each way (:mod:`.probes`), and each moves by its
own local, antisymmetric correlation

    Δg_ij = -γ (<q_i ξ_j> - <ξ_i q_j>) / σ²,

whose mean is γ/2 times the negative gradient of ``H = ½|J̃ - J̃ᵀ|²`` (physics, section 4: Homeostasis). The
gain γ is chosen by :mod:`.gains`. Or the feedback alone moves, the whole way: as much of the asymmetry goes,
and what the forward device has learned stays.

The measurement sees the real devices, mismatch included, and never reads a target. The command does: to
move a device by what was measured, it uses the programmer's own record (which device of a pair carries the
weight, and how much) and each device's step gain, a calibration taken as exact, without sense noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium
from ..circuits.specs import HomeostatSpec
from ..simulator import device_kernels
from ..simulator.blocks import Array
from .gains import AutomaticGain, Gain, Move, make_gain
from .probes import Prober, Spent, branch


@dataclass(frozen=True)
class Running:
    """The batch beside which a controller acts.

    ``ports`` (batch, N) [V] at v*; ``held``: power [W] that the chip dissipates while it holds a sample on
    which probes are superposed (None: probes have slots of their own); ``pace``: present learning rate over
    the first.
    """

    ports: Array
    held: float | None = None
    pace: float = 1.0

    @classmethod
    def beside(cls, chip: Chip, inputs: Array, free: Equilibrium, pace: float = 1.0) -> Running:
        """Beside the settled samples of a batch; slots as the chip's design has them."""
        rows = np.flatnonzero(free.settled)
        held = None
        if chip.circuit.design.homeostat.slots == "superposed" and rows.size:
            held = float(np.mean(chip.dissipation(inputs)(free.voltages[rows], free.ports[rows], rows)))
        return cls(free.ports[rows], held, pace)


class Controller(Protocol):
    """What mends, or is compared with mending, a chip's asymmetry beside learning."""

    @property
    def spent(self) -> Spent:
        """What it has cost so far."""

    def correct(self, chip: Chip, running: Running | None = None) -> dict[str, Array]:
        """One step: the changes [S] to command, by array, for :meth:`Chip.program`."""

    def state(self) -> dict[str, Array]:
        """What it has counted, gathered and learned so far, for a checkpoint."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up a :meth:`state`."""


@dataclass
class Homeostat:
    """Probe controller of one chip (see the module's equation).

    Args:
        gain: how far a move goes on what was measured.
        probes: measurements a step. ``random`` patterns move the devices at every step; the other schemes
            once a cycle, on what all its steps gathered.
        prober: what measures, and keeps the account.
        moves: of two twins, ``"both"`` half the way each, or ``"feedback"`` alone.
    """

    gain: Gain = field(default_factory=AutomaticGain)
    probes: int = 256
    prober: Prober = field(default_factory=Prober)
    moves: str = "both"
    _calibration: dict[str, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.moves not in ("both", "feedback"):
            raise ValueError(f'moves is "{self.moves}"; it must be "both" or "feedback"')

    @classmethod
    def from_spec(cls, spec: HomeostatSpec, seed: int) -> Homeostat:
        """The controller that a design's ``[homeostat]`` section describes."""
        return cls(make_gain(spec), spec.probes, Prober.from_spec(spec, seed), spec.moves)

    @property
    def spent(self) -> Spent:
        return self.prober.spent

    def asymmetry(self, chip: Chip, count: int | None = None) -> dict[str, Array]:
        """Measured ``G_ij - G_ji`` [S] of every forward bank (n_post, n_pre), from ``count`` probes."""
        return _skew(chip, self.prober.couplings(chip, self.probes if count is None else count))

    def correct(self, chip: Chip, running: Running | None = None) -> dict[str, Array]:
        """See :meth:`Controller.correct`; empty while a cycle is still being gathered, and where there are no
        pairs, which is known without a probe.
        """
        if not chip.circuit.feedback_pairs:
            return {}
        couplings = self.prober.gather(chip, self.probes, running.held if running else None)
        if couplings is None:
            return {}
        steps, pace = self.prober.steps(chip, self.probes), running.pace if running else 1.0
        skews, wanted = _skew(chip, couplings), dict[str, Array]()
        for forward, backward in chip.circuit.feedback_pairs:
            layout, ends = chip.circuit.layouts[forward.array], (forward.post, forward.pre)
            skew = layout.mean(skews[forward.name])  # of each pair of devices
            drive = tuple(chip.blocks.layer(running.ports, k) for k in ends) if running else None
            gain = self.gain.choose(Move(forward.name, layout.unfold(skew), steps, pace, drive))
            step = skew * chip.dtype.type(-gain)
            sides = [(forward, step), (backward, -step.T)]
            if self.moves == "feedback" and not backward.transposed:  # a twin of its own
                sides = [(backward, -2 * step.T)]
            for bank, change in sides:
                change = change.T if bank.transposed else change
                wanted[bank.array] = wanted[bank.array] + change if bank.array in wanted else change
        self.spent.writes += sum(change.size for change in wanted.values())
        return {name: self.commanded(chip, name, change) for name, change in wanted.items()}

    def commanded(self, chip: Chip, array: str, change: Array) -> Array:
        """Command that moves the actual conductances by ``change``: divided by each device's step gain.

        Without it the step is unstable at wide mismatch, where single devices move tenfold. A change that
        takes a pair's weight through zero is finished on the other device, with that one's gain. A dead
        device (gain 0) is left alone. The gains are the chip's calibration on first use, taken as exact.
        Where writes are verified a command already is what the conductances move by.
        """
        if chip.conduction != 1:  # conductances are held, and step gains calibrated, as at the nominal corner
            change = change / chip.dtype.type(chip.conduction)
        if chip.programmer.verifies:
            return change
        devices = chip.devices[array]
        if array not in self._calibration:
            self.prober.calibrate(chip, array)
            live = devices.step > 0
            self._calibration[array] = np.divide(1, devices.step, out=np.zeros_like(devices.step), where=live)
        command: Array = np.empty_like(devices.target[0])
        planes = devices.target, devices.step, self._calibration[array]
        device_kernels.command(np.ascontiguousarray(change, command.dtype), *planes, command)
        return command

    def state(self) -> dict[str, Array]:
        found = self.prober.state()
        found |= {f"calibration/{name}": inverse for name, inverse in self._calibration.items()}
        return found | {f"gain/{name}": value for name, value in self.gain.state().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.prober.restore(state)
        self._calibration = branch(state, "calibration")
        self.gain.restore(branch(state, "gain"))


def _skew(chip: Chip, couplings: dict[str, Array]) -> dict[str, Array]:
    """``G_ij - G_ji`` [S] of every forward bank."""
    pairs = chip.circuit.feedback_pairs
    return {forward.name: couplings[forward.name] - couplings[backward.name].T for forward, backward in pairs}


@dataclass
class WeightDecay:
    """Control arm: the homeostat's step with the partner's term left out, ``Δw = -share w``.

    On the same arrays, through the same programming: what shrinkage alone achieves. Its share cannot be the
    homeostat's gain: that one's steps vanish as the weights agree, while these would leave no weights.
    """

    share: float
    spent: Spent = field(default_factory=Spent)

    def correct(self, chip: Chip, running: Running | None = None) -> dict[str, Array]:
        """One step of decay: the changes [S] to command, by array. It measures nothing."""
        arrays = {bank.array for pair in chip.circuit.facing for bank in pair}
        self.spent.writes += sum(chip.weight(name).size for name in arrays)
        result = {}
        for name in sorted(arrays):
            target = chip.devices[name].target
            result[name] = (target[0] - target[1]) * chip.dtype.type(-self.share)
        return result

    def state(self) -> dict[str, Array]:
        return {"spent": self.spent.state()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.spent = Spent.restored(state["spent"])
