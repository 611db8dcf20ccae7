"""``.meas``: every form against ngspice, closed forms where ngspice is coarse, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohmostat.cli import main
from ohmostat.simulator.analyses import run_deck
from ohmostat.simulator.comparison import Difference, NotCompared, compare_with_ngspice
from ohmostat.simulator.measure import FINER, MOST_FINER, Measured, _crossings, _finer
from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice, read_spice

from .compare import require_ngspice

TRIANGLES = """straight lines: what is measured is known exactly
V1 a 0 pwl(0 0.1 10u 1 20u 0 30u 1 40u 0)
V2 b 0 0.5
R1 a 0 1k
R2 b 0 1k
.param high=0.8
.tran 0.01u 40u 0 0.01u
"""
LOW_PASS = """a low-pass and a pulse
V1 in 0 pulse(0 1 1u 1u 1u 20u 50u)
R1 in out 1k
C1 out 0 2n
R2 out 0 100k
.tran 0.05u 100u 0 0.02u
"""
DIVIDER = """a sweep
V1 a 0 1
V2 b 0 0.3
R1 a c 1k
R2 c 0 1k
.dc V1 -1 2 0.1
"""
FALLING = DIVIDER.replace("-1 2 0.1", "2 -1 -0.1")
POLES = """two low-passes
V1 in 0 dc 0 ac 1
R1 in out 1k
C1 out 0 1n
R2 in x 1k
C2 x 0 10n
.ac dec 50 1k 10meg
"""
FORMS = [  # deck, measurement, and how far apart answers may be, relatively
    *(
        (TRIANGLES, f".meas tran m {form}", 1e-3)
        for form in (
            "max v(a) to=20u",
            "max v(a) from=12u to=22u",
            "min v(a) from=12u to=21u",
            "pp v(a) from=12u to=28u",
            "avg v(a) from=5u to=15u",
            "rms v(a) from=5u to=15u",
            "integ v(a) from=5.123u to=15.77u",
            "max_at v(a) from=12u",
            "min_at v(a) to=25u",
            "max i(v1) to=25u",
            "find v(a) at=5u",
            "find par('v(a)*v(b)+time/1u') at=5u",
            "when v(a)=0.5",
            "when v(a) = 0.5 rise = 2",
            "when v(a)=0.5 fall=2",
            "when v(a)=0.5 cross=3",
            "when v(a)=0.5 cross=last",
            "when v(a)=0.5 rise=last",
            "when v(a)=0.5 td=7u",
            "when v(a)=0.5 from=7u to=20u",
            "when v(a)=v(b)",
            "when v(a)=v(b) fall=1",
            "when v(a)='high/2' rise=2",
            "find v(a) when v(b)=v(a) rise=2",
            "find v(b) when v(a)=0.7 fall=2",
            "trig v(a) val=0.2 rise=1 targ v(a) val=0.8 rise=1",
            "trig v(a) val=high fall=1 targ v(a) val={high/4} rise=1",
            "trig at=3u targ v(a) val=0.5 td=16u cross=1",
            "trig v(a) val=0.5 rise=1 td=16u targ v(a) val=0.5 fall=last",
        )
    ),
    *(
        (LOW_PASS, f".measure tran m {form}", 2e-3)
        for form in (
            "max v(out)",
            "avg v(out) from=5u to=30u",
            "rms v(out)",
            "integ v(out) from=5u to=30u",
            "max i(v1) to=40u",
            "max par('v(in)*v(out)')",
            "when v(out)=0.5 fall=1",
            "trig v(in) val=0.5 rise=1 targ v(out) val=0.5 rise=1",
            "trig v(in) val=0.5 td=30u rise=1 targ v(out) val=0.5 td=30u rise=1",
        )
    ),
    *(
        (deck, f".meas dc m {form}", 1e-6)
        for deck in (DIVIDER, FALLING)
        for form in (
            "max v(c)",
            "min v(c)",
            "pp v(c)",
            "integ v(c)",
            "rms v(c)",
            "find v(c) at=0.55",
            "find v(c) when v(a)=0.65",
            "when v(c)=0.27",
            "when v(c)=v(b)",
            "max_at v(c)",
        )
    ),
    (FALLING, ".meas dc m trig v(c) val=0.77 fall=1 targ v(c) val=0.22 fall=1", 1e-6),
    # ngspice takes means by whole steps, and their squares by trapezoids.
    (DIVIDER, ".meas dc m avg v(a) from=0.5 to=2", 0.02),
    (POLES, ".meas ac m rms vm(out) from=10k to=1meg", 1e-3),
    *(
        (POLES, f".meas ac m {form}", 1e-5)
        for form in (
            "when vdb(out)=-3",
            "when vm(out)=0.7071 fall=1",
            "find vp(out) at=159k",
            "find vr(out) at=159k",
            "find vi(out) at=159k",
            "find v(out) at=159k",
            "find vm(out) when vdb(x)=-20",
            "trig vdb(x) val=-3 fall=1 targ vdb(out) val=-3 fall=1",
            "max v(out)",
            "max vm(out) from=10k to=1meg",
            "min vp(out)",
            "min_at vi(out)",
            "integ vm(out) from=10k to=1meg",
        )
    ),
]
_PRINTED = re.compile(r"^\s*m\s+=\s+(\S+)((?: (?:at|with|from|to|targ|trig)=\s+\S+)*)\s*$", re.MULTILINE)
_BESIDE = re.compile(r"(\w+)=\s+(\S+)")


def measured(text: str, name: str = "m", kind: str | None = None) -> Measured:
    results = run_deck(parse_spice(text))
    return next(r for key, r in results.items() if r.measured and kind in (None, key)).measured[name]


def printed(text: str) -> tuple[float, dict[str, float]]:
    """A measurement's line on paper, ngspice's or ours."""
    (found,) = _PRINTED.finditer(text)
    return float(found[1]), {word: float(value) for word, value in _BESIDE.findall(found[2])}


@cache
def by_ngspice(deck: str, card: str) -> tuple[float, dict[str, float]]:
    folder = Path(__file__).parent
    text = f"{deck}{card}\n.save all\n.options reltol=1e-6\n.end\n"
    command = ["ngspice", "-n", "-b", "/dev/stdin"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=folder, timeout=30)
    return printed(done.stdout)


@pytest.mark.parametrize(("deck", "card", "tolerance"), FORMS, ids=lambda value: str(value)[:60])
def test_every_form_is_ngspices(deck: str, card: str, tolerance: float) -> None:
    require_ngspice()
    value, beside = by_ngspice(deck, card)
    ours = measured(f"{deck}{card}\n")
    assert not ours.failed
    assert ours.value == pytest.approx(value, rel=tolerance)
    for word in beside.keys() - {"from", "to"}:  # where ngspice says what it was not asked, or its next point
        assert ours.beside[word] == pytest.approx(beside[word], rel=tolerance, abs=1e-9)


def test_a_report_has_ngspices_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word; the number of digits is ours."""
    require_ngspice()
    for card in (
        ".meas tran m max v(a) to=25u",
        ".meas tran m trig v(a) val=0.2 rise=1 targ v(a) val=0.8 rise=1",
    ):
        (tmp_path / "a.cir").write_text(f"{TRIANGLES}{card}\n.end\n")
        assert main(["simulate", str(tmp_path / "a.cir")]) == 0
        value, beside = printed(capsys.readouterr().out)
        theirs, theirs_beside = by_ngspice(TRIANGLES, card)
        assert value == pytest.approx(theirs, rel=1e-4) and beside == pytest.approx(theirs_beside, rel=1e-4)


