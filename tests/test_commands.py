"""What all commands have in common: help, examples, output, exit status, interrupts; docs/command-line.md."""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.archive import read_run
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.programming import COUNTED
from ohmostat.cli import COMMANDS, EPILOG, build_parser, main
from ohmostat.learning import sweep_estimate
from ohmostat.learning.data import load_task
from ohmostat.learning.sweep import Sweep
from ohmostat.learning.sweep_estimate import Estimate
from ohmostat.learning.training import Trainer
from ohmostat.simulator import simulate_command
from ohmostat.simulator.console import Console

ROOT = Path(__file__).resolve().parents[1]
WORK = {  # every command at its smallest, and a key of the result
    "init": ("init --list", "presets"),
    "settle": ("settle chip.toml --samples 2", "residual"),
    "train": ("train chip.toml --out new.h5 --plot new.png", "history"),
    "audit": ("audit run.h5 --samples 5 --out new.h5", "share"),
    "corners": ("corners run.h5 --supply 1 --temperature 300 --out new.csv", "corners"),
    "sweep": ("sweep chip.toml --chips 1 --arms none --workers 1 --out new.h5", "values"),
    "yield": ("yield sweep.h5 --require 'accuracy >= 0' --target 1% --plot new.png", "arms"),
    "report": ("report run.h5 --audit --samples 5 --out new.html", "bytes"),
    "compare": ("compare sweep.h5 sweep.h5 --out new.html", "rows"),
    "export": ("export run.h5 --out new.csv", "format"),
    "measured": ("measured run.h5 measured.csv --out new.h5", "arrays"),
    "simulate": ("simulate deck.cir --out new.h5", "op"),
    "fit": ("fit curves.csv --out new.toml", "values"),
    "demo": ("demo --workers 1 --out new", "train"),
}


