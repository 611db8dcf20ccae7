"""Comparisons: the keys that differ, and differences, paired by chip, against the files' own numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import Run, read_run, save_chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning.compare import compare_runs, compare_sweeps, plain, text_table
from ohmostat.learning.points import Point, grid
from ohmostat.learning.sweep_result import SweepResult

from .reporting import SIGMA, Page, made_up, page_of

LEVELS = grid({SIGMA: (0.0, 0.5, 1.0)})


def run_of(accuracy: list[float], seed: int = 0, **changes: object) -> Run:
    design = Design.named("digits").replace(changes)
    history = {"accuracy": np.array(accuracy), "inference_energy": np.array([1e-9, 2.5e-9])[: len(accuracy)]}
    return Run(Circuit(design).fabricate(seed=seed), None, history)


def sweep_of(cells: np.ndarray, points: tuple[Point, ...] = LEVELS, **changes: object) -> SweepResult:
    return SweepResult(
        Design.named("digits").replace(changes), points, ("none",), {"accuracy": {"none": cells}}
    )


def test_runs_are_told_apart_by_keys_and_last_values() -> None:
    runs = [run_of([0.1, 0.5]), run_of([0.1, 0.75], 3, **{"learning.rate": 0.01}), run_of([0.1, 0.25])]
    what = compare_runs(["a.h5", "b.h5", "c.h5"], runs)
    usual = str(Design.named("digits").learning.rate)
    assert what.differing() == [("learning.rate", usual, "0.01", usual), ("chip seeds", "0", "3", "0")]
    assert what.heads() == ("a.h5", "b.h5", "c.h5", "b.h5 - a.h5", "c.h5 - a.h5")
    lines = {name: cells for name, *cells in what.lines()}
    assert lines["test accuracy"] == ["0.5", "0.75", "0.25", "+0.25", "-0.25"]
    assert lines["energy of an inference"] == ["2.5nJ", "2.5nJ", "2.5nJ", "0J", "0J"]


def test_equal_runs_are_equal_and_same_names_are_numbered() -> None:
    what = compare_runs(["run.h5", "run.h5"], [run_of([0.1, 0.5])] * 2)
    assert what.differing() == []
    assert "The designs are equal." in text_table(what)
    assert what.names == ("1: run.h5", "2: run.h5")


def test_sweeps_are_compared_chip_by_chip() -> None:
    random = np.random.default_rng(0)
    first = random.random((3, 5))
    gain = np.array([0.1, 0.2, 0.3])
    second = first[:, :3] + gain  # of three chips, each better by its own constant
    what = compare_sweeps(["a", "b"], [sweep_of(first), sweep_of(second)])
    assert len(what.rows) == 3
    for row, cells in zip(what.rows, first, strict=True):
        a, _, difference = row.cells()
        mean, error = (float(part) for part in a.split(" ± "))
        assert mean == pytest.approx(cells.mean(), rel=1e-3)
        assert error == pytest.approx(cells.std(ddof=1) / np.sqrt(5), rel=0.05)
        paired, error = (float(part) for part in difference.split(" ± "))
        assert paired == pytest.approx(0.2) and difference.startswith("+")
        assert error == pytest.approx(0.1 / np.sqrt(3), rel=0.05)  # what chips have in common is gone


def test_a_program_is_told_the_tables_numbers() -> None:
    first, second = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]]), np.array([[2.0, 5.0], [1.0, 1.0]])
    sweeps = [sweep_of(first, LEVELS[:2]), sweep_of(second, LEVELS[:2], **{"learning.rate": 0.01})]
    found = plain(compare_sweeps(["a", "b"], sweeps))
    assert found["names"] == ("a", "b")
    usual = str(Design.named("digits").learning.rate)
    assert found["differing"] == {"learning.rate": [usual, "0.01"], "chip seeds": ["0 to 2", "0 to 1"]}
    row, other = found["rows"]  # type: ignore[misc]
    assert (row["quantity"], row["arm"], row["point"]) == ("accuracy", "none", {SIGMA: 0.0})
    np.testing.assert_allclose(row["means"], [(3, np.sqrt(7 / 3)), (3.5, 1.5)])
    np.testing.assert_allclose(row["differences"], [(2, 1)])  # of 1 and 3, the chips that both have
    assert other["differences"] == [(1, 0)]
    alone = plain(compare_runs(["a", "b"], [run_of([0.1, 0.5]), run_of([0.1, 0.75])]))["rows"]
    np.testing.assert_array_equal(alone[0]["differences"], [(0.25, np.nan)])  # type: ignore[index]


def test_only_points_that_all_sweeps_have_are_compared() -> None:
    first, second = sweep_of(np.ones((3, 1))), sweep_of(np.full((2, 1), 3.0), (LEVELS[2], LEVELS[0]))
    second.values["accuracy"]["none"][0] = 5  # at σ = 1
    what = compare_sweeps(["a", "b"], [first, second])
    assert [(row.words(), row.cells()) for row in what.rows] == [
        ("test accuracy (none, conductance=0)", ["1", "3", "+2"]),
        ("test accuracy (none, conductance=1)", ["1", "5", "+4"]),
    ]  # fmt: skip
    elsewhere = sweep_of(np.ones((1, 1)), grid({SIGMA: (0.7,)}))
    with pytest.raises(ValueError, match="share no point and arm; sweep the same levels"):
        compare_sweeps(["a", "b"], [first, elsewhere])


def panel(found: Page, *at: str) -> list[list[float]]:
    return [series["y"] for series in found.panel(*at)["series"]]


def test_the_command_compares_runs_on_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--quiet", "--set", "learning.epochs=1", "--set", "task.train=100", "--set", "task.test=50"]
    files = [tmp_path / name for name in ("a.h5", "b.h5")]
    for path, angle in zip(files, ("0", "60"), strict=True):
        assert (
            main(["train", "digits", *small, "--set", f"learning.angle={angle}deg", "--out", str(path)]) == 0
        )
    capsys.readouterr()
    out = tmp_path / "c.html"
    assert main(["compare", *map(str, files), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert re.search(r'learning\.angle +"0deg" +"60deg"', text) and "homeostat.mode" not in text
    found = page_of(out)
    assert "learning.angle" in found.words
    for path, shown in zip(files, panel(found, "forward–feedback angle, forward1"), strict=True):
        np.testing.assert_allclose(shown, read_run(path).history["angle/forward1"], rtol=1e-4)
    save_chip(tmp_path / "chip.h5", read_run(files[0]).chip)
    assert main(["compare", str(files[0]), str(tmp_path / "chip.h5")]) == 2
    assert "holds a chip without a history" in capsys.readouterr().err


def test_a_chip_as_measured_is_compared_by_its_design(
    good_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, back, out = (
        str(path) for path in (good_files / "run.h5", tmp_path / "back.h5", tmp_path / "c.html")
    )
    assert main(["measured", run, str(good_files / "measured.csv"), "--out", back]) == 0
    devices = sum(array.target.size for array in read_run(back).chip.devices.values())
    told = f"{devices - 1} of {devices} devices are not in measured.csv, and stay as they were"
    assert told in capsys.readouterr().err
    assert main(["compare", run, back, "--out", out]) == 0
    told = "back.h5 has no history, being no chip that was trained as it is. 'ohmostat corners' of run.h5 and"
    assert f"The designs are equal.\n\nWhat they came to is not compared: {told}" in capsys.readouterr().out
    assert told in page_of(Path(out)).words
    assert main(["compare", run, back, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == [] and told in found["remark"]


def test_the_command_compares_sweeps_on_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = Design.named("digits")
    first = made_up(tmp_path / "a.h5", LEVELS, 3, digits)
    second = made_up(tmp_path / "b.h5", LEVELS[1:], 2, digits.replace("learning.rate", 0.01))
    out = tmp_path / "c.html"
    assert main(["compare", str(first), str(second), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "test accuracy (none, conductance=0.5)" in text and "conductance=0)" not in text
    found = page_of(out)
    for shown in panel(found, "test accuracy", "none", f"against {SIGMA}"):
        assert len(shown) == 2
    assert len(panel(found, "test accuracy", "none, conductance=1")[0]) == 3  # epochs
    assert main(["report", str(first), "--out", str(tmp_path / "a.html")]) == 0
