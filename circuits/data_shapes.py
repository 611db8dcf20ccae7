"""What a chip must fit of each data set, known without reading it."""

from __future__ import annotations

import math
from typing import NamedTuple


class DataShape(NamedTuple):
    """What a chip must fit: images (planes, rows, columns), classes, and samples there are (None: left to the
    loader).
    """

    image: tuple[int, int, int]
    classes: int
    train: int | None = None
    test: int | None = None

    @property
    def inputs(self) -> int:
        """Pixels of an image."""
        return math.prod(self.image)


DATA = {
    "fashion-6k": DataShape((1, 28, 28), 10, 6_000, 1_000),
    "digits": DataShape((1, 8, 8), 10),
    "mnist": DataShape((1, 28, 28), 10, 60_000, 10_000),
    "fashion-mnist": DataShape((1, 28, 28), 10, 60_000, 10_000),
    "cifar-10": DataShape((3, 32, 32), 10, 50_000, 10_000),
    "cifar-100": DataShape((3, 32, 32), 100, 50_000, 10_000),
    "imagenet-32": DataShape((3, 32, 32), 1000, 1_281_167, 50_000),
}
