"""Noise of devices and readings: its moments against closed forms, its addresses, and that none is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.fluctuation import Fluctuation, fluctuating, observed, thermal_noise
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import NoiseSpec
from ohmostat.learning.training import initialise
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.noise import noise
from ohmostat.simulator.semiconductors import BOLTZMANN

FLICKER = NoiseSpec(flicker=1e-4, f_low=10.0, f_high=1e6)
TRAPS = NoiseSpec(telegraph_share=0.2, telegraph_amplitude=0.3, telegraph_rate=0.1)
SHAPE = (2, 100, 150)


def chip_of(changes: dict[str, object] | None = None) -> Chip:
    small = {
        "chip.layers": [64, 7, 6, 10], "task.data": "digits", "learning.dtype": "float64",
        "learning.tolerance": 1e-10, "mismatch.conductance": 0.3,
    }  # fmt: skip
    chip = Circuit(Design().replace(small | (changes or {}))).fabricate(seed=3)
    initialise(chip, 5, 1.0, 0.0)
    return chip


# -- flicker ---------------------------------------------------------------------------------------


def test_flicker_is_the_integral_of_its_spectrum() -> None:
    power = integrate.quad(lambda u: FLICKER.flicker, np.log(FLICKER.f_low), np.log(FLICKER.f_high))[0]
    assert FLICKER.flicker_sd == pytest.approx(np.sqrt(power))
    direct = integrate.quad(lambda f: FLICKER.flicker / f, 10.0, 1e3)[0]
    assert replace(FLICKER, f_high=1e3).flicker_sd == pytest.approx(np.sqrt(direct), rel=1e-6)


def test_flicker_has_its_moments_and_is_new_at_every_step() -> None:
    noise = Fluctuation(FLICKER, 5)
    steps = np.array([noise.factor("a", SHAPE, n).ravel() for n in range(4)])
    sd, count = FLICKER.flicker_sd, steps[0].size
    assert steps.mean() == pytest.approx(1, abs=4 * sd / np.sqrt(steps.size))
    assert steps.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * steps.size))
    apart = np.corrcoef(steps) - np.eye(4)
    assert np.abs(apart).max() < 4.5 / np.sqrt(count)
    assert np.array_equal(Fluctuation(FLICKER, 5).factor("a", SHAPE, 2).ravel(), steps[2])
    others = (Fluctuation(FLICKER, 6).factor("a", SHAPE, 2), noise.factor("b", SHAPE, 2))
    for other in others:
        assert abs(np.corrcoef(other.ravel(), steps[2])[0, 1]) < 4.5 / np.sqrt(count)


def test_no_conductance_is_negative() -> None:
    wild = NoiseSpec(flicker=1.0, telegraph_share=1.0, telegraph_amplitude=2.0)
    found = Fluctuation(wild, 1).factor("a", SHAPE, 3)
    assert found.min() == 0


# -- telegraph -------------------------------------------------------------------------------------


def test_traps_are_a_share_half_full_and_forget_as_a_telegraph() -> None:
    """Two states with probability r to switch: occupancy ½, autocorrelation (1 - 2r)^k."""
    noise = Fluctuation(TRAPS, 7)
    steps = np.array([noise.factor("a", SHAPE, n).ravel() - 1 for n in range(12)])
    trapped, count = steps[0] != 0, steps[0].size
    assert np.array_equal(trapped, steps[9] != 0)
    assert trapped.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / count))
    found = steps[:, trapped] / 0.3
    assert np.allclose(np.abs(found), 0.5)
    for state in found:
        assert (state > 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(trapped.sum()))
    for k in (1, 2, 5, 11):
        product = 4 * found[0] * found[k]
        assert product.mean() == pytest.approx(0.8**k, abs=4 / np.sqrt(trapped.sum()))


@pytest.mark.parametrize("order", [[9], [3, 9], [9, 3, 9], [0, 0, 9]])
def test_a_step_is_the_same_however_it_is_come_to(monkeypatch: pytest.MonkeyPatch, order: list[int]) -> None:
    noise = Fluctuation(TRAPS, 7)
    straight = [noise.factor("a", (2, 9, 8), n) for n in range(10)]
    monkeypatch.setattr("ohmostat.circuits.fluctuation.MOST_DRAWS", 50)
    jumping = Fluctuation(TRAPS, 7)
    for n in order:
        assert np.array_equal(jumping.factor("a", (2, 9, 8), n), straight[n])


def test_a_certain_switch_alternates() -> None:
    noise = Fluctuation(replace(TRAPS, telegraph_rate=1.0), 7)
    first, second, third = (noise.factor("a", SHAPE, n) - 1 for n in range(3))
    np.testing.assert_allclose(first, -second)
    assert np.array_equal(first, third) and np.any(first)


# -- on a chip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_a_chip_fluctuates_for_as_long_as_it_is_told(columns: str) -> None:
    quiet = chip_of({"chip.columns": columns})
    chip = chip_of(
        {"chip.columns": columns, "noise.flicker": 1e-3, "noise.telegraph_share": 0.3}
    )  # fmt: skip
    x = np.random.default_rng(1).random(64)
    before = quiet.relax(x).voltages
    assert np.array_equal(chip.relax(x).voltages, before)
    with fluctuating(chip, 4):
        during, again = chip.relax(x), chip.relax(x)
        assert np.array_equal(during.voltages, again.voltages)
        factor = Fluctuation(chip.circuit.design.noise, 3).factor("forward1", (2, 6, 7), 4)
        np.testing.assert_allclose(
            chip.conducting("forward1"), chip.devices["forward1"].actual * factor, rtol=1e-12
        )
        np.testing.assert_allclose(chip.weight("forward1"), -np.diff(chip.conducting("forward1"), axis=0)[0])
    assert 1e-4 < np.abs(during.voltages - before).max() < 1.0
    assert np.array_equal(chip.relax(x).voltages, before)
    with fluctuating(chip, 5):
        assert not np.array_equal(chip.relax(x).voltages, during.voltages)
    with fluctuating(quiet, 4):
        assert quiet.factors is None and quiet.fluctuation is None


def test_conductances_return_after_an_error() -> None:
    chip = chip_of({"noise.flicker": 1e-3})
    with pytest.raises(RuntimeError), fluctuating(chip, 1):
        raise RuntimeError
    assert chip.conducting("forward0") is chip.devices["forward0"].actual


# -- thermal ---------------------------------------------------------------------------------------


def test_thermal_noise_is_that_of_the_column_as_a_circuit() -> None:
    """Against the netlist engine: a passive column's devices and leak as resistors, noise in a bandwidth."""
    chip = chip_of({"chip.columns": "passive", "noise.bandwidth": "1MHz", "corner.temperature": "350K"})
    free = chip.relax(np.full((1, 64), 0.5))
    found = chip.blocks.layer(thermal_noise(chip, free) / free.slopes(), 0)[0, 0]
    net = Netlist("column", temperature=350.0)
    for k, bank in enumerate(bank for bank in chip.circuit.banks if bank.post == 0):
        for j, conductance in enumerate(chip.devices[bank.array].actual[:, 0].ravel()):
            net.resistor(f"R{k}_{j}", "v", "0", conductance=float(conductance))
    net.resistor("Rleak", "v", "0", conductance=chip.neuron.leak)
    net.current_source("I", "0", "v", 0.0)
    density = noise(net, "v", "I", [1e3]).output[0]
    assert found**2 == pytest.approx(density * 1e6, rel=1e-9)


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_readings_scatter_by_thermal_and_amplifier_noise(columns: str) -> None:
    """Over samples alike, at every port: ``f'² 4kTG Δf / load²`` beside the amplifier's, in quadrature."""
    chip = chip_of(
        {"chip.columns": columns, "noise.bandwidth": "1GHz", "learning.read_noise": "50uV",
         "corner.temperature": "400K"}
    )  # fmt: skip
    samples = 4000
    free = chip.relax(np.full((1, 64), 0.5), certify=0)
    many = replace(
        free, ports=np.repeat(free.ports, samples, 0), voltages=np.repeat(free.voltages, samples, 0)
    )
    seen = observed(chip, many, 7)
    read = seen.periphery.read(many.ports) - many.ports
    total = np.full(chip.blocks.size, chip.neuron.leak)
    for bank in chip.circuit.banks:
        total[chip.blocks.slices[bank.post]] += chip.devices[bank.array].actual.sum(axis=(0, 2))
    node = 4 * BOLTZMANN * 400 * total * 1e9 / chip.blocks.load**2
    expected = free.slopes()[0] ** 2 * node + 50e-6**2
    assert (free.slopes()[0] ** 2 * node).max() > 50e-6**2
    np.testing.assert_allclose(read.std(axis=0) ** 2, expected, rtol=6 * np.sqrt(2 / samples))
    assert np.abs(read.mean(axis=0)).max() < 5 * np.sqrt(expected.max() / samples)
    shifts = seen.periphery.read_shifts(np.zeros((1, *many.ports.shape)), samples, many.ports)[0]
    np.testing.assert_allclose(shifts.std(axis=0) ** 2, 2 * expected, rtol=6 * np.sqrt(2 / samples))
    assert np.array_equal(observed(chip, many, 7).periphery.read(many.ports) - many.ports, read)


