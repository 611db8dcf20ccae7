"""A compiled step of a linear circuit, against dense algebra and against the same step stage by stage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csc_array

from ohmostat.simulator.equations import Equations
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.transient_steps import (
    METHODS,
    STARTER,
    Counts,
    LinearStages,
    Method,
    Point,
    take_step,
)
from ohmostat.simulator.waveforms import Sine

STEP = 3e-7  # [s]
CAPACITANCE = 1e-9  # [F]


def filters() -> Netlist:
    """An RC ladder with a driven source, an inductor, and nodes without storage."""
    net = Netlist("filters")
    net.voltage_source("V1", "n0", "0", waveform=Sine(0.5, 1.0, 1e6))
    for k in range(4):
        net.resistor(f"R{k}", f"n{k}", f"n{k + 1}", conductance=1e-3 * (k + 1))
    for k in (1, 3):
        net.capacitor(f"C{k}", f"n{k}", "0", CAPACITANCE)
    net.inductor("L1", "n4", "end", 1e-5)
    net.resistor("Rend", "end", "0", conductance=1e-2)
    return net


def dense(equations: Equations, values: np.ndarray) -> np.ndarray:
    pattern, n = equations.structure.pattern, equations.structure.size
    return csc_array((values[0], pattern.indices, pattern.starts), shape=(n, n)).toarray()


@pytest.mark.parametrize(
    ("method", "known"),
    [(METHODS["tr-bdf2"], True), (METHODS["esdirk4"], True), (STARTER, False)],
    ids=["tr-bdf2", "esdirk4", "starter"],
)
def test_a_step_of_a_linear_circuit_is_that_of_dense_algebra(method: Method, known: bool) -> None:
    equations, rng = Equations(filters(), eliminate=False), np.random.default_rng(0)
    n, stages = equations.structure.size, LinearStages(equations, Counts())
    x = rng.normal(size=(1, n))
    q, k = equations.charge(x, equations.drive(0.0))[0], 1e-3 * rng.normal(size=(1, n))
    weight = rng.uniform(0.5, 2.0, (1, n))
    step = take_step(
        method, stages, equations.drive, Point(1e-7, x, q, k if known else None), STEP, [(1e-7, x)], weight
    )

    a, b = dense(equations, stages.conduct), dense(equations, stages.store)
    length, currents, path = STEP * method.diagonal, [k[0]] if known else [], []
    for i in range(len(currents), len(method.c)):
        time = 1e-7 + method.c[i] * STEP
        held = q[0] + STEP * sum(
            (w * past for w, past in zip(method.a[i], currents, strict=False)), np.zeros(n)
        )
        found = np.linalg.solve(a + b / length, held / length - equations.drive(time).constant[0])
        currents.append((b @ found - held) / length)
        path.append((time, found))
    error = np.linalg.solve(a + b / length, STEP * method.error @ np.array(currents) / length)

    same = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(step.end.x[0], path[-1][1], **same)
    np.testing.assert_allclose(step.end.q[0], b @ path[-1][1], rtol=1e-9, atol=1e-18)
    assert step.end.k is not None
    np.testing.assert_allclose(step.end.k[0], currents[-1], **same)
    np.testing.assert_allclose(step.excess, np.abs(error) / weight[0], **same)
    assert step.error == step.excess.max() > 0.0
    for (time, values), (want_time, want) in zip(step.path, path, strict=True):
        assert time == want_time
        np.testing.assert_allclose(values[0], want, **same)


@pytest.mark.parametrize("method", [METHODS["tr-bdf2"], METHODS["esdirk4"]], ids=["tr-bdf2", "esdirk4"])
def test_a_compiled_step_is_that_of_a_batch(method: Method) -> None:
    capacitances, steps = np.array([CAPACITANCE, 5e-9]), []
    for at in ({"C1": capacitances}, {"C1": capacitances[:1]}, {"C1": capacitances[1:]}):
        equations = Equations(filters(), at, eliminate=False)
        x = np.tile(np.linspace(-1.0, 1.0, equations.structure.size), (equations.batch, 1))
        q = equations.charge(x, equations.drive(0.0))[0]
        begin, stages = Point(0.0, x, q, np.zeros_like(q)), LinearStages(equations, Counts())
        steps.append(take_step(method, stages, equations.drive, begin, STEP, [(0.0, x)], np.ones_like(x)))
    together, *alone = steps
    for name in ("x", "q", "k"):
        want = np.concatenate([getattr(step.end, name) for step in alone])
        np.testing.assert_allclose(getattr(together.end, name), want, rtol=1e-9, atol=1e-15)
    assert together.error == pytest.approx(max(step.error for step in alone))


def test_a_step_keeps_no_more_than_its_end() -> None:
    """Of the solution that a transient stores: not the arrays of all stages with it."""
    equations = Equations(filters(), eliminate=False)
    x = np.zeros((1, equations.structure.size))
    begin = Point(0.0, x, x, x)
    step = take_step(
        METHODS["esdirk4"], LinearStages(equations, Counts()), equations.drive, begin, STEP, [], x + 1.0
    )
    assert step.end.k is not None
    assert all(part.base is None for part in (step.end.x, step.end.k))
