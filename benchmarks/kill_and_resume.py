"""kill -9 a sweep at random moments: does every resumed file equal the uninterrupted one?

In turn, the parent alone is killed and its workers are left to find out by themselves, or all of them at
once. Each trial starts afresh, is killed at a moment drawn uniformly over the length of an uninterrupted
sweep, and is run again to its end. Trials that were killed with some runs staged and others not are counted,
until there are ten; those killed earlier or later (but before the sweep had ended) must end equal as well.
The uninterrupted sweep has one worker, the killed ones two: numbers may not depend on that either.

    python benchmarks/kill_and_resume.py [--trials 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

SWEEP = (
    "sweep", "digits", "--mismatch", "0,0.5", "--chips", "1", "--quiet", "--keep-chips",
    "--set", "learning.epochs=8", "--set", "task.train=1400", "--set", "task.test=100",
)  # fmt: skip


def start(out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start the sweep in a session of its own."""
    command = [sys.executable, "-m", "ohmostat", *SWEEP, "--workers", str(workers), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def content(path: Path) -> dict[str, object]:
    """Every attribute and data set of an HDF5 file, by path."""
    found: dict[str, object] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = np.asarray(value)
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        visit("/", file)
        file.visititems(visit)
    return found


def differences(a: Path, b: Path) -> list[str]:
    """Paths at which two files differ, in type, shape or any bit."""
    first, second = content(a), content(b)
    differing = [name for name in first.keys() & second.keys() if not _same(first[name], second[name])]
    return sorted([*(first.keys() ^ second.keys()), *differing])


def _same(a: object, b: object) -> bool:
    x, y = np.asarray(a), np.asarray(b)
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    return bool(np.array_equal(x, y, equal_nan=x.dtype.kind == "f"))


def trial(folder: Path, reference: Path, moment: float, whole_group: bool) -> tuple[int, list[str]]:
    """Kill at ``moment`` [s], resume, compare: (runs staged when killed, differences).

    (-1, []) if the sweep had already ended.
    """
    out = folder / "sweep.h5"
    victim = start(out, 2)
    time.sleep(moment)
    if victim.poll() is not None:
        return -1, []
    (os.killpg if whole_group else os.kill)(victim.pid, 9)
    victim.wait()
    staged = len(list(out.with_name("sweep.h5.runs").glob("*.run")))
    if start(out, 2).wait() != 0:
        return staged, ["the resumed sweep failed"]
    return staged, differences(reference, out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        reference = Path(name) / "reference.h5"
        if start(reference, 1).wait() != 0:
            print("the uninterrupted sweep failed")
            return 1
        began = time.monotonic()
        start(Path(name) / "timed.h5", 2).wait()
        length = time.monotonic() - began
        print(f"uninterrupted: {length:.1f} s with two workers")
        done, total = 0, len(list(reference.with_name("reference.h5.runs").glob("*.run")))
        for attempt in range(10 * arguments.trials):
            folder = Path(name) / f"trial{attempt}"
            folder.mkdir()
            moment = float(rng.uniform(0, length))
            staged, found = trial(folder, reference, moment, whole_group=attempt % 2 == 1)
            if staged < 0:
                continue
            done += 0 < staged < total
            bad += bool(found)
            verdict = "equal" if not found else f"DIFFERS at {found[:3]}"
            print(
                f"killed after {moment:5.2f} s with {staged} of {total} runs staged; resumed: {verdict}",
                flush=True,
            )
            if done == arguments.trials:
                break
        bad += done < arguments.trials
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
