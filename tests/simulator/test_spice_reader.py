"""The deck reader: cards by hand, operating points by ngspice."""

from __future__ import annotations

import cmath
import math
import os

import numpy as np
import pytest

from ohmostat.simulator.devices import TIME, Current
from ohmostat.simulator.ngspice import ngspice_available, run_ngspice
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice_analyses import (
    Ac,
    DcSweep,
    MonteCarlo,
    Noise,
    OperatingPoint,
    Sweep,
    Transfer,
    Transient,
)
from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.waveforms import Exponential, PiecewiseLinear, Pulse, Sine

from .decks import deck, element, parameters

# -- lines ---------------------------------------------------------------------------------------------


def test_title_comments_continuations_and_case() -> None:
    read = parse_spice(
        "* My Deck\r\n"
        "R1 A 0\n"
        "* a comment between\n"
        "\n"
        "+ 1K $ one\n"
        "r2 A 0 2k ; two\n"
        "  R3 a GND 3k // three\n"
        "c$4 a 0 1p $four\n"
        ".END\n"
        "nothing is read here"
    )
    assert read.title == "My Deck"
    assert [(e.name, e.nodes, e.origin.line) for e in read.elements] == [
        ("r1", ("a", "0"), 2), ("r2", ("a", "0"), 6), ("r3", ("a", "0"), 7), ("c$4", ("a", "0"), 8),
    ]  # fmt: skip
    assert [1 / e.parameters["conductance"] for e in read.elements[:3]] == pytest.approx([1e3, 2e3, 3e3])


def test_the_first_line_is_always_the_title() -> None:
    assert [e.name for e in parse_spice("r1 a 0 1\nr2 a 0 1").elements] == ["r2"]


def test_formulas_in_every_notation() -> None:
    cards = [
        "r1 a 0 {2*k}",
        "r2 a 0 '2*k'",
        "r3 a 0 r=2*k",
        "r4 a 0 r={ 2 * k }",
        'r5 a 0 "2*k"',
        ".param k=3",
    ]
    assert [e.parameters["conductance"] for e in deck(*cards).elements] == [pytest.approx(1 / 6)] * 5


def test_parameters_in_any_order() -> None:
    assert parameters("r1 a 0 {c}", ".param c={a+b} a=1", ".param b='2*a'")["conductance"] == 1 / 3


# -- devices -------------------------------------------------------------------------------------------


def test_passive_devices() -> None:
    assert parameters("r1 a 0 1k m=2")["conductance"] == pytest.approx(2e-3)
    assert parameters("c1 a 0 1n m=3") == {"capacitance": pytest.approx(3e-9)}
    assert parameters("l1 a 0 1u m=2") == {"inductance": 5e-7}
    assert element("c1 a 0 1n ic=0.5").initial == 0.5
    assert element("l1 a 0 1n ic=1m").initial == 1e-3
    assert element("v1 a 0 1 mismatch=0.1").mismatch == 0.1
    assert element("v1 a 0 1 mismatch=5%").mismatch == 0.05
    assert element("r1 a 0 1k rm", ".param s=1", ".model rm r mismatch={2*s}%").mismatch == 0.02


def test_resistors_and_capacitors_by_model_and_temperature() -> None:
    sheet = ".model rm r (rsh=100 narrow=0.1u short=0.2u tc1=1m tc2=1u mismatch=5m)"
    hot = 1 + 1e-3 * 33 + 1e-6 * 33**2
    found = element("r1 a 0 rm l=10u w=2u", sheet, ".temp 60")
    assert 1 / found.parameters["conductance"] == pytest.approx(100 * 9.6 / 1.8 * hot)
    assert (found.model, found.mismatch) == ("rm", 5e-3)
    found = element("r1 a 0 2k rm tc1=0 mismatch=0", sheet, ".temp 60")
    assert 1 / found.parameters["conductance"] == pytest.approx(2e3 * (1 + 1e-6 * 33**2))
    assert found.mismatch == 0.0
    plate = ".model cm c cj=1m cjsw=1n defw=5u"
    expected = 1e-3 * 50e-12 + 2e-9 * 15e-6
    assert parameters("c1 a 0 cm l=10u", plate)["capacitance"] == pytest.approx(expected)


def test_source_values() -> None:
    assert element("v1 a 0").parameters == {"voltage": 0.0}
    assert element("v1 a 0 5V").parameters == {"voltage": 5.0}
    found = element("i1 a 0 ac 2 90 dc 1m m=3")
    assert found.parameters == {"current": 3e-3}
    assert cmath.isclose(found.ac, 6j)
    assert element("v1 a 0 ac").ac == 1.0
    found = element("v1 a 0 sin(1 2 1k 0 0 90)")
    assert found.parameters == {"voltage": 3.0}  # the waveform at time 0


