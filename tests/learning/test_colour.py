"""Colour images from their published binary files: values, mapping, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.circuits.data_shapes import DATA
from ohmostat.circuits.specs import TaskSpec
from ohmostat.learning import colour
from ohmostat.learning.colour import PIXELS, SETS, read_npz, read_records
from ohmostat.learning.data import load, load_task
from ohmostat.learning.dataset import DataError, MappedImages

SAMPLES = 6  # of each small file


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine."""
    monkeypatch.delenv("OHMOSTAT_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)


def part(name: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes of the k-th file of a small set."""
    draw = np.random.default_rng(k)
    pixels = draw.integers(0, 256, (SAMPLES, PIXELS)).astype(np.uint8)
    return pixels, draw.integers(0, SETS[name].classes, SAMPLES)


def records(pixels: np.ndarray, labels: np.ndarray, label_bytes: int) -> bytes:
    coarse = np.full((len(labels), label_bytes - 1), 19)
    return np.hstack([coarse, labels[:, None], pixels]).astype(np.uint8).tobytes()


def write_set(name: str, folder: Path, compressed: bool = False) -> Path:
    """Small files of the published form."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = SETS[name]
    for k, file in enumerate(spec.files):
        pixels, labels = part(name, k)
        if spec.label_bytes:
            (folder / file).write_bytes(records(pixels, labels, spec.label_bytes))
        else:
            save = np.savez_compressed if compressed else np.savez
            save(folder / file, data=pixels, labels=labels + 1)
    return folder


def message(excinfo: pytest.ExceptionInfo[DataError], *parts: str) -> None:
    text = str(excinfo.value)
    for expected in parts:
        assert expected in text, text


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_values_are_the_files_values(name: str, tmp_path: Path) -> None:
    write_set(name, tmp_path)
    found, files = load(name, tmp_path), SETS[name].files
    assert (found.name, found.shape, found.classes) == (name, (3, 32, 32), SETS[name].classes)
    pixels, labels = zip(*(part(name, k) for k in range(len(files))), strict=True)
    for x, y, rows in (
        (found.train_x, found.train_y, slice(None, -1)),
        (found.test_x, found.test_y, slice(-1, None)),
    ):
        bytes_ = np.concatenate(pixels[rows])
        assert x.shape == bytes_.shape and x[:].dtype == np.float32 and y.dtype == np.int64
        np.testing.assert_array_equal(x[:], bytes_ / np.float32(255))
        np.testing.assert_array_equal(y, np.concatenate(labels[rows]))
    assert str(tmp_path) in found.source and "mapped" in found.source


def test_a_design_asks_for_the_same_shape() -> None:
    for name, spec in SETS.items():
        assert DATA[name].image == colour.SHAPE and DATA[name].classes == spec.classes


@pytest.mark.parametrize("name", SETS)
def test_images_stay_on_disk(name: str, tmp_path: Path) -> None:
    write_set(name, tmp_path)
    found = load(name, tmp_path)
    for images in (found.train_x, found.test_x):
        assert isinstance(images, MappedImages) and all(isinstance(p, np.memmap) for p in images.parts)
        assert all(not p.flags.owndata and not p.flags.writeable for p in images.parts)


def test_compressed_arrays_are_inflated_and_said_to_be(tmp_path: Path) -> None:
    stored, packed = (write_set("imagenet-32", tmp_path / n, n == "packed") for n in ("stored", "packed"))
    mapped, inflated = (load("imagenet-32", folder) for folder in (stored, packed))
    np.testing.assert_array_equal(inflated.train_x[:], mapped.train_x[:])
    np.testing.assert_array_equal(inflated.test_y, mapped.test_y)
    assert "11 files inflated into memory" in inflated.source and "mapped" in mapped.source
    assert inflated.digest() == mapped.digest()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    rows=st.lists(st.integers(0, 10**6), max_size=12),
    count=st.integers(1, 20),
)
def test_parts_are_indexed_as_one_array(sizes: list[int], rows: list[int], count: int) -> None:
    draw = np.random.default_rng(0)
    parts = [draw.integers(0, 256, (n, 3)).astype(np.uint8) for n in sizes]
    whole, images = np.concatenate(parts) / np.float32(255), MappedImages(parts)
    wanted = np.array(rows, int) % len(whole)
    np.testing.assert_array_equal(images[wanted], whole[wanted])
    np.testing.assert_array_equal(images[1:-1], whole[1:-1])
    np.testing.assert_array_equal(images.first(count)[:], whole[:count])


def test_a_subset_reads_nothing(tmp_path: Path) -> None:
    write_set("cifar-10", tmp_path)
    found = load_task(TaskSpec(data="cifar-10", train=9, test=2), tmp_path)
    assert isinstance(found.train_x, MappedImages) and found.train_x.shape == (9, PIXELS)
    assert [len(p) for p in found.train_x.parts] == [6, 3] and len(found.test_y) == 2
    assert found.digest() == load("cifar-10", tmp_path).subset(9, 2).digest()
    assert found.digest() != load("cifar-10", tmp_path).digest()


def test_the_folder_of_the_unpacked_archive_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set("cifar-100", tmp_path / "cifar-100-binary")
    monkeypatch.setenv("OHMOSTAT_DATA", str(tmp_path))
    assert str(tmp_path / "cifar-100-binary") in load("cifar-100").source


# -- what is refused -------------------------------------------------------------------------------


def test_a_missing_set_says_what_to_unpack(tmp_path: Path) -> None:
    with pytest.raises(DataError) as e:
        load("cifar-10", tmp_path)
    message(e, "data set cifar-10", str(tmp_path), "data_batch_1.bin", "cifar-10-binary.tar.gz", "--data-dir")
    write_set("cifar-10", tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError) as e:
        load("cifar-10", tmp_path)
    message(e, str(tmp_path), "no data_batch_3.bin;")


def bad_records() -> dict[str, tuple[bytes, list[str]]]:
    good = records(*part("cifar-10", 0), 1)
    return {
        "truncated": (good[:-1], ["18437 bytes, 3072 over", "records of 3073 bytes", "undamaged"]),
        "trailing": (good + b"\0", ["18439 bytes, 1 over"]),
        "empty": (b"", ["0 bytes"]),
        "of another set": (records(*part("cifar-10", 0), 2), ["18444 bytes, 6 over"]),
        "pickled": (pickle.dumps(part("cifar-10", 0)), ["Python pickle data", "binary version"]),
        "gzipped": (b"\x1f\x8b" + good, ["gzip data"]),
        "label 10": (b"\x0a" + good[1:], ["label 10 at index 0", "0 to 9"]),
    }


@pytest.mark.parametrize("case", bad_records())
def test_bad_records_are_refused(case: str, tmp_path: Path) -> None:
    content, parts = bad_records()[case]
    path = write_set("cifar-10", tmp_path) / "data_batch_2.bin"
    path.write_bytes(content)
    with pytest.raises(DataError) as e:
        load("cifar-10", tmp_path)
    message(e, str(path), *parts)


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    pixels, labels = part("imagenet-32", 0)
    return {"data": pixels, "labels": labels + 1} | changes


BAD_ARRAYS: dict[str, tuple[dict[str, np.ndarray], list[str]]] = {
    "no labels": ({"data": part("imagenet-32", 0)[0]}, ["arrays data.npy", "data and labels"]),
    "floats": (arrays(data=np.zeros((SAMPLES, PIXELS))), ["(6, 3072) of float64", "uint8"]),
    "64 pixels a side": (arrays(data=np.zeros((6, 4 * PIXELS), np.uint8)), ["(6, 12288) of uint8"]),
    "too few labels": (arrays(labels=np.ones(5, int)), ["(5,) of int64", "(6,) of integers"]),
    "pickled labels": (arrays(labels=np.array([1, 2, 3, 4, 5, "x"], object)), ["pickled objects"]),
    "label 0": (arrays(labels=np.zeros(6, int)), ["label 0 at index 0 (6 such in all)", "1 to 1000"]),
    "by columns": (arrays(data=np.asfortranarray(part("imagenet-32", 0)[0])), ["column by column"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(case: str, tmp_path: Path) -> None:
    found, parts = BAD_ARRAYS[case]
    path = write_set("imagenet-32", tmp_path) / "val_data.npz"
    np.savez(path, **found)
    with pytest.raises(DataError) as e:
        load("imagenet-32", tmp_path)
    message(e, str(path), *parts)


def test_too_large_an_array_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "MAX_BYTES", 10**4)
    write_set("imagenet-32", tmp_path, compressed=True)
    with pytest.raises(DataError, match="up to 10000"):
        load("imagenet-32", tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.999])
def test_a_cut_archive_is_refused(tmp_path: Path, compressed: bool, keep: float) -> None:
    path = write_set("imagenet-32", tmp_path, compressed) / "train_data_batch_4.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(DataError, match=r"train_data_batch_4\.npz: found damaged"):
        load("imagenet-32", tmp_path)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(1, 255), compressed=st.booleans())
def test_a_changed_byte_gives_arrays_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, compressed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    content = bytearray(path.read_bytes())
    content[at % 1200 - 900] ^= byte  # directory and labels, at the archive's end; headers, at its start
    path.write_bytes(content)
    try:
        pixels, labels = read_npz(path)
    except DataError:
        return
    assert pixels.shape == (len(labels), PIXELS) and pixels.dtype == np.uint8


def test_records_of_two_label_bytes_give_the_fine_one(tmp_path: Path) -> None:
    pixels, labels = part("cifar-100", 3)
    path = tmp_path / "train.bin"
    path.write_bytes(records(pixels, labels, 2))
    found, fine = read_records(path, 2)
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(fine, labels)
