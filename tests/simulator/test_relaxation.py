"""The accelerated equilibrium against a dense Newton solve, and each sample against itself alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.relaxation import Relaxed, _known, relax, solve_linear

Array = np.ndarray[Any, Any]
LOOP = ((6, 5, 4), [(1, 0), (2, 1), (0, 2), (0, 1)])
NETWORKS = {
    "one": ((5,), []),
    "two": ((8, 6), None),
    "three": ((8, 6, 4), None),
    "four": ((12, 8, 6, 4), None),
    "loop": LOOP,
}
#: tolerance asked for, and the error that it allows
PRECISION = {np.float32: (1e-6, 3e-5), np.float64: (1e-13, 1e-11), np.complex128: (1e-13, 1e-11)}


def currents(size: int, batch: int, dtype: Any, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    injected = rng.standard_normal((batch, size)).astype(dtype)
    return injected + 0.05j * rng.standard_normal((batch, size)) if dtype is np.complex128 else injected


class Push:
    """The nudge ``beta (target - s)``; ``noisy`` rows never let a sample settle."""

    def __init__(self, beta: Any, target: Any, noisy: int | None = None) -> None:
        self.beta, self.target, self.noisy = np.asarray(beta), target, noisy
        self.rng = np.random.default_rng(0)

    def __call__(self, ports: Array, rows: Array) -> Array:
        current = self.beta * (self.target - ports)
        if self.noisy is not None:
            current[rows == self.noisy] += self.rng.standard_normal(ports.shape[1])
        return current.astype(ports.dtype)


# -- equilibria --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("law", ["logistic", "tanh", "softplus"])
@pytest.mark.parametrize("nudged", [False, True], ids=["free", "nudged"])
def test_every_window_finds_newtons_equilibrium(
    network: Callable, name: str, dtype: type, law: str, nudged: bool
) -> None:
    real = np.float32 if dtype is np.float32 else np.float64
    circuit, oracle = network(7, *NETWORKS[name], law=law, dtype=real)
    injected, (tolerance, error) = currents(circuit.size, 3, dtype), PRECISION[dtype]
    push, beta = None, np.zeros(circuit.size)
    if nudged:
        push = Push(0.4 if dtype is not np.complex128 else 0.4 + 0.2j, 0.5)
        beta = beta.astype(np.promote_types(dtype, np.float64))
        beta[circuit.output] = push.beta
    free = oracle.from_state(injected).astype(np.promote_types(dtype, np.float64))
    want = [oracle.newton(np.zeros_like(one), one, oracle.from_state(beta), 0.5) for one in free]
    for window in range(7):
        found = relax(circuit, injected, nudge=push, tolerance=tolerance, window=window)
        assert found.settled.all() and found.voltages.dtype == found.ports.dtype == dtype
        assert oracle.from_state(found.voltages) == pytest.approx(np.array(want), abs=error)
        ports = circuit.ports(found.voltages)[0]
        assert found.ports == pytest.approx(ports, abs=1e-6 if dtype is np.float32 else 1e-14)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 6))
def test_whatever_settles_is_an_equilibrium(network: Callable, seed: int, scale: float, window: int) -> None:
    """Also where sweeps diverge and equilibria are several: Newton's method must not move off."""
    circuit, oracle = network(seed, LOOP[0], LOOP[1], scale=scale)
    injected = currents(circuit.size, 4, np.float64, seed)
    found = relax(circuit, injected, tolerance=1e-12, window=window)
    for row in np.flatnonzero(found.settled):
        v, drive = oracle.from_state(found.voltages[row]), oracle.from_state(injected[row])
        assert np.abs(oracle.current(v, drive)).max() < 1e-10
    assert np.all(found.sweeps[~found.settled] == 200)


def test_acceleration_saves_sweeps(network: Callable) -> None:
    circuit, _ = network(3, (12, 8, 6, 4), scale=0.9)
    injected = currents(circuit.size, 20, np.float64)
    sweeps = [relax(circuit, injected, tolerance=1e-10, window=w).sweeps.mean() for w in (0, 1, 4)]
    assert sweeps[0] > 1.3 * sweeps[1] > 1.3 * sweeps[2]


