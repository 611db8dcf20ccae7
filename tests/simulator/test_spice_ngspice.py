"""SPICE text, and agreement with ngspice."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.simulator.expressions import parse_expression
from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice import SpiceError, ngspice_available, run_ngspice, write_spice
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.waveforms import Pulse, Sine

MICROVOLT = 1e-6
LAWS = ("logistic", "tanh", "softplus")


@pytest.fixture
def ngspice() -> None:
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")


def circuit(seed: int) -> Netlist:
    """Random topology over all elements, up to four amplifiers feeding back anywhere."""
    rng = np.random.default_rng(seed)
    n, amplifiers = int(rng.integers(3, 20)), int(rng.integers(1, 5))
    net = Netlist(f"circuit {seed}")

    def node(but: str = "") -> str:
        return next(name for name in (f"n{k}" for k in rng.permutation(n)) if name != but)

    for k in range(n):
        net.resistor(
            f"R{k}", f"n{k}", f"n{rng.integers(k)}" if k else "0", conductance=10 ** rng.uniform(-7, -4)
        )
        net.resistor(f"Rx{k}", f"n{k}", node(but=f"n{k}"), conductance=10 ** rng.uniform(-9, -4))
        net.resistor(f"Rg{k}", f"n{k}", "0", conductance=10 ** rng.uniform(-7, -5))
    net.resistor("Ropen", "n0", "n1", conductance=0.0)
    net.voltage_source("V1", "in", "0", rng.normal())
    net.resistor("Rin", "in", node(), conductance=1e-5)
    net.voltage_source("V2", "up", node(), rng.normal())
    net.resistor("Rup", "up", "0", conductance=1e-6)
    net.current_source("I1", node(), "0", 1e-6 * rng.normal())
    net.capacitor("C1", node(), "0", 1e-12)
    net.vccs("G1", node(), node(), node(), node(), 1e-8 * rng.normal())
    net.vcvs("E1", "e", node(), node(), "0", rng.normal())
    net.resistor("Re", "e", "0", conductance=1e-6)
    for k in range(amplifiers):
        low = rng.uniform(-1, 0)
        net.amplifier(
            f"B{k}", f"s{k}", node(), law=LAWS[int(rng.integers(3))], low=low, high=low + rng.uniform(0.1, 2),
            gain=10 ** rng.uniform(-1, 1.5), offset=0.3 * rng.normal(), knee=10 ** rng.uniform(-3, -0.5),
        )  # fmt: skip
        net.vcvs(f"Ei{k}", f"i{k}", "0", f"s{k}", "0", rng.normal())
        net.resistor(f"Rf{k}", f"i{k}", node(), conductance=10 ** rng.uniform(-6, -4))
    return net


def largest_difference(a: dict[str, float], b: dict[str, float]) -> float:
    assert set(a) == set(b)
    return max(abs(a[node] - b[node]) for node in a)


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("seed", range(40))
def test_operating_points_agree(seed: int) -> None:
    net = circuit(seed)
    point = operating_point(net)
    assert point.residual < 1e-15
    # started from the amplifiers' inputs alone, since several operating points are possible
    inputs = {net.nodes[k - 1] for bank in net.banks if bank.kind in LAWS for k in bank.terminals[1, 0]}
    spice = run_ngspice(write_spice(net, initial={node: point[node] for node in inputs}))
    assert largest_difference(spice, point.voltages_by_node()) < 1e-3 * MICROVOLT


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("set_first", [True, False])
def test_both_states_of_a_latch_agree(law: str, set_first: bool) -> None:
    net = Netlist("Schmitt pair")
    for k, other in ((1, 2), (2, 1)):
        net.amplifier(f"B{k}", f"q{k}", f"v{k}", law=law, low=0.0, high=1.0, gain=6.0, offset=0.4, knee=0.03)
        net.resistor(f"R{k}", f"q{k}", f"v{other}", conductance=1e-5)
        net.resistor(f"L{k}", f"v{k}", "0", conductance=1e-6)
    initial = {"v1": 0.9, "v2": 0.9} if set_first else {"v1": 0.0, "v2": 0.0}
    point = operating_point(net, initial=initial)
    assert (point["q1"] > 0.9) is set_first
    spice = run_ngspice(write_spice(net, initial=initial))
    assert largest_difference(spice, point.voltages_by_node()) < 1e-3 * MICROVOLT


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("volts", [-1e6, -3.0, 0.123456789012345678, 7.0, 1e6])
def test_amplifiers_saturate_without_overflow(law: str, volts: float) -> None:
    net = Netlist(law)
    net.voltage_source("V1", "in", "0", volts)
    net.amplifier(
        "B1", "out", "in", law=law, low=-0.12345678901234567, high=1.0 / 3.0, gain=123.45678901234567,
        offset=0.12345678, knee=0.0012345678901234567,
    )  # fmt: skip
    expected = operating_point(net)["out"]
    assert -0.1234568 < expected < 0.3333334
    assert run_ngspice(write_spice(net))["out"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("ngspice")
def test_constants_of_amplifiers_keep_all_their_digits() -> None:
    net = Netlist("digits")
    low = 0.123456789012345678
    net.voltage_source("V1", "in", "0", -100.0)
    net.amplifier("B1", "out", "in", law="tanh", low=low, high=1.1, gain=1.0, offset=0.0)
    assert run_ngspice(write_spice(net))["out"] == pytest.approx(low, abs=1e-15)


def transistors(seed: int) -> Netlist:
    """Random semiconductors among resistors to ground that keep every loop gain below 1."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 10))
    net = Netlist(f"transistors {seed}")

    def node(*but: str) -> str:
        return next(name for name in (f"n{k}" for k in rng.permutation(n)) if name not in but)

    for k in range(n):
        net.resistor(f"Rg{k}", f"n{k}", "0", conductance=10 ** rng.uniform(-4, -3))
        net.resistor(f"R{k}", f"n{k}", node(f"n{k}"), conductance=10 ** rng.uniform(-5, -4))
    net.voltage_source("vdd", "vdd", "0", rng.uniform(2, 5))
    net.voltage_source("vss", "vss", "0", -rng.uniform(2, 5))
    for k in range(3):
        net.resistor(f"Rp{k}", "vdd", node(), conductance=10 ** rng.uniform(-4, -3))
        net.resistor(f"Rn{k}", "vss", node(), conductance=10 ** rng.uniform(-4, -3))
    for k in range(int(rng.integers(1, 4))):
        a = node()
        bv, rs = float(rng.choice([np.inf, 1.5])), float(rng.choice([0.0, 20.0]))
        net.diode(
            f"D{k}", a, node(a), is_=10 ** rng.uniform(-16, -8), n=rng.uniform(1, 2), rs=rs, bv=bv, cjo=1e-12
        )
    for k in range(int(rng.integers(1, 4))):
        d, sign = node(), int(rng.choice([-1, 1]))
        net.mosfet(
            f"M{k}", d, node(), node(d), "vss" if sign > 0 else "vdd", polarity=sign, vto=rng.uniform(-1, 1),
            kp=10 ** rng.uniform(-5, -4.3), gamma=rng.uniform(0, 1), phi=rng.uniform(0.5, 0.8),
            lambda_=rng.uniform(0, 0.1), w=10e-6, l=rng.uniform(1e-6, 1e-5),
            rd=float(rng.choice([0.0, 50.0])), cbd=1e-14, cgs=1e-15,
        )  # fmt: skip
    for k in range(int(rng.integers(1, 3))):
        d, sign = node(), int(rng.choice([-1, 1]))
        net.ekv(
            f"X{k}", d, node(), node(d), "vss" if sign > 0 else "vdd", polarity=sign,
            vto=sign * rng.uniform(0.2, 1), kp=10 ** rng.uniform(-5, -4.3), gamma=rng.uniform(0, 1),
            lambda_=rng.uniform(0, 0.1), w=10e-6, l=1e-5,
        )  # fmt: skip
    a = node()
    net.inductor("L1", a, "x", 1e-3)
    net.resistor("RL", "x", node(a), conductance=1e-4)
    a = node()
    net.cccs("F1", a, node(a), Current("vdd"), 0.01 * rng.normal())
    net.ccvs("H1", "h", "0", Current("vss"), 20 * rng.normal())
    net.resistor("RH", "h", node(), conductance=1e-4)
    net.switch("S1", node(), "0", "vdd", node(), vt=rng.uniform(1, 3), ron=5e3, roff=1e8)
    formula = f"1e-5*tanh(v({node()})-v({node()},{node()}))+0.01*i(vdd)"
    net.behavioural("B1", node(), "0", parse_expression(formula), voltage=False, scale=rng.uniform(0.1, 1))
    net.behavioural("B2", "b", "0", parse_expression(f"sin(v({node()}))^2"), voltage=True)
    net.resistor("RB", "b", node(), conductance=1e-5)
    return net


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("seed", range(40))
def test_semiconductors_agree(seed: int) -> None:
    net = transistors(seed)
    point = operating_point(net)
    spice = run_ngspice(write_spice(net))
    for node in net.nodes:
        assert spice[node] == pytest.approx(point[node], abs=1e-9, rel=1e-9), node


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("volts", [-7.0, -5.0, -1.0, -0.05, 0.0, 0.3, 0.6, 0.75])
@pytest.mark.parametrize("celsius", [27.0, 125.0, -40.0])
def test_diodes_agree_in_every_region_at_any_temperature(volts: float, celsius: float) -> None:
    """Against a card with nominal values, so that ngspice's temperature laws are compared too."""
    net = Netlist(temperature=celsius + 273.15)
    net.voltage_source("V1", "a", "0", volts)
    net.resistor("R1", "a", "d", conductance=1e-2)
    net.diode("D1", "d", "0", is_=1e-13, n=1.3, rs=2.0, bv=4.0, ibv=1e-4, eg=1.2, xti=2.5, nbv=1.1)
    ours = operating_point(net)
    model = ".model m d is=1e-13 n=1.3 rs=2 bv=4 ibv=1e-4 eg=1.2 xti=2.5 nbv=1.1"
    options = f".options temp={celsius} gmin=1e-12 reltol=1e-9 abstol=1e-18 vntol=1e-12"
    card = run_ngspice(f"* d\nV1 a 0 {volts}\nR1 a d 100\nD1 d 0 m\n{model}\n{options}\n.op\n.end\n")
    written = run_ngspice(write_spice(net))
    for theirs in (card, written):
        assert theirs["d"] == pytest.approx(ours["d"], abs=1e-9)


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("polarity", [1, -1])
@pytest.mark.parametrize("celsius", [27.0, 85.0])
@pytest.mark.parametrize(
    ("gate", "drain", "bulk"),
    [
        (0.4, 1.0, 0.0),
        (1.2, 0.1, 0.0),
        (1.2, 2.0, -1.0),
        (1.5, -1.0, -2.0),
        (1.0, 1.0, 0.3),
        (1.0, 1.0, 0.55),
    ],
)
def test_mosfets_agree_in_every_region(
    polarity: int, celsius: float, gate: float, drain: float, bulk: float
) -> None:
    net = Netlist(temperature=celsius + 273.15)
    lines = ["* m"]
    for name, volts in (("g", gate), ("v", drain), ("b", bulk)):
        net.voltage_source(f"V{name}", name, "0", polarity * volts)
        lines.append(f"V{name} {name} 0 {polarity * volts}")
    net.resistor("R1", "v", "d", conductance=1e-4)
    shape = {"kp": 8e-5, "gamma": 0.4, "phi": 0.65}
    net.mosfet(
        "M1", "d", "g", "0", "b", polarity=polarity, vto=polarity * 0.6, lambda_=0.03, w=1e-5, l=2e-6,
        rd=50.0, rs=30.0, is_=1e-15, **shape,
    )  # fmt: skip
    model = f"vto={polarity * 0.6} lambda=0.03 rd=50 rs=30 is=1e-15 kp=8e-5 gamma=0.4 phi=0.65"
    lines += ["R1 v d 10k", "M1 d g 0 b m w=1e-5 l=2e-6"]
    lines.append(f".model m {'nmos' if polarity > 0 else 'pmos'} level=1 {model}")
    lines.append(f".options temp={celsius} gmin=1e-12 reltol=1e-9 abstol=1e-18 vntol=1e-12")
    ours = operating_point(net)
    for theirs in (run_ngspice("\n".join([*lines, ".op", ".end", ""])), run_ngspice(write_spice(net))):
        assert theirs["d"] == pytest.approx(ours["d"], abs=1e-9)


