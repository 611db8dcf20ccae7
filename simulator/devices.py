"""Device laws: one table row per kind of element, each law vectorised over a whole bank.

A law takes a bank's parameters (arrays (..., k)) and the voltages ``u`` (ports, ..., k) [V] across its ports,
and returns a value and its slopes,

    ``(params, u) -> (f, ∂f/∂u)``,  f (..., k),  slopes (ports, ..., k).

Port 0 is the device itself, from its first terminal to its second; further ports are controls, and a control
may be a branch current [A] in place of a voltage. ``f`` is the current [A] that flows from the first terminal
through the device into the second. *Voltage-defined* devices have no such function: their current is an
unknown of its own, and ``f`` [V] is the constraint that must vanish, for example ``v - E`` for a source of E
volts. ``storage``, with the same shapes, is a charge [C], or the flux [Wb] of a voltage-defined device; its
time derivative adds to ``f``.

A new kind is one more row of ``DEVICES`` (and one card in ``spice.py``); the solver does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import neurons
from . import semiconductors as semi

Array = NDArray[Any]
Parameters = Mapping[str, Any]
Value = tuple[Array, Array]
Law = Callable[[Parameters, Array], Value]
Noise = Callable[[Parameters, Array, float], Array]
Limit = Callable[[Parameters, Array, Array], Array]


@dataclass(frozen=True)
class Current:
    """A control port: the current [A] through a voltage-defined device, from its first node to its second."""

    device: str


class Time:
    """A control port: the time [s]; 0 at an operating point."""


TIME = Time()
Control = tuple[str, str] | Current | Time


class Expression(Protocol):
    """What a behavioural source holds: a function of its control ports, with its derivatives."""

    @property
    def ports(self) -> tuple[Any, ...]:
        """The controls, in order: node pairs, ``Current(device)`` or ``TIME``."""

    @property
    def analytic(self) -> bool:
        """Whether it accepts complex voltages."""

    def evaluate(self, u: Array) -> Value:
        """Value (..., k) and slopes (ports, ..., k) at u (ports, ..., k)."""

    def text(self, ports: Sequence[str], constant: Callable[[float], str]) -> str:
        """As SPICE text, with ``ports`` and numbers written so."""


@dataclass(frozen=True)
class Parameter:
    """A device parameter [unit] and its lower bound: a number, or the name of another parameter.

    ``fixed`` gives the remedy where a value cannot be replaced later, for others were computed from it.
    """

    name: str
    unit: str
    bound: float | str = -math.inf
    inclusive: bool = True
    finite: bool = True
    fixed: str = ""

    def allowed(self, bound: float) -> str:
        """The allowed range, in words."""
        value = "a finite value" if self.finite else "a value"
        if bound == -math.inf:
            return value
        which = f"{self.bound} = " if isinstance(self.bound, str) else ""
        above = "at least" if self.inclusive else "above"
        return f"{value} {above} {which}{bound:g} {self.unit}"

    def accepts(self, value: Any, bound: Any) -> Any:
        """Whether each real ``value`` is finite and within ``bound``; complex ones need only be finite."""
        known = np.isfinite(value) if self.finite else ~np.isnan(value)
        if np.iscomplexobj(value):
            return known
        return known & (value >= bound if self.inclusive else value > bound)


@dataclass(frozen=True)
class Device:
    """One kind of element: its law, its parameters, and what the solver must know about it."""

    law: Law
    parameters: tuple[Parameter, ...]
    spice_letter: str
    main: str  # the parameter that a device's own value or mismatch means
    controls: int | None = 0  # control ports; None: those of its expression
    voltage_defined: bool = False
    linear: bool = True
    analytic: bool = True  # whether the law accepts complex voltages
    conducts: bool = False  # whether current may pass port 0 though the slope at 0 V be zero
    source_parameters: tuple[str, ...] = ()  # scaled together, they scale the device's independent output
    # Conductance [S] that it has when it conducts, where its slopes at 0 V, which are asked otherwise, are of
    # one that is off: the scale of the shunts that continuations need.
    conducting: Callable[[Parameters], Any] | None = None
    storage: Law | None = None
    noise: Noise | None = None
    limit: Limit | None = None


def _linear(*slopes: Callable[[Parameters], Any]) -> Law:
    """``f = Σ slope_p u_p``."""

    def law(p: Parameters, u: Array) -> Value:
        parts = [slope(p) * np.ones_like(u[0]) for slope in slopes]
        return sum((s * v for s, v in zip(parts, u, strict=True)), np.zeros_like(parts[0])), np.stack(parts)

    return law


def _open(p: Parameters, u: Array) -> Value:
    return np.zeros_like(u[0]), np.zeros_like(u)


def _voltage_source(p: Parameters, u: Array) -> Value:
    return u[0] - p["voltage"], np.ones_like(u)


def _current_source(p: Parameters, u: Array) -> Value:
    return p["current"] + np.zeros_like(u[0]), np.zeros_like(u)


def _resistor_noise(p: Parameters, u: Array, temperature: float) -> Array:
    density: Array = 4.0 * semi.BOLTZMANN * temperature * p["conductance"] * np.ones_like(u[0].real)
    return density


def _switch(p: Parameters, u: Array) -> Value:
    """On where its control is above the threshold: no slope there, and none is defined at the threshold."""
    g = np.reciprocal(np.where(u[1] > p["vt"], p["ron"], p["roff"]))
    return g * u[0], np.stack([g, np.zeros_like(g)])


def _switch_noise(p: Parameters, u: Array, temperature: float) -> Array:
    density: Array = 4.0 * semi.BOLTZMANN * temperature * _switch(p, u)[1][0]
    return density


def _switch_conducting(p: Parameters) -> Any:
    return np.reciprocal(np.minimum(p["ron"], p["roff"]))


def _channel_conducting(p: Parameters) -> Any:
    """At one volt above threshold."""
    return p["kp"] * p["w"] / p["l"]


def _behavioural_current(p: Parameters, u: Array) -> Value:
    value, slopes = p["expression"].evaluate(u[1:])
    f = p["scale"] * value
    return f, np.concatenate([np.zeros_like(f)[None], p["scale"] * slopes])


def _behavioural_voltage(p: Parameters, u: Array) -> Value:
    value, slopes = p["expression"].evaluate(u[1:])
    f = u[0] - p["scale"] * value
    return f, np.concatenate([np.ones_like(f)[None], -p["scale"] * slopes])


def _behavioural(law: Law, *, voltage_defined: bool) -> Device:
    scale = (Parameter("scale", "1"),)
    return Device(
        law, scale, "B", "scale", controls=None, voltage_defined=voltage_defined, linear=False,
        source_parameters=("scale",),
    )  # fmt: skip


def _amplifier(name: str, knee: Parameter) -> Device:
    """``v = f(v_ctrl)`` with one of the transfer curves of :mod:`neurons`."""

    def law(p: Parameters, u: Array) -> Value:
        s, slope = neurons.evaluate(name, u[1], p["low"], p["high"], p["gain"], p["offset"], p["knee"])
        return u[0] - s, np.stack([np.ones_like(slope), -slope])

    return Device(
        law,
        (
            Parameter("low", "V"),
            Parameter("high", "V", "low", inclusive=False),
            Parameter("gain", "V/V", 0.0, inclusive=False),
            Parameter("offset", "V"),
            knee,
        ),
        "B",
        "gain",
        controls=1,
        voltage_defined=True,
        linear=False,
        source_parameters=("low", "high", "gain"),  # every curve is homogeneous in these three
    )


_TEMPERATURE = Parameter(
    "temperature", "K", 0.0, inclusive=False,
    fixed="the other parameters hold at it: build the netlist with Netlist(temperature=...)",
)  # fmt: skip
_POLARITY = Parameter(
    "polarity", "1", fixed="its threshold and bulk diodes follow it: build the netlist with the other type"
)
_UNUSED_KNEE = Parameter("knee", "V", 0.0)

_JUNCTION = (
    Parameter("is_", "A", 0.0),
    _TEMPERATURE,
    Parameter("gmin", "S", 0.0),
    Parameter("cjo", "F", 0.0),
    Parameter("vj", "V", 0.0, inclusive=False),
    Parameter("m", "1", 0.0),
    Parameter("fc", "1", 0.0),
)

_DIODE = (
    *_JUNCTION,
    Parameter("n", "1", 0.0, inclusive=False),
    Parameter("tt", "s", 0.0),
    Parameter("bv", "V", 0.0, inclusive=False, finite=False),
    Parameter("nbv", "1", 0.0, inclusive=False),
)

_MOSFET = (
    _POLARITY,
    Parameter("vto", "V"),
    Parameter("kp", "A/V²", 0.0),
    Parameter("gamma", "√V", 0.0),
    Parameter("phi", "V", 0.0, inclusive=False),
    Parameter("lambda_", "1/V", 0.0),
    Parameter("w", "m", 0.0, inclusive=False),
    Parameter("l", "m", 0.0, inclusive=False),
)

DEVICES: dict[str, Device] = {
    "resistor": Device(
        _linear(lambda p: p["conductance"]), (Parameter("conductance", "S", 0.0),), "R", "conductance",
        noise=_resistor_noise,
    ),
    "capacitor": Device(
        _open, (Parameter("capacitance", "F", 0.0),), "C", "capacitance",
        storage=_linear(lambda p: p["capacitance"]),
    ),
    "inductor": Device(  # its one control is its own current
        _linear(lambda p: 1.0, lambda p: 0.0), (Parameter("inductance", "H", 0.0),), "L", "inductance",
        controls=1, voltage_defined=True, storage=_linear(lambda p: 0.0, lambda p: -p["inductance"]),
    ),
    "voltage_source": Device(
        _voltage_source, (Parameter("voltage", "V"),), "V", "voltage",
        voltage_defined=True, source_parameters=("voltage",),
    ),
    "current_source": Device(
        _current_source, (Parameter("current", "A"),), "I", "current", source_parameters=("current",)
    ),
    "vccs": Device(
        _linear(lambda p: 0.0, lambda p: p["transconductance"]), (Parameter("transconductance", "S"),),
        "G", "transconductance", controls=1,
    ),
    "vcvs": Device(
        _linear(lambda p: 1.0, lambda p: -p["gain"]), (Parameter("gain", "V/V"),), "E", "gain",
        controls=1, voltage_defined=True,
    ),
    "cccs": Device(
        _linear(lambda p: 0.0, lambda p: p["gain"]), (Parameter("gain", "A/A"),), "F", "gain", controls=1
    ),
    "ccvs": Device(
        _linear(lambda p: 1.0, lambda p: -p["transresistance"]), (Parameter("transresistance", "ohm"),),
        "H", "transresistance", controls=1, voltage_defined=True,
    ),
    "diode": Device(
        semi.diode, _DIODE, "D", "is_", linear=False, conducts=True, storage=semi.diode_charge,
        noise=semi.diode_noise, limit=semi.limit_diode,
    ),
    "bulk_diode": Device(
        semi.bulk_diode, _JUNCTION, "D", "is_", linear=False, conducts=True, storage=semi.bulk_charge,
        noise=semi.bulk_noise, limit=semi.limit_bulk,
    ),
    "mosfet": Device(
        semi.mosfet, _MOSFET, "M", "kp", controls=2, linear=False, analytic=False, conducts=True,
        noise=semi.mosfet_noise, limit=semi.limit_mosfet, conducting=_channel_conducting,
    ),
    "ekv": Device(
        semi.ekv, (*_MOSFET, _TEMPERATURE), "X", "kp", controls=2, linear=False,
        conducts=True, noise=semi.ekv_noise, conducting=_channel_conducting,
    ),
    "switch": Device(
        _switch,
        (
            Parameter("vt", "V"),
            Parameter("ron", "ohm", 0.0, inclusive=False),
            Parameter("roff", "ohm", 0.0, inclusive=False),
        ),
        "S", "ron", controls=1, linear=False, analytic=False, conducts=True, noise=_switch_noise,
        conducting=_switch_conducting,
    ),
    "behavioural_current": _behavioural(_behavioural_current, voltage_defined=False),
    "behavioural_voltage": _behavioural(_behavioural_voltage, voltage_defined=True),
    "logistic": _amplifier("logistic", _UNUSED_KNEE),
    "tanh": _amplifier("tanh", _UNUSED_KNEE),
    "softplus": _amplifier("softplus", Parameter("knee", "V", 0.0, inclusive=False)),
}  # fmt: skip

AMPLIFIER_LAWS = ("logistic", "tanh", "softplus")
