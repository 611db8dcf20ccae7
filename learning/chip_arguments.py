"""The arguments of a command that say which chip is meant: one fabricated from a design, or that of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import add_design_arguments, changes_of, voltages
from ..simulator.arguments import HDF5, natural

if TYPE_CHECKING:
    from ..circuits.archive import Run
    from ..circuits.chip import Chip
    from ..simulator.blocks import Array
    from ..simulator.console import Console
    from .training import Trainer

BEGINNING = ("angle", "feedback_spread", "init_scale", "input_scale", "readout_scale", "dtype")
"""Keys of ``[learning]`` by which a chip starts, and which one that was trained has behind it."""

TOUCHING = 1e-5  # of full scale: no farther beyond it than single precision rounds


def add_chip_arguments(parser: Any, run: str = "the RUN.h5 of a trained chip") -> None:
    """``DESIGN``, ``--set``, ``--chip`` and ``--data-dir``; ``run`` says what a RUN.h5 in its place is."""
    add_design_arguments(parser, f"a TOML file, a shipped design, or {run}", "; of a RUN.h5, how it learns")
    parser.add_argument("--chip", type=natural, metavar="SEED", help="the chip's seed (default: task.seed)")
    add_data_argument(parser)


def add_data_argument(parser: Any) -> None:
    """``--data-dir`` alone."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder that holds the data set, sought nowhere else then"
    )


def add_sample_arguments(group: Any, what: str = "") -> None:
    """``--sample`` and ``--input``, one of which says what a chip sees, for :func:`sample_voltages`."""
    group.add_argument("--sample", type=natural, metavar="K", help=f"{what}test sample K, from 0, as inputs")
    group.add_argument(
        "--input", type=voltages, metavar="VOLTS",
        help=f"{what}input voltages, one for all or one for each, such as 300mV or -0.3,0.1",
    )  # fmt: skip


def sample_voltages(arguments: Any, chip: Chip) -> Array | None:
    """What the inputs of ``chip`` are driven with (n_in,) [V]; None if neither option is given. Raises
    ValueError for a sample or a number of voltages that there is not, DataError.
    """
    import numpy as np

    wanted = chip.circuit.inputs
    if arguments.input is not None:
        if len(arguments.input) not in (1, wanted):
            raise ValueError(
                f"--input has {len(arguments.input)} voltages; give {wanted}, one for each input, "
                "or one for all"
            )
        return np.broadcast_to(np.asarray(arguments.input, chip.dtype), wanted)
    if arguments.sample is None:
        return None
    from .data import load
    from .training import input_voltages

    images = load(chip.circuit.design.task.data, arguments.data_dir).test_x
    if arguments.sample >= len(images):
        raise ValueError(
            f"--sample {arguments.sample}: the test set has {len(images)} samples; "
            f"give 0 to {len(images) - 1}"
        )
    return input_voltages(chip, images[arguments.sample])


def beyond_rails(inputs: Array | None, chip: Chip) -> list[str]:
    """Warning of input voltages (n_in,) [V] beyond the rails, or the full scale of a resistive chip."""
    import numpy as np

    from ..circuits.resistive import inputs_at_full
    from ..circuits.units import format_quantity

    if inputs is None:
        return []
    full = inputs_at_full(chip)
    low = 0.0 if chip.circuit.resistive else chip.neuron.low
    off = (inputs < min(low, 0.0) - TOUCHING * full) | (inputs > full * (1 + TOUCHING))
    if not np.any(off):
        return []
    worst = inputs[np.argmax(np.where(off, np.abs(inputs), 0))]
    what, where, there = (format_quantity(float(f"{v:.6g}"), "V") for v in (worst, min(low, 0.0), full))
    limits = "the full scale of its inputs" if chip.circuit.resistive else "the chip's rails"
    return [
        f"--input: {np.count_nonzero(off)} of {len(inputs)} inputs, the farthest at {what}, are beyond "
        f"{where} to {there}, {limits}",
        "the chip was not made for them; write a unit if one is missing, as in --input 300mV",
    ]


def note_fewer(asked: int, there: int, console: Console) -> None:
    """Note that the test set has fewer samples than were asked for."""
    if asked > there:
        console.note(f"--samples {asked}: the test set has {there}, which are all taken")


def named_run(arguments: Any) -> Run | None:
    """The run that ``DESIGN`` names by its suffix, to learn on as ``--set`` asks; None if it names a design.
    Raises ArchiveError for a file that is none, ValueError for options that would make another chip.
    """
    if Path(arguments.design).suffix.lower() not in HDF5:
        return None
    changes = changes_of(arguments)
    hardware = [f"--set {key}" for key in changes if not _learned_by(key)]
    hardware += [] if arguments.chip is None else ["--chip"]
    if hardware:
        raise ValueError(
            f"{hardware[0]}: makes another chip; a RUN.h5 holds the one that was trained. Only how it learns "
            f"can be set: [homeostat], and [learning] but {', '.join(BEGINNING)}. For another corner: "
            "ohmostat corners; for all else: train its design anew ('ohmostat report' shows it)"
        )
    from ..circuits.archive import read_run

    run = read_run(arguments.design)
    if not changes:
        return run
    return replace(run, chip=run.chip.to_learn(run.chip.circuit.design.replace(changes)))


def _learned_by(key: str) -> bool:
    """Whether a key of a design is of how a chip learns, and of nothing that it is."""
    section, _, leaf = key.partition(".")
    return section == "homeostat" or (section == "learning" and leaf not in BEGINNING)


def trained(run: Run, data_dir: str | None) -> Trainer:
    """:func:`trainer_of` with the readout that the chip was trained with. Raises ValueError without one."""
    if run.readout is None:
        raise ValueError("the run holds no readout, and so no cost; give one that 'ohmostat train' wrote")
    return trainer_of(run, data_dir)


def trainer_of(run: Run, data_dir: str | None) -> Trainer:
    """The chip of a run, with the data of its task. Raises DataError."""
    from .data import load_task
    from .training import Trainer

    return Trainer.from_run(run, load_task(run.chip.circuit.design.task, data_dir))
