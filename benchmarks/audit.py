"""The audit on twenty random mismatched chips: do parts and interaction add up, and how large is the latter?

784-256-256-10 on the embedded Fashion-MNIST, 200 test samples. For each seed a chip of its own: family, the
spreads of all its parts, wires, nudge, tolerance and estimator are drawn from ranges of real chips, and it is
left where a third of an epoch of its own training took it. Checked, over all devices together:

* parts + interaction = error, as vectors, to rounding, on every chip;
* |interaction| <= 20 % of |error|, on at least fifteen;
* the adjoint against finite differences, in a device of every array.

    python benchmarks/audit.py [OUT.json] [--chips 20]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ohmostat.circuits.design import Design
from ohmostat.circuits.mismatch import generator
from ohmostat.circuits.wiring import Wiring
from ohmostat.learning.audit import EVERYTHING, INTERACTION, Audit, Subject, audit, spot_check
from ohmostat.learning.catalogue import make_estimator
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Stencil
from ohmostat.learning.figures import audit_figure
from ohmostat.learning.training import Trainer

SAMPLES, TRAIN = 200, 2000
MOST, CHIPS = 0.2, 15  # the interaction's length over the error's, on at least so many chips
FIGURE = Path(__file__).parent / "figures" / "audit.png"


def drawn(seed: int) -> tuple[Design, Wiring]:
    """Design and wires of chip ``seed``."""
    rng = generator(seed, "audit benchmark")
    family = str(rng.choice(["twin", "shared"]))
    spreads = {
        "mismatch.conductance": rng.uniform(0.1, 1.0),
        "mismatch.programming": rng.uniform(0, 0.5),
        "mismatch.amplifier_gain": rng.uniform(0, 0.1),
        "mismatch.amplifier_offset": rng.uniform(0, 0.02),
        "mismatch.driver_gain": rng.uniform(0, 0.1) if family == "shared" else 0.0,
        "mismatch.nudge_gain": rng.uniform(0, 0.2),
        "mismatch.nudge_offset": rng.uniform(0, 2e-9),
        "mismatch.sense_gain": rng.uniform(0, 0.1),
        "mismatch.sense_offset": rng.uniform(0, 5e-3),
        "learning.read_noise": rng.uniform(0, 2e-5),
        "learning.tolerance": 10 ** rng.uniform(-6, -4),
        "learning.beta": 10 ** rng.uniform(-2.5, -1.5),
        "learning.estimator": str(rng.choice(["centered", "one-sided", "chebyshev"])),
        "learning.angle": rng.uniform(0, 60) if family == "twin" else 0.0,
        "homeostat.mode": "off",
    }
    row, column = rng.uniform(0, 5, 2)
    design = Design.named("fashion-6k").replace({"chip.family": family, **spreads})
    return design, Wiring(row, column)


def audited(seed: int) -> tuple[Audit, dict[str, Any]]:
    """The audit of chip ``seed``, and what is recorded of it."""
    design, wiring = drawn(seed)
    trainer = Trainer.from_design(design, load("fashion-6k").subset(TRAIN, SAMPLES), seed)
    for images, labels in trainer.batches(0):
        trainer.step(images, labels)
    estimator = make_estimator(design)
    assert isinstance(estimator, Stencil)
    began = time.perf_counter()
    x, cost = trainer.inputs(trainer.data.test_x), trainer.cost(trainer.data.test_y)
    subject = Subject.of(trainer.chip, x, cost, estimator, wiring)
    found = audit(subject)
    seconds = time.perf_counter() - began
    record = {
        "chip": seed, "family": design.chip.family, "estimator": estimator.name, "seconds": seconds,
        "samples": int(found.valid.sum()), "error": found.error(EVERYTHING),
        "cosine": found.alignment(EVERYTHING), "left_over": left_over(found),
        "interaction": found.size(INTERACTION, EVERYTHING) / found.error(EVERYTHING),
        "worst_array": max(found.size(INTERACTION, a) / found.error(a) for a in found.arrays),
        "spot_check": max(spot_check(subject, found).values()),
        "share": {name: found.share(name, EVERYTHING) for name in found.contributions},
    }  # fmt: skip
    return found, record


def left_over(found: Audit) -> float:
    """Largest element of error less parts and interaction, over the largest of the error."""
    worst = 0.0
    for array, true in found.true.items():
        error = found.measured[array] - true
        rest = error - sum(vectors[array] for vectors in found.contributions.values())
        worst = max(worst, float(np.abs(rest).max() / np.abs(error).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    records = []
    print(HEAD)
    for seed in range(arguments.chips):
        with threadpool_limits(1, user_api="blas"):
            found, record = audited(seed)
        records.append(record)
        print(line(found, record), flush=True)
        if seed == 0:
            audit_figure(found, arguments.figure, f"chip 0: {record['family']}, {record['estimator']}")
        if arguments.out:
            arguments.out.write_text(json.dumps(records, indent=1))
    small = sum(record["interaction"] <= MOST for record in records)
    print(f"interaction <= {MOST:.0%} of the error on {small} of {len(records)} chips; wanted: {CHIPS} of 20")


HEAD = f"{'chip family  estimator':<24} error cosine  {'largest part':<20} interaction  worst  sum  check  s"


def line(found: Audit, r: dict[str, Any]) -> str:
    """One chip's row under ``HEAD``: all devices together, and the interaction in its worst array."""
    largest = max(found.parts, key=lambda name: found.size(name, EVERYTHING))
    part = f"{largest} {found.size(largest, EVERYTHING):.3f}"
    return (
        f"{r['chip']:4} {r['family']:<7} {r['estimator']:<11}{r['error']:6.3f} {r['cosine']:6.3f}  "
        f"{part:<20} {r['interaction']:11.1%} {r['worst_array']:6.1%} {r['left_over']:.0e} "
        f"{r['spot_check']:.0e} {r['seconds']:.0f}"
    )


if __name__ == "__main__":
    main()
