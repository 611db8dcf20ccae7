"""The deck reader: cards by hand, operating points by ngspice, and errors that say where."""

from __future__ import annotations

import cmath
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohmostat.simulator import spice_lines, spice_reader, spice_scope
from ohmostat.simulator.deck import Deck, Element
from ohmostat.simulator.devices import TIME, Current
from ohmostat.simulator.expression_functions import Function
from ohmostat.simulator.expressions import Formula, parse_formula
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
from ohmostat.simulator.spice_reader import parse_spice, read_spice
from ohmostat.simulator.waveforms import Exponential, PiecewiseLinear, Pulse, Sine


def deck(*cards: str, **keywords: Any) -> Deck:
    return parse_spice("\n".join(["title", *cards]), **keywords)


def element(card: str, *cards: str) -> Element:
    """The first element of a deck."""
    return deck(card, *cards).elements[0]


def parameters(card: str, *cards: str) -> dict[str, float]:
    return dict(element(card, *cards).parameters)


def refused(match: str, *cards: str) -> SpiceSyntaxError:
    with pytest.raises(SpiceSyntaxError, match=match) as caught:
        deck(*cards).netlist()
    return caught.value


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


# -- errors --------------------------------------------------------------------------------------------

MHZ = "pulse(0 1 0 1p 1p 1p 10p)"
CLOCKS = [f"v{k} a{k} 0 pulse(0 1 0 1n 1n 100n {k}u)" for k in (1, 2, 3)]
FIFTY = [f"v{k} a{k} 0 1" for k in range(50)] + [f"r{k} a{k} b{k} 1" for k in range(50)]
ERRORS: list[tuple[str, int, tuple[str, ...]]] = [
    ("no device in the deck", 1, ()),
    ("nothing before it to continue", 2, ("+ 1k",)),
    ("1 words where 2 nodes were expected", 2, ("r1 a",)),
    ("no value; expected rname node node value", 2, ("r1 a 0",)),
    ("'4k7' is not a number", 2, ("r1 a 0 4k7",)),
    ("'1.2.3' is not a number", 2, ("r1 a 0 1.2.3",)),
    ("'2%' is not a number", 2, ("r1 a 0 2%",)),
    ("no .model 'kilo' in reach; expected one of type r or res", 2, ("r1 a 0 kilo",)),
    ("resistance is 0 ohm; expected a value above 0 ohm .join the nodes", 2, ("r1 a 0 0",)),
    ("resistance is -5 ohm; expected a value above 0 ohm .write a G source", 2, ("r1 a 0 -5",)),
    ("mismatch cannot act: .mc finds operating points", 2, ("c1 a 0 1p mismatch=0.1",)),
    ("mismatch cannot act: .mc finds operating points", 2, ("c1 a 0 1p cm", ".model cm c mismatch=0.1")),
    ("mismatch cannot act: .mc finds operating points", 2, ("l1 a 0 1u mismatch=0.1",)),
    ("mismatch cannot act on a formula", 2, ("b1 a 0 i=v(a) mismatch=0.1",)),
    ("fc is 1.5; give a value of at least 0 and below 1", 2, ("d1 a 0 x", ".model x d fc=1.5")),
    ("fc is 1; give", 2, ("m1 a b c d x", ".model x nmos fc=1")),
    (
        "type 'npn' is not supported; expected one of c, cap, d",
        3,
        ("r1 a 0 1", ".model q npn bf=100 rubbish=7"),
    ),
    (
        "unknown parameter 'rubbish'",
        4,
        ("x1 a s", ".subckt s p", ".model u d rubbish=7", "r1 p 0 1", ".ends"),
    ),
    ("unknown parameter 'tc3'; known are", 2, ("r1 a 0 1 tc3=1",)),
    ("unknown name 'k'; expected a parameter", 2, ("r1 a 0 {k}",)),
    ("tc1 is given twice", 2, ("r1 a 0 1 tc1=1 tc1=2",)),
    ("m= has no value", 2, ("r1 a 0 1 m=",)),
    ("{ without its partner", 2, ("r1 a 0 {1",)),
    ("m is -1; expected a value above 0", 2, ("r1 a 0 1 m=-1",)),
    ("mismatch is -1; expected", 2, ("r1 a 0 1 mismatch=-1",)),
    ("device 'r1' exists already \\(<text>:2\\)", 3, ("r1 a 0 1", "R1 a 0 1")),
    ("devices 'Q' are not supported; expected one of", 2, ("q1 c b e npn",)),
    ("poly, table and laplace are not supported", 2, ("e1 a 0 poly(2) a 0 b 0 1 2",)),
    ("'sffm' where dc, ac, pulse, sin, exp, pwl", 2, ("v1 a 0 sffm(1 2)",)),
    ("pulse has 1 numbers; expected 2 to 7", 2, ("v1 a 0 pulse(1)",)),
    ("sin has no frequency, and no .tran", 2, ("v1 a 0 sin(0 1)",)),
    ("PWL: time 0 s follows 1 s", 2, ("v1 a 0 pwl(0 0 1 1 0 2)",)),
    ("sin besides another waveform", 2, ("v1 a 0 pulse(0 1) sin(0 1 1)",)),
    ("ac has 3 numbers", 2, ("v1 a 0 ac 1 2 3",)),
    ("expected node node v=formula, or i=formula", 2, ("b1 a 0 1",)),
    ("unknown function 'foo'", 2, ("b1 a 0 v=foo(1)",)),
    ("model 'x' .*is of type 'npn'; expected d", 2, ("d1 a 0 x", ".model x npn")),
    ("unknown parameter 'foo'; known are bv", 3, ("d1 a 0 x", ".model x d foo=1")),
    ("unknown parameter 'tox'; known are", 3, ("m1 a b c d x", ".model x nmos tox=1n")),
    ("level is 3; expected 1 \\(Shichman-Hodges\\) or 44", 3, ("m1 a b c d x", ".model x nmos level=3")),
    ("hysteresis vh is 1 V", 2, ("s1 a 0 b 0 x", ".model x sw vh=1")),
    ("is_ is -1", 2, ("d1 a 0 x", ".model x d is=-1")),
    ("lead out of the range of numbers", 2, ("m1 a b c 0 x", ".model x nmos phi=1e-3", ".temp 500")),
    ("'x' exists already", 3, (".model x d", ".model x d", "r1 a 0 1")),
    ("no device 'v1' whose current to sense", 2, ("f1 a 0 v1 2",)),
    ("current of 'r1', a resistor; expected a voltage source", 2, ("f1 a 0 r1 2", "r1 a 0 1")),
    ("parameters define each other: a needs b needs a|b needs a needs b", 2, (".param a={b}", ".param b=a")),
    ("'a' is defined twice", 3, (".param a=1", ".param a=2", "r1 a 0 1")),
    ("no .subckt 'nope' in reach", 2, ("x1 a b nope",)),
    ("2 nodes for .subckt 's' \\(<text>:3\\), which has 1: p", 2, ("x1 a b s", ".subckt s p", ".ends")),
    ("unknown parameter 'w'; known are m", 2, ("x1 a s w=1", ".subckt s p", ".ends")),
    (".subckt 's' without .ends", 2, (".subckt s p", "r1 p 0 1")),
    (".ends without .subckt", 2, (".ends",)),
    (".ends 't' where .ends 's' was expected", 3, (".subckt s p", ".ends t")),
    (".tran inside .subckt 's'", 3, (".subckt s p", ".tran 1 2", ".ends")),
    ("distinct nodes", 2, (".subckt s p p", ".ends")),
    (".control is not supported: commands are not run", 2, (".control",)),
    (".lib is not supported: .*use .include", 3, ("r1 a 0 1", ".lib 'models' tt")),
    (".foo is not supported: expected one of .ac", 3, ("r1 a 0 1", ".foo")),
    ("expected .include file", 2, (".include ",)),
    (".include in a text without a folder", 2, (".include 'x'",)),
    ("expected .tran step stop", 3, ("r1 a 0 1", ".tran 1n")),
    ("step is 0 s and stop 1 s", 3, ("r1 a 0 1", ".tran 0 1")),
    ("step of v1 is -1; expected one that leads", 3, ("v1 a 0 1", ".dc v1 0 1 -1")),
    ("1e\\+09 points; at most", 3, ("v1 a 0 1", ".dc v1 0 1 1n")),
    ("1e\\+12 points; at most", 4, ("v1 a 0 1", "v2 b 0 1", ".dc v1 0 1 1u v2 0 1 1u")),
    ("1e\\+12 points; at most", 3, ("v1 a 0 1", ".tran 1m 1 0 1p")),
    ("5e\\+11 points; at most", 3, ("v1 a 0 1", ".tran 1n 1 0.9999999999")),
    ("4e\\+11 corners up to 1 s; at most .* give a longer", 2, (f"v1 a 0 {MHZ}", ".tran 1m 1")),
    ("v3: with it, the sources have more than 1000000 corners up to 0.15 s", 4, (*CLOCKS, ".tran 1m 150m")),
    ("1000000 points of 150 voltages .* at most 50000000 values", 102, (*FIFTY, ".mc 1000000")),
    ("no source 'v2' in the circuit", 3, ("v1 a 0 1", ".dc v2 0 1 1")),
    ("no node 'b' in the circuit", 3, ("v1 a 0 1", ".tf v(b) v1")),
    ("expected rising frequencies", 3, ("v1 a 0 1", ".ac dec 10 10 1")),
    ("points is 1.5; expected a whole number", 3, ("v1 a 0 1", ".ac dec 1.5 1 10")),
    ("where v\\(node\\), v\\(node,node\\) or i\\(device\\)", 3, ("v1 a 0 1", ".noise a v1 dec 1 1 10")),
    ("samples is 0; expected a whole number from 1", 3, ("v1 a 0 1", ".mc 0")),
    ("unknown parameter 'foo'; known are gmin", 3, ("r1 a 0 1", ".options foo=1")),
    ("unknown option 'foo'", 3, ("r1 a 0 1", ".options foo")),
    ("reltol is 0; expected a value above 0", 3, ("r1 a 0 1", ".options reltol=0")),
    ("temp is -300", 3, ("r1 a 0 1", ".temp -300")),
    ("no node 'b' in the circuit", 3, ("r1 a 0 1", ".ic v(b)=1")),
    ("where v\\(node\\)=value was expected", 3, ("r1 a 0 1", ".nodeset a=1")),
    ("character '\\\\x00' in the text", 3, ("r1 a 0 1", "r2 \0 0 1")),
]


