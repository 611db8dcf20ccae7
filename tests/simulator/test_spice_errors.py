"""Decks that are refused: errors that say where and what, files that stay in their folder, bounded work."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ohmostat.simulator import spice_lines, spice_reader, spice_scope
from ohmostat.simulator.expression_functions import Function
from ohmostat.simulator.expressions import Formula, parse_formula
from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice, read_spice

from .decks import deck, parameters, refused

# -- errors --------------------------------------------------------------------------------------------

MHZ = "pulse(0 1 0 1p 1p 1p 10p)"
CLOCKS = [f"v{k} a{k} 0 pulse(0 1 0 1n 1n 100n {k}u)" for k in (1, 2, 3)]
FIFTY = [f"v{k} a{k} 0 1" for k in range(50)] + [f"r{k} a{k} b{k} 1" for k in range(50)]
ERRORS: list[tuple[str, int, tuple[str, ...]]] = [
    ("no device in the deck", 1, ()),
    ("nothing before it to continue", 2, ("+ 1k",)),
    ("1 words where 2 nodes were expected", 2, ("r1 a",)),
    ("no value; expected rname node node value", 2, ("r1 a 0",)),
    ("'4k7' is not a number", 2, ("r1 a 0 4k7",)),
    ("'1.2.3' is not a number", 2, ("r1 a 0 1.2.3",)),
    ("'2%' is in per cent; write a number, as 0.05 for 5%", 2, ("r1 a 0 2%",)),
    ("no .model 'kilo' in reach; expected one of type r or res", 2, ("r1 a 0 kilo",)),
    ("resistance is 0 ohm; expected a value above 0 ohm .join the nodes", 2, ("r1 a 0 0",)),
    ("resistance is -5 ohm; expected a value above 0 ohm .write a G source", 2, ("r1 a 0 -5",)),
    ("mismatch cannot act: .mc finds operating points", 2, ("c1 a 0 1p mismatch=0.1",)),
    ("mismatch cannot act: .mc finds operating points", 2, ("c1 a 0 1p cm", ".model cm c mismatch=0.1")),
    ("mismatch cannot act: .mc finds operating points", 2, ("l1 a 0 1u mismatch=0.1",)),
    ("mismatch cannot act on a formula", 2, ("b1 a 0 i=v(a) mismatch=0.1",)),
    ("fc is 1.5; give a value of at least 0 and below 1", 2, ("d1 a 0 x", ".model x d fc=1.5")),
    ("fc is 1; give", 2, ("m1 a b c d x", ".model x nmos fc=1")),
    (
        "type 'npn' is not supported; expected one of c, cap, d",
        3,
        ("r1 a 0 1", ".model q npn bf=100 rubbish=7"),
    ),
    (
        "unknown parameter 'rubbish'",
        4,
        ("x1 a s", ".subckt s p", ".model u d rubbish=7", "r1 p 0 1", ".ends"),
    ),
    ("unknown parameter 'tc3'; known are", 2, ("r1 a 0 1 tc3=1",)),
    ("unknown name 'k'; expected a parameter", 2, ("r1 a 0 {k}",)),
    ("tc1 is given twice", 2, ("r1 a 0 1 tc1=1 tc1=2",)),
    ("m= has no value", 2, ("r1 a 0 1 m=",)),
    ("{ without its partner", 2, ("r1 a 0 {1",)),
    ("m is -1; expected a value above 0", 2, ("r1 a 0 1 m=-1",)),
    ("mismatch is -1; expected", 2, ("r1 a 0 1 mismatch=-1",)),
    ("mismatch is -0.05; expected", 2, ("r1 a 0 1 mismatch=-5%",)),
    ("'5%' is in per cent; write a number, as 0.05 for 5%", 2, (".param s=5%", "r1 a 0 {s}")),
    ("device 'r1' exists already \\(<text>:2\\)", 3, ("r1 a 0 1", "R1 a 0 1")),
    ("devices 'Q' are not supported; expected one of", 2, ("q1 c b e npn",)),
    ("poly, table and laplace are not supported", 2, ("e1 a 0 poly(2) a 0 b 0 1 2",)),
    ("'sffm' where dc, ac, pulse, sin, exp, pwl", 2, ("v1 a 0 sffm(1 2)",)),
    ("pulse has 1 numbers; expected 2 to 7", 2, ("v1 a 0 pulse(1)",)),
    ("sin has no frequency, and no .tran", 2, ("v1 a 0 sin(0 1)",)),
    ("PWL: time 0 s follows 1 s", 2, ("v1 a 0 pwl(0 0 1 1 0 2)",)),
    ("sin besides another waveform", 2, ("v1 a 0 pulse(0 1) sin(0 1 1)",)),
    ("ac has 3 numbers", 2, ("v1 a 0 ac 1 2 3",)),
    ("expected node node v=formula, or i=formula", 2, ("b1 a 0 1",)),
    ("unknown function 'foo'", 2, ("b1 a 0 v=foo(1)",)),
    ("model 'x' .*is of type 'npn'; expected d", 2, ("d1 a 0 x", ".model x npn")),
    ("unknown parameter 'foo'; known are bv", 3, ("d1 a 0 x", ".model x d foo=1")),
    ("unknown parameter 'tox'; known are", 3, ("m1 a b c d x", ".model x nmos tox=1n")),
    ("unknown parameters 'tox', 'nsub'; known", 3, ("m1 a b c d x", ".model x nmos tox=1n vto=1 nsub=1")),
    ("level is 3; expected 1 \\(Shichman-Hodges\\) or 44", 3, ("m1 a b c d x", ".model x nmos level=3")),
    ("hysteresis vh is 1 V", 2, ("s1 a 0 b 0 x", ".model x sw vh=1")),
    ("is_ is -1", 2, ("d1 a 0 x", ".model x d is=-1")),
    ("lead out of the range of numbers", 2, ("m1 a b c 0 x", ".model x nmos phi=1e-3", ".temp 500")),
    ("'x' exists already", 3, (".model x d", ".model x d", "r1 a 0 1")),
    ("no device 'v1' whose current to sense", 2, ("f1 a 0 v1 2",)),
    ("current of 'r1', a resistor; expected a voltage source", 2, ("f1 a 0 r1 2", "r1 a 0 1")),
    ("parameters define each other: a needs b needs a|b needs a needs b", 2, (".param a={b}", ".param b=a")),
    ("'a' is defined twice", 3, (".param a=1", ".param a=2", "r1 a 0 1")),
    ("no .subckt 'nope' in reach", 2, ("x1 a b nope",)),
    ("2 nodes for .subckt 's' \\(<text>:3\\), which has 1: p", 2, ("x1 a b s", ".subckt s p", ".ends")),
    ("unknown parameter 'w'; known are m", 2, ("x1 a s w=1", ".subckt s p", ".ends")),
    (".subckt 's' without .ends", 2, (".subckt s p", "r1 p 0 1")),
    (".ends without .subckt", 2, (".ends",)),
    (".ends 't' where .ends 's' was expected", 3, (".subckt s p", ".ends t")),
    (".tran inside .subckt 's'", 3, (".subckt s p", ".tran 1 2", ".ends")),
    ("distinct nodes", 2, (".subckt s p p", ".ends")),
    (".control is not supported: commands are not run", 2, (".control",)),
    (".lib in a text without a folder", 3, ("r1 a 0 1", ".lib 'models' tt")),
    ("expected .lib file section", 2, (".lib",)),
    (".lib 'models.lib' without .endl; .* .lib FILE SECTION", 2, (".lib models.lib", "r1 a 0 1")),
    (".lib 'ff' inside of section 'tt'; expected .endl before", 3, (".lib tt", ".lib ff", ".endl")),
    (".endl without .lib SECTION", 2, (".endl tt",)),
    (".dc: temp is -300 °C; expected a value from -273", 4, ("v1 a 0 1", "r1 a 0 1", ".dc temp -300 0 5")),
    ("at most 10000 are allowed", 4, ("v1 a 0 1", "r1 a 0 1", ".dc temp 0 100 1m")),
    ("v1 is swept twice", 4, ("v1 a 0 1", "r1 a 0 1", ".dc v1 0 1 1 v1 0 1 1")),
    (".foo is not supported: expected one of .ac", 3, ("r1 a 0 1", ".foo")),
    ("expected .include file", 2, (".include ",)),
    (".include in a text without a folder", 2, (".include 'x'",)),
    ("expected .tran step stop", 3, ("r1 a 0 1", ".tran 1n")),
    ("step is 0 s and stop 1 s", 3, ("r1 a 0 1", ".tran 0 1")),
    ("step of v1 is -1; expected one that leads", 3, ("v1 a 0 1", ".dc v1 0 1 -1")),
    ("1e\\+09 points; at most", 3, ("v1 a 0 1", ".dc v1 0 1 1n")),
    ("1e\\+12 points; at most", 4, ("v1 a 0 1", "v2 b 0 1", ".dc v1 0 1 1u v2 0 1 1u")),
    ("1e\\+12 points; at most", 3, ("v1 a 0 1", ".tran 1m 1 0 1p")),
    ("5e\\+11 points; at most", 3, ("v1 a 0 1", ".tran 1n 1 0.9999999999")),
    ("4e\\+11 corners up to 1 s; at most .* give a longer", 2, (f"v1 a 0 {MHZ}", ".tran 1m 1")),
    ("v3: with it, the sources have more than 1000000 corners up to 0.15 s", 4, (*CLOCKS, ".tran 1m 150m")),
    ("1000000 points of 150 voltages .* at most 50000000 values", 102, (*FIFTY, ".mc 1000000")),
    ("no source 'v2' in the circuit", 3, ("v1 a 0 1", ".dc v2 0 1 1")),
    ("no node 'b' in the circuit", 3, ("v1 a 0 1", ".tf v(b) v1")),
    ("expected rising frequencies", 3, ("v1 a 0 1", ".ac dec 10 10 1")),
    ("points is 1.5; expected a whole number", 3, ("v1 a 0 1", ".ac dec 1.5 1 10")),
    ("where v\\(node\\), v\\(node,node\\) or i\\(device\\)", 3, ("v1 a 0 1", ".noise a v1 dec 1 1 10")),
    ("samples is 0; expected a whole number from 1", 3, ("v1 a 0 1", ".mc 0")),
    ("unknown parameter 'foo'; known are gmin", 3, ("r1 a 0 1", ".options foo=1")),
    ("unknown option 'foo'", 3, ("r1 a 0 1", ".options foo")),
    ("reltol is 0; expected a value above 0", 3, ("r1 a 0 1", ".options reltol=0")),
    ("temp is -300", 3, ("r1 a 0 1", ".temp -300")),
    ("no node 'b' in the circuit", 3, ("r1 a 0 1", ".ic v(b)=1")),
    ("where v\\(node\\)=value was expected", 3, ("r1 a 0 1", ".nodeset a=1")),
    ("character '\\\\x00' in the text", 3, ("r1 a 0 1", "r2 \0 0 1")),
]


@pytest.mark.parametrize("match, line, cards", ERRORS, ids=[f"{k}" for k in range(len(ERRORS))])
def test_errors_say_where_and_what(match: str, line: int, cards: tuple[str, ...]) -> None:
    error = refused(match, *cards)
    assert (error.file, error.line) == ("<text>", line)
    assert str(error).startswith(f"<text>:{line}: ")


MANY = """many faults
V1 in 0 1
R1 in out 4k7
X1 in out half
X2 in out half
.subckt half a b
R1 a b 0
R2 a b 1k tc9=1
.ends
D1 out 0 nomodel
.dc v1 0 1 -1
.func f(x)
"""
NAMES = "t\nV1 a 0 1\nR1 a 0 1\n.dc v9 0 1 1\n.tf v(x) v1\n.tran 1 2\n.meas tran m max v(q)\nF1 a 0 r1 2\n"


@pytest.mark.parametrize(("text", "lines"), [(MANY, [3, 7, 8, 10, 11, 12]), (NAMES, [4, 5, 7, 8])])
def test_all_faults_are_told_in_the_order_of_their_lines(text: str, lines: list[int]) -> None:
    with pytest.raises(SpiceSyntaxError) as caught:
        parse_spice(text)
    told = str(caught.value).splitlines()
    assert [int(line.split(":")[1]) for line in told] == lines and caught.value.line == lines[0]


def test_of_very_many_faults_the_number_is_told() -> None:
    with pytest.raises(SpiceSyntaxError) as caught:
        deck(*(f"r{k} a 0 4k7" for k in range(30)))
    told = str(caught.value).splitlines()
    assert len(told) == 11 and told[9].startswith("<text>:11: r9:") and told[10] == "and 20 more"


def test_faults_of_nested_subcircuits_are_not_sought_in_every_instance() -> None:
    """Each of 28 levels calls the next one twice."""
    levels = [f".subckt s{k} a b\nx1 a b s{k + 1}\nx2 a b s{k + 1}\nr1 a b -1\n.ends" for k in range(28)]
    began = time.perf_counter()
    with pytest.raises(SpiceSyntaxError, match="resistance is -1 ohm"):
        deck("v1 a 0 1", "x1 a 0 s0", *levels, ".subckt s28 a b", "r1 a b -1", ".ends")
    assert time.perf_counter() - began < 5.0


# -- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "models").mkdir(parents=True)
    (tmp_path / "secret.inc").write_text("r9 a 0 1\n")
    (inside / "models" / "diode.inc").write_text('.model DM d is=1f\n.include "../more.inc"\n')
    (inside / "more.inc").write_text("r2 a 0 2\n.end\nnot read")
    return inside


def test_includes_inside_the_folder(folder: Path) -> None:
    path = folder / "top.cir"
    path.write_text("top\n.include models/diode.inc\nd1 a 0 dm\n")
    read = read_spice(path)
    assert [(e.name, Path(e.origin.file).name, e.origin.line) for e in read.elements] == [
        ("r2", "more.inc", 1), ("d1", "top.cir", 3),
    ]  # fmt: skip


CORNERS = """* corners, and what they share
.lib TT
.param dvt=0
.lib 'corners.lib' shared
.endl TT
.lib ff
.param dvt=-0.05
.lib corners.lib shared
.endl
.lib shared
.model n nmos vto={0.5+dvt} kp=1e-4
.endl shared
.model never read
"""


@pytest.mark.parametrize(("section", "threshold"), [("tt", 0.5), ("FF", 0.45)])
def test_a_section_of_a_library_is_read(folder: Path, section: str, threshold: float) -> None:
    """Only it, with those that it names in turn; paths are those of the file that has them."""
    (folder / "models" / "corners.lib").write_text(CORNERS)
    deck = parse_spice(f"top\n.lib 'models/corners.lib' {section}\nm1 d d 0 0 n\n", "top.cir", folder)
    assert deck.elements[0].parameters["vto"] == threshold


def test_sections_of_the_deck_itself_are_for_others(folder: Path) -> None:
    (folder / "top.cir").write_text(
        "top\n.lib low\n.param r=1k\n.endl\n.lib high\n.param r=1meg\n.endl\n.lib top.cir high\nr1 a 0 {r}\n"
    )
    assert read_spice(folder / "top.cir").elements[0].parameters["conductance"] == pytest.approx(1e-6)


def test_libraries_are_refused_as_included_files_are(folder: Path) -> None:
    (folder / "corners.lib").write_text(CORNERS)
    for card, words in (
        (".lib corners.lib ss", r"corners.lib:1: has no .lib section 'ss'; its sections are ff, shared, tt"),
        (".lib '../secret.lib' tt", r":2: .lib '../secret.lib' leads outside of the netlist's folder"),
        (".lib nothing.lib tt", r":2: .lib: there is no file 'nothing.lib'"),
    ):
        with pytest.raises(SpiceSyntaxError, match=words):
            parse_spice(f"title\n{card}\nr1 a 0 1\n", "top.cir", folder)
    (folder / "loop.lib").write_text(".lib a\n.lib loop.lib a\n.endl\n")
    with pytest.raises(SpiceSyntaxError, match="include one another more than 16 deep"):
        parse_spice("title\n.lib loop.lib a\nr1 a 0 1\n", "top.cir", folder)


@pytest.mark.parametrize(
    "name", ["../secret.inc", "models/../../secret.inc", "{absolute}", "link.inc", "linked/secret.inc"]
)
def test_includes_do_not_leave_the_folder(folder: Path, name: str) -> None:
    (folder / "link.inc").symlink_to(folder.parent / "secret.inc")
    (folder / "linked").symlink_to(folder.parent)
    name = name.format(absolute=folder.parent / "secret.inc")
    with pytest.raises(SpiceSyntaxError, match=r":2: .include .* leads outside of the netlist's folder"):
        parse_spice(f"title\n.include '{name}'\n", "top.cir", folder)


def test_includes_of_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to(folder / "circle")
    for name in ("models", "missing", "pipe", "circle", "x" * 5000):
        with pytest.raises(SpiceSyntaxError, match=":2: "):
            parse_spice(f"title\n.include '{name}'\n", "top.cir", folder)


def test_includes_that_include_each_other(folder: Path) -> None:
    (folder / "a.inc").write_text(".include b.inc\n")
    (folder / "b.inc").write_text("\n.include a.inc\n")
    with pytest.raises(SpiceSyntaxError, match=r"[ab].inc:[12]: files include one another more than 16 deep"):
        parse_spice("title\n.include a.inc\n", "top.cir", folder)


# -- limits --------------------------------------------------------------------------------------------


def test_recursion_is_bounded() -> None:
    refused(f"more than {spice_reader.DEEPEST_HIERARCHY} deep", "x1 a s", ".subckt s p", "x2 p s", ".ends")
    refused("its name in full has 300 characters", f"x{'y' * 299} a s", ".subckt s p", ".ends")
    nested = [f".subckt s{k} p" for k in range(40)]
    refused(f"nested more than {spice_reader.DEEPEST_HIERARCHY} deep", *nested)


def test_expansion_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = [f".subckt s{k} p\nx1 p s{k - 1}\nx2 p s{k - 1}\n.ends" for k in range(1, 25)]
    cards = ("x1 a s24", ".subckt s0 p", "r1 p 0 1", ".ends", *doubling)
    monkeypatch.setattr(spice_reader, "MOST_ELEMENTS", 1000)
    refused("more than 1000 devices after expansion; build larger circuits with Netlist", *cards)
    monkeypatch.setattr(spice_reader, "MOST_INSTANCES", 1000)
    refused("more than 1000 instances of subcircuits; build larger circuits with Netlist", *cards)
    monkeypatch.setattr(spice_reader, "LARGEST_EXPANSION", 1000)
    refused("more than 1000 characters after expansion", *cards)


LONG = "+".join(["w*1.0"] * 800)
BOMBS = {  # few characters that are many once they stand in every instance
    "parameters": [f".param p{k}={{{LONG}+{k}}}" for k in range(40)],
    "models": [f".model m{k} d is={{{LONG}+{k}}}" for k in range(40)],
    "devices": [f"r{k} p 0 {{{LONG}+{k}}}" for k in range(40)],
    "sources": [f"b{k} p 0 i={LONG}+{k}" for k in range(40)],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_formulas_in_every_instance_are_bounded(kind: str) -> None:
    cards = [f"x{k} a s w={k}" for k in range(1, 200)] + [".subckt s p w=1", *BOMBS[kind], "r p 0 1", ".ends"]
    start = time.process_time()
    refused("more than 2000000 characters of formulas", *cards)
    assert time.process_time() - start < 5.0


def test_numbers_in_every_instance_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice_reader, "LARGEST_EXPANSION", 100_000)
    numbers = " ".join(f"p{k}=1" for k in range(5000))
    instances = [f"x{k} a s" for k in range(20)]
    refused(
        "more than 100000 characters after expansion", *instances, ".subckt s p", f".param {numbers}", ".ends"
    )


def test_a_formula_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def recorded(text: str, functions: Mapping[str, Function]) -> Formula:
        read.append(text)
        return parse_formula(text, functions)

    monkeypatch.setattr(spice_scope, "parse_formula", recorded)
    cards = [f"x{k} a s w={k}" for k in range(1, 9)]
    found = deck(*cards, ".subckt s p w=1", ".param u={w*2}", "r1 p 0 {u+w}", ".ends").elements
    assert [1 / e.parameters["conductance"] for e in found] == pytest.approx([3 * k for k in range(1, 9)])
    assert len(read) == len(set(read)) <= 4


def test_text_is_bounded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(spice_lines, "LONGEST_CARD", 100)
    refused("a card of more than 100 characters", "r1 a 0", *["+ 1 2 3 4 5"] * 20)
    monkeypatch.setattr(spice_lines, "LARGEST_TEXT", 200)
    refused("more than 200 characters in all files together", *["r1 a 0 1"] * 50)
    (folder / "large.inc").write_text("* large\n" * 50)
    with pytest.raises(SpiceSyntaxError, match=r":2: more than 200 characters"):
        parse_spice("title\n.include large.inc\n", "top.cir", folder)
    monkeypatch.undo()
    monkeypatch.setattr(spice_lines, "MOST_FILES", 3)
    with pytest.raises(SpiceSyntaxError, match=r":5: more than 3 .include cards"):
        parse_spice("title" + "\n.include more.inc" * 9, "top.cir", folder)


def test_a_file_too_long_is_refused_whole_wherever_its_end_would_fall(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Cut on a line, its beginning is a circuit by itself: another one than was meant."""
    monkeypatch.setattr(spice_reader, "LARGEST_TEXT", 40)
    deck = "title\nV1 a 0 1\nR1 a 0 1k\n"
    (folder / "long.cir").write_text(deck + "*" * (40 - len(deck)) + "\nR2 a 0 1\n")
    with pytest.raises(SpiceSyntaxError, match="more than 40 characters; simulate it in parts"):
        read_spice(folder / "long.cir")
    (folder / "short.cir").write_text(deck)
    assert len(read_spice(folder / "short.cir").elements) == 2


def test_long_words_take_no_long_time() -> None:
    start = time.perf_counter()
    for word in (
        "1" * 200_000 + "!",
        "a" * 200_000 + "!",
        "v(" * 100_000,
        " " * 200_000 + "=",
        "1e" * 100_000,
    ):
        refused(":2: ", f"r1 a 0 {word}")
        refused(":2: ", f"b1 a 0 v={word}")
        refused(":2: ", f".ic {word}", "r1 a 0 1")
    assert time.perf_counter() - start < 5.0  # some hundredths of a second, unless something is quadratic


def test_a_long_chain_of_parameters_is_no_recursion() -> None:
    chain = [f"p{k}={{p{k - 1}+1}}" for k in range(2000, 0, -1)]
    assert parameters("r1 a 0 {p2000}", f".param {' '.join(chain)} p0=0")["conductance"] == 1 / 2000
