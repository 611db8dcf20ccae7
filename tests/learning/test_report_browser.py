"""Pages in a headless Chromium: they render without a complaint, at a phone's width and a desktop's, and
answer to the keyboard. Needs one: see ``browser.chromium``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import read_run
from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning.figures import STYLES
from ohmostat.learning.points import grid

from .browser import Browser, browser
from .reporting import HOSTILE, SIGMA, flags, made_up

WIDTHS = (390, 1280)
INTERACTIVE = 2000  # ms
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"  # all is drawn by then


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's page, a sweep's with its yield, and a comparison's. Asks for the browser first: it may be
    missing.
    """
    folder = tmp_path_factory.mktemp("pages")
    run, sweep = folder / "run.h5", folder / "sweep.h5"
    changes: dict[str, object] = {SIGMA: 0.5, "homeostat.mode": "off"}
    changes |= {"chip.columns": "virtual-ground", "wires.row": "1Ohm", "wires.tile": 16}
    assert main(["train", "digits", "--quiet", *flags(**changes), "--out", str(run)]) == 0
    design = Design.named("digits").replace("name", HOSTILE)
    made_up(sweep, grid({SIGMA: tuple(np.linspace(0, 1, 25).tolist())}), 2, design, 50, ("none", "adjoint"))
    commands = {
        "run": ["report", str(run), "--audit", "--samples", "20", "--quiet"],
        "sweep": ["report", str(sweep), "--require", "accuracy >= 0.5"],
        "compare": ["compare", str(sweep), str(sweep)],
    }
    made = {name: folder / f"{name}.html" for name in commands}
    for name, words in commands.items():
        assert main([*words, "--out", str(made[name])]) == 0
    return made | {"file": run}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "sweep", "compare"])
def test_pages_render_without_complaint(
    name: str, width: int, chromium: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    chromium.open(pages[name], width)
    assert not chromium.complaints
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    drawn = chromium.evaluate(
        "[...document.querySelectorAll('figure.chart > svg, figure.bars > svg')]"
        ".every((svg) => svg.querySelector('path') && svg.getAttribute('aria-label'))"
    )
    assert drawn
    small = chromium.evaluate(
        "[...document.querySelectorAll('figure > svg text')]"
        ".filter((text) => text.getBoundingClientRect().height < 10).length"
    )
    assert small == 0
    loaded = chromium.evaluate(LOADED)
    if loaded >= INTERACTIVE:  # once more, for a machine that was busy
        chromium.open(pages[name], width)
        loaded = chromium.evaluate(LOADED)
    assert 0 < loaded < INTERACTIVE
    chromium.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_complaints_are_heard(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>console.error('loud'); undefined.length</script>")
    chromium.open(tmp_path / "bad.html", 390)
    assert "loud" in chromium.complaints[0] and "TypeError" in chromium.complaints[1]


def test_the_policy_stops_any_other_script(chromium: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    text = pages["run"].read_text("utf-8")
    (tmp_path / "bad.html").write_text(text.replace("<main>", "<main><script>window.broken = 1</script>"))
    chromium.open(tmp_path / "bad.html", 390)
    assert chromium.evaluate("window.broken") is None
    assert "Content Security Policy" in chromium.complaints[0]


def test_keys_read_a_chart(chromium: Browser, pages: dict[str, Path]) -> None:
    accuracy = read_run(pages["file"]).history["accuracy"]
    chromium.open(pages["run"], 390)
    chromium.evaluate("document.querySelector('figure.chart svg').focus()")
    for epoch, value in enumerate(accuracy):
        chromium.key("ArrowRight")
        text = chromium.evaluate("document.querySelector('figure.chart output').textContent")
        assert text == f"epoch {epoch}: test accuracy {value:.4g}"
    chromium.key("Escape")
    assert chromium.evaluate("document.querySelector('figure.chart output').textContent") == ""


def test_choosing_a_quantity_changes_the_chart_and_its_table(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    loss = read_run(pages["file"]).history["loss"]
    chromium.open(pages["run"], 1280)
    chromium.evaluate("document.querySelector('figure.chart details').open = true")
    chromium.evaluate(
        "(() => { const s = document.querySelector('figure.chart select'); s.value = 1;"
        " s.dispatchEvent(new Event('change')); })()"
    )
    assert "training loss" in chromium.evaluate(
        "document.querySelector('figure.chart svg').getAttribute('aria-label')"
    )
    cells = chromium.evaluate(
        "[...document.querySelectorAll('figure.chart details td')].map((td) => td.textContent)"
    )
    assert cells == ["–", *(f"{value:.4g}" for value in loss[1:])]


def test_keys_and_choices_read_a_heat_map(chromium: Browser, pages: dict[str, Path]) -> None:
    devices = read_run(pages["file"]).chip.devices["forward1"]
    chromium.open(pages["run"], 390)
    chromium.evaluate(
        "[...document.querySelectorAll('.tile')].find((t) => t.textContent.startsWith('forward1')).click()"
    )
    chromium.evaluate("document.querySelector('canvas.map').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):  # the first shows where one is
        chromium.key(key)
    place, value = chromium.evaluate("document.querySelector('figure.arrays output').textContent").split(": ")
    assert place == "row 1, column 2"
    number, unit = value.split()
    step = 2 * np.abs(devices.weight).max() / 254
    scale = {"S": 1.0, "mS": 1e-3, "µS": 1e-6, "nS": 1e-9}[unit]
    assert float(number) * scale == pytest.approx(devices.weight[1, 2], abs=0.6 * step)
    lines = chromium.evaluate("document.querySelectorAll('.frame svg path').length")
    assert lines == 1  # 32 columns in tiles of 16


def test_a_heat_map_has_the_colours_of_its_codes(chromium: Browser, pages: dict[str, Path]) -> None:
    weight = read_run(pages["file"]).chip.devices["forward0"].weight
    chromium.open(pages["run"], 1280)
    pixels = chromium.evaluate(
        "(() => { const c = document.querySelector('canvas.map');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; })()"
    )
    image = np.reshape(pixels, (*weight.shape, 4))[..., :3] @ [0.2126, 0.7152, 0.0722]
    assert np.corrcoef(image.ravel(), weight.ravel())[0, 1] > 0.99  # lightness alone tells the order


def test_what_two_arms_share_a_level_with_is_drawn_beside_it(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    """The exact intervals of a yield: else one would hide the other where they agree."""
    chromium.open(pages["sweep"], 1280)
    marks = chromium.evaluate(
        "[...[...document.querySelectorAll('figure.chart')].pop()"
        ".querySelectorAll(':scope > svg path[transform]')]"
        ".map((path) => [path.getAttribute('fill'), parseFloat(path.getAttribute('transform').slice(10))])"
    )
    none, adjoint = (
        np.array([x for fill, x in marks if fill == STYLES[arm]["color"]]) for arm in ("none", "adjoint")
    )
    assert len(none) == 25
    np.testing.assert_allclose(adjoint - none, 7)


def test_the_design_unfolds(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["run"], 390)
    height = "document.querySelector('pre.toml').clientHeight"
    folded = chromium.evaluate(height)
    chromium.evaluate("document.querySelector('input.fold').click()")
    assert chromium.evaluate(height) > 2 * folded


def test_text_from_a_file_is_no_script(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["sweep"], 1280)
    assert chromium.evaluate("document.querySelector('h1').textContent").startswith(HOSTILE)
    assert chromium.evaluate("document.querySelectorAll('img').length") == 0
