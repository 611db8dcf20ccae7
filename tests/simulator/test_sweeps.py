"""Sweeps and Monte Carlo against single operating points, closed forms and ngspice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ohmostat.simulator import sweeps
from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.ngspice import TIGHT, simulate_with_ngspice, with_options
from ohmostat.simulator.operating_point import operating_point
from ohmostat.simulator.sensitivity import sensitivity
from ohmostat.simulator.spice_analyses import DcSweep
from ohmostat.simulator.spice_reader import parse_spice
from ohmostat.simulator.sweeps import dc_sweep, deviates, monte_carlo

from .compare import require_ngspice

CIRCUITS = Path(__file__).parent / "circuits"


def clamp() -> Netlist:
    net = Netlist("clamp")
    net.voltage_source("V1", "in", "0", 1.0)
    net.resistor("R1", "in", "out", conductance=1e-3)
    net.diode("D1", "out", "up")
    net.voltage_source("V2", "up", "0", 0.5)
    return net


def schmitt() -> Netlist:
    """A saturating amplifier that feeds a fifth of its output back: two states within 0.2 V or so of 0 V."""
    net = Netlist("schmitt")
    net.voltage_source("V1", "in", "0", 0.0)
    net.resistor("R1", "in", "p", conductance=4e-4)
    net.resistor("R2", "out", "p", conductance=1e-4)
    net.amplifier("A1", "out", "p", law="tanh", low=-1.0, high=1.0, gain=50.0, offset=0.0)
    return net


# -- sweeps --------------------------------------------------------------------------------------------


def test_each_point_is_an_operating_point() -> None:
    values = np.linspace(-2, 2, 9)
    curves = dc_sweep(clamp(), {"V1": values})
    for k, value in enumerate(values):
        point = operating_point(clamp(), at={"V1": value})
        np.testing.assert_allclose(curves.voltages[k], point.voltages, atol=1e-12)
        np.testing.assert_allclose(curves.currents[k], point.currents, atol=1e-15)
    np.testing.assert_array_equal(curves["in"], values)
    np.testing.assert_array_equal(curves["0"], 0.0)
    assert curves.current("V1").shape == (9,) and curves.residual < 1e-12


def test_two_sources() -> None:
    inner, outer = np.linspace(0, 2, 5), np.array([0.5, 0.1, -1.0])
    curves = dc_sweep(clamp(), {"V1": inner, "V2": outer})
    assert curves["out"].shape == (3, 5) and curves.current("V2").shape == (3, 5)
    for j, v2 in enumerate(outer):
        for k, v1 in enumerate(inner):
            point = operating_point(clamp(), at={"V1": v1, "V2": v2})
            assert curves["out"][j, k] == pytest.approx(point["out"], abs=1e-12)


def test_any_parameter_can_be_swept() -> None:
    curves = dc_sweep(clamp(), {("D1", "is_"): [1e-15, 1e-12], "R1": [1e-3, 1e-5, 1e-6]})
    point = operating_point(clamp(), at={("D1", "is_"): 1e-12, "R1": 1e-5})
    assert curves["out"][1, 1] == pytest.approx(point["out"], abs=1e-12)


def test_a_branch_is_followed_until_it_ends() -> None:
    up = np.linspace(-1, 1, 201)
    curves = dc_sweep(schmitt(), {"V1": np.concatenate([up, up[::-1]])})
    rising, falling = curves["out"][:201], curves["out"][201:][::-1]
    differ = np.abs(rising - falling) > 1.0
    assert (rising <= falling + 1e-9).all()
    assert differ.sum() == pytest.approx(201 * 0.2, rel=0.15)  # hysteresis of 0.4 V of the 2 V, nearly
    assert differ[100] and not differ[0] and not differ[-1]
    assert curves.residual < 1e-12


def test_the_first_point_can_be_chosen() -> None:
    for volts in (-1.0, 1.0):
        curves = dc_sweep(schmitt(), {"V1": [0.0, 0.05]}, initial={"out": volts})
        np.testing.assert_allclose(curves["out"], volts, atol=0.01)


@pytest.mark.parametrize("name", ["mosfet-curves", "differential-pair"])
def test_sweeps_agree_with_ngspice(name: str) -> None:
    require_ngspice()
    text = (CIRCUITS / f"{name}.cir").read_text()
    deck = parse_spice(text)
    (card,) = (a for a in deck.analyses if isinstance(a, DcSweep))
    kept = [line for line in text.splitlines() if not line.startswith((".tran", ".ac", ".noise", ".tf"))]
    theirs = simulate_with_ngspice(with_options("\n".join(kept), TIGHT))["dc"]
    curves = dc_sweep(deck.netlist(), {sweep.source: sweep.values() for sweep in card.sweeps})
    for node in curves.nodes:
        np.testing.assert_allclose(curves[node].ravel(), theirs[f"v({node})"], rtol=1e-6, atol=1e-6)


def test_what_cannot_be_swept() -> None:
    with pytest.raises(NetlistError, match="'V9'"):
        dc_sweep(clamp(), {"V9": [1.0]})
    with pytest.raises(NetlistError, match="one or two devices"):
        dc_sweep(clamp(), {"V1": [1.0], "V2": [1.0], "R1": [1.0]})
    with pytest.raises(NetlistError, match="one or two devices"):
        dc_sweep(clamp(), {"V1": []})


# -- Monte Carlo ---------------------------------------------------------------------------------------


def test_deviates_are_normal_and_addressed() -> None:
    z = deviates(7, "r1", 0, 20_000)
    assert z.mean() == pytest.approx(0.0, abs=0.03) and z.std() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(deviates(7, "r1", 101, 50), z[101:151])
    assert abs(np.corrcoef(z, deviates(7, "r2", 0, 20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(z, deviates(8, "r1", 0, 20_000))[0, 1]) < 0.03
    # the same on every machine
    np.testing.assert_allclose(
        deviates(0, "r1", 0, 3), [0.8568718141851311, 0.44892636644493406, -0.8271550274220721], rtol=1e-12
    )


def test_samples_are_operating_points_of_deviating_circuits() -> None:
    sigma = {"R1": 0.3, "D1": 0.5}
    found = monte_carlo(clamp(), sigma, 5, seed=3)
    for b in range(5):
        at = {"R1": 1e-3 * np.exp(0.3 * deviates(3, "R1", b, 1)[0])}
        at["D1"] = 1e-14 * np.exp(0.5 * deviates(3, "D1", b, 1)[0])
        point = operating_point(clamp(), at=at)
        assert found["out"][b] == pytest.approx(point["out"], abs=1e-12)
        assert found.current("V2")[b] == pytest.approx(point.current("V2"), rel=1e-9)
    assert found.converged.all() and (found.residual < 1e-12).all()


def test_the_same_whatever_the_order_the_batch_and_the_company(monkeypatch: pytest.MonkeyPatch) -> None:
    found = monte_carlo(clamp(), {"R1": 0.3, "D1": 0.5}, 20, seed=3)
    again = monte_carlo(clamp(), {"D1": 0.5, "R1": 0.3}, 30, seed=3)
    np.testing.assert_allclose(again["out"][:20], found["out"], atol=1e-12)
    monkeypatch.setattr(sweeps, "BATCH", 20)
    parts = monte_carlo(clamp(), {"D1": 0.5, "R1": 0.3}, 20, seed=3)
    np.testing.assert_allclose(parts["out"], found["out"], atol=1e-12)
    more = clamp()
    more.resistor("R0", "in", "0", conductance=1.0)
    np.testing.assert_allclose(
        monte_carlo(more, {"R0": 0.1, "R1": 0.3, "D1": 0.5}, 20, seed=3)["out"], found["out"]
    )
    assert not np.array_equal(monte_carlo(clamp(), {"R1": 0.3, "D1": 0.5}, 20, seed=4)["out"], found["out"])


def test_small_deviations_follow_the_sensitivities() -> None:
    sigma = {"R1": 0.01, "D1": 0.02, "V2": 0.005}
    found = monte_carlo(clamp(), sigma, 4000, seed=1)
    slopes = sensitivity(clamp(), "out").relative()
    kind = {"R1": "conductance", "D1": "is_", "V2": "voltage"}
    expected = np.sqrt(sum((s * slopes[name, kind[name]]) ** 2 for name, s in sigma.items()))
    table = found.statistics()
    k = found.nodes.index("out")
    assert table["sd"][k] == pytest.approx(expected, rel=0.05)
    assert table["mean"][k] == pytest.approx(operating_point(clamp())["out"], abs=expected / 10)
    assert table["q50"][k] == pytest.approx(np.median(found["out"]))
    ordered = [table[key][k] for key in ("min", "q5", "q25", "q50", "q75", "q95", "max")]
    assert ordered == sorted(ordered)


def test_what_sources_hold_does_not_vary() -> None:
    """Sums of a thousand equal numbers are off by rounding, which is no deviation."""
    net = Netlist("held")
    net.voltage_source("V1", "in", "0", voltage=1.234567)
    net.voltage_source("V2", "top", "in", voltage=0.7)
    net.resistor("R1", "in", "out", conductance=1e-3)
    net.resistor("R2", "out", "0", conductance=1e-3)
    net.resistor("R3", "top", "0", conductance=1e-3)
    found = monte_carlo(net, {"R1": 0.05}, 1000)
    table, nodes = found.statistics(), found.nodes
    for name, volts in (("in", 1.234567), ("top", 1.934567)):
        assert table["sd"][nodes.index(name)] == 0.0
        assert table["mean"][nodes.index(name)] == pytest.approx(volts, rel=1e-15)
    assert table["sd"][nodes.index("out")] == pytest.approx(found["out"].std(ddof=1))


def test_samples_stay_on_the_nominal_branch() -> None:
    for volts in (-1.0, 1.0):
        found = monte_carlo(schmitt(), {"R1": 0.1, "A1": 0.1}, 50, initial={"out": volts})
        np.testing.assert_allclose(found["out"], volts, atol=0.01)


def test_failed_samples_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing converges, the statistics say so; where some do, they are over these."""
    found = monte_carlo(clamp(), {"R1": 0.1}, 4)
    voltages = found.voltages.copy()
    voltages[1] = np.nan
    part = sweeps.MonteCarloPoints(
        found.nodes, voltages, found.branches, found.currents, found.residual, {1: "x"}
    )
    assert part.converged.tolist() == [True, False, True, True]
    np.testing.assert_allclose(part.statistics()["mean"], voltages[[0, 2, 3]].mean(axis=0))
    none = sweeps.MonteCarloPoints(
        found.nodes, voltages * np.nan, found.branches, found.currents, found.residual, {0: "why"}
    )
    with pytest.raises(NetlistError, match="no sample converged; the first: why"):
        none.statistics()


def test_what_cannot_deviate() -> None:
    with pytest.raises(NetlistError, match="no device has a mismatch"):
        monte_carlo(clamp(), {}, 5)
    with pytest.raises(NetlistError, match="'R9' is no device"):
        monte_carlo(clamp(), {"R9": 0.1}, 5)
    with pytest.raises(NetlistError, match=r"R1: mismatch is -0\.1"):
        monte_carlo(clamp(), {"R1": -0.1}, 5)
    with pytest.raises(NetlistError, match="samples is 0"):
        monte_carlo(clamp(), {"R1": 0.1}, 0)
