"""Learning rules against device mismatch: accuracy, and how true the gradient is that each rule measures.

784-256-256-10 on the embedded Fashion-MNIST, 4 epochs at a constant rate, lognormal mismatch σ = 0 to 1.5 of
every device, 5 chips each, in two families:

twin    two crossbars between neighbours; every device differs from its twin.
shared  one crossbar read both ways. Mismatch of its devices alone makes no skew, so its read drivers mismatch
        with them: the relative standard deviation of their gains is 0.2 σ.

EP; EP with the homeostat (twin: probes, automatic gain; shared: trims of the drivers); EP with antisymmetric
feedback of a skew that is known exactly; Kolen-Pollack (twin alone has a feedback array); coupled learning;
the adjoint. Each learns at the best of six rates, found at σ = 0.5 on a chip that is not one of the five and
judged on the last 1,000 training images. Nothing else is tuned.

A sweep for every family, rule and σ, run by run under OUT; go on with the same command. `--report` prints and
draws what is there.

    python benchmarks/rules_against_mismatch.py OUT [--workers 2] [--report]
"""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import study

from ohmostat.circuits.design import Design
from ohmostat.circuits.files import atomic_write
from ohmostat.learning.data import load
from ohmostat.learning.sweep import ARMS, Sweep, run_sweep
from ohmostat.learning.sweep_result import SweepResult, read_sweep
from ohmostat.learning.training import Trainer

RULES = {
    "twin": ("none", "homeostat", "aep", "kolen-pollack", "coupled", "adjoint"),
    "shared": ("none", "trim", "aep", "coupled", "adjoint"),
}
DRIVERS = 0.2  # relative sd of a shared chip's driver gains, for each unit of σ
SEARCHED, SEARCH_CHIP, HELD_OUT = 0.5, 100, 1_000  # σ, chip and images of the search for a rate
FIGURE = Path(__file__).parent / "figures" / "rules-against-mismatch.png"
QUANTITIES = {
    "accuracy": "test accuracy",
    "measured/forward0": "first-layer cosine of what\nthe rule measures to the adjoint",
    "left_out": "share of training samples\nleft out of updates",
    "unsettled_test": "share of test samples\nthat did not settle",
}
STYLES = {
    "none": ("EP", "#D55E00", "o-"),
    "homeostat": ("EP with homeostat", "#0072B2", "s-"),
    "trim": ("EP with trims", "#0072B2", "s-"),
    "aep": ("antisymmetric-feedback EP", "#009E73", "^--"),
    "kolen-pollack": ("Kolen-Pollack", "#CC79A7", "v-."),
    "coupled": ("coupled learning", "#E69F00", "P--"),
    "adjoint": ("adjoint (reference)", "#000000", "D:"),
}


@dataclass(frozen=True)
class Plan:
    """What is run."""

    sigmas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    rates: tuple[float, ...] = (0.00025, 0.0007, 0.002, 0.006, 0.018, 0.054)
    chips: int = 5
    epochs: int = 4
    train: int = 6_000

    def design(self, family: str, sigma: float) -> Design:
        """What all rules of a family share at one σ."""
        return Design.named({"twin": "fashion-6k", "shared": "shared"}[family]).replace(
            {
                "mismatch.conductance": sigma,
                "mismatch.driver_gain": DRIVERS * sigma if family == "shared" else 0.0,
                "homeostat.schedule": "auto", "learning.schedule": "constant",
                "learning.epochs": self.epochs, "task.train": self.train,
            }
        )  # fmt: skip


SMALL = Plan((0.0, 1.0), (0.006, 0.018), chips=2, epochs=1, train=1_500)
Rule = tuple[str, str]  # family and arm
Found = dict[tuple[Rule, float], SweepResult]  # by rule and σ


def rules() -> list[Rule]:
    """Every rule in its family."""
    return [(family, arm) for family, arms in RULES.items() for arm in arms]


def search(job: tuple[Plan, Rule, float]) -> tuple[Rule, float, float]:
    """(rule, rate, accuracy on the held-out images) of the search chip."""
    plan, (family, arm), rate = job
    data = load("fashion-6k").subset(plan.train)
    data = replace(
        data, train_x=data.train_x[:-HELD_OUT], train_y=data.train_y[:-HELD_OUT],
        test_x=data.train_x[-HELD_OUT:], test_y=data.train_y[-HELD_OUT:],
    )  # fmt: skip
    design = plan.design(family, SEARCHED).replace({**ARMS[arm], "learning.rate": rate})
    return (family, arm), rate, Trainer.from_design(design, data, SEARCH_CHIP).fit()[-1].accuracy


