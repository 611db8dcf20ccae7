"""The sections of a chip design: every key's default, unit, range and reason, once.

Validation, messages, the template and the TOML writer all read them here. Everything is held in SI (angles
in degrees); in Python a quantity may be an SI number or text with a unit (``DeviceSpec(g_max="20uS")``),
and a share text in per cent.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from .data_shapes import DATA
from .sections import KEYS as KEYS
from .sections import Spec, choice, integer, key, kinds, number, refuse, share
from .units import Curve, Integer, Kind, Layers, Number, Range, Text, positive

#: Devices whose values were measured: the files of :mod:`.presets`.
PRESETS = tuple(sorted(path.stem for path in (Path(__file__).parent / "presets").glob("*.toml")))

_VOLTAGE = Range(-100.0, 100.0)
_CURRENT = Range(0.0, 1.0)
_SIGMA = Range(0.0, 3.0)
_SHARE = Range(0.0, 1.0)
_TEMPCO = Range(-4e-3, 4e-3)  # so that no conductance vanishes between 200 and 500 K

ROOM = 300.0
"""Temperature [K] to which a design's values refer."""


# A table: default, unit, range, and what it is for.
# fmt: off
@dataclass(frozen=True)
class ChipSpec(Spec):
    """The family of the chip and the sizes of its layers."""

    family: str = choice("twin: two crossbars; shared: one, read both ways; loop: outputs feed layer 1; "
        "relay: back through two in series; resistive: single conductances, diodes at the nodes",
        "twin", "shared", "loop", "relay", "resistive")
    layers: tuple[int | str, ...] = key((784, 256, 256, 10),
        Layers("neurons of each, inputs first; or a convolution: docs/convolution.md"))
    relays: int = integer(512, 2, 65536, "relay only: neurons between the two crossbars of every way back")
    sharing: str = choice("of a convolution's weights: one crossbar read at every position, or one each",
        "time-multiplexed", "replicated")
    columns: str = choice("passive: every conductance also loads its column",
        "virtual-ground", "passive")


@dataclass(frozen=True)
class NeuronSpec(Spec):
    """The amplifier of every neuron, and the node that it reads."""

    law: str = choice("transfer curve from rail to rail", "logistic", "tanh", "softplus")
    low: float = number(0.0, "V", _VOLTAGE, "output at the lower rail")
    high: float = number(1.0, "V", _VOLTAGE, "output at the upper rail")
    gain: float = number(1.0, "", positive(1e3), "peak slope in V/V; high ones can oscillate")
    offset: float = number(0.5, "V", _VOLTAGE, "input at the peak slope, or at softplus's knee")
    knee: float = number(0.05, "V", positive(10.0), "softplus only: width of its rounded knees")
    capacitance: float = number(1e-12, "F", positive(1e-3), "of a node, for its pace")
    leak: float = number(1e-5, "S", positive(1.0),
        "of a node to ground: what counts as a weight of 1")

    def _check_together(self) -> None:
        if self.high <= self.low:
            low = f"neuron.low = {KEYS['neuron.low'].display(self.low)}"
            refuse("neuron.high", self.high, f"must be above {low}; part the rails", "neuron.low")

    @property
    def swing(self) -> float:
        """Rail to rail, ``high - low`` [V]."""
        return self.high - self.low

    @property
    def tau(self) -> float:
        """Time constant of an unloaded node, ``capacitance / leak`` [s]."""
        return self.capacitance / self.leak


