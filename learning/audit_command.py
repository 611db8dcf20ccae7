"""The body of ``ohmostat audit DESIGN_OR_RUN``: what the gradient that a chip measures owes its error to.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import Bar, check_writable

if TYPE_CHECKING:
    from ..circuits.design import Design
    from ..circuits.wiring import Wiring
    from .audit import Subject
    from .estimators import Stencil
    from .training import Trainer


ABOUT = "take apart the error of the gradient that a chip measures, by array and cause"
EXAMPLE = "ohmostat audit fashion-6k --set mismatch.conductance=0.5 --epochs 1 --plot audit.png"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, beside those of a design, for :func:`run`."""
    parser.add_argument("--chip", type=int, metavar="SEED", help="the chip's seed (default: task.seed)")
    parser.add_argument(
        "--epochs", type=int, default=0, metavar="N",
        help="first train it for N of the design's epochs (default 0: as it starts)",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=200, metavar="N", help="test samples (default 200)")
    parser.add_argument(
        "--wires", type=_ohms, metavar="OHM[,OHM]",
        help="resistance of each cell's segment of row and column wire (default: the design's)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="AUDIT.h5", help="write tables and vectors to HDF5")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the shares of the error")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON, at full precision")


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


def run(arguments: Any, read_design: Callable[[Any], Design], bar: Bar) -> None:
    """Audit a design's chip, or the one of a run, and show what was found; ``read_design`` makes the former
    from the arguments, ``bar`` shows progress. Raises ValueError for what cannot be audited or written,
    before any work.
    """
    from threadpoolctl import threadpool_limits

    for path in (arguments.out, arguments.plot):
        if path is not None:
            check_writable(path)
    if arguments.samples < 1:
        raise ValueError(f"--samples {arguments.samples}: give at least 1 sample")
    with threadpool_limits(1, user_api="blas"):
        trainer = _trainer(arguments, read_design, bar)
        _audit(arguments, trainer, bar)


def _audit(arguments: Any, trainer: Trainer, bar: Bar) -> None:
    from .audit import audit, combinations, spot_check
    from .audit_report import plain, table, write
    from .figures import audit_figure

    audited = subject(trainer, arguments.samples, arguments.wires)
    with bar(len(combinations(audited.present)), "gradient", arguments.quiet) as shown:
        found = audit(audited, shown.update)
    checked = spot_check(audited, found)
    design, title = trainer.design, _title(arguments, trainer, audited)
    if arguments.json:
        print(json.dumps({"title": title, **plain(found, checked)}, indent=1))
    else:
        print(f"{title}\n\n{table(found, checked)}")
    if arguments.out:
        write(arguments.out, found, checked, title, design.to_toml(), trainer.chip.seed)
    if arguments.plot:
        audit_figure(found, arguments.plot, title)
    for path in (arguments.out, arguments.plot):
        if path and not arguments.json:
            print(f"wrote {path}")


def _trainer(arguments: Any, read_design: Callable[[Any], Design], bar: Bar) -> Trainer:
    """The chip with its readout and data: trained as asked for, or as the run left it."""
    from .data import load_task
    from .training import Trainer

    if Path(arguments.design).suffix in (".h5", ".hdf5"):
        return _trained(arguments)
    design = read_design(arguments)
    if not 0 <= arguments.epochs <= design.learning.epochs:
        raise ValueError(
            f"--epochs {arguments.epochs}: allowed: 0 to {design.learning.epochs}, the design's "
            "learning.epochs; raise that with --set"
        )
    data = load_task(design.task, arguments.data_dir)
    trainer = Trainer.from_design(design, data, arguments.chip)
    _stencil(design)  # refused before training, not after it
    if arguments.epochs:
        with bar(arguments.epochs * trainer.steps_per_epoch, "step", arguments.quiet) as shown:
            trainer.fit(arguments.epochs, lambda epoch: shown.update() if epoch is None else None)
    return trainer


def _trained(arguments: Any) -> Trainer:
    from ..circuits.archive import read_run
    from .data import load_task
    from .training import Trainer

    if arguments.changes or arguments.chip is not None or arguments.epochs:
        raise ValueError(
            "--set, --chip and --epochs make another chip; a RUN.h5 holds the one that was trained"
        )
    stored = read_run(arguments.design)
    if stored.readout is None:
        remedy = "give one that 'ohmostat train' wrote"
        raise ValueError(f"{arguments.design}: holds no readout, and so no cost to audit; {remedy}")
    return Trainer.from_run(stored, load_task(stored.chip.circuit.design.task, arguments.data_dir))


def subject(trainer: Trainer, samples: int, wires: tuple[float, float] | None = None) -> Subject:
    """A trainer's chip on its first test samples, with ``wires`` [Ohm a cell] (default: the design's).

    Raises DesignError where the design's estimator cannot be audited.
    """
    from ..circuits.wiring import Wiring
    from .audit import Subject

    wiring: Wiring | None = Wiring(*wires) if wires else None
    x, labels = (part[:samples] for part in (trainer.data.test_x, trainer.data.test_y))
    return Subject.of(trainer.chip, trainer.inputs(x), trainer.cost(labels), _stencil(trainer.design), wiring)


def _stencil(design: Design) -> Stencil:
    """The design's estimator, if it nudges chips that settle: only those can be taken apart."""
    from ..circuits.specs import refuse
    from .catalogue import make_estimator
    from .estimators import Stencil

    estimator = make_estimator(design)
    if not isinstance(estimator, Stencil):
        fault = "the audit takes apart what settled states tell, and this settles none"
        refuse("learning.estimator", design.learning.estimator, f'{fault}; write "centered"')
    return estimator


def _title(arguments: Any, trainer: Trainer, subject: Subject) -> str:
    design, name = trainer.design, subject.estimator.name
    run = Path(arguments.design).suffix in (".h5", ".hdf5")
    state = f"trained by {design.learning.rule}" if run else f"epoch {arguments.epochs}"
    wired = subject.wiring
    wires = f", wires {wired.row:g} and {wired.column:g} ohm a cell" if wired else ""
    return (
        f"{design.name}, chip {trainer.chip.seed}, {state}: EP by {name} at beta {design.learning.beta:g}, "
        f"{len(subject.inputs)} samples{wires}"
    )
