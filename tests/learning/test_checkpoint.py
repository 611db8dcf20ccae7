"""A run that was put down and taken up equals one that never stopped."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from ohmostat.circuits.design import Design
from ohmostat.circuits.files import ArchiveError
from ohmostat.learning import checkpoint
from ohmostat.learning.data import load
from ohmostat.learning.dataset import Dataset
from ohmostat.learning.figures import training_figure
from ohmostat.learning.training import Trainer


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits").subset(120, 60)


def trainer(digits: Dataset, changes: dict[str, object] | None = None) -> Trainer:
    small = {"chip.layers": [64, 16, 10], "learning.batch": 20, "learning.epochs": 3,
             "mismatch.conductance": 0.3}  # fmt: skip
    return Trainer.from_design(Design.named("digits").replace(small | (changes or {})), digits, chip_seed=2)


def assert_equal(ours: Trainer, theirs: Trainer) -> None:
    """Devices, readout and all that was recorded, but how long it took."""
    for name, devices in ours.chip.devices.items():
        assert np.array_equal(devices.actual, theirs.chip.devices[name].actual)
        assert np.array_equal(devices.target, theirs.chip.devices[name].target)
    assert np.array_equal(ours.readout.weight, theirs.readout.weight)
    recorded, again = ours.history_arrays(), theirs.history_arrays()
    for name in recorded.keys() - {"seconds"}:
        np.testing.assert_array_equal(recorded[name], again[name], err_msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("mode", ["off", "probe", "feedback", "decay", "trim", "aep-measured"])
def test_resumed_equals_uninterrupted(digits: Dataset, tmp_path: Path, mode: str, optimizer: str) -> None:
    # Measurements of a cycle lie open at the epoch's end: 6 batches of 5 probes, in cycles of 16.
    changes = {"homeostat.probes": 5, "learning.optimizer": optimizer, "homeostat.noise": "1nA",
               "learning.rate": 0.01}  # fmt: skip
    if mode == "aep-measured":
        changes |= {"learning.rule": mode}
    elif mode == "feedback":
        changes |= {"homeostat.mode": "probe", "homeostat.moves": mode}
    else:
        changes |= {"homeostat.mode": mode}
    if mode == "trim":
        changes |= {"chip.family": "shared", "mismatch.driver_gain": 0.2}
    whole, first, second = (trainer(digits, changes) for _ in range(3))
    whole.fit(2)
    first.fit(1)
    checkpoint.save(first, tmp_path / "run.h5")
    assert checkpoint.resume(second, tmp_path / "run.h5")
    second.fit(2)
    assert_equal(whole, second)


def test_noise_is_the_same_after_a_pause(digits: Dataset, tmp_path: Path) -> None:
    noisy = {"noise.flicker": 1e-3, "noise.telegraph_share": 0.2, "noise.bandwidth": "100MHz"}
    whole, first, second, quiet = (trainer(digits, changes) for changes in (noisy, noisy, noisy, {}))
    whole.fit(2)
    quiet.fit(2)
    first.fit(1)
    checkpoint.save(first, tmp_path / "run.h5")
    assert checkpoint.resume(second, tmp_path / "run.h5")
    second.fit(2)
    assert_equal(whole, second)
    for name, devices in whole.chip.devices.items():
        assert not np.array_equal(devices.actual, quiet.chip.devices[name].actual)


def test_a_trainings_figure_counts_whole_epochs(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    trained = trainer(digits)
    for epochs in (1, 2, 3):
        trained.fit(epochs)
        training_figure(trained.history, tmp_path / "run.png")
        axes = drawn.pop().axes
        losses = next(one for one in axes if one.get_ylabel() == "training loss").get_lines()[0].get_ydata()
        np.testing.assert_array_equal(losses, [epoch.loss for epoch in trained.history])
        ticks = axes[-1].get_xticks()
        assert len(ticks) > epochs and np.array_equal(ticks, np.round(ticks))


def test_nothing_to_take_up(digits: Dataset, tmp_path: Path) -> None:
    assert not checkpoint.resume(trainer(digits), tmp_path / "none.h5")


def test_what_is_not_this_run_is_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    checkpoint.save(trainer(digits), path)
    with pytest.raises(ArchiveError, match="not a checkpoint of this design, chip and data"):
        checkpoint.resume(trainer(digits, {"learning.rate": 0.5}), path)
    with pytest.raises(
        ArchiveError, match=r"\(learning.rate 0.03 -> 0.5, learning.epochs 3 -> 4\): undo that to go on"
    ):
        checkpoint.resume(trainer(digits, {"learning.rate": 0.5, "learning.epochs": 4}), path)
    with pytest.raises(ArchiveError, match=r"\(the data are others\)"):
        checkpoint.resume(trainer(digits.subset(100, 60)), path)
    other = Trainer.from_design(trainer(digits).design, digits, chip_seed=3)
    with pytest.raises(ArchiveError, match=r"\(chip 2 -> 3\)"):
        checkpoint.resume(other, path)
    begun = trainer(digits)
    begun.readout.weight[0, 0] += 1.0
    checkpoint.save(trainer(digits), tmp_path / "begun.h5", checkpoint.state_of(begun))
    with pytest.raises(ArchiveError, match="the chip began otherwise"):
        checkpoint.resume(trainer(digits), tmp_path / "begun.h5")
    with h5py.File(path, "a") as file:
        del file["readout/bias"]
    with pytest.raises(ArchiveError, match="cannot be read"):
        checkpoint.resume(trainer(digits), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArchiveError, match="cannot be read"):
        checkpoint.resume(trainer(digits), path)
