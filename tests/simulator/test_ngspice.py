"""The ngspice runner against closed forms, and what it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ohmostat.simulator.ngspice import (
    TIGHT,
    TIGHT_TRANSIENT,
    SpiceError,
    run_ngspice,
    simulate_with_ngspice,
    with_options,
    with_steps,
)

from .compare import require_ngspice
from .generated import circuit

BOLTZMANN, KELVIN = 1.380649e-23, 300.15
RC = """* one pole at 1 kHz
V1 in 0 dc 2 ac 1 pulse(0 1 0 1n 1n 1 2)
R1 in out 1k
C1 out 0 159.15494309189535n
"""


@pytest.fixture(autouse=True)
def ngspice() -> None:
    require_ngspice()


def test_every_analysis_of_one_netlist() -> None:
    plots = simulate_with_ngspice(
        RC
        + ".op\n.dc V1 -1 1 0.5\n.ac dec 1 10 100k\n.noise v(out) V1 dec 1 10 100k 1\n.tf v(out) V1\n.end\n"
    )
    assert set(plots) == {"op", "dc", "ac", "noise", "noise total", "tf"}
    assert plots["op"]["v(out)"] == pytest.approx([2.0]) and plots["op"]["i(v1)"] == pytest.approx([0.0])
    np.testing.assert_allclose(plots["dc"]["sweep"], [-1.0, -0.5, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(plots["dc"]["v(out)"], plots["dc"]["sweep"], atol=1e-12)
    f = plots["ac"]["frequency"]
    np.testing.assert_allclose(f, 10.0 ** np.arange(1, 6), rtol=1e-12)
    np.testing.assert_allclose(plots["ac"]["v(out)"], 1 / (1 + 1j * f / 1e3), rtol=1e-12)
    density = np.sqrt(4 * BOLTZMANN * KELVIN * 1e3)
    np.testing.assert_allclose(plots["noise"]["inoise_spectrum"], density, rtol=1e-5)
    np.testing.assert_allclose(plots["noise"]["onoise_r1"], plots["noise"]["onoise_spectrum"])
    # ngspice integrates between its points as if the density were a power of frequency there
    total = density * np.sqrt(1e3 * np.pi / 2)
    assert plots["noise total"]["onoise_total"] == pytest.approx([total], rel=0.2)
    assert plots["tf"]["transfer_function"] == pytest.approx([1.0])
    assert plots["tf"]["output_impedance"] == pytest.approx([1e3])


def test_a_tight_transient_follows_the_exponential() -> None:
    text = with_steps(with_options(RC + ".tran 10u 1m\n.end\n", TIGHT_TRANSIENT), 5000)
    waves = simulate_with_ngspice(text)["tran"]
    assert waves["time"].size > 5000 and waves["time"][-1] == pytest.approx(1e-3)
    expected = 1 - np.exp(-waves["time"] * 2e3 * np.pi)
    np.testing.assert_allclose(waves["v(out)"], expected, atol=1e-5)


def test_steps_keep_the_rest_of_the_card() -> None:
    text = with_steps(".tran 1n 2u\n.TRAN 1n {2*t} 5n uic\n.tran 1n 2u 0 1n UIC\n.op", 100)
    assert text.splitlines() == [
        ".tran 1n 2u 0 {(2u)/100}",
        ".TRAN 1n {2*t} 5n {(2*t)/100} uic",
        ".tran 1n 2u 0 {(2u)/100} UIC",
        ".op",
    ]


@pytest.mark.parametrize("text", ["* t\nR1 a 0 1\n.end\n", "* t\nR1 a 0 1\n.End ", "* t\nR1 a 0 1"])
def test_options_come_last(text: str) -> None:
    lines = with_options(text, {"reltol": 1e-9, "method": "gear"}).strip().splitlines()
    assert lines[-2] == ".options reltol=1e-09 method=gear" and lines[-1].strip().lower() == ".end"


def test_options_override_the_netlists_own() -> None:
    text = "* gmin\nI1 0 a 1n\nD1 0 a d\n.model d D(IS=1e-30)\n.options gmin=1e-9\n.op\n.end\n"
    assert run_ngspice(text)["a"] == pytest.approx(1.0, rel=1e-3)
    assert run_ngspice(with_options(text, TIGHT | {"gmin": 1e-8}))["a"] == pytest.approx(0.1, rel=1e-6)


def test_several_analyses_of_a_kind_keep_their_order() -> None:
    plots = simulate_with_ngspice(
        RC + ".ac lin 6 1 2\n.tran 1u 2m\n.op\n.ac lin 3 1 2\n.tran 1u 1m\n.noise v(out) V1 lin 4 1 2\n"
        ".noise v(out) V1 lin 5 1 2\n.end\n"
    )
    assert [plots[name]["frequency"].size for name in ("ac", "ac 2", "noise", "noise 2")] == [6, 3, 4, 5]
    assert plots["tran"]["time"][-1] == pytest.approx(2e-3)
    assert plots["tran 2"]["time"][-1] == pytest.approx(1e-3)


def test_recorded_names_come_back() -> None:
    text = '* names\n*@node n1 "Out 1"\n*@device V7 "supply"\nV7 n1 0 1\nR1 N1 0 1\n.op\n.end\n'
    point = simulate_with_ngspice(text)["op"]
    assert point["v(Out 1)"] == pytest.approx([1.0]) and point["i(supply)"] == pytest.approx([-1.0])
    with pytest.raises(KeyError, match=r"Operating Point has no 'v\(x\)'"):
        point["v(x)"]


def test_a_folder_keeps_the_files(tmp_path: Path) -> None:
    simulate_with_ngspice(RC + ".op\n.end\n", folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"netlist.cir", "log.txt", "waves.raw"}


def test_an_operating_point_must_be_asked_for() -> None:
    with pytest.raises(SpiceError, match=r"add a line \.op"):
        run_ngspice(RC + ".ac lin 2 1 2\n.end\n")


def test_a_transient_that_breaks_off_is_an_error() -> None:
    text = "* no solution\nB1 d 0 V=u(0.5-V(d))\nR1 d 0 1\n.tran 1n 2u uic\n.end\n"
    with pytest.raises(SpiceError, match=r"broke off(.|\n)*Timestep too small"):
        simulate_with_ngspice(text)


@pytest.mark.parametrize(
    "text",
    [
        "*ng_script\nshell touch {file}\n",
        "*NG_SCRIPT\nshell touch {file}\n",
        "* title\n.title *ng_script\nshell touch {file}\n",
        "* title\n.control\nshell touch {file}\n.endc\n.end\n",
        "* title\n*#shell touch {file}\n.end\n",
    ],
)
def test_no_command_of_a_netlist_runs(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(SpiceError, match="is refused"):
        simulate_with_ngspice(text.format(file=file))
    assert not file.exists()


def test_code_models_that_read_files_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "waves").write_text("0 1\n1 1\n")
    text = f'* file\nA1 %v([a]) src\n.model src filesource(file="{tmp_path}/waves")\nR1 a 0 1\n.op\n.end\n'
    with pytest.raises(SpiceError, match="unable to find definition of model"):
        simulate_with_ngspice(text)


@pytest.mark.parametrize("raw", [b"", b"Title: x\nPlotname: Operating Point\nNo. Variables: 2\n", b"x" * 99])
def test_a_damaged_raw_file_is_an_error(raw: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ngspice"
    (tmp_path / "wrong").write_bytes(raw)
    script.write_text(f'#!/bin/sh\ncp "{tmp_path}/wrong" waves.raw\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SpiceError, match=r"cut short|no operating point"):
        run_ngspice("* any\n.op\n.end\n")


def test_generated_circuits_are_the_same_text_for_the_same_seed() -> None:
    texts = {circuit(seed, analysis) for seed in range(20) for analysis in ("op", "tran", "ac", "noise")}
    assert len(texts) == 80
    assert circuit(3, "op") == circuit(3, "op")


@pytest.mark.parametrize("seed", range(20))
def test_generated_circuits_have_one_operating_point(seed: int) -> None:
    text = with_options(circuit(seed, "op"), TIGHT)
    if ".nodeset" in text:
        pytest.skip("bistable by design: its .nodeset says which state is meant")
    point = run_ngspice(text)
    rng = np.random.default_rng(seed)
    start = " ".join(f"v({node})={rng.uniform(-3, 6):.3f}" for node in point if node.startswith("n"))
    again = run_ngspice(text.replace("\n.op\n", f"\n.nodeset {start}\n.op\n"))
    assert again == pytest.approx(point, rel=1e-7, abs=1e-8)
