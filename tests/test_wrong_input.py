"""Wrong input to every command: exit status 2, what is wrong, what to do about it, no traceback, no result,
and every file as it was.
"""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ohmostat.circuits.archive import read_run, save_chip
from ohmostat.circuits.design import Design
from ohmostat.cli import COMMANDS, main
from ohmostat.learning.points import grid

from .learning.reporting import made_up

MEASURED = "array,tile,row,column,plane,conductance_uS\nforward0,r0c0,0,0,+,"
CONDUCTANCES = {"nan": "nan", "negative": "-1", "siemens": "1e9", "twice": "1\nforward0,r0c0,0,0,+,2"}


@pytest.fixture(scope="module")
def folder(good_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files, and bad ones of every kind."""
    here = tmp_path_factory.mktemp("inputs")
    shutil.copytree(good_files, here, dirs_exist_ok=True)
    for name, value in CONDUCTANCES.items():
        (here / f"{name}.csv").write_text(f"{MEASURED}{value}\n")
    save_chip(here / "chip.h5", read_run(here / "run.h5").chip)
    made_up(here / "elsewhere.h5", grid({"neuron.leak": (1e-6,)}), 1, Design.named("digits"))
    run = (here / "run.h5").read_bytes()
    (here / "folder.html").mkdir()
    for suffix in (".h5", ".toml", ".cir", ".csv"):
        (here / f"folder{suffix}").mkdir()
        (here / f"empty{suffix}").write_bytes(b"" if suffix != ".toml" else b"name = ''\n")
        (here / f"text{suffix}").write_text("nothing that\nis of any use\n")
        (here / f"junk{suffix}").write_bytes(bytes(range(256)) * 8)
        (here / f"truncated{suffix}").write_bytes(run[: len(run) // 2])
    return here


@pytest.fixture(autouse=True)
def unharmed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in that folder, and leave it as it was."""
    monkeypatch.chdir(folder)
    before = contents(folder)
    yield
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says as it refuses."""
    capsys.readouterr()
    try:
        status = main(shlex.split(line))
    except SystemExit as stop:  # argparse's own
        assert isinstance(stop.code, int)
        status = stop.code
    said = capsys.readouterr()
    assert status == 2, said.err
    assert said.out == "" and "Traceback" not in said.err and "[Errno" not in said.err
    return said.err


# -- files that cannot be read -----------------------------------------------------------------------

READERS = {  # a command with a file in place of {}, and who makes a right one
    "settle {}.h5": "'ohmostat train'",
    "settle {}.toml": "",
    "train {}.h5 --out new.h5": "'ohmostat train'",
    "train {}.toml --out new.h5": "",
    "audit {}.h5": "'ohmostat train'",
    "audit {}.toml": "",
    "corners {}.h5": "'ohmostat train'",
    "sweep {}.toml --out new.h5": "",
    "yield {}.h5 --require 'accuracy >= 0.9'": "'ohmostat sweep'",
    "report {}.h5 --out new.html": "'ohmostat train', 'sweep' or 'audit --out'",
    "compare run.h5 {}.h5 --out new.html": "'ohmostat train', 'sweep' or 'audit --out'",
    "export {}.h5 --out new.csv": "'ohmostat train'",
    "measured {}.h5 measured.csv --out new.h5": "'ohmostat train'",
    "measured run.h5 {}.csv --out new.h5": "",
    "simulate {}.cir": "",
    "fit {}.csv": "",
}


@pytest.mark.parametrize("bad", ["missing", "folder", "empty", "text", "junk", "truncated"])
@pytest.mark.parametrize("command", READERS)
def test_a_file_that_cannot_be_read(command: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(command.format(bad), capsys)
    assert f"ohmostat: {bad}." in said and READERS[command] in said


# -- files that would be lost -------------------------------------------------------------------------

KEPT = {  # a command with what it writes in place of {}, and the file that it reads, of any name
    "train {read} --out {}": ("chip.toml", ".h5"),
    "train {read} --out {} ": ("run.h5", ".h5"),
    "train {read} --out new.h5 --plot {}": ("chip.toml", ".png"),
    "audit {read} --out {}": ("run.h5", ".h5"),
    "audit {read} --plot {}": ("chip.toml", ".png"),
    "corners {read} --out {}": ("run.h5", ".csv"),
    "corners {read} --plot {}": ("run.h5", ".png"),
    "sweep {read} --out {}": ("chip.toml", ".h5"),
    "sweep {read} --out {stem}.h5": ("chip.toml", ".txt"),
    "sweep {read} --out {stem}.h5 ": ("chip.toml", ".png"),
    "sweep {read} --out new.h5 --plot {}": ("chip.toml", ".png"),
    "yield {read} --require 'accuracy >= 0' --plot {}": ("sweep.h5", ".png"),
    "report {read} --out {}": ("run.h5", ".html"),
    "compare run.h5 {read} --out {}": ("run.h5", ".html"),
    "export {read} --out {}": ("run.h5", ".h5"),
    "export {read} --out {} ": ("run.h5", ".csv"),
    "export {read} --format spice --out {}": ("run.h5", ".cir"),
    "measured {read} measured.csv --out {}": ("run.h5", ".h5"),
    "measured run.h5 {read} --out {}": ("measured.csv", ".h5"),
    "simulate {read} --out {}": ("deck.cir", ".h5"),
    "simulate {read} --plot {}": ("deck.cir", ".png"),
    "fit {read} --out {}": ("curves.csv", ".toml"),
    "fit {read} --plot {}": ("curves.csv", ".png"),
}


@pytest.mark.parametrize("name", ["itself", "./dotted", "absolute", "link", "linked"])
@pytest.mark.parametrize("command", KEPT)
def test_no_command_replaces_what_it_reads(
    command: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, suffix = KEPT[command]
    written = folder / f"mine{suffix}"  # what is read can be called anything
    shutil.copy(source, written)
    other = {"./dotted": f"./{written.name}", "absolute": str(written), "link": f"link{suffix}"}
    read = other.get(name, written.name)
    linked = folder / f"link{suffix}"
    linked.symlink_to(written)
    try:
        target = linked.name if name == "linked" else written.name
        line = command.format(target, stem=target.removesuffix(suffix), read=read)
        said = refused(line, capsys)
        assert f"{Path(read).name}: is read, and would be replaced by what is found; name another" in said
        assert written.read_bytes() == Path(source).read_bytes()
    finally:
        linked.unlink()
        written.unlink()


# -- everything else ----------------------------------------------------------------------------------

ROWS = """
init chip.toml                                      | chip.toml exists: choose another name, or pass --force
init run.h5 --force                                 | 'run.h5': end the design's name in .toml
init folder.toml --force                            | folder.toml: cannot be written there; name another file
init nowhere/new.toml                               | there is no folder
init new.toml --from digit                          | did you mean "digits"
init new.toml --from ../digits                      | no design is named
init new.toml --from ''                             | no design is named
init new.toml --preset magic                        | allowed: "none" | "cmos-capacitor"
init new.toml --preset chip.toml                    | chip.toml: name: is not of a device; leave it out
init new.toml --preset missing.toml                 | missing.toml: cannot be read
init new.toml --preset ./junk.toml                  | ./junk.toml:2: is not UTF-8
init chip.toml --force --preset ./chip.toml         | is read, and would be replaced
init new.toml --preset ''                           | is not an option
init new.toml --from                                | expected one argument
init new.toml other.toml                            | unrecognized arguments: other.toml
init --force=yes                                    | ignored explicit argument

settle digit                                        | did you mean "digits"
settle sweep.h5                                     | is not a run of ohmostat
settle digits --set learning.rule=EP                | is not an option (did you mean "ep"?)
settle digits --set task.data=DIGITS                | is not an option (did you mean "digits"?)
settle digits --set neuron.leek=5uS                 | did you mean "neuron.leak"
settle digits --set neuron.leak=5uF                 | is in farads (F); siemens (S) are needed
settle digits --set homeostat.mode=trim             | the twin family has no read drivers to trim
settle digits --set neuron.leak=5                   | without a unit; write 5mS, say; allowed: above 0S
settle digits --set corner.temperature=5            | a number without a unit; allowed: 200K to 500K
settle digits --set neuron.leak=nan                 | is not a finite number
settle digits --set neuron.leak=30%                 | is in per cent (%); siemens (S) are needed
settle digits --set neuron.gain=30%                 | is in per cent, but is no share of anything
settle digits --set mismatch.stuck_open=130%        | is outside the range; allowed: 0 to 1
settle digits --set neuron.leak                     | write KEY=VALUE
settle digits --set mismatch.conductance=-1         | is outside the range; allowed: 0 to 3
settle digits --set chip.layers=64,0,10             | layer 2 (0) is outside the range
settle digits --set task.seed=-1                    | is outside the range; allowed: 0 to
settle digits --chip -1                             | '-1': give a whole number, at least 0
settle digits --chip 9223372036854775808            | below 10^18
settle digits --samples 0                           | '0': give a whole number, at least 1
settle fashion --data-dir nowhere                   | Correct the path, or leave it out
settle digits --against ngspice                     | say which, with --sample K or --input VOLTS
settle run.h5 --sample 360                          | the test set has 360 samples; give 0 to 359
settle run.h5 --sample 1 --samples 2                | not allowed with argument
settle run.h5 --input 1V,2V                         | --input has 2 voltages; give 64, one for each input
settle run.h5 --input 1e999                         | '1e999' is not finite; give volts
settle run.h5 --chip 1                              | a RUN.h5 holds the one that was trained

train sweep.h5 --out new.h5                         | is not a run of ohmostat
train digits --out folder.h5                        | folder.h5: cannot be written there
train digits --out nowhere/new.h5                   | there is no folder
train digits --out new.h5 --plot new.doc            | 'new.doc': end the figure's name in .png
train digits --out new.csv                          | 'new.csv': end the HDF5 file's name in .h5, .hdf5
train digits --out /proc/new.h5                     | /proc/new.h5: no file can be made in /proc; name another
train digits --epochs 0 --out new.h5                | '0': give a whole number, at least 1
train digits --set learning.epochs=0 --out new.h5   | learning.epochs = 0: is outside the range
train digits --epochs 1.5                           | '1.5': give a whole number, at least 1
train digits --chip -3                              | '-3': give a whole number, at least 0
train digits --set learning.batch=5000 --out new.h5 | make the batch smaller, or task.train larger
train digits --set task.train=99999 --out new.h5    | Ask for fewer
train digits --set device.g_max=1nS --out new.h5    | must be above device.g_min
train digits --set mismatch.conductance=inf         | is not a finite number
train run.h5 --set neuron.leak=5uS --out new.h5     | --set neuron.leak: makes another chip; a RUN.h5 holds
settle run.h5 --set learning.dtype=float32          | --set learning.dtype: makes another chip
audit run.h5 --set learning.angle=30                | and [learning] but angle, feedback_spread, init_scale
train run.h5 --set learning.rat=0.1 --out new.h5    | did you mean "learning.rate"
train run.h5 --set homeostat.mode=trim --out new.h5 | no read drivers to trim

audit sweep.h5                                      | is not a run of ohmostat
audit digits --samples 0                            | '0': give a whole number, at least 1
audit digits --epochs 99                            | --epochs 99: allowed: 0 to 10
audit digits --epochs nan                           | 'nan': give a whole number, at least 0
audit digits --wires 1,2,3                          | give one resistance in ohms, or two
audit digits --wires nan                            | give one resistance in ohms, or two
audit digits --out folder.h5                        | folder.h5: cannot be written there
audit digits --out nowhere/new.h5                   | there is no folder
audit digits --out new.png                          | 'new.png': end the HDF5 file's name in .h5
audit digits --plot new.xyz                         | end the figure's name in .png
audit digits --wires 1                              | wires need chip.columns
audit digits --set learning.estimator=exact         | write "centered"
audit run.h5 --epochs 1                             | a RUN.h5 holds the one that was trained
audit run.h5 --out run.h5                           | run.h5: is read, and would be replaced
audit chip.h5                                       | holds no readout, and so no cost; give one

corners sweep.h5                                    | is not a run of ohmostat
corners chip.h5                                     | holds no readout, and so no cost; give one
corners digits                                      | give one that 'ohmostat train' wrote
corners run.h5 --supply 3                           | is outside the range; allowed: 0.5 to 1.5
corners run.h5 --supply nan                         | write finite numbers with commas
corners run.h5 --supply 1,,2                        | write finite numbers with commas
corners run.h5 --temperature -5                     | is no temperature of a chip in kelvins; write -5C
corners run.h5 --temperature -40,27C                | write -40C or 233K
corners run.h5 --temperature -80C                   | is outside the range; allowed: 200K to 500K
corners run.h5 --temperature warm                   | kelvins (K) are needed, as in "300K", or degrees Celsius
corners run.h5 --temperature 300,,400               | kelvins (K) are needed
corners run.h5 --temperature inf                    | 'inf' is not finite; give kelvins or degrees Celsius
corners run.h5 --temperature 300V                   | is in volts (V); kelvins (K) are needed
corners run.h5 --process quick                      | allowed: typical (tt), slow (ss), fast (ff)
corners run.h5 --supply 1.2V                        | of the nominal supply, not in volts
corners run.h5 --set learning.rate=1                | only keys of its [corner]
corners run.h5 --set corner.voltage=1V              | by --process, --supply and --temperature
corners run.h5 --set corner.device_tempco=0.5/K     | is outside the range; allowed: -4m/K to 4m/K
corners run.h5 --set corner.device_tempco=1         | a number without a unit
corners run.h5 --set corner.device_tempc=1m/K       | did you mean "corner.device_tempco"
corners run.h5 --out new.h5                         | 'new.h5': end the CSV file's name in .csv
corners run.h5 --out folder.csv                     | folder.csv: cannot be written there
corners run.h5 --plot new.doc                       | end the figure's name in .png

sweep run.h5 --out new.h5                           | give a TOML file
sweep digits --epochs 2                             | sweep: error: unrecognized arguments: --epochs 2
sweep digits --epochs 2 --chips 1                   | write --set learning.epochs=2
sweep digits --init-scale=0.1                       | write --set learning.init_scale=0.1
sweep digits --method latn                          | did you mean "latin"
sweep digits --mismatch 0.5,0.5                     | repeat a value; give each once
sweep digits --mismatch -1                          | is outside the range; allowed: 0 to 3
sweep digits --mismatch 0 --points 4                | --points is of --method latin
sweep digits --mismatch nan                         | write finite numbers with commas
sweep digits --angle 0,900                          | allowed: 0deg to 90deg
sweep digits --chips 0                              | '0': give a whole number, at least 1
sweep digits --workers 1.5                          | '1.5': give a whole number, at least 1
sweep digits --arms none,homeostatt                 | did you mean "homeostat"
sweep digits --arms ''                              | unknown arm
sweep digits --vary neuron.leek=5uS                 | did you mean "neuron.leak"
sweep digits --vary neuron.leak=5                   | has no unit; siemens (S) are needed
sweep digits --vary neuron.leak=5uS..60uS           | levels are needed: write neuron.leak=5uS,60uS, or sample
sweep digits --vary learning.rule=ep,adjoint        | choose --arms in place of varying it
sweep digits --method latin                         | takes ranges
sweep digits --method random                        | choose from 'grid'
sweep digits --out folder.h5                        | folder.h5: cannot be written there
sweep digits --out new.h5 --plot new.h5             | end the figure's name in .png
sweep digits --out new.txt                          | 'new.txt': end the HDF5 file's name in .h5
sweep digits --set learning.batch=5000 --out new.h5 | make the batch smaller
sweep fashion --data-dir nowhere --out new.h5       | Correct the path, or leave it out
sweep digits --set learning.batch=5000 --dry-run    | make the batch smaller

yield run.h5 --require 'accuracy >= 0.9'            | is not a sweep file; make one with
yield sweep.h5                                      | the following arguments are required: --require
yield sweep.h5 --require accuracy                   | write it as "accuracy >= 0.9"
yield sweep.h5 --require 'accuracy > 0.9'           | allowed: >= and <=
yield sweep.h5 --require 'acuracy >= 0.9'           | did you mean "accuracy"
yield sweep.h5 --require 'accuracy >= 45'           | where accuracy always is; write 45% or 0.45
report sweep.h5 --require 'left_out <= 5'           | where left_out always is; write 5% or 0.05
yield sweep.h5 --require 'accuracy >= nan'          | is not a number
yield sweep.h5 --require 'inference_energy <= 1'    | needs a limit in "J"
yield sweep.h5 --require 'inference_energy <= 1s'   | is in "s"; inference_energy needs a limit in "J"
yield sweep.h5 --require 'accuracy >= 0.9' --degree 0                | '0': give a whole number, at least 1
yield sweep.h5 --require 'accuracy >= 0.9' --target 2                | allowed: above 0, below 1
yield sweep.h5 --require 'accuracy >= 0.9' --target nan              | allowed: above 0, below 1
yield sweep.h5 --require 'accuracy >= 0.9' --target half             | 'half' is no share
yield sweep.h5 --require 'accuracy >= 0.9' --against learning.rate   | it varied mismatch.conductance
yield sweep.h5 --require 'accuracy >= 0.9' --arms trim               | the sweep has none, adjoint
yield sweep.h5 --require 'accuracy >= 0.9' --plot new.doc            | end the figure's name in .png
yield sweep.h5 --require 'accuracy >= 0.9' --plot nowhere/new.png    | there is no folder

report run.h5 --require 'accuracy >= 0.9'           | --require is for a sweep file, which run.h5 is not
report run.h5 --target 0.9                          | --target is for a sweep file, which run.h5 is not
report sweep.h5 --audit                             | --audit is for a run file, which sweep.h5 is not
report sweep.h5 --waveforms 1                       | --waveforms is for a run file, which sweep.h5 is not
report audit.h5 --audit                             | --audit is for a run file, which audit.h5 is not
report sweep.h5 --require accuracy                  | write it as "accuracy >= 0.9"
report sweep.h5 --require 'acuracy >= 0.9'          | did you mean "accuracy"
report sweep.h5 --require 'accuracy >= 0.9' --target 2               | allowed: above 0, below 1
report sweep.h5 --target 150%                       | '150%' is no share; allowed: above 0, below 1
report sweep.h5 --require 'accuracy >= 0.9' --target nan             | allowed: above 0, below 1
report chip.h5 --audit                              | holds no readout, and so no cost; give one
report run.h5 --audit --samples 0                   | '0': give a whole number, at least 1
report run.h5 --waveforms -1                        | '-1': give a whole number, at least 0
report run.h5 --waveforms ²                         | '²': give a whole number, at least 0
report run.h5 --out run.txt                         | 'run.txt': end the page's name in .html, .htm
report run.h5 --out folder.html                     | folder.html: cannot be written there
report run.h5 --out nowhere/new.html                | there is no folder
report run.h5 sweep.h5                              | unrecognized arguments: sweep.h5
report                                              | the following arguments are required: FILE.h5
report digits                                       | digits: cannot be opened

compare run.h5                                      | run.h5 alone: give two files or more
compare run.h5 sweep.h5                             | run.h5 (run), sweep.h5 (sweep): give runs alone
compare audit.h5 audit.h5                           | give runs alone, or sweeps alone
compare run.h5 chip.h5                              | chip.h5: holds a chip without a history
compare sweep.h5 elsewhere.h5                       | share no point and arm; sweep the same levels
compare run.h5 run.h5 --out run.h5                  | 'run.h5': end the page's name in .html, .htm
compare run.h5 run.h5 --out folder.html             | folder.html: cannot be written there
compare run.h5 run.h5 --out nowhere/new.html        | there is no folder
compare run.h5 run.h5 --out                         | expected one argument
compare run.h5 run.h5 --set learning.rate=1         | unrecognized arguments
compare run.h5 digits                               | digits: cannot be opened
compare run.h5 chip.toml                            | chip.toml: is not an HDF5 file
compare                                             | the following arguments are required: FILE.h5

export sweep.h5 --out new.csv                       | is not a run of ohmostat
export run.h5                                       | the following arguments are required: --out
export run.h5 --out new.xyz                         | its suffix tells no format; end it in .h5, .hdf5, .csv
export run.h5 --out new.csv --format spice          | --format spice: end the netlist's name in .cir
export run.h5 --out new.csv --sample 3              | --sample is for --format spice, and this is csv
export run.h5 --out new.h5 --input 1V               | --input is for --format spice, and this is hdf5
export run.h5 --out new.csv --tile 4x4              | --tile is for --format program, and this is csv
export run.h5 --out folder.h5                       | folder.h5: cannot be written there
export run.h5 --out nowhere/new.h5                  | there is no folder
export run.h5 --out new.csv --format excel          | choose from 'hdf5'
export run.h5 --out new.csv --format program --tile 0x4              | write rows x columns, such as 128x128
export run.h5 --out new.csv --format program --tile 4                | write rows x columns, such as 128x128
export run.h5 --out new.cir --input nan             | 'nan' is not finite; give volts
export run.h5 --out new.cir --input one             | 'one' is not a number with a unit; volts (V) are needed
export run.h5 --out new.cir --input 1,,2            | '' is not a number with a unit; volts (V) are needed
export run.h5 --out new.cir --input 300mA           | '300mA' is in amperes (A); volts (V) are needed
export run.h5 --out new.cir --input 1,2             | --input has 2 voltages; give 64, one for each input
export run.h5 --out new.cir --input 1 --sample 0    | not allowed with argument
export run.h5 --out new.cir --sample 360            | the test set has 360 samples; give 0 to 359
export run.h5 --out new.cir --sample -1             | '-1': give a whole number, at least 0

measured sweep.h5 measured.csv --out new.h5         | is not a run of ohmostat
measured run.h5 measured.csv                        | the following arguments are required: --out
measured run.h5 --out new.h5                        | the following arguments are required: MEASURED.csv
measured run.h5 measured.csv --out folder.h5        | folder.h5: cannot be written there
measured run.h5 measured.csv --out nowhere/new.h5   | there is no folder
measured run.h5 measured.csv --out measured.csv     | 'measured.csv': end the HDF5 file's name in .h5
measured run.h5 measured.csv --out new.h5 --tile axb                 | write rows x columns, such as 128x128
measured run.h5 curves.csv --out new.h5             | has no column 'array'
measured run.h5 nan.csv --out new.h5                | nan.csv:2: conductance = 'nan' is no number of siemens
measured run.h5 negative.csv --out new.h5           | negative.csv:2: conductance = '-1' is negative
measured run.h5 siemens.csv --out new.h5            | mind the unit in the header
measured run.h5 twice.csv --out new.h5              | twice.csv:3: this device is in the file already

simulate measured.csv                               | measured.csv:2:
simulate deck.cir --out deck.cir                    | 'deck.cir': end the HDF5 file's name in .h5
simulate deck.cir --out folder.h5                   | folder.h5: cannot be written there
simulate deck.cir --out nowhere/new.h5              | there is no folder
simulate deck.cir --plot new.doc                    | end the figure's name in .png
simulate deck.cir --out /proc/new.h5                | no file can be made in /proc; name another
simulate deck.cir --plot nowhere/new.png            | there is no folder
simulate deck.cir --against                          | expected one argument
simulate deck.cir --against spectre                 | choose from 'ngspice'
simulate                                            | the following arguments are required: FILE.cir

fit measured.csv                                    | has no column 'device'
fit run.h5                                          | save it as CSV in UTF-8
fit nan.csv                                         | has no column 'device'
fit curves.csv --out curves.csv                     | 'curves.csv': end the design's name in .toml
fit curves.csv --out folder.toml                    | folder.toml: cannot be written there
fit curves.csv --out nowhere/new.toml               | there is no folder
fit curves.csv --plot new.doc                       | end the figure's name in .png
fit curves.csv --plot nowhere/new.png               | there is no folder
fit                                                 | the following arguments are required: MEASURED.csv
fit curves.csv --cycle 3                            | unrecognized arguments

demo --out run.h5                                   | run.h5: File exists; check its name
demo --out run.h5/demo                              | run.h5/demo: Not a directory; check its name
demo --out                                          | expected one argument
demo --data-dir                                     | expected one argument
demo --workers 0                                    | '0': give a whole number, at least 1
demo --workers -1                                   | '-1': give a whole number, at least 1
demo --workers 1.5                                  | '1.5': give a whole number, at least 1
demo --workers nan                                  | 'nan': give a whole number, at least 1
demo --workers                                      | expected one argument
demo fashion-6k                                     | unrecognized arguments: fashion-6k
demo --magic                                        | unrecognized arguments: --magic

magic                                               | choose from 'init', 'settle'
setle digits                                        | 'setle' (did you mean "settle"?)
--completion csh                                    | choose from 'bash'
"""
TABLE = [
    pytest.param(line, message, id=line)
    for line, _, message in (map(str.strip, row.partition(" | ")) for row in ROWS.splitlines() if row.strip())
]


@pytest.mark.parametrize(("line", "message"), TABLE)
def test_what_is_wrong_is_named(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(line, capsys)


def test_every_command_is_tried_with_ten_kinds_of_wrong_input() -> None:
    tried = Counter(str(row.values[0]).split()[0] for row in TABLE)
    assert all(tried[name] >= 10 for name in COMMANDS), tried
