"""The body of ``ohmostat export RUN.h5``: a trained chip, device by device.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import add_tile_argument
from ..simulator.arguments import Ending, check_outputs, csv_file, hdf5_file
from .chip_arguments import add_data_argument, add_sample_arguments, beyond_rails, sample_voltages

if TYPE_CHECKING:
    from ..circuits.chip import Chip
    from ..simulator.blocks import Array
    from ..simulator.console import Console, Values

ABOUT = "export a trained chip, device by device"
EXAMPLE = "ohmostat export run.h5 --out chip.csv --format csv"

ENDINGS = {
    "hdf5": hdf5_file,
    "csv": csv_file,
    "spice": Ending("netlist", (".cir", ".sp", ".spice")),
    "program": csv_file,
}
OF = {"--sample": "spice", "--input": "spice", "--tile": "program"}  # options of one format alone


def add_arguments(parser: Any) -> None:
    """Arguments of ``export``, for :func:`run`."""
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--format", choices=tuple(ENDINGS),
        help="default: by the suffix of --out. program: a CSV for a tester, each device's target and pulses "
        "by tile, row and column",
    )  # fmt: skip
    add_tile_argument(parser, "program: ")
    add_sample_arguments(parser.add_mutually_exclusive_group(), "spice (default: all inputs at 0 V): ")
    add_data_argument(parser)


def run(arguments: Any, console: Console) -> Values:
    """Write the chip as asked. Raises ValueError where no format is told."""
    from ..circuits import archive

    kind = _format(arguments)
    there = check_outputs(arguments.out, keep=[arguments.run_file], schema=archive.SCHEMA)
    run = archive.read_run(arguments.run_file)
    inputs = sample_voltages(arguments, run.chip)  # None but for a netlist
    console.warn(beyond_rails(inputs, run.chip))
    console.replaces(there)
    if kind == "hdf5":
        archive.write_run(arguments.out, run)
    elif kind == "csv":
        from ..circuits.tester import export_csv

        export_csv(run.chip, arguments.out)
    elif kind == "program":
        from ..circuits.tester import write_list

        write_list(run.chip, arguments.out, arguments.tile)
    else:
        _spice(arguments.out, run.chip, inputs)
    console.wrote(arguments.out)
    return {"format": kind}


def _format(arguments: Any) -> str:
    """The format that was asked for, once the suffix and the other options go with it."""
    suffix = arguments.out.suffix.lower()
    told = next((name for name, ending in ENDINGS.items() if suffix in ending.suffixes), None)
    kind: str | None = arguments.format or told
    if kind is None:
        known = ", ".join(dict.fromkeys(end for ending in ENDINGS.values() for end in ending.suffixes))
        raise ValueError(f"--out {arguments.out}: its suffix tells no format; end it in {known}")
    if suffix not in ENDINGS[kind].suffixes:
        raise ValueError(f"--out {arguments.out}, --format {kind}: {ENDINGS[kind].remedy()}")
    for option, only in OF.items():
        if kind != only and getattr(arguments, option[2:]) is not None:
            raise ValueError(
                f"{option} is for --format {only}, and this is {kind}; leave it out, or ask for {only}"
            )
    return kind


def _spice(out: Path, chip: Chip, inputs: Array | None) -> None:
    """The flat circuit, with one sample's ``inputs`` (n_in,) [V] as sources."""
    from ..circuits.files import atomic_write
    from ..circuits.flatten import flatten
    from ..simulator.spice import write_spice

    net = flatten(chip, (0.0,) * chip.circuit.inputs if inputs is None else inputs)
    with atomic_write(out) as path:
        path.write_text(write_spice(net), encoding="utf-8")