# -- closed forms ----------------------------------------------------------------------------------------


def test_a_coarse_step_costs_no_accuracy() -> None:
    """The first overshoot of a ringing circuit, and where it crosses, with eight printed points a period."""
    w0, zeta = 1e6, 0.1  # L = 1 mH, C = 1 nF, R = 2 zeta sqrt(L/C)
    deck = (
        "ring\nV1 a 0 pwl(0 0 1n 1)\nR1 a b 200\nL1 b c 1m\nC1 c 0 1n\n.tran 0.8u 40u\n"
        ".meas tran top max v(c)\n.meas tran up when v(c)=1 rise=1\n.meas tran down when v(c)=1 fall=1\n"
    )
    wd = w0 * np.sqrt(1 - zeta**2)
    found = run_deck(parse_spice(deck))["tran"].measured
    assert found["top"].value == pytest.approx(1 + np.exp(-np.pi * zeta / np.sqrt(1 - zeta**2)), rel=2e-4)
    assert found["top"].beside["at"] == pytest.approx(np.pi / wd, abs=0.1e-6)
    crossing = (np.pi / 2 + np.arcsin(zeta)) / wd + 0.5e-9  # the ramp's middle
    assert found["up"].value == pytest.approx(crossing, rel=2e-4)
    assert found["down"].value - found["up"].value == pytest.approx(np.pi / wd, rel=2e-4)


