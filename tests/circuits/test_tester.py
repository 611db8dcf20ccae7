"""Lists of what to program, and measured conductances put back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.archive import read_run, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.specs import DeviceSpec, ProgrammingSpec
from ohmostat.circuits.tables import MeasurementError
from ohmostat.circuits.tester import doubts, export_csv, pulses_to, read_measured, take_measured, write_list
from ohmostat.cli import main

TILE = (4, 3)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def device_of(chip: Chip, row: dict[str, str]) -> tuple[int, ...]:
    """Plane, row and column in its whole array, worked out from the tile's name."""
    down, across = row["tile"].removeprefix("r").split("c")
    place = int(down) * TILE[0] + int(row["row"]), int(across) * TILE[1] + int(row["column"])
    return ("+-".index(row["plane"]), *place)


@pytest.mark.parametrize(("nonlinearity", "asymmetry"), [(0.0, 0.0), (0.8, 0.2), (2.0, -0.3)])
def test_as_many_pulses_as_come_nearest(nonlinearity: float, asymmetry: float) -> None:
    device, spec = DeviceSpec(), ProgrammingSpec(
        mode="pulses", pulse=0.02, nonlinearity=nonlinearity, asymmetry=asymmetry
    )  # fmt: skip
    walk, x = [0.0], 0.0
    while len(walk) < 400:
        x = min(x + 0.02 * (1 + asymmetry) * (1 + nonlinearity * (0.5 - x)), 1.0)
        walk.append(x)
    shares = np.linspace(0, 0.97, 200)
    found = pulses_to(device.g_min + shares * (device.g_max - device.g_min), device, spec)
    reached, step = np.array(walk)[found.astype(int)], 0.02 * (1 + asymmetry) * (1 + nonlinearity / 2)
    assert np.abs(reached - shares).max() <= 0.51 * step
    top = pulses_to(np.array([device.g_max]), device, spec)
    assert np.isfinite(top).all() and walk[int(top[0])] > 0.98


def test_a_list_has_every_device_once_by_tile(chip_of: Callable, tmp_path: Path) -> None:
    chip = chip_of()
    count = write_list(chip, tmp_path / "list.csv", TILE)
    rows = rows_of(tmp_path / "list.csv")
    assert count == len(rows) == sum(array.target.size for array in chip.devices.values())
    seen = set()
    for row in rows:
        place = device_of(chip, row)
        seen.add((row["array"], place))
        assert float(row["target_S"]) == chip.devices[row["array"]].target[place]
        assert 0 <= int(row["row"]) < TILE[0] and 0 <= int(row["column"]) < TILE[1]
    assert len(seen) == count


def test_what_was_measured_is_what_conducts(chip_of: Callable, tmp_path: Path) -> None:
    chip, again = chip_of(), chip_of()
    write_list(chip, tmp_path / "list.csv", TILE)
    rng, rows = np.random.default_rng(0), rows_of(tmp_path / "list.csv")[:-20]  # some were not measured
    for row in rows:
        row["conductance_uS"] = repr(1e6 * float(row["target_S"]) * rng.lognormal(0, 2))
    found = {d.array: d for d in take_measured(chip, write_rows(tmp_path / "m.csv", rows), TILE)}
    g_min, g_max = chip.limits
    for row in rows:
        place, array = device_of(chip, row), chip.devices[row["array"]]
        assert array.actual[place] == pytest.approx(float(row["conductance_uS"]) * 1e-6)
    for name, array in chip.devices.items():
        old, same = again.devices[name].actual, np.ones(array.actual.shape, bool)
        same[tuple(np.transpose([device_of(chip, r) for r in rows if r["array"] == name]))] = False
        assert np.array_equal(array.actual[same], old[same])
        off = ((array.actual - old) / (g_max - g_min))[~same]
        assert found[name].count == off.size and found[name].devices == off.size + same.sum()
        assert found[name].rms == pytest.approx(np.sqrt(np.mean(off**2)))
        assert found[name].largest == pytest.approx(np.abs(off).max())
        wrong = ((array.actual - array.target) / (g_max - g_min))[~same]
        assert found[name].target_rms == pytest.approx(np.sqrt(np.mean(wrong**2)))
        assert found[name].target_largest == pytest.approx(np.abs(wrong).max())
        assert np.all(array.actual <= array.deviation * g_max * (1 + 1e-9))
        usual = old <= again.devices[name].deviation * g_max
        kept = array.actual <= again.devices[name].deviation * g_max
        assert np.array_equal(array.deviation[kept & usual], again.devices[name].deviation[kept & usual])
        assert array.step / array.deviation == pytest.approx(
            again.devices[name].step / again.devices[name].deviation
        )
        assert np.array_equal(chip.weight(name), array.weight)
    before = chip.devices["forward1"].actual.copy()
    chip.program({"forward1": np.zeros(chip.weight("forward1").shape)})
    assert np.array_equal(chip.devices["forward1"].actual, before)  # nothing jumps to a limit


