"""Warnings of a leak that is far from the devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from ohmostat.circuits.design import Design, named_designs, with_preset
from ohmostat.circuits.doubts import doubts
from ohmostat.circuits.specs import PRESETS
from ohmostat.cli import main

FERRO = {"device.preset": "ferroelectric"}


def test_a_preset_far_from_the_leak_is_told_with_the_leak_that_goes_with_it() -> None:
    design = Design.from_dict({"device": {"preset": "ferroelectric"}})
    fault, remedy = doubts(design)
    assert fault == (
        "neuron.leak = 10uS is far from device.g_min = 39.7nS and device.g_max = 1.79uS of device.preset = "
        '"ferroelectric": the largest weight, times neuron.gain, is 0.17, and 2 by default'
    )
    assert (
        remedy
        == "write neuron.leak = 874nS, and neuron.capacitance = 87.4fF to keep the pace: docs/devices.md"
    )
    followed = design.replace({"neuron.leak": "874nS", "neuron.capacitance": "87.4fF"})
    assert doubts(followed) == [] and followed.neuron.tau == pytest.approx(design.neuron.tau)
    assert doubts(followed, design) == [fault, remedy] == doubts(design, design)


def test_devices_that_go_with_the_leak_are_not_doubted() -> None:
    for name in named_designs():
        design = Design.named(name)
        assert doubts(design) == []
        if design.chip.family != "resistive":
            assert all(doubts(with_preset(design, preset)) == [] for preset in PRESETS)


@pytest.mark.parametrize(
    ("changes", "doubted"),
    [
        ({"device.g_max": "2.1uS"}, False),
        ({"device.g_max": "1.9uS"}, True),
        ({"device.g_max": "1.9uS", "neuron.gain": 2.0}, False),
        ({"device.g_max": "1mS"}, False),  # any weight is as good as any other
        ({"device.g_max": "1mS", "programming.mode": "pulses"}, True),
        ({"device.g_max": "1mS", "programming.levels": 64}, True),
        ({"device.g_max": "1mS", "programming.mode": "pulses", "chip.columns": "passive"}, False),
        ({"device.g_max": "1uS", "chip.columns": "passive"}, True),
        ({"device.g_max": "1uS", "chip.family": "resistive", "chip.columns": "passive",
          "homeostat.mode": "off"}, False),
    ],
)  # fmt: skip
def test_what_is_far(changes: dict[str, object], doubted: bool) -> None:
    assert bool(doubts(Design().replace(changes))) == doubted


def test_a_command_warns_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = tmp_path / "chip.toml"
    sections = '[chip]\nlayers = [64, 6, 10]\n[task]\ndata = "digits"\n'
    design.write_text(f'{sections}[device]\npreset = "ferroelectric"\n')
    assert main(["settle", str(design), "--samples", "1"]) == 0
    assert "warning: neuron.leak = 10uS is far from device.g_min = 39.7nS" in capsys.readouterr().err