def test_an_extreme_at_a_corner_is_found_on_its_own_side() -> None:
    """1 mA in 0.1 µs through 1 µH and 50 Ω: 60 mV at the end of the ramp, just before it falls to 50."""
    deck = (
        "coil\nI1 0 a pulse(0 1m 1u 0.1u 0.1u 1u)\nL1 a b 1u\nR1 b 0 50\n.tran 1u 2u\n"
        ".meas tran top max v(a)\n.meas tran before find v(a) at=1.0999999u\n"
        ".meas tran within max v(a) from=1.05u to=1.1u\n.meas tran flux integ v(a) from=1u to=1.1u\n"
        ".meas tran falls when v(a)=55m fall=1\n.meas tran there find v(a) when v(a)=55m fall=1\n"
    )
    found = run_deck(parse_spice(deck))["tran"].measured
    assert found["top"].value == pytest.approx(0.06, rel=1e-5)
    assert found["top"].beside["at"] == pytest.approx(1.1e-6, rel=1e-9)
    assert [found[name].value for name in ("before", "within")] == pytest.approx([0.06, 0.06], rel=1e-5)
    assert found["flux"].value == pytest.approx(1e-9 + 50 * 0.5e-3 * 1e-7, rel=1e-5)  # of coil and resistor
    assert found["falls"].value == pytest.approx(1.1e-6, rel=1e-9)  # in no time, by a straight line
    assert found["there"].value == pytest.approx(0.055, rel=1e-9)


def test_means_of_straight_lines_are_exact() -> None:
    deck = (
        "dc\nV1 a 0 1\nR1 a 0 1\n.dc V1 0 4 1\n.meas dc mean avg v(a) from=0.5 to=3.5\n"
        ".meas dc root rms v(a)\n.meas dc area integral v(a) from=0.25\n.meas dc both avg par('v(a)*2+1')\n"
    )
    found = run_deck(parse_spice(deck))["dc"].measured
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {"mean": 2.0, "root": np.sqrt(16 / 3), "area": 8 - 0.25**2 / 2, "both": 5.0}
    )
    assert found["mean"].beside == {"from": 0.5, "to": 3.5} and found["area"].beside["to"] == 4.0


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0]), min_size=1, max_size=12))
def test_crossings_are_those_of_a_walk_along_the_curve(heights: list[float]) -> None:
    """As SPICE counts: a point at the level has gone through it."""
    above = heights[0] >= 0
    expected: list[tuple[float, bool]] = []
    for k, (a, b) in enumerate(pairwise(heights)):
        if not a == b == 0 and ((above and b <= 0) or (not above and b >= 0)):
            expected.append((k + a / (a - b), not above))
            above = not above
    after, shares, rising = _crossings(np.array(heights))
    assert (after + shares).tolist() == pytest.approx([place for place, _ in expected])
    assert rising.tolist() == [up for _, up in expected]


def test_a_delay_counts_for_extremes_too() -> None:
    """Where ngspice 39 forgets it."""
    found = measured(f"{TRIANGLES}.meas tran m min v(a) td=2u to=15u\n")
    assert found.value == pytest.approx(0.1 + 0.9 * 0.2) and found.beside["at"] == pytest.approx(2e-6)


