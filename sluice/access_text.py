"""How an access reads: a word for its outcome, a line for what decides it, and who has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from mesh.answers.matrix import Column, Matrix, by_access
from mesh.answers.reach import Access
from sluice.paint import Paint

Outcome = Literal["kernel", "envoy", "partly", "deny"]

#: The order in which outcomes are told.
_OUTCOMES: tuple[Outcome, ...] = ("kernel", "envoy", "partly", "deny")


def outcome_of(access: Access) -> Outcome:
    return access.verdict if access.verdict in ("deny", "partly") else access.path


def short(access: Access) -> str:
    """Such as `allow, kernel`; a denied connection has no path."""
    verdict = {"allow": "allow", "partly": "by request", "deny": "deny"}[access.verdict]
    return verdict if access.verdict == "deny" else f"{verdict}, {access.path}"


def deciding(access: Access) -> str:
    """The rules, then the routes."""
    keys = [rule if " " in rule.partition(" ")[2] else f"{rule} (default)" for rule in access.rules]
    if not access.rules:
        keys.append("no policy has a say")
    return "; ".join([*keys, *(f"routed by {route}" for route in access.routes)])


def names(texts: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 3 more`."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def who(matrix: Matrix, paint: Paint) -> str:
    """Each port, and under it who gets what there: those that are let in first."""
    return "\n".join(line for column in matrix.columns for line in _column(matrix, column, paint))


def _column(matrix: Matrix, column: Column, paint: Paint) -> Iterator[str]:
    services = f"  (Service {names(column.services)})" if column.services else ""
    yield paint(column.label, "bold") + services
    found = sorted(by_access(column).items(), key=lambda entry: _OUTCOMES.index(outcome_of(entry[0])))
    for access, callers in found:
        outcome = paint(short(access).ljust(18), outcome_of(access))
        yield f"  {outcome}{names([matrix.callers[index].name for index in callers], 8)}"
        yield paint(f"  {' ' * 18}{deciding(access)}", "dim")
