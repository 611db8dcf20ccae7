"""Learning in networks of transistors: EP against the adjoint and differences, and the machine in time."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.edges import EdgeChip, EdgeMismatch, TransistorNetwork
from ohmostat.circuits.graphs import NetworkError, square_lattice
from ohmostat.circuits.mismatch import generator
from ohmostat.learning.edge_netlist import machine_netlist
from ohmostat.learning.edges import (
    EdgeMachine,
    EdgeTask,
    content_contrast,
    gate_gradient,
)
from ohmostat.learning.estimators import adjoint_response, cauchy, chebyshev, exact_response
from ohmostat.learning.netlist_phase import free_phase
from ohmostat.learning.nudges import CrossEntropy, Nudge, SquaredError
from ohmostat.simulator import channel_kernels as kernels
from ohmostat.simulator.ngspice import ngspice_available, simulate_with_ngspice
from ohmostat.simulator.spice import write_spice
from ohmostat.simulator.transient import Transient, transient

INPUTS = np.array([[0.1, 0.4], [0.5, 0.2], [0.3, 0.3]])
TARGETS = np.array([[0.1, 0.3], [-0.1, 0.2], [0.0, 0.4]])
BETA = 1e-6  # [W], beside conductances of some 1e-5 S


def chip_of(reference: str, spread: EdgeMismatch | None = None, **changes: Any) -> EdgeChip:
    given: dict[str, Any] = {
        "inputs": ("0.0", "1.1"), "outputs": (("2.2", "0.1"), "1.2"), "constants": {"0.2": 0.0, "2.0": 0.6},
        "reference": reference,
    }  # fmt: skip
    network = TransistorNetwork(square_lattice(3, 3), **{**given, **changes})
    return network.fabricate(spread or EdgeMismatch(threshold=0.05, current=0.2), seed=4)


def cost_of(chip: EdgeChip) -> SquaredError:
    return SquaredError(TARGETS, 1.0, chip.network.readout)


def difference(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(found - true).max() / np.abs(true).max())


def slopes_by_difference(chip: EdgeChip, gates: np.ndarray) -> np.ndarray:
    """``dL/dVg`` by central differences of the fourth order, every circuit settled again."""
    cost, h = cost_of(chip), 1e-3

    def loss(moved: np.ndarray) -> float:
        return float(cost.value(chip.settle(moved, INPUTS).outputs, np.arange(3)).mean())

    found = [
        8 * (loss(gates + h * e) - loss(gates - h * e)) - (loss(gates + 2 * h * e) - loss(gates - 2 * h * e))
        for e in np.eye(chip.edges)
    ]
    return np.array(found) / (12 * h)


def test_ep_is_the_gradient_of_a_reciprocal_network() -> None:
    chip = chip_of("middle")
    gates = chip.random_gates(0, 0.8, 1.6)
    free, cost = chip.settle(gates, INPUTS), cost_of(chip)
    true = gate_gradient(free, adjoint_response(free, cost).epsilon)
    assert difference(true, slopes_by_difference(chip, gates)) < 1e-7
    response = chebyshev(BETA, 8).response(free, cost)
    assert response.valid.all()
    assert difference(gate_gradient(free, response.epsilon), true) < 1e-8
    assert difference(content_contrast(free, cost, chebyshev(BETA, 8)), true) < 1e-8


def test_ep_of_gates_held_against_ground_is_biased_by_their_asymmetry() -> None:
    chip = chip_of("ground")
    gates = chip.random_gates(0, 0.8, 1.6)
    free, cost = chip.settle(gates, INPUTS), cost_of(chip)
    delta, epsilon = adjoint_response(free, cost).epsilon, exact_response(free, cost).epsilon
    true = gate_gradient(free, delta)
    assert difference(true, slopes_by_difference(chip, gates)) < 1e-7
    measured = chebyshev(BETA, 8).response(free, cost).epsilon
    taken = replace(chebyshev(BETA, 8), judged=False).response(free, cost)
    np.testing.assert_array_equal(taken.epsilon, measured)
    assert difference(measured, epsilon) < 1e-8
    jacobian, moving = free.jacobian(), ~chip.network.held
    pushed = np.einsum("bji,bj->bi", jacobian, delta[:, moving])
    bias = np.linalg.solve(jacobian, pushed[..., None])[..., 0]
    assert difference(epsilon[:, moving], bias) < 1e-9
    found = gate_gradient(free, epsilon)
    cosine = found @ true / np.linalg.norm(found) / np.linalg.norm(true)
    assert difference(found, true) > 0.05 and 0.9 < cosine < 0.999


@pytest.mark.parametrize("reference", ["ground", "middle"])
def test_responses_are_those_of_the_netlist_engine(reference: str) -> None:
    chip = chip_of(reference)
    gates, network = chip.random_gates(0, 0.8, 1.6), chip.network
    readout = np.array([[3.0, -1.0, 0.5], [0.5, 2.0, 1.0], [-2.0, 1.0, 0.0]])
    cost = CrossEntropy(readout, np.zeros(3), np.array([0, 1, 2]), 0.3)
    free = chip.settle(gates, INPUTS)
    estimator = chebyshev(1e-8, 4)  # its current is no straight line: linearised again and again
    found = estimator.response(free, cost)
    outputs = [f"n{network.graph.names[k]}" for k in network.output_nodes]
    drives = {f"Vn{node}": INPUTS[:, k] for k, node in enumerate(network.inputs)}
    ports = {f"n{n}": f"n{n}" for n, held in zip(network.graph.names, network.held, strict=True) if not held}
    flat = free_phase(chip.netlist(gates, INPUTS[0]), outputs, ports=ports, at=drives)
    assert found.valid.all() and flat.sound.all()
    places = [network.graph.names.index(node[1:]) for node in flat.measured.nodes]
    np.testing.assert_allclose(flat.ports, free.voltages[:, places], atol=1e-12)
    assert difference(found.epsilon[:, places], estimator.response(flat, cost).epsilon) < 1e-7


def test_a_nudge_of_outputs_that_are_right_already_moves_nothing() -> None:
    chip = chip_of("ground")
    free = chip.settle(chip.random_gates(0, 0.8, 1.6), INPUTS)
    cost = SquaredError(free.readings, 1.0, chip.network.readout)
    nudged = free.under(Nudge(cost, np.full(3, BETA), 3))
    assert nudged.settled.all() and np.abs(nudged.voltages - free.voltages).max() < 1e-12


def test_what_has_no_co_content_and_complex_nudges_are_refused() -> None:
    chip = chip_of("ground")
    free, cost = chip.settle(chip.random_gates(0, 0.8, 1.6), INPUTS), cost_of(chip)
    with pytest.raises(NetworkError, match='use reference = "middle"'):
        content_contrast(free, cost, chebyshev(BETA, 2))
    with pytest.raises(NetworkError, match="real nudges only"):
        cauchy(BETA, 4).response(free, cost)


# -- the machine in time -----------------------------------------------------------------------------------

TASK = EdgeTask(INPUTS, TARGETS)


def by_hand(machine: EdgeMachine, gates: np.ndarray, epochs: int, seed: int) -> tuple[np.ndarray, float]:
    """The machine's gates [V] and energy [J], step by step from settled states."""
    chip, network = machine.chip, machine.chip.network
    gates, energy, rng = gates.copy(), 0.0, generator(seed, "edges", "order")
    h, turns = machine.period / machine.substeps, machine.timing == "in turn"
    theirs = 0 if turns else 1
    readout, free = network.readout, None
    for _ in range(epochs):
        for sample in rng.permutation(len(INPUTS)):
            x, y = INPUTS[[sample]], TARGETS[sample]
            for turn in range(machine.substeps):
                if turn == 0 or not turns:
                    free = chip.settle(gates, x)
                    energy += float(free.power[0]) * (machine.period if turns else h)
                assert free is not None
                out = free.outputs[0]
                if machine.drive == "held":
                    share = readout / np.sum(readout**2, axis=1, keepdims=True)
                    pushed = chip.settle(
                        gates, x, copy=theirs, clamp=[out + machine.nudge * share.T @ (y - readout @ out)]
                    )
                else:
                    cost = SquaredError(y[None], 1.0, readout)
                    start = chip.settle(gates, x, copy=theirs)
                    pushed = start.under(Nudge(cost, np.array([machine.nudge]), 1))
                energy += float(pushed.power[0]) * h
                contrast = free.drops[0] ** 2 - pushed.drops[0] ** 2
                rate = (machine.gain * contrast + chip.offset) / network.gate_capacitance
                gates = np.clip(gates + h * rate, *network.rails)
    return gates, energy


