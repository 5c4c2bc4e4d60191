"""What the control plane has said, generation by generation.

Responses are staged; only a Generation record, the last of every push, makes what came before it complete,
and only complete generations leave this file. One of which a part cannot be read is refused whole: half of it
could allow what neither it nor the one before allows (threats N20, N57). What has not been mentioned yet is
not known; it was not removed. This file knows neither the kernel nor Envoy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mesh.discovery.resource import Resource
from mesh.discovery.subscriber import Update
from mesh.discovery.wire import unpack_any
from mesh.node import Generation, Manifest, Record
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, NODE_TYPES, decode


@dataclass(frozen=True, slots=True)
class Held:
    """A resource as it came, and the record in it. A body is no record: its `any` is Envoy's resource."""

    resource: Resource
    record: Record | None


@dataclass(frozen=True, slots=True)
class Change:
    """One record of a new generation: what it was and what it is, None where there is none."""

    type_url: str
    name: str
    old: Record | None
    new: Record | None


class Overtaken(Exception):
    """A generation stands in the desired tables in part and cannot go through, and there is a newer one. Who
    starts anew begins with what was in force and with that one."""


_Staged = dict[str, dict[str, Held | None]]


class Records:
    """The records in force, and those of newer generations on their way there."""

    def __init__(self) -> None:
        self._applied: dict[str, dict[str, Held]] = {type_url: {} for type_url in NODE_TYPES}
        self._staged: _Staged = {}
        self._complete: _Staged = {}
        self._begun: _Staged | None = None
        self._newest: Generation | None = None
        self._bodies: dict[str, Resource] = {}
        #: (type URL, name) -> why what came last under that name cannot be read.
        self._unread: dict[tuple[str, str], str] = {}

    def receive(self, update: Update) -> Generation | None:
        """Stage one response; the generation, if the response completes one. Raises ValueError for
        records that cannot be read, and for every generation until they came again or are gone."""
        type_url = update.type_url
        staged: dict[str, Held | None] = dict.fromkeys(update.removed)
        unread: dict[tuple[str, str], str] = {}
        for name, resource in update.changed.items():
            try:
                staged[name] = hold(type_url, resource)
            except ValueError as error:
                unread[type_url, name] = str(error)
        for name in staged:
            self._unread.pop((type_url, name), None)
        self._unread |= unread
        if type_url == GENERATION_TYPE and staged and self._unread:
            why = next(iter(self._unread.values()))
            raise ValueError(f"{len(self._unread)} records of the generation cannot be read, such as: {why}")
        self._staged.setdefault(type_url, {}).update(staged)
        if type_url == BODY_TYPE:
            self._keep_bodies(staged)
        if unread:
            raise ValueError("; ".join(unread.values()))
        if type_url != GENERATION_TYPE or not update.changed:
            return None
        for type_url, names in self._staged.items():
            self._complete.setdefault(type_url, {}).update(names)
        self._staged = {}
        self._newest = next(h.record for h in staged.values() if h and isinstance(h.record, Generation))
        return self._newest

    @property
    def unread(self) -> tuple[str, ...]:
        """Why no newer generation counts."""
        return tuple(sorted(set(self._unread.values())))

    def restore(self, held: Mapping[str, Mapping[str, Held]]) -> None:
        """Stage everything of an earlier life as one complete generation."""
        for type_url, names in held.items():
            self._complete.setdefault(type_url, {}).update(names)
        self._keep_bodies(held.get(BODY_TYPE, {}))
        for entry in held.get(GENERATION_TYPE, {}).values():
            if isinstance(entry.record, Generation):
                self._newest = entry.record

    def begin(self) -> tuple[Generation, list[Manifest]] | None:
        """Begin the newest complete generation, unless one is begun already: its number and the
        manifests it consists of."""
        if self._begun is not None or self._newest is None or not self._complete:
            return None
        self._begun, self._complete = self._complete, {}
        manifests = dict(self._applied[MANIFEST_TYPE])
        for name, held in self._begun.get(MANIFEST_TYPE, {}).items():
            if held is None:
                manifests.pop(name, None)
            else:
                manifests[name] = held
        return self._newest, [h.record for h in manifests.values() if isinstance(h.record, Manifest)]

    def begun(self) -> Iterator[Change]:
        """What the generation that has begun changes, bodies aside; the control plane's order."""
        for type_url in NODE_TYPES:
            for name, held in (self._begun or {}).get(type_url, {}).items():
                old = self._applied[type_url].get(name)
                if type_url != BODY_TYPE:
                    yield Change(type_url, name, old.record if old else None, held.record if held else None)

    @property
    def overtaken(self) -> bool:
        """Is a newer generation complete than the one that has begun?"""
        return self._begun is not None and bool(self._complete)

    def finish(self) -> None:
        """The generation that has begun is in force."""
        for type_url, names in (self._begun or {}).items():
            for name, held in names.items():
                if held is None:
                    self._applied[type_url].pop(name, None)
                else:
                    self._applied[type_url][name] = held
        self._begun = None

    def applied(self) -> dict[str, dict[str, Held]]:
        """A copy of the records in force: type URL -> name -> record."""
        return {type_url: dict(names) for type_url, names in self._applied.items()}

    def versions(self) -> dict[str, dict[str, str]]:
        """Type URL -> name -> version of all that is complete, for the next connection's start."""
        versions = {
            type_url: {name: held.resource.version for name, held in names.items()}
            for type_url, names in self._applied.items()
        }
        for changes in (self._begun or {}, self._complete):
            for type_url, names in changes.items():
                for name, held in names.items():
                    if held is None:
                        versions[type_url].pop(name, None)
                    else:
                        versions[type_url][name] = held.resource.version
        return versions

    def body(self, content: str) -> Resource | None:
        """Envoy's resource (an encoded Any, under the content hash as name and version)."""
        return self._bodies.get(content)

    def forget_bodies(self, in_use: set[str]) -> None:
        """Drop bodies that the control plane has withdrawn and nothing uses any more."""
        wanted = set(self._applied[BODY_TYPE]) | in_use
        for changes in (self._begun or {}, self._complete, self._staged):
            wanted.update(name for name, held in changes.get(BODY_TYPE, {}).items() if held)
        for name in self._bodies.keys() - wanted:
            del self._bodies[name]

    def _keep_bodies(self, held: Mapping[str, Held | None]) -> None:
        for name, entry in held.items():
            if entry is not None:
                self._bodies[name] = Resource(name, name, entry.resource.any)


def hold(type_url: str, resource: Resource) -> Held:
    """The resource with its record decoded, or, for a body, without its outer Any. Raises ValueError
    for a malformed one."""
    found, body = unpack_any(resource.any)
    if found != type_url:
        raise ValueError(f"{resource.name} is a {found or 'resource without a type'}, expected {type_url}")
    if type_url == BODY_TYPE:
        return Held(Resource(resource.name, resource.version, body), None)
    return Held(resource, decode(type_url, body))
