"""The body of ``ohmostat fit MEASURED.csv``: programming parameters of devices that were measured.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import check_outputs, design_file, picture
from .tables import CONDUCTANCE

if TYPE_CHECKING:
    from ..simulator.console import Console, Values

ABOUT = "fit the programming model to measured conductance curves, with errors"
EXAMPLE = "ohmostat fit measured.csv --out device.toml --plot fit.png"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument(
        "file", metavar="MEASURED.csv", type=Path,
        help=f"columns device, cycle (optional), pulse, direction (up, down), and {CONDUCTANCE}",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DEVICE.toml", type=design_file, help="write the keys of a design, with errors"
    )
    parser.add_argument("--plot", metavar="FILE.png", type=picture, help="draw curves, residuals and steps")


def run(arguments: Any, console: Console) -> Values:
    """Fit the file, show what was found, and write it where asked.

    Raises :class:`~ohmostat.circuits.measurements.MeasurementError`, which names file and line.
    """
    from .files import atomic_write
    from .fit import fit
    from .fit_report import BEGINNING, figure, plain, table, to_toml
    from .measurements import read_curves

    there = check_outputs(arguments.out, arguments.plot, keep=[arguments.file])
    if arguments.out in there and not arguments.out.read_bytes().startswith(BEGINNING.encode()):
        raise ValueError(f"{arguments.out}: is no fit but a design of another hand; name another file")
    curves = read_curves(arguments.file)
    console.replaces(there)
    found = fit(curves)
    console.show(table(found))
    if arguments.out:
        with atomic_write(arguments.out) as part:
            part.write_text(to_toml(found, arguments.file.name), encoding="utf-8")
        console.wrote(arguments.out)
    if arguments.plot:
        figure(found, arguments.plot, arguments.file.name)
        console.wrote(arguments.plot)
    if arguments.out:
        console.note(f"next: ohmostat init chip.toml --preset {arguments.out}, for a chip with this device")
    return plain(found)
