"""The homeostat: a controller that restores the Jacobian's symmetry from what a chip can measure.

Every node is held at its free voltage (sample and hold). Small probe voltages ξ are superposed at the
driver outputs, and each column's change of current is read through its sense amplifier,
``q_i = Σ_j G_ij ξ_j``. The correlations ``<q_i ξ_j>/σ²`` and ``<ξ_i q_j>/σ²`` are then the two conductances
that couple i and j, one each way, and each moves by its own local, antisymmetric correlation

    Δg_ij ∝ -(<q_i ξ_j> - <ξ_i q_j>) / σ²,

whose mean is half the (negative) gradient of ``H = ½|J̃ - J̃ᵀ|²`` (physics, section 4: Homeostasis).

The measurement sees the real devices, mismatch included, and never reads a target. The command does: to
move a device by what was measured, it uses the programmer's own record (which device of a pair carries the
weight, and how much) and each device's step gain, a calibration taken as exact, without sense noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..circuits.chip import Chip
from ..circuits.mismatch import generator
from ..circuits.specs import HomeostatSpec
from ..simulator.blocks import Array

SCHEMES = ("random", "one-port", "hadamard")
STEP, READOUT = "probe", "readout"  # what patterns are for; part of the address of their random numbers
MOST = 0.5  # both conductances of a pair move: half of the asymmetry each removes all of it


@dataclass
class Homeostat:
    """Probe controller of one chip (see the module's equation).

    Args:
        gain: share of the asymmetry by which a step of ``probes`` measurements moves either conductance.
        probes: measurements a step (one probe pattern, every column read once).
        scheme: ``random`` patterns are noisy at every step, and only small steps average that away;
            ``one-port`` and ``hadamard`` patterns are exact after a full cycle (:meth:`cycle` measurements
            of the wider colour's ports; both colours are probed at once), so the controller gathers the
            correlations until then, and moves once, by the gains of all steps that the cycle took
            together, at most ``MOST``.
        amplitude: probe voltage [V]: standard deviation of ``random``, magnitude of the other two.
        noise, resolution: rms noise and converter step of a column's sense amplifier [A].

    ``measurements`` and ``writes`` count what has been spent. Steps and read-outs each go through patterns
    and noise of their own, so that a read-out changes nothing of what the steps do.
    """

    gain: float = 0.25
    probes: int = 256
    scheme: str = "hadamard"
    amplitude: float = 0.01
    noise: float = 0.0
    resolution: float = 0.0
    seed: int = 0
    measurements: int = 0
    writes: int = 0
    _position: dict[str, int] = field(default_factory=lambda: {STEP: 0, READOUT: 0}, repr=False)
    _gathered: dict[str, Array] = field(default_factory=dict, repr=False)
    _calibration: dict[str, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"homeostat scheme is {self.scheme!r}; choose one of {', '.join(SCHEMES)}")

    @classmethod
    def from_spec(cls, spec: HomeostatSpec, seed: int) -> Homeostat:
        """The controller that a design's ``[homeostat]`` section describes."""
        return cls(spec.gain, spec.probes, spec.scheme, spec.amplitude, spec.noise, spec.resolution, seed)

    def cycle(self, ports: int) -> int:
        """Measurements after which a scheme has seen every pair of ``ports`` equally (random: never)."""
        return {"random": 0, "one-port": ports, "hadamard": _power_of_two(ports)}[self.scheme]

    def patterns(self, ports: int, count: int, first: int = 0, purpose: str = READOUT) -> tuple[Array, float]:
        """Patterns ``first, first + 1, …`` (count, ports) [V], and ``<ξ²>`` [V²] of a port per pattern."""
        if self.scheme == "random":
            rng = generator(self.seed, purpose, str(first))
            return self.amplitude * rng.standard_normal((count, ports)), self.amplitude**2
        index = np.arange(first, first + count)
        if self.scheme == "one-port":
            single = self.amplitude * (index[:, None] % ports == np.arange(ports)).astype(float)
            return single, self.amplitude**2 / ports
        order = _power_of_two(ports)
        # Visit the patterns in a fixed scrambled order (an odd stride), so that a few of them in a row
        # do not share structure.
        row = (index * (order * 5 // 8 | 1)) % order
        signs = 1.0 - 2.0 * (np.bitwise_count(row[:, None] & np.arange(ports)) & 1)
        return self.amplitude * signs, self.amplitude**2

    def sense(self, chip: Chip, probes: Array, first: int = 0, purpose: str = READOUT) -> Array:
        """Change of every column's current [A] (count, N) under probes at the driver outputs.

        The amplifiers' noise is drawn for the readings from ``first`` on.
        """
        current = np.zeros_like(probes)
        for bank in chip.circuit.banks:
            if bank.pre < 0:
                continue
            weight = chip.weight(bank.array)
            weight = weight if bank.transposed else weight.T
            pre, post = chip.blocks.slices[bank.pre], chip.blocks.slices[bank.post]
            current[:, post] += probes[:, pre] @ weight
        self.measurements += len(probes)
        if self.noise:
            rng = generator(self.seed, "sense", purpose, str(first))
            current += self.noise * rng.standard_normal(current.shape)
        if self.resolution:
            current = self.resolution * np.round(current / self.resolution)
        return current

    def asymmetry(self, chip: Chip, count: int | None = None) -> dict[str, Array]:
        """Measured ``G_ij - G_ji`` [S] of every forward bank (n_post, n_pre), from ``count`` probes."""
        return self._measured(chip, self.probes if count is None else count, READOUT)

    def _measured(self, chip: Chip, count: int, purpose: str) -> dict[str, Array]:
        groups, first = _groups(chip), self._position[purpose]
        self._position[purpose] += count
        pattern, power = self.patterns(max(groups), count, first, purpose)
        probes = np.concatenate([pattern[:, :width] for width in groups], axis=1)
        current = self.sense(chip, probes, first, purpose)
        probes, current = probes.astype(chip.dtype), current.astype(chip.dtype)
        scale = chip.dtype.type(1.0 / (len(probes) * power))
        result = {}
        for forward, _ in chip.circuit.feedback_pairs:
            i, j = chip.blocks.slices[forward.post], chip.blocks.slices[forward.pre]
            skew = current[:, i].T @ probes[:, j] - probes[:, i].T @ current[:, j]
            result[forward.name] = skew * scale
        return result

    def correct(self, chip: Chip) -> dict[str, Array]:
        """One step: measure, and return the changes [S] to command, by array, for :meth:`Chip.program`.

        Empty while a cycle of ``one-port`` or ``hadamard`` patterns is still being gathered.
        """
        cycle = self.cycle(max(_groups(chip)))
        if not cycle:
            return self._changes(chip, self._measured(chip, self.probes, STEP), self.gain)
        left = cycle - self._position[STEP] % cycle
        count = min(self.probes, left)  # a cycle ends with its own last pattern
        for name, skew in self._measured(chip, count, STEP).items():
            self._gathered[name] = self._gathered.get(name, 0.0) + skew * (count / cycle)
        if count < left:
            return {}
        mean, self._gathered = self._gathered, {}
        steps = -(-cycle // self.probes)  # the last of which may have been a short one
        return self._changes(chip, mean, min(self.gain * steps, MOST))

    def _changes(self, chip: Chip, skew: dict[str, Array], gain: float) -> dict[str, Array]:
        """Commands that move both conductances of a pair, towards each other, by ``gain`` asymmetries."""
        wanted: dict[str, Array] = {}
        for forward, backward in chip.circuit.feedback_pairs:
            step = skew[forward.name] * chip.dtype.type(-gain)
            for bank, change in ((forward, step), (backward, -step.T)):
                change = change.T if bank.transposed else change
                wanted[bank.array] = wanted[bank.array] + change if bank.array in wanted else change
        self.writes += sum(change.size for change in wanted.values())
        return {name: self.commanded(chip, name, change) for name, change in wanted.items()}

    def commanded(self, chip: Chip, array: str, change: Array) -> Array:
        """Command that moves the actual conductances by ``change``: divided by each device's step gain.

        Without it the step is unstable at wide mismatch, where single devices move tenfold. A change that
        takes a pair's weight through zero is finished on the other device, with that one's gain. A dead
        device (gain 0) is left alone. The gains are the chip's calibration, taken here as exact: one write
        of each device, read before and after, one port and one plane at a time, counted on first use.
        """
        devices = chip.devices[array]
        if array not in self._calibration:
            self.measurements += 4 * devices.step.shape[2]
            self.writes += devices.step.size
            live = devices.step > 0
            self._calibration[array] = np.divide(1, devices.step, out=np.zeros_like(devices.step), where=live)
        inverse, step = self._calibration[array], devices.step
        carried = devices.target[0] - devices.target[1]
        plus = carried >= 0  # the device that carries the weight
        own, other = np.where(plus, inverse[0], inverse[1]), np.where(plus, inverse[1], inverse[0])
        left = change + carried * np.where(plus, step[0], step[1])  # once that device rests
        command: Array = np.where((left < 0) == plus, left * other - carried, change * own)
        return command


@dataclass
class WeightDecay:
    """Control arm: the homeostat's step with the partner's term left out, ``Δw = -share w``.

    On the same arrays, through the same programming: what shrinkage alone achieves. Its share cannot be the
    homeostat's gain: that one's steps vanish as the weights agree, while these would leave no weights.
    """

    share: float
    measurements: int = 0
    writes: int = 0

    def correct(self, chip: Chip) -> dict[str, Array]:
        """One step of decay: the changes [S] to command, by array."""
        arrays = {bank.array for pair in chip.circuit.feedback_pairs for bank in pair}
        self.writes += sum(chip.weight(name).size for name in arrays)
        result = {}
        for name in sorted(arrays):
            target = chip.devices[name].target
            result[name] = (target[0] - target[1]) * chip.dtype.type(-self.share)
        return result


def _groups(chip: Chip) -> list[int]:
    """Widths of the groups of ports, in state order, that the same patterns may probe at once.

    No column is fed by two ports of the same pattern: the layers of every family have two colours at most,
    and a column senses the ports of the other colour alone.
    """
    return [sum(chip.blocks.sizes[k] for k in members) for members in chip.blocks.colours]


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