@dataclass(frozen=True)
class ResistiveSpec(Spec):
    """What holds and amplifies the nodes of a resistive network: docs/resistive.md."""

    hidden: str = choice("diodes of a hidden node: alternating: half the nodes stay above the barrier, half "
        "below it; pair: all between two; none", "alternating", "pair", "none")
    diode: str = choice("characteristic: ideal clamps; shockley; measured: through the points of curve",
        "ideal", "shockley", "measured")
    barrier: float = number(0.0, "V", Range(-100.0, 100.0),
        "of the sources behind the diodes: +barrier for those that hold a node down, -barrier for those up")
    saturation: float = number(1e-9, "A", Range(0.0, 1.0, open_low=True),
        "shockley: saturation current at 300 K")
    ideality: float = number(1.0, "", Range(0.5, 10.0), "shockley: over the thermal voltage")
    curve: tuple[tuple[float, float], ...] = key((), Curve("measured: points of one diode"))
    gain: float = number(1.0, "", positive(1e3),
        "of hidden nodes' bidirectional amplifiers: of voltages forward, of currents back; 1: none needed")
    input_gain: float = number(1.0, "", positive(1e5), "of the inputs, which come at both signs")
    outputs: str = choice("paired: an output is the difference of two nodes", "single", "paired")
    copies: str = choice("time-multiplexed: one network settles free, then nudged; twin: two side by side, "
        "programmed alike, of which the second is nudged", "time-multiplexed", "twin")

    def _check_together(self) -> None:
        if self.hidden == "pair" and self.barrier <= 0:
            fault = "a pair holds its node between -barrier and +barrier; make it positive"
            refuse("resistive.barrier", self.barrier, fault, "resistive.hidden")
        if self.diode == "measured":
            from ..simulator.clamps import curve_through  # deferred: few designs have one

            try:
                curve_through(*zip(*self.curve, strict=True) if self.curve else ((), ()))
            except ValueError as error:
                refuse("resistive.curve", self.curve, error, "resistive.diode")


@dataclass(frozen=True)
class DeviceSpec(Spec):
    """The limits of every programmable conductance."""

    preset: str = choice("measured values for the keys that a file leaves out. One that leaves none out, as "
        "'ohmostat init' writes it, takes them by --set device.preset=NAME, or is made by 'ohmostat init "
        "--preset NAME': docs/devices.md",
        "none", *PRESETS)
    g_min: float = number(1e-8, "S", Range(0.0, 1.0),
        "where a device that carries no weight rests")
    g_max: float = number(2e-5, "S", positive(1.0), "over the leak, the largest weight")

    def _check_together(self) -> None:
        if self.g_max <= self.g_min:
            least = f"device.g_min = {KEYS['device.g_min'].display(self.g_min)}"
            remedy = "raise it or lower g_min"
            refuse("device.g_max", self.g_max, f"must be above {least}; {remedy}", "device.g_min")


@dataclass(frozen=True)
class ProgrammingSpec(Spec):
    """How a change of conductance is written to the devices: docs/programming.md."""

    mode: str = choice("ideal: any change; pulses: as many as it takes, unread; sign: one; "
        "write-verify: pulse and read until it fits", "ideal", "pulses", "sign", "write-verify")
    rounding: str = choice("of a change to whole pulses or levels", "stochastic", "nearest")
    levels: int = integer(0, 0, 65_536, "ideal and write-verify: evenly spaced conductances; 0: any")
    pulse: float = share(0.002, Range(0.0, 0.5, open_low=True),
        "share of g_max - g_min by which a pulse moves a device in mid-range")
    nonlinearity: float = number(0.0, "", Range(0.0, 2.0),
        "soft bounds: how much of that step is lost from one limit to the other; 2: all at the limit")
    asymmetry: float = share(0.0, Range(-0.95, 0.95),
        "what a pulse up moves more, and a pulse down less, relative")
    cycle: float = share(0.0, _SIGMA, "cycle to cycle: sd of a pulse's step, relative")
    tolerance: float = share(0.01, Range(0.0, 0.5, open_low=True),
        "write-verify: of the conductance read, share of g_max - g_min")
    read_noise: float = share(0.0, _SHARE, "write-verify: rms of that reading, as the same share")
    most_pulses: int = integer(100, 1, 100_000, "write-verify: so many of a change leave a device as it is")

    pulse_time: float = number(1e-7, "s", Range(0.0, 1.0), "of a pulse, its own set-up included")
    pulse_energy: float = number(1e-12, "J", Range(0.0, 1.0), "of a pulse")
    parallel: int = integer(256, 1, 1_000_000, "devices that are pulsed at a time")

    def _check_together(self) -> None:
        if self.levels == 1:
            refuse("programming.levels", 1, "is no choice; write 0 for any conductance, or 2 and more")
        if self.levels and self.mode in ("pulses", "sign"):
            fault = f"{self.mode} have no levels but those that pulses make"
            remedy = 'set it to 0 or write programming.mode = "write-verify"'
            refuse("programming.levels", self.levels, f"{fault}; {remedy}", "programming.mode")