WAVEFORMS = {
    "pulse(0 1 1n 2n 3n 4n 20n)": Pulse(0, 1, 1e-9, 2e-9, 3e-9, 4e-9, 20e-9),
    "PULSE 0 1": Pulse(0, 1, 0, 1e-9, 1e-9),
    "sin(0 1)": Sine(0, 1, 1e6),
    "sin(0 1 2k 1m 3 45)": Sine(0, 1, 2e3, 1e-3, 3, 45),
    "exp(0 1)": Exponential(0, 1, 1e-9, 1e-9, 2e-9, 1e-9),
    "exp(0 1 1u 2u 3u 4u)": Exponential(0, 1, 1e-6, 2e-6, 3e-6, 4e-6),
    "pwl(0 0, 1u 1, 2u {3})": PiecewiseLinear((0, 1e-6, 2e-6), (0, 1, 3)),
}


@pytest.mark.parametrize("text", WAVEFORMS)
def test_waveforms_with_the_defaults_of_the_run(text: str) -> None:
    found = element(f"v1 a 0 dc 7 {text}", ".tran 1n 1u")
    assert found.waveform == WAVEFORMS[text]
    assert found.parameters == {"voltage": 7.0}


@pytest.mark.parametrize(
    "shape", ["pulse(1 5)", "pulse(1 5 0 0 0 1u 2u)", "pulse(1 5 0 1n)", "pulse(1 5 1u)"]
)
def test_a_pulse_rests_before_it_begins(shape: str) -> None:
    """As in SPICE, also where it would rise at once: with no .tran there is no print step to rise in."""
    (source,) = parse_spice(f"pulse\nV1 a 0 {shape}\nR1 a 0 1k\n.op\n.end\n").elements[:1]
    assert source.parameters["voltage"] == 1.0


def test_controlled_sources() -> None:
    found = element("e1 a 0 c d 2.5")
    assert (found.kind, found.nodes, found.parameters) == ("vcvs", ("a", "0", "c", "d"), {"gain": 2.5})
    found = element("g1 a 0 (c d) 1m m=2")
    assert (found.kind, found.parameters) == ("vccs", {"transconductance": 2e-3})
    found = element("f1 a 0 v1 3", "v1 a 0 1")
    assert (found.kind, found.controls, found.parameters) == ("cccs", (Current("v1"),), {"gain": 3.0})
    found = element("h1 a 0 v1 50", "v1 a 0 1")
    assert (found.kind, found.parameters) == ("ccvs", {"transresistance": 50.0})


def test_behavioural_sources() -> None:
    cards = ("v1 c 0 1", ".param gain=2 ")
    found = element("b1 a 0 v = gain*v(c,d) + i(v1)*time - temper", *cards)
    assert (found.kind, found.controls) == ("behavioural_voltage", (("c", "d"), Current("v1"), TIME))
    assert found.expression is not None
    assert found.expression.evaluate(np.array([[1.5], [2.0], [3.0]]))[0][0] == pytest.approx(3 + 6 - 27)
    for card in ("b1 a 0 i={v(c)^2}", "g1 a 0 cur='v(c)^2'", "g1 a 0 value={v(c)^2}"):
        found = element(f"{card} m=2", *cards)
        assert (found.kind, found.parameters) == ("behavioural_current", {"scale": 2.0})
    assert element("e1 a 0 vol='v(c)^2'", *cards).kind == "behavioural_voltage"


def test_diodes() -> None:
    model = ".model dm d (is=1e-15 n=1.1 rs=8 cjo=1p bv=6 mismatch=20m)"
    found = element("d1 a 0 dm 2 m=2", model)
    wanted = {"is_": 4e-15, "n": 1.1, "rs": 2.0, "cjo": 4e-12, "bv": 6.0, "ibv": 2e-3, "vj": 1.0}
    assert wanted.items() <= found.parameters.items()
    assert found.mismatch == 0.02
    assert element("d1 a 0 dm area=4 mismatch=0.1 off", model).parameters["is_"] == 4e-15


def test_mosfets() -> None:
    model = ".model pm pmos vto=-0.7 kp=50u gamma=0.4 phi=0.65 lambda=0.02 ld=0.1u cgso=1n rsh=10 cj=1m"
    found = element("m1 d g s b pm off w=4u l=1u m=2 ad=3p nrs=2", model)
    assert (found.kind, found.nodes) == ("mosfet", ("d", "g", "s", "b"))
    wanted = {
        "polarity": -1, "vto": -0.7, "kp": 5e-5, "gamma": 0.4, "phi": 0.65, "lambda_": 0.02, "w": 8e-6,
        "l": pytest.approx(0.8e-6), "rd": 5.0, "rs": 10.0, "cbd": pytest.approx(6e-15), "cbs": 0.0,
        "cgs": pytest.approx(8e-15), "is_": 2e-14,
    }  # fmt: skip
    assert {name: found.parameters[name] for name in wanted} == wanted
    found = element("m1 d g s b em w=4u l=1u", ".model em nmos level=44 vto=0.4 gamma=0.6")
    assert (found.kind, found.parameters["vto"], found.parameters["kp"]) == ("ekv", 0.4, 5e-5)


