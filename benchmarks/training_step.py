"""A training step beside its matrix products alone, and beside plain NumPy that relaxes as published.

784-256-256-10, `twin`, batch 50, centered EP to 1e-5 of full swing, float32, without a homeostat. Timed in
one process, each on the same batches in turn, from the same chip, which has trained for an epoch:

* the step of `learning.training`: free phase, two nudged phases, contraction, momentum, programming of every
  device, readout; on one thread, and on two (`learning.threads`);
* its matrix products alone, on one thread: the same shapes, on the samples still active in every sweep, and
  the contraction;
* the same step in plain NumPy with synchronous relaxation, s ← f(I(s)) for all layers at once (as the public
  JAX program of Laborieux and Zenke relaxes), until no port moves by more than 1e-5 of the swing; on two BLAS
  threads.

Ratios are medians over batches of the times on the same one; ten batches before them are not counted. A core
that is lent out by the half runs at two speeds, as its other half is busy or not, for seconds each: so the
tenth of every arm's times that are shortest is given beside, and the ratios of these.

The public program's own time, 57 ms on a machine of two cores, is from `landscape` (150 free and 20 nudged
steps of a fixed count, where neither is asked whether it has settled).

    python benchmarks/training_step.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from matrix_products import of_relaxation
from threadpoolctl import threadpool_limits

from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.learning.data import load
from ohmostat.learning.nudges import Cost, beta_in_watts
from ohmostat.learning.optimizers import SGD
from ohmostat.learning.training import Trainer
from ohmostat.simulator.blocks import Array

TOLERANCE = 1e-5
WARM, BATCHES, REPEATS = 10, 20, 6  # the first repeat is not counted: it may compile
PUBLISHED_MS = 57.0


def trained() -> Trainer:
    """A chip after one epoch."""
    changes = {"homeostat.mode": "off", "mismatch.conductance": 0.3, "learning.tolerance": TOLERANCE}
    design = Design.named("fashion-6k").replace(changes)
    trainer = Trainer.from_design(design, load(design.task.data), chip_seed=0)
    trainer.fit(1)
    return trainer


def products(trainer: Trainer, x: Array, free: Array, nudged: Array) -> Callable[[], None]:
    """The matrix products of a step: both phases' sweeps (``free``, ``nudged``), and the contraction."""
    chip, blocks = trainer.chip, trainer.chip.blocks
    relaxing = of_relaxation(chip, x, free, nudged)
    samples = np.random.default_rng(0).random((len(x), blocks.size)).astype(chip.dtype)
    banks = [bank for bank in chip.circuit.banks if bank.pre >= 0]

    def run() -> None:
        relaxing()
        np.matmul(samples[:, blocks.slices[0]].T, x)
        for bank in banks:
            np.matmul(samples[:, blocks.slices[bank.post]].T, samples[:, blocks.slices[bank.pre]])

    return run


class PlainNumpy:
    """The same chip as plain weight matrices, relaxed synchronously."""

    def __init__(self, trainer: Trainer) -> None:
        chip, self.trainer = trainer.chip, trainer
        self.weight = {(b.post, b.pre): chip.blocks.weight(b.post, b.pre).copy()
                       for b in chip.circuit.banks if b.pre >= 0}  # fmt: skip
        self.input = chip.input_weight.copy()
        self.bias = [chip.blocks.layer(chip.bias, k) * chip.dtype.type(chip.bias_voltage) for k in range(3)]
        neuron = trainer.design.neuron
        self.load, self.low, self.swing = neuron.leak, neuron.low, neuron.swing
        self.slope, self.offset = 4 * neuron.gain / neuron.swing, neuron.offset
        self.beta = beta_in_watts(trainer.design, trainer.design.learning.beta)
        self.momentum: dict[object, Array] = {}
        self.sweeps: list[int] = []

    def relaxed(self, driven: Array, s: list[Array], cost: Cost, beta: float) -> list[Array]:
        """All layers at once, until no port moves."""
        rows, f = np.arange(len(driven)), np.float32
        sweeps, moved = 0, np.inf
        while moved > TOLERANCE * self.swing and sweeps < 1000:
            sweeps += 1
            current = [driven + self.bias[0], self.bias[1], self.bias[2]]
            for (post, pre), w in self.weight.items():
                current[post] = current[post] + s[pre] @ w.T
            if beta:
                current[2] = current[2] - f(beta) * cost.gradient(s[2], rows)
            volts = [i / f(self.load) - f(self.offset) for i in current]
            new = [f(self.low) + f(self.swing) / (1 + np.exp(f(-self.slope) * v)) for v in volts]
            moved = max(float(np.abs(a - b).max()) for a, b in zip(new, s, strict=True))
            s = new
        self.sweeps.append(sweeps)
        return s

    def step(self, images: Array, labels: Array) -> None:
        trainer, f = self.trainer, np.float32
        x, cost = trainer.inputs(images), trainer.cost(labels)
        driven = x @ self.input.T
        zero = [np.zeros((len(x), n), f) for n in trainer.chip.circuit.sizes]
        free = self.relaxed(driven, zero, cost, 0.0)
        up, down = (self.relaxed(driven, free, cost, sign * self.beta) for sign in (1, -1))
        epsilon = [(a - b) * f(1 / (2 * self.beta)) for a, b in zip(up, down, strict=True)]
        scale = f(self.load**2 / len(x) * 1e-9)  # the descent's size does not matter here
        for (post, pre), w in self.weight.items():
            self.descend((post, pre), w, epsilon[post].T @ free[pre] * scale)
        self.descend("input", self.input, epsilon[0].T @ x * scale)
        for k in range(3):
            self.descend(("bias", k), self.bias[k], epsilon[k].sum(axis=0) * scale)

    def descend(self, name: object, weight: Array, gradient: Array) -> None:
        m = self.momentum.setdefault(name, np.zeros_like(weight))
        m *= np.float32(0.9)
        m += gradient
        weight -= np.float32(1e-3) * m


