"""The page of a sweep: what its arms came to at every point, how they learned, and what yield that makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..simulator.blocks import Array
from .figures import STYLES, axis_label, columns, is_line, logarithmic
from .points import grid, one_at_a_time, spans_of, texts_of, value_of, written, written_span
from .quantities import GROUPS, amount, axis, in_group, label
from .report_charts import Chart, Panel, Series, banded
from .report_page import Section, chart, folded, paragraph, preformatted, table, toml
from .report_run import to_make_again
from .sweep_result import COLUMNS, SweepResult, read_histories, remarks, table_rows
from .yield_command import Finding, lines, passed
from .yields import Requirement, proportion

COURSES = (
    "accuracy", "loss", "alignment/forward0", "measured/forward0", "angle/forward1", "symmetry", "left_out",
)  # fmt: skip

TARGET = {"color": "#767676", "linestyle": "--"}
MOST_PLACES = 200  # whose training curves are on a page, which is to stay small


def sweep_sections(
    path: Path, result: SweepResult, version: str, found: Sequence[Finding], required: Sequence[Requirement],
    target: float,
) -> list[Section]:  # fmt: skip
    """All of a sweep's page; what was ``found`` of its yield may be nothing."""
    sections = [Section("What the arms came to", _came_to(result))]
    for group, title in GROUPS.items():
        if names := in_group(group, result.values):
            drawn = Chart(f"{title}, at the end of training", ("quantity", "at"), _ends(result, names))
            sections.append(Section(title, chart(drawn)))
    sections.append(Section("Training curves", chart(_courses(path, result)) + paragraph(_spread(result))))
    if found:
        sections.append(Section("Yield", _yields(result, found, required, target)))
    sections.append(Section("Every run", folded(f"{_count(result)} runs, at their end", _runs(result))))
    again = Section("Make it again", _again(result, version))
    return [*sections, Section("The design", toml(result.design)), again]


def _came_to(result: SweepResult) -> str:
    head, *rows = table_rows(result)
    return table("mean ± standard deviation over chips", head, rows) + "".join(
        map(paragraph, remarks(result))
    )


def _count(result: SweepResult) -> int:
    return len(result.points) * len(result.arms) * result.chips


def _spread(result: SweepResult) -> str:
    chips, points = result.chips, len(result.points)
    some = f"Curves are of the first {MOST_PLACES} of {points} points. " if points > MOST_PLACES else ""
    bands = f"Bands: one standard deviation over {chips} chips." if chips > 1 else "One chip: no band."
    return some + bands


def _ends(result: SweepResult, names: Sequence[str]) -> list[Panel]:
    """Final values against a varied key: a panel for each quantity and line through the points."""
    found = []
    for key, title, rows in columns(result):
        (order, x), joined = along(result, key, rows), is_line(result, key, rows)
        for name in names:
            series = [
                banded(STYLES[arm]["label"], x, cells[order], STYLES[arm], joined=joined)
                for arm, cells in result.values[name].items()
            ]
            at = label(name), place(key, title)
            found.append(Panel(at, axis_label(key), axis(name), series, logarithmic(x)))
    return found


def along(result: SweepResult, key: str | None, rows: Sequence[int]) -> tuple[list[int], Array]:
    """The points ``rows`` in the order of a key, and its values there; without a key, one point at 0."""
    if key is None:
        return list(rows), np.zeros(1)
    values = result.numbers(key)
    order = sorted(rows, key=values.__getitem__)
    return order, values[order]


def place(key: str | None, title: str) -> str:
    """What a panel shows, of the columns of a sweep's figure."""
    return " · ".join(text for text in (f"against {key}" if key else "", title) if text) or "the design"


def _courses(path: Path, result: SweepResult) -> Chart:
    """Quantities over epochs, mean over chips: a panel for each quantity and point."""
    panels = []
    for name in (name for name in COURSES if name in result.values):
        by_arm = read_histories(path, result, name)
        for row, text in enumerate(texts_of(result.points)[:MOST_PLACES]):
            series = [
                banded(STYLES[arm]["label"], np.arange(cells.shape[2]), cells[row].T, STYLES[arm])
                for arm, cells in by_arm.items()
            ]
            panels.append(Panel((label(name), text or "the design"), "epoch", axis(name), series))
    return Chart("training, mean over chips", ("quantity", "at"), panels)


# -- yield -----------------------------------------------------------------------------------------


