"""What the agent reads of Envoy's access records, one kind of them."""

from __future__ import annotations

from collections.abc import Iterator

from agent.access_log import LoggedConnection, LoggedRequest, entries


def requests(message: bytes) -> Iterator[LoggedRequest]:
    return (found for found in entries(message) if isinstance(found, LoggedRequest))


def connections(message: bytes) -> Iterator[LoggedConnection]:
    return (found for found in entries(message) if isinstance(found, LoggedConnection))
