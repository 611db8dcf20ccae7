"""A trained chip at corners: the table against each corner tested by itself, and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import CornerSpec
from ohmostat.cli import main
from ohmostat.learning import corners
from ohmostat.learning.corners import CornerResult
from ohmostat.learning.data import load
from ohmostat.learning.gains import FixedGain
from ohmostat.learning.homeostat import Homeostat
from ohmostat.learning.training import Trainer


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corners") / "run.h5"
    small = ["--set", "learning.epochs=1", "--set", "task.train=400", "--set", "task.test=100"]
    assert main(["train", "digits", *small, "--quiet", "--out", str(path)]) == 0
    return path


def test_the_grid_keeps_what_is_not_varied() -> None:
    base = CornerSpec(device_tempco=1e-3, process_spread=0.3)
    found = list(corners.grid(base))
    assert len(found) == len(set(found)) == 27
    assert {(c.device_tempco, c.process_spread) for c in found} == {(1e-3, 0.3)}
    assert {c.voltage for c in found} == {0.9, 1.0, 1.1} and {c.temperature for c in found} == {233, 300, 398}
    with pytest.raises(DesignError, match=r"corner.temperature = 10K: is outside the range"):
        list(corners.grid(base, temperatures=(10.0,)))


IDLE: dict[
    str, tuple[dict[str, object], set[str]]
] = {  # of a design, at the default corners: which axes change nothing
    "digits": ({}, {"temperature"}),
    "warm": ({"corner.device_tempco": "-1m/K"}, set()),
    "leaky": ({"corner.leak_tempco": "1m/K"}, set()),
    "weak": ({"corner.inversion": "weak"}, set()),
    "noisy": ({"noise.bandwidth": "1MHz"}, set()),
    "typical": ({"corner.process_spread": 0.0}, {"process", "temperature"}),
    "ideal": ({"chip.family": "resistive"}, {"process", "temperature"}),
    "diodes": ({"chip.family": "resistive", "resistive.diode": "shockley"}, {"process"}),
    "triode": ({"chip.family": "resistive", "mismatch.device_overdrive": "1V"}, {"temperature"}),
}


@pytest.mark.parametrize("name", IDLE)
def test_an_axis_is_idle_where_it_leaves_the_engines_circuit_as_it_is(name: str) -> None:
    changes, expected = IDLE[name]
    if "chip.family" in changes:
        changes = {"chip.columns": "passive", "homeostat.mode": "off", "learning.angle": 0.0} | changes
    design = Design.named("digits").replace({"chip.layers": [64, 5, 10]} | changes)
    places = list(corners.grid(design.corner))
    found = corners.idle(design, places)
    assert found.keys() == expected
    left = corners.without(places, found, design.corner)
    assert len(left) == 27 // 3 ** len(expected)
    chip, x = Circuit(design).fabricate(seed=1), np.ones((1, 64))
    for axis, values in found.items():
        assert {getattr(place, axis) for place in left} == {getattr(design.corner, axis)}
        moved: list[dict[str, Any]] = [{axis: value} for value in values]
        ports = [chip.at(replace(design.corner, **one)).relax(x).ports for one in moved]
        assert np.array_equal(ports[0], ports[1]) and np.array_equal(ports[0], ports[2])


def test_a_sweep_over_keys_of_the_corner_knows_which_are_idle() -> None:
    design = Design.named("digits")

    def found(*points: dict[str, object]) -> set[str]:
        return set(corners.idle_keys(design.replace(point) for point in points))

    heat, tempco = "corner.temperature", "corner.device_tempco"
    assert found({heat: 233.0}, {heat: 398.0}) == {heat}
    assert found({tempco: 0.0}, {tempco: 1e-3}) == {tempco}  # at 300 K, from which it counts
    assert found({heat: 300.0, tempco: 1e-3}, {heat: 398.0, tempco: 1e-3}) == set()
    assert found({"corner.process": "slow"}, {"corner.process": "fast"}) == set()
    assert found({heat: 300.0}) == found({"neuron.gain": 1.0}, {"neuron.gain": 2.0}) == set()
    (said,) = corners.warnings(corners.idle_keys(design.replace({heat: value}) for value in (233.0, 398.0)))
    assert said.startswith(f"{heat} changes nothing for this design: its runs at 233K, 398K are the same (")


def test_the_nominal_corner_is_what_training_recorded() -> None:
    design = Design.named("digits").replace({"learning.epochs": 1, "learning.batch": 20})
    trainer = Trainer.from_design(design, load("digits").subset(200, 100))
    last = trainer.fit()[-1]
    found = corners.examine(trainer, [CornerSpec(), CornerSpec(voltage=0.6)])
    assert (found[0].accuracy, found[0].unsettled) == (last.accuracy, last.unsettled_test)
    assert found[0].cosine == pytest.approx(last.alignment["forward0"], abs=1e-6)
    assert corners.worst(found).accuracy == min(one.accuracy for one in found)


def test_a_chip_can_be_trained_at_a_corner() -> None:
    design = Design.named("digits").replace(
        {"learning.epochs": 2, "corner.voltage": 0.8, "corner.process": "slow",
         "corner.temperature": "398K", "corner.device_tempco": "-1m/K"}
    )  # fmt: skip
    history = Trainer.from_design(design, load("digits").subset(600, 200)).fit()
    assert history[-1].accuracy > history[0].accuracy + 0.3


def test_the_worst_is_the_least_accurate() -> None:
    one, two = (
        CornerResult(CornerSpec(), 0.7, 0.9, 0.0, 84),
        CornerResult(CornerSpec(process="slow"), 0.7, 0.8, 0.0, 84),
    )
    assert corners.worst([one, two, CornerResult(CornerSpec(voltage=0.9), 0.8, 0.1, 0.0, 84)]) is two
    assert [line.endswith("  nominal") for line in corners.table([one, two]).splitlines()] == [
        False, True, False, False, False,
    ]  # fmt: skip
    worst, foot = corners.table([one, two]).splitlines()[-2:]
    assert worst == "worst: slow, 1 of the supply, 300 K (27 C): accuracy 0.7000 ± 0.0500"
    assert foot.startswith("accuracy: of 84 test samples, the same at every corner; ±")


def test_the_command(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "corners.csv", tmp_path / "corners.png"
    arguments = ["--set", "corner.device_tempco=-2m/K", "--process", "slow,typical", "--supply", "1",
                 "--temperature", "300,398", "--quiet", "--out", str(out), "--plot", str(plot)]  # fmt: skip
    assert main(["corners", str(run_file), *arguments]) == 0
    text = capsys.readouterr().out
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["process"], float(row["temperature_K"])) for row in rows] == [
        ("slow", 300), ("slow", 398), ("typical", 300), ("typical", 398),
    ]  # fmt: skip
    lowest = min(float(row["accuracy"]) for row in rows)
    assert f"accuracy {lowest:.4f}" in text.split("worst:")[1] and "-0.002/K" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert load_chip(run_file).circuit.design.corner == CornerSpec()


def test_that_no_corner_is_nominal_is_told() -> None:
    cold, slow = CornerSpec(temperature=233.0), CornerSpec(process="slow")
    assert corners.lacks_nominal([cold, slow], ()) and not corners.lacks_nominal([cold, CornerSpec()], ())
    assert not corners.lacks_nominal([cold, slow], ["temperature"])  # the same circuit as the nominal one


def test_what_changes_nothing_is_said_and_shown_once(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["corners", str(run_file), "--process", "typical", "--supply", "1", "--temperature", "233,398"]
    assert main(ask) == 0
    text = capsys.readouterr().out
    assert "temperature changes nothing for this design: each row stands for 233 K (-40 C), 398 K (" in text
    assert text.count("typical     ") == 1
    assert main([*ask, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    accuracy, error = (found["corners"][0][key] for key in ("accuracy", "accuracy_error"))
    assert found["samples"] == 100 and error == pytest.approx((accuracy * (1 - accuracy) / 100) ** 0.5)
    assert found["unchanged"] == {"temperature": [233, 398]} and len(found["corners"]) == 1


def test_the_homeostat_mends_what_conducts_at_the_corner(make_chip: Callable[..., Chip]) -> None:
    """Exact probes and half of the asymmetry either way: nothing is left after one cycle."""
    chip = make_chip(
        {"mismatch.conductance": 0.3, "learning.angle": 30.0, "learning.init_scale": 0.3,
         "device.g_max": "1S", "device.g_min": "0S",
         "corner.temperature": "400K", "corner.device_tempco": "-3m/K"}
    )  # fmt: skip
    assert chip.conduction == pytest.approx(0.7)
    homeostat = Homeostat(FixedGain(0.5), probes=64)
    before = np.linalg.norm(homeostat.asymmetry(chip)["forward1.forward"])
    chip.program(homeostat.correct(chip))
    assert np.linalg.norm(homeostat.asymmetry(chip)["forward1.forward"]) < 1e-9 * before
