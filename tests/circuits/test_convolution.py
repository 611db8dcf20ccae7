"""Convolutional arrays: their text, their map onto a block, and chips that are made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.convolution import Convolution
from ohmostat.circuits.design import Design
from ohmostat.circuits.flatten import flatten, voltages
from ohmostat.circuits.layout import ConvolutionLayout, Layout, TurnedLayout
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.tester import take_measured, write_list
from ohmostat.learning.training import initialise
from ohmostat.simulator.operating_point import operating_point

SHARINGS = ["time-multiplexed", "replicated"]
LAYERS = [64, "3x3x2 stride 2", "2x2x3 pad 1 pool 2", 10]  # 8x8 pixels: 2 of 3x3, 3 of 2x2


def design_of(family: str = "twin", sharing: str = SHARINGS[0], **more: object) -> Design:
    changes = {
        "chip.layers": LAYERS, "chip.family": family, "chip.sharing": sharing, "task.data": "digits",
        "learning.dtype": "float64", "learning.tolerance": 1e-12,
    }  # fmt: skip
    return Design().replace(changes | {key.replace("__", "."): value for key, value in more.items()})


def chip_of(family: str = "twin", sharing: str = SHARINGS[0], seed: int = 3, **more: object) -> Chip:
    mismatch = {"mismatch.conductance": 0.5, "mismatch.amplifier_gain": 0.1, "mismatch.stuck_open": 0.05}
    mismatch["mismatch.driver_gain"] = 0.1 if family == "shared" else 0.0
    design = design_of(family, sharing, **mismatch | more)
    chip = Circuit(design).fabricate(seed=seed)
    initialise(chip, 5, 1.0, 60.0 if family == "twin" else 0.0)
    return chip


# -- as a design writes it -------------------------------------------------------------------------

layers = st.builds(
    Convolution, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3),
    st.integers(0, 2), st.integers(1, 2),
)  # fmt: skip


@given(layers)
def test_text_says_all_of_a_layer(layer: Convolution) -> None:
    assert Convolution.parse(str(layer)) == layer


def test_text_is_read_loosely_and_written_shortly() -> None:
    assert str(Convolution.parse(" 5X5x8  STRIDE 2 pool 1 pad 0")) == "5x5x8 stride 2"


BAD_TEXTS = {
    "5x5": "is no convolution; write ROWSxCOLUMNSxCHANNELS",
    "5x5x8 step 2": '"stride N", "pad N", "pool N"',
    "5x5x8 stride 2 stride 3": "each at most once",
    "0x5x8": "rows = 0; allowed: 1 to 64",
    "5x5x2000": "channels = 2000; allowed: 1 to 1024",
    "5x5x8 pool 0": "pool = 0; allowed: 1 to 64",
    "5x5x8 stride 9999999": "is no convolution",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_texts_are_refused(text: str) -> None:
    with pytest.raises(DesignError) as e:
        design_of(chip__layers=[64, text, 10])
    assert BAD_TEXTS[text] in str(e.value) and "layer 2" in str(e.value) and "chip.layers" in str(e.value)


BAD_DESIGNS: dict[str, tuple[dict[str, object], str]] = {
    "no room": ({"chip__layers": [64, "9x3x4", 10]}, 'layer 2 ("9x3x4") finds no room in 8x8 pixels'),
    "no room for a pool": ({"chip__layers": [64, "7x7x4 pool 3", 10]}, "finds no room"),
    "after a dense layer": ({"chip__layers": [64, 20, "3x3x2", 10]}, "comes after a plain layer"),
    "as the output": ({"chip__layers": [64, 20, "8x8x10"]}, "the first and the last layer are plain sizes"),
    "too many neurons": (
        {"chip__layers": [784, "1x1x100", 10], "task__data": "mnist"},
        "makes a layer of 78400 neurons, and 16384 are the most",
    ),
    "passive": ({"chip__columns": "passive"}, 'chip.columns = "passive": one crossbar for all positions'),
    "passive pool": (
        {"chip__columns": "passive", "chip__sharing": "replicated", "chip__layers": [64, "3x3x4 pool 2", 10]},
        "leave pool out",
    ),
    "wires": ({"wires__row": "1Ohm"}, "wires.row = 1Ohm: what a convolution's crossbars do"),
}


@pytest.mark.parametrize("case", BAD_DESIGNS)
def test_designs_that_cannot_be_are_refused(case: str) -> None:
    changes, text = BAD_DESIGNS[case]
    with pytest.raises(DesignError) as e:
        design_of(**changes)
    assert text in str(e.value)


def test_a_file_holds_it_and_sizes_follow() -> None:
    design = design_of()
    assert design.chip.layers == (64, "3x3x2 stride 2", "2x2x3 pad 1 pool 2", 10)
    assert design.sizes == (64, 18, 12, 10)
    assert Design.from_text(design.to_toml()) == design == Design.from_dict(design.to_dict())


# -- the map onto a block --------------------------------------------------------------------------


def convolved(layer: Convolution, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A plain convolution of ``image`` (channels, rows, columns), its results pooled by plain means."""
    padded = np.pad(image, [(0, 0), *2 * [(layer.pad, layer.pad)]])
    kernels = weights.reshape(layer.channels, len(image), layer.rows, layer.columns)
    found = np.stack([correlate(padded, kernel, mode="valid", method="direct")[0] for kernel in kernels])
    found = found[:, :: layer.stride, :: layer.stride]
    p, (rows, columns) = layer.pool, (n // layer.pool for n in found.shape[1:])
    return found[:, : rows * p, : columns * p].reshape(-1, rows, p, columns, p).mean(axis=(2, 4))


images = st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=60, deadline=None)
@given(layer=layers, image=images, replicated=st.booleans(), seed=st.integers(0, 99))
def test_the_block_is_a_plain_convolution(
    layer: Convolution, image: tuple[int, int, int], replicated: bool, seed: int
) -> None:
    try:
        out = layer.output(image)
    except ValueError:
        return
    rng, layout = np.random.default_rng(seed), ConvolutionLayout.of(layer, image, replicated)
    x, weights = rng.standard_normal(image), rng.standard_normal(layout.crossbar)
    block = layout.unfold(layout.repeated(weights))
    expected = convolved(layer, x, weights)
    assert expected.shape == out == (layer.channels, *out[1:])
    np.testing.assert_allclose(block @ x.ravel(), expected.ravel(), rtol=0, atol=1e-12)
    bias = ConvolutionLayout.of(layer, image, replicated, bias=True)
    per_channel = rng.standard_normal(bias.crossbar)
    found = bias.unfold(bias.repeated(per_channel)).reshape(out)
    np.testing.assert_allclose(found, np.broadcast_to(per_channel[..., None], out), rtol=1e-12)


