"""Diodes that hold the nodes of a passive network: the law, its kernel, and what circuits make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from ohmostat.simulator import ode, relaxation, stability
from ohmostat.simulator.blocks import BlockCircuit
from ohmostat.simulator.clamps import Clamps, along, curve_through

Array = np.ndarray[Any, Any]
POINTS = np.array([[-1.0, -2e-9], [0.0, 0.0], [0.3, 1e-7], [0.5, 1e-5], [0.7, 3e-4]])
CURVE = curve_through(*POINTS.T)
INF = np.inf


def clamps(kind: str, n: int = 4) -> Clamps:
    """A diode above, one below, both, and none, in turn."""
    above, below = (np.resize(has, n).astype(float) for has in ([1, 0, 1, 0], [0, 1, 1, 0]))
    low, high = np.full(n, -0.1), np.full(n, 0.2)
    if kind == "ideal":
        low, high = np.where(below > 0, low, -INF), np.where(above > 0, high, INF)
    size = 1e-9 if kind == "shockley" else 1.0
    return Clamps(kind, low, high, size * below, size * above, thermal=0.026, curve=CURVE)


def network(kind: str, seed: int, sizes: tuple[int, ...] = (5, 4, 2), dtype: str = "float64") -> BlockCircuit:
    """A passive network of conductances up to 1 uS: each couples both ways, and loads both its ends."""
    couplings = [pair for k in range(1, len(sizes)) for pair in ((k, k - 1), (k - 1, k))]
    circuit = BlockCircuit(sizes, couplings, np.dtype(dtype), low=0.0, high=1.0)
    rng = np.random.default_rng(seed)
    circuit.load[:] = 0.3e-6
    for k in range(1, len(sizes)):
        g = rng.random((sizes[k], sizes[k - 1])) * 1e-6
        circuit.weight(k, k - 1)[...], circuit.weight(k - 1, k)[...] = g, g.T
        circuit.load[circuit.slices[k]] += g.sum(axis=1)
        circuit.load[circuit.slices[k - 1]] += g.sum(axis=0)
    circuit.capacitance[:] = 1e-12
    circuit.clamps = clamps(kind, circuit.size)
    return circuit


def drive(circuit: BlockCircuit, seed: int, samples: int = 3) -> Array:
    return 3e-6 * np.random.default_rng(seed).standard_normal((samples, circuit.size)).astype(circuit.dtype)


@pytest.mark.parametrize("kind", ["shockley", "measured"])
@pytest.mark.parametrize("volts", [-40.0, -0.3, -0.05, 0.0, 0.1, 0.25, 0.6, 40.0])
def test_a_node_settles_where_its_diodes_and_its_load_agree(kind: str, volts: float) -> None:
    """The kernel's root against a bracketing solver's on the readable law."""
    circuit = BlockCircuit((4,), [], low=0.0, high=1.0)
    circuit.load[:] = 2e-6
    circuit.clamps = law = clamps(kind)
    found = relaxation.relax(circuit, np.full((1, 4), volts * 2e-6))
    for i in range(4):

        def excess(s: float, i: int = i) -> float:
            return float(2e-6 * (s - volts) + law.current(np.full(4, s))[0][i])

        # Not to where an exponential overflows: no diode is further than 1 V beyond its barrier.
        lower = -1.1 if law.below[i] else min(volts, 0) - 1
        upper = 1.2 if law.above[i] else max(volts, 0) + 1
        reach = (lower, upper) if kind == "shockley" else (-50.0, 50.0)
        want = volts if i == 3 else brentq(excess, *reach, xtol=1e-15)
        assert found.ports[0, i] == pytest.approx(want, rel=1e-9, abs=1e-14)


@given(
    volts=st.floats(-60, 60), resistance=st.floats(2, 15), saturation=st.floats(-18, 0),
    has=st.sampled_from([(1, 0), (0, 1), (1, 1)]), gap=st.floats(0, 3),
    dtype=st.sampled_from(["float64", "float32"]),
)  # fmt: skip
@example(volts=0.0, resistance=10.0, saturation=0.0, has=(1, 1), gap=1.0, dtype="float64")  # sums reordered
@settings(deadline=None, max_examples=300)
def test_no_saturation_current_and_no_load_misleads_a_diode(
    volts: float, resistance: float, saturation: float, has: tuple[int, int], gap: float, dtype: str
) -> None:
    """Loads from 10 mS to 1e-15 S, saturation currents from 1e-18 A to 1 A, against a bracketing solver."""
    circuit = BlockCircuit((1,), [], np.dtype(dtype), low=0.0, high=1.0)
    load, size = 10.0**-resistance, 10.0**saturation
    circuit.load[:] = load
    one = np.ones(1)
    circuit.clamps = Clamps(
        "shockley", -gap * one, gap * one, has[1] * size * one, has[0] * size * one, 0.026
    )
    found = relaxation.relax(circuit, np.full((1, 1), volts * load, dtype), max_sweeps=3)

    def excess(s: float) -> float:
        out = has[0] * np.exp(min((s - gap) / 0.026, 600))
        into = has[1] * np.exp(min((-gap - s) / 0.026, 600))
        return float(s - volts + size / load * ((out - into) - (has[0] - has[1])))

    want = brentq(excess, -70, 70, xtol=1e-15)
    assert found.settled.all()
    assert found.ports[0, 0] == pytest.approx(want, rel=1e-9 if dtype == "float64" else 1e-4, abs=1e-7)


def test_ideal_diodes_hold_a_node_at_their_barriers() -> None:
    circuit = BlockCircuit((4,), [], low=0.0, high=1.0)
    circuit.clamps = clamps("ideal")
    circuit.offset[0] = 0.05
    found = relaxation.relax(circuit, np.array([[3.0] * 4, [-3.0] * 4]))
    assert found.ports.tolist() == [[0.25, 3.0, 0.2, 3.0], [-3.0, -0.1, -0.1, -3.0]]
    assert (circuit.current(found.voltages, np.array([[3.0] * 4, [-3.0] * 4])) == 0).all()


@pytest.mark.parametrize("kind", ["shockley", "measured"])
@given(volts=st.floats(-2, 0.9), node=st.integers(0, 3))
@settings(deadline=None)
def test_diodes_are_passive_and_their_slope_is_that_of_their_current(
    kind: str, volts: float, node: int
) -> None:
    law, step = clamps(kind), 1e-7
    v = np.full((3, 4), volts) + np.array([[-step], [0], [step]])
    current, slope = law.current(v)
    assert slope[1, node] >= 0
    numeric = (current[2, node] - current[0, node]) / (2 * step)
    assert slope[1, node] == pytest.approx(numeric, rel=1e-4, abs=1e-10)
    over, under = max(volts - 0.2, 0), max(-0.1 - volts, 0)
    if over or under:  # beyond a barrier the current flows back to it, short of it at most leaks
        assert current[1, node] * (over - under) >= 0 or abs(current[1, node]) <= 2.1e-9


@pytest.mark.parametrize("kind", ["ideal", "shockley", "measured"])
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_currents_balance_and_a_passive_network_is_symmetric_and_stable(kind: str, seed: int) -> None:
    circuit = network(kind, seed)
    injected = drive(circuit, seed)
    found = relaxation.relax(circuit, injected, tolerance=1e-12)
    assert found.settled.all()
    assert np.abs(circuit.current(found.voltages, injected)).max() < 1e-6 * 3e-10
    for v in found.voltages:
        jacobian = circuit.port_jacobian(v)
        assert (jacobian == jacobian.T).all()
        assert (
            stability.is_contracting(circuit, v)
            and stability.rightmost(stability.moving_rates(circuit, v)).real < 0
        )


@pytest.mark.parametrize("kind", ["ideal", "shockley", "measured"])
def test_the_transient_ends_where_relaxation_does(kind: str) -> None:
    circuit = network(kind, 3)
    injected = drive(circuit, 4)
    end = ode.settle(circuit, injected, tolerance=1e-7)
    found = relaxation.relax(circuit, injected, tolerance=1e-9)
    assert end.settled.all()
    assert end.voltages == pytest.approx(found.voltages, abs=2e-6)


@pytest.mark.parametrize("kind", ["ideal", "shockley", "measured"])
def test_the_slope_is_the_derivative_of_what_a_node_settles_at(kind: str) -> None:
    circuit, step = network(kind, 5), 1e-12
    injected = drive(circuit, 6, samples=1)
    rest = relaxation.relax(circuit, injected, tolerance=1e-13)
    rhs = np.random.default_rng(7).standard_normal(injected.shape)
    moved = relaxation.relax(circuit, injected - step * rhs, start=rest.ports, tolerance=1e-13)
    back = relaxation.relax(circuit, injected + step * rhs, start=rest.ports, tolerance=1e-13)
    slopes = circuit.ports(rest.voltages)[1]
    exact = relaxation.solve_linear(circuit, slopes, rhs, tolerance=1e-12)
    assert exact == pytest.approx((moved.ports - back.ports) / (2 * step), rel=1e-3, abs=1e-2)


def test_single_precision_settles_to_its_own_rounding() -> None:
    for kind in ("ideal", "shockley", "measured"):
        fine, coarse = network(kind, 8), network(kind, 8, dtype="float32")
        exact = relaxation.relax(fine, drive(fine, 9), tolerance=1e-10).ports
        found = relaxation.relax(coarse, drive(coarse, 9), tolerance=1e-6)
        assert found.settled.all() and found.ports.dtype == np.float32
        assert found.ports == pytest.approx(exact, abs=2e-5)


def test_shockley_diodes_answer_complex_currents_analytically() -> None:
    """Cauchy's integral of the settled voltages around a real drive gives the derivative there."""
    circuit = network("shockley", 10)
    injected, angles = drive(circuit, 11, samples=1), 2 * np.pi * np.arange(16) / 16
    rhs = np.random.default_rng(12).standard_normal(injected.shape)
    slopes = circuit.ports(relaxation.relax(circuit, injected, tolerance=1e-13).voltages)[1]
    around = injected - 1e-8 * np.exp(1j * angles)[:, None] * rhs
    found = relaxation.relax(circuit, around, tolerance=1e-13)
    derivative = (found.ports * np.exp(-1j * angles)[:, None]).mean(axis=0) / 1e-8
    exact = relaxation.solve_linear(circuit, slopes, rhs, tolerance=1e-12)
    assert found.settled.all()
    assert derivative == pytest.approx(exact[0], rel=1e-6, abs=1.0)
    for kind in ("ideal", "measured"):
        with pytest.raises(ValueError, match=r"no complex voltages.*chebyshev"):
            relaxation.relax(network(kind, 10), around)


