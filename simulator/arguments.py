"""What the commands' arguments have in common: numbers, counts, and files that are to be read or written."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path


def numbers(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"{text!r}: write finite numbers with commas, such as 0,0.5,1")
    return found


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
            raise argparse.ArgumentTypeError(
                f"{text!r}: give a whole number, at least {least} and below 10^18"
            )
        return int(text)

    return read


positive, natural = _whole(1), _whole(0)
"""Readers of whole numbers, from 1 and from 0."""

PICTURES = (".png", ".pdf", ".svg", ".eps", ".jpg")


def picture(text: str) -> Path:
    """A file for a figure, whose suffix tells its format."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r}: end the figure's name in {', '.join(PICTURES)}")
    return path


def literal(text: str) -> float | int | str:
    """The number that a text is, or else the text itself."""
    for form in (int, float):
        try:
            return form(text)
        except ValueError:
            continue
    return text


def check_writable(path: Path) -> Path:
    """``path`` if it can be written to, found out before the work rather than after it; else ValueError."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK) or path.is_dir():
        raise ValueError(f"{path}: cannot be written there; name another file")
    return path


def check_outputs(*paths: Path | None, keep: Sequence[Path] = ()) -> None:
    """Check, before the work, the files that it is to leave: each can be written to (None is not asked for),
    no two are one, and none is among the files ``keep`` that it reads. Raises ValueError.
    """
    asked = [path for path in paths if path is not None]
    places = [check_writable(path).resolve() for path in asked]
    if len(set(places)) < len(places):
        raise ValueError(f"{', '.join(map(str, asked))}: these must be different files; name others")
    for path in keep:
        if path.resolve() in places:
            raise ValueError(f"{path}: is read, and would be replaced by what is found; name another file")
