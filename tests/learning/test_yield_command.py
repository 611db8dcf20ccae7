"""A sweep's yield by the command, on sweep files whose accuracies are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import norm

from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning.points import Point, Span, grid, latin_hypercube, one_at_a_time
from ohmostat.learning.sweep import SCHEMA, SCHEMA_VERSION, RunKey

SIGMA, GAIN, RATE = "mismatch.conductance", "mismatch.amplifier_gain", "learning.rate"
ARMS = ("none", "homeostat")
Accuracy = Callable[[dict[str, float], str, int], float]


def write_sweep(path: Path, points: tuple[Point, ...], chips: int, accuracy: Accuracy) -> Path:
    """A sweep file with no other content than accuracies, and energies of 1 nJ."""
    with h5py.File(path, "w") as file:
        file.attrs.update(
            schema=SCHEMA, schema_version=SCHEMA_VERSION, design=Design.named("digits").to_toml(),
            chips=chips, arms=list(ARMS),
        )  # fmt: skip
        file["points"] = json.dumps(points)
        for arm in ARMS:
            for point in points:
                for chip in range(chips):
                    group = file.create_group(f"runs/{RunKey(arm, point, chip).name}/history")
                    group["accuracy"] = [0.1, accuracy(dict(point), arm, chip)]  # type: ignore[arg-type]
                    group["inference_energy"] = [1e-9, 1e-9]
    return path


def falling(point: dict[str, float], arm: str, chip: int) -> float:
    """Chip k of 20 passes 0.9 up to a σ of its own, normal about 0.5 or 0.8 with sd 0.1."""
    edge = norm.ppf((chip + 0.5) / 20, 0.5 if arm == "none" else 0.8, 0.1)
    return 0.95 if point[SIGMA] < edge else 0.85


def test_the_largest_spread_that_keeps_a_yield(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = tuple(np.linspace(0, 1.2, 13))
    path = write_sweep(tmp_path / "s.h5", grid({SIGMA: levels}), 20, falling)
    figure = tmp_path / "y.png"
    arguments = ["yield", str(path), "--require", "accuracy >= 0.9", "--target", "0.9"]
    assert main([*arguments, "--plot", str(figure)]) == 0
    text = capsys.readouterr().out
    head, _, rest = text.partition("\n\n")
    assert head.startswith("chips that pass accuracy >= 0.9:\n") and "0  20 of 20   20 of 20" in head
    first, second = rest.split("homeostat: accuracy >= 0.9")
    assert first.startswith("arm none: accuracy >= 0.9") and "29 chips must all pass" in first
    for part, edge in ((first, 0.5), (second, 0.8)):
        found = float(part.split(f"90 % yield is kept up to {SIGMA} = ")[1].split(" ")[0])
        assert found == pytest.approx(norm.ppf(0.1, edge, 0.1), abs=0.03)
    assert "29 other chips at mismatch.conductance = 0.3" in first
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--require", "inference_energy <= 500pJ", "--arms", "none"]) == 1  # never met
    text = capsys.readouterr().out
    assert "all points together: 0 of 260 runs pass, 0 %" in text
    assert "90 % yield is kept at no mismatch.conductance that was swept" in text


def test_the_status_tells_whether_the_target_is_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path / "s.h5", grid({SIGMA: (0.5, 0.7)}), 20, falling)
    arguments = ["yield", str(path), "--require", "accuracy >= 0.9", "--json", "--target"]
    for target, arm, status in (("0.95", "none", 1), ("0.5", "none", 0), ("0.95", "homeostat", 0)):
        assert main([*arguments, target, "--arms", arm]) == status
        found = json.loads(capsys.readouterr().out)
        assert found["met"] == (status == 0) and found["target"] == float(target)
        assert max(found["arms"][arm]["passed"]) == (10 if arm == "none" else 20)
        (limit,) = found["arms"][arm]["limits"]
        assert limit["key"] == SIGMA and limit["inside"] == (limit["x"] is not None)


def test_one_chip_that_never_fails_determines_no_yield(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path / "s.h5", grid({SIGMA: (0.0, 0.5)}), 1, lambda *_: 0.95)
    ask = ["yield", str(path), "--require", "accuracy >= 0.9"]
    assert main(ask) == 0
    text = capsys.readouterr().out
    assert "no chip failed; the yield is not determined: 95 % yield takes 59 chips at a level." in text
    assert "is kept" not in text
    assert main([*ask, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["met"] is None and not found["arms"]["none"]["limits"][0]["determined"]
    certified = write_sweep(tmp_path / "c.h5", grid({SIGMA: (0.0, 0.5)}), 5, lambda *_: 0.95)
    assert main(["yield", str(certified), *ask[2:], "--target", "50%", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["met"] is True and found["target"] == 0.5


def test_a_polynomial_that_predicts_nothing_tells_no_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.9 + 0.05 * float(np.sin(1e4 * point[SIGMA]))

    spans = {SIGMA: Span(0.0, 1.0), GAIN: Span(0.0, 1.0)}
    path = write_sweep(tmp_path / "l.h5", latin_hypercube(spans, 12, 0), 2, accuracy)
    ask = ["yield", str(path), "--require", "accuracy >= 0.9", "--degree", "3", "--json"]
    assert main(ask) == 0
    found = json.loads(capsys.readouterr().out)["arms"]["none"]
    assert found["importance"] is None
    assert "the polynomial of degree 3 predicts nothing (Q2 = -" in found["remark"]
    assert found["remark"].endswith(
        "shares are not told; run more points, or give a lower degree ('ohmostat yield --degree 2')"
    )
    assert main([*ask[:4], "--plot", str(tmp_path / "l.png"), "--degree", "3"]) == 2  # nothing to draw
    assert "predicts nothing" in capsys.readouterr().err
    page = tmp_path / "l.html"
    assert main(["report", *ask[1:4], "--target", "90%", "--out", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "how far a level may go" not in text and "chips that pass" in text and "Target: 90 %" in text
    assert "Nothing to draw" not in text


def test_a_figure_of_curves_says_why_it_shows_no_shares(tmp_path: Path) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.9 + 0.05 * float(np.sin(1e4 * point[SIGMA]))

    path = write_sweep(tmp_path / "g.h5", grid({SIGMA: (0.0, 0.3), GAIN: (0.0, 0.2)}), 2, accuracy)
    figure, page = tmp_path / "g.svg", tmp_path / "g.html"
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--plot", str(figure)]) in (0, 1)
    assert "what matters to accuracy is not told: 4" in figure.read_text("utf-8")
    assert main(["report", str(path), "--require", "accuracy >= 0.9", "--out", str(page)]) == 0
    assert "what matters to accuracy is not told" in page.read_text("utf-8")


def test_other_keys_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = grid({SIGMA: (0.0, 0.4, 0.8, 1.2), RATE: (0.01, 0.1)})
    path = write_sweep(tmp_path / "s.h5", points, 20, falling)
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--against", SIGMA]) == 0
    text = capsys.readouterr().out
    assert text.count("at rate=0.01:") == text.count("at rate=0.1:") == 2
    assert "up to learning.rate" not in text


def test_what_matters_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.95 - 0.2 * point[SIGMA] - 0.02 * point[GAIN] + 0.001 * (-1) ** chip

    spans = {SIGMA: Span(0.0, 1.0), GAIN: Span(0.0, 1.0)}
    path = write_sweep(tmp_path / "l.h5", latin_hypercube(spans, 24, 0), 2, accuracy)
    figure = tmp_path / "l.svg"
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--plot", str(figure)]) == 0
    text = capsys.readouterr().out
    assert f"{SIGMA}    " in text and "alone 99 %" in text and "Q2 = 1.00" in text
    assert "95 % yield" not in text  # no two points differ in one key alone
    assert b"<svg" in figure.read_bytes()

    points = one_at_a_time(Design.named("digits"), {SIGMA: (0.2, 1.0), GAIN: (0.0, 0.5)})
    path = write_sweep(tmp_path / "o.h5", points, 3, accuracy)
    assert main(["yield", str(path), "--require", "accuracy >= 0.9"]) == 0
    text = capsys.readouterr().out
    assert f"{SIGMA} = 1" in text
    assert f"{SIGMA} from 0.2 to 1 changes accuracy by -0.16 (95 % interval -0.16 to -0.16, 3 chips)." in text


def test_too_few_points_say_what_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.95 - 0.2 * point[SIGMA] - 0.02 * point[GAIN]

    spans = {SIGMA: Span(0.0, 1.0), GAIN: Span(0.0, 1.0)}
    few = write_sweep(tmp_path / "f.h5", latin_hypercube(spans, 4, 0), 2, accuracy)
    ask = ["yield", str(few), "--require", "accuracy >= 0.9"]
    assert main(ask) == 1
    why = "what matters to accuracy is not told: 4 points are too few for the 6 coefficients of degree 2 in 2"
    assert why in capsys.readouterr().out
    assert main([*ask, "--plot", str(tmp_path / "f.png")]) == 2
    said = capsys.readouterr().err
    assert f"which varies {SIGMA}, {GAIN}, differ in one numeric key alone; {why}" in said
    assert (
        "sweep 7 points or more, or fewer factors, or give a lower degree ('ohmostat yield --degree 1')"
        in said
    )
    assert main([*ask, "--plot", str(tmp_path / "f.png"), "--degree", "1"]) == 1
    assert "a polynomial of degree 1 with 3 coefficients" in capsys.readouterr().out