def layout_of(layer: Convolution, image: tuple[int, int, int], replicated: bool, turned: bool) -> Layout:
    forward = ConvolutionLayout.of(layer, image, replicated)
    return TurnedLayout.of(forward) if turned else forward


@settings(max_examples=60, deadline=None)
@given(layer=layers, image=images, replicated=st.booleans(), turned=st.booleans())
def test_fold_is_the_transpose_of_unfold(
    layer: Convolution, image: tuple[int, int, int], replicated: bool, turned: bool
) -> None:
    """``<unfold g, b> = <g, fold b>``, and for a stack of planes plane by plane."""
    try:
        layer.output(image)
    except ValueError:
        return
    rng, layout = np.random.default_rng(1), layout_of(layer, image, replicated, turned)
    g = rng.standard_normal((2, *layout.shape))
    block = layout.unfold(g)
    other = rng.standard_normal(block.shape)
    for plane in range(2):
        left, right = np.vdot(block[plane], other[plane]), np.vdot(g[plane], layout.fold(other)[plane])
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(layout.unfold(g[1]), block[1])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("replicated", [False, True])
def test_the_mean_of_a_block_is_what_the_devices_are(replicated: bool, turned: bool) -> None:
    """Without pooling each entry is one device; those that see only padding are nowhere, and read as 0."""
    layout = layout_of(Convolution(3, 2, 4, stride=2, pad=1), (2, 7, 6), replicated, turned)
    g = np.random.default_rng(0).random(layout.shape)
    used = layout.fold(np.ones_like(layout.unfold(g))) > 0
    np.testing.assert_allclose(layout.mean(layout.unfold(g)), np.where(used, g, 0), rtol=1e-12)


def test_repeated_steps_on_a_pooled_block_mend_it() -> None:
    """Where devices overlap in one entry a mean is no inverse, but never makes an entry's error grow."""
    layout = ConvolutionLayout.of(Convolution(3, 3, 2, pool=2), (1, 8, 8), replicated=False)
    rng = np.random.default_rng(0)
    g, block = np.zeros(layout.shape), layout.unfold(rng.standard_normal(layout.shape))
    errors = []
    for _ in range(200):
        errors.append(np.linalg.norm(block - layout.unfold(g)))
        g = g + layout.mean(block - layout.unfold(g))
    assert (np.diff(errors) <= 1e-12).all() and errors[-1] < 1e-3 * errors[0]


def test_tied_changes_are_summed_and_given_to_every_crossbar() -> None:
    forward = ConvolutionLayout.of(Convolution(2, 2, 3), (1, 3, 3), replicated=True)
    changes = np.random.default_rng(0).random(forward.shape)  # 4 positions of 3 channels
    expected = changes[0:3] + changes[3:6] + changes[6:9] + changes[9:12]
    tied = forward.tied(changes)
    for p in range(4):
        np.testing.assert_allclose(tied[3 * p : 3 * p + 3], expected)
    np.testing.assert_array_equal(TurnedLayout.of(forward).tied(changes.T), tied.T)
    once = ConvolutionLayout.of(Convolution(2, 2, 3), (1, 3, 3), replicated=False)
    np.testing.assert_array_equal(once.tied(changes[:3]), changes[:3])


# -- chips -----------------------------------------------------------------------------------------


