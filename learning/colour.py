"""Data sets of 32×32 colour images, read from their published binary files, which stay on disk.

| name        | what                                              | classes | training  | test   |
|-------------|---------------------------------------------------|---------|-----------|--------|
| cifar-10    | Krizhevsky 2009, the binary version               | 10      | 50,000    | 10,000 |
| cifar-100   | the same, its 100 fine classes                    | 100     | 50,000    | 10,000 |
| imagenet-32 | Chrabaszcz and others 2017, arXiv:1707.08819, npz | 1,000   | 1,281,167 | 50,000 |

All three hold an image as 3072 bytes: the red plane, row by row, then green, then blue. A CIFAR file is
records of one label byte (CIFAR-100: coarse, then fine) and an image. An .npz file is a zip archive of two
arrays, ``data`` (n, 3072) and ``labels`` (n,) from 1 on. Nothing is unpickled: pickled versions are refused.

Images are mapped, not loaded, so that a set may be larger than the memory; only an .npz file that was written
compressed must be inflated into it, and a set's ``source`` says so.
"""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .dataset import DataError, Dataset, MappedImages
from .idx import REPLACE

SHAPE: Final = (3, 32, 32)
PIXELS: Final = 3072
MAX_BYTES: Final = 2**30  # of one array that is inflated; the largest published one has 394 MB

