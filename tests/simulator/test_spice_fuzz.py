"""Mutated netlists end in a deck or in an error with a line, and reach no file outside of their folder.

``benchmarks/fuzz_netlists.py`` does the same with 20,000, and runs their analyses.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice, read_spice

from . import mutations

CIRCUITS = Path(__file__).parent / "circuits"
SEEDS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outside = tmp_path_factory.mktemp("fuzz")
    mutations.prepare(outside)
    return outside / "inside"


def test_the_corpus_is_valid(folder: Path) -> None:
    for text in mutations.corpus(CIRCUITS):
        parse_spice(text.decode(), "valid.cir", folder).netlist()


@pytest.mark.parametrize("block", range(8))
def test_mutated_netlists(block: int, folder: Path) -> None:
    valid, path = mutations.corpus(CIRCUITS), folder / f"mutated{block}.cir"
    decks = 0
    for seed in range(block, SEEDS, 8):
        path.write_bytes(mutations.mutated(seed, valid))
        try:
            deck = read_spice(path)
            deck.validate(deck.netlist())
        except SpiceSyntaxError as error:
            assert error.line >= 1 and str(error).startswith(f"{error.file}:{error.line}: "), seed
            assert "secret" not in error.file, seed
            assert max(map(len, str(error).splitlines())) < 1000 and str(error).count("\n") <= 10, seed
        else:
            decks += 1
            assert all("secret" not in element.name for element in deck.elements), seed
    assert 0 < decks < SEEDS // 8  # both ends are reached
