"""Archives: what is read is what was written, with h5py alone too."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.archive import (
    Run,
    load_chip,
    read_run,
    save_chip,
    write_run,
)
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.files import ArchiveError
from ohmostat.circuits.tester import CSV_COLUMNS, export_csv

from .archived import EXAMPLE, PAGE, PLANE, checksum, text, trained_chip

# -- round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_a_chip_read_back_is_the_same_to_the_bit(
    tmp_path: Path, family: str, columns: str, dtype: str
) -> None:
    chip = trained_chip(family, columns, dtype)
    save_chip(tmp_path / "chip.h5", chip)
    again = load_chip(tmp_path / "chip.h5")
    assert (again.circuit.design, again.mismatch, again.seed) == (
        chip.circuit.design,
        chip.mismatch,
        chip.seed,
    )

    rng = np.random.default_rng(0)
    inputs = rng.random((6, 64))
    for method in ("equilibrium", "transient"):
        one, two = chip.relax(inputs, method=method), again.relax(inputs, method=method)
        assert one.settled.all()
        for name in ("voltages", "ports", "injected", "settled", "stable", "residual", "time", "energy"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name), strict=True)

    changes = {a.name: 1e-6 * rng.standard_normal(a.shape[1:]) for a in chip.circuit.arrays}
    chip.program(changes)
    again.program(changes)
    for name, devices in chip.devices.items():
        for field, values in vars(devices).items():
            np.testing.assert_array_equal(getattr(again.devices[name], field), values, strict=True)
    np.testing.assert_array_equal(chip.relax(inputs).ports, again.relax(inputs).ports, strict=True)


def test_a_run_read_back_has_all_its_parts(path: Path, run: Run) -> None:
    again = read_run(path)
    assert again.attributes == run.attributes
    assert {name: type(value) for name, value in again.attributes.items()} == {
        "rule": str,
        "β": float,
        "probes": int,
        "note": str,
        "none": str,
    }
    assert again.history.keys() == run.history.keys()
    for name, values in run.history.items():
        np.testing.assert_array_equal(again.history[name], values, strict=True)
    assert run.readout is not None
    assert again.readout is not None
    for one, two in zip(run.readout, again.readout, strict=True):
        np.testing.assert_array_equal(one, two, strict=True)


def test_a_chip_alone_has_no_readout_and_no_history(tmp_path: Path, chip: Chip) -> None:
    save_chip(tmp_path / "chip.h5", chip)
    again = read_run(tmp_path / "chip.h5")
    assert (again.readout, again.history, again.attributes) == (None, {}, {})


def test_equal_runs_make_equal_files_and_a_second_copy_too(tmp_path: Path, path: Path, run: Run) -> None:
    write_run(tmp_path / "again.h5", run)
    write_run(tmp_path / "copy.h5", read_run(path))
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes() == (tmp_path / "copy.h5").read_bytes()


def test_a_group_of_a_larger_file_is_an_archive_too(tmp_path: Path, path: Path, run: Run) -> None:
    with h5py.File(tmp_path / "sweep.h5", "w") as file:
        write_run(file.create_group("a/chip"), run)
        with h5py.File(path) as single:
            assert file["a/chip"].attrs["checksum"] == single.attrs["checksum"]
        file.copy("a/chip", file, "b")
        assert read_run(file["b"]).attributes == run.attributes
        with pytest.raises(ArchiveError, match=r"sweep.h5:/b: is not empty; give an empty group"):
            write_run(file["b"], run)
        with pytest.raises(
            ArchiveError, match=r"sweep.h5:/: is not a run of ohmostat \(it names none of its schemas\)"
        ):
            read_run(file)


def test_neurons_are_known_by_layer_and_index_and_not_by_their_place(path: Path, chip: Chip) -> None:
    with h5py.File(path, "r+") as file:
        for values in file["neurons"].values():
            values[...] = values[:][::-1]
        text(file, "checksum", checksum(file))
    again = load_chip(path)
    for name in ("gain", "offset", "capacitance"):
        np.testing.assert_array_equal(getattr(again.blocks, name), getattr(chip.blocks, name))


# -- with h5py alone -------------------------------------------------------------------------------


def test_the_pages_example_recomputes_the_weights(
    path: Path, chip: Chip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(path.parent)
    names: dict[str, dict[str, np.ndarray]] = {}
    exec(EXAMPLE, names)
    assert names["weights"].keys() == chip.devices.keys()
    for name, weight in names["weights"].items():
        np.testing.assert_array_equal(weight, chip.weight(name), strict=True)
    assert "forward0: neurons of layer 0 from input ports, 576 pairs\n" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_a_file_alone_tells_the_currents_of_an_equilibrium(tmp_path: Path, family: str, columns: str) -> None:
    """Kirchhoff's law at every node, from what the page says and h5py reads."""
    chip = trained_chip(family, columns, "float64")
    save_chip(tmp_path / "chip.h5", chip)
    inputs = np.random.default_rng(1).random(64)
    state = chip.relax(inputs, tolerance=1e-12)
    neuron = chip.circuit.design.neuron
    with h5py.File(tmp_path / "chip.h5") as file:
        layer, index = file["neurons/layer"][:], file["neurons/index"][:]
        ports = {-1: inputs, -2: np.array([neuron.high])}
        for k in range(3):
            where = np.flatnonzero(layer == k)[np.argsort(index[layer == k])]
            ports[k] = state.ports[0, where]
        net = {k: -neuron.leak * chip.blocks.layer(state.voltages[0], k) for k in range(3)}
        for array in file["devices"].values():
            plus, minus = array["actual"]
            for bank in np.strings.decode(array.attrs["banks"], "utf-8"):
                ends = array.attrs["row_layer"], array.attrs["column_layer"]
                backward = bank.endswith(".backward")
                post, pre = ends[::-1] if backward else ends
                weight, load = (m.T if backward else m for m in (plus - minus, plus + minus))
                gains = file[f"drivers/{bank}"][:] if f"drivers/{bank}" in file else 1.0
                net[post] += weight @ (gains * ports[pre])
                if columns == "passive":
                    net[post] -= load.sum(axis=1) * chip.blocks.layer(state.voltages[0], post)
    for current in net.values():
        assert np.abs(current).max() < 1e-11 * neuron.leak


