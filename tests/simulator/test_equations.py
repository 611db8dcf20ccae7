"""The equations F + dQ/dt against finite differences and against circuits written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csc_array

from ohmostat.simulator.equations import HARMLESS, Equations, Relaxation
from ohmostat.simulator.expressions import parse_expression
from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point, operating_points
from ohmostat.simulator.structure import Structure
from ohmostat.simulator.waveforms import PiecewiseLinear, Sine

VALUES: dict[str, dict[str, float]] = {
    "V1": {"voltage": 0.7},
    "R1": {"conductance": 2e-4},
    "D1": {"is_": 1e-13, "n": 1.2},
    "M1": {"vto": 0.3, "kp": 1e-4},
    "B1": {"scale": 1.5},
    "I1": {"current": 2e-5},
    "C1": {"capacitance": 3e-12},
}


def everything(**changed: dict[str, float]) -> Netlist:
    """Every kind of element in one circuit; values of the devices above may be changed."""
    v = {name: {**values, **changed.get(name, {})} for name, values in VALUES.items()}
    net = Netlist("everything")
    net.voltage_source("V1", "in", "0", v["V1"]["voltage"], waveform=Sine(0.7, 0.1, 1e6))
    net.voltage_source("V2", "0", "neg", 0.4)
    net.voltage_source("V3", "a", "b", 0.1)
    net.voltage_source("Vs", "in", "s", 0.0)
    net.resistor("R1", "in", "a", conductance=v["R1"]["conductance"])
    net.resistor("R2", "b", "0", conductance=1e-4)
    net.resistor("R3", "s", "c", conductance=1e-3)
    net.capacitor("C1", "a", "c", v["C1"]["capacitance"])
    net.capacitor("C2", "in", "c", 1e-12)
    net.inductor("L1", "c", "d", 1e-6)
    net.resistor("R4", "d", "0", conductance=1e-3)
    net.current_source("I1", "0", "b", v["I1"]["current"], waveform=PiecewiseLinear((0.0, 1e-6), (0.0, 1e-4)))
    net.vccs("G1", "a", "0", "c", "neg", 1e-5)
    net.vcvs("E1", "e", "0", "a", "b", 2.0)
    net.resistor("R5", "e", "d", conductance=1e-4)
    net.cccs("F1", "c", "0", Current("Vs"), 0.2)
    net.ccvs("H1", "h", "0", Current("L1"), 50.0)
    net.resistor("R6", "h", "a", conductance=1e-4)
    net.diode("D1", "a", "0", is_=v["D1"]["is_"], n=v["D1"]["n"], cjo=1e-12, tt=1e-9, rs=5.0)
    net.mosfet("M1", "d", "c", "0", "neg", vto=v["M1"]["vto"], kp=v["M1"]["kp"], gamma=0.3, cbd=1e-13)
    net.ekv("X1", "d", "in", "neg", "neg", vto=0.4)
    net.switch("S1", "d", "b", "in", "0", vt=0.2, ron=1e4)
    net.behavioural(
        "B1", "a", "d", parse_expression("1e-4*tanh(v(c)-v(b))"), voltage=False, scale=v["B1"]["scale"]
    )
    net.amplifier("A1", "o", "a", law="softplus", low=0.0, high=1.0, gain=2.0, offset=0.1)
    net.resistor("R7", "o", "c", conductance=1e-5)
    return net


def dense(equations: Equations, slopes: np.ndarray) -> np.ndarray:
    pattern, n = equations.structure.pattern, len(equations.structure.free)
    return csc_array((slopes[0], pattern.indices, pattern.starts), shape=(n, n)).toarray()


def derivatives(equations: Equations, function: Any, x: np.ndarray, h: float = 1e-6) -> np.ndarray:
    columns = []
    for k in equations.structure.free:
        step = np.zeros_like(x)
        step[0, k] = h
        columns.append((function(x + step) - function(x - step))[0] / (2 * h))
    return np.array(columns).T


@pytest.mark.parametrize("eliminate", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_derivatives(eliminate: bool, seed: int) -> None:
    equations, rng = Equations(everything(), eliminate=eliminate), np.random.default_rng(seed)
    drive = equations.drive()
    x = 0.3 * rng.normal(size=(1, equations.structure.size))
    equations.impose(x, drive)
    state = equations.evaluate(x, drive)
    want = derivatives(equations, lambda x: equations.evaluate(x, drive).residual, x)
    np.testing.assert_allclose(
        dense(equations, state.slopes), want, rtol=1e-6, atol=1e-7 * np.abs(want).max()
    )
    q, slopes = equations.charge(x, drive)
    want = derivatives(equations, lambda x: equations.charge(x, drive)[0], x)
    np.testing.assert_allclose(dense(equations, slopes), want, rtol=1e-6, atol=1e-7 * np.abs(want).max())
    assert np.abs(q).max() > 1e-13 and np.abs(want).max() > 1e-13


def test_relaxed_slopes_are_derivatives_too() -> None:
    equations, rng = Equations(everything()), np.random.default_rng(3)
    nodes = equations.structure.nodes
    relaxation = Relaxation(1e-3 * rng.random(nodes), rng.normal(size=nodes), 30.0)
    drive = equations.drive(scale=0.7)
    x = 0.3 * rng.normal(size=(1, equations.structure.size))
    state = equations.evaluate(x, drive, relaxation)
    want = derivatives(equations, lambda x: equations.evaluate(x, drive, relaxation).residual, x)
    np.testing.assert_allclose(
        dense(equations, state.slopes), want, rtol=1e-6, atol=1e-7 * np.abs(want).max()
    )


def test_eliminated_and_full_equations_have_one_solution() -> None:
    net = everything()
    point = operating_point(net)
    full = Equations(net, eliminate=False)
    assert full.structure.free.tolist() == list(range(len(point.x)))
    small = Equations(net)
    assert len(small.structure.free) == len(point.x) - 4  # two nodes, two currents
    state = full.evaluate(point.x[None], full.drive())
    assert np.all(np.abs(state.residual) <= 100 * state.rounding + 1e-15)


def test_rounding_is_an_estimate_of_the_error_of_the_residual() -> None:
    """Far from a solution and over many decades: against the same sums in longer precision."""
    rng = np.random.default_rng(0)
    net = Netlist("decades")
    for k in range(30):
        a, b = rng.choice(8, 2, replace=False)
        net.resistor(f"R{k}", f"n{a}", f"n{b}", conductance=10 ** rng.uniform(-12, 3))
    net.resistor("Rg", "n0", "0", conductance=1.0)
    equations = Equations(net)
    x = rng.normal(size=(1, 8)) * 10 ** rng.uniform(-6, 6, 8)
    state = equations.evaluate(x, equations.drive())
    exact = np.zeros(9, np.longdouble)
    v = np.concatenate([[0], x[0]]).astype(np.longdouble)
    for _, ((a, b),), p in net.banks[0].rows():
        exact[a] += np.longdouble(p["conductance"]) * (v[a] - v[b])
        exact[b] -= np.longdouble(p["conductance"]) * (v[a] - v[b])
    error = np.abs(state.residual[0] - exact[1:].astype(float))
    assert np.all(error <= 16 * state.rounding[0]) and error.max() > 0


CHANGES: list[tuple[Any, np.ndarray]] = [
    ("V1", np.array([0.2, 0.5, 0.9])),
    ("R1", np.array([1e-4, 1e-3, 1e-5])),
    ("D1", np.array([1e-12, 1e-15, 1e-13])),
    (("D1", "n"), np.array([1.0, 1.4, 1.9])),
    (("M1", "vto"), np.array([0.1, 0.5, -0.3])),
    ("B1", np.array([0.0, -2.0, 3.0])),
    ("I1", np.array([0.0, -1e-4, 1e-4])),
]


@pytest.mark.parametrize("key", [key for key, _ in CHANGES], ids=str)
def test_a_replaced_value_is_a_changed_netlist(key: Any) -> None:
    values = dict(CHANGES)[key]
    name, parameter = key if isinstance(key, tuple) else (key, next(iter(VALUES[key])))
    points = operating_points(everything(), {key: values}).require()
    for k, value in enumerate(values):
        want = operating_point(everything(**{name: {parameter: value}}))
        np.testing.assert_allclose(points.x[k], want.x, rtol=1e-8, atol=1e-12)
    assert np.ptp(points.x, axis=0).max() > 1e-6


def test_several_replaced_values_at_once_and_whole_banks() -> None:
    net = everything()
    together = operating_points(net, dict(CHANGES)).require()
    for k in range(3):
        alone = operating_point(net, at={key: values[k] for key, values in CHANGES})
        np.testing.assert_allclose(together.x[k], alone.x, rtol=1e-8, atol=1e-12)
    (bank,) = [bank for bank in net.banks if bank.kind == "resistor"]
    g = bank.parameters["conductance"] * np.array([[0.5], [1.0], [2.0]])
    scaled = operating_points(net, {("resistor", "conductance"): g}).require()
    np.testing.assert_allclose(scaled.x[1], operating_point(net).x, rtol=1e-9, atol=1e-12)
    by_name = {name: g[:, k] for k, name in enumerate(bank.names)}
    np.testing.assert_allclose(scaled.x, operating_points(net, by_name).x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"R9": 1.0}, "value for 'R9'"),
        ({("R1", "voltage"): 1.0}, "resistor: no parameter 'voltage'; it has conductance"),
        ({"R1": -1.0}, "R1: conductance is -1 S; give a finite value at least 0 S"),
        ({("resistor", "conductance"): np.ones((2, 3))}, r"shape \(2, 3\) for 8 devices"),
        ({"R1": np.ones(2), "V1": np.ones(3)}, r"batches of \[2, 3\] samples"),
        ({"R1": np.ones((2, 2))}, "give one value, or one a sample"),
        ({"R1": np.nan}, "R1: conductance is nan S"),
        ({"A1": np.ones(2), ("A1", "low"): np.array([0.0, 2.0])}, "A1: high is 1 V; give .* above low = 2 V"),
    ],
)
def test_impossible_values(at: Any, message: str) -> None:
    with pytest.raises(NetlistError, match=message):
        Equations(everything(), at)


def test_sources_follow_their_waveforms_in_time_unless_replaced() -> None:
    net = everything()
    structure = Structure(net)
    known = structure.node_names.index("in")

    def input_at(at: Any, time: float | None) -> float:
        equations = Equations(structure, at)
        x = np.zeros((1, structure.size))
        equations.impose(x, equations.drive(time))
        return float(x[0, known])

    assert input_at(None, None) == 0.7 and input_at(None, 0.25e-6) == pytest.approx(0.8)
    assert input_at({"V1": 0.1}, 0.25e-6) == 0.1  # held
    assert input_at({"V3": 0.1}, 0.25e-6) == pytest.approx(0.8)
    now, later = (operating_point(net, time=t).current("V3") for t in (0.0, 0.5e-6))
    assert abs(now - later) > 1e-6  # I1 feeds b


def test_time_is_a_control() -> None:
    net = Netlist()
    net.behavioural("B1", "a", "0", parse_expression("1e6*time"), voltage=True)
    net.resistor("R1", "a", "0", conductance=1.0)
    assert operating_point(net)["a"] == 0.0
    assert operating_point(net, time=3e-6)["a"] == pytest.approx(3.0)


def test_samples_can_be_taken_out_of_a_batch() -> None:
    net = everything()
    batch = Equations(net, dict(CHANGES))
    rng = np.random.default_rng(1)
    x = 0.3 * rng.normal(size=(3, batch.structure.size))
    whole, drive = batch.evaluate(x, batch.drive()), batch.drive()
    rows = np.array([2, 0])
    part = batch.take(rows)
    assert part.batch == 2
    for given in (drive.take(rows), part.drive()):
        state = part.evaluate(x[rows], given)
        np.testing.assert_array_equal(state.residual, whole.residual[rows])
        np.testing.assert_array_equal(state.slopes, whole.slopes[rows])
    alone = Equations(net, {"R1": dict(CHANGES)["R1"]}).take(rows)  # unlike matrices, like sources
    want = Equations(net, {"R1": dict(CHANGES)["R1"][2]})
    residual = alone.evaluate(x[rows], alone.drive()).residual
    np.testing.assert_array_equal(residual[:1], want.evaluate(x[2:], want.drive()).residual)
    again = part.take(np.array([1]))
    np.testing.assert_array_equal(again.evaluate(x[:1], again.drive()).residual, whole.residual[:1])
    np.testing.assert_array_equal(part.charge(x[rows], part.drive())[0], batch.charge(x, drive)[0][rows])


def test_currents_of_eliminated_sources_balance_their_nodes() -> None:
    net = everything()
    point, full = operating_point(net), Equations(net, eliminate=False)
    bare = point.x.copy()
    state = full.evaluate(bare[None], full.drive())
    assert np.abs(state.residual[0]).max() < 1e-14
    assert point.current("V1") < -1e-5 and point.current("V2") != 0.0


def test_complex_values_need_analytic_devices() -> None:
    net = Netlist()
    net.current_source("I1", "0", "a", 1e-3)
    net.diode("D1", "a", "0")
    moved = operating_point(net, at={"I1": 1e-3 + 1e-8j})
    slope = 1.38064852e-23 / 1.6021766208e-19 * 300.15 / (1e-3 - 1e-12 * moved["a"].real)  # Vt / i
    assert np.imag(moved["a"]) / 1e-8 == pytest.approx(slope, rel=1e-8)
    net.mosfet("M1", "a", "a", "0", "0")
    with pytest.raises(NetlistError, match="M1: a mosfet that is not analytic takes no complex values"):
        operating_point(net, at={"I1": 1e-3 + 1e-6j})


def test_a_circuit_of_sources_alone_has_nothing_to_solve() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 2.0)
    net.voltage_source("V2", "0", "b", 1.0)
    net.resistor("R1", "a", "b", conductance=1e-3)
    point = operating_point(net)
    assert point.voltages_by_node() == {"0": 0.0, "a": 2.0, "b": -1.0}
    assert (point.current("V1"), point.current("V2")) == pytest.approx((-3e-3, -3e-3))


@pytest.mark.parametrize("eliminate", [True, False])
def test_a_sensed_source_keeps_its_current(eliminate: bool) -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 2.0)
    net.resistor("R1", "a", "0", conductance=1e-3)
    net.ccvs("H1", "h", "0", Current("V1"), 100.0)
    equations = Equations(net, eliminate=eliminate)
    assert equations.structure.free.size == 4
    assert operating_point(equations)["h"] == pytest.approx(-0.2)


def test_a_limited_device_is_extrapolated_from_where_it_is_linearised() -> None:
    net = Netlist("diode", gmin=1e-9)
    net.diode("D1", "a", "0", is_=1e-14)
    equations = Equations(net)
    drive, asked = equations.drive(), np.array([[0.65], [3.0]])
    first = equations.evaluate(np.full((2, 1), 0.6), drive)
    state = equations.evaluate(asked, drive, ports=first.ports)
    assert state.limited.tolist() == [False, True]
    assert state.ports[0, 0] == 0.65 and 0.6 < state.ports[1, 0] < 1.0
    at_ports = equations.evaluate(state.ports, drive)
    np.testing.assert_array_equal(state.slopes, at_ports.slopes)
    want = at_ports.residual + at_ports.slopes * (asked - state.ports)
    np.testing.assert_allclose(state.residual, want, rtol=1e-14)


def test_small_moves_of_the_ports_need_no_limiting() -> None:
    """What ``HARMLESS`` presumes: no device limits such a step, wherever it starts."""
    rng, equations = np.random.default_rng(0), Equations(everything())
    last = rng.normal(size=(500, equations.structure.laws.shape[1])) * 10 ** rng.uniform(-2, 1, (500, 1))
    u = last + HARMLESS * rng.uniform(-1.0, 1.0, last.shape)
    for k, ports in zip(equations.structure.laws.banks, equations.structure.laws.ports, strict=True):
        bank, shape = equations.banks[k], (500, -1, len(equations.banks[k].names))
        new, old = (np.moveaxis(values[:, ports].reshape(shape), 1, 0) for values in (u, last))
        if bank.device.limit is not None:
            np.testing.assert_allclose(bank.device.limit(equations.parameters(k), new, old), new, rtol=1e-12)
