"""The page of a comparison: what differs, what it came to, and the curves over each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..circuits.archive import Run
from .compare import ABOUT, Comparison, in_words, row_of, shared
from .figures import axis_label, columns, is_line, logarithmic
from .quantities import axis, label
from .report_charts import Chart, Panel, Series, banded, style
from .report_page import Section, chart, paragraph, table
from .report_sweep import COURSES, MOST_PLACES, along, place
from .sweep_result import SweepResult, read_histories


def sections(what: Comparison, charts: Sequence[Chart]) -> list[Section]:
    """The whole page, whose ``charts`` are of runs or of sweeps."""
    keys, designs = what.differing(), paragraph("They are equal.")
    if keys:
        designs = table("keys that differ", ("key", *what.names), keys, words=True)
    figures = paragraph(what.remark)
    if not what.remark:
        figures = paragraph(ABOUT) + table(
            "at the end of training", ("quantity", *what.heads()), what.lines()
        )
    return [
        Section("How the designs differ", designs),
        Section("What they came to", figures),
        *(Section(one.about.capitalize(), chart(one)) for one in charts),
    ]


def run_charts(what: Comparison, runs: Sequence[Run]) -> list[Chart]:
    """Every quantity over epochs, a line for each run."""
    panels = [
        Panel((label(row.quantity),), "epoch", axis(row.quantity), [
            Series(name, np.arange(len(run.history[row.quantity])), run.history[row.quantity], style=style(k))
            for k, (name, run) in enumerate(zip(what.names, runs, strict=True))
        ])
        for row in what.rows
    ]  # fmt: skip
    return [Chart("training curves", ("quantity",), panels)] if panels else []


def sweep_charts(what: Comparison, sweeps: Sequence[SweepResult], paths: Sequence[Path]) -> list[Chart]:
    """Final values against the levels that all sweep, and training curves, a line for each sweep."""
    spread = "mean ± standard error over chips"
    ends, courses = list(_ends(what, sweeps[0])), list(_courses(what, sweeps, paths))
    return [
        Chart(f"final values, {spread}", ("quantity", "arm", "at"), ends),
        Chart(f"training curves, {spread}", ("quantity", "at"), courses),
    ]


def _ends(what: Comparison, first: SweepResult) -> Iterator[Panel]:
    """A panel for each quantity, arm, and line through the points of the first that all sweeps have."""
    for quantity, arm in dict.fromkeys((row.quantity, row.arm) for row in what.rows):
        there = {row.point: row.values for row in what.rows if (row.quantity, row.arm) == (quantity, arm)}
        for key, title, every in columns(first):
            rows, x = along(first, key, [row for row in every if first.points[row] in there])
            if not rows:
                continue
            cells = [
                np.stack(of_one) for of_one in zip(*(there[first.points[row]] for row in rows), strict=True)
            ]
            series = [
                banded(name, x, found, style(k), joined=is_line(first, key, rows), of_mean=True)
                for k, (name, found) in enumerate(zip(what.names, cells, strict=True))
            ]
            at = label(quantity), arm, place(key, title)
            yield Panel(at, axis_label(key), axis(quantity), series, logarithmic(x))


def _courses(what: Comparison, sweeps: Sequence[SweepResult], paths: Sequence[Path]) -> Iterator[Panel]:
    """A panel for each quantity, arm and point that all sweeps have."""
    for quantity in COURSES:
        if not all(quantity in sweep.values for sweep in sweeps):
            continue
        courses = [read_histories(path, s, quantity) for path, s in zip(paths, sweeps, strict=True)]
        for arm, point in list(shared(sweeps))[:MOST_PLACES]:
            series = []
            for k, (name, sweep, course) in enumerate(zip(what.names, sweeps, courses, strict=True)):
                cells = course[arm][row_of(sweep)[frozenset(point)]].T
                series.append(banded(name, np.arange(len(cells)), cells, style(k), of_mean=True))
            yield Panel((label(quantity), in_words(arm, point)), "epoch", axis(quantity), series)