def test_the_checksum_is_as_documented_and_blind_to_storage(tmp_path: Path, path: Path, run: Run) -> None:
    with h5py.File(path) as file, h5py.File(tmp_path / "plain.h5", "w") as plain:
        assert file.attrs["checksum"] == checksum(file)
        plain.attrs.update(file.attrs)
        text(plain, "ohmostat_version", b"0.0.0")

        def copy(name: str, item: h5py.HLObject) -> None:
            data = isinstance(item, h5py.Dataset)
            new = plain.create_dataset(name, data=item[()]) if data else plain.require_group(name)
            new.attrs.update(item.attrs)

        file.visititems(copy)
        assert (file[PLANE].compression, plain[PLANE].compression) == ("gzip", None)
    assert read_run(tmp_path / "plain.h5").attributes == run.attributes


def test_the_page_names_everything_in_a_file(tmp_path: Path, path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    save_chip(tmp_path / "shared.h5", trained_chip("shared"))
    for name in (path, tmp_path / "shared.h5"):
        with h5py.File(name) as file:
            names = set(file.attrs)

            def visit(where: str, item: h5py.HLObject, names: set[str] = names) -> None:
                top, last = where.split("/")[0], where.split("/")[-1]
                names.add(top)
                if top in ("devices", "neurons", "readout") and isinstance(item, h5py.Dataset):
                    names.add(last)
                if top != "run":
                    names.update(item.attrs)

            file.visititems(visit)
        assert {n for n in names if not re.search(rf"`(readout/)?{n}[`/]", text)} == set()
    for column in CSV_COLUMNS:
        assert f"`{column}`" in text


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": {"on": True}}, "attribute 'on' is True; give text, an int or a float"),
        ({"attributes": {"list": [1]}}, r"attribute 'list' is \[1\]; give text"),
        ({"attributes": {"n": 2**63}}, "attribute 'n' is 9223372036854775808; it must fit into 64 bits"),
        ({"attributes": {"t": "a\0b"}}, "attribute 't' holds a character that no UTF-8 text has"),
        ({"attributes": {"t": "é" * 40_000}}, "attribute 't' has 80000 bytes; shorten it to 60000"),
        ({"attributes": {"t": "\udcff"}}, "attribute 't' holds a character that no UTF-8 text has"),
        ({"history": {"a//b": np.zeros(1)}}, "a history cannot be called 'a//b'"),
        ({"history": {"a/..": np.zeros(1)}}, r"a history cannot be called 'a/\.\.'"),
        ({"history": {"a": np.zeros(1), "b": np.zeros(2)}}, "histories differ in length"),
        ({"history": {"a": np.zeros(1, np.int64)}}, "history/a is of type int64; its design needs float64"),
        ({"history": {"a": np.zeros((1, 1))}}, r"history/a has shape \(1, 1\)"),
        ({"readout": (np.zeros((3, 9)), np.zeros(3))}, r"readout/weight has shape \(3, 9\)"),
        ({"readout": (np.zeros((3, 10)), np.zeros(4))}, "3 rows of weights, 4 biases"),
    ],
)  # fmt: skip
def test_a_run_that_could_not_be_read_is_not_written(
    path: Path, run: Run, change: dict[str, object], message: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=message):
        write_run(path, replace(run, **change))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]