def phases(trainer: Trainer, x: Array, labels: Array) -> tuple[Equilibrium, Array]:
    """The free equilibria, and the sweeps of the nudged batch."""
    free = trainer.chip.relax(x, certify=0)
    nudged = trainer.rule.update(trainer.chip, x, free, trainer.cost(labels), 0).nudged
    assert nudged is not None
    return free, nudged.sweeps


def measured(trainer: Trainer, plain: PlainNumpy, batches: list[tuple[Array, Array]]) -> dict[str, Array]:
    """Times [ms] of every arm on the same batches, one arm after the other from the same chip."""
    chip, optimizer = trainer.chip, trainer.optimizer
    assert isinstance(optimizer, SGD)
    alone, sweeps = [], []
    for images, labels in batches:
        x = trainer.inputs(images)
        free, nudged = phases(trainer, x, labels)
        alone.append(products(trainer, x, free.sweeps, nudged))
        sweeps.append(float(free.sweeps.mean()))
    steps = [partial(trainer.step, *batch) for batch in batches]
    found: dict[str, Array] = {}
    for name, runs, threads in (
        ("products", alone, 1), ("step", steps, 1), ("step, 2 threads", steps, 2),
        ("plain NumPy", [partial(plain.step, *batch) for batch in batches], 2),
    ):  # fmt: skip
        saved = {key: (a.target.copy(), a.actual.copy()) for key, a in chip.devices.items()}
        readout, momentum = (
            replace(trainer.readout),
            {k: m.copy() for k, m in optimizer.state.items()},
        )
        chip.blocks.threads = optimizer.threads = threads
        time.sleep(0.1)  # by then, threads that wait for more have let go of their cores
        with threadpool_limits(threads if name == "plain NumPy" else 1, user_api="blas"):
            found[name] = 1e3 * np.array([timed(run) for run in runs])[WARM:]
        for key, (target, actual) in saved.items():
            chip.devices[key].target[...], chip.devices[key].actual[...] = target, actual
        chip.refresh()
        for key, kept in momentum.items():
            optimizer.state[key][...] = kept
        chip.blocks.threads = optimizer.threads = 1
        trainer.readout = readout
    return {**found, "free sweeps": np.array(sweeps)}


def main() -> None:
    """Measure and print."""
    trainer = trained()
    plain = PlainNumpy(trainer)
    parts = []
    for epoch in range(2, 2 + REPEATS):
        parts.append(measured(trainer, plain, list(trainer.batches(epoch))[: WARM + BATCHES]))
    ms = {name: np.concatenate([part[name] for part in parts[1:]]) for name in parts[0]}
    sweeps = ms.pop("free sweeps")

    shortest = {name: float(np.percentile(values, 10)) for name, values in ms.items()}
    ratios = {
        "step / products": ("step", "products"),
        "plain NumPy / step": ("plain NumPy", "step"),
        "plain NumPy / step, both on 2 threads": ("plain NumPy", "step, 2 threads"),
    }
    published = "step / published JAX (57 ms, another program, another day)"
    print(json.dumps({
        "medians": {
            "ms": {name: round(float(np.median(values)), 2) for name, values in ms.items()},
            **{name: round(float(np.median(ms[a] / ms[b])), 2) for name, (a, b) in ratios.items()},
            published: round(float(np.median(ms["step"])) / PUBLISHED_MS, 3),
        },
        "shortest tenth": {
            "ms": {name: round(value, 2) for name, value in shortest.items()},
            **{name: round(shortest[a] / shortest[b], 2) for name, (a, b) in ratios.items()},
            published: round(shortest["step"] / PUBLISHED_MS, 3),
        },
        "free sweeps": round(float(sweeps.mean()), 1),
        "synchronous sweeps (mean of free and nudged)": round(float(np.mean(plain.sweeps)), 1),
    }, indent=2))  # fmt: skip


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
