"""What the homeostat wins back: EP without it, with it, with weight decay in its place, and the adjoint.

Fashion-MNIST, whole, `twin` 784-256-256-10 at conductance mismatch σ = 0.5, 4 epochs, 5 chips. All arms share
data order, steps, starting weights and the same grid of learning rates: each arm takes the rate at which it
does best in two epochs on a chip that is not one of the five, judged on the last 10,000 training images.
Nothing else is tuned, with one exception, in favour of a control: decay also takes the best of four strengths
(at the middle rate), as none can be said to match the homeostat, whose steps vanish. In the search a fifth
arm, the adjoint with the homeostat, tells what tying the weights costs from what EP's bias costs. Resumable:
staged in OUT, go on with the same command.

    python benchmarks/homeostat_on_fashion.py OUT [--data-dir DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from ohmostat.circuits.design import Design
from ohmostat.learning.data import load
from ohmostat.learning.dataset import Dataset
from ohmostat.learning.sweep import ARMS, COMPARED, Sweep, run_sweep
from ohmostat.learning.sweep_result import read_sweep
from ohmostat.learning.training import Trainer

RATES = (0.008, 0.016, 0.032, 0.064)
DECAYS = (1e-2, 1e-3, 1e-4, 1e-5)  # shares of the weights that a step takes, for the decay arm
SEARCH_CHIP, SEARCH_EPOCHS, CHIPS, EPOCHS, SIGMA, HELD_OUT = 100, 2, 5, 4, 0.5, 10_000


def base() -> Design:
    """The design that all arms share."""
    return Design.named("fashion").replace({"mismatch.conductance": SIGMA, "learning.epochs": EPOCHS})


def held_out(data: Dataset) -> Dataset:
    """The training set, its last images held out in the test set's place."""
    return replace(
        data, train_x=data.train_x[:-HELD_OUT], train_y=data.train_y[:-HELD_OUT],
        test_x=data.train_x[-HELD_OUT:], test_y=data.train_y[-HELD_OUT:],
    )  # fmt: skip


def settings() -> list[dict[str, float]]:
    """What each arm may choose from; strengths of decay at the middle rate only."""
    grid = [{"learning.rate": rate} for rate in RATES]
    default = base().homeostat.decay
    return grid + [{"learning.rate": RATES[1], "homeostat.decay": s} for s in DECAYS if s != default]


def identity() -> str:
    """What a search's accuracies depend on, beside the setting: the shared design, as a hash."""
    return hashlib.sha256(base().to_toml().encode()).hexdigest()


def search(job: tuple[str, dict[str, float], str | None]) -> tuple[str, dict[str, float], float]:
    """(arm, setting, accuracy on the held-out images) of the search chip."""
    arm, setting, data_dir = job
    design = base().replace({**ARMS[arm], **setting, "learning.epochs": SEARCH_EPOCHS})
    trainer = Trainer.from_design(design, held_out(load(design.task.data, data_dir)), SEARCH_CHIP)
    return arm, setting, trainer.fit()[-1].accuracy


def searched(out: Path, data_dir: str | None) -> dict[str, dict[str, float]]:
    """Held-out accuracy by arm and setting (as JSON text); kept in OUT/search.json as it goes."""
    import multiprocessing

    path = out / "search.json"
    kept = json.loads(path.read_text()) if path.exists() else {"design": identity(), "found": {}}
    if kept["design"] != identity():
        raise SystemExit(f"{path} is of another design: give another OUT")
    found: dict[str, dict[str, float]] = kept["found"]
    jobs = [
        (arm, setting, data_dir)
        for setting in settings()
        for arm in (*COMPARED, "adjoint-homeostat")
        if (arm == "decay" or "homeostat.decay" not in setting)
        and json.dumps(setting) not in found.get(arm, {})
    ]
    if jobs:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for arm, setting, accuracy in pool.imap_unordered(search, jobs):
                found.setdefault(arm, {})[json.dumps(setting)] = accuracy
                path.write_text(json.dumps(kept, indent=2))
                print(f"search  {arm:18s} {setting}  held-out accuracy {accuracy:.4f}", flush=True)
    grid = [json.dumps(setting) for setting in settings()]
    return {arm: {text: runs[text] for text in grid if text in runs} for arm, runs in found.items()}


def interval(gain: np.ndarray) -> tuple[float, float, float]:
    """Mean over chips and its paired 95 % interval (Student's t)."""
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return float(gain.mean()), float(gain.mean() - half), float(gain.mean() + half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = searched(arguments.out, arguments.data_dir)
    accuracy: dict[str, np.ndarray] = {}
    arms: dict[str, object] = {}
    report: dict[str, object] = {"held-out accuracy": found, "arms": arms}
    for arm in COMPARED:
        setting = json.loads(max(found[arm], key=lambda text: found[arm][text]))
        sweep = Sweep(base().replace(setting), ((),), CHIPS, (arm,))
        path = run_sweep(sweep, arguments.out / f"{arm}.h5", data_dir=arguments.data_dir)
        values = {name: cells[arm][0] for name, cells in read_sweep(path).values.items()}
        accuracy[arm] = values["accuracy"]
        kept = ("accuracy", "alignment/forward0", "angle/forward1", "unsettled", "unsettled_nudged",
                "unsettled_test", "left_out", "unstable", "jumped", "sweeps")  # fmt: skip
        arms[arm] = {"setting": setting} | {
            name: {"mean": float(values[name].mean()), "sd": float(values[name].std(ddof=1)),
                   "chips": values[name].round(5).tolist()} for name in kept
        }  # fmt: skip
        mean, sd = accuracy[arm].mean(), accuracy[arm].std(ddof=1)
        print(f"{arm:18s} {setting}  accuracy {mean:.4f} ± {sd:.4f}", flush=True)
    lost = accuracy["adjoint"] - accuracy["none"]
    report["adjoint - none"] = interval(lost)
    for arm in ("homeostat", "decay"):
        won = accuracy[arm] - accuracy["none"]
        report[f"{arm} - none"] = interval(won)
        report[f"share won back by {arm}"] = float(won.mean() / lost.mean())
    report["adjoint - homeostat"] = interval(accuracy["adjoint"] - accuracy["homeostat"])
    report["homeostat - decay"] = interval(accuracy["homeostat"] - accuracy["decay"])
    text = json.dumps(report, indent=2)
    (arguments.out / "result.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
