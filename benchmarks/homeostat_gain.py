"""The automatic gain of the homeostat against a grid of gains set by hand.

`twin` 784-256-256-10 on the embedded Fashion-MNIST, EP at constant learning rates over a decade, device
mismatch σ = 0 to 1; sense amplifiers that are ideal, of 3 nA rms (twice the thermal noise of a column in a
reading of five time constants), and of 10 nA, five times the signal of a single weight. What is compared is
the first layer's alignment with the adjoint *during* learning: its mean over the ends of the epochs, which
have an odd number of steps, so that a cycle of two is met in both halves. The best gain by hand is chosen
anew in every cell, for every σ, noise and rate. Resumable: every run is kept in OUT as it ends; go on with
the same command.

    python benchmarks/homeostat_gain.py OUT.json [--small] [--workers 2]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import study
from threadpoolctl import threadpool_limits

from ohmostat.circuits.design import Design
from ohmostat.circuits.files import atomic_write
from ohmostat.learning.data import load
from ohmostat.learning.training import Trainer

AUTO = "auto"
NOISES = ("0A", "3nA", "10nA")
Cell = tuple[float, str, float, float | str, int]  # σ, noise, rate, gain, chip
Result = dict[str, list[float]]  # by quantity, one value an epoch


@dataclass(frozen=True)
class Plan:
    """What is run."""

    sigmas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    rates: tuple[float, ...] = (0.002, 0.006, 0.02)
    chips: tuple[int, ...] = (0, 1, 2)
    gains: tuple[float | str, ...] = (AUTO, 0.004, 0.012, 0.04, 0.12, 0.25)
    epochs: int = 2
    train: int = 5950

    def cells(self) -> list[Cell]:
        """All runs, the automatic ones first."""
        axes = itertools.product(self.gains, self.sigmas, NOISES, self.rates, self.chips)
        return [(sigma, noise, rate, gain, chip) for gain, sigma, noise, rate, chip in axes]


SMALL = Plan((0.0, 1.0), (0.002, 0.02), (0,), (AUTO, 0.03, 0.09, 0.25), train=1950)
FIGURE = Path(__file__).parent / "figures" / "homeostat-gain.png"
ALLOWED = 0.02  # what the automatic gain may lose of the best alignment by hand


def run(job: tuple[Cell, int, int]) -> tuple[Cell, Result]:
    """One chip trained: alignment, angle and accuracy at the end of each epoch."""
    cell, epochs, train = job
    sigma, noise, rate, gain, chip = cell
    by_hand = {} if gain == AUTO else {"homeostat.gain": gain}
    design = Design.named("fashion-6k").replace(
        by_hand
        | {
            "learning.schedule": "constant", "learning.epochs": epochs, "learning.rate": rate,
            "homeostat.schedule": "constant" if by_hand else AUTO, "homeostat.noise": noise,
            "mismatch.conductance": sigma, "task.train": train,
        }
    )  # fmt: skip
    with threadpool_limits(1, user_api="blas"):
        history = Trainer.from_design(design, load("fashion-6k").subset(train, 1000), chip).fit()[1:]
    return cell, {
        "alignment": [epoch.alignment["forward0"] for epoch in history],
        "angle": [epoch.angle["forward1"] for epoch in history],
        "accuracy": [epoch.accuracy for epoch in history],
        "unsettled": [epoch.unsettled for epoch in history],
    }


def gathered(out: Path, plan: Plan, workers: int) -> dict[Cell, Result]:
    """Every run of the plan, those already in OUT as they are there."""
    import multiprocessing

    kept = json.loads(out.read_text()) if out.exists() else {}
    name = {cell: json.dumps([*cell, plan.epochs, plan.train]) for cell in plan.cells()}
    jobs = [(cell, plan.epochs, plan.train) for cell in plan.cells() if name[cell] not in kept]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, (cell, result) in enumerate(pool.imap_unordered(run, jobs), start=1):
            kept[name[cell]] = result
            with atomic_write(out) as part:
                Path(part).write_text(json.dumps(kept, indent=1))
            print(f"{done}/{len(jobs)}  {cell}  alignment {np.mean(result['alignment']):.4f}", flush=True)
    return {cell: kept[name[cell]] for cell in plan.cells()}


def table(plan: Plan, found: dict[Cell, Result], quantity: str) -> np.ndarray:
    """Mean over epochs (chips, σ, noises, rates, gains)."""
    axes = (plan.chips, plan.sigmas, NOISES, plan.rates, plan.gains)
    values = [np.mean(found[*cell, chip][quantity]) for chip, *cell in itertools.product(*axes)]
    return np.reshape(values, [len(axis) for axis in axes])


def report(plan: Plan, found: dict[Cell, Result]) -> bool:
    """Print what the automatic gain loses in every cell; whether that is within the bar everywhere."""
    single = table(plan, found, "alignment")
    alignment, accuracy = single.mean(axis=0), table(plan, found, "accuracy").mean(axis=0)
    best = alignment[..., 1:].argmax(axis=-1)
    loss = alignment[..., 1:].max(axis=-1) - alignment[..., 0]
    by_hand = np.take_along_axis(single, 1 + best[None, ..., None], axis=-1)[..., 0]
    varies = study.sd(by_hand - single[..., 0])  # chip by chip
    print("sigma  noise  rate    automatic        best by hand                 loss, ± sd of a chip's")
    for a, b, c in np.ndindex(loss.shape):
        k = 1 + best[a, b, c]
        ours, theirs = (f"{alignment[a, b, c, g]:.4f} ({accuracy[a, b, c, g]:.3f})" for g in (0, k))
        place = f"{plan.sigmas[a]:5} {NOISES[b]:>6} {plan.rates[c]:6}"
        print(f"{place}  {ours}  {theirs} at {plan.gains[k]:<6} {loss[a, b, c]:+.4f} ± {varies[a, b, c]:.4f}")
    for a, sigma in enumerate(plan.sigmas):
        print(f"sigma {sigma}: largest loss {loss[a].max():+.4f}; allowed {ALLOWED}")
    return bool((loss <= ALLOWED).all())


def draw(plan: Plan, found: dict[Cell, Result], path: Path) -> None:
    """Alignment against the gain, the automatic one as a level line, by σ and noise: means over chips, and
    their standard deviation.
    """
    from matplotlib import pyplot as plt

    single = table(plan, found, "alignment")
    alignment, varies = single.mean(axis=0), study.sd(single)
    shape = (len(NOISES), len(plan.sigmas))
    figure, axes = plt.subplots(
        *shape, figsize=(2.8 * shape[1] + 0.6, 7), sharex=True, sharey=True, squeeze=False
    )
    for (b, a), axis in np.ndenumerate(axes):
        for c, rate in enumerate(plan.rates):
            colour = plt.cm.viridis(c / len(plan.rates))
            mean, sd = alignment[a, b, c], varies[a, b, c]
            axis.errorbar(
                plan.gains[1:], mean[1:], sd[1:], fmt="o-", capsize=3, color=colour, label=f"rate {rate}"
            )
            axis.axhline(mean[0], color=colour, linestyle="--")
            axis.axhspan(mean[0] - sd[0], mean[0] + sd[0], color=colour, alpha=0.15, linewidth=0)
        axis.set(xscale="log", title=f"σ = {plan.sigmas[a]}, noise {NOISES[b]}")
        axis.set_xticks(plan.gains[1:], [str(gain) for gain in plan.gains[1:]])
        axis.minorticks_off()
    axes[0, 0].legend(title="dashed: automatic", fontsize=8)
    figure.supxlabel("gain a step, by hand")
    figure.supylabel("first-layer alignment with the adjoint")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true", help="two σ and rates, one chip, a third of the data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    plan = SMALL if arguments.small else Plan()
    found = gathered(arguments.out, plan, arguments.workers)
    within = report(plan, found)
    draw(plan, found, arguments.figure)
    raise SystemExit(0 if within else 1)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
