"""One type on one stream, seen from the server: what the client asked for, was sent and accepted.

It decides which resources of its type are due and never when they may go: the order between types
is the session's business. Versions are compared, bytes are not looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache

from mesh.discovery.envoy import BY_NAME, ENDPOINTS, ENVOY_TYPES, EXTENSION, REMOVED_LAST, no_endpoints
from mesh.discovery.resource import Resource, content_version, differing
from mesh.discovery.wire import DeltaResponse, DiscoveryResponse, answered

#: Bytes of a resource up to which a response with nothing else is remembered.
_SMALL = 4096
#: The version of what the client was told does not exist.
_GONE = ""


@dataclass(frozen=True, slots=True)
class Flight:
    """A response that is neither accepted nor refused yet."""

    nonce: str
    versions: Mapping[str, str]
    removed: tuple[str, ...]


class Watch:
    """Due are: `_changed` and `_missing` (names asked for that do not exist) at once, `_gone` when
    the session lets removals go. What a parent's ACK waits for is due whatever its version
    (`_forced`). One response is in flight at most, so while the client is slow newer content
    replaces older."""

    def __init__(
        self,
        type_url: str,
        resources: Mapping[str, Resource],
        expected: Set[str] = frozenset(),
        *,
        delta: bool,
    ) -> None:
        """`expected`: names that a parent sent on this stream refers to (it may grow)."""
        self.type_url = type_url
        self.nonce = ""
        self.flight: Flight | None = None
        self.accepted: dict[str, str] = {}
        self.rejected: dict[str, str] = {}
        self._delta = delta
        #: State of the world: a response names every resource, and what it leaves out is gone.
        self._whole = not delta and type_url not in BY_NAME
        self._resources = resources
        self._expected = expected
        self._names: set[str] = set()
        self._wildcard = False
        self._legacy = False
        self._owed = False
        #: Before we break what the client holds from an earlier stream, it must have answered a response,
        #: be it an empty one: by then we heard of the listeners and routes it holds, and mended them.
        self._unheard = False
        self._sent: dict[str, str] = {}
        self._kept: dict[str, Resource] = {}
        self._changed: dict[str, Resource] = {}
        self._missing: set[str] = set()
        self._gone: set[str] = set()
        self._forced: set[str] = set()
        self._suspects: deque[tuple[str, ...]] = deque()

    # What the client asks for.

    def ask(self, names: tuple[str, ...], *, first: bool) -> bool:
        """Replace the subscription (state of the world). True if it is another one than before."""
        asked = set(names)
        if not asked and (self._legacy or (first and self.type_url not in BY_NAME)):
            asked, self._legacy = {"*"}, True
        else:
            self._legacy = False
        before = self._names | ({"*"} if self._wildcard else set())
        if asked == before:
            return first
        self._wildcard = "*" in asked
        self._names = asked - {"*"}
        for name in {*self._sent, *self._changed} if "*" in before else before:
            if not self._wants(name):
                self._forget(name)
        new = asked - before
        if self._whole and any(name not in self._sent for name in new):
            self._owed = True
        self._judge_all(self._resources if "*" in new else new)
        return True

    def subscribe(self, names: tuple[str, ...], initial: Mapping[str, str], *, first: bool) -> bool:
        """Add names (delta); `initial` is what the client holds from an earlier stream. A name that
        is asked for again is due again. True if that changes anything."""
        if not names and first and self.type_url not in BY_NAME:
            names = ("*",)
        for name in names:
            if name == "*":
                self._owed = self._owed or not (self._wildcard or initial)
                self._wildcard = True
            else:
                self._names.add(name)
                self._sent.pop(name, None)
        if first:
            self._unheard = bool(initial) and self.type_url in REMOVED_LAST
            # A parent that was sent before this request waits for its children, held or not.
            self._sent.update((name, held) for name, held in initial.items() if name not in self._expected)
            self.accepted.update(initial)
            for name in [name for name in initial if not (self._wildcard or name in self._names)]:
                self._forget(name)
        if "*" in names:
            self._judge_all([*self._sent, *self._resources])
        self._judge_all(self._names.intersection(names))
        return bool(names)

    def unsubscribe(self, names: tuple[str, ...]) -> bool:
        """Take names away (delta). True if that changes anything."""
        if "*" in names:
            self._wildcard = self._owed = False
        for name in self._names.intersection(names):
            self._names.discard(name)
            # The wildcard may cover it still, and the client cannot know: it is told.
            if self._wildcard and self._sent.get(name) != _GONE:
                self._sent.pop(name, None)
                self._judge(name)
                if name not in self._resources:
                    self._missing.add(name)
        for name in {*self._sent, *self._changed, *self._missing} if "*" in names else names:
            if not self._wants(name):
                self._forget(name)
        return bool(names)

    def _wants(self, name: str) -> bool:
        return self._wildcard or name in self._names

    def _forget(self, name: str) -> None:
        self._missing.discard(name)
        self._gone.discard(name)
        self._forced.discard(name)
        tables: tuple[dict[str, str] | dict[str, Resource], ...] = (
            self._sent,
            self._kept,
            self._changed,
            self.accepted,
            self.rejected,
        )
        for table in tables:
            table.pop(name, None)

    # What there is.

    def update(self, resources: Mapping[str, Resource]) -> None:
        """Take the newest resources of the type; costs nothing if it is the same mapping."""
        old = self._resources
        if resources is old:
            return
        self._resources = resources
        for name in differing(old, resources):
            if self._wants(name):
                self._judge(name)

    def force(self, name: str) -> None:
        """Make a subscribed name due though nothing changed, for a parent's ACK waits for it."""
        if self._wants(name):
            self._forced.add(name)
            self._judge(name)

    def _judge_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._judge(name)

    def _judge(self, name: str) -> None:
        resource, sent = self._resources.get(name), self._sent.get(name)
        self._changed.pop(name, None)
        self._missing.discard(name)
        self._gone.discard(name)
        awaited = name in self._forced
        if resource is None and self.type_url == ENDPOINTS:
            # The ACK of its cluster waits for it; in the state of the world nothing else ends that.
            if awaited or (sent is None and name in self._expected):
                resource = no_endpoints(name)
        if resource is not None:
            if awaited or resource.version != sent:
                self._changed[name] = resource
        elif sent is None:
            if self._delta and name in self._names:
                self._missing.add(name)
        elif sent != _GONE:
            if self.type_url == ENDPOINTS:
                if sent != no_endpoints(name).version:
                    self._gone.add(name)
            elif self.type_url == EXTENSION:
                # Connections of a listener that is going still meet it, and get 500 where it is taken away.
                self._forget(name)
            elif self._delta or self._whole:
                self._gone.add(name)
            else:  # Only absence from a whole set could say so, and this type has none.
                self._forget(name)

    # What is due.

    def due(self, *, removals: bool) -> bool:
        """Is there something to say, but for (or only) removals?"""
        if removals:
            return bool(self._gone)
        owed = self._owed or (self._unheard and self._gone)
        return bool(owed or self._changed or self._missing or self._next_suspects())

    def take(self, nonce: str, *, changes: bool, removals: bool) -> tuple[bytes, tuple[Resource, ...]]:
        """The next response, now in flight, and the resources in it that are new to the client."""
        changed: dict[str, Resource] = {}
        removed: set[str] = set()
        if changes:
            plain = self._owed or self._changed or self._missing or self._unheard
            if not plain and (suspects := self._next_suspects()):
                self._suspects.popleft()
                self._changed = {name: self._resources[name] for name in suspects}
            changed, self._changed = self._changed, {}
            removed, self._missing = self._missing, set()
            self._forced.clear()
            self._owed = self._unheard = False
        if removals:
            removed |= self._gone
            self._gone = set()
        self._sent.update((name, resource.version) for name, resource in changed.items())
        for name in removed:
            if name in self._names:
                self._sent[name] = _GONE
            else:
                self._sent.pop(name, None)
        self.nonce = nonce
        self.flight = Flight(
            nonce, {name: resource.version for name, resource in changed.items()}, tuple(sorted(removed))
        )
        return self._encode(changed), tuple(changed.values())

    def _encode(self, changed: Mapping[str, Resource]) -> bytes:
        assert self.flight
        nonce, removed = self.flight.nonce, self.flight.removed
        if self._whole:
            kept = {name: self._kept[name] for name in self._gone if name in self._kept}
            names = self._resources if self._wildcard else self._names & self._resources.keys()
            self._kept = kept | {name: self._resources[name] for name in names}
            content = self._kept
        elif self.type_url == ENDPOINTS:
            # Never known to the client: told so. Known: emptied.
            content = dict(changed)
            for name in removed:
                if name in self.accepted or not self._delta:
                    content[name] = no_endpoints(name)
            removed = tuple(name for name in removed if name not in content)
        else:
            content = dict(changed)
        if self._delta and len(content) == 1 and not removed:
            (resource,) = content.values()
            if len(resource.any) <= _SMALL:
                return answered(_alone(self.type_url, resource), nonce)
        version = _version(content, removed)
        if self._delta:
            return _delta(self.type_url, version, nonce, content.values(), removed).encode()
        anys = tuple(resource.any for resource in content.values())
        return DiscoveryResponse(self.type_url, version, nonce, anys).encode()

    # What the client says to it.

    def ack(self, flight: Flight) -> None:
        """The client accepted the response in flight."""
        self.flight = None
        for name, version in flight.versions.items():
            self.rejected.pop(name, None)
            if name in self._sent:
                self.accepted[name] = version
        for name in flight.removed:
            self.rejected.pop(name, None)
            self.accepted.pop(name, None)

    def nack(self, flight: Flight) -> None:
        """The client refused the response in flight and keeps what it had. The same content is not
        sent again, but for this (rule 27): of several Envoy resources the halves go next, and so on
        down to single ones, that the good are accepted and the guilty is named."""
        self.flight = None
        self.rejected.update(flight.versions)
        names = tuple(flight.versions)
        if len(names) > 1 and self._delta and self.type_url in ENVOY_TYPES:
            middle = len(names) // 2
            self._suspects.extend((names[:middle], names[middle:]))

    def _next_suspects(self) -> tuple[str, ...]:
        while self._suspects:
            names = tuple(name for name in self._suspects[0] if self._is_suspect(name))
            if names:
                return names
            self._suspects.popleft()
        return ()

    def _is_suspect(self, name: str) -> bool:
        resource = self._resources.get(name)
        return resource is not None and self.rejected.get(name) == resource.version


def _delta(
    type_url: str, version: str, nonce: str, content: Iterable[Resource], removed: tuple[str, ...] = ()
) -> DeltaResponse:
    resources = tuple((resource.name, resource.version, resource.any) for resource in content)
    return DeltaResponse(type_url, version, nonce, resources, removed)


def _version(content: Mapping[str, Resource], removed: tuple[str, ...]) -> str:
    """Of a response."""
    parts = (f"{name}\0{content[name].version}\0".encode() for name in sorted(content))
    return content_version((*parts, *(name.encode() for name in removed)))


@lru_cache(maxsize=1024)
def _alone(type_url: str, resource: Resource) -> bytes:
    """A response with one resource, but for its nonce: what one change says to a thousand streams."""
    version = _version({resource.name: resource}, ())
    return _delta(type_url, version, "", (resource,)).encode()
