"""Maglev's look-up table (Eisenbud et al., NSDI 2016, section 3.4): which backend a hash meets.

Backends get almost equal shares, and one that comes or goes moves almost only its own share. The
table depends on the set of backends alone, so every node computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: Primes; the paper asks for a hundred entries a backend, we settle for 25 (shares within 4 %).
SIZES = (1, 31, 127, 251, 509, 1021, 2039, 4093, 8191, 16381)
ENTRIES_PER_BACKEND = 25


def size_for(backends: int) -> int:
    """Entries of the table for that many backends; 0 for none."""
    if backends <= 1:
        return backends
    wanted = backends * ENTRIES_PER_BACKEND
    return next((size for size in SIZES[1:] if size >= wanted), SIZES[-1])


def table(backends: Sequence[object], size: int) -> list[int]:
    """For each of `size` entries the index of its backend; `size` is prime, or 1."""
    if not backends:
        return []
    if len(backends) == 1 or size == 1:
        return [0] * size
    offsets: list[int] = []
    skips: list[int] = []
    for backend in backends:
        digest = hashlib.blake2b(repr(backend).encode(), digest_size=16).digest()
        offsets.append(int.from_bytes(digest[:8], "big") % size)
        skips.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
    # Whoever comes first takes a contested entry: order by content, not by position.
    order = sorted(range(len(backends)), key=lambda i: repr(backends[i]))
    entries = [-1] * size
    filled = 0
    while True:
        for i in order:
            position = offsets[i]
            while entries[position] >= 0:
                position = (position + skips[i]) % size
            entries[position] = i
            offsets[i] = (position + skips[i]) % size
            filled += 1
            if filled == size:
                return entries
