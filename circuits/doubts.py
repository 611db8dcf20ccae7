"""What of a design is allowed, and yet hardly meant: warnings before the work."""

from __future__ import annotations

import math

from .circuit import Circuit
from .design import Design
from .specs import KEYS
from .units import format_quantity
from .unused import unused

FAINT, USUAL, COARSE = 0.2, 2.0, 20.0
"""Largest weight of a device, ``(g_max - g_min) / leak``, times the neurons' gain: by default 2. In four
epochs the digits came to 0.78 by it, to 0.75 at 0.18, and 0.38 at 0.05; by pulses, each a share of the range,
to 0.70 at 20, and 0.36 at 200.
"""


HEAVY = 4.0
"""Largest load of a passive column at rest, in leaks. In four epochs the digits came to 0.81 at 0.03, to 0.73
at 2.6, 0.59 at 5, 0.34 at 10 and 0.13 at 26.
"""


def doubts(*designs: Design) -> list[str]:
    """Warnings of a design, or of those of a sweep: keys that change nothing, a leak far from the devices, or
    small beside what they load passive columns with.
    """
    return unused(*designs) + next((found for one in designs if (found := far_leak(one) or loaded(one))), [])


def suspects(design: Design) -> list[str]:
    """What may be why a chip did not learn: of devices that others learned with, too. Weights twice as large
    as usual are coarse where pulses vary, or shrink towards the limits.
    """
    if design.chip.family != "resistive" and _largest(design) > 2 * USUAL:
        return _leak_told(design)
    return far_leak(design) or loaded(design)


def idle_homeostat(*designs: Design) -> list[str]:
    """A warning of training where no device has one that faces it, to be brought together with, or (decay) to
    shrink beside.
    """
    for design in designs:
        mode, circuit, family = design.homeostat.mode, Circuit(design), design.chip.family
        idle = f"homeostat.mode = {KEYS['homeostat.mode'].display(mode)} changes nothing"
        pairs = {"probe": circuit.feedback_pairs, "decay": circuit.facing}
        if not pairs.get(mode, True):
            return [
                f"{idle}: no two layers of a {family} chip are coupled both ways, so that there are no pairs "
                "to bring together",
                'write homeostat.mode = "off": docs/homeostat.md, Loops',
            ]
        if mode == "probe" and all(backward.transposed for _, backward in circuit.feedback_pairs):
            return [
                f"{idle}: the arrays of a {family} chip are each read both ways, so that there are no two "
                "devices to bring together",
                'write homeostat.mode = "trim": docs/homeostat.md, Trims',
            ]
    return []


def far_leak(design: Design) -> list[str]:
    """A warning where devices and leak are so far apart that all weights are faint, or coarse (if they go in
    steps), as where a preset sets the devices and leaves the leak (docs/devices.md).

    A resistive network has no leak, and what loads passive columns makes up for a small one.
    """
    written = design.programming
    stepped = written.mode != "ideal" or written.levels > 0
    most = COARSE if stepped and design.chip.columns == "virtual-ground" else math.inf
    if design.chip.family == "resistive" or FAINT <= _largest(design) <= most:
        return []
    return _leak_told(design)


def loaded(design: Design) -> list[str]:
    """A warning where the devices of a passive column, at rest, load it with so many leaks that no weight
    counts for much (docs/devices.md). A resistive network has no leak.
    """
    if design.chip.family == "resistive" or design.chip.columns != "passive":
        return []
    inputs = max(layout.fan_in for layout in Circuit(design).layouts.values())
    g_min, leak = design.device.g_min, design.neuron.leak
    load = 2 * inputs * g_min
    if load <= HEAVY * leak:
        return []
    total = format_quantity(float(f"{load:.3g}"), "S")
    return [
        f'chip.columns = "passive" lets {inputs} inputs x 2 x {_told("device.g_min", g_min)} load a node '
        f"with {total}, {load / leak:.0f} times {_told('neuron.leak', leak)}: weights are as much smaller",
        'write chip.columns = "virtual-ground", or take a smaller device.g_min or fewer inputs: '
        "docs/devices.md",
    ]


def _largest(design: Design) -> float:
    """Weight of a device at g_max, times the neurons' gain."""
    return (design.device.g_max - design.device.g_min) / design.neuron.leak * design.neuron.gain


def _told(key: str, value: float) -> str:
    return f"{key} = {KEYS[key].display(float(f'{value:.3g}'))}"


def _leak_told(design: Design) -> list[str]:
    device, neuron, largest = design.device, design.neuron, _largest(design)
    name = f' of device.preset = "{device.preset}"' if device.preset != "none" else ""
    ends = " and ".join(_told(f"device.{end}", getattr(device, end)) for end in ("g_min", "g_max"))
    leak, capacitance = (value * largest / USUAL for value in (neuron.leak, neuron.capacitance))
    return [
        f"{_told('neuron.leak', neuron.leak)} is far from {ends}{name}: the largest weight, times "
        f"neuron.gain, is {largest:.2g}, and {USUAL:g} by default",
        f"write {_told('neuron.leak', leak)}, and {_told('neuron.capacitance', capacitance)} to keep the "
        "pace: docs/devices.md",
    ]
