"""Warnings of what is hardly meant: a leak far from the devices, a homeostat with nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ohmostat.circuits.design import Design, named_designs, with_preset
from ohmostat.circuits.doubts import doubts, idle_homeostat, suspects
from ohmostat.circuits.specs import PRESETS
from ohmostat.cli import main

CONVOLVED = {
    "chip.columns": "passive",
    "chip.sharing": "replicated",
    "chip.layers": [784, "5x5x4 stride 4", 10],
}
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
            for preset in PRESETS:
                heavy = design.chip.columns == "passive" and preset in (
                    "filamentary-oxide",
                    "electrochemical",
                )
                assert bool(doubts(with_preset(design, preset))) == heavy


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
        ({"device.g_min": "25nS", "chip.columns": "passive"}, False),  # 784 x 2 x 25 nS are 3.9 leaks
        ({"device.g_min": "26nS", "chip.columns": "passive"}, True),
        ({"device.g_min": "26nS"}, False),
        ({"device.g_min": "26nS", "chip.columns": "passive", "chip.layers": [784, 300, 10],
          "neuron.leak": "20uS"}, False),
        ({"device.g_min": "138nS", **CONVOLVED}, False),  # 4 x 6 x 6 x 2 x 138 nS are 3.97 leaks
        ({"device.g_min": "140nS", **CONVOLVED}, True),
        ({"device.g_max": "1uS", "chip.family": "resistive", "chip.columns": "passive",
          "homeostat.mode": "off"}, False),
    ],
)  # fmt: skip
def test_what_is_far(changes: dict[str, object], doubted: bool) -> None:
    assert bool(doubts(Design().replace(changes))) == doubted


def test_what_loads_passive_columns_is_told_in_numbers() -> None:
    passive = {"chip.layers": [784, 96, 40, 10], "task.data": "mnist", "chip.columns": "passive"}
    device = {"device.g_min": "2.5uS", "device.g_max": "120uS", "neuron.leak": "100uS", "neuron.high": "1.2V"}
    fault, remedy = doubts(Design().replace(passive | device))
    assert fault == (
        'chip.columns = "passive" lets 784 inputs x 2 x device.g_min = 2.5uS load a node with 3.92mS, '
        "39 times neuron.leak = 100uS: weights are as much smaller"
    )
    assert remedy.startswith('write chip.columns = "virtual-ground", or take a smaller device.g_min or fewer')
    assert doubts(Design().replace(passive | device | {"chip.columns": "virtual-ground"})) == []


def test_after_a_failure_twice_the_usual_weight_is_suspect() -> None:
    device = {"device.g_max": "124.6uS", "programming.mode": "pulses"}
    assert doubts(Design().replace(device)) == []
    fault, remedy = suspects(Design().replace(device))
    assert "neuron.leak = 10uS is far" in fault and "write neuron.leak = 62.3uS" in remedy
    assert suspects(Design().replace({"device.g_max": "40uS"})) == []
    assert suspects(Design().replace({"device.g_min": "26nS", "chip.columns": "passive"}))[0].startswith(
        "chip.c"
    )


def test_a_command_warns_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = tmp_path / "chip.toml"
    sections = '[chip]\nlayers = [64, 6, 10]\n[task]\ndata = "digits"\n'
    design.write_text(f'{sections}[device]\npreset = "ferroelectric"\n')
    assert main(["settle", str(design), "--samples", "1"]) == 0
    assert "warning: neuron.leak = 10uS is far from device.g_min = 39.7nS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "mode", "idle"),
    [
        ("loop", "probe", True),
        ("loop", "decay", True),
        ("loop", "off", False),
        ("relay", "probe", True),
        ("relay", "decay", False),
        ("twin", "probe", False),
        ("shared", "probe", True),
        ("shared", "trim", False),
        ("shared", "decay", False),
    ],
)
def test_a_homeostat_without_pairs_is_told(family: str, mode: str, idle: bool) -> None:
    layers = {"chip.family": family, "chip.layers": [64, 8, 6, 10], "task.data": "digits"}
    found = idle_homeostat(Design().replace({**layers, "homeostat.mode": mode}))
    assert bool(found) == idle
    if idle:
        fault, remedy = found
        shared = family == "shared"
        why = "the arrays of a shared chip" if shared else f"no two layers of a {family} chip"
        assert fault.startswith(f'homeostat.mode = "{mode}" changes nothing: {why}')
        assert remedy.startswith(f'write homeostat.mode = "{"trim" if shared else "off"}"')
