"""Device-to-device variation, drawn once per chip.

Every draw is addressed: value ``k`` of quantity ``q`` on chip ``seed`` is the same number whatever the
order, batch, number of workers or size of the request. It comes from a counter-based generator (Philox,
Salmon et al. 2011), keyed by a hash of ``(seed, q)``, with one 64-bit word to a device.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np
from numpy.typing import NDArray

Draw = NDArray[np.float64]
WAVES = 1000  # of a correlated field


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A generator of its own for each (seed, purpose), for draws that need no address."""
    return np.random.Generator(np.random.Philox(key=_key(seed, "/".join(purpose))))


def derived_seed(seed: int, *purpose: str) -> int:
    """A seed of its own for each (seed, purpose), below 2^63."""
    return _key(seed, "/".join(purpose)) >> 65


def standard_normals(seed: int, quantity: str, shape: tuple[int, ...], first: int = 0) -> Draw:
    """Standard normal deviates of the devices ``first, first + 1, …`` (row-major addresses)."""
    from scipy.special import ndtri

    deviates: Draw = ndtri(uniforms(seed, quantity, shape, first))
    return deviates


def uniforms(seed: int, quantity: str, shape: tuple[int, ...], first: int = 0) -> Draw:
    """Deviates between 0 and 1, both excluded, of the devices ``first, first + 1, …``."""
    count = prod(shape)
    bits = np.random.Philox(key=_key(seed, quantity))
    bits.advance(first // 4)  # one Philox block holds four words
    words = bits.random_raw(first % 4 + count)[first % 4 :]
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    uniform = np.minimum(uniform, 1 - 2.0**-53)  # the last word of all rounds up to 1: an infinite deviate
    return uniform.reshape(shape)


def conductance_gain(
    seed: int, quantity: str, shape: tuple[int, ...], sigma: float, distribution: str = "lognormal"
) -> Draw:
    """Factor by which each device's conductance differs from what was programmed.

    ``lognormal``: ``exp(sigma z)``, median 1 (mean ``exp(sigma²/2)``: 1.65 at sigma = 1).
    ``gaussian``: ``1 + sigma z``, cut off at 0: a conductance is never negative.
    ``sigma = 0`` is the identity.
    """
    if sigma == 0:
        return np.ones(shape)
    z = standard_normals(seed, quantity, shape)
    return np.exp(sigma * z) if distribution == "lognormal" else np.maximum(1 + sigma * z, 0.0)


def relative(seed: int, quantity: str, shape: tuple[int, ...], sigma: float) -> Draw:
    """Factors ``1 + sigma z``, kept above 0.05: an amplifier or capacitor never quite vanishes."""
    if sigma == 0:
        return np.ones(shape)
    return np.maximum(1 + sigma * standard_normals(seed, quantity, shape), 0.05)


def gradient(seed: int, quantity: str, shape: tuple[int, int], sigma: float) -> Draw:
    """Factor (rows, columns) that changes linearly over an array: by ``sigma`` (its standard deviation over
    chips, relative) from the first row to the last, and as much from the first column to the last. 1 in the
    middle, kept above 0.05.
    """
    if sigma == 0:
        return np.ones(shape)
    down, across = sigma * standard_normals(seed, quantity, (2,))
    y, x = (np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(1) for n in shape)
    factor: Draw = np.maximum(1 + down * y[:, None] + across * x, 0.05)
    return factor


def correlated_normals(seed: int, quantity: str, shape: tuple[int, int], length: float) -> Draw:
    """Standard normal deviates (rows, columns) whose correlation over a distance of d devices is
    ``exp(-d² / 2 length²)``.

    A sum of plane waves whose wave numbers are drawn from that correlation's spectrum (Rahimi and Recht 2007)
    and whose amplitudes are normal: for any waves every value is normal, of variance 1. A device's value
    depends on its place, and not on the array's size.
    """
    down, across, cosine, sine = standard_normals(seed, quantity, (4, WAVES))
    rows, columns = (np.arange(n)[:, None] / length for n in shape)
    waves = (cosine - 1j * sine) * np.exp(1j * down * rows)
    field: Draw = (waves @ np.exp(1j * across * columns).T).real / np.sqrt(WAVES)
    return field


def stuck(
    seed: int, quantity: str, shape: tuple[int, ...], share_open: float, share_closed: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which devices are stuck open, and which closed; a larger share holds every smaller one's devices."""
    if share_open == share_closed == 0:
        return np.zeros(shape, bool), np.zeros(shape, bool)
    u = uniforms(seed, quantity, shape)
    return u < share_open, u > 1 - share_closed


def _key(seed: int, quantity: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{quantity}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")
