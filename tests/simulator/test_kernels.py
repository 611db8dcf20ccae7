"""Compiled kernels, each against plain NumPy: they check nothing themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from ohmostat.simulator import device_kernels, kernels, neurons, products
from ohmostat.simulator.exponentials import power

Array = np.ndarray[Any, Any]
KERNEL = {"logistic": kernels.LOGISTIC, "tanh": kernels.LOGISTIC, "softplus": kernels.SOFTPLUS}
EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52, np.complex128: 2.0**-52}


def real(dtype: type) -> type:
    return np.zeros(0, dtype).real.dtype.type


def activate(
    current: Array, injected: Array, rows: Array, place: slice, law: int, load: Array, curve: Any
) -> Any:
    """Voltages and ports (len(rows), N): the currents and 9 V wherever the kernel leaves them alone."""
    low, swing, gain, offset, knee = curve
    volts, ports = current.copy(), np.full(current.shape, 9, current.dtype)
    limits, parameters, none = (
        np.array([low, swing, knee]),
        np.stack([gain, offset]),
        np.zeros((5, 1), gain.dtype),
    )
    kernels.activate(
        volts, injected, rows, place.start, place.stop, law, 1 / load, limits, parameters, none, ports
    )
    return volts, ports


def transfer(law: str, v: Array, low: float, high: float, gain: float, offset: float, knee: float) -> Array:
    """The transfer curve alone: nodes with a load of 1 S, driven by ``v`` amperes."""
    r, n = real(v.dtype.type), len(v)
    curve = (r(low), r(high - low), np.full(n, gain, r), np.full(n, offset, r), r(knee))
    ones = np.ones((1, n), r)
    return activate(v[None], 0 * ones.astype(v.dtype), np.arange(1), slice(0, n), KERNEL[law], ones, curve)[
        1
    ][0]


# -- exponentials and transfer curves --------------------------------------------------------------


def test_float32_power_is_good_to_three_ulp_and_never_overflows() -> None:
    @njit(error_model="numpy")
    def powers(x: Array, out: Array) -> None:
        for i in range(x.shape[0]):
            out[i] = power(x[i])

    x = np.linspace(-126, 126, 200_001).astype(np.float32)
    out = np.empty_like(x)
    powers(x, out)
    true = np.exp2(x.astype(np.float64))
    ulp = np.spacing(true.astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(out - true) / ulp) <= 3.0
    edge = np.array([-np.inf, -1e9, -126, 0, 126, 1e9, np.inf, np.nan], np.float32)
    out = np.empty_like(edge)
    powers(edge, out)
    assert out[3] == 1.0 and np.isnan(out[7]) and np.isfinite(out[:7]).all()
    assert np.all(out[:3] < 2e-38) and np.all(out[4:7] > 1e37)


@pytest.mark.parametrize("law", sorted(KERNEL))
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("gain", [0.3, 4.0, 1000.0])
def test_transfer_is_the_readable_law(law: str, dtype: type, gain: float) -> None:
    v = np.concatenate([np.linspace(-3, 3, 301), [-300.0, -30.0, 30.0, 300.0]]).astype(dtype)
    if dtype is np.complex128:
        v = v + 1j * np.linspace(-1, 1, len(v)) * min(0.5 / gain, 0.1)
    parameters = {"low": -0.5, "high": 1.25, "gain": gain, "offset": 0.125, "knee": 0.05}
    s = transfer(law, v, **parameters)
    want = neurons.evaluate(law, v.astype(np.promote_types(dtype, np.float64)), **parameters)[0]
    assert s.dtype == dtype
    # The curve magnifies the rounding of v - offset by its gain; softplus adds that of its two large terms.
    terms = 4 + gain * (np.abs(v) + 0.2) * (law == "softplus") + gain * 4 * (np.abs(v) < 4)
    assert np.all(np.abs(s - want) <= 2 * EPS[dtype] * terms)


def test_complex_logistic_saturates_instead_of_overflowing() -> None:
    v = np.array([-1e3 + 0j, -1e3 + 1e-4j, 1e3 + 1e-4j, -1e300 + 1e-4j])
    assert transfer("logistic", v, 0.0, 1.0, 1e3, 0.0, 0.1) == pytest.approx([0, 0, 1, 0], abs=1e-15)


@pytest.mark.parametrize("law", sorted(KERNEL))
@pytest.mark.parametrize("dtype", EPS)
def test_nan_stays_nan(law: str, dtype: type) -> None:
    s = transfer(law, np.array([0.0, np.nan, 0.0], dtype), 0.0, 1.0, 1.0, 0.0, 0.1)
    assert np.isnan(s).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("law", [kernels.LOGISTIC, kernels.SOFTPLUS, kernels.LINEAR])
def test_activate_settles_one_layer_of_the_active_rows(law: int, per_sample: bool, dtype: type) -> None:
    rng, r = np.random.default_rng(1), real(dtype)
    batch, size, place, rows = 5, 7, slice(2, 5), np.array([4, 1, 2])
    currents = rng.standard_normal((3, size)).astype(dtype)
    injected = rng.standard_normal((batch, size)).astype(dtype)
    load = (1 + rng.random((batch if per_sample else 1, size))).astype(r)
    gain, offset = (1 + rng.random(size)).astype(r), rng.random(size).astype(r)
    volts, ports = activate(currents, injected, rows, place, law, load, (r(-1), r(2), gain, offset, r(0.1)))
    name = "logistic" if law == kernels.LOGISTIC else "softplus"
    for a, row in enumerate(rows):
        s = v = (currents[a, place] + injected[row, place]) / load[row if per_sample else 0, place]
        if law != kernels.LINEAR:
            s = neurons.evaluate(name, v, -1, 1, gain[place], offset[place], r(0.1))[0]
        assert volts[a, place] == pytest.approx(v, rel=4 * EPS[dtype], abs=4 * EPS[dtype])
        assert ports[a, place] == pytest.approx(s, abs=60 * EPS[dtype])
    outside = [0, 1, 5, 6]
    assert np.array_equal(volts[:, outside], currents[:, outside]) and np.all(ports[:, outside] == 9)


# -- the accelerated iteration ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_solve_is_numpys_and_refuses_what_is_not_positive_definite(dtype: type) -> None:
    rng = np.random.default_rng(2)
    for n in range(1, 7):
        factor = rng.standard_normal((8, 9)).astype(dtype)
        factor += 1j * rng.standard_normal((8, 9)) if dtype is np.complex128 else 0
        matrix, rhs = factor @ factor.conj().T, rng.standard_normal(8).astype(dtype)
        want = np.linalg.solve(matrix[:n, :n], rhs[:n])
        assert kernels._solve(matrix.copy(), solution := rhs.copy(), n)
        assert solution[:n] == pytest.approx(want, rel=1e-9)
        matrix[n - 1, n - 1] -= 2 * matrix[n - 1, n - 1]
        assert not kernels._solve(matrix, rhs, n)
    assert not kernels._solve(np.full((3, 3), np.nan, dtype), np.ones(3, dtype), 3)


def blas_free(drivers: Array, weights: Array) -> Array:
    """``drivers @ weights`` without BLAS, in double precision."""
    exact = np.promote_types(drivers.dtype, np.float64)
    product: Array = (drivers.astype(exact)[:, :, None] * weights.astype(np.float64)[None]).sum(axis=1)
    return product


@njit
def multiply(drivers: Array, weights: Array, out: Array, planes: Array) -> None:
    kernels._multiply(drivers, weights, out, planes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 0, 3), (3, 7, 40), (50, 266, 70), (7, 33, 16)])
def test_products_of_a_part_of_the_state(shape: tuple[int, int, int], dtype: type) -> None:
    """In tiles of any width, between columns of wider arrays, and nothing else is written."""
    (m, depth, width), rng, r = shape, np.random.default_rng(4), real(dtype)
    wide = rng.standard_normal((m, depth + 3)).astype(dtype)
    if np.iscomplexobj(wide):
        wide.imag = rng.standard_normal(wide.shape)
    weights = rng.standard_normal((depth, width)).astype(r)
    out, planes = np.full((m, width + 2), 9, dtype), np.empty((4 * m, max(depth, width)), r)
    multiply(wide[:, 2 : 2 + depth], weights, out[:, 1 : 1 + width], planes)
    want = blas_free(wide[:, 2 : 2 + depth], weights)
    tolerance = 4 * float(np.finfo(r).eps) * (depth + 1)
    assert out[:, 1 : 1 + width] == pytest.approx(want, rel=tolerance, abs=tolerance)
    assert np.all(out[:, [0, -1]] == 9)


@given(
    st.integers(0, 20), st.integers(0, 9), st.integers(0, 150), st.sampled_from([np.float32, np.float64]),
    st.integers(0, 19), st.integers(0, 20),
)  # fmt: skip
@settings(deadline=None)
def test_a_row_of_a_product_is_the_same_bit_for_bit_in_any_part_of_a_batch(
    m: int, depth: int, width: int, dtype: type, first: int, last: int
) -> None:
    rng = np.random.default_rng(m + 100 * width)
    drivers, weights = (rng.standard_normal(shape).astype(dtype) for shape in ((m, depth), (depth, width)))
    whole, part = np.full((2, m, width), np.nan, dtype)
    products.multiply(drivers, weights, whole)
    products.multiply(drivers[first:last], weights, part[first:last])
    assert np.array_equal(part[first:last], whole[first:last])
    assert whole == pytest.approx(blas_free(drivers, weights), rel=1e-5, abs=1e-5)
    assert np.array_equal(products.product(np.asfortranarray(drivers), weights), whole)


@pytest.mark.parametrize("width", [0, 1, 10, 150])
def test_threads_share_a_product_and_change_not_a_bit(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "WORTH_SHARING", 0)
    rng = np.random.default_rng(width)
    drivers, weights = rng.standard_normal((7, 9), np.float32), rng.standard_normal((9, width), np.float32)
    alone, *more = (products.product(drivers, weights, threads) for threads in (1, 2, 3))
    assert all(np.array_equal(one, alone) for one in more)


class Batch:
    """The arrays that `anderson` works on; scratch is NaN at first, so that nothing unwritten is used."""

    def __init__(self, images: Array, x: Array, window: int, start: int = 0) -> None:
        batch, (n, dtype) = len(images), (x.shape[1], images.dtype)
        self.ports, self.rows, self.start = images.copy(), np.arange(batch), start
        self.nodes = images + 1  # voltages that can be told from the ports
        self.settled, self.voltages = np.zeros((2, *images.shape), dtype)
        self.count, self.status = np.zeros(batch, np.int64), np.zeros(batch, np.int64)
        kept = window + 1
        shapes = [(kept, batch, n)] * 2 + [(batch, kept, kept), (kept + 1, kept), (kept,)]
        exact = np.promote_types(dtype, np.float64)
        self.scratch = [np.full(s, np.nan, d) for s, d in zip(shapes, [dtype] * 2 + [exact] * 3, strict=True)]
        self.scratch[0][0] = x

    @property
    def x(self) -> Array:
        """The iterates of ``rows``."""
        residuals = self.scratch[0]
        places = [kernels._remembered(int(count), len(residuals)) for count in self.count[self.rows]]
        return residuals[[age % length for age, length in places], self.rows]

    def step(self, tolerance: float, scale: float = 1.0, most: int = 1000) -> int:
        active: int = kernels.anderson(
            self.ports, self.nodes, self.rows, self.start, np.full(len(self.count), scale), tolerance, most,
            self.settled, self.voltages, self.count, self.status, *self.scratch,
        )  # fmt: skip
        return active


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_nan_and_infinity_are_seen_wherever_they_are(dtype: type, length: int) -> None:
    a, b = np.random.default_rng(3).standard_normal((2, length)).astype(dtype)
    poisoned = [a]
    for place in range(length):
        for evil in (np.nan, np.inf, -np.inf):
            poisoned.append(a.copy())
            poisoned[-1][place] = evil
    for window in (0, 3):
        batch = Batch(np.array(poisoned), np.tile(b, (len(poisoned), 1)), window)
        assert batch.step(1e-3) == 1
        assert batch.status[0] == 0 and np.all(batch.status[1:] == -1)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_a_sample_settles_by_its_largest_component(dtype: type, length: int) -> None:
    """Whatever the others are: at the tolerance or at rest."""
    for place in range(length):
        for others in (0.0, 0.009):
            images = np.full((2, length), others).astype(dtype)
            images[:, place] = (0.0099, -0.0101) if dtype is not np.complex128 else (0.0099j, -0.0101j)
            batch = Batch(images, np.zeros_like(images), 3)
            assert batch.step(0.001, scale=10.0) == 1
            assert batch.status.tolist() == [1, 0]


def iterate(matrix: Array, shift: Array, window: int, sweeps: int) -> list[Array]:
    """Iterates of ``x -> matrix x + shift``, one sample, which has not settled soon."""
    batch = Batch(shift[None], np.zeros_like(shift)[None], window)
    batch.count[:] = kernels.SOON
    path = [batch.x[0].copy()]
    for _ in range(sweeps):
        batch.ports[0] = matrix @ batch.x[0] + shift
        if not batch.step(0.0):
            break
        path.append(batch.x[0].copy())
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("window", [0, 1, 2, 4])
def test_mixing_is_andersons_least_squares(window: int, dtype: type) -> None:
    rng, n = np.random.default_rng(4), 6
    matrix = (0.9 * rng.standard_normal((n, n)) / np.sqrt(n)).astype(dtype)
    shift = rng.standard_normal(n).astype(dtype)
    if dtype is np.complex128:
        matrix, shift = matrix * np.exp(0.3j), shift * (1 + 0.5j)
    xs = iterate(matrix, shift, window, 6)
    images = [matrix @ x + shift for x in xs]
    for k in range(6):
        m = min(k, window)
        r = [t - x for t, x in zip(images, xs, strict=True)]
        want = images[k]
        if m:
            d_r = np.transpose([r[j + 1] - r[j] for j in range(k - m, k)])
            d_t = np.transpose([images[j + 1] - images[j] for j in range(k - m, k)])
            want = want - d_t @ np.linalg.lstsq(d_r, r[k], rcond=None)[0]
        assert xs[k + 1] == pytest.approx(want, abs=float(1e-3 * np.abs(r[k]).max()))


def test_a_window_as_wide_as_the_space_solves_a_linear_map_that_diverges() -> None:
    rng, n = np.random.default_rng(5), 4
    matrix = 1.5 * np.linalg.qr(rng.standard_normal((n, n)))[0]  # every plain sweep grows by half
    shift = rng.standard_normal(n)
    xs = iterate(matrix, shift, n, 12)
    assert xs[-1] == pytest.approx(np.linalg.solve(np.eye(n) - matrix, shift), abs=1e-9)


def test_at_first_a_short_history_is_kept() -> None:
    """The iterates of a wide window are those of a narrow one, until the history is begun anew."""
    rng, n, paths = np.random.default_rng(8), 6, []
    matrix, shift = 0.9 * rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal(n)
    for window in (kernels.FEW - 1, n):
        batch = Batch(shift[None], np.zeros_like(shift)[None], window)
        path = []
        for _ in range(kernels.SOON + n + 3):
            batch.ports[0] = matrix @ batch.x[0] + shift
            if not batch.step(0.0):
                break
            path.append(batch.x[0].copy())
        paths.append(np.array(path))
    anew = kernels.SOON  # the first sweep of a history has nothing to mix
    assert np.array_equal(paths[0][: anew - 1], paths[1][: anew - 1])
    errors = [np.abs(path[-1] - np.linalg.solve(np.eye(n) - matrix, shift)).max() for path in paths]
    assert errors[1] < 1e-6 and errors[1] < 0.01 * errors[0]  # as wide as the space: solved


@pytest.mark.parametrize("window", [0, 3])
def test_the_survivors_are_packed_and_the_rest_flagged(window: int) -> None:
    start, images = 2, np.arange(25.0).reshape(5, 5)
    x = images[:, start:].copy()
    x[1] += 1e-9  # settled
    x[2] += 1.0
    x[4] -= 2.0
    images[3, 3] = np.nan
    batch = Batch(images, x, window, start)
    batch.rows = np.array([4, 3, 2, 1, 0])  # sample a of the active ones is row 4 - a of the batch
    batch.scratch[0][0] = x[::-1]
    assert batch.step(1e-6, scale=10.0) == 2
    assert batch.rows[:2].tolist() == [2, 0]
    assert batch.status.tolist() == [0, -1, 0, 1, 1]
    assert batch.count.tolist() == [1] * 5
    assert np.array_equal(batch.settled[3], images[1]) and np.array_equal(batch.settled[4], images[0])
    assert np.all(batch.settled[[0, 2]] == 0) and np.all(batch.voltages[[0, 2]] == 0)
    assert np.array_equal(batch.voltages[4], images[0] + 1)
    assert np.array_equal(batch.x[:2], images[[2, 4], start:])  # no history yet: the images themselves
    assert np.array_equal(batch.ports[:2, start:], batch.x[:2])


# -- programming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_programming_moves_device_by_device(
    dtype: type, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_kernels, "WORTH_SHARING", 0)
    rng, shape, g_min, g_max = np.random.default_rng(6), (4, 3), 0.1, 1.0
    w = rng.uniform(-0.7, 0.7, shape)
    target = np.clip(g_min + np.maximum([w, -w], 0), g_min, g_max).astype(dtype)
    deviation = rng.lognormal(0, 0.5, (2, *shape)).astype(dtype)
    step = (deviation * rng.lognormal(0, 0.5, (2, *shape))).astype(dtype)
    actual, weight = deviation * target, np.zeros(shape, dtype)
    for _ in range(5):
        change = rng.uniform(-0.6, 0.6, shape).astype(dtype)
        want_target, want = target.astype(float), actual.astype(float)
        for i in range(4):
            for j in range(3):
                goal = want_target[0, i, j] - want_target[1, i, j] + float(change[i, j])
                for p, goal_p in enumerate((goal, -goal)):
                    new = min(max(g_min + max(goal_p, 0), g_min), g_max)
                    low, high = float(deviation[p, i, j]) * g_min, float(deviation[p, i, j]) * g_max
                    moved = want[p, i, j] + float(step[p, i, j]) * (new - want_target[p, i, j])
                    want[p, i, j] = min(max(moved, low), high)
                    want_target[p, i, j] = new
        pairs = (field.reshape(2, -1) for field in (target, actual, deviation, step))
        device_kernels.program(
            threads, *pairs, change.reshape(-1), dtype(g_min), dtype(g_max), weight.reshape(-1)
        )
        eps = 100 * EPS[dtype]
        assert target == pytest.approx(want_target, abs=eps) and actual == pytest.approx(
            want, rel=eps, abs=eps
        )
        assert np.array_equal(weight, actual[0] - actual[1])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (16, 5), (10, 256), (37, 20), (64, 64), (37, 301)])
def test_transpose(shape: tuple[int, int], threads: int) -> None:
    source = np.random.default_rng(0).random(shape)
    room = np.full((shape[1] + 2, shape[0]), np.nan)
    device_kernels.transpose(threads, source, room[1:-1])
    np.testing.assert_array_equal(room[1:-1], source.T)
    assert np.isnan(room[[0, -1]]).all()


@pytest.mark.parametrize("array", [np.arange(24.0), np.arange(24.0).reshape(2, 3, 4).T, np.zeros((0, 3))])
def test_placed_arrays_are_the_same_numbers_where_they_were_asked_for(array: Array) -> None:
    read_only = array.copy()
    read_only.setflags(write=False)
    for place in (0, 3):
        for source in (array, read_only):
            found = device_kernels.placed(source, place)
            np.testing.assert_array_equal(found, source)
            assert found.flags.c_contiguous and found.flags.writeable and found.dtype == array.dtype
            assert not array.size or found.ctypes.data % device_kernels.PAGE == 320 * place
            assert device_kernels.placed(found, place) is found or not array.size
