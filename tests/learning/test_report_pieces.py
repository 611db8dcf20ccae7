"""The pieces of a report: maps, bands, charts, tables."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ohmostat.circuits.design import Design
from ohmostat.circuits.specs import KEYS
from ohmostat.learning import quantities
from ohmostat.learning.report_charts import MOST_POINTS, Panel, Series, banded, prefixed
from ohmostat.learning.report_chip import LEVELS, quantised
from ohmostat.learning.report_page import toml
from ohmostat.learning.training import Epoch

from .reporting import SIGMA, decoded


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-1e-3, 1e-3)),
    st.integers(1, 50),
)
def test_a_maps_cells_are_block_means_to_half_a_step(plane: np.ndarray, side: int) -> None:
    found = quantised(plane, side)
    rows, columns = found["block"]
    means = np.array([
        [plane[i : i + rows, j : j + columns].mean() for j in range(0, plane.shape[1], columns)]
        for i in range(0, plane.shape[0], rows)
    ])  # fmt: skip
    assert max(found["shape"]) <= side
    step = (found["high"] - found["low"]) / LEVELS
    np.testing.assert_allclose(decoded(found), means, atol=0.5 * step + 1e-15)


def test_devices_that_conduct_nothing_have_no_place_on_a_logarithmic_scale() -> None:
    found = quantised(np.array([[0.0, 0.5], [2.0, 1.0]]), 256, logarithmic=True)
    np.testing.assert_allclose(decoded(found), [[np.nan, 0.5], [2.0, 1.0]], rtol=1e-2)
    assert found["none"] == 1 and (found["low"], found["high"]) == pytest.approx((0.5, 2.0))
    assert quantised(np.zeros((2, 2)), 256, logarithmic=True)["none"] == 4


def test_long_lines_keep_their_ends() -> None:
    plain = Series("a", np.arange(1001), np.arange(1001.0)).plain()
    assert len(plain["y"]) == len(plain["x"]) == MOST_POINTS
    assert (plain["y"][0], plain["y"][-1]) == (0, 1000)
    assert plain["name"] == "a (200 of 1001 points)"  # never silently
    assert Series("a", [0, 1], [np.nan, np.inf]).plain()["y"] == [None, None]


def test_axes_have_prefixes_that_suit() -> None:
    assert prefixed("time [s]", [[0.0, 3e-7], [np.nan]]) == ("time [ns]", pytest.approx(1e9))
    assert prefixed("device.g_max [S]", [[1e-5, 1e-4]]) == ("device.g_max [µS]", pytest.approx(1e6))
    assert prefixed("x [J]", [[-2e3]]) == ("x [kJ]", pytest.approx(1e-3))
    for name, values in (("angle [deg]", [1e-3]), ("epoch", [1e3]), ("x [s]", [0.0]), ("x [s]", []),
                         ("accuracy", [0.5])):  # fmt: skip
        assert prefixed(name, [values]) == (name, 1.0)
    assert prefixed("x [s]", []) == ("x [s]", 1.0)
    panel = Panel(("a",), "neuron.leak [S]", "t [s]", [Series("one", [1e-6], [2e-9], [1e-9], [3e-9])]).plain()
    assert (panel["x"], panel["y"], panel["log"]) == ("neuron.leak [µS]", "t [ns]", False)
    (one,) = panel["series"]
    assert (one["x"], one["y"], one["low"], one["high"]) == ([1.0], [2.0], [1.0], [3.0])


def test_a_band_is_one_deviation_or_one_error_of_the_mean() -> None:
    cells = np.array([[1.0, 2.0, 3.0, 6.0]])
    for of_mean, spread in ((False, np.sqrt(14 / 3)), (True, np.sqrt(14 / 3) / 2)):
        series = banded("a", [0.0], cells, {}, of_mean=of_mean)
        np.testing.assert_allclose([series.low, series.high], [[3 - spread], [3 + spread]])
    assert banded("a", [0.0], cells[:, :1], {}).low is None


def test_a_design_is_marked_where_it_differs() -> None:
    design = Design.named("digits").replace(SIGMA, 0.25)
    found = re.findall(r"<mark>(.*?)</mark>", toml(design))
    assert "conductance = 0.25" in found and len(found) == sum(
        mine != usual
        for mine, usual in zip(design.to_toml().splitlines(), Design().to_toml().splitlines(), strict=True)
    )
    assert "<mark>" not in toml(Design())
    assert re.sub(r"<.*?># default: .*?\n|<.*?>", "\n", toml(Design())).count("=") >= len(KEYS)


def test_every_quantity_of_an_epoch_has_a_label() -> None:
    assert set(Epoch.__dataclass_fields__) - {"epoch"} == set(quantities.QUANTITIES)