def test_a_reading_of_nothing_is_no_dead_device(chip_of: Callable, tmp_path: Path) -> None:
    """Readings are rounded: what rests may read 0 S, and can be programmed all the same."""
    chip = chip_of()
    write_list(chip, tmp_path / "l.csv", TILE)
    rows = rows_of(tmp_path / "l.csv")
    for row in rows:
        row["conductance_uS"] = f"{1e6 * float(row['target_S']):.1f}"
    steps = {name: array.step.copy() for name, array in chip.devices.items()}
    take_measured(chip, write_rows(tmp_path / "m.csv", rows), TILE)
    assert any(np.any(array.actual == 0) for array in chip.devices.values())
    for name, array in chip.devices.items():
        assert np.all(array.step >= steps[name] * (1 - 1e-12))


@pytest.mark.parametrize(
    ("factor", "spread", "stuck", "words"),
    [
        (1.0, 0.02, 0.0, []),
        (1.0, 0.3, 0.0, []),  # as the chip's own design has it
        (1.0, 0.02, 0.03, []),  # some open devices
        (3.0, 0.02, 0.0, ["are beyond", "check the unit"]),
        (0.05, 0.02, 0.0, ["the median of the measured", "check the unit"]),
    ],
)
def test_a_slip_of_the_unit_is_doubted(
    chip_of: Callable, tmp_path: Path, factor: float, spread: float, stuck: float, words: list[str]
) -> None:
    chip, rng = chip_of(mismatch__conductance=0.3), np.random.default_rng(2)
    for array in chip.devices.values():  # a chip whose devices are used, up to their limits
        array.target[...] = rng.choice([chip.limits[0], chip.limits[1]], array.target.shape)
    write_list(chip, tmp_path / "l.csv", TILE)
    rows = rows_of(tmp_path / "l.csv")
    for row in rows:
        good = rng.random() >= stuck
        row["conductance_S"] = repr(good * factor * float(row["target_S"]) * rng.lognormal(0, spread))
    found = doubts(chip, read_measured(chip, write_rows(tmp_path / "m.csv", rows), TILE))
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True)), found


# siemens in a column of uS, nS in one of uS, uS in one of mS
@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3])
def test_what_no_chip_can_be_is_refused(chip_of: Callable, tmp_path: Path, factor: float) -> None:
    chip = chip_of(mismatch__conductance=0.3)
    write_list(chip, tmp_path / "l.csv", TILE)
    rows = rows_of(tmp_path / "l.csv")
    for row in rows:
        row["conductance_S"] = repr(factor * float(row["target_S"]))
    measured = read_measured(chip, write_rows(tmp_path / "m.csv", rows), TILE)
    with pytest.raises(
        MeasurementError, match=r"the median .* nothing was taken over; check the unit in the header"
    ):
        doubts(chip, measured)


def test_without_tiles_rows_and_columns_are_the_whole_arrays(chip_of: Callable, tmp_path: Path) -> None:
    """As the CSV of a chip has them; an older one's `tile` is r0c0 throughout, and its arrays fit into it."""
    chip, old = chip_of(), chip_of()
    export_csv(chip, tmp_path / "chip.csv")
    rows = [
        {key: row[key] for key in ("array", "row", "column", "plane")}
        | {"conductance_nS": repr(1e9 * 1.01 * float(row["actual_S"]))}
        for row in rows_of(tmp_path / "chip.csv")
    ]
    expected = {name: 1.01 * array.actual for name, array in chip.devices.items()}
    take_measured(chip, write_rows(tmp_path / "m.csv", rows), TILE)
    take_measured(old, write_rows(tmp_path / "o.csv", [{"tile": "r0c0"} | row for row in rows]))
    for name in expected:
        for array in (chip.devices[name], old.devices[name]):
            np.testing.assert_allclose(array.actual, expected[name], rtol=1e-6)


def test_a_chip_with_wires_has_their_tiles(chip_of: Callable, tmp_path: Path) -> None:
    chip = chip_of()
    wired = {"chip.columns": "virtual-ground", "wires.row": "1Ohm", "wires.tile": 4}
    assert write_list(chip.copy(chip.circuit.design.replace(wired)), tmp_path / "l.csv") > 0
    assert {row["tile_size"] for row in rows_of(tmp_path / "l.csv")} == {"4x4"}
    write_list(chip, tmp_path / "l.csv")
    assert {row["tile_size"] for row in rows_of(tmp_path / "l.csv")} == {"128x128"}