@dataclass(frozen=True)
class WiresSpec(Spec):
    """Resistance of the arrays' wires, with virtual-ground columns: docs/physics.md, section 7."""

    row: float = number(0.0, "Ohm", Range(0.0, 1e6), "of a cell's segment of the wire from its driver")
    column: float = number(0.0, "Ohm", Range(0.0, 1e6), "of its segment of the wire to its node")
    tile: int = integer(64, 1, 4096,
        "cells to a side: larger arrays are made of tiles with drivers and amplifiers of their own")

    @property
    def resistive(self) -> bool:
        """Whether there is any resistance."""
        return self.row > 0 or self.column > 0


@dataclass(frozen=True)
class ConvertersSpec(Spec):
    """Between the chip and what is digital: inputs in, nudges in, readings out."""

    input_bits: int = integer(0, 0, 24, "of the inputs, from ground to the upper rail; 0: analog")
    nudge_bits: int = integer(0, 0, 24, "of nudges, made from outputs as read and held; 0: analog")
    nudge_range: float = number(16.0, "", positive(1e6),
        "largest nudge either way, over beta * leak * swing: what a cost of slope 1 makes")
    reading_bits: int = integer(0, 0, 24, "of readings of ports, from rail to rail; 0: analog")
    merit: float = number(5e-14, "J", Range(0.0, 1e-6), "energy of a conversion, over 2^bits (Walden)")
    time: float = number(1e-7, "s", Range(0.0, 1.0), "of a conversion")