def test_switches() -> None:
    found = element("s1 a 0 c d sm on", ".model sm sw vt=0.5 ron=10 roff=1g")
    assert (found.kind, found.nodes) == ("switch", ("a", "0", "c", "d"))
    assert found.parameters == {"vt": 0.5, "vh": 0.0, "ron": 10.0, "roff": 1e9}


# -- subcircuits ---------------------------------------------------------------------------------------

HIERARCHY = """hierarchy
.global vdd
.param r=5 k={r*2}
x1 in out amp r=7 m=2
x2 in 0 amp
.subckt amp a b params: r=1 g={r*k}
.param twice={2*r}
r1 a n {r}
r2 n vdd {g}
.model dm d is=1e-12
d1 n b dm
x1 n b inner w={twice}
.subckt inner p q w=3
v1 p c 0
f1 p q v1 2
b1 p 0 v=v(p,c)*w + i(v1)
d2 c q dm
.ends
.ends amp
.end
"""


def test_subcircuits() -> None:
    cards = HIERARCHY.replace(" m=2", "")
    by_name = {e.name: e for e in parse_spice(cards).elements}
    assert list(by_name)[:7] == [
        "r.x1.r1", "r.x1.r2", "d.x1.d1", "v.x1.x1.v1", "f.x1.x1.f1", "b.x1.x1.b1", "d.x1.x1.d2",
    ]  # fmt: skip
    assert by_name["r.x1.r1"].nodes == ("in", "x1.n")
    assert by_name["r.x1.r2"].nodes == ("x1.n", "vdd")
    assert by_name["d.x1.x1.d2"].nodes == ("x1.x1.c", "out")
    assert by_name["f.x1.x1.f1"].controls == (Current("v.x1.x1.v1"),)
    assert 1 / by_name["r.x1.r1"].parameters["conductance"] == pytest.approx(7)
    assert 1 / by_name["r.x1.r2"].parameters["conductance"] == pytest.approx(70)  # k is the deck's
    assert 1 / by_name["r.x2.r2"].parameters["conductance"] == pytest.approx(10)
    behavioural = by_name["b.x1.x1.b1"]
    assert behavioural.controls == (("x1.n", "x1.x1.c"), Current("v.x1.x1.v1"))
    assert behavioural.expression is not None
    assert behavioural.expression.evaluate(np.array([[1.0], [0.5]]))[0][0] == 14.5
    assert by_name["d.x1.x1.d2"].parameters["is_"] == 1e-12  # a model of the subcircuit around it
    assert by_name["d.x1.x1.d2"].origin.line == 17


def test_multiplied_subcircuits() -> None:
    cards = ("x1 a 0 s m=3", ".subckt s p q", "r1 p q 2 m=2", "c1 p q 1p", "b1 p q i=v(p)", ".ends")
    found = deck(*cards).elements
    assert [next(iter(e.parameters.values())) for e in found] == pytest.approx([3.0, 3e-12, 3.0])
    with pytest.raises(SpiceSyntaxError, match=r":15: f1: it senses a current in a subcircuit with m=2"):
        parse_spice(HIERARCHY)
    with pytest.raises(SpiceSyntaxError, match=r":16: b1: it senses a current in a subcircuit with m=2"):
        parse_spice(HIERARCHY.replace("f1 p q v1 2", ""))


def test_equal_formulas_share_a_bank() -> None:
    cards = [f"x{k} a{k} s" for k in range(5)] + [".subckt s p", "b1 p 0 v=tanh(v(p))", "r1 p 0 1", ".ends"]
    banks = {bank.kind: bank for bank in deck(*cards).netlist().banks}
    assert len(banks["behavioural_voltage"].names) == 5


# -- analyses and options ------------------------------------------------------------------------------


