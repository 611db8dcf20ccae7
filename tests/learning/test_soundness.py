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
    assert soundness.of_run(sound) == []
    left, test, remedy = soundness.of_run(sound | {"left_out": 0.95, "unsettled_test": 0.2})
    assert left.startswith("in the last epoch 95.0% of training samples were left out of the updates")
    assert "20.0% of test samples did not settle" in test and remedy == soundness.REMEDY
    assert all(key in Design().to_toml() for key in ("init_scale", "gain", "rate", "beta"))


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
    assert main([*line[:-1], str(tmp_path / "sound.h5"), "--json"]) == 0
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
