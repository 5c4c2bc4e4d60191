"""The steering table: where each field of each kind takes effect (rule 20).

Pure data with a look-up. `mesh.routes.steer`, `mesh.routes.balance` and `mesh.policies.classes` decide; this
says in words what they decide, for `describe`, `explain` and the documentation. Tests hold each row against
the compiled tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Place = Literal[
    "kernel",
    "resolver",
    "caller's Envoy",
    "destination's Envoy",
    "both ends' Envoys",
    "rides along",
    "nowhere",
]

KERNEL: Final = "kernel"
#: The mesh's own resolver, which is asked by whom a rule about DNS binds.
RESOLVER: Final = "resolver"
CALLER: Final = "caller's Envoy"
DESTINATION: Final = "destination's Envoy"
BOTH: Final = "both ends' Envoys"
#: Brings no Envoy into the path; has its effect wherever the rest of the object has one.
RIDES: Final = "rides along"
#: What is there for people, and what is read and checked only.
NOWHERE: Final = "nowhere"

_INDEX = re.compile(r"\[[0-9]+\]")


@dataclass(frozen=True, slots=True)
class Row:
    """`fields` under `path` (both without the `spec.` that all share) and all that is below them. Conditions
    of AuthorizationPolicies stand by their key."""

    kind: str
    path: str
    fields: tuple[str, ...]
    place: Place
    why: str

    @property
    def names(self) -> tuple[str, ...]:
        """The full paths."""
        return tuple(f"{self.path}.{field}" if self.path else field for field in self.fields)


def _rows(kind: str, *found: tuple[str, tuple[str, ...] | str, Place, str]) -> Iterator[Row]:
    for path, fields, place, why in found:
        yield Row(kind, path, (fields,) if isinstance(fields, str) else fields, place, why)


_WHOM = "whose connections the object binds is known when tables are made"
_L4 = "addresses, ports and identities are all it asks for"
_READ = "only who reads requests can tell them apart"
_ALTERED = "who changes requests must read them"
_HELLO = "only who reads the TLS hello knows the name"
_CLIENTS = "clients call the pod that serves it; that pod has an Envoy anyway"

_VIRTUAL_SERVICE = _rows(
    "VirtualService",
    ("", ("hosts", "gateways", "exportTo"), RIDES, _WHOM),
    ("http[]", "match", CALLER, _READ),
    ("http[].match[]", ("port", "sourceLabels", "sourceNamespace", "gateways"), RIDES, _WHOM),
    ("http[].match[]", "name", NOWHERE, "a name for people"),
    ("http[]", "route", CALLER, "its shares are of requests, not of connections"),
    ("http[]", ("redirect", "directResponse"), CALLER, "an Envoy answers it"),
    ("http[]", ("rewrite", "headers"), CALLER, _ALTERED),
    ("http[]", ("timeout", "retries"), CALLER, "single requests are given up, or sent again"),
    ("http[]", "fault", CALLER, "done to a share of the requests"),
    ("http[]", ("mirror", "mirrors", "mirrorPercent", "mirrorPercentage"), CALLER, "a copy of each request"),
    ("http[]", "corsPolicy", CALLER, "preflights are requests"),
    ("http[]", "delegate", CALLER, "stands for the routes of another one"),
    ("http[]", "name", NOWHERE, "a name for people"),
    ("tls[]", ("match", "route"), CALLER, _HELLO),
    (
        "tls[].match[]",
        ("destinationSubnets", "port", "sourceLabels", "sourceNamespace", "gateways"),
        RIDES,
        _WHOM,
    ),
    ("tcp[]", ("match", "route"), KERNEL, "whole connections are shared out, to services or subsets"),
)

_DESTINATION_RULE = _rows(
    "DestinationRule",
    ("", ("host", "exportTo", "workloadSelector"), RIDES, _WHOM),
    ("subsets[]", ("name", "labels"), RIDES, "where routes send; the kernel and Envoy both know the pods"),
    ("subsets[]", "trafficPolicy", RIDES, "each field as below, for what a route sends to the subset"),
    ("trafficPolicy", "portLevelSettings", RIDES, "each field as the others, for one port"),
    (
        "trafficPolicy.loadBalancer",
        "simple",
        RIDES,
        "the kernel balances by itself; an Envoy that is there obeys",
    ),
    ("trafficPolicy.loadBalancer", ("warmup", "warmupDurationSecs"), CALLER, "shares that grow with time"),
    (
        "trafficPolicy.loadBalancer.consistentHash",
        ("httpHeaderName", "httpCookie", "httpQueryParameterName"),
        CALLER,
        _READ,
    ),
    (
        "trafficPolicy.loadBalancer.consistentHash",
        "useSourceIp",
        KERNEL,
        "hashes the client's address by itself",
    ),
    (
        "trafficPolicy.loadBalancer.consistentHash",
        ("minimumRingSize", "ringHash", "maglev"),
        RIDES,
        "how an Envoy that is there hashes",
    ),
    (
        "trafficPolicy.loadBalancer.localityLbSetting",
        ("distribute", "failover", "failoverPriority"),
        KERNEL,
        "it knows where both ends are, and who is ready",
    ),
    (
        "trafficPolicy.loadBalancer.localityLbSetting",
        "enabled",
        RIDES,
        "whether places count at all; alone it needs outlierDetection",
    ),
    ("trafficPolicy.connectionPool.tcp", "maxConnections", CALLER, "somebody must count and hold back"),
    (
        "trafficPolicy.connectionPool.tcp",
        ("connectTimeout", "idleTimeout", "tcpKeepalive", "maxConnectionDuration"),
        RIDES,
        "about connections that an Envoy makes; the kernel path has the application's own",
    ),
    (
        "trafficPolicy.connectionPool.http",
        (
            "http1MaxPendingRequests",
            "http2MaxRequests",
            "maxRequestsPerConnection",
            "maxRetries",
            "maxConcurrentStreams",
            "idleTimeout",
            "h2UpgradePolicy",
        ),
        CALLER,
        "somebody must count requests (of h2UpgradePolicy: UPGRADE only)",
    ),
    (
        "trafficPolicy.connectionPool.http",
        "http2KeepAlive",
        RIDES,
        "about connections that an Envoy makes; the kernel path has the application's own",
    ),
    (
        "trafficPolicy.connectionPool.http",
        "useClientProtocol",
        NOWHERE,
        "an Envoy speaks the client's protocol anyway",
    ),
    ("trafficPolicy", "outlierDetection", CALLER, "somebody must see what fails"),
    ("trafficPolicy", "tunnel", CALLER, "somebody must ask a proxy for it; of connections that are not HTTP"),
    ("trafficPolicy", "retryBudget", CALLER, "somebody must count requests"),
    ("trafficPolicy", "proxyProtocol", CALLER, "somebody must say whose connection it is, at its beginning"),
    (
        "trafficPolicy",
        "tls",
        CALLER,
        "the application sends plain text (DISABLE needs nobody; of ISTIO_MUTUAL the destination's ends it)",
    ),
)


def _routes(kind: str, *rules: tuple[tuple[str, ...] | str, Place, str]) -> Iterator[Row]:
    """Routes of the Gateway API."""
    yield from _rows(kind, ("", "parentRefs", RIDES, _WHOM))
    yield from _rows(kind, *(("rules[]", *rule) for rule in rules))
    yield from _rows(kind, ("rules[]", "name", NOWHERE, "a name for people"))


_ROUTES = (
    *_routes(
        "HTTPRoute",
        ("matches", CALLER, _READ),
        ("filters", CALLER, _ALTERED),
        ("backendRefs", CALLER, "its shares are of requests, not of connections"),
        (("timeouts", "retry"), CALLER, "single requests are given up, or sent again"),
    ),
    *_routes(
        "GRPCRoute",
        ("matches", CALLER, _READ),
        ("filters", CALLER, _ALTERED),
        ("backendRefs", CALLER, "its shares are of calls, not of connections"),
    ),
    *_routes("TCPRoute", ("backendRefs", KERNEL, "whole connections are shared out")),
    *_routes("TLSRoute", ("backendRefs", KERNEL, "whole connections to the Service are shared out")),
    *_routes("UDPRoute", ("backendRefs", KERNEL, "flows to the Service are shared out")),
    *(
        Row(kind, "", ("hostnames",), RIDES, "counts at Gateways, whose Envoy is there anyway")
        for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute")
    ),
)

_GATEWAYS = (
    *_rows(
        "Gateway",
        ("", "gatewayClassName", RIDES, "whose pods serve it"),
        ("", ("listeners", "tls"), DESTINATION, _CLIENTS),
        ("", "addresses", NOWHERE, "a wish for the pod's address, told in its status"),
        ("", "infrastructure", NOWHERE, "stands on the pod and the Service that are made for it"),
    ),
    *_rows(
        "Gateway.networking.istio.io",
        ("", "selector", RIDES, "which pods serve it"),
        ("", "servers", DESTINATION, _CLIENTS),
    ),
)

_SIDECAR = _rows(
    "Sidecar",
    ("", ("workloadSelector", "egress"), RIDES, "which services a caller is told of"),
    ("egress[]", "bind", CALLER, "an Envoy listens on loopback, for services by the name that is asked for"),
    ("", "ingress", DESTINATION, "an Envoy takes the port in the pod's stead, whatever comes there"),
    ("", "outboundTrafficPolicy", KERNEL, _L4),
)

_OF_MODULE = (
    "sha256",
    "pluginConfig",
    "pluginName",
    "phase",
    "priority",
    "failStrategy",
    "vmConfig",
)
_REQUESTS = (
    *_rows(
        "RateLimit",
        ("", ("selector", "targetRef", "targetRefs"), RIDES, "which pods count"),
        ("", ("limits", "global"), DESTINATION, "requests are counted where they arrive"),
    ),
    *_rows(
        "EnvoyFilter",
        (
            "",
            ("workloadSelector", "targetRefs", "priority"),
            RIDES,
            "whose Envoys are changed, and in which order",
        ),
        ("", "configPatches", DESTINATION, "inbound; only an Envoy does what is put into it"),
        ("configPatches[].match", ("context", "proxy"), RIDES, "which Envoys are changed, and at which side"),
        ("configPatches[].match", "listener", RIDES, "which ports; those of Services are told by number"),
        (
            "configPatches[].match",
            "routeConfiguration",
            CALLER,
            "outbound, at the Service ports that it names",
        ),
        ("configPatches[].match", "cluster", CALLER, "outbound, to the Services that it names"),
    ),
    *_rows(
        "WasmPlugin",
        ("", ("selector", "targetRef", "targetRefs"), RIDES, "whose Envoys run it"),
        ("", "url", DESTINATION, "inbound; only an Envoy runs a module"),
        ("", "match", CALLER, "where it names CLIENT or nothing; whoever serves Gateways runs it there"),
        ("", _OF_MODULE, RIDES, "what is run, and where among the filters"),
        ("", ("imagePullPolicy", "imagePullSecret"), NOWHERE, "of images, which are not fetched"),
        ("", "type", NOWHERE, "modules look at HTTP, or are refused"),
    ),
    *_rows(
        "Telemetry",
        ("", ("selector", "targetRef", "targetRefs"), RIDES, "which pods it is about"),
        (
            "",
            "tracing",
            RIDES,
            "sent by Envoys that are there anyway",
        ),
        ("", "accessLogging", RIDES, "written by Envoys that are there anyway"),
        ("", "metrics", RIDES, "made by the agent of what is there to count"),
    ),
    *_rows(
        "ProxyConfig",
        ("", "selector", RIDES, "which pods it is about"),
        ("", ("concurrency", "environmentVariables"), RIDES, "for Envoys that are started from then on"),
        ("", "image", NOWHERE, "an Envoy is a process of the node, not a container"),
    ),
)

_AUTHORIZATION = (
    *_rows(
        "PeerAuthentication",
        ("", "selector", RIDES, "which pods it protects"),
        (
            "",
            ("mtls", "portLevelMtls"),
            BOTH,
            "STRICT: one ends mutual TLS and the other begins it; by themselves the other modes bring none",
        ),
    ),
    *_rows(
        "RequestAuthentication",
        ("", ("selector", "targetRef", "targetRefs"), RIDES, "which pods it protects"),
        ("", "jwtRules", DESTINATION, "tokens stand in requests; ports declared as no HTTP are left alone"),
    ),
    *_rows(
        "AuthorizationPolicy",
        ("", ("selector", "targetRef", "targetRefs"), RIDES, "which pods it protects"),
        ("", "action", RIDES, "where its rules are asked; a policy without rules is the kernel's"),
        ("", "provider", DESTINATION, "an Envoy asks it"),
        (
            "rules[].from[].source",
            (
                *("principals", "notPrincipals", "namespaces", "notNamespaces"),
                *("serviceAccounts", "notServiceAccounts", "ipBlocks", "notIpBlocks"),
            ),
            KERNEL,
            "the kernel knows who calls",
        ),
        (
            "rules[].from[].source",
            ("requestPrincipals", "notRequestPrincipals"),
            DESTINATION,
            "tokens stand in requests",
        ),
        (
            "rules[].from[].source",
            ("remoteIpBlocks", "notRemoteIpBlocks"),
            DESTINATION,
            "X-Forwarded-For stands in requests",
        ),
        ("rules[].to[].operation", ("ports", "notPorts"), KERNEL, "the kernel knows what is called"),
        (
            "rules[].to[].operation",
            ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"),
            DESTINATION,
            _READ,
        ),
        (
            "rules[].when[]",
            (
                "source.ip",
                "source.namespace",
                "source.principal",
                "source.serviceAccount",
                "destination.port",
            ),
            KERNEL,
            "known of the connection",
        ),
        (
            "rules[].when[]",
            (
                *("request.headers[]", "request.auth.principal", "request.auth.audiences"),
                *("request.auth.presenter", "request.auth.claims[]", "remote.ip"),
            ),
            DESTINATION,
            _READ,
        ),
        ("rules[].when[]", "connection.sni", DESTINATION, _HELLO),
        ("rules[].when[]", "destination.ip", DESTINATION, "is asked beside what requests say"),
    ),
)


def _network_policies(kind: str, *fields: str) -> Iterator[Row]:
    yield from _rows(kind, ("", fields, KERNEL, _L4))


def _cilium(kind: str) -> Iterator[Row]:
    yield from _network_policies(
        kind, "endpointSelector", "ingress", "ingressDeny", "egress", "egressDeny", "enableDefaultDeny"
    )
    yield from _rows(
        kind,
        ("ingress[].toPorts[].rules", "http", DESTINATION, _READ),
        ("egress[].toPorts[].rules", "http", CALLER, _READ),
        ("ingress[].toPorts[]", "serverNames", DESTINATION, _HELLO),
        ("egress[].toPorts[]", "serverNames", CALLER, _HELLO),
        ("egress[].toPorts[].rules", "dns", RESOLVER, "who answers names judges the question"),
        ("", "log", KERNEL, "stands in the records of flows that it decides"),
        ("", ("description", "labels"), NOWHERE, "for people"),
    )


_POLICIES = (
    *_network_policies("NetworkPolicy", "podSelector", "policyTypes", "ingress", "egress"),
    *_cilium("CiliumNetworkPolicy"),
    *_cilium("CiliumClusterwideNetworkPolicy"),
    *_network_policies("ClusterNetworkPolicy", "tier", "priority", "subject", "ingress", "egress"),
    *_network_policies("AdminNetworkPolicy", "priority", "subject", "ingress", "egress"),
    *_network_policies("BaselineAdminNetworkPolicy", "subject", "ingress", "egress"),
)

TABLE: tuple[Row, ...] = (
    *_VIRTUAL_SERVICE,
    *_DESTINATION_RULE,
    *_ROUTES,
    *_GATEWAYS,
    *_SIDECAR,
    *_REQUESTS,
    *_AUTHORIZATION,
    *_POLICIES,
)

_BY_NAME = {(row.kind, name): row for row in TABLE for name in row.names}


def row_of(kind: str, field: str) -> Row | None:
    """The row of a field, such as `http[0].fault` of a VirtualService: its own or that of what it is in.
    What port-level settings and subsets say of traffic is as if it stood above."""
    plain = _INDEX.sub("[]", field)
    above = plain.replace("subsets[].trafficPolicy", "trafficPolicy")
    return _nearest(kind, above.replace("trafficPolicy.portLevelSettings[]", "trafficPolicy")) or _nearest(
        kind, plain
    )


def _nearest(kind: str, name: str) -> Row | None:
    while name:
        for known in (name, name.removesuffix("[]")):
            if (kind, known) in _BY_NAME:
                return _BY_NAME[kind, known]
        name = name.rpartition(".")[0]
    return None
