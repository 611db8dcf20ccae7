"""Crossbars with wires: how fast is the structured solver beside badcrossbar and ngspice, at what cost?

All in one run, on one thread of BLAS, wires of 1 Ω a segment, devices of 1 to 91 µS, times the medians of
several runs taken in turn:

* cost against size, fitted and drawn: every node voltage up to 512 x 512, and the transfer matrix beyond,
  each in a process of its own, with its peak memory;
* 128 x 128, every node voltage, for 1 and for 256 input vectors, against badcrossbar, with the largest
  relative difference (of an output current to its own size, of a node voltage to the largest input); then
  output currents alone, by the transfer matrix;
* 64 x 64 against ngspice: the whole of its run, and the time that it counts for the analysis alone;
* 128 x 128 with diodes in the cells against the linear array;
* the factorization on one and on two BLAS threads (on busy cores, two can be hundreds of times slower).

    python benchmarks/crossbar_wires.py --badcrossbar-python PATH [--figure PNG] [--largest 1000]

badcrossbar (1.1.0; its plotting needs cairo, its solver does not) may live in another environment: name that
one's interpreter. What is not found is left out, and said so.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import importlib.util
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ohmostat.simulator.ngspice import ngspice_available, simulate_with_ngspice
from ohmostat.simulator.spice import write_spice
from ohmostat.simulator.wire_kernels import Elimination, Wires
from ohmostat.simulator.wires import Cell, Crossbar, Diode, Linear, crossbar

FIGURE = Path(__file__).parent / "figures" / "crossbar-cost.png"
VECTORS = 256

# Runs under the other interpreter: times of badcrossbar, and its answers, from and to files of arrays.
PEER = """
import logging, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
import badcrossbar
logging.disable(logging.CRITICAL)
folder, repeats = sys.argv[1], int(sys.argv[2])
g, inputs = np.load(f"{folder}/g.npy"), np.load(f"{folder}/inputs.npy")
seconds = []
for _ in range(repeats):
    began = time.perf_counter()
    s = badcrossbar.compute(inputs.T, 1.0 / g, 1.0)
    seconds.append(time.perf_counter() - began)
shape = (*g.shape, len(inputs))
np.savez(f"{folder}/answer.npz", outputs=s.currents.output, row=s.voltages.word_line.reshape(shape),
         column=s.voltages.bit_line.reshape(shape), seconds=np.array(seconds))
"""


def array(n: int, cell: Cell | None = None) -> Crossbar:
    g = 1e-6 + 9e-5 * np.random.default_rng(n).random((n, n))
    return crossbar(n, n, g, 1.0, 1.0, cell=cell or Linear())


def volts(n: int, batch: int) -> Any:
    return np.random.default_rng(n + 1).random((batch, n))


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of ``repeats`` runs after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def badcrossbar(python: str, n: int, batch: int, repeats: int) -> dict[str, Any]:
    """Its answers and its median time [s]."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/g.npy", array(n).conductance)
        np.save(f"{folder}/inputs.npy", volts(n, batch))
        subprocess.run([python, "-c", PEER, folder, str(repeats)], check=True, stderr=subprocess.DEVNULL)
        with np.load(f"{folder}/answer.npz") as answer:
            return dict(answer)


def against_badcrossbar(python: str | None, repeats: int) -> dict[str, Any]:
    n, result = 128, {}
    crossing = array(n)
    transfer = crossing.transfer()
    many = volts(n, VECTORS)
    product = seconds(lambda: many @ transfer.T, 100 * repeats) / VECTORS
    result["outputs by the transfer matrix, µs a vector"] = product * 1e6
    result["the transfer matrix itself, ms"] = seconds(crossing.transfer, repeats) * 1e3
    for batch in (1, VECTORS):
        inputs = volts(n, batch)
        ours = seconds(lambda inputs=inputs: crossing.solve(inputs), repeats)
        line = result[f"every node, {batch} vectors"] = {"ms": ours * 1e3}
        if python is None:
            continue
        theirs, solution = badcrossbar(python, n, batch, repeats), crossing.solve(inputs)
        peer = float(np.median(theirs["seconds"]))
        line["badcrossbar, ms"], line["ratio"] = peer * 1e3, peer / ours
        line["largest relative difference of outputs"] = largest(solution.outputs / theirs["outputs"] - 1)
        line["largest difference of voltages"] = max(
            largest(solution.row_voltages - np.moveaxis(theirs["row"], 2, 0)),
            largest(solution.column_voltages - np.moveaxis(theirs["column"], 2, 0)),
        ) / largest(inputs)
        if batch == VECTORS:
            result["outputs alone, ratio a vector"] = peer / batch / product
    return result