@pytest.mark.parametrize("match, line, cards", ERRORS, ids=[f"{k}" for k in range(len(ERRORS))])
def test_errors_say_where_and_what(match: str, line: int, cards: tuple[str, ...]) -> None:
    error = refused(match, *cards)
    assert (error.file, error.line) == ("<text>", line)
    assert str(error).startswith(f"<text>:{line}: ")


# -- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "models").mkdir(parents=True)
    (tmp_path / "secret.inc").write_text("r9 a 0 1\n")
    (inside / "models" / "diode.inc").write_text('.model DM d is=1f\n.include "../more.inc"\n')
    (inside / "more.inc").write_text("r2 a 0 2\n.end\nnot read")
    return inside


def test_includes_inside_the_folder(folder: Path) -> None:
    path = folder / "top.cir"
    path.write_text("top\n.include models/diode.inc\nd1 a 0 dm\n")
    read = read_spice(path)
    assert [(e.name, Path(e.origin.file).name, e.origin.line) for e in read.elements] == [
        ("r2", "more.inc", 1), ("d1", "top.cir", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../secret.inc", "models/../../secret.inc", "{absolute}", "link.inc", "linked/secret.inc"]
)
def test_includes_do_not_leave_the_folder(folder: Path, name: str) -> None:
    (folder / "link.inc").symlink_to(folder.parent / "secret.inc")
    (folder / "linked").symlink_to(folder.parent)
    name = name.format(absolute=folder.parent / "secret.inc")
    with pytest.raises(SpiceSyntaxError, match=r":2: .include .* leads outside of the netlist's folder"):
        parse_spice(f"title\n.include '{name}'\n", "top.cir", folder)


def test_includes_of_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to(folder / "circle")
    for name in ("models", "missing", "pipe", "circle", "x" * 5000):
        with pytest.raises(SpiceSyntaxError, match=":2: "):
            parse_spice(f"title\n.include '{name}'\n", "top.cir", folder)


def test_includes_that_include_each_other(folder: Path) -> None:
    (folder / "a.inc").write_text(".include b.inc\n")
    (folder / "b.inc").write_text("\n.include a.inc\n")
    with pytest.raises(SpiceSyntaxError, match=r"[ab].inc:[12]: files include one another more than 16 deep"):
        parse_spice("title\n.include a.inc\n", "top.cir", folder)


# -- limits --------------------------------------------------------------------------------------------


def test_recursion_is_bounded() -> None:
    refused(f"more than {spice_reader.DEEPEST_HIERARCHY} deep", "x1 a s", ".subckt s p", "x2 p s", ".ends")
    refused("its name in full has 300 characters", f"x{'y' * 299} a s", ".subckt s p", ".ends")
    nested = [f".subckt s{k} p" for k in range(40)]
    refused(f"nested more than {spice_reader.DEEPEST_HIERARCHY} deep", *nested)


def test_expansion_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = [f".subckt s{k} p\nx1 p s{k - 1}\nx2 p s{k - 1}\n.ends" for k in range(1, 25)]
    cards = ("x1 a s24", ".subckt s0 p", "r1 p 0 1", ".ends", *doubling)
    monkeypatch.setattr(spice_reader, "MOST_ELEMENTS", 1000)
    refused("more than 1000 devices after expansion; build larger circuits with Netlist", *cards)
    monkeypatch.setattr(spice_reader, "MOST_INSTANCES", 1000)
    refused("more than 1000 instances of subcircuits; build larger circuits with Netlist", *cards)
    monkeypatch.setattr(spice_reader, "LARGEST_EXPANSION", 1000)
    refused("more than 1000 characters after expansion", *cards)


LONG = "+".join(["w*1.0"] * 800)
BOMBS = {  # few characters that are many once they stand in every instance
    "parameters": [f".param p{k}={{{LONG}+{k}}}" for k in range(40)],
    "models": [f".model m{k} d is={{{LONG}+{k}}}" for k in range(40)],
    "devices": [f"r{k} p 0 {{{LONG}+{k}}}" for k in range(40)],
    "sources": [f"b{k} p 0 i={LONG}+{k}" for k in range(40)],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_formulas_in_every_instance_are_bounded(kind: str) -> None:
    cards = [f"x{k} a s w={k}" for k in range(1, 200)] + [".subckt s p w=1", *BOMBS[kind], "r p 0 1", ".ends"]
    start = time.process_time()
    refused("more than 2000000 characters of formulas", *cards)
    assert time.process_time() - start < 5.0


def test_numbers_in_every_instance_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice_reader, "LARGEST_EXPANSION", 100_000)
    numbers = " ".join(f"p{k}=1" for k in range(5000))
    instances = [f"x{k} a s" for k in range(20)]
    refused(
        "more than 100000 characters after expansion", *instances, ".subckt s p", f".param {numbers}", ".ends"
    )


def test_a_formula_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def recorded(text: str, functions: Mapping[str, Function]) -> Formula:
        read.append(text)
        return parse_formula(text, functions)

    monkeypatch.setattr(spice_scope, "parse_formula", recorded)
    cards = [f"x{k} a s w={k}" for k in range(1, 9)]
    found = deck(*cards, ".subckt s p w=1", ".param u={w*2}", "r1 p 0 {u+w}", ".ends").elements
    assert [1 / e.parameters["conductance"] for e in found] == pytest.approx([3 * k for k in range(1, 9)])
    assert len(read) == len(set(read)) <= 4


def test_text_is_bounded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(spice_lines, "LONGEST_CARD", 100)
    refused("a card of more than 100 characters", "r1 a 0", *["+ 1 2 3 4 5"] * 20)
    monkeypatch.setattr(spice_lines, "LARGEST_TEXT", 200)
    refused("more than 200 characters in all files together", *["r1 a 0 1"] * 50)
    (folder / "large.inc").write_text("* large\n" * 50)
    with pytest.raises(SpiceSyntaxError, match=r":2: more than 200 characters"):
        parse_spice("title\n.include large.inc\n", "top.cir", folder)
    monkeypatch.undo()
    monkeypatch.setattr(spice_lines, "MOST_FILES", 3)
    with pytest.raises(SpiceSyntaxError, match=r":5: more than 3 .include cards"):
        parse_spice("title" + "\n.include more.inc" * 9, "top.cir", folder)


def test_long_words_take_no_long_time() -> None:
    start = time.perf_counter()
    for word in (
        "1" * 200_000 + "!",
        "a" * 200_000 + "!",
        "v(" * 100_000,
        " " * 200_000 + "=",
        "1e" * 100_000,
    ):
        refused(":2: ", f"r1 a 0 {word}")
        refused(":2: ", f"b1 a 0 v={word}")
        refused(":2: ", f".ic {word}", "r1 a 0 1")
    assert time.perf_counter() - start < 5.0  # some hundredths of a second, unless something is quadratic


def test_a_long_chain_of_parameters_is_no_recursion() -> None:
    chain = [f"p{k}={{p{k - 1}+1}}" for k in range(2000, 0, -1)]
    assert parameters("r1 a 0 {p2000}", f".param {' '.join(chain)} p0=0")["conductance"] == 1 / 2000


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
