"""The fit finds the parameters of curves simulated pulse by pulse, says how well, and refuses bad files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.fit import Fit, fit
from ohmostat.circuits.fit_device import Estimate
from ohmostat.circuits.fit_report import plain, pulses, table, to_toml
from ohmostat.circuits.measurements import Curves, read_curves, without_wrong
from ohmostat.circuits.tables import MeasurementError
from ohmostat.cli import main

Rows = list[tuple[Any, ...]]
TRUE = {
    "device.g_min": 1e-6, "device.g_max": 2e-5, "programming.pulse": 0.02, "programming.nonlinearity": 1.0,
    "programming.asymmetry": 0.1, "programming.cycle": 0.3, "mismatch.conductance": 0.2,
    "mismatch.programming": 0.3, "mismatch.programming_bias": 0.05,
}  # fmt: skip


def simulate(devices: int = 20, read: float = 0.0, seed: int = 1, law: Any = None, **change: float) -> Rows:
    """The model as it is written down, one pulse after the other: 150 up, 150 down, three times."""
    of = {key.split(".")[1]: value for key, value in TRUE.items()} | change
    draw, rows = np.random.default_rng(seed), []
    for device in range(devices):
        deviation, gain = np.exp(np.array((of["conductance"], of["programming"])) * draw.standard_normal(2))
        bias = of["asymmetry"] + of["programming_bias"] * draw.standard_normal()
        x, span = 0.0, of["g_max"] - of["g_min"]
        for pulse in range(900):
            sign = 1 if pulse // 150 % 2 == 0 else -1
            step = of["pulse"] * gain * (1 + sign * bias) * (1 + of["cycle"] * draw.standard_normal())
            step *= law(x, sign) if law else 1 + of["nonlinearity"] * sign * (0.5 - x)
            x = min(max(x + sign * step, 0.0), 1.0)
            g = deviation * (of["g_min"] + x * span) + read * span * draw.standard_normal()
            rows.append((device, pulse // 300, pulse, sign, max(float(g), 0.0)))
    return rows


def written(path: Path, rows: Rows, unit: str = "S", scale: float = 1.0) -> Path:
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("device", "cycle", "pulse", "direction", f"conductance_{unit}"))
        out.writerows((*row[:4], row[4] / scale) for row in rows)
    return path


def fitted(tmp_path: Path, rows: Rows) -> Fit:
    return fit(read_curves(written(tmp_path / "m.csv", rows)))


def estimate(found: Fit, key: str) -> Estimate:
    value = found.values[key]
    assert value is not None
    return value


@pytest.mark.parametrize("change", [{}, {"nonlinearity": 2.0, "pulse": 0.03}, {"nonlinearity": 0.0}])
def test_every_parameter_is_found_within_its_error(tmp_path: Path, change: dict[str, float]) -> None:
    found = fitted(tmp_path, simulate(**change))
    for key, true in (TRUE | {f"programming.{name}": value for name, value in change.items()}).items():
        value, error = estimate(found, key)
        # beyond chance: limits are the extremes of what was seen, up to a step off, and the range with them
        assert abs(value - true) < 3.5 * error + 0.03 * true + 0.02 * (key == "programming.nonlinearity"), key
    assert found.r_squared > 0.99
    assert not [remark for remark in found.remarks if "straight line" in remark or "up and" in remark]


def test_noise_of_reading_is_told_from_that_of_writing(tmp_path: Path) -> None:
    found = fitted(tmp_path, simulate(read=0.01, conductance=0.0))
    assert estimate(found, "programming.read_noise").value == pytest.approx(0.01, rel=0.1)
    assert estimate(found, "programming.cycle").value == pytest.approx(0.3, abs=0.1)
    # plain least squares takes each reading's noise for a step away and back, and bends the line
    assert estimate(found, "programming.nonlinearity").value == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("read", [0.0, 0.005, 0.01])
def test_noisy_readings_at_rest_do_not_widen_the_range(tmp_path: Path, read: float) -> None:
    """The truth within three errors, beyond which the extremes of noisy readings are."""
    change = {"g_min": 2e-6, "g_max": 3e-5, "nonlinearity": 1.2, "asymmetry": 0.15, "cycle": 0.2}
    same = {"conductance": 0.0, "programming": 0.2}
    for seed in range(3):
        found = fitted(tmp_path, simulate(read=read, seed=seed, **change, **same))
        for key in [key for key in TRUE if not key.startswith("mismatch")]:
            of, true = estimate(found, key), change.get(key.split(".")[1], TRUE[key])
            assert abs(of.value - true) < 3 * of.error + 1e-5 * true, (key, seed)
        assert estimate(found, "device.g_min").error < 5e-8
        assert estimate(found, "device.g_min").value == pytest.approx(2e-6, abs=8e-8)


@pytest.mark.parametrize("bend", [2.0, 1.9])
@pytest.mark.parametrize("read", [0.005, 0.02])
def test_soft_bounds_are_found_in_noisy_readings(tmp_path: Path, bend: float, read: float) -> None:
    """Their limits are where readings stay, not the extremes; these made every pulse up to 15 % too small."""
    same = {"conductance": 0.0, "programming": 0.0, "programming_bias": 0.0}
    change = {"pulse": 0.03, "nonlinearity": bend, "cycle": 0.2}
    for seed in range(3):
        found = fitted(tmp_path, simulate(10, read=read, seed=seed, **change, **same))
        true = TRUE | {f"programming.{key}": value for key, value in change.items()}
        for key in [key for key in true if not key.startswith("mismatch")]:
            of = estimate(found, key)
            assert abs(of.value - true[key]) < 3 * of.error, (key, seed)
        assert estimate(found, "programming.pulse").value == pytest.approx(0.03, rel=0.03)
        of = estimate(found, "programming.read_noise")
        assert 0 < of.error < 0.05 * read and abs(of.value - read) < 3.5 * of.error


def with_wrong(rows: Rows, share: float, seed: int) -> Rows:
    """A share of the readings off by a third of the range."""
    draw = np.random.default_rng(seed)
    off = [6e-6 * draw.choice((-1, 1)) * (draw.random() < share) for _ in rows]
    return [(*row[:4], max(row[4] + by, 0.0)) for row, by in zip(rows, off, strict=True)]


@pytest.mark.parametrize(
    "change", [{"nonlinearity": 1.0, "read": 0.0}, {"nonlinearity": 2.0, "read": 0.005}], ids=str
)
def test_wrong_readings_are_left_out_and_counted(tmp_path: Path, change: dict[str, float]) -> None:
    """One in a hundred made cycle seven times too large, or made the curves seem to go the wrong way."""
    same = {"conductance": 0.0, "programming": 0.0, "programming_bias": 0.0}
    for seed in range(3):
        rows = simulate(4, seed=seed, pulse=0.03, cycle=0.2, **change, **same)
        found = fitted(tmp_path, with_wrong(rows, 0.01, seed))
        true = {"pulse": 0.03, "nonlinearity": change["nonlinearity"], "asymmetry": 0.1, "cycle": 0.2}
        for key, value in true.items():
            of = estimate(found, f"programming.{key}")
            assert abs(of.value - value) < 3.5 * of.error, (key, seed)
        assert estimate(found, "programming.cycle").value == pytest.approx(0.2, abs=0.06)
        assert any("readings are far off those before and after" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    "change",
    [{}, {"nonlinearity": 2.0, "pulse": 0.1}, {"read": 0.02}, {"pulse": 0.5}, {"pulse": 0.002, "read": 0.01}],
    ids=str,
)
def test_no_reading_of_a_device_that_keeps_to_its_law_is_wrong(
    change: dict[str, float], tmp_path: Path
) -> None:
    for curves in read_curves(written(tmp_path / "m.csv", simulate(5, **change))):
        assert without_wrong(curves) is curves


@pytest.mark.parametrize("seed", [0, 5])
def test_noise_is_known_from_the_start(tmp_path: Path, seed: int) -> None:
    """Taken for variation of the pulses, it led some devices' lines to soft bounds and a cycle of 5."""
    same = {"conductance": 0.0, "programming": 0.2}
    found = fitted(tmp_path, simulate(read=0.005, seed=seed, nonlinearity=1.2, cycle=0.2, **same))
    assert max(device.lines.cycle.value for device in found.devices) < 0.4
    assert found.residual < 0.015


