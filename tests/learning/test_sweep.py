"""Sweeps: identity, staging, resuming, results, table and figure."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.doubts import idle_homeostat
from ohmostat.circuits.files import ArchiveError
from ohmostat.circuits.sections import DesignError
from ohmostat.learning.figures import (
    CAPTION,
    _caption,
    counted,
    logarithmic,
    scale_x,
    sweep_figure,
    sweep_panel,
    widen,
)
from ohmostat.learning.points import (
    Span,
    grid,
    latin_hypercube,
)
from ohmostat.learning.sweep import (
    ARMS,
    RunKey,
    Sweep,
    SweepError,
    compared,
    is_done,
    jobs_of,
    run_sweep,
    staging_of,
)
from ohmostat.learning.sweep_result import COLUMNS, SweepResult, accuracy_gap, read_sweep, table

ROOT = Path(__file__).resolve().parents[2]
SIGMA = "mismatch.conductance"


def small(**changes: object) -> Sweep:
    design = Design.named("digits").replace(
        {"learning.epochs": 1, "task.train": 200, "task.test": 100, **changes}
    )
    return Sweep.over(design, {SIGMA: (0.0, 0.5)}, 2, ("none", "homeostat"))


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "sweep.h5"
    return run_sweep(small(), out, workers=2)


def test_result_holds_every_run(merged: Path) -> None:
    result = read_sweep(merged)
    assert result.arms == ("none", "homeostat")
    for arm in result.arms:
        cells = result.values["accuracy"][arm]
        assert cells.shape == (2, 2)
        assert np.isfinite(cells).all()
    mean, sd = result.mean_sd("accuracy", "none")
    cells = result.values["accuracy"]["none"]
    assert mean[1] == pytest.approx(cells[1].mean())
    assert sd[1] == pytest.approx(abs(cells[1, 0] - cells[1, 1]) / np.sqrt(2))
    assert result.varied == (SIGMA,) and result.levels(SIGMA) == (0.0, 0.5) and result.is_grid
    assert result.numbers(SIGMA).tolist() == [0.0, 0.5]
    with pytest.raises(SweepError, match="no numeric values of 'learning"):
        result.numbers("learning.rate")


def test_content_does_not_hold_times(merged: Path) -> None:
    with h5py.File(merged) as file:
        names: list[str] = []
        file.visit(names.append)
    assert not [name for name in names if "seconds" in name]


def test_finished_runs_are_not_done_again(merged: Path) -> None:
    staged = sorted((merged.parent / "sweep.h5.runs").glob("*.run"))
    before = [path.stat().st_mtime_ns for path in staged]
    calls: list[tuple[int, int]] = []
    run_sweep(small(), merged, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert [path.stat().st_mtime_ns for path in staged] == before
    assert calls == [(8, 8)]


def test_a_changed_design_is_refused_and_nothing_is_lost(merged: Path) -> None:
    content = merged.read_bytes()
    with pytest.raises(SweepError, match=r"sweep of another design \(learning.rate 0.03 -> 0.02\): give"):
        run_sweep(small(**{"learning.rate": 0.02}), merged, workers=2)
    assert merged.read_bytes() == content


def write_images(folder: Path, seed: int) -> Path:
    """A handful of images under MNIST's name."""
    rng, folder = np.random.default_rng(seed), folder / f"images{seed}"
    folder.mkdir()
    for part, count in (("train", 100), ("t10k", 40)):
        for kind, shape, high in (("images-idx3", (count, 28, 28), 256), ("labels-idx1", (count,), 10)):
            head = bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4, "big") for n in shape)
            values = rng.integers(0, high, shape).astype(np.uint8)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + values.tobytes())
    return folder


