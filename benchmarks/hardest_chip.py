"""Where asymmetry costs most: the chip on which plain EP falls furthest behind the adjoint.

`twin` chips over hidden depth (1 to 4), starting angle α, device mismatch σ and task, two of each: digits on
64-64-…-10 (10 epochs), 3,000 images of the embedded Fashion-MNIST on 784-128-…-10 (4 epochs). Adam at 1e-3,
so that neither depth nor a rule decides how long a step is; starting weights of scale 1, or deep chips pass
nothing on.

What EP loses to the adjoint on the same chips has two parts, which a third arm tells apart, EP with its exact
response (β → 0, a linear solve at the free state):

bias    adjoint - exact EP: the gradient's own error, ε = J̃⁻¹J̃ᵀδ.
nudge   exact EP - EP: nudged phases that do not settle, or jump, or are too far from β → 0.

What unsettled and unstable *free* states cost, the adjoint pays too: of test accuracy at most the share of
test samples that did not settle. So the hardest chip is named twice: of all, and of the sound cells, those
where in all three arms at least 98 % of test samples settled, no more than 2 % of training samples were left
out, and no certified state was unstable. The homeostat (256 probes a batch, automatic gain) stands beside,
with its own share of unsettled samples.

A sweep for every task, depth and estimator, run by run under OUT; go on with the same command. `--report`
prints and draws what is there.

    python benchmarks/hardest_chip.py OUT [--workers 2] [--report]
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import study

from ohmostat.circuits.design import Design
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.sweep_result import SweepResult, read_sweep

TASKS: dict[str, dict[str, object]] = {
    "digits": {"learning.batch": 20, "learning.epochs": 10},
    "fashion-6k": {"learning.batch": 50, "learning.epochs": 4, "task.train": 3_000},
}
WIDTHS = {"digits": (64, 64), "fashion-6k": (784, 128)}  # of the inputs, and of every hidden layer
ARMS = {"centered": ("none", "homeostat", "adjoint"), "exact": ("none",)}  # by estimator
COMPARED = ("none", "exact", "adjoint")
TROUBLE = {"unsettled_test": 0.02, "left_out": 0.02, "unstable": 0.0}  # the most that a sound cell has
HEAD = (
    "task", "hidden", "angle", "sigma", "adjoint", "EP loses", "bias", "nudge", "homeostat", "its unset.",
    "cosine", "unsettled", "left out", "unstable",
)  # fmt: skip
FIGURE = Path(__file__).parent / "figures" / "hardest-chip.png"


@dataclass(frozen=True)
class Plan:
    """What is searched."""

    depths: tuple[int, ...] = (1, 2, 3, 4)
    angles: tuple[float, ...] = (0.0, 45.0, 90.0)
    sigmas: tuple[float, ...] = (0.0, 0.5, 1.0)
    chips: int = 2
    trial: tuple[tuple[str, object], ...] = ()  # keys of a design that a trial changes

    def sweep(self, task: str, depth: int, estimator: str) -> Sweep:
        """All chips of one task and depth under one estimator."""
        inputs, hidden = WIDTHS[task]
        design = Design.named("fashion-6k").replace(
            {
                "name": "hardest chip", "chip.layers": [inputs, *depth * [hidden], 10], "task.data": task,
                "learning.estimator": estimator, "learning.optimizer": "adam", "learning.rate": 1e-3,
                "learning.schedule": "constant", "learning.init_scale": 1.0, "homeostat.schedule": "auto",
                **TASKS[task], **dict(self.trial),
            }
        )  # fmt: skip
        levels = {"mismatch.conductance": self.sigmas, "learning.angle": self.angles}
        return Sweep.over(design, levels, self.chips, ARMS[estimator])


SMALL = Plan(
    (1, 2), (90.0,), (0.0, 0.5), 1, (("task.train", 200), ("task.test", 100), ("learning.epochs", 1))
)


@dataclass(frozen=True)
class Cell:
    """One task, depth, α and σ: accuracies (chips,) by arm, and mean shares of samples.

    ``trouble``: the largest of EP, exact EP and adjoint; ``unsettled``: with the homeostat. ``cosine``: of
    EP's exact response to the adjoint, first layer.
    """

    task: str
    depth: int
    angle: float
    sigma: float
    accuracy: dict[str, np.ndarray]
    trouble: dict[str, float]
    unsettled: float
    cosine: float

    @property
    def lost(self) -> np.ndarray:
        """What EP loses to the adjoint, chip by chip."""
        return self.accuracy["adjoint"] - self.accuracy["none"]

    @property
    def parts(self) -> dict[str, float]:
        """Mean losses: EP's and its two parts, and what EP with the homeostat loses."""
        mean = {arm: float(chips.mean()) for arm, chips in self.accuracy.items()}
        return {
            "EP": mean["adjoint"] - mean["none"],
            "bias": mean["adjoint"] - mean["exact"],
            "nudge": mean["exact"] - mean["none"],
            "with homeostat": mean["adjoint"] - mean["homeostat"],
        }

    @property
    def sound(self) -> bool:
        """Whether the states of EP, exact EP and the adjoint can be believed."""
        return all(self.trouble[name] <= most for name, most in TROUBLE.items())