@pytest.mark.usefixtures("ngspice")
def test_sources_are_written_with_their_waveforms_and_amplitudes() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 0.25, waveform=Sine(0.5, 1.0, 1e3), ac=1.0 + 1.0j)
    net.current_source(
        "I1", "0", "b", waveform=Pulse(1e-3, 2e-3, rise=1e-6, fall=1e-6, width=1e-5, period=1e-4)
    )
    net.resistor("R1", "a", "b", conductance=1e-3)
    lines = write_spice(net).splitlines()
    assert "V1 a 0 DC 0.25 AC 1.4142135623730951 45 SIN(0.5 1 1000 0 0 0)" in lines
    assert "I1 0 b DC 0.001 PULSE(0.001 0.002 0 1e-06 1e-06 1e-05 0.0001)" in lines
    assert run_ngspice("\n".join(lines))["b"] == pytest.approx(operating_point(net)["b"], abs=1e-12)


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize("volts", [-9.0, -3.0, 0.5, 4.0])  # below -3 V the bounds are crossed
def test_a_limit_is_written_as_ngspice_computes_it(volts: float) -> None:
    net = parse_spice(f"limit\nV1 a 0 {volts}\nB1 o 0 v=limit(v(a)*2,-1,v(a)+2)\nR1 o 0 1k\n.end\n").netlist()
    text = write_spice(net)
    assert run_ngspice(text)["o"] == pytest.approx(operating_point(net)["o"], abs=1e-12)
    assert operating_point(parse_spice(text).netlist())["o"] == operating_point(net)["o"]


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda n: n.cccs("F1", "a", "0", Current("E1"), 1.0), "F1: SPICE lets no device sense"),
        (lambda n: n.diode("D2", "a", "0", gmin=1e-9), "D1: gmin is not the same for all devices"),
        (
            lambda n: n.bank("bulk_diode", ["X"], "a", "0", **BULK),
            "X: SPICE has bulk diodes only with a MOSFET",
        ),
        (
            lambda n: n.bank("mosfet", ["M1"], "a", "0", ("a", "0"), ("0", "0"), **CHANNEL),
            "M1: .* bulk diodes",
        ),
    ],
)
def test_what_spice_has_no_card_for(add: Callable[[Netlist], None], message: str) -> None:
    net = Netlist()
    net.resistor("R1", "a", "0", conductance=1e-3)
    net.vcvs("E1", "e", "0", "a", "0", 2.0)
    net.diode("D1", "a", "0")
    add(net)
    with pytest.raises(NetlistError, match=message):
        write_spice(net)


