"""Whether what a training ends with can be believed: warnings, where too many samples took no part in it, or
where nothing was learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..circuits.data_shapes import DATA
from ..circuits.doubts import suspects

if TYPE_CHECKING:
    from ..circuits.design import Design
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


NOTHING = (
    "look at the lines of the epochs: a loss that stands still is of a chip whose inputs do not reach its "
    "outputs (neuron.leak, neuron.offset, chip.columns), or that is hardly moved (learning.rate, too few "
    "epochs or samples); one that grows is of too large a learning.rate"
)


def of_run(last: Mapping[str, float], design: Design, tested: int) -> list[str]:
    """Warnings from a training's last epoch, its quantities by name, after a test with so many samples; what
    to do comes last.
    """
    lost = [
        f"in the last epoch {last[name]:.1%} of {samples} {fate}"
        for name, (samples, fate) in MEANING.items()
        if last.get(name, 0.0) > MANY
    ]
    guessed = guesses(last, design, tested)
    if not lost + guessed:
        return []
    return [*lost, *guessed, *suspects(design), *([NOTHING] if guessed else []), *([REMEDY] if lost else [])]


def guesses(last: Mapping[str, float], design: Design, tested: int) -> list[str]:
    """What of a last epoch is no better than guessing: the accuracy, within three standard deviations of its
    count; after more than one epoch, the mean of a loss that is known for a guess, ``ln(classes)``.
    """
    classes, found = DATA[design.task.data].classes, []
    chance = 1 / classes
    noise = 3 * math.sqrt(chance * (1 - chance) / tested)
    if last.get("accuracy", 1.0) <= chance + noise:
        found.append(
            f"the test accuracy, {last['accuracy']:.4f}, is no better than guessing among {classes} classes "
            f"({chance:g}, and up to {chance + noise:.4f} by luck): the chip may have learned nothing"
        )
    entropy = design.learning.cost == "cross-entropy"
    if entropy and last.get("epoch", 0) > 1 and last.get("loss", 0.0) >= math.log(classes):
        found.append(f"the loss, {last['loss']:.4f}, is no lower than a guess's, ln({classes})")
    return found


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
    return [*found, *suspects(result.design), REMEDY] if found else []