@pytest.fixture
def here(good_files: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the good files, in which any shipped design is a small one."""
    shutil.copytree(good_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    small = Design.from_toml(tmp_path / "chip.toml")
    monkeypatch.setattr(Design, "named", lambda name: small)
    return tmp_path


# -- help and examples --------------------------------------------------------------------------------


def examples(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.lstrip().startswith("ohmostat ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_of_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    (example,) = examples(capsys.readouterr().out.split("example:")[1])
    assert build_parser().parse_args(shlex.split(example)[1:]).command is COMMANDS[command]


@pytest.mark.parametrize(
    "page", ["help", "README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_example_can_be_given(page: str) -> None:
    text = EPILOG if page == "help" else (ROOT / page).read_text(encoding="utf-8")
    for line in examples(text):
        if not re.search(r"[|>…]|--version|--completion|COMMAND", line.replace(">=", "").replace("<=", "")):
            build_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_page_of_commands_is_what_the_program_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "python docs/make_commands.py"


def test_the_command_alone_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and all(f"\n    {name} " in said.err for name in COMMANDS)


# -- output -------------------------------------------------------------------------------------------


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_result_is_one_json_document_and_notes_are_apart(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, key = WORK[command]
    assert main(["--json", *shlex.split(line)]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=refuse)
    assert key in found
    assert all((here / name).exists() and f"wrote {name}\n" in said.err for name in found["files"])
    assert {"--out", "--plot"}.isdisjoint(shlex.split(line)) or found["files"]


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_leaves_the_result(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*shlex.split(WORK[command][0]), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "wrote" not in said.out
    assert (said.out == "") == (command == "export")  # which leaves a file, and has nothing to tell


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_bars_are_for_terminals(
    terminal: bool, quiet: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Console(quiet=quiet).bar(3, "run") as bar:
        bar.update(3)
    assert ("100%" in stream.getvalue()) == shown


def test_a_sweep_tells_how_far_it_is_where_there_is_no_terminal(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SWEEP, "--workers", "1"]) == 0
    told = re.findall(r"^(\d) of 8 runs after \d+ s$", capsys.readouterr().err, re.MULTILINE)
    assert told == list("12345678")
    with Console().bar(1000, "run", lines=True) as bar:
        for _ in range(1000):
            bar.update()
    assert capsys.readouterr().err.count("\n") == 10
    with Console(quiet=True).bar(3, "run", lines=True) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_fewer_samples_than_asked_for_and_a_design_of_defaults_are_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settle", "run.h5", "--samples", "100000"]) == 0
    assert "--samples 100000: the test set has 360, which are all taken" in capsys.readouterr().err
    assert main(["audit", "run.h5", "--samples", "41"]) == 0
    assert "--samples 41: the test set has 40, which are all taken" in capsys.readouterr().err
    Path("empty.toml").write_text("# nothing yet\n")
    assert main(["settle", "empty.toml", "--samples", "1"]) == 0
    told = "empty.toml sets no key, so all are at their defaults: a twin chip 784-256-256-10 on fashion-6k"
    assert told in capsys.readouterr().err


def test_what_stands_beside_a_result_is_replaced_with_it_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table or a figure without the file that it would go with is the user's own, unless he named it."""
    sweep = shlex.split(WORK["sweep"][0])
    for own in ("new.txt", "new.png"):
        Path(own).write_text("notes")
        for more in ([], ["--dry-run"]):
            assert main([*sweep, *more]) == 2
            told = f"{own}: would be replaced, and is no earlier result: there is no new.h5 that it goes with"
            assert told in capsys.readouterr().err
        assert Path(own).read_text() == "notes" and not Path("new.h5").exists()
        if own == "new.txt":
            Path(own).unlink()
    assert main([*sweep, "--plot", "new.png"]) == 0
    assert "replaces new.png once done\n" in capsys.readouterr().err
    assert main(sweep) == 0
    assert "replaces new.h5, new.txt, new.png once done\n" in capsys.readouterr().err
    Path("new").mkdir()
    Path("new/run.html").write_text("notes")
    assert main(["demo", "--out", "new"]) == 2
    assert "run.html: would be replaced" in capsys.readouterr().err
    Path("new/run.html").unlink()
    shutil.copy("run.h5", "new/sweep.h5")
    assert main(["demo", "--out", "new"]) == 2
    assert "is ohmostat-run, and would be replaced by ohmostat-sweep" in capsys.readouterr().err


def test_nothing_is_said_to_be_replaced_where_the_work_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep or a training of another design goes on there, or what is asked for is not to be had."""
    sweep, train = (shlex.split(WORK[command][0]) for command in ("sweep", "train"))
    assert main(sweep) == 0
    assert main([*sweep, "--set", "learning.rate=0.02"]) == 2
    Path("new.h5").write_bytes(Path("run.h5").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(1, patch)
        assert main(train) == 130
    capsys.readouterr()
    assert main([*train, "--set", "learning.rate=0.02"]) == 2
    for refused in ("audit chip.toml --set chip.columns=passive --wires 1 --out audit.h5",
                    "export run.h5 --sample 9999 --out chip.cir",
                    "report sweep.h5 --require 'speed >= 1' --out page.html"):  # fmt: skip
        Path(refused.split()[-1]).touch() if "audit" not in refused else None
        assert main(shlex.split(refused)) == 2
    assert "replaces" not in capsys.readouterr().err


def test_what_is_replaced_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, files in (("measured", "new.h5"), ("export", "new.csv")):
        Path(files).write_bytes(Path("run.h5").read_bytes() if files == "new.h5" else b"")
        assert main(shlex.split(WORK[command][0])) == 0
        assert f"replaces {files} once done\n" in capsys.readouterr().err


# -- exit status --------------------------------------------------------------------------------------


def test_work_that_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.cir").write_text("no root\nI1 0 a 1\nR1 a 0 1\nB1 0 a I=v(a)^2\n")
    assert main(["simulate", "none.cir"]) == 1
    assert capsys.readouterr().err.startswith("ohmostat: none.cir:1: ")
    sweep = ["sweep", "digits", "--scheduler", "magic://x", "--arms", "none", "--out", "new.h5"]
    assert main(sweep) == 1
    assert "no Dask scheduler answers at magic://x" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_a_fault_of_the_program(
    debug: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate_command, "run", lambda *_: {}["current"])
    assert main(["simulate", "deck.cir", *(["--debug"] if debug else [])]) == 1
    said = capsys.readouterr().err
    assert "a fault of ohmostat, please report what --debug shows (KeyError: 'current')" in said
    assert ("Traceback" in said) == debug


def test_debug_shows_where_and_keeps_the_status(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "settle", "missing.toml"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("ohmostat: missing.toml: cannot be read")


def test_a_reader_that_goes_away(here: Path) -> None:
    code = (
        "import sys\n"
        "from ohmostat.cli import main\n"
        "sys.stdin.read()\n"  # until the reader is gone
        "sys.exit(main(['simulate', 'deck.cir']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdin and run.stdout and run.stderr
        run.stdout.close()
        run.stdin.close()
        assert run.stderr.read() == b"" and run.wait() == 1


# -- interrupts ---------------------------------------------------------------------------------------


def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, Ctrl-C at a step of training."""
    learn = Trainer.step

    def until(trainer: Trainer, *batch: object) -> None:
        if trainer.steps == step:
            raise KeyboardInterrupt
        learn(trainer, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", until)


def test_a_training_goes_on_where_it_was_interrupted(
    here: Path, capsys: pytest.CaptureFixture[str], differences: Callable[[Path, Path], list[str]]
) -> None:
    train = ["train", "chip.toml", "--set", "learning.epochs=3", "--set", "learning.batch=20", "--out"]
    assert main([*train, "whole.h5"]) == 0
    for step, kept in ((4, 1), (7, 2)):  # 3 steps an epoch
        with pytest.MonkeyPatch.context() as patch:
            interrupted_at(step, patch)
            assert main([*train, "new.h5"]) == 130
        said = capsys.readouterr().err
        assert f"training up to epoch {kept} is kept in new.h5.checkpoint: the same command goes on" in said
        assert "Traceback" not in said and not Path("new.h5").exists()
    assert main([*train, "new.h5", "--json"]) == 0
    said = capsys.readouterr()
    assert "goes on after epoch 2, from new.h5.checkpoint" in said.err
    assert json.loads(said.out)["history"]["epoch"] == [0, 1, 2, 3]
    assert not Path("new.h5.checkpoint").exists()
    for name in ("whole.h5", "new.h5"):  # but how long it took, and a checksum that knows
        with h5py.File(name, "a") as file:
            del file["history/seconds"], file.attrs["checksum"]
    assert differences(Path("whole.h5"), Path("new.h5")) == []


def test_a_trained_chip_learns_on_as_it_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is that of a chip which is made to learn so, and is given the trained one's devices."""
    changes = {"learning.beta": 0.02, "learning.rate": 0.01, "homeostat.mode": "off"}
    told = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    run = read_run("run.h5")
    chip = Circuit(run.chip.circuit.design.replace(changes)).fabricate(seed=run.chip.seed)
    for name, devices in run.chip.devices.items():
        for field, values in vars(devices).items():
            getattr(chip.devices[name], field)[...] = values
    chip.refresh()
    for counted in COUNTED:
        setattr(chip.programmer, counted, getattr(run.chip.programmer, counted))
    trainer = Trainer.from_run(replace(run, chip=chip), load_task(chip.circuit.design.task))
    trainer.fit(1)
    assert main(["train", "run.h5", *told, "--epochs", "1", "--out", "new.h5"]) == 0
    found = read_run("new.h5")
    assert found.chip.circuit.design == chip.circuit.design
    for name, devices in chip.devices.items():
        assert np.array_equal(found.chip.devices[name].actual, devices.actual)
    assert not np.array_equal(chip.devices["forward0"].actual, run.chip.devices["forward0"].actual)
    for command in ("settle run.h5 --samples 2 --set learning.tolerance=1e-6",
                    "audit run.h5 --samples 5 --set learning.beta=0.02"):  # fmt: skip
        assert main(shlex.split(command)) == 0
    assert "at beta 0.02, 5 samples" in capsys.readouterr().out


def test_a_training_from_another_start_is_not_taken_up(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "run.h5", "--epochs", "2", "--out", "new.h5"]
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(1, patch)
        assert main(train) == 130
    assert main(["measured", "run.h5", "measured.csv", "--out", "back.h5"]) == 0
    Path("back.h5").replace("run.h5")
    assert main(train) == 2
    assert "new.h5.checkpoint: is not a checkpoint of this design, chip and data" in capsys.readouterr().err


def test_an_interrupt_before_anything_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_at(0, monkeypatch)
    assert main(["audit", "chip.toml", "--epochs", "1", "--out", "new.h5"]) == 130
    assert capsys.readouterr().err.endswith("ohmostat: interrupted; nothing was written\n")
    assert not Path("new.h5").exists()


# -- a sweep's dry run --------------------------------------------------------------------------------

SWEEP = [
    "sweep",
    "chip.toml",
    "--mismatch",
    "0,0.5",
    "--chips",
    "2",
    "--arms",
    "none,adjoint",
    "--out",
    "new.h5",
]


def test_a_dry_run_writes_nothing_and_knows_the_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.iterdir())
    assert main([*SWEEP, "--dry-run", "--workers", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(here.iterdir()) == before
    assert {key: found[key] for key in ("runs", "points", "chips", "arms", "workers")} == {
        "runs": 8, "points": 2, "chips": 2, "arms": 2, "workers": 3,
    }  # fmt: skip
    assert found["seconds"] > 0
    assert main([*SWEEP, "--dry-run", "--keep-chips"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("8 runs: 2 points x 2 chips x 2 arms") and "one training step" in text
    assert main([*SWEEP, "--quiet", "--workers", "1"]) == 0
    staged = sum(path.stat().st_size for path in Path("new.h5.runs").glob("*.run"))
    assert found["bytes"] / 2 == pytest.approx(staged, rel=0.02)
    assert Path("new.h5").stat().st_size < staged


def test_a_dry_run_knows_what_stands_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep half done, another in its folder, another result, a damaged run, something else."""
    half = [*SWEEP[:5], "1", *SWEEP[6:]]
    assert main([*half, "--quiet", "--workers", "1"]) == 0
    before = contents(here)
    capsys.readouterr()
    assert main([*SWEEP, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "x 2 arms, of which 4 are done already" in text
    assert "result      replaces new.h5, which holds 4 of these 8 runs (chips 1 -> 2)\n" in text
    more = [*half[:3], "0,0.5,1", *half[4:7], "none", *half[8:]]
    assert main([*more, "--dry-run", "--json"]) == 0
    replaced = json.loads(capsys.readouterr().out)["replaces"]
    assert replaced == "new.h5, which holds 2 of these 3 runs (1 arm fewer, 1 point more)"
    assert main([*half, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["seconds"]) == (4, 0)
    assert found["replaces"] == "new.h5, which holds this very sweep"
    other = [*SWEEP, "--set", "learning.rate=0.02"]
    assert main([*other, "--dry-run"]) == 2
    refused = capsys.readouterr()
    assert main([*other, "--quiet"]) == 2
    assert capsys.readouterr().err == refused.err and "by a sweep of another design" in refused.err
    assert refused.out == "" and contents(here) == before
    Path("new.h5.runs").rename("elsewhere")
    assert main([*other, "--dry-run", "--json"]) == 0
    replaced = json.loads(capsys.readouterr().out)["replaces"]
    told = "another sweep (learning.rate 0.03 -> 0.02, chips 1 -> 2)"
    assert replaced == f"new.h5, which holds {told}"
    Path("elsewhere").rename("new.h5.runs")
    staged = min(Path("new.h5.runs").glob("*.run"))
    staged.write_bytes(staged.read_bytes()[:-1])
    Path("new.h5").write_text("something else")
    before = contents(here)
    assert main([*SWEEP, "--dry-run"]) == 2
    assert (
        "new.h5: is no file of ohmostat, and would be replaced by ohmostat-sweep" in capsys.readouterr().err
    )
    assert contents(here) == before
    Path("new.h5").unlink()
    assert main([*SWEEP, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["replaces"]) == (3, "")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_time_of_a_sweep_is_that_of_its_steps_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 2 workers: 10 and 20 epochs of 7 batches at 1 s a step, and the evaluations before and after."""
    design = Design.named("digits").replace({"learning.batch": 200, "chip.layers": [64, 4, 10]})
    sweep = Sweep.over(design, {"learning.epochs": (10, 20)}, 1, ("none",))
    cost = sweep_estimate._Cost(step=1.0, evaluation=100.0, bytes=1000)
    monkeypatch.setattr(sweep_estimate._Cost, "of", lambda *_: cost)
    found = Estimate.of(sweep, workers=2)
    assert found.seconds == (7 * (10 + 20) + 100 * (11 + 21)) / 2 and found.bytes == 4000
    assert "about 28.4 minutes on 2 processes" in found.words()