def test_parameters_measure_on() -> None:
    """In the cards' order; one that needs what failed has failed."""
    deck = (
        f"{TRIANGLES}.meas tran a max v(a)\n.meas tran b param='2*a+high'\n.meas tran c when v(a)=7\n"
        ".meas tran d param='c+b'\n.meas tran e param='sqrt(b-9)'\n"
    )
    found = run_deck(parse_spice(deck))["tran"].measured
    assert found["b"].value == pytest.approx(2.8)
    assert found["c"].failed == "v(a) never goes through 7"
    assert found["d"].failed == "needs c, which failed"
    assert "not a finite number" in found["e"].failed


def test_every_analysis_of_a_kind_is_measured() -> None:
    results = run_deck(parse_spice(f"{POLES}.ac dec 5 1k 1meg\n.meas ac m find vm(x,0) at=1meg\n"))
    assert [name for name, result in results.items() if result.measured] == ["ac", "ac 2"]
    for name in ("ac", "ac 2"):
        exact = 1 / np.hypot(1, 2 * np.pi * 1e6 * 1e-5)
        assert results[name].measured["m"].value == pytest.approx(exact, rel=1e-6)


def test_nodes_in_subcircuits_and_currents() -> None:
    deck = "s\nV1 a 0 1\nX1 a cell\n.subckt cell p\nR1 p q 1\nV2 q r 0\nR2 r 0 1\n.ends\n.dc V1 0 2 1\n"
    found = measured(f"{deck}.meas dc m max par('v(x1.q)*i(v.x1.v2)')\n")
    assert found.value == pytest.approx(1.0)  # 1 V, 1 A


def test_parts_of_a_current() -> None:
    """Of what two low-passes draw: at each, its conductance behind its capacitor."""
    s = 2j * np.pi * 1e6
    current = -sum(1 / (1e3 + 1 / (s * c)) for c in (1e-9, 1e-8))
    parts = {"i": current.real, "ir": current.real, "ii": current.imag, "im": abs(current)}
    parts |= {"ip": np.angle(current), "idb": 20 * np.log10(abs(current))}
    cards = "".join(f".meas ac {part} find {part}(v1) at=1meg\n" for part in parts)
    found = run_deck(parse_spice(POLES + cards))["ac"].measured
    assert {part: one.value for part, one in found.items()} == pytest.approx(parts, rel=1e-6)


# -- what has no answer ----------------------------------------------------------------------------------

NO_ANSWER = {
    "when v(a)=0.5 rise=3": "v(a) rises through 0.5 2 times only, not 3",
    "when v(a)=0.5 fall=1 from=1u to=2u": "v(a) never falls through 0.5 from 1e-06 to 2e-06",
    "trig v(a) val=9 targ v(a) val=0.5": "v(a) never goes through 9",
    "find v(a) at=41u": "at 4.1e-05 is outside of 0 to 4e-05",
    "max v(a) from=50u": "from 5e-05 to inf is nothing of 0 to 4e-05",
    "avg v(a) from=5u to=5u": "a mean from 5e-06 to 5e-06, which are one point",
    "max par('sqrt(v(a)-0.5)')": "what is measured is not finite there",
    "when par('sqrt(v(a)-0.5)')=0.1": "par('sqrt(v(a)-0.5)') is not finite everywhere",
}


@pytest.mark.parametrize("form", NO_ANSWER)
def test_no_answer_is_said(form: str) -> None:
    found = measured(f"{TRIANGLES}.meas tran m {form}\n")
    assert found.failed == NO_ANSWER[form] and np.isnan(found.value)


