"""The body of ``ohmostat demo``: the main job on the embedded data."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import check_beside, check_outputs, positive
from .chip_arguments import add_data_argument

if TYPE_CHECKING:
    from ..simulator.console import Console, Values

ABOUT = "the main job on the embedded data: sweep, repair, train, report"
EXAMPLE = "ohmostat demo --out demo"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER", help="default demo")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: all cores)")
    add_data_argument(parser)


def run(arguments: Any, console: Console) -> Values:
    """Do what a user would do first, and leave the files in a folder."""
    from ..circuits import archive
    from ..circuits.design import Design
    from . import report_command
    from .data import load_task
    from .sweep import SCHEMA, Sweep, staging_of
    from .sweep_command import files_of, sweep_to_files
    from .train_command import train_to_file
    from .training import Trainer

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    out, kept, plot, page = (folder / name for name in ("sweep.h5", "run.h5", "run.png", "run.html"))
    swept_there = check_outputs(*files_of(out), schema=SCHEMA)
    check_beside(swept_there, out, staging_of(out))
    trained_there = check_outputs(kept, plot, page, schema=archive.SCHEMA)
    check_beside(trained_there, kept)
    design = Design.named("fashion-6k")
    console.note("1/3  sweep device mismatch, with and without the homeostat")
    sweep = Sweep.over(design, {"mismatch.conductance": (0.0, 0.5, 1.0)}, 2)
    swept = sweep_to_files(
        sweep, out, console, workers=arguments.workers, data_dir=arguments.data_dir, there=swept_there
    )
    console.note("2/3  train one chip")
    chosen = design.replace("mismatch.conductance", 0.5)
    trainer = Trainer.from_design(chosen, load_task(chosen.task, arguments.data_dir), 0)
    trained = train_to_file(trainer, kept, console, plot=plot, there=trained_there)
    console.note("3/3  report on it")
    asked = Namespace(file=kept, out=page, audit=False, samples=200, waveforms=None, require=[], target=None)
    reported = report_command.run(Namespace(**vars(asked), data_dir=arguments.data_dir), console)
    console.note(f"next: open {page} in a browser; ohmostat export {kept} --out chip.csv lists every device")
    console.note(
        f"      {staging_of(out)} keeps the runs for a larger sweep; delete it if there is to be none"
    )
    return {"sweep": swept, "train": trained, "report": reported}
