"""Archives: what is read is what was written, with h5py alone too, and nothing else is taken for it."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
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
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.files import ArchiveError, atomic_write
from ohmostat.circuits.tester import CSV_COLUMNS, export_csv

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hdf5-schema.md"
EXAMPLE, RECIPE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def checksum(file: h5py.Group) -> bytes:
    """The documented recipe, as the page has it."""
    names: dict[str, Callable[[h5py.Group], str]] = {}
    exec(RECIPE, names)
    return names["checksum"](file).encode()


def text(item: h5py.HLObject, name: str, value: bytes) -> None:
    """Set a text attribute as archives have them."""
    item.attrs[name] = np.bytes_(value)


def trained_chip(family: str = "twin", columns: str = "virtual-ground", dtype: str = "float32") -> Chip:
    """A small chip with every kind of mismatch, after a few programming steps, some into the limits."""
    twin = family == "twin"
    design = Design().replace(
        {
            "chip.family": family, "chip.layers": [64, 9, 7, 10], "chip.columns": columns,
            "task.data": "digits", "learning.dtype": dtype,
            "mismatch.conductance": 0.5, "mismatch.programming": 0.3, "mismatch.amplifier_gain": 0.1,
            "mismatch.amplifier_offset": "20mV", "mismatch.capacitance": 0.2,
            "mismatch.driver_gain": 0.0 if twin else 0.1,
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate(replace(design.mismatch, conductance=0.4), seed=3)
    rng = np.random.default_rng(5)
    spreads = {a.name: 1e-5 / np.sqrt(a.columns) for a in chip.circuit.arrays}
    chip.write({a.name: spreads[a.name] * rng.standard_normal(a.shape[1:]) for a in chip.circuit.arrays})
    for step in (0.5, 8.0, 0.5):
        chip.program(
            {a.name: step * spreads[a.name] * rng.standard_normal(a.shape[1:]) for a in chip.circuit.arrays}
        )
    return chip


@pytest.fixture(scope="module")
def chip() -> Chip:
    return trained_chip()


@pytest.fixture
def run(chip: Chip) -> Run:
    history = {"accuracy": np.array([0.1, 0.5, 0.7]), "alignment/forward0": np.array([0.9, np.nan, 1.0])}
    readout = (np.arange(30, dtype=np.float32).reshape(3, 10), np.arange(3.0))
    return Run(chip, readout, history, {"rule": "ep", "β": 0.5, "probes": 5, "note": " µS, \n ", "none": ""})


@pytest.fixture
def path(tmp_path: Path, run: Run) -> Path:
    write_run(tmp_path / "run.h5", run)
    return tmp_path / "run.h5"


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


# -- files that are not to be trusted --------------------------------------------------------------


def relink(file: h5py.File, link: object) -> None:
    del file["history/accuracy"]
    file["history/accuracy"] = link


def remake(file: h5py.File, name: str, **how: object) -> None:
    """The data set anew, in another way."""
    del file[name]
    file.create_dataset(name, **how)


def virtual(file: h5py.File) -> None:
    source = h5py.VirtualSource("/etc/passwd", "accuracy", shape=(3,))
    layout = h5py.VirtualLayout((3,), np.float64)
    layout[:] = source
    del file["history/accuracy"]
    file.create_virtual_dataset("history/accuracy", layout)


def opaque(file: h5py.File) -> None:
    file["run"].attrs.create("rule", np.array(b"cos", h5py.opaque_dtype(np.dtype("V3"))))


PLANE = "devices/forward0/actual"
TAMPERINGS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "soft link": (lambda f: relink(f, h5py.SoftLink("/neurons/gain")), "accuracy is a link to elsewhere"),
    "external link": (
        lambda f: relink(f, h5py.ExternalLink("x.h5", "/a")),
        "accuracy is a link to elsewhere",
    ),
    "second name": (
        lambda f: f["history"].__setitem__("b", f["history/accuracy"]),
        "is another name of something else",
    ),
    "cycle": (lambda f: relink(f, f["history"]), "is another name of something else"),
    "named type": (lambda f: relink(f, np.dtype(np.float64)), "neither a group nor a data set"),
    "virtual": (virtual, "lie in another file"),
    "external data": (
        lambda f: remake(f, "history/accuracy", shape=(3,), dtype="f8", external=[("/etc/passwd", 0, 24)]),
        "lie in another file",
    ),
    "references": (lambda f: remake(f, PLANE, shape=(2, 9, 64), dtype=h5py.ref_dtype), "is of type object"),
    "texts": (lambda f: remake(f, PLANE, shape=(2, 9, 64), dtype=h5py.string_dtype()), "is of type object"),
    "compound": (lambda f: remake(f, PLANE, shape=(2, 9, 64), dtype="f4,f4"), "is of type"),
    "float64 for float32": (
        lambda f: remake(f, PLANE, data=np.ones((2, 9, 64))),
        "is of type float64; its design needs float32",
    ),
    "shape": (
        lambda f: remake(f, PLANE, data=np.ones((2, 64, 9), "f4")),
        r"has shape \(2, 64, 9\); its design needs \(2, 9, 64\)",
    ),
    "no shape": (lambda f: remake(f, PLANE, data=h5py.Empty("f4")), r"has shape \(\)"),
    "terabytes": (
        lambda f: remake(f, "history/accuracy", shape=(2**40,), dtype="f8", chunks=(2**20,)),
        "claims 8796093022208 bytes where 0 are stored",
    ),
    "large chunks": (
        lambda f: remake(
            f, PLANE, data=np.ones((2, 9, 64), "f4"), chunks=(64, 64, 64), maxshape=(None, None, None)
        ),
        "claims",
    ),
    "filter": (
        lambda f: remake(f, PLANE, data=np.ones((2, 9, 64), "f4"), compression="lzf"),
        "packed in another way than gzip",
    ),
    "additional": (lambda f: f.create_dataset("devices/a/actual", data=1.0), "has no place in schema 1"),
    "missing": (lambda f: f.pop(PLANE), f"lacks {PLANE}"),
    "half a readout": (lambda f: f.pop("readout/bias"), "checksum"),
    "value": (lambda f: f[PLANE].write_direct(np.ones((2, 9, 64), "f4")), "checksum does not match"),
    "unit": (lambda f: text(f[PLANE], "units", b"mS"), "checksum does not match"),
    "limit": (lambda f: f["devices/forward0"].attrs.__setitem__("g_max", 1.0), "checksum does not match"),
    "note": (lambda f: text(f["run"], "note", b"mine"), "checksum does not match"),
    "no checksum": (lambda f: f.attrs.pop("checksum"), "checksum does not match"),
    "opaque": (opaque, "attribute 'rule' of /run is of type"),
    "bool": (lambda f: f.attrs.__setitem__("chip_seed", True), "attribute 'chip_seed' of / is of type bool"),
    "empty": (lambda f: f["run"].attrs.__setitem__("rule", h5py.Empty("f8")), "attribute 'rule' of /run"),
    "variable length": (lambda f: f.attrs.update(design="chip"), "attribute 'design' of / is of type object"),
    "Latin-1": (lambda f: text(f["run"], "rule", b"\xe9p"), r"damaged or truncated \('utf-8' codec"),
    "many texts": (
        lambda f: f["run"].attrs.update(rule=np.full(3_200, b"one of far too many")),
        "attribute 'rule' of /run is above 60000 bytes",
    ),
    "later": (
        lambda f: f.attrs.__setitem__("schema_version", 2),
        "written by a later ohmostat, in schema_version 2; this one reads up to 1: upgrade it",
    ),
    "no version": (lambda f: f.attrs.pop("schema_version"), "schema_version is None; it must be 1 or more"),
    "another's, in its manner": (
        lambda f: f.attrs.update(schema="ohmostat-sweep"),
        r"is not a run of ohmostat \(it names none of its schemas\); give one that 'ohmostat train' wrote",
    ),
    "another's": (
        lambda f: f.attrs.update(schema=np.bytes_(b"ohmostat-sweep"), sigmas=[0.0, 0.5]),
        r"is not a run of ohmostat \(its schema is 'ohmostat-sweep'\); give one that 'ohmostat train' wrote",
    ),
    "seed": (lambda f: text(f, "chip_seed", b"3"), "lacks design, mismatch or chip_seed"),
    "design": (lambda f: text(f, "design", b"import os"), "design:1: is not valid TOML"),
    "mismatch": (lambda f: text(f, "mismatch", b'{"sigma": 1}'), "unexpected keyword"),
    "deep mismatch": (lambda f: text(f, "mismatch", b"[" * 60_000), "cannot be used"),
    "list for mismatch": (lambda f: text(f, "mismatch", b"[1]"), "cannot be used"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_file_that_was_tampered_with_is_refused(path: Path, name: str) -> None:
    tamper, message = TAMPERINGS[name]
    with h5py.File(path, "r+") as file:
        tamper(file)
    with pytest.raises(ArchiveError, match=message) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}: ")


FORGERIES: dict[str, tuple[str, object, str]] = {
    "NaN": (PLANE, np.nan, f"{PLANE} holds a value that no chip can have"),
    "negative": (PLANE, -1e-6, f"{PLANE} holds a value that no chip can have"),
    "infinite": ("neurons/gain", np.inf, "neurons/gain holds a value"),
    "neuron twice": ("neurons/index", 0, "neurons/index does not name every neuron of layer 2 once"),
    "neuron too far": ("neurons/index", 10**6, "neurons/index does not name every neuron"),
    "layer": ("neurons/layer", 7, "neurons/index does not name every neuron"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_checksum_does_not_make_a_chip(path: Path, name: str) -> None:
    where, value, message = FORGERIES[name]
    with h5py.File(path, "r+") as file:
        file[where][-1:] = value
        text(file, "checksum", checksum(file))
    with pytest.raises(ArchiveError, match=message):
        read_run(path)


def test_histories_and_readouts_must_fit_together(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["history/loss"] = np.zeros(2)
        text(file, "checksum", checksum(file))
    with pytest.raises(ArchiveError, match="histories differ in length"):
        read_run(path)
    with h5py.File(path, "r+") as file:
        del file["history/loss"], file["readout/bias"]
        text(file, "checksum", checksum(file))
    with pytest.raises(ArchiveError, match="3 rows of weights, None biases"):
        read_run(path)


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("not HDF5")
    os.mkfifo(tmp_path / "pipe.h5")
    cases = {
        "none.h5": "cannot be opened .No such file or directory.; give one that 'ohmostat train' wrote",
        "empty.h5": "is not an HDF5 file; give one",
        "text.h5": "is not an HDF5 file; give one",
        "pipe.h5": "is not a regular file; give one",
        ".": "is not a regular file; give one",
    }
    for name, message in cases.items():
        with pytest.raises(ArchiveError, match=message) as caught:
            read_run(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path))


def test_a_truncated_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in np.linspace(600, len(whole) - 1, 12).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"run\.h5: is damaged or truncated \(.*\); copy it again"):
            read_run(path)


def places_of(item: h5py.Dataset) -> range:
    """Where in its file the first piece of a data set lies."""
    if item.chunks is None:
        return range(item.id.get_offset(), item.id.get_offset() + item.nbytes)
    chunk = item.id.get_chunk_info(0)
    return range(chunk.byte_offset, chunk.byte_offset + chunk.size)


def test_one_flipped_bit_in_any_data_set_is_refused(path: Path) -> None:
    """Damage elsewhere, to HDF5's own structures, is for HDF5 to notice: old versions of it crash."""
    whole, rng, places = path.read_bytes(), random.Random(1), list[range]()
    with h5py.File(path) as file:
        file.visititems(lambda _, item: places.append(places_of(item)) if hasattr(item, "dtype") else None)
    assert len(places) > 30
    for place in places:
        damaged = bytearray(whole)
        damaged[rng.choice(place)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ArchiveError, match=r"is damaged or truncated|checksum does not match"):
            read_run(path)


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


def test_atomic_write_replaces_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    with pytest.raises(KeyError), atomic_write(target) as part:
        part.write_text("half")
        raise KeyError
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_atomic_write_survives_the_end_of_its_process(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, sys\n"
        "from ohmostat.circuits.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    assert target.read_text() == "old"
    (left,) = (name for name in os.listdir(tmp_path) if name != "a.txt")
    assert re.fullmatch(r"\.a\.txt\.[0-9a-f]{16}\.part", left)


def test_atomic_write_says_where_it_cannot_write(tmp_path: Path) -> None:
    with (
        pytest.raises(ArchiveError, match=r"there is no folder .*none; make it"),
        atomic_write(tmp_path / "none/a"),
    ):
        pass
    with pytest.raises(ArchiveError, match="/dev/null: is not a regular file"), atomic_write("/dev/null"):
        pass
    with pytest.raises(ArchiveError, match=r"a: cannot be written \(No space"), atomic_write(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_atomic_write_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a.txt")
    with atomic_write(tmp_path / "link") as part:
        part.write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "text"


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
        assert (line["tile"], line["chip_seed"]) == ("r0c0", "3")
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
