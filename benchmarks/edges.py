"""Networks of learning transistors: XOR, a nonlinear regression, update bias, and what broken devices cost.

A periodic 4 x 4 lattice of 32 transistors (one network, or twins) learns by itself, after Dillavou et al.
2024: two outputs' difference is read, the clamped outputs are held a tenth of the way to their target, and
every gate integrates the difference of the squared drops. A network has *learned* when the rms error of its
readings is at most a fifth of what the best affine function of the inputs leaves; there it stops.

- ``xor``, ``regression``: ten starts that served no choice of a parameter, each up to 20,000 epochs.
- ``bias``: XOR, learned by ideal multipliers, goes on under multipliers with offsets.
- ``cycles``: the same, but its two halves (first input low, first input high) take turns, block by block, as
  tasks of their own: without offsets both are soon solved at once, with them the gates run in a cycle.
- ``faults``: twin networks against one network used twice in time, five chips each: perfect, every device
  10 % off (current factor by 10 %, threshold by 50 mV), and 10 % stuck (half open, half closed).

    python benchmarks/edges.py [--parts xor,regression,bias,cycles,faults] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ohmostat.circuits.edges import EdgeMismatch, TransistorNetwork
from ohmostat.circuits.graphs import square_lattice
from ohmostat.learning.edges import EdgeMachine, EdgeRun, EdgeTask

Array = NDArray[Any]
FIGURE = Path(__file__).parent / "figures" / "edges.png"
STARTS = range(200, 210)
CHIPS = range(5)
EPOCHS, EVERY, SHARE = 20_000, 50, 0.2
BIASES = {"none": 0.0, "1e-6 V²": 1e-6, "1e-5 V²": 1e-5, "1e-4 V²": 1e-4}  # offset over gain, sd
AFTER = 5_000  # epochs that learning goes on
BLOCK, TURNS = 400, 100  # epochs of a half of the task, and how often both come
CYCLING = {"none": 0.0, "1e-6 V²": 1e-6, "3e-6 V²": 3e-6, "1e-5 V²": 1e-5}
FAULTS = {
    "perfect": EdgeMismatch(),
    "10 % deviation": EdgeMismatch(current=0.1, threshold=0.05),
    "10 % stuck": EdgeMismatch(stuck_open=0.05, stuck_closed=0.05),
}
COLORS = {"twin": "#D55E00", "in turn": "#0072B2"}

SHADES = ("#000000", "#56B4E9", "#0072B2", "#D55E00")

Case = tuple[TransistorNetwork, EdgeTask, dict[str, Any], float]
"""Network, task, the machine's settings, and the highest gate voltage [V] at the start (lowest: 1 V)."""
Learned = tuple[EdgeMachine, EdgeRun]


def xor() -> Case:
    """Inputs of 0 or 0.5 V; the difference shall be -30 mV where they are equal, else 30 mV."""
    network = TransistorNetwork(
        square_lattice(4, 4), inputs=("3.0", "0.3"), outputs=(("0.1", "1.3"),),
        constants={"3.1": 0.0, "2.3": 0.5}, rails=(0.7, 3.0),
    )  # fmt: skip
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    targets = np.where(bits[:, :1] == bits[:, 1:], -0.03, 0.03)
    return network, EdgeTask(0.5 * bits, targets), {"gain": 3e-6}, 1.2


def regression() -> Case:
    """Nothing up to the middle of the input's range of 0.8 V, and from there on straight up to 120 mV."""
    network = TransistorNetwork(
        square_lattice(4, 4), inputs=("3.1",), outputs=(("3.2", "0.1"),), constants={"2.1": 0.0, "0.3": 0.8},
        rails=(0.7, 3.0),
    )  # fmt: skip
    x = np.linspace(0.0, 1.0, 6)[:, None]
    return network, EdgeTask(0.8 * x, 0.12 * np.maximum(2 * x - 1, 0)), {"gain": 1.3e-6}, 1.2


def affine_error(task: EdgeTask) -> float:
    """Root mean square [V] that the best affine function of the inputs leaves."""
    inputs = np.column_stack([task.inputs, np.ones(len(task.inputs))])
    fit = inputs @ np.linalg.lstsq(inputs, task.targets, rcond=None)[0]
    return float(np.sqrt(np.mean((fit - task.targets) ** 2)))


def learn(case: Case, start: int, spread: EdgeMismatch, chip_seed: int, timing: str) -> Learned:
    """One chip from one start, until it has learned."""
    network, task, settings, highest = case
    chip = network.fabricate(spread, chip_seed)
    machine = EdgeMachine(chip, timing=timing, **settings)
    gates = chip.random_gates(start, 1.0, highest)
    enough = SHARE * affine_error(task)
    return machine, machine.learn(task, gates, EPOCHS, seed=start, every=EVERY, enough=enough)


