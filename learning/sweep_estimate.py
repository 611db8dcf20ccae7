"""What a sweep would take, from a few steps of it: runs, time and disk space."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .executors import cores
from .figures import counted
from .points import changes
from .sweep import Job, Sweep, data_of, is_done, jobs_of, run_file, staging_of
from .sweep_result import read_sweep
from .training import Trainer

MEASURED_BY = (
    "from one training step and one evaluation\n            of the first chip at the first point, under each "
    "arm; where points differ in size, it can be far off"
)


@dataclass(frozen=True)
class Estimate:
    """``seconds`` over ``workers`` processes for the runs that are not ``done``, ``bytes`` of the staged runs
    and the result together; ``replaces``: what stands at the result's place, in words.
    """

    runs: int
    points: int
    chips: int
    arms: int
    workers: int
    seconds: float
    bytes: int
    done: int = 0
    replaces: str = ""

    @classmethod
    def of(
        cls, sweep: Sweep, workers: int | None = None, data_dir: str | None = None, out: Path | None = None
    ) -> Estimate:
        """Measure the first run of every arm for a step. Raises SweepError as the sweep itself would, also
        for runs of another design that are staged beside ``out``.
        """
        jobs = jobs_of(sweep, data_dir)
        todo = jobs if out is None else [job for job in jobs if not is_done(staging_of(out), job)]
        places = min(workers or cores(), max(len(todo), 1))
        costs = {job.key.arm: _Cost.of(job, data_dir) for job in jobs[: len(sweep.arms)]}
        seconds = sum(costs[job.key.arm].run(job, data_dir) for job in todo)
        stored = 2 * sum(costs[job.key.arm].bytes for job in jobs)
        return cls(
            len(jobs), len(sweep.points), sweep.chips, len(sweep.arms), places, seconds / places, stored,
            len(jobs) - len(todo), _standing(sweep, out) if out is not None else "",
        )  # fmt: skip

    def words(self) -> str:
        """For a terminal."""
        done = f", of which {self.done} are done already and kept as they are" if self.done else ""
        replaced = f"\nresult      replaces {self.replaces}" if self.replaces else ""
        return (
            f"{self.runs} runs: {self.points} points x {self.chips} chips x {self.arms} arms{done}\n"
            f"time        about {_duration(self.seconds)} on {self.workers} processes, {MEASURED_BY}\n"
            f"disk space  about {self.bytes / 1e6:.3g} MB at most, half of it for the runs as they are staged"
            f"{replaced}"
        )


def _standing(sweep: Sweep, out: Path) -> str:
    """What a sweep would replace at the end of its work; nothing where nothing stands."""
    if not out.exists():
        return ""
    try:
        found = read_sweep(out)
        old = Sweep(found.design, found.points, found.chips, found.arms)
    except ValueError:
        return f"{out}, which is no sweep that can be read"
    differing = _differences(old, sweep)
    if not differing:
        return f"{out}, which holds this very sweep"
    asked, both = set(sweep.runs()), len(set(sweep.runs()) & set(old.runs()))
    what = f"{both} of these {len(asked)} runs" if old.design == sweep.design and both else "another sweep"
    return f"{out}, which holds {what} ({', '.join(differing)})"


def _differences(old: Sweep, new: Sweep) -> list[str]:
    """What of a sweep is not as in an ``old`` one: keys of the design, chips, arms, points."""
    found = changes(old.design.to_toml(), new.design)
    if old.chips != new.chips:
        found.append(f"chips {old.chips} -> {new.chips}")
    for what, before, after in (("arm", old.arms, new.arms), ("point", old.points, new.points)):
        more, fewer = (len(set(a) - set(b)) for a, b in ((after, before), (before, after)))
        found += [f"{counted(more, what)} more"] if more else []
        found += [f"{counted(fewer, what)} fewer"] if fewer else []
        if not (more or fewer) and before != after:
            found.append(f"{what}s in another order")
    return found


@dataclass(frozen=True)
class _Cost:
    """Of one arm: a step and an evaluation [s], and a run's file."""

    step: float
    evaluation: float
    bytes: int

    @classmethod
    def of(cls, job: Job, data_dir: str | None) -> _Cost:
        from threadpoolctl import threadpool_limits

        trainer = Trainer.from_design(job.design, data_of(job.design.task, data_dir)[0], job.key.chip)
        images, labels = next(trainer.batches(0))
        with threadpool_limits(1, user_api="blas"):  # as in a run
            trainer.step(images, labels)  # what is compiled on first use is compiled
            began = time.perf_counter()
            trainer.step(images, labels)
            step = time.perf_counter() - began
        trainer.fit(0)
        return cls(step, trainer.history[0].seconds, len(run_file(job, trainer)))

    def run(self, job: Job, data_dir: str | None) -> float:
        """Of a whole run [s]."""
        learning, samples = job.design.learning, len(data_of(job.design.task, data_dir)[0].train_y)
        steps = learning.epochs * (samples // learning.batch)
        return steps * self.step + (learning.epochs + 1) * self.evaluation


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds > 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
