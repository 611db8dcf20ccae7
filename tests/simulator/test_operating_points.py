"""Many operating points at once, warm starts, and complex ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from ohmostat.simulator.equations import Equations, State
from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.operating_point import (
    ConvergenceError,
    jacobian_at,
    operating_point,
    operating_points,
)
from ohmostat.simulator.structure import Structure

from .small_circuits import everything, hopfield, latch

seeds = st.integers(0, 2**32 - 1)


def test_a_batch_is_as_many_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample goes its own way: some by Newton, some by continuations, whoever shares the batch."""
    net, scales = hopfield(11), np.linspace(-2.0, 2.0, 40)
    current = np.outer(
        scales, next(bank for bank in net.banks if bank.kind == "current_source").parameters["current"]
    )
    points = operating_points(net, {("current_source", "current"): current}).require()
    assert len(points) == 40 and points["v0"].shape == (40,)
    assert len(set(points.method)) > 1
    for k in range(0, 40, 7):
        alone = operating_point(net, at={("current_source", "current"): current[k]})
        assert points.method[k] == alone.method and points.iterations[k] == alone.iterations
        np.testing.assert_allclose(points.x[k], alone.x, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(points.point(k).voltages, points.voltages[k])
    monkeypatch.setattr("ohmostat.simulator.operating_point.SHARE", 1)
    threaded = operating_points(net, {("current_source", "current"): current}, threads=2)
    np.testing.assert_array_equal(threaded.x, points.x)
    assert threaded.method == points.method


def test_bounded_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, at = everything(1), {"V1": np.linspace(-1.0, 1.0, 9)}
    whole = operating_points(net, at)
    monkeypatch.setattr("ohmostat.simulator.operating_point.MEMORY", 1)  # a sample at a time
    sizes, evaluate = [], Equations.evaluate

    def counted(self: Equations, x: np.ndarray, *args: Any, **more: Any) -> State:
        sizes.append(len(x))
        return evaluate(self, x, *args, **more)

    monkeypatch.setattr(Equations, "evaluate", counted)
    parts = operating_points(net, at)
    assert max(sizes) == 1
    np.testing.assert_array_equal(parts.x, whole.x)
    np.testing.assert_array_equal(parts.residual, whole.residual)
    np.testing.assert_array_equal(parts.voltage_residual, whole.voltage_residual)
    assert whole.residual.max() > 0.0


def test_a_sample_without_a_solution_is_marked_and_named() -> None:
    net = Netlist("starved")
    net.amplifier("B1", "s", "v", law="logistic", low=0.0, high=1.0, gain=1.0, offset=0.5)
    net.vccs("G1", "v", "0", "s", "0", 1e-6)  # takes at most 1 µA out of v
    net.current_source("I1", "0", "v", 0.0)
    points = operating_points(net, {"I1": np.array([0.5e-6, 2e-6, 0.9e-6])})
    assert points.converged.tolist() == [True, False, True]
    assert points.method[1] == "" and list(points.errors) == [1]
    assert points["v"][0] == pytest.approx(0.5)
    with pytest.raises(ConvergenceError, match=r"1 of 3 samples failed; sample 1: .*at 'v' \(1e-06 A"):
        points.require()
    with pytest.raises(ConvergenceError, match="'starved'"):
        points.point(1)
    assert points.point(2).residual < 1e-18


def test_a_warm_start_saves_iterations_and_chooses_the_branch() -> None:
    net = latch()
    states = [operating_point(net, initial={"v1": -q, "v2": q - 1.0}) for q in (0.0, 1.0)]
    for state in states:
        again = operating_point(net, start=state)
        assert again.iterations <= 2
        np.testing.assert_allclose(again.voltages, state.voltages, atol=1e-12)
    both = operating_points(
        net, {"R1": np.array([1.01e-5, 1.01e-5])}, start=np.stack([state.x for state in states])
    )
    assert both["q1"] == pytest.approx([state["q1"] for state in states], abs=1e-6)
    with pytest.raises(NetlistError, match=r"start of shape \(3,\)"):
        operating_point(net, start=np.zeros(3))


def test_a_structure_serves_many_calls() -> None:
    net = everything(2)
    structure = Structure(net)
    first = operating_point(structure)
    plan = structure.solver.plan
    second = operating_point(structure, at={"V1": 0.3})
    assert structure.solver.plan is plan
    assert second.voltages == pytest.approx(operating_point(net, at={"V1": 0.3}).voltages, abs=1e-12)
    assert first.voltages == pytest.approx(operating_point(net).voltages, abs=1e-12)


def test_one_point_is_not_many() -> None:
    with pytest.raises(NetlistError, match="values of 2 samples for one operating point"):
        operating_point(latch(), at={"R1": np.array([1e-5, 2e-5])})


def cauchy(function: Callable[[np.ndarray], np.ndarray], radius: float, n: int = 16) -> np.ndarray:
    """Derivative at 0 by Cauchy's integral formula."""
    circle = np.exp(2j * np.pi * np.arange(n) / n)
    return (function(radius * circle) / circle[:, None]).mean(axis=0) / radius


def test_complex_operating_points_give_the_derivative() -> None:
    """What complex nudges need: amplifiers, diodes and EKV transistors on a circle of complex currents."""
    net = everything(3)
    net.diode("D1", "n1", "n2", is_=1e-9)
    net.ekv("X1", "n3", "n4", "n0", "0", vto=0.2, w=1e-6)
    net.current_source("Inudge", "0", "n4", 0.0)

    def voltages(currents: np.ndarray) -> np.ndarray:
        points = operating_points(net, {"Inudge": currents}, start=operating_point(net)).require()
        assert points.residual.max() < 1e-15
        return points.voltages

    jacobian = jacobian_at(net, operating_point(net).voltages).toarray()
    rhs = np.zeros(len(jacobian))
    rhs[net.nodes.index("n4")] = 1.0
    want = np.linalg.solve(jacobian, rhs)[: len(net.nodes)]
    np.testing.assert_allclose(cauchy(voltages, 1e-9), want, rtol=1e-6, atol=1e-6 * np.abs(want).max())


def test_complex_conductances_are_admittances() -> None:
    net = Netlist()
    net.voltage_source("V1", "a", "0", 1.0)
    net.resistor("R1", "a", "b", conductance=1e-3)
    net.resistor("Rc", "b", "0", conductance=0.0)
    point = operating_point(net, at={"Rc": 2e-3j})
    assert point["b"] == pytest.approx(1 / (1 + 2j))
    assert point.current("V1") == pytest.approx(-1e-3 * (1 - 1 / (1 + 2j)))