@pytest.mark.parametrize("timing", ["twin", "in turn"])
@pytest.mark.parametrize(("drive", "nudge"), [("held", 0.5), ("current", 2e-5)])
def test_the_compiled_loop_does_what_the_machine_is_said_to_do(timing: str, drive: str, nudge: float) -> None:
    spread = EdgeMismatch(threshold=0.05, current=0.2, stuck_closed=0.1, stuck_open=0.1, offset=2e-9)
    chip = chip_of("ground", spread, rails=(0.9, 1.5))
    machine = EdgeMachine(chip, 1e-6, drive, nudge, timing, period=1e-5, substeps=3)
    start = chip.random_gates(0, 0.9, 1.5)
    run = machine.learn(TASK, start, 2, seed=3)
    gates, energy = by_hand(machine, start, 2, 3)
    np.testing.assert_allclose(run.gates[-1], gates, atol=1e-9)
    assert run.energy[-1] == pytest.approx(energy, rel=1e-9)
    assert run.time[-1] == pytest.approx(2 * 3 * 1e-5 * (2 if timing == "in turn" else 1))
    assert run.unsettled[-1] == 0 and (gates == 0.9).any() and (gates == 1.5).any()
    assert (
        run.error[-1] == pytest.approx(machine.error(gates, TASK), rel=1e-9) and run.error[-1] != run.error[0]
    )


