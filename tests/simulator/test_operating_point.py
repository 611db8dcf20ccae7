"""The operating point against Kirchhoff's laws, dense algebra and circuits with known answers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.continuation import charge, gmin_stepping, source_stepping
from ohmostat.simulator.equations import Equations
from ohmostat.simulator.expressions import parse_expression
from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.newton import newton
from ohmostat.simulator.operating_point import (
    ConvergenceError,
    OperatingPoint,
    jacobian_at,
    operating_point,
    operating_points,
)
from ohmostat.simulator.spice_reader import read_spice
from ohmostat.simulator.structure import Structure
from ohmostat.simulator.transient import transient

from .small_circuits import conductances, everything, hopfield, latch

CIRCUITS = Path(__file__).parent / "circuits"
seeds = st.integers(0, 2**32 - 1)


def branch_currents(net: Netlist, point: OperatingPoint) -> list[tuple[int, int, np.ndarray, bool]]:
    """First node, second node, current and whether it is voltage-defined, of every bank."""
    v = np.concatenate([[0.0], point.voltages])
    banks = []
    for bank in net.banks:
        a, b = bank.terminals[0]
        if bank.device.voltage_defined:
            current = np.array([point.current(name) for name in bank.names])
        else:
            current = bank.evaluate(v[bank.terminals[:, 0]] - v[bank.terminals[:, 1]])[0]
        banks.append((a, b, current, bank.device.voltage_defined))
    return banks


def test_signs_of_every_element() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 2.0)
    net.resistor("R1", "a", "0", conductance=1e-3)
    net.current_source("I1", "0", "b", 3e-3)  # into b
    net.resistor("R2", "b", "0", conductance=1e-3)
    net.vccs("G1", "0", "c", "a", "b", 1e-3)  # into c
    net.resistor("R3", "c", "0", conductance=1e-3)
    net.vcvs("E1", "d", "c", "b", "0", 2.0)
    net.resistor("R4", "d", "0", conductance=1e-3)
    net.capacitor("C1", "d", "a", 1e-9)
    net.amplifier("B1", "s", "a", law="tanh", low=-1.0, high=1.0, gain=1.0, offset=2.0)
    point = operating_point(net)
    # v_d = v_c + 6 V, and the VCCS feeds both: (v_a - v_b) gm = g v_c + g v_d
    expected = {"0": 0.0, "a": 2.0, "b": 3.0, "c": -3.5, "d": 2.5, "s": 0.0}
    assert point.voltages_by_node() == pytest.approx(expected, abs=1e-12)
    assert point["d"] == pytest.approx(2.5)
    assert point.current("V1") == pytest.approx(-2e-3)  # a source that delivers: negative, as in SPICE
    assert point.current("E1") == pytest.approx(-2.5e-3)
    assert point.method == "newton" and point.residual < 1e-15


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 7), st.integers(0, 7))
def test_conductances_are_reciprocal_and_passive(seed: int, i: int, j: int) -> None:
    transfer = []
    for into, read in ((i, j), (j, i)):
        net = conductances(seed)
        net.current_source("I1", "0", f"n{into}", 1e-6)
        point = operating_point(net)
        assert point[f"n{into}"] > 0  # the source delivers power
        assert max(point.voltages) <= point[f"n{into}"] * (1 + 1e-9)  # the extreme is at the source
        assert min(point.voltages) >= -1e-12
        transfer.append(point[f"n{read}"])
    assert transfer[0] == pytest.approx(transfer[1], rel=1e-9, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_currents_balance_and_power_is_conserved(seed: int) -> None:
    net = everything(seed)
    point = operating_point(net)
    v = np.concatenate([[0.0], point.voltages])
    balance, power, largest = np.zeros(v.size), [], 0.0
    for a, b, current, _ in branch_currents(net, point):
        np.add.at(balance, a, -current)
        np.add.at(balance, b, current)
        power += list((v[a] - v[b]) * current)
        largest = max(largest, np.abs(current).max())
    assert np.abs(balance).max() <= 1e-12 * largest  # ground's too
    assert abs(sum(power)) <= 1e-12 * np.abs(power).sum()  # Tellegen
    assert point.residual == pytest.approx(np.abs(balance[1:]).max(), abs=1e-12 * largest)
    assert point.residual < 1e-15 and point.voltage_residual < 1e-14


def dense_solution(net: Netlist) -> np.ndarray:
    """A linear netlist solved by textbook stamps, element by element, and numpy."""
    n, branches = (
        len(net.nodes) + 1,
        [name for b in net.banks if b.device.voltage_defined for name in b.names],
    )
    m = np.zeros((n + len(branches), n + len(branches)))
    rhs = np.zeros(len(m))
    for bank in net.banks:
        for name, ((a, b), *controls), p in bank.rows():
            c, d = controls[0] if controls else (0, 0)
            if bank.kind == "resistor":
                g = p["conductance"]
                m[a, a] += g
                m[b, b] += g
                m[a, b] -= g
                m[b, a] -= g
            elif bank.kind == "current_source":
                rhs[a] -= p["current"]
                rhs[b] += p["current"]
            elif bank.kind == "vccs":
                gm = p["transconductance"]
                m[a, c] += gm
                m[a, d] -= gm
                m[b, c] -= gm
                m[b, d] += gm
            elif bank.device.voltage_defined:
                k = n + branches.index(name)
                m[a, k] += 1
                m[b, k] -= 1
                m[k, a] += 1
                m[k, b] -= 1
                if bank.kind == "vcvs":
                    m[k, c] -= p["gain"]
                    m[k, d] += p["gain"]
                else:
                    rhs[k] = p["voltage"]
    return np.linalg.solve(m[1:, 1:], rhs[1:])


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_linear_circuits_agree_with_a_dense_solve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = conductances(seed)
    net.voltage_source("V1", "n0", "n5", rng.normal())
    net.voltage_source("V2", "in", "0", rng.normal())
    net.resistor("Rin", "in", "n3", conductance=1e-5)
    net.current_source("I1", "n1", "n2", 1e-6 * rng.normal())
    net.vccs("G1", "n4", "n1", "n6", "n7", 1e-8 * rng.normal())
    net.vcvs("E1", "e", "n2", "n1", "n4", 0.5 * rng.normal())
    net.resistor("Re", "e", "0", conductance=1e-6)
    point = operating_point(net)
    dense = dense_solution(net)
    scale = max(1.0, np.abs(dense[: len(net.nodes)]).max())
    np.testing.assert_allclose(point.voltages, dense[: len(net.nodes)], atol=1e-9 * scale)
    np.testing.assert_allclose(point.currents, dense[len(net.nodes) :], rtol=1e-7, atol=1e-13 * scale)
    assert point.iterations <= 2


@pytest.mark.parametrize("seed", range(3))
def test_jacobian_is_the_derivative_of_kirchhoffs_law(seed: int) -> None:
    """By finite differences of each element's current, node by node."""
    net = everything(seed)
    rng, n = np.random.default_rng(seed), len(net.nodes)

    def leaving(x: np.ndarray) -> np.ndarray:
        full = np.concatenate([[0.0], x, [0.0]])
        total = np.zeros(len(full))
        for bank in net.banks:
            a, b = bank.terminals[0]
            f = bank.evaluate(full[bank.terminals[:, 0]] - full[bank.terminals[:, 1]])[0]
            if bank.branches is not None:
                total[bank.branches] += f
                f = full[bank.branches]
            np.add.at(total, a, f)
            np.add.at(total, b, -f)
        return total[1:-1]

    x = rng.normal(size=n + len(net.branches))
    steps = 1e-5 * np.eye(len(x))
    difference = np.array([leaving(x + step) - leaving(x - step) for step in steps]).T / 2e-5
    jacobian = jacobian_at(net, x[:n]).toarray()
    np.testing.assert_allclose(jacobian, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("q1", [0.0, 1.0])
@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_initial_voltages_choose_the_state_of_a_latch(q1: float, where: str) -> None:
    v1, v2 = (0.0, -1.0) if q1 == 1.0 else (-1.0, 0.0)
    initial = {"v1": v1, "v2": v2} if where == "inputs" else {"q1": q1, "q2": 1.0 - q1}
    point = operating_point(latch(), initial=initial)
    assert point["q1"] == pytest.approx(q1, abs=0.01) and point["q2"] == pytest.approx(1.0 - q1, abs=0.01)
    assert point.residual < 1e-17


def test_the_third_state_of_a_latch_balances_too() -> None:
    point = operating_point(latch(), initial={"v1": -0.5, "v2": -0.5})
    assert point["q1"] == pytest.approx(0.5, abs=1e-3) and point["q2"] == pytest.approx(0.5, abs=1e-3)


def test_a_full_initial_state_is_kept() -> None:
    net = everything(5)
    point = operating_point(net)
    again = operating_point(net, initial=point.voltages_by_node())
    assert again.iterations <= 3
    np.testing.assert_allclose(again.voltages, point.voltages, atol=1e-13)


@pytest.mark.parametrize(
    ("initial", "message"),
    [({"nowhere": 1.0}, "has no node 'nowhere'"), ({"v1": float("nan")}, "node 'v1' at nan V")],
)
def test_impossible_initial_voltages(initial: dict[str, float], message: str) -> None:
    with pytest.raises(NetlistError, match=message):
        operating_point(latch(), initial=initial)


@pytest.mark.parametrize("method", ["full newton", "damped newton", "gmin", "sources", "charging"])
def test_every_method_alone_finds_the_one_solution(method: str) -> None:
    net = hopfield(3, n=8, gain=1.5, coupling=5e-8)  # loop gain below 1: one solution
    equations = Equations(net)
    zero, drive = np.zeros((1, equations.structure.size)), equations.drive()
    attempt = {
        "full newton": lambda: newton(equations, zero, drive),
        "damped newton": lambda: newton(equations, zero, drive, damped=True),
        "gmin": lambda: gmin_stepping(equations, drive, zero),
        "sources": lambda: source_stepping(equations, drive),
        "charging": lambda: charge(equations, drive, zero),
    }[method]()
    assert attempt.converged.all()
    np.testing.assert_allclose(attempt.x[0, : len(net.nodes)], operating_point(net).voltages, atol=1e-13)


def test_hard_circuits_are_solved_and_say_how() -> None:
    methods = set()
    for seed in (0, 1, 2, 11, 13, 46, 90, 106, 148):  # plain Newton fails on most of them
        point = operating_point(hopfield(seed))
        assert point.residual < 1e-17 and point.voltage_residual < 1e-12
        methods.add(point.method)
    assert "newton" in methods and len(methods) > 1
    assert methods <= {"newton", "damped newton", "gmin stepping", "source stepping", "pseudo-transient"}


def test_no_solution_names_the_node() -> None:
    net = Netlist("starved")
    net.amplifier("B1", "s", "v", law="logistic", low=0.0, high=1.0, gain=1.0, offset=0.5)
    net.vccs("G1", "v", "0", "s", "0", 1e-6)  # takes at most 1 µA out of v
    net.current_source("I1", "0", "v", 2e-6)
    net.resistor("R1", "w", "0", conductance=1e-6)
    with pytest.raises(ConvergenceError, match=r"'starved'.*do not balance at 'v' \(1e-06 A"):
        operating_point(net)


def opamp() -> Netlist:
    """Two stages in unity gain, on whose operating point plain Newton goes round in circles."""
    return read_spice(CIRCUITS / "two-stage-opamp.cir").netlist()


def test_shunts_are_those_of_devices_that_conduct() -> None:
    """At 0 V a channel is off, and so is a switch below its threshold."""
    assert Equations(opamp()).largest_conductance() == pytest.approx(280e-6 * 40)
    net = Netlist("switch")
    net.voltage_source("V1", "a", "0", 1.0)
    net.switch("S1", "a", "b", "a", "0", vt=0.5, ron=10.0, roff=1e9)
    net.resistor("R1", "b", "0", conductance=1e-6)
    assert Equations(net).largest_conductance() == pytest.approx(0.1)


@pytest.mark.parametrize("eliminate", [True, False])
def test_gmin_stepping_alone_solves_an_opamp(eliminate: bool) -> None:
    equations = Equations(opamp(), eliminate=eliminate)
    start = np.zeros((1, equations.structure.size))
    attempt = gmin_stepping(equations, equations.drive(), start)
    point = operating_point(opamp())
    assert attempt.converged.all() and attempt.iterations[0] < 300
    assert point.method == "gmin stepping"
    assert point["out"] == pytest.approx(0.9, abs=1e-3)
    np.testing.assert_allclose(attempt.x[0, : len(point.nodes)], point.voltages, atol=1e-12)


def test_a_transient_starts_at_the_operating_point() -> None:
    net = opamp()
    wave, point = transient(net, 1e-9), operating_point(net)  # its pulse comes later
    np.testing.assert_array_equal(wave.voltages[0], point.voltages)


def test_only_nodes_at_fault_are_named() -> None:
    """Not what balances of itself, nor a node that a source holds, nor what a continuation left."""
    net = Netlist("rootless")
    net.voltage_source("V1", "up", "0", 5.0)
    net.resistor("R1", "up", "half", conductance=1e-3)
    net.resistor("R2", "half", "0", conductance=1e-3)
    net.resistor("R3", "up", "x", conductance=1e-9)
    net.behavioural("B1", "x", "0", parse_expression("1e-3*(1 + v(x)*v(x))"), voltage=False)
    with pytest.raises(ConvergenceError) as error:
        operating_point(net)
    assert "do not balance at 'x' (0.001 A at " in str(error.value)
    assert "'half'" not in str(error.value) and "'up'" not in str(error.value)
    with pytest.raises(ConvergenceError, match=r"^netlist 'rootless': no operating point"):
        transient(net, 1e-6)  # one circuit is no sample of many


@pytest.mark.parametrize("current", [0.0, 1e-6])
def test_equations_that_determine_nothing_name_the_node(current: float) -> None:
    net = Netlist("cancelled")
    net.resistor("R1", "a", "0", conductance=1e-6)
    net.vccs("G1", "a", "0", "a", "0", -1e-6)
    net.current_source("I1", "0", "a", current)
    net.resistor("R2", "b", "0", conductance=1e-6)
    with pytest.raises(ConvergenceError, match=r"singular and do not determine 'a'$"):
        operating_point(net)


def test_controlled_sources_may_be_the_only_path() -> None:
    net = Netlist("gyrator")
    net.vccs("G1", "a", "0", "b", "0", 1e-6)
    net.vccs("G2", "b", "0", "a", "0", -1e-6)
    net.current_source("I1", "0", "a", 1e-6)
    point = operating_point(net)
    assert (point["a"], point["b"]) == pytest.approx((0.0, 1.0))


def test_a_netlist_without_voltage_sources() -> None:
    net = Netlist()
    net.resistor("R1", "a", "0", conductance=1e-6)
    point = operating_point(net)
    assert point["a"] == 0.0 and point.branches == () and point.voltage_residual == 0.0


def test_a_flat_chip_solves_well_within_a_second() -> None:
    rng = np.random.default_rng(0)
    net, sizes = Netlist("30-20-10"), (30, 20, 10)
    for layer, size in enumerate(sizes):
        for i in range(size):
            if layer == 0:
                net.voltage_source(f"V{i}", f"s0_{i}", "0", rng.random())
            else:
                net.resistor(f"R{layer}_{i}", f"v{layer}_{i}", "0", conductance=1e-6)
                net.amplifier(
                    f"B{layer}_{i}", f"s{layer}_{i}", f"v{layer}_{i}",
                    law="logistic", low=0.0, high=1.0, gain=2.0, offset=0.2,
                )  # fmt: skip
            net.vcvs(f"E{layer}_{i}", f"n{layer}_{i}", "0", f"s{layer}_{i}", "0", -1.0)
    for pre, post in ((0, 1), (1, 2), (2, 1)):
        i, j = (k.ravel() for k in np.indices((sizes[post], sizes[pre])))
        for sign in "sn":
            names = [f"R{sign}{pre}{post}_{k}" for k in range(i.size)]
            drivers, nodes = [f"{sign}{pre}_{k}" for k in j], [f"v{post}_{k}" for k in i]
            net.bank("resistor", names, drivers, nodes, conductance=1e-6 * rng.random(i.size))
    assert len(net) > 2000
    started = time.perf_counter()
    point = operating_point(net)
    assert time.perf_counter() - started < 0.5  # about 0.03
    assert point.method == "newton" and point.residual < 1e-18


def test_semiconductors_that_undamped_newton_would_throw_far_away() -> None:
    net = Netlist("bridge")
    net.voltage_source("V1", "a", "b", 300.0)
    for k, (anode, cathode) in enumerate([("a", "p"), ("b", "p"), ("n", "a"), ("n", "b")]):
        net.diode(f"D{k}", anode, cathode)
    net.resistor("R1", "p", "n", conductance=1e-3)
    net.resistor("R2", "n", "0", conductance=1.0)
    point = operating_point(net)
    assert point.method == "newton" and point.iterations < 60
    drop = 2 * 0.025864917 * np.log((300 - point["p"] + point["n"]) and 0.2985 / 1e-14)
    assert point["p"] - point["n"] == pytest.approx(300 - drop, abs=0.01)


def test_a_ring_of_cmos_inverters_balances_at_its_threshold() -> None:
    net = Netlist("ring")
    net.voltage_source("Vdd", "vdd", "0", 1.8)
    for k in range(3):
        here, there = f"n{k}", f"n{(k + 1) % 3}"
        net.mosfet(f"Mn{k}", there, here, "0", "0", vto=0.5, kp=2e-4, w=1e-6, l=1e-6, lambda_=0.02)
        net.mosfet(
            f"Mp{k}", there, here, "vdd", "vdd", polarity=-1, vto=-0.5, kp=2e-4, w=1e-6, l=1e-6, lambda_=0.02
        )
    point = operating_point(net)
    assert point.voltages[1:] == pytest.approx(0.9, abs=1e-9)
    assert point.current("Vdd") == pytest.approx(-3 * 1e-4 * 0.4**2 * (1 + 0.02 * 0.9), rel=1e-6)


def test_inductors_are_shorts_and_currents_can_be_sensed() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 1.0)
    net.inductor("L1", "a", "b", 1e-3)
    net.resistor("R1", "b", "0", conductance=2e-3)
    net.cccs("F1", "0", "c", Current("L1"), 3.0)
    net.resistor("R2", "c", "0", conductance=1e-3)
    point = operating_point(net)
    assert (point["b"], point["c"]) == pytest.approx((1.0, 6.0))
    assert point.current("L1") == pytest.approx(2e-3) and point.current("V1") == pytest.approx(-2e-3)


