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


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A generator of its own for each (seed, purpose), for draws that need no address."""
    return np.random.Generator(np.random.Philox(key=_key(seed, "/".join(purpose))))


def derived_seed(seed: int, *purpose: str) -> int:
    """A seed of its own for each (seed, purpose), below 2^63."""
    return _key(seed, "/".join(purpose)) >> 65


def standard_normals(seed: int, quantity: str, shape: tuple[int, ...], first: int = 0) -> Draw:
    """Standard normal deviates of the devices ``first, first + 1, …`` (row-major addresses)."""
    from scipy.special import ndtri

    count = prod(shape)
    bits = np.random.Philox(key=_key(seed, quantity))
    bits.advance(first // 4)  # one Philox block holds four words
    words = bits.random_raw(first % 4 + count)[first % 4 :]
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    uniform = np.minimum(uniform, 1 - 2.0**-53)  # the last word of all rounds up to 1: an infinite deviate
    deviates: Draw = ndtri(uniform).reshape(shape)
    return deviates


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


def _key(seed: int, quantity: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{quantity}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")
