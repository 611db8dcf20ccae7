"""Whether what a training ends with can be believed: warnings, where too many samples took no part in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .sweep_result import SweepResult

MANY = 0.1
"""Share of samples above which a training is warned of: no accuracy means much then."""

MEANING = {  # a share of an Epoch's: of which samples, what became of them, and what that means
    "left_out": ("training samples", "were left out of the updates, because a phase did not settle, was not "
        "stable, or jumped: the chip learned from the others alone"),
    "unsettled_test": ("test samples", "did not settle and were judged as they stood: the accuracy is not "
        "what the circuit would show"),
    "unstable": ("certified samples", "settled where the circuit would not stay"),
}  # fmt: skip
REMEDY = (
    "make learning.rate, neuron.gain, learning.init_scale or learning.beta smaller, or, where it is "
    "off, turn on the homeostat (homeostat.mode): docs/physics.md, section 2"
)


def of_run(last: Mapping[str, float]) -> list[str]:
    """Warnings from a training's last epoch, its quantities by name; the remedy comes last."""
    found = [
        f"in the last epoch {last[name]:.1%} of {samples} {fate}"
        for name, (samples, fate) in MEANING.items()
        if last.get(name, 0.0) > MANY
    ]
    return [*found, REMEDY] if found else []


def of_sweep(result: SweepResult) -> list[str]:
    """The same from the last epochs of all runs of a sweep."""
    found = []
    for name, (samples, fate) in MEANING.items():
        cells = result.values.get(name, {})
        runs = sum(values.size for values in cells.values())
        bad = {arm: int((values > MANY).sum()) for arm, values in cells.items()}
        if count := sum(bad.values()):
            arms = ", ".join(arm for arm, number in bad.items() if number)
            worst = max(float(np.nanmax(values)) for values in cells.values())
            share = f"more than {MANY:.0%} of {samples} (up to {worst:.1%})"
            found.append(f"in the last epoch of {count} of {runs} runs (arms: {arms}) {share} {fate}")
    return [*found, REMEDY] if found else []
