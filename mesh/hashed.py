"""Values that are looked up often and hash slowly: they remember it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


class Hashed:
    """For frozen dataclasses with slots; they say `__hash__ = Hashed.__hash__`, or get another."""

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            own: Any = self
            found = hash(tuple(getattr(self, field.name) for field in fields(own) if field.compare))
            object.__setattr__(self, "_hash", found)
            return found


class HashedTuple(tuple[T, ...]):
    """A long one, whose hash is asked for again and again."""

    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()
            return self._hash
