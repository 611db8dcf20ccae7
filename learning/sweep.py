"""Sweeps: points of a design x chips x arms, over processes or a cluster, resumable at any moment.

Every run is staged as a file of its own, written under a temporary name, synced and renamed, in a folder
beside the result; the result is merged from the staged files. The one process that was asked for the sweep
does all the writing: a run's file comes to it as bytes. A run's content depends on its design, data and chip
seed only, never on order, workers, place or interruptions.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..circuits.design import Design
from ..circuits.files import ArchiveError, atomic_write
from ..circuits.specs import TaskSpec
from ..circuits.units import closest, did_you_mean
from . import executors
from .data import load_task
from .dataset import Dataset
from .points import Point, changes, checked, grid

if TYPE_CHECKING:
    from .training import Trainer

ARMS: dict[str, dict[str, object]] = {
    "none": {"learning.rule": "ep", "homeostat.mode": "off"},
    "homeostat": {"learning.rule": "ep", "homeostat.mode": "probe"},
    "homeostat-feedback": {"learning.rule": "ep", "homeostat.mode": "probe", "homeostat.moves": "feedback"},
    "decay": {"learning.rule": "ep", "homeostat.mode": "decay"},
    "adjoint": {"learning.rule": "adjoint", "homeostat.mode": "off"},
    "adjoint-homeostat": {"learning.rule": "adjoint", "homeostat.mode": "probe"},
    "trim": {"learning.rule": "ep", "homeostat.mode": "trim"},
    "adjoint-trim": {"learning.rule": "adjoint", "homeostat.mode": "trim"},
    "aep": {"learning.rule": "aep", "homeostat.mode": "off"},
    "coupled": {"learning.rule": "coupled", "homeostat.mode": "off"},
    "kolen-pollack": {"learning.rule": "kolen-pollack", "homeostat.mode": "decay"},
    "product-feedback": {"learning.rule": "product-feedback", "homeostat.mode": "decay"},
}
COMPARED = ("none", "homeostat", "decay", "adjoint")
SCHEMA, SCHEMA_VERSION = "ohmostat-sweep", 2
LONGEST_NAME = 150  # of a run, in characters: file systems take 255


def compared(design: Design) -> tuple[str, ...]:
    """The arms that are compared where none are named: those that the design's family has hardware for."""
    special = {
        "resistive": ("none", "trim", "adjoint"),
        "shared": ("none", "trim", "decay", "adjoint"),
        "loop": ("none", "adjoint"),
        "relay": ("none", "product-feedback", "adjoint"),
    }
    return special.get(design.chip.family, COMPARED)


class SweepError(ValueError):
    """A sweep that cannot start; says why and what to do."""


class SweepStopped(RuntimeError):
    """A sweep that could not be brought to its end; says why, what is kept, and what to do."""


@dataclass(frozen=True)
class RunKey:
    """One run of a sweep: an arm, a point of the design's keys, a chip seed."""

    arm: str
    point: Point
    chip: int

    @property
    def name(self) -> str:
        """Name of the run's group and staged file."""
        point = ",".join(f"{key}={value}" for key, value in self.point).replace("/", "_")
        if len(point) > LONGEST_NAME:
            point = hashlib.blake2b(json.dumps(self.point).encode(), digest_size=16).hexdigest()
        return "-".join(part for part in (self.arm, point, f"chip{self.chip}") if part)