@dataclass(frozen=True)
class MismatchSpec(Spec):
    """The spread of a chip's parts, drawn once for each chip from its seed."""

    conductance: float = share(0.0, _SIGMA,
        "of a device: sd of ln g (lognormal) or relative sd")
    distribution: str = choice("of the devices' conductances", "lognormal", "gaussian")
    gradient: float = share(0.0, _SHARE,
        "of conductance: relative sd of the change from one edge of an array to the other")
    correlated: float = share(0.0, _SIGMA, "of conductance: sd of what neighbours share of ln g")
    correlation_length: float = number(16.0, "", Range(0.5, 1e6), "of that part, in devices")
    stuck_open: float = share(0.0, _SHARE, "share of devices that conduct nothing")
    stuck_closed: float = share(0.0, _SHARE, "share of devices that stay at their g_max")
    programming: float = share(0.0, _SIGMA, "sd of ln of a device's programming-step gain")
    programming_bias: float = share(0.0, _SHARE,
        "sd over devices of programming.asymmetry")
    amplifier_gain: float = share(0.0, _SHARE, "relative sd of a neuron's gain")
    amplifier_offset: float = number(0.0, "V", Range(0.0, 10.0), "sd of a neuron's offset")
    capacitance: float = share(0.0, _SHARE, "relative sd of a node's capacitance")
    driver_gain: float = share(0.0, _SHARE,
        "shared family only: relative sd of a read driver's gain")
    vt_coefficient: float = number(0.0, "Vm", Range(0.0, 1e-6),
        "Pelgrom: a transistor's sd of threshold, times sqrt(width length); 3.5nVm is 3.5 mV um")
    beta_coefficient: float = number(0.0, "m", Range(0.0, 1e-5),
        "Pelgrom: its relative sd of gain factor, times sqrt(width length); 10nm is 1 % um")
    amplifier_width: float = number(1e-6, "m", positive(1e-2), "of a neuron's input transistor")
    amplifier_length: float = number(1e-6, "m", positive(1e-2), "of a neuron's input transistor")
    device_width: float = number(1e-6, "m", positive(1e-2), "of a device that is a transistor")
    device_length: float = number(1e-6, "m", positive(1e-2), "of a device that is a transistor")
    device_overdrive: float = number(0.0, "V", Range(0.0, 100.0),
        "of its gate, above the threshold; 0: devices are no transistors")
    nudge_gain: float = share(0.0, _SHARE, "relative sd of a nudge source's gain")
    nudge_offset: float = number(0.0, "A", _CURRENT, "sd of a nudge source's offset while it is on")
    sense_gain: float = share(0.0, _SHARE, "relative sd of a port's sense amplifier's gain")
    sense_offset: float = number(0.0, "V", Range(0.0, 10.0), "sd of a sense amplifier's offset")

    def _check_together(self) -> None:
        if self.stuck_open + self.stuck_closed > 1:
            problem = f"and {self.stuck_closed:g} stuck closed are more than all devices; make one smaller"
            refuse("mismatch.stuck_open", self.stuck_open, problem, "mismatch.stuck_closed")

    # What all of a part's causes come to: they are independent.

    @property
    def conductance_sd(self) -> float:
        """Of ln g, or relative. A transistor in triode has ``g = β (V_gs - V_t)``."""
        if not self.device_overdrive:
            return self.conductance
        threshold = self._pelgrom(self.vt_coefficient, "device") / self.device_overdrive
        return math.hypot(self.conductance, threshold, self._pelgrom(self.beta_coefficient, "device"))

    @property
    def amplifier_offset_sd(self) -> float:
        """[V]"""
        return math.hypot(self.amplifier_offset, self._pelgrom(self.vt_coefficient, "amplifier"))

    @property
    def amplifier_gain_sd(self) -> float:
        """Relative."""
        return math.hypot(self.amplifier_gain, self._pelgrom(self.beta_coefficient, "amplifier"))

    def _pelgrom(self, coefficient: float, part: str) -> float:
        """``A / √(W L)`` (Pelgrom et al. 1989) of a part's transistor."""
        width, length = getattr(self, f"{part}_width"), getattr(self, f"{part}_length")
        return coefficient / math.sqrt(width * length)


@dataclass(frozen=True)
class CornerSpec(Spec):
    """Where the chip is operated: process, supply and temperature (docs/physics.md)."""

    process: str = choice("of the transistors' gain factor", "typical", "slow", "fast")
    process_spread: float = share(0.1, Range(0.0, 0.9),
        "what a slow process takes from that factor, and a fast one adds, relative: an assumption")
    voltage: float = share(1.0, Range(0.5, 1.5),
        "supply, relative to nominal: moves both rails about ground")
    temperature: float = number(ROOM, "K", Range(200.0, 500.0), "of the whole chip")
    device_tempco: float = number(0.0, "/K", _TEMPCO,
        "relative change of a device's conductance, from 300 K on")
    leak_tempco: float = number(0.0, "/K", _TEMPCO, "the same of the leaks")
    inversion: str = choice("of the amplifiers' transistors; weak: gain goes as 300 K / temperature",
        "strong", "weak")

    @property
    def gain_factor(self) -> float:
        """Of the process, on every transistor."""
        return 1 + {"typical": 0, "slow": -1, "fast": 1}[self.process] * self.process_spread

    def operated(self, neuron: NeuronSpec) -> NeuronSpec:
        """A nominal neuron as it is here."""
        heat = ROOM / self.temperature if self.inversion == "weak" else 1.0
        return dataclasses.replace(
            neuron, low=neuron.low * self.voltage, high=neuron.high * self.voltage,
            gain=neuron.gain * self.gain_factor * heat,
            leak=neuron.leak * (1 + self.leak_tempco * (self.temperature - ROOM)),
        )

    def conduction(self, transistors: bool) -> float:
        """What every device conducts here, over what it conducts nominally."""
        heat = 1 + self.device_tempco * (self.temperature - ROOM)
        return heat * self.gain_factor if transistors else heat


