"""What studies have in common: spreads over chips, and, of many sweeps, a command line: they go on where they
were stopped, and can report and draw what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import TypeVar

import numpy as np

from ohmostat.simulator.blocks import Array

Plan = TypeVar("Plan")
Found = TypeVar("Found", bound=Sized)


def sd(values: Array | Sequence[float]) -> Array:
    """Standard deviation over chips, the first axis; NaN of one."""
    count = len(values)
    return np.std(values, axis=0, ddof=1) if count > 1 else np.full(np.shape(values)[1:], np.nan)


def parser(doc: str | None, figure: Path) -> argparse.ArgumentParser:
    """``OUT``, ``--workers``, ``--figure`` and ``--report``."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("out", type=Path)
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--figure", type=Path, default=figure)
    made.add_argument("--report", action="store_true", help="run nothing")
    return made


def main(
    doc: str | None, figure: Path, full: Plan, small: Plan, run: Callable[[Plan, Path, int], None],
    gathered: Callable[[Plan, Path], Found], report: Callable[[Found], str],
    draw: Callable[[Plan, Found, Path], None],
) -> None:  # fmt: skip
    """Run a plan, the full one or a small one for a trial; then tell and draw what is finished of it."""
    made = parser(doc, figure)
    made.add_argument("--small", action="store_true", help=f"a trial: {small}")
    arguments = made.parse_args()
    plan = small if arguments.small else full
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        run(plan, arguments.out, arguments.workers)
    found = gathered(plan, arguments.out)
    if not found:
        print("nothing is finished yet")
        return
    print(report(found))
    draw(plan, found, arguments.figure)
