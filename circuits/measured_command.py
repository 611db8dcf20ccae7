"""The body of ``ohmostat measured RUN.h5 MEASURED.csv``: a chip as a tester found it.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import check_outputs, hdf5_file
from .design_arguments import add_tile_argument
from .tables import CONDUCTANCE

if TYPE_CHECKING:
    from ..simulator.console import Console, Values

ABOUT = "put conductances measured on a tester into a trained chip"
EXAMPLE = "ohmostat measured run.h5 measured.csv --out back.h5"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    parser.add_argument(
        "file", metavar="MEASURED.csv", type=Path,
        help=f"columns array, tile, row, column, plane, as of export --format program, and {CONDUCTANCE}; "
        "without tile, row and column are those of the whole array",
    )  # fmt: skip
    add_tile_argument(parser)
    parser.add_argument("--out", type=hdf5_file, required=True, metavar="RUN.h5", help="the chip as measured")


def run(arguments: Any, console: Console) -> Values:
    """Take the measurements over, and say how they differ from what the chip had."""
    from . import archive
    from .tester import doubts, put_measured, read_measured

    read = [arguments.run_file, arguments.file]
    there = check_outputs(arguments.out, keep=read, schema=archive.SCHEMA)
    run = archive.read_run(arguments.run_file)
    measured = read_measured(run.chip, arguments.file, arguments.tile)
    console.warn(doubts(run.chip, measured))
    found = put_measured(run.chip, measured)
    console.replaces(there)
    attributes = {**run.attributes, "measured": "yes"}
    archive.write_run(
        arguments.out, replace(run, history={}, attributes=attributes)
    )  # it was of another chip
    console.show("how far the measured conductances are off, of g_max - g_min")
    console.show("                           the target         what the run had")
    console.show("array          measured     rms    largest     rms    largest")
    for one in found:
        share, columns = f"{one.count}/{one.devices}", ""
        for rms, largest in ((one.target_rms, one.target_largest), (one.rms, one.largest)):
            columns += f"  {rms:6.2%}  {largest:8.2%}" if one.count else f"  {'–':>6}  {'–':>8}"
        console.show(f"{one.array:12s} {share:>11s}{columns}")
    devices, taken = (sum(getattr(one, name) for one in found) for name in ("devices", "count"))
    if taken < devices:
        left = f"{devices - taken} of {devices} devices are not in {arguments.file.name}"
        console.note(f"{left}, and stay as they were")
    console.wrote(arguments.out)
    out = arguments.out
    console.note(
        f"next: ohmostat corners {out}, for its accuracy; ohmostat train {out} --out on.h5, to go on"
    )
    return {"arrays": [vars(one) for one in found]}
