"""Accuracy and first-layer alignment against the starting angle α, with and without homeostasis.

The published network (Laborieux and Zenke, ICLR 2024) as a `twin` chip without mismatch: 784-256-256-10 and a
10→10 digital readout, σ(u) = 1/(1+e^(2-4u)), whole Fashion-MNIST, batch 50, Adam at 1e-4, 10 epochs, limits
that are never hit. Feedback weights start as cos α Wᵀ + sin α W', α = 0 to 90°, W' with standard deviation
1/√fan-in of its own, as in the authors' program, or (`--spread forward`) with that of W. EP's response is the
exact one (β → 0): what is compared is asymmetry, not the nudge. Both EP and the adjoint run without and with
the homeostat: 256 probes a batch, its gain found by itself.

Claim: at α = 90°, first-layer cosine of EP to the adjoint after 10 epochs below 0.5 without, above 0.95 with:
that of the response, sample by sample, as the authors' program reports it. The batch's gradient's is larger.

A sweep for every angle, α = 90° and 0 first, each of four runs staged under OUT; go on with the same command.
`--report` prints and draws what is there.

    python benchmarks/against_angle.py OUT [--data-dir DIR] [--workers 2] [--report]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import study

from ohmostat.circuits.design import Design
from ohmostat.learning.figures import sweep_figure
from ohmostat.learning.sweep import Sweep, run_sweep
from ohmostat.learning.sweep_result import SweepResult, read_sweep, table

ANGLES = (90.0, 0.0, 45.0, 15.0, 30.0, 60.0, 75.0)  # in the order of what they tell
ARMS = ("none", "homeostat", "adjoint", "adjoint-homeostat")
FIGURE = Path(__file__).parent / "figures" / "against-angle.png"
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


def gathered(out: Path) -> SweepResult | None:
    """All finished angles as one sweep, in their own order."""
    done = [angle for angle in sorted(ANGLES) if file(out, angle).exists()]
    if not done:
        return None
    parts = [read_sweep(file(out, angle)) for angle in done]
    values = {
        name: {arm: np.concatenate([part.values[name][arm] for part in parts]) for arm in arms}
        for name, arms in parts[0].values.items()
    }
    return replace(parts[0], points=tuple(part.points[0] for part in parts), values=values)


def claim(result: SweepResult) -> str:
    """One line: whether the claim holds."""
    cosines = {
        what: {arm: cells[-1].mean() for arm, cells in result.values[name].items()}
        for what, name in (("response's", "response/layer0"), ("gradient's", "alignment/forward0"))
    }
    response = cosines["response's"]
    holds = response["none"] < WITHOUT and response["homeostat"] > WITH
    epochs = result.design.learning.epochs
    found = "; ".join(
        f"the {what} {c['none']:.3f} without, {c['homeostat']:.3f} with" for what, c in cosines.items()
    )
    return (
        f"first-layer cosine at {result.points[-1][0][1]:g}° after {epochs} epochs: {found}. Claimed of the "
        f"response's at 90°: below {WITHOUT} and above {WITH}: " + ("holds" if holds else "does NOT hold")
    )


def report(out: Path, figure: Path) -> None:
    """Print and draw the finished angles."""
    result = gathered(out)
    if result is None:
        print("no angle is finished yet")
        return
    print(table(result))
    print(claim(result))
    if len(result.points) > 1:
        sweep_figure(result, figure)


def main() -> None:
    parser = study.parser(__doc__, FIGURE)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--angles", type=float, nargs="+", default=ANGLES, help="default: all")
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
            sweep = Sweep.over(base, {"learning.angle": (angle,)}, 1, ARMS)
            run_sweep(
                sweep, file(arguments.out, angle), workers=arguments.workers, data_dir=arguments.data_dir,
                progress=lambda done, total, angle=angle: print(f"{angle:g}°: {done}/{total}", flush=True),
            )  # fmt: skip
    report(arguments.out, arguments.figure)


if __name__ == "__main__":
    main()
