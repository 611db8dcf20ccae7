"""Chip designs: the same from TOML and Python, and refused with the place and the remedy."""

from __future__ import annotations

import doctest
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.circuits import design as module
from ohmostat.circuits.data_shapes import DATA
from ohmostat.circuits.design import MAX_BYTES, Design, load_design, named_designs, template, with_preset
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.specs import KEYS, ChipSpec, DeviceSpec, MismatchSpec, NeuronSpec
from ohmostat.circuits.units import Choice, Curve, Integer, Kind, Layers, Number, Text

# -- valid designs ---------------------------------------------------------------------------------


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Everything that a key accepts, from its own metadata."""
    if isinstance(kind, Number):
        low, high, r = kind.range.low, kind.range.high, kind.range
        return st.floats(low, high, exclude_min=r.open_low, exclude_max=r.open_high)
    if isinstance(kind, Integer):
        whole = st.integers(kind.low, kind.high)
        return whole | st.none() if kind.everything else whole
    if isinstance(kind, Choice):
        return st.sampled_from(kind.options)
    if isinstance(kind, Layers):
        plain = st.lists(st.integers(1, kind.largest), min_size=kind.fewest, max_size=kind.most)
        convolved = st.sampled_from(["1x1x2", "1x2x5 stride 2", "2x2x3 pad 1 pool 2"])
        return plain | st.tuples(st.just(1), convolved, convolved, st.integers(1, kind.largest)).map(list)
    if isinstance(kind, Curve):
        return st.lists(
            st.tuples(st.floats(0.01, 100.0).map(lambda v: round(v, 3)), st.floats(0.0, 1.0)), max_size=6
        )
    assert isinstance(kind, Text)
    return st.text(min_size=1, max_size=80).filter(lambda s: s.isprintable() and s.strip())


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Any design whatever: every key drawn from its range, then reconciled with the others."""
    new = {key: draw(values(kind)) for key, kind in KEYS.items()}
    shape = DATA[new["task.data"]]
    new["chip.layers"][0] = shape.inputs
    if new["chip.family"] == "resistive":
        new |= {"chip.columns": "passive", "homeostat.mode": draw(st.sampled_from(["off", "trim"]))}
        new["converters.reading_bits"] = 0
        if new["resistive.copies"] == "twin":
            new |= {"learning.rule": "contrastive", "homeostat.mode": "off"}
        if new["resistive.outputs"] == "paired":
            new["learning.cost"] = "squared-error"
    elif new["chip.family"] != "shared" and new["homeostat.mode"] == "trim":
        new["homeostat.mode"] = "probe"
    paired = new["chip.family"] == "resistive" and new["resistive.outputs"] == "paired"
    if new["learning.cost"] == "squared-error":
        new["chip.layers"][-1] = shape.classes * (2 if paired else 1)
    if new["resistive.hidden"] == "pair":
        new["resistive.barrier"] = abs(new["resistive.barrier"]) or 1.0
    points = sorted(dict(new["resistive.curve"]).items())
    rising = np.maximum.accumulate([i for _, i in points]) if points else []
    new["resistive.curve"] = [(0.0, 0.0), *((v, float(i)) for (v, _), i in zip(points, rising, strict=True))]
    if len(new["resistive.curve"]) < 2 and new["resistive.diode"] == "measured":
        new["resistive.curve"] = [(0.0, 0.0), (1.0, 1e-3)]
    for name in ("train", "test"):
        if new[f"task.{name}"] and getattr(shape, name):
            new[f"task.{name}"] = min(new[f"task.{name}"], getattr(shape, name))
    if new["neuron.high"] <= new["neuron.low"]:
        new["neuron.low"], new["neuron.high"] = -100.0, 100.0
    if new["device.g_max"] <= new["device.g_min"]:
        new["device.g_min"] = 0.0
    if new["noise.f_high"] <= new["noise.f_low"]:
        new["noise.f_low"], new["noise.f_high"] = 1.0, 2.0
    if new["learning.tolerance"] < 1e-6:
        new["learning.dtype"] = "float64"
    new["learning.nudges"] += new["learning.nudges"] % 2
    new["mismatch.stuck_closed"] = min(new["mismatch.stuck_closed"], 1 - new["mismatch.stuck_open"])
    if new["programming.mode"] in ("pulses", "sign") or new["programming.levels"] == 1:
        new["programming.levels"] = 0
    new["device.preset"] = "none"  # whose values all lie where they were measured: test_presets.py
    if isinstance(new["chip.layers"][1], str):
        new["wires.row"] = new["wires.column"] = 0.0
        if new["chip.family"] != "resistive":
            new["chip.columns"] = "virtual-ground"
        else:  # passive, and so without pools
            new["chip.layers"][1:-1], new["chip.sharing"] = ["1x1x2", "2x2x3 pad 1"], "replicated"
    if new["chip.columns"] == "passive":
        new["wires.row"] = new["wires.column"] = 0.0
    of_family = {"twin": "learning.angle", "shared": "mismatch.driver_gain"}
    new |= {key: 0.0 for family, key in of_family.items() if family != new["chip.family"]}
    return Design().replace(new)


