"""A chip: one fabricated sample of a circuit, with its deviations and its present conductances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator import device_kernels, ode, products
from ..simulator.blocks import Array, BlockCircuit, spaced_zeros
from . import drift
from . import mismatch as draws
from .device_array import DeviceArray, differential
from .dissipation import power_of
from .equilibrium import Equilibrium, certified, continued, settle
from .families import BIAS, INPUT, Bank
from .periphery import Nudge, Periphery
from .programming import COUNTED, Programmer
from .resistive import clamps
from .specs import CornerSpec, MismatchSpec

if TYPE_CHECKING:
    from .circuit import Circuit
    from .design import Design
    from .fluctuation import Fluctuation


INSULATION = 1e-15
"""Leak [S] of a node that is built without one; what it does to a design's conductances no float32 shows."""


class Chip:
    """One fabricated chip. Made by :meth:`Circuit.fabricate`; mutable only through its own methods.

    Attributes: ``devices`` (by array name), ``drivers`` (gain of each driven bank's port drivers, by
    bank name), ``periphery`` (what nudges and reads it), ``programmer`` (what writes it), ``blocks`` (the
    crossbar engine's view, kept up to date), ``seed``, ``mismatch``; ``neuron`` (the design's, at its
    corner), ``conduction`` (what every device conducts at the corner, over its ``actual``), ``since_write``
    [s] (how long it has aged).
    """

    def __init__(
        self,
        circuit: Circuit,
        mismatch: MismatchSpec,
        seed: int,
        devices: dict[str, DeviceArray],
        neurons: Mapping[str, Array],
        drivers: dict[str, Array],
        periphery: Periphery | None = None,
    ) -> None:
        self.circuit, self.mismatch, self.seed = circuit, mismatch, seed
        self.devices, self.drivers, self.since_write = devices, drivers, 0.0
        self.side = 0  # which of two copies settles
        self.fluctuation: Fluctuation | None = None
        self.factors: dict[str, Array] | None = None  # by which conductances fluctuate at present
        self.dtype = np.dtype(circuit.design.learning.dtype)
        corner = circuit.design.corner
        spec = self.neuron = corner.operated(circuit.design.neuron)
        self.conduction = corner.conduction(transistors=mismatch.device_overdrive > 0)
        couplings = [(b.post, b.pre) for b in circuit.banks if b.pre >= 0]
        self.blocks = BlockCircuit(
            circuit.sizes, couplings, self.dtype, spec.law, spec.low, spec.high, spec.knee,
            circuit.design.learning.threads,
        )  # fmt: skip
        if circuit.resistive:
            self.blocks.clamps = clamps(circuit.design, self.blocks)
        for name, values in neurons.items():
            getattr(self.blocks, name)[:] = values
        layers = {name.address: self.blocks.slices[k] for k, name in enumerate(circuit.layer_names)}
        self.periphery = periphery or Periphery.drawn(layers, mismatch, circuit.design, seed, self.dtype)
        design = circuit.design
        self.programmer = Programmer(design.programming, design.device, mismatch, seed, circuit.copies)
        self.input_block = spaced_zeros(circuit.inputs, circuit.sizes[0], self.dtype)
        self.bias = np.zeros(self.blocks.size, self.dtype)
        self._twin: Chip | None = None
        self._weights = {a.name: np.zeros(a.shape[1:], self.dtype) for a in circuit.arrays}
        self._banks = {
            a.name: [bank for bank in circuit.banks if bank.array == a.name] for a in circuit.arrays
        }
        self.refresh()

    @classmethod
    def fabricate(cls, circuit: Circuit, mismatch: MismatchSpec, seed: int) -> Chip:
        """Draw every deviation of chip ``seed``; see :meth:`Circuit.fabricate`."""
        dtype, device = np.dtype(circuit.design.learning.dtype), circuit.design.device
        devices = {
            array.name: DeviceArray.fabricate(array, device, mismatch, seed, dtype)
            for array in circuit.arrays
        }
        nominal, spread = 1.0, mismatch.driver_gain
        if circuit.resistive:  # a node's amplifier, of voltages forward and of currents back
            nominal, spread = circuit.design.resistive.gain, mismatch.amplifier_gain_sd
        drivers = {}
        for bank in circuit.banks:
            if bank.driven:
                width = (circuit.sizes[bank.driving],)
                gains = nominal * draws.relative(seed, f"{bank.name}/driver", width, spread)
                drivers[bank.name] = gains.astype(dtype)
        chip = cls(circuit, mismatch, seed, devices, {}, drivers)
        chip._draw_neurons()
        return chip

    def _draw_neurons(self) -> None:
        """Amplifiers and capacitors, addressed by layer: the order in the state is the solver's affair."""
        spec, mismatch, seed = self.neuron, self.mismatch, self.seed
        for k, n in enumerate(self.circuit.sizes):
            place = self.circuit.layer_names[k].address
            gains = draws.relative(seed, f"amplifier{place}/gain", (n,), mismatch.amplifier_gain_sd)
            offsets = draws.standard_normals(seed, f"amplifier{place}/offset", (n,))
            capacitors = draws.relative(seed, f"node{place}/capacitance", (n,), mismatch.capacitance)
            where = self.blocks.slices[k]
            if self.circuit.resistive:  # no amplifier of the node's own; its diodes' barriers deviate
                self.blocks.offset[where] = mismatch.amplifier_offset_sd * offsets
            else:
                self.blocks.gain[where] = spec.gain * gains
                self.blocks.offset[where] = spec.offset + mismatch.amplifier_offset_sd * offsets
            self.blocks.capacitance[where] = spec.capacitance * capacitors

    def copy(self, design: Design | None = None) -> Chip:
        """The same chip, independent of this one, as ``design`` has it (default: its own): of the same
        family and layers, but at another corner, of another precision, or with other wires.
        """
        circuit = self.circuit if design is None else replace(self.circuit, design=design)
        dtype, spec = np.dtype(circuit.design.learning.dtype), circuit.design
        devices = {
            name: DeviceArray(*(field.astype(dtype) for field in vars(array).values()))
            for name, array in self.devices.items()
        }
        drivers = {name: gains.astype(dtype) for name, gains in self.drivers.items()}
        neurons = {name: getattr(self.blocks, name) for name in ("gain", "offset", "capacitance")}
        if not circuit.resistive:
            neurons["gain"] = neurons["gain"] * (spec.corner.operated(spec.neuron).gain / self.neuron.gain)
        there = Chip(circuit, self.mismatch, self.seed, devices, neurons, drivers, self.periphery)
        there.since_write = self.since_write
        for name in COUNTED:  # its next write draws what this one's would
            setattr(there.programmer, name, getattr(self.programmer, name))
        return there

    def at(self, corner: CornerSpec) -> Chip:
        """A copy of the chip, its deviations and conductances as they are, operated at ``corner``.

        Where that is the chip's own, the two are equal bit for bit. Chips that are fabricated in a design
        with a corner are operated there from the start.
        """
        return self.copy(self.circuit.design.replace("corner", corner))

    def to_learn(self, design: Design) -> Chip:
        """A copy of the chip that learns as ``design`` says, which differs in nothing else: the range of the
        nudges' converter goes with β, and the noise of readings is the design's.
        """
        there = self.copy(design)
        there.periphery = self.periphery.used(design)
        return there

    def age(self, seconds: float) -> None:
        """Let ``seconds`` [s] pass without a write: conductances drift; see :func:`.drift.age`."""
        drift.age(self, seconds)

    # -- conductances ---------------------------------------------------------------------------

    @property
    def limits(self) -> tuple[float, float]:
        """Nominal conductance limits ``(g_min, g_max)`` [S] of every device."""
        spec = self.circuit.design.device
        return spec.g_min, spec.g_max

    def conducting(self, array: str) -> Array:
        """What the devices of an array conduct at present [S] (planes, rows, columns), at the corner and with
        their noise; of twin networks, those of the side that settles. Do not write to it.
        """
        actual = self.own(self.devices[array].actual)
        actual = actual if self.conduction == 1 else actual * self.dtype.type(self.conduction)
        return actual if self.factors is None else actual * self.own(self.factors[array])

    def own(self, planes: Array) -> Array:
        """Of an array's planes, those of the side that settles."""
        if self.circuit.copies == 1:
            return planes
        own: Array = np.split(planes, self.circuit.copies)[self.side]
        return own

    def twin(self) -> Chip:
        """The other of two networks side by side, as it stands: its own devices, which are programmed with
        this one's, and its own diodes and amplifiers.
        """
        if self.circuit.copies < 2:
            raise ValueError('this chip has no twin; write resistive.copies = "twin"')
        if self._twin is None:
            other = Chip.fabricate(self.circuit, self.mismatch, draws.derived_seed(self.seed, "twin"))
            other.side, other.devices = 1, self.devices
            self._twin = other
        self._twin.factors = self.factors
        self._twin.refresh()
        return self._twin

    def seen(self, array: str) -> Array:
        """What ports see of the devices that conduct [S] (2, rows, columns), behind the array's wires."""
        planes, wires = self.conducting(array), self.circuit.design.wires
        if not wires.resistive:
            return planes
        found = np.empty(planes.shape, self.dtype)
        for cells, plane in zip(planes, found, strict=True):
            device_kernels.attenuate(cells, wires.row, wires.column, wires.tile, plane)
        return found

    def weight(self, array: str) -> Array:
        """Differential conductance of an array at present [S] (rows, columns), as ports see it; do not write
        to it.
        """
        if self.factors is not None or self.circuit.design.wires.resistive:
            return differential(self.seen(array))
        weight = self._weights[array]
        return weight if self.conduction == 1 else weight * self.dtype.type(self.conduction)

    def planes(self, bank: Bank, devices: Array | None = None) -> Array:
        """What conducts between the ports and the nodes of a bank [S] (2, n_post, n_pre), g+ first; or what
        else of its ``devices`` is given, such as :meth:`seen`.
        """
        devices = self.conducting(bank.array) if devices is None else devices
        planes = self.circuit.layouts[bank.array].unfold(devices)
        return planes.transpose(0, 2, 1) if bank.transposed else planes

    def block(self, array: str) -> Array:
        """:meth:`weight` as a block between layers (nodes, ports) [S], in the direction in which it lies."""
        return self.circuit.layouts[array].unfold(self.weight(array))

    def write(self, weights: Mapping[str, Array]) -> None:
        """Write arrays from scratch to differential targets [S]: one device carries the weight, the
        other rests at ``g_min``. The actual conductances then differ by each device's deviation; stuck ones
        stay as they are. (Arrays of a resistive network: each device to its own, (planes, rows, columns).)
        """
        for name, weight in self._checked(weights).items():
            self.programmer.write(name, self.devices[name], weight)
            self._weights[name][...] = differential(self.own(self.devices[name].actual))
        self._refresh(weights)

    def program(self, changes: Mapping[str, Array]) -> None:
        """Change differential conductances by the commanded amounts [S] (rows, columns), by array, as the
        design's ``[programming]`` says: each device by its own step gain, up to its own limits. (Of a
        resistive network every device is commanded by itself, (planes, rows, columns).)
        """
        for name, change in self._checked(changes).items():
            array, weight = self.devices[name], self._weights[name]
            self.programmer.program(name, array, change, weight, self.blocks.threads)
            if self.circuit.resistive:
                weight[...] = differential(self.own(array.actual))
            self._refresh_blocks(name)  # at once, while the cache holds its weights
        self._refresh_loads()

    def trim(self, factors: Mapping[str, ArrayLike]) -> None:
        """Multiply the gains of driven banks' port drivers by ``factors`` (n_pre,), by bank name."""
        trimmed = dict(self.drivers)
        for name, value in factors.items():
            if name not in self.drivers:
                known = ", ".join(self.drivers) or "none: only the shared family has read drivers"
                raise KeyError(f"this chip has no drivers {name!r}; it has {known}")
            factor, shape = np.asarray(value, self.dtype), self.drivers[name].shape
            if factor.shape != shape or not (np.isfinite(factor) & (factor > 0)).all():
                raise ValueError(
                    f"the trims of {name} must be {shape[0]} finite factors above 0, one a driver; "
                    f"given are {factor.size}, from {factor.min(initial=np.inf)} to {factor.max(initial=0)}"
                )
            trimmed[name] = self.drivers[name] * factor
        self.drivers = trimmed
        self._refresh({bank.array for bank in self.circuit.banks if bank.name in factors})

    def _checked(self, values: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """What is to be written, all of it checked before any device moves: the kernels check nothing."""
        checked = {}
        for name, value in values.items():
            if name not in self.devices:
                raise KeyError(f"this chip has no array {name!r}; it has {', '.join(self.devices)}")
            array, shape = np.asarray(value), self.own(self.devices[name].target).shape
            shape, what = (shape, "devices") if self.circuit.resistive else (shape[1:], "pairs of devices")
            if array.shape != shape:
                raise ValueError(f"{name} has {shape} {what}, but is given {array.shape} of them")
            if not _finite(array):
                raise ValueError(f"{name} is given NaN or infinity; every conductance must be finite [S]")
            copies = self.circuit.copies
            checked[name] = array if copies == 1 else np.concatenate([array] * copies)
        if checked:
            self.since_write = 0.0  # what is written drifts anew
        return checked

    def refresh(self) -> None:
        """Bring everything up to date with ``devices``, after these were changed from outside."""
        for name, array in self.devices.items():
            array.lie_flat()
            self._weights[name][...] = differential(self.own(array.actual))
        self._refresh(self.devices)

    def _refresh(self, arrays: Iterable[str]) -> None:
        """Bring the engine's blocks and loads up to date with the devices of ``arrays``."""
        for name in arrays:
            self._refresh_blocks(name)
        self._refresh_loads()

    def _refresh_blocks(self, array: str) -> None:
        weight = self.block(array)
        for bank in self._banks[array]:
            if bank.pre == INPUT:
                device_kernels.transpose(self.blocks.threads, weight, self.input_block)
            elif bank.pre == BIAS:
                self.bias[self.blocks.slices[bank.post]] = weight[:, 0]
            else:
                block = self.blocks.weight(bank.post, bank.pre)
                if bank.transposed:
                    block[...] = weight.T
                else:  # the block's columns lie in one piece each: NumPy's copy is three times slower
                    device_kernels.transpose(self.blocks.threads, weight, block.T)
                if bank.driven:
                    gains = self.drivers[bank.name]
                    block *= gains[:, None] if bank.returned else gains

    def _refresh_loads(self) -> None:
        kappa = self.circuit.kappa
        self.blocks.load[:] = self.leak
        if kappa:
            for bank in self.circuit.banks:
                load = kappa * self.fan_in_load(bank) * self.reflected(bank)
                self.blocks.load[self.blocks.slices[bank.post]] += load

    def fan_in_load(self, bank: Bank) -> Array:
        """Total conductance ``Σ_j (g+ + g-)`` [S] (n_post,) of the devices that feed each node."""
        total: Array = self.planes(bank).sum(axis=(0, 2))
        return total

    @property
    def input_weight(self) -> Array:
        """What inputs drive into the first layer [S] (n, n_in); a view."""
        return self.input_block.T

    @property
    def leak(self) -> float:
        """Of a node to ground [S]. That of a resistive network has none but its insulation."""
        return INSULATION if self.circuit.resistive else self.neuron.leak

    def reflected(self, bank: Bank) -> Array | float:
        """What a node of ``bank.post`` is loaded by, over its devices' conductance: 1, but through a node's
        own amplifiers ``a_b a_f``.
        """
        if not bank.returned:
            return 1.0
        ahead = next(f for f, back in self.circuit.feedback_pairs if back is bank)
        product: Array = self.drivers[bank.name] * self.drivers[ahead.name]
        return product

    # -- settling -------------------------------------------------------------------------------

    @property
    def bias_voltage(self) -> float:
        """Voltage [V] of the constant port that drives the bias devices: the upper rail."""
        return self.neuron.high

    def injected(self, inputs: ArrayLike) -> Array:
        """Current [A] (batch, N) that inputs (batch, n_in) [V] and biases push into the nodes."""
        x = self._checked_inputs(inputs)
        current = np.empty((len(x), self.blocks.size), self.dtype)
        bias = self.bias * self.dtype.type(self.bias_voltage)
        driven = self.blocks.slices[0]
        products.shared(self.blocks.threads, x, self.input_block, current[:, driven])
        current[:, driven] += bias[driven]
        current[:, : driven.start] = bias[: driven.start]
        current[:, driven.stop :] = bias[driven.stop :]
        return current

    def _checked_inputs(self, inputs: ArrayLike) -> Array:
        """Input voltages (batch, n_in) [V] in the chip's precision."""
        x = np.atleast_2d(np.asarray(inputs, self.dtype))
        if x.ndim != 2 or x.shape[1] != self.circuit.inputs:
            raise ValueError(
                f"inputs have shape {x.shape}; this chip has {self.circuit.inputs} input ports: "
                "pass an array of shape (batch, inputs) in volts"
            )
        if not _finite(x):
            raise ValueError("inputs hold NaN or infinity; every input must be a finite voltage [V]")
        return x

    def relax(
        self,
        inputs: ArrayLike,
        nudge: Nudge | None = None,
        *,
        start: Equilibrium | None = None,
        method: str = "equilibrium",
        tolerance: float | None = None,
        certify: int | None = None,
        **options: object,
    ) -> Equilibrium:
        """Let the chip settle on ``inputs`` (batch, n_in) [V], under a nudge if given.

        Args:
            nudge: its current is re-evaluated as the circuit moves.
            start: the equilibrium to start from. Default: relaxation starts every node where its
                injected current alone would take it, a transient at 0 V. Nudged phases start from the
                free state; when certified, a jump to another branch is flagged.
            method: ``"equilibrium"`` (block relaxation with Anderson acceleration) or ``"transient"``
                (the ODE itself, with settling time and dissipated energy).
            tolerance: of full swing; default: the design's.
            certify: how many samples to certify (residual current and stability for the ODE); default
                all. Training passes a few.
            options: passed on to :func:`ohmostat.simulator.relaxation.relax` (``max_sweeps``,
                ``window``) or :func:`ohmostat.simulator.ode.settle` (``max_time``, ``rtol``).

        Returns: the :class:`Equilibrium`; samples that did not settle are flagged, never hidden.
        """
        current = self.injected(inputs)
        state = self.settle(current, nudge, start, method, tolerance, inputs, **options)
        rows = None if certify is None else np.arange(min(certify, len(current)))
        return certified(self.blocks, state, nudge, start, rows)

    def settle(
        self, injected: Array, nudge: Nudge | None = None, start: Equilibrium | None = None,
        method: str = "equilibrium", tolerance: float | None = None,
        inputs: ArrayLike | None = None, **options: object,
    ) -> Equilibrium:  # fmt: skip
        """:meth:`relax` without its checks, from injected currents (batch, N) [A]."""
        tol = self.circuit.design.learning.tolerance if tolerance is None else tolerance
        if method == "equilibrium":
            return settle(
                self.blocks, injected, nudge, start, tolerance=tol, periphery=self.periphery, **options
            )
        if method != "transient":
            raise ValueError(f"method is {method!r}; it must be 'equilibrium' or 'transient'")
        injected = continued(injected, nudge)
        push = None if nudge is None else nudge.current
        volts = None if start is None else start.voltages
        power = None if inputs is None else self.dissipation(inputs)
        end = ode.settle(
            self.blocks, injected, start=volts, nudge=push, power=power, tolerance=tol, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return Equilibrium(
            self.blocks, end.voltages, end.ports, injected, end.settled, tol,
            time=end.time, energy=end.energy if power else None, sweeps=end.steps, periphery=self.periphery,
        )  # fmt: skip

    def dissipation(self, inputs: ArrayLike) -> Callable[[Array, Array, Array], NDArray[np.float64]]:
        """Power [W] that turns into heat, as a function of (v, s, rows): :func:`.dissipation.power_of`."""
        self._checked_inputs(inputs)
        return power_of(self, np.atleast_2d(np.asarray(inputs, np.float64)))


def _finite(array: Array) -> bool:
    """Is every number finite? (A sum of squares is at hand sooner, and tells, unless it overflows.)"""
    return bool(np.isfinite(np.vdot(array, array)) or np.isfinite(array).all())
