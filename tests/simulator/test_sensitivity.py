"""Sensitivities against differences of operating points, for every parameter of every kind of device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ohmostat.simulator.devices import DEVICES
from ohmostat.simulator.expressions import parse_expression
from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.sensitivity import sensitivity
from ohmostat.simulator.small_signal import LinearCircuit, Output, Probe


def linear() -> Netlist:
    net = Netlist("linear elements and all sources")
    net.voltage_source("V1", "in", "0", 1.5)
    net.resistor("R1", "in", "a", conductance=1e-3)
    net.resistor("R2", "a", "0", conductance=2e-3)
    net.capacitor("C1", "a", "0", 1e-9)
    net.inductor("L1", "a", "b", 1e-6)
    net.resistor("R3", "b", "0", conductance=5e-4)
    net.current_source("I1", "b", "0", 2e-4)
    net.vccs("G1", "c", "0", "a", "b", 3e-4)
    net.resistor("R4", "c", "b", conductance=1e-3)
    net.vcvs("E1", "d", "0", "a", "c", 2.0)
    net.resistor("R5", "d", "c", conductance=1e-3)
    net.cccs("F1", "c", "0", Current("V1"), 0.3)
    net.ccvs("H1", "e", "0", Current("V1"), 200.0)
    net.resistor("R6", "e", "a", conductance=1e-3)
    return net


def junctions() -> Netlist:
    net = Netlist("diodes: forward, reverse, broken down")
    net.voltage_source("V1", "in", "0", 5.0)
    net.resistor("R1", "in", "a", conductance=1e-3)
    net.diode("D1", "a", "b", is_=1e-12, n=1.3, rs=20.0, cjo=1e-12, tt=1e-9)
    net.diode("D2", "b", "0", is_=1e-14, gmin=1e-6)
    net.diode("D3", "0", "a", is_=1e-9, gmin=1e-9)
    net.resistor("R2", "in", "z", conductance=1e-3)
    net.diode("D4", "0", "z", bv=3.0, ibv=1e-3, nbv=1.5)
    net.resistor("R3", "z", "b", conductance=1e-4)
    return net


def transistors(polarity: int, *, swapped: bool) -> Netlist:
    """Two MOSFETs and two EKV transistors, one of each in saturation and one not, with body effect."""
    net = Netlist(f"transistors {polarity} {swapped}")
    net.voltage_source("Vdd", "vdd", "0", 3.0 * polarity)
    net.voltage_source("Vg", "g", "0", 1.7 * polarity)
    net.resistor("Rs", "s", "0", conductance=1e-3)
    size: dict[str, Any] = {
        "gamma": 0.5,
        "phi": 0.7,
        "w": 1e-5,
        "l": 2e-6,
        "lambda_": 0.03,
        "polarity": polarity,
    }
    for k, load in enumerate((1e-3, 3e-6)):
        net.resistor(f"R{k}", "vdd", f"d{k}", conductance=load)
        net.resistor(f"Re{k}", "vdd", f"e{k}", conductance=load)
        ends = ("s", f"d{k}") if swapped else (f"d{k}", "s")
        net.mosfet(
            f"M{k}", ends[0], "g", ends[1], "0", vto=0.6 * polarity, kp=5e-5, is_=1e-12, gmin=1e-9, **size
        )
        net.ekv(f"X{k}", f"e{k}", "g", "s", "0", vto=0.6 * polarity, kp=5e-5, **size)
    return net


def functions() -> Netlist:
    net = Netlist("amplifiers, behavioural sources, switches")
    net.voltage_source("V1", "in", "0", 0.3)
    curve = {"low": -0.5, "high": 1.2, "gain": 1.7, "offset": 0.1, "knee": 0.2}
    for k, law in enumerate(("logistic", "tanh", "softplus")):
        net.amplifier(f"A{k}", f"s{k}", "in", law=law, **curve)
        net.resistor(f"R{k}", f"s{k}", "sum", conductance=1e-4 * (k + 1))
    net.resistor("Rl", "sum", "0", conductance=1e-4)
    for name, text in (("smooth", "tanh(v(in)) + 0.3*v(sum)"), ("kinked", "abs(v(in) - 1) * v(sum)")):
        formula = parse_expression(text, lambda name: 0.0)
        net.behavioural(f"Bv {name}", f"b {name}", "0", formula, voltage=True, scale=1.1)
        net.resistor(f"Rb {name}", f"b {name}", "sum", conductance=2e-5)
        net.behavioural(f"Bi {name}", "sum", "0", formula, voltage=False, scale=1e-5)
    net.switch("S1", "sum", "0", "in", "0", vt=0.1, ron=3e4, roff=1e6)
    net.switch("S2", "sum", "in", "in", "0", vt=0.5, ron=3e4, roff=1e5)
    return net


NETS: dict[Callable[[], Netlist], Probe] = {
    linear: "a",
    junctions: "b",
    functions: "sum",
    lambda: transistors(1, swapped=False): ("vdd", "s"),
    lambda: transistors(-1, swapped=False): ("vdd", "s"),
    lambda: transistors(1, swapped=True): ("vdd", "s"),
}


@pytest.mark.parametrize("make", list(NETS))
def test_every_parameter_against_differences(make: Callable[[], Netlist]) -> None:
    net = make()
    source = next(name for name in net.branches if net.kind(name) == "voltage_source")
    output: Output = {NETS[make]: 1.0, Current(source): 700.0}  # a voltage and a current at once
    linear = LinearCircuit(net)
    row, found = linear.probe(output), sensitivity(linear, output)
    assert found.output == pytest.approx(row @ linear.point.x)
    largest = max(abs(change) for change in found.relative().values())
    for key, slope in found.slopes.items():
        value = found.values[key]
        if value == 0.0 or not np.isfinite(value):  # at its bound
            continue
        h = 1e-5 * abs(value)
        above, below = (
            operating_point(net, at={key: value + step}, start=linear.point).x for step in (h, -h)
        )
        expected = row @ (above - below) / (2 * h)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-8 * largest / abs(value)), key


def test_every_kind_is_tested() -> None:
    tested = {bank.kind for make in NETS for bank in make().banks}
    assert tested == set(DEVICES)


def test_all_parameters_are_there() -> None:
    found = sensitivity(linear(), "a")
    for bank in linear().banks:
        for parameter in bank.device.parameters:
            for name in bank.names:
                assert ((name, parameter.name) in found.slopes) == (not parameter.fixed)
    assert found["R1"] == found["R1", "conductance"]
    assert found["C1"] == 0.0 and found["L1"] == 0.0  # what only stores does not act at rest


def test_divider() -> None:
    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 2.0)
    net.resistor("R1", "in", "out", conductance=1e-3)
    net.resistor("R2", "out", "0", conductance=3e-3)
    found = sensitivity(net, "out")
    assert found["V1"] == pytest.approx(0.25)
    assert found["R1"] == pytest.approx(2.0 * 3e-3 / 4e-3**2)
    assert found["R2"] == pytest.approx(-2.0 * 1e-3 / 4e-3**2)
    assert found.relative() == pytest.approx(
        {("V1", "voltage"): 0.5, ("R1", "conductance"): 0.375, ("R2", "conductance"): -0.375}
    )
    assert next(iter(found.relative())) == ("V1", "voltage")


def test_what_cannot_be_asked() -> None:
    found = sensitivity(linear(), "a")
    with pytest.raises(NetlistError, match="no parameter 'vto' of a device 'R1'"):
        found["R1", "vto"]
    with pytest.raises(NetlistError, match="of a device 'X'"):
        found["X"]


def test_temperatures_have_no_slope() -> None:
    """A diode's other parameters were carried to it: at 1 mA it falls by 1.8 mV/K, while Vt alone rises."""

    def diode(kelvin: float) -> Netlist:
        net = Netlist("diode", temperature=kelvin)
        net.current_source("I1", "0", "a", 1e-3)
        net.diode("D1", "a", "0")
        net.ekv("X1", "a", "0", "0", "0")
        return net

    above, below = (operating_point(diode(300.15 + step))["a"] for step in (0.5, -0.5))
    assert -2e-3 < above - below < -1.5e-3
    found = sensitivity(diode(300.15), "a")
    assert not [key for key in found.slopes if key[1] in ("temperature", "polarity")]
    with pytest.raises(NetlistError, match="no parameter 'temperature' of a device 'D1' has a sensitivity"):
        found["D1", "temperature"]


def test_a_certificate_of_the_point_and_of_the_solve() -> None:
    found = sensitivity(junctions(), "b")
    assert found.residual == operating_point(junctions()).residual
    assert found.backward_error < 1e-14