@settings(deadline=None)
@given(designs())
def test_nothing_is_lost_in_any_form(design: Design) -> None:
    assert Design.from_text(design.to_toml()) == design
    assert Design.from_dict(json.loads(json.dumps(design.to_dict()))) == design
    assert pickle.loads(pickle.dumps(design)) == design
    assert hash(design.replace({})) == hash(design)


def test_the_template_is_the_default_and_says_every_range() -> None:
    text = template()
    assert Design.from_text(text) == Design() == Design.from_text("")
    unwrapped = text.replace("\n# ", " ")
    for kind in KEYS.values():
        assert f" {kind.help} [{kind.allowed()}]\n" in unwrapped
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("preset", ["none", "phase-change"])
def test_the_template_tells_the_default_of_what_is_written_otherwise(preset: str) -> None:
    """Leaving a key out gives what is told, or, where none is told, what is written."""
    design = with_preset(Design.named("digits"), preset)
    section, about, told = "", "", {}
    for line in template(design).splitlines():
        if line.startswith("["):
            section = line[1 : line.index("]")] + "."
        elif line.startswith("# "):
            about += line[1:]
        elif line:
            key, _, written = line.partition(" = ")
            told[section + key], about = about[:-1].partition("; default ")[2] or written, ""
    named = Design.from_text(f'[device]\npreset = "{preset}"').to_dict()
    for key, kind in KEYS.items():
        head, _, leaf = key.rpartition(".")
        default = (named[head] if head else named)[leaf]
        if key != "device.preset":
            assert told[key] == kind.literal(default)
    assert told["neuron.gain"] == "1.0" != KEYS["neuron.gain"].literal(design.neuron.gain)


@pytest.mark.parametrize("name", named_designs())
def test_shipped_designs_load_and_explain_themselves(name: str) -> None:
    design = Design.named(name)
    assert design.name == name and load_design(name) == design
    text = (Path(module.__file__).parent / "designs" / f"{name}.toml").read_text("utf-8")
    assert text.startswith("# ") and text.count("#") >= 5


def test_the_shipped_designs_are_what_they_promise() -> None:
    assert named_designs() == ("digits", "fashion", "fashion-6k", "resistive", "shared")
    full, embedded = Design.named("fashion"), Design.named("fashion-6k")
    assert full.chip.layers == (784, 256, 256, 10) and full.task.data == "fashion-mnist"
    assert full.mismatch.conductance == 0.3 and full.homeostat.mode == "probe"
    same = {"name": "fashion", "task.data": "fashion-mnist", "learning.epochs": 3,
            "learning.rate": 0.016, "learning.beta": 0.005}  # fmt: skip
    assert embedded.replace(same) == full
    assert Design.named("shared").mismatch.driver_gain == 0.1
    assert Design.named("digits").chip.columns == "passive"


def test_quantities_are_held_in_si_and_may_be_text_in_python() -> None:
    device = DeviceSpec(g_min="5nS", g_max=2e-5)  # type: ignore[arg-type]
    assert (device.g_min, device.g_max) == (5e-9, 2e-5)
    assert Design.from_text('[learning]\nangle = "45deg"').learning.angle == 45.0
    assert Design.from_text("[learning]\nangle = 45").learning.angle == 45.0
    assert Design.from_text('[neuron]\nlow = 0\n[task]\ntrain = "all"').neuron.low == 0.0
    assert type(NeuronSpec(gain=2).gain) is float


def test_swing_and_time_constant() -> None:
    neuron = NeuronSpec(low=-0.5, high=1.0, capacitance=2e-12, leak=1e-5)
    assert neuron.swing == 1.5 and neuron.tau == pytest.approx(2e-7)


def test_replace_changes_one_key_or_several_together() -> None:
    base = Design()
    assert base.replace("mismatch.conductance", 0.5).mismatch.conductance == 0.5
    assert base.replace("device.g_max", "5uS").device.g_max == 5e-6
    assert base.replace("name", "other").name == "other"
    assert base.replace("chip", ChipSpec(family="shared")).chip.family == "shared"
    digits = base.replace({"chip.layers": [64, 32, 10], "task.data": "digits"})
    assert digits.chip.layers == (64, 32, 10) and base == Design()
    with pytest.raises(DesignError, match=r'did you mean "mismatch.conductance"'):
        base.replace("mismatch.conductanse", 0.5)
    with pytest.raises(DesignError, match=r'did you mean "chip.family"'):
        base.replace("chips.family", "twin")


