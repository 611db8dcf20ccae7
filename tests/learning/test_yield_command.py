"""A sweep's yield by the command, on sweep files whose accuracies are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import binom, norm

from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning.points import Point, Span, grid, latin_hypercube, one_at_a_time
from ohmostat.learning.sweep import SCHEMA, SCHEMA_VERSION, RunKey
from ohmostat.learning.yields import chips_to_certify, shows

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
    assert main([*arguments, "--plot", str(figure)]) == 3  # 20 of 20 chips do not show 90 %
    text = capsys.readouterr().out
    head, _, rest = text.partition("\n\n")
    assert head.startswith("chips that pass accuracy >= 0.9:\n") and "0  20 of 20   20 of 20" in head
    first, second = rest.split("homeostat: accuracy >= 0.9")
    assert first.startswith("arm none: accuracy >= 0.9") and "29 chips must all pass" in first
    for part, edge in ((first, 0.5), (second, 0.8)):
        found = float(part.split(f"90 % yield is kept up to {SIGMA} = ")[1].split(" ")[0])
        assert found == pytest.approx(norm.ppf(0.1, edge, 0.1), abs=0.03)
    assert "90 % yield: shown at 0 of 13 points, refuted at " in first
    assert "29 other chips at mismatch.conductance = 0.3" in first
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--require", "inference_energy <= 500pJ", "--arms", "none"]) == 1  # never met
    text = capsys.readouterr().out
    assert "all points together: 0 of 260 runs pass, 0 %" in text
    assert "90 % yield is kept at no mismatch.conductance that was swept" in text


@pytest.mark.parametrize(
    ("target", "arm", "status", "met"),
    [
        ("0.95", "none", 1, [False, False]),  # 10 and 0 of 20 chips pass
        ("0.5", "none", 3, [None, False]),
        ("0.25", "none", 0, [True, False]),
        ("0.95", "homeostat", 3, [None, False]),  # 20 and 3
        ("0.86", "homeostat", 0, [True, False]),
    ],
)
def test_the_status_tells_whether_the_target_is_shown(
    target: str, arm: str, status: int, met: list[bool | None], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = write_sweep(tmp_path / "s.h5", grid({SIGMA: (0.5, 0.9)}), 20, falling)
    arguments = ["yield", str(path), "--require", "accuracy >= 0.9", "--arms", arm, "--target", target]
    assert main([*arguments, "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert found["met"] is {0: True, 1: False, 3: None}[status] and found["target"] == float(target)
    assert found["arms"][arm]["met"] == met
    assert found["arms"][arm]["passed"] == ([10, 0] if arm == "none" else [20, 3])
    (limit,) = found["arms"][arm]["limits"]
    assert limit["key"] == SIGMA and limit["inside"] == (limit["x"] is not None)


@pytest.mark.parametrize("failing", [(), (2,), (1, 3)])
def test_one_chip_a_level_determines_no_yield(
    failing: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it never fails, fails at the last level, or here and there."""
    levels = (0.0, 0.2, 0.5, 1.0)

    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.85 if levels.index(point[SIGMA]) in failing else 0.95

    path = write_sweep(tmp_path / "s.h5", grid({SIGMA: levels}), 1, accuracy)
    ask = ["yield", str(path), "--require", "accuracy >= 0.9"]
    assert main(ask) == 3
    text = capsys.readouterr().out
    never = "no chip failed; the yield is not determined: 95 % yield takes 59 chips at a level." in text
    assert never == (not failing)
    assert "95 % yield: shown at 0 of 4 points, refuted at 0, open at 4, with 95 %" in text
    assert main([*ask, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["met"] is None and not found["arms"]["none"]["limits"][0]["determined"]


def test_faultless_chips_show_a_yield_once_there_are_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many as :func:`chips_to_certify` says, and not one fewer."""
    for target in (0.5, 0.05, 0.9):
        enough = chips_to_certify(target)
        for chips, met in ((enough, True), (enough - 1, None)):
            if chips:
                path = write_sweep(tmp_path / "c.h5", grid({SIGMA: (0.0,)}), chips, lambda *_: 0.95)
                ask = ["yield", str(path), "--require", "accuracy >= 0.9", "--target", str(target), "--json"]
                assert main(ask) == (0 if met else 3)
                assert json.loads(capsys.readouterr().out)["met"] is met
            assert not chips or shows(chips, chips, target) is met
    assert shows(0, 58, 0.05) is None and shows(0, 59, 0.05) is False
    grid_of_yields = np.linspace(0.01, 0.99, 99)
    for passed, total in ((3, 10), (19, 20), (0, 5), (40, 60)):
        for goal in grid_of_yields:
            above, below = binom.sf(passed - 1, total, goal), binom.cdf(passed, total, goal)
            expected = True if above <= 0.05 else False if below < 0.05 else None
            assert shows(passed, total, goal) is expected


def test_a_polynomial_that_predicts_nothing_tells_no_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.9 + 0.05 * float(np.sin(1e4 * point[SIGMA]))

    spans = {SIGMA: Span(0.0, 1.0), GAIN: Span(0.0, 1.0)}
    path = write_sweep(tmp_path / "l.h5", latin_hypercube(spans, 12, 0), 2, accuracy)
    ask = ["yield", str(path), "--require", "accuracy >= 0.9", "--degree", "3", "--json"]
    assert main(ask) == 3
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
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--plot", str(figure)]) == 3
    assert "what matters to accuracy is not told: 4" in figure.read_text("utf-8")
    assert main(["report", str(path), "--require", "accuracy >= 0.9", "--out", str(page)]) == 0
    assert "what matters to accuracy is not told" in page.read_text("utf-8")


def test_other_keys_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = grid({SIGMA: (0.0, 0.4, 0.8, 1.2), RATE: (0.01, 0.1)})
    path = write_sweep(tmp_path / "s.h5", points, 20, falling)
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--against", SIGMA]) == 3
    text = capsys.readouterr().out
    assert text.count("at rate=0.01:") == text.count("at rate=0.1:") == 2
    assert "up to learning.rate" not in text


def test_what_matters_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def accuracy(point: dict[str, float], arm: str, chip: int) -> float:
        return 0.95 - 0.2 * point[SIGMA] - 0.02 * point[GAIN] + 0.001 * (-1) ** chip

    spans = {SIGMA: Span(0.0, 1.0), GAIN: Span(0.0, 1.0)}
    path = write_sweep(tmp_path / "l.h5", latin_hypercube(spans, 24, 0), 2, accuracy)
    figure = tmp_path / "l.svg"
    assert main(["yield", str(path), "--require", "accuracy >= 0.9", "--plot", str(figure)]) == 3
    text = capsys.readouterr().out
    assert f"{SIGMA}    " in text and "alone 99 %" in text and "Q2 = 1.00" in text
    assert "95 % yield is" not in text  # no two points differ in one key alone
    assert b"<svg" in figure.read_bytes()

    points = one_at_a_time(Design.named("digits"), {SIGMA: (0.2, 1.0), GAIN: (0.0, 0.5)})
    path = write_sweep(tmp_path / "o.h5", points, 3, accuracy)
    assert main(["yield", str(path), "--require", "accuracy >= 0.9"]) == 3
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
