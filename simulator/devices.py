"""Device laws: one table row per kind of element, each law vectorised over a whole bank.

A law takes a bank's parameters (arrays (k,)), the voltages across the devices ``v`` (k,) [V] and their
controlling voltages ``v_ctrl`` (k,) [V], and returns a value and its two slopes,

    ``(params, v, v_ctrl) -> (f, ∂f/∂v, ∂f/∂v_ctrl)``,

where ``f`` is the current [A] that flows from the first terminal through the device into the second.
*Voltage-defined* devices have no such function: their current is an unknown of its own, and ``f`` [V] is
the constraint that must vanish, for example ``v - E`` for a source of E volts.

A new kind is one more row of ``DEVICES`` (and one card in ``spice.py``); the solver does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import neurons

Array = NDArray[np.float64]
Law = Callable[[Mapping[str, Array], Array, Array], tuple[Array, Array, Array]]


@dataclass(frozen=True)
class Parameter:
    """A device parameter [unit] and its lower bound: a number, or the name of another parameter."""

    name: str
    unit: str
    bound: float | str = -math.inf
    inclusive: bool = True

    def allowed(self, bound: float) -> str:
        """The allowed range, in words."""
        if bound == -math.inf:
            return "a finite value"
        which = f"{self.bound} = " if isinstance(self.bound, str) else ""
        above = "at least" if self.inclusive else "above"
        return f"a finite value {above} {which}{bound:g} {self.unit}"

    def accepts(self, value: float, bound: float) -> bool:
        """Whether ``value`` is finite and within ``bound``."""
        return math.isfinite(value) and (value >= bound if self.inclusive else value > bound)


@dataclass(frozen=True)
class Device:
    """One kind of element: its law, its parameters, and what the solver must know about it."""

    law: Law
    parameters: tuple[Parameter, ...]
    spice_letter: str
    controlled: bool = False
    voltage_defined: bool = False
    linear: bool = True
    source_parameters: tuple[str, ...] = ()  # scaled together, they scale the device's independent output


def _resistor(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return p["conductance"] * v, p["conductance"], np.zeros_like(v)


def _open(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return np.zeros_like(v), np.zeros_like(v), np.zeros_like(v)


def _voltage_source(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return v - p["voltage"], np.ones_like(v), np.zeros_like(v)


def _current_source(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return p["current"], np.zeros_like(v), np.zeros_like(v)


def _vccs(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return p["transconductance"] * v_ctrl, np.zeros_like(v), p["transconductance"]


def _vcvs(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
    return v - p["gain"] * v_ctrl, np.ones_like(v), -p["gain"]


def _amplifier(name: str, knee: Parameter) -> Device:
    """``v = f(v_ctrl)`` with one of the transfer curves of :mod:`neurons`."""

    def law(p: Mapping[str, Array], v: Array, v_ctrl: Array) -> tuple[Array, Array, Array]:
        s, slope = neurons.evaluate(name, v_ctrl, p["low"], p["high"], p["gain"], p["offset"], p["knee"])
        return v - s, np.ones_like(v), -slope

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
        controlled=True,
        voltage_defined=True,
        linear=False,
        source_parameters=("low", "high", "gain"),  # every curve is homogeneous in these three
    )


_UNUSED_KNEE = Parameter("knee", "V", 0.0)

DEVICES: dict[str, Device] = {
    "resistor": Device(_resistor, (Parameter("conductance", "S", 0.0),), "R"),
    "capacitor": Device(_open, (Parameter("capacitance", "F", 0.0),), "C"),
    "voltage_source": Device(
        _voltage_source, (Parameter("voltage", "V"),), "V",
        voltage_defined=True, source_parameters=("voltage",),
    ),
    "current_source": Device(
        _current_source, (Parameter("current", "A"),), "I", source_parameters=("current",)
    ),
    "vccs": Device(_vccs, (Parameter("transconductance", "S"),), "G", controlled=True),
    "vcvs": Device(_vcvs, (Parameter("gain", "V/V"),), "E", controlled=True, voltage_defined=True),
    "logistic": _amplifier("logistic", _UNUSED_KNEE),
    "tanh": _amplifier("tanh", _UNUSED_KNEE),
    "softplus": _amplifier("softplus", Parameter("knee", "V", 0.0, inclusive=False)),
}  # fmt: skip

AMPLIFIER_LAWS = ("logistic", "tanh", "softplus")
