"""The body of ``ohmostat sweep DESIGN``: many chips at many points, their table and figure.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..circuits.design_arguments import add_design_arguments, design_of, shares
from ..simulator.arguments import check_beside, check_outputs, hdf5_file, numbers, picture, positive
from .chip_arguments import add_data_argument

if TYPE_CHECKING:
    from ..circuits.design import Design
    from ..simulator.console import Console, Values
    from .points import Point
    from .sweep import Sweep

T = TypeVar("T")
ABOUT = "train many chips over levels of mismatch, or of any key, and compare the arms"
EXAMPLE = "ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5"
ARMS_OF = {  # "both": all that are compared by default
    "on": ("homeostat", "adjoint"),
    "off": ("none", "adjoint"),
}
POINTS = 32  # of a Latin hypercube, if it is not said


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    add_design_arguments(parser)
    add_data_argument(parser)
    parser.add_argument(
        "--mismatch", type=shares, metavar="LIST",
        help="levels of mismatch.conductance (default: the design's)",
    )  # fmt: skip
    parser.add_argument(
        "--angle", type=numbers, metavar="LIST", help="starting angles [degrees] (default: the design's)"
    )  # fmt: skip
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=LIST",
        help="levels of any key of the design, such as neuron.leak=5uS,10uS; again for more keys. With "
        "--method latin its range: mismatch.conductance=0..1, device.g_max=10uS..100uS:log",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("grid", "one-at-a-time", "latin"), default="grid",
        help="grid: every combination of levels; one-at-a-time: each key alone, from the design; "
        "latin: --points of a Latin hypercube over the ranges",
    )  # fmt: skip
    parser.add_argument("--points", type=positive, metavar="N", help=f"latin only (default {POINTS})")
    parser.add_argument(
        "--chips", type=positive, default=3, metavar="N", help="chips at each level (default 3)"
    )
    parser.add_argument(
        "--homeostat", choices=("both", "on", "off"), default="both",
        help="on: EP with it; off: EP without; both: these, weight decay in its place, and the adjoint (or "
        "what the design's family has hardware for, such as trims)",
    )  # fmt: skip
    parser.add_argument(
        "--arms", type=lambda text: tuple(text.split(",")), metavar="LIST",
        help="in its place: some of none, homeostat, homeostat-feedback, trim, decay, aep, coupled, "
        "kolen-pollack, product-feedback, adjoint, adjoint-homeostat, adjoint-trim",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://10.0.0.5:8786, whose workers take the runs: docs/cluster.md",
    )  # fmt: skip
    parser.add_argument("--keep-chips", action="store_true", help="store every trained chip as well")
    parser.add_argument(
        "--out", type=hdf5_file, default=Path("sweep.h5"), metavar="SWEEP.h5",
        help="default sweep.h5; the table goes beside it, as sweep.txt",
    )  # fmt: skip
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="default: beside --out")
    parser.add_argument(
        "--dry-run", action="store_true", help="run nothing: tell how many runs, how long, how much disk"
    )


def run(arguments: Any, console: Console) -> Values:
    """Run the sweep that was asked for (:func:`sweep_to_files`), or tell what it would take."""
    from ..circuits.doubts import doubts, idle_homeostat
    from .corners import idle_keys, warnings
    from .sweep import SCHEMA, RunKey, Sweep, compared, staging_of

    design = design_of(arguments, console)
    arms = arguments.arms or ARMS_OF.get(arguments.homeostat, compared(design))
    sweep = Sweep(design, _points(design, arguments), arguments.chips, arms, arguments.keep_chips)
    out, plot = arguments.out, arguments.plot
    there = check_outputs(*files_of(out, plot), keep=[arguments.design], schema=SCHEMA)
    check_beside([path for path in there if path != plot], out, staging_of(out))
    designs = [sweep.run_design(RunKey(arm, point, 0)) for point in sweep.points for arm in arms]
    console.warn(doubts(*designs) + idle_homeostat(*designs) + warnings(idle_keys(designs)))
    if arguments.dry_run:
        from .sweep_estimate import Estimate

        found = Estimate.of(sweep, arguments.workers, arguments.data_dir, arguments.out)
        console.show(found.words())
        return vars(found)
    return sweep_to_files(
        sweep, out, console, plot=plot, workers=arguments.workers,
        scheduler=arguments.scheduler, data_dir=arguments.data_dir, there=there,
    )  # fmt: skip


def _points(design: Design, arguments: Any) -> tuple[Point, ...]:
    """The points that ``--mismatch``, ``--angle`` and ``--vary`` ask for."""
    from . import points

    shorthand = {"mismatch.conductance": arguments.mismatch, "learning.angle": arguments.angle}
    levels = {key: values for key, values in shorthand.items() if values}
    if arguments.method == "latin":
        if levels or not arguments.vary:
            raise ValueError("--method latin takes ranges, such as --vary mismatch.conductance=0..1")
        spans = _once([points.parse_span(text) for text in arguments.vary])
        return points.latin_hypercube(spans, arguments.points or POINTS, design.task.seed)
    if arguments.points is not None:
        raise ValueError("--points is of --method latin, which draws so many; else --vary tells them all")
    made = _once([*levels.items(), *map(points.parse_levels, arguments.vary)])
    return points.one_at_a_time(design, made) if arguments.method == "one-at-a-time" else points.grid(made)


def _once(pairs: Sequence[tuple[str, T]]) -> dict[str, T]:
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]} is given twice: give all its values at once")
    return dict(pairs)


def files_of(out: Path, plot: Path | None = None) -> tuple[Path, Path, Path]:
    """The files that a sweep leaves: its result, table and figure."""
    return out, out.with_suffix(".txt"), plot or out.with_suffix(".png")


def sweep_to_files(
    sweep: Sweep, out: Path, console: Console, *, plot: Path | None = None, workers: int | None = None,
    scheduler: str | None = None, data_dir: str | None = None, there: Sequence[Path] = (),
) -> Values:  # fmt: skip
    """Run a sweep and leave its file, table and figure, in place of the files ``there``."""
    _, table_file, figure = files_of(out, plot)
    from . import soundness
    from .figures import sweep_figure
    from .sweep import run_sweep, staging_of
    from .sweep_result import plain, read_sweep, table

    kept = f"the runs that are done are kept in {staging_of(out)}: the same command goes on from there"
    console.kept = kept
    with console.bar(len(sweep.runs()), "run", lines=True) as bar:

        def progress(done: int, total: int) -> None:
            nonlocal there
            console.replaces(there)  # with the first call: the sweep is not refused
            there = ()
            bar.update(done - bar.n)

        run_sweep(
            sweep, out, workers=workers, scheduler=scheduler, data_dir=data_dir, progress=progress
        )  # fmt: skip
    result = read_sweep(out)
    text = table(result)
    console.show(text)
    table_file.write_text(text + "\n", encoding="utf-8")
    console.wrote(out, table_file)
    sweep_figure(result, figure)
    console.wrote(figure)
    console.warn(soundness.of_sweep(result))
    return plain(result)