def test_load_design_takes_a_name_or_a_path(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "mine").write_text(Design(name="mine").to_toml(), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_design("mine").name == load_design("./mine").name == load_design(tmp_path / "mine").name
    (tmp_path / "fashion").write_text("", "utf-8")
    assert load_design("fashion").name == "fashion" and load_design("./fashion") == Design()
    with pytest.raises(DesignError, match=r'named "fashon" \(did you mean "fashion"\?\); there are'):
        load_design("fashon")
    with pytest.raises(DesignError, match=r"none.toml: cannot be read \(No such file .* one of: digi"):
        load_design("none.toml")


# -- bad ones --------------------------------------------------------------------------------------

BAD = [  # text, line, key, what the message must hold
    (
        '[chip]\nfamly = "twin"',
        2,
        "chip.famly",
        'did you mean "chip.family"?); [chip] takes family,',
    ),
    ('[chip]\nleak = "1uS"', 2, "chip.leak", 'did you mean "neuron.leak"?'),
    ('[chips]\nfamily = "twin"', 1, "chips", 'did you mean "chip"?'),
    ('g_min = "1nS"', 1, "g_min", 'did you mean "device.g_min"?'),
    ("zzz = 1", 1, "zzz", "unknown key; a design has chip, neuron,"),
    (
        '[device]\ng_max = "2.5uF"',
        2,
        "device.g_max",
        "is in farads (F); siemens (S) are needed, as",
    ),
    ('[neuron]\nleak = "10us"', 2, "neuron.leak", "is in seconds (s); siemens"),
    (
        "[device]\n\ng_max = 20e-6",
        3,
        "device.g_max",
        'has no unit; if siemens are meant, write "20uS"',
    ),
    ('[device]\ng_max = "2m"', 2, "device.g_max", "has no unit; siemens (S) are needed"),
    ('[neuron]\nlow = "0,1V"', 2, "neuron.low", "is not a number with a unit; volts"),
    (
        '[device]\ng_max = "30S"',
        2,
        "device.g_max",
        '"30S": is outside the range; allowed: above 0S, up',
    ),
    (
        '[device]\ng_max = "5nS"',
        2,
        "device.g_max",
        "5nS: must be above device.g_min = 10nS; raise it",
    ),
    ('[neuron]\nhigh = "-1V"', 2, "neuron.high", "-1V: must be above neuron.low = 0V"),
    ('[neuron]\nhigh = "0V"', 2, "neuron.high", "must be above neuron.low = 0V"),
    ('[neuron]\nleak = "0S"', 2, "neuron.leak", "allowed: above 0S, up to 1S"),
    ("[device]\ng_max = true", 2, "device.g_max", "is true or false, and a number is needed"),
    ("[learning]\nbatch = true", 2, "learning.batch", "is true or false, and a whole number"),
    (
        "[learning]\nbatch = 50.0",
        2,
        "learning.batch",
        "is a number with a point, and a whole number",
    ),
    ("[learning]\nepochs = 0", 2, "learning.epochs", "is outside the range; allowed: 1 to 100000"),
    ("[learning]\nmomentum = 1", 2, "learning.momentum", "allowed: from 0, below 1"),
    (
        "[learning]\nangle = 120",
        2,
        "learning.angle",
        "120deg: is outside the range; allowed: 0deg to",
    ),
    ("[neuron]\ngain = nan", 2, "neuron.gain", "nan: is not a finite number"),
    ("[neuron]\nleak = inf", 2, "neuron.leak", "inf: is not a finite number"),
    ('[neuron]\ngain = "2"', 2, "neuron.gain", "write a plain number, without quotes"),
    (
        '[neuron]\nlaw = "logistc"',
        2,
        "neuron.law",
        'did you mean "logistic"?); allowed: "logistic" |',
    ),
    ("[chip]\nlayers = [784, 0, 10]", 2, "chip.layers", "layer 2 (0) is outside the range"),
    ("[chip]\nlayers = [784, 10]", 2, "chip.layers", "has 2 layers; allowed: 3 to 16 sizes"),
    ("[chip]\nlayers = 784", 2, "chip.layers", "a list of layer sizes is needed"),
    ("[chip]\nlayers = [\n 100,\n 9, 10]", 2, "chip.layers", "has 100 inputs, but task.data = "),
    (
        '[task]\ndata = "digits"',
        2,
        "chip.layers",
        'has 784 inputs, but task.data = "digits" has 64',
    ),
    (
        '[learning]\ncost = "squared-error"\n[chip]\nlayers = [784, 9, 12]',
        4,
        "chip.layers",
        "needs an",
    ),
    (
        "[task]\ntrain = 7000",
        2,
        "task.train",
        '"fashion-6k" has 6000 of them; ask for fewer, or write',
    ),
    (
        '[task]\ntest = "most"',
        2,
        "task.test",
        "is text, and a whole number is needed; allowed: 1 to",
    ),
    (
        "[mismatch]\nstuck_closed = 0.5\nstuck_open = 0.6",
        3,
        "mismatch.stuck_open",
        "0.5 stuck closed are more than all devices; make one smaller",
    ),
    ("[programming]\nlevels = 1", 2, "programming.levels", "is no choice; write 0 for any conductance"),
    (
        '[programming]\nlevels = 16\nmode = "pulses"',
        2,
        "programming.levels",
        'pulses have no levels but those that pulses make; set it to 0 or write programming.mode = "write',
    ),
    ("[mismatch]\ndriver_gain = 0.1", 2, "mismatch.driver_gain", "a twin chip has no shared read"),
    (
        'chip.family = "shared"\nlearning.angle = 9',
        2,
        "learning.angle",
        "one shared crossbar has no",
    ),
    ('chip.family = "loop"\nlearning.angle = 9', 2, "learning.angle", "no weights of a loop face each other"),
    ('chip.family = "relay"\nlearning.angle = 9', 2, "learning.angle", "no single crossbar leads back"),
    (
        'chip.family = "loop"\nmismatch.driver_gain = 0.1',
        2,
        "mismatch.driver_gain",
        "a loop chip has no shared",
    ),
    (
        "[learning]\ntolerance = 1e-9",
        2,
        "learning.tolerance",
        "float32 settles to 1e-6; raise it or",
    ),
    ('name = ""', 1, "name", "is empty, too long or not printable"),
    ("\nschema = 2", 2, "schema", "written for a later ohmostat, this one reads schema 1; upgrade"),
    ("schema = 0", 1, "schema", "is outside the range; allowed: 1"),
    ('chip = "twin"', 1, "chip", "is a section; write [chip] and its keys on the lines beneath"),
    ('[[chip]]\nfamily = "twin"', 1, "chip", "is a section; write [chip]"),
    ("chip = { family = 1 }", 1, "chip.family", 'is not an option; allowed: "twin" | "shared"'),
    ("[chip.family]\nx = 1", 1, "chip.family", "is not an option"),
    (
        "[task]\nseed = 1979-05-27",
        2,
        "task.seed",
        "(date): is a date, and a whole number is needed",
    ),
    ("neuron = 5", 1, "neuron", "neuron = 5: is a section; write [neuron]"),
    ("[device\n", 1, None, "is not valid TOML: Expected ']' at the end of a table declaration"),
    ("[device]\ng_max = 20uS", 2, None, 'write "20uS" in quotes'),
    ("[task]\nseed = 1\nseed = 2", 3, None, "is not valid TOML: Cannot overwrite a value"),
    ("name = 'x", 1, None, "is not valid TOML"),
    ("[task]\nseed = " + "9" * 5000, None, None, "too long to read; no key needs one"),
    ("[task]\nseed = " + "[" * 30000, None, None, "too long to read; no key needs one"),
    ("[task]\nseed = 0x" + "f" * 6000, 2, "task.seed", "(int): is outside the range"),
]


@pytest.mark.parametrize(("text", "line", "key", "fragment"), BAD, ids=range(len(BAD)))
def test_bad_text_is_refused_with_its_place(
    text: str, line: int | None, key: str | None, fragment: str
) -> None:
    with pytest.raises(DesignError) as caught:
        Design.from_text(text, "chip.toml")
    error = caught.value
    assert fragment in str(error)
    assert str(error).startswith(f"chip.toml:{line}: " if line else "chip.toml: ")
    assert (error.source, error.line) == ("chip.toml", line)
    assert error.key == key
    assert len(str(error)) < 400


def test_all_faults_are_told_at_once_each_on_its_line() -> None:
    text = '[chip]\nfamly = "twin"\nlayers = [64]\n[neuron]\nlaw = "tan"\nleak = 1e-5\nhigh = "-1V"\n'
    with pytest.raises(DesignError) as caught:
        Design.from_text(text, "a.toml")
    starts = [
        "2: chip.famly: unknown",
        "3: chip.layers = [64]: has 1",
        "5: neuron.law = ",
        "6: neuron.leak = ",
    ]
    told = str(caught.value).split("\n")
    assert len(told) == len(starts)
    assert all(line.startswith(f"a.toml:{start}") for line, start in zip(told, starts, strict=True))
    with pytest.raises(DesignError, match=r"neuron.leak.*\n.*neuron.lo: unknown|unknown.*\n.*neuron.leak"):
        Design().replace({"neuron.leak": "1V", "neuron.lo": 1})
    with pytest.raises(DesignError) as caught:
        Design.from_text("[chip]\n" + "".join(f"x{k} = 1\n" for k in range(50)))
    assert str(caught.value).count("\n") == 21 and str(caught.value).endswith("\nand 29 more")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_refuses_a_wrong_type_on_its_own_line(key: str) -> None:
    lines = template().splitlines()
    section, _, name = key.rpartition(".")
    start = lines.index(next(x for x in lines if x.startswith(f"[{section}]"))) if section else 0
    line = next(i for i in range(start, len(lines)) if lines[i].startswith(f"{name} = "))
    lines[line] = f"  {name}={{}} # broken"
    with pytest.raises(DesignError) as caught:
        Design.from_text("\r\n".join(lines))
    assert (caught.value.key, caught.value.line) == (key, line + 1)
    assert f"{key} = {{}}: is " in str(caught.value) and "allowed: " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"# " + b"x" * MAX_BYTES, "is larger than 64 KiB, so it is not a chip design"),
        (b'name = "caf\xe9"', ":1: is not UTF-8; save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00", ":1: is not UTF-8"),
        (b"\x00", ":1: is not valid TOML"),
    ],
)
def test_files_that_are_no_designs(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / "chip.toml"
    path.write_bytes(content)
    with pytest.raises(DesignError) as caught:
        Design.from_toml(path)
    assert fragment in str(caught.value) and str(caught.value).startswith(str(path))


def test_a_directory_is_no_design_and_a_byte_order_mark_no_obstacle(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match=r"cannot be read \(Is a directory\)"):
        Design.from_toml(tmp_path)
    path = tmp_path / "windows.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "x"\r\n')
    assert Design.from_toml(path).name == "x"


def test_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(DesignError, match=r"device.g_max = 5nS: must be above") as caught:
        DeviceSpec(g_max=5e-9)
    assert caught.value.key == "device.g_max" and caught.value.line is None
    with pytest.raises(DesignError, match=r"mismatch.conductance = -1.0: is outside the range"):
        MismatchSpec(conductance=-1)
    with pytest.raises(DesignError, match=r"neuron.gain = nan: is not a finite number"):
        Design().replace("neuron.gain", math.nan)
    with pytest.raises(DesignError, match=r"chip: must be a ChipSpec; see Design.from_dict"):
        Design(chip={"family": "twin"})  # type: ignore[arg-type]
    with pytest.raises(DesignError, match=r'did you mean "chip.layers"'):
        Design.from_dict({"chip": {"layer": [784, 9, 10]}})
    with pytest.raises(DesignError, match=r"is not a table of sections"):
        Design.from_dict([])  # type: ignore[arg-type]


def test_an_error_survives_a_process_boundary() -> None:
    error = DesignError("problem", "a.b", "file", 3)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "file:3: problem" and vars(copy) == vars(error)
    assert isinstance(error, ValueError)


def test_shares_may_be_in_per_cent() -> None:
    text = '[mismatch]\nconductance = "30%"\nstuck_open = "0.5 %"\n[corner]\nvoltage = "110%"'
    design = Design.from_text(text)
    found = design.mismatch.conductance, design.mismatch.stuck_open, design.corner.voltage
    assert found == (0.3, 0.005, 1.1)
    assert "conductance = 0.3\n" in design.to_toml()
    plain = {"noise.flicker", "drift.exponent", "learning.rate", "neuron.gain", "mismatch.correlation_length"}
    shares = {key for key, kind in KEYS.items() if getattr(kind, "share", False)}
    assert not plain & shares and {"homeostat.gain", "programming.pulse", "mismatch.driver_gain"} < shares
    with pytest.raises(DesignError, match='write "30%" in quotes'):
        Design.from_text("[mismatch]\nconductance = 30%")


# -- the module ------------------------------------------------------------------------------------


def test_importing_designs_is_cheap() -> None:
    code = (
        "import sys, ohmostat.circuits.design as d; d.Design.named('digits'); "
        "heavy = {'numpy', 'scipy', 'numba', 'h5py', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_examples_run() -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 2 and outcome.failed == 0