def test_cycle_is_not_less_for_what_the_lines_take(tmp_path: Path) -> None:
    same = {"conductance": 0.0, "programming": 0.0, "programming_bias": 0.0}
    values = [estimate(fitted(tmp_path, simulate(5, seed=k, **same)), "programming.cycle") for k in range(8)]
    assert np.mean([of.value for of in values]) == pytest.approx(0.3, rel=0.03)


def test_errors_are_those_of_repetition(tmp_path: Path) -> None:
    """What the fit of one device says of its error, against the scatter of many fits of the same device."""
    same = {"conductance": 0.0, "programming": 0.0, "programming_bias": 0.0}
    fits = [fitted(tmp_path, simulate(1, seed=seed, **same)) for seed in range(30)]
    for key in (
        "programming.pulse",
        "programming.nonlinearity",
        "programming.asymmetry",
        "programming.cycle",
    ):
        values, errors = np.array([estimate(f, key) for f in fits]).T
        assert 0.6 < np.std(values, ddof=1) / np.mean(errors) < 1.6, key  # 30 tell an sd to 13 %


def turning(up: float, down: float, bend: float, pulses: int, noise: float = 0.0, start: float = 0.0) -> Rows:
    """Five devices from 5 to 50 uS, up and down by so many pulses, four times, whether they rest or not."""
    draw, rows = np.random.default_rng(3), []
    for device in range(5):
        x = start
        for pulse in range(8 * pulses):
            sign = 1 if pulse // pulses % 2 == 0 else -1
            size = (up if sign > 0 else down) * (1 + bend * sign * (0.5 - x))
            x = min(max(x + sign * size * (1 + 40 * noise * draw.standard_normal()), 0.0), 1.0)
            read = 5e-6 + 45e-6 * (x + noise * draw.standard_normal())
            rows.append((device, 0, pulse, sign, max(read, 0.0)))
    return rows