@pytest.mark.parametrize("dtype", PRECISION)
def test_warm_starts(network: Callable, dtype: type) -> None:
    circuit, _ = network(4, (12, 8, 6, 4), dtype=np.float32 if dtype is np.float32 else np.float64)
    injected, (tolerance, error) = currents(circuit.size, 5, dtype), PRECISION[dtype]
    cold = relax(circuit, injected, tolerance=tolerance)
    again = relax(circuit, injected, tolerance=10 * tolerance, start=cold.ports)
    assert np.all(again.sweeps == 1)
    near = relax(circuit, injected * (1 + 1e-3), tolerance=tolerance, start=cold.ports)
    assert near.sweeps.mean() < 0.9 * cold.sweeps.mean()
    for start in (np.full_like(cold.ports, circuit.low), np.full_like(cold.ports, circuit.high)):
        assert relax(circuit, injected, tolerance=tolerance, start=start).voltages == pytest.approx(
            cold.voltages, abs=error
        )
    kept = start.copy()
    relax(circuit, injected, start=start)
    assert np.array_equal(start, kept)  # a start is not written to


def test_the_default_start_is_each_node_on_its_current_alone_and_saves_a_sweep(network: Callable) -> None:
    circuit, _ = network(4, (16, 12, 8))
    injected = np.zeros((40, circuit.size))
    circuit.layer(injected, 0)[...] = currents(16, 40, np.float64)  # inputs drive the first layer alone
    default, undriven = relax(circuit, injected), circuit.ports(injected / circuit.load)[0]
    same(default, slice(None), relax(circuit, injected, start=undriven))
    at_zero = np.tile(circuit.ports(np.zeros((1, circuit.size)))[0], (40, 1))
    cold = relax(circuit, injected, start=at_zero)
    assert cold.sweeps.mean() - default.sweeps.mean() > 0.9
    assert default.voltages == pytest.approx(cold.voltages, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window is -1; .* at least 0"),
        ({"max_sweeps": 0}, "max_sweeps is 0; .* at least 1"),
        ({"tolerance": 0.0}, "tolerance is 0.0; .* above 0"),
        ({"tolerance": np.nan}, "tolerance is nan; .* finite"),
        ({"start": np.zeros((1, 18))}, r"start has shape \(1, 18\); it must be \(batch, 18\)"),
        ({"start": np.zeros((3, 17))}, r"start has shape \(3, 17\)"),
        ({"injected": np.zeros((3, 17))}, r"injected has shape \(3, 17\); it must be \(batch, 18\)"),
        ({"injected": np.zeros((3, 19))}, r"injected has shape \(3, 19\)"),
        ({"injected": np.zeros(18)}, r"injected has shape \(18,\)"),
    ],
)
def test_what_the_kernels_could_not_stand_is_refused(network: Callable, options: dict, message: str) -> None:
    circuit, _ = network(5, (8, 6, 4))
    with pytest.raises(ValueError, match=message):
        relax(circuit, **({"injected": np.zeros((3, 18))} | options))


