"""Mismatch sweeps: chips x levels x arms over a process pool, resumable at any moment.

Every run is staged as a file of its own, written under a temporary name, synced and renamed, in a folder
beside the result; the result is merged from the staged files by the parent alone. A run's content depends
on its design, data and chip seed only, never on order, workers or interruptions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..circuits.design import Design

ARMS: dict[str, dict[str, object]] = {
    "none": {"learning.rule": "ep", "homeostat.mode": "off"},
    "homeostat": {"learning.rule": "ep", "homeostat.mode": "probe"},
    "decay": {"learning.rule": "ep", "homeostat.mode": "decay"},
    "adjoint": {"learning.rule": "adjoint", "homeostat.mode": "off"},
    "adjoint-homeostat": {"learning.rule": "adjoint", "homeostat.mode": "probe"},
    "trim": {"learning.rule": "ep", "homeostat.mode": "trim"},
    "aep": {"learning.rule": "aep", "homeostat.mode": "off"},
    "coupled": {"learning.rule": "coupled", "homeostat.mode": "off"},
    "kolen-pollack": {"learning.rule": "kolen-pollack", "homeostat.mode": "decay"},
}
COMPARED = ("none", "homeostat", "decay", "adjoint")
SCHEMA, SCHEMA_VERSION = "ohmostat-sweep", 1
ALIGNED = 0.95  # a first-layer cosine to the adjoint below this is a wrong gradient


class SweepError(RuntimeError):
    """A sweep that cannot start or go on; says why and what to do."""


@dataclass(frozen=True)
class RunKey:
    """One run of a sweep: an arm, a level of mismatch σ, a starting angle [degrees], a chip seed."""

    arm: str
    sigma: float
    angle: float
    chip: int

    @property
    def name(self) -> str:
        """Name of the run's group and staged file."""
        return f"{self.arm}-sigma{self.sigma!r}-angle{self.angle!r}-chip{self.chip}"


