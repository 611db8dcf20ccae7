"""Noise against closed forms, Nyquist's theorem, direct solutions and ngspice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.netlist import Current, Netlist, NetlistError
from ohmostat.simulator.ngspice import TIGHT, simulate_with_ngspice, with_options
from ohmostat.simulator.noise import integrated, noise
from ohmostat.simulator.semiconductors import BOLTZMANN, ELEMENTARY_CHARGE
from ohmostat.simulator.small_signal import LinearCircuit, impedance
from ohmostat.simulator.spice_analyses import Noise
from ohmostat.simulator.spice_reader import parse_spice

from .compare import require_ngspice
from .test_small_signal import low_pass, passive

CIRCUITS = Path(__file__).parent / "circuits"
KELVIN = 300.15
seeds = st.integers(0, 2**32 - 1)


def test_low_pass() -> None:
    f = np.logspace(0, 10, 101)
    found = noise(low_pass(), "out", "V1", f)
    white = 4 * BOLTZMANN * KELVIN * 1e3
    np.testing.assert_allclose(found.output, white / (1 + (2e-6 * np.pi * f) ** 2), rtol=1e-12)
    np.testing.assert_allclose(found.input, white, rtol=1e-12)
    np.testing.assert_allclose(found.gain, 1 / (1 + 2e-6j * np.pi * f), rtol=1e-12)
    np.testing.assert_array_equal(found.contribution("R1"), found.output)
    assert found.residual < 1e-15 and found.backward_error < 1e-14


def test_kt_over_c() -> None:
    """The integrated noise of an RC does not depend on R."""
    f = np.concatenate([[0.0], np.logspace(2, 10, 400)])
    for r in (1e2, 1e4):
        total = noise(low_pass(r), "out", "V1", f).output_total()
        assert total**2 == pytest.approx(BOLTZMANN * KELVIN / 1e-9, rel=1e-3)


def test_temperature() -> None:
    net = Netlist("hot", temperature=400.0)
    net.current_source("I1", "0", "a", 0.0)
    net.resistor("R1", "a", "0", conductance=1e-3)
    found = noise(net, "a", "I1", [1e3])
    np.testing.assert_allclose(found.output, 4 * BOLTZMANN * 400.0 * 1e3)
    np.testing.assert_allclose(found.input, 4 * BOLTZMANN * 400.0 / 1e3)


def test_shot_noise() -> None:
    net = Netlist("diode", gmin=0.0)
    net.current_source("I1", "0", "a", 1e-3)
    net.diode("D1", "a", "0")
    found = noise(net, "a", "I1", [1e3])
    np.testing.assert_allclose(found.input, 2 * ELEMENTARY_CHARGE * 1e-3, rtol=1e-9)


def test_channel_noise() -> None:
    net = Netlist("mosfet")
    net.voltage_source("Vg", "g", "0", 1.5)
    net.voltage_source("Vd", "d", "0", 3.0)
    net.mosfet("M1", "d", "g", "0", "0", vto=0.5, kp=1e-4, w=10e-6, l=1e-6)
    found = noise(net, Current("Vd"), "Vg", [1e3])
    np.testing.assert_allclose(found.contribution("M1"), 8 / 3 * BOLTZMANN * KELVIN * 1e-3, rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.gain), 1e-3, rtol=1e-9)


def test_ekv_in_saturation_has_two_thirds_of_the_source_transconductance() -> None:
    net = Netlist("ekv")
    net.voltage_source("Vg", "g", "0", 4.0)
    net.voltage_source("Vd", "d", "0", 5.0)
    net.voltage_source("Vs", "s", "0", 0.0)
    net.ekv("M1", "d", "g", "s", "0", vto=0.5)
    at_source = noise(net, Current("Vd"), "Vs", [1e3])
    gms = np.abs(at_source.gain[0])
    assert at_source.output[0] == pytest.approx(8 / 3 * BOLTZMANN * KELVIN * gms, rel=0.05)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_nyquist(seed: int) -> None:
    """At any node pair of a passive network the density is 4kT Re Z."""
    net = passive(seed)
    net.current_source("I1", "0", "n0", 0.0)
    f = np.array([1e3, 1e5, 1e7])
    found = noise(net, ("n2", "n5"), "I1", f)
    z = impedance(net, "n2", "n5", frequencies=f)
    np.testing.assert_allclose(found.output, 4 * BOLTZMANN * KELVIN * z.real, rtol=1e-6)
    assert (found.contributions >= 0).all() and (found.output > 0).all()


def test_adjoint_agrees_with_direct_solutions() -> None:
    deck = parse_spice((CIRCUITS / "differential-pair.cir").read_text())
    linear, f = LinearCircuit(deck.netlist()), np.array([1e4, 1e8])
    found = noise(linear, "out", "vp", f)
    (bank,) = (bank for bank in linear.net.banks if bank.kind == "mosfet")
    u = np.pad(linear.point.x, 1)
    ends = u[bank.terminals]
    assert bank.device.noise is not None
    density = bank.device.noise(
        linear.equations.parameters(linear.net.banks.index(bank)), ends[:, 0] - ends[:, 1], KELVIN
    )
    names = ("0", *linear.net.nodes)
    for k, name in enumerate(bank.names):
        a, b = bank.terminals[0, :, k]
        into = linear.probe((names[a], names[b]))
        direct = linear.solve(f, into[None])[:, 0] @ linear.probe("out")
        np.testing.assert_allclose(
            found.contribution(name), np.abs(direct) ** 2 * density.ravel()[k], rtol=1e-9
        )


@pytest.mark.parametrize("name", ["differential-pair", "diode-clamp", "source-follower", "rc-ladder"])
def test_agrees_with_ngspice(name: str) -> None:
    require_ngspice()
    text = (CIRCUITS / f"{name}.cir").read_text()
    deck = parse_spice(text)
    (card,) = (a for a in deck.analyses if isinstance(a, Noise))
    found = noise(deck.netlist(), card.output, card.source, card.frequencies())
    kept = [line for line in text.splitlines() if not line.startswith((".tran", ".dc", ".ac", ".tf"))]
    theirs = simulate_with_ngspice(with_options("\n".join(kept), TIGHT))
    np.testing.assert_allclose(found.output, theirs["noise"]["onoise_spectrum"] ** 2, rtol=1e-5)
    np.testing.assert_allclose(found.input, theirs["noise"]["inoise_spectrum"] ** 2, rtol=1e-5)
    assert found.output_total() == pytest.approx(theirs["noise total"]["onoise_total"][0], rel=1e-5)


# -- integration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -1.0 + 1e-12, 0.0, 0.5])
def test_powers_are_integrated_exactly(exponent: float) -> None:
    f = np.array([1.0, 3.0, 50.0, 1e4])
    low, high, p = 2.0, 7e3, exponent + 1.0
    expected = np.log(high / low) if abs(p) < 1e-9 else (high**p - low**p) / p
    assert integrated(f, f**exponent, (low, high)) == pytest.approx(expected, rel=1e-9)
    halves = integrated(f, f**exponent, (low, 20.0)) + integrated(f, f**exponent, (20.0, high))
    assert halves == pytest.approx(expected, rel=1e-9)


def test_straight_lines_from_zero() -> None:
    f, density = np.array([0.0, 1.0, 2.0]), np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 2.0]])
    np.testing.assert_allclose(integrated(f, density), [5.0, 1.0])
    np.testing.assert_allclose(integrated(f, density, (0.5, 1.5)), [1.25 + 1.5, 0.25])


def test_parts_add_up() -> None:
    deck = parse_spice((CIRCUITS / "rc-ladder.cir").read_text())
    (card,) = (a for a in deck.analyses if isinstance(a, Noise))
    found = noise(deck.netlist(), card.output, card.source, card.frequencies())
    totals = found.totals()
    assert list(totals.values()) == sorted(totals.values(), reverse=True)
    assert sum(totals.values()) == pytest.approx(found.output_total() ** 2)


def test_nothing_gets_through_a_coupling_capacitor_at_rest() -> None:
    net = low_pass()
    net.capacitor("C2", "out", "coupled", 1e-9)
    net.resistor("R2", "coupled", "0", conductance=1e-3)
    found = noise(net, "coupled", "V1", [0.0, 1e3, 1e6])
    assert np.isinf(found.input[0]) and found.input_total() == np.inf
    assert 0 < found.input_total((1e3, 1e6)) < 1e-3
    assert 0 < found.output_total() < 1e-3


def test_what_cannot_be_asked() -> None:
    found = noise(low_pass(), "out", "V1", [1.0, 10.0])
    with pytest.raises(NetlistError, match="'C1' has no noise"):
        found.contribution("C1")
    with pytest.raises(NetlistError, match="give one within 1 to 10 Hz"):
        found.output_total((0.5, 2.0))
    with pytest.raises(NetlistError, match="frequencies do not rise"):
        noise(low_pass(), "out", "V1", [10.0, 1.0]).output_total()
    with pytest.raises(NetlistError, match="no independent source"):
        noise(low_pass(), "out", "C1", [1.0])
