"""A chip on a page: its arrays as heat maps of few bits, and how its nodes settle."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..circuits.chip import Chip
from ..circuits.device_array import differential
from ..circuits.families import BIAS, INPUT
from ..circuits.settling import Waves
from .figures import STYLES
from .report_charts import Chart, Panel, Series, style

LEVELS = 254  # steps of a map's scale: codes 1 to 255, and 0 for what has no value on it
SIDE = 256  # cells along a map at most
CELLS = 2_000_000  # of all maps together, about
SHOWN = len(STYLES)  # nodes of a layer whose waveforms are drawn
QUANTITIES = (
    ("weight g+ - g-", "S"), ("conductance g+", "S"), ("conductance g-", "S"),
    ("deviation of g+", ""), ("deviation of g-", ""),
)  # fmt: skip


def arrays(chip: Chip) -> dict[str, Any]:
    """Every array's weights, conductances and drawn deviations, as the page's script takes them.

    Conductances are those at the nominal corner [S], deviations drawn factors on a logarithmic scale. Single
    devices have no g-; of twin networks those of the first are shown.
    """
    names = _layers(chip)
    side = min(SIDE, math.isqrt(CELLS // (len(QUANTITIES) * len(chip.devices))))
    return {
        "about": f"the arrays of chip {chip.seed}",
        "quantities": [{"name": name, "unit": unit} for name, unit in QUANTITIES],
        "layers": [names[k] for k in range(INPUT, len(chip.circuit.sizes))],
        "arrays": sorted(
            (_array(chip, name, side, names) for name in chip.devices),
            key=lambda array: (array["stage"], array["name"].startswith("bias")),
        ),
    }


def _layers(chip: Chip) -> dict[int, str]:
    """What every layer is called, the driven ones included; hidden ones by number where there are several."""
    *hidden, outputs = chip.circuit.design.sizes[1:]
    which = [f" of layer {k}" if len(hidden) > 1 else "" for k in range(len(hidden))]
    last = len(chip.circuit.sizes) - 1
    names = {
        INPUT: f"{chip.circuit.inputs} inputs", BIAS: "the bias port, at the upper rail",
        **{k: f"{n} hidden neurons{which[k]}" for k, n in enumerate(hidden)},
        last: f"{outputs} outputs",
    }  # fmt: skip
    for _, listening, _ in chip.circuit.relay_paths:
        names[listening.post] = f"{chip.circuit.sizes[listening.post]} relays of the {names[listening.pre]}"
    return names


def _array(chip: Chip, name: str, side: int, names: Mapping[int, str]) -> dict[str, Any]:
    devices, wires = chip.devices[name], chip.circuit.design.wires
    banks = [bank for bank in chip.circuit.banks if bank.array == name]
    post, pre = banks[0].post, banks[0].pre
    rows, columns = devices.actual.shape[1:]
    actual, deviation = _pair(chip, devices.actual), _pair(chip, devices.deviation)
    weight = differential(chip.own(devices.actual))
    planes = (weight, *actual, *deviation)
    return {
        "name": name, "rows": rows, "columns": columns, "stage": max(post, pre) + 1,
        "rowsAre": names[post], "columnsAre": names[pre],
        "tile": wires.tile if wires.resistive else 0,
        "maps": [
            quantised(plane, side, logarithmic=quantity.startswith("deviation"))
            for plane, (quantity, _) in zip(planes, QUANTITIES, strict=True)
        ],
    }  # fmt: skip


def _pair(chip: Chip, planes: NDArray[Any]) -> NDArray[Any]:
    """(2, rows, columns) of a differential pair; where devices are single, there is no g-."""
    own = chip.own(planes)
    return own if len(own) > 1 else np.stack([own[0], np.full_like(own[0], np.nan)])


def quantised(plane: NDArray[Any], side: int, logarithmic: bool = False) -> dict[str, Any]:
    """``plane`` (rows, columns) as means over blocks of devices, so that neither side has more than ``side``
    of them, in ``LEVELS`` even steps from the lowest to the highest (``logarithmic``: of the logarithm).
    Where there are both signs, the scale is as long either way, so that its middle is 0.

    A code k from 1 on stands for ``low + (k - 1)/LEVELS (high - low)``; 0 for what is not above 0 on a
    logarithmic scale, such as a device stuck open.
    """
    block = [math.ceil(n / side) for n in plane.shape]
    means = _block_means(plane.astype(np.float64), block)
    there = means > 0 if logarithmic else np.isfinite(means)
    scaled = np.log(np.where(there, means, 1)) if logarithmic else means
    low, high = (float(end) for end in (scaled[there].min(), scaled[there].max())) if there.any() else (0, 0)
    if low < 0 < high and not logarithmic:
        low, high = -max(-low, high), max(-low, high)
    codes = np.where(there, 1 + np.rint(LEVELS * (scaled - low) / ((high - low) or 1.0)), 0)
    ends = np.exp([low, high]) if logarithmic else (low, high)
    return {
        "codes": base64.b64encode(codes.astype(np.uint8).tobytes()).decode(),
        "shape": list(means.shape), "block": block, "low": float(ends[0]), "high": float(ends[1]),
        "log": logarithmic, "none": int(np.sum(~there)),
    }  # fmt: skip


def _block_means(plane: NDArray[np.float64], block: list[int]) -> NDArray[np.float64]:
    """Means over blocks of rows and columns; those at the far edges may be smaller."""
    for axis, size in enumerate(block):
        count = plane.shape[axis]
        first = np.arange(0, count, size)
        shape = (-1, 1) if axis == 0 else (1, -1)
        plane = np.add.reduceat(plane, first, axis) / np.diff([*first, count]).reshape(shape)
    return plane


def waveforms(chip: Chip, waves: Waves) -> Chart:
    """Node voltages of a few samples as they settle, by layer."""
    *inner, _ = chip.circuit.layer_names
    layers = [name.words.removeprefix("neurons of ") for name in inner]
    layers.append("outputs")
    count = waves.voltages.shape[1]
    panels = [
        Panel((_sample(waves, sample), name), "time [s]", "node voltage [V]", _nodes(chip, waves, k, sample))
        for sample in range(count)
        for k, name in reversed(list(enumerate(layers)))
    ]
    return Chart(f"free phase of {count} test samples, from 0 V", ("sample", "layer"), panels)


def left_out(chip: Chip) -> str:
    """Which nodes the charts of waveforms do not show, and why; nothing if they show all."""
    large = [n for n in chip.circuit.sizes if n > SHOWN]
    if not large:
        return ""
    return (
        f"Of a layer of more than {SHOWN} nodes (here {', '.join(map(str, large))}), {SHOWN} are drawn, "
        "evenly spaced from the first to the last: more lines could not be told apart. The legend has their "
        "numbers."
    )


def _sample(waves: Waves, sample: int) -> str:
    return f"test sample {sample}" + ("" if waves.settled[sample] else ", which did not settle")


def _nodes(chip: Chip, waves: Waves, layer: int, sample: int) -> list[Series]:
    """Some nodes of a layer, evenly chosen."""
    voltages = chip.blocks.layer(waves.voltages[:, sample], layer)
    last, count = voltages.shape[1] - 1, min(voltages.shape[1], SHOWN)
    return [
        Series(f"neuron {node}", waves.time, voltages[:, node], style=style(place))
        for place, node in enumerate(np.linspace(0, last, count).round().astype(int))
    ]
