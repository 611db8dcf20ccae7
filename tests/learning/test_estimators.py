"""Estimators of ds/dβ against the exact response; what the response is when J̃ is not symmetric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.specs import KEYS
from ohmostat.learning.catalogue import ESTIMATORS, make_estimator
from ohmostat.learning.estimators import (
    Estimator,
    Exact,
    Stencil,
    adjoint_response,
    cauchy,
    centered,
    chebyshev,
    exact_response,
    one_sided,
)
from ohmostat.learning.nudges import Cost, CrossEntropy, Nudge, SquaredError, beta_in_watts

BETAS = np.array([0.2, 0.1, 0.05, 0.025])
SAMPLES = 4
COSTS: dict[str, Cost] = {
    "squared": SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0),
    "entropy": CrossEntropy(
        np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.array([0, 1, 2, 1]), 1.0
    ),
}


STENCILS: dict[str, Callable[[float], Stencil]] = {
    "one-sided": one_sided,
    "negative": lambda beta: one_sided(-beta),
    "centered": centered,
    **{f"cauchy-{n}": lambda beta, n=n: cauchy(beta, n) for n in (2, 3, 6, 8)},
    **{f"chebyshev-{n}": lambda beta, n=n: chebyshev(beta, n) for n in (2, 4, 6, 8)},
}


@pytest.fixture(scope="module")
def asymmetric(make_chip: Callable[..., Chip]) -> Chip:
    return make_chip({"mismatch.conductance": 0.5, "learning.angle": 60.0})


@pytest.fixture(scope="module")
def free(asymmetric: Chip, inputs: Callable[..., np.ndarray]) -> Equilibrium:
    state = asymmetric.relax(inputs(SAMPLES))
    assert state.settled.all() and state.stable is not None and state.stable.all()
    return state


def relative(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def errors(estimators: Sequence[Estimator], free: Equilibrium, cost: Cost) -> np.ndarray:
    """Of each estimator's response to the exact one, relative."""
    exact = exact_response(free, cost).epsilon
    found = []
    for estimator in estimators:
        response = estimator.response(free, cost)
        assert response.valid.all()
        found.append(relative(response.epsilon, exact))
    return np.array(found)


# -- as rules of differentiation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "relaxations", "exact_to"),
    [
        ("one-sided", 2, 1), ("negative", 2, 1), ("centered", 3, 2),
        ("cauchy-2", 3, 2), ("cauchy-3", 3, 3), ("cauchy-6", 5, 6), ("cauchy-8", 6, 8),
        ("chebyshev-2", 3, 2), ("chebyshev-4", 5, 4), ("chebyshev-6", 7, 6), ("chebyshev-8", 9, 8),
    ],
)  # fmt: skip
def test_differentiates_polynomials_up_to_its_degree(name: str, relaxations: int, exact_to: int) -> None:
    """Of ``x^k``, the slope at 0 is 1 for k = 1 and 0 for every other k up to the degree, and no more."""
    estimator = STENCILS[name](0.3)
    assert estimator.name == name
    assert estimator.relaxations == relaxations and estimator.seconds == 0
    nodes, weights = np.array(estimator.nodes), np.array(estimator.weights)
    slopes = [(weights @ (estimator.beta * nodes) ** k).real / estimator.beta for k in range(1, exact_to + 2)]
    np.testing.assert_allclose(slopes[:-1], np.eye(1, exact_to)[0], atol=1e-14)
    assert abs(slopes[-1]) > 0.1 * 0.3**exact_to / 2**exact_to


def test_chebyshev_is_the_slope_of_the_interpolating_polynomial() -> None:
    beta, n = 0.7, 6
    estimator = chebyshev(beta, n)
    x = np.array(estimator.nodes) * beta
    y = np.exp(np.sin(3 * x))
    slope = np.polynomial.Polynomial.fit(x, y, n - 1).deriv()(0.0)
    assert np.array(estimator.weights) @ y / beta == pytest.approx(slope, rel=1e-12)


