"""Presets: whole, cited, inside their own ranges, and mixed with a design's own keys as documented."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ohmostat.circuits.design import Design, template, with_preset
from ohmostat.circuits.presets import preset, preset_values
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import PRESETS
from ohmostat.cli import main


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_has_a_source_and_the_preset_is_a_design(name: str) -> None:
    device = preset(name)
    assert device.about and device.values
    assert "programming.mode" in device.values
    for entry in (*device.values.values(), *device.told.values()):
        assert entry.source in device.sources and entry.place and entry.citation
        assert entry.range is None or entry.value in entry.range
    assert all(source in {e.source for e in device.values.values()} for source in device.sources)
    design = Design.from_text(f'[device]\npreset = "{name}"\n')
    for key, value in preset_values(name).items():
        section, leaf = key.split(".")
        assert getattr(getattr(design, section), leaf) == value
    assert Design.from_text(design.to_toml()) == design
    assert Design.from_text(template(design)) == design
    assert design == Design.from_dict({"device": {"preset": name}}) == Design().replace("device.preset", name)


def test_steps_of_neurosim_and_aihwkit_are_converted_right() -> None:
    """Against pulses of the sources' own models, run one by one (their tables' A is copied, nothing else)."""
    values = preset_values("filamentary-oxide")

    def step(x: float, a: float, way: int, pulses: int = 40) -> float:
        """One pulse along NeuroSim's curve, from x: to the pulse number, one on, and back."""
        end = 1 - math.exp(-1 / a)
        p = -a * math.log(1 - x * end) + way / pulses
        return way * ((1 - math.exp(-p / a)) / end - x)

    up, down = step(0.5, 0.629249, 1), step(0.5, -2.063266, -1)
    assert values["programming.pulse"] == pytest.approx((up + down) / 2, rel=0.01)
    assert values["programming.asymmetry"] == pytest.approx((up - down) / (up + down), abs=0.005)
    lost_up = (step(0.0, 0.629249, 1) - step(1.0, 0.629249, 1)) / up
    lost_down = (step(1.0, -2.063266, -1) - step(0.0, -2.063266, -1)) / down
    assert values["programming.nonlinearity"] == pytest.approx((lost_up + lost_down) / 2, rel=0.02)
    low, high = (
        -0.8276,
        1.1724,
    )  # Tang 2018 as in aihwkit: dw_min = 0.002, gamma_up = 0.1153, gamma_down = 0.5085
    w = (low + high) / 2
    up, down = 0.002 * (1 - 0.1153 * w / high), 0.002 * (1 - 0.5085 * w / low)
    values = preset_values("electrochemical")
    assert values["programming.pulse"] == pytest.approx((up + down) / 2 / (high - low), rel=1e-3)
    assert values["programming.asymmetry"] == pytest.approx((up - down) / (up + down), rel=1e-2)
    bends = (0.002 * 0.1153 / high * 2 / up, 0.002 * 0.5085 / -low * 2 / down)
    assert values["programming.nonlinearity"] == pytest.approx(sum(bends) / 2, rel=1e-2)


def test_a_files_own_keys_win_and_what_is_outside_is_refused_with_the_source(tmp_path: Path) -> None:
    text = '[device]\npreset = "ferroelectric"\ng_max = "1uS"\n[programming]\ncycle = 0.0\n'
    design = Design.from_text(text)
    assert design.device.g_max == 1e-6 and design.programming.cycle == 0.0
    assert design.device.g_min == 39.7e-9  # the preset's, not the general default
    path = tmp_path / "chip.toml"
    path.write_text(text.replace("1uS", "5uS"))
    with pytest.raises(DesignError) as error:
        Design.from_toml(path)
    remedy, said = str(error.value).split("\n")
    assert said.startswith(f"{path}:3: device.g_max = 5uS: ferroelectric was measured from 39.7nS to 1.79uS")
    assert "jerry-2017, table of Fig. 17" in said
    assert remedy.startswith(f'{path}:2: device.preset = "ferroelectric": keys are outside what was measured')


