"""Neuron laws against decimal arithmetic, complex steps and Cauchy's integral."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.neurons import LAWS, evaluate

laws = st.sampled_from(sorted(LAWS))
volts = st.floats(-20.0, 20.0)
parameters = st.fixed_dictionaries(
    {
        "low": st.floats(-3.0, 0.0),
        "high": st.floats(0.5, 3.0),
        "gain": st.floats(0.05, 50.0),
        "offset": st.floats(-2.0, 2.0),
        "knee": st.floats(0.01, 1.0),
    }
)


def exact(
    law: str, v: float, low: float, high: float, gain: float, offset: float, knee: float
) -> tuple[Decimal, Decimal]:
    """Output and slope from the module's two equations, in decimal arithmetic."""
    with localcontext() as context:
        context.prec = 60
        d = {name: Decimal(x) for name, x in locals().items() if isinstance(x, float)}
        swing, one = d["high"] - d["low"], Decimal(1)
        if law != "softplus":
            e = (-4 * d["gain"] * (d["v"] - d["offset"]) / swing).exp()
            return d["low"] + swing / (one + e), 4 * d["gain"] * e / (one + e) ** 2
        a = d["offset"]
        b = a + swing / d["gain"]
        ea, eb = (((d["v"] - x) / d["knee"]).exp() for x in (a, b))
        s = d["low"] + d["gain"] * d["knee"] * ((one + ea).ln() - (one + eb).ln())
        return s, d["gain"] * (ea - eb) / ((one + ea) * (one + eb))


@settings(max_examples=60, deadline=None)
@given(laws, volts, parameters)
def test_output_and_slope_are_the_equations(law: str, v: float, p: dict[str, float]) -> None:
    s, slope = evaluate(law, np.array([v]), **p)
    want_s, want_slope = (float(x) for x in exact(law, v, **p))
    swing = p["high"] - p["low"]
    terms = (
        swing + abs(p["low"]) + (p["gain"] * (abs(v - p["offset"]) + p["knee"]) + swing) * (law == "softplus")
    )
    assert s[0] == pytest.approx(want_s, rel=0, abs=8e-16 * terms)
    # An exponential magnifies the rounding of its argument; softplus's two knees cancel where they overlap.
    steepness = max(4 * p["gain"] / swing, 1 / p["knee"])
    relative = 1e-15 * (4 + steepness * (abs(v) + abs(p["offset"]) + swing / p["gain"]))
    overlap = 1 + p["gain"] * p["knee"] / swing * (law == "softplus")
    assert slope[0] == pytest.approx(want_slope, rel=0, abs=relative * overlap * want_slope + 1e-300)


@settings(max_examples=40, deadline=None)
@given(laws, volts, parameters)
def test_slope_is_the_complex_step_derivative(law: str, v: float, p: dict[str, float]) -> None:
    tiny = 1e-40
    s, _ = evaluate(law, np.array([v + 1j * tiny]), **p)
    slope = evaluate(law, np.array([v]), **p)[1][0]
    assert s[0].imag / tiny == pytest.approx(slope, rel=1e-9, abs=1e-13 * p["gain"])


@settings(max_examples=40, deadline=None)
@given(laws, st.floats(-3.0, 3.0), parameters)
def test_analytic_around_the_real_axis(law: str, v: float, p: dict[str, float]) -> None:
    """Cauchy's integrals over a circle inside the strip without poles give the value and the slope."""
    pole = np.pi * (p["knee"] if law == "softplus" else (p["high"] - p["low"]) / (4 * p["gain"]))
    circle = 0.3 * pole * np.exp(2j * np.pi * np.arange(32) / 32)
    s, slopes = evaluate(law, v + circle, **p)
    at, slope = evaluate(law, np.array([v]), **p)
    scale = p["gain"] * (abs(v - p["offset"]) + pole + p["knee"]) + abs(p["low"]) + p["high"] - p["low"]
    assert np.mean(s) == pytest.approx(at[0], abs=1e-14 * scale)
    assert np.mean(s / circle) == pytest.approx(slope[0], abs=1e-13 * scale / pole)
    assert np.mean(slopes) == pytest.approx(slope[0], abs=1e-13 * p["gain"])


@settings(max_examples=40, deadline=None)
@given(laws, parameters)
def test_rises_from_rail_to_rail_with_its_peak_slope(law: str, p: dict[str, float]) -> None:
    swing = p["high"] - p["low"]
    v = p["offset"] + np.linspace(-60, 60, 2001) * (swing / p["gain"] + p["knee"])
    s, slope = evaluate(law, v, **p)
    noise = 1e-12 * (1 + p["gain"] * np.abs(v).max())
    assert np.all(np.diff(s) >= -noise)
    assert s.min() >= p["low"] - noise and s.max() <= p["high"] + noise
    assert s[0] == pytest.approx(p["low"], abs=1e-9 * (1 + swing))
    assert s[-1] == pytest.approx(p["high"], abs=1e-9 * (1 + swing))
    assert np.all(slope > 0) and slope.max() <= p["gain"] * (1 + 1e-12)
    if law != "softplus":
        assert evaluate(law, np.array([p["offset"]]), **p)[1][0] == pytest.approx(p["gain"], rel=1e-12)


def test_softplus_leaves_low_at_its_offset_and_reaches_high_a_swing_over_gain_later() -> None:
    s, slope = evaluate("softplus", np.array([0.3, 0.5, 0.7]), -1.0, 1.0, 5.0, 0.3, 1e-3)
    assert s == pytest.approx([-1.0, 0.0, 1.0], abs=0.01)
    assert slope == pytest.approx([2.5, 5.0, 2.5], rel=1e-3)


def test_tanh_is_a_logistic_between_symmetric_rails() -> None:
    v = np.linspace(-3, 3, 41)
    s, slope = evaluate("tanh", v, -1.0, 1.0, 1.0, 0.0, 0.1)
    assert s == pytest.approx(np.tanh(2 * v / 2), abs=1e-15)
    assert slope == pytest.approx(1 / np.cosh(v) ** 2, rel=1e-13)


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_keeps_its_dtype_and_a_slope_that_can_be_divided_by(law: str, dtype: type) -> None:
    v = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], dtype)
    real = np.zeros(7, dtype).real.dtype.type
    s, slope = evaluate(law, v, -1.0, 1.0, np.full(7, 3, real), np.zeros(7, real), 0.01)
    assert s.dtype == slope.dtype == dtype
    assert np.isfinite(s).all() and np.isfinite(1 / slope).all()
    assert np.all(slope.real > 0)


@pytest.mark.parametrize("law", sorted(LAWS))
def test_parameters_are_per_neuron(law: str) -> None:
    rng = np.random.default_rng(0)
    gain, offset, v = 1 + rng.random(5), rng.random(5), rng.standard_normal((3, 5))
    s, slope = evaluate(law, v, 0.0, 1.0, gain, offset, 0.1)
    for b in range(3):
        for i in range(5):
            one = evaluate(law, v[b, i : i + 1], 0.0, 1.0, gain[i], offset[i], 0.1)
            assert (s[b, i], slope[b, i]) == (one[0][0], one[1][0])