@dataclass(frozen=True)
class Sweep:
    """Runs over one design: at every point, ``chips`` chips under every arm (``points.grid`` and its like
    make points). Raises DesignError or SweepError for an impossible one.

    So it does for an arm that needs what the design's family lacks: `trim` needs drivers (`shared`),
    `kolen-pollack` a feedback array (`twin`), `product-feedback` relays (`relay`), `aep` a way back along
    every array between neurons.
    """

    design: Design
    points: tuple[Point, ...] = ((),)
    chips: int = 3
    arms: tuple[str, ...] = COMPARED
    keep_chips: bool = False

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown:
            hint = did_you_mean(closest(unknown[0], ARMS))
            raise SweepError(f"unknown arm {unknown[0]!r}{hint}; choose from {', '.join(ARMS)}")
        if self.chips < 1:
            raise SweepError(f"chips is {self.chips}; it must be at least 1")
        if not self.points:
            raise SweepError("there are no points; a sweep needs at least one")
        object.__setattr__(self, "points", tuple(map(checked, self.points)))
        if len({tuple(key for key, _ in point) for point in self.points}) > 1:
            raise SweepError("the points differ in their keys; give every point a value of each key")
        for what, values in (("points", self.points), ("arms", self.arms)):
            if len(set(values)) < len(values):
                raise SweepError(f"the {what} repeat a value; give each once")
        owned = {key for arm in self.arms for key in ARMS[arm]}
        if taken := [key for key, _ in self.points[0] if key in owned]:
            raise SweepError(f"{taken[0]} is what arms differ in: choose --arms in place of varying it")
        self._check_arms()
        self._check_hardware()

    def _check_arms(self) -> None:
        """An arm may set what the design has already, and be another one's double."""
        known: dict[object, str] = {}
        for arm in self.arms:
            design = self.run_design(RunKey(arm, self.points[0], 0))
            if (other := known.setdefault((design.learning, design.homeostat), arm)) != arm:
                raise SweepError(f"arms {other} and {arm} are the same on this design: leave one of them out")

    def _check_hardware(self) -> None:
        """Every level's design is checked, and what a run's trainer would refuse is refused now: a rule or
        controller for which the family has no hardware.
        """
        from ..circuits.circuit import Circuit
        from .catalogue import make_rule
        from .training import make_homeostat

        designs = [self.run_design(RunKey(arm, point, 0)) for point in self.points for arm in self.arms]
        for design in {(d.chip, d.learning, d.homeostat): d for d in designs}.values():
            make_rule(design).check(Circuit(design))
            make_homeostat(design, seed=0)

    @classmethod
    def over(cls, design: Design, levels: Mapping[str, Sequence[object]], *args: object) -> Sweep:
        """Over a grid of levels, by dotted key; the rest as the sweep itself takes it."""
        return cls(design, grid(levels), *args)  # type: ignore[arg-type]

    def runs(self) -> list[RunKey]:
        """Every run, chip by chip, so that a partial sweep already compares all arms on one chip."""
        return [
            RunKey(arm, point, chip)
            for chip in range(self.chips)
            for point in self.points
            for arm in self.arms
        ]

    def run_design(self, key: RunKey) -> Design:
        """The design of one run."""
        return self.design.replace({**dict(key.point), **ARMS[key.arm]})


@dataclass(frozen=True)
class Job:
    """All that a run depends on; ``digest`` is that of its data, ``sources`` that of the program."""

    key: RunKey
    design: Design
    digest: str
    keep_chip: bool
    sources: str

    @property
    def identity(self) -> str:
        """A hash of it all: a staged file of another identity is not reused."""
        parts = [self.sources, SCHEMA_VERSION, self.key.name, self.design.to_toml(), self.keep_chip]
        return hashlib.sha256(json.dumps([*parts, self.digest]).encode()).hexdigest()

    @property
    def about(self) -> dict[str, str | bool]:
        """What the hash is of, to tell how another one came about."""
        return {
            "design": self.design.to_toml(), "data": self.digest, "sources": self.sources,
            "keep_chip": self.keep_chip,
        }  # fmt: skip

    def differs(self, staged: Mapping[str, str | bool]) -> str:
        """How the sweep that staged a run, whose :attr:`about` is given, differs from this; of a file that an
        earlier version staged it is not known.
        """
        if not staged.keys() >= self.about.keys():
            return "of another design, on other data, or by other code"
        keys, found = changes(str(staged["design"]), self.design), []
        if keys:
            found.append(f"of another design ({', '.join(keys)})")
        if staged["keep_chip"] != self.keep_chip:
            found.append("without --keep-chips" if self.keep_chip else "with --keep-chips")
        if staged["data"] != self.digest and not any(key.startswith("task.") for key in keys):
            found.append("on other data")
        if staged["sources"] != self.sources:
            found.append("of other code (another version of ohmostat, or a change in its sources)")
        return " and ".join(found) or "in another format"


