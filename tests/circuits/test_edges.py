"""Networks of transistors: the law, equilibria against the netlist engine and ngspice, and fabrication."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.circuits import edge_equilibrium
from ohmostat.circuits.edges import EdgeChip, EdgeMismatch, Transistor, TransistorNetwork
from ohmostat.circuits.graphs import NetworkError, random_graph, square_lattice
from ohmostat.simulator import channel_kernels as kernels
from ohmostat.simulator import semiconductors as semi
from ohmostat.simulator.ngspice import TIGHT, ngspice_available, simulate_with_ngspice, with_options
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice import write_spice

SPREAD = EdgeMismatch(threshold=0.05, current=0.3, stuck_open=0.1, stuck_closed=0.1)
REFERENCES = pytest.mark.parametrize("reference", ["ground", "middle"])


def network(reference: str = "ground", **changes: Any) -> TransistorNetwork:
    given: dict[str, Any] = {
        "inputs": ("0.0", "1.1"), "outputs": (("2.2", "3.3"), "0.1"), "constants": {"0.2": 0.0, "2.0": 1.0},
        "reference": reference, "transistor": Transistor(lambda_=0.05),
    }  # fmt: skip
    return TransistorNetwork(square_lattice(4, 4), **{**given, **changes})


def samples(chip: EdgeChip, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Gates from cut-off to strong inversion, and inputs."""
    rng = np.random.default_rng(1)
    return rng.uniform(0.3, 2.5, (count, chip.edges)), rng.uniform(-0.1, 1.0, (count, 2))


@REFERENCES
def test_channels_follow_the_law_of_the_netlist_engine(reference: str) -> None:
    rng = np.random.default_rng(0)
    leak = 1e-15
    chip = network(reference, transistor=Transistor(lambda_=0.1, leak=leak)).fabricate(SPREAD, seed=2)
    v, gates = rng.uniform(-1, 3, (500, 16)), rng.uniform(-4, 5, (500, chip.edges))
    found = np.empty((4, *gates.shape))
    kernels.conduct(chip.channels(), gates, v, found)
    (first, second), t = chip.network.graph.ends, chip.network.transistor
    a, b = v[:, first], v[:, second]
    held = np.where(chip.closed[0], 5.0, gates)
    bulk = (a + b) / 2 if reference == "middle" else 0.0
    law = {"polarity": 1.0, "vto": chip.vto[0], "kp": chip.strength[0], "gamma": t.gamma, "phi": t.phi,
           "lambda_": t.lambda_, "w": 1.0, "l": 1.0, "temperature": t.temperature}  # fmt: skip
    u = np.stack([a - b, held + 0 * a, b - bulk])
    i, (by_drain, by_gate, by_source) = semi.ekv(law, u)
    apart = -0.5 if reference == "middle" else 0.0  # what vs moves with the drain
    by_a = by_drain + apart * by_source
    by_b = -by_drain + (1 + apart if reference == "ground" else 0.5) * by_source
    scale = np.abs([by_drain, by_gate, by_source]).max(axis=0) + 1e-15
    law_found = i + leak * (a - b), by_a + leak, by_b - leak, by_gate * ~chip.closed[0]
    for mine, true in zip(found, law_found, strict=True):
        assert (np.abs(mine - true) / scale).max() < 1e-11


@REFERENCES
@pytest.mark.parametrize("clamped", [False, True])
def test_equilibria_are_those_of_the_netlist_engine(reference: str, clamped: bool) -> None:
    chip = network(reference).fabricate(SPREAD, seed=5)
    gates, inputs = samples(chip)
    clamp = np.random.default_rng(2).uniform(0.2, 0.6, (len(inputs), 3)) if clamped else None
    for copy in (0, 1):
        found = chip.settle(gates, inputs, copy=copy, clamp=clamp)
        assert found.settled.all() and (found.iterations > 0).all() and found.residual.max() < 1e-16
        for k in range(len(inputs)):
            point = operating_point(
                chip.netlist(gates[k], inputs[k], copy, None if clamp is None else clamp[k])
            )
            true = [point[f"n{name}"] for name in chip.network.graph.names]
            np.testing.assert_allclose(found.voltages[k], true, atol=1e-9)  # of nodes held by leaks alone
        for k in range(len(inputs)):
            power = sum(found.voltages[k, i] * current for i, current in _into_network(found, k).items())
            assert found.power[k] == pytest.approx(power, rel=1e-9)


def _into_network(state: Any, sample: int) -> dict[int, float]:
    """What every source delivers [A]: the unbalanced current of its node."""
    totals = dict.fromkeys(range(16), 0.0)
    for (a, b), i in zip(state.chip.network.graph.edges, state.conduction[0, sample], strict=True):
        totals[a] += i
        totals[b] -= i
    return totals


@pytest.fixture
def ngspice() -> None:
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")


