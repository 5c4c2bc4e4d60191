"""Filters of WasmPlugins. A listener says where one stands; what it is comes by extension discovery, so that
a new module or configuration binds live connections (rule 6) and a module is sent once for all listeners.

Where there is no module a stand-in is served: requests get 503, or pass if the plugin may fail open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakValueDictionary

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    AsyncDataSource,
    DataSource,
    ExtensionConfigSource,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.http.wasm.v3 import Wasm
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.wasm.v3 import (
    EnvironmentVariables,
    FailurePolicy,
    PluginConfig,
    VmConfig,
)
from envoy_data_plane.google.protobuf import StringValue

from mesh.discovery.envoy import EXTENSION
from mesh.model import EnvoyPatch, FailStrategy, PatchContext, PluginPhase
from mesh.proxy import L7Class, PluginPart
from mesh.routes.envoy_filters import inbound_port
from xds.render import naming
from xds.render.encoding import encode, typed
from xds.render.resource import EnvoyResource
from xds.render.sources import ads

_POLICIES: dict[FailStrategy, FailurePolicy] = {
    "FAIL_CLOSE": FailurePolicy.FAIL_CLOSED,
    "FAIL_OPEN": FailurePolicy.FAIL_OPEN,
    "FAIL_RELOAD": FailurePolicy.FAIL_RELOAD,
}
_REFUSING = """function envoy_on_request(handle)
  handle:respond({[":status"] = "503"}, "a filter of this request is not there\\n")
end
"""
#: What may come by discovery.
_KINDS: tuple[type[betterproto2.Message], ...] = (Wasm, Lua, Rbac)
#: Encoded once, though many pods have it, and gone with the last of them: a module is large.
_made: WeakValueDictionary[PluginPart, EnvoyResource] = WeakValueDictionary()


class Slot(NamedTuple):
    """What a listener knows of a plugin. `ports` are those of Services or of a Gateway (0: each)."""

    phase: PluginPhase
    name: str
    ports: frozenset[int] = frozenset((0,))


def slots(parts: Iterable[PluginPart], context: PatchContext) -> tuple[Slot, ...]:
    """The plugins on a side, in order."""
    found = ((part, [p for p in part.patches if p.concerns(context)]) for part in parts)
    return tuple(
        Slot(part.phase, naming.plugin(part.origin), frozenset(map(inbound_port, patches)))
        for part, patches in found
        if patches
    )


def at_port(found: Iterable[Slot], port: int) -> tuple[Slot, ...]:
    """Those that stand at a port; 0: at each."""
    return tuple(slot._replace(ports=frozenset((0,))) for slot in found if slot.ports & {0, port})


def of_class(parts: Iterable[PluginPart], l7: L7Class) -> tuple[Slot, ...]:
    """Those that requests of a class meet. A connection of an egress class was made to a backend, at whose
    port no Service is."""
    if l7.direction == "egress":
        return at_port(slots(parts, "SIDECAR_OUTBOUND"), 0)
    keys = {str(key) for key in l7.patches}
    return tuple(
        Slot(part.phase, naming.plugin(part.origin))
        for part in parts
        if any(_is_for(part, patch, keys) for patch in part.patches)
    )


def _is_for(part: PluginPart, patch: EnvoyPatch, keys: set[str]) -> bool:
    named = not inbound_port(patch) or f"{part.origin} {patch.field}" in keys
    return patch.concerns("SIDECAR_INBOUND") and named


def standing(found: Iterable[Slot], *phases: PluginPhase) -> tuple[HttpFilter, ...]:
    """The filters of those phases, of all if none is named."""
    return tuple(_filter(slot.name) for slot in found if not phases or slot.phase in phases)


def _filter(name: str) -> HttpFilter:
    urls = [typed(kind()).type_url for kind in _KINDS]
    return HttpFilter(name=name, config_discovery=ExtensionConfigSource(config_source=ads(), type_urls=urls))


def resource(part: PluginPart) -> EnvoyResource:
    """What stands in for it is what the resource would be if Envoy refused the module."""
    if (known := _made.get(part)) is not None:
        return known
    name = naming.plugin(part.origin)
    instead = _extension(name, Rbac() if part.on_failure == "FAIL_OPEN" else _refusing())
    if part.code:
        found = EnvoyResource(EXTENSION, name, _extension(name, _wasm(part)), (part.origin,), instead)
    else:
        found = EnvoyResource(EXTENSION, name, instead, (part.origin,), stand_in=True)
    _made[part] = found
    return found


def _extension(name: str, message: betterproto2.Message) -> bytes:
    return encode(TypedExtensionConfig(name=name, typed_config=typed(message)))


def _refusing() -> Lua:
    return Lua(default_source_code=DataSource(inline_string=_REFUSING))


def _wasm(part: PluginPart) -> Wasm:
    code = AsyncDataSource(local=DataSource(inline_bytes=part.code))
    machine = VmConfig(runtime=naming.V8, code=code)
    if part.environment:
        machine.environment_variables = EnvironmentVariables(key_values=dict(part.environment))
    config = PluginConfig(
        name=f"{part.origin.namespace}.{part.origin.name}",
        root_id=part.name,
        vm_config=machine,
        failure_policy=_POLICIES[part.on_failure],
    )
    if part.config:
        config.configuration = typed(StringValue(value=part.config))
    return Wasm(config=config)
