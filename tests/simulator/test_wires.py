"""Crossbars with wires: against dense nodal analysis, the netlist engine, ngspice, exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ohmostat.simulator import wires
from ohmostat.simulator.ngspice import TIGHT, run_ngspice, with_options
from ohmostat.simulator.operating_point import ConvergenceError, operating_point
from ohmostat.simulator.spice import write_spice
from ohmostat.simulator.wires import Crossbar, Diode, Linear, Selector, Sinh, crossbar

from .compare import require_ngspice

Array = np.ndarray[Any, Any]
seeds = st.integers(0, 2**32 - 1)
DRIVES, SENSES = ("left", "right", "both"), ("bottom", "top", "both")


def edges(array: Crossbar) -> list[tuple[Any, Any, float]]:
    """Wire segments (node, node, Ω); nodes ("r", i, j), ("c", i, j), terminals ("in", i) and "0"."""
    rows, columns = array.shape
    found = []
    for i in range(rows):
        chain = [("in", i), *(("r", i, j) for j in range(columns)), ("in", i)]
        found += [(*pair, r) for pair, r in zip(pairwise(chain), array.row_wire[i].tolist(), strict=True)]
    for j in range(columns):
        chain = ["0", *(("c", i, j) for i in range(rows)), "0"]
        found += [
            (*pair, r) for pair, r in zip(pairwise(chain), array.column_wire[:, j].tolist(), strict=True)
        ]
    return found


def nodal(array: Crossbar, inputs: Any, number: Any = float) -> tuple[Array, Array]:
    """Node voltages of one linear array by textbook nodal analysis, shorted nodes merged; any arithmetic."""
    rows, columns = array.shape
    name: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        while node in name:
            node = name[node]
        return node

    for a, b, r in edges(array):
        a, b = root(a), root(b)
        if r == 0.0 and a != b:
            terminal = a == "0" or a[0] == "in"
            name[b if terminal else a] = a if terminal else b
    fixed = {"0": number(0), **{("in", i): number(u) for i, u in enumerate(inputs)}}
    every = [(what, i, j) for what in "rc" for i in range(rows) for j in range(columns)]
    free = {node: k for k, node in enumerate(dict.fromkeys(map(root, every)) - fixed.keys())}
    n = len(free)
    m = np.array([[number(0)] * (n + 1) for _ in range(n)], float if number is float else object)
    devices = [(("r", *at), ("c", *at), number(float(g))) for at, g in np.ndenumerate(array.conductance)]
    segments = [(a, b, 1 / number(r)) for a, b, r in edges(array) if 0.0 < r < np.inf]
    for a, b, g in segments + devices:
        for here, there in ((root(a), root(b)), (root(b), root(a))):
            if here in free:
                m[free[here], free[here]] += g
                if there in free:
                    m[free[here], free[there]] -= g
                else:
                    m[free[here], n] += g * fixed[there]
    x = eliminated(m) if n else []
    volts = {**fixed, **{node: x[k] for node, k in free.items()}}
    r, c = ([[volts[root((what, i, j))] for j in range(columns)] for i in range(rows)] for what in "rc")
    return np.array(r, m.dtype), np.array(c, m.dtype)


def eliminated(m: Array) -> Any:
    """Gauss-Jordan on an augmented matrix of any numbers; positive definite, so without pivoting."""
    if m.dtype == float:
        return np.linalg.solve(m[:, :-1], m[:, -1])
    for k in range(len(m)):
        m[k] = m[k] / m[k, k]
        for i in range(len(m)):
            if i != k and m[i, k] != 0:
                m[i] = m[i] - m[i, k] * m[k]
    return m[:, -1]


def anything(seed: int, *, defects: bool = True, most: int = 6) -> Crossbar:
    """Any size, sides, loads and resistances, with shorts, breaks and open devices if ``defects``."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(k) for k in rng.integers(1, most + 1, 2))

    def segments(*shape: int) -> Array:
        r = 10.0 ** rng.uniform(-2, 3, shape)
        if defects:
            r *= rng.random(shape) > rng.choice([0.0, 0.3, 1.0])
            r[rng.random(shape) < 0.03] = np.inf
        return r

    g = 10.0 ** rng.uniform(-6, -3, (rows, columns))
    if defects:
        g[rng.random(g.shape) < 0.1] = 0.0
    try:
        return crossbar(
            rows, columns, g, segments(rows, columns + 1), segments(rows + 1, columns),
            drive=str(rng.choice(DRIVES)), sense=str(rng.choice(SENSES)),
            r_driver=rng.choice([0.0, 30.0]), r_sense=rng.choice([0.0, 500.0]),
        )  # fmt: skip
    except ValueError:  # broken wires left nodes adrift
        assume(False)
        raise


