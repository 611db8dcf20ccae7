"""Transients between their points, and their energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.transient import transient
from ohmostat.simulator.waveforms import Pulse, Sine

from .small_circuits import netlist_of, rc, rectifier, rlc

seeds = st.integers(0, 2**32 - 1)


# -- between the points ---------------------------------------------------------------------------------


def test_between_its_points_a_snap_stays_within_its_levels() -> None:
    """A triangle generator, whose steps fall a millionfold where its trigger snaps: ±5 V, nowhere more."""
    net = netlist_of(
        "B1 o 0 v=5*tanh(1000*(v(t)*0.5+v(o2)*0.5))\nR1 o o2 1k\nC1 o2 0 10p\n"
        "B2 0 t i=-v(o)*1u\nC2 t 0 1n\nR2 t 0 1g\n"
    )
    wave = transient(net, 2e-2, initial={"t": 0.01})
    steps = np.diff(wave.times)
    assert (steps[:-1] > 1e5 * np.maximum(steps[1:], 1e-30)).any()
    dense = wave.at(np.linspace(0.0, 2e-2, 100_001))["o"]
    assert np.abs(wave["o"]).max() < 5.01 and np.abs(dense).max() < 5.01


@pytest.mark.parametrize(("cells", "load"), [(30, 100.0), (36, 1000.0)])
def test_between_its_points_a_line_stays_passive(cells: int, load: float) -> None:
    """Courses of the exponential integrator may begin with a step in which rounding alone moves."""
    net = Netlist("line")
    net.voltage_source("V1", "in", "0", waveform=Pulse(0.0, 1.0, 1e-9, 1e-10, 1e-10, 1e-8, 4e-8))
    net.resistor("Rs", "in", "n0", conductance=0.02)
    for k in range(cells):
        net.inductor(f"L{k}", f"n{k}", f"n{k + 1}", 2.5e-9)
        net.capacitor(f"C{k}", f"n{k + 1}", "0", 1e-12)
    net.resistor("Rl", f"n{cells}", "0", conductance=1.0 / load)
    dense = transient(net, 4e-8).at(np.linspace(0.0, 4e-8, 40_001))["n0"]
    assert dense.min() > -0.5 and dense.max() < 1.2


def test_both_sides_of_a_corner_where_it_is_given_twice() -> None:
    """1 mA in 0.1 µs through 1 µH and 50 Ω: 10 mV more while it rises than after."""
    net = Netlist("coil")
    net.current_source("I1", "0", "a", waveform=Pulse(0.0, 1e-3, 1e-6, 1e-7, 1e-7, 1e-6))
    net.inductor("L1", "a", "b", 1e-6)
    net.resistor("R1", "b", "0", conductance=0.02)
    wave = transient(net, 2e-6)
    corner = wave.times[np.searchsorted(wave.times, 1.1e-6 - 1e-12)]
    np.testing.assert_allclose(wave.at([corner, corner, corner])["a"], [0.06, 0.06, 0.05], atol=1e-6)
    assert wave.at(corner)["a"] == pytest.approx(0.05, abs=1e-6)


# -- energy --------------------------------------------------------------------------------------------


def random_rlc(seed: int, *, straight: bool, n: int = 6) -> Netlist:
    """A connected network of R, L and C, driven by a pulse and a sine, or another pulse."""
    rng = np.random.default_rng(seed)
    net = Netlist(f"rlc {seed}")
    net.voltage_source("V1", "n0", "0", waveform=Pulse(0.0, 1.0, 1e-7, 2e-7, 1e-7, 3e-7))
    sine = Sine(0.0, 1e-3, 1e6 * 10 ** rng.uniform(-0.5, 0.5))
    pulse = Pulse(0.0, 1e-3, 2e-7, 1e-8, 2e-7, 2e-7)
    net.current_source("I1", "0", f"n{n - 1}", waveform=pulse if straight else sine)
    for k in range(1, n):
        net.resistor(f"R{k}", f"n{k}", f"n{rng.integers(k)}", conductance=10 ** rng.uniform(-4, -2))
        net.capacitor(f"C{k}", f"n{k}", "0", 10 ** rng.uniform(-12, -10))
    for k in range(3):
        a, b = rng.choice(n, 2, replace=False)
        net.resistor(f"Rx{k}", f"n{a}", f"x{k}", conductance=10 ** rng.uniform(-4, -2))
        net.inductor(f"L{k}", f"x{k}", f"n{b}", 10 ** rng.uniform(-6, -4))
        a, b = rng.choice(np.arange(1, n), 2, replace=False)
        net.capacitor(f"Cx{k}", f"n{a}", f"n{b}", 10 ** rng.uniform(-12, -10))
    return net


@settings(max_examples=12, deadline=None)
@given(seeds, st.sampled_from([("tr-bdf2", 1e-5), ("esdirk4", 1e-6), ("auto", 1e-5)]))
def test_energy_balances(seed: int, how: tuple[str, float]) -> None:
    method, rtol = how
    net = random_rlc(seed, straight=method == "auto")
    wave = transient(net, 1e-6, rtol=rtol, atol=rtol * 1e-2, method=method)
    energy = wave.energy()
    turnover = energy.dissipated[-1] + energy.stored.max()
    assert np.all(np.diff(energy.dissipated) > -1e-6 * turnover)
    assert np.abs(energy.imbalance).max() < 100 * rtol * turnover
    assert wave.residual < 1e-6 * 1e-3  # of some mA


def test_energy_of_one_charge() -> None:
    """A capacitor charged through a resistor stores half of what the source delivers; a diode's adds up."""
    energy = transient(rc(Pulse(0.0, 2.0)), 40e-6, uic=True, rtol=1e-6, atol=1e-9).energy()
    assert energy.delivered["V1"][-1] == pytest.approx(4e-9, rel=1e-4)
    assert energy.stored[-1] == pytest.approx(2e-9, rel=1e-6)
    assert energy.dissipated[-1] == pytest.approx(2e-9, rel=1e-4)
    energy = transient(rectifier(), 2e-6, rtol=1e-6, atol=1e-8).energy()
    assert abs(energy.imbalance[-1]) < 1e-4 * energy.dissipated[-1]


@pytest.mark.parametrize(("method", "drift"), [("tr-bdf2", 2e-2), ("esdirk4", 2e-4), ("auto", 1e-9)])
def test_ideal_resonator_keeps_its_energy(method: str, drift: float) -> None:
    """Over 16 periods; what L-stable methods lose is of the order of the tolerance."""
    period = 2 * np.pi * np.sqrt(1e-15)
    wave = transient(rlc(0.0), 16 * period, initial={"v": 1.0}, uic=True, rtol=1e-5, atol=1e-7, method=method)
    stored = wave.energy().stored
    assert stored[0] == pytest.approx(0.5e-9, rel=1e-6)
    assert abs(stored[-1] / stored[0] - 1) < drift
