"""How well must a chip be built? Which non-ideality costs EP most, with the homeostat and without, and how
wide devices may spread for 95 % yield: on every family, digits, programming by pulses.

For each family two sweeps: a Latin hypercube over all non-idealities at once, from which come the shares of
the variance of accuracy (Sobol indices), and levels of the devices' spread alone with many chips, from which
comes the yield. EP on `shared` chips has its drivers trimmed where `twin` chips have the homeostat; a loop
has neither. Sweeps are staged run by run: the same command goes on where it was stopped.

    python benchmarks/yield_study.py OUT [--workers 2] [--figures DIR] [--report]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from ohmostat.circuits.design import Design
from ohmostat.learning import yield_command
from ohmostat.learning.points import Span, grid, latin_hypercube
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.sweep_result import read_sweep
from ohmostat.learning.yields import Requirement

REQUIRED, TARGET = "accuracy >= 0.9", 0.95
POINTS, FEW, MANY = 90, 2, 20  # of the hypercube, chips at each; chips at each level of σ
SIGMAS = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5)
RANGES = {
    "mismatch.conductance": Span(0.0, 1.0),
    "mismatch.programming": Span(0.0, 0.6),
    "mismatch.programming_bias": Span(0.0, 0.4),
    "mismatch.amplifier_gain": Span(0.0, 0.3),
    "mismatch.amplifier_offset": Span(0.0, 0.1),
    "mismatch.stuck_open": Span(0.0, 0.1),
    "mismatch.sense_gain": Span(0.0, 0.2),
}
OWN = {
    "twin": {"learning.angle": Span(0.0, 90.0)},
    "shared": {"mismatch.driver_gain": Span(0.0, 0.5)},
    "loop": {},
}
ARMS = {"twin": ("none", "homeostat"), "shared": ("none", "trim"), "loop": ("none",)}
FIGURES = Path(__file__).parents[1] / "docs" / "figures"


def design(family: str) -> Design:
    """A perfect chip of the family, written by small pulses."""
    layers = [64, 32, 24, 10] if family == "loop" else [64, 32, 10]
    return Design.named("digits").replace(
        {"name": f"yield of {family}", "chip.family": family, "chip.layers": layers, "learning.angle": 0.0,
         "learning.epochs": 6, "programming.mode": "pulses", "programming.pulse": 0.0005,
         "mismatch.programming": 0.0,
         "mismatch.conductance": 0.0, "mismatch.amplifier_gain": 0.0, "mismatch.amplifier_offset": 0.0,
         "mismatch.capacitance": 0.0}
    )  # fmt: skip


def sweeps(family: str) -> dict[str, Sweep]:
    """All non-idealities at once; and the devices' spread alone, on `twin` with feedback that starts at 90°,
    on `shared` with drivers of 25 %.
    """
    base, arms = design(family), ARMS[family]
    points = latin_hypercube(RANGES | OWN[family], POINTS, seed=0)
    alone = base.replace("mismatch.driver_gain", 0.25) if family == "shared" else base
    alone = alone.replace("learning.angle", 90.0) if family == "twin" else alone
    return {
        "importance": Sweep(base, points, FEW, arms),
        "spread": Sweep(alone, grid({"mismatch.conductance": SIGMAS}), MANY, arms),
    }


def report(out: Path, figures: Path) -> None:
    """Print and draw what is finished."""
    required = [Requirement.parse(REQUIRED)]
    for family in ARMS:
        for kind in ("spread", "importance"):
            path = out / f"{family}-{kind}.h5"
            if not path.exists():
                continue
            result = read_sweep(path)
            found = [yield_command.examine(result, arm, required, None) for arm in result.arms]
            if kind == "importance":  # a curve over one key of many says little
                found = [finding._replace(curves=[]) for finding in found]
            print(f"== {family}, {kind}")
            for finding in found:
                values = result.values["accuracy"][finding.arm]
                print("\n".join(yield_command.lines(result, finding, required, TARGET)))
                print("  accuracy by point:", " ".join(f"{v:.3f}" for v in values.mean(axis=1)[:6]))
            yield_command.figure(result, found, required, TARGET, figures / f"yield-{family}-{kind}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        for kind in ("spread", "importance"):
            for family in ARMS:
                sweep, path = sweeps(family)[kind], arguments.out / f"{family}-{kind}.h5"
                run_sweep(
                    sweep, path, workers=arguments.workers,
                    progress=lambda done, total, path=path: print(f"{path.stem}: {done}/{total}", flush=True),
                )  # fmt: skip
    arguments.figures.mkdir(parents=True, exist_ok=True)
    report(arguments.out, arguments.figures)


if __name__ == "__main__":
    main()
