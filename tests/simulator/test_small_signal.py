"""Small signals against closed forms, dense algebra, theorems on networks, and ngspice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator import small_signal
from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.ngspice import TIGHT, simulate_with_ngspice, with_options
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.small_signal import LinearCircuit, ac, impedance, poles, transfer
from ohmostat.simulator.spice_analyses import Ac, Transfer
from ohmostat.simulator.spice_reader import parse_spice

from .compare import require_ngspice

CIRCUITS = Path(__file__).parent / "circuits"
seeds = st.integers(0, 2**32 - 1)


def low_pass(r: float = 1e3, c: float = 1e-9) -> Netlist:
    net = Netlist("low pass")
    net.voltage_source("V1", "in", "0", 0.5, ac=2.0)
    net.resistor("R1", "in", "out", conductance=1 / r)
    net.capacitor("C1", "out", "0", c)
    return net


def resonator() -> Netlist:
    """R, L and C in series."""
    net = Netlist("resonator")
    net.voltage_source("V1", "in", "0", 0.0, ac=1.0)
    net.resistor("R1", "in", "a", conductance=1 / 50.0)
    net.inductor("L1", "a", "out", 1e-6)
    net.capacitor("C1", "out", "0", 1e-9)
    return net


def passive(seed: int, n: int = 6) -> Netlist:
    """A random connected network of R, L and C, each with some loss."""
    rng = np.random.default_rng(seed)
    net = Netlist(f"passive {seed}")
    for k in range(n):
        to = f"n{rng.integers(k)}" if k else "0"
        net.resistor(f"R{k}", f"n{k}", to, conductance=10 ** rng.uniform(-5, -2))
    for k in range(2 * n):
        a, b = rng.choice(n, 2, replace=False)
        if k % 2:
            net.capacitor(f"C{k}", f"n{a}", f"n{b}", 10 ** rng.uniform(-13, -9))
        else:
            net.resistor(f"Rl{k}", f"n{a}", f"m{k}", conductance=10 ** rng.uniform(-4, -1))
            net.inductor(f"L{k}", f"m{k}", f"n{b}", 10 ** rng.uniform(-8, -4))
    return net


def active(seed: int, n: int = 5) -> tuple[Netlist, np.ndarray, np.ndarray]:
    """Random conductances, capacitances and transconductances, and the same as dense G and C."""
    rng = np.random.default_rng(seed)
    net = Netlist(f"active {seed}")
    conductance, capacitance = np.zeros((2, n + 1, n + 1))

    def stamp(matrix: np.ndarray, a: int, b: int, c: int, d: int, value: float) -> None:
        matrix[np.ix_([a, b], [c, d])] += value * np.array([[1, -1], [-1, 1]])

    for k in range(4 * n):
        a, b, c, d = (*rng.choice(n + 1, 2, replace=False), *rng.choice(n + 1, 2, replace=False))
        if k < n:
            a, b = k + 1, 0
        g, f, gm = 10 ** rng.uniform(-5, -3), 10 ** rng.uniform(-12, -9), 1e-5 * rng.normal()
        net.resistor(f"R{k}", str(a), str(b), conductance=g)
        net.capacitor(f"C{k}", str(a), str(b), f)
        net.vccs(f"G{k}", str(a), str(b), str(c), str(d), gm)
        stamp(conductance, a, b, a, b, g)
        stamp(capacitance, a, b, a, b, f)
        stamp(conductance, a, b, c, d, gm)
    return net, conductance[1:, 1:], capacitance[1:, 1:]


# -- response ------------------------------------------------------------------------------------------


def test_low_pass() -> None:
    f = np.logspace(2, 8, 25)
    response = ac(low_pass(), f)
    s = 2j * np.pi * f
    np.testing.assert_allclose(response["out"], 2.0 / (1 + s * 1e-6), rtol=1e-12)
    np.testing.assert_allclose(response.current("V1"), -2.0 * s * 1e-9 / (1 + s * 1e-6), rtol=1e-12)
    np.testing.assert_array_equal(response["0"], 0.0)
    np.testing.assert_array_equal(response["in"], 2.0)


def test_series_resonance() -> None:
    f = np.linspace(1e6, 1e7, 50)
    response, s = ac(resonator(), f), 2j * np.pi * f
    total = 50.0 + s * 1e-6 + 1 / (s * 1e-9)
    np.testing.assert_allclose(response.current("L1"), 1 / total, rtol=1e-12)
    np.testing.assert_allclose(response["out"], 1 / (s * 1e-9) / total, rtol=1e-12)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_agrees_with_dense_algebra(seed: int) -> None:
    net, conductance, capacitance = active(seed)
    net.current_source("I1", "0", "1", 0.0, ac=1e-3 + 2e-3j)
    f = np.array([0.0, 1e3, 1e6, 1e9])
    response = ac(net, f)
    order = [int(node) - 1 for node in net.nodes]
    for k, frequency in enumerate(f):
        matrix = conductance + 2j * np.pi * frequency * capacitance
        expected = np.linalg.solve(matrix, np.eye(len(matrix))[0] * (1e-3 + 2e-3j))[order]
        np.testing.assert_allclose(
            response.voltages[k], expected, rtol=0, atol=1e-10 * np.abs(expected).max()
        )


def test_linearised_where_it_stands() -> None:
    """A diode at 1 mA is a resistance of nVt/I and its diffusion capacitance."""
    net = Netlist("diode", gmin=0.0)
    net.current_source("I1", "0", "a", 1e-3, ac=1.0)
    net.diode("D1", "a", "0", is_=1e-14, tt=1e-8)
    vt = 1.38064852e-23 / 1.6021766208e-19 * 300.15
    g = (1e-3 + 1e-14) / vt
    f = np.array([1.0, 1e8])
    expected = 1 / (g + 2j * np.pi * f * 1e-8 * g)
    np.testing.assert_allclose(ac(net, f)["a"], expected, rtol=1e-9)
    cold = LinearCircuit(net, at={"I1": 1e-6})
    assert abs(ac(cold, [1.0])["a"][0]) == pytest.approx(vt / 1e-6, rel=1e-6)


def test_many_frequencies_are_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    f = np.logspace(0, 9, 40)
    together = ac(low_pass(), f)
    monkeypatch.setattr(small_signal, "BATCH", 30)
    np.testing.assert_array_equal(ac(low_pass(), f).voltages, together.voltages)


@pytest.mark.parametrize(
    "name", ["opamp-inverting", "differential-pair", "controlled-sources", "rlc-resonator"]
)
def test_agrees_with_ngspice(name: str) -> None:
    require_ngspice()
    text = (CIRCUITS / f"{name}.cir").read_text()
    deck = parse_spice(text)
    kept = [line for line in text.splitlines() if not line.startswith((".tran", ".dc", ".noise"))]
    theirs = simulate_with_ngspice(with_options("\n".join(kept), TIGHT))
    linear = LinearCircuit(deck.netlist())
    (sweep,) = (a for a in deck.analyses if isinstance(a, Ac))
    response = ac(linear, sweep.frequencies())
    for node in linear.net.nodes:
        expected = theirs["ac"][f"v({node})"]
        np.testing.assert_allclose(response[node], expected, rtol=1e-6, atol=1e-15)
    (card,) = (a for a in deck.analyses if isinstance(a, Transfer))
    assert isinstance(card.output, tuple)
    found = transfer(linear, card.output, card.source)
    assert found.gain == pytest.approx(theirs["tf"]["transfer_function"][0], rel=1e-6)
    assert found.output_resistance == pytest.approx(theirs["tf"]["output_impedance"][0], rel=1e-6)
    seen = 1e20 if np.isinf(found.input_resistance) else found.input_resistance  # as ngspice says it
    assert theirs["tf"]["input_impedance"][0] == pytest.approx(seen, rel=1e-6)


# -- theorems ------------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_passive_networks_are_reciprocal(seed: int) -> None:
    linear = LinearCircuit(passive(seed))
    nodes = [f"n{k}" for k in range(6)]
    ports = np.stack([linear.probe(node) for node in nodes])
    z = linear.solve([0.0, 1e4, 1e7], ports) @ ports.T  # transfer impedances
    np.testing.assert_allclose(z, z.transpose(0, 2, 1), rtol=0, atol=1e-9 * np.abs(z).max())
    assert (np.linalg.eigvalsh((z + z.conj().transpose(0, 2, 1)) / 2) > -1e-9 * np.abs(z).max()).all()


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_adjoint_and_direct_solutions_agree(seed: int) -> None:
    net, _, _ = active(seed)
    net.voltage_source("V1", "3", "in", 0.0)
    net.resistor("Rin", "in", "0", conductance=1e-3)
    linear, f = LinearCircuit(net), [10.0, 1e7]
    c = linear.probe({"1": 2.0, ("2", "4"): -1.0, Current("V1"): 1e3})
    b = linear.excitation({"V1": 1.0 + 0.5j})
    direct = linear.solve(f, b[None])[:, 0] @ c
    adjoint = linear.solve(f, c[None], transposed=True)[:, 0] @ b
    np.testing.assert_allclose(adjoint, direct, rtol=1e-9)


# -- two ports -----------------------------------------------------------------------------------------


def divider() -> Netlist:
    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 1.0)
    net.resistor("R1", "in", "out", conductance=1e-3)
    net.resistor("R2", "out", "0", conductance=1 / 3e3)
    net.voltage_source("Vs", "out", "load", 0.0)
    net.resistor("R3", "load", "0", conductance=1 / 6e3)
    return net


def test_transfer_of_a_divider() -> None:
    found = transfer(divider(), "out", "V1")  # 1k into 3k || 6k
    assert found.gain == pytest.approx(2 / 3)
    assert found.input_resistance == pytest.approx(3e3) and found.output_resistance == pytest.approx(2e3 / 3)
    across = transfer(divider(), ("in", "out"), "V1")
    assert across.gain == pytest.approx(1 / 3) and across.output_resistance == pytest.approx(2e3 / 3)
    current = transfer(divider(), Current("Vs"), "V1")
    assert current.gain == pytest.approx(2 / 3 / 6e3)
    assert current.output_resistance == pytest.approx(6e3 + 750)  # in series with the source Vs


def test_transfer_from_a_current_source() -> None:
    net = Netlist("current")
    net.current_source("I1", "0", "a", 1e-3)
    net.resistor("R1", "a", "0", conductance=1e-3)
    net.vcvs("E1", "out", "0", "a", "0", 5.0)
    found = transfer(net, "out", "I1")
    assert found.gain == pytest.approx(5e3) and found.input_resistance == pytest.approx(1e3)
    assert found.output_resistance == pytest.approx(0.0)
    net.voltage_source("Vg", "gate", "0", 0.0)
    net.vccs("G1", "0", "a", "gate", "0", 1e-3)
    assert transfer(net, "out", "Vg").input_resistance == np.inf


def test_impedance_between_nodes() -> None:
    f = np.logspace(3, 8, 20)
    s = 2j * np.pi * f
    np.testing.assert_allclose(impedance(low_pass(), "out", frequencies=f), 1 / (1e-3 + s * 1e-9), rtol=1e-12)
    np.testing.assert_allclose(impedance(low_pass(), "in", frequencies=f), 0.0, atol=1e-12)
    expected = 1 / (1 / (s * 1e-6) + 1 / (50 + 1 / (s * 1e-9)))  # the inductor beside R and C in series
    np.testing.assert_allclose(impedance(resonator(), "a", "out", frequencies=f), expected, rtol=1e-10)


# -- poles ---------------------------------------------------------------------------------------------


def test_poles_of_rc_and_rlc() -> None:
    np.testing.assert_allclose(poles(low_pass()), [-1e6], rtol=1e-12)
    sigma, omega0 = 50 / 2e-6, 1 / np.sqrt(1e-15)
    ring = 1j * np.sqrt(omega0**2 - sigma**2)
    found = poles(resonator())
    np.testing.assert_allclose(np.sort_complex(found), [-sigma - ring, -sigma + ring], rtol=1e-12)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_poles_agree_with_dense_eigenvalues(seed: int) -> None:
    net, conductance, capacitance = active(seed)
    expected = -np.linalg.eigvals(np.linalg.solve(capacitance, conductance))
    found = poles(net)
    assert (np.diff(np.abs(found)) >= 0).all()
    for s in expected:  # the fastest ones are those of least accuracy
        assert np.abs(found - s).min() < 1e-7 * np.abs(s) + 1e-10 * np.abs(expected).max()
    assert len(found) == len(expected)


def test_infinite_poles_are_left_out() -> None:
    """Capacitors in a loop, across a source, and inductors in series: fewer poles than elements."""
    net = low_pass()
    net.capacitor("C2", "in", "0", 1e-9)  # held by the source
    net.capacitor("C3", "in", "out", 1e-9)  # with C1, a loop through the source
    np.testing.assert_allclose(poles(net), [-5e5], rtol=1e-12)
    series = Netlist("series")
    series.resistor("R1", "a", "0", conductance=1e-2)
    series.inductor("L1", "a", "b", 1e-6)
    series.inductor("L2", "b", "0", 3e-6)
    series.resistor("Rb", "b", "0", conductance=0.0)
    np.testing.assert_allclose(poles(series), [-100 / 4e-6], rtol=1e-12)


def test_poles_over_nine_decades() -> None:
    net = Netlist("stiff")
    net.voltage_source("V1", "n0", "0", 1.0)
    for k in range(1, 4):
        net.vcvs(f"E{k}", f"e{k}", "0", f"n{k - 1}", "0", 1.0)
        net.resistor(f"R{k}", f"e{k}", f"n{k}", conductance=1e-3)
        net.capacitor(f"C{k}", f"n{k}", "0", 10.0 ** (-4.5 * k))
    np.testing.assert_allclose(poles(net), [-(10.0 ** (4.5 * k + -3)) for k in (1, 2, 3)], rtol=1e-5)


def test_slowest_poles_of_a_large_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, n = Netlist("line"), 60
    for k in range(n):
        net.resistor(f"R{k}", f"n{k}", f"n{k - 1}" if k else "0", conductance=1e-3)
        net.capacitor(f"C{k}", f"n{k}", "0", 1e-9)
    expected = -4e6 * np.sin(np.pi * (2 * np.arange(1, n + 1) - 1) / (4 * n + 2)) ** 2
    np.testing.assert_allclose(poles(net), expected, rtol=1e-8)
    np.testing.assert_allclose(poles(net, slowest=3), expected[:3], rtol=1e-9)
    monkeypatch.setattr(small_signal, "MOST_DENSE", 50)
    np.testing.assert_allclose(poles(net, slowest=3), expected[:3], rtol=1e-9)
    with pytest.raises(NetlistError, match=r"60 charges and fluxes.*pass slowest"):
        poles(net)


def test_no_storage_has_no_poles() -> None:
    assert poles(divider()).shape == (0,)


# -- errors --------------------------------------------------------------------------------------------


def test_what_cannot_be_asked() -> None:
    linear = LinearCircuit(low_pass())
    with pytest.raises(NetlistError, match="no node 'x'"):
        linear.probe("x")
    with pytest.raises(NetlistError, match="'R1' is no voltage source"):
        linear.probe(Current("R1"))
    with pytest.raises(NetlistError, match="'R1' is no independent source"):
        transfer(linear, "out", "R1")
    with pytest.raises(NetlistError, match="at least 0 Hz"):
        ac(linear, [1.0, -1.0])
    with pytest.raises(NetlistError, match="no source has an ac amplitude"):
        ac(divider(), [1.0])
    with pytest.raises(NetlistError, match="not one of netlist 'low pass'"):
        LinearCircuit(low_pass(), operating_point(divider()))
    with pytest.raises(NetlistError, match="real operating point"):
        LinearCircuit(low_pass(), at={"V1": 1.0 + 1.0j})


def test_a_lossless_resonance_is_singular() -> None:
    net = Netlist("tank")
    net.current_source("I1", "0", "a", 0.0, ac=1.0)
    net.inductor("L1", "a", "0", 1.0 / (2.0 * np.pi))
    net.capacitor("C1", "a", "0", 1.0 / (2.0 * np.pi))
    assert abs(ac(net, [0.5])["a"][0]) == pytest.approx(2 / 3)
    with pytest.raises(NetlistError, match="singular at 1 Hz"):
        ac(net, [0.5, 1.0])


# -- certificates ----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_backward_error_is_what_it_says(seed: int) -> None:
    """Against dense algebra, of answers that are wrong by a millionth."""
    rng = np.random.default_rng(seed)
    linear = LinearCircuit(passive(seed))
    f, rhs = 10 ** rng.uniform(3, 8, 3), rng.normal(size=(2, linear.size))
    starts, rows = linear.structure.pattern.starts, linear.structure.pattern.indices
    columns = np.repeat(np.arange(linear.size), np.diff(starts))
    for transposed in (False, True):
        x = linear.solve(f, rhs, transposed=transposed)
        wrong = x * (1.0 + 1e-6 * rng.normal(size=x.shape))
        worst = 0.0
        for k in range(3):
            matrix = np.zeros((linear.size,) * 2, complex)
            matrix[rows, columns] = linear.conductance[0] + 2j * np.pi * f[k] * linear.storage[0]
            matrix = matrix.T if transposed else matrix
            for b, solution in zip(rhs, wrong[k], strict=True):
                terms = np.abs(matrix) @ np.abs(solution) + np.abs(b)
                worst = max(worst, (np.abs(matrix @ solution - b) / terms).max())
        assert linear.backward_error(f, wrong, rhs, transposed=transposed) == pytest.approx(worst, rel=1e-6)


def test_answers_carry_the_residual_of_their_point_and_the_error_of_their_solve() -> None:
    net = low_pass()
    net.diode("D1", "out", "0", is_=1e-9)
    point = operating_point(net)
    for answer in (ac(net, [1e3, 1e6]), transfer(net, "out", "V1")):
        assert answer.residual == point.residual < 1e-15
        assert answer.backward_error < 1e-14
