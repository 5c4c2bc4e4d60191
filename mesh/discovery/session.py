"""The server's end of one discovery stream, state of the world or delta, without the stream.

It knows the order of types and what waits for what, so that no client ever sees a reference before
its target or loses a target before its reference, and no ACK waits for something that was not
sent. It does not know what resources mean, when bytes are written, or what time it is.

Envoy holds the ACK of a changed cluster until it gets that cluster's endpoints, changed or not, and
asks for them in no way: a server that waits to be asked stalls 15 s. Hence `forced`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from mesh.discovery.envoy import FORCED, REMOVED_LAST, referred
from mesh.discovery.resource import Resource, Snapshot
from mesh.discovery.watch import Flight, Watch
from mesh.discovery.wire import DeltaRequest, DiscoveryRequest


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The client changed (or began) its subscription to a type."""

    type_url: str


@dataclass(frozen=True, slots=True)
class Acked:
    """The client accepted a response: `versions` is name -> version of what that one sent anew."""

    type_url: str
    nonce: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Nacked:
    """The client refused a response with `names` in it and keeps what it had. With one name that
    resource is guilty; with more, and if the type is Envoy's, parts follow until there is one. None:
    the client had accepted the response, and now says what came of it."""

    type_url: str
    nonce: str
    message: str
    names: tuple[str, ...]


Event = Subscribed | Acked | Nacked
_NO_RESOURCES: Mapping[str, Resource] = {}


class _Step(NamedTuple):
    type_url: str
    changes: bool
    removals: bool


