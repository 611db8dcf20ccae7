"""Certificates of stability against eigenvalues, theory and the transient itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator import stability
from ohmostat.simulator.ode import settle
from ohmostat.simulator.relaxation import relax
from ohmostat.simulator.stability import is_contracting, is_returning, is_stable, moving_rates

Array = np.ndarray[Any, Any]


def rightmost(*state: Any) -> complex:
    """Of a circuit at some voltages, under some nudge."""
    return stability.rightmost(moving_rates(*state))


def growth(oracle: Any, v: Array, injected: Array) -> complex:
    """Rightmost eigenvalue of ``C⁻¹ ∂I/∂v``, the derivative taken by complex steps on the oracle."""
    n, h = len(v), 1e-30
    columns = [oracle.current(v + 1j * h * np.eye(n)[i], injected).imag / h for i in range(n)]
    eigenvalues = np.linalg.eigvals(np.transpose(columns) / oracle.capacitance[:, None])
    return complex(eigenvalues[np.argmax(eigenvalues.real)])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.3, 1.0, 1.5, 3.0]),
    st.floats(0.0, 1.0),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.floats(0.0, 3.0),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(["logistic", "softplus"]),
)
def test_a_contracting_state_is_stable_whatever_the_capacitors(
    network: Callable,
    seed: int,
    scale: float,
    symmetry: float,
    lean: float,
    spread: float,
    dtype: type,
    law: str,
) -> None:
    """The certificate may refuse a stable state, but must never pass an unstable one."""
    circuit, _ = network(seed, (5, 4, 3), scale=scale, dtype=dtype, law=law)
    rng = np.random.default_rng(seed)
    for post, pre in ((1, 0), (1, 2)):  # from skewed to symmetric coupling, and one way stronger
        circuit.weight(pre, post)[...] *= 1 - symmetry
        circuit.weight(pre, post)[...] += symmetry * circuit.weight(post, pre).T
        circuit.weight(pre, post)[...] *= lean
        circuit.weight(post, pre)[...] /= lean
    circuit.capacitance[:] = np.exp(spread * rng.standard_normal(circuit.size))
    v = rng.standard_normal(circuit.size).astype(dtype)
    eigenvalues = np.linalg.eigvals(circuit.jacobian(v).astype(float) / circuit.capacitance[:, None])
    assert rightmost(circuit, v).real == pytest.approx(
        eigenvalues.real.max(), abs=1e-9 * np.abs(eigenvalues).max()
    )
    if is_contracting(circuit, v):
        assert eigenvalues.real.max() < 0
    assert is_stable(circuit, v) == (eigenvalues.real.max() < 0)


def test_float32_weights_are_judged_in_float64(network: Callable) -> None:
    """Symmetric networks at the edge, where a Cholesky factorisation in float32 passes unstable ones."""
    on_the_edge = 0
    for seed in range(150):
        circuit, _ = network(seed, (20, 15, 10), scale=1.0, dtype=np.float32)
        for post, pre in ((1, 0), (2, 1)):
            circuit.weight(pre, post)[...] = circuit.weight(post, pre).T
        v = np.random.default_rng(seed).standard_normal(circuit.size).astype(np.float32)
        damping = np.sqrt(circuit.load / circuit.ports(v)[1])
        most = np.linalg.eigvalsh(circuit.dense() / np.outer(damping, damping).astype(float)).max()
        circuit.load *= np.float32(most * (1 - 1e-7))
        growth = np.linalg.eigvalsh(circuit.port_jacobian(v).astype(float)).max()
        if abs(growth) > 1e-12:
            assert is_contracting(circuit, v) == (growth < 0)
        on_the_edge += abs(growth) < 1e-6
    assert on_the_edge > 100


def test_both_verdicts_occur(network: Callable) -> None:
    """The law above would hold of a certificate that never passes, or of circuits that are all stable."""
    verdicts = set()
    for seed in range(20):
        circuit, _ = network(seed, (5, 4, 3), scale=1.2)
        v = np.random.default_rng(seed).standard_normal(circuit.size)
        verdicts.add((is_contracting(circuit, v), bool(rightmost(circuit, v).real < 0)))
    assert verdicts == {(True, True), (False, True), (False, False)}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0.1, 3.0), st.floats(0.0, 2.0))
def test_what_returns_is_stable(seed: int, size: int, scale: float, spread: float) -> None:
    """Of random, skewed, stiff rates: the test may refuse a stable state, and passes no unstable one."""
    rng = np.random.default_rng(seed)
    rates = scale / np.sqrt(size) * rng.standard_normal((size, size))
    np.fill_diagonal(rates, -1.0)
    rates *= 1e6 * np.exp(spread * rng.standard_normal((size, 1)))
    growth = stability.rightmost(rates).real
    assert not (is_returning(rates) and growth >= 0)
    if spread == 0 and scale < 0.8:  # the spectrum is about a disc of that radius
        assert growth > -1e5 or is_returning(rates)


@pytest.mark.parametrize("size", [10.0**k for k in range(1, 7)])
def test_what_is_unstable_by_less_than_single_precision_sees_does_not_return(size: float) -> None:
    """Two couplings along orthogonal rows that all but cancel, and a faint one that closes the loop."""
    x, y, u, v = 0.5 * np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    unstable = 0
    for faint in np.geomspace(1e-9, 1, 300):
        step = size * (np.outer(x, y) - np.outer(u, v)) + faint * np.outer(y, x)
        np.fill_diagonal(step, 0.5)
        rates = 2 * (step - np.eye(4))
        if stability.rightmost(rates).real > 0:
            unstable += 1
            assert not is_returning(rates)
    assert unstable > 0


def test_most_of_what_is_stable_and_does_not_contract_returns() -> None:
    rng, returning, stable = np.random.default_rng(0), 0, 0
    for _ in range(200):
        rates = 0.8 / np.sqrt(30) * rng.standard_normal((30, 30)) - np.eye(30)
        if np.linalg.eigvalsh(rates + rates.T).max() > 0 > stability.rightmost(rates).real:
            stable, returning = stable + 1, returning + is_returning(rates)
    assert stable > 100 and returning > 0.9 * stable


def test_nothing_that_moves_is_stable_and_no_number_is_not() -> None:
    assert is_returning(np.empty((0, 0)))
    assert not is_returning(np.full((2, 2), np.nan))


@pytest.mark.parametrize("seed", range(6))
def test_rightmost_is_the_oracles(network: Callable, seed: int) -> None:
    circuit, oracle = network(seed, scale=2.0)
    v = np.random.default_rng(seed).standard_normal(circuit.size)
    want = growth(oracle, oracle.from_state(v), np.zeros(circuit.size))
    found = rightmost(circuit, v)
    assert (found.real, abs(found.imag)) == pytest.approx((want.real, abs(want.imag)), abs=1e-10)


def test_uncoupled_nodes_decay_at_their_own_rates(network: Callable) -> None:
    circuit, _ = network(1, (6,), [])
    v = np.zeros(6)
    assert rightmost(circuit, v) == pytest.approx(-(circuit.load / circuit.capacitance).min())
    assert is_contracting(circuit, v) and is_stable(circuit, v)


@pytest.mark.parametrize("gain", [1.5, 1.99, 2.01, 4.0])
def test_the_inverting_ring_is_unstable_above_gain_two(ring: Callable, gain: float) -> None:
    circuit, _ = ring(gain)
    assert rightmost(circuit, np.zeros(3)).real == pytest.approx(gain / 2 - 1)
    assert abs(rightmost(circuit, np.zeros(3)).imag) == pytest.approx(gain * np.sqrt(3) / 2)
    assert is_stable(circuit, np.zeros(3)) == (gain < 2)


def test_capacitors_alone_decide_where_the_coupling_is_skewed(ring: Callable) -> None:
    """One large capacitor calms the ring at gain 3; no capacitor matters to symmetric coupling."""
    equal, _ = ring(3.0)
    unequal, _ = ring(3.0, (1.0, 1.0, 30.0))
    v = np.zeros(3)
    assert not is_stable(equal, v) and is_stable(unequal, v)
    assert not is_contracting(unequal, v)  # or it would have to be stable with equal ones too
    kick = np.array([[1e-3, 0.0, 0.0]])
    assert settle(unequal, np.zeros((1, 3)), start=kick).settled.all()
    assert not settle(equal, np.zeros((1, 3)), start=kick, max_time=100.0).settled.any()


def test_the_accelerated_solver_finds_what_the_ring_would_leave(ring: Callable) -> None:
    circuit, oracle = ring(4.0)
    drive = np.full((1, 3), 0.05)
    found = relax(circuit, drive, tolerance=1e-12)
    assert found.settled.all()
    assert oracle.from_state(found.voltages[0]) == pytest.approx(
        oracle.newton(np.zeros(3), drive[0]), abs=1e-10
    )
    assert not is_stable(circuit, found.voltages[0])
    kick = np.array([1e-3, 0.0, 0.0])
    assert not settle(circuit, drive, start=found.voltages + kick, max_time=100.0).settled.any()


def test_the_verdict_is_what_a_small_push_shows(network: Callable) -> None:
    """Equilibria that acceleration finds in wild circuits: the transient returns to the stable ones only."""
    verdicts = []
    for seed in range(40):
        circuit, _ = network(seed, (4, 3, 2), scale=3.0)
        rng = np.random.default_rng(seed)
        drive = 0.3 * rng.standard_normal((1, circuit.size))
        found = relax(circuit, drive, tolerance=1e-12, max_sweeps=400)
        margin = rightmost(circuit, found.voltages[0]).real
        if not found.settled[0] or abs(margin) < 0.1:
            continue
        push = 1e-5 * rng.standard_normal(circuit.size)
        end = settle(
            circuit, drive, start=found.voltages + push, tolerance=1e-10, rtol=1e-6, max_time=20 / abs(margin)
        )
        verdicts.append(is_stable(circuit, found.voltages[0]))
        assert (np.abs(end.voltages - found.voltages).max() < 1e-6) == verdicts[-1]
    assert 4 <= sum(verdicts) <= len(verdicts) - 4


def test_a_nudge_counts(network: Callable) -> None:
    """Pulled outputs are steadier, pushed ones are not; the slope enters as ``∂I/∂s_out``."""
    circuit, _ = network(3)
    v, eye = np.zeros(circuit.size), np.eye(4)
    assert is_stable(circuit, v) and is_stable(circuit, v, -2 * eye)
    assert not is_stable(circuit, v, 3 * eye) and not is_contracting(circuit, v, 3 * eye)
    assert rightmost(circuit, v, 3 * eye).real > 0


def test_saturated_rectifiers_are_certified_without_a_warning(network: Callable) -> None:
    circuit, _ = network(4, law="softplus", knee=0.005)
    assert is_contracting(circuit, np.full(circuit.size, -30.0))
    assert not is_contracting(circuit, np.full(circuit.size, np.nan))
