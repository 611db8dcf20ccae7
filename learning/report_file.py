"""What a file that is to be reported holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..circuits.files import ArchiveError, check_hdf5

KINDS = {"ohmostat-run": "run", "ohmostat-sweep": "sweep", "ohmostat-audit": "audit"}
REMEDY = "give what 'ohmostat train', 'sweep' or 'audit --out' wrote"


class Identity(NamedTuple):
    """A file's ``kind`` (run, sweep or audit), and the ``version`` of ohmostat that wrote it."""

    kind: str
    version: str


def identify(path: Path) -> Identity:
    """By the file's own schema; whether this version reads it, its reader says. Raises ArchiveError for what
    is no file of ohmostat's.
    """
    import h5py

    check_hdf5(path, REMEDY)
    try:
        with h5py.File(path, "r") as file:
            schema, version = (_text(file, name) for name in ("schema", "ohmostat_version"))
    except (OSError, ValueError, TypeError) as error:
        raise ArchiveError(f"{path}: cannot be read as HDF5 ({error}); {REMEDY}") from error
    if schema not in KINDS:
        found = f"its schema is {schema!r:.60}" if schema else "it names none of its schemas"
        raise ArchiveError(f"{path}: is not a file of ohmostat ({found}); {REMEDY}")
    return Identity(KINDS[schema], version or "of unknown version")


def _text(file: Any, name: str) -> str:
    value = file.attrs.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