def test_centered_is_the_rule_of_two_nudges_of_both_families() -> None:
    """On the circle at β; on the interval its nodes lie at ``β cos π/4``."""
    assert cauchy(0.2, 2).nodes == centered(0.2).nodes and cauchy(0.2, 2).weights == centered(0.2).weights
    two = chebyshev(0.2, 2)
    np.testing.assert_allclose(np.array(two.nodes) * np.sqrt(2), centered(0.2).nodes)
    np.testing.assert_allclose(np.array(two.weights) / np.sqrt(2), centered(0.2).weights)


@pytest.mark.parametrize("count", [2, 4, 6, 8])
def test_noise_of_the_reading(count: int) -> None:
    """Of independent readings: √2/β with the free state's, 1/√2β, and ``√((N²-1)/3) / β``, which is 4.6/β for
    Chebyshev-8. Cauchy-N would have 1/√N β (0.35/β for 8), did it read both halves of its circle.
    """
    beta = 0.1
    assert one_sided(beta).noise == one_sided(-beta).noise == pytest.approx(np.sqrt(2) / beta)
    assert centered(beta).noise == pytest.approx(np.sqrt(0.5) / beta)
    assert chebyshev(beta, count).noise == pytest.approx(np.sqrt((count**2 - 1) / 3) / beta)
    assert cauchy(beta, count).noise == pytest.approx(np.sqrt(2 * (count - 1)) / count / beta)


# -- against the exact response ------------------------------------------------------------------------


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("name", "order"), [("one-sided", 1), ("negative", 1), ("centered", 2)])
def test_order_of_the_error_in_beta(
    asymmetric: Chip, free: Equilibrium, cost: str, name: str, order: int
) -> None:
    watts = beta_in_watts(asymmetric.circuit.design, 1.0)
    error = errors([STENCILS[name](beta * watts) for beta in BETAS], free, COSTS[cost])
    slope = np.polyfit(np.log(BETAS), np.log(error), 1)[0]
    assert slope == pytest.approx(order, abs=0.1)
    assert error[-1] < 0.03**order  # at a beta of 0.025


@pytest.mark.parametrize("angle", [0.0, 60.0])
@pytest.mark.parametrize("family", [cauchy, chebyshev])
def test_exponential_families_reach_the_exact_response(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray],
    family: Callable[[float, int], Stencil], angle: float,
) -> None:  # fmt: skip
    """Which, on a symmetric chip, is the adjoint's."""
    chip = make_chip({"learning.angle": angle})
    free, beta = chip.relax(inputs(SAMPLES)), beta_in_watts(chip.circuit.design, 0.02)
    for cost in COSTS.values():
        response = family(beta, 12).response(free, cost)
        assert response.valid.all()
        assert relative(response.epsilon, exact_response(free, cost).epsilon) < 1e-8
        to_adjoint = relative(response.epsilon, adjoint_response(free, cost).epsilon)
        assert to_adjoint < 1e-8 if angle == 0 else to_adjoint > 0.02


def taylor(free: Equilibrium, cost: Cost, beta: float, terms: int) -> np.ndarray:
    """Taylor coefficients (terms, samples, N) of the ports in β/``beta``: 64 complex nudges, and an FFT."""
    samples, count = len(free.ports), 64
    circle = beta * np.exp(2j * np.pi * np.arange(count) / count)
    state = free.under(Nudge(cost, np.repeat(circle, samples), samples), count, certify=0)
    assert state.settled.all()
    coefficients: np.ndarray = np.fft.fft(state.ports.reshape(count, samples, -1), axis=0)[:terms] / count
    return coefficients