def test_other_data_of_the_same_name_is_refused(tmp_path: Path) -> None:
    design = small(**{"task.data": "mnist", "chip.layers": [784, 4, 10], "task.train": 50, "task.test": 20})
    sweep = Sweep(design.design, chips=1, arms=("none",))
    first, second = (write_images(tmp_path, seed) for seed in (1, 2))
    out = run_sweep(sweep, tmp_path / "s.h5", workers=1, data_dir=str(first))
    content = out.read_bytes()
    with pytest.raises(SweepError, match="by a sweep on other data: give"):
        run_sweep(sweep, out, workers=1, data_dir=str(second))
    assert out.read_bytes() == content
    run_sweep(sweep, out, workers=1, data_dir=str(first))  # its own are taken again


def test_how_a_staged_run_differs_is_told(merged: Path) -> None:
    job = jobs_of(small(), None)[0]
    assert job.differs({}) == "of another design, on other data, or by other code"  # staged long ago
    assert "of other code" in job.differs({**job.about, "sources": "0"})
    assert job.differs({**job.about, "keep_chip": True}) == "with --keep-chips"
    fewer = job.design.replace("task.train", 100)
    assert (
        replace(job, design=fewer, digest="0").differs(job.about).startswith("of another design (task.train")
    )
    staging = staging_of(merged)
    kept = replace(job, keep_chip=True)
    with pytest.raises(SweepError, match="by a sweep without --keep-chips: give another --out"):
        is_done(staging, kept)


def test_a_damaged_staged_file_is_done_again(merged: Path) -> None:
    key = small().runs()[0]
    path = merged.parent / "sweep.h5.runs" / f"{key.name}.run"
    good = read_sweep(merged).values["accuracy"]["none"]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:500], b"", bytes(flipped)):
        path.write_bytes(damaged)
        run_sweep(small(), merged, workers=1)
        assert path.read_bytes() == whole
        assert np.array_equal(read_sweep(merged).values["accuracy"]["none"], good)