def against_ngspice(repeats: int) -> dict[str, Any]:
    n = 64
    crossing, inputs = array(n), volts(n, 1)
    ours = seconds(lambda: crossing.solve(inputs), repeats)
    text = write_spice(crossing.netlist(inputs[0]), options={"acct": 1})
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        point = simulate_with_ngspice(text, folder=folder, timeout=600.0)["op"]
        whole = time.perf_counter() - began
        logs = "\n".join(p.read_text(errors="replace") for p in Path(folder).iterdir() if p.suffix != ".raw")
    analysis = re.search(r"Total analysis time \(seconds\) = (\S+)", logs)
    row = crossing.solve(inputs).row_voltages[0]
    difference = max(abs(point[f"v(r{i}_{j})"][0] - row[i, j]) for i in range(n) for j in range(n))
    result = {"ms": ours * 1e3, "ngspice, whole run, s": whole, "ratio": whole / ours,
              "ngspice": ngspice_version(),
              "largest difference, V": float(difference)}  # fmt: skip
    if analysis:
        result["ngspice, analysis alone, s"] = float(analysis.group(1))
        result["ratio to its analysis alone"] = float(analysis.group(1)) / ours
    return result


def ngspice_version() -> str:
    """Its version and its matrix solver: Sparse 1.3, unless it was built with KLU."""
    said = subprocess.run(["ngspice", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"ngspice-\S+", said)
    klu = b"klu_factor" in Path(shutil.which("ngspice") or "").read_bytes().lower()
    return (
        f"{found.group() if found else said}, {'built with KLU' if klu else 'Sparse 1.3, built without KLU'}"
    )


def diodes(repeats: int) -> dict[str, Any]:
    n = 128
    linear, crossing, inputs = array(n), array(n, Diode()), volts(n, 1)
    plain = seconds(lambda: linear.solve(inputs), repeats)
    ours = seconds(lambda: crossing.solve(inputs), repeats)
    solution = crossing.solve(inputs)
    return {"ms": ours * 1e3, "linear, ms": plain * 1e3, "ratio": ours / plain,
            "Newton steps": int(solution.steps[0]), "residual, A": float(solution.residual[0])}  # fmt: skip


def threads(repeats: int) -> dict[str, float]:
    result = {}
    for n in (64, 128):
        crossing = array(n)
        wires = Wires.of(crossing.row_wire, crossing.column_wire)
        g = wires.oriented(crossing.conductance)
        for count in (1, 2):
            with ThreadpoolController().limit(limits=count, user_api="blas"):
                took = seconds(lambda w=wires, g=g: Elimination(w, g).factored(), repeats)
            result[f"{n} x {n}, {count} threads, ms"] = took * 1e3
    return result


def alone(n: int, what: str) -> dict[str, float]:
    """Time [s] and peak memory [GB] of one solution, or one transfer matrix, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", str(n), what], check=True, capture_output=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def one(n: int, what: str) -> dict[str, float]:
    """What :func:`alone` runs: kernels are compiled by a small array first."""
    run: Callable[[Crossbar], object] = (
        Crossbar.transfer if what == "transfer" else lambda a: a.solve(volts(a.shape[0], 1))
    )
    run(array(4))
    crossing = array(n)
    times = []
    while not times or (len(times) < 5 and sum(times) < 2.0):
        began = time.perf_counter()
        run(crossing)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": float(np.median(times)), "peak memory, GB": peak}


def cost(largest_size: int, figure: Path) -> dict[str, Any]:
    """Cost against the number of devices, its exponent, and the figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = [n for n in (32, 64, 128, 256, 512, 1000) if n <= largest_size]
    chart, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    result = {}
    for what, most, label in (("solve", 512, "every node voltage"), ("transfer", 1000, "transfer matrix")):
        measured = {n: alone(n, what) for n in sizes if n <= most}
        devices = np.array([n * n for n in measured])
        took = np.array([m["seconds"] for m in measured.values()])
        exponent = float(np.polyfit(np.log(devices), np.log(took), 1)[0])
        axes.loglog(devices, took, "o-", label=f"{label}: devices^{exponent:.2f}")
        result[label] = {"exponent": exponent, **{f"{n} x {n}": m for n, m in measured.items()}}
    axes.set(xlabel="devices", ylabel="time [s]", title="Square crossbars with wires, one thread")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(figure, dpi=150)
    return result


def largest(values: Any) -> float:
    return float(np.abs(values).max())


def peer_python(given: str | None) -> str | None:
    """The interpreter that has badcrossbar, if any does."""
    return given or (sys.executable if importlib.util.find_spec("badcrossbar") else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--badcrossbar-python", metavar="PATH", help="an interpreter that has badcrossbar")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--largest", type=int, default=1000, help="largest array of the figure")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--one", nargs=2, metavar=("N", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(int(options.one[0]), options.one[1])))
        return
    python = peer_python(options.badcrossbar_python)
    cost_by_size = cost(options.largest, options.figure)  # first: a child's peak counts its parent's size
    result = {
        "128 x 128": against_badcrossbar(python, options.repeats),
        "64 x 64": against_ngspice(options.repeats) if ngspice_available() else "ngspice not found",
        "128 x 128 with diodes": diodes(options.repeats),
        "BLAS threads": threads(min(options.repeats, 3)),
        "cost": cost_by_size,
    }
    if python is None:
        result["badcrossbar"] = "not found: name an interpreter that has it"
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
