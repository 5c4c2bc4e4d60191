"""How an access reads: one word for its outcome, one line for what decides it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mesh.reach import Access

Outcome = Literal["kernel", "envoy", "partly", "deny"]

#: What each outcome is called where there is room.
WORDS: dict[Outcome, str] = {
    "kernel": "allowed, by the kernel path",
    "envoy": "allowed, through Envoy",
    "partly": "request by request, in Envoy",
    "deny": "denied",
}


def outcome_of(access: Access) -> Outcome:
    return access.verdict if access.verdict in ("deny", "partly") else access.path


def short(access: Access) -> str:
    """Such as `allow, kernel`; a denied connection has no path."""
    verdict = {"allow": "allow", "partly": "by request", "deny": "deny"}[access.verdict]
    return verdict if access.verdict == "deny" else f"{verdict}, {access.path}"


def deciding(access: Access) -> str:
    """The rules, then the routes; without any, why there is none."""
    keys = [rule if " " in rule.partition(" ")[2] else f"{rule} (default)" for rule in access.rules]
    if not access.rules:
        keys.append("no policy selects either end")
    return "; ".join([*keys, *(f"routed by {route}" for route in access.routes)])


def names(texts: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 3 more`."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")
