"""How much faster than ngspice is the transient of an RC crossbar of about 1,000 nodes, at equal error?

A 22 x 22 crossbar: every row and column is a wire of segments with a capacitor to ground at every cell, 968
nodes in all. Rows are driven by trapezoidal pulses, of random amplitudes, through a driver's resistance;
columns end in a load. Cells are random conductances.

Errors are the largest of any column's output, in units of the outputs' swing, against the exact solution:
eigenvectors of the dense circuit, and pulses that are straight between their corners. ngspice's are taken at
its own time points, so that no interpolation of ours is held against it; ours at our own and, from the dense
output, at 500 others. Both programs run at several tolerances (ngspice also with two values of its option
`trtol`); times are compared at equal error, ours being interpolated in log-log. ngspice's time is its own
account of the transient analysis, without start-up, reading, set-up and operating point; it saves the outputs
alone. Ours is the processor time of the whole call, operating point included, and it keeps all voltages. Each
is the least of several.

    python benchmarks/rc_crossbar_transient.py
"""

from __future__ import annotations

import json
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg

from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.ngspice import simulate_with_ngspice, with_options
from ohmostat.simulator.spice import write_spice
from ohmostat.simulator.transient import transient
from ohmostat.simulator.waveforms import PiecewiseLinear

Array = np.ndarray[Any, np.dtype[Any]]
Run = tuple[float, Array, Array]
Exact = Callable[[Array], Array]
SIDE, STOP, REPEATS = 22, 40e-9, 20
WIRE, DRIVER, LOAD = 1 / 50.0, 1 / 200.0, 1 / 1e3  # [S]: a segment, a driver, a column's load
CAPACITANCE = 20e-15  # [F] of a cell's row node, and of its column node
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
RELTOLS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # of ngspice
SAMPLES = np.linspace(0.0, STOP, 501)[1:]


def pulse(row: int) -> PiecewiseLinear:
    """A row's input: up, and down again, each over 0.5 ns."""
    v = float(np.random.default_rng(row).random())
    return PiecewiseLinear((0.0, 1e-9, 1.5e-9, 20e-9, 20.5e-9), (0.0, 0.0, v, v, 0.0))


def crossbar() -> Netlist:
    rng = np.random.default_rng(0)
    net = Netlist("RC crossbar")
    row = [[f"r{i}_{j}" for j in range(SIDE)] for i in range(SIDE)]
    column = [[f"c{i}_{j}" for j in range(SIDE)] for i in range(SIDE)]
    for i in range(SIDE):
        net.voltage_source(f"V{i}", f"in{i}", "0", waveform=pulse(i))
        net.resistor(f"Rd{i}", f"in{i}", row[i][0], conductance=DRIVER)
        net.resistor(f"Rl{i}", column[-1][i], "0", conductance=LOAD)
        for j in range(SIDE - 1):
            net.resistor(f"Rr{i}_{j}", row[i][j], row[i][j + 1], conductance=WIRE)
            net.resistor(f"Rc{i}_{j}", column[j][i], column[j + 1][i], conductance=WIRE)
        for j in range(SIDE):
            net.resistor(f"R{i}_{j}", row[i][j], column[i][j], conductance=10 ** rng.uniform(-6.0, -4.0))
            net.capacitor(f"Ca{i}_{j}", row[i][j], "0", CAPACITANCE)
            net.capacitor(f"Cb{i}_{j}", column[i][j], "0", CAPACITANCE)
    return net


def outputs() -> list[str]:
    return [f"c{SIDE - 1}_{j}" for j in range(SIDE)]


def exact(net: Netlist) -> Exact:
    """Outputs (T, SIDE) [V] at any times (T,), from the dense circuit: ``C dv/dt = -G v + B u(t)``."""
    nodes = [name for name in net.nodes if not name.startswith("in")]
    place = {name: k for k, name in enumerate(nodes)}
    g, b = np.zeros((len(nodes), len(nodes))), np.zeros((len(nodes), SIDE))
    names = ("0", *net.nodes)
    for bank in net.banks:
        if bank.kind != "resistor":
            continue
        for (a, c), value in zip(bank.terminals[0].T, bank.parameters["conductance"], strict=True):
            ends = [place.get(names[end]) for end in (a, c)]
            for end, other, name in zip(ends, ends[::-1], (names[c], names[a]), strict=True):
                if end is None:
                    continue
                g[end, end] += value
                if other is not None:
                    g[end, other] -= value
                elif name.startswith("in"):
                    b[end, int(name[2:])] += value
    rates, modes = linalg.eigh(g / CAPACITANCE)
    return partial(driven, rates, modes.T @ b / CAPACITANCE, modes[[place[name] for name in outputs()]])


