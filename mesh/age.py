"""Which object came first, where only one of several counts."""

from __future__ import annotations

from typing import Protocol

from mesh.model import ObjectRef


class Dated(Protocol):
    @property
    def created(self) -> str:
        """RFC 3339; empty if it is not known."""

    @property
    def ref(self) -> ObjectRef: ...


def age(noun: Dated) -> tuple[str, ObjectRef]:
    """Sorts the oldest first, of one age by name."""
    return since(noun.created), noun.ref


def since(created: str) -> str:
    """Sorts the oldest first; without a time, behind all that have one."""
    return created or "9"
