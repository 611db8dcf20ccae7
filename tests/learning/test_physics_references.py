"""What docstrings cite of the physics page is there, under that number and title."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "physics.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\d+)\. (.+)$", PAGE, re.MULTILINE))
CITATION = re.compile(r"physics(?:\]\(physics\.md\))?,\s+section\s+(\d+)(?::\s+([^)]+))?")
CITATIONS = [
    pytest.param(number, title, id=f"{path.relative_to(ROOT)}-{k}")
    for folder in ("simulator", "circuits", "learning", "docs", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".toml")
    for k, (number, title) in enumerate(CITATION.findall(path.read_text("utf-8")))
]


@pytest.mark.parametrize(("number", "title"), CITATIONS)
def test_cited_section(number: str, title: str) -> None:
    assert number in SECTIONS
    assert title in ("", SECTIONS[number])


def test_citations_are_found() -> None:
    assert len(CITATIONS) > 8
