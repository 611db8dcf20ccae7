"""What contradicts something else in a design: sections that can be by themselves, but not beside others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .convolution import convolutions, sizes
from .data_shapes import DATA
from .sections import DesignFaults, refuse
from .units import Layers, show

if TYPE_CHECKING:
    from .design import Design


class _Unknown(Exception):
    """A check asks for a section that is not given."""


class _Parts:
    """Stands in for a design of which some sections are faulty, and so not given."""

    def __init__(self, sections: Mapping[str, Any]) -> None:
        self.sections = sections

    def __getattr__(self, name: str) -> Any:
        try:
            return self.sections[name]
        except KeyError:
            raise _Unknown from None


def contradictions(sections: Mapping[str, Any]) -> DesignFaults:
    """What contradicts something else in the sections of a design, by their names. What depends on a section
    that is left out, being faulty itself, is not looked at.
    """
    faults, design = DesignFaults(), _Parts(sections)
    for check in CHECKS:
        with faults, suppress(_Unknown):
            check(design)  # type: ignore[arg-type]
    return faults


def _task(design: Design) -> None:
    shape, layers = DATA[design.task.data], design.chip.layers
    data = f"task.data = {show(design.task.data)}"
    if layers[0] != shape.inputs:
        fault = f"its first layer has {layers[0]} inputs, but {data} has {shape.inputs}"
        refuse("chip.layers", layers, f"{fault}; start it with {shape.inputs}", "task.data")
    nodes = 2 if design.chip.family == "resistive" and design.resistive.outputs == "paired" else 1
    if design.learning.cost == "squared-error" and layers[-1] != nodes * shape.classes:
        outputs = "an output" if nodes == 1 else "a pair of outputs"
        fault = f"squared-error needs {outputs} for each of the {shape.classes} classes of {data}"
        remedy = 'or write learning.cost = "cross-entropy"'
        refuse("chip.layers", layers, f"{fault}; {remedy}", "learning.cost")
    for name in ("train", "test"):
        wanted, present = getattr(design.task, name), getattr(shape, name)
        if wanted is not None and present is not None and wanted > present:
            fault = f"{data} has {present} of them"
            remedy = 'ask for fewer, or write "all"'
            refuse(f"task.{name}", wanted, f"{fault}; {remedy}", "task.data")


def _convolutions(design: Design) -> None:
    layers = design.chip.layers
    if not convolutions(layers):
        return
    try:
        largest = max(sizes(layers, DATA[design.task.data].image))
    except ValueError as error:
        refuse("chip.layers", layers, error, "task.data")
    if largest > Layers.largest:
        fault = f"makes a layer of {largest} neurons, and {Layers.largest} are the most"
        refuse("chip.layers", layers, f"{fault}; take a longer stride, or fewer channels", "task.data")
    if design.chip.columns == "passive" and design.chip.sharing != "replicated":
        fault = "one crossbar for all positions cannot load the nodes of each"
        remedy = 'write chip.sharing = "replicated", or, for a crossbar, chip.columns = "virtual-ground"'
        refuse("chip.columns", "passive", f"{fault}; {remedy}", "chip.sharing")
    if design.chip.columns == "passive" and any(layer.pool > 1 for layer in convolutions(layers)):
        fault = "currents of several positions are averaged by amplifiers, which passive columns have not"
        refuse("chip.layers", layers, f"{fault}; leave pool out, and take a longer stride", "chip.columns")
    if design.wires.resistive:
        fault = "what a convolution's crossbars do along a resistive wire is not modelled"
        name = "wires.row" if design.wires.row else "wires.column"
        refuse(name, getattr(design.wires, name[6:]), f"{fault}; set it to 0", "chip.layers")


def _angle(design: Design) -> None:
    if design.chip.family != "twin" and design.learning.angle:
        fault = {
            "shared": "one shared crossbar has no angle between its two directions",
            "loop": "no weights of a loop face each other, at any angle",
            "relay": "no single crossbar leads back along another",
            "resistive": "a conductance is the same both ways",
        }[design.chip.family]
        remedy = 'set it to 0 or write chip.family = "twin"'
        refuse("learning.angle", design.learning.angle, f"{fault}; {remedy}")


def _passive_wires(design: Design) -> None:
    if design.wires.resistive and design.chip.columns == "passive":
        fault = "what passive columns do along a resistive wire is not modelled"
        remedy = 'write chip.columns = "virtual-ground", or 0'
        key = "wires.row" if design.wires.row else "wires.column"
        refuse(key, getattr(design.wires, key[6:]), f"{fault}; {remedy}", "chip.columns")


def _drivers(design: Design) -> None:
    if design.chip.family != "shared" and design.mismatch.driver_gain:
        fault = f"a {design.chip.family} chip has no shared read drivers"
        remedy = 'set it to 0 or write chip.family = "shared"'
        refuse("mismatch.driver_gain", design.mismatch.driver_gain, f"{fault}; {remedy}")


def _trim(design: Design) -> None:
    if design.homeostat.mode == "trim" and design.chip.family not in ("shared", "resistive"):
        fault = f'the {design.chip.family} family has no read drivers to trim; write "probe"'
        refuse("homeostat.mode", "trim", fault, "chip.family")


def _resistive(design: Design) -> None:
    """What its circuit has no place for."""
    if design.chip.family != "resistive":
        return
    chip, own, mode, learning = "chip.family", design.resistive, design.homeostat.mode, design.learning
    misfits = (
        (design.chip.columns != "passive", "chip.columns", chip,
         'conductances of a resistive network load both their nodes; write "passive"'),
        (mode not in ("off", "trim"), "homeostat.mode", chip,
         'a conductance that is the same both ways leaves nothing to restore; write "off", or "trim" for '
         "its amplifiers"),
        (design.converters.reading_bits > 0, "converters.reading_bits", chip,
         "its nodes go beyond the rails that readings are converted between; write 0"),
        (own.copies == "twin" and mode == "trim", "homeostat.mode", "resistive.copies",
         'each of the two has its own amplifiers, and one alone is probed; write "off"'),
        (own.outputs == "paired" and learning.cost != "squared-error", "resistive.outputs",
         "learning.cost",
         'a readout takes all nodes as they are; write learning.cost = "squared-error", or outputs = '
         '"single"'),
        (own.copies == "twin" and learning.rule != "contrastive", "resistive.copies", "learning.rule",
         'what two networks differ by is no response; compare their powers: write learning.rule = '
         '"contrastive"'),
    )  # fmt: skip
    faults = DesignFaults()
    for wrong, name, beside, fault in misfits:
        with faults:
            if wrong:
                refuse(name, attrgetter(name)(design), fault, beside)
    faults.tell()


def _preset(design: Design) -> None:
    """What is outside of what was measured of its device."""
    if design.device.preset != "none":
        from .presets import check_measured

        check_measured(design.device.preset, lambda key: attrgetter(key)(design))


CHECKS = (_task, _convolutions, _angle, _passive_wires, _drivers, _trim, _resistive, _preset)
