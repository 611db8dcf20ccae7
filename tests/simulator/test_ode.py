"""Transients against exact solutions, tight SciPy integrations and the dense Newton solve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from ohmostat.simulator.blocks import BlockCircuit
from ohmostat.simulator.ode import settle

Array = np.ndarray[Any, Any]


def reference(oracle: Any, injected: Array, until: float, tolerance: float | None = None) -> Any:
    """SciPy's transient from 0 V with the energy ``∫ Σ load v² dt`` behind it, of one sample in layer order.

    It ends ``until`` then, or when no node is further than ``tolerance`` of full swing from balance.
    """

    def rate(_: float, y: Array) -> Array:
        v = y[:-1]
        return np.append(oracle.current(v, injected) / oracle.capacitance, np.sum(oracle.load * v**2))

    def distance(_: float, y: Array) -> float:
        remaining = np.abs(oracle.current(y[:-1], injected) / oracle.load).max()
        return float(remaining - (tolerance or 0) * oracle.circuit.swing)

    distance.terminal = True  # type: ignore[attr-defined]
    start = np.zeros(len(injected) + 1)
    return solve_ivp(
        rate, (0, until), start, "DOP853", rtol=1e-11, atol=1e-13, events=distance if tolerance else None
    )  # fmt: skip


def heat(circuit: BlockCircuit) -> Callable[[Array, Array, Array], Array]:
    return lambda v, s, rows: np.sum(circuit.load * v**2, axis=1)


def currents(circuit: BlockCircuit, batch: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, circuit.size))


# -- accuracy -----------------------------------------------------------------------------------------


def test_charging_capacitors_follow_the_exponential(network: Callable) -> None:
    circuit, _ = network(1, (4,), [])
    drive, tau = currents(circuit, 3), circuit.capacitance / circuit.load
    final = (circuit.drive(circuit.ports(np.zeros((1, 4)))[0]) + drive) / circuit.load
    for until in (0.1, 1.0, 7.0):
        end = settle(circuit, drive, power=heat(circuit), tolerance=1e-300, rtol=1e-9, max_time=until)
        assert np.all(end.time == until) and not end.settled.any()
        left = np.exp(-until / tau)
        assert end.voltages == pytest.approx(final * (1 - left), abs=1e-8)
        paid = circuit.load * final**2 * (until - 2 * tau * (1 - left) + tau / 2 * (1 - left**2))
        assert end.energy == pytest.approx(paid.sum(axis=1), rel=1e-6)


@pytest.mark.parametrize(("rtol", "error"), [(1e-5, 0.1), (1e-7, 0.005)])
def test_one_capacitor_settles_after_the_logarithm_of_the_tolerance(
    network: Callable, rtol: float, error: float
) -> None:
    circuit, _ = network(2, (1,), [])
    drive = np.array([[1.0], [-2.0], [0.3]])
    end = settle(circuit, drive, tolerance=1e-5, rtol=rtol)
    start = np.abs(drive[:, 0] / circuit.load[0])
    tau = circuit.capacitance[0] / circuit.load[0]
    assert end.time == pytest.approx(tau * np.log(start / (1e-5 * circuit.swing)), rel=error)
    assert np.abs(end.voltages - drive / circuit.load).max() <= 1e-5 * circuit.swing


def test_third_order(network: Callable) -> None:
    """At one moment of a transient the error falls with the cube of the number of steps."""
    circuit, oracle = network(3, scale=1.5, gain=2.0)
    drive = currents(circuit, 1)
    want = reference(oracle, oracle.from_state(drive[0]), 3.0).y[:, -1]
    steps, errors, energies = [], [], []
    for rtol in 10.0 ** -np.arange(3.5, 8.1, 0.5):
        end = settle(circuit, drive, power=heat(circuit), tolerance=1e-300, rtol=rtol, max_time=3.0)
        errors.append(np.abs(oracle.from_state(end.voltages[0]) - want[:-1]).max())
        energies.append(abs(end.energy[0] - want[-1]))
        steps.append(end.steps[0])
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.2)
    assert -np.polyfit(np.log(steps), np.log(energies), 1)[0] > 2.7
    assert errors[-1] < 1e-7


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("law", ["logistic", "softplus"])
def test_settling_time_and_energy_are_scipys(network: Callable, seed: int, law: str) -> None:
    circuit, oracle = network(seed, scale=0.8, law=law)
    drive = currents(circuit, 1, seed)
    for tolerance, rtol, error in ((1e-3, 1e-3, 0.1), (1e-5, 1e-5, 0.1), (1e-4, 1e-6, 0.006)):
        want = reference(oracle, oracle.from_state(drive[0]), 1e3, tolerance)
        end = settle(circuit, drive, power=heat(circuit), tolerance=tolerance, rtol=rtol)
        assert end.settled.all() and end.time[0] == pytest.approx(want.t[-1], rel=error)
        assert end.energy[0] == pytest.approx(want.y[-1, -1], rel=error)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-2, 1e-3, 1e-5, 1e-7]), st.sampled_from([1.0, 100.0]))
def test_never_stalls_at_the_limit_of_stability(
    network: Callable, seed: int, tolerance: float, loose: float
) -> None:
    """The fastest mode must not keep swinging at the local error allowed, above the tolerance."""
    circuit, _ = network(seed)
    drive = currents(circuit, 3, seed)
    end = settle(circuit, drive, tolerance=tolerance, rtol=loose * tolerance)
    assert end.settled.all()
    assert np.abs(circuit.current(end.voltages, drive) / circuit.load).max() <= tolerance * circuit.swing
    slowest = (circuit.capacitance / circuit.load).max()
    assert np.all(end.time < 8 * slowest * np.log(20 / tolerance))


@pytest.mark.parametrize("law", ["logistic", "tanh", "softplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("nudged", [False, True], ids=["free", "nudged"])
def test_settles_at_newtons_equilibrium(network: Callable, law: str, dtype: type, nudged: bool) -> None:
    real = np.float32 if dtype is np.float32 else np.float64
    circuit, oracle = network(5, (12, 8, 6, 4), law=law, dtype=real)
    drive = currents(circuit, 2).astype(dtype) * (1 + 0.05j if dtype is np.complex128 else 1)
    beta = (0.4 + 0.1j if dtype is np.complex128 else 0.4) if nudged else 0.0

    def nudge(ports: Array, rows: Array) -> Array:
        return (beta * (0.5 - ports)).astype(dtype)

    tolerance = 2e-6 if dtype is np.float32 else 1e-9
    end = settle(circuit, drive, nudge=nudge if nudged else None, tolerance=tolerance, rtol=1e-6)
    assert end.settled.all() and end.voltages.dtype == end.ports.dtype == dtype
    wide = np.promote_types(dtype, np.float64)
    push = np.zeros(circuit.size, wide)
    push[circuit.output] = beta
    for row in range(2):
        one = oracle.from_state(drive[row]).astype(wide)
        want = oracle.newton(np.zeros_like(one), one, oracle.from_state(push), 0.5)
        assert oracle.from_state(end.voltages[row]) == pytest.approx(want, abs=30 * tolerance)
    assert end.ports == pytest.approx(circuit.ports(end.voltages)[0])


# -- each sample by itself ----------------------------------------------------------------------------


def test_samples_have_steps_of_their_own(network: Callable) -> None:
    circuit, _ = network(6)
    drive = currents(circuit, 5) * np.array([1, 0, 10, 0.1, 3])[:, None]
    batch = settle(circuit, drive, power=heat(circuit))
    assert len(set(batch.steps)) > 2
    for row in range(5):
        alone = settle(circuit, drive[[row]], power=heat(circuit))
        assert alone.steps[0] == batch.steps[row]
        for name in ("time", "energy", "voltages"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(batch, name)[row], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("evil", [np.nan, np.inf])
def test_a_sample_without_numbers_is_given_up_at_once(network: Callable, evil: float) -> None:
    circuit, _ = network(7)
    drive = currents(circuit, 3)
    drive[1, 4] = evil
    end = settle(circuit, drive)
    assert end.settled.tolist() == [True, False, True] and end.steps[1] == 0
    assert end.voltages[[0, 2]] == pytest.approx(settle(circuit, drive[[0, 2]]).voltages, abs=1e-12)


def test_a_start_in_balance_takes_no_time(network: Callable) -> None:
    circuit, _ = network(8)
    drive = currents(circuit, 2)
    first = settle(circuit, drive, tolerance=1e-8)
    kept = first.voltages.copy()
    again = settle(circuit, drive, start=first.voltages, tolerance=1e-7)
    assert again.settled.all() and np.all(again.time == 0) and np.all(again.steps == 0)
    assert np.array_equal(first.voltages, kept)
    spread = settle(circuit, drive, start=first.voltages[1], tolerance=1e-7)  # one start for all
    assert spread.settled.all() and spread.steps[1] == 0
    assert np.array_equal(
        settle(circuit, np.ones((1, circuit.size), int)).time,
        settle(circuit, np.ones((1, circuit.size))).time,
    )


def test_steps_run_out(network: Callable) -> None:
    circuit, _ = network(9)
    end = settle(circuit, currents(circuit, 2), max_steps=4)
    assert not end.settled.any() and np.all(end.steps == 4)


# -- circuits that do not settle ----------------------------------------------------------------------


def test_a_ring_oscillates_above_gain_two(ring: Callable) -> None:
    """By linear theory the inverting ring's growth rate is ``gain / 2 - 1``."""
    kick = np.array([[0.1, 0.0, 0.0]])
    calm, _ = ring(1.9)
    assert settle(calm, np.zeros((1, 3)), start=kick).settled.all()
    wild, oracle = ring(3.0)
    end = settle(wild, np.zeros((2, 3)), start=np.vstack([kick, -kick]), max_time=200.0, rtol=1e-3)
    assert not end.settled.any() and np.all(end.time == 200.0)
    assert np.all(np.abs(end.voltages).max(axis=1) > 0.3)
    true = solve_ivp(
        lambda _, v: oracle.current(v, np.zeros(3)),
        (0, 20),
        oracle.from_state(kick)[0],
        rtol=1e-9,
        atol=1e-12,
    )
    close = settle(wild, np.zeros((1, 3)), start=kick, max_time=20.0, rtol=1e-7)
    assert oracle.from_state(close.voltages[0]) == pytest.approx(true.y[:, -1], abs=1e-4)
