"""Probing a chip: voltage patterns at its drivers, its columns' currents, and what that costs.

Every node is held (sample and hold). Small probe voltages ξ are superposed at the driver outputs, so that a
neuron's own load does not show, and each column's change of current is read through its sense amplifier:
``q_i = Σ_j G_ij ξ_j``, synapses alone. Then ``<q_i ξ_j>/σ² = G_ij`` (physics, section 4: Homeostasis).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field

import numpy as np

from ..circuits.chip import Chip
from ..circuits.families import Bank
from ..circuits.mismatch import generator
from ..circuits.specs import HomeostatSpec
from ..simulator.blocks import Array
from ..simulator.products import product

SCHEMES = ("random", "one-port", "hadamard")
STEP, READOUT = "probe", "readout"  # what patterns are for; part of the address of their random numbers
READING = 5.0  # time constants of an unloaded node that a reading waits: settled to e^-5, 0.7 %


@dataclass
class Spent:
    """What a controller has spent so far.

    ``measurements`` (a pattern, every column read once), ``writes`` (of pairs, and of devices in
    calibration), the chip's ``time`` [s], and ``energy`` [J]: the probes' heat in the devices, and that of
    the sample that is held meanwhile. Sense amplifiers, converters and programming pulses are not in it.
    """

    measurements: int = 0
    writes: int = 0
    time: float = 0.0
    energy: float = 0.0

    def state(self) -> Array:
        """All of it as one array, for a checkpoint."""
        return np.array(astuple(self), np.float64)

    @classmethod
    def restored(cls, state: Array) -> Spent:
        """The inverse of :meth:`state`."""
        measurements, writes, time, energy = state.tolist()
        return cls(int(measurements), int(writes), time, energy)


@dataclass
class Prober:
    """Applies patterns, reads columns, correlates (see the module's equation), and keeps the account.

    Args:
        scheme: ``random`` patterns are noisy, whatever their number; ``one-port`` and ``hadamard`` ones are
            exact after a full cycle (:meth:`cycle` measurements of the wider colour's ports; both colours
            are probed at once).
        amplitude: probe voltage [V]: standard deviation of ``random``, magnitude of the other two.
        noise: rms noise of a column's sense amplifier [A], of one reading of the *change* (what holding and
            subtracting the sample's own current adds is part of it).
        resolution: step of that amplifier's converter [A]; 0 is ideal.
        inputs: probe the drivers' inputs, so that their gains show, instead of their outputs.

    Steps and read-outs each go through patterns and noise of their own, so that a read-out changes nothing
    of what the steps do.
    """

    scheme: str = "hadamard"
    amplitude: float = 0.01
    noise: float = 0.0
    resolution: float = 0.0
    seed: int = 0
    inputs: bool = False
    spent: Spent = field(default_factory=Spent)
    _position: dict[str, int] = field(default_factory=lambda: {STEP: 0, READOUT: 0}, repr=False)
    _gathered: dict[str, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"probe scheme is {self.scheme!r}; choose one of {', '.join(SCHEMES)}")

    @classmethod
    def from_spec(cls, spec: HomeostatSpec, seed: int, inputs: bool = False) -> Prober:
        """The prober that a design's ``[homeostat]`` section describes."""
        return cls(spec.scheme, spec.amplitude, spec.noise, spec.resolution, seed, inputs)

    def cycle(self, ports: int) -> int:
        """Measurements after which a scheme has seen every pair of ``ports`` equally (random: never)."""
        return {"random": 0, "one-port": ports, "hadamard": _power_of_two(ports)}[self.scheme]

    def steps(self, chip: Chip, count: int) -> int:
        """Steps of ``count`` measurements after which :meth:`gather` has something to say."""
        cycle = self.cycle(max(_groups(chip)))
        return -(-cycle // count) if cycle else 1  # the last of which may be a short one

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

    def sense(
        self, chip: Chip, probes: Array, first: int = 0, purpose: str = READOUT, held: float | None = None
    ) -> Array:
        """Change of every column's current [A] (count, N) under ``probes`` (count, N) [V] at the drivers.

        The amplifiers' noise is drawn for the readings from ``first`` on; ``held`` as in :meth:`gather`.
        """
        current = np.zeros_like(probes)
        for bank in _synapses(chip):
            pre, post = chip.blocks.slices[bank.pre], chip.blocks.slices[bank.post]
            current[:, post] += product(probes[:, pre], self._weight(chip, bank).T)
        self._account(chip, probes, held)
        if self.noise:
            rng = generator(self.seed, "sense", purpose, str(first))
            current += self.noise * rng.standard_normal(current.shape)
        if self.resolution:
            current = self.resolution * np.round(current / self.resolution)
        return current

    def _weight(self, chip: Chip, bank: Bank) -> Array:
        if self.inputs:
            return chip.blocks.weight(bank.post, bank.pre)
        weight = chip.block(bank.array)
        return weight.T if bank.transposed else weight

    def couplings(
        self, chip: Chip, count: int, purpose: str = READOUT, held: float | None = None
    ) -> dict[str, Array]:
        """Measured ``G_ij`` [S] (n_post, n_pre) of every bank between neurons, from ``count`` probes."""
        groups, first = _groups(chip), self._position[purpose]
        self._position[purpose] += count
        pattern, power = self.patterns(max(groups), count, first, purpose)
        probes = np.concatenate([pattern[:, :width] for width in groups], axis=1).astype(chip.dtype)
        current = self.sense(chip, probes, first, purpose, held)
        scale = chip.dtype.type(1.0 / (count * power))
        slices = chip.blocks.slices
        return {
            bank.name: product(current[:, slices[bank.post]].T, probes[:, slices[bank.pre]]) * scale
            for bank in _synapses(chip)
        }

    def gather(self, chip: Chip, count: int, held: float | None = None) -> dict[str, Array] | None:
        """One step of ``count`` measurements: the couplings of the cycle that it completes, or None.

        Acting on an unfinished cycle of ``one-port`` or ``hadamard`` patterns would throw their exactness
        away. ``held`` [W]: probes are superposed on a running sample, held at v*, and the chip dissipates so
        much meanwhile; None: they have slots of their own, for which the chip must first settle.
        """
        cycle = self.cycle(max(_groups(chip)))
        if not cycle:
            return self.couplings(chip, count, STEP, held)
        left = cycle - self._position[STEP] % cycle
        count = min(count, left)  # a cycle ends with its own last pattern
        for name, coupling in self.couplings(chip, count, STEP, held).items():
            self._gathered[name] = self._gathered.get(name, 0.0) + coupling * (count / cycle)
        if count < left:
            return None
        found, self._gathered = self._gathered, {}
        return found

    def calibrate(self, chip: Chip, array: str) -> None:
        """Account for one calibration of an array's step gains: every device written once, and read before
        and after, one port and one plane at a time.
        """
        devices = chip.devices[array]
        readings = 4 * devices.step.shape[2]
        reading = READING * chip.neuron.tau
        self.spent.measurements += readings
        self.spent.writes += devices.step.size
        self.spent.time += readings * reading
        self.spent.energy += (
            2 * self.amplitude**2 * float(chip.conducting(array).sum(dtype=np.float64)) * reading
        )

    def state(self) -> dict[str, Array]:
        """What it has counted, gathered and learned so far, for a checkpoint."""
        gathered = {f"gathered/{name}": array for name, array in self._gathered.items()}
        position = np.array([self._position[STEP], self._position[READOUT]])
        return {"spent": self.spent.state(), "position": position} | gathered

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up a :meth:`state`."""
        self.spent = Spent.restored(state["spent"])
        self._position = dict(zip((STEP, READOUT), state["position"].tolist(), strict=True))
        self._gathered = branch(state, "gathered")

    def _account(self, chip: Chip, probes: Array, held: float | None) -> None:
        """A probe heats every device that it drives by ``g ξ²``: the columns are held."""
        design, count = chip.circuit.design, len(probes)
        reading = READING * chip.neuron.tau
        driven = np.zeros(chip.blocks.size)
        for bank in _synapses(chip):
            fan_out = chip.planes(bank).sum(axis=(0, 1))
            amplified = self.inputs and bank.driven and not bank.returned
            gains = chip.drivers[bank.name] ** 2 if amplified else 1.0
            driven[chip.blocks.slices[bank.pre]] += fan_out * gains
        heat = float(np.sum(probes**2, axis=0, dtype=np.float64) @ driven)
        self.spent.measurements += count
        self.spent.time += count * reading
        self.spent.energy += heat * reading + count * (held or 0.0) * reading
        if held is None:
            self.spent.time += chip.neuron.tau * math.log(1 / design.learning.tolerance)


def branch(state: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The part of a state whose names begin with ``name/``, without it."""
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}


def _synapses(chip: Chip) -> Iterator[Bank]:
    """The banks between neurons: what the homeostatic objective is about."""
    return (bank for bank in chip.circuit.banks if bank.pre >= 0)


def _groups(chip: Chip) -> list[int]:
    """Widths of the groups of ports, in state order, that the same patterns may probe at once.

    No column is fed by two ports of the same pattern: layers of one colour are a group (in `twin`, a column
    senses the ports of the other colour alone), unless some layer is fed by two colours, as in a ring of
    three: then every port has a pattern of its own.
    """
    blocks = chip.blocks
    colour = {k: n for n, members in enumerate(blocks.colours) for k in members}
    feeding = {(post, colour[pre]) for post, pre in blocks.couplings}
    if len(feeding) > len({post for post, _ in feeding}):
        return [blocks.size]
    return [sum(blocks.sizes[k] for k in members) for members in blocks.colours]


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
