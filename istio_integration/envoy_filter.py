"""EnvoyFilter of networking.istio.io/v1alpha3 (istio/api, envoy_filter.proto): the part that is about
listeners, routes and clusters.

The validation of what goes where is Istio's own. Values are Envoy's messages, of which this file knows
nothing (`xds.render.patches` reads them). One that cannot be read has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.selection import selector
from mesh.dialects.subject import read_gateway
from mesh.dialects.syntax import created, expression, labels, port, printable
from mesh.expression import compile_expression
from mesh.model import (
    ClusterMatch,
    EnvoyFilter,
    EnvoyPatch,
    FilterClass,
    ListenerMatch,
    ObjectRef,
    PatchContext,
    PatchMatch,
    PatchOperation,
    PatchTarget,
    Requirement,
    RouteKind,
    RoutesMatch,
)
from mesh.proxy_metadata import ISTIO_VERSION
from mesh.routes.gateways import GATEWAY_NAME

SPEC = Fields(("workloadSelector", "targetRefs", "priority", "configPatches"))
WORKLOADS = Fields(("labels",))
ENTRY = Fields(("applyTo", "match", "patch"))
MATCH = Fields(
    ("context", "proxy", "listener", "routeConfiguration", "cluster"),
    refused=("waypoint",),
    why="is for waypoints, of which there are none",
)
PROXY = Fields(("proxyVersion", "metadata"))
LISTENER = Fields(("portNumber", "name", "filterChain"), refused=("portName", "listenerFilter"))
CHAIN = Fields(
    ("name", "sni", "applicationProtocols", "destinationPort", "transportProtocol", "filter"),
)
FILTER = Fields(("name", "subFilter"))
NAMED = Fields(("name",))
ROUTES = Fields(("portNumber", "name", "gateway", "vhost"), refused=("portName",))
HOST = Fields(("name", "domainName", "route"))
ROUTE = Fields(("name", "action"))
CLUSTER = Fields(("portNumber", "service", "subset", "name"))
PATCH = Fields(("operation", "value", "filterClass"))

#: Whether it makes Envoys run (rule 20).
STEER = "sluice.io/steer"

CONTEXTS = ("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY")
_REFUSED_CONTEXTS = ("WAYPOINT",)
_REFUSED_TARGETS = ("LISTENER_FILTER", "EXTENSION_CONFIG", "BOOTSTRAP")
_CLASSES = ("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS")
_ACTIONS = ("ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE")

#: What may be done to what, and the match that goes with it.
_INSERTS = ("INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST")
_WHOLE = ("MERGE", "ADD", "REMOVE")
OPERATIONS: Mapping[str, tuple[str, ...]] = {
    # Whether a port of a pod is free nobody can try, so none is added.
    "LISTENER": ("MERGE", "REMOVE"),
    "FILTER_CHAIN": _WHOLE,
    "NETWORK_FILTER": (*_WHOLE, *_INSERTS, "REPLACE"),
    "HTTP_FILTER": (*_WHOLE, *_INSERTS, "REPLACE"),
    "ROUTE_CONFIGURATION": ("MERGE",),
    "VIRTUAL_HOST": _WHOLE,
    "HTTP_ROUTE": (*_WHOLE, *_INSERTS),
    "CLUSTER": _WHOLE,
}
_MATCHES: Mapping[str, str] = {
    **dict.fromkeys(("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"), "listener"),
    **dict.fromkeys(("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"), "routeConfiguration"),
    "CLUSTER": "cluster",
}
_EVERY_OPERATION = (*_WHOLE, *_INSERTS, "REPLACE")
_MOST_PATCHES = 128
_LONGEST = 1024


def read_envoy_filter(root: Reader, ref: ObjectRef) -> tuple[EnvoyFilter, ...]:
    root.fields(OBJECT)
    spec = root.at("spec")
    spec.require()
    spec.fields(SPEC)
    own = labels(spec.at("workloadSelector").fields(WORKLOADS).at("labels"))
    if gateway := read_gateway(spec, ref, "workloadSelector"):
        own = ((GATEWAY_NAME, gateway),)
    items = spec.at("configPatches").items(_MOST_PATCHES)
    if spec.at("configPatches").sound and not items:
        spec.at("configPatches").refuse("is required: write at least one patch")
    steer = root.at("metadata").mapping().at("annotations").mapping().at(STEER)
    asked = steer.choice(("true", "false"))
    return (
        EnvoyFilter(
            ref,
            tuple(patch for item in items if (patch := _patch(item))),
            selector(Requirement(key, "In", (value,)) for key, value in own),
            own,
            spec.at("priority").integer(-(2**31), 2**31 - 1),
            created(root),
            asked == "true" if asked else bool(own),
            not own and not asked,
        ),
    )


def _patch(item: Reader) -> EnvoyPatch | None:
    """None where no proxy is of the version that it is for."""
    item.fields(ENTRY)
    target = item.at("applyTo")
    target.require()
    to = target.choice(tuple(OPERATIONS), "HTTP_FILTER", unsupported=_REFUSED_TARGETS)
    match = item.at("match").fields(MATCH)
    context = match.at("context").choice(CONTEXTS, "ANY", unsupported=_REFUSED_CONTEXTS)
    for kind in ("listener", "routeConfiguration", "cluster"):
        if target.sound and match.at(kind).present and kind != _MATCHES[to]:
            match.at(kind).refuse(f"does not go with applyTo {to}: write {_MATCHES[to]}")
    patch = item.at("patch")
    patch.require()
    operation = patch.fields(PATCH).at("operation")
    operation.require()
    done = operation.choice(_EVERY_OPERATION, "MERGE")
    if target.sound and operation.sound and done not in OPERATIONS[to]:
        operation.refuse(f"{done} does not go with applyTo {to} here; use one of {', '.join(OPERATIONS[to])}")
    where = _where(match, to)
    is_for_us, metadata = _proxy(match.at("proxy"))
    added = patch.at("filterClass").choice(_CLASSES, "UNSPECIFIED")
    if added != "UNSPECIFIED" and not (to.endswith("_FILTER") and done == "ADD"):
        patch.at("filterClass").note("has no effect but beside ADD of an HTTP_FILTER or a NETWORK_FILTER")
        added = "UNSPECIFIED"
    if target.sound and operation.sound:
        _fit(item, to, done, where)
    made = EnvoyPatch(
        item.rule_field,
        cast(PatchTarget, to),
        cast(PatchContext, context),
        cast(PatchOperation, done),
        _value(patch.at("value"), done),
        where,
        metadata,
        cast(FilterClass, "" if added == "UNSPECIFIED" else added),
    )
    return made if is_for_us else None


def _proxy(found: Reader) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Is it for proxies of our version, and for which of them?"""
    found.fields(PROXY)
    version = found.at("proxyVersion")
    wanted = tuple(sorted((key, printable(value, _LONGEST)) for key, value in found.at("metadata").entries()))
    text = expression(version)
    if text is None or not version.sound:
        return True, wanted
    if not (is_ours := compile_expression(text).occurs(ISTIO_VERSION)):
        version.note(f"is for no proxy: those here are like Istio's of {ISTIO_VERSION}")
    return is_ours, wanted


