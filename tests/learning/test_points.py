"""Points of a sweep: grids, hypercubes and their ranges, and how levels and ranges are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohmostat.circuits.design import Design
from ohmostat.learning.points import (
    Span,
    grid,
    latin_hypercube,
    one_at_a_time,
    parse_levels,
    parse_span,
    spans_of,
    texts_of,
)


def test_points() -> None:
    design = Design.named("digits")
    levels = {"mismatch.gradient": (0.0, 0.1), "neuron.gain": (0.5, 1.0, 2.0)}
    assert len(set(grid(levels))) == 6 and grid({}) == ((),)
    own = one_at_a_time(design, {"mismatch.gradient": (0.0, 0.1), "neuron.gain": (2.0, 3.0)})
    base = {"mismatch.gradient": design.mismatch.gradient, "neuron.gain": design.neuron.gain}
    assert dict(own[0]) == base
    assert all(sum(dict(point)[key] != base[key] for key in base) == 1 for point in own[1:])
    spans = {"mismatch.gradient": Span(0.0, 1.0), "neuron.leak": Span(1e-6, 1e-4, True)}
    sample = latin_hypercube(spans, 20, 3)
    assert sample == latin_hypercube(spans, 20, 3) != latin_hypercube(spans, 20, 4)
    flat = np.array([[g, np.log10(leak) / 2 + 3] for (_, g), (_, leak) in sample])
    assert np.array_equal(
        np.sort(np.floor(flat * 20), axis=0), np.repeat(np.arange(20.0)[:, None], 2, axis=1)
    )


@given(
    st.integers(-999, 998), st.integers(1, 999), st.integers(-12, 1), st.booleans(), st.integers(3, 40),
    st.integers(0, 99),
)  # fmt: skip
def test_a_hypercubes_ranges_are_found(
    low: int, more: int, power: int, log: bool, count: int, seed: int
) -> None:
    start, end = (float(f"{end}e{power}") for end in (low, low + more))
    spans = {"neuron.low": Span(start, end, log and low > 0), "neuron.gain": Span(0.3, 7.7)}
    made = latin_hypercube(spans, count, seed)
    found = spans_of(made, seed)
    assert found is not None and latin_hypercube(found, count, seed) == made
    assert spans_of(made, seed + 1) is None and spans_of(made[:2], seed) is None
    assert spans_of(tuple((pair, ("learning.batch", 5)) for (pair, _) in made), seed) is None


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("mismatch.conductance=0, 0.5", "mismatch.conductance", (0.0, 0.5)),
        ("mismatch.conductance=0%,30 %", "mismatch.conductance", (0.0, 0.3)),
        ("neuron.leak=5uS,1e-5 S", "neuron.leak", (5e-6, 1e-5)),
        ("neuron.low=0,-100mV", "neuron.low", (0.0, -0.1)),
        ("learning.angle=0,90", "learning.angle", (0.0, 90.0)),
        ("learning.angle=45deg", "learning.angle", (45.0,)),
        ("learning.batch=10,20", "learning.batch", (10, 20)),
        ("programming.mode=sign,ideal", "programming.mode", ("sign", "ideal")),
        ("chip.layers=64-5-10,64-9-8-10", "chip.layers", ((64, 5, 10), (64, 9, 8, 10))),
    ],
)
def test_levels_are_read_with_their_units(text: str, key: str, values: tuple[object, ...]) -> None:
    assert parse_levels(text) == (key, values)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mismatch.conductance", "write KEY=VALUES"),
        ("mismatch.conductanc=1", 'did you mean "mismatch.conductance"'),
        ("neuron.leak=5", "has no unit|needed"),
        ("neuron.leak=5uV", "is in volts"),
        ("mismatch.conductance=a", "a number is needed"),
        ("mismatch.conductance=9", "outside the range"),
        ("learning.batch=1.5", "whole number"),
        ("device.g_max=1uS..9uS", "write device.g_max=1uS,9uS, or sample the range by --method latin"),
        ("neuron.leak=1uS .. 9uS:log", "write neuron.leak=1uS,9uS, or sample"),
        ("learning.batch=5..60", "write learning.batch=5,60, all of them$"),
        ("programming.mode=magic", "is not an option"),
        ("chip.layers=64", "has 1 layers"),
        ("name=x", "no key 'name'"),
    ],
)
def test_wrong_levels_say_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_levels(text)


def test_tables_have_four_digits_unless_more_are_needed() -> None:
    leak, one, other = "neuron.leak", 2.136938551366809e-05, 2.136938551366810e-05
    assert texts_of([((leak, one),), ((leak, 1e-5),)]) == ["leak=21.37uS", "leak=10uS"]
    assert len(set(texts_of([((leak, one),), ((leak, other),)]))) == 2
    assert texts_of([(), ()]) == ["", ""] and texts_of([(("mismatch.conductance", 1 / 3),)]) == [
        "conductance=0.3333"
    ]


def test_spans_are_read_with_their_units() -> None:
    assert parse_span("neuron.leak=1uS..10uS:log") == ("neuron.leak", Span(1e-6, 1e-5, True))
    assert parse_span("neuron.low=-1V..0") == ("neuron.low", Span(-1.0, 0.0))
    for text, problem in (
        ("mismatch.conductance=0,1", "a range is KEY=LOW..HIGH"),
        ("mismatch.conductance=1..0", "must go upwards"),
        ("mismatch.conductance=0..1:log", "begins above 0"),
        ("mismatch.conductance=0..1:lin", "a range is"),
        ("learning.batch=1..10", "is no real number"),
        ("mismatch.conductance=0..7", "outside the range"),
    ):
        with pytest.raises(ValueError, match=problem):
            parse_span(text)
