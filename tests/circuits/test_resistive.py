"""Resistive chips as chips: fabrication, files, lists, corners, copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design, DesignError
from ohmostat.circuits.specs import CornerSpec, MismatchSpec
from ohmostat.circuits.tables import MeasurementError
from ohmostat.circuits.tester import export_csv, take_measured, write_list
from ohmostat.learning.training import initialise
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.operating_point import operating_point

BASE = {
    "task.data": "digits", "chip.layers": [64, 7, 6, 10], "learning.dtype": "float64",
    "learning.tolerance": 1e-12, "resistive.diode": "shockley", "resistive.gain": 2.0,
    "mismatch.conductance": 0.3,
    "mismatch.amplifier_gain": 0.2, "mismatch.amplifier_offset": "10mV", "mismatch.stuck_open": 0.1,
}  # fmt: skip
TWIN = {"resistive.copies": "twin", "learning.rule": "contrastive"}
COPIES = pytest.mark.parametrize("more", [{}, TWIN], ids=["single", "twin"])


def chip_of(seed: int = 0, **changes: object) -> Chip:
    design = Design.named("resistive").replace(BASE | {k.replace("__", "."): v for k, v in changes.items()})
    chip = Circuit(design).fabricate(seed=seed)
    initialise(chip, seed, 1.0, 0.0)
    return chip


def inputs(samples: int = 3) -> np.ndarray:
    return 20 * np.random.default_rng(5).random((samples, 64))


def outputs(chip: Chip) -> np.ndarray:
    sides = (chip, chip.twin()) if chip.circuit.copies > 1 else (chip,)
    return np.array([side.relax(inputs()).outputs for side in sides])


@COPIES
def test_the_same_seed_is_the_same_chip_and_another_is_another(more: dict[str, object]) -> None:
    keys = {k.replace(".", "__"): v for k, v in more.items()}
    assert (outputs(chip_of(**keys)) == outputs(chip_of(**keys))).all()
    assert (outputs(chip_of(**keys)) != outputs(chip_of(1, **keys))).all()


def test_without_mismatch_every_chip_of_a_start_is_alike_twins_included() -> None:
    keys = {k.replace(".", "__"): v for k, v in TWIN.items()}
    design = chip_of(**keys).circuit.design.replace("mismatch", MismatchSpec())
    chips = [Circuit(design).fabricate(seed=seed) for seed in (0, 1)]
    for chip in chips:
        initialise(chip, 7, 1.0, 0.0)
    first, second = (outputs(chip) for chip in chips)
    assert (first == second).all() and (first[0] == first[1]).all()


@COPIES
def test_a_file_gives_back_the_chip(more: dict[str, object], tmp_path: Path) -> None:
    chip = chip_of(**{k.replace(".", "__"): v for k, v in more.items()})
    save_chip(tmp_path / "chip.h5", chip)
    again = load_chip(tmp_path / "chip.h5")
    assert again.circuit.design == chip.circuit.design
    assert (outputs(again) == outputs(chip)).all()


@COPIES
def test_lists_name_every_device_and_measured_ones_come_back(more: dict[str, object], tmp_path: Path) -> None:
    chip = chip_of(**{k.replace(".", "__"): v for k, v in more.items()})
    count = sum(devices.target.size for devices in chip.devices.values())
    assert write_list(chip, tmp_path / "list.csv") == count
    export_csv(chip, tmp_path / "chip.csv")
    lines = (tmp_path / "chip.csv").read_text().splitlines()
    assert len(lines) == count + 1
    planes = {line.split(",")[4] for line in lines[1:] if line.startswith("forward1")}
    assert planes == ({"+", "+2"} if more else {"+"})
    rows = [line.split(",") for line in (tmp_path / "list.csv").read_text().splitlines()]
    measured = ["array,tile,row,column,plane,conductance_S"]
    measured += [",".join([*row[:5], str(2 * float(row[5]))]) for row in rows[1:]]
    (tmp_path / "measured.csv").write_text("\n".join(measured) + "\n")
    with pytest.raises(
        MeasurementError, match="tile_size = '5x5', where tiles of 128x128 are meant; pass --tile 5x5"
    ):
        write_list(chip, tmp_path / "small.csv", (5, 5))
        text = (tmp_path / "small.csv").read_text().replace("target_S", "conductance_S")
        (tmp_path / "small.csv").write_text(text)
        take_measured(chip, tmp_path / "small.csv")
    take_measured(chip, tmp_path / "measured.csv")
    for devices in chip.devices.values():
        assert devices.actual == pytest.approx(2 * devices.target)


def test_at_another_temperature_diodes_open_elsewhere_and_copies_agree() -> None:
    chip = chip_of()
    assert (outputs(chip.copy()) == outputs(chip)).all()
    hot = chip.at(CornerSpec(temperature=400.0))
    assert hot.blocks.clamps is not None and chip.blocks.clamps is not None
    assert hot.blocks.clamps.thermal == pytest.approx(chip.blocks.clamps.thermal * 4 / 3)
    assert (hot.at(CornerSpec()).relax(inputs()).outputs == chip.relax(inputs()).outputs).all()
    assert (hot.relax(inputs()).outputs != chip.relax(inputs()).outputs).all()


def test_a_network_without_diodes_needs_none_of_their_keys() -> None:
    chip = chip_of(resistive__hidden="none", resistive__barrier="-0.5V")
    assert chip.blocks.clamps is not None
    assert (chip.blocks.clamps.above == 0).all() and (chip.blocks.clamps.below == 0).all()
    assert chip.relax(inputs()).settled.all()


@pytest.mark.parametrize(
    "programming",
    [
        {"programming.levels": 1024},
        {"programming.mode": "pulses", "programming.pulse": 0.0002},
        {"programming.mode": "sign", "programming.pulse": 0.0002},
    ],
)
def test_twins_take_the_same_commands_however_they_are_rounded(programming: dict[str, object]) -> None:
    keys = {k.replace(".", "__"): v for k, v in (TWIN | programming).items()}
    design = chip_of(**keys, device__g_max="100uS").circuit.design.replace("mismatch", MismatchSpec())
    chip = Circuit(design).fabricate(seed=0)
    initialise(chip, 0, 1.0, 0.0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        shapes = {a.name: (a.planes, a.rows, a.columns) for a in chip.circuit.arrays}
        chip.program({name: 1e-7 * rng.standard_normal(shape) for name, shape in shapes.items()})
    for devices in chip.devices.values():
        first, second = np.split(devices.actual, 2)
        assert (first == second).all() and len(np.unique(first)) > 3


def test_the_saturation_current_rises_with_temperature_as_spices_does() -> None:
    """Against the netlist engine's own diode, of the same card at another temperature."""
    hot = chip_of(corner__temperature="350K").blocks.clamps
    net = Netlist("diode", temperature=350.0)
    net.voltage_source("V", "a", "0", 0.3)
    net.diode("D", "a", "0", is_=1e-9, n=1.0, tnom=300.0, gmin=0.0)
    amperes = -operating_point(net).current("V")
    assert hot is not None
    above = hot.above.argmax()
    v = np.zeros(len(hot.above)) + hot.high[above] + 0.3
    assert hot.current(v)[0][above] == pytest.approx(amperes, rel=1e-9)


