"""Decks from their cards."""

from __future__ import annotations

from typing import Any

import pytest

from ohmostat.simulator.deck import Deck, Element
from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice


def deck(*cards: str, **keywords: Any) -> Deck:
    return parse_spice("\n".join(["title", *cards]), **keywords)


def element(card: str, *cards: str) -> Element:
    """The first element of a deck."""
    return deck(card, *cards).elements[0]


def parameters(card: str, *cards: str) -> dict[str, float]:
    return dict(element(card, *cards).parameters)


def refused(match: str, *cards: str) -> SpiceSyntaxError:
    with pytest.raises(SpiceSyntaxError, match=match) as caught:
        deck(*cards).netlist()
    return caught.value
