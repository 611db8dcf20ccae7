"""Costs: phases against the transient itself, conversions and pulses by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.learning.catalogue import RULES, make_rule
from ohmostat.learning.costs import SAMPLES, costs
from ohmostat.learning.data import load_task
from ohmostat.learning.estimators import Nudging
from ohmostat.learning.nudges import Nudge, beta_in_watts
from ohmostat.learning.rules import LearningRule
from ohmostat.learning.training import Trainer


def trainer(**keys: object) -> Trainer:
    design = Design.named("digits").replace({"task.train": 100, "task.test": 50, "learning.epochs": 1})
    design = design.replace({key.replace("__", "."): value for key, value in keys.items()})
    return Trainer.from_design(design, load_task(design.task, None))


def test_phases_are_the_transients_and_conversions_come_on_top() -> None:
    t = trainer(learning__estimator="chebyshev", learning__nudges=4, converters__input_bits=4,
                converters__reading_bits=8, converters__nudge_bits=6, converters__merit="1pJ",
                converters__time="20ns")  # fmt: skip
    x, cost = t.inputs(t.data.test_x[:SAMPLES]), t.cost(t.data.test_y[:SAMPLES])
    free = t.chip.relax(x, method="transient")
    beta = np.full(SAMPLES, beta_in_watts(t.design, t.design.learning.beta))
    nudged = t.chip.relax(x, Nudge(cost, beta, SAMPLES), start=free, method="transient")
    found = costs(t.chip, x, cost, Nudging(4), 5000.0, 300.0)
    inputs, hidden, outputs = t.design.chip.layers
    drive, read, push = 16e-12 * inputs, 256e-12 * (hidden + outputs), 64e-12 * outputs
    assert found.inference.time == pytest.approx(free.time.mean() + 40e-9)
    assert found.inference.energy == pytest.approx(free.energy.mean() + drive + 256e-12 * outputs)
    assert found.training.time == pytest.approx(free.time.mean() + 40e-9 + 4 * (nudged.time.mean() + 40e-9))
    assert found.training.energy == pytest.approx(
        free.energy.mean() + drive + read + 4 * (nudged.energy.mean() + read + push)
    )
    spec = t.design.programming
    assert found.writing.energy == pytest.approx(5000 * spec.pulse_energy + 300 * 256e-12)
    assert found.writing.time == pytest.approx((5000 * spec.pulse_time + 300 * 20e-9) / spec.parallel)
    step = found.step(20)
    assert step.energy == pytest.approx(20 * found.training.energy + found.writing.energy)


def test_a_run_records_what_it_costs() -> None:
    t = trainer(programming__mode="pulses")
    history = t.fit()
    assert history[0].pulses == 0 and history[1].pulses == t.chip.programmer.pulses > 0
    first, last = history
    spent = last.step_energy - last.inference_energy * t.design.learning.batch
    pulses = last.pulses / t.steps_per_epoch * t.design.programming.pulse_energy
    assert spent > pulses > 0 and first.inference_energy > 0 and first.inference_time > 0


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_what_it_asks_of_a_chip(rule: str) -> None:
    design = Design.named("digits").replace({"learning.estimator": "chebyshev", "learning.nudges": 6})
    expected = {"adjoint": Nudging(possible=False), "dual-propagation": Nudging(2)}
    nudging = make_rule(design.replace({"learning.rule": rule, "homeostat.mode": "decay"})).nudging
    assert nudging == expected.get(rule, Nudging(6))


def test_a_rule_that_does_not_say_has_no_price() -> None:
    class Silent(LearningRule):
        """One of somebody's own."""

    t = trainer()
    t.rule = Silent()
    assert np.isnan(t.costs().step(50).time) and t.costs().inference.time > 0


@pytest.mark.parametrize(
    ("estimator", "possible"),
    [("one-sided", True), ("cauchy-2", True), ("cauchy-4", False), ("exact", False), ("continuous", False)],
)
def test_what_no_chip_can_do_has_no_price(estimator: str, possible: bool) -> None:
    name, _, nudges = estimator.partition("-") if estimator.startswith("cauchy") else (estimator, "", "2")
    found = trainer(learning__estimator=name, learning__nudges=int(nudges)).costs()
    assert np.isfinite(found.step(50).time) == np.isfinite(found.step(50).energy) == possible
    assert found.inference.time > 0 and found.inference.energy > 0


def test_beating_takes_its_time() -> None:
    beating = trainer(learning__estimator="lock-in").costs()
    assert beating.training.time > 10 * beating.inference.time
    read = trainer(learning__estimator="lock-in", converters__reading_bits=8, converters__merit="1uJ").costs()
    assert read.training.energy > 40 * 256e-6 * 42  # 48 steps of 42 ports
