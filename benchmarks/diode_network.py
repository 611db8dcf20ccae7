"""Operating points of a 784-100-10 network of resistors and diodes, against ngspice.

A deep resistive network (Kendall et al. 2020; Scellier 2024): every pixel, amplified 100 times, drives a pair
of lines, +x and -x; conductances join them to 100 hidden nodes, each clamped from below or from above by a
Shockley diode to ground and followed by a bidirectional amplifier (voltage gain 4 forward, current gain 4
backward: reciprocal); conductances join those to 10 outputs. 1,568 sources, 157,800 resistors, 100 diodes.
Inputs are test images of Fashion-MNIST.

One cold operating point by ngspice (its own Sparse 1.3: Debian's build has no KLU): its whole process, and
its own account of the analysis alone; one by the netlist engine from a netlist that is there, the analysis of
the matrix included; and 64 in one batch, each from nothing.

    python benchmarks/diode_network.py [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from pathlib import Path

import numpy as np

from ohmostat.learning.data import load
from ohmostat.simulator.devices import Current
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.ngspice import simulate_with_ngspice
from ohmostat.simulator.operating_point import operating_point, operating_points
from ohmostat.simulator.spice import OPTIONS, write_spice
from ohmostat.simulator.structure import Structure

PIXELS, HIDDEN, OUT, GAIN, BATCH, THREADS = 784, 100, 10, 4.0, 64, 2
INPUT_GAIN = 100.0


def network(image: np.ndarray, seed: int = 0) -> Netlist:
    """The network with ``image`` (784,) [V] at its input lines."""
    rng = np.random.default_rng(seed)
    net = Netlist("784-100-10 with diodes", gmin=OPTIONS["gmin"])
    lines = [f"x{k}{sign}" for sign in "pn" for k in range(PIXELS)]
    hidden, driven, out = (
        [f"{name}{k}" for k in range(n)] for name, n in (("h", HIDDEN), ("d", HIDDEN), ("y", OUT))
    )
    inputs = np.concatenate([image, -image])
    net.bank("voltage_source", [f"V{line}" for line in lines], lines, "0", voltage=inputs)
    _dense(net, "Ra", lines, hidden, rng.uniform(0, 2e-6, (len(lines), HIDDEN)))
    net.bank("resistor", [f"Rl{k}" for k in range(HIDDEN)], hidden, "0", conductance=1e-5)
    for k, node in enumerate(hidden):
        ends = ("0", node) if k % 2 else (node, "0")  # clamped from below, from above
        net.diode(f"D{k}", *ends, is_=1e-14)
        net.vcvs(f"E{k}", f"e{k}", "0", node, "0", GAIN)
        net.voltage_source(f"A{k}", f"e{k}", driven[k], 0.0)  # senses the current that the next layer draws
        net.cccs(f"F{k}", node, "0", Current(f"A{k}"), GAIN)
    _dense(net, "Rb", driven, out, rng.uniform(0, 1e-5, (HIDDEN, OUT)))
    net.bank("resistor", [f"Ro{k}" for k in range(OUT)], out, "0", conductance=1e-5)
    return net


def _dense(net: Netlist, name: str, rows: list[str], columns: list[str], conductance: np.ndarray) -> None:
    i, j = np.indices(conductance.shape).reshape(2, -1)
    names = [f"{name}{a}_{b}" for a, b in zip(i, j, strict=True)]
    a, b = [rows[k] for k in i], [columns[k] for k in j]
    net.bank("resistor", names, a, b, conductance=conductance.ravel())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--name", default="fashion-mnist", help="or fashion-6k, which ships with the package")
    arguments = parser.parse_args()
    images = load(arguments.name, arguments.data_dir).test_x[:BATCH].reshape(BATCH, PIXELS).astype(float)
    images *= INPUT_GAIN
    net = network(images[0])
    operating_point(net)  # compiled code is loaded

    text = write_spice(net, options={"acct": 1})
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        waves = simulate_with_ngspice(text, folder=folder, timeout=600)["op"]
        ngspice = time.perf_counter() - began
        log = "".join(path.read_text(errors="replace") for path in Path(folder).glob("*.txt"))
    theirs = {node: float(waves[f"v({node.lower()})"][0]) for node in net.nodes}
    account = re.search(r"Total analysis time \(seconds\) = (\S+)", log)
    analysis = float(account[1]) if account else float("nan")

    cold = []
    for _ in range(5):
        began = time.perf_counter()
        point = operating_point(net)
        cold.append(time.perf_counter() - began)
    both = np.concatenate([images, -images, np.zeros((BATCH, HIDDEN))], axis=1)  # in the bank's order
    batch = []
    for _ in range(5):
        began = time.perf_counter()
        points = operating_points(Structure(net), {("voltage_source", "voltage"): both}, threads=THREADS)
        batch.append(time.perf_counter() - began)
    points.require()

    ours = point.voltages_by_node()
    hidden = [ours[f"h{k}"] for k in range(HIDDEN)]
    per_image = float(np.median(batch)) / BATCH
    print(json.dumps({
        "devices": len(net), "nodes": len(net.nodes),
        "largest difference to ngspice [V]": max(abs(ours[n] - theirs[n]) for n in theirs),
        "largest hidden voltages [V]": [round(f(hidden), 3) for f in (min, max)],
        "diodes that conduct": sum(abs(v) > 0.4 for v in hidden),
        "Newton iterations": [point.iterations, point.method],
        "residual [A]": point.residual, "largest residual of the batch [A]": float(points.residual.max()),
        "ngspice, whole process [s]": round(ngspice, 2),
        "ngspice, its own account of the analysis alone [s]": analysis,
        "one cold operating point [s]": round(float(np.median(cold)), 4),
        f"per image in a batch of 64, {THREADS} threads [s]": round(per_image, 5),
        "ngspice, whole / cold": round(ngspice / float(np.median(cold))),
        "ngspice, analysis / cold": round(analysis / float(np.median(cold))),
        "ngspice, whole / per image": round(ngspice / per_image),
        "ngspice, analysis / per image": round(analysis / per_image),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
