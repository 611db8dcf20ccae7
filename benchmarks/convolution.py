"""Convolutional chips: EP without the homeostat and with it, and the adjoint without and with it.

784, "5x5x4 stride 3", "3x3x8 stride 2", 10 (4 channels of 8x8, 8 of 3x3), family `twin`, conductance mismatch
σ = 0.5, the first 6,000 training and 5,000 test images of Fashion-MNIST, chips 0, 1 and 2. All arms share
data order, starting weights, rate and schedule. The adjoint with the homeostat tells what equal forward and
feedback weights cost by themselves, with an exact gradient. With `--family shared` one crossbar is read both
ways, through drivers whose gains deviate by 0.3: EP and the adjoint, as these are and with them trimmed.
Resumable: staged in OUT, go on with the same command.

    python benchmarks/convolution.py OUT [--family shared] [--sharing replicated] [--epochs 6]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ohmostat.circuits.design import Design
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.sweep_result import read_sweep

ARMS = {
    "twin": ("none", "homeostat", "adjoint", "adjoint-homeostat"),
    "shared": ("none", "trim", "adjoint", "adjoint-trim"),
}  # fmt: skip
CHIPS = 3
CHANGES = {
    "name": "convolution", "chip.layers": [784, "5x5x4 stride 3", "3x3x8 stride 2", 10],
    "mismatch.conductance": 0.5, "learning.rate": 0.01,
    "task.data": "fashion-mnist", "task.train": 6000, "task.test": 5000,
}  # fmt: skip
SMALL = {"learning.epochs": 1, "task.train": 300, "task.test": 200}
COLUMNS = {
    "accuracy": "accuracy", "alignment/forward0": "alignment, first layer", "alignment/forward1": "second",
    "angle/forward1": "angle [°]", "unsettled_test": "unsettled test samples", "left_out": "left out",
    "unstable": "unstable",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--family", choices=tuple(ARMS), default="twin")
    parser.add_argument("--sharing", choices=("time-multiplexed", "replicated"), default="time-multiplexed")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--data-dir")
    parser.add_argument("--small", action="store_true", help="a trial: one epoch, 300 images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = {"chip.sharing": arguments.sharing, "learning.epochs": arguments.epochs}
    if arguments.family == "shared":
        chosen |= {"chip.family": "shared", "mismatch.driver_gain": 0.3}
    arms = ARMS[arguments.family]
    design = Design.named("fashion-6k").replace(CHANGES | chosen | (SMALL if arguments.small else {}))
    size = f"{design.learning.epochs} epochs, {design.task.train} images"
    name = f"{arguments.family}, {arguments.sharing}, {size}"
    began, path = time.perf_counter(), arguments.out / f"{name.replace(', ', '-').replace(' ', '-')}.h5"
    run_sweep(Sweep(design, ((),), CHIPS, arms), path, workers=1, data_dir=arguments.data_dir)
    values = read_sweep(path).values
    print(f"{name}, {CHIPS} chips, {time.perf_counter() - began:.0f} s")
    print(" | ".join(("arm", *COLUMNS.values())))
    for arm in arms:
        cells = (values[name][arm][0] for name in COLUMNS)
        print(" | ".join((arm, *(f"{cell.mean():.3f} ± {cell.std(ddof=1):.3f}" for cell in cells))))
    accuracy = {arm: values["accuracy"][arm][0] for arm in arms}
    for arm in arms[:2]:
        print(f"adjoint - {arm}, by chip: {(accuracy['adjoint'] - accuracy[arm]).round(4).tolist()}")


if __name__ == "__main__":
    main()
