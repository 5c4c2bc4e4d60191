"""Where filters of WasmPlugins stand, and what may not be done to them. What they do is for tests/node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh.model import (
    EnvoyPatch,
    ListenerMatch,
    ObjectRef,
    PatchContext,
    PatchOperation,
    PluginPhase,
    WasmPlugin,
)
from mesh.proxy import (
    FilterPart,
    GatewayPort,
    GatewayServer,
    L7Class,
    PatchKey,
    PluginPart,
    ProxyView,
    VirtualHost,
)
from mesh.routes.envoy_filters import plugins
from tests.wasm_module import adds
from tests.xds.render.views import POD, entry, prefix, routed, to
from xds.render import Rendered, readable, render
from xds.render.plugins import resource
from xds.trial import Trying, ask_envoy

PREFIX = "extensions.istio.io/wasmplugin/shop."
MANAGER = "envoy.filters.network.http_connection_manager"
JWT, RBAC = "envoy.filters.http.filter_chain.jwt", "envoy.filters.http.rbac"
ALLOW, LIMITS = f"{RBAC}.allow", "envoy.filters.http.filter_chain.ratelimit"
WEB = "web.shop.svc.cluster.local"


def ref(name: str) -> ObjectRef:
    return ObjectRef("WasmPlugin", "shop", name)


def plugin(
    name: str,
    phase: PluginPhase = "UNSPECIFIED_PHASE",
    context: PatchContext = "ANY",
    port: int = 0,
    code: bytes = b"",
    **more: Any,
) -> PluginPart:
    where = ListenerMatch(port) if port else None
    patch = EnvoyPatch("match[0]", "HTTP_FILTER", context, "ADD", where=where)
    return PluginPart(ref(name), (patch,), phase, "FAIL_CLOSE", code, **more)


def view(*parts: PluginPart, patches: tuple[PatchKey, ...] = (), **fields: Any) -> ProxyView:
    route = entry(prefix("/"), to("web"))
    return ProxyView(
        POD,
        routed=(routed("web", route), routed("web", route, port=81)),
        ingress=(L7Class(256, "ingress", patches=patches), L7Class(257, "ingress")),
        egress=(L7Class(300, "egress"),),
        plugins=parts,
        **fields,
    )


def gateway(*parts: PluginPart) -> ProxyView:
    hosts = (VirtualHost("*", (entry(prefix("/"), to("web")),)),)
    servers = (GatewayServer("http.80", (ObjectRef("Gateway", "shop", "web"),), hosts=hosts),)
    ports = (GatewayPort(80, "", servers), GatewayPort(81, "", (replace(servers[0], name="http.81"),)))
    return ProxyView(POD, ingress=(L7Class(256, "ingress"),), gateway=ports, plugins=parts)


def chains(rendered: Rendered) -> dict[str, list[str]]:
    """The HTTP filters of each filter chain, short names for plugins'. Before the second of a name stands its
    listener's."""
    found: dict[str, list[str]] = {}
    for listener in readable(rendered)["listeners"]:
        last = listener.get("default_filter_chain", {})
        for chain in (*listener.get("filter_chains", ()), last):
            for filter_ in chain.get("filters", ()):
                if filter_["name"] == MANAGER:
                    names = [one["name"] for one in filter_["typed_config"]["http_filters"]]
                    known = chain["name"] in found
                    name = f"{listener['name']} {chain['name']}" if known else chain["name"]
                    found[name] = [name.removeprefix(PREFIX) for name in names]
    return found


def where(*parts: PluginPart, patches: tuple[PatchKey, ...] = ()) -> set[str]:
    """The chains in which one stands."""
    own = {part.origin.name for part in parts}
    return {name for name, names in chains(render(view(*parts, patches=patches))).items() if own & set(names)}


