"""Data sets: embedded content, reading and refusing IDX files, where they are looked for."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pooch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.learning import data
from ohmostat.learning import idx as idx_files
from ohmostat.learning.data import FILES, load
from ohmostat.learning.dataset import DataError, Dataset
from ohmostat.learning.idx import read_idx

REAL = os.environ.get("OHMOSTAT_DATA")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_embedded_data.py"


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    dims = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + dims + array.astype(np.uint8).tobytes()


def small_files(train: int = 20, test: int = 10, seed: int = 0) -> dict[str, bytes]:
    generator = np.random.default_rng(seed)
    parts = [(train, generator), (test, generator)]
    contents = []
    for n, draw in parts:
        contents += [idx(draw.integers(0, 256, (n, 28, 28))), idx(draw.integers(0, 10, n))]
    return dict(zip(FILES, contents, strict=True))


def write_set(folder: Path, files: dict[str, bytes] | None = None, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files or small_files()).items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine, and no network."""

    def refuse(url: str, **_: object) -> str:
        raise OSError("no network in tests")

    monkeypatch.delenv("OHMOSTAT_DATA", raising=False)
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch, "retrieve", refuse)


def message(excinfo: pytest.ExceptionInfo[DataError], *parts: str) -> str:
    text = str(excinfo.value)
    for part in parts:
        assert part in text, text
    return text


# Embedded sets


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [("fashion-6k", 6000, 1000, (28, 28)), ("digits", 1437, 360, (8, 8))],
)
def test_embedded_sets_are_what_they_say(name: str, train: int, test: int, shape: tuple[int, int]) -> None:
    d = load(name)
    assert (d.name, d.classes, d.shape) == (name, 10, shape)
    assert "embedded" in d.source
    for x, y, n in ((d.train_x, d.train_y, train), (d.test_x, d.test_y, test)):
        assert x.shape == (n, shape[0] * shape[1]) and x.dtype == np.float32
        assert y.shape == (n,) and y.dtype == np.int64
        assert x.min() == 0.0 and x.max() == 1.0
        assert x.flags.c_contiguous
        assert set(np.unique(y)) == set(range(10))
    # The order is fixed, and no image is in both parts.
    again = load(name)
    np.testing.assert_array_equal(d.train_x, again.train_x)
    assert not {row.tobytes() for row in d.train_x} & {row.tobytes() for row in d.test_x}


def test_fashion_6k_is_balanced_in_every_block_of_ten() -> None:
    d = load("fashion-6k")
    for y in (d.train_y, d.test_y):
        assert (np.sort(y.reshape(-1, 10), axis=1) == np.arange(10)).all()


def test_digits_split_is_stratified() -> None:
    d = load("digits")
    assert (np.bincount(d.test_y) == 36).all()
    np.testing.assert_array_equal(np.bincount(d.train_y), [142, 146, 141, 147, 145, 146, 145, 143, 138, 144])


@pytest.mark.parametrize(("name", "least"), [("fashion-6k", 0.65), ("digits", 0.87)])
def test_labels_belong_to_their_images(name: str, least: float) -> None:
    d = load(name)
    means = np.stack([d.train_x[d.train_y == c].mean(axis=0) for c in range(10)])
    distance = ((d.test_x[:, None] - means) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == d.test_y).mean() > least


def test_digits_are_upright() -> None:
    first = load("digits").test_x[0].reshape(8, 8) * 16  # the first image of the source, a zero
    np.testing.assert_array_equal(first[0], [0, 0, 5, 13, 9, 1, 0, 0])
    np.testing.assert_array_equal(first[1], [0, 0, 13, 15, 10, 15, 5, 0])


def test_fashion_is_upright() -> None:
    """Mean images tell the given orientation from its seven mirror images and quarter turns."""
    d = load("fashion-6k")
    trousers, sneaker, boot = (d.train_x[d.train_y == c].mean(axis=0) for c in (1, 7, 9))

    def upright(turn: Callable[[np.ndarray], np.ndarray]) -> bool:
        t, s, b = (turn(mean.reshape(28, 28)) for mean in (trousers, sneaker, boot))
        tall = t[:, :4].sum() < 0.1 * t[:4].sum()
        sole_below = s[14:].sum() > 1.5 * s[:14].sum()
        toe_left = b[:10, 14:].sum() > 1.5 * b[:10, :14].sum()
        return bool(tall and sole_below and toe_left)

    turns = [lambda a, k=k, f=f: np.rot90(a[:, ::f], k) for f in (1, -1) for k in range(4)]
    assert [upright(turn) for turn in turns] == [True] + [False] * 7
    assert d.train_y[0] == 9  # as in the source, whose first image is a boot


