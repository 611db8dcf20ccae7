"""What the continuous estimator measures on a chip of the published table, and what a slower one would.

A chip of `published_table.py`, as far as OUT has it trained, on 200 test images: how far every sample's
response is from the exact one (quartiles of the relative error), and the cosine to the adjoint of the first
layer's gradient, by estimator, |β| and period. What the lag spoils gets better with the period; what lies
beyond the radius of convergence does not.

    python benchmarks/slow_oscillation.py OUT [--cell continuous-beta0.5-seed0] [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import published_table

from ohmostat.learning import checkpoint
from ohmostat.learning.asymmetry import alignment
from ohmostat.learning.data import load
from ohmostat.learning.estimators import Response, Stencil, adjoint_response, cauchy, exact_response
from ohmostat.learning.nudges import beta_in_watts
from ohmostat.learning.oscillation import Oscillation, continuous
from ohmostat.learning.rules import contracted
from ohmostat.learning.training import Trainer

IMAGES = 200
BETAS = (0.5, 0.05)
PERIODS = (50, 240, 1000)  # in C / leak; the default, that of the published staircase, and slower still


def trained(cell: published_table.Cell, out: Path, data_dir: str | None) -> Trainer:
    """The cell as OUT has it; a copy is read, so that a run may go on meanwhile."""
    spec = published_table.design(cell, published_table.EPOCHS)
    trainer = Trainer.from_design(spec, load(spec.task.data, data_dir))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.resume(trainer, Path(shutil.copy(out / f"{cell.name}.h5", folder)))
    return trainer


def measure(trainer: Trainer) -> None:
    """Print a line for every estimator."""
    chip, spec = trainer.chip, trainer.design
    x, cost = trainer.inputs(trainer.data.test_x[:IMAGES]), trainer.cost(trainer.data.test_y[:IMAGES])
    free = chip.relax(x, certify=0)
    exact = exact_response(free, cost)
    true = contracted(chip, x, free, adjoint_response(free, cost)).gradients

    def line(name: str, response: Response) -> None:
        valid = response.valid & exact.valid
        off, of = (response.epsilon - exact.epsilon)[valid], exact.epsilon[valid]
        quartiles = np.quantile(np.linalg.norm(off, axis=1) / np.linalg.norm(of, axis=1), (0.25, 0.5, 0.75))
        cosine = alignment(contracted(chip, x, free, response).gradients, true)["forward0"]
        errors = "  ".join(f"{100 * q:5.1f} %" for q in quartiles)
        print(f"{name:34} {errors}   cosine {cosine:5.2f}   {np.sum(valid)} of {IMAGES}")

    print(f"after {len(trainer.history) - 1} epochs; error of the response, quartiles over samples")
    line("exact", exact)
    for share in BETAS:
        beta = beta_in_watts(spec, share)
        estimators: dict[str, Stencil | Oscillation] = {"cauchy-6": cauchy(beta, 6)}
        for period in PERIODS:
            estimators[f"continuous, {period} C/leak"] = continuous(beta, period * spec.neuron.tau)
        for name, estimator in estimators.items():
            line(f"{name}, β = {share}", replace(estimator, judged=False).response(free, cost, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cell", default="continuous-beta0.5-seed0")
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    cell = next(cell for cell in published_table.cells() if cell.name == arguments.cell)
    measure(trained(cell, arguments.out, arguments.data_dir))


if __name__ == "__main__":
    main()