def searched(plan: Plan, out: Path, workers: int) -> dict[Rule, float]:
    """The rate of every rule; accuracies are kept in OUT/search.json as they come."""
    path = out / "search.json"
    kept: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def name(rule: Rule, rate: float) -> str:
        return json.dumps([*rule, rate, plan.epochs, plan.train])

    jobs = [(plan, rule, rate) for rate in plan.rates for rule in rules() if name(rule, rate) not in kept]
    with get_context("spawn").Pool(workers) as pool:
        for rule, rate, accuracy in pool.imap_unordered(search, jobs):
            kept[name(rule, rate)] = accuracy
            with atomic_write(path) as part:
                part.write_text(json.dumps(kept, indent=1))
            print(f"search  {rule}  rate {rate}  held-out accuracy {accuracy:.3f}", flush=True)
    return {rule: max(plan.rates, key=lambda rate: kept[name(rule, rate)]) for rule in rules()}


def file(out: Path, rule: Rule, sigma: float) -> Path:
    """Where the sweep of a rule at one σ goes."""
    return out / f"{'-'.join(rule)}-sigma{sigma:g}.h5"


def run(plan: Plan, out: Path, workers: int) -> None:
    """Whatever is not yet done: as many sweeps at a time as there are workers, a process each."""
    rates = searched(plan, out, workers)

    def sweep(job: tuple[float, Rule]) -> None:
        sigma, (family, arm) = job
        design = plan.design(family, sigma).replace("learning.rate", rates[family, arm])
        run_sweep(Sweep(design, ((),), plan.chips, (arm,)), file(out, *job[::-1]), workers=1)
        print(f"{family:6s} {arm:14s} σ = {sigma}: done", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(sweep, itertools.product(plan.sigmas, rules())))


def gathered(plan: Plan, out: Path) -> Found:
    """Every finished sweep."""
    places = {(rule, sigma): file(out, rule, sigma) for sigma in plan.sigmas for rule in rules()}
    return {key: read_sweep(path) for key, path in places.items() if path.exists()}


def report(found: Found) -> str:
    """A line for every family, σ and rule: mean ± standard deviation over chips."""
    head = ("family", "sigma", "rule", "rate", "accuracy", "measured", "left out", "unsettled", "unstable")
    lines = ["{:6s}  {:5s}  {:14s}  {:5s}  {:15s}  {:15s}  {:>8s}  {:>9s}  {:>8s}".format(*head)]
    for ((family, arm), sigma), result in sorted(found.items(), key=lambda item: (item[0][0][0], item[0][1])):
        accuracy, measured = (
            "{:.3f} ± {:.3f}".format(*(float(part[0]) for part in result.mean_sd(name, arm)))
            for name in ("accuracy", "measured/forward0")
        )
        shares = "  ".join(
            f"{result.mean_sd(name, arm)[0][0]:{width}.4f}"
            for name, width in (("left_out", 8), ("unsettled_test", 9), ("unstable", 8))
        )
        rate = result.design.learning.rate
        lines.append(f"{family:6s}  {sigma:5}  {arm:14s}  {rate:5}  {accuracy:15s}  {measured:15s}  {shares}")
    return "\n".join(lines)


def draw(plan: Plan, found: Found, path: Path) -> None:
    """A column for each family; lines of means, bands of ±1 standard deviation over chips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 10.0), layout="constrained")
    panels = figure.subplots(len(QUANTITIES), len(RULES), sharex=True, sharey="row")
    for column, (family, arms) in enumerate(RULES.items()):
        for arm in arms:
            label, colour, style = STYLES[arm]
            done = {s: found[(family, arm), s] for s in plan.sigmas if ((family, arm), s) in found}
            if not done:
                continue
            for axes, name in zip(panels[:, column], QUANTITIES, strict=True):
                mean, sd = np.array([[part[0] for part in r.mean_sd(name, arm)] for r in done.values()]).T
                axes.plot([*done], mean, style, color=colour, markersize=4, label=label)
                axes.fill_between([*done], mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        drivers = "" if family == "twin" else f"; drivers' gains: {DRIVERS} σ"
        panels[0, column].set_title(f"{family}{drivers}", fontsize=10)
        panels[-1, column].set_xlabel("device mismatch σ (lognormal)")
    for axes, label in zip(panels[:, 0], QUANTITIES.values(), strict=True):
        axes.set_ylabel(label)
    for axes in panels.flat:
        axes.grid(alpha=0.3, linewidth=0.5)
    for axes in panels[0]:
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(
        f"784-256-256-10, fashion-6k, {plan.epochs} epochs, {plan.chips} chips (band: ±1 sd)", fontsize=10
    )
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    study.main(__doc__, FIGURE, Plan(), SMALL, run, gathered, report, draw)
