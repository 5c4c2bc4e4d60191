"""What a patch must leave as it is: whatever judges connections and requests, and how they come to it.

An EnvoyFilter may do anything, but must not take a policy out of force by accident (invariants 5 and 6). And
it must not wait for resources that nobody serves, for a listener that never warms holds back its pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.cluster.v3 import ClusterEdsClusterConfig
from envoy_data_plane.envoy.config.core.v3 import (
    ConfigSource,
    DataSource,
    ExtensionConfigSource,
    PathConfigSource,
    Pipe,
    WatchedDirectory,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
    ScopedRoutes,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import SdsSecretConfig
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.render import naming
from xds.render.encoding import anatomy
from xds.render.patches.values import type_of

#: Filters that judge, or say what would be.
ENFORCING = frozenset(
    (
        naming.RBAC,
        naming.AUTHENTICATION,
        naming.CUSTOM,
        naming.DENY,
        naming.ALLOW,
        naming.AUDIT_ACTION,
        naming.AUDIT_RBAC,
        naming.AUDIT_DENY,
        naming.AUDIT_ALLOW,
        naming.RATE_LIMITS,
        naming.NETWORK_RBAC,
        naming.NETWORK_EXT_AUTHZ,
    )
)
_SOURCES = (Rds, ScopedRoutes, SdsSecretConfig, ClusterEdsClusterConfig, ExtensionConfigSource)
#: How an HTTP connection manager reads a request before anybody judges it.
_READING = (
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "path_normalization_options",
    "use_remote_address",
    "xff_num_trusted_hops",
    "skip_xff_append",
    "original_ip_detection_extensions",
    "internal_address_config",
    "strip_matching_host_port",
    "strip_any_host_port",
)
_STREAMS = ("/dev/stdout", "/dev/stderr")
_NOBODYS = "waits for {} over the discovery stream, where nobody serves it: write it inline"
_CLASS = ("virtualInbound|", "virtualOutbound|")
_CLASS_ROUTES = ("inbound|", "outbound|")


def objection(before: betterproto2.Message, after: betterproto2.Message) -> str:
    """Why a change must not be made; "": it may."""
    if _name(before) != _name(after):
        return f"would rename {_name(before)}, by which others refer to it"
    if _judges(before) != _judges(after):
        return f"would remove what enforces policy in {_name(before)}, or change it"
    if _structure(before) != _structure(after):
        return f"would change how connections come to what enforces policy in {_name(before)}"
    if news := Counter(_awaited(after)) - Counter(_awaited(before)):
        return _NOBODYS.format(next(iter(news)))
    return ""


def new(added: betterproto2.Message) -> str:
    """The same of a resource that was not there."""
    if not _name(added):
        return "has no name"
    if news := sorted(_awaited(added)):
        return _NOBODYS.format(news[0])
    return ""


def files(value: betterproto2.Message) -> str:
    """A file, socket or variable that a value names. Where it is tried they are others than where it is
    served, and Envoy may read there what the user may not."""
    for message in walk(value):
        match message:
            case DataSource() if message.filename or message.environment_variable:
                return message.filename or message.environment_variable or ""
            case Pipe() | PathConfigSource() | WatchedDirectory():
                return message.path
            case ConfigSource() if message.path:
                return message.path
            case FileAccessLog() if message.path not in _STREAMS:
                return message.path
    return ""


def removal(found: betterproto2.Message) -> str:
    """The same of a resource that would go."""
    name = _name(found)
    if isinstance(found, Listener) and name.startswith((naming.ROUTING_LISTENER, "virtualInbound")):
        return f"would remove what enforces policy: {name} takes the connections that the kernel steers"
    if _judges(found):
        return f"would remove what enforces policy: {name} holds some"
    return ""


def _name(found: betterproto2.Message) -> str:
    return str(getattr(found, "name", ""))


def walk(found: Any) -> Iterator[betterproto2.Message]:
    """A message and all in it, `typed_config`s unfolded."""
    if isinstance(found, AnyMessage):
        kind = type_of(found.type_url)
        if kind is not None:
            yield from walk(kind.parse(found.value))
    elif isinstance(found, betterproto2.Message):
        yield found
        for name, meta in anatomy(type(found)).meta_by_field_name.items():
            if meta.proto_type in ("message", "map"):
                yield from walk(getattr(found, name))
    elif isinstance(found, dict):
        for value in found.values():
            yield from walk(value)
    elif isinstance(found, list):
        for value in found:
            yield from walk(value)


def _judges(found: betterproto2.Message) -> list[tuple[str, bytes]]:
    judges: list[tuple[str, bytes]] = []
    for message in walk(found):
        if isinstance(message, HttpFilter | Filter) and _enforces(message.name):
            judges.append((message.name, bytes(message)))
        configs = getattr(message, "typed_per_filter_config", None)
        if isinstance(configs, dict):
            judges += [(name, bytes(configs[name])) for name in sorted(configs) if _enforces(name)]
    return judges


def _enforces(name: str) -> bool:
    """A WasmPlugin may be a policy, too, and a route may put its filter to sleep."""
    return name in ENFORCING or name.startswith(naming.PLUGIN)


def _structure(found: betterproto2.Message) -> object:
    if isinstance(found, Listener):
        judged = found.name.startswith(_CLASS)
        own = (
            *found.filter_chains,
            *((found.default_filter_chain,) if found.default_filter_chain is not None else ()),
        )
        chains = [_chain(chain, judged=judged) for chain in own if judged or not chain.filters]
        taken = (found.address, found.additional_addresses, found.transparent, found.freebind)
        if not judged:
            return taken, found.enable_reuse_port, chains
        by = (found.filter_chain_matcher, found.default_filter_chain is None, found.listener_filters)
        return taken, found.enable_reuse_port, by, chains
    if isinstance(found, RouteConfiguration) and _is_class(found.name):
        return [(host.name, host.domains) for host in found.virtual_hosts]
    return None


def _is_class(name: str) -> bool:
    return name.startswith(_CLASS_ROUTES) and name.count("|") == 1


def _chain(chain: FilterChain, *, judged: bool) -> object:
    """`judged`: all that leads to the judges; else that it closes connections."""
    ends = [filter_ for filter_ in chain.filters if filter_.name == naming.TCP_PROXY]
    inside = (_managers(chain), chain.transport_socket) if judged else len(chain.filters)
    return chain.name, chain.filter_chain_match, ends, inside


def _managers(chain: FilterChain) -> list[object]:
    found: list[object] = []
    for message in walk(chain.filters):
        if isinstance(message, HttpConnectionManager):
            found.append((message.rds, message.route_config, [getattr(message, name) for name in _READING]))
    return found


def _awaited(found: betterproto2.Message) -> Iterator[str]:
    """What comes over the stream that everything comes by."""
    for message in walk(found):
        if isinstance(message, _SOURCES) and any(
            isinstance(inner, ConfigSource) and (inner.ads is not None or inner.self is not None)
            for inner in walk(message)
        ):
            yield f"{type(message).__name__} {_label(message)}"


def _label(message: betterproto2.Message) -> str:
    for field in ("route_config_name", "service_name", "name"):
        if label := getattr(message, field, ""):
            return str(label)
    return "of no name"