class Session:
    """Feed it requests with `receive` and snapshots with `update`, write what `send` returns until
    it returns None, after each of the two. Nothing is sent before the first `update`."""

    def __init__(self, order: Sequence[str], *, delta: bool, forced: Mapping[str, str] = FORCED) -> None:
        """`order`: type URLs, what is referred to before what refers to it. With a single one,
        requests need not name it (the services for one type). Others that a client asks for are
        served after them. `forced`: type -> later type that its ACK waits for."""
        self.node = ""
        self._order = list(order)
        self._only = order[0] if len(order) == 1 else ""
        self._delta = delta
        self._forced = forced
        self._watches: dict[str, Watch] = {}
        #: Those of the types that the client has asked for.
        self._steps: list[tuple[_Step, Watch]] = []
        self._referred: defaultdict[str, set[str]] = defaultdict(set)
        self._snapshot: Snapshot | None = None
        self._nonce = 0

    def receive(self, request: bytes) -> list[Event]:
        """Read one request. Raises `wire.WireError` if it is malformed; the stream must then end."""
        return self._receive_delta(request) if self._delta else self._receive_world(request)

    def update(self, snapshot: Snapshot) -> None:
        """The newest snapshot replaces any that is not sent yet. A type it lacks has no resources."""
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        for type_url, watch in self._watches.items():
            watch.update(snapshot.get(type_url, _NO_RESOURCES))

    def send(self) -> bytes | None:
        """The next response, or None if there is nothing to say before the next request or snapshot.

        It always begins at the first type with something to say; while that type's last response
        has no ACK, nothing after it goes. A parent in `forced` holds up what follows even with no
        more to say, for its ACK means warm: no route may lead to a cluster that is not. Only its
        child passes, which that ACK may be waiting for.
        """
        if self._snapshot is None:
            return None
        passing: str | None = None
        for step, watch in self._steps:
            if passing not in (None, step.type_url):
                continue
            changes = step.changes and watch.due(removals=False)
            removals = step.removals and watch.due(removals=True)
            is_due = (changes or removals) and (step.changes or self._is_unreferred(step.type_url))
            if watch.flight is None:
                if is_due:
                    return self._take(watch, step)
            elif step.type_url in self._forced and passing is None:
                passing = self._forced[step.type_url]
            elif is_due:
                return None
        return None

    def acked(self, type_url: str) -> Mapping[str, str]:
        """Name -> version of what the client has accepted and still holds."""
        watch = self._watches.get(type_url)
        return dict(watch.accepted) if watch else {}

    def rejected(self, type_url: str) -> Mapping[str, str]:
        """Name -> version of what the client has refused and was not sent in another version since."""
        watch = self._watches.get(type_url)
        return dict(watch.rejected) if watch else {}

    def settled(self) -> bool:
        """Was the newest snapshot, as far as the client subscribed to it, sent and accepted whole?"""
        return self._snapshot is not None and not any(
            watch.flight or watch.rejected or watch.due(removals=False) or watch.due(removals=True)
            for watch in self._watches.values()
        )

    def _take(self, watch: Watch, step: _Step) -> bytes:
        self._nonce += 1
        response, fresh = watch.take(str(self._nonce), changes=step.changes, removals=step.removals)
        child_type = self._forced.get(step.type_url)
        if child_type is not None:
            names = {name for resource in fresh for name in referred(resource)}
            self._referred[child_type] |= names
            child = self._watches.get(child_type)
            if child is not None:
                for name in names:
                    child.force(name)
        return response

    def _is_unreferred(self, type_url: str) -> bool:
        """Has the client let go of every reference to what is to be removed? Where it refused a
        newer listener or route, the last good one is served and may need it."""
        first, last = self._order.index(type_url), self._order.index(REMOVED_LAST[type_url])
        later = (self._watches.get(type_url) for type_url in self._order[first + 1 : last + 1])
        earlier = (self._watches.get(type_url) for type_url in self._order[:first])
        return not any(watch and (watch.flight or watch.rejected) for watch in later) and not any(
            watch and watch.flight for watch in earlier
        )

    def _watch(self, type_url: str) -> tuple[Watch, bool]:
        watch = self._watches.get(type_url)
        if watch is not None:
            return watch, False
        if type_url not in self._order:
            self._order.append(type_url)
        resources = self._snapshot.get(type_url, _NO_RESOURCES) if self._snapshot else _NO_RESOURCES
        expected = self._referred[type_url]
        watch = self._watches[type_url] = Watch(type_url, resources, expected, delta=self._delta)
        steps = _steps(tuple(self._order))
        self._steps = [(s, self._watches[s.type_url]) for s in steps if s.type_url in self._watches]
        return watch, True

    def _receive_delta(self, message: bytes) -> list[Event]:
        request = DeltaRequest.decode(message)
        self.node = self.node or request.node_id or ""
        watch, first = self._watch(request.type_url or self._only)
        events: list[Event] = []
        if watch.flight is not None and watch.flight.nonce == request.nonce:
            events.append(_answer(watch, watch.flight, request.error))
        elif request.error is not None and request.nonce == watch.nonce:
            # A second thought: what it accepted turned out badly where it was put to use.
            events.append(Nacked(watch.type_url, request.nonce, request.error, ()))
        changed = watch.subscribe(request.subscribe, request.initial_versions, first=first)
        changed |= watch.unsubscribe(request.unsubscribe)
        if changed:
            events.append(Subscribed(watch.type_url))
        return events

    def _receive_world(self, message: bytes) -> list[Event]:
        request = DiscoveryRequest.decode(message)
        self.node = self.node or request.node_id or ""
        watch, first = self._watch(request.type_url or self._only)
        events: list[Event] = []
        if not first and request.nonce != watch.nonce:
            return events  # Stale: the client has yet to see our last response, and will say all of it again.
        if watch.flight is not None and watch.flight.nonce == request.nonce:
            events.append(_answer(watch, watch.flight, request.error))
        if watch.ask(request.names, first=first):
            events.append(Subscribed(watch.type_url))
        return events


def _answer(watch: Watch, flight: Flight, error: str | None) -> Event:
    if error is None:
        watch.ack(flight)
        return Acked(watch.type_url, flight.nonce, flight.versions)
    watch.nack(flight)
    return Nacked(watch.type_url, flight.nonce, error, tuple(flight.versions))


@lru_cache(maxsize=64)
def _steps(order: tuple[str, ...]) -> tuple[_Step, ...]:
    """Make before break: removals of a type in `REMOVED_LAST` go after the type named there."""
    steps: list[_Step] = []
    for index, type_url in enumerate(order):
        late = REMOVED_LAST.get(type_url) in order[index + 1 :]
        steps.append(_Step(type_url, changes=True, removals=not late))
        steps.extend(
            _Step(earlier, changes=False, removals=True)
            for earlier in order[:index]
            if REMOVED_LAST.get(earlier) == type_url
        )
    return tuple(steps)
