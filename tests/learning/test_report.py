"""Reports: what is promised is there, its numbers are the file's, and nothing in a file becomes markup."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ohmostat.circuits.archive import Run, read_run, save_chip, write_run
from ohmostat.circuits.design import Design
from ohmostat.circuits.specs import KEYS
from ohmostat.circuits.units import Curve
from ohmostat.cli import main
from ohmostat.learning import points, quantities
from ohmostat.learning.report_charts import Chart, Panel, Series
from ohmostat.learning.report_chip import LEVELS, SHOWN
from ohmostat.learning.report_page import Section, chart, page, paragraph, table
from ohmostat.learning.sweep import RunKey, Sweep, run_sweep
from ohmostat.learning.sweep_result import read_histories, read_sweep

from .reporting import HOSTILE, SIGMA, SMALL, Page, decoded, flags, made_up, page_of


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.h5"
    changes = {SIGMA: 0.5, "homeostat.mode": "off", "learning.angle": 30}
    assert main(["train", "digits", "--quiet", *flags(**changes), "--chip", "7", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def run_page(run_file: Path) -> Page:
    out = run_file.with_suffix(".html")
    assert main(["report", str(run_file), "--audit", "--samples", "20", "--quiet", "--out", str(out)]) == 0
    return page_of(out)


@pytest.fixture(scope="module")
def audit_file(run_file: Path) -> Path:
    out = run_file.with_name("audit.h5")
    assert main(["audit", str(run_file), "--samples", "20", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "sweep.h5"
    design = Design.named("digits").replace(SMALL)
    return run_sweep(Sweep.over(design, {SIGMA: (0.0, 0.5)}, 2, ("none", "adjoint")), path, workers=1)


@pytest.fixture(scope="module")
def sweep_page(sweep_file: Path) -> Page:
    out = sweep_file.with_suffix(".html")
    words = ["--require", "accuracy >= 0.5", "--target", "0.5"]
    assert main(["report", str(sweep_file), *words, "--out", str(out)]) == 0
    return page_of(out)


def numbers(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)


# -- a run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "sweep", "audit"])
def test_the_command_says_what_it_wrote(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    out, source = tmp_path / "page.html", request.getfixturevalue(f"{kind}_file")
    capsys.readouterr()
    assert main(["report", str(source), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["bytes"], found["files"]) == (kind, out.stat().st_size, [str(out)])
    assert found["title"] in page_of(out).words and found["about"] in page_of(out).words


def test_every_section_of_a_run_is_there(run_page: Page) -> None:
    for title in (
        "At a glance", "Learning", "Gradient, against the adjoint's", "Asymmetry",
        "Unsettled, unstable and left out", "Time, energy and counts", "The chip", "Settling",
        "Audit of the gradient", "The design", "Make it again",
    ):  # fmt: skip
        assert title in run_page.words


def test_curves_are_the_files(run_file: Path, run_page: Page) -> None:
    history = read_run(run_file).history
    for name, values in history.items():
        if name == "epoch" or "bias" in name:
            continue
        panel = run_page.panel(quantities.label(name.partition("/")[0]))
        (series,) = [s for s in panel["series"] if s["name"] in (name.partition("/")[2], panel["at"][0])]
        np.testing.assert_allclose(numbers(series["y"]), values, rtol=1e-4)
        assert series["x"] == list(range(len(values)))


def test_final_figures_are_the_files(run_file: Path, run_page: Page) -> None:
    history = read_run(run_file).history
    assert f"{history['accuracy'][-1]:.4g}" in run_page.words
    energy = float(re.search(r"energy of an inference\s*([\d.]+)pJ", run_page.words)[1])  # type: ignore[index]
    assert energy * 1e-12 == pytest.approx(history["inference_energy"][-1], rel=1e-3)


def test_heat_maps_are_the_chips(run_file: Path, run_page: Page) -> None:
    chip = read_run(run_file).chip
    (data,) = [d for d in run_page.data if "arrays" in d]
    assert {array["name"] for array in data["arrays"]} == set(chip.devices)
    for array in data["arrays"]:
        devices = chip.devices[array["name"]]
        assert array["rowsAre"] in data["layers"]  # they are called alike
        assert array["columnsAre"] in [*data["layers"], "the bias port, at the upper rail"]
        planes = (devices.weight, *devices.actual, *devices.deviation)
        assert len(planes) == len(data["quantities"])
        for plane, found in zip(planes, array["maps"], strict=True):
            value = decoded(found)
            step = (
                (found["high"] / found["low"]) ** (1 / LEVELS)
                if found["log"]
                else found["high"] - found["low"]
            )
            if found["log"]:
                np.testing.assert_allclose(np.log(value), np.log(plane), atol=0.51 * np.log(step))
            else:
                np.testing.assert_allclose(value, plane, atol=0.51 * step / LEVELS)


def test_the_audit_is_the_commands(
    run_file: Path, run_page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(run_file), "--samples", "20", "--quiet", "--json"]) == 0
    audited = json.loads(capsys.readouterr().out)
    (bars,) = [d for d in run_page.data if "parts" in d]
    shown = {part["name"]: dict(zip(bars["rows"], part["values"], strict=True)) for part in bars["parts"]}
    assert "asymmetry" in shown
    for name, values in shown.items():
        for row, value in values.items():
            assert value == pytest.approx(audited["share"][name][row], rel=1e-4)
    assert f"{audited['whole']['cosine']['all']:.4g}" in run_page.words


def test_waveforms_end_at_the_equilibrium(run_file: Path, run_page: Page) -> None:
    from ohmostat.learning.data import load_task
    from ohmostat.learning.training import Trainer

    run = read_run(run_file)
    trainer = Trainer.from_run(run, load_task(run.chip.circuit.design.task))
    rest = run.chip.relax(trainer.inputs(trainer.data.test_x[:3]))
    for sample in range(3):
        panel = run_page.panel(f"test sample {sample}", "outputs")
        for series in panel["series"]:
            node = int(series["name"].split()[1])
            end = run.chip.blocks.layer(rest.voltages[sample], 1)[node]
            assert series["y"][-1] == pytest.approx(end, abs=1e-3)
            assert series["y"][0] == 0


def test_the_command_makes_the_run_again(run_file: Path, run_page: Page, tmp_path: Path) -> None:
    (link,) = [attrs for tag, attrs in run_page.tags if attrs.get("download")]
    content = base64.b64decode(str(link["href"]).partition("base64,")[2])
    (tmp_path / "design.toml").write_bytes(content)
    command = re.search(r"ohmostat (train design\.toml .*)", run_page.words)[1].split()  # type: ignore[index]
    command[command.index("design.toml")] = str(tmp_path / "design.toml")
    command[command.index("run.h5")] = str(tmp_path / "run.h5")
    assert main([*command, "--quiet"]) == 0
    first, second = read_run(run_file), read_run(tmp_path / "run.h5")
    for name, array in first.chip.devices.items():
        np.testing.assert_array_equal(array.actual, second.chip.devices[name].actual)
    np.testing.assert_array_equal(first.history["accuracy"], second.history["accuracy"])


def test_a_chip_without_history_is_reported_without_data(run_file: Path, tmp_path: Path) -> None:
    save_chip(tmp_path / "chip.h5", read_run(run_file).chip)
    out = tmp_path / "chip.html"
    assert main(["report", str(tmp_path / "chip.h5"), "--waveforms", "0", "--out", str(out)]) == 0
    text = page_of(out).words
    assert "no history of training" in text
    assert "The chip" in text and "Settling" not in text


# -- a sweep, an audit -----------------------------------------------------------------------------


def test_every_section_of_a_sweep_is_there(sweep_page: Page) -> None:
    for title in ("What the arms came to", "Learning", "Asymmetry", "Training curves", "Yield", "Every run",
                  "The design", "Make it again"):  # fmt: skip
        assert title in sweep_page.words
    assert "all points together:" in sweep_page.words


def test_a_sweeps_curves_are_the_files(sweep_file: Path, sweep_page: Page) -> None:
    result = read_sweep(sweep_file)
    mean, sd = result.mean_sd("accuracy", "adjoint")
    series = sweep_page.panel("test accuracy", f"against {SIGMA}")["series"][1]
    np.testing.assert_allclose(series["x"], [0, 0.5])
    np.testing.assert_allclose(series["y"], mean, rtol=1e-4)
    np.testing.assert_allclose(series["high"], mean + sd, rtol=1e-4)
    with h5py.File(sweep_file) as file:
        runs = [file["runs"][RunKey("none", ((SIGMA, 0.5),), chip).name] for chip in range(2)]
        course = np.mean([run["history/accuracy"][()] for run in runs], axis=0)
    shown = sweep_page.panel("test accuracy", "conductance=0.5")["series"][0]
    np.testing.assert_allclose(shown["y"], course, rtol=1e-4)


RANGES = [
    f"{SIGMA}=0..1", "neuron.leak=5uS..60uS:log", "corner.temperature=233.15K..358K", "neuron.low=-1V..0V",
    "learning.rate=0.01..0.1",
]  # fmt: skip
RANDOM = tuple(((SIGMA, a), ("learning.rate", b)) for a, b in ((0.2, 0.01), (0.1, 0.03), (0.5, 0.02)))


@pytest.mark.parametrize("method", ["grid", "one-at-a-time", "latin", "random"])
def test_what_makes_a_sweep_again_makes_its_points(method: str, tmp_path: Path) -> None:
    design = Design.named("digits")
    levels = {SIGMA: (0.1, 1 / 3), "neuron.leak": (7e-6, 1e-5), "chip.layers": ((64, 8, 10), (64, 9, 10))}
    spans = dict(map(points.parse_span, RANGES))
    made = {
        "grid": points.grid(levels), "one-at-a-time": points.one_at_a_time(design, levels),
        "latin": points.latin_hypercube(spans, 5, 0), "random": RANDOM,
    }[method]  # fmt: skip
    sweep = made_up(tmp_path / "s.h5", made, 2, design)
    assert main(["report", str(sweep), "--out", str(tmp_path / "s.html")]) == 0
    text = page_of(tmp_path / "s.html").words
    if method == "random":
        assert 'read_sweep(Path("sweep.h5")).points' in text
        return
    words = re.search(r"ohmostat sweep design\.toml .*", text)[0].split()  # type: ignore[index]
    varied = [word for flag, word in pairwise(words) if flag == "--vary"]
    assert f"--method {method}" in " ".join(words)
    if method == "latin":
        assert dict(map(points.parse_span, varied)) == spans and "--points 5" in " ".join(words)
        assert varied[1:] == RANGES[1:]  # with no more digits than were given
        return
    again = dict(points.parse_levels(text) for text in varied)
    assert (points.grid(again) if method == "grid" else points.one_at_a_time(design, again)) == made


@given(
    st.sampled_from([key for key, kind in KEYS.items() if "." in key and not isinstance(kind, Curve)]),
    st.data(),
)
def test_a_level_reads_back_to_the_last_bit(key: str, data: st.DataObject) -> None:
    kind = KEYS[key]
    low, high = (getattr(getattr(kind, "range", kind), end, None) for end in ("low", "high"))
    if isinstance(low, float):
        level: Any = data.draw(st.floats(low, high, exclude_min=True, exclude_max=True))
    elif isinstance(low, int):
        level = data.draw(st.integers(low, high))
    else:
        level = data.draw(st.sampled_from(getattr(kind, "options", [(64, 8, 10)])))
    assert points.parse_levels(f"{key}={points.written(key, level)}") == (key, (level,))


def test_an_audit_file_is_reported(
    run_file: Path, audit_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit.html"
    assert main(["report", str(audit_file), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["audit", str(run_file), "--samples", "20", "--quiet", "--json"]) == 0
    audited = json.loads(capsys.readouterr().out)
    found = page_of(out)
    assert f"{audited['whole']['error']['forward0']:.4g}" in found.words
    assert "asymmetry" in found.words and "The design" in found.words


def test_a_hundred_runs_make_a_small_page(tmp_path: Path) -> None:
    where = points.grid(
        {SIGMA: tuple(np.linspace(0, 1, 10).tolist()), "learning.rate": (0.01, 0.02, 0.05, 0.1, 0.2)}
    )
    path = made_up(tmp_path / "s.h5", where, 1, Design.named("fashion"), 100, ("none", "adjoint"))
    out = tmp_path / "s.html"
    assert main(["report", str(path), "--out", str(out)]) == 0
    assert "100 runs" in page_of(out).words
    assert out.stat().st_size < 5e6


def test_histories_of_different_lengths_are_read_whole(sweep_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(sweep_file.read_bytes())
    with h5py.File(path, "r+") as file:
        history = file["runs"][RunKey("none", ((SIGMA, 0.5),), 1).name]["history"]
        del history["accuracy"]
        history["accuracy"] = [0.1, 0.2]
    course = read_histories(path, read_sweep(path), "accuracy")["none"]
    np.testing.assert_array_equal(course[1, 1], [0.1, 0.2, np.nan])


# -- nothing in a file becomes markup, nothing is fetched -------------------------------------------


def test_pages_name_nothing_outside_themselves(run_page: Page, sweep_page: Page, run_file: Path) -> None:
    assert not re.search(r"https?://", run_file.with_suffix(".html").read_text("utf-8"))
    for found in (run_page, sweep_page):
        for tag, attrs in found.tags:
            assert tag not in ("link", "iframe", "object", "embed", "base")
            assert "src" not in attrs and not str(attrs.get("href", "#")).startswith(
                ("http", "//", "javascript")
            )
        policies = [a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policies) == 1 and str(policies[0]).startswith("default-src 'none'")


def test_markup_in_a_file_stays_text(run_file: Path, sweep_file: Path, tmp_path: Path) -> None:
    run = read_run(run_file)
    chip = run.chip.copy(run.chip.circuit.design.replace("name", HOSTILE))
    history = {
        f"alignment/{HOSTILE.replace('/', '|')}": run.history["accuracy"],
        HOSTILE[9:]: run.history["loss"],
    }
    write_run(tmp_path / "run.h5", Run(chip, run.readout, dict(run.history) | history, {"rule": HOSTILE}))
    sweep = tmp_path / HOSTILE.replace("/", "|")
    sweep.write_bytes(sweep_file.read_bytes())
    with h5py.File(sweep, "r+") as file:
        file.attrs["design"] = Design.from_text(str(file.attrs["design"])).replace("name", HOSTILE).to_toml()
        file.attrs["ohmostat_version"] = HOSTILE
    pages = [tmp_path / name for name in ("run.html", "sweep.html", "compared.html")]
    assert main(["report", str(tmp_path / "run.h5"), "--waveforms", "0", "--out", str(pages[0])]) == 0
    assert main(["report", str(sweep), "--out", str(pages[1])]) == 0
    assert main(["compare", str(sweep), str(sweep_file), "--out", str(pages[2])]) == 0
    for path in pages:
        found = page_of(path)
        kinds = [(tag, attrs.get("type")) for tag, attrs in found.tags if tag in ("script", "img")]
        assert kinds.count(("script", None)) == 1 and set(kinds) == {
            ("script", None),
            ("script", "application/json"),
        }
        assert "alert(1)" in found.words


@given(st.text())
@example(HOSTILE)
@example("<!--<script>")
def test_any_text_is_carried_and_never_markup(text: str) -> None:
    shown = Chart(text, (text,), [Panel((text,), text, text, [Series(text, [0], [1])])])
    clean = text.replace("\r", "\n").replace("\0", "\ufffd")  # what any HTML reader makes of these
    body = paragraph(clean) + table(clean, (clean,), [(clean,)]) + chart(shown)
    found = Page(page(clean, clean, [Section(clean, body)]))
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 2
    (data,) = found.data
    assert data["about"] == data["panels"][0]["series"][0]["name"] == text
    assert clean in found.words


def test_the_yields_of_all_arms_are_in_one_chart(sweep_page: Page) -> None:
    names = [series["name"] for series in sweep_page.panel(f"against {SIGMA}")["series"]]
    assert names[0] == "50 % yield"
    assert [name.partition(":")[0] for name in names[1:]] == [
        *["EP, no homeostat"] * 2, *["adjoint (reference)"] * 2,
    ]  # fmt: skip
    assert "chips that pass accuracy >= " in sweep_page.words


def test_what_is_not_drawn_of_a_layer_is_told(run_page: Page) -> None:
    assert len(run_page.panel("test sample 0", "outputs")["series"]) == 10
    shown = f"Of a layer of more than {SHOWN} nodes (here 32), {SHOWN} are drawn, evenly spaced"
    assert 10 <= SHOWN < 32 and shown in run_page.words


# -- what is refused -------------------------------------------------------------------------------


def broken(change: Callable[[h5py.File], None]) -> Callable[[Path, Path], Path]:
    def make(sweep: Path, folder: Path) -> Path:
        path = folder / "broken.h5"
        path.write_bytes(sweep.read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.modify("schema_version", 1), "made by an earlier ohmostat; run its sweep again"),
        (lambda f: f.attrs.modify("schema_version", 9), "newer schema; read it with a newer ohmostat"),
        (lambda f: f.attrs.modify("schema", "other"), "its schema is 'other'"),
        (lambda f: f.attrs.modify("arms", ["none", "<b>"]), "there is no arm '<b>'"),
        (lambda f: f.attrs.modify("design", "name = 3"), "cannot be read as a sweep file"),
        (lambda f: f.__delitem__("runs"), "cannot be read as a sweep file"),
        (lambda f: f["points"].write_direct(np.array('[[["neuron.leek", 1]]]', object)), "neuron.leek"),
    ],
)  # fmt: skip
def test_a_sweep_file_that_cannot_be_read_is_refused(
    change: Callable[[h5py.File], None], message: str, sweep_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = broken(change)(sweep_file, tmp_path)
    assert main(["report", str(path), "--out", str(tmp_path / "s.html")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.modify("schema_version", 2), "is no audit of schema 1"),
        (lambda f: f.__delitem__("table/share"), "cannot be read as an audit"),
        (lambda f: f["table/size"].attrs.modify("rows", list("abcdef")), "do not fit each other"),
        (lambda f: f.attrs.modify("design", "name = 3"), "name = 3"),
    ],
)  # fmt: skip
def test_an_audit_file_that_cannot_be_read_is_refused(
    change: Callable[[h5py.File], None], message: str, audit_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = broken(change)(audit_file, tmp_path)
    assert main(["report", str(path), "--out", str(tmp_path / "a.html")]) == 2
    assert message in capsys.readouterr().err


def test_what_needs_samples_says_how_to_do_without(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ohmostat.learning import data, dataset

    def gone(*_: object) -> None:
        raise dataset.DataError("mnist", "not found", "its files", "Give --data-dir.")

    monkeypatch.setattr(data, "load_task", gone)
    words = ["report", str(run_file), "--out", str(tmp_path / "r.html")]
    assert main(words) == 2
    assert "--waveforms 0" in capsys.readouterr().err
    assert main([*words, "--waveforms", "0"]) == 0