@functools.cache
def _sources() -> str:
    """Hash of the package's own code, when first asked for: results of other code are not mixed in."""
    root = Path(__file__).resolve().parent.parent
    files = [p for part in ("simulator", "circuits", "learning") for p in (root / part).glob("*.py")]
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def data_of(task: TaskSpec, data_dir: str | None) -> tuple[Dataset, str]:
    """A task's data and their digest: read once by every process, whatever its seed."""
    return _read(replace(task, seed=0), data_dir)


@functools.lru_cache(maxsize=4)
def _read(task: TaskSpec, data_dir: str | None) -> tuple[Dataset, str]:
    data = load_task(task, data_dir)
    return data, data.digest()


def run_sweep(
    sweep: Sweep,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    data_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run what is not yet done, merge everything into ``out`` (HDF5), and return its path.

    ``workers`` processes (default: a core each), or the workers of the Dask ``scheduler`` at that address.
    ``progress(done, total)`` is called after every run. Kill it at any moment: the same call goes on
    where it stopped.

    Raises SweepError where it cannot start, SweepStopped where it comes to no end.
    """
    staging, jobs = staging_of(out), jobs_of(sweep, data_dir)
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{staging}: cannot be made ({error.strerror}); choose another --out") from error
    with _only_one(staging):
        for left in staging.glob(".*.part"):  # by a killed sweep
            left.unlink()
        todo = [job for job in jobs if not is_done(staging, job)]
        report = progress or (lambda done, total: None)
        report(len(jobs) - len(todo), len(jobs))
        if todo:
            count = min(workers or executors.cores(), len(todo))
            pool = executors.cluster(scheduler) if scheduler else executors.processes(count)
            _work_off(pool, todo, staging, len(jobs), data_dir, report)
        merge(sweep, staging, out)
    return out


def staging_of(out: Path) -> Path:
    """The folder of a sweep's finished runs, beside its result."""
    return out.with_name(out.name + ".runs")


def jobs_of(sweep: Sweep, data_dir: str | None) -> list[Job]:
    """Every run with all that it depends on. Raises SweepError for a batch larger than its data."""
    jobs = []
    for key in sweep.runs():
        design = sweep.run_design(key)
        data, digest = data_of(design.task, data_dir)
        if design.learning.batch > len(data.train_y):
            fault = f"learning.batch is {design.learning.batch}, but there are {len(data.train_y)} samples"
            raise SweepError(
                f"run {key.name}: {fault} to train on: make the batch smaller, or task.train larger"
            )
        jobs.append(Job(key, design, digest, sweep.keep_chips, _sources()))
    return jobs


def _work_off(
    pool: executors.Place, todo: Sequence[Job], staging: Path, total: int, data_dir: str | None,
    report: Callable[[int, int], None],
) -> None:  # fmt: skip
    with pool as place:
        futures = {place.submit(perform, job, data_dir): job for job in todo}
        done = total - len(todo)
        try:
            for future in as_completed(futures):
                job = futures.pop(future)
                _stage(staging, job, _content(future, job))
                done += 1
                report(done, total)
        except (SweepStopped, ArchiveError, OSError) as error:
            kept = f"{done} of {total} runs are kept, and the same command goes on from there"
            raise SweepStopped(f"{error}; {kept}") from error


def _content(future: Future[bytes], job: Job) -> bytes:
    """What a run came to; SweepStopped, with a remedy, where it came to nothing."""
    try:
        return future.result()
    except BrokenExecutor as error:
        fault = "a worker process was killed, perhaps for want of memory: give fewer --workers"
        raise SweepStopped(fault) from error
    except CancelledError as error:
        raise SweepStopped("the scheduler is lost, or gave the sweep up: see to the cluster") from error
    except Exception as error:  # whatever a run's own computation raises
        raise SweepStopped(f"run {job.key.name}: {error}") from error


def perform(job: Job, data_dir: str | None) -> bytes:
    """Do one run: its HDF5 file, as it is to be staged. The data are found where the worker is."""
    from .training import Trainer

    if job.sources != _sources():
        raise SweepError(
            "a worker has another version of ohmostat: install the same one everywhere (or, if its sources "
            "were changed meanwhile, begin again)"
        )
    data, digest = data_of(job.design.task, data_dir)
    if digest != job.digest:
        raise SweepError(f"a worker has other {job.design.task.data} data: give every worker the same files")
    trainer = Trainer.from_design(job.design, data, chip_seed=job.key.chip)
    trainer.fit()
    return run_file(job, trainer)


def run_file(job: Job, trainer: Trainer) -> bytes:
    """The HDF5 file of a run whose trainer has come to its end."""
    import h5py

    from ..circuits.archive import Run, write_run

    key, history = job.key, trainer.history_arrays()
    history.pop("seconds")  # a sweep's content must not depend on how fast it ran
    with h5py.File("run", "w", driver="core", backing_store=False) as file:
        group = file.create_group("run")
        file.attrs.update(job.about)  # beside what is merged
        group.attrs.update(identity=job.identity, arm=key.arm, chip=key.chip, point=json.dumps(key.point))
        for name, values in history.items():
            group.create_dataset(f"history/{name}", data=values)
        if job.keep_chip:
            readout = (trainer.readout.weight, trainer.readout.bias)
            write_run(group.create_group("chip"), Run(trainer.chip, readout, history, {"arm": key.arm}))
        file.flush()
        return bytes(file.id.get_file_image())


def merge(sweep: Sweep, staging: Path, out: Path) -> None:
    """Merge every staged run into ``out``, in the sweep's order, under a temporary name."""
    import h5py

    with atomic_write(out) as path, h5py.File(path, "w") as file:
        file.attrs.update(
            schema=SCHEMA, schema_version=SCHEMA_VERSION, ohmostat_version=__version__,
            design=sweep.design.to_toml(), chips=sweep.chips, arms=list(sweep.arms),
        )  # fmt: skip
        file["points"] = json.dumps(sweep.points)
        runs = file.create_group("runs", track_order=True)
        for key in sweep.runs():
            content = _content_of(_staged(staging, key))
            if content is None:
                raise SweepStopped(f"run {key.name} was damaged on disk: the same command does it again")
            with h5py.File(io.BytesIO(content), "r") as part:
                part.copy("run", runs, key.name)


# -- staged runs: the SHA-256 of what follows, and an HDF5 file ------------------------------------

DIGEST = 32  # bytes


def _staged(staging: Path, key: RunKey) -> Path:
    return staging / f"{key.name}.run"


def _stage(staging: Path, job: Job, content: bytes) -> None:
    with atomic_write(_staged(staging, job.key)) as path:
        path.write_bytes(hashlib.sha256(content).digest() + content)


def _content_of(path: Path) -> bytes | None:
    """The HDF5 file of a staged run; None if any bit of it has changed."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise SweepError(f"{path} cannot be read ({error.strerror}); see to the cause") from error
    digest, content = stored[:DIGEST], stored[DIGEST:]
    return content if hashlib.sha256(content).digest() == digest else None


def is_done(staging: Path, job: Job) -> bool:
    """Whether a staged run of this identity is there, whole; one of another identity stops the sweep."""
    import h5py

    path = _staged(staging, job.key)
    content = _content_of(path) if path.exists() else None
    if content is None:
        return False
    with h5py.File(io.BytesIO(content), "r") as file:
        found, about = file["run"].attrs["identity"], dict(file.attrs)
    if found != job.identity:
        raise SweepError(
            f"{path} was staged by a sweep {job.differs(about)}: "
            f"give another --out, or delete the folder {staging} to start afresh"
        )
    return True


@contextmanager
def _only_one(staging: Path) -> Iterator[None]:
    """Hold the staging folder's lock; the system lets go of it even if this process is killed."""
    if sys.platform == "win32":  # pragma: no cover - no flock there
        yield
        return
    import fcntl

    with open(staging / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SweepError(
                f"another sweep is writing to {staging}: wait for it, or give another --out"
            ) from None
        yield
