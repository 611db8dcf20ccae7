"""The bodies of ``ohmostat export`` and ``ohmostat measured``: a chip's devices, out and in again.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..simulator.arguments import check_writable, numbers

ABOUT = "export a trained chip, device by device"
EXAMPLE = "ohmostat export run.h5 --out chip.csv --format csv"
MEASURED = "put conductances measured on a tester into a trained chip"
MEASURED_EXAMPLE = "ohmostat measured run.h5 measured.csv --out back.h5"

FORMATS = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
    ".cir": "spice",
    ".sp": "spice",
    ".spice": "spice",
}


def add_arguments(parser: Any) -> None:
    """Arguments of ``export``, for :func:`run`."""
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--format", choices=("hdf5", "csv", "spice", "program"),
        help="default: by the suffix of --out. program: a CSV for a tester, each device's target and pulses "
        "by tile, row and column",
    )  # fmt: skip
    parser.add_argument("--tile", type=_tile, default=(128, 128), metavar="ROWSxCOLUMNS",
                        help="program: size of a tile (default 128x128)")  # fmt: skip
    parser.add_argument(
        "--input", type=numbers, metavar="VOLTS", help="spice: input voltages (default: all 0 V)"
    )


def run(arguments: Any) -> None:
    """Write the chip as asked."""
    from . import archive

    kind = arguments.format or FORMATS.get(arguments.out.suffix.lower())
    if kind is None:
        raise ValueError(
            f"--out {arguments.out}: its suffix tells no format; pass --format hdf5|csv|spice|program"
        )
    run = archive.read_run(arguments.run_file)
    if kind == "hdf5":
        archive.write_run(arguments.out, run)
    elif kind == "csv":
        from .tester import export_csv

        export_csv(run.chip, arguments.out)
    elif kind == "program":
        from .tester import write_list

        write_list(run.chip, arguments.out, arguments.tile)
    else:
        from ..simulator.spice import write_spice
        from .files import atomic_write
        from .flatten import flatten

        inputs = arguments.input or (0.0,) * run.chip.circuit.inputs
        with atomic_write(arguments.out) as path:
            path.write_text(write_spice(flatten(run.chip, inputs)), encoding="utf-8")
    print(f"wrote {arguments.out}")


def _tile(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r}: write rows x columns, such as 128x128")
    return int(rows), int(columns)


def add_measured_arguments(parser: Any) -> None:
    """Arguments of ``measured``, for :func:`run_measured`."""
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    parser.add_argument(
        "file", metavar="MEASURED.csv", type=Path,
        help="columns array, tile, row, column, plane, as of export --format program, and conductance_uS",
    )  # fmt: skip
    parser.add_argument("--tile", type=_tile, default=(128, 128), metavar="ROWSxCOLUMNS",
                        help="size of a tile (default 128x128)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="RUN.h5", help="the chip as measured")


def run_measured(arguments: Any) -> None:
    """Take the measurements over, and say how they differ from what the chip had."""
    from . import archive
    from .tester import take_measured

    check_writable(arguments.out)
    run = archive.read_run(arguments.run_file)
    print("array          measured     rms    largest  (of g_max - g_min)")
    for found in take_measured(run.chip, arguments.file, arguments.tile):
        share = f"{found.count}/{found.devices}"
        print(f"{found.array:12s} {share:>11s}  {found.rms:6.2%}  {found.largest:8.2%}")
    archive.write_run(arguments.out, replace(run, attributes={**run.attributes, "measured": "yes"}))
    print(f"wrote {arguments.out}; next: ohmostat train {arguments.out} --out on.h5, to go on learning")
