"""Convolutional layers: how a design writes one, and what it makes of an image's size.

    "5x5x8 stride 2 pad 1 pool 2"

is 8 channels of 5 rows by 5 columns that move by 2 pixels (default 1) over an image that is widened by a
pixel of 0 V on every side (default 0); the currents of 2 by 2 neighbouring positions are averaged into one
node (default 1: none are). Images are (channels, rows, columns).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

Image = tuple[int, int, int]

LARGEST = 64  # of every number in a layer's text but its channels
MOST_CHANNELS = 1024
FORM = 'ROWSxCOLUMNSxCHANNELS, then any of "stride N", "pad N", "pool N"'
_TEXT = re.compile(r"(\d{1,4})x(\d{1,4})x(\d{1,4})((?: (?:stride|pad|pool) \d{1,4})*)")


@dataclass(frozen=True)
class Convolution:
    """One convolutional layer, in pixels and channels; see the module. ``str`` writes it as a design does."""

    rows: int
    columns: int
    channels: int
    stride: int = 1
    pad: int = 0
    pool: int = 1

    @classmethod
    def parse(cls, text: str) -> Convolution:
        """Read a layer's text. Raises ValueError that says the form, or the number that is out of range."""
        found = _TEXT.fullmatch(" ".join(text.lower().split()))
        words = found[4].split() if found else []
        if not found or len(set(words[::2])) < len(words[::2]):
            raise ValueError(f"is no convolution; write {FORM}, each at most once")
        options = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        layer = cls(*map(int, found.groups()[:3]), **options)
        for name, value in vars(layer).items():
            least = 0 if name == "pad" else 1
            most = MOST_CHANNELS if name == "channels" else LARGEST
            if not least <= value <= most:
                raise ValueError(f"has {name} = {value}; allowed: {least} to {most}")
        return layer

    def __str__(self) -> str:
        options = (("stride", self.stride, 1), ("pad", self.pad, 0), ("pool", self.pool, 1))
        shown = (f"{name} {value}" for name, value, default in options if value != default)
        return " ".join((f"{self.rows}x{self.columns}x{self.channels}", *shown))

    def positions(self, image: Image) -> tuple[int, int]:
        """Rows and columns of the places where it reads ``image``, before pooling."""
        down = (image[1] + 2 * self.pad - self.rows) // self.stride + 1
        across = (image[2] + 2 * self.pad - self.columns) // self.stride + 1
        return down, across

    def output(self, image: Image) -> Image:
        """The image that it makes of ``image``; places that fill no whole pool are left out.

        ValueError if it, or its pool, is larger than what it reads.
        """
        down, across = self.positions(image)
        if min(down, across) < self.pool:
            room = f"{image[1]}x{image[2]} pixels" + (f" and {self.pad} of padding" if self.pad else "")
            raise ValueError(f"finds no room in {room}; make it smaller, or pad it")
        return self.channels, down // self.pool, across // self.pool


def convolutions(layers: Sequence[int | str]) -> tuple[Convolution, ...]:
    """The convolutional layers of a design's ``chip.layers``, which come first after the inputs."""
    return tuple(Convolution.parse(layer) for layer in layers if isinstance(layer, str))


def images(layers: Sequence[int | str], image: Image) -> tuple[Image, ...]:
    """The ``image`` that a chip of ``layers`` sees, and what each convolutional layer makes of it in turn.

    ValueError, naming the layer, if one does not fit.
    """
    found = [image]
    for place, layer in enumerate(convolutions(layers), start=2):
        try:
            found.append(layer.output(found[-1]))
        except ValueError as error:
            raise ValueError(f'layer {place} ("{layer}") {error}') from None
    return tuple(found)


def sizes(layers: Sequence[int | str], image: Image) -> tuple[int, ...]:
    """Ports in every layer, the inputs first. ValueError as :func:`images`."""
    made = iter(images(layers, image)[1:])
    return tuple(prod(next(made)) if isinstance(layer, str) else layer for layer in layers)
