"""The body of ``ohmostat demo``: the main job on the embedded data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import positive
from .chip_arguments import add_data_argument

if TYPE_CHECKING:
    from ..simulator.console import Console, Values

ABOUT = "the main job on the embedded data: sweep, repair, train, export"
EXAMPLE = "ohmostat demo --out demo"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: all cores)")
    add_data_argument(parser)


def run(arguments: Any, console: Console) -> Values:
    """Do what a user would do first, and leave the files in a folder."""
    from ..circuits import archive
    from ..circuits.design import Design
    from .data import load_task
    from .sweep import Sweep
    from .sweep_command import sweep_to_files
    from .train_command import train_to_file
    from .training import Trainer

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    design = Design.named("fashion-6k")
    console.note("1/3  sweep device mismatch, with and without the homeostat")
    sweep = Sweep.over(design, {"mismatch.conductance": (0.0, 0.5, 1.0)}, 2)
    out = folder / "sweep.h5"
    swept = sweep_to_files(sweep, out, console, workers=arguments.workers, data_dir=arguments.data_dir)
    console.note("2/3  train one chip")
    chosen = design.replace("mismatch.conductance", 0.5)
    trainer = Trainer.from_design(chosen, load_task(chosen.task, arguments.data_dir), 0)
    trained = train_to_file(trainer, folder / "run.h5", console, plot=folder / "run.png")
    console.note("3/3  export its devices")
    archive.write_run(folder / "chip.h5", archive.read_run(folder / "run.h5"))
    console.wrote(folder / "chip.h5")
    return {"sweep": swept, "train": trained}