def volts(array: Crossbar, seed: int, batch: int = 3) -> Array:
    return np.random.default_rng(seed + 1).normal(size=(batch, array.shape[0]))


@settings(max_examples=120, deadline=None)
@given(seeds)
def test_every_node_agrees_with_dense_nodal_analysis(seed: int) -> None:
    array = anything(seed)
    inputs = volts(array, seed)
    solution = array.solve(inputs)
    for b, u in enumerate(inputs):
        rows, columns = nodal(array, u)
        np.testing.assert_allclose(solution.row_voltages[b], rows, atol=1e-9)
        np.testing.assert_allclose(solution.column_voltages[b], columns, atol=1e-9)
    shortest = min((r for *_, r in edges(array) if r > 0.0), default=np.inf)
    assert solution.residual.max() <= 1e-14 * np.abs(inputs).max() / min(shortest, 1e3)  # rounding of v / r


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_transfer_matrix_gives_the_outputs(seed: int) -> None:
    array = anything(seed)
    inputs = volts(array, seed)
    outputs = array.solve(inputs).outputs
    np.testing.assert_allclose(
        inputs @ array.transfer().T, outputs, rtol=1e-9, atol=1e-12 * np.abs(outputs).max() + 1e-15
    )


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_driving_and_sensing_may_be_exchanged(seed: int) -> None:
    array = anything(seed)
    turned = Crossbar(array.conductance.T, array.column_wire.T, array.row_wire.T)
    transfer = array.transfer()
    np.testing.assert_allclose(turned.transfer().T, transfer, rtol=1e-9, atol=1e-13 * transfer.max() + 1e-18)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_array_may_be_mirrored(seed: int) -> None:
    array = anything(seed)
    mirrored = Crossbar(
        array.conductance[::-1, ::-1], array.row_wire[::-1, ::-1], array.column_wire[::-1, ::-1]
    )
    inputs = volts(array, seed)
    solution, other = array.solve(inputs), mirrored.solve(inputs[:, ::-1])
    np.testing.assert_allclose(other.row_voltages[:, ::-1, ::-1], solution.row_voltages, atol=1e-11)
    np.testing.assert_allclose(other.column_voltages[:, ::-1, ::-1], solution.column_voltages, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(seeds, st.sampled_from([Linear(), Sinh(0.3), Diode(), Diode(reverse=True), Selector(0.4)]))
def test_currents_balance_and_delivered_power_is_dissipated(seed: int, cell: Any) -> None:
    plain = anything(seed, defects=False)
    array = Crossbar(plain.conductance, plain.row_wire, plain.column_wire, cell)
    inputs = volts(array, seed)
    s = array.solve(inputs)
    delivered = np.einsum("bi,bij->b", inputs, s.currents)  # a row's driver feeds its devices, and only them
    rows, columns = (np.pad(v, 1)[1:-1] for v in (s.row_voltages, s.column_voltages))
    rows[:, :, 0], rows[:, :, -1] = (np.pad(inputs, ((0, 0), (1, 1))),) * 2
    lost = np.diff(rows[:, 1:-1], axis=2) ** 2 / array.row_wire
    wire = lost.sum(axis=(1, 2)) + np.sum(
        np.diff(columns[:, :, 1:-1], axis=1) ** 2 / array.column_wire, (1, 2)
    )
    device = np.sum(s.currents * (s.row_voltages - s.column_voltages), axis=(1, 2))
    np.testing.assert_allclose(wire + device, delivered, rtol=1e-9)
    assert (delivered >= 0.0).all() and (device >= 0.0).all()
    np.testing.assert_allclose(s.outputs, s.currents.sum(axis=1))


def test_without_wires_the_crossbar_is_ideal_and_the_limit_is_smooth() -> None:
    rng = np.random.default_rng(0)
    for shape in ((4, 7), (7, 4)):
        g, inputs = 1e-4 * rng.random(shape), rng.normal(size=(5, shape[0]))
        ideal = inputs @ g
        for sides in ({}, {"drive": "both", "sense": "both"}):
            exact = crossbar(*shape, g, 0.0, 0.0, **sides)
            np.testing.assert_allclose(exact.solve(inputs).outputs, ideal, rtol=1e-14, atol=1e-18)
            np.testing.assert_allclose(exact.transfer(), g.T, rtol=1e-14)
            error = [np.abs(crossbar(*shape, g, r, r, **sides).transfer() - g.T).max() for r in (1e-3, 1e-6)]
            assert error[0] / error[1] == pytest.approx(1e3, rel=1e-3)


def test_rows_and_columns_are_not_swapped() -> None:
    # wire in rows alone: devices far from the driver get less; in columns alone: those far from the sense end
    g, r = 1e-3, 10.0
    far = g / (1 + g * r)
    row_only = crossbar(1, 2, g, r, 0.0)
    first = 1.0 / (1.0 + r * (g + far))  # voltage of the first node: the second device hangs behind it
    np.testing.assert_allclose(row_only.transfer()[:, 0], [g * first, g * first / (1 + g * r)], rtol=1e-14)
    column_only = crossbar(2, 1, g, 0.0, r)
    last = 1.0 / (1.0 + r * (g + far))
    np.testing.assert_allclose(column_only.transfer()[0], [g * last / (1 + g * r), g * last], rtol=1e-14)
    assert crossbar(1, 1, g, 3.0, 5.0).transfer()[0, 0] == pytest.approx(1 / (3.0 + 1 / g + 5.0), rel=1e-15)


def test_layout_is_that_of_badcrossbar() -> None:
    """Its answers, version 1.1.0: word lines of 20 Ω a segment, bit lines of 50 Ω."""
    i, j = np.indices((3, 4))
    array = crossbar(3, 4, 1e-4 * (1 + (3 * i + 5 * j) % 7), 20.0, 50.0)
    s = array.solve([1.0, -0.5, 0.75])
    first_row = [0.9766177052785596, 0.9551501375636225, 0.944127779301286, 0.9404014342864847]
    last_column = [0.00881518058614839, -0.00050068195085497, 0.00151667943585424]
    outputs = [3.9250426286014972e-04, 7.5542152444815140e-04, 2.4349545553051352e-04, 3.0333588717084870e-05]
    np.testing.assert_allclose(s.row_voltages[0, 0], first_row, rtol=1e-13)
    np.testing.assert_allclose(s.column_voltages[0, :, 3], last_column, rtol=1e-11)
    np.testing.assert_allclose(s.outputs[0], outputs, rtol=1e-11)


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (4, 2)])
@pytest.mark.parametrize("ohms", [1e-9, 1.0, 1e9])
def test_accuracy_against_exact_fractions(rows: int, columns: int, ohms: float) -> None:
    """Nodal analysis in double precision loses all but a digit or two where 1 nΩ meets 10 nS."""
    rng = np.random.default_rng(3)
    g = 1e-8 * (1 + rng.random((rows, columns)))
    array = crossbar(rows, columns, g, ohms, ohms)
    inputs = rng.random(rows) + 0.5
    r, c = nodal(array, inputs, Fraction)
    exact = [float(sum(Fraction(g[i, j]) * (r - c)[i, j] for i in range(rows))) for j in range(columns)]
    s = array.solve(inputs)
    np.testing.assert_allclose(s.outputs[0], exact, rtol=1e-13)
    np.testing.assert_allclose(s.column_voltages[0], c.astype(float), rtol=1e-12)
    np.testing.assert_allclose(array.transfer() @ inputs, exact, rtol=1e-12)