def test_a_measured_curve_goes_through_its_points_and_never_falls() -> None:
    volts, amperes = POINTS.T
    assert along(CURVE, volts)[0] == pytest.approx(amperes, abs=1e-18)
    fine = np.linspace(-3, 2, 5001)
    current, slope = along(CURVE, fine)
    assert (np.diff(current) >= 0).all() and (slope >= 0).all()
    ends = along(CURVE, np.array([0.7, 1.7]))
    assert ends[0][1] - ends[0][0] == pytest.approx(ends[1][0])  # straight beyond the last point


@pytest.mark.parametrize(
    ("volts", "amperes", "message"),
    [
        ([0.0], [0.0], "two or more"),
        ([0.0, np.nan], [0.0, 1.0], "finite"),
        ([0.0, 0.0, 1.0], [0.0, 1.0, 2.0], r"after \(0 V, 0 A\) comes \(0 V, 1 A\)"),
        ([0.0, 1.0, 2.0], [0.0, 2.0, 1.0], "must not fall"),
        ([0.5, 1.0], [0.0, 1.0], "0 V must lie within"),
        ([-1.0, 0.0, 1.0], [1.0, 1.5, 2.0], "at 0 V"),
        ([0.0, 5e-324, 1.0], [0.0, 1.0, 2.0], "so close to each other"),
    ],
)
def test_a_curve_that_is_no_diode_is_refused(volts: list[float], amperes: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve_through(volts, amperes)


def test_diodes_that_cannot_be_are_refused() -> None:
    one = np.ones(2)
    with pytest.raises(ValueError, match="'zener'; they must be one of ideal, shockley, measured"):
        Clamps("zener", -one, one, one, one)
    with pytest.raises(ValueError, match="low barrier lies above"):
        Clamps("ideal", one, -one, one, one)
