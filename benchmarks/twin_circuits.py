"""One circuit used twice against two side by side: MNIST at 10 % deviation, and at 10 % stuck devices.

The network of `resistive_mnist.py`, 784-100-10 with ideal diodes, learns from the power in each device, free
and nudged (`learning.rule = "contrastive"`, one nudge toward the target): either one network settles twice,
or a twin of its own devices, programmed with the same commands, settles nudged. Oh 2025 finds 92 % and 33 %
on MNIST with 10 % of the devices defective. Of a centered nudge both phases lie in the twin, and nothing that
the two differ by counts: that is the third column.

Deviation: lognormal, sd of ln g 0.1. Stuck: 5 % open, 5 % closed at a g_max of 0.75 uS, 3 times the largest
starting conductance (`perfect, limited`: that limit, and nothing stuck). Each of five chips is a seed; runs
that are in OUT are not run again.

    python benchmarks/twin_circuits.py OUT.json [--data-dir DIR] [--samples 10000] [--epochs 2] [--chips 5]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from resistive_mnist import NETWORK

from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.training import Trainer

RULE = {"learning.rule": "contrastive"}
ARMS: dict[str, dict[str, Any]] = {
    "one circuit, used twice": RULE | {"learning.estimator": "one-sided"},
    "twins, one nudge": RULE | {"learning.estimator": "one-sided", "resistive.copies": "twin"},
    "twins, two nudges": RULE | {"learning.estimator": "centered", "resistive.copies": "twin"},
}
LIMITED = {"device.g_max": "0.75uS"}  # so that a device stuck closed is no more than three large ones
CONDITIONS: dict[str, dict[str, Any]] = {
    "perfect": {},
    "perfect, limited": LIMITED,
    "10 % deviation": {"mismatch.conductance": 0.1},
    "10 % stuck": LIMITED | {"mismatch.stuck_open": 0.05, "mismatch.stuck_closed": 0.05},
}


def accuracy(changes: dict[str, Any], chip: int, arguments: argparse.Namespace) -> float:
    """Test accuracy after the last epoch."""
    size = {"learning.epochs": arguments.epochs}
    design = Design.named("fashion").replace(NETWORK | size | changes)
    data = load("mnist", arguments.data_dir).subset(arguments.samples)
    return Trainer.from_design(design, data, chip).fit()[-1].accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--chips", type=int, default=5)
    arguments = parser.parse_args()
    found: dict[str, float] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for chip in range(arguments.chips):
        for condition, changes in CONDITIONS.items():
            for arm, rule in ARMS.items():
                name = f"{condition}, {arm}, chip {chip}"
                if name not in found:
                    found[name] = accuracy(changes | rule, chip, arguments)
                    arguments.out.write_text(json.dumps(found, indent=1))
                    print(f"{name}: {found[name]:.4f}", flush=True)
    for condition in CONDITIONS:
        for arm in ARMS:
            values = [found[f"{condition}, {arm}, chip {chip}"] for chip in range(arguments.chips)]
            print(f"{condition:15} {arm:25} {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")


if __name__ == "__main__":
    main()
