"""The body of ``ohmostat export RUN.h5``: a trained chip, device by device.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import tile
from ..simulator.arguments import check_outputs
from .chip_arguments import add_data_argument, add_sample_arguments, beyond_rails, sample_voltages

if TYPE_CHECKING:
    from ..circuits.chip import Chip
    from ..simulator.console import Console, Values

ABOUT = "export a trained chip, device by device"
EXAMPLE = "ohmostat export run.h5 --out chip.csv --format csv"

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
    parser.add_argument(
        "--tile", type=tile, metavar="ROWSxCOLUMNS",
        help="program: size of a tile (default: wires.tile of a chip with wires, else 128x128)",
    )  # fmt: skip
    add_sample_arguments(parser.add_mutually_exclusive_group(), "spice (default: all inputs at 0 V): ")
    add_data_argument(parser)


def run(arguments: Any, console: Console) -> Values:
    """Write the chip as asked. Raises ValueError where no format is told."""
    from ..circuits import archive

    kind = arguments.format or FORMATS.get(arguments.out.suffix.lower())
    if kind is None:
        raise ValueError(
            f"--out {arguments.out}: its suffix tells no format; pass --format hdf5|csv|spice|program"
        )
    check_outputs(arguments.out)
    run = archive.read_run(arguments.run_file)
    if kind == "hdf5":
        archive.write_run(arguments.out, run)
    elif kind == "csv":
        from ..circuits.tester import export_csv

        export_csv(run.chip, arguments.out)
    elif kind == "program":
        from ..circuits.tester import write_list

        write_list(run.chip, arguments.out, arguments.tile)
    else:
        _spice(arguments, run.chip, console)
    console.wrote(arguments.out)
    return {"format": kind}


def _spice(arguments: Any, chip: Chip, console: Console) -> None:
    """The flat circuit, with one sample's inputs as sources."""
    from ..circuits.files import atomic_write
    from ..circuits.flatten import flatten
    from ..simulator.spice import write_spice

    inputs = sample_voltages(arguments, chip)
    console.warn(beyond_rails(inputs, chip))
    net = flatten(chip, (0.0,) * chip.circuit.inputs if inputs is None else inputs)
    with atomic_write(arguments.out) as path:
        path.write_text(write_spice(net), encoding="utf-8")