# What zipfile, and NumPy's reader of headers, make of damage.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError, OSError, ValueError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class ColourSet:
    """What is known of a set: its files, what is published where, and the folder that comes of unpacking."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: int
    folder: str
    archive: str
    label_bytes: int = 0  # before each image of a record, the last of them its class; 0: .npz files
    first_label: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return self.train + self.test


_CIFAR = "from https://www.cs.toronto.edu/~kriz/cifar.html"
SETS: Final = {
    "cifar-10": ColourSet(
        tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",), 10,
        "cifar-10-batches-bin", f"cifar-10-binary.tar.gz {_CIFAR}", label_bytes=1,
    ),
    "cifar-100": ColourSet(
        ("train.bin",), ("test.bin",), 100,
        "cifar-100-binary", f"cifar-100-binary.tar.gz {_CIFAR}", label_bytes=2,
    ),
    "imagenet-32": ColourSet(
        tuple(f"train_data_batch_{k}.npz" for k in range(1, 11)), ("val_data.npz",), 1000,
        "Imagenet32_npz", "the npz archives of Downsampled ImageNet 32x32 from https://image-net.org",
        first_label=1,
    ),
}  # fmt: skip


def read_set(name: str, places: list[Path]) -> Dataset:
    """The set called ``name``, from the first of ``places`` that has any of its files, or from the subfolder
    there that unpacking its archive makes.

    DataError: found nowhere, incomplete, of another size or kind than such a file has, a label out of range.
    """
    spec = SETS[name]
    folder = _located(name, places)
    train_x, train_y, inflated = _read_files(spec, folder, spec.train)
    test_x, test_y, more = _read_files(spec, folder, spec.test)
    unpacked = len(inflated + more)
    how = f"{unpacked} files inflated into memory" if unpacked else "mapped"
    return Dataset(
        name=name, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y,
        classes=spec.classes, shape=SHAPE, source=f"{name}, {how}, {folder}",
    )  # fmt: skip


def _located(name: str, places: list[Path]) -> Path:
    spec = SETS[name]
    remedy = f"Unpack {spec.archive}, and name its folder by data_dir (--data-dir) or OHMOSTAT_DATA."
    for folder in (folder for place in places for folder in (place / spec.folder, place)):
        missing = [file for file in spec.files if not os.path.isfile(folder / file)]
        if not missing:
            return folder
        if len(missing) < len(spec.files):
            raise DataError(str(folder), f"no {', no '.join(missing)}", "all files of the set", remedy)
    where = ", ".join(map(str, places)) or "any folder: none is named"
    raise DataError(f"data set {name}", f"no file in {where}", ", ".join(spec.files), remedy)


def _read_files(
    spec: ColourSet, folder: Path, files: tuple[str, ...]
) -> tuple[MappedImages, npt.NDArray[np.int64], list[Path]]:
    """Images and labels of some files, and which of these had to be inflated."""
    images, labels, inflated = [], [], []
    for path in (folder / file for file in files):
        try:
            pixels, found = read_records(path, spec.label_bytes) if spec.label_bytes else read_npz(path)
        except OSError as error:
            fault, remedy = str(error.strerror or error), "Check the path and its permissions."
            raise DataError(str(path), fault, "a readable file", remedy) from error
        images.append(pixels)
        labels.append(_checked(path, found.astype(np.int64), spec))
        if not isinstance(pixels, np.memmap):
            inflated.append(path)
    return MappedImages(images), np.concatenate(labels), inflated


def _checked(path: Path, labels: npt.NDArray[np.int64], spec: ColourSet) -> npt.NDArray[np.int64]:
    """Labels from 0 on."""
    last = spec.first_label + spec.classes - 1
    wrong = np.flatnonzero((labels < spec.first_label) | (labels > last))
    if wrong.size:
        found = f"label {labels[wrong[0]]} at index {wrong[0]} ({wrong.size} such in all)"
        raise DataError(str(path), found, f"{spec.first_label} to {last}", REPLACE)
    return labels - spec.first_label


def read_records(path: Path, label_bytes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (n, 3072), mapped, and labels (n,), in memory, of a CIFAR file in its binary form.

    DataError if the file is not made of whole records of ``label_bytes`` + 3072 bytes.
    """
    record, size = label_bytes + PIXELS, path.stat().st_size
    if not size or size % record:
        with path.open("rb") as file:
            start = file.read(2)
        kind = "gzip" if start == b"\x1f\x8b" else "Python pickle" if start[:1] == b"\x80" else ""
        expected = f"records of {record} bytes, a multiple of that"
        remedy = f"It is {kind} data: use the binary version, unpacked." if kind else REPLACE
        raise DataError(str(path), f"{size} bytes, {size % record} over", expected, remedy)
    records = np.memmap(path, np.uint8, "r", shape=(size // record, record))
    return records[:, label_bytes:], np.array(records[:, label_bytes - 1])


def read_npz(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """``data`` (n, 3072) and ``labels`` (n,) of an .npz file: the images mapped where the archive has stored
    them as they are, and inflated where it has compressed them.

    DataError if it is no such file, is damaged, or holds arrays of another type or shape.
    """
    with path.open("rb") as file:
        try:
            return _arrays(path, zipfile.ZipFile(file))
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(str(path), f"damaged ({error})", "an .npz file", REPLACE) from error


def _arrays(path: Path, archive: zipfile.ZipFile) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    data, labels = (_Member.of(path, archive, name) for name in ("data", "labels"))
    if data.dtype != np.uint8 or data.shape[1:] != (PIXELS,) or not data.shape[0]:
        raise DataError(f"{path}: data", data.form, f"(n, {PIXELS}) of uint8, n from 1", REPLACE)
    if labels.dtype.kind not in "iu" or labels.shape != data.shape[:1]:
        expected = f"({data.shape[0]},) of integers, one for each image"
        raise DataError(f"{path}: labels", labels.form, expected, REPLACE)
    return data.read(archive), labels.inflated(archive)


@dataclass(frozen=True)
class _Member:
    """An array in an .npz file: what its header says, and where its values begin within its member."""

    path: Path
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    begin: int

    @classmethod
    def of(cls, path: Path, archive: zipfile.ZipFile, name: str) -> _Member:
        if f"{name}.npy" not in archive.namelist():
            found = f"arrays {', '.join(archive.namelist())}"
            raise DataError(str(path), found, "arrays data and labels", "Use the .npz files of the set.")
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in readers:
                raise DataError(f"{path}: {name}", f"npy format {version}", "format 1.0 or 2.0", REPLACE)
            shape, by_columns, dtype = readers[version](file)
            member = cls(path, info, shape, dtype, file.tell())
        if by_columns and len(shape) > 1:
            raise DataError(f"{path}: {name}", "values column by column", "values row by row", REPLACE)
        if dtype.hasobject:
            raise DataError(f"{path}: {name}", "pickled objects", "numbers", "Use the .npz files of the set.")
        if info.file_size != member.begin + member.bytes or member.bytes > MAX_BYTES:
            expected = f"{member.begin + member.bytes} for {member.form}, up to {MAX_BYTES}"
            raise DataError(f"{path}: {name}", f"{info.file_size} bytes", expected, REPLACE)
        return member

    @property
    def form(self) -> str:
        """Shape and type in words."""
        return f"{self.shape} of {self.dtype}"

    @property
    def bytes(self) -> int:
        """What its values take."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def read(self, archive: zipfile.ZipFile) -> npt.NDArray[Any]:
        """Its values: mapped, if the archive has them as they are."""
        if self.info.compress_type != zipfile.ZIP_STORED:
            return self.inflated(archive)
        with self.path.open("rb") as file:  # the local header, whose two last fields are lengths
            file.seek(self.info.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start = self.info.header_offset + 30 + name + extra + self.begin
        return np.memmap(self.path, self.dtype, "r", offset=start, shape=self.shape)

    def inflated(self, archive: zipfile.ZipFile) -> npt.NDArray[Any]:
        """Its values in memory."""
        with archive.open(self.info) as file:
            found: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return found