@pytest.mark.parametrize(("count", "strength"), [(2, 0.02), (4, 0.03), (6, 0.05)])
def test_leading_error_is_the_next_taylor_coefficient(
    asymmetric: Chip, free: Equilibrium, count: int, strength: float
) -> None:
    """``c_{N+1} β^N`` of Cauchy-N, and ``(-1)^{N/2+1} 2^{1-N}`` times as much of Chebyshev-N."""
    cost, beta = COSTS["squared"], beta_in_watts(asymmetric.circuit.design, strength)
    radius = 5 * beta
    series = taylor(free, cost, radius, count + 2)
    exact = exact_response(free, cost).epsilon
    np.testing.assert_allclose(series[1].real / radius, exact, rtol=1e-7, atol=1e-9 * np.abs(exact).max())
    left_out = series[count + 1].real * (beta / radius) ** (count + 1) / beta
    for family, share in ((cauchy, 1.0), (chebyshev, (-1) ** (count // 2 + 1) / 2 ** (count - 1))):
        error = family(beta, count).response(free, cost).epsilon - exact
        assert np.linalg.norm(error - share * left_out) < 0.05 * np.linalg.norm(share * left_out)


def test_exponential_rate_in_the_number_of_nudges(asymmetric: Chip, free: Equilibrium) -> None:
    """Per nudge, Cauchy's error falls by ``β/ρ``; Chebyshev's by ``1/r``, r the sum of the semi-axes (in
    units of β) of the ellipse through the nearest singularity, whose foci are ±β. At the distance ρ, r is
    ``ρ/β + √(ρ²/β² ± 1)``, plus on the imaginary axis and minus on the real one.
    """
    cost, watts = COSTS["squared"], beta_in_watts(asymmetric.circuit.design, 1.0)
    terms = np.linalg.norm(taylor(free, cost, 0.4 * watts, 24), axis=2)
    decay = np.polyfit(np.arange(8, 24), np.log(terms[8:]), 1)[0]
    exact = exact_response(free, cost).epsilon
    counts = range(4, 15, 2)

    def rates(family: Callable[[float, int], Stencil], strength: float) -> np.ndarray:
        responses = [family(strength * watts, n).response(free, cost).epsilon for n in counts]
        logs = np.log([np.linalg.norm(r - exact, axis=1) for r in responses])
        slopes: np.ndarray = np.polyfit(counts, logs, 1)[0]
        return slopes

    np.testing.assert_allclose(rates(cauchy, 0.3), decay + np.log(0.3 / 0.4), rtol=0.1)
    ratio = np.exp(-decay) * 0.4 / 0.5
    fastest, slowest = (-np.log(ratio + np.sqrt(ratio**2 + sign)) for sign in (1, -1))
    found = rates(chebyshev, 0.5)
    assert (1.1 * fastest < found).all() and (found < 0.9 * slowest).all()


def test_beyond_the_radius_of_convergence_chebyshev_converges_and_cauchy_does_not(
    asymmetric: Chip, free: Equilibrium
) -> None:
    """The nearest singularities of samples 1 to 3 lie 0.63 to 0.69 away, at complex β; [-β, β] has none.

    By how much Cauchy errs there depends on the branch that each complex state is found on.
    """
    cost, beta = COSTS["squared"], beta_in_watts(asymmetric.circuit.design, 0.77)
    exact = exact_response(free, cost).epsilon[1:]
    for family, least, most in ((cauchy, 0.03, 1), (chebyshev, 0, 1e-5)):
        epsilon = family(beta, 16).response(free, cost, certify=0).epsilon[1:]
        error = np.linalg.norm(epsilon - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert (least < error).all() and (error < most).all()


def test_every_estimator_of_a_design_measures_the_response(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray]
) -> None:
    assert set(KEYS["learning.estimator"].options) == set(ESTIMATORS)
    for name in ESTIMATORS:
        chip = make_chip({"learning.estimator": name, "learning.period": 500.0})
        estimator = make_estimator(chip.circuit.design)
        assert estimator.name.startswith(name)
        assert (estimator.seconds > 0) == (name in ("lock-in", "continuous"))
        assert errors([estimator], chip.relax(inputs(SAMPLES)), COSTS["squared"])[0] < 0.01


@pytest.mark.parametrize("estimator", ["centered", "chebyshev", "lock-in"])
def test_a_design_says_what_of_jumps(make_chip: Callable[..., Chip], estimator: str) -> None:
    for jumps, judged in (("leave-out", True), ("take", False)):
        design = make_chip({"learning.estimator": estimator, "learning.jumps": jumps}).circuit.design
        assert make_estimator(design).judged is judged


def test_exact_is_an_estimator(free: Equilibrium) -> None:
    cost = COSTS["entropy"]
    response = Exact().response(free, cost, 0)
    np.testing.assert_array_equal(response.epsilon, exact_response(free, cost).epsilon)
    assert Exact().relaxations == 2 and Exact().seconds == 0


def test_all_nudges_in_one_batch_are_the_separate_relaxations(asymmetric: Chip, free: Equilibrium) -> None:
    cost, beta = COSTS["squared"], 4e-6
    phases = [
        asymmetric.settle(free.injected, Nudge(cost, np.full(SAMPLES, sign * beta), SAMPLES), free).ports
        for sign in (1, -1)
    ]
    both = centered(beta).response(free, cost)
    np.testing.assert_allclose(both.epsilon, (phases[0] - phases[1]) / (2 * beta), rtol=1e-6, atol=1e-3)
    one = one_sided(beta).response(free, cost)
    np.testing.assert_allclose(one.epsilon, (phases[0] - free.ports) / beta, rtol=1e-6, atol=1e-3)
    assert both.nudged is not None and len(both.nudged.ports) == 2 * SAMPLES


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_exact_response_and_adjoint_solve_their_equations(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray], columns: str
) -> None:
    chip = make_chip({"chip.columns": columns, "mismatch.conductance": 0.5, "learning.angle": 90.0})
    free, cost = chip.relax(inputs(SAMPLES)), COSTS["entropy"]
    ep, adjoint = exact_response(free, cost), adjoint_response(free, cost)
    assert ep.valid.all() and ep.nudged is None
    gradient = cost.gradient(free.outputs, np.arange(SAMPLES))
    for k in range(SAMPLES):
        jacobian = free.port_jacobian(k)
        rhs = np.zeros(len(jacobian))
        rhs[free.circuit.output] = gradient[k]
        for response, matrix in ((ep, jacobian), (adjoint, jacobian.T)):
            expected = np.linalg.solve(matrix, rhs)
            error = np.abs(response.epsilon[k] - expected).max()
            assert error < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["twin", "shared"])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_bias_of_ep_on_an_asymmetric_chip(
    make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray], family: str, columns: str
) -> None:
    """``ε = J̃⁻¹J̃ᵀδ`` (physics, section 3: Gradients), far from ``δ`` itself: solved for, and nudged."""
    skew = {"learning.angle": 70.0} if family == "twin" else {"mismatch.driver_gain": 0.3}
    chip = make_chip({"chip.family": family, "chip.columns": columns, "mismatch.conductance": 0.4} | skew)
    free, cost = chip.relax(inputs(SAMPLES)), COSTS["squared"]
    delta = adjoint_response(free, cost).epsilon
    for estimator in (Exact(), chebyshev(beta_in_watts(chip.circuit.design, 0.02), 8)):
        epsilon = estimator.response(free, cost).epsilon
        assert np.linalg.norm(epsilon - delta) > 0.02 * np.linalg.norm(delta)
        for k in range(SAMPLES):
            jacobian = free.port_jacobian(k)
            expected = np.linalg.solve(jacobian, jacobian.T @ delta[k])
            assert np.abs(epsilon[k] - expected).max() < 1e-8 * np.abs(expected).max()