@pytest.mark.usefixtures("ngspice")
@REFERENCES
def test_the_netlist_answers_as_in_ngspice(reference: str) -> None:
    small = TransistorNetwork(
        square_lattice(2, 3, periodic=False), inputs=("0.0",), outputs=("1.2",), constants={"1.0": 0.0},
        reference=reference, transistor=Transistor(lambda_=0.05),
    )  # fmt: skip
    chip = small.fabricate(SPREAD, seed=1)
    net = chip.netlist(chip.random_gates(0, 0.6, 2.0), [0.8])
    waves = simulate_with_ngspice(with_options(write_spice(net), TIGHT))["op"]
    point = operating_point(net)
    for name in small.graph.names:
        assert point[f"n{name}"] == pytest.approx(waves[f"v(n{name})"][0], abs=1e-9)


def test_what_does_not_settle_is_asked_of_the_netlist_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = network().fabricate(SPREAD, seed=5)
    gates, inputs = samples(chip, 3)
    true = chip.settle(gates, inputs)

    def fail(*arguments: Any) -> None:
        arguments[-3][...] = 0.123
        arguments[-2][...] = -1

    monkeypatch.setattr(edge_equilibrium.kernels, "settle_batch", fail)
    found = chip.settle(gates, inputs)
    assert found.settled.all() and (found.iterations == -1).all()
    np.testing.assert_allclose(found.voltages, true.voltages, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["ground", "middle"]), st.floats(1e-3, 0.5))
def test_every_voltage_rises_with_every_input_and_stays_between_the_sources(
    seed: int, reference: str, more: float
) -> None:
    """So one node alone cannot learn XOR, and a difference can."""
    rng = np.random.default_rng(seed)
    graph = random_graph(8, 14, seed)
    net = TransistorNetwork(graph, ("0", "1"), (("2", "3"),), {"4": 0.0, "5": 0.7}, reference=reference)
    chip, inputs = net.fabricate(SPREAD, seed), rng.uniform(0, 1, (1, 2))
    higher = inputs + np.array([more, 0.0])
    gates = rng.uniform(0.5, 2.5, chip.edges)
    low, high = chip.settle(gates, inputs), chip.settle(gates, higher)
    assert low.settled.all() and high.settled.all()
    assert (high.voltages - low.voltages).min() > -1e-9
    sources = np.append(inputs, [0.0, 0.7])
    assert low.voltages.min() > sources.min() - 1e-9 and low.voltages.max() < sources.max() + 1e-9


def test_only_channels_that_follow_their_middle_are_reciprocal() -> None:
    """Against ground, ``i = f(v_b) - f(v_a)`` has unlike slopes at its two ends."""
    skew = {}
    for reference in ("ground", "middle"):
        chip = network(reference).fabricate(seed=5)
        gates, inputs = samples(chip)
        jacobian = chip.settle(gates, inputs).jacobian()
        other = jacobian.swapaxes(1, 2)
        skew[reference] = np.linalg.norm(jacobian - other) / np.linalg.norm(jacobian + other)
    assert skew["middle"] < 1e-15 and 0.02 < skew["ground"] < 0.5


def test_in_strong_inversion_channels_that_follow_their_middle_are_ohmic() -> None:
    """Twice the sources, twice the voltages; against ground a channel weakens as its ends rise."""
    excess = {}
    for reference in ("ground", "middle"):
        chip = network(reference, constants={"0.2": 0.0}, transistor=Transistor()).fabricate(SPREAD, seed=5)
        gates = chip.random_gates(0, 1.5, 2.5)
        once, twice = (chip.settle(gates, [[0.1 * k, 0.2 * k]]).readings for k in (1, 2))
        excess[reference] = np.abs(twice / once - 2).max()
    assert excess["middle"] < 1e-4 and excess["ground"] > 1e-2


def test_in_weak_inversion_ports_of_pseudo_voltage_are_reciprocal() -> None:
    """``i = g_e (u_b - u_a)`` with ``u = exp(-v/Vt)`` for all gates (Vittoz): ``J diag(exp(v/Vt))``."""
    t = Transistor(kp=1.0, leak=1e-15)
    chip = network(transistor=t, constants={"0.2": 0.0, "2.0": 0.1}).fabricate(
        EdgeMismatch(threshold=0.02), seed=1
    )
    state = chip.settle(chip.random_gates(0, 0.0, 0.2), [[0.05, 0.02]])
    jacobian = state.jacobian()[0]
    vt = semi.thermal_voltage(t.temperature)
    ports = jacobian * np.exp(state.voltages[0, ~chip.network.held] / vt)
    for matrix, low, high in ((jacobian, 0.01, 1.0), (ports, 0.0, 1e-3)):
        assert low <= np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix + matrix.T) < high


