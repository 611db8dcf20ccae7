"""The loop in → l1 → l2 → out → l1: what the homeostatic objective does there, and what it cannot.

No two layers of the family `loop` are coupled both ways: of G_ij and G_ji one is always 0. So the objective
H = ½|J̃ - J̃ᵀ|² is Σ G², and its descent ΔG = -share G is weight decay. The probe controller, which moves pairs
alone, commands nothing. Two questions, on 784-64-64-10 with the embedded Fashion-MNIST, no mismatch:

Shrinking alone. All couplings of a trained chip are multiplied by a factor: H goes to 0 with it. The nudge
reaches l1 by way of the feedback array, W_13 ε_out, the truth by way of the forward ones, (W_32 W_21)ᵀ δ_out,
and a factor turns neither: the cosine of EP's exact response to the adjoint tends to a limit below 1.

Training. EP without and with the objective's descent at several shares a step, and the adjoint, three chips:
accuracy, cosine by array, and H in the end.

    python benchmarks/loop.py [--out loop.json] [--figure FILE.png] [--small]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import study

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.dataset import Dataset
from ohmostat.learning.homeostat import Homeostat, Running, WeightDecay
from ohmostat.learning.training import Epoch, Trainer
from ohmostat.simulator.blocks import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = (0.0, 1e-4, 1e-3, 1e-2)  # of every coupling, a step
FACTORS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
ARRAYS = ("forward0", "forward1", "forward2", "feedback2")
EPOCHS, CHIPS = 8, 3
FIGURE = Path(__file__).parent / "figures" / "loop.png"
STYLES = ("o-", "s--", "^-.", "v:")
Row = dict[str, float]


@dataclass
class Descent(WeightDecay):
    """The objective's own gradient step on a chip without pairs: decay of every coupling between neurons."""

    def correct(self, chip: Chip, running: Running | None = None) -> dict[str, Array]:
        return {name: chip.weight(name) * chip.dtype.type(-self.share) for name in couplings(chip)}


def couplings(chip: Chip) -> Iterator[str]:
    """Arrays between neurons."""
    return (bank.array for bank in chip.circuit.banks if bank.pre >= 0)


def objective(chip: Chip) -> float:
    """H in units of the leak², from the Jacobian as it stands (whose diagonal takes no part)."""
    coupling = chip.blocks.coupling(None) / chip.circuit.design.neuron.leak
    return float(np.sum((coupling - coupling.T) ** 2) / 2)


def design(rule: str, epochs: int) -> Design:
    """In double precision: the responses that are compared at the end are small."""
    return Design.named("fashion-6k").replace(
        {
            "chip.family": "loop", "chip.layers": [784, 64, 64, 10], "mismatch.conductance": 0.0,
            "learning.rule": rule, "learning.estimator": "exact", "learning.schedule": "constant",
            "learning.epochs": epochs, "learning.dtype": "float64", "learning.tolerance": 1e-9,
            "homeostat.mode": "off",
        }
    )  # fmt: skip


def summary(trainer: Trainer, last: Epoch) -> Row:
    """What is told of a chip after an epoch."""
    cosines = {f"cosine {name}": last.alignment[name] for name in ARRAYS}
    shares = {"unsettled": last.unsettled_test, "left out": last.left_out, "unstable": last.unstable}
    return {"accuracy": last.accuracy, "H / leak²": objective(trainer.chip)} | cosines | shares


def trained(data: Dataset, rule: str, share: float, chip: int, epochs: int) -> tuple[Trainer, list[Row]]:
    """A chip after training, and its row after every epoch."""
    trainer, rows = Trainer.from_design(design(rule, epochs), data, chip), list[Row]()
    trainer.homeostat = Descent(share) if share else None
    trainer.fit(progress=lambda epoch: None if epoch is None else rows.append(summary(trainer, epoch)))
    return trainer, rows


