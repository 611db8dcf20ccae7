"""Files that are not to be trusted: nothing but a whole archive is taken for one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.archive import (
    read_run,
)
from ohmostat.circuits.files import ArchiveError

from .archived import PLANE, checksum, text


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