def _value(value: Reader, operation: str) -> str:
    if operation == "REMOVE":
        if value.present:
            value.refuse("does not go with REMOVE")
        return ""
    if not value.require() or not value.mapping().sound:
        return ""
    try:
        return json.dumps(value.value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        value.refuse("holds what JSON cannot hold")
        return ""


def _fit(item: Reader, target: str, operation: str, where: PatchMatch | None) -> None:
    """What Istio would pass over in silence."""
    match = item.at("match")
    if target == "NETWORK_FILTER" and operation not in ("ADD", "INSERT_FIRST"):
        if not (isinstance(where, ListenerMatch) and where.filter):
            match.refuse(f"listener.filterChain.filter.name is required for {operation}")
    if target == "HTTP_FILTER" and operation in ("MERGE", "REMOVE", "REPLACE"):
        if not (isinstance(where, ListenerMatch) and where.sub_filter):
            match.refuse(f"listener.filterChain.filter.subFilter.name is required for {operation}")


def _where(match: Reader, target: str) -> PatchMatch | None:
    kind = match.at(_MATCHES[target])
    if not kind.present:
        return None
    match _MATCHES[target]:
        case "listener":
            return _listener(kind)
        case "routeConfiguration":
            return _routes(kind)
        case _:
            kind.fields(CLUSTER)
            return ClusterMatch(
                _port(kind), _text(kind.at("service")), _text(kind.at("subset")), _text(kind.at("name"))
            )


def _listener(found: Reader) -> ListenerMatch:
    chain = found.fields(LISTENER).at("filterChain").fields(CHAIN)
    named = chain.at("filter").fields(FILTER)
    sub = named.at("subFilter").fields(NAMED)
    if sub.present and not named.at("name").present:
        named.at("name").refuse("is required beside subFilter")
    return ListenerMatch(
        _port(found),
        _text(found.at("name")),
        _text(chain.at("name")),
        _text(chain.at("sni")),
        _text(chain.at("applicationProtocols")),
        port(chain.at("destinationPort")) if chain.at("destinationPort").present else 0,
        _text(chain.at("transportProtocol")),
        _text(named.at("name")),
        _text(sub.at("name")),
    )


def _routes(found: Reader) -> RoutesMatch:
    host = found.fields(ROUTES).at("vhost").fields(HOST)
    route = host.at("route").fields(ROUTE)
    gateway = _text(found.at("gateway"))
    if gateway and gateway.count("/") != 1:
        found.at("gateway").refuse(f"{shown(gateway)} is no Gateway: write namespace/name")
    action = route.at("action").choice(_ACTIONS, "ANY")
    return RoutesMatch(
        _port(found),
        _text(found.at("name")),
        gateway,
        _text(host.at("name")),
        _text(host.at("domainName")),
        _text(route.at("name")),
        cast(RouteKind, action),
    )


def _port(found: Reader) -> int:
    return port(found.at("portNumber")) if found.at("portNumber").present else 0


def _text(reader: Reader) -> str:
    return printable(reader, _LONGEST)