def test_devices_are_programmed_one_by_one_within_their_limits_and_stuck_ones_stay() -> None:
    chip = chip_of(device__g_max="2uS")
    devices = chip.devices["forward1"]
    before, change = devices.actual.copy(), np.full(devices.actual.shape, 5e-7)
    change[0, 0, 0] = -1.0
    chip.program({"forward1": change})
    stuck = devices.step == 0
    assert (devices.actual[stuck] == before[stuck]).all() and stuck.any()
    assert devices.target.max() <= 2e-6 and devices.target[0, 0, 0] == pytest.approx(1e-12)
    free = ~stuck & (devices.target < 2e-6)
    free[0, 0, 0] = False
    assert devices.actual[free] - before[free] == pytest.approx(devices.step[free] * 5e-7)
    with pytest.raises(ValueError, match=r"forward1 has \(1, 6, 7\) devices, but is given \(6, 7\)"):
        chip.program({"forward1": change[0]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chip.columns": "virtual-ground"}, 'chip.columns = "virtual-ground": .*write "passive"'),
        ({"homeostat.mode": "probe"}, 'homeostat.mode = "probe": .*write "off", or "trim"'),
        ({"learning.angle": 30.0}, "learning.angle = .*the same both ways"),
        ({"resistive.hidden": "pair"}, "resistive.barrier = .*make it positive"),
        ({"resistive.diode": "measured"}, "resistive.curve = .*two or more"),
        ({"resistive.curve": [["0V", "0A"], ["300mV"]]}, r"point 2 \(\[\"300mV\"\]\) is no pair"),
        ({"resistive.curve": [["0V", "0V"]]}, "point 1"),
        ({"resistive.saturation": 0.0}, "resistive.saturation"),
        ({"resistive.gain": "4V"}, "resistive.gain"),
        ({"resistive.outputs": "paired"}, "a pair of outputs for each of the 10 classes"),
        (
            {"resistive.outputs": "paired", "learning.cost": "cross-entropy"},
            "resistive.outputs = .*a readout takes all nodes as they are",
        ),
        ({"converters.reading_bits": 8}, "converters.reading_bits = 8: its nodes go beyond the rails"),
        (TWIN | {"homeostat.mode": "trim"}, "each of the two has its own amplifiers"),
        ({"mismatch.driver_gain": 0.1}, "no shared read drivers"),
        ({"wires.row": "1Ohm"}, "wires.row"),
    ],
)
def test_what_a_network_has_no_place_for_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DesignError, match=message):
        Design.named("resistive").replace(changes)


def test_a_curve_keeps_its_points_and_needs_its_units() -> None:
    curve = [["-1V", "-1nA"], ["0V", "0A"], ["0.3V", "1uA"]]
    design = Design.named("resistive").replace({"resistive.diode": "measured", "resistive.curve": curve})
    assert design.resistive.curve == ((-1.0, -1e-9), (0.0, 0.0), (0.3, 1e-6))
    assert Design.from_text(design.to_toml()) == design
    with pytest.raises(DesignError, match=r"resistive.curve = .*has no unit"):
        Design.from_text(design.to_toml().replace('"300mV"', "0.3"))