def test_phases_stand_about_what_judges() -> None:
    phases: tuple[PluginPhase, ...] = ("AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE")
    parts = tuple(plugin(phase.lower(), phase) for phase in phases)
    found = chains(render(view(*parts)))["virtualInbound|256"]
    told = ["authn", JWT, "authz", RBAC, ALLOW, "stats", "unspecified_phase", LIMITS]
    assert [name for name in found if name in told] == told
    outbound = chains(render(view(*parts)))[f"{WEB}:80"]
    assert outbound[:5] == ["authn", "authz", "stats", "unspecified_phase", "envoy.filters.http.cors"]
    edge = chains(render(gateway(*parts)))["http.80"]
    assert edge[:5] == ["authn", JWT, "authz", "stats", "unspecified_phase"]
    judged = chains(render(gateway(*parts)))["virtualInbound|256 http.80"]
    assert [name for name in judged if name in told] == told and "envoy.filters.http.cors" in judged


def test_plugins_of_a_phase_stand_by_priority_and_then_by_name() -> None:
    def one(name: str, priority: int, phase: PluginPhase = "AUTHZ") -> WasmPlugin:
        return WasmPlugin(ref(name), (), priority=priority, phase=phase)

    found = plugins([one("b", 0), one("z", 9), one("a", 0), one("late", 99, "STATS"), one("low", -1)])
    assert [part.origin.name for part in found] == ["z", "a", "b", "low", "late"]


def test_a_plugin_stands_at_its_side_and_ports() -> None:
    both = {f"{WEB}:80", f"{WEB}:81"}
    inbound = {"virtualInbound|256", "virtualInbound|257"}
    outbound = both | {"virtualOutbound|300"}
    assert where(plugin("p")) == inbound | outbound
    assert where(plugin("p", context="SIDECAR_INBOUND")) == inbound
    assert where(plugin("p", context="SIDECAR_OUTBOUND")) == outbound
    assert where(plugin("p", context="SIDECAR_OUTBOUND", port=81)) == {f"{WEB}:81"}
    at_port = plugin("p", context="SIDECAR_INBOUND", port=8080)
    assert where(at_port, patches=(PatchKey(ref("p"), "match[0]", True),)) == {"virtualInbound|256"}
    assert where(plugin("p", context="GATEWAY")) == set()
    edge = chains(render(gateway(plugin("p"), plugin("q", context="GATEWAY", port=81))))
    assert {name: [n for n in names if n in "pq"] for name, names in edge.items()} == {
        "http.80": ["p"],
        "http.81": ["p", "q"],
        "virtualInbound|256": [],
        "virtualInbound|256 http.80": ["p"],
        "virtualInbound|256 http.81": ["p", "q"],
    }


def test_what_a_module_is_told() -> None:
    told = {"config": '{"a":1}', "environment": (("LEVEL", "debug"),)}
    part = replace(plugin("p", code=adds("x", "y"), **told), name="root")
    (found,) = readable([resource(part)])["extensions"]
    config = found["typed_config"]["config"]
    assert found["name"] == f"{PREFIX}p"
    assert (config["name"], config["root_id"]) == ("shop.p", "root")
    assert config["configuration"]["value"] == '{"a":1}'
    assert config["vm_config"]["environment_variables"] == {"key_values": {"LEVEL": "debug"}}
    assert config["failure_policy"] == "FAIL_CLOSED"
    assert config["vm_config"]["code"]["local"]["inline_bytes"].startswith("[sha256:")
    assert ask_envoy([Trying(resource(part))]) == ""
    assert resource(part) is resource(replace(part)), "it is encoded once"


@pytest.mark.parametrize("operation", ["REMOVE", "REPLACE", "MERGE"])
def test_no_envoy_filter_takes_a_plugin_away(operation: PatchOperation) -> None:
    at = ListenerMatch(filter=MANAGER, sub_filter=f"{PREFIX}p")
    value = {"REMOVE": "", "REPLACE": '{"name":"mine"}', "MERGE": '{"disabled":true}'}[operation]
    patch = EnvoyPatch("configPatches[0]", "HTTP_FILTER", "ANY", operation, value, at)
    part = FilterPart(ObjectRef("EnvoyFilter", "shop", "f"), (patch,))
    before = render(view(plugin("p")))
    after = render(replace(view(plugin("p")), patches=(part,)))
    assert readable(after) == readable(before)
    assert any("what enforces policy" in fault.message for r in after for fault in r.faults)
