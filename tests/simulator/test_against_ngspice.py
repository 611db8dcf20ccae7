"""Every analysis against ngspice: the curated netlists of ``circuits/`` and generated ones.

What is known of ngspice 39, and kept out of these netlists because the two programs mean different things:
``limit()`` draws a random number; a closed switch counts as open in ``.ac`` and ``.noise``; ``.ac lin 2``
gives one point; the small signals of a MOS transistor with body effect are wrong where its bulk conducts, and
the noise of a diode's series resistance with ``area`` or ``m``. Its MOS level 1 has gate capacitances only
where TOX is given. Its k/q is CODATA 2014's. A ``.nodeset`` does not survive its gmin stepping.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from ohmostat.simulator.deck import Deck
from ohmostat.simulator.devices import DEVICES
from ohmostat.simulator.noise import noise
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.small_signal import LinearCircuit, ac, transfer
from ohmostat.simulator.spice_analyses import Ac, DcSweep, Noise, Transfer
from ohmostat.simulator.spice_analyses import Transient as TransientAnalysis
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.sweeps import dc_sweep
from ohmostat.simulator.transient import Traces, Transient, transient
from ohmostat.simulator.waveforms import Exponential, PiecewiseLinear, Pulse, Sine

from . import compare
from .generated import circuit

T = TypeVar("T")
NO_CARDS = {"bulk_diode", "logistic", "tanh", "softplus"}  # part of a MOSFET; neurons, written as B sources
OSCILLATORS = {  # and a node whose crossings tell the cycles apart
    "relaxation-oscillator": "a",
    "ring-oscillator-3": "n1",
    "ring-oscillator-5": "n1",
    "van-der-pol": "a",
}
GENERATED = {"op": 120, "ac": 100, "noise": 60, "tran": 64}  # circuits of each analysis: seeds from 0
SEEDS = {kind: range(count) for kind, count in GENERATED.items()}
CIRCUITS = Path(__file__).parent / "circuits"


@pytest.fixture(autouse=True)
def ngspice() -> None:
    compare.require_ngspice()


def curated(kind: str) -> list[str]:
    """Names of the curated netlists that ask for an analysis."""
    asked = re.compile(rf"^\.{kind}\b", re.MULTILINE)
    return sorted(path.stem for path in CIRCUITS.glob("*.cir") if asked.search(path.read_text()))


def generated(seed: int, kind: str) -> str:
    """With EKV transistors, but for noise: ngspice has theirs from B sources, which make none."""
    return circuit(seed, kind, ekv=kind != "noise")


def read(name: str) -> str:
    return (CIRCUITS / f"{name}.cir").read_text()


def analysis_of(deck: Deck, kind: type[T]) -> T:
    (found,) = (analysis for analysis in deck.analyses if isinstance(analysis, kind))
    return found


def linearised(deck: Deck) -> LinearCircuit:
    net = deck.netlist()
    return LinearCircuit(net, operating_point(net, initial=deck.nodeset))


def check_operating_point(text: str) -> None:
    deck = parse_spice(text)
    point = operating_point(deck.netlist(), initial=deck.nodeset)
    excess = compare.points(point, compare.reference(text, "op"))
    assert excess.value <= 1, excess


def check_ac(text: str) -> None:
    deck, waves = parse_spice(text), compare.reference(text, "ac")
    frequencies = analysis_of(deck, Ac).frequencies()
    np.testing.assert_allclose(frequencies, waves["frequency"], rtol=1e-12)
    ours = ac(linearised(deck), waves["frequency"])
    excess = compare.small_signals(ours, waves)
    assert excess.value <= 1, excess


def check_noise(text: str) -> None:
    deck, waves = parse_spice(text), compare.reference(text, "noise")
    asked = analysis_of(deck, Noise)
    np.testing.assert_allclose(asked.frequencies(), waves["frequency"], rtol=1e-12)
    ours = noise(linearised(deck), asked.output, asked.source, waves["frequency"])
    excess = compare.noise(ours, waves)
    assert excess.value <= 1, excess


def simulate(deck: Deck, rtol: float) -> Transient:
    """The transient that a deck asks for."""
    asked, net = analysis_of(deck, TransientAnalysis), deck.netlist()
    stored = {e.name: e.initial for e in deck.elements if e.initial is not None}
    uic = asked.use_initial_conditions
    return transient(
        net, asked.stop, initial=deck.ic, uic=uic, stored=stored if uic else None,
        start=operating_point(net, initial=deck.nodeset, time=0.0) if deck.nodeset else None,
        max_step=asked.max_step, rtol=rtol, atol=1e-7, current_atol=1e-12,
    )  # fmt: skip


def check_transient(text: str, rtol: float, oscillates: str | None = None) -> None:
    ours, waves = simulate(parse_spice(text), rtol), compare.reference(text, "tran")
    last = ours.times[-1]

    def at(times: compare.Array) -> Traces:
        return ours.at(np.minimum(times, last))

    excess = compare.oscillation(at, waves, oscillates) if oscillates else compare.transient(at, waves)
    assert excess.value <= 1, excess


def test_generated_circuits_have_all_kinds_of_elements() -> None:
    """Each kind in each analysis, waveforms of all shapes in transients, and all of it in subcircuits."""
    for kind, seeds in SEEDS.items():
        decks = [parse_spice(generated(seed, kind)) for seed in seeds]
        elements = [element for deck in decks for element in deck.elements]
        counts = Counter(element.kind for element in elements)
        least = dict.fromkeys(DEVICES.keys() - NO_CARDS, 20) | {"ekv": 0 if kind == "noise" else 20}
        assert {device: n for device, n in least.items() if counts[device] < n} == {}, kind
        shapes = Counter(type(element.waveform) for element in elements)
        assert (
            kind != "tran" or min(shapes[shape] for shape in (Pulse, Sine, Exponential, PiecewiseLinear)) > 15
        )
        assert sum("." in element.name for element in elements) > 100  # in subcircuits
        assert sum(element.model != "" for element in elements) > 100
        assert sum(bool(deck.nodeset or deck.ic) for deck in decks) > 2
        assert sum(deck.options.temp != deck.options.tnom for deck in decks) > 15


@pytest.mark.parametrize("name", curated("op"))
def test_operating_points_of_curated_circuits(name: str) -> None:
    check_operating_point(read(name))


@pytest.mark.parametrize("seed", SEEDS["op"])
def test_operating_points_of_generated_circuits(seed: int) -> None:
    check_operating_point(generated(seed, "op"))


@pytest.mark.parametrize("name", curated("ac"))
def test_ac_of_curated_circuits(name: str) -> None:
    check_ac(read(name))


@pytest.mark.parametrize("seed", SEEDS["ac"])
def test_ac_of_generated_circuits(seed: int) -> None:
    check_ac(generated(seed, "ac"))


@pytest.mark.parametrize("name", curated("noise"))
def test_noise_of_curated_circuits(name: str) -> None:
    check_noise(read(name))


@pytest.mark.parametrize("seed", SEEDS["noise"])
def test_noise_of_generated_circuits(seed: int) -> None:
    check_noise(generated(seed, "noise"))


@pytest.mark.parametrize("name", curated("tran"))
def test_transients_of_curated_circuits(name: str) -> None:
    oscillates = OSCILLATORS.get(name)  # phases are not compared, and errors of one cycle do not add up
    check_transient(read(name), 1e-5 if oscillates else 2e-6, oscillates)


@pytest.mark.parametrize("seed", SEEDS["tran"])
def test_transients_of_generated_circuits(seed: int) -> None:
    check_transient(generated(seed, "tran"), 1e-5)


@pytest.mark.parametrize("name", curated("tf"))
def test_transfer_functions_of_curated_circuits(name: str) -> None:
    text = read(name)
    deck = parse_spice(text)
    asked = analysis_of(deck, Transfer)
    ours = transfer(linearised(deck), asked.output, asked.source)
    waves = compare.reference(text, "tf")
    excess = compare.transfer(ours.gain, ours.input_resistance, ours.output_resistance, waves)
    assert excess.value <= 1, excess


@pytest.mark.parametrize("name", curated("dc"))
def test_dc_sweeps_of_curated_circuits(name: str) -> None:
    text = read(name)
    deck = parse_spice(text)
    sweeps = analysis_of(deck, DcSweep).sweeps
    axes = {sweep.source: sweep.values() for sweep in sweeps}
    ours = dc_sweep(deck.netlist(), axes, initial=deck.nodeset)
    waves = compare.reference(text, "dc")
    inner = axes[sweeps[0].source]
    np.testing.assert_allclose(waves["sweep"], np.resize(inner, waves["sweep"].size), atol=1e-12)
    excess = compare.points(ours, waves)
    assert excess.value <= 1, excess
