"""The body of ``ohmostat sweep DESIGN``: many chips at many points, their table and figure.

Modules that take time to import are imported by :func:`run`, so that asking for help stays instant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..simulator.arguments import Bar, check_writable, numbers, positive

if TYPE_CHECKING:
    from ..circuits.design import Design
    from .points import Point
    from .sweep import Sweep

T = TypeVar("T")
ABOUT = "train many chips over levels of mismatch, or of any key, and compare the arms"
EXAMPLE = "ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5"
ARMS_OF = {  # "both": all that are compared by default
    "on": ("homeostat", "adjoint"),
    "off": ("none", "adjoint"),
}


def add_arguments(parser: Any) -> None:
    """Arguments of the command, beside those of a design, for :func:`run`."""
    parser.add_argument(
        "--mismatch", type=numbers, metavar="LIST",
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
    parser.add_argument("--points", type=positive, default=32, metavar="N", help="latin only (default 32)")
    parser.add_argument(
        "--chips", type=positive, default=3, metavar="N", help="chips at each level (default 3)"
    )
    parser.add_argument(
        "--homeostat", choices=("both", "on", "off"), default="both",
        help="on: EP with it; off: EP without; both: these, weight decay in its place, and the adjoint",
    )  # fmt: skip
    parser.add_argument(
        "--arms", type=lambda text: tuple(text.split(",")), metavar="LIST",
        help="in its place: some of none, homeostat, trim, decay, aep, coupled, kolen-pollack, adjoint, "
        "adjoint-homeostat",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://10.0.0.5:8786, whose workers take the runs: docs/cluster.md",
    )  # fmt: skip
    parser.add_argument("--keep-chips", action="store_true", help="store every trained chip as well")
    parser.add_argument("--out", type=Path, default=Path("sweep.h5"), metavar="SWEEP.h5")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="default: beside --out")


def run(arguments: Any, design_of: Callable[[Any], Design], bar: Bar) -> None:
    """Run the sweep that was asked for; see :func:`sweep_to_files`."""
    from .sweep import Sweep, compared

    design = design_of(arguments)
    arms = arguments.arms or ARMS_OF.get(arguments.homeostat, compared(design))
    sweep = Sweep(design, _points(design, arguments), arguments.chips, arms, arguments.keep_chips)
    sweep_to_files(sweep, arguments.out, arguments, bar)


def _points(design: Design, arguments: Any) -> tuple[Point, ...]:
    """The points that ``--mismatch``, ``--angle`` and ``--vary`` ask for."""
    from . import points

    shorthand = {"mismatch.conductance": arguments.mismatch, "learning.angle": arguments.angle}
    levels = {key: values for key, values in shorthand.items() if values}
    if arguments.method == "latin":
        if levels or not arguments.vary:
            raise ValueError("--method latin takes ranges, such as --vary mismatch.conductance=0..1")
        spans = _once([points.parse_span(text) for text in arguments.vary])
        return points.latin_hypercube(spans, arguments.points, design.task.seed)
    made = _once([*levels.items(), *map(points.parse_levels, arguments.vary)])
    return points.one_at_a_time(design, made) if arguments.method == "one-at-a-time" else points.grid(made)


def _once(pairs: Sequence[tuple[str, T]]) -> dict[str, T]:
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]} is given twice: give all its values at once")
    return dict(pairs)


def _sweep_files(out: Path, plot: Path | None) -> tuple[Path, Path]:
    """Where a sweep's table and figure go, once all three files are known to be writable, and not one."""
    text, plot = out.with_suffix(".txt"), plot or out.with_suffix(".png")
    if len({check_writable(path).resolve() for path in (out, text, plot)}) < 3:
        raise ValueError(
            f"result {out}, table {text} and figure {plot} must be three files; "
            "end --out in .h5, and --plot in .png, say"
        )
    return text, plot


def sweep_to_files(sweep: Sweep, out: Path, arguments: Any, bar: Bar) -> None:
    """Run a sweep and leave its file, table and figure."""
    table_file, plot = _sweep_files(out, getattr(arguments, "plot", None))
    from .figures import sweep_figure
    from .sweep import run_sweep
    from .sweep_result import read_sweep, table

    with bar(len(sweep.runs()), "run", arguments.quiet) as shown:

        def progress(done: int, total: int) -> None:
            shown.update(done - shown.n)

        run_sweep(
            sweep, out, workers=arguments.workers, scheduler=getattr(arguments, "scheduler", None),
            data_dir=arguments.data_dir, progress=progress,
        )  # fmt: skip
    result = read_sweep(out)
    text = table(result)
    print(text)
    table_file.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {out} and {table_file}")
    sweep_figure(result, plot)
    print(f"wrote {plot}")