def test_a_chip_has_the_arrays_that_it_says() -> None:
    shapes = {
        "time-multiplexed": {
            "forward0": (2, 9), "forward1": (3, 8), "forward2": (10, 12), "bias0": (2, 1), "bias1": (3, 1),
            "bias2": (10, 1), "feedback1": (8, 3), "feedback2": (12, 10),
        },
        "replicated": {  # 3x3 and 4x4 positions
            "forward0": (18, 9), "forward1": (48, 8), "forward2": (10, 12), "bias0": (18, 1),
            "bias1": (48, 1), "bias2": (10, 1), "feedback1": (8, 48), "feedback2": (12, 10),
        },
    }  # fmt: skip
    for sharing, expected in shapes.items():
        arrays = Circuit(design_of(sharing=sharing)).arrays
        assert {a.name: (a.rows, a.columns) for a in arrays} == expected


@pytest.mark.parametrize("family", ["twin", "shared", "loop"])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_flat_netlist_agrees(family: str, sharing: str) -> None:
    chip, x = chip_of(family, sharing), np.random.default_rng(1).random(64)
    state = chip.relax(x)
    assert state.settled.all() and state.stable is not None and state.stable.all()
    flat = operating_point(flatten(chip, x))
    assert np.abs(voltages(chip, flat.voltages_by_node()) - state.voltages[0]).max() < 1e-6


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_same_seed_is_the_same_chip(sharing: str) -> None:
    one, same, other = (chip_of(sharing=sharing, seed=seed) for seed in (3, 3, 4))
    for name in one.devices:
        np.testing.assert_array_equal(one.devices[name].actual, same.devices[name].actual)
    assert (one.devices["forward0"].actual != other.devices["forward0"].actual).any()


def test_time_multiplexed_devices_deviate_alike_everywhere_and_replicated_ones_do_not() -> None:
    for sharing, alike in zip(SHARINGS, (True, False), strict=True):
        chip = chip_of(sharing=sharing)
        at = chip.block("forward0").reshape(2, 3, 3, 8, 8)  # channel, position, pixel
        windows = [at[:, y, x, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] for y in range(3) for x in range(3)]
        assert all(np.array_equal(window, windows[0]) for window in windows) == alike


@pytest.mark.parametrize("family", ["twin", "shared"])
def test_without_mismatch_the_two_realisations_are_one_chip(family: str) -> None:
    none = {"mismatch.conductance": 0.0, "mismatch.stuck_open": 0.0}
    once, each = (chip_of(family, sharing, **none) for sharing in SHARINGS)
    x = np.random.default_rng(2).random((3, 64))
    leak = once.neuron.leak  # pooled entries are summed in another order
    np.testing.assert_allclose(each.blocks.dense(), once.blocks.dense(), rtol=0, atol=1e-14 * leak)
    np.testing.assert_allclose(each.relax(x).ports, once.relax(x).ports, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_heat_and_loads_are_those_of_the_devices_where_they_are(sharing: str) -> None:
    chip = chip_of(sharing=sharing, chip__layers=[64, "3x3x2 stride 2", 10])
    x = np.random.default_rng(3).random(64)
    state = chip.relax(x)
    assert chip.blocks.load == pytest.approx(chip.neuron.leak)
    s, heat = state.layer(0)[0], chip.neuron.leak * float(np.sum(state.voltages**2))
    planes = chip.conducting("forward0").reshape(2, -1, 2, 9)  # plane, crossbar, channel, window
    image = x.reshape(8, 8)
    for p in range(9):
        window = image[2 * (p // 3) :, 2 * (p % 3) :][:3, :3].ravel()
        heat += float(np.sum(planes[:, p % planes.shape[1]] * window**2))
        heat += float(np.sum(chip.conducting("bias0").reshape(2, -1, 2)[:, p % planes.shape[1]]))
    heat += float(chip.conducting("forward1").sum(axis=(0, 1)) @ s**2)
    heat += float(chip.conducting("feedback1").sum(axis=(0, 1)) @ state.layer(1)[0] ** 2)
    heat += float(chip.conducting("bias1").sum())
    assert chip.dissipation(x)(state.voltages, state.ports, np.arange(1))[0] == pytest.approx(heat)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_archive_and_tester_take_it(sharing: str, tmp_path) -> None:
    chip, x = chip_of(sharing=sharing), np.random.default_rng(4).random((2, 64))
    save_chip(tmp_path / "chip.h5", chip)
    again = load_chip(tmp_path / "chip.h5")
    np.testing.assert_array_equal(again.relax(x).ports, chip.relax(x).ports)
    devices = sum(array.actual.size for array in chip.devices.values())
    assert write_list(chip, tmp_path / "list.csv") == devices
    name, row, column = "feedback1", 5, 2 if sharing == "time-multiplexed" else 17  # position 5, channel 2
    (tmp_path / "measured.csv").write_text(
        f"array,tile,row,column,plane,conductance_uS\n{name},r0c0,{row},{column},+,7.5\n", "utf-8"
    )
    take_measured(again, tmp_path / "measured.csv")
    assert again.devices[name].actual[0, row, column] == pytest.approx(7.5e-6)
    changed = np.flatnonzero((again.blocks.dense() != chip.blocks.dense()).any(axis=0))
    assert changed.size == (4 if sharing == "time-multiplexed" else 1)  # the channel's ports that drive it