@pytest.fixture
def ngspice() -> None:
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")


DRIVES = pytest.mark.parametrize(("drive", "nudge"), [("held", 0.5), ("current", 2e-5)])
SHOWN = EdgeTask(np.array([[0.1], [0.4]]), np.array([[0.1], [-0.1]]))
ORDER = [1, 0]  # in which a run with seed 1 shows them


def small_machine(drive: str, nudge: float, stuck: float = 0.0) -> tuple[EdgeMachine, np.ndarray, Transient]:
    """A machine of seven edges, its gates at the start, and a transient of its netlist over two samples."""
    network = TransistorNetwork(
        square_lattice(2, 3, periodic=False), inputs=("0.0",), outputs=(("1.1", "0.2"),),
        constants={"1.0": 0.0, "1.2": 0.5},
    )  # fmt: skip
    spread = EdgeMismatch(threshold=0.03, current=0.1, offset=2e-10, stuck_closed=stuck)
    machine = EdgeMachine(network.fabricate(spread, seed=1), 1e-7, drive, nudge, period=1e-5, substeps=100)
    gates = machine.chip.random_gates(0, 1.0, 1.5)
    stored = {f"Cg{k}": volts for k, volts in enumerate(gates)}
    net = machine_netlist(machine, SHOWN, ORDER)
    return machine, gates, transient(net, 2e-5, uic=True, stored=stored, rtol=1e-5, atol=1e-7)


@DRIVES
def test_gates_and_energy_are_those_of_a_transient_of_the_whole_machine(drive: str, nudge: float) -> None:
    """Nodes settle within 1e-3 of a period; the gates' course is the quasi-static one to that order."""
    machine, start, wave = small_machine(drive, nudge)
    assert generator(1, "edges", "order").permutation(2).tolist() == ORDER
    chip, run = machine.chip, machine.learn(SHOWN, start, 1, seed=1)
    gates = np.stack([wave[f"g{k}"] for k in range(chip.edges)], axis=1)
    moved = np.abs(run.gates[-1] - start).max()
    assert 0.03 < moved < 0.5
    np.testing.assert_allclose(gates[-1], run.gates[-1], atol=2e-3 * moved)
    power, (first, second) = np.zeros(len(wave.times)), chip.network.graph.ends
    for copy, tag in enumerate("fc"):
        v = np.stack([wave[f"{tag}{name}"] for name in chip.network.graph.names], axis=1)
        found = np.empty((4, *gates.shape))
        kernels.conduct(chip.channels(copy), gates, v, found)
        power += np.sum(found[0] * (v[:, first] - v[:, second]), axis=1)
    assert run.energy[-1] == pytest.approx(np.trapezoid(power, wave.times), rel=5e-3)


