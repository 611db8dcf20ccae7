"""Accuracy and first-layer alignment against the starting angle α, with and without homeostasis.

The published network (Laborieux and Zenke, ICLR 2024) as a `twin` chip without mismatch: 784-256-256-10 and a
10→10 digital readout, σ(u) = 1/(1+e^(2-4u)), whole Fashion-MNIST, batch 50, Adam at 1e-4, 10 epochs, limits
that are never hit. Feedback weights start as cos α Wᵀ + sin α W', α = 0 to 90°, W' with standard deviation
1/√fan-in of its own, as in the authors' program, or (`--spread forward`) with that of W. EP's response is the
exact one (β → 0): what is compared is asymmetry, not the nudge. Both EP and the adjoint run without and with
the homeostat, and EP with one that moves the feedback alone: 256 probes a batch, its gain found by itself.

Claim: at α = 90°, first-layer cosine of EP to the adjoint after 10 epochs below 0.5 without, above 0.95 with:
that of the response, sample by sample, as the authors' program reports it. The batch's gradient's is larger.

A sweep for every angle, α = 90° and 0 first, each of its runs staged under OUT; go on with the same command.
What is finished of the published network, at ten epochs on all images, goes into the record,
`records/against-angle.json`, of which the figure is drawn. (Its entries without a response are from before it
was kept, to the digits of the table in README.md.) `--report` prints and draws what is there.

    python benchmarks/against_angle.py OUT [--data-dir DIR] [--workers 2] [--report]
"""

from __future__ import annotations

import json
from pathlib import Path

import long_runs
import study

from ohmostat.circuits.design import Design
from ohmostat.learning.figures import STYLES
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.sweep_result import SweepResult, read_sweep, table

ANGLES = (90.0, 0.0, 45.0, 15.0, 30.0, 60.0, 75.0)  # in the order of what they tell
ARMS = ("none", "homeostat", "homeostat-feedback", "adjoint", "adjoint-homeostat")
FIGURE = Path(__file__).parent / "figures" / "against-angle.png"
RECORD = Path(__file__).parent / "records" / "against-angle.json"
QUANTITIES = {
    "accuracy": "test accuracy", "alignment/forward0": "first-layer cosine\nof EP to adjoint",
    "unsettled_test": "unsettled\ntest samples",
}  # fmt: skip
EPOCHS = 10
WITHOUT, WITH = 0.5, 0.95  # the claim's cosines at 90°


def design(epochs: int, train: int | None, spread: str = "fan-in") -> Design:
    """The published network as a chip; ``train``: images (None: all), ``spread``: what turns the feedback."""
    return Design.named("fashion").replace(
        {
            "name": "against angle", "neuron.low": 0.0, "neuron.high": 1.0, "device.g_min": 0.0,
            "device.g_max": 1e-2, "mismatch.conductance": 0.0, "homeostat.schedule": "auto",
            "learning.estimator": "exact", "learning.optimizer": "adam", "learning.rate": 1e-4,
            "learning.schedule": "constant", "learning.epochs": epochs, "learning.init_scale": 1.0,
            "learning.input_scale": 1.0, "learning.readout_scale": 1.0, "learning.feedback_spread": spread,
            "task.train": train,
        }
    )  # fmt: skip


def file(out: Path, angle: float) -> Path:
    """Where the sweep at one angle goes."""
    return out / f"angle{angle:g}.h5"


def finals(result: SweepResult) -> dict[str, dict[str, float]]:
    """What every arm came to, by angle and arm."""
    return {
        f"{dict(point)['learning.angle']:g} {arm}": {
            name: float(result.values[name][arm][row].mean()) for name in (*QUANTITIES, "response/layer0")
        }
        for row, point in enumerate(result.points)
        for arm in result.arms
    }


def claim(found: dict[str, dict[str, float]]) -> str:
    """One line: whether the claim holds."""
    cosines = [
        [found[f"90 {arm}"][name] for arm in ("none", "homeostat")]
        for name in ("response/layer0", "alignment/forward0")
    ]
    holds = cosines[0][0] < WITHOUT and cosines[0][1] > WITH
    told = "; ".join(
        f"the {what} {without:.3f} without, {with_:.3f} with"
        for what, (without, with_) in zip(("response's", "gradient's"), cosines, strict=True)
    )
    return (
        f"first-layer cosine at 90°: {told}. Claimed of the response's: below {WITHOUT} and above {WITH}: "
        + ("holds" if holds else "does NOT hold")
    )


def draw(record: dict[str, dict[str, float]], path: Path) -> None:
    """Every quantity against the angle, by arm."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(QUANTITIES), sharex=True, figsize=(7, 8))
    for axes, (name, label) in zip(panels, QUANTITIES.items(), strict=True):
        for arm in ARMS:
            x = [angle for angle in sorted(ANGLES) if f"{angle:g} {arm}" in record]
            y = [record[f"{angle:g} {arm}"][name] for angle in x]
            axes.plot(x, y, markersize=4, linewidth=1.4, **STYLES[arm])
        axes.set_ylabel(label)
        axes.grid(alpha=0.3, linewidth=0.5)
    panels[0].legend(fontsize=8)
    panels[0].set_title("one chip, ten epochs: no error bars", fontsize=9)
    panels[-1].set_xlabel("starting angle [degrees]")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(out: Path, figure: Path) -> None:
    """Print the finished angles, and draw the record, with those of the published chip in it."""
    found: dict[str, dict[str, float]] = {}
    for path in filter(Path.exists, (file(out, angle) for angle in ANGLES)):
        result = read_sweep(path)
        print(table(result))
        ended = finals(result)
        found |= ended
        if result.design == design(EPOCHS, None) and result.chips == 1:
            long_runs.keep(RECORD, ended)
    if not found:
        print("no angle is finished yet")
    if {"90 none", "90 homeostat"} <= found.keys():
        print(claim(found))
    if RECORD.exists():
        draw(json.loads(RECORD.read_text()), figure)


def main() -> None:
    parser = study.parser(__doc__, FIGURE)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--angles", type=float, nargs="+", default=ANGLES, help="default: all")
    parser.add_argument("--chips", type=int, default=1, help="of more than one, nothing is recorded")
    parser.add_argument("--train", type=int, help="images, for a trial (default: all)")
    parser.add_argument("--spread", choices=("fan-in", "forward"), default="fan-in")
    parser.add_argument("--gain", type=float, help="a constant one of the homeostat's (default: automatic)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        base = design(arguments.epochs, arguments.train, arguments.spread)
        if arguments.gain:
            base = base.replace({"homeostat.schedule": "constant", "homeostat.gain": arguments.gain})
        for angle in arguments.angles:
            sweep = Sweep.over(base, {"learning.angle": (angle,)}, arguments.chips, ARMS)
            run_sweep(
                sweep, file(arguments.out, angle), workers=arguments.workers, data_dir=arguments.data_dir,
                progress=lambda done, total, angle=angle: print(f"{angle:g}°: {done}/{total}", flush=True),
            )  # fmt: skip
    report(arguments.out, arguments.figure)


if __name__ == "__main__":
    main()
