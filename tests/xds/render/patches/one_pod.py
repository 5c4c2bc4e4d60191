"""The view of one pod whose Envoy is patched, patches of it, and what is rendered of both."""

from __future__ import annotations

import json
from typing import Any

from mesh.model import (
    Backend,
    EnvoyPatch,
    FilterClass,
    ListenerMatch,
    ObjectRef,
    PatchContext,
    PatchMatch,
    PatchOperation,
    PatchTarget,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    WorkloadName,
)
from mesh.proxy import (
    Destination,
    FilterPart,
    HttpRule,
    L7Class,
    Part,
    ProxyView,
    RoutedPort,
    RouteEntry,
    Target,
)
from xds.render import Rendered, readable

TYPE = "type.googleapis.com/envoy.extensions.filters"
HCM = f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager"
MANAGER, ROUTER = "envoy.filters.network.http_connection_manager", "envoy.filters.http.router"
ORIGIN = ObjectRef("EnvoyFilter", "shop", "f")
WEB = ServiceName("shop", "web")
ALLOW = HttpRule(ObjectRef("CiliumNetworkPolicy", "shop", "web"), "ingress[0]", ())
OUTBOUND = "outbound|80||web.shop.svc.cluster.local"
MERGED = {"alt_stat_name": "mine"}
CHAIN = {
    "name": "mine",
    "filter_chain_match": {"destination_port": 81},
    "filters": [
        {
            "name": "tcp",
            "typed_config": {
                "@type": f"{TYPE}.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "x",
                "cluster": OUTBOUND,
            },
        }
    ],
}
LIMIT = {
    "name": "limit",
    "typed_config": {
        "@type": f"{TYPE}.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix": "x",
        "max_connections": 9,
    },
}
MINE = {"name": "mine", "domains": ["mine.example"], "routes": [{"match": {"prefix": "/"}, "redirect": {}}]}
TEAPOT = {"name": "teapot", "match": {"path": "/t"}, "direct_response": {"status": 418}}
RBAC = "envoy.filters.http.rbac"


def lua(name: str = "lua", code: str = "-- nothing") -> dict[str, Any]:
    config = {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
    return {"name": name, "typed_config": config}


def view(*patches: EnvoyPatch, **fields: Any) -> ProxyView:
    """A pod that calls `web` by a route, and whose port an HTTP rule judges."""
    rule = RouteRule("rules[0]", (RouteMatch(),), (RouteBackend(WEB, 80),))
    entry = RouteEntry(ObjectRef("HTTPRoute", "shop", "web"), RouteMatch(), rule)
    parts = (Part(0, (Backend("10.64.0.9", 8080, WorkloadName("shop", "web")),)),)
    content: dict[str, Any] = {
        "routed": (RoutedPort(WEB, 80, ("10.128.0.1",), (entry,)),),
        "destinations": (Destination(Target(WEB, 80), parts),),
        "ingress": (L7Class(256, "ingress", (ALLOW,)),),
    }
    return ProxyView(
        WorkloadName("shop", "client"),
        **(content | fields),
        patches=(FilterPart(ORIGIN, patches),) if patches else (),
    )


def patch(
    target: PatchTarget,
    operation: PatchOperation,
    value: Any = None,
    where: PatchMatch | None = None,
    context: PatchContext = "SIDECAR_OUTBOUND",
    place: FilterClass = "",
) -> EnvoyPatch:
    text = "" if value is None else json.dumps(value)
    return EnvoyPatch("configPatches[0]", target, context, operation, text, where, place=place)


def at(filter_: str, **fields: Any) -> ListenerMatch:
    return ListenerMatch(filter=MANAGER, sub_filter=filter_, **fields)


def named(rendered: Rendered, name: str) -> dict[str, Any]:
    found = [item for items in readable(rendered).values() for item in items if item.get("name") == name]
    return found[0] if found else {}


def http_filters(rendered: Rendered, listener: str = "virtualOutbound") -> list[str]:
    found = named(rendered, listener)
    chains = [*found["filter_chains"], found.get("default_filter_chain", {})]
    (names,) = (
        [one["name"] for one in filter_["typed_config"]["http_filters"]]
        for chain in chains
        for filter_ in chain.get("filters", ())
    )
    return names
