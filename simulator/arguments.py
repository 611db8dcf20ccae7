"""What the commands' arguments have in common: numbers, counts, and files that are to be read or written."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Ending:
    """A reader of the names of files that a command writes: ``what`` they are shows in their suffix."""

    what: str
    suffixes: tuple[str, ...]

    def __call__(self, text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in self.suffixes:
            raise argparse.ArgumentTypeError(f"{text!r}: {self.remedy()}")
        return path

    def remedy(self) -> str:
        """What to do about a name that ends otherwise."""
        return f"end the {self.what}'s name in {', '.join(self.suffixes)}"


HDF5 = (".h5", ".hdf5")
picture = Ending("figure", (".png", ".pdf", ".svg", ".eps", ".jpg"))
hdf5_file, csv_file = Ending("HDF5 file", HDF5), Ending("CSV file", (".csv",))
page_file, design_file = Ending("page", (".html", ".htm")), Ending("design", (".toml",))


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
    folder = Path(os.path.realpath(path)).parent  # it is written through a link
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}; make it, or name another")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell, as of /proc
    except OSError:
        raise ValueError(f"{path}: no file can be made in {folder}; name another place") from None
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: cannot be written there; name another file")
    return path


def check_outputs(
    *paths: Path | None, keep: Sequence[str | Path] = (), schema: str | None = None
) -> list[Path]:
    """Check, before the work, the files that it is to leave: each can be written to (None is not asked for),
    no two are one, none is, by whatever name, among the files ``keep`` that it reads, and no HDF5 file there
    is of another kind than ``schema``, which it writes. Returns those that stand there already, for
    :meth:`.console.Console.replaces`. Raises ValueError.
    """
    asked = [check_writable(path) for path in paths if path is not None]
    if len({os.path.realpath(path) for path in asked}) < len(asked):
        raise ValueError(f"{', '.join(map(str, asked))}: these must be different files; name others")
    there = [path for path in asked if path.exists()]
    check_kept(there, keep)
    for path in there:
        if schema and path.suffix.lower() in HDF5 and (found := _schema(path)) != schema:
            raise ValueError(
                f"{path}: is {found or 'no file of ohmostat'}, and would be replaced by {schema}; "
                "name another file, or delete this one"
            )
    return there


def check_kept(there: Sequence[Path], keep: Sequence[str | Path]) -> None:
    """Check that none of the files ``there``, which will be replaced, is one to keep. Raises ValueError."""
    for read in keep:
        if any(os.path.exists(read) and path.samefile(read) for path in there):
            raise ValueError(f"{read}: is read, and would be replaced by what is found; name another file")


def check_beside(there: Sequence[Path], result: Path, *traces: Path) -> None:
    """Check that the files ``there``, named after a ``result`` and not by the user, are an earlier one's:
    without that result, or other ``traces`` of it, they are the user's own. Raises ValueError.
    """
    if there and not any(path.exists() for path in (result, *traces)):
        raise ValueError(
            f"{there[0]}: would be replaced, and is no earlier result: there is no {result} that it goes "
            "with; give another --out, or move it away"
        )


def _schema(path: Path) -> str | None:
    """What an HDF5 file says it is, such as ``ohmostat-run``; None for what is none."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs.get("schema")
            return schema.decode("utf-8", "replace") if isinstance(schema, bytes) else schema and str(schema)
    except OSError:
        return None