def test_embedded_sets_are_small_and_carry_their_terms() -> None:
    for name, most in (("fashion-6k", 3_500_000), ("digits", 60_000)):
        files = list((data.EMBEDDED / name).iterdir())
        assert sum(f.stat().st_size for f in files) < most
        assert {f"{file}.gz" for file in FILES} | {"README.md"} <= {f.name for f in files}
    licence = (data.EMBEDDED / "fashion-6k" / "LICENSE").read_text(encoding="utf-8")
    assert "Copyright © 2017 Zalando SE" in licence
    card = (data.EMBEDDED / "digits" / "README.md").read_text(encoding="utf-8")
    assert "10.24432/C50P49" in card and "Attribution 4.0" in card


def test_altered_embedded_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    for file in FILES:
        content = gzip.decompress((data.EMBEDDED / "digits" / f"{file}.gz").read_bytes())
        files[file] = content
    files[FILES[3]] = files[FILES[3]][:-1] + bytes([(files[FILES[3]][-1] + 1) % 10])
    write_set(tmp_path / "digits", files)
    monkeypatch.setattr(data, "EMBEDDED", tmp_path)
    with pytest.raises(DataError) as e:
        load("digits")
    message(e, str(tmp_path / "digits"), "another checksum", "Install ohmostat again")


def test_subset_takes_the_first_as_views() -> None:
    d = load("digits")
    s = d.subset(train=100, test=7)
    assert isinstance(s, Dataset)
    np.testing.assert_array_equal(s.train_x, d.train_x[:100])
    np.testing.assert_array_equal(s.test_y, d.test_y[:7])
    assert np.shares_memory(s.train_x, d.train_x)
    assert "first 100 training and 7 test" in s.source
    assert d.subset() is d
    assert len(d.subset(test=7).train_y) == len(d.train_y)
    for wrong in (0, -1, 1438):
        with pytest.raises(ValueError, match=f"train = {wrong} samples: must be 1 to 1437"):
            d.subset(train=wrong)
    with pytest.raises(ValueError, match="test = 361 samples: must be 1 to 360"):
        d.subset(test=361)


# Reading


@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx_returns_what_was_written(tmp_path: Path, zipped: bool) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    path = tmp_path / "anything"  # gzip is told by content, not by name
    path.write_bytes(gzip.compress(idx(images)) if zipped else idx(images))
    np.testing.assert_array_equal(read_idx(path, 3), images)
    path.write_bytes(idx(images[0, 0]))
    np.testing.assert_array_equal(read_idx(path, 1), images[0, 0])


IMAGES = small_files()[FILES[0]]
ZIPPED = gzip.compress(IMAGES)
FLIPPED = ZIPPED[:3000] + bytes([ZIPPED[3000] ^ 0xFF]) + ZIPPED[3001:]
BAD_FILES = {
    "truncated": (IMAGES[:-1], ["15695 bytes (truncated)", "15696 bytes", "20 × 28 × 28"]),
    "trailing": (IMAGES + b"\0", ["15697 bytes (bytes left over)", "expected 15696 bytes"]),
    "empty": (b"", ["no IDX file", "missing"]),
    "header cut": (IMAGES[:9], ["9 bytes", "a header of 16 bytes"]),
    "labels for images": (idx(np.zeros(20)), ["found an IDX file of labels", "file of images"]),
    "four dimensions": (idx(np.zeros((1, 1, 1, 1))), ["4-dimensional"]),
    "signed bytes": (b"\0\0\x09\x03" + IMAGES[4:], ["no IDX file of unsigned bytes", "09 03"]),
    "a web page": (b"<!DOCTYPE html>", ["no IDX file", "3c 21 44 4f"]),
    "no samples": (idx(np.zeros((0, 28, 28))), ["0 × 28 × 28", "at least one sample"]),
    "absurd dimensions": (bytes((0, 0, 8, 3)) + b"\xff" * 12, ["truncated"]),
    "cut gzip": (ZIPPED[:-100], ["damaged gzip", "Replace the file"]),
    "cut gzip checksum": (ZIPPED[:-3], ["damaged gzip", "Replace the file"]),
    "flipped bit": (FLIPPED, ["damaged gzip"]),
    "wrong gzip checksum": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], ["damaged gzip", "CRC"]),
    "rubbish after gzip": (ZIPPED + b"rubbish", ["damaged gzip"]),
    "gzip of a cut file": (gzip.compress(IMAGES[:-1]), ["15695 bytes (truncated)"]),
    "gzip of a longer file": (gzip.compress(IMAGES + b"\0"), ["bytes left over"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    content, parts = BAD_FILES[case]
    folder = write_set(tmp_path / "mnist", {**small_files(), FILES[0]: content})
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path)
    message(e, str(folder / FILES[0]), "found", "expected", *parts)


def test_images_where_labels_belong_are_refused(tmp_path: Path) -> None:
    files = small_files()
    write_set(tmp_path, {**files, FILES[1]: files[FILES[0]]})
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path)
    message(e, FILES[1], "found an IDX file of images", "expected an IDX file of labels")