def shrunk(trainer: Trainer) -> list[Row]:
    """The chip's couplings multiplied by every factor, all else as it was."""
    chip, rows = trainer.chip, list[Row]()
    whole = {name: chip.weight(name).copy() for name in couplings(chip)}
    for factor in FACTORS:
        chip.write({name: weight * factor for name, weight in whole.items()})
        exact, *_ = trainer.diagnose()
        cosines = {f"cosine {name}": exact[name] for name in ARRAYS}
        rows.append({"factor": factor, "H / leak²": objective(chip)} | cosines)
    return rows


def is_idle(chip: Chip) -> bool:
    """Whether the probe controller, given whole cycles, commands nothing."""
    controller = Homeostat()
    return not any(controller.correct(chip) for _ in range(4))


def measured(data: Dataset, epochs: int, chips: int) -> dict[str, Any]:
    """Both studies."""
    curves: dict[str, list[list[Row]]] = {}
    for rule, share in [*(("ep", share) for share in SHARES), ("adjoint", 0.0)]:
        name = "adjoint" if rule == "adjoint" else f"EP, share {share:g}"
        runs = [trained(data, rule, share, chip, epochs) for chip in range(chips)]
        curves[name] = [rows for _, rows in runs]
        if name == "EP, share 0":
            idle, shrinking = is_idle(runs[0][0].chip), [shrunk(trainer) for trainer, _ in runs]
    return {"the controller commands nothing": idle, "shrinking alone": shrinking, "training": curves}


def report(found: dict[str, Any]) -> str:
    """Both studies as text: means ± standard deviations over chips, after the last epoch."""
    shrinking = list(zip(*found["shrinking alone"], strict=True))  # by factor, the chips' rows
    lines = [f"the probe controller commands nothing: {found['the controller commands nothing']}", ""]
    lines += [_head("couplings times", shrinking[0])]
    lines += [_line(f"{rows[0]['factor']:g}", rows) for rows in shrinking]
    ends = {name: [rows[-1] for rows in chips] for name, chips in found["training"].items()}
    lines += ["", _head("training", next(iter(ends.values())))]
    return "\n".join(lines + [_line(name, rows) for name, rows in ends.items()])


def _head(name: str, rows: Sequence[Row]) -> str:
    return f"{name:16s}" + "".join(f"{key:>20s}" for key in rows[0] if key != "factor")


def _line(name: str, rows: Sequence[Row]) -> str:
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "factor"}
    return f"{name:16s}" + "".join(
        f"{f'{np.mean(column):.3g} ± {study.sd(column):.2g}':>20s}" for column in columns.values()
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """Cosines against the couplings' size; cosine and accuracy against epochs. Bands: ±1 sd over chips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, style in zip(ARRAYS, STYLES, strict=True):
        _band(left, FACTORS, found["shrinking alone"], f"cosine {name}", style, name)
    left.set(xscale="log", xlabel="all couplings times", ylabel="cosine of EP to the adjoint")
    left.set_title("shrinking a trained chip's couplings", fontsize=9)
    for (name, chips), style in zip(found["training"].items(), (*STYLES, "D-"), strict=True):
        for axes, key in ((middle, "cosine forward0"), (right, "accuracy")):
            _band(axes, range(len(chips[0])), chips, key, style, name)
    middle.set(xlabel="epoch", ylabel="first layer's cosine")
    right.set(xlabel="epoch", ylabel="test accuracy")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    figure.savefig(path, dpi=130)


def _band(axes: Axes, x: Sequence[float], chips: list[list[Row]], key: str, style: str, label: str) -> None:
    values = np.array([[row[key] for row in rows] for rows in chips])
    mean, sd = values.mean(axis=0), study.sd(values)
    (line,) = axes.plot(x, mean, style, markersize=4, label=label)
    axes.fill_between(x, mean - sd, mean + sd, color=line.get_color(), alpha=0.15, linewidth=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--small", action="store_true", help="a trial: one chip, two epochs, 1,000 images")
    arguments = parser.parse_args()
    data = load("fashion-6k")
    if arguments.small:
        found = measured(data.subset(1000, 500), epochs=2, chips=1)
    else:
        found = measured(data, EPOCHS, CHIPS)
    print(report(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, arguments.figure)


if __name__ == "__main__":
    main()