def file(out: Path, task: str, depth: int, estimator: str) -> Path:
    """Where a sweep goes."""
    return out / f"{task}-depth{depth}-{estimator}.h5"


def run(plan: Plan, out: Path, workers: int) -> None:
    """Whatever is not yet done: as many sweeps at a time as there are workers, a process each."""

    def sweep(job: tuple[int, str, str]) -> None:
        depth, task, estimator = job
        run_sweep(plan.sweep(task, depth, estimator), file(out, task, depth, estimator), workers=1)
        print(f"{task}, {depth} hidden, {estimator}: done", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(sweep, itertools.product(plan.depths, TASKS, ARMS)))


def gathered(plan: Plan, out: Path) -> list[Cell]:
    """The cells of every task and depth of which all sweeps are finished."""
    found: list[Cell] = []
    for task, depth in itertools.product(TASKS, plan.depths):
        paths = {estimator: file(out, task, depth, estimator) for estimator in ARMS}
        if all(path.exists() for path in paths.values()):
            found += cells(task, depth, **{name: read_sweep(path) for name, path in paths.items()})
    return found


def cells(task: str, depth: int, centered: SweepResult, exact: SweepResult) -> list[Cell]:
    """One task's and depth's cells."""

    def of(name: str, k: int) -> dict[str, np.ndarray]:
        values = {arm: levels[k] for arm, levels in centered.values[name].items()}
        return values | {"exact": exact.values[name]["none"][k]}

    found = []
    for k, point in enumerate(centered.points):
        shares = {name: {arm: float(chips.mean()) for arm, chips in of(name, k).items()} for name in TROUBLE}
        unsettled = shares["unsettled_test"]["homeostat"]
        trouble = {name: max(arms[arm] for arm in COMPARED) for name, arms in shares.items()}
        cosine = float(centered.values["alignment/forward0"]["none"][k].mean())
        place = (
            task,
            depth,
            float(dict(point)["learning.angle"]),
            float(dict(point)["mismatch.conductance"]),
        )
        found.append(Cell(*place, of("accuracy", k), trouble, unsettled, cosine))
    return found


def report(found: list[Cell], most: int = 10) -> str:
    """The hardest cells first, and the hardest sound one."""
    ranked = sorted(found, key=lambda cell: -float(cell.lost.mean()))
    lines = [" ".join(f"{title:>10s}" for title in HEAD)]
    lines += [_line(cell) for cell in ranked[:most]]
    sound = [cell for cell in ranked if cell.sound]
    lines += [f"of {len(found)} cells {len(sound)} are sound; the hardest of them:", *map(_line, sound[:3])]
    return "\n".join(lines)


def _line(cell: Cell) -> str:
    adjoint = float(cell.accuracy["adjoint"].mean())
    numbers = (adjoint, *cell.parts.values(), cell.unsettled, cell.cosine, *cell.trouble.values())
    place = (cell.task, cell.depth, f"{cell.angle:g}", f"{cell.sigma:g}")
    return " ".join([*(f"{part:>10}" for part in place), *(f"{number:10.3f}" for number in numbers)])


def draw(plan: Plan, found: list[Cell], path: Path) -> None:
    """A map of α and σ for every task and depth: EP's loss as shade; in figures, its parts."""
    from matplotlib.figure import Figure

    depths, worst = plan.depths, max(float(cell.lost.mean()) for cell in found)
    figure = Figure(figsize=(3.3 * len(depths) + 0.8, 3.4 * len(TASKS)), layout="constrained")
    panels = figure.subplots(len(TASKS), len(depths), squeeze=False)
    for (row, task), (column, depth) in itertools.product(enumerate(TASKS), enumerate(depths)):
        axes, here = panels[row, column], [c for c in found if (c.task, c.depth) == (task, depth)]
        axes.set_title(f"{task}, {depth} hidden", fontsize=9)
        if here:
            image = _map(axes, here, max(worst, 0.01))
    figure.colorbar(image, ax=panels, label="accuracy that EP loses to the adjoint", shrink=0.7)
    figure.suptitle(
        "EP's loss: of it by the gradient's bias + by nudged phases; (loss with homeostat); ! not sound",
        fontsize=9,
    )
    figure.savefig(path, dpi=130)


def _map(axes: object, here: list[Cell], worst: float) -> object:
    angles, sigmas = (sorted({getattr(cell, name) for cell in here}) for name in ("angle", "sigma"))
    shade = np.full((len(sigmas), len(angles)), np.nan)
    for cell in here:
        place = sigmas.index(cell.sigma), angles.index(cell.angle)
        parts = cell.parts
        shade[place] = parts["EP"]
        text = (
            f"{parts['EP']:.2f}{'' if cell.sound else ' !'}\n{parts['bias']:.2f} + {parts['nudge']:.2f}\n"
            f"({parts['with homeostat']:.2f})"
        )
        ink = "white" if parts["EP"] > worst / 2 else "black"
        axes.text(place[1], place[0], text, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(angles)), [f"{angle:g}°" for angle in angles])
    axes.set_yticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])
    axes.set(xlabel="starting angle α", ylabel="mismatch σ")
    return axes.imshow(shade, cmap="Greys", vmin=0, vmax=worst, aspect="auto")


if __name__ == "__main__":
    study.main(__doc__, FIGURE, Plan(), SMALL, run, gathered, report, draw)
