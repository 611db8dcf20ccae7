"""MNIST in deep resistive networks (Scellier 2024, arXiv:2402.11674; Osana 2026): 784-100-10 and 784-1024-10.

Inputs come at both signs, hidden nodes are held by one diode each, half of them from below and half from
above; centered EP, squared error, one network without mismatch. Conductances start as max(0, u), u uniform
within 1/√(devices that feed the node) in units of the leak, and are trained one by one, by plain gradient
descent at a rate that falls as a cosine. The published runs (1024 hidden, 50 epochs) take batches of 4, β = 1
and a constant 0.006 times 0.99 an epoch; their input gain of 480 suits 1024 hidden nodes, not 100.

Every cell is put down in OUT after each epoch, and taken up by the same command; `--report` prints what is
there and puts what is finished into `records/resistive-mnist.json`.

    python benchmarks/resistive_mnist.py OUT [--data-dir DIR] [--cells NAME ...] [--report]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import long_runs
import numpy as np

from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.quantities import known
from ohmostat.learning.training import Trainer

RECORD = Path(__file__).parent / "records" / "resistive-mnist.json"
PUBLISHED = {"ideal-100": 3.46, "shockley-100": 2.98, "ideal-1024": 1.57}  # test error [%]
KEPT = ("accuracy", "left_out", "unsettled_test", "seconds")
NETWORK = {
    "chip.family": "resistive", "chip.columns": "passive", "chip.layers": [784, 100, 10],
    "task.data": "mnist", "homeostat.mode": "off", "mismatch.conductance": 0.0, "neuron.low": 0.0,
    "neuron.high": 1.0, "device.g_min": 1e-12, "device.g_max": 1e-3, "resistive.input_gain": 100.0,
    "learning.cost": "squared-error", "learning.estimator": "centered", "learning.beta": 1.0,
    "learning.jumps": "take", "learning.tolerance": 1e-4, "learning.optimizer": "sgd",
    "learning.momentum": 0.0,
    "learning.rate": 0.006, "learning.batch": 4, "learning.epochs": 30, "learning.init_scale": 1.0,
    "learning.input_scale": 1.0,
}  # fmt: skip
CELLS: dict[str, dict[str, Any]] = {
    "ideal-100": {},
    "shockley-100": {"resistive.diode": "shockley", "resistive.saturation": "1nA", "resistive.ideality": 1.0},
    "ideal-1024": {"chip.layers": [784, 1024, 10], "resistive.input_gain": 480.0},
}


def run(name: str, out: Path, data_dir: str | None) -> None:
    """Train one cell as far as it is not yet done."""
    design = Design.named("fashion").replace({"name": f"resistive {name}"} | NETWORK | CELLS[name])
    trainer = Trainer.from_design(design, load("mnist", data_dir))
    long_runs.train(trainer, name, out, lambda epoch: f"loss {known(epoch.loss, '.4f')}")


def report(out: Path) -> dict[str, Any]:
    """Test error [%] of every cell after its last epoch."""
    found, ended = {}, {}
    for name, history in long_runs.histories(CELLS, out, RECORD):
        epochs = (NETWORK | CELLS[name])["learning.epochs"]
        if len(history["accuracy"]) > epochs:
            ended[name] = {key: [float(f"{v:.5g}") for v in history[key]] for key in KEPT}
        error = 100 * (1 - np.array(history["accuracy"]))
        found[name] = {
            "epochs": len(error) - 1, "test error [%]": round(error[-1], 2), "published [%]": PUBLISHED[name],
            "best [%]": round(error.min(), 2), "left out": float(np.max(history["left_out"])),
            "unsettled": float(np.max(history["unsettled_test"])),
            "hours": round(sum(history["seconds"]) / 3600, 2),
        }  # fmt: skip
    long_runs.keep(RECORD, ended)
    return found


def draw(path: Path) -> None:
    """Test error over the epochs of what is recorded, and what is published."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    styles = {
        "ideal-100": ("#D55E00", "o", "-"), "shockley-100": ("#0072B2", "s", "--"),
        "ideal-1024": ("#000000", "D", ":"),
    }  # fmt: skip
    for name, history in json.loads(RECORD.read_text()).items():
        color, marker, line = styles[name]
        error = 100 * (1 - np.array(history["accuracy"]))
        axes.plot(error, line, color=color, marker=marker, markersize=3, linewidth=1, label=name)
        axes.axhline(PUBLISHED[name], color=color, linewidth=0.8, alpha=0.6)
    axes.set(xlabel="epoch", ylabel="test error [%], and published (lines)", ylim=(1.2, 6), xlim=(0.5, None))
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in () if arguments.report else arguments.cells:
        run(name, arguments.out, arguments.data_dir)
    print(json.dumps(report(arguments.out), indent=2))
    if RECORD.exists():
        draw(Path(__file__).parent / "figures" / "resistive-mnist.png")


if __name__ == "__main__":
    main()
