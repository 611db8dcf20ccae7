"""SPICE text, and agreement with ngspice."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice import SpiceError, ngspice_available, run_ngspice, write_spice

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
    inputs = {net.nodes[k - 1] for bank in net.banks if bank.kind in LAWS for k in bank.terminals[2]}
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
