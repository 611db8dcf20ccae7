"""The body of ``ohmostat corners RUN.h5``: a trained chip, tested where it was not trained.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import add_changes, changes_of, shares, temperatures
from ..simulator.arguments import check_outputs, csv_file, picture
from .chip_arguments import add_data_argument, trained

if TYPE_CHECKING:
    from ..circuits.specs import CornerSpec
    from ..simulator.console import Console, Values
    from .training import Trainer

ABOUT = "test a trained chip at corners of process, supply and temperature"
EXAMPLE = "ohmostat corners run.h5 --set corner.device_tempco=-1m/K --out corners.csv"
SHORT = {"tt": "typical", "ss": "slow", "ff": "fast"}  # of n- and p-channel transistors
PROCESSES = (*SHORT.values(), *SHORT)


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    add_changes(
        parser, "what the design leaves open of its corner, such as corner.leak_tempco=2m/K (repeatable)"
    )
    add_data_argument(parser)
    parser.add_argument(
        "--process", type=_processes, metavar="LIST", help="also ss,tt,ff (default: slow,typical,fast)"
    )
    parser.add_argument(
        "--supply", type=_supplies, metavar="LIST", help="relative to nominal (default: 0.9,1,1.1)"
    )
    parser.add_argument(
        "--temperature", type=temperatures, metavar="LIST",
        help="such as -40C,27C or 233K; a bare number is in kelvins (default: 233K,300K,398K)",
    )  # fmt: skip
    parser.add_argument("--out", type=csv_file, metavar="FILE.csv", help="write the table as CSV")
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw accuracy over the corners")


def run(arguments: Any, console: Console) -> Values:
    """Test the chip of a run at every corner and show what was found. Raises ValueError for what cannot be
    tested or written, before any work.
    """
    from threadpoolctl import threadpool_limits

    from ..circuits.archive import read_run
    from . import corners

    there = check_outputs(arguments.out, arguments.plot, keep=[arguments.run_file])
    trainer = trained(read_run(arguments.run_file), arguments.data_dir)
    base = _base(trainer, changes_of(arguments))
    places = list(
        corners.grid(
            base,
            arguments.process or corners.PROCESSES,
            arguments.supply or corners.SUPPLIES,
            arguments.temperature or corners.TEMPERATURES,
        )
    )
    unchanged = corners.idle(trainer.design, places)
    places = corners.without(places, unchanged, base)
    if corners.lacks_nominal(places, unchanged):
        console.note("none of these corners is nominal: list tt, 1 and 300K to have it beside them")
    console.replaces(there)
    with threadpool_limits(1, user_api="blas"), console.bar(len(places), "corner") as shown:
        found = corners.examine(trainer, places, shown.update)
    title = _title(trainer, base)
    console.show("\n".join([title, *corners.remarks(unchanged), "", corners.table(found)]))
    if arguments.out:
        corners.write_csv(found, arguments.out)
    if arguments.plot:
        from .figures import corners_figure

        corners_figure(found, arguments.plot, title)
    console.wrote(arguments.out, arguments.plot)
    axes = {corners.AXES[axis]: values for axis, values in unchanged.items()}
    title = title.replace("\n", "; ")
    rows = [corners.plain(one) for one in found]
    return {"title": title, "samples": found[0].samples, "corners": rows, "unchanged": axes}


def _processes(text: str) -> list[str]:
    """Names of processes, each also by a foundry's two letters."""
    found = []
    for part in (part.strip().lower() for part in text.split(",")):
        if part not in PROCESSES:
            known = ", ".join(f"{name} ({letters})" for letters, name in SHORT.items())
            raise argparse.ArgumentTypeError(f"{part!r} is no process; allowed: {known}")
        found.append(SHORT.get(part, part))
    return found


def _supplies(text: str) -> tuple[float, ...]:
    """Supplies relative to nominal; the error for volts says so."""
    try:
        return shares(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} (of the nominal supply, not in volts)") from None


def _base(trainer: Trainer, changes: Mapping[str, object]) -> CornerSpec:
    """The run's own corner, with what was left open."""
    fixed = {"corner.process", "corner.voltage", "corner.temperature"}
    for key in changes:
        if not key.startswith("corner.") or key in fixed:
            raise ValueError(
                f"--set {key}: a RUN.h5 holds the chip that was trained; only keys of its [corner] can be "
                "set, and process, voltage and temperature by --process, --supply and --temperature"
            )
    return trainer.design.replace(changes).corner if changes else trainer.design.corner


def _title(trainer: Trainer, base: CornerSpec) -> str:
    from .corners import name

    return (
        f"{trainer.design.name}, chip {trainer.chip.seed}, trained at {name(trainer.design.corner)}\n"
        f"process spread {base.process_spread:g}, {base.inversion} inversion, devices "
        f"{base.device_tempco:g}/K, leaks {base.leak_tempco:g}/K"
    )
