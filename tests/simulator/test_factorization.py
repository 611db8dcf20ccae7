"""Sparse LU against dense solves, over batches, dtypes and pivots gone bad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, eye_array, kron, random_array
from scipy.sparse.linalg import splu

from ohmostat.simulator.factorization import SparseSolver
from ohmostat.simulator.structure import Pattern

Array = np.ndarray


def pattern(n: int, seed: int, density: float = 0.15) -> csc_array:
    """A random sparse pattern with a full diagonal."""
    rng = np.random.default_rng(seed)
    return csc_array(random_array((n, n), density=density, rng=rng) + eye_array(n))


def matrices(shape: csc_array, values: Array) -> Array:
    """As dense matrices (B, n, n)."""
    return np.stack(
        [csc_array((v, shape.indices, shape.indptr), shape=shape.shape).toarray() for v in values]
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_solutions_are_those_of_dense_algebra(
    n: int, seed: int, batch: int, is_complex: bool, transposed: bool, right: int
) -> None:
    rng, shape = np.random.default_rng(seed), pattern(n, seed)
    values = rng.normal(size=(batch, shape.nnz))
    rhs = rng.normal(size=(batch, right, n) if right else (batch, n))
    if is_complex:
        values = values + 1j * rng.normal(size=values.shape)
    dense = matrices(shape, values)
    factors = SparseSolver(shape.indptr, shape.indices).factorize(values)
    if np.linalg.cond(dense).max() > 1e10:
        return
    x = factors.solve(rhs, transposed=transposed)
    assert x.shape == rhs.shape and not factors.singular.any()
    turned = np.swapaxes(dense, 1, 2) if transposed else dense
    want = np.linalg.solve(turned, np.atleast_3d(rhs) if not right else np.swapaxes(rhs, 1, 2))
    want = want[..., 0] if not right else np.swapaxes(want, 1, 2)
    np.testing.assert_allclose(x, want, rtol=1e-6, atol=1e-7 * np.abs(want).max())


def test_later_factorizations_reuse_the_plan() -> None:
    rng, shape = np.random.default_rng(0), pattern(40, 0)
    solver = SparseSolver(shape.indptr, shape.indices)
    for _ in range(5):
        values = 3.0 * (shape.data > 0) + 0.1 * rng.normal(size=(3, shape.nnz))
        values[:, [shape.indptr[0]]] += 1.0
        diagonal = shape.indices == np.repeat(np.arange(40), np.diff(shape.indptr))
        values[:, diagonal] += 40.0
        rhs = rng.normal(size=(3, 40))
        factors = solver.factorize(values)
        plan = solver.plan
        want = np.linalg.solve(matrices(shape, values), rhs[..., None])[..., 0]
        np.testing.assert_allclose(factors.solve(rhs), want, rtol=1e-10)
        assert factors.plan is plan and not factors.fallbacks


def test_one_matrix_takes_any_number_of_right_hand_sides() -> None:
    rng, shape = np.random.default_rng(1), pattern(20, 1)
    values, rhs = rng.normal(size=shape.nnz), rng.normal(size=(7, 20))
    factors = SparseSolver(shape.indptr, shape.indices).factorize(values)
    want = np.linalg.solve(matrices(shape, values[None])[0], rhs.T).T
    np.testing.assert_allclose(factors.solve(rhs), want, rtol=1e-8)
    mixed = factors.solve(rhs + 1j * rhs[::-1])
    np.testing.assert_allclose(mixed, want + 1j * want[::-1], rtol=1e-8)


def test_pivots_that_became_poor_are_chosen_anew() -> None:
    shape = csc_array(np.ones((3, 3)))
    solver = SparseSolver(shape.indptr, shape.indices)
    first = np.array([[10.0, 1.0, 2.0], [1.0, 10.0, 3.0], [2.0, 1.0, 10.0]])
    solver.factorize(first.T.ravel()[None])
    old = solver.plan
    turned = first[[1, 2, 0]]
    turned[[0, 1, 2], [0, 1, 2]] = 1e-12
    factors = solver.factorize(turned.T.ravel()[None])
    assert solver.plan is not old and not factors.fallbacks
    rhs = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(factors.solve(rhs)[0], np.linalg.solve(turned, rhs[0]), rtol=1e-12)


@pytest.mark.parametrize("dtype", [float, complex])
def test_samples_that_no_common_pivots_suit_get_their_own(dtype: type) -> None:
    shape = csc_array(np.ones((3, 3)))
    solver = SparseSolver(shape.indptr, shape.indices)
    base = np.full((3, 3), 1e-13) + np.diag([1.0, 2.0, 3.0]) + 1e-14 * np.arange(9).reshape(3, 3)
    dense = np.stack([base, base[[1, 2, 0]], base[[2, 0, 1]]]).astype(dtype)
    factors = solver.factorize(np.swapaxes(dense, 1, 2).reshape(3, 9))
    assert factors.fallbacks and not factors.singular.any()
    rhs = np.random.default_rng(0).normal(size=(3, 2, 3))
    for transposed in (False, True):
        turned = np.swapaxes(dense, 1, 2) if transposed else dense
        want = np.swapaxes(np.linalg.solve(turned, np.swapaxes(rhs, 1, 2)), 1, 2)
        np.testing.assert_allclose(factors.solve(rhs, transposed=transposed), want, rtol=1e-9)


@pytest.mark.parametrize("dtype", [float, complex])
def test_singular_matrices_are_marked_and_leave_the_others_alone(dtype: type) -> None:
    rng, shape = np.random.default_rng(2), pattern(12, 2)
    values = rng.normal(size=(4, shape.nnz)).astype(dtype)
    values[1, shape.indptr[5] : shape.indptr[6]] = 0.0  # an empty column
    values[3, 0] = np.nan
    factors = SparseSolver(shape.indptr, shape.indices).factorize(values)
    assert factors.singular.tolist() == [False, True, False, True]
    rhs = rng.normal(size=(4, 12))
    x = factors.solve(rhs)
    assert np.isnan(x[[1, 3]]).all()
    want = np.linalg.solve(matrices(shape, values[[0, 2]]), rhs[[0, 2], :, None])[..., 0]
    np.testing.assert_allclose(x[[0, 2]], want, rtol=1e-8)


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_matrix_alone_may_become_singular(dtype: type) -> None:
    shape = pattern(6, 5)
    solver, values = SparseSolver(shape.indptr, shape.indices), np.ones((1, shape.nnz), dtype)
    values[0] += np.arange(shape.nnz)
    assert not solver.factorize(values).singular[0]
    values[0, shape.indptr[2] : shape.indptr[3]] = 0.0
    factors = solver.factorize(values)
    assert factors.singular[0] and np.isnan(factors.solve(np.ones((1, 6)))).all()


def test_all_singular_and_nothing_to_solve() -> None:
    shape = pattern(4, 3)
    factors = SparseSolver(shape.indptr, shape.indices).factorize(np.zeros((2, shape.nnz)))
    assert factors.singular.all() and np.isnan(factors.solve(np.ones((2, 4)))).all()
    nothing = SparseSolver(np.zeros(1, int), np.zeros(0, int)).factorize(np.zeros((3, 0)))
    assert not nothing.singular.any() and nothing.solve(np.zeros((3, 0))).shape == (3, 0)


def test_a_star_does_not_fill() -> None:
    """The order matters: with its centre first it would fill completely."""
    n = 200
    star = np.eye(n)
    star[0] = star[:, 0] = -0.001
    star[0, 0] = 1.0
    shape = csc_array(star)
    solver = SparseSolver(shape.indptr, shape.indices)
    solver.factorize(shape.data)
    assert solver.plan is not None and len(solver.plan.l_rows) == n - 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 80), st.integers(0, 10**6))
def test_a_pattern_holds_every_position_once(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sets = [(rng.integers(-1, height, k), rng.integers(-1, width, k)) for k in (count, count // 2)]
    pattern = Pattern(sets, (height, width))
    rows, columns = (np.concatenate(part) for part in zip(*sets, strict=True))
    kept = (rows >= 0) & (columns >= 0)
    wanted = csc_array((np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(height, width))
    wanted.sum_duplicates()
    assert pattern.starts.tolist() == wanted.indptr.tolist()
    assert pattern.indices.tolist() == wanted.indices.tolist() and pattern.nnz == wanted.nnz
    slots = np.concatenate(pattern.slots)
    assert (slots[~kept] == -1).all() and [len(part) for part in pattern.slots] == [count, count // 2]
    assert (pattern.indices[slots[kept]] == rows[kept]).all()
    assert (np.searchsorted(pattern.starts, slots[kept], side="right") - 1 == columns[kept]).all()


def test_of_two_orders_the_one_of_less_fill_is_kept() -> None:
    """A grid, whose minimum degree order is known to fill less than COLAMD's."""
    line = csc_array(eye_array(30, k=1) + eye_array(30, k=-1))
    grid = csc_array(5.0 * eye_array(900) - kron(line, eye_array(30)) - kron(eye_array(30), line))
    solver = SparseSolver(grid.indptr, grid.indices)
    x = solver.factorize(grid.data).solve(np.ones((1, 900)))
    np.testing.assert_allclose(grid @ x[0], 1.0, rtol=1e-12)
    assert solver.plan is not None
    fill = len(solver.plan.l_rows) + len(solver.plan.u_rows) + 900
    assert fill < splu(grid, permc_spec="COLAMD").nnz