def test_nothing_else_fails_with_a_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, JSON and waves have every other one."""
    deck, waves = tmp_path / "a.cir", tmp_path / "a.h5"
    deck.write_text(f"{TRIANGLES}.meas tran none when v(a)=7\n.meas tran top max v(a)\n.end\n")
    assert main(["simulate", str(deck), "--out", str(waves)]) == 0
    text = capsys.readouterr().out
    assert "\n  none                =  failed: v(a) never goes through 7\n" in text
    assert "\n  top                 =  1.000000e+00 at=  1.000000e-05" in text
    assert main(["simulate", str(deck), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tran"]["measurements"]
    assert found["none"] == {"value": None, "failed": "v(a) never goes through 7"}
    assert found["top"] == {"value": pytest.approx(1.0), "at": pytest.approx(1e-5)}
    with h5py.File(waves) as file:
        assert file["tran"].attrs["measured top"] == pytest.approx(1.0)
        assert np.isnan(file["tran"].attrs["measured none"])


def test_measurements_are_compared_with_ngspices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each analysis its own; where one measures otherwise, its difference shows."""
    require_ngspice()
    cards = ".meas ac m when vdb(out)=-3\n.meas ac none when vdb(out)=100\n.ac lin 5 1 2\n"
    path = tmp_path / "a.cir"
    path.write_text(f"{POLES}{cards}.tran 1n 100n\n.meas tran top max v(out)\n.end\n")
    assert main(["simulate", str(path), "--against", "ngspice", "--json"]) == 0
    found = {(row["analysis"], row["vector"]): row for row in json.loads(capsys.readouterr().out)["ngspice"]}
    assert found["ac", ".meas m"]["relative"] < 1e-6
    assert found["tran", ".meas top"]["relative"] < 1e-3
    assert found["ac", ".meas none"]["why"] == "fails in ngspice, and here"
    assert found["ac 2", ".meas m"]["why"] == "fails in ngspice, and here"
    deck = read_spice(path)
    other = run_deck(parse_spice(path.read_text().replace("-3", "-3.01")))
    rows = compare_with_ngspice(path, deck, other)
    (off,) = [row for row in rows if (row.analysis, row.vector) == ("ac", ".meas m")]
    assert isinstance(off, Difference) and off.relative > 1e-4
    assert main(["simulate", str(path), "--against", "ngspice"]) == 0
    told = capsys.readouterr().out
    assert "relative to ngspice's value" in told and "ac        .meas m " in told


def test_measurements_that_ngspice_does_not_make_are_said(tmp_path: Path) -> None:
    require_ngspice()
    path = tmp_path / "a.cir"
    path.write_text("t\nV1 a 0 1\nR1 a 0 1k\n.dc temp 0 50 10\n.meas dc top max v(a)\n.end\n")
    deck = read_spice(path)
    found = compare_with_ngspice(path, deck, run_deck(deck))
    assert NotCompared("dc", ".meas top", "fails in ngspice") in found


def test_a_long_transient_is_measured_within_bounds() -> None:
    """A million points of a hundred curves are too many to take finer."""
    x = np.linspace(0.0, 1.0, 1_000_001)
    assert len(_finer(x, 100)) == len(x)
    assert len(_finer(x, 2)) <= MOST_FINER / 2 + 1
    assert len(_finer(x[:1001], 2)) == 1000 * FINER + 1


def test_a_plateau_does_not_cross_its_own_level_and_a_peak_reaches_it() -> None:
    """Whatever the solver's last digits are: a pulse from 0 to 1 V, and half a volt that stays."""
    text = """t
V1 a 0 pulse(0 1 1u 5u 5u 10u 100u)
R1 a 0 1k
V2 b 0 0.5
R2 b 0 1k
.tran 0.05u 60u
.meas tran top max v(a)
.meas tran peak when v(a)=1
.meas tran falls when v(a)=1 fall=1
.meas tran rests when v(b)=0.5
.meas tran again when v(a)=0 rise=1
"""
    found = run_deck(parse_spice(text))["tran"].measured
    assert found["peak"].value == pytest.approx(6e-6, rel=1e-6)
    assert found["falls"].value == pytest.approx(16e-6, rel=1e-6)
    assert found["rests"].failed and found["again"].failed


# -- what is refused -------------------------------------------------------------------------------------