@pytest.mark.usefixtures("ngspice")
@DRIVES
def test_ngspice_lets_the_whole_machine_learn_the_same(drive: str, nudge: float) -> None:
    machine, start, wave = small_machine(drive, nudge, stuck=0.2)
    assert machine.chip.closed.any()
    text = write_spice(machine_netlist(machine, SHOWN, ORDER)).replace(".op\n", "").replace(".end\n", "")
    begin = " ".join(f"v(g{k})={volts!r}" for k, volts in enumerate(start.tolist()))
    waves = simulate_with_ngspice(f"{text}.ic {begin}\n.tran 1e-8 2e-5 uic\n.end\n")["tran"]
    for k in range(machine.chip.edges):
        assert wave[f"g{k}"][-1] == pytest.approx(waves[f"v(g{k})"][-1], abs=2e-5)


def test_the_simple_rule_is_the_gradient_of_conductances_where_these_are_ohmic() -> None:
    """At millivolts a channel is a conductance, and ``Δv²_free - Δv²_pushed`` is ``-2β dL/dg``."""
    chip = chip_of("ground", EdgeMismatch(), constants={"0.2": 0.0, "2.0": 2e-3})
    gates, task = chip.random_gates(0, 1.2, 1.6), EdgeTask(np.array([[1e-3, 2e-3]]), np.array([[1e-3, 0.0]]))
    moved = EdgeMachine(chip, 1.0, "current", 1e-8).learn(task, gates, 1).gates[-1] - gates
    free, cost = chip.settle(gates, task.inputs), SquaredError(task.targets, 1.0, chip.network.readout)
    gradient = gate_gradient(free, adjoint_response(free, cost).epsilon)
    by_conductance = gradient / (free.conduction[3][0] / free.drops[0])
    cosine = -moved @ by_conductance / np.linalg.norm(moved) / np.linalg.norm(by_conductance)
    assert cosine > 0.999


def test_a_machine_learns_and_says_how_long_it_took() -> None:
    chip = chip_of("ground", EdgeMismatch(), outputs=(("2.2", "0.1"),))
    machine = EdgeMachine(chip, gain=2e-8, period=1e-3)
    task = EdgeTask(INPUTS, 0.1 * INPUTS[:, :1] - 0.05)
    start = chip.random_gates(0, 1.0, 1.5)
    enough = machine.error(start, task) / 5
    run = machine.learn(task, start, 400, every=20, enough=enough)
    assert run.error[-1] <= enough < run.error[-2]
    np.testing.assert_allclose(np.diff(run.time), 20 * 3 * 1e-3)
    assert (np.diff(run.energy) > 0).all()


def test_what_cannot_be_is_refused() -> None:
    chip = chip_of("ground")
    gates = chip.random_gates(0, 1.0, 1.5)
    for make, words in (
        (lambda: EdgeMachine(chip, drive="pulled"), "use one of held, current"),
        (lambda: EdgeMachine(chip, timing="both"), "use one of twin, in turn"),
        (lambda: EdgeMachine(chip, nudge=1.5), "nudge is 1.5; give a value from 1e-12 to 1"),
        (lambda: EdgeMachine(chip, period=0.0), "period is 0 s"),
        (lambda: EdgeTask(INPUTS, TARGETS[:2]), "3 inputs and 2 targets"),
        (lambda: EdgeTask(INPUTS, np.array([[np.nan]])), "targets of shape"),
        (
            lambda: EdgeMachine(chip).learn(EdgeTask(INPUTS, TARGETS[:, :1]), gates, 1),
            "1 targets for 2 outputs",
        ),
        (lambda: EdgeMachine(chip).learn(TASK, gates[:3], 1), "gates of shape"),
        (lambda: EdgeMachine(chip).learn(TASK, np.tile(gates, (3, 1)), 1), "give a voltage each"),
        (lambda: EdgeMachine(chip).learn(TASK, gates, 1, every=0), "every is 0"),
        (lambda: machine_netlist(EdgeMachine(chip, timing="in turn"), TASK, [0]), "have no netlist"),
    ):
        with pytest.raises(NetworkError, match=words):
            make()