@dataclass(frozen=True)
class DriftSpec(Spec):
    """What time does to conductances: ``g(t) = g0 (t / reference)^-exponent``."""

    exponent: float = number(0.0, "", Range(-0.5, 0.5), "mean over devices")
    exponent_spread: float = number(0.0, "", Range(0.0, 0.5), "sd over devices")
    reference: float = number(1.0, "s", positive(1e9),
        "time after a write at which a device has the conductance that was written")


@dataclass(frozen=True)
class NoiseSpec(Spec):
    """Noise of devices, from one training step to the next, and of readings (docs/physics.md)."""

    flicker: float = number(0.0, "", _SHARE,
        "A of a device's spectrum A g^2 / f, over its conductance's square")
    f_low: float = number(1.0, "Hz", positive(1e12), "flicker: from here on, slower is drift")
    f_high: float = number(1e6, "Hz", positive(1e12), "flicker: to here; faster averages out")
    telegraph_share: float = share(0.0, _SHARE, "share of devices with a trap")
    telegraph_amplitude: float = share(0.1, Range(0.0, 2.0),
        "relative step of conductance between full and empty")
    telegraph_rate: float = share(0.01, _SHARE, "probability to switch from one step to the next")
    bandwidth: float = number(0.0, "Hz", Range(0.0, 1e12), "of a reading, for thermal noise; 0: none")

    def _check_together(self) -> None:
        if self.f_high <= self.f_low:
            low = f"noise.f_low = {KEYS['noise.f_low'].display(self.f_low)}"
            refuse("noise.f_high", self.f_high, f"must be above {low}; part the two", "noise.f_low")

    @property
    def flicker_sd(self) -> float:
        """Relative rms of a conductance, ``√(∫ A/f df) = √(A ln(f_high / f_low))``."""
        return math.sqrt(self.flicker * math.log(self.f_high / self.f_low))

    @property
    def traps(self) -> bool:
        """Whether any device has a trap that shows."""
        return self.telegraph_share > 0 and self.telegraph_amplitude > 0


@dataclass(frozen=True)
class LearningSpec(Spec):
    """The rule, its nudge, and the optimiser that programs the devices."""

    rule: str = choice("ep: what a chip measures; adjoint: the exact gradient; docs/rules.md",
        "ep", "adjoint", "contrastive", "coupled", "aep", "aep-measured", "kolen-pollack",
        "product-feedback", "dual-propagation", "balance")
    estimator: str = choice("of the response to a nudge",
        "centered", "one-sided", "negative", "cauchy", "chebyshev", "exact", "lock-in", "continuous")
    nudges: int = integer(4, 2, 64, "cauchy; chebyshev and lock-in, by even numbers: how many")
    period: float = number(50.0, "", positive(1e6),
        "lock-in and continuous only: of the nudge, in units of capacitance / leak")
    beta: float = number(0.005, "", positive(100.0), "nudge, in units of leak * swing^2")
    jumps: str = choice("of a sample whose response is not smooth: docs/estimators.md",
        "leave-out", "take")
    cost: str = choice("cross-entropy has a digital readout, so any number of outputs",
        "cross-entropy", "squared-error")
    optimizer: str = choice("how the conductances follow the gradient", "sgd", "adam")
    rate: float = number(0.005, "", positive(10.0), "learning rate")
    schedule: str = choice("of the rate: constant, or falling to 0 over the epochs as a cosine",
        "cosine", "constant")
    momentum: float = share(0.9, Range(0.0, 1.0, open_high=True),
        "sgd only: share kept each step")
    batch: int = integer(50, 1, 10_000, "samples a step")
    epochs: int = integer(4, 1, 100_000, "passes over the training data")
    angle: float = key(0.0,
        Number("twin family only: at the start, between forward and feedback weights",
            Range(0.0, 90.0), "deg", bare=True))
    feedback_spread: str = choice("angle above 0: spread of what turns the feedback, docs/physics.md",
        "forward", "fan-in")
    init_scale: float = number(0.3, "", positive(100.0),
        "starting weights between neurons, over 1/sqrt(fan-in)")
    input_scale: float = number(1.5, "", positive(100.0),
        "starting weights from the inputs, over 1/sqrt(fan-in)")
    readout_scale: float = number(8.0, "", positive(1000.0),
        "cross-entropy: starting readout, over 1/sqrt(outputs)")
    read_noise: float = number(0.0, "V", Range(0.0, 10.0), "rms of a port's sense amplifier, per reading")
    threads: int = integer(1, 1, 64, "that share a step; how many changes no result")
    tolerance: float = share(1e-5, positive(0.1),
        "settled when within this share of full swing")
    dtype: str = choice("float32 is faster, float64 settles finer", "float32", "float64")

    def _check_together(self) -> None:
        if self.estimator in ("chebyshev", "lock-in") and self.nudges % 2:
            problem = f"{self.estimator} gains nothing by an odd one; make it even"
            refuse("learning.nudges", self.nudges, problem, "learning.estimator")
        if self.dtype == "float32" and self.tolerance < 1e-6:
            remedy = 'raise it or write dtype = "float64"'
            refuse("learning.tolerance", self.tolerance, f"float32 settles to 1e-6; {remedy}",
                "learning.dtype")


