"""A chip elsewhere: corners of process, supply and temperature (physics, section 7: Operating conditions)."""

from __future__ import annotations

from .chip import Chip, DeviceArray
from .circuit import Circuit
from .specs import CornerSpec


def at(chip: Chip, corner: CornerSpec) -> Chip:
    """A copy of ``chip``, its deviations and conductances as they are, operated at ``corner``.

    The copy's design has that corner; where it is the chip's own, the two are equal bit for bit. Chips that
    are fabricated in a design with a corner are operated there from the start.
    """
    design = chip.circuit.design.replace("corner", corner)
    neurons = {name: getattr(chip.blocks, name) for name in ("gain", "offset", "capacitance")}
    neurons["gain"] = neurons["gain"] * (corner.operated(design.neuron).gain / chip.neuron.gain)
    devices = {
        name: DeviceArray(*(field.copy() for field in vars(array).values()))
        for name, array in chip.devices.items()
    }
    drivers = {name: gains.copy() for name, gains in chip.drivers.items()}
    return Chip(Circuit(design), chip.mismatch, chip.seed, devices, neurons, drivers, chip.periphery)
