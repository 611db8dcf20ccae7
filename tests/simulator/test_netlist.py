"""Netlists: what they hold, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ohmostat.simulator.expressions import Expression, parse_expression
from ohmostat.simulator.netlist import TIME, Current, Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.waveforms import Pulse

CURVE = {"low": 0.0, "high": 1.0, "gain": 2.0, "offset": 0.5}


def divider() -> Netlist:
    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 1.0)
    net.resistor("R1", "in", "out", conductance=1e-6)
    net.resistor("R2", "out", "0", conductance=3e-6)
    return net


def test_banks_are_sorted_by_kind() -> None:
    net = divider()
    assert net.nodes == ("in", "out") and len(net) == 3
    source, resistors = net.banks
    assert (source.kind, resistors.kind) == ("voltage_source", "resistor")
    assert resistors.names == ("R1", "R2")
    assert resistors.terminals.tolist() == [[[1, 2], [2, 0]]]
    assert resistors.parameters["conductance"].tolist() == [1e-6, 3e-6]
    assert next(iter(resistors.rows())) == ("R1", [[1, 2]], {"conductance": 1e-6})


def test_bulk_and_single_calls_build_the_same_netlist() -> None:
    single, bulk = Netlist(), Netlist()
    g = np.array([1e-6, 2e-6, 3e-6])
    for k in range(3):
        single.resistor(f"R{k}", f"n{k}", "0", conductance=g[k])
    for k in range(3):
        single.amplifier(f"B{k}", f"s{k}", f"n{k}", law="softplus", **CURVE)
    nodes = [f"n{k}" for k in range(3)]
    bulk.bank("resistor", [f"R{k}" for k in range(3)], np.array(nodes), "0", conductance=g)
    bulk.bank("softplus", ["B0", "B1", "B2"], ["s0", "s1", "s2"], "0", (nodes, "0"), **CURVE, knee=0.05)
    assert single.nodes == bulk.nodes
    for a, b in zip(single.banks, bulk.banks, strict=True):
        assert (a.kind, a.names) == (b.kind, b.names)
        assert np.array_equal(a.terminals, b.terminals)
        assert all(np.array_equal(a.parameters[key], b.parameters[key]) for key in a.parameters)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda n: n.resistor("R1", "a", "0", conductance=1.0), "'R1' exists already"),
        (lambda n: n.resistor("R3", "a", "0", conductance=-1e-6), "R3: conductance is -1e-06 S"),
        (lambda n: n.resistor("R3", "a", "0", conductance=float("nan")), "at least 0 S"),
        (lambda n: n.resistor("R3", "a", "0", conductance="1uS"), "takes one number"),
        (lambda n: n.capacitor("C1", "a", "0", float("inf")), "C1: capacitance is inf F"),
        (lambda n: n.voltage_source("V2", "a", "0", float("nan")), "V2: voltage is nan V"),
        (lambda n: n.resistor("", "a", "0", conductance=1.0), "non-empty string"),
        (lambda n: n.resistor("R3", 7, "0", conductance=1.0), "R3: node 7: a name is a non-empty string"),
        (lambda n: n.resistor("R3", "", "0", conductance=1.0), "R3: node ''"),
        (lambda n: n.amplifier("B1", "o", "a", law="relu", **CURVE), "unknown law 'relu'; use one of"),
        (lambda n: n.amplifier("B1", "o", "a", law="tanh", **{**CURVE, "high": 0.0}), "above low = 0 V"),
        (lambda n: n.amplifier("B1", "o", "a", law="tanh", **{**CURVE, "gain": 0.0}), "B1: gain is 0 V/V"),
        (lambda n: n.amplifier("B1", "o", "a", law="softplus", **CURVE, knee=0.0), "B1: knee is 0 V"),
        (lambda n: n.bank("triode", ["X1"], "a", "0"), "unknown kind of device 'triode'"),
        (lambda n: n.bank("resistor", ["R3"], "a", "0", resistance=1.0), "parameters are conductance"),
        (lambda n: n.bank("resistor", ["R3", "R3"], "a", "0", conductance=1.0), "'R3' exists already"),
        (lambda n: n.bank("resistor", ["R3", "R4"], ["a"], "0", conductance=1.0), "1 nodes for 2 devices"),
        (lambda n: n.bank("resistor", ["R3", "R4"], "a", "0", conductance=[1.0, -2.0]), "R4: conductance"),
        (lambda n: n.bank("resistor", ["R3"], "a", "0", conductance=[1.0, 2.0]), "each of 1 devices"),
    ],
)
def test_a_refused_call_says_why_and_changes_nothing(add: Callable[[Netlist], None], message: str) -> None:
    net = divider()
    with pytest.raises(NetlistError, match=message):
        add(net)
    assert len(net) == 3 and net.nodes == ("in", "out")
    assert operating_point(net)["out"] == pytest.approx(0.25)


def test_no_devices_add_nothing() -> None:
    net = divider()
    net.bank("vccs", [], [], [], ([], []), transconductance=[])
    assert len(net) == len(net.banks) + 1 == 3


def formula(text: str) -> Expression:
    return parse_expression(text, {}.__getitem__)


@pytest.mark.parametrize(
    ("add", "nodes"),
    [
        (lambda n: n.resistor("R3", "a", "b", conductance=1.0), "nodes 'a', 'b'"),
        (lambda n: n.resistor("R3", "a", "in", conductance=0.0), "node 'a'"),
        (lambda n: n.capacitor("C1", "a", "in", 1e-12), "node 'a'"),
        (lambda n: n.current_source("I1", "0", "a", 1e-6), "node 'a'"),
        (lambda n: n.vccs("G1", "0", "a", "in", "0", 1e-6), "node 'a'"),
        (lambda n: n.vcvs("E1", "b", "0", "a", "0", 2.0), "node 'a'"),
        (lambda n: n.amplifier("B1", "b", "a", law="tanh", **CURVE), "node 'a'"),
        (lambda n: n.voltage_source("V2", "a", "b", 1.0), "nodes 'a', 'b'"),
        (lambda n: n.behavioural("B1", "a", "0", formula("v(in)^2"), voltage=False), "node 'a'"),
        (lambda n: n.behavioural("B1", "b", "0", formula("v(a)^2"), voltage=True), "node 'a'"),
    ],
)
def test_floating_nodes_are_named(add: Callable[[Netlist], None], nodes: str) -> None:
    net = divider()
    add(net)
    with pytest.raises(NetlistError, match=f"no DC path to ground from {nodes}: add a resistor"):
        net.validate()


def test_many_floating_nodes_are_counted() -> None:
    net = divider()
    net.bank("capacitor", [f"C{k}" for k in range(9)], [f"f{k}" for k in range(9)], "0", capacitance=1e-12)
    with pytest.raises(NetlistError, match="'f5' and 3 more"):
        net.validate()


@pytest.mark.parametrize(
    ("add", "loop"),
    [
        (lambda n: n.voltage_source("V2", "0", "in", -1.0), {"V1", "V2"}),
        (lambda n: n.voltage_source("V2", "out", "out", 0.0), {"V2"}),
        (lambda n: n.amplifier("B1", "in", "out", law="tanh", **CURVE), {"V1", "B1"}),
    ],
)
def test_loops_of_voltage_sources_are_named(add: Callable[[Netlist], None], loop: set[str]) -> None:
    net = divider()
    net.voltage_source("V9", "aside", "in", 1.0)
    add(net)
    with pytest.raises(NetlistError, match="all around a loop") as error:
        net.validate()
    assert {name for name in ("V1", "V2", "B1", "V9") if repr(name) in str(error.value)} == loop


def test_a_long_loop_is_named_in_full() -> None:
    net = Netlist()
    for k in range(4):
        net.vcvs(f"E{k}", f"n{k}", f"n{(k + 1) % 4}", "n0", "0", 0.5)
        net.resistor(f"R{k}", f"n{k}", "0", conductance=1.0)
    with pytest.raises(NetlistError, match="'E0'") as error:
        net.validate()
    assert all(f"'E{k}'" in str(error.value) for k in range(4))


def test_an_empty_netlist_is_refused() -> None:
    with pytest.raises(NetlistError, match="'nothing' has no node besides ground"):
        Netlist("nothing").validate()


def test_terminals_are_places_among_nodes_then_branches_then_time() -> None:
    net = divider()
    net.cccs("F1", "out", "0", Current("V1"), 2.0)
    net.inductor("L1", "out", "end", 1e-3)
    net.resistor("R3", "end", "0", conductance=1.0)
    net.behavioural("B1", "out", "0", Formula((("in", "out"), Current("L1"), TIME)), voltage=False)
    assert net.nodes == ("in", "out", "end") and net.branches == ("V1", "L1")
    by_kind = {bank.kind: bank for bank in net.banks}
    assert by_kind["voltage_source"].branches.tolist() == [4]  # after ground and three nodes
    assert by_kind["cccs"].terminals.tolist() == [[[2], [0]], [[4], [0]]]
    assert by_kind["inductor"].terminals.tolist() == [[[2], [3]], [[5], [0]]]
    assert by_kind["behavioural_current"].terminals[:, :, 0].tolist() == [[2, 0], [1, 2], [5, 0], [6, 0]]
    assert net.kind("F1") == "cccs" and net.kind("F2") is None


def test_banks_do_not_change_while_the_netlist_grows() -> None:
    net = divider()
    before = net.banks
    net.resistor("R3", "new", "0", conductance=1.0)
    assert len(before[1].names) == 2 and net.banks[1].names == ("R1", "R2", "R3")
    with pytest.raises(ValueError, match="read-only"):
        before[1].parameters["conductance"][0] = 7.0
    with pytest.raises(ValueError, match="read-only"):
        before[1].terminals[0, 0, 0] = 7


def test_devices_of_one_expression_share_a_bank() -> None:
    net, shared = divider(), Formula((("in", "0"),))
    net.behavioural("B1", "out", "0", shared, voltage=False)
    net.behavioural("B2", "in", "0", shared, voltage=False, controls=[("out", "0")], scale=2.0)
    net.behavioural("B3", "in", "0", Formula((("in", "0"),)), voltage=False)
    first, other = [bank for bank in net.banks if bank.kind == "behavioural_current"]
    assert first.names == ("B1", "B2") and other.names == ("B3",)
    assert first.expression is shared
    assert first.terminals[1].tolist() == [[1, 2], [0, 0]]


def test_a_mosfet_comes_with_its_parts_or_not_at_all() -> None:
    net = divider()
    net.mosfet("M1", "in", "out", "0", "0", vto=0.5, rd=10.0, cgs=1e-15)
    assert {"in", "out", "M1#drain"} == set(net.nodes)
    parts = {"M1": "mosfet", "M1#bd": "bulk_diode", "M1#bs": "bulk_diode", "M1#rd": "resistor"}
    assert {name: net.kind(name) for name in parts} == parts and net.kind("M1#cgs") == "capacitor"
    count = len(net)
    for bad in ({"is_": -1e-14}, {"cgs": -1e-15}, {"rs": -5.0}, {"w": 0.0}, {"phi": 0.0}, {"polarity": 2}):
        with pytest.raises(NetlistError, match="M2"):
            net.mosfet("M2", "x", "out", "0", "0", **bad)
    assert len(net) == count and "x" not in net.nodes


def test_sources_rest_at_their_value_or_that_of_their_waveform() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", waveform=Pulse(0.25, 1.0, delay=1e-9))
    net.voltage_source("V2", "b", "0", 3.0, waveform=Pulse(0.25, 1.0, delay=1e-9), ac=1j)
    net.voltage_source("V3", "c", "0")
    (bank,) = net.banks
    assert bank.parameters["voltage"].tolist() == [0.25, 3.0, 0.0]
    assert list(bank.waveforms) == [0, 1] and bank.ac == {1: 1j}


@dataclass(frozen=True)
class Formula:
    """The sum of its ports."""

    ports: tuple[Any, ...]
    analytic: bool = True

    def evaluate(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return u.sum(axis=0), np.ones_like(u)

    def text(self, ports: Any, constant: Any) -> str:
        return "+".join(ports)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (
            lambda n: n.cccs("F1", "out", "0", Current("R1"), 1.0),
            "F1: it is controlled by the current of 'R1'",
        ),
        (lambda n: n.ccvs("H1", "x", "0", Current("V7"), 1.0), "H1: it is controlled by the current of 'V7'"),
    ],
)
def test_only_currents_that_are_unknowns_can_be_sensed(add: Callable[[Netlist], None], message: str) -> None:
    net = divider()
    add(net)
    with pytest.raises(NetlistError, match=message):
        net.validate()


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda n: n.diode("D1", "a", "0", n=0.0), "D1: n is 0"),
        (
            lambda n: n.diode("D1", "a", "0", cjo=-1e-12),
            "D1: cjo is -1e-12 F; give a finite value at least 0 F",
        ),
        (lambda n: n.diode("D1", "a", "0", bv=-3.0), "D1: bv is -3; give a value above 0"),
        (lambda n: n.switch("S1", "a", "0", "in", "0", vh=0.1), "hysteresis vh is 0.1 V"),
        (lambda n: n.switch("S1", "a", "0", "in", "0", ron=0.0), "S1: ron is 0 ohm"),
        (lambda n: n.ekv("X1", "a", "in", "0", "0", polarity=0), "X1: polarity is 0"),
        (lambda n: n.voltage_source("V2", "a", "0", 1.0, ac=float("inf")), "V2: ac amplitude is inf"),
        (lambda n: n.bank("vccs", ["G1"], "a", "0", transconductance=1.0), "G1: 0 controls, it takes 1"),
        (lambda n: n.bank("cccs", ["F1", "F2"], "a", "0", [Current("V1")], gain=1.0), "1 controls for 2 dev"),
        (
            lambda n: n.bank("resistor", ["R3"], "a", "0", expression=Formula(()), conductance=1.0),
            "it takes no",
        ),
        (lambda n: n.bank("behavioural_current", ["B1"], "a", "0", scale=1.0), "give an expression"),
        (
            lambda n: n.behavioural("B1", "a", "0", Formula(()), voltage=True, controls=[TIME]),
            "expression of 0",
        ),
    ],
)
def test_new_devices_refuse_what_cannot_be(add: Callable[[Netlist], None], message: str) -> None:
    net = divider()
    with pytest.raises(NetlistError, match=message):
        add(net)
    assert len(net) == 3 and net.nodes == ("in", "out")


def test_an_inductor_across_a_voltage_source_is_a_loop() -> None:
    net = divider()
    net.inductor("L1", "in", "0", 1e-3)
    with pytest.raises(NetlistError, match=r"'V1', 'L1'.*an inductor is a short"):
        net.validate()


def test_junctions_and_channels_are_paths_though_they_be_off() -> None:
    net = divider()
    net.mosfet("M1", "d", "in", "0", "0", vto=5.0)
    net.ekv("X1", "e", "in", "0", "0")
    net.diode("D1", "f", "0")
    net.switch("S1", "g", "0", "in", "0", vt=5.0)
    net.validate()
