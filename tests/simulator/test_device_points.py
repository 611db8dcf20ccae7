"""What transistors and diodes carry at an operating point, and how branch currents scatter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ohmostat.cli import main
from ohmostat.simulator.device_points import device_points
from ohmostat.simulator.netlist import Netlist
from ohmostat.simulator.ngspice import TIGHT, simulate_with_ngspice, with_options
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.sweeps import deviates

from .compare import require_ngspice

DECK = """transistors of both kinds, one turned round, and a diode
vdd vdd 0 1.8
vg g 0 0.8
m1 d1 g 0 0 n w=2u l=1u
v1 d1 0 1
m2 d2 g vdd vdd p w=4u l=1u
v2 d2 0 0.3
m3 0 g s 0 n w=2u l=1u
v3 s 0 0.9
d1 vdd b dd
r1 b 0 1k
.model n nmos vto=0.5 kp=1e-4 gamma=0.4 lambda=0.05 rs=100
.model p pmos vto=-0.5 kp=4e-5 gamma=0.4 lambda=0.05
.model dd d is=1e-14 rs=10
.op
"""


def test_they_are_ngspices() -> None:
    require_ngspice()
    net = parse_spice(DECK).netlist()
    found = device_points(net, operating_point(net))
    asked = [f"@{name}[{key}]" for name, values in found.items() for key in values]
    text = with_options(f"{DECK}.save {' '.join(asked)}\n.end\n", TIGHT)
    said = simulate_with_ngspice(text)["op"].vectors
    theirs = {name.strip("iv()"): float(values[0]) for name, values in said.items()}
    for name, values in found.items():
        for key, value in values.items():
            if name == "m3" and key in ("gm", "gds"):
                continue  # of the transistor turned round, where ngspice's are those of the other way
            sign = -1 if name == "m2" and key in ("id", "vgs", "vds") else 1
            assert sign * value == pytest.approx(theirs[f"@{name}[{key}]"], rel=1e-6), (name, key)
    assert found["m2"]["id"] < 0 < found["m1"]["id"]


@pytest.mark.parametrize("kind", ["mosfet", "ekv"])
@pytest.mark.parametrize("drain", [0.9, -0.4])
def test_slopes_are_those_of_the_current(kind: str, drain: float) -> None:
    """By finite differences of the current, at both ways round of drain and source."""

    def current(gate: float, volts: float) -> float:
        net = Netlist()
        net.voltage_source("VD", "d", "0", volts)
        net.voltage_source("VG", "g", "0", gate)
        getattr(net, kind)("M1", "d", "g", "0", "0", vto=0.4, lambda_=0.1)
        points.append(device_points(net, point := operating_point(net))["M1"])
        assert points[-1]["id"] == pytest.approx(-point.current("VD"), rel=1e-9)
        assert (points[-1]["vgs"], points[-1]["vds"]) == pytest.approx((gate, volts))
        return points[-1]["id"]

    points: list[dict[str, float]] = []
    step = 1e-5
    current(0.8, drain)
    gm = (current(0.8 + step, drain) - current(0.8 - step, drain)) / (2 * step)
    gds = (current(0.8, drain + step) - current(0.8, drain - step)) / (2 * step)
    # a conducting bulk diode (drain below bulk) is in the current, not in the channel's slope
    diode = 1e-14 / 0.02586 * np.exp(0.4 / 0.02586) if kind == "mosfet" and drain < 0 else 0.0
    assert points[0]["gm"] == pytest.approx(gm, rel=1e-5)
    assert points[0]["gds"] == pytest.approx(gds - diode, rel=1e-3 if diode else 1e-5)


def test_statistics_of_currents_tell_a_transistors_mismatch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its nodes are fixed: only the current scatters, in proportion to kp."""
    path = tmp_path / "one.cir"
    path.write_text(
        "one transistor\nvd d 0 1\nvg g 0 0.8\nm1 d g 0 0 n w=2u l=1u mismatch=0.05\n"
        ".model n nmos vto=0.5 kp=1e-4\n.op\n.mc 50 seed=3\n.end\n"
    )
    assert main(["simulate", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    nominal = 1e-4 * 2 / 2 * 0.3**2
    assert found["devices"]["m1"]["id"] == pytest.approx(nominal, rel=1e-6)
    expected = -nominal * np.exp(0.05 * deviates(3, "m1", 0, 50))
    of = found["mc"]["i(vd)"]
    assert of["mean"] == pytest.approx(expected.mean(), rel=1e-5)
    assert of["sd"] == pytest.approx(expected.std(ddof=1), rel=1e-5)
    assert of["q5"] == pytest.approx(np.quantile(expected, 0.05), rel=1e-5)
    assert main(["simulate", str(path)]) == 0
    text = capsys.readouterr().out
    assert "transistor  id [A]" in text and "branch  mean [A]" in text and "diode" not in text