def summary(found: list[Learned], task: EdgeTask) -> dict[str, Any]:
    """How many learned, errors over the affine one, and the median time and energy of those that learned."""
    affine = affine_error(task)
    ends = [run.error[-1] / affine for _, run in found]
    good = [run for (_, run), end in zip(found, ends, strict=True) if end <= SHARE]
    results: dict[str, Any] = {
        "learned": f"{len(good)} of {len(found)}",
        "error / affine": np.round(ends, 3).tolist(),
        "time to learn [s]": float(np.median([run.time[-1] for run in good])) if good else None,
        "energy to learn [J]": float(np.median([run.energy[-1] for run in good])) if good else None,
        "unsettled": int(sum(run.unsettled[-1] for _, run in found)),
    }
    if len(np.unique(task.targets)) == 2:  # two classes, on the two sides of 0
        right = [
            np.mean(machine.chip.settle(run.gates[-1], task.inputs).readings * task.targets > 0)
            for machine, run in found
        ]
        results["accuracy"] = float(np.mean(right))
    return results


def starts(case: Case) -> tuple[dict[str, Any], list[EdgeRun]]:
    """Ten starts of a perfect chip."""
    found, task = [learn(case, start, EdgeMismatch(), 0, "twin") for start in STARTS], case[1]
    power = [np.mean(machine.chip.settle(run.gates[-1], task.inputs).power) for machine, run in found]
    more = {
        "affine error [mV]": 1e3 * affine_error(task),
        "power of one network [W]": float(np.median(power)),
    }
    return {**summary(found, task), **more}, [run for _, run in found]


