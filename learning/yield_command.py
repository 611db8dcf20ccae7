"""The body of ``ohmostat yield SWEEP.h5``: which chips meet a specification, how far a level may go for a
yield, and which of the varied keys matter.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from ..circuits.design_arguments import share
from ..simulator.arguments import check_outputs, picture, positive
from ..simulator.console import DONE, FAILED, UNDETERMINED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..simulator.console import Console, Values
    from .importance import Effect, Importance
    from .sweep_result import SweepResult
    from .yields import Requirement, YieldCurve

ABOUT = "tell a sweep's yield at a specification, the levels that keep it, and what matters most"
EXAMPLE = 'ohmostat yield sweep.h5 --require "accuracy >= 0.75" --require "inference_energy <= 20nJ"'
MOST_ROWS = 41  # of the table on a terminal, with its head: a hypercube's points say little one by one
CHECKED = 0.9  # a yield that can be certified directly with few chips


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument("sweep_file", metavar="SWEEP.h5", type=Path)
    parser.add_argument(
        "--require", action="append", required=True, metavar='"QUANTITY >= LIMIT"',
        help="what a chip must meet, such as accuracy >= 0.9 or inference_energy <= 1nJ (repeatable)",
    )  # fmt: skip
    parser.add_argument("--target", type=share, default=0.95, metavar="YIELD", help="default: 0.95")
    parser.add_argument(
        "--against", metavar="KEY", help="the varied key whose largest level is sought (default: each)"
    )
    parser.add_argument("--arms", metavar="LIST", help="default: all that the sweep has")
    parser.add_argument(
        "--degree", type=positive, metavar="N",
        help="of the polynomial that tells what matters, with all its terms (default: 2 or 3, and of its "
        "terms those that predict best)",
    )  # fmt: skip
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw yields and what matters")


class Finding(NamedTuple):
    """Of one arm: curves by key and place, and what the first required quantity owes to the varied keys."""

    arm: str
    passes: NDArray[np.bool_]
    curves: list[tuple[str, str, list[int], YieldCurve]]
    importance: Importance | None
    effects: list[Effect]
    remark: str

    def met(self, target: float) -> list[bool | None]:
        """Whether the chips of each point show a yield of ``target`` or refute it; None: neither."""
        from .yields import shows

        return [shows(int(row.sum()), row.size, target) for row in self.passes]


def run(arguments: Any, console: Console) -> Values:
    """Show what was found, arm by arm, and draw it where asked; status 0 only if the chips of a point show
    the target, 1 if those of every point refute it, 3 if that stays open. Raises ValueError or SweepError for
    a file, quantity, key or arm that is not there.
    """
    from .quantities import UNITS
    from .sweep_result import aligned, read_sweep
    from .yields import Requirement

    there = check_outputs(arguments.plot, keep=[arguments.sweep_file])
    target: float = arguments.target
    required = [Requirement.parse(text, UNITS) for text in arguments.require]
    result = read_sweep(arguments.sweep_file)
    if arguments.against is not None:
        result.numbers(arguments.against)
    arms = arguments.arms.split(",") if arguments.arms else list(result.arms)
    if strange := [arm for arm in arms if arm not in result.arms]:
        raise ValueError(f"--arms {strange[0]}: the sweep has {', '.join(result.arms)}")
    found = [examine(result, arm, required, arguments.against, arguments.degree) for arm in arms]
    asked = " and ".join(map(str, required))
    first = "\n".join([f"chips that pass {asked}:", *aligned(passed(result, found)[:MOST_ROWS])])
    console.show("\n\n".join([first, *("\n".join(lines(result, one, required, target)) for one in found)]))
    if arguments.plot is not None:
        console.replaces(there)
        figure(result, found, required, target, arguments.plot)
        console.wrote(arguments.plot)
    met = any_met([verdict for one in found for verdict in one.met(target)])
    console.status = {True: DONE, False: FAILED, None: UNDETERMINED}[met]
    arms_found = {one.arm: plain(result, one, target) for one in found}
    return {"required": list(map(str, required)), "target": target, "met": met, "arms": arms_found}


def any_met(found: Sequence[bool | None]) -> bool | None:
    """Whether any of these is True, or else all are False; None where it is open."""
    return True if True in found else None if None in found else False


def examine(
    result: SweepResult, arm: str, required: Sequence[Requirement], against: str | None = None,
    degree: int | None = None,
) -> Finding:  # fmt: skip
    """All that a sweep tells of one arm: curves ``against`` a key, or every one, and what matters, from a
    polynomial of that ``degree``.
    """
    from .importance import effects, importance
    from .yields import YieldCurve, meets

    quantities = {name: cells[arm] for name, cells in result.values.items() if arm in cells}
    passes = meets(quantities, required)
    keys = [against] if against else result.numeric
    curves = [
        (key, place, rows, YieldCurve.fit(result.numbers(key)[rows], passes[rows]))
        for key in keys
        for place, rows in result.lines(key).items()
        if len(set(result.numbers(key)[rows])) > 1
    ]
    found: Importance | None = None
    changed: list[Effect] = []
    remark, names = "", result.numeric
    if len(names) > 1 and names == list(result.varied):
        import numpy as np

        points = np.stack([result.numbers(key) for key in names], axis=1)
        quantity, values = required[0].quantity, quantities[required[0].quantity]
        try:
            if all(len(np.flatnonzero(point != points[0])) <= 1 for point in points):
                changed = effects(points, values, names) if result.chips > 1 else []
            else:
                found = importance(points, values, names, degree=degree)
                if found.doubt:
                    raise ValueError(found.doubt)
        except ValueError as error:  # too few points, say: the yields are told all the same
            found = None
            remark = f"what matters to {quantity} is not told: {error}"
    return Finding(arm, passes, curves, found, changed, remark)


def passed(result: SweepResult, found: Sequence[Finding]) -> list[list[str]]:
    """A table: a row for every point, under a head; its varied keys, and what passed under each arm."""
    from .points import shown

    rows = [[*result.varied, *(one.arm for one in found)]]
    for row, point in enumerate(result.points):
        place = [shown(key, dict(point)[key]) for key in result.varied]
        rows.append([*place, *(f"{one.passes[row].sum()} of {result.chips}" for one in found)])
    return rows


def lines(
    result: SweepResult, found: Finding, required: Sequence[Requirement], target: float
) -> Iterator[str]:
    """For a terminal."""
    from .yields import chips_to_certify, proportion, shown, summary

    quantity = required[0].quantity
    yield f"arm {found.arm}: {' and '.join(map(str, required))}"
    yield f"  all points together: {proportion(int(found.passes.sum()), found.passes.size).words('runs')}"
    met = found.met(target)
    yield (
        f"  {100 * target:g} % yield: shown at {met.count(True)} of {len(met)} points, refuted at "
        f"{met.count(False)}, open at {met.count(None)}, with 95 % confidence at each"
    )
    for key, place, _, curve in found.curves:
        indent = "    " if place else "  "
        if place:
            yield f"  at {place}:"
        yield from (f"{indent}{line}" for line in summary(key, curve, target))
        if (limit := curve.largest(target)).determined:
            count, level = chips_to_certify(CHECKED), f"{key} = {shown(key, limit.x, 2)}"
            yield (
                f"{indent}To check the limit without the curve, test {count} other chips at {level}: if all "
                f"pass, {100 * CHECKED:g} % is certified."
            )
    yield from (f"  {effect.words(quantity)}" for effect in found.effects)
    if found.importance is not None:
        yield from (f"  {line}" for line in found.importance.lines(quantity))
    if found.remark:
        yield f"  {found.remark}"


def plain(result: SweepResult, found: Finding, target: float) -> Values:
    """For a program; infinite limits, which lie beyond the levels swept, become null (see ``inside``)."""
    limits = []
    for key, place, _, curve in found.curves:
        limit = curve.largest(target)
        words = {"key": key, "place": place, "inside": limit.inside, "reached": limit.reached,
                 "determined": limit.determined}  # fmt: skip
        limits.append(words | {name.rstrip("_"): value for name, value in vars(limit).items()})
    return {
        "points": [dict(point) for point in result.points],
        "passed": found.passes.sum(axis=1),
        "chips": result.chips,
        "met": found.met(target),
        "limits": limits,
        "importance": None if found.importance is None else vars(found.importance),
        "effects": [vars(effect) for effect in found.effects],
        "remark": found.remark,
    }


def _why_nothing(result: SweepResult, found: Sequence[Finding]) -> str:
    """Why there is neither a curve nor a share of the variance."""
    if not result.numeric:
        return "the sweep varies no numeric key over two levels or more"
    keys, remark = ", ".join(result.varied), next((f"; {one.remark}" for one in found if one.remark), "")
    return f"no two points of the sweep, which varies {keys}, differ in one numeric key alone{remark}"


def figure(
    result: SweepResult, found: Sequence[Finding], required: Sequence[Requirement], target: float, path: Path
) -> None:
    """A row for every arm: its curves, and what its quantity owes to the keys."""
    from matplotlib.figure import Figure

    from ..circuits.files import atomic_write
    from .figures import STYLES
    from .yield_figures import effects_panel, importance_panel, yield_panel

    panels = max(len(f.curves) + bool(f.importance or f.effects or (f.curves and f.remark)) for f in found)
    if not panels:
        raise ValueError(f"there is nothing to draw: {_why_nothing(result, found)}")
    page = Figure(figsize=(5.0 * panels, 4.0 * len(found) + 0.4), layout="constrained")
    page.suptitle(" and ".join(map(str, required)), fontsize=10)
    for part, finding in zip(page.subfigures(len(found), 1, squeeze=False)[:, 0], found, strict=True):
        part.suptitle(STYLES[finding.arm]["label"], fontsize=10)
        left = list(part.subplots(1, panels, squeeze=False)[0])
        for key, place, rows, curve in finding.curves:
            axes = left.pop(0)
            levels = result.numbers(key)[rows]
            yield_panel(axes, levels, finding.passes[rows], curve, target, key)
            if place:
                axes.set_title(place, fontsize=8, y=1.22)
        if finding.importance is not None:
            importance_panel(left.pop(0), finding.importance)
        elif finding.effects:
            effects_panel(left.pop(0), finding.effects, f"change of {required[0].quantity}")
        for axes, words in zip_longest(left, [finding.remark] if left else []):
            axes.set_axis_off()
            axes.text(0.5, 0.5, fill(words or "", 40), ha="center", va="center", fontsize=8)
    with atomic_write(path) as temporary:
        page.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=150)
