"""What a deterministic bias of the devices' updates does to a solution that was already there.

A `twin` chip learns the digits with ideal programming. Then it goes on learning, at the same constant rate,
by pulses whose steps up and down differ: by as much on every device (`asymmetry`), by each device's own draw
(`bias`), or by how far the device is from mid-range (`nonlinearity`, soft bounds). Near the solution the
gradients of single batches point up as often as down, so that an unbiased device only diffuses; a biased one
is carried off, until the gradient that this makes holds it. Per epoch: training loss, test accuracy, and how
far the weights are from the solution (rms, in shares of the largest weight).

    python benchmarks/update_bias.py [--out FILE.json] [--figure FILE.png] [--chips 3] [--epochs 20]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.training import Trainer

SOLVED = 12  # epochs of ideal programming
CASES: dict[str, dict[str, object]] = {
    "ideal": {"programming.mode": "ideal"},
    "pulses": {},
    "asymmetry 0.1": {"programming.asymmetry": 0.1},
    "asymmetry 0.3": {"programming.asymmetry": 0.3},
    "bias 0.1": {"mismatch.programming_bias": 0.1},
    "bias 0.3": {"mismatch.programming_bias": 0.3},
    "bias 0.6": {"mismatch.programming_bias": 0.6},
    "nonlinearity 1": {"programming.nonlinearity": 1.0},
    "nonlinearity 2": {"programming.nonlinearity": 2.0},
}
STYLES = {"ideal": ("#000000", "-"), "pulses": ("#000000", "--"), "asymmetry": ("#D55E00", "-"),
          "bias": ("#0072B2", "-"), "nonlinearity": ("#009E73", "-.")}  # fmt: skip
FIGURE = Path(__file__).parent / "figures" / "update-bias.png"


def design(case: str, pulse: float) -> Design:
    """The chip and how it is written."""
    return Design.named("digits").replace(
        {"learning.schedule": "constant", "learning.epochs": 1000, "mismatch.conductance": 0.0,
         "programming.mode": "pulses", "programming.pulse": pulse, **CASES[case]}
    )  # fmt: skip


def run(case: str, seed: int, epochs: int, pulse: float) -> dict[str, list[float]]:
    """One chip's epochs after it was solved."""
    data = load("digits")
    solved = Trainer.from_design(design("ideal", pulse), data, seed)
    solved.fit(SOLVED)
    trainer = Trainer(
        Circuit(design(case, pulse)).fabricate(seed=seed), data, solved.rule, solved.homeostat, solved.readout
    )
    trainer.chip.write({name: solved.chip.weight(name) for name in solved.chip.devices})
    start = {name: trainer.chip.weight(name).copy() for name in trainer.chip.devices}
    scale = trainer.chip.limits[1]
    found: dict[str, list[float]] = {"loss": [], "accuracy": [], "distance": []}

    def keep(epoch: object) -> None:
        if epoch is None:
            return
        last = trainer.history[-1]
        moved = np.concatenate([(trainer.chip.weight(name) - start[name]).ravel() for name in start])
        found["loss"].append(last.loss)
        found["accuracy"].append(last.accuracy)
        found["distance"].append(float(np.sqrt(np.mean(moved**2)) / scale))

    trainer.fit(epochs, keep)
    return found


def draw(found: dict[str, list[dict[str, list[float]]]], path: Path) -> None:
    """Distance, loss and accuracy against epochs; means over chips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    labels = {"distance": "distance from the solution\n[share of the largest weight, rms]",
              "loss": "training loss", "accuracy": "test accuracy"}  # fmt: skip
    markers = iter("osD^v<>P*")
    for case, chips in found.items():
        color, dash = STYLES[case.split()[0]]
        marker = next(markers)
        for axes, (name, label) in zip(panels, labels.items(), strict=True):
            mean = np.mean([chip[name] for chip in chips], axis=0)
            axes.plot(mean, dash, color=color, marker=marker, markersize=3.5, markevery=3, label=case)
            axes.set(xlabel="epochs after the solution", ylabel=label)
            axes.grid(alpha=0.3, linewidth=0.5)
    panels[1].set_yscale("log")
    panels[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--chips", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pulse", type=float, default=0.001)
    arguments = parser.parse_args()
    found = {}
    print("case              distance          loss              accuracy    (last epoch, mean ± sd)")
    for case in CASES:
        found[case] = [run(case, seed, arguments.epochs, arguments.pulse) for seed in range(arguments.chips)]
        last = {name: [chip[name][-1] for chip in found[case]] for name in ("distance", "loss", "accuracy")}
        cells = "  ".join(f"{np.mean(v):.4f} ± {np.std(v, ddof=1):.4f}" for v in last.values())
        print(f"{case:16s}  {cells}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found))
    draw(found, arguments.figure)


if __name__ == "__main__":
    main()
