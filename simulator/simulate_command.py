"""The body of ``ohmostat simulate FILE.cir``: runs a SPICE file's analyses and shows what they found.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import check_kept, check_outputs, hdf5_file, picture

if TYPE_CHECKING:
    from .console import Console, Values

ABOUT = "run the analyses of a SPICE netlist: .op .dc .tran .ac .noise .tf .mc, and .meas"
EXAMPLE = "ohmostat simulate amplifier.cir --out waves.h5 --plot waves.png --against ngspice"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("file", metavar="FILE.cir", type=Path, help="a SPICE netlist with its analyses")
    parser.add_argument("--out", metavar="FILE.h5", type=hdf5_file, help="write all waves to an HDF5 file")
    parser.add_argument("--plot", metavar="FILE.png", type=picture, help="draw the waves")
    parser.add_argument(
        "--against", choices=["ngspice"], help="run ngspice too, and print the largest differences"
    )


def run(arguments: Any, console: Console) -> Values:
    """Run the file's analyses and show the results; where some fail, those of the others.

    Raises :class:`~ohmostat.simulator.spice_reader.SpiceSyntaxError` and, where all fail, the first one's
    error (:func:`~ohmostat.simulator.analyses.run_analyses`), which start with ``FILE:LINE:``.
    """
    from .analyses import run_analyses
    from .comparison import compare_with_ngspice
    from .ngspice import SpiceError
    from .report import compared, plain, report
    from .spice_lines import SpiceSyntaxError
    from .spice_reader import read_spice
    from .waves import SCHEMA, WavesError, plot_waves, write_waves

    there = check_outputs(arguments.out, arguments.plot, keep=[arguments.file], schema=SCHEMA)
    if arguments.file.suffix.lower() == ".toml":
        fault = "is a chip's design by its name, not a netlist"
        remedy = "'ohmostat settle' and 'ohmostat train' read it, 'ohmostat export' writes a netlist of it"
        raise SpiceSyntaxError(str(arguments.file), 1, f"{fault}: {remedy}")
    deck = read_spice(arguments.file)
    check_kept(there, deck.files)
    console.replaces(there)
    (results, failures), differences = run_analyses(deck), None
    if not results:
        raise next(iter(failures.values()))
    console.show(report(deck, results))
    for name, failure in failures.items():
        console.lost(f"no {name}", failure)
    if arguments.out is not None:
        write_waves(arguments.out, deck.title, results)
        console.wrote(arguments.out)
    if arguments.plot is not None:
        try:
            plot_waves(arguments.plot, deck.title, results)
            console.wrote(arguments.plot)
        except WavesError as error:
            if not failures:
                raise
            console.lost("no figure", error)
    if arguments.against:
        try:
            differences = compare_with_ngspice(arguments.file, deck, results)
            console.show(compared(differences))
        except SpiceError as error:
            console.lost("not compared with ngspice", error)
    return plain(deck, results, differences)