def _yields(
    result: SweepResult, found: Sequence[Finding], required: Sequence[Requirement], target: float
) -> str:
    asked = " and ".join(map(str, required))
    head, *rows = passed(result, found)
    passes = table(f"chips that pass {asked}", head, rows)
    panels = _curves(result, found, target)
    drawn = chart(Chart(f"yield at {asked}", ("at",), panels)) if panels else ""
    limits = [
        (f"{STYLES[one.arm]['label']}, {place(key, title)}", curve.largest(target).words(key))
        for one in found
        for key, title, _, curve in one.curves
    ]
    far = table("how far a level may go", ("arm, and against what", "limit"), limits, words=True)
    words = "\n\n".join("\n".join(lines(result, one, required, target)) for one in found)
    return "".join((
        paragraph(f"Specification: {asked}. Target: {100 * target:g} %."),
        passes if len(rows) <= MOST_PLACES else "", drawn,
        *(paragraph(f"{STYLES[one.arm]['label']}: {one.remark}.") for one in found if one.remark),
        far if limits else "",
        folded("all of it in words, arm by arm", preformatted(words)),
    ))  # fmt: skip


def _curves(result: SweepResult, found: Sequence[Finding], target: float) -> list[Panel]:
    """A panel for every line through the points: of each arm the shares that passed with their exact
    intervals, and the fitted curve; and the target.
    """
    panels: dict[tuple[str, str], Panel] = {}
    for one in found:
        for key, title, rows, curve in one.curves:
            x, flags = result.numbers(key)[list(rows)], one.passes[list(rows)]
            log = logarithmic(x)
            fine = (np.geomspace if log else np.linspace)(curve.levels[0], curve.levels[-1], 60)
            shares = [proportion(int(row.sum()), row.size, curve.level) for row in flags]
            low, high = ([getattr(share, end) for share in shares] for end in ("low", "high"))
            style, name = STYLES[one.arm], STYLES[one.arm]["label"]
            goal = Series(f"{100 * target:g} % yield", fine[[0, -1]], [target] * 2, style=TARGET)
            panel = Panel((place(key, title),), axis_label(key), "yield", [goal], log)
            panels.setdefault((key, title), panel).series.extend((
                Series(f"{name}: exact {100 * curve.level:g} %", x, [share.estimate for share in shares], low,
                       high, style | {"linestyle": ""}, joined=False),
                Series(f"{name}: fitted", fine, curve.at(fine), style=style | {"marker": ""}),
            ))  # fmt: skip
    return list(panels.values())


# -- every run, and again --------------------------------------------------------------------------


def _runs(result: SweepResult) -> str:
    shown = [(name, title) for name, title in COLUMNS if name in result.values]
    rows = [
        (f"{arm}, {text or 'the design'}, chip {chip}",
         *(amount(name, result.values[name][arm][row, chip]) for name, _ in shown))
        for row, text in enumerate(texts_of(result.points))
        for arm in result.arms
        for chip in range(result.chips)
    ]  # fmt: skip
    return table("runs", ("run", *(title for _, title in shown)), rows)


def _again(result: SweepResult, version: str) -> str:
    seeds = {
        "chips": (f"0 to {result.chips - 1}", "every drawn deviation of each, at every point and arm"),
        "task.seed": (
            result.design.task.seed, "which samples; and, with a chip's seed, all else that is random"
        ),
    }  # fmt: skip
    return to_make_again(_command(result), seeds, (), version)


def _command(result: SweepResult) -> str:
    """The command line that makes these points; where there is none (points made in Python), the Python."""
    levels = {key: result.levels(key) for key, _ in result.points[0]}
    start = f"ohmostat sweep design.toml --chips {result.chips} --arms {','.join(result.arms)}"
    changed = {
        key: tuple(level for level in values if level != value_of(result.design, key))
        for key, values in levels.items()
    }
    for method, values, points in (
        ("grid", levels, grid(levels)),
        ("one-at-a-time", changed, one_at_a_time(result.design, changed)),
    ):
        if points == result.points:
            return " ".join(
                [start, *_options(values), *([f"--method {method}"] if values else []), "--out sweep.h5"]
            )
    if spans := spans_of(result.points, result.design.task.seed):
        ranges = [f"--vary {key}={written_span(key, span)}" for key, span in spans.items()]
        method = f"--method latin --points {len(result.points)}"
        return " ".join([start, *ranges, method, "--out sweep.h5"])
    return (
        "from pathlib import Path\n\n"
        "from ohmostat import load_design\n"
        "from ohmostat.learning.sweep import Sweep, run_sweep\n"
        "from ohmostat.learning.sweep_result import read_sweep\n\n"
        "# No command line makes these points: they are taken from the file.\n"
        'points = read_sweep(Path("sweep.h5")).points\n'
        f'again = Sweep(load_design("design.toml"), points, {result.chips}, {result.arms!r})\n'
        'run_sweep(again, Path("again.h5"))'
    )


def _options(levels: Mapping[str, Sequence[Any]]) -> list[str]:
    return [
        f"--vary {key}={','.join(written(key, value) for value in values)}" for key, values in levels.items()
    ]