def bias(case: Case) -> tuple[dict[str, Any], dict[str, list[EdgeRun]]]:
    """Learned chips go on; offsets are one draw, scaled."""
    found, courses = {}, {}
    solved = [learn(case, start, EdgeMismatch(), 0, "twin") for start in STARTS]
    affine = affine_error(case[1])
    for name, size in BIASES.items():
        runs = []
        for start, (machine, run) in zip(STARTS, solved, strict=True):
            offset = case[0].fabricate(EdgeMismatch(offset=size * machine.gain), start).offset
            biased = replace(machine, chip=replace(machine.chip, offset=offset))
            runs.append(biased.learn(case[1], run.gates[-1], AFTER, seed=start, every=EVERY))
        late = np.array([run.error[len(run.error) // 2 :] / affine for run in runs])
        moved = np.array([np.sqrt(np.mean((run.gates - run.gates[0]) ** 2, axis=1)) for run in runs])
        half = np.array([
            np.sqrt(np.mean((run.gates[-1] - run.gates[len(run.gates) // 2]) ** 2)) for run in runs
        ])  # fmt: skip
        courses[name] = runs
        found[name] = {
            "error / affine, second half: median, worst start's mean": [
                round(float(np.median(late)), 3), round(float(late.mean(axis=1).max()), 3)
            ],
            "starts that stay learned on average": int(np.sum(late.mean(axis=1) <= SHARE)),
            "gates' distance from the solution [mV rms]": round(float(1e3 * moved[:, -1].mean()), 1),
            "of it in the second half [mV rms]": round(float(1e3 * half.mean()), 1),
        }  # fmt: skip
    return found, courses


def cycles(case: Case) -> tuple[dict[str, Any], dict[str, Array]]:
    """Two halves of a learned task in turn, under the multipliers' offsets; errors on both at every block's
    end.
    """
    network, task, *_ = case
    halves = [EdgeTask(task.inputs[rows], task.targets[rows]) for rows in (slice(0, 2), slice(2, 4))]
    solved = [learn(case, start, EdgeMismatch(), 0, "twin") for start in STARTS[:5]]
    found, courses = {}, {}
    for name, size in CYCLING.items():
        errors, gates = [], []
        for start, (machine, run) in zip(STARTS, solved, strict=False):
            offset = network.fabricate(EdgeMismatch(offset=size * machine.gain), start).offset
            biased = replace(machine, chip=replace(machine.chip, offset=offset))
            state, ends = run.gates[-1], []
            for block in range(2 * TURNS):  # every turn in the same order: one map, again and again
                state = biased.learn(halves[block % 2], state, BLOCK, seed=start, every=BLOCK).gates[-1]
                ends.append((state, [biased.error(state, half) for half in halves]))
            gates.append(np.array([end[0] for end in ends]).reshape(TURNS, 2, -1))
            errors.append(np.array([end[1] for end in ends]).reshape(TURNS, 2, 2) / affine_error(task))
        courses[name], at = np.array(errors), np.array(gates)  # (starts, turns, block, half), (…, block, k)
        late = courses[name][:, -10:]
        swing = np.sqrt(np.mean((at[:, -1, 0] - at[:, -1, 1]) ** 2, axis=-1))
        left = np.sqrt(np.mean((at[:, -1] - at[:, -2]) ** 2, axis=(-2, -1)))
        found[name] = {
            "error / affine of the half just learned": float(np.median(late[:, :, [0, 1], [0, 1]])),
            "of the other one": float(np.median(late[:, :, [0, 1], [1, 0]])),
            "gates between the two ends of a turn [mV rms]": np.round(1e3 * swing, 2).tolist(),
            "gates from one turn to the next [mV rms]": np.round(1e3 * left, 3).tolist(),
        }
    return found, courses


def faults() -> dict[str, Any]:
    """Twin networks, and one used twice, on both tasks."""
    results: dict[str, Any] = {}
    for task, case in (("xor", xor()), ("regression", regression())):
        for fault, spread in FAULTS.items():
            for timing in COLORS:
                found = [learn(case, STARTS[0] + chip, spread, chip, timing) for chip in CHIPS]
                results[f"{task}, {fault}, {timing}"] = summary(found, case[1])
    return results


def draw(results: dict[str, Any], courses: dict[str, Any], path: Path) -> None:
    """A panel for every part."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 3.6), layout="constrained")
    for axes, part in zip(np.atleast_1d(figure.subplots(1, len(results))), results, strict=True):
        axes.set(title=part, ylabel="error / best affine function's", yscale="log")
        axes.axhline(SHARE, color="#000000", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3, linewidth=0.5)
        if part == "bias":
            draw_bias(axes, courses[part])
        elif part == "cycles":
            draw_cycles(axes, courses[part])
        elif part == "faults":
            draw_faults(axes, results[part])
        else:
            for run in courses[part]:
                error = 1e3 * run.error / results[part]["affine error [mV]"]
                axes.plot(1e3 * run.time, error, color=COLORS["twin"], alpha=0.6, linewidth=0.8)
            axes.set(xlabel="time of learning [ms]", xscale="symlog", xlim=(0, None))
    figure.savefig(path, dpi=130)


def draw_bias(axes: Any, courses: dict[str, list[EdgeRun]]) -> None:
    """The error's mean over starts, after the solution."""
    affine = affine_error(xor()[1])
    for (name, runs), color in zip(courses.items(), SHADES, strict=True):
        mean = np.mean([run.error for run in runs], axis=0) / affine
        axes.plot(1e3 * runs[0].time, mean, color=color, label=name)
    axes.set(xlabel="time after the solution [ms]", ylim=(1e-4, 10.0))
    axes.legend(fontsize=7, frameon=False, title="offset / gain, sd", title_fontsize=7, ncols=2)


def draw_cycles(axes: Any, courses: dict[str, Array]) -> None:
    """The first half's error at every block's end, over the last turns of the first start."""
    for (name, errors), color in zip(courses.items(), SHADES, strict=True):
        last = errors[0, -6:, :, 0].ravel()
        axes.plot(np.arange(len(last)), np.maximum(last, 1e-6), ".-", color=color, label=name, linewidth=0.8)
    axes.set(xlabel="block: of the first half, of the second, …")
    axes.legend(fontsize=7, frameon=False, title="offset / gain, sd", title_fontsize=7, ncols=2)


def draw_faults(axes: Any, results: dict[str, Any]) -> None:
    """Every chip's error at the end."""
    for k, (name, one) in enumerate(results.items()):
        task, fault, timing = name.split(", ")
        ends, place = one["error / affine"], k // 2 + 0.2 * (k % 2) - 0.1
        label = timing if k < 2 else None
        axes.plot(np.full(len(ends), place), ends, "o", color=COLORS[timing], markersize=4, label=label)
        if k % 2:
            axes.text(k // 2, 0.0025, f"{task}\n{fault}", ha="center", va="bottom", fontsize=5.5)
    axes.set(xticks=[], ylim=(0.002, 10.0), xlim=(-0.5, len(results) / 2 - 0.5))
    axes.legend(fontsize=7, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default="xor,regression,bias,cycles,faults")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    courses: dict[str, Any] = {}
    began = time.perf_counter()
    for part in arguments.parts.split(","):
        if part in ("xor", "regression"):
            results[part], courses[part] = starts({"xor": xor, "regression": regression}[part]())
        elif part == "bias":
            results[part], courses[part] = bias(xor())
        elif part == "cycles":
            results[part], courses[part] = cycles(xor())
        elif part == "faults":
            results[part] = faults()
        else:
            parser.error(f"unknown part {part!r}; use xor, regression, bias, cycles, faults")
        print(
            json.dumps({part: results[part], "seconds": round(time.perf_counter() - began)}, indent=2),
            flush=True,
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(results))
    draw(results, courses, arguments.figure)


if __name__ == "__main__":
    main()
