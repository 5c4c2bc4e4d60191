"""Decision 8 for traffic: whatever comes and goes, in whatever order, a mesh that followed equals one that is
made of what is there now. What one change alone makes others look at again is for `test_each_change`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Fragment, LearnedNames, ObjectRef
from mesh.shared_records import SharedRecords
from tests.traffic.edge import Certificate, gate, gateway, http_route, istio_gateway, tokens
from tests.traffic.followed import (
    HTTP,
    RANGES,
    alias,
    assert_made_anew_it_is_the_same,
    dynamic,
    entry,
    far_away,
    may_call,
    node_object,
    service,
)
from tests.traffic.samples.security import mesh_config
from tests.traffic.shop import (
    base,
    destination_rule,
    object_of,
    placed,
    pod,
    to,
    versions,
    virtual_service,
)
from xds.dialects import read

LEARNED = ObjectRef("LearnedNames", "", "resolver")
TCP = {"port": {"number": 90, "name": "tcp", "protocol": "TCP"}}
HTTPS = {
    "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
    "tls": {"mode": "SIMPLE", "credentialName": "a"},
}
LISTENER = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
WEB, SHADOW = {"name": "web", "port": 80}, {"name": "shadow", "port": 80}


def judged(**spec: Any) -> dict[str, Any]:
    """A policy for the pod that serves Gateways."""
    content = {"selector": {"matchLabels": {"istio": "ingressgateway"}}} | spec
    return object_of("security.istio.io/v1", "AuthorizationPolicy", "judged", "edge", content)


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def behind(name: str, selector: dict[str, str]) -> dict[str, Any]:
    spec = {"clusterIP": "None", "selector": selector, "ports": [{"name": "http", "port": 8080}]}
    return object_of("v1", "Service", name, "shop", spec)


def peers(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return object_of("security.istio.io/v1", "PeerAuthentication", name, namespace, spec)


def to_names(pattern: str) -> dict[str, Any]:
    names = [{"toFQDNs": [{"matchPattern": pattern}], "toPorts": [{"ports": [{"port": "80"}]}]}]
    spec = {"endpointSelector": {"matchLabels": {"app": "client"}}, "egress": names}
    return object_of("cilium.io/v2", "CiliumNetworkPolicy", "names", "shop", spec)


def slice_of(address: str, target: str = "") -> dict[str, Any]:
    """What stands behind `web`, a pod of the shop or not."""
    meant = {"targetRef": {"kind": "Pod", "name": target, "namespace": "shop"}} if target else {}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, **meant}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def told(*asked: str, looked_up: tuple[tuple[str, str], ...] = (), **current: str) -> Fragment:
    """A report of the resolver: names under patterns that were asked for, last answers, and who looked up
    what."""
    answers = tuple((name.replace("_", "."), (address,)) for name, address in current.items())
    names = LearnedNames(len(asked), answers, answers, asked, looked_up)
    return Fragment(LEARNED, (names,))


REPORTS = [
    told(),
    told("a.example.com", a_example_com="192.0.2.1"),
    told("a.example.com", "api.example.com", a_example_com="10.64.2.1", api_example_com="192.0.2.2"),
    told("api.example.com", api_example_com="10.64.0.2"),
    told(
        "api.example.com",
        api_example_com="192.0.2.2",
        looked_up=(("shop", "web.shop.svc.cluster.local"), ("street", "api.example.com")),
    ),
    told(looked_up=(("street", "web.shop.svc.cluster.local"),)),
]


def everything(here: dict[str, Any]) -> list[dict[str, Any]]:
    """Several versions of most objects; of one name the last that was applied counts."""
    far = "web.shop.svc.cluster.local"
    split = [{"backendRefs": [WEB | {"port": 90}, SHADOW | {"port": 90, "weight": 3}]}]
    abroad = {"backendRefs": [WEB | {"namespace": "shop"}]}
    on_service = {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "namespace": "shop"}]}
    tcp = [{"match": [{"port": 90}], "route": [to("web", weight=75), to("shadow", weight=25)]}]
    by_team = {"match": [{"sourceLabels": {"team": "b"}}], "route": [to(subset="v2")]}
    by_claim = {"match": [{"headers": {"@request.auth.claims.group": {"exact": "a"}}}], "route": [to()]}
    policy = {"outlierDetection": {"consecutive5xxErrors": 3}}
    grant = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "street"}],
        "to": [{"group": "", "kind": "Service"}],
    }
    route_api = "gateway.networking.k8s.io"
    istio = "networking.istio.io/v1"

    def envoy_filter(name: str, namespace: str, *matches: dict[str, Any], **spec: Any) -> dict[str, Any]:
        patch = {"operation": "ADD", "value": {"name": "x"}}
        patches = [{"applyTo": "HTTP_FILTER", "match": match, "patch": patch} for match in matches]
        alpha = "networking.istio.io/v1alpha3"
        return object_of(alpha, "EnvoyFilter", name, namespace, {"configPatches": patches} | spec)

    def sidecar(name: str, namespace: str, *hosts: str, **spec: Any) -> dict[str, Any]:
        content = {"egress": [{"hosts": list(hosts)}]} | spec
        return object_of(istio, "Sidecar", name, namespace, content)

    def widening(found: dict[str, Any]) -> dict[str, Any]:
        found["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": "true"}
        return found

    def telemetry(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        return object_of("telemetry.istio.io/v1", "Telemetry", name, namespace, spec)

    uncounted = [{"overrides": [{"match": {"mode": "CLIENT"}, "disabled": True}]}]
    one, two = {"address": "192.0.2.1", "weight": 3}, {"address": "192.0.2.2", "labels": {"version": "v1"}}

    def nearest(**setting: Any) -> dict[str, Any]:
        return destination_rule(trafficPolicy={"loadBalancer": {"localityLbSetting": setting}})

    def proxies(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        return object_of("networking.istio.io/v1beta1", "ProxyConfig", name, namespace, spec)

    gets = {
        "endpointSelector": {"matchLabels": {"app": "client"}},
        "egress": [
            {"toEndpoints": [{"matchLabels": {"version": "v1"}}]},
            {
                "toEndpoints": [{}],
                "toPorts": [
                    {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
                ],
            },
        ],
    }
    front = {
        "endpointSelector": {"matchLabels": {"istio": "ingressgateway"}},
        "ingress": [{"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "443"}]}]}],
    }
    strict = {"mode": "STRICT"}
    late = "late.example.com"
    only = {"mode": "REGISTRY_ONLY"}
    to_gate = {"group": route_api, "kind": "Gateway", "name": "public"}
    bound = {"port": {"number": 80, "protocol": "HTTP"}, "bind": "127.0.0.1"}
    web_only = {"labels": {"app": "web"}}
    zone = "topology.kubernetes.io/zone"
    return [
        mesh_config("defaultConfig: {concurrency: 3, terminationDrainDuration: 9s}"),
        proxies("all", "istio-system", concurrency=2),
        proxies("all", "istio-system", environmentVariables={"TIER": "gold"}),
        proxies("team", "street", concurrency=0, selector={"matchLabels": {"team": "b"}}),
        node_object(region="east", zone="a"),
        node_object(region="west", zone="b"),
        node_object(),
        far_away(),
        *placed(client="east.a", one="east.a", two="west.b"),
        *placed(client="west.b", one="west.b", other="east.a"),
        service(trafficDistribution="PreferClose"),
        service(trafficDistribution="PreferSameNode"),
        nearest(failover=[{"from": "east", "to": "west"}]),
        nearest(failoverPriority=[zone, "team"]),
        nearest(distribute=[{"from": "*", "to": {"east": 70, "west": 30}}]),
        mesh_config("localityLbSetting: {failoverPriority: [team]}"),
        mesh_config("localityLbSetting: {distribute: [{from: east, to: {east: 70, west: 30}}]}"),
        entry("api", "shop", endpoints=[one | {"locality": "east/a"}, two | {"locality": "west/b"}]),
        entry("api", "shop", endpoints=[one, two]),
        entry("api", "shop", endpoints=[two], exportTo=["."]),
        entry("api", "street", workloadSelector={"labels": {"app": "vm"}}),
        entry("other", "street", endpoints=[one], exportTo=["."]),
        object_of(istio, "WorkloadEntry", "vm", "street", {"address": "192.0.2.9", "labels": {"app": "vm"}}),
        object_of(
            istio,
            "WorkloadEntry",
            "vm",
            "street",
            {"address": "192.0.2.9", "labels": {"app": "vm"}, "weight": 2},
        ),
        virtual_service({"route": [to("api.example.com")]}, name="api", hosts=["api.example.com"]),
        virtual_service(
            hosts=["api.example.com"],
            tcp=[{"route": [to("api.example.com")]}],
            name="api",
            namespace="street",
        ),
        virtual_service({"route": [to("api.example.com")]}, name="out"),
        destination_rule(name="api", namespace="street", host="api.example.com", trafficPolicy=policy),
        destination_rule(name="root", namespace="istio-system", host=far, trafficPolicy=policy),
        envoy_filter("own", "shop", {}, {"listener": {"portNumber": 70}}),
        envoy_filter("own", "shop", {}, workloadSelector={"labels": {"app": "web"}}, priority=-1),
        envoy_filter(
            "team",
            "street",
            {"context": "SIDECAR_OUTBOUND", "listener": {"portNumber": 70}},
            workloadSelector={"labels": {"team": "b"}},
        ),
        envoy_filter(
            "root",
            "istio-system",
            {"context": "SIDECAR_OUTBOUND", "listener": {"portNumber": 80}},
            {"context": "SIDECAR_INBOUND", "listener": {"portNumber": 8080}},
            {"context": "GATEWAY"},
            workloadSelector={"labels": {"app": "other"}},
        ),
        telemetry("edge", "edge", metrics=uncounted, targetRefs=[to_gate]),
        envoy_filter("edge", "edge", {"context": "GATEWAY"}, targetRefs=[to_gate]),
        envoy_filter("named", "shop", {"proxy": {"metadata": {"NAME": "one"}}}, workloadSelector=web_only),
        sidecar("own", "street", "./*"),
        sidecar("own", "shop", "shop/*", "*/api.example.com", outboundTrafficPolicy=only),
        sidecar("own", "shop", "./web.shop.svc.cluster.local", outboundTrafficPolicy={}),
        sidecar("own", "shop", "*/*"),
        mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"),
        entry("api", "shop", resolution="DNS"),
        telemetry("own", "street", accessLogging=[{"providers": [{"name": "envoy"}]}], metrics=uncounted),
        telemetry("own", "street", accessLogging=[{"disabled": True}]),
        telemetry("team", "street", selector={"matchLabels": {"team": "b"}}, metrics=uncounted),
        telemetry("all", "istio-system", tracing=[{"enableIstioTags": False}]),
        telemetry("all", "istio-system", tracing=[{"useRequestIdForTraceSampling": False}]),
        telemetry("all", "istio-system", accessLogging=[{"filter": {"expression": "response.code == 500"}}]),
        mesh_config("accessLogFile: /dev/stdout"),
        mesh_config(
            "extensionProviders: [{name: a, envoyOtelAls: {service: web.shop.svc.cluster.local, port: 80}}]\n"
            "defaultProviders: {accessLogging: [a]}"
        ),
        sidecar("own", "street", "shop/*", "*/api.example.com"),
        sidecar("own", "shop", "*/*", ingress=[{"port": {"number": 8080, "protocol": "TCP"}}]),
        sidecar("own", "shop", egress=[bound | {"hosts": ["*/*"]}]),
        sidecar("own", "shop", egress=[bound | {"hosts": ["./*"]}]),
        sidecar("team", "street", "~/*", workloadSelector={"labels": {"team": "b"}}),
        widening(sidecar("own", "shop", "~/*")),
        widening(sidecar("own", "street", "~/*")),
        widening(sidecar("all", "istio-system", "~/*")),
        sidecar("all", "istio-system", "./*"),
        virtual_service({"route": [to(subset="v1")]}),
        virtual_service(by_team, {"route": [to(subset="v1")]}),
        virtual_service(by_team),
        virtual_service({"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "part"}}),
        virtual_service(
            {"match": [{"sourceLabels": {"app": "other"}}], "route": [to("shadow")]}, name="part", hosts=[]
        ),
        virtual_service({"route": [to("shadow")]}, name="part", hosts=[]),
        virtual_service(hosts=["web"], tcp=tcp, name="tcp"),
        virtual_service(
            {"route": [to(far)]},
            namespace="street",
            hosts=[far],
        ),
        virtual_service({"route": [to()]}, name="wide", hosts=["*.shop.svc.cluster.local"]),
        virtual_service({"route": [to()]}, name="edge", hosts=["*"], gateways=["edge/public"]),
        versions(),
        versions(**policy),
        destination_rule(trafficPolicy={"loadBalancer": {"consistentHash": {"useSourceIp": True}}}),
        destination_rule(name="shadow", host="shadow", trafficPolicy=policy, exportTo=["street"]),
        destination_rule(
            name="own", namespace="street", host="*.shop.svc.cluster.local", trafficPolicy=policy
        ),
        gate(),
        virtual_service(by_claim, name="edge", hosts=["*"], gateways=["edge/public"]),
        tokens({"issuer": "a", "jwksUri": "https://a.example/keys"}),
        tokens({"issuer": "b", "jwksUri": "https://b.example/keys", "forwardOriginalToken": True}),
        istio_gateway(HTTP | {"hosts": ["*"]}),
        gateway(LISTENER),
        http_route({"backendRefs": [WEB]}),
        http_route({"backendRefs": [WEB, SHADOW]}, name="mesh", **on_service),
        http_route(abroad, name="own", namespace="street", **on_service),
        object_of(f"{route_api}/v1beta1", "ReferenceGrant", "leave", "shop", grant),
        object_of(
            f"{route_api}/v1alpha2",
            "TCPRoute",
            "db",
            "shop",
            on_service | {"rules": split},
        ),
        pod("late", "10.64.2.1", {"app": "web", "version": "v1"}),
        pod("late", "10.64.2.1", {"app": "web", "version": "v2"}),
        pod("late", "10.64.2.3", {"app": "web", "version": "v2"}),
        pod("late", "10.64.2.1", {"app": "late"}, "street"),
        # A host that stands at the address of a pod, which may come, go and be another.
        entry("late", "shop", hosts=[late], endpoints=[{"address": "10.64.2.1"}, {"address": "10.64.2.3"}]),
        virtual_service({"route": [to(late)]}, name="late", hosts=[late]),
        may_call({"podSelector": {"matchLabels": {"version": "v1"}}}),
        may_call({"ipBlock": {"cidr": "10.64.2.0/31"}}, {"podSelector": {"matchLabels": {"app": "web"}}}),
        may_call({"namespaceSelector": {"matchLabels": {"tier": "gold"}}, "podSelector": {}}),
        object_of("cilium.io/v2", "CiliumNetworkPolicy", "gets", "shop", gets),
        # Names under patterns, which reports of the resolver and routes ask for.
        dynamic("any", "shop"),
        dynamic("any", "shop", exportTo=["."]),
        dynamic("any", "street", hosts=["*.c.example.com"]),
        dynamic("longer", "street", exportTo=["*"]),
        virtual_service({"route": [to("a.example.com")]}, name="any", hosts=["*.example.com"]),
        virtual_service({"route": [to("b.example.com")]}, name="any", hosts=["a.example.com"]),
        destination_rule(name="any", namespace="street", host="*.example.com", trafficPolicy=policy),
        # Services without an address of their own, of which two have the same pods.
        service(clusterIP="None"),
        behind("also", {"app": "web"}),
        behind("early", {"version": "v1"}),
        virtual_service({"route": [to("also")]}, name="also", hosts=["also"]),
        virtual_service({"route": [to("early", weight=1), to(weight=1)]}, name="early", hosts=["early"]),
        # Who takes mutual TLS, and who sends it.
        peers("own", "shop", mtls=strict),
        peers("own", "shop", mtls={"mode": "DISABLE"}),
        peers("own", "shop", selector={"matchLabels": {"version": "v1"}}, mtls=strict),
        peers("web", "shop", selector={"matchLabels": {"app": "web"}}, portLevelMtls={8080: strict}),
        peers("all", "istio-system", mtls=strict),
        peers("own", "edge", mtls=strict),
        destination_rule(trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
        destination_rule(
            name="tls", namespace="street", host=far, trafficPolicy={"tls": {"mode": "DISABLE"}}
        ),
        destination_rule(trafficPolicy={"tls": {"mode": "SIMPLE", "credentialName": "a"}}),
        destination_rule(
            trafficPolicy={"tls": {"mode": "MUTUAL", "credentialName": "a"}},
            workloadSelector={"matchLabels": {"app": "client"}},
        ),
        here,
        mesh_config("trustDomain: shop.example\nrootNamespace: street"),
        peers("all", "street", mtls=strict),
        # Names for names, of which one may be a service instead.
        alias("db", far),
        alias("db", "api.example.com"),
        alias("db", "c.example.com"),
        alias("db", "again.street.svc.cluster.local"),
        alias("again", "db.shop.svc.cluster.local", "street"),
        alias("again", "shadow.shop.svc.cluster.local", "street"),
        alias("shadow", far),
        service() | {"metadata": {"name": "db", "namespace": "shop"}},
        virtual_service({"route": [to("db")]}, name="out"),
        virtual_service({"route": [to("again.street.svc.cluster.local")]}, name="part", hosts=[]),
        virtual_service({"route": [to("db")]}, name="edge", hosts=["*"], gateways=["edge/public"]),
        virtual_service(hosts=["nobody"], tcp=[{"route": [to("db")]}], name="tcp"),
        destination_rule(name="shadow", host="db", trafficPolicy=policy),
        # Gateways whose requests are judged.
        judged(rules=[{"to": [{"operation": {"methods": ["GET"]}}]}]),
        judged(rules=[{"from": [{"source": {"ipBlocks": ["10.64.0.0/24"]}}]}]),
        judged(rules=[{"from": [{"source": {"requestPrincipals": ["*"]}}]}]),
        judged(action="DENY", rules=[{"to": [{"operation": {"paths": ["/a"], "ports": ["80"]}}]}]),
        istio_gateway(HTTP | {"hosts": ["*"], "bind": "10.64.1.10"}),
        istio_gateway(HTTP | {"hosts": ["*"]}, TCP | {"hosts": ["*"]}),
        istio_gateway(TCP | {"hosts": ["*"]}, name="second"),
        istio_gateway(HTTPS | {"hosts": ["a.example.com"]}, name="second"),
        gateway(LISTENER | {"port": 81}),
        pod("gate", "10.64.1.11", {"gateway.networking.k8s.io/gateway-name": "public"}, "edge"),
        pod("second", "10.64.1.12", {"istio": "ingressgateway", "team": "b"}, "edge"),
        # Policies about names and places that come and go.
        to_names("*.example.com"),
        to_names("a.example.com"),
        object_of("cilium.io/v2", "CiliumNetworkPolicy", "front", "edge", front),
        slice_of("10.64.0.10", "one"),
        slice_of("192.0.2.50"),
        slice_of("10.64.2.1"),
        namespace("shop", tier="gold"),
        namespace("street", tier="gold"),
        namespace("street"),
        pod("walker", "10.64.2.2", {"team": "b", "app": "other"}, "street"),
        pod("walker", "10.64.2.2", {"team": "a"}, "street"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_mesh_that_followed_equals_one_that_is_made_anew(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    certificate = Certificate("a.example.com", tmp_path)
    secret, here = certificate.secret("a"), certificate.secret("a", "shop")
    pool = [*REPORTS, *(read(content) for content in [*base(), *everything(here), secret])]
    assert all(fragment.valid for fragment in pool), [p for f in pool for p in f.problems]
    followed = Mesh(Allocations(RANGES))
    shared = SharedRecords(followed)
    node = Node(followed, "local", default=True, shared=shared)
    others: list[Node] = []
    present: dict[ObjectRef, Fragment] = {}
    for step in range(120):
        batch: dict[ObjectRef, Fragment | None] = {}
        for fragment in rng.sample(pool, rng.choice((1, 1, 1, 3))):
            batch[fragment.ref] = fragment if rng.random() < 0.65 else None
        for ref, fragment_or_none in batch.items():
            if fragment_or_none is None:
                present.pop(ref, None)
            else:
                present[ref] = fragment_or_none
        change = followed.apply(batch)
        for one in (node, *others):
            one.update(change)
        if step % 6 == 5:
            assert_made_anew_it_is_the_same(followed, node, present)
        if step % 40 == 20:
            others.append(Node(followed, "local", default=True, shared=shared))
    # Nodes that came later and share what is kept say the same.
    for one in others:
        assert one.state == node.state and one.proxies == node.proxies
