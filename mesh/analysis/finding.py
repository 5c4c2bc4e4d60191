"""What an analysis says: traps, each found by one check with a code that never changes its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mesh.analysis.view import View
from mesh.model import ObjectRef

Severity = Literal["Error", "Warning", "Info"]

#: The worst first.
SEVERITIES: tuple[Severity, ...] = ("Error", "Warning", "Info")


class Trap(NamedTuple):
    """One place where a check found what it looks for. `field` is a path in the object."""

    object: ObjectRef
    field: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """`title` says in one line what it looks for."""

    code: str
    severity: Severity
    title: str
    find: Callable[[View], Iterable[Trap]]


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    severity: Severity
    trap: Trap

    def plain(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "object": str(self.trap.object),
            "field": self.trap.field,
            "message": self.trap.message,
            "remedy": self.trap.remedy,
        }


def where(field: str) -> str:
    """The path of a rule in its object: the model leaves out the `spec.` that all of them share."""
    return field if field.startswith(("spec", "metadata")) else f"spec.{field}"


def some(names: Iterable[object], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    texts = list(map(str, names))
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")