@dataclass(frozen=True)
class Sweep:
    """A grid of runs over one design. Raises DesignError or SweepError for an impossible grid.

    So it does for an arm that needs what the design's family lacks: `trim` needs drivers (`shared`),
    `kolen-pollack` a feedback array (`twin`), `aep` a way back along every array between neurons.
    """

    design: Design
    sigmas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    angles: tuple[float, ...] = (0.0,)
    chips: int = 3
    arms: tuple[str, ...] = COMPARED
    keep_chips: bool = False

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown:
            raise SweepError(f"unknown arm {unknown[0]!r}; choose from {', '.join(ARMS)}")
        if self.chips < 1:
            raise SweepError(f"chips is {self.chips}; it must be at least 1")
        for name, levels in (("mismatch", self.sigmas), ("angle", self.angles)):
            if len(set(levels)) < len(levels):
                raise SweepError(f"{name} levels {levels} repeat a value; give each once")
        designs = {key.arm: self.run_design(key) for key in self.runs()}  # every level's design is checked
        for design in designs.values():
            _check_hardware(design)

    def runs(self) -> list[RunKey]:
        """Every run, chip by chip, so that a partial sweep already compares all arms on one chip."""
        return [
            RunKey(arm, sigma, angle, chip)
            for chip in range(self.chips)
            for sigma in self.sigmas
            for angle in self.angles
            for arm in self.arms
        ]

    def run_design(self, key: RunKey) -> Design:
        """The design of one run."""
        return self.design.replace(
            {"mismatch.conductance": key.sigma, "learning.angle": key.angle, **ARMS[key.arm]}
        )

    def identity(self, key: RunKey, data: str) -> str:
        """What a run's content depends on, as a hash: a staged file of another identity is not reused.

        ``data`` is the :meth:`Dataset.digest <ohmostat.learning.data.Dataset.digest>` of what is learned.
        """
        text = json.dumps(
            [_sources(), SCHEMA_VERSION, key.name, self.run_design(key).to_toml(), self.keep_chips, data]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def _check_hardware(design: Design) -> None:
    """Refuse now what a run's trainer would: a rule or controller for which the family has no hardware."""
    from ..circuits.circuit import Circuit
    from .catalogue import make_rule
    from .training import make_homeostat

    make_rule(design).check(Circuit(design))
    make_homeostat(design, seed=0)


@functools.cache
def _sources() -> str:
    """Hash of the package's own code: results of other code are not mixed in."""
    root = Path(__file__).resolve().parent.parent
    files = [p for part in ("simulator", "circuits", "learning") for p in (root / part).glob("*.py")]
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_sweep(
    sweep: Sweep,
    out: Path,
    *,
    workers: int | None = None,
    data_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run what is not yet done, merge everything into ``out`` (HDF5), and return its path.

    ``progress(done, total)`` is called after every run. Kill it at any moment: the same call goes on
    where it stopped.
    """
    from .data import load_task

    digest = load_task(sweep.design.task, data_dir).digest()  # no run of a sweep changes it
    staging = out.with_name(out.name + ".runs")
    staging.mkdir(parents=True, exist_ok=True)
    keys = sweep.runs()
    with _only_one(staging):
        for left in staging.glob(".*.part"):  # by a killed sweep
            left.unlink()
        todo = [key for key in keys if not _is_done(staging, key, sweep.identity(key, digest))]
        report = progress or (lambda done, total: None)
        report(len(keys) - len(todo), len(keys))
        if todo:
            _work_off(sweep, todo, staging, digest, len(keys), workers or _cores(), data_dir, report)
        merge(sweep, staging, out)
    return out


def _work_off(
    sweep: Sweep, todo: Sequence[RunKey], staging: Path, digest: str, total: int, workers: int,
    data_dir: str | None, report: Callable[[int, int], None],
) -> None:  # fmt: skip
    import multiprocessing

    # Workers inherit this: one BLAS thread each, or two processes on two cores fight for four.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    pool = ProcessPoolExecutor(
        min(workers, len(todo)), multiprocessing.get_context("spawn"), _watch_parent, (os.getpid(),)
    )
    with pool:
        futures = {pool.submit(stage, sweep, key, staging, data_dir, digest): key for key in todo}
        try:
            for done, future in enumerate(as_completed(futures), total - len(todo) + 1):
                future.result()
                report(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _watch_parent(parent: int) -> None:
    """Worker start: end with the parent, even one that was killed (its workers would wait for ever)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stage(sweep: Sweep, key: RunKey, staging: Path, data_dir: str | None, digest: str) -> None:
    """Do one run and stage its file; ``digest`` is that of its data."""
    import h5py

    from ..circuits.archive import Run, write_run
    from ..circuits.files import atomic_write
    from .data import load_task
    from .training import Trainer

    data = load_task(sweep.design.task, data_dir)
    trainer = Trainer.from_design(sweep.run_design(key), data, chip_seed=key.chip)
    trainer.fit()
    history = trainer.history_arrays()
    history.pop("seconds")  # a sweep's content must not depend on how fast it ran
    with atomic_write(_staged(staging, key)) as path, h5py.File(path, "w") as file:
        group = file.create_group("run")
        group.attrs.update(
            identity=sweep.identity(key, digest),
            arm=key.arm,
            sigma=key.sigma,
            angle=key.angle,
            chip=key.chip,
        )
        for name, values in history.items():
            group.create_dataset(f"history/{name}", data=values)
        if sweep.keep_chips:
            readout = (trainer.readout.weight, trainer.readout.bias)
            write_run(group.create_group("chip"), Run(trainer.chip, readout, history, {"arm": key.arm}))


def merge(sweep: Sweep, staging: Path, out: Path) -> None:
    """Merge every staged run into ``out``, in the grid's order, under a temporary name."""
    import h5py

    from ..circuits.files import atomic_write

    with atomic_write(out) as path, h5py.File(path, "w") as file:
        file.attrs.update(
            schema=SCHEMA, schema_version=SCHEMA_VERSION, ohmostat_version=__version__,
            design=sweep.design.to_toml(), sigmas=sweep.sigmas, angles=sweep.angles,
            chips=sweep.chips, arms=list(sweep.arms),
        )  # fmt: skip
        runs = file.create_group("runs", track_order=True)
        for key in sweep.runs():
            with h5py.File(_staged(staging, key), "r") as part:
                part.copy("run", runs, key.name)


def _staged(staging: Path, key: RunKey) -> Path:
    return staging / f"{key.name}.h5"


def _is_done(staging: Path, key: RunKey, identity: str) -> bool:
    """Whether a staged file of this identity is there; one of another identity stops the sweep."""
    import h5py

    path = _staged(staging, key)
    if not path.exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            found = file["run"].attrs["identity"]
    except (OSError, KeyError):
        path.unlink()  # not one of ours, or damaged on disk: do it again
        return False
    if found != identity:
        raise SweepError(
            f"{path} was staged by a sweep of another design, on other data, or by other code: "
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- results ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SweepResult:
    """A sweep's final values: ``values[quantity][arm]`` is (sigmas, angles, chips)."""

    design: Design
    sigmas: NDArray[np.float64]
    angles: NDArray[np.float64]
    arms: tuple[str, ...]
    values: dict[str, dict[str, NDArray[np.float64]]]

    def mean_sd(self, quantity: str, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (n - 1) over chips, each (sigmas, angles)."""
        cells = self.values[quantity][arm]
        one = cells.shape[-1] == 1  # no spread to be had
        spread = np.full(cells.shape[:-1], np.nan) if one else cells.std(axis=-1, ddof=1)
        return cells.mean(axis=-1), spread


def read_sweep(path: Path) -> SweepResult:
    """Read a merged sweep file. Raises SweepError if it is not one."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("schema") != SCHEMA:
                raise SweepError(f"{path} is not a sweep file; make one with 'ohmostat sweep'")
            if int(file.attrs["schema_version"]) > SCHEMA_VERSION:
                raise SweepError(f"{path} is of a newer schema; read it with a newer ohmostat")
            return _result(file)
    except (OSError, KeyError) as error:
        raise SweepError(f"{path} cannot be read as a sweep file: {error}") from error


def _result(file: Any) -> SweepResult:
    sigmas, angles = np.asarray(file.attrs["sigmas"]), np.asarray(file.attrs["angles"])
    arms, chips = tuple(str(a) for a in file.attrs["arms"]), int(file.attrs["chips"])
    values: dict[str, dict[str, NDArray[np.float64]]] = {}
    for arm in arms:
        for i, sigma in enumerate(sigmas):
            for j, angle in enumerate(angles):
                for chip in range(chips):
                    history = file["runs"][RunKey(arm, float(sigma), float(angle), chip).name]["history"]
                    for name, last in _last_values(history):
                        cells = values.setdefault(name, {}).setdefault(
                            arm, np.full((len(sigmas), len(angles), chips), np.nan)
                        )
                        cells[i, j, chip] = last
    return SweepResult(Design.from_text(str(file.attrs["design"])), sigmas, angles, arms, values)


def _last_values(history: Any) -> Iterator[tuple[str, float]]:
    names: list[str] = []
    history.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    for name in names:
        yield name, float(history[name][-1])


COLUMNS = (
    ("accuracy", "accuracy"),
    ("alignment/forward0", "alignment"),
    ("measured/forward0", "measured"),
    ("angle/forward1", "angle [deg]"),
    ("unsettled_test", "unsettled"),
    ("left_out", "left out"),
    ("unstable", "unstable"),
)


def accuracy_gap(result: SweepResult) -> str:
    """One line: what EP without the homeostat loses to the adjoint, over all levels, chip by chip."""
    accuracy = result.values["accuracy"]
    if not {"none", "adjoint"} <= accuracy.keys():
        return ""
    lost = (accuracy["adjoint"] - accuracy["none"]).mean(axis=(0, 1))
    if len(lost) < 2:
        return f"EP loses {lost[0]:+.3f} accuracy to the adjoint (one chip)"
    from scipy.stats import t

    half = float(t.ppf(0.975, len(lost) - 1) * lost.std(ddof=1) / np.sqrt(len(lost)))
    text = f"EP loses {lost.mean():+.3f} ± {half:.3f} accuracy to the adjoint (paired 95 %)"
    if lost.mean() > half:
        return text
    cosine = float(result.values["alignment/forward0"]["none"].mean())
    wrong = f", though its gradient is wrong (first-layer cosine {cosine:.2f})" if cosine < ALIGNED else ""
    return f"{text}: none that shows{wrong}"


def table(result: SweepResult) -> str:
    """Mean ± standard deviation over chips, a line for every level and arm.

    A quantity that the family has not (the angle between weights that have no partner) has no column.
    """
    columns = [(name, title) for name, title in COLUMNS if name in result.values]
    head = ["sigma", "angle", "arm", *(title for _, title in columns)]
    rows = [head]
    for i, sigma in enumerate(result.sigmas):
        for j, angle in enumerate(result.angles):
            for arm in result.arms:
                cells = [f"{sigma:g}", f"{angle:g}", arm]
                for name, _ in columns:
                    mean, sd = result.mean_sd(name, arm)
                    cells.append(f"{mean[i, j]:.3f} ± " + ("–" if np.isnan(sd[i, j]) else f"{sd[i, j]:.3f}"))
                rows.append(cells)
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    lines += [gap] if (gap := accuracy_gap(result)) else []
    return "\n".join(lines)
