"""Completion in the shell: the scripts of shtab, tried in the shells that are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ohmostat.cli import COMMANDS, SHELLS, main

SHIPPED = ["fashion", "fashion-6k"]
OFFERED = {
    "sw": ["sweep"], "train fi": ["find.toml"], "train fa": SHIPPED,
    "train fashion --set device.g_": ["device.g_min", "device.g_max"],
    "corners r.h5 --process s": ["slow", "ss"],
}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_command(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as end:
        main(["--completion", shell])
    script = capsys.readouterr().out
    assert end.value.code == 0 and all(name in script for name in (*COMMANDS, "dry-run", "keep-chips"))
    (tmp_path / "find.toml").touch()
    if shell == "bash" and (bash := shutil.which("bash")):
        for typed, offered in OFFERED.items():
            words = f"COMP_WORDS=(ohmostat {typed}); COMP_CWORD={len(typed.split())}"
            asked = f'{words}; _shtab_ohmostat; echo "${{COMPREPLY[@]}}"'
            answer = subprocess.run(
                [bash, "-c", script + asked], capture_output=True, text=True, check=True, cwd=tmp_path
            )
            assert answer.stdout.split() == offered
    if shell == "fish" and (fish := shutil.which("fish")):
        for typed, offered in OFFERED.items():
            asked = f"complete -C 'ohmostat {typed}' | cut -f 1"
            words = subprocess.run([fish, "-c", script + asked], capture_output=True, text=True, cwd=tmp_path)
            assert set(offered) <= {word.removesuffix("=") for word in words.stdout.split()}
    if shell == "zsh" and (zsh := shutil.which("zsh")):
        subprocess.run([zsh, "-n"], input=script, text=True, check=True)


def test_completion_into_a_pipe_that_closes() -> None:
    pytest.importorskip("shtab")
    with subprocess.Popen(
        [sys.executable, "-m", "ohmostat", "--completion", "bash"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as run:  # fmt: skip
        assert run.stdout and run.stderr
        run.stdout.close()
        assert run.stderr.read() == b"" and run.wait() == 1


def test_completion_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        main(["--completion", "bash"])
    assert end.value.code == 2 and "pip install 'ohmostat[completion]'" in capsys.readouterr().err
