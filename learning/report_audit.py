"""An audit on a page: from one that was just made, or from the file of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..circuits.design import Design
from .audit import IMPERFECTIONS, INTERACTION
from .quantities import digits
from .report_charts import audit_bars
from .report_page import Section, drawing, figures, paragraph, table, toml

Tables = Mapping[str, Any]
"""Counts of samples, and tables by quantity, column and row: :func:`.audit_report.plain`."""


def audit_section(tables: Tables) -> str:
    """Shares of the error as bars; sizes and cosines as tables; and how far they can be believed."""
    share, whole = _numbers(tables["share"]), _numbers(tables["whole"])
    rows = list(whole["error"])
    errors = _numbers(tables.get("share_error", {}))
    errors = errors if any(v == v for column in errors.values() for v in column.values()) else {}
    counts = (
        f"{tables['samples']} samples, and {tables['left_out']} left out for want of a sound response, "
        f"{tables['unstable']} of them unstable."
    )
    worst = max((v for v in _numbers(tables["spot_check"])["difference"].values() if v == v), default=0.0)
    about = [
        (name, text)
        for name, text in (*IMPERFECTIONS.items(), (INTERACTION, "of three or more"))
        if name in share
    ]
    return "".join((
        figures({f"error, {row}": digits(whole["error"][row]) for row in rows}),
        drawing("bars", audit_bars(share)),
        table("cosine to the adjoint's gradient, and size of the error over it", ("array", "cosine", "error"),
              [(row, digits(whole["cosine"][row]), digits(whole["error"][row])) for row in rows]),
        _by_array("signed share of the error", share, rows),
        _by_array("its standard error, over samples", errors, rows) if errors else "",
        _by_array("size, over the adjoint's gradient", _numbers(tables["size"]), rows),
        table("what the parts are", ("part", "of what"), about, words=True),
        paragraph(f"{counts} Adjoint against finite differences: {worst:.1e} at most."),
    ))  # fmt: skip


def file_sections(tables: Tables, title: str, design: str, chip_seed: int) -> list[Section]:
    """The page of an audit file."""
    return [
        Section(
            "Audit of the gradient", paragraph(f"{title} (chip seed {chip_seed})") + audit_section(tables)
        ),
        Section("The design", toml(Design.from_text(design, "design"))),
    ]


def _by_array(caption: str, columns: Mapping[str, Mapping[str, float]], rows: list[str]) -> str:
    body = [(row, *(digits(values[row]) for values in columns.values())) for row in rows]
    return table(caption, ("array", *columns), body)


def _numbers(columns: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """NaN where a value is not defined."""
    return {
        column: {row: math.nan if value is None else float(value) for row, value in values.items()}
        for column, values in columns.items()
    }