MISFITS = {
    "label 10": (3, idx(np.array([0, 1, 10, 3, 4, 5, 200, 7, 8, 9])), ["label 10 at index 2 (2 s"]),
    "too few labels": (1, idx(np.zeros(19)), ["found 19 labels", "expected 20"]),
    "too many labels": (3, idx(np.zeros(20)), ["found 20 labels", "expected 10"]),
    "other image size": (2, idx(np.zeros((10, 28, 27))), ["28 × 27 pixels", "28 × 28 pixels"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    which, content, parts = MISFITS[case]
    write_set(tmp_path, {**small_files(), FILES[which]: content})
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path)
    message(e, FILES[which], *parts)


def test_pixels_above_white_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f: idx(np.full((10, 8, 8), 17) if "images" in f else np.arange(10)) for f in FILES}
    write_set(tmp_path / "digits", files)
    monkeypatch.setattr(data, "EMBEDDED", tmp_path)
    with pytest.raises(DataError, match="a pixel of 17; expected values of 0 to 16"):
        load("digits")


def test_an_inflated_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(10**6)))
    monkeypatch.setattr(idx_files, "MAX_BYTES", 10**5)
    with pytest.raises(DataError, match="over 100000 bytes"):
        read_idx(path, 3)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as e:
        read_idx(tmp_path / "absent", 1)
    message(e, str(tmp_path / "absent"), "No such file", "Check the path")


@settings(max_examples=150, deadline=None)
@given(
    head=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08\x03\0\0\0\x02", ZIPPED[:200], ZIPPED[:10]]),
    tail=st.binary(max_size=40),
    ndim=st.sampled_from([1, 3]),
)
def test_any_bytes_give_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes, ndim: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(head + tail)
    try:
        array = read_idx(path, ndim)
    except DataError:
        return
    assert array.ndim == ndim and array.size > 0


