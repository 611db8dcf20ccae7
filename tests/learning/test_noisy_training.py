"""Training under every operating condition at once: each rule and estimator takes it, and does so again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.specs import KEYS
from ohmostat.learning import training
from ohmostat.learning.data import load
from ohmostat.learning.dataset import Dataset
from ohmostat.learning.training import Trainer
from ohmostat.simulator import relaxation
from ohmostat.simulator.blocks import BlockCircuit

NOISY = {
    "chip.layers": [64, 12, 10], "learning.batch": 20, "learning.cost": "squared-error",
    "noise.flicker": 1e-4, "noise.telegraph_share": 0.1, "noise.bandwidth": "10MHz",
    "corner.temperature": "350K", "corner.device_tempco": "-1m/K", "corner.voltage": 0.95,
}  # fmt: skip
RULES = [("rule", rule) for rule in KEYS["learning.rule"].options]
ESTIMATORS = [("estimator", name) for name in KEYS["learning.estimator"].options]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits").subset(60, 40)


@pytest.mark.parametrize(("key", "value"), RULES + ESTIMATORS)
def test_every_rule_and_estimator_learns_from_noisy_phases(digits: Dataset, key: str, value: str) -> None:
    relayed = value == "product-feedback"
    family = {"chip.family": "relay", "chip.relays": 12} if relayed else {"chip.family": "twin"}
    mode = "decay" if relayed or value == "kolen-pollack" else "probe"
    design = Design.named("digits").replace(
        NOISY | family | {f"learning.{key}": value, "homeostat.mode": mode}
    )
    one, two = (Trainer.from_design(design, digits) for _ in range(2))
    rest = {name: array.actual.copy() for name, array in one.chip.devices.items()}
    for trainer in (one, two):
        for images, labels in trainer.batches(1):
            trainer.step(images, labels)
    for name, array in one.chip.devices.items():
        assert np.array_equal(array.actual, two.chip.devices[name].actual)
        kept = relayed and name in ("listen1", "rest1")  # what relays listen by
        assert np.isfinite(array.actual).all() and np.array_equal(array.actual, rest[name]) == kept
    assert one.chip.factors is None
    assert 0 <= one.evaluate()[0] <= 1 and one.evaluate() == two.evaluate()


@pytest.mark.parametrize(("key", "value"), [("learning.read_noise", "1V"), ("noise.bandwidth", "1e12Hz")])
def test_an_evaluation_reads_every_sample_anew(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    """Amplifiers' noise and thermal noise move decisions, at each step and in each batch by themselves."""
    half = digits.test_x[:20], digits.test_y[:20]
    data = replace(
        digits, **{f"test_{k}": np.concatenate([part, part]) for k, part in zip("xy", half, strict=True)}
    )
    trainer = Trainer.from_design(
        Design.named("digits").replace({"chip.layers": [64, 12, 10], key: value}), data
    )
    seen, judge = list[Any](), training.predicted
    monkeypatch.setattr(training, "EVALUATION_BATCH", 20)
    monkeypatch.setattr(training, "predicted", lambda *given: seen.append(judge(*given)) or seen[-1])
    for trainer.steps in (0, 0, 1):
        trainer.evaluate()
    one, other, again, _, later, _ = seen
    assert np.array_equal(one, again)  # the step is the address
    assert not np.array_equal(one, other) and not np.array_equal(one, later)


def test_phases_see_the_same_devices(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a step relaxes, it relaxes on the same blocks; they are not those of the chip at rest."""
    seen, relax = [], relaxation.relax

    def recorded(circuit: BlockCircuit, *arguments: object, **options: object) -> object:
        seen.append(circuit.weights.copy())
        return relax(circuit, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(relaxation, "relax", recorded)
    trainer = Trainer.from_design(Design.named("digits").replace(NOISY), digits)
    rest = trainer.chip.blocks.weights.copy()
    trainer.step(*next(trainer.batches(1)))
    assert len(seen) >= 2 and all(np.array_equal(weights, seen[0]) for weights in seen)
    assert np.linalg.norm(seen[0] - rest) > 0.01 * np.linalg.norm(rest)
