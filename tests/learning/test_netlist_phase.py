"""Free and nudged phases of netlists: EP, adjoint and finite differences; and a flat chip on both engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.flatten import flatten, node, port
from ohmostat.learning.estimators import (
    Exact,
    Stencil,
    adjoint_response,
    cauchy,
    centered,
    chebyshev,
    exact_response,
    one_sided,
)
from ohmostat.learning.netlist_phase import NetlistPhase, conductance_gradients, free_phase
from ohmostat.learning.nudges import CrossEntropy, SquaredError
from ohmostat.learning.oscillation import continuous, lock_in
from ohmostat.learning.rules import gradients
from ohmostat.simulator.netlist import Netlist, NetlistError

DRIVES = {"V1": np.array([0.8, 0.3, -0.4]), "V2": np.array([-0.5, 0.1, 0.6])}
SAMPLES, OUTPUTS = 3, ["c", "d"]
SQUARED = SquaredError(np.array([[0.1, 0.5], [0.2, -0.3], [0.0, 0.4]]), 1.0)
READOUT = np.array([[3.0, -1.0], [0.5, 2.0], [-2.0, 1.0]])
ENTROPY = CrossEntropy(READOUT, np.zeros(3), np.array([0, 1, 2]), 1.0)


def network(*, directed: bool) -> Netlist:
    """Resistors between all nodes, diodes, capacitors, and ``directed`` VCCS, which are not reciprocal."""
    net = Netlist("small", gmin=0.0)
    net.voltage_source("V1", "x1", "0", 0.0)
    net.voltage_source("V2", "x2", "0", 0.0)
    nodes, rng = ["x1", "x2", "a", "b", "c", "d"], np.random.default_rng(0)
    for j in range(2, 6):
        net.capacitor(f"C{j}", nodes[j], "0", 1e-12)
        for i in range(j):
            g = float(rng.uniform(1e-6, 2e-5))
            net.resistor(f"R{i}{j}", nodes[i], nodes[j], conductance=g)
    net.diode("D1", "a", "0", is_=1e-9, n=1.5)
    net.diode("D2", "0", "b", is_=1e-9, n=1.5)
    net.diode("D3", "c", "d", is_=1e-9, n=1.0)
    if directed:
        net.vccs("G1", "0", "c", "a", "b", 8e-6)
        net.vccs("G2", "d", "0", "c", "0", 5e-6)
    return net


@pytest.fixture(params=[False, True], ids=["reciprocal", "directed"])
def free(request: pytest.FixtureRequest) -> NetlistPhase:
    state = free_phase(network(directed=request.param), OUTPUTS, at=DRIVES)
    assert state.sound.all() and state.stable.all()
    assert state.measured.nodes == ("a", "b", "c", "d")
    return state


def difference(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(found - true).max() / np.abs(true).max())


def test_reciprocal_networks_measure_the_adjoint_and_directed_ones_a_biased_one(free: NetlistPhase) -> None:
    epsilon, delta = exact_response(free, ENTROPY).epsilon, adjoint_response(free, ENTROPY).epsilon
    directed = len(free.equations.structure.banks) > len(network(directed=False).banks)
    if not directed:
        assert difference(epsilon, delta) < 1e-8
        return
    assert difference(epsilon, delta) > 0.02
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        assert difference(epsilon[k], np.linalg.solve(jacobian, jacobian.T @ delta[k])) < 1e-8


@pytest.mark.parametrize("cost", [SQUARED, ENTROPY], ids=["squared", "entropy"])
def test_estimators_measure_the_exact_response(free: NetlistPhase, cost: SquaredError) -> None:
    exact = exact_response(free, cost).epsilon
    waves = lock_in(2e-7, 8, 1.0), continuous(2e-7, 1.0)  # slow: time constants are 1e-7 s
    for estimator in (cauchy(2e-7, 8), chebyshev(2e-7, 8), *waves, Exact()):
        response = estimator.response(free, cost)
        assert response.valid.all()
        assert difference(response.epsilon, exact) < 1e-8


@pytest.mark.parametrize(("make", "order"), [(one_sided, 1), (centered, 2)])
def test_order_of_the_error_in_beta(free: NetlistPhase, make: Callable[[float], Stencil], order: int) -> None:
    exact, betas = exact_response(free, ENTROPY).epsilon, np.array([4e-7, 2e-7, 1e-7])
    error = [difference(make(beta).response(free, ENTROPY).epsilon, exact) for beta in betas]
    assert np.polyfit(np.log(betas), np.log(error), 1)[0] == pytest.approx(order, abs=0.1)


def test_local_rule_with_the_adjoint_is_the_gradient(free: NetlistPhase) -> None:
    """Of every resistor and VCCS at once, against central differences of fourth order; EP's is the same on
    the reciprocal network alone.
    """
    structure = free.equations.structure
    adjoint = conductance_gradients(free, adjoint_response(free, SQUARED).epsilon)
    measured = conductance_gradients(free, exact_response(free, SQUARED).epsilon)

    def loss(key: tuple[str, str], values: np.ndarray) -> float:
        moved = free_phase(structure.net, OUTPUTS, at={**DRIVES, key: values}, certify=0)
        return float(SQUARED.value(moved.outputs, np.arange(SAMPLES)).mean())

    directed = ("vccs", "transconductance") in adjoint
    assert set(adjoint) - {("vccs", "transconductance")} == {("resistor", "conductance")}
    for key, slope in adjoint.items():
        (nominal,) = (bank.parameters[key[1]] for bank in structure.banks if bank.kind == key[0])
        steps, h = np.eye(len(nominal)), 1e-9
        true = [
            sum(w * loss(key, nominal + k * h * step) for k, w in ((1, 8), (-1, -8), (2, -1), (-2, 1)))
            for step in steps
        ]
        assert difference(slope, np.array(true) / (12 * h)) < 1e-8
        assert (difference(measured[key], slope) < 1e-8) != directed


# -- a chip, flat and on the crossbar engine -----------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_flat_chip_answers_as_the_crossbar_engine(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray], family: str, columns: str
) -> None:
    skew = {"learning.angle": 60.0} if family == "twin" else {"mismatch.driver_gain": 0.2}
    changes = {"chip.family": family, "chip.columns": columns, "mismatch.conductance": 0.4}
    chip, x = make_chip(changes | skew), inputs(1)
    blocks, crossbar = chip.blocks, chip.relax(x)
    names = [(k, i) for k, n in enumerate(chip.circuit.sizes) for i in range(n)]
    order = np.concatenate([np.arange(s.start, s.stop) for s in blocks.slices.values()])
    outputs = [node(k, i) for k, i in names if k == len(chip.circuit.sizes) - 1]
    net = flatten(chip, x[0])
    flat = free_phase(net, outputs, ports={node(*name): port(*name) for name in names})
    assert flat.sound.all()
    np.testing.assert_allclose(flat.ports, crossbar.ports[:, order], atol=1e-11)
    cost = CrossEntropy(np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.array([1]), 1.0)
    estimators = (centered(5e-7), chebyshev(5e-7, 4), lock_in(5e-7, 4, 5e-6), continuous(1e-7, 5e-6))
    for response in (exact_response, adjoint_response, *(estimator.response for estimator in estimators)):
        found, true = response(flat, cost), response(crossbar, cost)
        assert found.valid.all() and true.valid.all()
        assert difference(found.epsilon, true.epsilon[:, order]) < 1e-6
    assert difference(flat.port_jacobian(), crossbar.port_jacobian()[np.ix_(order, order)]) < 1e-8
    epsilon = adjoint_response(crossbar, cost).epsilon
    by_device = _by_device(net, conductance_gradients(flat, epsilon[:, order]))
    for name, gradient in gradients(chip, x, crossbar, epsilon).items():
        total = np.zeros_like(gradient.devices())
        for bank in (b for b in chip.circuit.banks if b.array == name):
            tag = bank.name.replace(".", "_")
            for plane, row, column in np.ndindex(total.shape):
                post, pre = (column, row) if bank.transposed else (row, column)
                letter = "R" if columns == "passive" else "G"
                total[plane, row, column] += by_device[f"{letter}{'pm'[plane]}_{tag}_{post}_{pre}"]
        assert difference(total, gradient.devices()) < 1e-8


def _by_device(net: Netlist, by_kind: dict[tuple[str, str], np.ndarray]) -> dict[str, float]:
    return {
        name: value
        for bank in net.banks
        for (kind, _), values in by_kind.items()
        if kind == bank.kind
        for name, value in zip(bank.names, values, strict=True)
    }


# -- what cannot be believed, and what is refused ------------------------------------------------------


def latch(held: float) -> Netlist:
    """Two amplifiers that hold each other, with an input: stable near both rails, unstable in between."""
    net = Netlist("latch")
    net.voltage_source("Vx", "x", "0", held)
    for k, (here, there) in enumerate([("a", "sb"), ("b", "sa")]):
        net.amplifier(f"B{k}", f"s{here}", here, law="tanh", low=-1.0, high=1.0, gain=1.3, offset=0.0, knee=0)
        net.resistor(f"R{k}", here, "0", conductance=1e-5)
        net.vccs(f"G{k}", "0", here, there, "0", 1.2e-5)
        net.capacitor(f"C{k}", here, "0", 1e-12)
    net.vccs("Gx", "0", "a", "x", "0", 1e-5)
    return net


PORTS = {"a": "sa", "b": "sb"}


def test_an_unstable_operating_point_is_flagged() -> None:
    """At 0 V Newton's method finds the saddle."""
    free = free_phase(latch(0.0), ["b"], ports=PORTS)
    np.testing.assert_array_equal([free.settled, free.checked, free.stable, free.sound], [[1], [1], [0], [0]])
    unseen = free_phase(latch(0.0), ["b"], ports=PORTS, certify=0)
    assert unseen.sound.all() and not unseen.checked.any()


