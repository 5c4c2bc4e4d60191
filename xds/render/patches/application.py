"""A proxy's resources, changed by its EnvoyFilters. Remembered by resource and patches, so that a patched
proxy costs more only where something changed, and one without patches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import betterproto2
from envoy_data_plane.google.protobuf import Any as AnyMessage

from mesh.discovery.envoy import CLUSTER, ENDPOINTS
from mesh.model import EnvoyPatch, ObjectRef, PatchContext, Problem
from mesh.proxy import ProxyView
from xds.render.encoding import encode
from xds.render.patches import guard
from xds.render.patches.operations import change
from xds.render.patches.places import TYPES, Scene, means, scene
from xds.render.patches.values import Unreadable, type_of, value_of
from xds.render.resource import EnvoyResource


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch and whose it is."""

    origin: ObjectRef
    patch: EnvoyPatch

    @property
    def key(self) -> str:
        return f"{self.origin} {self.patch.field}"

    def fault(self, message: str) -> Problem:
        return Problem(self.origin, f"spec.{self.patch.field}", message)


@dataclass(frozen=True, slots=True)
class _Result:
    """`any` is empty where the resource is removed."""

    any: bytes
    origins: tuple[ObjectRef, ...]
    faults: tuple[Problem, ...]


def patched(resources: Iterable[EnvoyResource], view: ProxyView) -> Iterable[EnvoyResource]:
    """Equal resources and views give equal bytes."""
    patches = tuple(Patch(part.origin, patch) for part in view.patches for patch in part.patches)
    found = {(resource.type_url, resource.name): resource for resource in resources}
    for key, resource in list(found.items()):
        if (changed := _patched(resource, view, patches)) is not None:
            found[key] = changed
            continue
        del found[key]
        if resource.type_url == CLUSTER:
            found.pop((ENDPOINTS, resource.name), None)
    _add(found, patches, _sides(view))
    return found.values()


def _patched(resource: EnvoyResource, view: ProxyView, patches: tuple[Patch, ...]) -> EnvoyResource | None:
    place = scene(resource, view)
    meant = tuple(
        one
        for one in patches
        if TYPES[one.patch.target] == resource.type_url
        and not _adds_resource(one.patch)
        and place is not None
        and means(one.patch, one.key, place, resource.name)
    )
    if not meant or place is None:
        return resource
    result = _changed(resource.any, place, meant)
    if not result.any:
        return None
    if result.any == resource.any:
        return replace(resource, faults=result.faults) if result.faults else resource
    origins = tuple(sorted({*resource.origins, *result.origins}))
    return replace(resource, any=result.any, origins=origins, unpatched=resource.any, faults=result.faults)


@lru_cache(maxsize=8192)
def _changed(resource: bytes, place: Scene, patches: tuple[Patch, ...]) -> _Result:
    packed = AnyMessage.parse(resource)
    kind = type_of(packed.type_url)
    assert kind is not None
    # A listener is encoded in parts, in another order than that of its fields.
    current = bytes(kind.parse(packed.value))
    origins: list[ObjectRef] = []
    faults: list[Problem] = []
    for one in patches:
        before = kind.parse(current)
        try:
            after = change(kind.parse(current), one.patch, place)
        except Unreadable as error:
            faults.append(one.fault(str(error)))
            continue
        objection = guard.objection(before, after) if after is not None else guard.removal(before)
        if objection:
            faults.append(one.fault(objection))
            continue
        if after is None:
            return _Result(b"", (*origins, one.origin), tuple(faults))
        new = bytes(after)
        if new != current:
            origins.append(one.origin)
            current = new
    return _Result(_packed(kind, current) if origins else resource, tuple(origins), tuple(faults))


def _packed(kind: type[betterproto2.Message], value: bytes) -> bytes:
    return encode(kind.parse(value))


def _add(
    found: dict[tuple[str, str], EnvoyResource], patches: tuple[Patch, ...], sides: frozenset[PatchContext]
) -> None:
    """Resources of EnvoyFilters' own."""
    for one in patches:
        if not _adds_resource(one.patch) or not any(map(one.patch.concerns, sides)):
            continue
        value = value_of(one.patch)
        type_url, name = TYPES[one.patch.target], str(getattr(value, "name", ""))
        known = found.get((type_url, name))
        if known is None:
            found[type_url, name] = EnvoyResource(type_url, name, encode(value), (one.origin,), b"")
        else:
            fault = one.fault(f"cannot add {name}: there is one of this name")
            found[type_url, name] = replace(known, faults=(*known.faults, fault))


def _adds_resource(patch: EnvoyPatch) -> bool:
    return patch.operation == "ADD" and patch.target == "CLUSTER"


def _sides(view: ProxyView) -> frozenset[PatchContext]:
    if view.gateway:
        return frozenset(("GATEWAY",))
    return frozenset(("SIDECAR_INBOUND", "SIDECAR_OUTBOUND"))
