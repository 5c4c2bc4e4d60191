"""Indexes: a key, and the set of what stands under it."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def discard(index: defaultdict[K, set[V]], key: K, value: V) -> None:
    """Take a value out of an index, and the key with the last one: an index holds what is there."""
    index[key].discard(value)
    if not index[key]:
        del index[key]