BULK = {"is_": 1e-14, "temperature": 300.15, "gmin": 1e-12, "cjo": 0.0, "vj": 0.8, "m": 0.5, "fc": 0.5}
CHANNEL = {"polarity": 1, "vto": 0, "kp": 1e-5, "gamma": 0, "phi": 0.6, "lambda_": 0, "w": 1e-6, "l": 1e-6}


@pytest.mark.usefixtures("ngspice")
def test_any_names_come_back() -> None:
    nodes = [
        "A", "a", "gnd", "time", "1", "01", "n1", "v(x)", "ü;$*", "with space", 'q"u\\ote', "x" * 300,
        "two\nlines", "a.b:c#", "0x", "*@node a", "+1", ".end", "{p}",
    ]  # fmt: skip
    net = Netlist("title\n.control\nshell \\\\")
    net.voltage_source("source of it all", nodes[0], "0", 1.0)
    for k, (a, b) in enumerate(zip(nodes, [*nodes[1:], "0"], strict=True)):
        net.resistor(f"R{k // 2}" if k % 2 else f"r{k // 2}", a, b, conductance=1e-6 * (k + 1))
    net.amplifier("R99", "OUT", nodes[-1], law="tanh", low=-1.0, high=1.0, gain=3.0, offset=0.0)
    point = operating_point(net)
    text = write_spice(net, initial={"ü;$*": 0.5})
    assert text.isascii() and text.startswith("* title?.control?shell ??\n")
    assert largest_difference(run_ngspice(text), point.voltages_by_node()) < 1e-3 * MICROVOLT


