"""Junctions and MOSFETs away from the temperature at which their model was measured.

Silicon's band gap and intrinsic density move saturation currents, junction potentials and capacitances,
thresholds and mobility. The formulas, their constants and their reference temperature are those of ngspice
(``diotemp.c``, ``mos1temp.c``), after Nagel, *SPICE2*, UCB/ERL M520 (1975), appendix 1.
"""

from __future__ import annotations

import math

from .semiconductors import BOLTZMANN, ELEMENTARY_CHARGE, thermal_voltage

TEMPERATURE = "temp"  # what a sweep calls that of the whole circuit
REFERENCE = 300.15  # [K]
REFERENCE_GAP = 1.1150877  # [eV], of silicon there


def gap(temperature: float) -> float:
    """Band gap of silicon [eV] at ``temperature`` [K]."""
    return 1.16 - 7.02e-4 * temperature**2 / (temperature + 1108.0)


def _shift(temperature: float) -> float:
    """What the intrinsic density takes off a junction potential [V], beside its share of T."""
    difference = REFERENCE_GAP / REFERENCE - gap(temperature) / temperature
    exponent = ELEMENTARY_CHARGE / (2.0 * BOLTZMANN) * difference
    return -2.0 * float(thermal_voltage(temperature)) * (1.5 * math.log(temperature / REFERENCE) + exponent)


def potential(value: float, temperature: float, nominal: float) -> float:
    """A junction potential or surface potential [V] given at ``nominal`` [K]."""
    if temperature == nominal:
        return value
    reference = (value - _shift(nominal)) * REFERENCE / nominal
    return temperature / REFERENCE * reference + _shift(temperature)


def capacitance(c: float, vj: float, m: float, temperature: float, nominal: float) -> float:
    """A junction's zero-bias capacitance [F], of potential ``vj`` at ``nominal`` and grading ``m``."""
    if temperature == nominal:
        return c
    reference = (vj - _shift(nominal)) * REFERENCE / nominal

    def factor(t: float, v: float) -> float:
        return 1.0 + m * (4e-4 * (t - REFERENCE) - (v - reference) / reference)

    return c * factor(temperature, potential(vj, temperature, nominal)) / factor(nominal, vj)


def diode_saturation(
    is_: float, n: float, eg: float, xti: float, temperature: float, nominal: float
) -> float:
    """A diode's saturation current [A], with its own gap ``eg`` [eV] and exponent ``xti``."""
    ratio = temperature / nominal
    exponent = (ratio - 1.0) * eg / (n * float(thermal_voltage(temperature))) + xti / n * math.log(ratio)
    return is_ * math.exp(exponent)


def bulk_saturation(is_: float, temperature: float, nominal: float) -> float:
    """A MOSFET's bulk saturation current [A]."""
    now, then = (gap(t) / float(thermal_voltage(t)) for t in (temperature, nominal))
    return is_ * math.exp(then - now)


def transconductance(kp: float, temperature: float, nominal: float) -> float:
    """Of a MOSFET [A/V²]: mobility falls as T^-3/2."""
    return kp * math.pow(nominal / temperature, 1.5)


def threshold(
    vto: float, gamma: float, phi: float, polarity: int, temperature: float, nominal: float
) -> float:
    """Of a MOSFET [V], its surface potential ``phi`` being that at ``nominal``."""
    now = potential(phi, temperature, nominal)
    built_in = vto - polarity * gamma * math.sqrt(phi) + 0.5 * (gap(nominal) - gap(temperature))
    return built_in + polarity * (0.5 * (now - phi) + gamma * math.sqrt(now))