@pytest.mark.parametrize("noise", [0.0, 0.005])
@pytest.mark.parametrize(
    ("law", "pulses", "start", "soft"),
    [
        ((0.025, 0.04, 2.0), 50, 0.0, True),  # soft bounds, nearly reached
        ((0.025, 0.025, 2.0), 25, 0.0, True),
        ((0.025, 0.025, 2.0), 25, 0.3, True),  # half of the range
        ((0.02, 0.03, 1.0), 25, 0.3, True),  # no soft bounds, but nothing tells
        ((0.01, 0.01, 0.0), 30, 0.3, False),  # linear: the limits may be anywhere
        ((0.01, 0.015, 0.0), 60, 0.0, False),  # the lower one alone is reached
        ((0.02, 0.01, 1.0), 60, 0.0, None),  # one limit reached: it and the lines tell the other
    ],
)
def test_limits_that_were_not_reached_are_found_within_their_error(
    tmp_path: Path,
    law: tuple[float, float, float],
    pulses: int,
    start: float,
    soft: bool | None,
    noise: float,
) -> None:
    found, (up, down, bend) = fitted(tmp_path, turning(*law, pulses, noise, start)), law
    true = {
        "device.g_min": 5e-6, "device.g_max": 5e-5, "programming.pulse": (up + down) / 2,
        "programming.nonlinearity": bend, "programming.asymmetry": (up - down) / (up + down),
    }  # fmt: skip
    for key, value in true.items():
        of = estimate(found, key)
        assert abs(of.value - value) < 3 * of.error + 1e-9, key
    remarks = [remark for remark in found.remarks if "still moved" in remark]
    assert remarks or soft is None
    if not noise:  # else the lines may be too vague to tell
        assert len(remarks) == (soft is not None)
        assert all(("soft bounds" in remark) == soft for remark in remarks)


def test_fifths_of_the_range_with_too_few_steps_are_said_not_to_tell(tmp_path: Path) -> None:
    found = fitted(tmp_path, simulate(1, pulse=0.2, nonlinearity=0.0, cycle=0.0, programming=0.0))
    assert None in found.pattern[1]
    assert "inf" not in table(found) and "too few steps there to tell" in table(found)
    assert None in plain(found)["pattern"]["up"]  # type: ignore[index]


