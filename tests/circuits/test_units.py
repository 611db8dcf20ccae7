"""Quantities: what is read, what is refused and why, and that writing loses nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.circuits.units import (
    UNITS,
    Choice,
    Integer,
    Layers,
    Number,
    Range,
    Text,
    UnitError,
    format_quantity,
    parse_quantity,
    positive,
    show,
)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("2.5uS", "S", 2.5e-6),
        ("10 nS", "S", 1e-8),
        ("10µS", "S", 1e-5),  # micro sign
        ("10μS", "S", 1e-5),  # Greek mu
        ("1e-6 S", "S", 1e-6),
        ("1pF", "F", 1e-12),
        ("-0.3V", "V", -0.3),
        ("+.5V", "V", 0.5),
        ("1_000 V", "V", 1000.0),
        (" 50mV ", "V", 0.05),
        ("0A", "A", 0.0),
        ("0m", "m", 0.0),  # neither milli nor metres of nothing
        ("90deg", "deg", 90.0),
        ("90°", "deg", 90.0),
        ("1 MS", "S", 1e6),  # mega, not milli
        ("1e400V", "V", math.inf),  # for the range to refuse
        ("300K", "K", 300.0),  # kelvins, not kilo
        ("300 K", "K", 300.0),
        ("1kK", "K", 1000.0),
        ("-40C", "K", 233.15),
        ("125 °C", "K", 398.15),
        ("0degC", "K", 273.15),
        ("-2m/K", "/K", -0.002),
        ("0.002/K", "/K", 0.002),
        ("2e-3 /K", "/K", 0.002),
        ("10us", "s", 1e-5),
        ("1.5MHz", "Hz", 1.5e6),
        ("2.5Ohm", "Ohm", 2.5),
        ("20kohm", "Ohm", 2e4),
        ("200 ohms", "Ohm", 200.0),
        ("3 Ω", "Ohm", 3.0),
    ],
)
def test_reads(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "reason"),
    [
        ("2.5uF", "S", r"is in farads \(F\); siemens \(S\) are needed, as in \"2.5uS\""),
        ("10us", "S", r"is in seconds \(s\); siemens"),
        ("10kΩ", "S", r"is in ohms \(Ohm\); siemens"),
        ("10kohm", "S", r"is in ohms \(Ohm\); siemens"),
        ("1rad", "deg", r"is in radians \(rad\); degrees \(deg\)"),
        ("300K", "V", r"is in kelvins \(K\); volts"),
        ("300", "K", r"has no unit; kelvins \(K\) are needed, as in \"300K\""),
        ("300V", "K", r"is in volts \(V\); kelvins"),
        ("25C", "V", r"is in coulombs \(C\); volts"),
        ("25mC", "K", r"is in coulombs \(C\); kelvins"),
        (".C", "K", r"is not a number with a unit; kelvins"),
        ("0.002", "/K", r"per kelvin \(/K\) are needed"),
        ("2m/K", "K", r"is in per kelvin \(/K\); kelvins"),
        ("20US", "S", 'has the unknown unit "US"'),
        ("3 furlong", "V", 'has the unknown unit "furlong"'),
        ("2.5", "V", r"has no unit; volts \(V\) are needed"),
        ("2m", "V", "has no unit"),
        ("2m", "m", r"has no unit; metres \(m\) are needed, as in \"1um\""),
        ("3.5mVum", "Vm", "unknown unit"),
        ("1,5V", "V", "is not a number with a unit"),  # quantiphy alone reads fifteen volts
        ("x = 5V", "V", "is not a number with a unit"),
        ("5V -- rail", "V", "is not a number with a unit"),
        ("$5", "V", "is not a number with a unit"),
        ("nan V", "V", "is not a number with a unit"),
        ("inf V", "V", "is not a number with a unit"),
        ("0x10 V", "V", "unknown unit|is not a number"),
        ("1.2.3V", "V", "is not a number with a unit"),
        ("5 V V", "V", "is not a number with a unit"),
        ("__V", "V", "is not a number with a unit"),
        ("", "V", "is not a number with a unit"),
    ],
)
def test_refuses(text: str, unit: str, reason: str) -> None:
    with pytest.raises(UnitError, match=reason):
        parse_quantity(text, unit)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.5e-6, "S", "2.5uS"),
        (1e-8, "S", "10nS"),
        (0.0, "V", "0V"),
        (-0.05, "V", "-50mV"),
        (1e-4, "V", "100uV"),
        (0.1 + 0.2, "V", "300.00000000000004mV"),
        (100.0, "V", "100V"),
        (2e9, "V", "2GV"),
        (1e-30, "A", "1e-30A"),
        (12.5, "deg", "12.5deg"),
        (0.001, "deg", "0.001deg"),
        (3.5e-9, "Vm", "3.5nVm"),
        (2.5e-7, "m", "250nm"),
        (0.0, "m", "0m"),
        (0.0, "S", "0S"),
        (2.0, "m", "2e0m"),  # "2m" would be 2 milli
        (0.3, "", "0.3"),
        (math.inf, "V", "inf"),
    ],
)
def test_writes_legibly(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(sorted(UNITS)))
def test_writing_loses_nothing(value: float, unit: str) -> None:
    back = parse_quantity(format_quantity(value, unit), unit)
    assert back == value and math.copysign(1, back) == math.copysign(1, value)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_quantity(text, "V"), float)
    except UnitError as error:
        assert "volts (V) are needed" in str(error)


def test_ranges_say_which_ends_belong_to_them() -> None:
    closed, above, below = Range(0, 3), positive(1.0), Range(0, 1, open_high=True)
    assert 0 in closed and 3 in closed and 3.1 not in closed and math.nan not in closed
    assert 0 not in above and 1 in above
    assert 0 in below and 1 not in below
    assert closed.describe() == "0 to 3"
    assert above.describe("S") == "above 0S, up to 1S"
    assert below.describe() == "from 0, below 1"


VOLTS = Number("", Range(-1.0, 1.0), "V")
PLAIN = Number("", Range(0.0, 3.0))
SHARE = Number("", Range(0.0, 3.0), share=True)
COUNT = Integer("", 1, 100, everything=True)


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        (VOLTS, "50mV", 0.05),
        (VOLTS, 0.05, 0.05),
        (PLAIN, 1, 1.0),
        (SHARE, "30%", 0.3),
        (SHARE, " 0.7 %", 0.007),
        (SHARE, "+150.%", 1.5),
        (SHARE, "1E-3 %", 1e-5),
        (SHARE, 0.3, 0.3),
        (COUNT, 100, 100),
        (COUNT, "all", None),
        (COUNT, None, None),
        (Choice("", ("a", "b")), "b", "b"),
        (Layers(""), [784, 256, 10], (784, 256, 10)),
        (Text(""), "my chip", "my chip"),
    ],
)
def test_kinds_hold_one_type(kind: Number, value: object, held: object) -> None:
    checked = kind.check(value)
    assert checked == held and type(checked) is type(held)
    assert kind.check(checked) == held  # checking twice changes nothing


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (VOLTS, True, "is true or false, and a number is needed; allowed: -1V to 1V"),
        (VOLTS, "2V", "is outside the range; allowed: -1V to 1V"),
        (VOLTS, None, "is nothing, and a number is needed"),
        (VOLTS, [1.0], "is a list, and a number is needed"),
        (PLAIN, "0.5", "write a plain number, without quotes"),
        (PLAIN, "30%", "is in per cent, but is no share of anything; write a plain number"),
        (SHARE, "0.5", "write a plain number, without quotes"),
        (SHARE, "301%", "is outside the range; allowed: 0 to 3"),
        (SHARE, "-1%", "is outside the range; allowed: 0 to 3"),
        (SHARE, "%", "is text, and a number is needed"),
        (SHARE, ".%", "is text, and a number is needed"),
        (SHARE, "1f1%", "is text, and a number is needed"),
        (SHARE, "30%V", "is text, and a number is needed"),
        (VOLTS, "30%", r"is in per cent \(%\); volts"),
        (PLAIN, math.nan, "is not a finite number"),
        (PLAIN, 10**400, "is not a finite number"),
        (COUNT, 50.0, "is a number with a point, and a whole number is needed"),
        (COUNT, True, "is true or false, and a whole number is needed"),
        (COUNT, 0, 'is outside the range; allowed: 1 to 100, or "all"'),
        (COUNT, "most", "is text, and a whole number is needed"),
        (Choice("", ("twin", "shared")), "twins", r'\(did you mean "twin"\?\); allowed: "twin" \|'),
        (Choice("", ("twin", "shared")), 3, 'is not an option; allowed: "twin"'),
        (Layers(""), [784, 10], "has 2 layers; allowed: 3 to 16 sizes"),
        (Layers(""), [784, 0, 10], r"layer 2 \(0\) is outside the range; allowed: 1 to 16384"),
        (Layers(""), [784, 2.5, 10], r"layer 2 \(2.5\) is a number with a point"),
        (Layers(""), "784", "is text, and a list of layer sizes is needed"),
        (Text(""), " ", "is empty, too long or not printable"),
        (Text(""), "a\nb", "is empty, too long or not printable"),
        (Text(""), 1, "is a whole number, and text is needed"),
    ],
)
def test_kinds_say_what_they_need(kind: Number, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        kind.check(value)


def test_a_file_must_give_units() -> None:
    with pytest.raises(ValueError, match='has no unit; if volts are meant, write "50mV"'):
        VOLTS.check_unit(0.05)
    for harmless in (0, 0.0, "50mV", True, math.nan):  # the last two are refused for better reasons
        VOLTS.check_unit(harmless)
    PLAIN.check_unit(0.5)
    Number("", Range(0, 90), "deg", bare=True).check_unit(45)


def test_showing_a_value_never_fails_nor_floods() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (10**5000, nested, object(), "x" * 1000, {"a": math.nan}, b"\x00", 2 + 1j):
        assert len(show(value)) <= 80
    assert "\x1b" not in show("\x1b[31mred")
    while nested:  # taken apart by hand: freeing it at once would recurse
        nested = nested.pop()  # type: ignore[assignment]


@settings(deadline=None)
@given(
    st.integers() | st.floats() | st.text() | st.none() | st.booleans() | st.lists(st.integers()),
    st.sampled_from([VOLTS, PLAIN, SHARE, COUNT, Choice("", ("a", "b")), Layers(""), Text("")]),
)
def test_any_value_is_held_or_refused(value: object, kind: Number) -> None:
    try:
        kind.literal(kind.check(value))
    except ValueError as error:
        assert "allowed: " in str(error)
    kind.display(value)
