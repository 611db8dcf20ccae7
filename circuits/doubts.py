"""What of a design is allowed, and yet hardly meant: warnings before the work."""

from __future__ import annotations

import math

from .design import Design
from .specs import KEYS
from .unused import unused

FAINT, USUAL, COARSE = 0.2, 2.0, 20.0
"""Largest weight of a device, ``(g_max - g_min) / leak``, times the neurons' gain: by default 2. In four
epochs the digits came to 0.78 by it, to 0.75 at 0.18, and 0.38 at 0.05; by pulses, each a share of the range,
to 0.70 at 20, and 0.36 at 200.
"""


def doubts(*designs: Design) -> list[str]:
    """Warnings of a design, or of those of a sweep: keys that change nothing, a leak far from the devices."""
    return unused(*designs) + next((found for design in designs if (found := far_leak(design))), [])


def far_leak(design: Design) -> list[str]:
    """A warning where devices and leak are so far apart that all weights are faint, or coarse (if they go in
    steps), as where a preset sets the devices and leaves the leak (docs/devices.md).

    A resistive network has no leak, and what loads passive columns makes up for a small one.
    """
    device, neuron, written = design.device, design.neuron, design.programming
    stepped = written.mode != "ideal" or written.levels > 0
    most = COARSE if stepped and design.chip.columns == "virtual-ground" else math.inf
    largest = (device.g_max - device.g_min) / neuron.leak * neuron.gain
    if design.chip.family == "resistive" or FAINT <= largest <= most:
        return []

    def told(key: str, value: float) -> str:
        return f"{key} = {KEYS[key].display(float(f'{value:.3g}'))}"

    name = f' of device.preset = "{device.preset}"' if device.preset != "none" else ""
    ends = " and ".join(told(f"device.{end}", getattr(device, end)) for end in ("g_min", "g_max"))
    leak, capacitance = (value * largest / USUAL for value in (neuron.leak, neuron.capacitance))
    return [
        f"{told('neuron.leak', neuron.leak)} is far from {ends}{name}: the largest weight, times "
        f"neuron.gain, is {largest:.2g}, and {USUAL:g} by default",
        f"write {told('neuron.leak', leak)}, and {told('neuron.capacitance', capacitance)} to keep the pace: "
        "docs/devices.md",
    ]
