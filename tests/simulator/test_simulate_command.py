"""`ohmostat simulate`: all analyses of a file, as text, JSON, HDF5 and figure, and beside ngspice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ohmostat.cli import build_parser, main
from ohmostat.simulator.analyses import run_deck
from ohmostat.simulator.comparison import Difference, NotCompared, compare_with_ngspice
from ohmostat.simulator.console import Console, as_json
from ohmostat.simulator.netlist import NetlistError
from ohmostat.simulator.operating_point import ConvergenceError, OperatingPoint
from ohmostat.simulator.simulate_command import run
from ohmostat.simulator.spice_reader import SpiceSyntaxError, parse_spice, read_spice
from ohmostat.simulator.transient import TransientError

from .compare import require_ngspice

CIRCUITS = Path(__file__).parent / "circuits"
EVERYTHING = """A low pass $ and a divider
V1 in 0 dc 2 ac 1 pulse(0 1 0 1u 1u 1 2)
R1 in out 1k mismatch=0.1
C1 out 0 1n
R2 out 0 {3*1000} mismatch=0.1
R3 a/b 0 1k
R4 a/b out 1meg
.op
.dc V1 0 2 0.5
.tran 1u 10u
.ac dec 2 1k 1meg
.noise v(out) V1 dec 10 1 1g
.tf v(out) V1
.mc 100 seed=5
.end
"""


def simulate(file: Path, *options: str) -> None:
    arguments = build_parser().parse_args(["simulate", str(file), *options])
    shown = run(arguments, Console(arguments.json))
    if arguments.json:
        print(as_json(shown))


@pytest.fixture
def deck_file(tmp_path: Path) -> Path:
    path = tmp_path / "everything.cir"
    path.write_text(EVERYTHING)
    return path


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    result: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return result


# -- analyses of a deck ----------------------------------------------------------------------------------


def test_results_in_the_order_of_the_deck() -> None:
    results = run_deck(parse_spice(EVERYTHING))
    assert list(results) == ["op", "dc", "tran", "ac", "noise", "tf", "mc"]
    out = "v(out)"
    ratio = 1 / (1 + 1e3 * (1 / 3e3 + 1 / 1.001e6))
    assert results["op"].vectors[out] == pytest.approx([2 * ratio])
    np.testing.assert_allclose(results["dc"].vectors[out], ratio * results["dc"].vectors["sweep"], atol=1e-15)
    tau = 1e-6 * ratio
    t = results["tran"].vectors["time"]
    late = t > 1e-6
    end = 1 - tau / 1e-6 * (np.exp(1e-6 / tau) - 1) * np.exp(-t[late] / tau)
    np.testing.assert_allclose(results["tran"].vectors[out][late], ratio * end, atol=1e-3)
    assert all(np.isclose(t, k * 1e-6, rtol=1e-12, atol=0).any() for k in range(11)) and t[-1] == 10e-6
    s = 2j * np.pi * results["ac"].vectors["frequency"]
    np.testing.assert_allclose(results["ac"].vectors[out], ratio / (1 + s * tau))
    noise = results["noise"]
    assert noise.attributes["onoise_total"] == pytest.approx(np.sqrt(1.38e-23 * 300.15 / 1e-9), rel=0.01)
    assert results["tf"].vectors["transfer_function"] == pytest.approx([ratio])
    assert results["mc"].vectors[out].shape == (100,)
    for result in results.values():
        assert result.units.keys() == result.vectors.keys()
        assert result.axis is None or result.axis in result.vectors


def test_analyses_of_one_kind_are_numbered() -> None:
    text = EVERYTHING.replace(".tf v(out) V1", ".ac lin 3 1 3\n.ac lin 5 1 3\n.op")
    results = run_deck(parse_spice(text))
    assert [len(results[name].vectors["frequency"]) for name in ("ac", "ac 2", "ac 3")] == [7, 3, 5]
    assert [name for name in results if name.startswith("op")] == ["op"]


def test_without_an_analysis_the_operating_point() -> None:
    assert list(run_deck(parse_spice("t\nV1 a 0 1\nR1 a 0 1\n"))) == ["op"]


def test_charges_given_need_no_operating_point() -> None:
    text = "t\nC1 a 0 1n ic=2\nR1 a 0 1k\nL1 b 0 1m ic=1m\nR2 b 0 1\n.tran 1u 3u uic\n"
    results = run_deck(parse_spice(text))
    assert list(results) == ["tran"]
    wave = results["tran"].vectors
    np.testing.assert_allclose(wave["v(a)"], 2 * np.exp(-wave["time"] / 1e-6), atol=2e-3)
    np.testing.assert_allclose(wave["i(l1)"], 1e-3 * np.exp(-wave["time"] / 1e-3), atol=2e-6)


def test_work_is_bounded() -> None:
    for card in (".tran 1u 1m 0 1u", ".dc V1 0 1 1m", ".ac lin 1000 1 1k", ".mc 1000"):
        deck = parse_spice(f"t\nV1 a 0 sin(0 1 1k) ac 1\nR1 a b 1 mismatch=0.1\nC1 b 0 1u\n{card}\n")
        with pytest.raises(
            (NetlistError, TransientError), match=r"<text>:5: .*(at most 500 are allowed|500 steps)"
        ):
            run_deck(deck, most_points=500)


def test_nodeset_chooses_the_state_of_every_analysis() -> None:
    deck = parse_spice((CIRCUITS / "sr-latch.cir").read_text().replace(".tran", "* .tran"))
    point = run_deck(deck)["op"].answer
    assert isinstance(point, OperatingPoint) and deck.nodeset
    for node, volts in deck.nodeset.items():
        assert point[node] == pytest.approx(volts, abs=1.0)


# -- the command ---------------------------------------------------------------------------------------


def test_the_report(deck_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(deck_file)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A low pass $ and a divider"
    assert "operating point by newton" in lines[2] and " A, " in lines[2]
    assert ["in", "2"] in [line.split() for line in lines]
    text = "\n".join(lines)
    assert "dc: 5 points from 0 V to 2 V of v1" in text
    assert "ac: 7 points from 1000 Hz to 1e+06 Hz" in text
    assert "most from r1 7" in text and "mc: 100 samples, seed 5, 0 without operating point" in text


def test_json_has_every_digit(deck_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(deck_file, "--json")
    found, results = printed_json(capsys), run_deck(read_spice(deck_file))
    assert found["op"] == {name: values[0] for name, values in results["op"].vectors.items()}
    assert set(found["residual"]) == {"current", "voltage"} and found["method"] == "newton"
    assert found["dc"]["v(out)"] == results["dc"].vectors["v(out)"].tolist()
    response = results["ac"].vectors["v(out)"]
    assert found["ac"]["v(out)"] == {"real": response.real.tolist(), "imag": response.imag.tolist()}
    assert found["mc"]["v(out)"]["sd"] > 0 and found["mc"]["samples"] == 100
    assert found["tf"]["input_impedance"] == results["tf"].vectors["input_impedance"][0]


def test_json_has_no_infinities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "open.cir"
    path.write_text("t\nV1 g 0 1\nE1 a 0 g 0 2\nR1 a 0 1k\n.tf v(a) V1\n")
    simulate(path, "--json")
    assert printed_json(capsys)["tf"]["input_impedance"] is None


def test_waves_in_hdf5(deck_file: Path, tmp_path: Path) -> None:
    simulate(deck_file, "--out", str(tmp_path / "waves.h5"))
    results = run_deck(read_spice(deck_file))
    with h5py.File(tmp_path / "waves.h5") as file:
        assert set(file) == set(results) and file.attrs["title"] == "A low pass $ and a divider"
        assert file["ac/v(out)"].dtype == np.complex128 and file["ac"].attrs["axis"] == "frequency"
        assert file["ac/v(a|b)"].attrs["name"] == "v(a/b)"
        assert file["op"].attrs["method"] == "newton" and file["tran/time"].attrs["unit"] == "s"
        for kind, result in results.items():
            for name, values in result.vectors.items():
                np.testing.assert_array_equal(file[kind][name.replace("/", "|")][...], values)


def test_names_that_hdf5_confuses(tmp_path: Path) -> None:
    path, out = tmp_path / "slash.cir", tmp_path / "waves.h5"
    path.write_text("t\nV1 a/b 0 1\nV2 a|b 0 2\nR1 a/b a|b 1\n")
    simulate(path, "--out", str(out))
    with h5py.File(out) as file:
        found = {data.attrs["name"]: data[0] for data in file["op"].values()}
    assert (found["v(a/b)"], found["v(a|b)"]) == (1.0, 2.0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure(deck_file: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"waves.{suffix}"
    simulate(deck_file, "--plot", str(path))
    content = path.read_bytes()
    assert len(content) > 10_000 and content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


def test_figure_of_many_curves(tmp_path: Path) -> None:
    cards = "\n".join(f"R{k} n{k} n{k + 1} 1k\nRg{k} n{k} 0 10k" for k in range(12))
    path = tmp_path / "ladder.cir"
    path.write_text(f"t\nV1 n0 0 1\n{cards}\nRe n12 0 1k\n.dc V1 0 1 0.5\n")
    simulate(path, "--plot", str(tmp_path / "waves.svg"))
    assert "and 6 more" in (tmp_path / "waves.svg").read_text()


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("t\nR1 a 0\n", SpiceSyntaxError, r"bad\.cir:2: "),
        ("t\nV1 a 0 1\nR1 a 0 1\nC1 b 0 1\n", SpiceSyntaxError, r"bad\.cir:4: floating.*'b'"),
        (
            "t\nV1 a 0 1\nV2 a 0 2\nR1 a 0 1\n",
            SpiceSyntaxError,
            r"bad\.cir:2: voltages are fixed.*'v1', 'v2'",
        ),
        (
            "t\nV1 a 0 1\nR1 a 0 1\n.ac lin 1 1 1\n",
            NetlistError,
            r"bad\.cir:4: .*no source has an ac amplitude",
        ),
        ("t\nV1 a 0 1\nR1 a 0 1\n.mc 5\n", NetlistError, r"bad\.cir:4: .*no device has a mismatch"),
        ("t\nI1 0 a 1\nR1 a 0 1\nB1 0 a I=v(a)^2\n", ConvergenceError, r"bad\.cir:1: .*'a'"),
        ("t\nI1 0 a 1\nR1 a 0 1\nB1 0 a I=v(a)^2\n.op\n", ConvergenceError, r"bad\.cir:5: .*'a'"),
    ],
)
def test_errors_say_where(tmp_path: Path, text: str, kind: type[Exception], message: str) -> None:
    path = tmp_path / "bad.cir"
    path.write_text(text)
    with pytest.raises(kind, match=message):
        simulate(path)


def test_what_cannot_be_written_is_found_out_first(deck_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        simulate(deck_file, "--out", str(tmp_path / "nowhere" / "waves.h5"))
    path = tmp_path / "op.cir"
    path.write_text("t\nV1 a 0 1\nR1 a 0 1\n")
    with pytest.raises(ValueError, match="nothing to plot"):
        simulate(path, "--plot", str(tmp_path / "waves.png"))


# -- beside ngspice ------------------------------------------------------------------------------------


def worst(differences: list[Difference], kind: str) -> float:
    return max(d.relative for d in differences if d.analysis == kind)


def compared(path: Path) -> tuple[list[Difference], list[NotCompared]]:
    require_ngspice()
    deck = read_spice(path)
    rows = compare_with_ngspice(path, deck, run_deck(deck))
    differences = [row for row in rows if isinstance(row, Difference)]
    return differences, [row for row in rows if isinstance(row, NotCompared)]


def test_everything_against_ngspice(deck_file: Path) -> None:
    differences, missing = compared(deck_file)
    assert NotCompared("mc", "all", "ngspice has no .mc") in missing
    assert {row.analysis for row in missing} <= {"mc", "noise"}
    assert {d.analysis for d in differences} == {"op", "dc", "tran", "ac", "noise", "tf"}
    for kind, allowed in (
        ("op", 1e-6),
        ("dc", 1e-6),
        ("tran", 1e-3),
        ("ac", 1e-6),
        ("noise", 1e-3),
        ("tf", 1e-6),
    ):
        assert worst(differences, kind) < allowed


WARM = """resistors, diodes, transistors and formulas away from 27 degrees
V1 in 0 5
R1 in out 1k tc1=1m tc2=2u
D1 out 0 dd
M1 d in 0 0 mm w=10u l=1u
R2 in d 10k
B1 b 0 v=temper*v(out)
.model dd d is=1e-14 rs=3
.model mm nmos vto=0.7 kp=1e-4 gamma=0.4
"""


@pytest.mark.parametrize(
    ("card", "shape"),
    [
        (".dc temp -40 125 15", (12,)),
        (".dc temp 100 0 -25 v1 1 5 2", (3, 5)),
        (".dc v1 1 5 2 temp 0 100 50", (3, 3)),
    ],
)
def test_the_temperature_is_swept_as_by_ngspice(tmp_path: Path, card: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "warm.cir"
    path.write_text(f"{WARM}{card}\n.temp 60\n")
    result = run_deck(read_spice(path))["dc"]
    axis = "sweep" if card.startswith(".dc temp") else "outer"
    assert result.vectors["v(out)"].shape == shape and result.units[axis] == "°C"
    differences, missing = compared(path)
    assert {d.analysis for d in differences} == {"op", "dc"}
    assert {row.vector for row in missing} == {"v(d1#internal)"} and worst(differences, "dc") < 1e-6
    if len(shape) == 1:  # and as by our own .temp
        path.write_text(f"{WARM}.temp 125\n")
        hot = run_deck(read_spice(path))["op"].vectors
        assert result.vectors["v(d)"][-1] == pytest.approx(hot["v(d)"][0], abs=1e-12)


def test_a_temperature_that_a_device_does_not_stand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cold.cir"
    path.write_text("t\nV1 a 0 1\nR1 a 0 1k tc1=-20m\n.dc temp 0 100 25\n")
    with pytest.raises(SpiceSyntaxError, match=r"cold.cir:3: at 100 °C: r1: resistance is -460 ohm"):
        run_deck(read_spice(path))


def test_a_wrong_answer_is_found(deck_file: Path) -> None:
    require_ngspice()
    deck = read_spice(deck_file)
    results = run_deck(parse_spice(EVERYTHING.replace("R1 in out 1k", "R1 in out 1001")))
    rows = compare_with_ngspice(deck_file, deck, results)
    found = {(d.analysis, d.unit): d for d in rows if isinstance(d, Difference)}
    assert found["op", "V"].vector == "v(out)" and found["op", "V"].relative == pytest.approx(
        2.5e-4, rel=0.01
    )


def test_included_files_and_subcircuits_are_compared(tmp_path: Path) -> None:
    (tmp_path / "models.inc").write_text(".model dd d(is=1e-12 mismatch={2*5}%)\n")
    path = tmp_path / "top.cir"
    path.write_text(
        "* top\n.include models.inc\nV1 in 0 1\nX1 in out half\nD1 out 0 dd ; clamps\n"
        ".subckt half a b r=1k\nR1 a b {r}\nV2 b c 0\nR2 c 0 {r} $ two\n.ends\n.op\n.mc 5\n"
    )
    differences, _ = compared(path)
    assert {d.vector[:2] for d in differences} == {"v(", "i("} and worst(differences, "op") < 1e-9


def test_a_resistance_that_ngspice_does_not_compute_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "current.cir"
    path.write_text("t\nV1 a 0 1\nV2 a b 0\nR1 b 0 1k\n.tf i(v2) v1\n")
    differences, missing = compared(path)
    assert [(row.analysis, row.vector) for row in missing] == [("tf", "output_impedance")]
    assert worst(differences, "tf") < 1e-9


def test_ekv_is_compared_through_an_emitted_subcircuit(tmp_path: Path) -> None:
    path = tmp_path / "ekv.cir"
    path.write_text(
        "t\nVdd vdd 0 1.8\nVg g 0 0.6\nM1 d g 0 0 n w=5u l=1u\nR1 vdd d 100k\n"
        ".model n nmos level=44 vto=0.5 kp=1e-4 gamma=0.5 phi=0.7\n.op\n.tf v(d) vg\n"
    )
    differences, missing = compared(path)
    assert [(row.analysis, row.vector, "EKV" in row.why) for row in missing] == [("tf", "all", True)]
    assert worst(differences, "op") < 1e-6 and {d.analysis for d in differences} == {"op"}


def test_a_capacitors_current_has_two_sides_at_a_sources_corner(tmp_path: Path) -> None:
    path = tmp_path / "corner.cir"
    path.write_text("t\nV1 a 0 pulse(0 1 1u 1u 1u 5u 20u)\nC1 a 0 1n\nR1 a 0 1meg\n.tran 0.1u 20u\n")
    differences, _ = compared(path)
    assert {d.vector for d in differences} == {"v(a)", "i(v1)"} and worst(differences, "tran") < 1e-6


def test_time_stands_still_but_in_a_transient(tmp_path: Path) -> None:
    """In ngspice's sweeps it does not; beside one, not even in its operating point."""
    path = tmp_path / "timed.cir"
    path.write_text(
        "t\n.param k=4\nV1 a 0 1\nB1 b 0 v={k}*v(a)*{k/8}+sin(1k*time+1)\nR1 b 0 1k\n"
        ".op\n.dc v1 0 2 0.5\n.tran 1u 1m\n"
    )
    differences, missing = compared(path)
    assert [row.analysis for row in missing] == ["dc"]
    assert worst(differences, "op") < 1e-9 and worst(differences, "tran") < 1e-6