def driven(rates: Array, inputs: Array, seen: Array, wanted: Array) -> Array:
    """``seen`` combinations of modes with ``dz/dt = -rates z + inputs u``, exact where u is straight."""
    pulses = [pulse(i) for i in range(SIDE)]
    times = np.unique([0.0, *wanted, *(t for p in pulses for t in p.times)])
    u = np.array([[p.value(t) for p in pulses] for t in times])
    z = inputs @ u[0] / rates
    result = {0.0: seen @ z}
    for k, (t, h) in enumerate(zip(times[1:], np.diff(times), strict=True)):
        push, slope = inputs @ u[k], inputs @ ((u[k + 1] - u[k]) / h)
        decay, lost = np.exp(-rates * h), -np.expm1(-rates * h)
        z = decay * z + lost / rates * push + (h - lost / rates) / rates * slope
        result[t] = seen @ z
    return np.array([result[t] for t in wanted])


def ours(net: Netlist, rtol: float, method: str) -> Run:
    """Seconds; times (T,) [s] and outputs (T, SIDE) [V] there: accepted points, and samples between them."""
    began = time.process_time()
    wave = transient(net, STOP, rtol=rtol, atol=rtol * 1e-2, method=method)
    seconds = time.process_time() - began
    found = [np.stack([part[name] for name in outputs()], axis=1) for part in (wave, wave.at(SAMPLES))]
    return seconds, np.concatenate([wave.times, SAMPLES]), np.concatenate(found)


def ngspice(net: Netlist, reltol: float, trtol: float) -> Run:
    """Likewise, at its own time points; seconds by its own account."""
    cards = [
        f".save {' '.join(f'v({name})' for name in outputs())}",
        f".tran {STOP / 500!r} {STOP!r} 0 {STOP / 50!r}",
    ]
    text = write_spice(net).replace("\n.op\n", "\n" + "\n".join(cards) + "\n")
    options = {"reltol": reltol, "vntol": reltol * 1e-2, "abstol": 1e-15, "trtol": trtol, "acct": 1}
    with tempfile.TemporaryDirectory() as folder:
        waves = simulate_with_ngspice(with_options(text, options), folder=folder, timeout=300.0)["tran"]
        log = Path(folder, "log.txt").read_text()
    found = re.search(r"[Tt]ran(?:sient)?(?: analysis)? time\s*=?\s*([\d.]+)", log)
    if found is None:
        raise SystemExit(f"no account of the transient's time in ngspice's log:\n{log[-2000:]}")
    values = np.stack([waves[f"v({name})"] for name in outputs()], axis=1)
    return float(found[1]), np.asarray(waves["time"]), values


def main() -> None:
    net = crossbar()
    truth = exact(net)
    swing = float(np.ptp(truth(SAMPLES), axis=0).max())
    runs: dict[tuple[str, float], Callable[[], Run]] = {}
    for method in ("auto", "tr-bdf2", "esdirk4"):
        ours(net, 1e-2, method)  # compiles
        runs |= {(f"ours, {method}", rtol): partial(ours, net, rtol, method) for rtol in TOLERANCES}
    for trtol in (7.0, 1.0):
        runs |= {
            (f"ngspice, trtol {trtol:g}", reltol): partial(ngspice, net, reltol, trtol) for reltol in RELTOLS
        }
    curves: dict[str, list[tuple[float, float, float]]] = {}  # (tolerance, error, seconds)
    for (name, tolerance), run in runs.items():
        found = [run() for _ in range(REPEATS)]
        _, times, values = found[0]
        error = float(np.abs(values - truth(times)).max()) / swing
        curves.setdefault(name, []).append((tolerance, error, min(seconds for seconds, *_ in found)))
    for name, points in curves.items():
        for tolerance, error, seconds in points:
            print(f"{name:17} tolerance {tolerance:.0e}  error {error:.1e}  {seconds:.4f} s")
    print(json.dumps({"swing [V]": swing, "ngspice's time over ours, by error": ratios(curves)}, indent=2))


def ratios(curves: dict[str, list[tuple[float, float, float]]]) -> dict[str, dict[str, float]]:
    """At each error of ngspice that lies within our curve."""
    result: dict[str, dict[str, float]] = {}
    for name in (name for name in curves if name.startswith("ours")):
        _, error, seconds = np.log(np.array(sorted(curves[name], key=lambda point: point[1])).T)
        for other in (name for name in curves if name.startswith("ngspice")):
            for _, wanted, theirs in curves[other]:
                if error[0] <= np.log(wanted) <= error[-1]:
                    ratio = theirs / float(np.exp(np.interp(np.log(wanted), error, seconds)))
                    result.setdefault(f"{name} / {other}", {})[f"{wanted:.1e}"] = round(ratio, 1)
    return result


if __name__ == "__main__":
    main()