def test_the_jacobian_is_the_derivative_of_the_current() -> None:
    chip = network().fabricate(SPREAD, seed=5)
    gates, inputs = samples(chip, 1)
    state = chip.settle(gates, inputs)
    into, constant, slope = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 0))
    push, free = kernels.Push(into, constant, slope), np.flatnonzero(~chip.network.held)
    current, work = np.empty(16), np.empty((16, 16))

    def currents(v: np.ndarray) -> np.ndarray:
        kernels.balance(chip.channels(), gates[0], chip.network.held, push, v, current, work)
        return current[free].copy()

    h = 1e-5
    for column, node in enumerate(free):
        step = h * (np.arange(16) == node)
        v = state.voltages[0]
        slopes = 8 * (currents(v + step) - currents(v - step)) - (
            currents(v + 2 * step) - currents(v - 2 * step)
        )
        np.testing.assert_allclose(slopes / (12 * h), state.jacobian()[0, :, column], rtol=1e-6, atol=1e-13)


# -- fabrication -------------------------------------------------------------------------------------------


def test_no_spread_is_the_nominal_chip_and_a_seed_is_a_chip() -> None:
    net = network()
    plain, one, same, other = (
        net.fabricate(m, s) for m, s in ((None, 3), (SPREAD, 3), (SPREAD, 3), (SPREAD, 4))
    )
    t = net.transistor
    assert (plain.vto == t.vto).all() and (plain.strength == t.kp).all()
    assert not plain.closed.any() and not plain.offset.any()
    for name in ("vto", "strength", "closed", "offset"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.vto, other.vto) and not np.array_equal(one.vto[0], one.vto[1])


def test_spreads_have_their_size() -> None:
    net = TransistorNetwork(random_graph(300, 20_000, 0), ("0",), ("1",))
    spread = EdgeMismatch(threshold=0.02, current=0.1, stuck_open=0.05, stuck_closed=0.03, offset=1e-9)
    chip = net.fabricate(spread, seed=9)
    works = chip.strength > 0
    assert np.std(chip.vto - 0.7) == pytest.approx(0.02, rel=0.02)
    assert np.std(np.log(chip.strength[works])) == pytest.approx(0.1, rel=0.02)
    assert np.mean(~works) == pytest.approx(0.05, abs=0.005)
    assert np.mean(chip.closed) == pytest.approx(0.03, abs=0.004)
    assert np.std(chip.offset) == pytest.approx(1e-9, rel=0.03)
    assert abs(np.corrcoef(chip.vto)[0, 1]) < 0.03  # twins are drawn apart
    size = Transistor(w=4e-6, l=1e-6)
    assert EdgeMismatch.pelgrom(3.5e-9, 1e-8, size) == EdgeMismatch(threshold=1.75e-3, current=5e-3)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 5.0), st.floats(0.0, 2.0))
def test_slope_factor_and_specific_current_are_those_of_the_law(gate: float, gamma: float) -> None:
    """In saturation at vp = vs the current is ``Is ln²2``."""
    t = Transistor(gamma=gamma, leak=1e-15)
    law = {"polarity": 1.0, "vto": t.vto, "kp": t.kp, "gamma": t.gamma, "phi": t.phi, "lambda_": 0.0,
           "w": 1.0, "l": 1.0, "temperature": t.temperature}  # fmt: skip
    law = {name: np.array([value]) for name, value in law.items()}
    vp = semi._pinch_off(law, np.array([gate]), semi.thermal_voltage(t.temperature))[0]
    i = semi.ekv(law, np.array([[50.0], [gate], vp]))[0]
    assert i[0] == pytest.approx(t.specific_current(gate) * np.log(2) ** 2, rel=1e-9)


def test_what_cannot_be_is_refused() -> None:
    chip = network().fabricate()
    for make, words in (
        (lambda: Transistor(kp=-1.0), "kp is -1 A/V²; give a value from 1e-09 A/V² to 1 A/V²"),
        (
            lambda: EdgeMismatch(stuck_open=0.7, stuck_closed=0.5),
            "stuck_closed is 0.5; give a value from 0 to 0.3",
        ),
        (lambda: network("bulk"), "use one of ground, middle"),
        (lambda: network(inputs=("0.0", "0.1")), "'0.1' is named twice"),
        (lambda: network(rails=(2.0, 1.0)), "the lower one first"),
        (lambda: network(outputs=()), "needs an output"),
        (lambda: network(constants={"0.2": 1e3}), "at 1000 V"),
        (lambda: network(node_capacitance=0.0), "node_capacitance is 0 F"),
        (lambda: chip.settle(np.ones(3), [[0.0, 0.0]]), r"gates of shape \(3,\)"),
        (lambda: chip.settle(np.ones(32), [[0.0]]), r"give finite voltages \(samples, 2\)"),
        (lambda: chip.settle(np.ones(32), [[0.0, 0.0]], clamp=[[0.1]]), "clamp of shape"),
        (lambda: chip.settle(np.ones(32), [[0.0, 0.0]], copy=2), "copy is 2"),
    ):
        with pytest.raises(NetworkError, match=words):
            make()
