"""Sweeps on a Dask cluster: a scheduler and workers of this machine, some of them killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ohmostat.circuits.design import Design
from ohmostat.learning import executors
from ohmostat.learning.sweep import Sweep, SweepStopped, run_sweep

Differences = Callable[[Path, Path], list[str]]
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def dask(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


class Cluster:
    """A scheduler on loopback, and two workers of one thread each."""

    def __init__(self, folder: Path) -> None:
        file = folder / "scheduler.json"
        self.processes = [
            dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                 "--scheduler-file", str(file))
        ]  # fmt: skip
        self.address = self._answer(file)
        for name in "ab":
            self.processes.append(
                dask("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny",
                     "--no-dashboard", "--name", name, "--local-directory", str(folder / name))
            )  # fmt: skip

    def _answer(self, file: Path) -> str:
        for _ in range(600):
            if file.exists() and file.stat().st_size:
                return str(json.loads(file.read_text())["address"])
            time.sleep(0.1)
        raise TimeoutError("the scheduler did not start")

    def kill(self, which: int) -> None:
        self.processes[which].send_signal(signal.SIGKILL)

    def close(self) -> None:
        for process in self.processes[::-1]:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    yield running
    running.close()


def small() -> Sweep:
    design = Design.named("digits").replace(
        {"learning.epochs": 1, "task.train": 600, "task.test": 100, "programming.mode": "pulses"}
    )
    return Sweep.over(design, {"mismatch.conductance": (0.0, 0.5)}, 2, ("none", "homeostat"), True)


def kill_after(cluster: Cluster, runs: int, which: int) -> Callable[[int, int], None]:
    """Kill a process of the cluster once so many runs are done."""

    def progress(done: int, total: int) -> None:
        if done == runs:
            cluster.kill(which)

    return progress


@pytest.mark.timeout(240)
def test_a_sweep_that_loses_a_worker_equals_the_local_one(
    cluster: Cluster, tmp_path: Path, differences: Differences
) -> None:
    local = run_sweep(small(), tmp_path / "local.h5", workers=1)
    far = run_sweep(
        small(), tmp_path / "far.h5", scheduler=cluster.address, progress=kill_after(cluster, 2, 1)
    )
    assert cluster.processes[1].wait(5) == -signal.SIGKILL and cluster.processes[2].poll() is None
    assert differences(far, local) == []


@pytest.mark.timeout(240)
def test_a_lost_scheduler_loses_no_run_that_was_reported(
    cluster: Cluster, tmp_path: Path, differences: Differences
) -> None:
    out, reported = tmp_path / "far.h5", []

    def progress(done: int, total: int) -> None:
        reported.append(done)
        if done == 3:
            cluster.kill(0)

    with pytest.raises(SweepStopped, match=r"[3-7] of 8 runs are kept"):
        run_sweep(small(), out, scheduler=cluster.address, progress=progress)
    kept = len(list((tmp_path / "far.h5.runs").glob("*.run")))
    assert kept >= max(reported) >= 3 and not out.exists()
    again: list[int] = []
    run_sweep(small(), out, workers=2, progress=lambda done, total: again.append(done))
    assert again[0] == kept and again[-1] == 8
    assert differences(out, run_sweep(small(), tmp_path / "local.h5", workers=2)) == []


def test_no_scheduler_no_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "CONNECT", "1s")
    with pytest.raises(executors.ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run_sweep(small(), tmp_path / "s.h5", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(executors.ClusterError, match="no Dask scheduler answers at magic://x"):
        run_sweep(small(), tmp_path / "s.h5", scheduler="magic://x")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(executors.ClusterError, match=r"pip install 'ohmostat\[cluster\]'"):
        run_sweep(small(), tmp_path / "s.h5", scheduler="tcp://127.0.0.1:9")
