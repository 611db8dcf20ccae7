"""What README and docs show: their Python runs, and whole pages with commands print what they show.

A page with a ``console``, ``text`` or ``diff`` block is a session: its blocks run in order, in one folder and
namespace. In a ``console`` block, a line that starts with ``$ ohmostat`` is a command, and the lines up to
the next one are what it prints; a ``text`` block is what the Python block before it prints. Numbers agree to
5 % or to one in the last digit that is shown, and ``…`` stands for anything. A block with a ``title`` is the
file of that name; a ``diff`` changes the module of that name, in a copy of the package that the page uses.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import ohmostat
from ohmostat.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(?<![\w.])([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
FENCE = re.compile(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, the file that it is (or ""), its text and its first line's number."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(f[1], f[2] or "", f[3], text.count("\n", 0, f.start(3)) + 1) for f in FENCE.finditer(text)]


def of(language: str, pages: list[Path]) -> list[tuple[Path, Block]]:
    return [(page, block) for page in pages for block in blocks(page) if block.language == language]


def by_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


CHANGING = [page for page in PAGES if of("diff", [page])]
SESSIONS = [page for page in PAGES if of("console", [page]) or of("text", [page]) or page in CHANGING]
LONE = of("python", [page for page in PAGES if page not in SESSIONS])


@pytest.mark.parametrize(("page", "block"), LONE, ids=[f"{page.name}-{block.line}" for page, block in LONE])
def test_python_block_runs(page: Path, block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(page, block, {"__name__": "__documentation__"})


@pytest.mark.timeout(300)  # another interpreter compiles what its copy of the package has not
@pytest.mark.parametrize("page", SESSIONS, ids=by_name)
def test_session_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "ngspice" in "".join(block.text for _, block in of("console", [page])):
        from .simulator.compare import require_ngspice

        require_ngspice()
    if page not in CHANGING:
        session(page)
        return
    copy = copied_package(tmp_path)
    for _, block in of("diff", [page]):
        change(copy / block.title, block)
    command = [sys.executable, __file__, str(page)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_to_files_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("layer", ["simulator", "circuits", "learning"])
def test_every_module_has_its_place_in_the_architecture(layer: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition(f"### `{layer}/`")[2].partition("\n#")[0]
    patterns = [name for row in table.splitlines() for name in re.findall("`(.+?)`", row.split(" | ")[0])]
    modules = [path.stem for path in (ROOT / layer).glob("*.py") if path.stem != "__init__"]
    places = {module: [p for p in patterns if fnmatch.fnmatch(module, p)] for module in modules}
    assert [module for module, found in places.items() if not found] == []
    assert set(patterns) == {pattern for found in places.values() for pattern in found}


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
        agree(printed, shown, "here")
    else:
        with pytest.raises(AssertionError):
            agree(printed, shown, "here")


# -- a session -----------------------------------------------------------------------------------------


def session(page: Path) -> None:
    """Run a page in the present folder."""
    printed, names = "", {"__name__": "__documentation__"}
    for block in blocks(page):
        where = f"{by_name(page)}:{block.line}"
        if block.language == "python":
            printed = run_python(page, block, names)
        elif block.language == "text":
            agree(printed, block.text, where)
        elif block.language == "console":
            for command, shown in commands(block.text):
                printed = run_command(command)
                if shown.strip():
                    agree(printed, shown, f"{where}, {command}")
        elif block.title and block.language != "diff":
            Path(block.title).write_text(block.text, "utf-8")


def run_python(page: Path, block: Block, names: dict[str, object]) -> str:
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a console block, and what it is said to print."""
    before, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not before, f"a console block starts with a command, not with {before}"
    split = [re.sub(r"\\\n *", "", part).partition("\n") for part in parts]
    return [(command, shown) for command, _, shown in split]


def run_command(command: str) -> str:
    """What a terminal would show of it."""
    program, *arguments = shlex.split(command)
    assert program == "ohmostat", f"{command}: only ohmostat's own commands can be tried"
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        status = main(arguments)
    assert status == 0, f"{command}: {screen.getvalue()}"
    return screen.getvalue()


# -- what is shown, and what is printed ----------------------------------------------------------------


def agree(printed: str, shown: str, where: str) -> None:
    """Assert that words are the same and numbers close."""
    pattern, numbers = "", []
    for k, part in enumerate(NUMBER.split(tidy(shown))):
        if k % 2:
            numbers.append(pytest.approx(float(part), rel=0.05, abs=last_digit(part)))
            pattern += NUMBER.pattern
        else:
            pattern += re.escape(part).replace("…", ".*?")
    found = re.fullmatch(pattern, tidy(printed), re.DOTALL)
    message = f"{where} shows\n{shown}\nand this is printed:\n{printed}"
    assert found, message
    assert [float(number) for number in found.groups()] == numbers, message


def last_digit(number: str) -> float:
    """What one more in the last place shown adds; counts have none."""
    if number.lstrip("+-").isdigit():
        return 0.0
    mantissa, _, exponent = number.partition("e")
    return 1.001 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def tidy(text: str) -> str:
    """Without the spaces that line up columns."""
    return re.sub(r"[ \t]+", " ", re.sub(r"[ \t]+$", "", text.strip(), flags=re.MULTILINE))


# -- a changed package ---------------------------------------------------------------------------------


def copied_package(folder: Path) -> Path:
    """A copy of the package that is tested, with what numba has compiled of it."""
    source, copy = Path(ohmostat.__file__).parent, folder / "changed" / "ohmostat"
    copy.mkdir(parents=True)
    for path in source.glob("*.py"):
        shutil.copy2(path, copy)
    for name in ("simulator", "circuits", "learning"):
        shutil.copytree(source / name, copy / name)
    return copy


def change(module: Path, block: Block) -> None:
    """Apply a diff: the lines of each hunk, without those that it adds, stand in the module just once."""
    text = module.read_text("utf-8")
    for hunk in re.split(r"^@@.*\n", block.text, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] != other) for other in "+-")
        assert text.count(old) == 1, f"{block.title}: the diff does not fit at\n{old}"
        text = text.replace(old, new)
    module.write_text(text, "utf-8")


if __name__ == "__main__":
    session(Path(sys.argv[1]))
