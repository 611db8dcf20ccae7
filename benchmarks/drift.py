"""Drift of conductances over a year, and what brings a chip back: is periodic re-homeostasis a cure?

`twin` 784-256-256-10 on the embedded Fashion-MNIST, device mismatch σ = 0.5, trained by EP with the
homeostat; exponents 0.05 ± 0.02 from 1 s on. At each age a copy of the chip is (a) left alone, (b) taken
through STEPS steps of the homeostat, without learning, (c) trained for one more epoch. (d) is one chip that
meets (b) at every age, and drifts on in between; (e) is (a) after a drift without spread, all conductances
shrinking alike; (f) is (b) after every pair was written up by what a device of the mean exponent has lost,
which takes a clock and the programmer's record, and no measurement.

    python benchmarks/drift.py [--chips 3] [--figure FILE]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.learning.corners import first_layer_cosine
from ohmostat.learning.data import load_task
from ohmostat.learning.training import Readout, Trainer, make_homeostat, run_seed

AGES = {"1 hour": 3600.0, "1 day": 86_400.0, "1 month": 2.592e6, "1 year": 3.1536e7}
ARMS = {
    "a": "left alone",
    "b": "re-homeostasis",
    "c": "one more epoch",
    "d": "re-homeostasis at every age",
    "e": "left alone, no spread",
    "f": "rewritten by the mean loss, then re-homeostasis",
}
STEPS = 16  # of the homeostat: eight cycles
FIGURE = Path(__file__).parent / "figures" / "drift.png"


def copied(trainer: Trainer, changes: dict[str, object] | None = None) -> Trainer:
    """Another of the same chip, data and readout, its design changed."""
    chip = trainer.chip.at(trainer.design.corner)
    chip.circuit = Circuit(trainer.design.replace(changes or {}))
    readout = Readout(trainer.readout.weight.copy(), trainer.readout.bias.copy())
    homeostat = make_homeostat(chip.circuit.design, run_seed(chip))
    return Trainer(chip, trainer.data, trainer.rule, homeostat, readout)


def homeostasis(trainer: Trainer) -> None:
    """Probe and correct, without learning."""
    chip: Chip = trainer.chip
    assert trainer.homeostat is not None
    for _ in range(STEPS):
        chip.program(trainer.homeostat.correct(chip))


def rewrite(trainer: Trainer) -> None:
    """Command what a device of the mean exponent has lost: a share of its target."""
    chip, drift = trainer.chip, trainer.design.drift
    lost = 1 - (1 + chip.since_write / drift.reference) ** -drift.exponent
    chip.program({name: lost * (a.target[0] - a.target[1]) for name, a in chip.devices.items()})


def measured(trainer: Trainer) -> tuple[float, float]:
    """Test accuracy and first-layer cosine to the adjoint."""
    return trainer.evaluate()[0], first_layer_cosine(trainer)


def life(seed: int) -> dict[str, list[tuple[float, float]]]:
    """One chip: by arm, accuracy and cosine, fresh and at every age."""
    design = Design.named("fashion-6k").replace(
        {"mismatch.conductance": 0.5, "drift.exponent": 0.05, "drift.exponent_spread": 0.02}
    )
    new = Trainer.from_design(design, load_task(design.task), seed)
    new.fit()
    found = {arm: [measured(new)] for arm in ARMS}
    periodic, before = copied(new), 0.0
    for age in AGES.values():
        old = copied(new)
        old.chip.age(age)
        found["a"].append(measured(old))
        mended = copied(old)
        homeostasis(mended)
        found["b"].append(measured(mended))
        taught = copied(old, {"learning.epochs": 1})
        taught.fit()
        found["c"].append(measured(taught))
        periodic.chip.age(age - before)
        homeostasis(periodic)
        found["d"].append(measured(periodic))
        alike = copied(new, {"drift.exponent_spread": 0.0})
        alike.chip.age(age)
        found["e"].append(measured(alike))
        rewritten = copied(old)
        rewrite(rewritten)
        homeostasis(rewritten)
        found["f"].append(measured(rewritten))
        before = age
    return found


def table(found: np.ndarray) -> str:
    """Means over chips of accuracy / cosine, from (arms, ages, chips, 2)."""
    lines = ["| | " + " | ".join(("fresh", *AGES)) + " |", "|---" * (2 + len(AGES)) + "|"]
    for (arm, text), rows in zip(ARMS.items(), found.mean(axis=2), strict=True):
        lines.append(f"| ({arm}) {text} | " + " | ".join(f"{a:.3f} / {c:.3f}" for a, c in rows) + " |")
    spread = found.std(axis=2)
    return "\n".join(
        [*lines, f"sd over chips at most {spread[..., 0].max():.3f} / {spread[..., 1].max():.3f}"]
    )


def draw(found: np.ndarray, path: Path) -> None:
    """Accuracy and cosine against age, a line for every arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    styles = ("k-o", "b--s", "g-.^", "r:D", "m-v", "c--P")
    for k, (axes, label) in enumerate(
        zip(figure.subplots(1, 2), ("test accuracy", "first-layer cosine to the adjoint"), strict=True)
    ):
        for style, (arm, text), rows in zip(styles, ARMS.items(), found[..., k], strict=True):
            place = np.arange(rows.shape[0])
            axes.plot(place, rows.mean(axis=1), style, markersize=4, linewidth=1.2, label=f"({arm}) {text}")
        axes.set_xticks(place, ("fresh", *AGES), fontsize=8)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chips", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        chips = [life(seed) for seed in range(arguments.chips)]
    found = np.array([[[chip[arm][k] for chip in chips] for k in range(1 + len(AGES))] for arm in ARMS])
    print(table(found))
    draw(found, arguments.figure)
    print(f"wrote {arguments.figure}")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
