"""A training of which too many samples are lost says so at its end, and so does a sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning import soundness
from ohmostat.learning.sweep_result import SweepResult

SMALL = "--set learning.epochs=1 --set task.train=100 --set task.test=50"
STEEP = "--set neuron.gain=50 --set learning.init_scale=5"  # every neuron jumps from rail to rail


def test_a_training_is_warned_of_above_the_threshold_only() -> None:
    sound = {"left_out": soundness.MANY, "unsettled_test": 0.0, "unstable": 0.0}
    assert soundness.of_run(sound, Design(), 100) == []
    left, test, remedy = soundness.of_run(sound | {"left_out": 0.95, "unsettled_test": 0.2}, Design(), 100)
    assert left.startswith("in the last epoch 95.0% of training samples were left out of the updates")
    assert "20.0% of test samples did not settle" in test and remedy == soundness.REMEDY
    assert all(key in Design().to_toml() for key in ("init_scale", "gain", "rate", "beta"))


def test_a_chip_that_learned_nothing_is_warned_of() -> None:
    """0.1 of 10000 has a standard deviation of 0.003; a guess's loss among ten is ln 10 = 2.3026."""
    good = {"accuracy": 0.110, "loss": 2.30, "epoch": 2}

    def told(last: dict[str, float], design: Design | None = None, tested: int = 10_000) -> list[str]:
        return soundness.of_run(good | last, design or Design(), tested)

    assert told({}) == []
    guessed, remedy = told({"accuracy": 0.108})
    assert (
        "accuracy, 0.1080, is no better than guessing among 10 classes (0.1, and up to 0.1090 by" in guessed
    )
    assert remedy == soundness.NOTHING
    assert told({"accuracy": 0.18}, tested=100) != [] == told({"accuracy": 0.2}, tested=100)
    assert told({"loss": 2.31}) == ["the loss, 2.3100, is no lower than a guess's, ln(10)", soundness.NOTHING]
    assert told({"loss": 2.31, "epoch": 1}) == []  # its mean begins before anything was learned
    assert told({"loss": 2.31}, Design().replace("learning.cost", "squared-error")) == []
    assert told({}, Design().replace({"task.data": "cifar-100", "chip.layers": [3072, 20, 100]})) == []


def test_the_leak_is_named_where_it_may_be_why() -> None:
    design = Design().replace("device.g_max", "124.6uS")
    for last in ({"left_out": 0.964}, {"accuracy": 0.095}):
        found = soundness.of_run(last, design, 1000)
        assert found[1].startswith("neuron.leak = 10uS is far from") and "neuron.leak = 62.3uS" in found[2]
    assert soundness.of_run({"left_out": 0.0}, design, 1000) == []


def test_a_sweep_counts_the_runs_concerned() -> None:
    cells = {"none": np.array([[0.0, 0.4], [0.9, 0.05]]), "adjoint": np.zeros((2, 2))}
    result = SweepResult(Design(), ((), ()), ("none", "adjoint"), {"left_out": cells})
    found, remedy = soundness.of_sweep(result)
    assert found.startswith("in the last epoch of 2 of 8 runs (arms: none) more than 10% of training samples")
    assert "(up to 90.0%)" in found
    assert remedy == soundness.REMEDY
    cells["none"][...] = 0
    assert soundness.of_sweep(result) == []


@pytest.mark.parametrize("command", ["train", "sweep --chips 1 --arms none --workers 1"])
def test_the_commands_warn(
    command: str, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*shlex.split(f"{command} digits {SMALL}"), "--out", str(tmp_path / "new.h5")]
    sound = ["--set", "task.train=1000", "--out", str(tmp_path / "sound.h5"), "--json"]
    assert main([*line[:-2], *sound]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["warnings"] == [] and "warning" not in said.err
    line += shlex.split(STEEP)
    assert main([*line, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["warnings"]
    assert "of training samples" in found[0] and found[-1] == soundness.REMEDY
    assert said.err.endswith("warning: " + "\n         ".join(found) + "\n")
    assert main([*line, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
