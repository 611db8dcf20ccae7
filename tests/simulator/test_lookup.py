"""Every kind of answer finds nodes and devices by name, and says what there is where one is unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.operating_point import operating_point, operating_points
from ohmostat.simulator.small_signal import ac
from ohmostat.simulator.sweeps import dc_sweep, monte_carlo
from ohmostat.simulator.transient import transient


def divider() -> Netlist:
    net = Netlist("divider")
    net.voltage_source("Vdd", "in", "0", 1.0, ac=1.0)
    net.resistor("R1", "in", "out", conductance=1e-3)
    net.resistor("R2", "out", "0", conductance=1e-3)
    net.capacitor("C1", "out", "0", 1e-12)
    return net


ANSWERS: dict[str, Callable[[], Any]] = {
    "point": lambda: operating_point(divider()),
    "points": lambda: operating_points(divider(), {"Vdd": [1.0, 2.0]}),
    "ac": lambda: ac(divider(), [1e3, 1e6]),
    "sweep": lambda: dc_sweep(divider(), {"Vdd": [0.0, 1.0]}),
    "samples": lambda: monte_carlo(divider(), {"R1": 0.1}, 3),
    "transient": lambda: transient(divider(), 1e-9),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_names(name: str) -> None:
    answer = ANSWERS[name]()
    np.testing.assert_array_equal(answer["out"], answer.voltages[..., answer.nodes.index("out")])
    np.testing.assert_array_equal(answer.current("Vdd"), answer.currents[..., 0])
    np.testing.assert_array_equal(answer["0"], np.zeros_like(answer.voltages[..., 0]))
    with pytest.raises(NetlistError, match=r"no node 'ou' \(did you mean 'out'\?\); .* nodes 'in', 'out'"):
        answer["ou"]
    with pytest.raises(NetlistError, match=r"no node 7; the netlist has nodes 'in', 'out'"):
        answer[7]
    with pytest.raises(NetlistError, match=r"'R1' is no voltage source .*source of 0 V.*device 'Vdd'"):
        answer.current("R1")


def test_nothing_to_name() -> None:
    net = Netlist("alone")
    net.resistor("R1", "a", "0", conductance=1e-3)
    with pytest.raises(NetlistError, match="in its path; the netlist has none"):
        operating_point(net).current("R1")