@dataclass(frozen=True)
class HomeostatSpec(Spec):
    """The controller that keeps forward and feedback weights alike."""

    mode: str = choice("probe: twin devices; trim: shared drivers; decay: a control",
        "probe", "trim", "off", "decay")
    schedule: str = choice("of the gain: as measured, or fixed, by the rate, by 1/n",
        "auto", "constant", "rate", "falling")
    gain: float = share(0.25, _SHARE,
        "not auto: half the share of the asymmetry that a step takes away; 0.5 removes all")
    moves: str = choice("which of two twins a correction moves", "both", "feedback")
    probes: int = integer(256, 1, 100_000, "measurements a step")
    scheme: str = choice("random probes are noisy; the others are exact once complete",
        "hadamard", "one-port", "random")
    slots: str = choice("of probes: on running samples, held, or on a chip at rest",
        "superposed", "dedicated")
    amplitude: float = number(0.01, "V", positive(10.0), "of a probe; more of it drowns the noise")
    noise: float = number(0.0, "A", _CURRENT, "rms of a sense amplifier")
    resolution: float = number(0.0, "A", _CURRENT, "one step of the converter; 0 is ideal")
    every: int = integer(1, 1, 100_000, "applied at every n-th batch")
    decay: float = share(1e-4, _SHARE, "mode decay: share of the weights that a step takes")


@dataclass(frozen=True)
class TaskSpec(Spec):
    """What is learned."""

    data: str = choice("the first two ship with the package", *DATA)
    train: int | None = integer(None, 1, 2_000_000, "training samples")
    test: int | None = integer(None, 1, 2_000_000, "test samples")
    seed: int = integer(0, 0, 2**63 - 1, "of every random draw but a chip's own")
# fmt: on


SECTIONS: dict[str, type[Spec]] = {
    spec.section(): spec
    for spec in (
        ChipSpec, NeuronSpec, ResistiveSpec, DeviceSpec, WiresSpec, ProgrammingSpec, ConvertersSpec,
        MismatchSpec, CornerSpec, DriftSpec, NoiseSpec, LearningSpec, HomeostatSpec, TaskSpec,
    )
}  # fmt: skip

#: Layout of a design file.
SCHEMA = 1

#: A design's own two keys, which stand before its sections.
HEAD: dict[str, Kind] = {
    "name": Text("of the design, in reports and files"),
    "schema": Integer("layout of this file", SCHEMA, SCHEMA),
}

KEYS |= HEAD | {f"{section}.{name}": kind for section, spec in SECTIONS.items() for name, kind in kinds(spec)}
