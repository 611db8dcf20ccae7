"""What can go wrong beside a sweep: each time a message with a remedy, nothing lost, and the same command
goes on. (A killed sweep, a changed design, other data, a damaged staged file and a second sweep are in
test_sweep.py; a lost worker and a lost scheduler in test_cluster.py.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.files import ArchiveError
from ohmostat.learning import sweep as sweeps
from ohmostat.learning.sweep import Sweep, SweepError, SweepStopped, run_sweep
from ohmostat.learning.sweep_result import read_sweep

SIGMA = "mismatch.conductance"
COMMAND = (
    "sweep", "digits", "--mismatch", "0,0.5", "--chips", "1", "--arms", "none", "--workers", "1",
    "--set", "learning.epochs=1", "--set", "task.train=200", "--set", "task.test=100", "--quiet",
)  # fmt: skip


def small(chips: int = 1, **changes: object) -> Sweep:
    design = Design.named("digits").replace(
        {"learning.epochs": 1, "task.train": 200, "task.test": 100, **changes}
    )
    return Sweep.over(design, {SIGMA: (0.0, 0.5)}, chips, ("none",))


def start(out: Path, *words: str, limit: int | None = None, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, no file of which may grow beyond ``limit`` bytes."""

    def restrict() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in a shell's background ignores it
        if limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "ohmostat", *COMMAND, *words, "--out", str(out)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restrict,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def staged(out: Path) -> list[Path]:
    return sorted(out.with_name(out.name + ".runs").glob("*.run"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
@pytest.mark.timeout(120)
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    run_sweep(small(), out, workers=1)
    first, *_ = staged(out)
    size = first.stat().st_size
    staged(out)[1].unlink()
    content = out.read_bytes()
    full = start(out, limit=size // 2)
    _, said = full.communicate(timeout=100)
    assert full.returncode == 1 and "cannot be written (File too large)" in said and "Traceback" not in said
    assert "1 of 2 runs are kept" in said
    assert staged(out) == [first] and out.read_bytes() == content  # the old result is still there
    assert not list(first.parent.glob(".*.part"))
    run_sweep(small(), out, workers=1)
    assert len(staged(out)) == 2


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.timeout(120)
def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    longer = ("--chips", "3", "--set", "learning.epochs=60")  # than it takes to notice that it has begun
    running = start(out, *longer, start_new_session=True)
    for _ in range(4500):
        if staged(out) or running.poll() is not None:
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert (
        running.returncode == 130
        and f"kept in {out}.runs: the same command goes on" in said
        and "Traceback" not in said
    )
    kept, counts = len(staged(out)), list[int]()
    assert 1 <= kept < 6 and not out.exists()
    run_sweep(
        small(3, **{"learning.epochs": 60}), out, workers=2, progress=lambda done, total: counts.append(done)
    )
    assert counts[0] == kept and read_sweep(out).values["accuracy"]["none"].shape == (2, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(SweepError, match=r"/proc/s\.h5\.runs: cannot be made .*; choose another --out"):
        run_sweep(small(), Path("/proc/s.h5"), workers=1)


def test_an_out_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "s.h5").mkdir()
    with pytest.raises(ValueError, match="is not a regular file; choose another name"):
        run_sweep(small(), tmp_path / "s.h5", workers=1)
    assert len(staged(tmp_path / "s.h5")) == 2  # what was computed is kept, whatever its name was to be


def test_a_result_that_was_cut_short(tmp_path: Path) -> None:
    out = run_sweep(small(), tmp_path / "s.h5", workers=1)
    whole = read_sweep(out).values["accuracy"]["none"].tolist()
    content = out.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        out.write_bytes(content[:length])
        with pytest.raises((ArchiveError, SweepError), match=r"s\.h5:? (cannot be read|is not an HDF5 file)"):
            read_sweep(out)
    run_sweep(small(), out, workers=1)  # merged anew from what is staged
    assert read_sweep(out).values["accuracy"]["none"].tolist() == whole


def test_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run_sweep(small(), tmp_path / "s.h5", workers=1)
    content = out.read_bytes()
    monkeypatch.setattr(sweeps, "_sources", lambda: "another")
    with pytest.raises(SweepError, match=r"by a sweep of other code \(.*\): give another --out, or delete"):
        run_sweep(small(), out, workers=1)
    assert out.read_bytes() == content
    job = sweeps.jobs_of(small(), None)[0]
    monkeypatch.undo()
    with pytest.raises(SweepError, match="another version of ohmostat: install the same one everywhere"):
        sweeps.perform(job, None)


def test_a_worker_with_other_data() -> None:
    (job, *_) = sweeps.jobs_of(small(), None)
    object.__setattr__(job, "digest", "of other files")
    with pytest.raises(SweepError, match="a worker has other digits data: give every worker the same files"):
        sweeps.perform(job, None)


def test_a_run_that_cannot_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done beside it is kept; what can be known before is found out before anything runs."""
    base = Design.named("digits").replace({"learning.epochs": 1, "task.test": 50, "task.train": 100})
    out = tmp_path / "s.h5"
    bad = Sweep.over(base, {"learning.batch": (20, 500)}, 1, ("none",))
    with pytest.raises(SweepError, match=r"run none-learning\.batch=500-chip0: learning\.batch is 500"):
        run_sweep(bad, out, workers=1)
    assert not staged(out)

    good, perform = Sweep.over(base, {"learning.batch": (20, 50)}, 1, ("none",)), sweeps.perform

    def failing(job: sweeps.Job, data_dir: str | None) -> bytes:
        if job.design.learning.batch == 50:
            raise ValueError("its capacitors are full")
        return perform(job, data_dir)

    with monkeypatch.context() as patched:
        patched.setattr(sweeps.executors, "processes", ThreadPoolExecutor)
        patched.setattr(sweeps, "perform", failing)
        message = r"run none-learning\.batch=50-chip0: its capacitors are full; 1 of 2 runs are kept"
        with pytest.raises(SweepStopped, match=message):
            run_sweep(good, out, workers=1)
    assert len(staged(out)) == 1
    counts: list[int] = []
    run_sweep(good, out, workers=1, progress=lambda done, total: counts.append(done))
    assert counts == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.timeout(120)
def test_a_worker_process_that_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "s.h5"

    def kill(done: int, total: int) -> None:
        if done == 1:
            _kill_workers()

    with pytest.raises(SweepStopped, match="for want of memory: give fewer --workers; 1 of 2 runs are kept"):
        run_sweep(small(**{"task.train": 1200}), out, workers=1, progress=kill)
    assert len(staged(out)) == 1


def _kill_workers() -> None:
    """Kill the spawned children of this process, as the system does when memory runs out."""
    me = os.getpid()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == me and b"spawn_main" in command:
            os.kill(int(folder.name), signal.SIGKILL)
