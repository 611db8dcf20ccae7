"""The package as installed: its version, its contents, and what importing it costs."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path, PurePosixPath

import pytest

import ohmostat

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = (".", "simulator", "circuits", "learning")
HEAVY = {"h5py", "matplotlib", "numba", "numpy", "pooch", "quantiphy", "scipy", "tqdm"}

SITE = Path(sysconfig.get_path("purelib")).resolve()
IS_INSTALLED = Path(ohmostat.__file__).resolve().parent == SITE / "ohmostat"
installed = pytest.mark.skipif(not IS_INSTALLED, reason="ohmostat runs from its sources")


def python(code: str) -> str:
    """What a new interpreter prints, warnings being errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def distribution() -> importlib.metadata.Distribution:
    """The installed one: a build leaves another, half of it, in the working folder."""
    (found,) = importlib.metadata.distributions(name="ohmostat", path=[str(SITE)])
    return found


def wheel_files() -> set[PurePosixPath]:
    files = {PurePosixPath(file) for file in distribution().files or ()}
    return {file for file in files if "__pycache__" not in file.parts}


@pytest.mark.skipif(
    os.environ.get("OHMOSTAT_TEST_INSTALLED") != "1", reason="OHMOSTAT_TEST_INSTALLED is not 1"
)
def test_the_tests_run_against_the_installed_package() -> None:
    assert IS_INSTALLED, f"ohmostat was imported from {ohmostat.__file__}, not from {SITE}"


@installed
def test_version_is_the_distributions() -> None:
    assert ohmostat.__version__ == distribution().version


def test_citation_names_this_version() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {ohmostat.__version__}\n" in citation


@installed
def test_wheel_holds_the_package_and_nothing_else() -> None:
    tops = {file.parts[0] for file in wheel_files() if file.parts[0] != ".."}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ohmostat"}
    folders = {file.parts[1] for file in wheel_files() if len(file.parts) > 2 and ".." not in file.parts}
    assert {f for f in folders if f != "licenses"} <= {"simulator", "circuits", "learning"}
    scripts = {file.name for file in wheel_files() if file.parts[0] == ".."}
    assert scripts == {"ohmostat"}


@installed
def test_wheel_holds_every_module_and_data_file_of_the_tree() -> None:
    modules = {path for folder in SOURCE_FOLDERS for path in (REPOSITORY / folder).glob("*.py")}
    folders = ("circuits/designs/*", "circuits/presets/*", "learning/datasets/*/*", "learning/page/*")
    data = [path for pattern in folders for path in REPOSITORY.glob(pattern)]
    tree = {
        PurePosixPath("ohmostat", path.relative_to(REPOSITORY).as_posix())
        for path in (*modules, *data, REPOSITORY / "py.typed")
    }
    assert {file for file in wheel_files() if file.parts[0] == "ohmostat"} == tree


def test_import_loads_nothing_heavy() -> None:
    modules = python("import sys\nimport ohmostat\nprint(*sys.modules)").split()
    assert "ohmostat" in modules and not HEAVY & set(modules)


def test_command_line_help_loads_nothing_heavy() -> None:
    modules = python(
        "import sys\n"
        "from ohmostat.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code\n"
        "print('MODULES', *sys.modules)"
    )
    assert not HEAVY & set(modules.partition("MODULES")[2].split())


def test_import_sets_nothing() -> None:
    before_and_after = python(
        "import os\nbefore = dict(os.environ)\nimport ohmostat\nprint(before == dict(os.environ))"
    )
    assert before_and_after.strip() == "True"


@pytest.mark.parametrize("name", ohmostat.__all__)
def test_public_name_resolves(name: str) -> None:
    value = getattr(ohmostat, name)
    assert name in dir(ohmostat)
    assert getattr(ohmostat, name) is value
    if name != "__version__":
        assert value.__module__.startswith("ohmostat.")
        assert value.__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ohmostat' has no attribute 'memristor_salad'"):
        _ = ohmostat.memristor_salad


def test_type_checkers_and_users_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING, the lazy homes and ``__all__`` agree name by name."""
    tree = ast.parse(Path(ohmostat.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name: (f".{node.module}", alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == ohmostat._HOMES
    assert {*typed, "__version__"} == set(ohmostat.__all__)


def test_python_dash_m_runs_the_command() -> None:
    command = [sys.executable, "-m", "ohmostat", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"ohmostat {ohmostat.__version__}"
