"""Secrets by name and kind. Envoy itself prints `[redacted]` for what is private."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.proxy_text.dump import Data, part
from sluice.proxy_text.wanted import Wanted

HEAD = ("RESOURCE NAME", "TYPE", "STATUS")

_STATUS = {
    "static_secrets": "STATIC",
    "dynamic_active_secrets": "ACTIVE",
    "dynamic_warming_secrets": "WARMING",
}
_TYPE = {
    "tls_certificate": "Cert Chain",
    "validation_context": "CA",
    "session_ticket_keys": "Ticket Keys",
    "generic_secret": "Generic",
}


def select(dump: Data, _: Wanted) -> list[Data]:
    """The SecretsConfigDump, if it holds any."""
    found = part(dump, "SecretsConfigDump")
    return [found] if any(state in found for state in _STATUS) else []


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    return sorted(
        (entry.get("name", ""), _type(entry.get("secret", {})), status)
        for found in selected
        for state, status in _STATUS.items()
        for entry in found.get(state, ())
    )


def _type(secret: Data) -> str:
    return next((_TYPE[kind] for kind in _TYPE if kind in secret), "-")
