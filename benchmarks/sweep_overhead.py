"""What a sweep costs beside its runs, and what a second worker brings.

The same runs of about a second each, one way after the other: in a plain loop in this process, without
anything kept; as a sweep with one worker; as a sweep with two; and in two plain loops at once, half the runs
each, which is what the machine itself gives two processes. A sweep's time has all of it: starting the workers
and importing what they need, sending, staging and syncing each run, merging. Loops are timed from when
everything is imported and compiled code is loaded (by a run that is not counted).

    python benchmarks/sweep_overhead.py [--runs 60]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from ohmostat.circuits.design import Design
from ohmostat.learning.data import load_task
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.training import Trainer


def timed(sweep: Sweep, out: Path, workers: int) -> float:
    began = time.perf_counter()
    run_sweep(sweep, out, workers=workers)
    return time.perf_counter() - began


def loop(sweep: Sweep, first: int = 0, step: int = 1, ready: Barrier | None = None) -> float:
    """Seconds that every ``step``-th run takes, one after the other."""
    data, keys = load_task(sweep.design.task, None), sweep.runs()
    Trainer.from_design(sweep.run_design(keys[0]), data, 0).fit()
    if ready is not None:
        ready.wait()
    began = time.perf_counter()
    for key in keys[first::step]:
        Trainer.from_design(sweep.run_design(key), data, key.chip).fit()
    return time.perf_counter() - began


def half(sweep: Sweep, first: int, ready: Barrier, seconds: Queue[float]) -> None:
    seconds.put(loop(sweep, first, 2, ready))


def both_halves(sweep: Sweep) -> float:
    """Seconds that two processes take for half the runs each: the longer one."""
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(2), context.Queue()
    pair = [context.Process(target=half, args=(sweep, first, ready, seconds)) for first in range(2)]
    for process in pair:
        process.start()
    longest = max(seconds.get() for _ in pair)
    for process in pair:
        process.join()
    return longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    design = Design.named("digits").replace("learning.epochs", arguments.epochs)
    sweep = Sweep(design, chips=arguments.runs, arms=("homeostat",))
    with tempfile.TemporaryDirectory() as folder:
        seconds = {
            "loop": loop(sweep),
            "one worker": timed(sweep, Path(folder) / "one.h5", 1),
            "two workers": timed(sweep, Path(folder) / "two.h5", 2),
            "two loops at once": both_halves(sweep),
        }
    alone, one, two, at_once = seconds.values()
    print(json.dumps({
        "runs": arguments.runs, "seconds a run": round(alone / arguments.runs, 3),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "overhead of a sweep with one worker": round(one / alone - 1, 4),
        "two workers against one": round(one / two, 3),
        "two loops at once against one": round(alone / at_once, 3),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
