"""An audit as a table, as plain values, and as an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..circuits.files import ArchiveError, atomic_write
from .audit import IMPERFECTIONS, Audit

SCHEMA, SCHEMA_VERSION = "ohmostat-audit", 1

_COUNTED = ("samples", "left_out", "unstable")

_QUANTITIES = {  # of every part and array
    "size": "length of the part over that of the true gradient",
    "share": "signed share of the error: part . error / |error|^2; all parts add up to 1",
    "cosine": "of the part to the error",
}
_ERRORS = {"share_error": "standard error of the share, over samples; nan where none is told"}  # the same
_OF_IMPERFECTIONS = {  # and of every imperfection: the interaction is none
    "first": "length of what it adds alone, over that of the true gradient",
    "last": "length of what it adds to all others, over that of the true gradient",
    "repaired": "cosine to the true gradient of the one measured without it",
}


def plain(audit: Audit, spot_check: Mapping[str, float]) -> dict[str, object]:
    """Everything but the vectors: counts of samples, and tables by quantity, column and array. None stands
    for what is not defined, such as the cosine of a part that vanishes.
    """
    tables = {
        quantity: {
            column: {array: None if np.isnan(value) else value for array, value in values.items()}
            for column, values in columns.items()
        }
        for quantity, (_, columns) in _tables(audit, spot_check).items()
    }
    return {**_counts(audit), **tables}


def table(audit: Audit, spot_check: Mapping[str, float]) -> str:
    """Blocks, arrays by parts: shares of the error and their errors, sizes, cosines; and what they mean."""
    names, parts = tuple(audit.contributions), audit.parts
    blocks = (
        _block("share of the error [%]", names, {
            a: [f"{100 * audit.share(n, a):z.1f}" for n in names] for a in audit.arrays
        }),
        *([_block("standard error of the share [%]", names, {
            a: [f"{100 * audit.share_error(n, a):.1f}" for n in names] for a in audit.arrays
        })] if audit.share_errors else []),
        _block("size [% of the adjoint's gradient]", ("whole error", *names), {
            a: [f"{100 * audit.error(a):.2f}", *(f"{100 * audit.size(n, a):.2f}" for n in names)]
            for a in audit.arrays
        }),
        _block("cosine to the adjoint's gradient, with one imperfection repaired", ("as measured", *parts), {
            a: [f"{audit.alignment(a):.4f}", *(f"{part.repaired[a]:.4f}" for part in parts.values())]
            for a in audit.arrays
        }),
    )  # fmt: skip
    return "\n\n".join((*blocks, _legend(audit, spot_check)))


def _block(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """One block, its heads of two words on two lines, underlined so that they stay together."""
    words = [head.rpartition(" ")[::2] for head in heads]
    widths = [max(9, 2 + max(map(len, pair))) for pair in words]
    lines = [(f"{'':<9}", [pair[k] for pair in words]) for k in (0, 1)]
    lines += [(f"{'':<9}", ["-" * (width - 2) for width in widths])]
    lines += [(f"{array:<9}", list(cells)) for array, cells in rows.items()]
    return "\n".join([
        title, *((name + "".join(map(str.rjust, cells, widths))).rstrip() for name, cells in lines)
    ])  # fmt: skip


def _legend(audit: Audit, spot_check: Mapping[str, float]) -> str:
    """What the columns mean, and how far the figures can be believed."""
    lines = [
        "The error is what EP measures less the adjoint's gradient, by array and over all devices (all).",
        "Share: signed, along the error; below 0, the part cancels some of it. Size: length of its vector.",
        *(f"  {name:<13} {IMPERFECTIONS[name]}" for name in audit.parts),
        "  interaction   of three or more of these",
    ]
    if audit.share_errors:
        lines.append("Standard error: over samples; with four times as many (--samples) it is half as large.")
    else:
        lines.append("No standard errors of the shares: a single sample tells none, and wires take too long.")
    worst = np.nanmax(list(spot_check.values()), initial=0.0)
    lines.append(f"Adjoint against finite differences in {len(spot_check)} devices: {worst:.1e} at most.")
    left, unstable = int((~audit.valid).sum()), int(audit.unstable.sum())
    if left:
        lines.append(f"Left out: {left} samples without a sound response, {unstable} of them unstable.")
    return "\n".join(lines)


def write(
    path: Path, audit: Audit, spot_check: Mapping[str, float], title: str, design: str, chip_seed: int
) -> None:
    """Write ``vectors/<array>/<part>``, ``table/<quantity>`` (arrays, parts), and the rest as attributes;
    ``design`` is the chip's, as TOML. Whole or not at all; raises ArchiveError where it cannot.
    """
    import h5py

    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        file.attrs.update(schema=SCHEMA, schema_version=SCHEMA_VERSION, ohmostat_version=__version__)
        file.attrs.update(_counts(audit), title=title, design=design, chip_seed=chip_seed)
        vectors = {"true": audit.true, "measured": audit.measured} | audit.contributions
        for name, by_array in vectors.items():
            for array, gradient in by_array.items():
                data = file.create_dataset(f"vectors/{array}/{name}", data=gradient, **packing)
                data.attrs.update(units="1/S", axes=["plane", "row", "column"])
        for quantity, (meaning, columns) in _tables(audit, spot_check).items():
            rows = list(next(iter(columns.values())))
            values = [[column[row] for column in columns.values()] for row in rows]
            data = file.create_dataset(f"table/{quantity}", data=values)
            data.attrs.update(meaning=meaning, rows=rows, columns=list(columns))


class AuditFile(NamedTuple):
    """What a file holds but for the vectors: ``tables`` as :func:`plain` gives them, the audit's ``title``,
    and the chip's ``design`` (TOML) and seed.
    """

    tables: dict[str, Any]
    title: str
    design: str
    chip_seed: int


def read(path: Path) -> AuditFile:
    """Read what :func:`write` wrote. Raises ArchiveError for anything else, and for a later schema."""
    import h5py

    remedy = "make it with 'ohmostat audit --out'"
    try:
        with h5py.File(path, "r") as file:
            schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
            if schema != SCHEMA or version != SCHEMA_VERSION:
                found = f"its schema is {schema!r:.60}, version {version!r:.20}"
                raise ArchiveError(f"{path}: is no audit of schema {SCHEMA_VERSION} ({found}); {remedy}")
            tables: dict[str, Any] = {name: int(file.attrs[name]) for name in _COUNTED}
            known = [name for name in _ERRORS if name in file["table"]]  # earlier files have none
            names = ("whole", "spot_check", *_QUANTITIES, *known)
            tables |= {name: _columns(file["table"][name]) for name in names}
            head = (str(file.attrs["title"]), str(file.attrs["design"]), int(file.attrs["chip_seed"]))
    except ArchiveError:
        raise
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise ArchiveError(f"{path}: cannot be read as an audit ({error}); {remedy}") from error
    rows = [set(column) for name in ("whole", *_QUANTITIES, *known) for column in tables[name].values()]
    if not {"error", "cosine"} <= tables["whole"].keys() or any(each != rows[0] for each in rows):
        raise ArchiveError(f"{path}: its tables do not fit each other; {remedy}")
    return AuditFile(tables, *head)


def _columns(data: Any) -> dict[str, dict[str, float]]:
    """A stored table by column and row."""
    rows, values = list(map(str, data.attrs["rows"])), np.asarray(data[()], np.float64)
    return {
        str(column): dict(zip(rows, values[:, k].tolist(), strict=True))
        for k, column in enumerate(data.attrs["columns"])
    }


def _counts(audit: Audit) -> dict[str, int]:
    return {
        "samples": int(audit.valid.sum()),
        "left_out": int((~audit.valid).sum()),
        "unstable": int(audit.unstable.sum()),
    }


def _tables(
    audit: Audit, spot_check: Mapping[str, float]
) -> dict[str, tuple[str, dict[str, Mapping[str, float]]]]:
    """Meaning and values, by column and row, of every table of a file."""
    arrays = audit.arrays
    found: dict[str, tuple[str, dict[str, Mapping[str, float]]]] = {
        "whole": ("of the measured gradient, against the adjoint's", {
            "error": {a: audit.error(a) for a in arrays}, "cosine": {a: audit.alignment(a) for a in arrays},
        }),
        "spot_check": ("relative difference to a finite difference", {"difference": spot_check}),
    }  # fmt: skip
    for quantity, meaning in (_QUANTITIES | _ERRORS).items():
        of = getattr(audit, quantity)
        found[quantity] = meaning, {n: {a: of(n, a) for a in arrays} for n in audit.contributions}
    for quantity, meaning in _OF_IMPERFECTIONS.items():
        found[quantity] = meaning, {n: getattr(part, quantity) for n, part in audit.parts.items()}
    return found
