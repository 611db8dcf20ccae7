"""Chip designs of any value, and of damaged text: a design, or a DesignError."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.circuits.design import Design, template
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import KEYS

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(KEYS)), ANYTHING)
def test_any_value_makes_a_design_or_a_design_error(key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    try:
        Design.from_dict({section: {name: value}} if section else {name: value})
    except DesignError as error:
        assert "".join(str(error).split("\n")).isprintable()


@settings(deadline=None)
@given(st.data())
def test_any_damage_to_a_file_makes_a_design_or_a_design_error(data: st.DataObject) -> None:
    text = template()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 40, len(text))))
    damaged = text[:start] + data.draw(st.text(max_size=20)) + text[end:]
    try:
        Design.from_text(damaged)
    except DesignError as error:
        assert error.line is None or 1 <= error.line <= damaged.count("\n") + 1
