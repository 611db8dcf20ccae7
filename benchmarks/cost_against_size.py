"""What an operating point costs as circuits grow, from 10³ to 10⁶ devices, by the netlist engine.

A square sheet of resistors with a diode to ground at every node, driven at its corners by a voltage and a
current source: two resistors and a diode a node, nonlinear, with the fill of a plane. Each size in one cold
solve from a netlist that is there: pattern, order and pivots, Newton's method. The exponent is fitted from
10⁴ devices up.

    python benchmarks/cost_against_size.py [--figure FILE.png] [--largest 1000000]
"""

from __future__ import annotations

import argparse
import json
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from pathlib import Path

import numpy as np

from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.operating_point import operating_point

SIZES = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
FIGURE = Path(__file__).parent / "figures" / "cost-against-size.png"


def sheet(devices: float, seed: int = 0) -> Netlist:
    """A sheet of about so many devices."""
    n = round(np.sqrt(devices / 3))
    rng = np.random.default_rng(seed)
    net = Netlist(f"{n} x {n} sheet")
    place = np.arange(n * n).reshape(n, n)
    for name, a, b in (("Rh", place[:, :-1], place[:, 1:]), ("Rv", place[:-1], place[1:])):
        ends = [[f"n{k}" for k in side.ravel()] for side in (a, b)]
        names = [f"{name}{k}" for k in range(a.size)]
        net.bank("resistor", names, *ends, conductance=rng.uniform(1e-4, 1e-3, a.size))
    net.voltage_source("V1", "n0", "0", 1.0)
    net.current_source("I1", "0", f"n{n * n - 1}", 1e-3)
    for k in range(n * n):
        net.diode(f"D{k}", f"n{k}", "0", is_=1e-14)
    return net


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--largest", type=float, default=1e6)
    arguments = parser.parse_args()
    operating_point(sheet(100))  # compiled code is loaded
    rows = []
    for size in SIZES:
        if size > arguments.largest:
            break
        net = sheet(size)
        _ = net.banks
        seconds = []
        while not seconds or (len(seconds) < 5 and sum(seconds) < 3.0):
            began = time.perf_counter()
            point = operating_point(net)
            seconds.append(time.perf_counter() - began)
        rows.append((len(net), float(np.median(seconds)), point.iterations, point.method, point.residual))
        print(
            json.dumps(
                dict(zip(("devices", "s", "iterations", "method", "residual [A]"), rows[-1], strict=True))
            )
        )
    count, cost = np.array([row[:2] for row in rows]).T
    upper = count >= 9e3
    exponent = float(np.polyfit(np.log(count[upper]), np.log(cost[upper]), 1)[0])
    print(json.dumps({"exponent from 10^4 devices up": round(exponent, 3)}))
    draw(arguments.figure, count, cost, exponent)


def draw(path: Path, count: np.ndarray, cost: np.ndarray, exponent: float) -> None:
    """Cost against size, with the fitted power."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(count, cost, "o-", color="#0072B2", label="one cold operating point")
    fit = cost[-1] * (count / count[-1]) ** exponent
    axes.loglog(count, fit, ":", color="#000000", label=f"devices to the power {exponent:.2f}")
    axes.set(xlabel="devices", ylabel="time [s]", title="Resistive sheet with a diode at every node")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