def test_two_sweeps_cannot_share_a_file(tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "s.h5"
    staging = tmp_path / "s.h5.runs"
    staging.mkdir()
    with open(staging / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SweepError, match="another sweep is writing"):
            run_sweep(small(), out)


def test_arms_differ_only_in_rule_and_homeostat() -> None:
    sweep = small(**{"chip.family": "shared"})  # which has drivers to trim
    base = sweep.run_design(RunKey("none", ((SIGMA, 0.5),), 0)).to_dict()
    for arm in ARMS:
        other = sweep.run_design(RunKey(arm, ((SIGMA, 0.5),), 0)).to_dict()
        changed = {
            f"{section}.{key}"
            for section, part in base.items()
            if isinstance(part, dict)
            for key in part
            if other[section][key] != part[key]
        }
        assert changed <= {"learning.rule", "homeostat.mode", "homeostat.moves"}


@pytest.mark.parametrize("family", ["twin", "shared", "loop", "relay"])
def test_arms_are_compared_where_they_have_something_to_do(family: str) -> None:
    base = Design.named("digits").replace({"chip.family": family, "chip.layers": [64, 8, 6, 10]})
    sweep = Sweep(base, chips=1, arms=compared(base))
    assert {"none", "adjoint"} <= set(sweep.arms)
    assert idle_homeostat(*(sweep.run_design(RunKey(arm, (), 0)) for arm in sweep.arms)) == []


def test_impossible_grids_are_refused_before_anything_runs() -> None:
    with pytest.raises(SweepError, match="unknown arm 'magic'"):
        Sweep(Design.named("digits"), arms=("magic",))
    with pytest.raises(SweepError, match="repeat a value"):
        Sweep.over(Design.named("digits"), {SIGMA: (0.5, 0.5)})
    with pytest.raises(SweepError, match="at least one"):
        Sweep(Design.named("digits"), ())
    with pytest.raises(SweepError, match="at least 1"):
        Sweep(Design.named("digits"), chips=0)
    with pytest.raises(DesignError, match="conductance"):
        Sweep.over(Design.named("digits"), {SIGMA: (-1.0,)})
    with pytest.raises(SweepError, match="differ in their keys"):
        Sweep(Design.named("digits"), ((), ((SIGMA, 0.5),)))
    with pytest.raises(SweepError, match="arms homeostat and homeostat-feedback are the same on this design"):
        Sweep.over(
            Design.named("digits").replace("homeostat.moves", "feedback"), {SIGMA: (0.5,)}, 1,
            ("none", "homeostat", "homeostat-feedback"),
        )  # fmt: skip
    with pytest.raises(SweepError, match="is what arms differ in: choose --arms"):
        Sweep.over(Design.named("digits"), {"learning.rule": ("ep", "adjoint")})
    with pytest.raises(DesignError, match="settles none"):
        Sweep.over(
            Design.named("digits"), {"learning.estimator": ("centered", "exact")}, 1, ("none", "coupled")
        )
    with pytest.raises(DesignError, match="unknown key"):
        Sweep.over(Design.named("digits"), {"mismatch.magic": (1.0,)})


@pytest.mark.parametrize(
    ("arm", "family", "lacking"),
    [
        ("kolen-pollack", "shared", "a feedback array of its own"),
        ("trim", "twin", "no read drivers to trim"),
        ("aep", "loop", "a way back along forward1"),
    ],
)
def test_an_arm_whose_hardware_is_lacking_is_refused_before_anything_runs(
    arm: str, family: str, lacking: str
) -> None:
    with pytest.raises(DesignError, match=lacking):
        Sweep(Design.named("fashion-6k").replace("chip.family", family), arms=("none", arm))


@pytest.mark.parametrize(
    ("family", "drivers", "arms", "true"),
    [
        (
            "twin",
            0.0,
            [a for a in ARMS if "trim" not in a and a != "product-feedback"],
            {"homeostat", "homeostat-feedback", "adjoint", "adjoint-homeostat", "aep"},
        ),
        (
            "shared",
            0.4,
            ["none", "trim", "aep", "coupled", "adjoint", "adjoint-trim"],
            {"trim", "aep", "adjoint", "adjoint-trim"},
        ),
        ("relay", 0.0, ["none", "product-feedback", "adjoint"], {"adjoint"}),
    ],
)
def test_every_arm_runs_where_its_hardware_is(
    family: str, drivers: float, arms: list[str], true: set[str], tmp_path: Path
) -> None:
    """Two steps on the digits at σ = 0.5: only these arms measure a true gradient."""
    design = Design.named("digits").replace(
        {
            "chip.family": family, "mismatch.driver_gain": drivers, "homeostat.schedule": "auto",
            "learning.epochs": 1, "task.train": 20, "task.test": 20,
        }
    )  # fmt: skip
    sweep = Sweep.over(design, {SIGMA: (0.5,)}, 1, tuple(arms))
    result = read_sweep(run_sweep(sweep, tmp_path / "s.h5", workers=1))
    measured = result.values["measured/forward0"]
    assert {arm for arm in arms if measured[arm].item() > 0.99} == true
    assert table(result).splitlines()[0].split()[:4] == ["arm", "accuracy", "alignment", "measured"]


def test_a_quantity_that_a_family_has_not_has_no_column(tmp_path: Path) -> None:
    changes = {"chip.family": "loop", "chip.layers": [64, 8, 6, 10], "learning.epochs": 1}
    design = small(**changes).design
    result = read_sweep(run_sweep(Sweep(design, chips=1, arms=("none",)), tmp_path / "l.h5", workers=1))
    assert "angle [deg]" not in table(result) and "measured" in table(result)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_text("not HDF5")
    with pytest.raises(ArchiveError, match="is not an HDF5 file; make one with 'ohmostat sweep'"):
        read_sweep(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(SweepError, match="not a sweep file"):
        read_sweep(path)


def test_one_chip_has_no_spread_and_angles_are_not_dropped(tmp_path: Path) -> None:
    design = small().design
    sweep = Sweep.over(design, {SIGMA: (0.0, 0.5), "learning.angle": (0.0, 90.0)}, 1, ("none", "adjoint"))
    result = read_sweep(run_sweep(sweep, tmp_path / "a.h5", workers=1))
    assert np.isnan(result.mean_sd("accuracy", "none")[1]).all()
    assert "± –" in table(result) and "(one chip, mean over 4 points: no" in table(result)
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 2)
    for column in range(2):
        sweep_panel(axes[column], result, "angle/forward1", "", SIGMA, [column, 2 + column])
    assert axes[0].lines[0].get_ydata()[0] < 60 and axes[1].lines[0].get_ydata()[0] > 70
    sweep_figure(result, tmp_path / "a.png")


def test_a_mean_that_is_not_there_is_a_dash() -> None:
    values = {"accuracy": {"none": np.array([[0.5]])}, "left_out": {"none": np.array([[np.nan]])}}
    text = table(SweepResult(Design(), ((),), ("none",), values))
    assert text.splitlines()[2].endswith("0.500 ± –     – ± –")


def test_a_key_that_changed_nothing_is_told(merged: Path) -> None:
    heat, level = "corner.temperature", "corner.voltage"
    points = grid({heat: (233.0, 398.0), level: (0.9, 1.0)})
    values = {
        "accuracy": {"none": np.array([[0.5], [0.5], [0.5], [0.5]])},
        "loss": {"none": np.array([[np.nan], [0.3], [np.nan], [0.3]])},
    }
    result = SweepResult(Design(), points, ("none",), values)
    assert result.unchanged == {heat: (233.0, 398.0)}
    assert f"{heat} changed nothing: every value of every run is the same, to the last bit" in table(result)
    values["loss"]["none"][3] = np.nextafter(0.3, 1)
    assert result.unchanged == {} == read_sweep(merged).unchanged
    assert (
        SweepResult(Design(), latin_hypercube({level: Span(0.9, 1.1)}, 1, 0), ("none",), values).unchanged
        == {}
    )


def test_table_and_figure(merged: Path, tmp_path: Path) -> None:
    result = read_sweep(merged)
    lines = table(result).splitlines()
    legend = " ".join(lines[2 + 2 * 2 :])
    assert legend.startswith("accuracy: of the test; alignment: cosine of EP's gradient in the first array")
    assert legend.endswith("over chips.")  # no adjoint among the arms: no gap to it
    assert all(title.partition(" [")[0] + ": " in legend for _, title in COLUMNS)
    assert "±" in lines[2]
    sweep_figure(result, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_axes_suit_their_values(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    assert logarithmic([1e-6, 1e-5, 1e-4]) and logarithmic(np.geomspace(3.0, 30.0, 9))
    for even in ([0.0, 0.5, 1.0], np.linspace(0.1, 1.0, 9), [1e-6, 1e-5], [-1.0, 1.0, 10.0]):
        assert not logarithmic(even)
    axes = Figure().subplots()
    axes.plot([0, 1], [1 - 1e-8, 1 - 2e-8])
    widen(axes)
    low, high = axes.get_ylim()
    assert low < 0.996 and high > 1.004
    axes.set_ylim(0.4, 0.9)
    widen(axes)
    assert axes.get_ylim() == (0.4, 0.9)
    scale_x(axes, "device.g_max", [1e-5, 1e-4, 1e-3])
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "device.g_max"
    assert axes.xaxis.get_major_formatter()(2e-5) == "20 µS"
    scale_x(axes, "learning.angle", [0.0, 90.0])
    assert axes.get_xlabel() == "starting angle [deg]"
    assert (counted(1, "epoch"), counted(2, "chip")) == ("1 epoch", "2 chips")


def test_any_key_can_be_varied_and_a_name_never_grows_too_long(tmp_path: Path) -> None:
    design = small(**{"task.train": 20, "learning.batch": 20}).design
    levels = {"chip.layers": ((64, 5, 10), (64, 9, 10)), "programming.mode": ("pulses", "write-verify")}
    sweep = Sweep.over(design, levels, 1, ("none",))
    result = read_sweep(run_sweep(sweep, tmp_path / "k.h5", workers=1))
    assert result.levels("chip.layers") == ((64, 5, 10), (64, 9, 10)) and result.points == sweep.points
    assert "64-9-10  write-verify" in table(result)
    sweep_figure(result, tmp_path / "k.png")
    keys = (
        "conductance",
        "gradient",
        "correlated",
        "programming",
        "amplifier_gain",
        "sense_gain",
        "nudge_gain",
    )
    levels = {f"mismatch.{key}": np.linspace(0.1, 0.2, 2)[:1] for key in keys}
    sweep = Sweep.over(
        design, levels | {"chip.layers": ([64, 5, 10],), "neuron.leak": ("9uS",)}, 1, ("none",)
    )
    result = read_sweep(run_sweep(sweep, tmp_path / "l.h5", workers=1))
    assert dict(result.points[0])["neuron.leak"] == 9e-6 and len(sweep.runs()[0].name) < 60
    many = tuple((f"{section}.key", 1 / 3) for section in "abcdefghijklmnop")
    assert len(RunKey("none", many, 0).name) < 60 and RunKey("none", many, 0) != RunKey("none", many, 1)


def gap(lost: list[float], cosine: float) -> str:
    """The line for chips that lose ``lost`` accuracy at a first-layer ``cosine``."""

    def cells(values: object) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, float), (1, len(lost)))

    values = {
        "accuracy": {"none": cells(0.8), "adjoint": cells(0.8) + np.array(lost)},
        "alignment/forward0": {"none": cells(cosine), "adjoint": cells(1.0)},
    }
    design = Design.named("digits")
    return accuracy_gap(SweepResult(design, ((),), ("none", "adjoint"), values))


def test_what_stands_above_a_figure_fits_it() -> None:
    """Every line, of the longest that is said of chips."""
    values = {"accuracy": {"none": np.array([[0.7, 0.8]] * 3), "adjoint": np.array([[0.72, 0.9]] * 3)}}
    for quantity in ("alignment/forward0", "unsettled_test"):
        values[quantity] = {arm: np.full((3, 2), 0.4) for arm in ("none", "adjoint")}
    points = tuple(((SIGMA, level),) for level in (0.0, 0.5, 1.0))
    caption = _caption(SweepResult(Design.named("fashion-6k"), points, ("none", "adjoint"), values))
    assert "cannot tell from nothing" in caption and "mean over 3" in caption
    assert max(map(len, caption.split("\n"))) <= CAPTION


def test_a_gradient_is_called_wrong_only_where_it_is() -> None:
    nothing, much = [0.011, -0.009, 0.001], [0.04, 0.05, 0.06]
    counted = "; 3 chips, each under both arms)."
    assert gap(much, 0.5) == (
        "EP is 0.050 less accurate than the adjoint (95 % interval of the accuracy lost 0.025 to 0.075"
        + counted
    )
    shows_not = (
        "EP is 0.001 less accurate than the adjoint, which 3 chips cannot tell from nothing (95 % interval "
        f"of the accuracy lost -0.024 to 0.026{counted}"
    )
    assert gap(nothing, 0.99) == shows_not
    wrong = " Its gradient is wrong all the same: the first layer's cosine is 0.56."
    assert gap(nothing, 0.56) == shows_not + wrong
    assert gap([-x for x in much], 0.99).startswith("EP is 0.050 more accurate than the adjoint (95 %")
    assert gap([0.04], 0.5) == "EP is 0.040 less accurate than the adjoint (one chip: no interval)."


@pytest.mark.timeout(300)
def test_killed_sweeps_resume_to_equal_files() -> None:
    """One of the mid-sweep moments of benchmarks/kill_and_resume.py; one worker against two with it."""
    script = ROOT / "benchmarks" / "kill_and_resume.py"
    run = subprocess.run(
        [sys.executable, str(script), "--trials", "1", "--seed", "1"],
        capture_output=True, text=True, timeout=280, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("resumed: equal") >= 1