def test_a_jump_is_flagged_by_its_release() -> None:
    free = free_phase(latch(-0.2), ["b"], ports=PORTS, initial={"a": 0.8, "b": 0.8})
    assert free.sound.all() and free.outputs[0, 0] > 0.5
    cost = SquaredError(np.array([[-1.0]]), 2.0)
    near, far = (one_sided(beta).response(free, cost) for beta in (1e-7, 2e-5))
    assert near.nudged is not None and far.nudged is not None
    assert near.valid.all() and not near.nudged.jumped.any()
    assert far.nudged.settled.all() and far.nudged.outputs[0, 0] < -0.5
    assert far.nudged.stable.all() and far.nudged.jumped.all()
    assert not far.valid.any() and not far.epsilon.any()


@pytest.mark.parametrize(
    ("outputs", "ports", "problem"),
    [
        (["x1"], None, "'x1'.*holds it.*free nodes"), (["a"], {"a": "x2"}, "port 'x2'"),
        (["e"], None, "no node 'e'"),
    ],
)  # fmt: skip
def test_nodes_that_cannot_respond_are_refused(
    outputs: list[str], ports: dict[str, str] | None, problem: str
) -> None:
    with pytest.raises(NetlistError, match=problem):
        free_phase(network(directed=False), outputs, ports=ports)
