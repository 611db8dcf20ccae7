"""Make the embedded data sets again from their sources.

    python benchmarks/make_embedded_data.py --fashion-dir FOLDER --digits-csv digits.csv.gz

FOLDER holds the four published IDX files of Fashion-MNIST; digits.csv.gz is the copy of the UCI
digits' test part that comes with scikit-learn (sklearn/datasets/data/), 64 pixels and the label to
a line. The content is the same bit by bit each time (the sums that are printed stand in
``ohmostat.learning.data``); the gzip stream around it may differ between versions of zlib.

Why gzip: xz takes 2.63 MB for the bytes that gzip packs into 3.05 MB, but a Python built without
liblzma could then not load its default data; PNG's predictors before deflate save 4 to 6 %.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ohmostat.learning.data import EMBEDDED, FILES, load

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.intp]
FASHION_TRAIN, FASHION_TEST = 600, 100  # of each class
DIGITS_TEST = 36  # of each class


def idx_bytes(array: Bytes) -> bytes:
    dims = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + dims + np.ascontiguousarray(array).tobytes()


def blocks_of_classes(labels: npt.NDArray[np.int64], per_class: int) -> Index:
    """Rows of the first ``per_class`` samples of each class, in blocks of ten with one of each.

    So every prefix of whole blocks is balanced too. Within a block: the order of the source.
    """
    rows = np.stack([np.flatnonzero(labels == c)[:per_class] for c in range(10)], axis=1)
    return np.sort(rows, axis=1).ravel()


def spread_over_classes(labels: npt.NDArray[np.int64], per_class: int) -> Index:
    """Rows of ``per_class`` samples of each class, evenly spread over the file (its writers)."""
    rows = []
    for c in range(10):
        of_class = np.flatnonzero(labels == c)
        rows.append(of_class[np.arange(per_class) * len(of_class) // per_class])
    return np.sort(np.concatenate(rows))


def fashion(folder: Path) -> tuple[Bytes, ...]:
    full = load("fashion-mnist", folder)
    if ", published content," not in full.source:
        raise SystemExit(f"{full.source}: expected the published files of Fashion-MNIST")
    train = blocks_of_classes(full.train_y, FASHION_TRAIN)
    test = blocks_of_classes(full.test_y, FASHION_TEST)

    def images(x: npt.NDArray[np.float32]) -> Bytes:
        return np.rint(x * 255).astype(np.uint8).reshape(-1, 28, 28)

    return (
        images(full.train_x[train]),
        full.train_y[train].astype(np.uint8),
        images(full.test_x[test]),
        full.test_y[test].astype(np.uint8),
    )


def digits(csv: Path) -> tuple[Bytes, ...]:
    table = np.loadtxt(csv, delimiter=",")
    images, labels = table[:, :64].astype(np.uint8).reshape(-1, 8, 8), table[:, 64].astype(np.int64)
    test = spread_over_classes(labels, DIGITS_TEST)
    train = np.setdiff1d(np.arange(len(labels)), test)
    y = labels.astype(np.uint8)
    return images[train], y[train], images[test], y[test]


def write(folder: Path, arrays: tuple[Bytes, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(FILES, arrays, strict=True):
        content = idx_bytes(array)
        zipped = gzip.compress(content, compresslevel=9, mtime=0)
        (folder / f"{file}.gz").write_bytes(zipped)
        print(f"{folder.name}/{file}.gz {len(zipped):,} bytes")
        print(f"    sha256 of the content {hashlib.sha256(content).hexdigest()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="make the embedded data sets again")
    parser.add_argument("--fashion-dir", type=Path, help="folder of the published IDX files")
    parser.add_argument("--digits-csv", type=Path, help="digits.csv.gz of scikit-learn")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="default: in the package")
    arguments = parser.parse_args()
    if arguments.fashion_dir is None and arguments.digits_csv is None:
        parser.error("give --fashion-dir, --digits-csv, or both")
    if arguments.fashion_dir is not None:
        write(arguments.out / "fashion-6k", fashion(arguments.fashion_dir))
    if arguments.digits_csv is not None:
        write(arguments.out / "digits", digits(arguments.digits_csv))


if __name__ == "__main__":
    main()
