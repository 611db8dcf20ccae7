"""Products of a batch with weights as they lie in memory: what relaxation is made of.

BLAS copies its factors before it multiplies, which a batch has too few rows to pay for, and rounds a row
otherwise in one batch than in another. Here each number is a sum over the drivers in their order, whatever
the batch is, or a thread's share of it.

Numba's cache does not see an edit here in the kernels that call these: delete it (``__pycache__``) after one.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .blocks import LINE
from .exponentials import compiled, parallel

Array = NDArray[Any]


def _wide() -> int:
    """Bytes of a row of a tile, which is summed in registers: four vectors of 64, where there are 32 of them
    to hold 6 rows; or of two of 32 (or four of 16) bytes. (By what the host has: numba kept to less works,
    but not as fast.)
    """
    try:
        return 256 if llvm.get_host_cpu_features().get("avx512f") else 64
    except RuntimeError:  # a host that does not tell
        return 64


PRECISIONS = np.dtype(np.float32), np.dtype(np.float64)
ROWS = 6
WORTH_SHARING = 2_000_000  # multiplications: fewer are done before another thread has begun
WIDE, NARROW, SINGLE = _wide(), 32, 0  # what is not as wide is summed in narrower tiles, or by itself


@compiled()
def multiply(drivers, weights, out):
    """``out (m, n) = drivers (m, k) @ weights (k, n)``, real, and of one precision.

    The rows of ``weights`` and ``out`` are each in one piece (of weights best :func:`.blocks.spaced`);
    ``drivers`` may lie in any way.
    """
    width, item = out.shape[1], out.itemsize
    if width * item >= WIDE:
        _multiply(drivers, weights, out, WIDE // item, WIDE)
    elif width * item >= NARROW:
        _multiply(drivers, weights, out, NARROW // item, NARROW)
    else:
        _multiply(drivers, weights, out, 1, SINGLE)


def shared(threads: int, drivers: Array, weights: Array, out: Array) -> None:
    """:func:`multiply`, by ``threads`` that have their share of the columns each."""
    if threads > 1 and len(out) * weights.size > WORTH_SHARING:
        _multiply_shared(threads, drivers, weights, out)
    else:
        multiply(drivers, weights, out)


@parallel
def _multiply_shared(threads, drivers, weights, out):
    for k in prange(threads):
        first, last = out.shape[1] * k // threads, out.shape[1] * (k + 1) // threads
        multiply(drivers, weights[:, first:last], out[:, first:last])


def product(left: Array, right: Array, threads: int = 1) -> Array:
    """``left right`` (m, n) of two matrices (m, k) and (k, n), in float32 or float64. Raises ValueError for
    others.
    """
    dtype = np.result_type(left, right)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0] or dtype not in PRECISIONS:
        raise ValueError(
            f"no product of {left.shape} and {right.shape} in {dtype}: give real (m, k) and (k, n), in "
            "float32 or float64"
        )
    left, right = np.asarray(left, dtype), np.ascontiguousarray(right, dtype)
    found = np.empty((left.shape[0], right.shape[1]), dtype)
    shared(threads, left, right, found)
    return found


@compiled(inline="always")
def _multiply(drivers, weights, out, lanes, size):
    """By tiles of so many ``lanes``. The last of a row or a column reaches back over the one before."""
    last_row, last_column = max(out.shape[0] - ROWS, 0), out.shape[1] - lanes
    for i in range(0, out.shape[1], lanes):
        for a in range(0, out.shape[0], ROWS):
            _tile(drivers, weights, out, min(a, last_row), min(i, last_column), size)


@intrinsic(prefer_literal=True)
def _tile(typingctx: Any, drivers: Any, weights: Any, out: Any, row: Any, column: Any, size: Any) -> Any:
    """``out[row : row + ROWS, column :]``, as many columns as ``size`` bytes hold, or one.

    Of fewer rows than ROWS, the last is made again and again. The weights of the columns to the right are
    fetched meanwhile: a processor does not foresee a way down columns, from one page of memory to the next.
    """
    wide = size.literal_value
    lanes = max(wide * 8 // out.dtype.bitwidth, 1)
    fetched = range(wide, 2 * wide, LINE) if wide >= LINE else ()

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        d, w, o = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], args[:3], strict=True)
        )
        index, number = context.get_value_type(types.intp), context.get_value_type(out.dtype)
        vector = ir.VectorType(number, lanes)
        whole, align = vector.as_pointer(), out.dtype.bitwidth // 8
        rows, depth = cgutils.unpack_tuple(builder, d.shape)

        def at(array: Any, i: Any, j: Any) -> Any:
            """Address of a number of an array."""
            offsets = zip((i, j), cgutils.unpack_tuple(builder, array.strides), strict=True)
            offset = builder.add(*(builder.mul(k, stride) for k, stride in offsets))
            return cgutils.pointer_add(builder, array.data, offset, array.data.type)

        last = builder.sub(rows, index(1))
        places = [builder.add(args[3], index(r)) for r in range(ROWS)]
        places = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in places]
        sums = [cgutils.alloca_once_value(builder, vector(None)) for _ in places]
        with cgutils.for_range(builder, depth) as loop:
            here = at(w, loop.index, args[4])
            for ahead in fetched:
                _fetch(builder, cgutils.pointer_add(builder, here, index(ahead)))
            weight = builder.load(builder.bitcast(here, whole), align=align)
            for i, total in zip(places, sums, strict=True):
                drive = _spread(builder, builder.load(at(d, i, loop.index)), vector)
                step = builder.fmul(drive, weight, flags=["contract"])
                builder.store(builder.fadd(builder.load(total), step, flags=["contract"]), total)
        for i, total in zip(places, sums, strict=True):
            builder.store(builder.load(total), builder.bitcast(at(o, i, args[4]), whole), align=align)
        return context.get_dummy_value()

    return types.void(drivers, weights, out, row, column, size), generate


def _fetch(builder: Any, pointer: Any) -> None:
    """Bring the line at ``pointer``, to be read, into the second level of the cache."""
    address, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address, number, number, number])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", (address,), kind)
    builder.call(prefetch, [builder.bitcast(pointer, address), number(0), number(2), number(1)])


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    """A vector of one number."""
    first = builder.insert_element(vector(ir.Undefined), number, ir.IntType(32)(0))
    lanes = ir.VectorType(ir.IntType(32), vector.count)
    return builder.shuffle_vector(first, vector(ir.Undefined), lanes(None))
