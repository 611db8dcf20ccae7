"""What the published figures owe to a response that is read before it has settled.

The "exact" derivative of Laborieux and Zenke's program (ICLR 2024) is the nudged phase's, carried through 20
steps from zero (docs/physics.md, section 6). Here the published network as a `twin` chip, as in
`published_table.py` and `against_angle.py`, with the circuit's own linear response cut after as many steps of
all layers at once, ``ε ← f'/load (W ε - ∂L/∂s)``, beside the whole one:

* "table": α = 0, SGD 0.01, 50 epochs: test error; published 14.7 %;
* "angle": α = 90°, Adam 1e-4, 10 epochs: first-layer cosine of the response to the adjoint's, sample by
  sample, both cut after as many steps, and to the whole adjoint; a replication of the published one found
  0.354 without homeostasis.

    python benchmarks/short_response.py {table,angle} [--steps 20] [--seed 0] [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import against_angle
import numpy as np
import published_table

from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.learning.asymmetry import response_alignment
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Response, adjoint_response, exact_response
from ohmostat.learning.nudges import Cost
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

    def response(self, free: Equilibrium, cost: Cost, certify: int | None = None) -> Response:
        epsilon = cut(free.circuit, free, cost, self.steps)
        epsilon[~free.sound] = 0
        return Response(epsilon, free.sound)


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
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    if arguments.which == "table":
        design = published_table.design(published_table.Cell("exact", 0, 0.5, arguments.seed), 50)
    else:
        changes = {"learning.angle": 90.0, "homeostat.mode": "off", "task.seed": arguments.seed}
        design = against_angle.design(10, None).replace(changes)
    trainer = Trainer.from_design(design, load(design.task.data, arguments.data_dir))
    trainer.rule = EquilibriumPropagation(CutResponse(arguments.steps))
    errors = []

    def show(epoch: Epoch | None) -> None:
        if epoch is None:
            return
        errors.append(100 * (1 - epoch.accuracy))
        found = "  ".join(f"{k} {v:.3f}" for k, v in cosines(trainer, arguments.steps).items())
        print(
            f"epoch {epoch.epoch:2d}  test error {errors[-1]:5.2f} %  {found}  {epoch.seconds:.0f} s",
            flush=True,
        )

    trainer.fit(progress=show)
    print(f"last ten epochs: {np.mean(errors[-10:]):.2f} ± {np.std(errors[-10:]):.2f} % test error")


if __name__ == "__main__":
    main()
