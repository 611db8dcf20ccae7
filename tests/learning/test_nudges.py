"""Costs against complex-step derivatives; the nudge current, its slope and the units of β."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from ohmostat.circuits.design import Design
from ohmostat.circuits.periphery import Periphery, push_of
from ohmostat.learning.nudges import CrossEntropy, Nudge, SquaredError, beta_in_watts
from ohmostat.simulator import kernels
from ohmostat.simulator.blocks import BlockCircuit
from ohmostat.simulator.relaxation import _known, relax

SAMPLES, OUTPUTS, CLASSES = 5, 4, 3
ROWS = np.array([3, 0, 4])  # a compacted batch: samples in another order, some gone
TINY = 1e-30  # complex step: no cancellation


def squared(swing: float = 2.0) -> SquaredError:
    return SquaredError(np.random.default_rng(1).normal(size=(SAMPLES, OUTPUTS)), swing)


def entropy(swing: float = 2.0) -> CrossEntropy:
    rng = np.random.default_rng(2)
    labels = np.array([0, 2, 1, 1, 2])
    return CrossEntropy(rng.normal(size=(CLASSES, OUTPUTS)), rng.normal(size=CLASSES), labels, swing)


@pytest.fixture
def ports() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(len(ROWS), OUTPUTS))


@pytest.mark.parametrize("cost", [squared(), entropy()], ids=["squared", "entropy"])
def test_gradient_and_hessian_are_the_derivatives_of_the_value(
    cost: SquaredError | CrossEntropy, ports: np.ndarray
) -> None:
    gradient = cost.gradient(ports, ROWS)
    for k in range(OUTPUTS):
        step = 1j * TINY * (np.arange(OUTPUTS) == k)
        np.testing.assert_allclose(
            cost.value(ports + step, ROWS).imag / TINY, gradient[:, k], rtol=1e-13, atol=1e-15
        )
        column = cost.gradient(ports + step, ROWS).imag / TINY
        for m, row in enumerate(ROWS):
            np.testing.assert_allclose(cost.hessian(ports[m], row)[:, k], column[m], rtol=1e-13, atol=1e-15)


def test_values_are_the_textbook_ones(ports: np.ndarray) -> None:
    s, c = squared(), entropy()
    np.testing.assert_allclose(s.value(ports, ROWS), np.sum((ports - s.targets[ROWS]) ** 2, axis=1) / 8)
    log_p = log_softmax(ports @ c.weight.T / 2 + c.bias, axis=1)
    np.testing.assert_allclose(c.value(ports, ROWS), -log_p[np.arange(3), c.labels[ROWS]])
    np.testing.assert_allclose(c.probabilities(ports), np.exp(log_p))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_hopeless_sample_costs_a_finite_amount(dtype: type) -> None:
    cost = CrossEntropy(np.eye(2, dtype=dtype) * 5000, np.zeros(2, dtype), np.array([1]), 1.0)
    ports = np.array([[1, 0]], dtype)
    assert cost.value(ports, np.array([0]))[0] == 5000
    np.testing.assert_allclose(cost.gradient(ports, np.array([0])), [[5000, -5000]])


def test_precision_is_kept(ports: np.ndarray) -> None:
    c, s, p = entropy(), squared(), ports.astype(np.float32)
    single = CrossEntropy(c.weight.astype(np.float32), c.bias.astype(np.float32), c.labels, 2.0)
    assert single.gradient(p, ROWS).dtype == single.value(p, ROWS).dtype == np.float32
    assert SquaredError(s.targets.astype(np.float32), 2.0).gradient(p, ROWS).dtype == np.float32
    nudge = Nudge(single, np.full(SAMPLES, 1e-5, np.float32), SAMPLES)
    assert nudge.current(p, ROWS).dtype == np.float32


def test_readout_gradients_are_those_of_the_mean_cost() -> None:
    cost, ports = entropy(), np.random.default_rng(4).normal(size=(SAMPLES, OUTPUTS))
    by_weight, by_bias = cost.readout_gradients(ports)
    every = np.arange(SAMPLES)

    def mean_cost(weight: np.ndarray, bias: np.ndarray) -> complex:
        return CrossEntropy(weight, bias, cost.labels, cost.swing).value(ports, every).mean()

    for index in np.ndindex(CLASSES, OUTPUTS):
        weight = cost.weight.astype(complex)
        weight[index] += 1j * TINY
        assert mean_cost(weight, cost.bias).imag / TINY == pytest.approx(by_weight[index], rel=1e-12)
    for k in range(CLASSES):
        moved = cost.bias + 1j * TINY * (np.arange(CLASSES) == k)
        assert mean_cost(cost.weight, moved).imag / TINY == pytest.approx(by_bias[k], rel=1e-12)


def test_current_pulls_each_row_by_its_own_beta(ports: np.ndarray) -> None:
    """A batch of several nudges repeats its samples in blocks."""
    cost = entropy()
    betas = np.linspace(-1e-5, 2e-5, 2 * SAMPLES)
    nudge = Nudge(cost, betas, SAMPLES)
    rows = np.array([1, SAMPLES + 1, SAMPLES + 4])
    expected = -betas[rows, None] * cost.gradient(ports, np.array([1, 1, 4]))
    np.testing.assert_array_equal(nudge.current(ports, rows), expected)


@pytest.mark.parametrize("cost", [squared(), entropy()], ids=["squared", "entropy"])
def test_slope_is_the_currents_derivative(cost: SquaredError | CrossEntropy) -> None:
    nudge = Nudge(cost, np.linspace(1e-5, 2e-5, 2 * SAMPLES), SAMPLES)
    row, at = SAMPLES + 2, np.random.default_rng(5).normal(size=OUTPUTS)
    for k in range(OUTPUTS):
        moved = (at + 1j * TINY * (np.arange(OUTPUTS) == k))[None]
        column = nudge.current(moved, np.array([row]))[0].imag / TINY
        np.testing.assert_allclose(nudge.slope(at, row)[:, k], column, rtol=1e-12, atol=1e-20)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.5, 1.5)])
def test_a_beta_of_one_is_a_leak_to_the_target(low: float, high: float) -> None:
    """In units of leak x swing², whatever the swing: the nudge of the squared error is ``β leak (y - s)``."""
    design = Design().replace({"neuron.low": low, "neuron.high": high, "neuron.leak": "4uS"})
    beta = beta_in_watts(design, 0.3)
    assert beta == pytest.approx(0.3 * 4e-6 * (high - low) ** 2)
    targets, ports = np.array([[0.2, -0.4]]), np.array([[0.5, 0.1]])
    nudge = Nudge(SquaredError(targets, design.neuron.swing), np.array([beta]), 1)
    np.testing.assert_allclose(nudge.current(ports, np.array([0])), 0.3 * 4e-6 * (targets - ports))


# -- what relaxation knows of a nudge ---------------------------------------------------------------


@pytest.mark.parametrize("cost", [squared(), entropy()], ids=["squared", "entropy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("ideal", [True, False], ids=["ideal", "delivered"])
@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES - 1])
def test_the_kernels_push_is_the_nudges_current(
    cost: SquaredError | CrossEntropy, dtype: type, ideal: bool, samples: int
) -> None:
    """Also of a batch that holds the samples twice (some of the cost's, or all), packed in another order, and
    from scratch that is NaN.
    """
    rng = np.random.default_rng(4)
    rows = np.array([7, 0, 9, 4, 2])
    ports = rng.normal(size=(len(rows), OUTPUTS)).astype(dtype)
    beta = rng.normal(size=2 * SAMPLES).astype(dtype)
    if np.iscomplexobj(ports):
        ports, beta = ports + ports.dtype.type(0.1j), beta * beta.dtype.type(1 + 0.5j)
    nudge: Any = Nudge(cost, beta, samples)
    for _ in range(0 if ideal else 2):  # sources behind sources
        bench = Periphery(1 + 0.1 * rng.normal(size=OUTPUTS), rng.normal(size=OUTPUTS))
        nudge = bench.deliver(nudge, ports)
    shape = 2 * SAMPLES, OUTPUTS
    known, push = _known(nudge.push, shape, np.dtype(dtype)), np.full_like(ports, np.nan)
    kernels.deliver(known, ports, rows, push)
    digits = 1e-5 if push.itemsize // (2 if np.iscomplexobj(push) else 1) == 4 else 1e-13
    np.testing.assert_allclose(push, nudge.current(ports, rows), rtol=digits, atol=digits)


def test_the_kernels_push_stays_finite_where_a_sample_is_hopeless() -> None:
    cost = CrossEntropy(np.eye(2) * 5000, np.zeros(2), np.array([1]), 1.0)
    known, push = _known(cost.push(np.ones(1)), (1, 2), np.dtype(float)), np.full((1, 2), np.nan)
    kernels.deliver(known, np.array([[1.0, 0.0]]), np.zeros(1, np.int64), push)
    np.testing.assert_allclose(push, [[-5000, 5000]])


@pytest.mark.parametrize("cost", [squared(1.0), entropy(1.0)], ids=["squared", "entropy"])
@pytest.mark.parametrize("beta", [0.3, 0.2 + 0.2j])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_relaxation_finds_the_same_whether_it_asks_or_knows(
    cost: SquaredError | CrossEntropy, beta: complex, threads: int
) -> None:
    rng = np.random.default_rng(5)
    circuit = BlockCircuit((6, 5, OUTPUTS), [(1, 0), (0, 1), (2, 1), (1, 2)], threads=threads)
    for pair in circuit.couplings:
        circuit.weight(*pair)[...] = 0.4 * rng.normal(size=circuit.weight(*pair).shape)
    nudge = Nudge(cost, np.full(2 * SAMPLES, beta), SAMPLES)
    injected = rng.normal(size=(2 * SAMPLES, circuit.size)).astype(np.result_type(beta))
    start = relax(circuit, injected, tolerance=1e-12).ports
    for begin in (None, start):
        found = [
            relax(circuit, injected, start=begin, nudge=push, tolerance=1e-12)
            for push in (nudge.current, nudge.push)
        ]
        assert all(one.settled.all() for one in found)
        np.testing.assert_allclose(found[0].ports, found[1].ports, atol=1e-11)
        np.testing.assert_array_equal(found[0].sweeps, found[1].sweeps)
    assert np.abs(found[0].ports - start).max() > 1e-3  # it does push


@pytest.mark.parametrize(
    ("cost", "beta", "message"),
    [
        (squared(), np.ones(4), r"strengths of shape \(4,\).*batch's 5 samples"),
        (SquaredError(np.zeros((5, 3)), 1.0), np.ones(5), r"targets of shape \(5, 3\).*\(samples, 4\)"),
        (
            CrossEntropy(np.zeros((3, 5)), np.zeros(3), np.zeros(5, int), 1.0),
            np.ones(5),
            r"readout.*\(3, 4\)",
        ),
        (
            CrossEntropy(np.zeros((3, 4)), np.zeros(2), np.zeros(5, int), 1.0),
            np.ones(5),
            r"readout.*\(2, 4\)",
        ),
    ],
)
def test_relaxation_refuses_a_nudge_of_another_shape(
    cost: SquaredError | CrossEntropy, beta: np.ndarray, message: str
) -> None:
    circuit = BlockCircuit((6, OUTPUTS), [(1, 0), (0, 1)])
    with pytest.raises(ValueError, match=message):
        relax(circuit, np.zeros((5, circuit.size)), nudge=Nudge(cost, beta, 5).push)


def test_relaxation_asks_a_nudge_whose_law_it_does_not_know() -> None:
    """Of another class, of a cost that changes the gradient, of fewer targets than samples."""

    class Clipped(SquaredError):
        def gradient(self, ports: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return np.clip(super().gradient(ports, rows), -0.1, 0.1)

    class Bare:
        beta = np.ones(SAMPLES)

        def current(self, ports: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return ports

        def slope(self, ports: np.ndarray, row: int) -> np.ndarray:
            return np.eye(len(ports))

    strength, bare = np.ones(SAMPLES), Bare()
    clipped = Nudge(Clipped(squared().targets, 2.0), strength, SAMPLES)
    assert push_of(clipped) == clipped.current and push_of(bare) == bare.current and push_of(None) is None
    short = Nudge(squared(), np.ones(2 * SAMPLES), 2 * SAMPLES)
    assert push_of(short) == short.current  # which raises an IndexError
    beyond = CrossEntropy(np.eye(CLASSES, OUTPUTS), np.zeros(CLASSES), np.array([0, CLASSES]), 1.0)
    with pytest.raises(IndexError):
        push_of(Nudge(beyond, np.ones(2), 2))
