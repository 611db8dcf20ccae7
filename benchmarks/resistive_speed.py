"""A deep resistive network 784-100-10 with Shockley diodes, beside ngspice: time of an image, and error.

The network of `resistive_mnist.py` (cell `shockley-100`) as it starts, in double precision: 157,800
conductances, 100 diodes; test images of MNIST, or of Fashion-MNIST (`--name`). ngspice solves one cold
operating point of the flattened chip, with its own defaults, for the time, and once more run tight, for the
error. Here 64 images settle in one batch, each from nothing, to 1e-9 of full swing and in single precision to
1e-5.

    python benchmarks/resistive_speed.py [--data-dir DIR] [--name mnist]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from resistive_mnist import CELLS, NETWORK

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.flatten import flatten, voltages
from ohmostat.circuits.resistive import inputs_at_full
from ohmostat.learning.data import load
from ohmostat.learning.training import initialise_from
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.ngspice import TIGHT, simulate_with_ngspice
from ohmostat.simulator.spice import write_spice

BATCH, REPEATS = 64, 9
DEFAULTS = {"reltol": 1e-3, "vntol": 1e-6, "abstol": 1e-12, "gmin": 1e-12, "itl1": 100}  # ngspice's own


def fabricate(dtype: str, tolerance: float) -> Chip:
    """The network of the trained cell, before it is trained."""
    changes = {"learning.dtype": dtype, "learning.tolerance": tolerance}
    chip = Circuit(Design.named("fashion").replace(NETWORK | CELLS["shockley-100"] | changes)).fabricate(
        seed=0
    )
    initialise_from(chip)
    return chip


def ngspice(net: Netlist, **options: float | str) -> tuple[dict[str, float], float, float]:
    """Node voltages [V], seconds of the whole process, and of the analysis alone by its own account."""
    with tempfile.TemporaryDirectory() as folder:
        text = write_spice(net, options={"acct": 1} | options)
        began = time.perf_counter()
        waves = simulate_with_ngspice(text, folder=folder, timeout=900)["op"]
        seconds = time.perf_counter() - began
        log = "".join(path.read_text(errors="replace") for path in Path(folder).glob("*.txt"))
    account = re.search(r"Total analysis time \(seconds\) = (\S+)", log)
    found = {
        node: float(waves[f"v({node.lower()})"][0])
        for node in net.nodes
        if f"v({node.lower()})" in waves.vectors
    }
    return found, seconds, float(account[1]) if account else float("nan")


def per_image(chip: Chip, images: np.ndarray) -> float:
    """Median seconds for an image, in batches from nothing."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        found = chip.relax(images, certify=0)
        taken.append((time.perf_counter() - began) / len(images))
        assert found.settled.all()
    return float(np.median(taken[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--name", default="mnist")
    arguments = parser.parse_args()
    fine, coarse = fabricate("float64", 1e-9), fabricate("float32", 1e-5)
    images = load(arguments.name, arguments.data_dir).test_x[:BATCH] * inputs_at_full(fine)
    ours, quick = per_image(fine, images), per_image(coarse, images)
    net = flatten(fine, images[0])
    _, whole, analysis = ngspice(net, **DEFAULTS)
    exact, tight, _ = ngspice(net, **TIGHT)
    true = voltages(fine, exact)
    state, single = fine.relax(images), coarse.relax(images, certify=0)
    scale = np.abs(true).max()
    print(json.dumps({
        "devices": len(net), "ngspice, whole process [s]": whole, "ngspice, analysis alone [s]": analysis,
        "ngspice run tight, whole process [s]": tight,
        "per image, double precision [s]": ours, "per image, single precision [s]": quick,
        "ngspice's analysis / ours": analysis / ours, "ngspice's process / ours": whole / ours,
        "ngspice's analysis / ours in single precision": analysis / quick,
        "largest error, of the largest voltage": float(np.abs(state.voltages[0] - true).max() / scale),
        "largest error, single precision": float(np.abs(single.voltages[0] - true).max() / scale),
        "largest residual [A]": float(np.max(state.residual)), "sweeps": float(state.sweeps.mean()),
        "largest voltage [V]": float(scale),
        "nodes that a diode moves by more than 1 mV": int(np.sum(fine.blocks.ports(true)[1] < 0.5)),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
