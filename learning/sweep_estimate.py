"""What a sweep would take, from a few steps of it: runs, time and disk space."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .executors import cores
from .sweep import Job, Sweep, data_of, jobs_of, run_file
from .training import Trainer

MEASURED_BY = (
    "from one training step and one evaluation\n            of the first chip at the first point, under each "
    "arm; where points differ in size, it can be far off"
)


@dataclass(frozen=True)
class Estimate:
    """``seconds`` over ``workers`` processes, ``bytes`` of the staged runs and the result together."""

    runs: int
    points: int
    chips: int
    arms: int
    workers: int
    seconds: float
    bytes: int

    @classmethod
    def of(cls, sweep: Sweep, workers: int | None = None, data_dir: str | None = None) -> Estimate:
        """Measure the first run of every arm for a step. Raises SweepError as the sweep itself would."""
        jobs = jobs_of(sweep, data_dir)
        places = min(workers or cores(), len(jobs))
        costs = {job.key.arm: _Cost.of(job, data_dir) for job in jobs[: len(sweep.arms)]}
        seconds = sum(costs[job.key.arm].run(job, data_dir) for job in jobs)
        stored = 2 * sum(costs[job.key.arm].bytes for job in jobs)
        return cls(
            len(jobs), len(sweep.points), sweep.chips, len(sweep.arms), places, seconds / places, stored
        )

    def words(self) -> str:
        """For a terminal."""
        return (
            f"{self.runs} runs: {self.points} points x {self.chips} chips x {self.arms} arms\n"
            f"time        about {_duration(self.seconds)} on {self.workers} processes, {MEASURED_BY}\n"
            f"disk space  about {self.bytes / 1e6:.3g} MB at most, half of it for the runs as they are staged"
        )


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