def test_numpys_scalars_are_attributes_too(tmp_path: Path, run: Run) -> None:
    attributes = {"a": np.int32(3), "b": np.float32(0.5), "c": np.str_("text")}
    write_run(tmp_path / "run.h5", replace(run, attributes=attributes))
    assert read_run(tmp_path / "run.h5").attributes == {"a": 3, "b": 0.5, "c": "text"}


def test_a_seed_that_hdf5_cannot_hold_is_refused(tmp_path: Path, chip: Chip) -> None:
    big = chip.circuit.fabricate(seed=2**64)
    with pytest.raises(ArchiveError, match="attribute 'chip_seed' is 18446744073709551616"):
        save_chip(tmp_path / "chip.h5", big)


def test_a_file_that_outgrows_its_limit_leaves_the_old_one(path: Path) -> None:
    """As on a full disk: an error, no half file, and a process that lives on."""
    before = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from ohmostat.circuits.archive import ArchiveError, read_run, write_run\n"
        "from ohmostat.circuits.tester import export_csv\n"
        "run = read_run(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "for write in (lambda: write_run(sys.argv[1], run), lambda: export_csv(run.chip, sys.argv[1])):\n"
        "    try:\n"
        "        write()\n"
        "    except ArchiveError as error:\n"
        "        assert 'cannot be written (File too large)' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]


# -- CSV -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "dtype"), [("twin", "float32"), ("shared", "float64")])
def test_csv_holds_every_device_to_the_bit(tmp_path: Path, family: str, dtype: str) -> None:
    chip = trained_chip(family, "virtual-ground", dtype)
    export_csv(chip, tmp_path / "chip.csv")
    with open(tmp_path / "chip.csv", newline="", encoding="ascii") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert len(lines) == sum(devices.actual.size for devices in chip.devices.values())
    read = {name: {f: np.full_like(v, -1) for f, v in vars(d).items()} for name, d in chip.devices.items()}
    columns = {"target": "target_S", "actual": "actual_S", "deviation": "deviation", "step": "step_gain"}
    for line in lines:
        address = "+-".index(line["plane"]), int(line["row"]), int(line["column"])
        for field, column in columns.items():
            read[line["array"]][field][address] = line[column]
        assert line["chip_seed"] == "3" and "tile" not in line
        assert (float(line["g_min_S"]), float(line["g_max_S"])) == chip.limits
    for name, devices in chip.devices.items():
        for field, values in vars(devices).items():
            np.testing.assert_array_equal(read[name][field], values)
    banks = {line["array"]: line["banks"] for line in lines}
    assert banks["bias0"] == "bias0.forward"
    both = "forward1.forward+forward1.backward"
    assert banks["forward1"] == ("forward1.forward" if family == "twin" else both)


def test_reading_needs_nothing_but_the_file(tmp_path: Path, path: Path, run: Run) -> None:
    """Moved and read-only, by a process of its own."""
    moved = tmp_path / "elsewhere" / "renamed.hdf5"
    moved.parent.mkdir()
    shutil.move(path, moved)
    moved.chmod(0o444)
    code = "import sys, ohmostat; print(ohmostat.load_chip(sys.argv[1]).seed)"
    command = [sys.executable, "-W", "error", "-c", code, str(moved)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "3\n"
