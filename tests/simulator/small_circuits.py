"""Small circuits that several tests solve."""

from __future__ import annotations

import numpy as np

from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.waveforms import Sine, Waveform


def conductances(seed: int, n: int = 8) -> Netlist:
    """A random connected network of conductances over four decades."""
    rng = np.random.default_rng(seed)
    net = Netlist(f"conductances {seed}")
    for k in range(n):
        to = "0" if k == 0 else f"n{rng.integers(k)}"
        net.resistor(f"tree{k}", f"n{k}", to, conductance=10 ** rng.uniform(-8, -4))
    for k in range(2 * n):
        a, b = rng.integers(n, size=2)
        net.resistor(f"extra{k}", f"n{a}", f"n{b}", conductance=10 ** rng.uniform(-8, -4))
    return net


def everything(seed: int) -> Netlist:
    """Every kind of element, with amplifiers in feedback loops."""
    rng = np.random.default_rng(seed)
    net = conductances(seed)
    net.voltage_source("V1", "in", "0", rng.normal())
    net.resistor("Rin", "in", "n1", conductance=1e-5)
    net.voltage_source("V2", "n2", "up", rng.normal())
    net.resistor("Rup", "up", "n5", conductance=1e-6)
    net.current_source("I1", "n3", "n4", 1e-6 * rng.normal())
    net.capacitor("C1", "n1", "n6", 1e-12)
    net.vccs("G1", "n2", "n5", "n1", "n3", 1e-7 * rng.normal())
    net.vcvs("E1", "e", "n0", "n4", "n7", rng.normal())
    net.resistor("Re", "e", "n6", conductance=1e-6)
    for k, law in enumerate(("logistic", "tanh", "softplus")):
        net.amplifier(
            f"B{k}", f"s{k}", f"n{k + 2}", law=law, low=-0.3, high=0.9, gain=1.5, offset=0.1, knee=0.04
        )
        net.resistor(f"Rf{k}", f"s{k}", f"n{(k + 4) % 8}", conductance=10 ** rng.uniform(-7, -5))
    return net


def hopfield(seed: int, n: int = 5, gain: float = 80.0, coupling: float = 1e-6) -> Netlist:
    """Amplifiers of high gain coupled at random in both directions: hard, and often multistable."""
    rng = np.random.default_rng(seed)
    net = Netlist(f"hopfield {seed}")
    v, s = [f"v{k}" for k in range(n)], [f"s{k}" for k in range(n)]
    net.bank("resistor", [f"R{k}" for k in range(n)], v, "0", conductance=1e-6)
    net.bank("current_source", [f"I{k}" for k in range(n)], "0", v, current=1e-6 * rng.normal(size=n))
    curve = {"low": -1.0, "high": 1.0, "gain": gain, "offset": 0.2, "knee": 0.0}
    net.bank("tanh", [f"B{k}" for k in range(n)], s, "0", (v, "0"), **curve)
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    net.bank(
        "vccs", [f"G{a}_{b}" for a, b in zip(i, j, strict=True)], "0", [v[k] for k in i],
        ([s[k] for k in j], "0"), transconductance=coupling * rng.normal(size=i.size),
    )  # fmt: skip
    return net


def latch() -> Netlist:
    """Two inverters (logistic, then -1) in a ring: two stable states and one that is not."""
    net = Netlist("latch")
    for k, other in ((1, 2), (2, 1)):
        net.amplifier(f"B{k}", f"q{k}", f"v{k}", law="logistic", low=0.0, high=1.0, gain=5.0, offset=-0.5)
        net.vcvs(f"E{k}", f"n{k}", "0", f"q{k}", "0", -1.0)
        net.resistor(f"R{k}", f"n{k}", f"v{other}", conductance=1e-5)
        net.resistor(f"L{k}", f"v{k}", "0", conductance=1e-9)
    return net


def rc(waveform: Waveform, *, resistance: float = 1e3, capacitance: float = 1e-9) -> Netlist:
    net = Netlist("rc")
    net.voltage_source("V1", "in", "0", waveform=waveform)
    net.resistor("R1", "in", "out", conductance=1 / resistance)
    net.capacitor("C1", "out", "0", capacitance)
    return net


def rlc(resistance: float = 10.0) -> Netlist:
    """A parallel resonator, 1 nF and 1 µH, or without resistance an ideal one."""
    net = Netlist("rlc")
    net.capacitor("C1", "v", "0", 1e-9)
    net.inductor("L1", "v", "0", 1e-6)
    if resistance:
        net.resistor("R1", "v", "0", conductance=1 / resistance)
    return net


def rectifier() -> Netlist:
    net = Netlist("rectifier")
    net.voltage_source("V1", "in", "0", waveform=Sine(0.0, 2.0, 1e6))
    net.diode("D1", "in", "out", is_=1e-12, rs=10.0, cjo=1e-12, tt=1e-9)
    net.resistor("R1", "out", "0", conductance=1e-3)
    net.capacitor("C1", "out", "0", 1e-10)
    return net


def netlist_of(cards: str) -> Netlist:
    return parse_spice(f"circuit\n{cards}.end\n").netlist()
