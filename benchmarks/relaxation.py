"""How close to its own matrix products is a batched relaxation, and how far ahead of the ODE?

One chip, 784-256-256-10, `twin`, trained for one epoch with the homeostat at σ = 0.3; one batch of 50 test
images, float32, to 1e-5 of full swing. Timed in turn, in one process, on one thread, many times over:

* the relaxation (input currents included), plain and accelerated;
* the matrix products of each alone: the same shapes, on the samples still active in each sweep;
* the transient, by the explicit pair of `simulator.ode` (at the loosest local error that still settles)
  and by a linearly implicit Euler method with growing steps, stopped at the same residual.

    python benchmarks/relaxation.py
"""

from __future__ import annotations

import json
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import numpy as np
from matrix_products import of_relaxation

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.training import Trainer
from ohmostat.simulator import ode, relaxation
from ohmostat.simulator.blocks import Array

BATCH, TOLERANCE, REPEATS = 50, 1e-5, 60


def trained_chip() -> tuple[Chip, Array]:
    """The chip, and a batch of input voltages that it was not trained on."""
    design = Design.named("fashion-6k").replace("mismatch.conductance", 0.3)
    trainer = Trainer.from_design(design, load(design.task.data), chip_seed=0)
    trainer.fit(1)
    return trainer.chip, trainer.inputs(trainer.data.test_x[:BATCH])


def relaxed(chip: Chip, x: Array, window: int) -> relaxation.Relaxed:
    """One relaxation, input currents included."""
    return relaxation.relax(chip.blocks, chip.injected(x), tolerance=TOLERANCE, window=window)


def implicit(chip: Chip, x: Array, close: float) -> tuple[int, bool]:
    """Linearly implicit Euler, one sample: (steps, settled). Steps double while the residual falls."""
    blocks, injected = chip.blocks, chip.injected(x)
    v, steps = np.zeros((1, blocks.size), chip.dtype), 0
    h = 0.3 * float(np.min(blocks.capacitance / blocks.load))
    capacitance = np.diag(blocks.capacitance)
    current = blocks.current(v, injected)
    while steps < 500 and np.abs(current / blocks.load).max() > close:
        move = np.linalg.solve(capacitance / h - blocks.jacobian(v[0]), current[0])
        trial = v + move
        ahead = blocks.current(trial, injected)
        steps += 1
        if np.abs(ahead).max() <= 1.5 * np.abs(current).max():
            v, current, h = trial, ahead, 2 * h
        else:
            h /= 4
    return steps, steps < 500


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print; medians over the repeats, ratios taken within each repeat."""
    chip, x = trained_chip()
    plain, fast = relaxed(chip, x, 0), relaxed(chip, x, relaxation.WINDOW)
    both = plain.settled & fast.settled
    x = x[both]
    plain, fast = relaxed(chip, x, 0), relaxed(chip, x, relaxation.WINDOW)
    runs = {
        "accelerated": lambda: relaxed(chip, x, relaxation.WINDOW),
        "accelerated, products alone": of_relaxation(chip, x, fast.sweeps),
        "plain": lambda: relaxed(chip, x, 0),
        "plain, products alone": of_relaxation(chip, x, plain.sweeps),
    }
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            times[name].append(timed(run))
    t = {name: np.array(values) for name, values in times.items()}

    injected = chip.injected(x)
    residual = np.abs(chip.blocks.current(fast.voltages, injected) / chip.blocks.load).max(axis=1)
    close = float(residual.max()) / chip.blocks.swing
    explicit = {}
    for error in (close, 10 * close, 100 * close, 1000 * close):
        seconds, settled = [], True
        for _ in range(3):
            began = time.perf_counter()
            end = ode.settle(chip.blocks, chip.injected(x), tolerance=close, rtol=error, max_steps=2000)
            seconds.append(time.perf_counter() - began)
            settled = bool(end.settled.all())
        if settled:
            explicit[f"{error:.1e}"] = float(np.median(seconds))
    few = 3
    implicit_seconds = [
        timed(lambda k=k: implicit(chip, x[k : k + 1], close * chip.blocks.swing)) for k in range(few)
    ]
    batch_of_implicit = float(np.mean(implicit_seconds)) * len(x)
    result = {
        "samples (settled by both)": len(x),
        "sweeps accelerated (mean, max)": [float(fast.sweeps.mean()), int(fast.sweeps.max())],
        "sweeps plain (mean, max)": [float(plain.sweeps.mean()), int(plain.sweeps.max())],
        "ms": {name: round(float(np.median(values)) * 1e3, 3) for name, values in t.items()},
        "accelerated / its own products": _ratio(t["accelerated"], t["accelerated, products alone"]),
        "accelerated / products of plain relaxation": _ratio(t["accelerated"], t["plain, products alone"]),
        "residual |I|/load over swing": close,
        "explicit ODE, ms by local error": {k: round(v * 1e3, 1) for k, v in explicit.items()},
        "implicit ODE, ms (3 samples, scaled to the batch)": round(batch_of_implicit * 1e3, 1),
    }  # fmt: skip
    best = min([*explicit.values(), batch_of_implicit])
    result["best ODE / accelerated"] = round(best / float(np.median(t["accelerated"])), 1)
    print(json.dumps(result, indent=2))


def _ratio(a: Array, b: Array) -> dict[str, float]:
    ratio = a / b
    return {"median": round(float(np.median(ratio)), 3), "q25": round(float(np.quantile(ratio, 0.25)), 3),
            "q75": round(float(np.quantile(ratio, 0.75)), 3)}  # fmt: skip


if __name__ == "__main__":
    main()