REFUSED = {
    ".meas": "ends where tran, dc or ac was expected",
    ".meas noise m max v(a)": "measurements of 'noise' are not supported; expected tran, dc or ac",
    ".meas tran": "ends where a name was expected",
    ".meas tran 1m max v(a)": "'1m' where a name of up to 100 letters and digits was expected",
    ".meas tran m": "ends where what to measure was expected",
    ".meas tran m deriv v(a) at=1u": "'deriv' is not supported; expected max, min",
    ".meas tran m err v(a) v(b)": "'err' is not supported; expected max, min",
    ".meas ac m max v(a)": "no .ac in the deck to measure; add one, or take this line out",
    ".meas tran m max v(z)": "no node 'z' in the circuit",
    ".meas tran m max v(a,b,a)": "'v(a,b,a)' where v(node), v(node,node), i(device) or par('formula') was",
    ".meas tran m max vdb(a)": "'vdb(a)' where v(node)",
    ".meas tran m max i(r1)": "current of 'r1', a resistor; expected a voltage source in series",
    ".meas tran m max i(vz)": "no device 'vz' whose current to sense",
    ".meas tran m max a": "'a' where v(node)",
    ".meas tran m max v(a)*2": "'*2' after the end",
    ".meas tran m max v(a) at=1u": "'at' after the end",
    ".meas tran m max v(a) from=1u from=2u": "from is given twice",
    ".meas tran m max v(a) from=3u to=2u": "from 3e-06 to 2e-06; expected a beginning before the end",
    ".meas tran m max v(a) from=x": "from: unknown name 'x'",
    ".meas tran m max par('v(a')": "m: ",
    ".meas tran m max par(v(a)*2)": "is not understood; expected max, min",
    ".meas tran m max abs(v(a))": "is not understood; expected max, min",
    ".meas tran m find v(a)": "ends where when was expected",
    ".meas tran m find v(a) at": "ends where = was expected",
    ".meas tran m when v(a)": "ends where = was expected",
    ".meas tran m when v(a)=": "ends where its level was expected",
    ".meas tran m when v(a)=1 rise=1 fall=2": "rise and fall; expected one of rise, fall and cross",
    ".meas tran m when v(a)=1 rise=0": "rise is 0; expected a whole number from 1 to 1e9, or last",
    ".meas tran m when v(a)=1 rise=1.5": "rise is 1.5; expected a whole number",
    ".meas tran m trig v(a) rise=1 targ v(b) val=1": "v(a) without val=; expected the level",
    ".meas tran m trig v(a) val=1": "ends where targ was expected",
    ".meas tran m targ v(a) val=1 trig v(a) val=2": "'targ' is not supported",
    ".meas tran m param='n+1'": "'n' is no parameter, and no .meas tran before this one",
    ".meas tran m param='v(a)'": "param is a formula of parameters and measurements; use par('…')",
    ".meas tran m param='1+'": "m: ",
    ".meas tran m param": "ends where = was expected",
    ".meas tran twice max v(a)": "exists already; give each measurement a name of its own",
}


@pytest.mark.parametrize("card", REFUSED)
def test_what_is_refused_is_named_with_its_line(card: str) -> None:
    with pytest.raises(SpiceSyntaxError) as found:
        parse_spice(f"{TRIANGLES}.meas tran twice min v(a)\n{card}\n", "a.cir")
    assert str(found.value).startswith("a.cir:9: ") and REFUSED[card] in str(found.value)


def test_two_sweeps_formulas_of_small_signals_and_too_many_are_refused() -> None:
    double = DIVIDER.replace("0.1\n", "0.1 V2 0 1 1\n")
    with pytest.raises(SpiceSyntaxError, match=r":7: .meas m: .dc with two sources is not measured"):
        parse_spice(f"{double}.meas dc m max v(c)\n")
    with pytest.raises(SpiceSyntaxError, match=r":8: .meas m: \"par\('v\(x\)'\)\" where v\(node\)"):
        parse_spice(f"{POLES}.meas ac m max par('v(x)')\n")
    many = "".join(f".meas dc m{k} max v(c)\n" for k in range(1001))
    with pytest.raises(SpiceSyntaxError, match="more than 1000 measurements"):
        parse_spice(f"{DIVIDER}{many}")
    with pytest.raises(SpiceSyntaxError, match=r".meas inside .subckt"):
        parse_spice(f"{DIVIDER}.subckt s p\nR1 p 0 1\n.meas dc m max v(c)\n.ends\n")