def test_one_device_tells_no_spread(tmp_path: Path) -> None:
    found = fitted(tmp_path, simulate(1))
    assert found.values["mismatch.conductance"] is None
    assert "one device alone" in found.remarks[0]
    text = to_toml(found, "m.csv")
    assert "# conductance: one device tells no spread" in text
    assert Design.from_text(text).mismatch.conductance == Design().mismatch.conductance


def test_identical_devices_have_no_spread_beyond_its_error(tmp_path: Path) -> None:
    found = fitted(tmp_path, simulate(conductance=0.0, programming=0.0, programming_bias=0.0))
    for key in ("conductance", "programming", "programming_bias"):
        value, error = estimate(found, f"mismatch.{key}")
        assert value < 3 * error + 0.005, key


def test_a_law_that_is_not_the_models_is_said_so(tmp_path: Path) -> None:
    bent = fitted(tmp_path, simulate(law=lambda x, sign: 0.2 + 2.4 * (x - 0.5) ** 2 * 2))
    assert any("straight line" in remark for remark in bent.remarks)
    unlike = fitted(tmp_path, simulate(law=lambda x, sign: 1 + (1.4 if sign > 0 else 0.2) * sign * (0.5 - x)))
    assert any("up and" in remark and "misses" in remark for remark in unlike.remarks)
    assert "! " in table(unlike)


def test_a_device_that_fits_far_worse_than_the_others_is_named(tmp_path: Path) -> None:
    rows = simulate(8, read=0.005)
    assert not [remark for remark in fitted(tmp_path, rows).remarks if "fits worst" in remark]
    odd = [(*row[:4], row[4] * (0.6 if row[0] == 5 and row[2] > 500 else 1)) for row in rows]
    named = [remark for remark in fitted(tmp_path, odd).remarks if "fits worst" in remark]
    assert len(named) == 1 and named[0].startswith("device 5 fits worst: residual ")


