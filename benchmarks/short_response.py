"""What the published figures owe to a response that is read before it has settled.

The "exact" derivative of Laborieux and Zenke's program (ICLR 2024) is the nudged phase's, carried through 20
steps from zero (docs/physics.md, section 6). Here the published network as a `twin` chip, as in
`published_table.py` and `against_angle.py`, with the circuit's own linear response cut after as many steps of
all layers at once, ``ε ← f'/load (W ε - ∂L/∂s)``, beside the whole one:

* "table": α = 0, SGD 0.01, 50 epochs: test error; published 14.7 %; with `--nudges 6` that of Cauchy-6 at
  |β| = 0.5, published 14.3 %, whose nudged phases end after as many steps, settled or not;
* "angle": α = 90°, Adam 1e-4, 10 epochs: first-layer cosine of the response to the adjoint's, sample by
  sample, both cut after as many steps, and to the whole adjoint; a replication of the published one found
  0.354 without homeostasis.

    python benchmarks/short_response.py {table,angle} OUT [--steps 20] [--nudges N] [--seed 0]

OUT keeps the run after every epoch; the same command goes on with it.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import against_angle
import long_runs
import numpy as np
import published_table

from ohmostat.circuits.equilibrium import Equilibrium, continued
from ohmostat.learning.asymmetry import response_alignment
from ohmostat.learning.data import load
from ohmostat.learning.estimators import (
    SOLVED,
    Estimator,
    Nudging,
    Response,
    Stencil,
    adjoint_response,
    cauchy,
    exact_response,
)
from ohmostat.learning.nudges import Cost, Nudge, beta_in_watts
from ohmostat.learning.rules import EquilibriumPropagation
from ohmostat.learning.training import ALIGNMENT_SAMPLES, Epoch, Trainer
from ohmostat.simulator.blocks import Array, BlockCircuit


def cut(circuit: BlockCircuit, free: Equilibrium, cost: Cost, steps: int) -> Array:
    """The linear response (batch, N) [V/W] of ``circuit``, ``steps`` steps after the nudge has set in."""
    slopes = free.slopes() / circuit.load
    gradient = cost.gradient(free.outputs, np.arange(len(free.ports)))
    response = np.zeros_like(free.ports)
    for _ in range(steps):
        current = circuit.drive(response)
        current[:, circuit.output] -= gradient
        response = slopes * current
    return response


@dataclass(frozen=True)
class CutResponse:
    """The circuit's response, cut after ``steps``."""

    steps: int
    name: str = "exact, cut"
    relaxations: int = 2
    seconds: float = 0.0
    nudging: Nudging = SOLVED

    def response(self, free: Equilibrium, cost: Cost, certify: int | None = None) -> Response:
        epsilon = cut(free.circuit, free, cost, self.steps)
        epsilon[~free.sound] = 0
        return Response(epsilon, free.sound)


@dataclass(frozen=True)
class CutPhases(Equilibrium):
    """Free equilibria whose nudged phases end after ``steps``, as they then are."""

    steps: int = 0

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> Equilibrium:
        start, circuit = self._repeated(copies), self.circuit
        injected = continued(start.injected, nudge)
        ports, rows = start.ports.astype(injected.dtype), np.arange(len(injected))
        for _ in range(self.steps):
            current = circuit.drive(ports) + injected
            current[:, circuit.output] += nudge.current(ports[:, circuit.output], rows)
            ports = circuit.ports(current / circuit.load)[0]
        return replace(start, ports=ports, injected=injected)


@dataclass(frozen=True)
class CutNudges:
    """An estimator by nudges of which none is held for longer than ``steps``."""

    steps: int
    nudges: Stencil
    name: str = "nudges, cut"
    seconds: float = 0.0

    @property
    def relaxations(self) -> int:
        return self.nudges.relaxations

    @property
    def nudging(self) -> Nudging:
        return self.nudges.nudging

    def response(self, free: Equilibrium, cost: Cost, certify: int | None = None) -> Response:
        return self.nudges.response(CutPhases(**vars(free), steps=self.steps), cost, 0)


def cosines(trainer: Trainer, steps: int) -> dict[str, float]:
    """First-layer cosines of responses, sample by sample, on the fixed test samples."""
    free = trainer.chip.relax(trainer.inputs(trainer.data.test_x[:ALIGNMENT_SAMPLES]), certify=0)
    cost, circuit = trainer.cost(trainer.data.test_y[:ALIGNMENT_SAMPLES]), free.circuit
    ep, adjoint = cut(circuit, free, cost, steps), cut(circuit.transposed(), free, cost, steps)
    whole = exact_response(free, cost).epsilon, adjoint_response(free, cost).epsilon
    pairs = {"cut to cut": (ep, adjoint), "cut to whole": (ep, whole[1]), "whole to whole": whole}
    return {name: response_alignment(circuit, *pair)["layer0"] for name, pair in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", choices=("table", "angle"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--nudges", type=int, help="of the table: Cauchy's, in place of the exact response")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    if arguments.which == "table":
        design = published_table.design(published_table.Cell("exact", 0, 0.5, arguments.seed), 50)
    else:
        changes = {"learning.angle": 90.0, "homeostat.mode": "off", "task.seed": arguments.seed}
        design = against_angle.design(10, None).replace(changes)
    trainer = Trainer.from_design(design, load(design.task.data, arguments.data_dir))
    estimator: Estimator = CutResponse(arguments.steps)
    if arguments.nudges:
        estimator = CutNudges(arguments.steps, cauchy(beta_in_watts(design, 0.5), arguments.nudges))
    trainer.rule = EquilibriumPropagation(estimator)

    def told(epoch: Epoch) -> str:
        found = cosines(trainer, arguments.steps)
        return "  ".join(f"{k} {v:.3f}" for k, v in found.items())

    arguments.out.mkdir(parents=True, exist_ok=True)
    kind = f"cauchy-{arguments.nudges}" if arguments.nudges else "exact"
    name = f"{arguments.which}-{kind}-steps{arguments.steps}-seed{arguments.seed}"
    long_runs.train(trainer, name, arguments.out, told)
    errors = [100 * (1 - epoch.accuracy) for epoch in trainer.history]
    print(f"last ten epochs: {np.mean(errors[-10:]):.2f} ± {np.std(errors[-10:]):.2f} % test error")


if __name__ == "__main__":
    main()