def test_what_a_current_amplifier_returns_is_noise_times_its_gain() -> None:
    """In a resistive network a node has no leak, and hears the devices above it through its own amplifier."""
    network = {"chip.family": "resistive", "chip.columns": "passive", "resistive.gain": 4.0,
               "mismatch.amplifier_gain": 0.2, "noise.bandwidth": "1MHz", "homeostat.mode": "off",
               "learning.cost": "squared-error"}  # fmt: skip
    chip = chip_of(network)
    free = chip.relax(np.full((1, 64), 0.5))
    found = thermal_noise(chip, free) / np.abs(free.slopes())
    for bank in (bank for bank in chip.circuit.banks if bank.returned):
        assert not np.allclose(chip.drivers[bank.name], 1)
    for node in range(chip.blocks.size):
        total = 0.0
        for bank in chip.circuit.banks:
            place = chip.blocks.slices[bank.post]
            if place.start <= node < place.stop:
                amplified = chip.drivers[bank.name][node - place.start] if bank.returned else 1.0
                total += amplified**2 * float(chip.planes(bank)[:, node - place.start].sum())
        want = 4 * BOLTZMANN * 300 * total * 1e6 / float(chip.blocks.load[node]) ** 2
        assert found[0, node] ** 2 == pytest.approx(want, rel=1e-6)


