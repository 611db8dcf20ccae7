"""IDX files of unsigned bytes, plain or gzipped: the form in which small gray images are published."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from .dataset import DataError

MAX_BYTES: Final = 2**28  # decompressed; the largest known file has 47 MB
REPLACE = "Replace the file by an undamaged copy."

_IDX_UBYTE = 0x08
_KIND = {1: "labels", 3: "images"}


def read_idx(path: str | Path, ndim: int) -> npt.NDArray[np.uint8]:
    """The array of unsigned bytes with ``ndim`` dimensions (1: labels, 3: images) in an IDX file.

    IDX: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit integer, the data. Gzip is recognised by its first bytes. DataError if the
    file is unreadable, damaged, of another kind, or longer or shorter than its header says.
    """
    path = Path(path)
    return parse_idx(path, decompressed(path), ndim)


def decompressed(path: Path) -> bytes:
    """The content of a file, gzipped or not; DataError if it is damaged, unreadable or too long."""
    import gzip

    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if zipped else file
            content = stream.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"damaged gzip data ({error})"
        raise DataError(str(path), found, "a whole gzip file", REPLACE) from error
    except OSError as error:
        found, remedy = str(error.strerror or error), "Check the path and its permissions."
        raise DataError(str(path), found, "a readable file", remedy) from error
    if len(content) > MAX_BYTES:
        raise DataError(str(path), f"over {MAX_BYTES} bytes", "a smaller IDX file", REPLACE)
    return content


def parse_idx(path: Path, content: bytes, ndim: int) -> npt.NDArray[np.uint8]:
    """The array in the ``content`` of a file; see :func:`read_idx`."""
    magic, start = bytes((0, 0, _IDX_UBYTE, ndim)), 4 + 4 * ndim
    if content[:4] != magic:
        found, expected = _kind(content[:4]), _kind(magic)
        raise DataError(str(path), found, expected, "Put the right file there.")
    if len(content) < start:
        found, expected = f"{len(content)} bytes", f"a header of {start} bytes"
        raise DataError(str(path), found, expected, REPLACE)
    dims = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    shape, size = " × ".join(map(str, dims)), start + math.prod(dims)
    if size == start:
        raise DataError(str(path), f"dimensions {shape}", "at least one sample", REPLACE)
    if len(content) != size:
        cause = "truncated" if len(content) < size else "bytes left over"
        found, expected = f"{len(content)} bytes ({cause})", f"{size} bytes for dimensions {shape}"
        raise DataError(str(path), found, expected, REPLACE)
    return np.frombuffer(content, np.uint8, offset=start).reshape(dims)


def _kind(magic: bytes) -> str:
    """What a file that begins with ``magic`` is."""
    kind = "no IDX file of unsigned bytes"
    if len(magic) == 4 and magic[:3] == bytes((0, 0, _IDX_UBYTE)):
        kind = f"an IDX file of {_KIND.get(magic[3], f'{magic[3]}-dimensional data')}"
    return f"{kind} (first bytes {magic.hex(' ') or 'missing'})"
