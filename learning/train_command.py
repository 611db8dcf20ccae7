"""The body of ``ohmostat train DESIGN_OR_RUN``: one chip, trained; a long training survives its interruption.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import design_of
from ..simulator.arguments import check_outputs, hdf5_file, picture, positive
from .chip_arguments import add_chip_arguments, named_run, trainer_of

if TYPE_CHECKING:
    from ..simulator.console import Console, Values
    from .training import Epoch, Trainer

ABOUT = "fabricate one chip of a design and train it"
EXAMPLE = "ohmostat train fashion-6k --set mismatch.conductance=0.5 --chip 1 --out run.h5"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    add_chip_arguments(parser, "the RUN.h5 of a chip that goes on learning")
    parser.add_argument("--epochs", type=positive, metavar="N", help="short for --set learning.epochs=N")
    parser.add_argument(
        "--out", type=hdf5_file, default=Path("run.h5"), metavar="RUN.h5",
        help="default run.h5; what stands there is replaced at the end, and said so",
    )  # fmt: skip
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="also draw the history")


def run(arguments: Any, console: Console) -> Values:
    """Train as asked; see :func:`train_to_file`."""
    from ..circuits.archive import SCHEMA
    from ..circuits.doubts import doubts, idle_homeostat
    from .data import load_task
    from .training import Trainer

    there = check_outputs(arguments.out, arguments.plot, keep=[arguments.design], schema=SCHEMA)
    stored = named_run(arguments)
    if stored is not None:
        trainer = trainer_of(stored, arguments.data_dir)
    else:
        design = design_of(arguments, console)
        if arguments.epochs is not None:
            design = design.replace("learning.epochs", arguments.epochs)
        console.warn(doubts(design))
        data = load_task(design.task, arguments.data_dir)
        trainer = Trainer.from_design(design, data, arguments.chip)
    console.warn(idle_homeostat(trainer.design))
    return train_to_file(trainer, arguments.out, console, arguments.epochs, arguments.plot, there)


def train_to_file(
    trainer: Trainer, out: Path, console: Console, epochs: int | None = None, plot: Path | None = None,
    there: Sequence[Path] = (),
) -> Values:  # fmt: skip
    """Train a chip to ``epochs`` (default: the design's) and write its run, and its figure if asked for, in
    place of the files ``there``.
    """
    from ..circuits.archive import Run, write_run
    from . import soundness

    design, kept = trainer.design, out.with_name(out.name + ".checkpoint")
    _fit(trainer, design.learning.epochs if epochs is None else epochs, kept, console, there)
    attributes = {"rule": trainer.rule.name, "homeostat": design.homeostat.mode}
    readout = (trainer.readout.weight, trainer.readout.bias)
    write_run(out, Run(trainer.chip, readout, trainer.history_arrays(), attributes))
    kept.unlink(missing_ok=True)
    console.show(cost_line(trainer.history[-1]))
    console.wrote(out)
    if plot:
        from .figures import training_figure

        training_figure(trainer.history, plot, f"{design.name}, chip {trainer.chip.seed}")
        console.wrote(plot)
    console.warn(soundness.of_run(trainer.history[-1].scalars(), design, len(trainer.data.test_y)))
    return {"design": design.name, "chip": trainer.chip.seed, "history": trainer.history_arrays()}


def _fit(trainer: Trainer, epochs: int, kept: Path, console: Console, there: Sequence[Path]) -> None:
    """Train, and keep the training in a file after every epoch; go on from one that is there."""
    from . import checkpoint

    def keep() -> None:
        epoch = trainer.history[-1].epoch
        console.kept = f"training up to epoch {epoch} is kept in {kept}: the same command goes on from there"

    start = checkpoint.state_of(trainer)
    if checkpoint.resume(trainer, kept):
        console.note(f"goes on after epoch {trainer.history[-1].epoch}, from {kept}")
        keep()
    console.replaces(there)  # once nothing can be refused any more
    with console.bar(epochs * trainer.steps_per_epoch, "step") as bar:
        bar.update(trainer.steps)

        def progress(epoch: Epoch | None) -> None:
            if epoch is None:
                bar.update()
                return
            console.show(epoch_line(epoch))
            checkpoint.save(trainer, kept, start)
            keep()

        trainer.fit(epochs, progress)


def epoch_line(epoch: Epoch) -> str:
    """One epoch's record on one line."""
    from .quantities import known

    cosine = epoch.alignment.get("forward0", float("nan"))
    angle = epoch.angle.get("forward1", float("nan"))
    return (
        f"epoch {epoch.epoch:3d}  accuracy {epoch.accuracy:.4f}  loss {known(epoch.loss, '.4f')}  "
        f"alignment {known(cosine, '+.3f')}  angle {known(angle, '5.1f')} deg  "
        f"unsettled {epoch.unsettled:.1%} free, {epoch.unsettled_nudged:.1%} nudged, "
        f"{epoch.unsettled_test:.1%} test  left out {epoch.left_out:.1%}  "
        f"unstable {epoch.unstable:.1%}  {epoch.seconds:.1f} s"
    )


def cost_line(epoch: Epoch) -> str:
    """What the chip costs at last, on one line (docs/programming.md)."""
    from ..circuits.units import format_quantity

    costs = {"inference": (epoch.inference_time, epoch.inference_energy),
             "training step": (epoch.step_time, epoch.step_energy)}  # fmt: skip
    texts = []
    for what, amounts in costs.items():
        time, energy = (float(f"{amount:.3g}") for amount in amounts)
        spent = f"{format_quantity(time, 's')} and {format_quantity(energy, 'J')}"
        texts.append(f"no chip can take the {what}" if math.isnan(time) else f"{what} {spent}")
    return "; ".join([*texts, f"{epoch.pulses} pulses so far"])
