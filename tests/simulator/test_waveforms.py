"""Waveforms against formulas, against ngspice's sources, and their breakpoints against their corners."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.ngspice import ngspice_available, simulate_with_ngspice
from ohmostat.simulator.waveforms import Exponential, PiecewiseLinear, Pulse, Sine

WAVES: dict[str, Any] = {
    "pulse": Pulse(0.5, 2.0, delay=1e-6, rise=1e-7, fall=2e-7, width=2e-6, period=4e-6),
    "one pulse": Pulse(1.0, -1.0, delay=2e-6, rise=1e-6, fall=1e-6, width=1e-6, period=1.0),
    "sine": Sine(0.2, 1.5, 3e5, delay=1.5e-6, damping=1e5, phase=30.0),
    "exponential": Exponential(0.1, 1.1, 1e-6, 5e-7, 4e-6, 1e-6),
    "points": PiecewiseLinear((1e-6, 2e-6, 5e-6, 5.5e-6), (0.0, 1.0, -1.0, 0.5)),
}


def test_ngspice_has_the_same_waveforms() -> None:
    if not ngspice_available() and not os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
        pytest.skip("ngspice is not on the PATH")
    cards = [f"V{k} n{k} 0 {wave.spice()}\nR{k} n{k} 0 1" for k, wave in enumerate(WAVES.values())]
    text = "\n".join(["* waves", *cards, ".tran 10n 10u 0 20n", ".end", ""])
    (waves,) = simulate_with_ngspice(text).values()
    times = np.asarray(waves["time"]).real
    for k, (name, wave) in enumerate(WAVES.items()):
        ours = np.array([wave.value(t) for t in times.tolist()])
        assert ours == pytest.approx(np.asarray(waves[f"v(n{k})"]).real, abs=1e-9), name
        assert np.ptp(ours) > 0.9


@pytest.mark.parametrize("name", WAVES)
def test_a_kink_is_a_breakpoint_and_a_breakpoint_a_kink(name: str) -> None:
    wave, end, h = WAVES[name], 8.95e-6, 1e-10
    times = np.arange(1, 89500) * h
    values = np.array([wave.value(t) for t in times.tolist()])
    bend = np.abs(np.diff(values, 2)) / h
    kinks = times[1:-1][bend > 1e4]  # a jump of the slope; smooth bends stay far below
    points = wave.breakpoints(end)
    assert points == sorted(set(points)) and all(0 < t <= end for t in points)
    assert all(min(abs(kinks - t)) < 2 * h for t in points)
    assert all(min(abs(t - point) for point in points) < 2 * h for t in kinks)


def test_values_at_the_corners_of_a_pulse() -> None:
    pulse = Pulse(0.0, 1.0, delay=1.0, rise=1.0, fall=2.0, width=3.0, period=10.0)
    assert [pulse.value(t) for t in (0.0, 1.0, 1.5, 2.0, 5.0, 6.0, 7.0, 11.5, 21.5)] == pytest.approx(
        [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.5, 0.5]
    )
    assert pulse.breakpoints(12.0) == pytest.approx([1.0, 2.0, 5.0, 7.0, 11.0, 12.0])
    step = Pulse(0.0, 1.0, delay=1.0)
    assert (step.value(math.nextafter(1.0, 0.0)), step.value(1.0), step.value(1e9)) == (0.0, 1.0, 1.0)
    assert step.breakpoints(5.0) == [1.0] and step.breakpoints(0.5) == []


def test_breakpoints_are_bounded() -> None:
    with pytest.raises(ValueError, match=r"period is 1e-20 s, which makes 4e\+20 corners up to 2 s; at most"):
        Pulse(0.0, 1.0, delay=1.0, width=0.0, period=1e-20).breakpoints(2.0)
    assert len(Pulse(0.0, 1.0, width=0.0, period=1e-5).breakpoints(1.0)) == 100_000


@given(st.floats(0, 1e3), st.floats(1e-3, 10), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_pulse_is_periodic_after_its_delay(phase: float, period: float, turns: int) -> None:
    wave = Pulse(0.0, 1.0, rise=0.1 * period, fall=0.2 * period, width=0.3 * period, period=period)
    t = phase % period
    assert wave.value(t + turns * period) == pytest.approx(wave.value(t), abs=1e-8 * (turns + 1))


def test_what_ends_and_what_rests() -> None:
    assert Sine(1.0, 2.0, 50.0, delay=1.0, phase=90.0).value(0.0) == pytest.approx(3.0)
    assert Sine(0.0, 1.0, 50.0).breakpoints(1.0) == []
    points = PiecewiseLinear((0.0, 1.0), (2.0, 3.0))
    assert (points.value(-1.0), points.value(0.5), points.value(9.0)) == (2.0, 2.5, 3.0)
    assert Pulse(0.0, 1.0).spice() == "PULSE(0 1 0 0 0)"
    assert points.spice() == "PWL(0 2 1 3)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pulse(0.0, math.nan), "Pulse: pulsed is nan; give a finite number"),
        (lambda: Pulse(0.0, 1.0, rise=-1.0), "Pulse: rise is -1; give at least 0 s"),
        (
            lambda: Pulse(0.0, 1.0, width=2.0, period=1.0),
            r"period is 1; give at least rise \+ width \+ fall = 2 s",
        ),
        (lambda: Pulse(0.0, 1.0, period=0.0), "period is 0; give above 0 s"),
        (lambda: Sine(0.0, 1.0, math.inf), "Sine: frequency is inf"),
        (lambda: Exponential(0.0, 1.0, 0.0, 0.0, 1.0, 1.0), "rise_tau is 0; give above 0 s"),
        (lambda: Exponential(0.0, 1.0, 2.0, 1.0, 1.0, 1.0), "fall_delay is 1; give at least rise_delay"),
        (lambda: PiecewiseLinear((0.0, 1.0), (1.0,)), "2 times and 1 values"),
        (lambda: PiecewiseLinear((), ()), "0 times"),
        (lambda: PiecewiseLinear((1.0, 1.0), (0.0, 1.0)), "time 1 s follows 1 s; give rising times"),
        (lambda: PiecewiseLinear((0.0,), (math.inf,)), "not finite"),
    ],
)
def test_impossible_waveforms(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
