"""What a data set is: images and labels, in memory or, where they are many, left on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 4096  # samples that are read at a time where all are asked for


class DataError(ValueError):
    """A data set that is missing, damaged or not what its name says.

    ``DataError(where, found, expected, remedy)``; all four are in the message.
    """

    def __str__(self) -> str:
        where, found, expected, remedy = self.args
        return f"{where}: found {found}; expected {expected}. {remedy}"


class MappedImages:
    """Images (n, d) that stay in their files: ``parts`` (n_k, d) of bytes, one after the other, each mapped.

    What is indexed, by a slice or by an array of row numbers, is read then, and comes as float32 in [0, 1]
    like the images of any other data set: 255 is 1.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, parts: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self.parts])

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return int(self._ends[-1]), self.parts[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        wanted = np.arange(len(self))[rows]
        found = np.empty((wanted.size, self.shape[1]), np.uint8)
        owners = np.searchsorted(self._ends, wanted, side="right")
        for k in np.unique(owners):
            mine = owners == k
            found[mine] = self.parts[k][wanted[mine] - (self._ends[k] - len(self.parts[k]))]
        return np.divide(found, 255, dtype=np.float32)

    def first(self, count: int) -> MappedImages:
        """The first ``count`` of them, unread."""
        begins = self._ends - [len(part) for part in self.parts]
        kept = zip(self.parts, begins.tolist(), strict=True)
        return MappedImages([part[: count - begin] for part, begin in kept if begin < count])


Images = npt.NDArray[np.float32] | MappedImages


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, in a fixed order.

    ``train_x`` (n, d), ``test_x`` (m, d): float32 in [0, 1], 0 background, d the product of ``shape``,
    (rows, columns) or (planes, rows, columns): pixels row by row from the top left, plane after plane.
    ``train_y`` (n,), ``test_y`` (m,): int64, 0 to ``classes`` - 1.
    ``source`` says where the files were and whether their content is the published one.
    """

    name: str
    train_x: Images
    train_y: npt.NDArray[np.int64]
    test_x: Images
    test_y: npt.NDArray[np.int64]
    classes: int
    shape: tuple[int, ...]
    source: str

    def digest(self) -> str:
        """SHA-256 of images and labels, which tells data of the same name apart."""
        digest = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(f"{array.shape} {array.dtype.str}".encode())
            for first in range(0, len(array), CHUNK):
                digest.update(np.ascontiguousarray(array[first : first + CHUNK]).data)
        return digest.hexdigest()

    def subset(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first ``train`` training and the first ``test`` test samples (None: all), as views.

        ValueError if there are fewer.
        """
        n = _count("train", train, len(self.train_y))
        m = _count("test", test, len(self.test_y))
        if (n, m) == (len(self.train_y), len(self.test_y)):
            return self
        return replace(
            self,
            train_x=_first(self.train_x, n),
            train_y=self.train_y[:n],
            test_x=_first(self.test_x, m),
            test_y=self.test_y[:m],
            source=f"{self.source}; first {n} training and {m} test samples",
        )


def _first(images: Images, count: int) -> Images:
    return images.first(count) if isinstance(images, MappedImages) else images[:count]


def _count(name: str, wanted: int | None, available: int) -> int:
    if wanted is None:
        return available
    if not 1 <= wanted <= available:
        raise ValueError(
            f"{name} = {wanted} samples: must be 1 to {available}. Ask for fewer, or load a larger data set."
        )
    return wanted