def test_a_chips_design_is_no_netlist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chip.toml"
    path.write_text('name = "mine"\n')
    assert main(["simulate", str(path)]) != 0
    assert "is a chip's design by its name" in capsys.readouterr().err
    path.rename(tmp_path / "chip.CIR")
    assert main(["train", str(tmp_path / "chip.CIR")]) != 0
    assert "'ohmostat simulate' runs it" in capsys.readouterr().err


def test_the_report_shows_the_differences(deck_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_ngspice()
    simulate(deck_file, "--against", "ngspice")
    text = capsys.readouterr().out
    assert "largest differences from ngspice" in text and "onoise_spectrum" in text
    assert ["mc", "all", "not", "compared:", "ngspice", "has", "no", ".mc"] in [
        x.split() for x in text.splitlines()
    ]
    simulate(deck_file, "--against", "ngspice", "--json")
    assert {d["analysis"] for d in printed_json(capsys)["ngspice"]} >= {"op", "tran", "tf"}


def test_what_ngspice_refuses_keeps_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It wants a source with `ac` for noise; ours does not."""
    require_ngspice()
    path = tmp_path / "noisy.cir"
    path.write_text("t\nV1 in 0 1\nR1 in out 1k\nR2 out 0 1k\n.op\n.noise v(out) V1 dec 1 1 10\n.end\n")
    assert main(["simulate", str(path), "--against", "ngspice"]) == 1
    told = capsys.readouterr()
    assert "voltage [V]" in told.out and "at v(out): " in told.out
    assert "ohmostat: not compared with ngspice: ngspice refused" in told.err
    assert main(["simulate", str(path), "--against", "ngspice", "--json"]) == 1
    found = printed_json(capsys)
    assert found["op"]["v(out)"] == 0.5 and "not compared" in found["warnings"][0]


# -- where an analysis fails -----------------------------------------------------------------------------

HALF = """A square that nothing balances once V1 is at 1 V
V1 c 0 dc 0 ac 1 pulse(1 0 1u 1u 1u 1u 10u)
B1 x 0 i=1e-3*(v(c)-0.5+v(x)*v(x))
R1 x 0 1meg
.op
.tran 10n 1u
.ac lin 1 1k 1k
.end
"""


def test_what_fails_leaves_the_other_analyses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "half.cir"
    path.write_text(HALF)
    lost = f"no tran: {path}:6: netlist 'A square that nothing balances once V1 is at 1 V': no operating"
    out = tmp_path / "half.h5"
    assert main(["simulate", str(path), "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert "operating point by" in told.out and "ac: 1 points" in told.out and "tran:" not in told.out
    assert f"ohmostat: {lost}" in told.err and out.exists()
    assert main(["simulate", str(path), "--json"]) == 1
    found = printed_json(capsys)
    assert found["op"]["v(x)"] == pytest.approx(0.5**0.5, abs=1e-3)
    assert found["ac"]["v(x)"]["real"] == pytest.approx([-(0.5**0.5)], abs=1e-3)
    assert [warning[: len(lost)] for warning in found["warnings"]] == [lost] and "tran" not in found
    with pytest.raises(ConvergenceError, match=":6: netlist"):
        run_deck(read_spice(path))


def test_without_an_operating_point_what_needs_none_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture = tmp_path / "half.cir", tmp_path / "half.png"
    path.write_text(HALF.replace("dc 0", "dc 1").replace("pulse(1 0", "pulse(0 0.2"))
    assert main(["simulate", str(path), "--plot", str(picture)]) == 1
    told = capsys.readouterr()
    assert "tran: " in told.out and "ac:" not in told.out and picture.exists()
    assert "ohmostat: no op: " in told.err
    assert f"no ac: {path}:7: no operating point to linearise the circuit at" in told.err


def test_no_figure_of_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "half.cir", tmp_path / "half.png"
    path.write_text(HALF.replace(".ac lin 1 1k 1k\n", ""))
    assert main(["simulate", str(path), "--plot", str(picture)]) == 1
    told = capsys.readouterr()
    assert "operating point by" in told.out and "no figure: nothing to plot" in told.err
    assert not picture.exists()