def test_solve_linear_refuses_the_same(network: Callable) -> None:
    circuit, _ = network(5, (8, 6, 4))
    good = np.ones((3, 18))
    for slopes, rhs, message in ((good[:1], good, "slopes has"), (good, good[:, :-1], "rhs has")):
        with pytest.raises(ValueError, match=message):
            solve_linear(circuit, slopes, rhs)
    for options in ({"max_sweeps": 0}, {"tolerance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            solve_linear(circuit, good, good, **options)


def test_integers_are_currents_too(network: Callable) -> None:
    circuit, _ = network(5)
    ones = np.ones((2, circuit.size))
    assert np.array_equal(relax(circuit, ones.astype(int)).ports, relax(circuit, ones).ports)
    assert relax(circuit, ones[:0]).ports.shape == (0, circuit.size)


# -- each sample by itself ------------------------------------------------------------------------


def same(a: Relaxed, rows: Any, b: Relaxed) -> None:
    assert np.array_equal(a.sweeps[rows], b.sweeps)
    assert np.array_equal(a.settled[rows], b.settled)
    assert a.voltages[rows] == pytest.approx(b.voltages, rel=0, abs=1e-12)
    assert a.ports[rows] == pytest.approx(b.ports, rel=0, abs=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("window", [0, 2, 4])
def test_a_sample_that_never_settles_changes_nothing_for_the_others(
    network: Callable, name: str, window: int
) -> None:
    circuit, _ = network(8, *NETWORKS[name])
    injected = currents(circuit.size, 5, np.float64)
    options = {"tolerance": 1e-9, "window": window, "max_sweeps": 60}
    batch = relax(circuit, injected, nudge=Push(0.3, 0.5, noisy=2), **options)
    assert batch.settled.tolist() == [True, True, False, True, True]
    assert batch.sweeps[2] == 60
    for row in (0, 1, 3, 4):
        same(batch, [row], relax(circuit, injected[[row]], nudge=Push(0.3, 0.5), **options))
    others = relax(circuit, np.delete(injected, 2, axis=0), nudge=Push(0.3, 0.5), **options)
    same(batch, [0, 1, 3, 4], others)


def test_plain_sweeps_of_an_oscillating_sample_are_flagged(ring: Callable) -> None:
    """Inputs that saturate the ring settle; the one between them swings for ever, and only plainly."""
    circuit, _ = ring(4.0)
    injected = np.array([[3.0] * 3, [0.1] * 3, [-3.0] * 3])
    plain = relax(circuit, injected, window=0)
    assert plain.settled.tolist() == [True, False, True] and plain.sweeps[1] == 200
    same(plain, [0, 2], relax(circuit, injected[[0, 2]], window=0))
    assert relax(circuit, injected).settled.all()


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("dtype", PRECISION)
def test_nan_is_flagged_and_stays_in_its_sample(
    network: Callable, layer: int, window: int, dtype: type
) -> None:
    circuit, _ = network(9, dtype=np.float32 if dtype is np.float32 else np.float64)
    injected = currents(circuit.size, 4, dtype)
    injected[1, circuit.slices[layer].start] = np.nan
    found = relax(circuit, injected, window=window)
    assert found.settled.tolist() == [True, False, True, True]
    assert found.sweeps[1] < 5  # given up at once
    alone = relax(circuit, injected[[0, 2, 3]], window=window)
    assert np.array_equal(found.sweeps[[0, 2, 3]], alone.sweeps)
    assert found.voltages[[0, 2, 3]] == pytest.approx(
        alone.voltages, abs=1e-5 if dtype is np.float32 else 1e-12
    )


def test_nothing_of_one_relaxation_is_left_in_the_next(network: Callable) -> None:
    """Scratch arrays are kept: a poisoned batch, another nudge, another dtype must not show in them."""
    (used, _), (fresh, _) = network(9), network(9)
    injected = currents(used.size, 4, np.float64)
    relax(used, np.full_like(injected, np.nan))
    relax(used, 5 * injected, nudge=Push(0.3, 0.5, noisy=1), max_sweeps=30)
    relax(used, injected.astype(complex), window=2)
    for rows in (slice(None), slice(2), slice(None)):
        a, b = relax(used, injected[rows], tolerance=1e-9), relax(fresh, injected[rows], tolerance=1e-9)
        assert np.array_equal(a.ports, b.ports) and np.array_equal(a.voltages, b.voltages)
        assert np.array_equal(a.sweeps, b.sweeps)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_relaxes_with_the_weights_it_shows(network: Callable, copied: Callable) -> None:
    circuit, _ = network(9)
    injected = currents(circuit.size, 4, np.float64)
    first = relax(circuit, injected, tolerance=1e-12)
    other = copied(circuit)
    assert other.weights.ctypes.data % 64 == circuit.weights.ctypes.data % 64 == 0
    for pair in other.couplings:
        other.weight(*pair)[...] *= 0.5
    found = relax(other, injected, tolerance=1e-12)
    assert np.abs(other.current(found.voltages, injected)).max() < 1e-10
    assert np.abs(found.voltages - first.voltages).max() > 1e-2
    with pytest.raises(AttributeError):  # relaxation would not see it
        circuit.fan_in[0].weight = 2 * circuit.fan_in[0].weight


def test_a_nudge_may_relax_its_own_circuit(network: Callable) -> None:
    circuit, _ = network(9)
    injected, plain = currents(circuit.size, 4, np.float64), Push(0.3, 0.5)

    def nosy(ports: Array, rows: Array) -> Array:
        relax(circuit, 3 * injected, nudge=plain)
        return plain(ports, rows)

    a, b = (relax(circuit, injected, nudge=push, tolerance=1e-9) for push in (nosy, plain))
    assert np.array_equal(a.ports, b.ports) and np.array_equal(a.sweeps, b.sweeps)


@pytest.mark.parametrize("nudge", [3.0, np.ones(4), _known(None, (4, 4), np.dtype(float))])
def test_what_is_no_nudge_is_refused(network: Callable, nudge: object) -> None:
    circuit, _ = network(9)
    with pytest.raises(TypeError, match=r"must be a function of \(ports, rows\), or a Push"):
        relax(circuit, currents(circuit.size, 4, np.float64), nudge=nudge)


def test_overflow_is_flagged(network: Callable) -> None:
    circuit, _ = network(10, law="softplus", dtype=np.float32)
    injected = currents(circuit.size, 3, np.float32)
    injected[0] = 3e38  # over the knee's width: infinite
    assert relax(circuit, injected).settled.tolist() == [False, True, True]


@pytest.mark.parametrize("max_sweeps", range(1, 12))
def test_the_unsettled_keep_their_own_voltages_and_ports(network: Callable, max_sweeps: int) -> None:
    """Whenever the others leave the batch, in the very last sweep above all."""
    circuit, _ = network(11)
    injected = currents(circuit.size, 6, np.float64)
    found = relax(circuit, injected, tolerance=1e-4, max_sweeps=max_sweeps)
    assert found.ports == pytest.approx(circuit.ports(found.voltages)[0], abs=1e-14)
    for row in range(6):
        alone = relax(circuit, injected[[row]], tolerance=1e-4, max_sweeps=max_sweeps)
        same(found, [row], alone)


# -- linear systems ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("dtype", PRECISION)
def test_solve_linear_is_numpys(network: Callable, name: str, turned: bool, dtype: type) -> None:
    circuit, _ = network(12, *NETWORKS[name], dtype=np.float32 if dtype is np.float32 else np.float64)
    matrix = circuit.dense().T if turned else circuit.dense()
    circuit = circuit.transposed() if turned else circuit
    rng = np.random.default_rng(1)
    slopes = (0.1 + rng.random((5, circuit.size))).astype(dtype)
    rhs = currents(circuit.size, 5, dtype) * np.array([1, 1e-9, 1e6, 0, 1], np.float32)[:, None]
    rhs[4, : circuit.size // 2] = 0
    if dtype is np.complex128:
        slopes = slopes * np.exp(0.2j)
    tolerance, error = PRECISION[dtype]
    for sweeps in (200, 1):  # with one sweep, all that is not zero is solved densely
        x = solve_linear(circuit, slopes, rhs, tolerance=tolerance, max_sweeps=sweeps)
        for row in range(5):
            want = np.linalg.solve(matrix - np.diag(circuit.load / slopes[row]), rhs[row])
            assert x[row] == pytest.approx(want, rel=0, abs=float(error * np.abs(want).max()))
        assert x.dtype == dtype and np.all(x[3] == 0)


@pytest.mark.parametrize("turned", [False, True], ids=["plain", "transposed"])
def test_solve_linear_falls_back_where_sweeps_do_not_converge(network: Callable, turned: bool) -> None:
    circuit, _ = network(13, (12, 10, 8), scale=30.0)
    circuit = circuit.transposed() if turned else circuit
    rhs, slopes = currents(circuit.size, 3, np.float64), np.ones((3, circuit.size))
    slopes[1] = 1e-3  # this one alone is dominated by its loads
    x = solve_linear(circuit, slopes, rhs, tolerance=1e-12, max_sweeps=15)
    for row in range(3):
        matrix = circuit.dense() - np.diag(circuit.load / slopes[row])
        assert matrix @ x[row] == pytest.approx(rhs[row], abs=1e-9)


def test_solve_linear_takes_saturated_neurons(network: Callable) -> None:
    circuit, _ = network(14, law="softplus", knee=0.01)
    v = np.full((1, circuit.size), -50.0)
    rhs = currents(circuit.size, 1, np.float64)
    slopes = circuit.ports(v)[1]
    assert np.abs(solve_linear(circuit, slopes, rhs)).max() < 1e-300  # no port moves
