"""The body of ``ohmostat settle DESIGN_OR_RUN``: what it takes a chip to settle, and whether it stays there.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import design_of
from ..simulator.arguments import positive
from .chip_arguments import (
    add_chip_arguments,
    add_sample_arguments,
    beyond_rails,
    named_run,
    note_fewer,
    sample_voltages,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..circuits.chip import Chip
    from ..circuits.equilibrium import Equilibrium
    from ..simulator.blocks import Array
    from ..simulator.console import Console, Values

ABOUT = "let a chip settle: time, energy, residual current, stability"
TIGHT = 1e-12  # tolerance of one sample's voltages, of full swing
LONGEST = 600  # that ngspice may take [s]
EXAMPLE = "ohmostat settle digits --set mismatch.conductance=0.5 --samples 20"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    add_chip_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--samples", type=positive, default=20, metavar="N", help="test samples (default 20)")
    add_sample_arguments(which, "voltages by node, named as in export's netlist: ")
    parser.add_argument(
        "--against", choices=["ngspice"],
        help="of one sample: have ngspice solve that netlist too, and print where it differs most",
    )  # fmt: skip


def run(arguments: Any, console: Console) -> Values:
    """Settle by the ODE and by relaxation, and compare."""
    from threadpoolctl import threadpool_limits

    from ..circuits.settling import Settling
    from .data import load
    from .training import input_voltages

    stored = named_run(arguments)
    chip = _fabricated(arguments, console) if stored is None else stored.chip
    one = sample_voltages(arguments, chip)
    if one is not None:
        console.warn(beyond_rails(one, chip))
        readout = None if stored is None else stored.readout
        return _one(arguments, chip, one, readout, console)
    if arguments.against is not None:
        raise ValueError("--against ngspice compares one sample; say which, with --sample K or --input VOLTS")
    images = load(chip.circuit.design.task.data, arguments.data_dir).test_x
    note_fewer(arguments.samples, len(images), console)
    inputs = input_voltages(chip, images[: arguments.samples])
    with threadpool_limits(1, user_api="blas"):
        found = Settling.of(chip, chip.relax(inputs, method="transient"), chip.relax(inputs))
    console.show(found.words())
    return vars(found)


def _one(
    arguments: Any, chip: Chip, inputs: Array, readout: tuple[Array, Array] | None, console: Console
) -> Values:
    """Settle on one sample, in double precision and tightly, as SPICE would, and show every node but the
    inputs' own, and the class that a trained chip tells by them; then what ngspice finds, if asked.
    """
    from ..circuits.flatten import voltages_by_node

    chip = chip.copy(chip.circuit.design.replace("learning.dtype", "float64"))
    state = chip.relax(inputs[None], tolerance=TIGHT)
    assert state.residual is not None and state.stable is not None
    settled, stable, residual = bool(state.settled[0]), bool(state.stable[0]), float(state.residual[0])
    found = voltages_by_node(chip, inputs, state)
    console.show(
        f"{chip.circuit.design.name}, chip {chip.seed}: {'settled' if settled else 'NOT settled'}, "
        f"{'stable' if stable else 'NOT stable'}, residual {residual:.2g} A"
    )
    console.show(_table(chip, found))
    values: dict[str, Any] = {
        "settled": settled, "stable": stable, "residual": residual, "voltages": found,
    }  # fmt: skip
    if readout is not None:
        values |= _told(arguments, chip, readout, state, console)
    if arguments.against:
        values["ngspice"] = _beside_ngspice(chip, inputs, found, console)
    return values


def _table(chip: Chip, found: Mapping[str, float]) -> str:
    """A line a node; inputs, as given, and what drivers make of them are hundreds, and left out."""
    from ..circuits.flatten import of_inputs, output_names

    given, width = of_inputs(chip), max(map(len, found))
    marks = {name: f"  output {i}" for i, name in enumerate(output_names(chip))}
    rows = [
        f"  {name.ljust(width)}  {volts + 0.0:.6e}{marks.get(name, '')}"  # the sum turns -0 into 0
        for name, volts in found.items()
        if name not in given
    ]
    left = f"  ({len(given & found.keys())} nodes of the inputs are left out: --json has them)"
    return "\n".join([f"  {'node'.ljust(width)}  voltage [V]", *rows, left])


def _told(
    arguments: Any, chip: Chip, readout: tuple[Array, Array], state: Equilibrium, console: Console
) -> Values:
    """The class that the outputs tell, and the label of a test sample (None where inputs are given)."""
    from .data import load
    from .training import Readout, predicted

    found, label = int(predicted(chip, Readout.of(chip, readout), state)[0]), None
    if arguments.sample is not None:
        labels = load(chip.circuit.design.task.data, arguments.data_dir).test_y
        label = int(labels[arguments.sample])
    console.show(f"outputs: class {found}" + ("" if label is None else f" (label {label})"))
    return {"class": found, "label": label}


def _beside_ngspice(chip: Chip, inputs: Array, found: Mapping[str, float], console: Console) -> Values | None:
    """The largest difference of ngspice's voltages from ``found``, and its node; None where ngspice fails."""
    from ..circuits.flatten import flatten
    from ..simulator.ngspice import SpiceError, run_ngspice
    from ..simulator.spice import write_spice

    text = write_spice(flatten(chip, inputs))
    try:
        answer = run_ngspice(text, timeout=LONGEST)
    except SpiceError as error:
        console.lost("not compared with ngspice", error)
        return None
    node = max(found, key=lambda name: abs(found[name] - answer[name]))
    difference, theirs = abs(found[node] - answer[node]), answer[node]
    console.show(
        f"ngspice, {len(found)} nodes of the same netlist: differs by {difference:.1e} V at most, at {node} "
        f"({theirs + 0.0:.6e} V)"
    )
    return {"nodes": len(found), "difference": difference, "node": node, "voltage": theirs}


def _fabricated(arguments: Any, console: Console) -> Chip:
    """The chip of a design, with its starting weights."""
    from ..circuits.circuit import Circuit
    from ..circuits.doubts import doubts
    from .training import initialise_from

    design = design_of(arguments, console)
    console.warn(doubts(design))
    chip = Circuit(design).fabricate(seed=design.task.seed if arguments.chip is None else arguments.chip)
    initialise_from(chip)
    return chip
