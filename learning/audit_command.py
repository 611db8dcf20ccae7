"""The body of ``ohmostat audit DESIGN_OR_RUN``: what the gradient that a chip measures owes its error to.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import design_of
from ..simulator.arguments import HDF5, check_outputs, hdf5_file, natural, picture, positive
from .chip_arguments import add_chip_arguments, named_run, note_fewer, trained

if TYPE_CHECKING:
    from ..circuits.archive import Run
    from ..circuits.design import Design
    from ..circuits.wiring import Wiring
    from ..simulator.console import Console, Values
    from .audit import Subject
    from .estimators import Stencil
    from .training import Trainer


ABOUT = "take apart the error of the gradient that a chip measures, by array and cause"
EXAMPLE = "ohmostat audit fashion-6k --set mismatch.conductance=0.5 --epochs 1 --plot audit.png"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    add_chip_arguments(parser)
    parser.add_argument(
        "--epochs", type=natural, default=0, metavar="N",
        help="first train it for N of the design's epochs (default 0: as it starts)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=positive, default=200, metavar="N", help="test samples (default 200)"
    )
    parser.add_argument(
        "--wires", type=_ohms, metavar="OHM[,OHM]",
        help="resistance of each cell's segment of row and column wire (default: the design's)",
    )  # fmt: skip
    parser.add_argument("--out", type=hdf5_file, metavar="AUDIT.h5", help="write tables and vectors to HDF5")
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw the shares of the error")


def _ohms(text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        row, column = (float(part) for part in (parts * 2 if len(parts) == 1 else parts))
    except ValueError:
        row = column = -1.0
    if not (0 <= row < math.inf and 0 <= column < math.inf):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give one resistance in ohms, or two with a comma, each at least 0, such as 1.5,3"
        )
    return row, column


def run(arguments: Any, console: Console) -> Values:
    """Audit a design's chip, or the one of a run, and show what was found. Raises ValueError for what cannot
    be audited or written, before any work.
    """
    from threadpoolctl import threadpool_limits

    from .audit_report import SCHEMA

    stored = named_run(arguments)
    there = check_outputs(arguments.out, arguments.plot, keep=[arguments.design], schema=SCHEMA)
    with threadpool_limits(1, user_api="blas"):
        trainer = _fabricated(arguments, console) if stored is None else _as_stored(arguments, stored)
        return _audit(arguments, trainer, console, there)


def _audit(arguments: Any, trainer: Trainer, console: Console, there: Sequence[Path]) -> Values:
    from .audit import audit, combinations, spot_check
    from .audit_report import plain, table, write
    from .figures import audit_figure

    note_fewer(arguments.samples, len(trainer.data.test_y), console)
    audited = subject(trainer, arguments.samples, arguments.wires)
    console.replaces(there)
    with console.bar(len(combinations(audited.present)), "gradient") as shown:
        found = audit(audited, shown.update)
    checked = spot_check(audited, found)
    design, title = trainer.design, _title(arguments, trainer, audited)
    console.show(f"{title}\n\n{table(found, checked)}")
    if arguments.out:
        write(arguments.out, found, checked, title, design.to_toml(), trainer.chip.seed)
    if arguments.plot:
        audit_figure(found, arguments.plot, title)
    console.wrote(arguments.out, arguments.plot)
    return {"title": title, **plain(found, checked)}


def _as_stored(arguments: Any, stored: Run) -> Trainer:
    """The chip of a run, as that left it."""
    if arguments.epochs:
        raise ValueError("--epochs makes another chip; a RUN.h5 holds the one that was trained")
    return trained(stored, arguments.data_dir)


def _fabricated(arguments: Any, console: Console) -> Trainer:
    """The chip of a design, trained as asked for."""
    from ..circuits.doubts import doubts
    from .data import load_task
    from .training import Trainer

    design = design_of(arguments, console)
    console.warn(doubts(design))
    if arguments.epochs > design.learning.epochs:
        raise ValueError(
            f"--epochs {arguments.epochs}: allowed: 0 to {design.learning.epochs}, the design's "
            "learning.epochs; raise that with --set"
        )
    data = load_task(design.task, arguments.data_dir)
    trainer = Trainer.from_design(design, data, arguments.chip)
    _stencil(design)  # refused before training, not after it
    if arguments.epochs:
        with console.bar(arguments.epochs * trainer.steps_per_epoch, "step") as shown:
            trainer.fit(arguments.epochs, lambda epoch: shown.update() if epoch is None else None)
    return trainer


def subject(trainer: Trainer, samples: int, wires: tuple[float, float] | None = None) -> Subject:
    """A trainer's chip on its first test samples, with ``wires`` [Ohm a cell] (default: the design's).

    Raises DesignError where the design's estimator, or its twin networks, cannot be audited.
    """
    from ..circuits.sections import refuse
    from ..circuits.wiring import Wiring
    from .audit import Subject

    if trainer.chip.circuit.copies > 1:
        fault = (
            "the audit takes the gradient of one network apart, and twins learn from the difference of two"
        )
        refuse("resistive.copies", "twin", f'{fault}; see "measured" in the run\'s history')
    wiring: Wiring | None = Wiring(*wires) if wires else None
    x, labels = (part[:samples] for part in (trainer.data.test_x, trainer.data.test_y))
    return Subject.of(trainer.chip, trainer.inputs(x), trainer.cost(labels), _stencil(trainer.design), wiring)


def _stencil(design: Design) -> Stencil:
    """The design's estimator, if it nudges chips that settle: only those can be taken apart."""
    from ..circuits.sections import refuse
    from .catalogue import make_estimator
    from .estimators import Stencil

    estimator = make_estimator(design)
    if not isinstance(estimator, Stencil):
        fault = "the audit takes apart what settled states tell, and this settles none"
        refuse("learning.estimator", design.learning.estimator, f'{fault}; write "centered"')
    return estimator


def _title(arguments: Any, trainer: Trainer, subject: Subject) -> str:
    design, name = trainer.design, subject.estimator.name
    run = Path(arguments.design).suffix.lower() in HDF5
    state = f"trained by {design.learning.rule}" if run else f"epoch {arguments.epochs}"
    wired = subject.wiring
    wires = f", wires {wired.row:g} and {wired.column:g} ohm a cell" if wired else ""
    return (
        f"{design.name}, chip {trainer.chip.seed}, {state}: EP by {name} at beta {design.learning.beta:g}, "
        f"{len(subject.inputs)} samples{wires}"
    )
