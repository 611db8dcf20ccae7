"""What README and docs show: their Python runs, and whole pages with commands print what they show.

A page with a ``console`` block is a session: its blocks run in order, in one folder and one namespace. In one
a block, a line that starts with ``$ ohmostat`` is a command, and the lines up to the next one are what it
prints; a ``text`` block is what the Python block before it prints. Numbers agree to 5 % or to one in the last
digit that is shown, ``…`` stands for anything, and a block with a ``title`` is the file of that name.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from ohmostat.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(?<![\w.])([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


class Block(NamedTuple):
    """A fenced block: its language, the file that it is (or ""), its text and its first line's number."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    fences = re.finditer(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    return [Block(f[1], f[2] or "", f[3], text.count("\n", 0, f.start(3)) + 1) for f in fences]


SESSIONS = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]
LONE = [
    pytest.param(page, block, id=f"{page.name}-{block.line}")
    for page in PAGES
    if page not in SESSIONS
    for block in blocks(page)
    if block.language == "python"
]


def by_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(("page", "block"), LONE)
def test_python_block_runs(page: Path, block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(page, block, {"__name__": "__documentation__"})


@pytest.mark.parametrize("page", SESSIONS, ids=by_name)
def test_session_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, names = "", {"__name__": "__documentation__"}
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text, "utf-8")
        elif block.language == "python":
            printed = run_python(page, block, names)
        elif block.language == "text":
            agree(printed, block.text, page, block.line)
        elif block.language == "console":
            for line, command, shown in commands(block):
                printed = run_command(command)
                if shown.strip():
                    agree(printed, shown, page, line)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_to_files_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("accuracy 0.852  1.3 s", "accuracy 0.85  … s", True),
        ("accuracy 0.852", "accuracy 0.75", False),
        ("0.004 ± 2e-09", "0.00 ± 1e-09", True),
        ("0.004 ± 2e-09", "0.00 ± 4e-09", False),
        ("0 of 20 samples", "1 of 20 samples", False),
        ("wrote a.h5", "wrote b.h5", False),
        ("+0.5 of 20", "-0.5 of 20", False),
        ("a\nb\nc", "a\n…\nc", True),
        ("a\nb", "a", False),
    ],
)
def test_agreement(printed: str, shown: str, same: bool) -> None:
    if same:
        agree(printed, shown, ROOT / "page.md", 1)
    else:
        with pytest.raises(AssertionError):
            agree(printed, shown, ROOT / "page.md", 1)


def run_python(page: Path, block: Block, names: dict[str, object]) -> str:
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def commands(block: Block) -> list[tuple[int, str, str]]:
    """Line, command and output of each command of a console block."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0], f"line {block.line}: a console block starts with a command"
    found, line = [], block.line
    for part in parts[1:]:
        command, _, shown = re.sub(r"\\\n *", "", part).partition("\n")
        found.append((line, command, shown))
        line += part.count("\n")
    return found


def run_command(command: str) -> str:
    """What a terminal would show of it."""
    program, *arguments = shlex.split(command)
    assert program == "ohmostat", f"{command}: only ohmostat's own commands can be tried"
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        status = main(arguments)
    assert status == 0, f"{command}: {screen.getvalue()}"
    return screen.getvalue()


def agree(printed: str, shown: str, page: Path, line: int) -> None:
    """Assert that words are the same and numbers close."""
    pattern, numbers = "", []
    for k, part in enumerate(NUMBER.split(tidy(shown))):
        if k % 2:
            numbers.append(pytest.approx(float(part), rel=0.05, abs=last_digit(part)))
            pattern += NUMBER.pattern
        else:
            pattern += re.escape(part).replace("…", ".*?")
    found = re.fullmatch(pattern, tidy(printed), re.DOTALL)
    where = f"{by_name(page)}:{line} shows\n{shown}\nand this is printed:\n{printed}"
    assert found, where
    assert [float(number) for number in found.groups()] == numbers, where


def last_digit(number: str) -> float:
    """What one more in the last place shown adds; counts have none."""
    if number.lstrip("+-").isdigit():
        return 0.0
    mantissa, _, exponent = number.partition("e")
    return 1.001 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def tidy(text: str) -> str:
    """Without the spaces that line up columns."""
    return re.sub(r"[ \t]+", " ", re.sub(r"[ \t]+$", "", text.strip(), flags=re.MULTILINE))
