"""The client's end of the delta protocol: wildcard subscriptions to a few types over one stream.

It knows what it accepted and what was delivered but never accepted, so that a new connection
begins where the last one broke off. It does not know what the resources mean nor keep them, and
it opens no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mesh.discovery.resource import Resource
from mesh.discovery.wire import DeltaRequest, DeltaResponse, WireError

_NOTHING: Mapping[str, Mapping[str, str]] = MappingProxyType({})
#: The version we claim for what was delivered but not accepted: it equals no version, so the server
#: sends the resource again or says that it is gone.
_DOUBTFUL = "not accepted"


@dataclass(frozen=True, slots=True)
class Update:
    """What one response changes: resources by name, and names that are gone. `connection` counts
    the calls of `connect`; an update is only answered on the connection it came by."""

    type_url: str
    nonce: str
    changed: Mapping[str, Resource]
    removed: tuple[str, ...] = ()
    connection: int = 0


class Subscriber:
    """Feed it responses, answer each update with `ack` or `nack`, in any order and at any time.

    An update that was not acknowledged when its connection ended is delivered again in its newest
    form, or as a removal, so the caller may have applied it or not.
    """

    def __init__(
        self, node: str, types: Sequence[str], known: Mapping[str, Mapping[str, str]] = _NOTHING
    ) -> None:
        """`known`: type -> name -> version that the caller holds from an earlier life."""
        self._node = node
        self._known = {type_url: dict(known.get(type_url, {})) for type_url in types}
        self._doubtful: dict[str, set[str]] = {type_url: set() for type_url in types}
        self._connection = 0

    def connect(self) -> list[bytes]:
        """The first requests of a new connection, one for each type; only the first has the node."""
        self._connection += 1
        return [
            DeltaRequest(
                type_url,
                None if index else self._node,
                subscribe=("*",),
                initial_versions=known | dict.fromkeys(self._doubtful[type_url], _DOUBTFUL),
            ).encode()
            for index, (type_url, known) in enumerate(self._known.items())
        ]

    def receive(self, response: bytes) -> Update:
        """Read one response. Raises `wire.WireError` if it is malformed or of a type that was not
        subscribed to: the connection is then of no more use."""
        message = DeltaResponse.decode(response)
        if message.type_url not in self._known:
            raise WireError(f"a response of type {message.type_url!r}, which was not asked for")
        changed = {name: Resource(name, version, any_) for name, version, any_ in message.resources}
        self._doubtful[message.type_url].update(changed, message.removed)
        return Update(message.type_url, message.nonce, changed, message.removed, self._connection)

    def ack(self, update: Update) -> bytes:
        """The request that accepts an update; b"" (send nothing) if its connection is gone."""
        if update.connection != self._connection:
            return b""
        known, doubtful = self._known[update.type_url], self._doubtful[update.type_url]
        for name, resource in update.changed.items():
            known[name] = resource.version
            doubtful.discard(name)
        for name in update.removed:
            known.pop(name, None)
            doubtful.discard(name)
        return DeltaRequest(update.type_url, nonce=update.nonce).encode()

    def nack(self, update: Update, message: str) -> bytes:
        """The request that refuses an update, with the reason for the server's user; b"" as above."""
        if update.connection != self._connection:
            return b""
        return DeltaRequest(update.type_url, nonce=update.nonce, error=message).encode()