def behaving(*formulas: str, voltage: bool) -> Netlist:
    """A source of 2 V at ``in``, and behavioural sources at ``n0``, ``n1``, ... with a load each."""
    net = Netlist("behaving")
    net.voltage_source("V1", "in", "0", 2.0)
    for k, text in enumerate(formulas):
        net.behavioural(f"B{k}", f"n{k}", "0", parse_expression(text, {}.__getitem__), voltage=voltage)
        net.resistor(f"R{k}", f"n{k}", "0", conductance=1e-3)
    return net


@pytest.mark.parametrize(("text", "volts"), [("v(a)*v(a)*v(a)", 0.1), ("1m*uramp(v(a))", 1.0)])
def test_a_law_may_be_flat_at_zero(text: str, volts: float) -> None:
    """Its only path to ground has no slope where all voltages are 0. ngspice finds the same."""
    net = Netlist("flat")
    net.current_source("I1", "0", "a", 1e-3)
    net.behavioural("B1", "a", "0", parse_expression(text, {}.__getitem__), voltage=False)
    point = operating_point(net)
    assert point["a"] == pytest.approx(volts, rel=1e-9) and point.residual < 1e-15


def test_values_of_a_kind_reach_all_of_its_banks() -> None:
    """One bank an expression, in the order of the netlist's banks."""
    net = behaving("v(in)", "3*v(in)", "v(in)^2", voltage=True)
    assert [bank.kind for bank in net.banks].count("behavioural_voltage") == 3
    scales = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
    points = operating_points(net, {("behavioural_voltage", "scale"): scales})
    found = np.stack([points[f"n{k}"] for k in range(3)], axis=1)
    np.testing.assert_allclose(found, scales * [2.0, 6.0, 4.0], rtol=1e-12)
    with pytest.raises(NetlistError, match=r"of shape \(2,\) for 3 devices; give \(3,\), or \(samples, 3\)"):
        operating_points(net, {("behavioural_voltage", "scale"): [1.0, 2.0]})


@pytest.mark.parametrize("key", [("D1", "temperature"), ("diode", "temperature")])
def test_what_others_were_computed_from_cannot_be_replaced(key: tuple[str, str]) -> None:
    net = Netlist("diode")
    net.current_source("I1", "0", "a", 1e-3)
    net.diode("D1", "a", "0")
    with pytest.raises(NetlistError, match=r"temperature cannot be replaced; .*Netlist\(temperature"):
        operating_point(net, at={key: 350.0})


def test_damped_newton_says_so() -> None:
    net = hopfield(3)
    zero = np.zeros((1, Structure(net).size))
    equations = Equations(net)
    assert not newton(equations, zero, equations.drive()).converged[0]
    assert newton(equations, zero, equations.drive(), damped=True).converged[0]
    assert operating_point(net).method == "damped newton"
