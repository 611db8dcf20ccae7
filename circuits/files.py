"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ArchiveError(ValueError):
    """A file that cannot be read or written as an archive; names the file, the problem and a remedy."""


def check_hdf5(path: str | Path, remedy: str) -> Path:
    """``path``, if it is there and begins as an HDF5 file does; else ArchiveError, ending in ``remedy``."""
    import h5py

    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ArchiveError(f"{path}: is not a regular file; {remedy}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be opened ({error.strerror}); {remedy}") from None
    if not h5py.is_hdf5(path):
        raise ArchiveError(f"{path}: is not an HDF5 file; {remedy}")
    return path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name in the same folder; what is written there takes the place of ``path`` in one step.

    It is synced, renamed, and its folder synced: ``path`` is at all times the old file or the whole new
    one. If the body raises, the temporary file goes; a killed process leaves it, as ``.NAME.*.part``.
    Raises ArchiveError where the system refuses.
    """
    target = Path(os.path.realpath(path))  # write through a link, as open() does
    if target.exists() and not target.is_file():
        raise ArchiveError(f"{path}: is not a regular file; choose another name")
    if not target.parent.is_dir():
        raise ArchiveError(f"{path}: there is no folder {target.parent}; make it, or choose another")
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
        _sync(part, os.O_RDWR)
        os.replace(part, target)
        if hasattr(os, "O_DIRECTORY"):
            _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        reason = error.strerror or error  # HDF5 gives a reason of its own
        remedy = "see to the cause, or choose another place"
        raise ArchiveError(f"{path}: cannot be written ({reason}); {remedy}") from error
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