def test_text_is_plain_and_exact() -> None:
    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 0.1 + 0.2)
    net.resistor("R1", "in", "out", conductance=1e-6)
    net.resistor("R2", "out", "0", conductance=0.0)
    net.capacitor("C1", "out", "0", 1e-12)
    net.vccs("G1", "out", "0", "in", "0", -1e-6)
    lines = write_spice(
        net, initial={"out": 0.5, "0": 0.0}, options={"reltol": 1e-6, "itl1": 50}
    ).splitlines()
    assert lines[0] == "* divider"
    assert "V1 in 0 0.30000000000000004" in lines
    assert "R1 in out 1000000" in lines
    assert "R2 out 0 1e300" in lines
    assert "C1 out 0 1e-12" in lines
    assert "G1 out 0 in 0 -1e-06" in lines
    assert ".options reltol=1e-06 vntol=1e-12 abstol=1e-16 gmin=1e-15 itl1=50" in lines
    assert ".nodeset v(out)=0.5" in lines
    assert lines[-2:] == [".op", ".end"]


def test_what_cannot_be_written() -> None:
    net = Netlist("one")
    net.resistor("R1", "a", "0", conductance=1.0)
    with pytest.raises(NetlistError, match="no node 'b'"):
        write_spice(net, initial={"b": 1.0})
    with pytest.raises(ValueError, match="no name of an ngspice option"):
        write_spice(net, options={"x\n.control": 1.0})


def test_a_missing_ngspice_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not ngspice_available()
    with pytest.raises(SpiceError, match="not on the PATH: install it"):
        run_ngspice("* nothing\n.end\n")


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize(
    "line", [".control", "  .CONTROL ", "*# shell ls", ".include x", ".lib x y", "R1 a \\\\"]
)
def test_commands_and_files_are_refused(line: str) -> None:
    with pytest.raises(SpiceError, match="is refused"):
        run_ngspice(f"* title\n{line}\n.end\n")


@pytest.mark.usefixtures("ngspice")
@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ("V1 a 0 1\nV2 a 0 2\n.op", "no operating point; its log ends"),
        ("B1 a 0 V=foo(v(a))\n.op", "no such function"),
        ("R1 a 0 1\nI1 0 a 1\nC1 a 0 1\n.tran 1n 1", "more than 0.3 s"),
    ],
)
def test_failures_of_ngspice_are_said_clearly(cards: str, message: str) -> None:
    with pytest.raises(SpiceError, match=message):
        run_ngspice(f"* title\n{cards}\n.end\n", timeout=0.3)
