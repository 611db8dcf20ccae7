"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ohmostat.circuits.files import ArchiveError, atomic_write


def test_atomic_write_replaces_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    with pytest.raises(KeyError), atomic_write(target) as part:
        part.write_text("half")
        raise KeyError
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_atomic_write_survives_the_end_of_its_process(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, sys\n"
        "from ohmostat.circuits.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    assert target.read_text() == "old"
    (left,) = (name for name in os.listdir(tmp_path) if name != "a.txt")
    assert re.fullmatch(r"\.a\.txt\.[0-9a-f]{16}\.part", left)


def test_atomic_write_says_where_it_cannot_write(tmp_path: Path) -> None:
    with (
        pytest.raises(ArchiveError, match=r"there is no folder .*none; make it"),
        atomic_write(tmp_path / "none/a"),
    ):
        pass
    with pytest.raises(ArchiveError, match="/dev/null: is not a regular file"), atomic_write("/dev/null"):
        pass
    with pytest.raises(ArchiveError, match=r"a: cannot be written \(No space"), atomic_write(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_atomic_write_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a.txt")
    with atomic_write(tmp_path / "link") as part:
        part.write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "text"
