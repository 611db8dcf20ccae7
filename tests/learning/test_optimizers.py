"""Optimisers against loops written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ohmostat.learning.optimizers import SGD, Adam, make_optimizer

STEPS = 40


@pytest.fixture(params=[1e-6, 1.0], ids=["small", "large"])
def gradients(request: pytest.FixtureRequest) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [request.param * rng.normal(size=(3, 2)) for _ in range(STEPS)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(gradients: list[np.ndarray], momentum: float) -> None:
    optimizer, m = SGD(0.05, momentum), np.zeros((3, 2))
    for g in gradients:
        m = momentum * m + g
        np.testing.assert_allclose(optimizer.step("a", g), -0.05 * m, rtol=1e-12)


def test_adam(gradients: list[np.ndarray]) -> None:
    """Algorithm 1 of Kingma and Ba: both moments' bias is taken out before epsilon is added."""
    optimizer, m, v = Adam(0.01), np.zeros((3, 2)), np.zeros((3, 2))
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        expected = -0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(optimizer.step("a", g), expected, rtol=1e-9)


def test_adams_first_step_is_the_rate() -> None:
    step = Adam(0.01).step("a", np.array([3.0, -0.2]))
    np.testing.assert_allclose(step, [-0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_every_name_has_a_state_of_its_own(kind: str) -> None:
    both, alone = make_optimizer(kind, 0.1, 0.9), make_optimizer(kind, 0.1, 0.9)
    rng = np.random.default_rng(1)
    for _ in range(5):
        a, b = rng.normal(size=4), rng.normal(size=(2, 2))
        kept = a.copy()
        both.step("b", b)
        np.testing.assert_array_equal(both.step("a", a), alone.step("a", a))
        np.testing.assert_array_equal(a, kept)  # the caller's gradient is not touched


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_precision_is_kept(kind: str) -> None:
    optimizer = make_optimizer(kind, 0.1, 0.9)
    for _ in range(3):
        assert optimizer.step("a", np.ones(3, np.float32)).dtype == np.float32


def test_make_optimizer() -> None:
    assert make_optimizer("sgd", 0.1, 0.5, 2) == SGD(0.1, 0.5, 2)
    assert make_optimizer("adam", 0.1, 0.5) == Adam(0.1)