def test_a_tiles_size_without_its_name_is_refused(chip_of: Callable, tmp_path: Path) -> None:
    """Rows and columns within tiles would pass for the whole array's."""
    lost = {key: value for key, value in GOOD.items() if key != "tile"} | {"tile_size": "4x3"}
    with pytest.raises(MeasurementError, match="has tile_size and no column tile; keep both"):
        take_measured(chip_of(), write_rows(tmp_path / "m.csv", [lost]), TILE)


GOOD = {"array": "forward1", "tile": "r0c0", "row": "0", "column": "0", "plane": "+", "conductance_S": "1e-6"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"array": "forward9"}, "m.csv:3: array = 'forward9'; the chip has forward0"),
        ({"tile": "r5c0"}, "tile = 'r5c0'; forward1 has 4 of 4x3, from r0c0; mind --tile"),
        ({"row": "4"}, "row = '4'; give a whole number, from 0 to 3"),
        ({"column": "-1"}, "column = '-1'; give a whole number, from 0 to 2"),
        ({"plane": "x"}, "plane = 'x'; write"),
        ({"conductance_S": "-1e-9"}, "is negative; take the offset off"),
        ({"conductance_S": "12"}, "is no number of siemens"),
        ({"conductance_S": "nan"}, "is no number of siemens"),
        ({}, "is in the file already; give each once"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_the_chip_stays(
    chip_of: Callable, tmp_path: Path, change: dict[str, str], problem: str
) -> None:
    chip = chip_of()
    before = {name: array.actual.copy() for name, array in chip.devices.items()}
    with pytest.raises(MeasurementError) as error:
        take_measured(chip, write_rows(tmp_path / "m.csv", [GOOD, GOOD | change]), TILE)
    assert problem in str(error.value)
    assert all(np.array_equal(before[name], array.actual) for name, array in chip.devices.items())


def test_files_without_rows_columns_or_units_are_refused(chip_of: Callable, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for text, problem in (
        ("", "has no column 'array'"),
        (",".join(GOOD) + "\n", "has no rows of data"),
        ("array,tile,row,column,plane,conductance\n", r"name it conductance_S \(or _mS, "),
        ("array,tile,row,column,conductance_S\n", "has no column 'plane'"),
    ):
        path.write_text(text)
        with pytest.raises(MeasurementError, match=problem):
            take_measured(chip_of(), path)


@pytest.mark.timeout(120)
def test_there_and_back_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("learning.epochs=4", "task.train=1000", "task.test=100")
    changes = [word for key in keys for word in ("--set", key)]
    run, listed, back, on = (str(tmp_path / name) for name in ("r.h5", "list.csv", "b.h5", "on.h5"))
    assert main(["train", "digits", *changes, "--quiet", "--out", run]) == 0
    assert main(["export", run, "--out", listed, "--format", "program", "--tile", "32x32"]) == 0
    rows = rows_of(Path(listed))
    assert {row["tile"] for row in rows if row["array"] == "forward0"} == {"r0c0", "r0c1"}
    measured = write_rows(tmp_path / "m.csv", [
        {key: row[key] for key in GOOD if key in row} | {"conductance_S": row["target_S"]} for row in rows
    ])  # fmt: skip
    assert main(["measured", run, str(measured), "--tile", "32x32", "--out", back]) == 0
    said = capsys.readouterr()
    assert "off, of g_max - g_min" in said.out and "the target" in said.out and "warning" not in said.err
    chip = read_run(back).chip
    assert all(np.array_equal(array.actual, array.target) for array in chip.devices.values())
    for row in (slipped := rows_of(measured)):
        row["conductance_S"] = repr(4 * float(row["conductance_S"]))
    slip = write_rows(tmp_path / "s.csv", slipped)
    again = ["measured", run, str(slip), "--tile", "32x32", "--out", str(tmp_path / "s.h5"), "--json"]
    assert main(again) == 0
    said = capsys.readouterr()
    assert "are beyond" in said.err and "check the unit" in json.loads(said.out)["warnings"][1]
    for row in slipped:
        row["conductance_mS"] = row.pop("conductance_S")
    write_rows(slip, slipped)
    assert main([*again[:-2], str(tmp_path / "none.h5")]) == 2
    assert "check the unit" in capsys.readouterr().err and not (tmp_path / "none.h5").exists()
    assert main(["train", back, "--epochs", "1", "--quiet", "--out", on]) == 0
    assert read_run(on).history["accuracy"][0] > 0.5  # it begins with what it had learned
    assert main(["train", back, "--set", "task.train=100", "--out", on]) == 2
    assert main(["measured", run, str(tmp_path / "none.csv"), "--out", back]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_an_unwritten_chip_needs_no_pulses(chip_of: Callable, tmp_path: Path) -> None:
    chip = chip_of().circuit.fabricate(seed=1)
    write_list(chip, tmp_path / "l.csv")
    assert {row["pulses"] for row in rows_of(tmp_path / "l.csv")} == {"0"}
    save_chip(tmp_path / "c.h5", chip)
