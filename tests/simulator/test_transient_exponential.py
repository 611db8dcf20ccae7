"""The exponential integrator of linear circuits: dense algebra, closed forms, and steps run tight."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from scipy.sparse import csc_array
from scipy.special import gammainc

from ohmostat.simulator import sparse_kernels as kernels
from ohmostat.simulator.devices import Current
from ohmostat.simulator.equations import Equations
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.transient import Transient, transient
from ohmostat.simulator.transient_exponential import Exponential
from ohmostat.simulator.transient_sources import Sources
from ohmostat.simulator.transient_steps import METHODS, Counts, LinearStages
from ohmostat.simulator.waveforms import PiecewiseLinear, Pulse

SIDE = 12  # of the grid
CAPACITANCE = 1e-13  # [F] at each of its nodes
RAMPS = (0.0, 1e-9, 2e-9, 10e-9, 10.5e-9), (0.0, 0.0, 1.0, 1.0, 0.2)


def grid(seed: int = 0) -> Netlist:
    """Random resistors between the nodes of a square grid, capacitors to ground, one corner driven."""
    rng, net = np.random.default_rng(seed), Netlist("grid")
    net.voltage_source("V1", "in", "0", waveform=PiecewiseLinear(*RAMPS))
    net.resistor("Rin", "in", "n0_0", conductance=1e-3)
    net.resistor("Rout", f"n{SIDE - 1}_{SIDE - 1}", "0", conductance=1e-3)
    for i in range(SIDE):
        for j in range(SIDE):
            net.capacitor(f"C{i}_{j}", f"n{i}_{j}", "0", CAPACITANCE)
            for name, end in (("a", (i + 1, j)), ("b", (i, j + 1))):
                if max(end) < SIDE:
                    g = 10 ** rng.uniform(-3.5, -1.5)
                    net.resistor(f"R{name}{i}_{j}", f"n{i}_{j}", f"n{end[0]}_{end[1]}", conductance=g)
    return net


def matrices(equations: Equations) -> tuple[np.ndarray, np.ndarray]:
    """G and C, dense."""
    stages, pattern = LinearStages(equations, Counts()), equations.structure.pattern
    n = len(pattern.starts) - 1
    return tuple(  # type: ignore[return-value]
        csc_array((data[0], pattern.indices, pattern.starts), shape=(n, n)).toarray()
        for data in (stages.conduct, stages.store)
    )


def exact(net: Netlist, times: np.ndarray) -> np.ndarray:
    """Voltages (T, nodes without the source's) of the grid, by its eigenvectors."""
    equations = Equations(net)  # without the source
    g, _ = matrices(equations)
    rates, modes = linalg.eigh(g / CAPACITANCE)
    wave = PiecewiseLinear(*RAMPS)
    push = -modes.T @ (equations.drive(2e-9).constant[0] - equations.drive(0.0).constant[0]) / CAPACITANCE
    moments = np.unique([*times, *RAMPS[0]])
    u, z, found = [wave.value(t) for t in moments], np.zeros(len(rates)), {0.0: np.zeros(len(rates))}
    for k, (t, h) in enumerate(zip(moments[1:], np.diff(moments), strict=True)):
        decay, lost, slope = np.exp(-rates * h), -np.expm1(-rates * h), (u[k + 1] - u[k]) / h
        z = decay * z + push * (lost / rates * u[k] + (h - lost / rates) / rates * slope)
        found[t] = z
    return np.array([modes @ found[t] for t in times])


def by_exponentials(wave: Transient) -> bool:
    """Whether no step was taken: then, a few factors serve all."""
    return wave.counts.factorizations <= 20 and wave.counts.stages < 2 * wave.counts.accepted


# -- the Krylov space ----------------------------------------------------------------------------------


def mixed() -> Netlist:
    """Capacitors to ground and floating, an inductor, a resistive node, controlled sources, a driven node."""
    net = Netlist("mixed")
    net.voltage_source("V1", "in", "0", waveform=PiecewiseLinear((0.0, 1e-7), (0.0, 1.0)))
    net.resistor("R1", "in", "a", conductance=1e-3)
    net.capacitor("C1", "a", "0", 1e-11)
    net.capacitor("C2", "a", "b", 2e-11)
    net.resistor("R2", "b", "c", conductance=2e-3)
    net.resistor("R3", "c", "0", conductance=1e-3)
    net.inductor("L1", "c", "d", 1e-6)
    net.resistor("R4", "d", "0", conductance=1e-2)
    net.capacitor("C3", "d", "0", 1e-11)
    net.vccs("G1", "b", "0", "a", "0", 1e-4)
    return net


def test_a_krylov_space_is_that_of_dense_algebra() -> None:
    equations = Equations(mixed(), eliminate=False)
    stages = LinearStages(equations, Counts())
    (g, c), n, shift, count = matrices(equations), equations.structure.size, 3e-9, 3
    signs = Exponential(stages, 1.0).signs
    energy = signs[:, None] * c
    assert np.linalg.eigvalsh(energy).min() > -1e-20
    dense = np.linalg.solve(g + c / shift, c / shift)
    start = dense @ np.random.default_rng(0).normal(size=n)
    start /= np.sqrt(start @ energy @ start)
    basis, dual, projected = np.zeros((count + 1, n)), np.zeros((count + 1, n)), np.zeros((count + 1, count))
    basis[0], dual[0] = start, energy @ start
    factors = stages.factors(shift)
    assert factors.plan is not None and factors.numeric is not None
    for done, wanted in ((0, 1), (1, count)):  # in two goes
        found = kernels.krylov(
            *factors.plan.patterns, *factors.numeric.factors, *stages.storage, signs, shift, done, wanted,
            basis, dual, projected,
        )  # fmt: skip
        assert found == wanted
    np.testing.assert_allclose(basis @ energy @ basis.T, np.eye(count + 1), atol=1e-9)
    np.testing.assert_allclose(dense @ basis[:count].T, basis.T @ projected, atol=1e-9 * np.abs(basis).max())


def test_a_krylov_space_ends_where_nothing_leads_out() -> None:
    """Four states: d is exact, and so is what one long arc says."""
    equations = Equations(mixed(), eliminate=False)
    exponential = Exponential(LinearStages(equations, Counts()), 1.0)
    charge = 1e-12 * np.random.default_rng(1).normal(size=equations.structure.size)
    d = exponential._settled(charge, 1e-6, np.full(len(charge), 1.0))
    sizes = [(len(decay), end) for decay, end in exponential._spaces(d, 1e-6)]
    assert sizes[-1][0] in (4, 5) and sizes[-1][1] and not any(end for _, end in sizes[:-1])


# -- transients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-1, 1e-2, 1e-4, 1e-6, 1e-8])
def test_errors_follow_the_tolerance(rtol: float) -> None:
    """At the points and, by the dense output, between them."""
    net = grid()
    wave = transient(net, 20e-9, rtol=rtol, atol=rtol * 1e-2)
    assert by_exponentials(wave)
    times = np.concatenate([wave.times, np.linspace(0.0, 20e-9, 401)])
    names = [name for name in wave.nodes if name != "in"]
    found = np.stack([np.concatenate([wave[n], wave.at(times[len(wave.times) :])[n]]) for n in names], axis=1)
    error = np.abs(found - exact(net, times)).max()
    assert error < rtol
    assert rtol > 1e-3 or error > 1e-4 * rtol  # nor is it far better
    assert wave.residual < 1e-12


def test_few_solutions_replace_many_steps() -> None:
    wave, steps = (transient(grid(), 20e-9, rtol=1e-4, atol=1e-6, method=m) for m in ("auto", "tr-bdf2"))
    assert wave.counts.stages < steps.counts.stages / 5
    assert wave.counts.factorizations < steps.counts.factorizations / 2


def test_fast_and_slow_parts_are_both_resolved() -> None:
    """Time constants of 1 ns and 1 ms, in a transient of 10 ms."""
    net = Netlist("two filters")
    net.voltage_source("V1", "in", "0", waveform=Pulse(0.0, 1.0, delay=1e-6))
    for name, resistance, capacitance in (("fast", 1e3, 1e-12), ("slow", 1e6, 1e-9)):
        net.resistor(f"R{name}", "in", name, conductance=1 / resistance)
        net.capacitor(f"C{name}", name, "0", capacitance)
    wave = transient(net, 1e-2, rtol=1e-3)
    t = 1e-6 + np.logspace(-12, -2.1, 300)
    for name, tau in (("fast", 1e-9), ("slow", 1e-3)):
        assert np.abs(wave[name] + np.expm1(-np.maximum(wave.times - 1e-6, 0.0) / tau)).max() < 1e-6
        assert np.abs(wave.at(t)[name] + np.expm1(-(t - 1e-6) / tau)).max() < 1e-3
    assert wave.counts.stages < 20


def test_steps_between_points_do_not_jump() -> None:
    """Neighbours in a ratio of about two, or a spline would overshoot."""
    wave = transient(grid(1), 20e-9, rtol=1e-5, atol=1e-7)
    for piece in wave._pieces():
        steps = np.diff(wave.times[piece])
        assert (steps > 0.0).all() and (np.abs(np.log(steps[1:] / steps[:-1])) < np.log(3.5)).all()


def test_what_grows() -> None:
    """A negative conductance: 1 mV grows by e^12, and the tolerance with it."""
    net = Netlist("unstable")
    net.capacitor("C1", "v", "0", 1e-9)
    net.vccs("G1", "v", "0", "v", "0", -2e-3)
    net.resistor("R1", "v", "0", conductance=1e-3)
    wave = transient(net, 12e-6, initial={"v": 1e-3}, uic=True, rtol=1e-4, atol=1e-9)
    t = np.linspace(0.0, 12e-6, 300)
    assert by_exponentials(wave)
    assert np.abs(wave.at(t)["v"] - 1e-3 * np.exp(t / 1e-6)).max() < 1e-4 * wave["v"].max()


def test_currents_of_capacitors_at_sources() -> None:
    """They follow the source's slope alone, and jump with it at the corners: no state keeps them."""
    net = Netlist("driven capacitor")
    ramp = PiecewiseLinear((1e-6, 2e-6, 2.5e-6), (0.0, 1.0, -1.0))
    net.voltage_source("V1", "in", "0", waveform=ramp)
    net.capacitor("C1", "in", "0", 1e-9)
    net.ccvs("H1", "h", "0", Current("V1"), 1e3)
    net.resistor("R1", "h", "out", conductance=1e-3)
    net.capacitor("C2", "out", "0", 1e-11)
    wave = transient(net, 3e-6)
    assert by_exponentials(wave)
    for corner, slope in ((1e-6, 1e6), (2e-6, -4e6), (2.5e-6, 0.0)):
        before, after = np.flatnonzero(wave.times == corner)
        assert after == before + 1
        assert wave.current("V1")[after] == pytest.approx(-1e-9 * slope, abs=1e-9)
        assert wave["h"][after] == pytest.approx(-1e-6 * slope, abs=1e-6)
        assert wave["out"][after] == pytest.approx(wave["out"][before], abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits_agree_with_steps(seed: int) -> None:
    net = random_circuit(seed)
    wave = transient(net, 1e-6, rtol=1e-4, atol=1e-6)
    tight = transient(net, 1e-6, rtol=1e-7, atol=1e-9, method="esdirk4", max_step=1e-8)
    assert by_exponentials(wave)
    corners = Sources(Equations(net), 1e-6).corners()
    t = np.linspace(0.0, 1e-6, 1001)
    t = t[np.abs(t[:, None] - corners).min(axis=1) > 1e-12]  # where voltages jump
    found, expected = wave.at(t).voltages, tight.at(t).voltages
    assert (np.abs(found - expected) < 2e-4 * np.abs(expected).max(axis=0) + 2e-6).all()


def random_circuit(seed: int) -> Netlist:
    """Resistors in a tree, capacitors, some floating, an inductor, a controlled source; steps and ramps."""
    rng, net = np.random.default_rng(seed), Netlist(f"random {seed}")
    nodes = [f"n{k}" for k in range(int(rng.integers(4, 12)))]
    rise = 2e-8 if rng.random() < 0.5 else 0.0
    net.voltage_source("V1", nodes[0], "0", waveform=Pulse(0.0, 1.0, 1e-7, rise, 5e-8, 3e-7))
    net.current_source("I1", "0", nodes[-1], waveform=Pulse(0.0, 1e-4, 2e-7, 1e-8, 1e-8, 2e-7))
    for k, node in enumerate(nodes[1:], 1):
        net.resistor(f"R{k}", node, nodes[int(rng.integers(0, k))], conductance=10 ** rng.uniform(-4, -2))
        other = "0" if rng.random() < 0.7 else nodes[int(rng.integers(1, k + 1)) - 1]
        if rng.random() < 0.8:
            net.capacitor(f"C{k}", node, other, 10 ** rng.uniform(-13, -10))
    net.inductor("L1", nodes[-1], "end", 10 ** rng.uniform(-7, -5))
    net.resistor("Rend", "end", "0", conductance=10 ** rng.uniform(-3, -1))
    net.vccs("G1", nodes[2], "0", nodes[1], "0", 1e-5)
    return net


# -- what is left to steps -----------------------------------------------------------------------------


def test_equal_stages_in_a_row() -> None:
    """Their modes are parallel; steps give the incomplete gamma function of the closed form."""
    net = Netlist("cascade")
    net.voltage_source("V1", "s0", "0", waveform=Pulse(0.0, 1.0, delay=1e-7))
    for k in range(8):
        net.resistor(f"R{k}", f"s{k}", f"m{k}", conductance=1e-3)
        net.capacitor(f"C{k}", f"m{k}", "0", 2e-11)
        net.vcvs(f"E{k}", f"s{k + 1}", "0", f"m{k}", "0", 1.0)
    wave = transient(net, 1e-6, rtol=1e-5, atol=1e-7)
    t = np.linspace(1e-7, 1e-6, 200)
    for k in range(8):
        assert np.abs(wave.at(t)[f"m{k}"] - gammainc(k + 1, (t - 1e-7) / 2e-8)).max() < 2e-4


def test_waves_on_a_line() -> None:
    """They take as many vectors as steps, and are the same as by steps alone."""
    net = Netlist("line")
    net.voltage_source("V1", "in", "0", waveform=PiecewiseLinear((1e-9, 2e-9), (0.0, 1.0)))
    net.resistor("R1", "in", "n0", conductance=1 / 50)
    for k in range(30):
        net.inductor(f"L{k}", f"n{k}", f"n{k + 1}", 2.5e-9)
        net.capacitor(f"C{k}", f"n{k + 1}", "0", 1e-12)
    net.resistor("R2", "n30", "0", conductance=1 / 75)
    wave, steps = (transient(net, 8e-9, rtol=1e-5, atol=1e-7, method=m) for m in ("auto", "tr-bdf2"))
    tight = transient(net, 8e-9, rtol=1e-8, atol=1e-10, method="esdirk4")
    t = np.linspace(0.0, 8e-9, 300)
    errors = [np.abs(found.at(t).voltages - tight.at(t).voltages).max() for found in (wave, steps)]
    assert errors[0] < 1.2 * errors[1] < 1e-3
    assert not by_exponentials(wave) and wave.counts.stages < 1.2 * steps.counts.stages


def test_methods_by_name_take_steps() -> None:
    for method in set(METHODS) - {"explicit"}:
        assert not by_exponentials(transient(grid(), 20e-9, method=method))