def test_known_files_of_another_set_or_part_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published files are known by content, so that Fashion-MNIST is never read as MNIST."""
    files = small_files(10, 10)
    known = {hashlib.sha256(c).hexdigest(): ("fashion-mnist", f) for f, c in files.items()}
    monkeypatch.setattr(data, "_KNOWN", known)
    write_set(tmp_path, files)
    assert "published content" in load("fashion-mnist", tmp_path).source
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path)
    message(e, f"the content of {FILES[0]} of fashion-mnist", f"expected {FILES[0]} of mnist")
    write_set(tmp_path, {**files, FILES[0]: files[FILES[2]], FILES[1]: files[FILES[3]]})
    with pytest.raises(DataError, match=f"the content of {FILES[2]} of fashion-mnist"):
        load("fashion-mnist", tmp_path)


# Finding


def test_loaded_values_are_the_files_values(tmp_path: Path) -> None:
    files = small_files()
    write_set(tmp_path, files, zipped=True)
    d = load("mnist", str(tmp_path))
    raw = np.frombuffer(files[FILES[0]], np.uint8, offset=16).reshape(20, 784)
    np.testing.assert_array_equal(np.rint(d.train_x * 255), raw)
    np.testing.assert_array_equal(d.test_y, np.frombuffer(files[FILES[3]], np.uint8, offset=8))
    assert (d.name, d.shape, d.classes) == ("mnist", (28, 28), 10)
    assert str(tmp_path) in d.source and "other than the published" in d.source


def test_names_with_a_dot_are_found(tmp_path: Path) -> None:
    write_set(tmp_path, {f.replace("-idx", ".idx"): c for f, c in small_files().items()})
    assert len(load("mnist", tmp_path).train_y) == 20


def mirror(served: dict[str, bytes], log: list[str], broken: str = "") -> Callable[..., str]:
    """In place of pooch.retrieve: what it does, without a network, checksums included."""

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        assert url.startswith("https://") and known_hash.startswith("md5:")
        log.append(url)
        if broken and broken in url:
            raise ValueError("hash of downloaded file does not match")
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(gzip.compress(served[url.rsplit("/", 1)[1].removesuffix(".gz")]))
        return str(path / fname)

    return retrieve


def test_download_fills_the_cache_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(pooch, "retrieve", mirror(small_files(), log))
    first = load("mnist")
    assert [url.rsplit("/", 1)[1] for url in log] == [f"{file}.gz" for file in FILES]
    again = load("mnist")
    assert len(log) == 4
    np.testing.assert_array_equal(first.train_x, again.train_x)
    assert str(tmp_path / "cache" / "ohmostat" / "mnist") in first.source


def test_download_goes_on_where_it_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(pooch, "retrieve", mirror(small_files(), log))
    files = small_files()
    write_set(tmp_path / "cache" / "ohmostat" / "mnist", {FILES[0]: files[FILES[0]]}, zipped=True)
    assert len(load("mnist").train_y) == 20


def test_a_broken_mirror_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    first = data._SPECS["mnist"].mirrors[0]
    monkeypatch.setattr(pooch, "retrieve", mirror(small_files(), log, broken=first))
    assert len(load("mnist").train_y) == 20
    assert len(log) == 8


def test_no_place_with_the_set_means_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(pooch, "retrieve", mirror(small_files(), log))
    write_set(tmp_path / "mnist")
    load("mnist", tmp_path)
    load("digits")
    assert not log


def test_checksums_are_of_the_right_form_and_distinct() -> None:
    specs = data._SPECS.values()
    assert all(len(h) == 64 and int(h, 16) for s in specs for h in s.sha256)
    assert all(len(h) == 32 and int(h, 16) for s in specs for h in s.md5 or ())
    assert len(data._KNOWN) == 4 * len(data._SPECS)
    assert all(m.startswith("https://") and m.endswith("/") for s in specs for m in s.mirrors)


def test_data_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(DataError("file", "this", "that", "Do so.")))
    assert str(error) == "file: found this; expected that. Do so."


def test_importing_does_not_import_pooch() -> None:
    code = "import sys, ohmostat.learning.data; assert 'pooch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# The script that makes the embedded sets, and the real files where there are any


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_embedded_data", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_selects_and_writes_reproducibly(script: ModuleType, tmp_path: Path) -> None:
    labels = np.random.default_rng(3).integers(0, 10, 1000)
    rows = script.blocks_of_classes(labels, 60)
    assert (np.sort(labels[rows].reshape(-1, 10), axis=1) == np.arange(10)).all()
    assert len(set(rows)) == 600
    test = script.spread_over_classes(labels, 20)
    assert (np.bincount(labels[test]) == 20).all() and len(set(test)) == 200
    arrays = tuple(np.frombuffer(c, np.uint8) for c in small_files().values())
    script.write(tmp_path, arrays)
    first = [(tmp_path / f"{file}.gz").read_bytes() for file in FILES]
    script.write(tmp_path, arrays)
    assert first == [(tmp_path / f"{file}.gz").read_bytes() for file in FILES]
    np.testing.assert_array_equal(read_idx(tmp_path / f"{FILES[1]}.gz", 1), arrays[1])


@pytest.mark.skipif(not REAL, reason="OHMOSTAT_DATA does not name a folder of real data")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_files_are_the_published_ones(name: str) -> None:
    d = load(name, REAL)
    assert d.train_x.shape == (60000, 784) and d.test_x.shape == (10000, 784)
    assert ", published content," in d.source


@pytest.mark.skipif(not REAL, reason="OHMOSTAT_DATA does not name a folder of real data")
def test_the_embedded_part_is_made_from_the_real_files(script: ModuleType) -> None:
    for file, array in zip(FILES, script.fashion(Path(str(REAL))), strict=True):
        embedded = gzip.decompress((data.EMBEDDED / "fashion-6k" / f"{file}.gz").read_bytes())
        assert script.idx_bytes(array) == embedded