def test_a_preset_named_in_a_file_that_writes_all_keys_says_how_to_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chip.toml"
    assert main(["init", str(path), "--from", "digits"]) == 0
    text = path.read_text()
    assert "or is made by 'ohmostat init" in text
    path.write_text(text.replace('preset = "none"', 'preset = "phase-change"'))
    capsys.readouterr()
    assert main(["settle", str(path)]) == 2
    said = capsys.readouterr().err
    assert "drift.exponent = 0.0: phase-change was measured from 0.049 to 0.1 (" in said
    assert "give --set device.preset=phase-change" in said and "--preset phase-change'" in said
    design = Design.from_text(text).replace("device.preset", "phase-change")
    assert design.drift.exponent > 0


def test_a_change_of_preset_sets_its_keys_but_those_that_change_with_it() -> None:
    design = Design.named("digits").replace({"device.preset": "phase-change", "device.g_max": "20uS"})
    assert design.device.g_max == 20e-6 and design.device.g_min == 0.25e-6
    assert design.programming.mode == "write-verify"
    kept = design.replace("device.preset", "none")
    assert kept.device.g_max == 20e-6  # taking the name off changes no value
    with pytest.raises(DesignError, match=r'did you mean "phase-change"'):
        Design().replace("device.preset", "phase-chang")
    with pytest.raises(DesignError, match="no preset is named"):
        preset("nothing")


def test_init_sets_the_leak_to_go_with_the_conductances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chip.toml"
    assert main(["init", str(path), "--from", "digits", "--preset", "ferroelectric"]) == 0
    before, design = Design.named("digits"), Design.from_toml(path)
    assert design == with_preset(before.replace("name", "chip"), "ferroelectric")

    def largest(d: Design) -> float:
        return (d.device.g_max - d.device.g_min) / d.neuron.leak

    assert largest(design) == pytest.approx(largest(before), rel=5e-3)
    assert design.neuron.tau == pytest.approx(before.neuron.tau, rel=1e-2)
    assert main(["init", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in PRESETS)
    assert main(["init", str(tmp_path / "x.toml"), "--preset", "ferro"]) == 2
    assert not (tmp_path / "x.toml").exists()


def test_a_fitted_device_is_a_preset_too(
    good_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys come over, the largest weight and the pace stay, and the file alone is said to be no chip."""
    device, chip = tmp_path / "device.toml", tmp_path / "chip.toml"
    assert main(["fit", str(good_files / "curves.csv"), "--out", str(device)]) == 0
    told = f"init {chip.name} --preset {device}"
    assert f"next: ohmostat {told}, for a chip with this device" in capsys.readouterr().err
    assert main(["init", str(chip), "--from", "digits", "--preset", str(device)]) == 0
    found, fitted, base = Design.from_toml(chip), Design.from_toml(device), Design.named("digits")
    assert (found.device, found.programming) == (fitted.device, fitted.programming)
    assert found.mismatch.programming == fitted.mismatch.programming
    assert found.mismatch.conductance == base.mismatch.conductance  # one device tells no spread
    weights = [(d.device.g_max - d.device.g_min) / d.neuron.leak for d in (base, found)]
    assert weights == pytest.approx([weights[0]] * 2, rel=0.01)
    assert found.neuron.tau == pytest.approx(base.neuron.tau, rel=0.01)
    capsys.readouterr()
    for more, words in (([], "defaults: a twin chip 784-256-256-10"), (["--set", "chip.layers=784,4,10"],
                        "defaults, but for --set: a twin chip 784-4-10")):  # fmt: skip
        assert main(["settle", str(device), "--samples", "1", *more]) == 0
        said = capsys.readouterr().err
        assert f"device.toml has neither [chip] nor [task], so these are at their {words} on fashion" in said
        assert f"'ohmostat {told}' writes one with this device" in said
    assert main(["settle", str(chip), "--samples", "1"]) == 0
    assert "neither" not in capsys.readouterr().err
