"""The estimators on a network of some size: radius of convergence, and the error of the response.

`fashion-6k` (784-256-256-10, its readout included) without mismatch, homeostat or limits of conductance, in
double precision, settled to 1e-12 of full swing; as drawn, and after an epoch of centered nudges. The first
test images of it: the radius of convergence ρ of each, from its Taylor coefficients as in `estimators.py`,
and the median error ``|ε - ε⁰| / |ε⁰|`` of estimators against the linear solve. β in `leak · swing²`. Then,
in single precision as one trains, the time of a training step by four of Chebyshev's nudges over that by two.

    python benchmarks/estimators_at_size.py
"""

from __future__ import annotations

import json
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time

import numpy as np
from estimators import radius

from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Estimator, centered, chebyshev, exact_response
from ohmostat.learning.nudges import beta_in_watts
from ohmostat.learning.oscillation import lock_in
from ohmostat.learning.training import Trainer
from ohmostat.simulator.blocks import Array

IMAGES, BETA, PERIODS = 24, 0.02, (50, 200)  # of 1 µs, the default's unit
WARM = 10  # batches: the first may compile


def design(**changes: object) -> Design:
    """The network as it is measured."""
    return Design.named("fashion-6k").replace(
        {"homeostat.mode": "off", "mismatch.conductance": 0.0, "device.g_min": 0.0, "device.g_max": 1e-2,
         **{key.replace("__", "."): value for key, value in changes.items()}}
    )  # fmt: skip


def estimators(made: Design) -> dict[str, Estimator]:
    """Those that are compared, by what they are called here."""
    beta, default = (beta_in_watts(made, b) for b in (BETA, made.learning.beta))
    found: dict[str, Estimator] = {
        f"centered, {made.learning.beta:g}": centered(default),
        f"centered, {BETA:g}": centered(beta),
        f"chebyshev-4, {BETA:g}": chebyshev(beta, 4),
    }
    for period in PERIODS:
        found[f"lock-in-4, {BETA:g}, {period} C/leak"] = lock_in(beta, 4, period * made.neuron.tau)
    return found


def measured(trainer: Trainer) -> dict[str, object]:
    """Of the chip as it stands."""
    chip, made = trainer.chip, trainer.design
    images, labels = trainer.data.test_x[:IMAGES], trainer.data.test_y[:IMAGES]
    unit = beta_in_watts(made, 1.0)
    radii = [
        radius(chip.relax(trainer.inputs(images[i : i + 1])), trainer.cost(labels[i : i + 1]), BETA * unit)
        for i in range(IMAGES)
    ]
    free, cost = chip.relax(trainer.inputs(images)), trainer.cost(labels)
    exact = exact_response(free, cost).epsilon

    def error(epsilon: Array) -> float:
        off = np.linalg.norm(epsilon - exact, axis=1) / np.linalg.norm(exact, axis=1)
        return float(f"{np.median(off):.2g}")

    return {
        "radius, least, median, largest": (np.quantile(radii, (0, 0.5, 1)) / unit).round(4).tolist(),
        "median error": {
            name: error(e.response(free, cost, 0).epsilon) for name, e in estimators(made).items()
        },
    }


def step_time_ratio() -> float:
    """Of Chebyshev-4 over centered: the median over the same batches, one after the other."""
    few, many = (
        Trainer.from_design(design(learning__estimator=name, learning__nudges=4), load("fashion-6k"), 0)
        for name in ("centered", "chebyshev")
    )
    batches, ratios = list(few.batches(1)), []
    for images, labels in batches:
        fast, slow = (_seconds(trainer, images, labels) for trainer in (few, many))
        ratios.append(slow / fast)
    return round(float(np.median(ratios[WARM:])), 2)


def _seconds(trainer: Trainer, images: Array, labels: Array) -> float:
    began = time.perf_counter()
    trainer.step(images, labels)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    exactly = design(learning__dtype="float64", learning__tolerance=1e-12)
    trainer = Trainer.from_design(exactly, load("fashion-6k"), 0)
    drawn = measured(trainer)
    for batch in trainer.batches(1):
        trainer.step(*batch)
    report = {
        "as drawn": drawn,
        "after an epoch": measured(trainer),
        "step by chebyshev-4 / step by centered": step_time_ratio(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
