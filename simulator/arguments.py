"""What the commands' arguments have in common: numbers, counts, and files that are to be written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Bar = Callable[[int, str, bool], Any]
"""Makes a progress bar from its total, its unit, and whether to be quiet."""


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers with commas, such as 0,0.5,1") from None


def positive(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, at least 1")
    return int(text)


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
