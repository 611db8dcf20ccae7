"""The body of ``ohmostat compare A.h5 B.h5 …``: runs, or sweeps, beside each other.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import check_outputs, page_file

if TYPE_CHECKING:
    from ..simulator.console import Console, Values
    from .compare import Comparison
    from .report_charts import Chart

ABOUT = "put runs, or sweeps, beside each other: how their designs and what they came to differ"
EXAMPLE = "ohmostat compare before.h5 after.h5 --out compare.html"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument(
        "files", metavar="FILE.h5", type=Path, nargs="+", help="two or more; the first is the base"
    )
    parser.add_argument(
        "--out", type=page_file, metavar="FILE.html", help="also make a page, with the curves overlaid"
    )


def run(arguments: Any, console: Console) -> Values:
    """Show the comparison, and write its page where asked. Raises ValueError or SweepError for files that
    cannot be read, or not be compared.
    """
    from .compare import plain, text_table

    paths: list[Path] = arguments.files
    there = check_outputs(arguments.out, keep=paths)
    kind = _kind(paths)
    what, charts = (_runs if kind == "run" else _sweeps)(paths)
    console.show(text_table(what))
    if arguments.out is not None:
        console.replaces(there)
        _write(arguments.out, what, charts)
    console.wrote(arguments.out)
    return {"kind": kind, **plain(what)}


def _kind(paths: Sequence[Path]) -> str:
    """What all the files are."""
    from .report_file import identify

    if len(paths) < 2:
        raise ValueError(f"{paths[0]} alone: give two files or more to compare")
    kinds = {path: identify(path).kind for path in paths}
    if len(set(kinds.values())) > 1 or "audit" in kinds.values():
        found = ", ".join(f"{path} ({kind})" for path, kind in kinds.items())
        raise ValueError(f"cannot compare {found}: give runs alone, or sweeps alone")
    return kinds[paths[0]]


def _runs(paths: Sequence[Path]) -> tuple[Comparison, list[Chart]]:
    from ..circuits.archive import read_run
    from .compare import compare_runs
    from .compare_page import run_charts

    runs = [read_run(path) for path in paths]
    what = compare_runs([path.name for path in paths], runs)
    return what, run_charts(what, runs)


def _sweeps(paths: Sequence[Path]) -> tuple[Comparison, list[Chart]]:
    from .compare import compare_sweeps
    from .compare_page import sweep_charts
    from .sweep_result import read_sweep

    sweeps = [read_sweep(path) for path in paths]
    what = compare_sweeps([path.name for path in paths], sweeps)
    return what, sweep_charts(what, sweeps, paths)


def _write(out: Path, what: Comparison, charts: Sequence[Chart]) -> None:
    from ..circuits.files import atomic_write
    from .compare_page import sections
    from .report_page import page

    about = "; ".join(f"{name}: {design.name}" for name, design in zip(what.names, what.designs, strict=True))
    with atomic_write(out) as path:
        path.write_text(page(" and ".join(what.names), about, sections(what, charts)), encoding="utf-8")