def largest_difference(array: Crossbar, u: Array, volts: Any) -> float:
    """Between the array's node voltages under ``u`` and those that ``volts`` has by name [V]."""
    s = array.solve(u)
    pairs = (("r", s.row_voltages[0]), ("c", s.column_voltages[0]))
    return max(abs(volts[f"{wire}{i}_{j}"] - v) for wire, each in pairs for (i, j), v in np.ndenumerate(each))


NONLINEAR = [
    Sinh(0.2), Diode(), Diode(1e-10, 1.3, reverse=True), Diode(1e-12, thermal_voltage=0.03), Selector(0.3),
    Selector(0.3, knee=0.002, leak=1e-9),
]  # fmt: skip


def nonlinear(rows: int, columns: int, cell: Any) -> tuple[Crossbar, Array]:
    """An array and inputs [V] of both signs; one of its devices is missing."""
    rng = np.random.default_rng(rows)
    g = 1e-4 * (0.1 + rng.random((rows, columns)))
    g[1, 2] = 0.0
    array = crossbar(rows, columns, g, 10.0, 20.0, r_sense=50.0, cell=cell)
    return array, np.asarray(rng.uniform(-1.5, 1.5, rows))


@pytest.mark.parametrize("cell", NONLINEAR, ids=repr)
def test_the_netlist_engine_agrees_on_nonlinear_cells(cell: Any) -> None:
    array, u = nonlinear(6, 5, cell)
    point = operating_point(array.netlist(u))
    assert largest_difference(array, u, point) < 1e-10
    outputs = [point.current(f"Vs{j}") for j in range(5)]
    np.testing.assert_allclose(outputs, array.solve(u).outputs[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("cell", NONLINEAR, ids=repr)
def test_ngspice_agrees_on_nonlinear_cells(cell: Any) -> None:
    require_ngspice()
    array, u = nonlinear(4, 4, cell)
    volts = run_ngspice(with_options(write_spice(array.netlist(u)), TIGHT))
    assert largest_difference(array, u, volts) < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_the_netlist_engine_agrees(seed: int) -> None:
    array = anything(seed, defects=False, most=12)
    inputs = volts(array, seed, 1)
    s = array.solve(inputs)
    point = operating_point(array.netlist(inputs[0]))
    for (i, j), _ in np.ndenumerate(array.conductance):
        assert point[f"r{i}_{j}"] == pytest.approx(s.row_voltages[0, i, j], abs=1e-11)
        assert point[f"c{i}_{j}"] == pytest.approx(s.column_voltages[0, i, j], abs=1e-11)
    outputs = [point.current(f"Vs{j}") for j in range(array.shape[1])]
    np.testing.assert_allclose(outputs, s.outputs[0], rtol=1e-8, atol=1e-14)


def test_a_netlist_merges_shorted_nodes() -> None:
    array = crossbar(2, 3, 1e-4, [[0.0, 1.0, 0.0, 2.0]], 0.0, drive="both", r_driver=0.0)
    point = operating_point(array.netlist([1.0, 0.5]))
    assert {"r0_0", "r0_2", "c0_0", "c1_2"}.isdisjoint(point.nodes) and "r0_1" in point.nodes
    s = array.solve([1.0, 0.5])
    outputs = [point.current(f"Vs{j}") for j in range(3)]
    np.testing.assert_allclose(outputs, s.outputs[0], rtol=1e-12)


CELLS = [
    Linear(), Sinh(0.25), Sinh(0.1), Diode(), Diode(reverse=True, emission=1.5), Diode(1e-9), Selector(0.3),
    Selector(0.5, knee=0.005, leak=1e-6),
]  # fmt: skip


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_slopes_are_derivatives_and_never_negative(cell: Any) -> None:
    v = np.linspace(-1.0, 1.0, 4001)
    g = np.full_like(v, 3e-5)
    h = 1e-6
    slope = cell(g, v)[1]
    expected = (cell(g, v + h)[0] - cell(g, v - h)[0]) / (2 * h)
    rounding = 1e-15 * np.abs(cell(g, v)[0]) / h
    assert (np.abs(slope - expected) <= 2e-7 * np.abs(expected) + 1e-13 + rounding).all()
    assert (slope >= 0.0).all() and cell(g[:1], np.zeros(1))[0][0] == pytest.approx(0.0, abs=1e-20)
    assert (cell(np.zeros_like(v), v)[0] == 0.0).all()


@pytest.mark.parametrize("g", [1e-6, 1e-3, 1.0])
def test_diode_solves_the_series_circuit(g: float) -> None:
    a, saturation = 1.2 * Diode().thermal_voltage, 1e-9
    junction = np.linspace(-0.5, 0.6, 100)
    current = saturation * np.expm1(junction / a)
    for sign in (1.0, -1.0):
        cell = Diode(saturation, 1.2, reverse=sign < 0.0)
        found, _ = cell(np.full(100, g), sign * (junction + current / g))
        np.testing.assert_allclose(sign * found, current, rtol=1e-9, atol=1e-20)


@settings(max_examples=50, deadline=None)
@given(seeds, st.sampled_from([cell for cell in CELLS if cell != Linear()]))
def test_nonlinear_arrays_equal_linear_ones_of_the_same_currents(seed: int, cell: Any) -> None:
    """Any solution is that of the linear array whose conductances are i / v: checked by dense analysis."""
    plain = anything(seed)
    array = Crossbar(plain.conductance, plain.row_wire, plain.column_wire, cell)
    inputs = volts(array, seed, 2)
    s = array.solve(inputs)
    assert (s.steps <= 40).all()
    assume(np.abs(s.currents).max() < 1.0)  # steep cells without wires carry anything
    drop = s.row_voltages - s.column_voltages
    for b, u in enumerate(inputs):
        chord = np.divide(s.currents[b], drop[b], where=drop[b] != 0.0, out=np.zeros_like(drop[b]))
        try:
            secant = Crossbar(np.abs(chord), array.row_wire, array.column_wire)
        except ValueError:  # nothing flows at all behind a break
            assume(False)
        np.testing.assert_allclose(cell(array.conductance, drop[b])[0], s.currents[b], rtol=1e-12)
        outputs = secant.solve(u).outputs[0]
        atol = 1e-9 * np.abs(outputs).max() + 1e-15
        np.testing.assert_allclose(outputs, s.outputs[b], rtol=1e-7, atol=atol)


@pytest.mark.parametrize("ohms", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("cell", [Sinh(0.2), Sinh(0.01), Diode(), Selector(0.3, 0.001, 1e-9)], ids=repr)
def test_newton_takes_few_steps_however_steep_the_cells(cell: Any, ohms: float) -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e8):  # the latter: bare diodes, currents limited by the wires
        array = crossbar(16, 12, scale * 1e-4 * rng.random((16, 12)), ohms, ohms, cell=cell)
        s = array.solve(2.0 * rng.random((2, 16)))
        assert (s.steps <= 35).all()
        rounding = 1e-14 / ohms + 1e-14 * array.conductance.max()  # of voltages, in wires and devices
        assert (s.residual <= 1e-11 * np.abs(s.currents).max() + rounding).all()


def test_a_batch_is_its_samples() -> None:
    rng = np.random.default_rng(1)
    for cell in (Linear(), Diode()):
        array = crossbar(5, 9, 1e-3 * rng.random((5, 9)), 2.0, 3.0, cell=cell)
        inputs = rng.random((4, 5)) * [[1.0], [0.0], [1.0], [1.0]]
        together = array.solve(inputs)
        for b, u in enumerate(inputs):
            np.testing.assert_allclose(array.solve(u).outputs[0], together.outputs[b], rtol=1e-12, atol=1e-24)
        assert together.row_voltages.shape == (4, 5, 9) and together.outputs.shape == (4, 9)


@pytest.mark.parametrize("reverse", [False, True])
def test_ngspice_agrees_on_diodes_with_wires(reverse: bool) -> None:
    require_ngspice()
    n, rng = 16, np.random.default_rng(2)
    cell = Diode(1e-12, 1.0, reverse=reverse)
    array = crossbar(n, n, 1e-6 + 1e-4 * rng.random((n, n)), 1.0, 2.0, r_sense=10.0, cell=cell)
    u = 0.2 + (-1.0 if reverse else 1.0) * rng.random(n)
    lines = ["* crossbar of diodes", *(f"V{i} in{i} 0 {v:.17g}" for i, v in enumerate(u))]
    for k, (a, b, r) in enumerate(edges(array)):
        if np.isfinite(r):
            a, b = ("".join(map(str, e)) if len(e) < 3 else f"{e[0]}{e[1]}_{e[2]}" for e in (a, b))
            lines.append(f"Rw{k} {a} {b} {r:.17g}")
    for (i, j), g in np.ndenumerate(array.conductance):
        lines.append(f"Rg{i}_{j} r{i}_{j} m{i}_{j} {1 / g:.17g}")
        ends = f"c{i}_{j} m{i}_{j}" if reverse else f"m{i}_{j} c{i}_{j}"
        lines.append(f"D{i}_{j} {ends} cell")
    options = ".options reltol=1e-10 vntol=1e-12 abstol=1e-16 gmin=1e-18 itl1=500 temp=27"
    spice = run_ngspice("\n".join([*lines, ".model cell D(IS=1e-12 N=1)", options, ".op", ".end", ""]))
    s = array.solve(u)
    for (i, j), _ in np.ndenumerate(array.conductance):
        assert spice[f"r{i}_{j}"] == pytest.approx(s.row_voltages[0, i, j], abs=1e-7)
        assert spice[f"c{i}_{j}"] == pytest.approx(s.column_voltages[0, i, j], abs=1e-7)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"g": np.ones((2, 2))}, r"g has shape \(2, 2\); give what broadcasts to \(2, 3\)"),
        ({"g": -1e-3}, r"conductance\[0, 0\] is -0.001 S; give a value finite and at least 0"),
        ({"g": np.inf}, r"conductance\[0, 0\] is inf S"),
        ({"r_row": -1.0}, r"row_wire\[0, 0\] is -1 Ω; give a value at least 0, inf for a break"),
        ({"r_col": np.nan}, r"column_wire\[1, 0\] is nan Ω"),
        ({"drive": "top"}, "drive='top'.*give left, right or both"),
        ({"sense": "left"}, "sense='left'"),
        ({"r_row": np.inf, "g": 0.0}, r"floating: 6 nodes, the first at \(0, 0\) of a row wire"),
    ],
)
def test_what_cannot_be_is_named(given_: dict[str, Any], message: str) -> None:
    arguments = {"g": 1e-3, "r_row": 1.0, "r_col": 1.0, **given_}
    with pytest.raises(ValueError, match=message):
        crossbar(2, 3, **arguments)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    array = crossbar(2, 3, 1e-3, 1.0, 1.0, cell=Sinh(0.1))
    for inputs in (np.ones(3), np.empty((0, 2)), [np.nan, 0.0]):
        with pytest.raises(ValueError, match=r"inputs have shape \(.*; give finite volts \(batch, 2\)"):
            array.solve(inputs)
    with pytest.raises(ValueError, match="only linear ones"):
        array.transfer()
    for wrong in (lambda: Sinh(0.0), lambda: Diode(-1e-14), lambda: Selector(0.3, knee=np.inf)):
        with pytest.raises(ValueError, match="give a finite value above 0"):
            wrong()
    monkeypatch.setattr(wires, "MOST_STEPS", 1)
    with pytest.raises(
        ConvergenceError, match=r"Sinh\(v0=0.1\): after 1 steps a device's current is .* A off"
    ):
        array.solve([1.0, 1.0])
