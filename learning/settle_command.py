"""The body of ``ohmostat settle DESIGN_OR_RUN``: what it takes a chip to settle, and whether it stays there.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import design_of
from ..simulator.arguments import positive
from .chip_arguments import add_chip_arguments, named_run

if TYPE_CHECKING:
    from ..circuits.chip import Chip
    from ..simulator.console import Console, Values

ABOUT = "let a chip settle: time, energy, residual current, stability"
EXAMPLE = "ohmostat settle digits --set mismatch.conductance=0.5 --samples 20"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    add_chip_arguments(parser)
    parser.add_argument("--samples", type=positive, default=20, metavar="N", help="test samples (default 20)")


def run(arguments: Any, console: Console) -> Values:
    """Settle by the ODE and by relaxation, and compare."""
    from threadpoolctl import threadpool_limits

    from ..circuits.resistive import inputs_at_full
    from ..circuits.settling import Settling
    from .data import load

    chip = _chip(arguments)
    images = load(chip.circuit.design.task.data, arguments.data_dir).test_x[: arguments.samples]
    inputs = images * inputs_at_full(chip)
    with threadpool_limits(1, user_api="blas"):
        found = Settling.of(chip, chip.relax(inputs, method="transient"), chip.relax(inputs))
    console.show(found.words())
    return vars(found)


def _chip(arguments: Any) -> Chip:
    from ..circuits.circuit import Circuit
    from .training import initialise_from

    stored = named_run(arguments)
    if stored is not None:
        return stored.chip
    design = design_of(arguments)
    chip = Circuit(design).fabricate(seed=design.task.seed if arguments.chip is None else arguments.chip)
    initialise_from(chip)
    return chip
