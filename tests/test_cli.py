"""The command line: help, exit codes, messages, and each command on the smallest design."""

from __future__ import annotations

import json
import re
import subprocess
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.archive import read_run
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.design_arguments import shares, temperatures
from ohmostat.circuits.settling import Settling
from ohmostat.cli import _joined, build_parser, main
from ohmostat.learning.chip_arguments import trainer_of
from ohmostat.learning.data import load
from ohmostat.learning.training import initialise_from

from .simulator.compare import require_ngspice

SMALL = ["--set", "learning.epochs=1", "--set", "task.train=200", "--set", "task.test=100", "--quiet"]


def test_init_train_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = tmp_path / "chip.toml"
    assert main(["init", str(design), "--from", "digits"]) == 0
    assert Design.from_toml(design) == Design.named("digits").replace("name", "chip")
    run = tmp_path / "run.h5"
    plot = tmp_path / "run.png"
    assert main(["train", str(design), *SMALL, "--out", str(run), "--plot", str(plot)]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    for name in ("chip.h5", "chip.csv", "chip.cir"):
        assert main(["export", str(run), "--out", str(tmp_path / name)]) == 0
    with h5py.File(tmp_path / "chip.h5") as file:
        assert "forward0" in file["devices"]
    assert (tmp_path / "chip.csv").read_text().count("\n") > 64 * 32 * 2
    assert ".end" in (tmp_path / "chip.cir").read_text().lower()


def test_training_tells_of_a_homeostat_that_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["learning.epochs=1", "task.train=60", "task.test=20", "chip.family=loop"]
    options = [option for text in (*small, "chip.layers=64,6,5,10", "homeostat.mode=off")
               for option in ("--set", text)]  # fmt: skip
    run, again = tmp_path / "run.h5", tmp_path / "again.h5"
    assert main(["train", "digits", *options, "--out", str(run)]) == 0
    assert "changes nothing" not in capsys.readouterr().err
    changed = ["--set", "homeostat.mode=probe", "--epochs", "1", "--out", str(again)]
    assert main(["train", str(run), *changed]) == 0
    assert 'homeostat.mode = "probe" changes nothing: no two layers of a loop chip' in capsys.readouterr().err


@pytest.mark.parametrize(("text", "found"), [("0,30%", (0.0, 0.3)), ("90 %,1.1", (0.9, 1.1))])
def test_levels_of_shares_may_be_in_per_cent(text: str, found: tuple[float, ...]) -> None:
    assert shares(text) == found
    for command in (["sweep", "digits", "--mismatch"], ["corners", "run.h5", "--supply"]):
        assert found in vars(build_parser().parse_args([*command, text])).values()
    with pytest.raises(ArgumentTypeError, match="write finite numbers"):
        shares("30%%")


@pytest.mark.parametrize(
    ("text", "found"),
    [("233K,398K", (233.0, 398.0)), ("-40C,27,125 °C", None), ("-40C,300,125 °C", (233.15, 300.0, 398.15))],
)
def test_temperatures_have_units(text: str, found: tuple[float, ...] | None) -> None:
    if found is None:
        with pytest.raises(ArgumentTypeError, match=r"'27' has no unit.*write 27C or 300K"):
            temperatures(text)
    else:
        assert temperatures(text) == found


def test_a_value_may_begin_with_a_minus() -> None:
    words = ["corners", "run.h5", "--temperature", "-40C,25C", "--process", "tt,SS,fast", "--json"]
    arguments = build_parser().parse_args(_joined(words))
    assert arguments.temperature == (233.15, 298.15) and arguments.json
    assert arguments.process == ["typical", "slow", "fast"]
    assert _joined(["--input", "-.3,0.1", "--out", "a", "-1", "--", "-2"]) == [
        "--input=-.3,0.1", "--out", "a", "-1", "--", "-2",
    ]  # fmt: skip


def test_what_has_no_value_is_a_dash_and_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "task.train=100", "--set", "task.test=40", "--epochs", "1"]
    train = ["train", "digits", *small, "--out", str(tmp_path / "run.h5")]
    assert main(train) == 0
    text = capsys.readouterr().out
    assert "  loss –  " in text and "nan" not in text
    assert main([*train, "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)["history"]["loss"]
    assert first is None and 0 < last < 1


def test_settle_reports_a_design_and_a_trained_chip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settle", "digits", "--samples", "3"]) == 0
    text = capsys.readouterr().out
    assert "settled          100.0% by the ODE, 100.0% by relaxation" in text
    assert "stable           100.0%" in text
    run = tmp_path / "run.h5"
    assert main(["train", "digits", *SMALL, "--out", str(run)]) == 0
    assert "replaces" not in capsys.readouterr().err
    told = [argument for argument in SMALL if argument != "--quiet"]
    assert main(["train", "digits", *told, "--out", str(run)]) == 0
    assert f"replaces {run} once done" in capsys.readouterr().err
    assert main(["settle", str(run), "--samples", "3"]) == 0
    assert main(["settle", str(run), "--chip", "1"]) == 2
    assert "--chip" in capsys.readouterr().err


def test_settle_drives_a_resistive_chip_at_its_input_gain(capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"resistive.input_gain": 50.0, "neuron.high": 0.5}
    chip = Circuit(Design.named("resistive").replace(changes)).fabricate()
    initialise_from(chip)
    inputs = load("fashion-6k").test_x[:2] * 50.0 * 0.5
    expected = Settling.of(chip, chip.relax(inputs, method="transient"), chip.relax(inputs))
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    words[-1] += "V"
    assert main(["settle", "resistive", *words, "--samples", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["energy"] == pytest.approx(expected.energy) and expected.energy[0] > 0


@pytest.mark.parametrize("which", ["--sample=3", "--input=300mV"])
def test_a_sample_settles_to_what_ngspice_finds_in_its_export(
    which: str, good_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every node of one has its line in the other, with the same voltage; the inputs' are in JSON alone."""
    require_ngspice()
    run, netlist = str(good_files / "run.h5"), str(tmp_path / "chip.cir")
    assert main(["export", run, which, "--out", netlist]) == 0
    assert main(["settle", run, which]) == 0
    told = capsys.readouterr().out
    assert "chip 0: settled, stable, residual " in told
    said = subprocess.run(["ngspice", "-n", "-b", netlist], capture_output=True, text=True, check=True).stdout
    row = re.compile(r"^\s*(\w+)\s+(-?\d\.\d+e[-+]\d+)(?:  output \d)?\s*$", re.MULTILINE)
    shown = {name: float(volts) for name, volts in row.findall(told)}
    assert main(["settle", run, which, "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["voltages"]
    left = {name for name in ours if re.fullmatch(r"x_\d+|n_forward0_\w+", name)}
    assert ours.keys() - left == shown.keys() and f"({len(left)} nodes of the inputs are left out" in told
    assert shown == pytest.approx({name: ours[name] for name in shown}, abs=1e-6)
    assert re.findall(r" (\w+) .*output (\d)$", told, re.MULTILINE) == [
        (f"s1_{k}", str(k)) for k in range(10)
    ]
    theirs = {name: float(volts) for name, volts in row.findall(said.partition("Source")[0])}
    assert ours.keys() == theirs.keys() and len(ours) == 2 * 64 + 3 + 3 * (4 + 10)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert max(map(abs, ours.values())) > 0.1
    assert main(["settle", run, which, "--against", "ngspice"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"ngspice, {len(ours)} nodes of the same netlist: differs by ")
    assert main(["settle", run, which, "--json", "--against", "ngspice"]) == 0
    found = json.loads(capsys.readouterr().out)
    beside = found["ngspice"]
    most = max(abs(found["voltages"][name] - theirs[name]) for name in theirs)
    assert beside["difference"] == pytest.approx(most, abs=2e-6) and beside["difference"] < 1e-6
    assert beside["voltage"] == pytest.approx(theirs[beside["node"]], abs=1e-6)
    assert found["voltages"] == pytest.approx(ours, abs=1e-6) and found["settled"] and found["stable"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("300mV", [0.3] * 64),
        ("0.3", [0.3] * 64),
        (",".join(["1e-1V", "-20 mV", "0"] + ["1"] * 61), [0.1, -0.02, 0.0] + [1.0] * 61),
    ],
)
def test_inputs_of_an_export_have_units(
    given: str, expected: list[float], good_files: Path, tmp_path: Path
) -> None:
    netlist = tmp_path / "chip.cir"
    assert main(["export", str(good_files / "run.h5"), f"--input={given}", "--out", str(netlist)]) == 0
    sources = re.findall(r"^Vx_\d+ x_\d+ 0 (\S+)$", netlist.read_text(), re.MULTILINE)
    assert list(map(float, sources)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("design", "given", "words"),
    [
        ("chip.toml", "300", "64 of 64 inputs, the farthest at 300V, are beyond 0V to 1V, the chip's rails"),
        ("chip.toml", ",".join(["-0.1"] + ["1"] * 63), "1 of 64 inputs, the farthest at -100mV"),
        ("chip.toml", "1", ""),
        ("resistive", "300", "full scale of its inputs"),
    ],
)
def test_inputs_beyond_the_rails_are_warned_of(
    design: str, given: str, words: str, good_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "chip.layers=64,6,10", "--set", "task.data=digits"] if design == "resistive" else []
    chip = [str(good_files / design) if not small else design, *small]
    assert main(["settle", *chip, f"--input={given}", "--json"]) == 0
    told = capsys.readouterr()
    assert (words in told.err) if words else not told.err
    assert bool(json.loads(told.out)["warnings"]) == bool(words)
    if design == "chip.toml":
        out = ["--out", str(tmp_path / "chip.cir")]
        assert main(["export", str(good_files / "run.h5"), f"--input={given}", *out]) == 0
        assert words in capsys.readouterr().err


def test_a_sample_of_a_run_has_its_class(good_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many of them are right as training recorded."""
    run, right = str(good_files / "run.h5"), 0
    for k in range(10):
        assert main(["settle", run, "--sample", str(k), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["label"] == load("digits").test_y[k]
        right += found["class"] == found["label"]
    trainer = trainer_of(read_run(run), None)
    trainer.data = replace(trainer.data, test_x=trainer.data.test_x[:10], test_y=trainer.data.test_y[:10])
    assert right == 10 * trainer.evaluate()[0]
    assert main(["settle", run, "--sample", "9"]) == 0
    said = f"outputs: class {found['class']} (label {found['label']})"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert main(["settle", run, "--input", "0.3"]) == 0
    assert re.fullmatch(r"outputs: class \d", capsys.readouterr().out.splitlines()[-1])
    assert main(["settle", str(good_files / "chip.toml"), "--sample", "0"]) == 0
    assert "class" not in capsys.readouterr().out  # before any training there is no readout


def test_without_ngspice_a_sample_is_shown_all_the_same(
    good_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    command = ["settle", str(good_files / "chip.toml"), "--sample", "0", "--against", "ngspice"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert "voltage [V]" in told.out and "not compared with ngspice: ngspice is not on the PATH" in told.err


def test_a_sample_is_converted_as_in_training(good_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one bit, an input is at one rail or the other."""
    chip = [str(good_files / "chip.toml"), "--set", "converters.input_bits=1"]
    assert main(["settle", *chip, "--sample", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["voltages"]
    assert {found[f"x_{j}"] for j in range(64)} == {0.0, 1.0}


def test_a_file_of_another_kind_is_not_replaced(
    good_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, design = tmp_path / "run.h5", tmp_path / "other.h5", tmp_path / "mine.toml"
    run.write_bytes((good_files / "run.h5").read_bytes())
    other.write_text("notes")
    design.write_text('[task]\ndata = "digits"\n')
    before = {path: path.read_bytes() for path in (run, other, design)}
    for words, told in (
        (["sweep", "digits", "--mismatch", "0", "--out", str(run)], "is ohmostat-run, and would be replaced"),
        (["train", "digits", "--out", str(other)], "is no file of ohmostat, and would be replaced"),
        (
            ["fit", str(good_files / "curves.csv"), "--out", str(design)],
            "is no fit but a design of another hand",
        ),
    ):
        assert main(words) == 2
        assert told in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_a_library_that_a_netlist_reads_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, netlist, out = tmp_path / "m.lib", tmp_path / "a.cir", tmp_path / "y.png"
    library.write_text(".lib tt\nR1 a 0 1k\n.endl\n")
    netlist.write_text("t\nV1 a 0 1\n.lib 'm.lib' tt\n.op\n")
    out.symlink_to(library)
    assert main(["simulate", str(netlist), "--plot", str(out)]) == 2
    assert "is read, and would be replaced" in capsys.readouterr().err
    assert library.read_text().startswith(".lib tt")


def test_one_sample_of_a_chip_in_single_precision_settles_as_tightly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["settle", "digits", "--set", "learning.dtype=float32", "--sample", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settled"] and found["stable"] and found["residual"] < 1e-17


def test_sweep_leaves_file_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.h5"
    arguments = ["sweep", "digits", *SMALL, "--mismatch", "0,0.5", "--chips", "1"]
    assert main([*arguments, "--homeostat", "on", "--workers", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "homeostat" in text
    assert (tmp_path / "s.txt").read_text() in text
    assert (tmp_path / "s.png").exists()


@pytest.mark.parametrize("files", [["s.h5", "none/s.png"], ["none/s.h5"]])
def test_files_of_a_sweep_are_checked_before_the_work(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ohmostat.learning.sweep.run_sweep", lambda *_, **__: pytest.fail("it ran"))
    out, *plot = (str(tmp_path / name) for name in files)
    arguments = ["sweep", "digits", *SMALL, "--out", out, *(["--plot", *plot] if plot else [])]
    assert main(arguments) == 2
    assert "no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sweeps_table_is_there_though_its_figure_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such format")

    monkeypatch.setattr("ohmostat.learning.figures.sweep_figure", fail)
    monkeypatch.setattr("ohmostat.learning.sweep.run_sweep", lambda *_, **__: None)
    monkeypatch.setattr("ohmostat.learning.sweep_result.read_sweep", lambda _: None)
    monkeypatch.setattr("ohmostat.learning.sweep_result.table", lambda _: "the table")
    assert main(["sweep", "digits", *SMALL, "--out", str(tmp_path / "s.h5")]) == 2
    printed = capsys.readouterr()
    assert "the table" in printed.out and "no such format" in printed.err
    assert (tmp_path / "s.txt").read_text() == "the table\n"


def test_settling_on_another_branch_is_no_error_of_the_solver() -> None:
    chip = Circuit(Design.named("digits")).fabricate()
    initialise_from(chip)
    x = np.random.default_rng(0).random((3, 64))
    ode, fast = chip.relax(x, method="transient"), chip.relax(x)
    assert "another branch: 0 of 3 samples" in Settling.of(chip, ode, fast).words()
    ports, voltages = fast.ports.copy(), fast.voltages.copy()
    ports[1] += 0.3
    voltages[1] += 0.3
    found = Settling.of(chip, ode, replace(fast, ports=ports, voltages=voltages))
    assert (found.elsewhere, found.compared) == (1, 3) and found.difference < 1e-3


def test_init_writes_a_commented_design_that_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chip.toml"
    assert main(["init", str(path)]) == 0
    assert Design.from_toml(path) == Design.named("fashion-6k").replace("name", "chip")
    assert path.read_text().count("#") > 40
    small = ["--set", "task.test=300", "--epochs", "2", "--quiet"]
    assert main(["train", str(path), *small, "--out", str(tmp_path / "run.h5")]) == 0
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["history/accuracy"][-1] > 0.65
        assert file["history/left_out"][-1] < 0.02
