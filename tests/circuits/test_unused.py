"""Keys that a family has no use for: that they are told, and that they change nothing there indeed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.design import Design, named_designs
from ohmostat.circuits.specs import KEYS
from ohmostat.circuits.units import Choice
from ohmostat.circuits.unused import LACKING, unused
from ohmostat.cli import main
from ohmostat.learning.data import load
from ohmostat.learning.training import Trainer

SMALL: dict[str, object] = {
    "chip.layers": [64, 6, 5, 10], "task.data": "digits", "learning.epochs": 1, "learning.batch": 20,
    "learning.cost": "squared-error", "corner.temperature": "350K",
}  # fmt: skip
FIT: dict[str, dict[str, object]] = {
    "twin": {"learning.angle": 20.0, "neuron.law": "softplus"},
    "shared": {"homeostat.mode": "off", "neuron.law": "softplus"},
    "loop": {"homeostat.mode": "off", "neuron.law": "softplus"},
    "relay": {"homeostat.mode": "off", "neuron.law": "softplus", "chip.relays": 8},
    "resistive": {
        "homeostat.mode": "off", "chip.columns": "passive", "resistive.diode": "shockley",
        "resistive.hidden": "pair", "resistive.barrier": "0.3V",
    },
}  # fmt: skip
OTHER: dict[str, object] = {  # a value that is not the default
    "neuron.law": "tanh", "neuron.gain": 2.0, "neuron.offset": 0.4, "neuron.knee": 0.1,
    "resistive.barrier": 0.2, "resistive.saturation": 1e-8, "resistive.ideality": 1.5, "resistive.gain": 2.0,
    "resistive.input_gain": 3.0, "chip.relays": 5, "resistive.curve": ((0.0, 0.0), (0.5, 1e-5)),
}  # fmt: skip
ELSEWHERE = {  # in use with others alone, in the family itself
    "resistive.curve", "resistive.outputs", "resistive.copies",
}  # fmt: skip


def other(key: str) -> object:
    kind = KEYS[key]
    return OTHER[key] if key in OTHER or not isinstance(kind, Choice) else kind.options[-1]


def trained(design: Design) -> np.ndarray:
    """All that a short training comes to."""
    trainer = Trainer.from_design(design, load("digits").subset(40, 20), chip_seed=1)
    trainer.fit()
    return np.concatenate([trainer.chip.conducting(name).ravel() for name in trainer.chip.devices])


@pytest.mark.parametrize("family", FIT)
def test_what_is_told_changes_nothing_and_what_is_not_does(family: str) -> None:
    design = Design().replace(SMALL | FIT[family] | {"chip.family": family})
    assert unused(design) == []
    before = trained(design)
    idle = {key: other(key) for key, lacking in LACKING.items() if family in lacking}
    moved = design.replace(idle)
    assert [text.split(" = ")[0] for text in unused(moved)] == list(idle)
    assert np.array_equal(trained(moved), before)
    for key in LACKING.keys() - idle.keys() - ELSEWHERE:
        curve = {"resistive.curve": OTHER["resistive.curve"]} if key.startswith("resistive") else {}
        changed = design.replace(curve | {key: other(key)})
        assert unused(changed) == [] and not np.array_equal(trained(changed), before), key


def test_a_warning_names_key_value_family_and_remedy() -> None:
    twin = Design().replace("resistive.saturation", "2nA")
    (text,) = unused(twin)
    assert text == (
        "resistive.saturation = 2nA changes nothing: a twin chip has no use for it. "
        'Leave it out, or write chip.family = "resistive"'
    )
    shared = twin.replace("chip.family", "shared")
    assert "a twin or shared chip has no use" in unused(twin, shared)[0]
    resistive = twin.replace({"chip.family": "resistive", "chip.columns": "passive", "homeostat.mode": "off"})
    assert unused(twin, resistive) == []  # a sweep over families, one of which uses it
    assert all(unused(Design.named(name)) == [] for name in named_designs())


def test_commands_warn_and_go_on(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chip.toml").write_text(Design.named("digits").replace(SMALL).to_toml())
    small = [str(tmp_path / "chip.toml"), "--set", "task.train=40", "--set", "task.test=20"]
    idle, out = ["--set", "resistive.gain=2"], ["--out", str(tmp_path / "new.h5")]
    for command in (
        ["settle", *small, "--samples", "2"],
        ["train", *small, *out],
        ["audit", *small, "--samples", "2"],
        ["sweep", *small, "--arms", "none", "--chips", "1", *out[:1], str(tmp_path / "swept.h5")],
    ):
        assert main([*command, *idle, "--json"]) == 0
        said = capsys.readouterr()
        text = json.loads(said.out)["warnings"][0]
        assert text.startswith("resistive.gain = 2") and f"warning: {text}\n" in said.err
    varied = ["--vary", "resistive.gain=1,2", "--arms", "none", "--chips", "1", "--dry-run"]
    assert main(["sweep", *small, *out[:1], str(tmp_path / "other.h5"), *varied]) == 0
    assert "warning: resistive.gain = 2" in capsys.readouterr().err
