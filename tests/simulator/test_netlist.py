"""Netlists: what they hold, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.simulator.devices import DEVICES
from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point

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
    assert resistors.terminals.tolist() == [[1, 2], [2, 0], [0, 0], [0, 0]]
    assert resistors.parameters["conductance"].tolist() == [1e-6, 3e-6]
    assert next(iter(resistors.rows())) == ("R1", [1, 2, 0, 0], {"conductance": 1e-6})


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


@pytest.mark.parametrize("kind", list(DEVICES))
def test_slopes_of_every_law_are_its_derivatives(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    device = DEVICES[kind]
    values = {parameter.name: rng.uniform(0.5, 1.0, 50) for parameter in device.parameters}
    if "high" in values:
        values["high"] += 1.0
    v, v_ctrl = rng.normal(size=(2, 50))
    h = 1e-6
    f, f_v, f_c = device.law(values, v, v_ctrl)
    assert f.shape == f_v.shape == f_c.shape == (50,)
    across = (device.law(values, v + h, v_ctrl)[0] - device.law(values, v - h, v_ctrl)[0]) / (2 * h)
    control = (device.law(values, v, v_ctrl + h)[0] - device.law(values, v, v_ctrl - h)[0]) / (2 * h)
    np.testing.assert_allclose(across, f_v, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(control, f_c, rtol=1e-8, atol=1e-8)
    assert device.controlled or not np.any(f_c)