def test_first_order_of_the_bias(make_chip: Callable[..., Chip], inputs: Callable[..., np.ndarray]) -> None:
    """``ε = δ - 2 S⁻¹A δ + O(A²)``."""
    left_over = []
    for angle in (2.0, 1.0, 0.5):
        chip = make_chip({"learning.angle": angle})
        free, cost = chip.relax(inputs(1)), SquaredError(np.full((1, 4), 0.3), 1.0)
        delta = adjoint_response(free, cost).epsilon[0]
        jacobian = free.port_jacobian()
        s, a = (jacobian + jacobian.T) / 2, (jacobian - jacobian.T) / 2
        bias = exact_response(free, cost).epsilon[0] - delta
        left_over.append(np.linalg.norm(bias + 2 * np.linalg.solve(s, a @ delta)))
    slope = np.polyfit(np.log([2, 1, 0.5]), np.log(left_over), 1)[0]
    assert slope == pytest.approx(2, abs=0.05)


def test_an_unsettled_sample_is_left_out(asymmetric: Chip, free: Equilibrium) -> None:
    settled = np.array([True, False, True, True])
    shaky, cost = replace(free, settled=settled), COSTS["squared"]
    for response in (
        centered(1e-6).response(shaky, cost),
        exact_response(shaky, cost),
        adjoint_response(shaky, cost),
    ):
        np.testing.assert_array_equal(response.valid, settled)
        assert not response.epsilon[1].any() and response.epsilon[settled].any(axis=1).all()
