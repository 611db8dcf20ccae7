"""What sits at a crossbar's crossings: laws of a conductance and a voltage, and as devices of a netlist."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.special import expit, wrightomega

from .expressions import Expression, parse_expression
from .netlist import Netlist
from .semiconductors import thermal_voltage
from .wire_kernels import Array


class Cell(Protocol):
    """What sits at each crossing: a law of the device's conductance g [S] and the voltage v [V] across it."""

    def __call__(self, g: Array, v: Array) -> tuple[Array, Array]:
        """Current [A] from row to column and its slope ∂i/∂v [S], never negative; any shape."""

    def join(self, net: Netlist, name: str, row: str, column: str, g: float) -> None:
        """Add one such cell of g [S] to a netlist, a device ``name`` after its kind's SPICE letter."""


@dataclass(frozen=True)
class Linear:
    """``i = g v``."""

    def __call__(self, g: Array, v: Array) -> tuple[Array, Array]:
        return g * v, g

    def join(self, net: Netlist, name: str, row: str, column: str, g: float) -> None:
        net.resistor(f"R{name}", row, column, conductance=g)


@dataclass(frozen=True)
class Sinh:
    """``i = g v0 sinh(v / v0)``: small-signal conductance g, nonlinearity voltage v0 [V]."""

    v0: float

    def __post_init__(self) -> None:
        _positive("Sinh: v0", self.v0, "V")

    def __call__(self, g: Array, v: Array) -> tuple[Array, Array]:
        x = v / self.v0
        return g * self.v0 * np.sinh(x), g * np.cosh(x)

    @cached_property
    def _formula(self) -> Expression:
        return parse_expression("v0*sinh(v(row,column)/v0)", {"v0": self.v0}.__getitem__)

    def join(self, net: Netlist, name: str, row: str, column: str, g: float) -> None:
        _behave(net, name, row, column, self._formula, g)


@dataclass(frozen=True)
class Diode:
    """Device g in series with a diode, ``i = Is (exp(vd / (m Vt)) - 1) = g (v - vd)``.

    The diode conducts from row to column; ``reverse=True`` turns it round. ``saturation_current`` Is [A],
    ``emission`` m and ``thermal_voltage`` Vt [V] (at 27 °C). Solved in closed form by Wright's omega: with
    x = i + Is and a = m Vt, ``x / (a g) + ln(x / (a g)) = (v + Is / g) / a + ln(Is / (a g))``.
    """

    saturation_current: float = 1e-14
    emission: float = 1.0
    thermal_voltage: float = 0.02586492
    reverse: bool = False

    def __post_init__(self) -> None:
        _positive("Diode: saturation_current", self.saturation_current, "A")
        _positive("Diode: emission", self.emission, "")
        _positive("Diode: thermal_voltage", self.thermal_voltage, "V")

    def __call__(self, g: Array, v: Array) -> tuple[Array, Array]:
        leak, a = self.saturation_current, self.emission * self.thermal_voltage
        sign = -1.0 if self.reverse else 1.0
        conducts = g > 0.0
        scale = a * np.where(conducts, g, 1.0)
        omega = wrightomega((sign * v + leak * a / scale) / a + np.log(leak / scale))
        current, slope = scale * omega - leak, scale / a * omega / (1.0 + omega)
        return np.where(conducts, sign * current, 0.0), np.where(conducts, slope, 0.0)

    def join(self, net: Netlist, name: str, row: str, column: str, g: float) -> None:
        if g == 0.0:
            return
        anode, cathode = (column, row) if self.reverse else (row, column)
        here = net.temperature
        net.diode(
            f"D{name}", anode, cathode, is_=self.saturation_current, rs=1.0 / g, gmin=0.0, tnom=here,
            n=self.emission * self.thermal_voltage / float(thermal_voltage(here)),
        )  # fmt: skip


@dataclass(frozen=True)
class Selector:
    """Device g in series with a volatile threshold selector, alike in both directions.

    Above ``threshold`` Vth [V] the selector is on and takes Vth of the voltage; below, a fraction ``leak`` of
    the device's conductance is left; ``knee`` Vk [V] is the width of the change:
    ``i = g (leak v + Vk softplus((v - Vth) / Vk) - Vk softplus((-v - Vth) / Vk))``.
    """

    threshold: float
    knee: float = 0.02
    leak: float = 1e-4

    def __post_init__(self) -> None:
        _positive("Selector: threshold", self.threshold, "V")
        _positive("Selector: knee", self.knee, "V")
        _positive("Selector: leak", self.leak, "")

    def __call__(self, g: Array, v: Array) -> tuple[Array, Array]:
        up, down = (v - self.threshold) / self.knee, (-v - self.threshold) / self.knee
        passed = self.knee * (np.logaddexp(0.0, up) - np.logaddexp(0.0, down))
        return g * (self.leak * v + passed), g * (self.leak + expit(up) + expit(down))

    @cached_property
    def _formula(self) -> Expression:
        """With ``softplus(x) = (x + |x|)/2 + ln(1 + exp(-|x|))``, which neither overflows nor kinks."""
        above, below = (
            f"((({side}v(row,column)-vth)+abs({side}v(row,column)-vth))/2"
            f"+vk*ln(1+exp(-abs({side}v(row,column)-vth)/vk)))"
            for side in ("", "-")
        )
        values = {"vth": self.threshold, "vk": self.knee, "leak": self.leak}
        return parse_expression(f"leak*v(row,column)+{above}-{below}", values.__getitem__)

    def join(self, net: Netlist, name: str, row: str, column: str, g: float) -> None:
        _behave(net, name, row, column, self._formula, g)


def _behave(net: Netlist, name: str, row: str, column: str, formula: Expression, g: float) -> None:
    """``i = g formula(v_row - v_column)``; all cells share the formula, and so a bank."""
    net.behavioural(f"B{name}", row, column, formula, voltage=False, controls=[(row, column)], scale=g)


def _positive(name: str, value: float, unit: str) -> None:
    if not (value > 0.0 and np.isfinite(value)):
        raise ValueError(f"{name} is {value:g} {unit}; give a finite value above 0")