def test_a_design_reads_what_was_fitted_and_the_figure_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "m.csv", simulate(3), "uS", 1e-6)
    out, plot = tmp_path / "device.toml", tmp_path / "fit.png"
    assert main(["fit", str(file), "--out", str(out), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert "programming.nonlinearity" in printed and "R^2" in printed
    design = Design.from_toml(out)
    found = fit(read_curves(file))
    for key in found.values:
        section, leaf = key.split(".")
        assert getattr(getattr(design, section), leaf) == pytest.approx(estimate(found, key).value, rel=1e-3)
    assert design.programming.mode == "pulses"
    assert plot.read_bytes().startswith(b"\x89PNG")


GOOD = simulate(1)


def changed(line: int, column: int, value: object) -> Rows:
    row = list(GOOD[line - 2])
    row[column] = value
    return [*GOOD[: line - 2], tuple(row), *GOOD[line - 1 :]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(7, 2, "five"), ":7: pulse = 'five'"),
        (changed(7, 2, -1), ":7: pulse = '-1'"),
        (changed(8, 2, GOOD[0][2]), "is on line 2 already"),
        (changed(9, 3, "sideways"), ":9: direction = 'sideways'; write up or down"),
        (changed(3, 0, " "), ":3: has no device"),
        (GOOD[:155], "has 5 steps down after a reading and a step; needs 12"),
        (GOOD[:140], "0 steps down"),
        ([(*row[:3], -row[3], row[4]) for row in GOOD], "up and down exchanged"),
        ([(*row[:4], 1e-6) for row in GOOD], "does not move"),
        (GOOD[:1], "has one reading"),
        ([], "has no rows of data"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: Rows, words: str) -> None:
    with pytest.raises(MeasurementError, match=r"device|m\.csv") as error:
        fitted(tmp_path, rows)
    assert words in str(error.value)


def test_pulses_are_counted_through_cycles_and_missing_readings() -> None:
    cycle, pulse = np.array([0, 0, 0, 1, 1]), np.array([3, 4, 7, 0, 1])
    found = pulses(Curves("a", cycle, pulse, np.ones(5, np.int64), np.zeros(5)))
    assert found.tolist() == [3, 4, 7, 8, 9]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'device'"),
        ("device,pulse,conductance_S\n0,1,1e-6\n", "no column 'direction'"),
        ("device,pulse,direction\n", "no column where one conductance with its unit"),
        ("conductance_nS\n", "and conductance_S (or _mS, _uS, _nS, _pS)"),
        ("device,device,pulse,direction,conductance_S\n", "two columns 'device'"),
        ("device,pulse,direction,conductance\n", "name it conductance_S (or _mS, _uS, _nS, _pS)"),
        ("device,pulse,direction,conductance_A\n", "conductance_A where one conductance with its unit"),
        ("device,pulse,direction,conductance_S\n0,1,up,12\n", "mind the unit"),
        ("device,pulse,direction,conductance_S\n0,1,up,-1e-6\n", ":2: conductance = '-1e-6' is negative"),
        ("device,pulse,direction,conductance_S\n0,1,up,nan\n", "is no number"),
        ("device,pulse,direction,conductance_S\n0,1,up,__import__('os')\n", "is no number"),
        ("device,pulse,direction,conductance_S\n\n0,1,up\n", ":3: 3 fields, where the header has 4"),
        ('device,pulse,direction,conductance_S\n0,1,up,"1e-6\n', "is not CSV"),
        (
            "device;pulse;direction;conductance_uS\n0;1;up;1,5\n",
            ":2: conductance = '1,5' has a comma; write decimals with a point",
        ),
        ('device,pulse,direction,conductance_uS\n0,1,up,"1,5"\n', "decimals with a point"),
        (
            "device,pulse,direction,conductance_uS\n0,1,up,1,5\n",
            ":2: 5 fields, where the header has 4; give one value for each column, and decimals with a point",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(MeasurementError) as error:
        read_curves(path)
    assert words in str(error.value) and str(error.value).startswith(str(path))


def test_all_lines_at_fault_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    head = "device,pulse,direction,conductance_S\n"
    path.write_text(f"{head}0,1,up,1e-6\n0,two,up,1e-6\n0,3,left,1e-6\n0,4,up\n,5,up,1e-6\n0,6,up,1e-6\n")
    with pytest.raises(MeasurementError) as error:
        read_curves(path)
    lines = str(error.value).splitlines()
    assert [line.removeprefix(f"{path}:")[:2] for line in lines] == ["3:", "4:", "5:", "6:"]
    path.write_text(head + "0,1,sideways,1e-6\n" * 25)
    with pytest.raises(MeasurementError) as error:
        read_curves(path)
    assert str(error.value).count("sideways") == 10 and str(error.value).endswith("\nand 15 more")
    path.write_text(head + "".join(f"0,{pulse // 2},up,1e-6\n" for pulse in range(6)))
    with pytest.raises(MeasurementError) as error:
        read_curves(path)
    assert str(error.value).count("already") == 3


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_other_separators_are_read(tmp_path: Path, separator: str) -> None:
    path, other = written(tmp_path / "m.csv", GOOD), tmp_path / "other.csv"
    other.write_text("\ufeff" + path.read_text().replace(",", separator), encoding="utf-8")
    for ours, theirs in zip(read_curves(path), read_curves(other), strict=True):
        assert np.array_equal(ours.conductance, theirs.conductance)
        assert np.array_equal(ours.pulse, theirs.pulse)


def test_missing_binary_and_huge_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.csv"
    assert main(["fit", str(path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["fit", str(path)]) == 2
    with path.open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    assert main(["fit", str(path)]) == 2
    assert "give fewer at a time" in capsys.readouterr().err


def test_a_pulse_left_out_is_no_step(tmp_path: Path) -> None:
    """Rows need no order, and a gap in the pulses' numbers is not taken for one step."""
    rows = [row for row in simulate(2) if row[2] % 50]
    order = np.random.default_rng(0).permutation(len(rows))
    found = fitted(tmp_path, [rows[k] for k in order])
    again = fitted(tmp_path, rows)
    assert {d.device: d.lines.up for d in found.devices} == {d.device: d.lines.up for d in again.devices}
    assert all(len(d.steps.size) < 900 - 2 * 18 for d in found.devices)