def test_a_bandwidth_of_the_node_gives_k_t_over_c() -> None:
    """The noise bandwidth of one pole, ``G / 4C``, makes of ``4kT/G`` the equipartition's ``kT/C``."""
    chip = chip_of({"chip.columns": "passive"})
    node, capacitance = 0, chip.circuit.design.neuron.capacitance
    band = float(chip.blocks.load[node]) / (4 * capacitance)
    wide = chip_of({"chip.columns": "passive", "noise.bandwidth": band})
    free = wide.relax(np.zeros((1, 64)))
    found = (thermal_noise(wide, free) / free.slopes())[0, node]
    assert found**2 == pytest.approx(BOLTZMANN * 300 / capacitance, rel=1e-9)


def test_without_a_bandwidth_readings_are_as_they_were() -> None:
    chip = chip_of()
    free = chip.relax(np.zeros((1, 64)))
    assert observed(chip, free, 3).periphery is chip.periphery


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flicker", -1e-9), ("flicker", 2.0), ("f_low", 0.0), ("f_low", "1s"), ("f_high", "1e13Hz"),
        ("telegraph_share", 1.1), ("telegraph_amplitude", 2.1), ("telegraph_rate", -0.1),
        ("bandwidth", "1e13Hz"),
    ],
)  # fmt: skip
def test_noises_that_cannot_be(key: str, value: object) -> None:
    with pytest.raises(DesignError, match=rf"noise.{key} = .*allowed: "):
        Design().replace(f"noise.{key}", value)


def test_a_band_needs_a_width() -> None:
    with pytest.raises(DesignError, match=r"noise\.f_high = 10Hz: must be above noise\.f_low = 10Hz"):
        NoiseSpec(f_low=10.0, f_high=10.0)