def test_analyses() -> None:
    cards = ("v1 a 0 1", "i2 0 b 1", "r1 a b 1", ".param n=10")
    dots = {
        ".op": OperatingPoint(),
        ".dc v1 0 1 0.25": DcSweep((Sweep("v1", 0, 1, 0.25),)),
        ".dc v1 1 0 -0.5 i2 0 1m 1m": DcSweep((Sweep("v1", 1, 0, -0.5), Sweep("i2", 0, 1e-3, 1e-3))),
        ".tran 1n 1u": Transient(1e-9, 1e-6),
        ".tran 1n 1u 10n 2n uic": Transient(1e-9, 1e-6, 1e-8, 2e-9, True),
        ".ac dec {n} 1 1meg": Ac("dec", 10, 1, 1e6),
        ".noise v(a,b) v1 oct 2 1 8": Noise(("a", "b"), "v1", Ac("oct", 2, 1, 8)),
        ".tf v(b) v1": Transfer(("b", "0"), "v1"),
        ".tf i(v1) i2": Transfer(Current("v1"), "i2"),
        ".mc 100 seed=7": MonteCarlo(100, 7),
    }
    assert deck(*cards, *dots).analyses == tuple(dots.values())


def test_points_of_sweeps() -> None:
    np.testing.assert_allclose(Sweep("v1", 0.0, 1.0, 0.1).values(), np.arange(11) / 10)
    np.testing.assert_allclose(Sweep("v1", 1.0, 0.0, -0.3).values(), [1, 0.7, 0.4, 0.1])
    np.testing.assert_allclose(Ac("dec", 2, 1.0, 100.0).frequencies(), 10 ** np.array([0, 0.5, 1, 1.5, 2]))
    np.testing.assert_allclose(Ac("oct", 1, 1.0, 9.0).frequencies(), [1, 2, 4, 8])
    np.testing.assert_allclose(Ac("lin", 3, 0.0, 9.0).frequencies(), [0, 4.5, 9])


def test_options_and_initial_conditions() -> None:
    read = deck(
        "r1 a b 1", "r2 b 0 1", ".options gmin=1e-15 noacct reltol=1e-6 method=gear", ".option tnom=25",
        ".temp {t}", ".param t=85", ".ic v(a)=1 v( b ) = {t/85}", ".nodeset v(b)=0.5", ".save v(a)",
    )  # fmt: skip
    assert (read.options.gmin, read.options.reltol, read.options.temp) == (1e-15, 1e-6, 85.0)
    assert read.options.tnom == 25.0
    assert read.ic == {"a": 1.0, "b": 1.0}
    assert read.nodeset == {"b": 0.5}
    net = read.netlist()
    assert net.gmin == 1e-15 and net.temperature == pytest.approx(358.15)


# -- ngspice -------------------------------------------------------------------------------------------

EVERYTHING = """every kind of card
.param vdd=1.8 half={vdd/2}
v1 in 0 dc {half} ac 1 sin(0 1 1k)
r1 in out 1k tc1=1m
.subckt inv a y vp params: w=2u l=1u
m1 y a 0 0 nm w={w} l={l} nrd=2 nrs=3
mp y a vp vp pm w={2*w} l={l}
.ends inv
x1 in out dd inv w=4u
x2 out o2 dd inv
vdd dd 0 {vdd}
.model nm nmos (vto=0.5 kp=100u lambda=0.02
+ gamma=0.3 rsh=10 ld=0.1u)
.model pm pmos vto=-0.5 kp=50u gamma=0.2 rd=100
d1 out 0 dm area=2 m=2
d2 out k dm
rk k 0 10k
dz 0 z dm
rz z bb 1k
.model dm d(is=1e-15 rs=10 n=1.2 bv=5 ibv=2m eg=1.2 xti=4)
b1 bb 0 v=v(in)*tanh(v(out,o2)) + i(v1)*1k - temper*half
e1 e1 0 vol='v(in)*half'
g1 e1 0 cur={v(in)*half} m=2
f1 f 0 v1 2 m=2
rf f 0 1
h1 h 0 v1 2
l1 h hh 1u
rh hh 0 1
s1 in f out 0 sm
.model sm sw vt=0.2 ron=10 roff=1meg
rm in o2 rm l=10u w=2u
.model rm r rsh=100 tc1=2m tc2=1u narrow=0.1u
c1 out 0 1p
.nodeset v(o2)={half}
.options reltol=1e-9 vntol=1e-12 abstol=1e-15 itl1=1000
.op
"""


@pytest.mark.parametrize("conditions", ["", ".temp 60\n", ".temp 10\n.options tnom=40\n"])
def test_ngspice_reads_the_same_circuit(conditions: str) -> None:
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")
    text = EVERYTHING + conditions + ".end\n"
    read = parse_spice(text)
    point = operating_point(read.netlist(), initial=read.nodeset)
    spice = run_ngspice(text)
    nodes = {node for e in read.elements for node in e.nodes}
    assert len(nodes) > 10
    for node in nodes:
        assert point[node] == pytest.approx(spice[node], abs=1e-6, rel=1e-6), node
    assert math.isfinite(point.residual)
