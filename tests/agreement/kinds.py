"""Every kind of rule that the random meshes hold: how to make one of it, as an API object.

A policy's name begins with its kind, so that a test can count which kinds decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Maker = Callable[[random.Random, str, str], Object]

APPS = ("web", "api", "db", "cache")
TIERS = ("front", "back")
PORTS = (80, 443, 5432, 8080, 8081, 8090, 9000, 65535)
BLOCKS = ("0.0.0.0/0", "10.0.0.0/8", "10.64.0.0/24", "198.51.100.0/24", "198.51.100.128/25", "203.0.113.7/32")
METHODS = ("GET", "POST", "PUT", "DELETE")
EXPRESSIONS = ("/public.*", "/admin(/.*)?", "/v[12]/items/[0-9]+", "/", ".*", "/public/[a-z]")
HOSTS = ("shop.example", "api.red", "other")
NAMES = ("api.example.com", "cdn.example.com", "*.example.com", "**.example.org")
ACCOUNTS = ("default", "clerk")
CALLERS = ("10.64.0.8/29", "10.64.0.16/28", "198.51.100.0/24")
PRINCIPALS = ("*/sa/clerk", "cluster.local/ns/red/*", "cluster.local/ns/blue/sa/default")


def _labels(rng: random.Random) -> Object:
    return rng.choice(
        [
            {"matchLabels": {"app": rng.choice(APPS)}},
            {"matchLabels": {"tier": rng.choice(TIERS)}},
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [rng.choice(APPS)]}]},
            {"matchExpressions": [{"key": "app", "operator": "In", "values": list(rng.sample(APPS, 2))}]},
            {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
            {},
        ]
    )


def port(rng: random.Random) -> int:
    return rng.choice(PORTS)


def _network_policy(
    peers: Callable[[random.Random], list[Object]] | None,
    ports: Callable[[random.Random], list[Object]] | None = None,
) -> Callable[[random.Random, str, str], Object]:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        direction, key = rng.choice((("ingress", "from"), ("egress", "to")))
        rule: Object = {}
        if peers is not None:
            rule[key] = peers(rng)
        if ports is not None:
            rule["ports"] = ports(rng)
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "podSelector": _labels(rng),
                "policyTypes": [direction.capitalize()],
                direction: [rule],
            },
        }

    return make


def _cilium(
    rule: Callable[[random.Random, str], Object],
    suffix: str = "",
    directions: tuple[str, ...] = ("ingress", "egress"),
    annotations: Object | None = None,
) -> Maker:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        direction = rng.choice(directions)
        return {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
            "spec": {"endpointSelector": _labels(rng), direction + suffix: [rule(rng, direction)]},
        }

    return make


def _endpoints(rng: random.Random, direction: str) -> Object:
    key = "fromEndpoints" if direction == "ingress" else "toEndpoints"
    selector = _labels(rng)
    if rng.random() < 0.7:
        selector = {"matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}]}
    return {key: [selector]}


def _cidr_rule(rng: random.Random, direction: str) -> Object:
    prefix = "from" if direction == "ingress" else "to"
    return {f"{prefix}CIDRSet": [{"cidr": "198.51.100.0/24", "except": ["198.51.100.128/25"]}]}


def _entity_rule(rng: random.Random, direction: str) -> Object:
    prefix = "from" if direction == "ingress" else "to"
    return {f"{prefix}Entities": [rng.choice(("all", "world", "cluster", "host"))]}


def _http(key: str) -> Callable[[random.Random, str], Object]:
    def rule(rng: random.Random, direction: str) -> Object:
        match: Object = {
            "method": lambda: {"method": rng.choice((*METHODS, "GET|POST"))},
            "path": lambda: {"path": rng.choice(EXPRESSIONS)},
            "host": lambda: {"host": rng.choice(HOSTS).replace(".", "[.]")},
            "header": lambda: {"headers": [rng.choice(("X-Team: a", "X-Team", "X-Trace: 1"))]},
        }[key]()
        found: Object = _endpoints(rng, direction) if rng.random() < 0.5 else {}
        ports = [{"port": str(port(rng)), "protocol": "TCP"} for _ in range(6)]
        return found | {"toPorts": [{"ports": ports, "rules": {"http": [match]}}]}

    return rule


def _cilium_ports(rng: random.Random, direction: str) -> Object:
    first = rng.choice(PORTS[:-1])
    ports = [
        {"port": str(first), "endPort": min(65535, first + rng.choice((1, 10, 1000))), "protocol": "ANY"}
    ]
    return _endpoints(rng, direction) | {"toPorts": [{"ports": ports}]}


def _ports(rng: random.Random) -> list[Object]:
    return [{"port": port(rng), "protocol": rng.choice(("TCP", "UDP", "SCTP"))} for _ in range(2)]


def _range(rng: random.Random) -> list[Object]:
    first = rng.choice(PORTS[:-1])
    return [{"port": first, "endPort": min(65535, first + rng.choice((1, 100, 9000))), "protocol": "TCP"}]


def _block(rng: random.Random) -> list[Object]:
    cidr = rng.choice(BLOCKS)
    exceptions = {
        "0.0.0.0/0": ["10.0.0.0/8"],
        "10.0.0.0/8": ["10.64.0.0/29"],
        "198.51.100.0/24": ["198.51.100.128/25"],
    }
    block: Object = {"cidr": cidr}
    if cidr in exceptions and rng.random() < 0.7:
        block["except"] = exceptions[cidr]
    return [{"ipBlock": block}]


def _side(direction: str, what: str) -> str:
    return ("from" if direction == "ingress" else "to") + what


def _group_rule(rng: random.Random, direction: str) -> Object:
    reference: Object = rng.choice(
        ({"cidrGroupRef": "outside"}, {"cidrGroupSelector": {"matchLabels": {"zone": "far"}}})
    )
    return {_side(direction, "CIDRSet"): [reference | {"except": ["198.51.100.128/25"]}]}


def _node_rule(rng: random.Random, direction: str) -> Object:
    return {_side(direction, "Nodes"): [rng.choice(({}, {"matchLabels": {"zone": rng.choice(("a", "b"))}}))]}


def _more_entities(rng: random.Random, direction: str) -> Object:
    names = ("world-ipv4", "world-ipv6", "remote-node", "kube-apiserver", "none")
    return {_side(direction, "Entities"): rng.sample(names, 2)}


def _service_rule(rng: random.Random, direction: str) -> Object:
    by_name = {"k8sService": {"namespace": "red", "serviceName": rng.choice(("far", "near"))}}
    by_label = {"k8sServiceSelector": {"selector": {"matchLabels": {"tier": "back"}}}}
    return {"toServices": [rng.choice((by_name, by_label))]}


def _names_rule(rng: random.Random, direction: str) -> Object:
    text = rng.choice(NAMES)
    names = [{"matchPattern" if "*" in text else "matchName": text}]
    ports = [{"port": str(port), "protocol": "TCP"} for port in rng.sample(PORTS, 4)]
    return {"toFQDNs": names, "toPorts": [{"ports": ports}]}


def _dns_rule(rng: random.Random, direction: str) -> Object:
    ports = [{"port": str(port), "protocol": "ANY"} for port in (53, *rng.sample(PORTS, 3))]
    return {"toPorts": [{"ports": ports, "rules": {"dns": [{"matchPattern": "*.example.com"}]}}]}


def _icmp_rule(rng: random.Random, direction: str) -> Object:
    fields = [{"family": "IPv4", "type": rng.choice((8, 13, "EchoRequest"))}, {"family": "IPv6", "type": 128}]
    return (_endpoints(rng, direction) if rng.random() < 0.5 else {}) | {"icmps": [{"fields": fields}]}


def _protocol_rule(rng: random.Random, direction: str) -> Object:
    chosen = rng.sample(("GRE", "ESP", "VRRP", "IPIP"), 3)
    ports = [{"port": "0", "protocol": protocol} for protocol in chosen]
    return {"toPorts": [{"ports": ports}]}


def _server_names(rng: random.Random, direction: str) -> Object:
    ports = [{"port": str(port), "protocol": "TCP"} for port in rng.sample(PORTS, 4)]
    return _endpoints(rng, direction) | {"toPorts": [{"ports": ports, "serverNames": ["api.example.com"]}]}


def _authorization(action: str, rule: Callable[[random.Random], Object]) -> Maker:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": {"app": rng.choice(APPS)}},
                "action": action,
                "rules": [rule(rng)],
            },
        }

    return make


def _from(**source: list[str]) -> Object:
    return {"from": [{"source": source}]}


def _to(rng: random.Random) -> Object:
    ports = [str(port) for port in rng.sample(PORTS, 4)]
    return {"to": [{"operation": {"ports": ports}}]} if rng.random() < 0.5 else {}


def _requests(rng: random.Random) -> Object:
    """A rule about requests, of some callers."""
    operation: Object = rng.choice(
        (
            {"methods": ["GET"]},
            {"paths": ["/public*"]},
            {"hosts": ["shop.example"]},
            {"notPaths": ["/admin*"]},
        )
    )
    found: Object = {"to": [{"operation": operation}]}
    if rng.random() < 0.5:
        found |= _from(namespaces=[rng.choice(("red", "green"))])
    return found


_OUTSIDE = ("./*", "red/*", "*/*.example.com", "*/api.example.com", "~/*")


def _registry_only(rng: random.Random, name: str, namespace: str) -> Object:
    """For some of a namespace, of some hosts, at one port or at all."""
    hosts = ["*/*"] if rng.random() < 0.6 else rng.sample(_OUTSIDE, rng.randrange(1, 4))
    egress: list[Object] = [{"hosts": hosts}]
    if rng.random() < 0.3:
        egress.insert(0, {"port": {"number": rng.choice((80, 443, 5432))}, "hosts": ["*/*"]})
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": rng.choice(APPS), "tier": rng.choice(TIERS)}},
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "egress": egress,
        },
    }


def _taken(rng: random.Random, name: str, namespace: str) -> Object:
    """Some ports of some of a namespace are their Envoy's."""
    protocols = ("HTTP", "TCP", "")
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": rng.choice(APPS), "tier": rng.choice(TIERS)}},
            "ingress": [
                {
                    "port": {"number": port, "protocol": rng.choice(protocols)},
                    "defaultEndpoint": "127.0.0.1:9999",
                }
                for port in rng.sample(PORTS, 3)
            ],
        },
    }


def _mutual_tls(rng: random.Random, name: str, namespace: str) -> Object:
    """For some of a namespace, at some ports otherwise than at others."""
    modes = ("STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET")
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": rng.choice(APPS)}},
            "mtls": {"mode": rng.choice(modes)},
            "portLevelMtls": {str(port): {"mode": rng.choice(modes)} for port in rng.sample(PORTS, 2)},
        },
    }


def _tier(tier: str, action: str) -> Maker:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        direction, key = rng.choice((("ingress", "from"), ("egress", "to")))
        peers: list[Object] = [
            rng.choice(
                (
                    {"namespaces": {"matchLabels": {"team": rng.choice("ab")}}},
                    {"pods": {"namespaceSelector": {}, "podSelector": _labels(rng)}},
                )
            )
        ]
        if direction == "egress" and rng.random() < 0.3:
            peers = [{"networks": [rng.choice(BLOCKS)]}]
        rule: Object = {"action": action, key: peers}
        if rng.random() < 0.6:
            first = rng.choice(PORTS[:-1])
            last = min(65535, first + rng.choice((1, 1000)))
            rule["protocols"] = [{"tcp": {"destinationPort": {"range": {"start": first, "end": last}}}}]
        return {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name},
            "spec": {
                "tier": tier,
                "priority": rng.randrange(100),
                "subject": {"pods": {"namespaceSelector": {}, "podSelector": _labels(rng)}},
                direction: [rule],
            },
        }

    return make


def _former(kind: str, action: str) -> Maker:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        baseline = kind == "BaselineAdminNetworkPolicy"
        team, peer = ({"namespaces": {"matchLabels": {"team": rng.choice("ab")}}} for _ in range(2))
        rule: Object = {"action": action, "from": [peer]}
        if rng.random() < 0.5:
            number = {"portNumber": {"protocol": "TCP", "port": rng.choice(PORTS)}}
            rule["ports"] = [number, {"namedPort": "http"}]
        spec: Object = {"subject": team, "ingress": [rule]}
        return {
            "apiVersion": "policy.networking.k8s.io/v1alpha1",
            "kind": kind,
            # There is one baseline, and it has this name.
            "metadata": {"name": "default" if baseline else name},
            "spec": spec if baseline else spec | {"priority": rng.randrange(100)},
        }

    return make


_AUDIT = {"sluice.io/audit": "true"}

KINDS: dict[str, Callable[[random.Random, str, str], Object]] = {
    "np-pods": _network_policy(lambda rng: [{"podSelector": _labels(rng)}]),
    "np-namespaces": _network_policy(
        lambda rng: [{"namespaceSelector": {"matchLabels": {"team": rng.choice("ab")}}}]
    ),
    "np-both": _network_policy(lambda rng: [{"namespaceSelector": {}, "podSelector": _labels(rng)}]),
    "np-block": _network_policy(_block),
    "np-ports": _network_policy(None, _ports),
    "np-range": _network_policy(None, _range),
    "np-named": _network_policy(None, lambda rng: [{"port": "http"}]),
    "np-everyone": _network_policy(None),
    "cnp-endpoints": _cilium(_endpoints),
    "cnp-ports": _cilium(_cilium_ports),
    "cnp-cidr": _cilium(_cidr_rule),
    "cnp-entities": _cilium(_entity_rule),
    "cnp-deny": _cilium(_cilium_ports, "Deny"),
    "cnp-method": _cilium(_http("method")),
    "cnp-path": _cilium(_http("path")),
    "cnp-host": _cilium(_http("host")),
    "cnp-header": _cilium(_http("header")),
    "cnp-group": _cilium(_group_rule),
    "cnp-nodes": _cilium(_node_rule),
    "cnp-more": _cilium(_more_entities),
    "cnp-services": _cilium(_service_rule, directions=("egress",)),
    "cnp-names": _cilium(_names_rule, directions=("egress",)),
    "cnp-dns": _cilium(_dns_rule, directions=("egress",)),
    "cnp-icmp": _cilium(_icmp_rule),
    "cnp-protocols": _cilium(_protocol_rule),
    "cnp-sni": _cilium(_server_names),
    "cnp-audit": _cilium(_cilium_ports, "Deny", annotations=_AUDIT),
    "cnp-shadow": _cilium(_http("path"), annotations=_AUDIT),
    "ap-namespaces": _authorization("ALLOW", lambda rng: _from(namespaces=[rng.choice(("red", "b*"))])),
    "ap-accounts": _authorization(
        "ALLOW", lambda rng: _from(serviceAccounts=[f"red/{rng.choice(ACCOUNTS)}"]) | _to(rng)
    ),
    "ap-principals": _authorization(
        "DENY", lambda rng: _from(principals=[rng.choice(PRINCIPALS)]) | _to(rng)
    ),
    "ap-others": _authorization("ALLOW", lambda rng: _from(notNamespaces=["red"])),
    "ap-blocks": _authorization(
        "DENY",
        lambda rng: _from(ipBlocks=[rng.choice(CALLERS)]) | _to(rng),
    ),
    "ap-ports": _authorization(
        "DENY", lambda rng: {"to": [{"operation": {"notPorts": ["80", "8080", "8081"]}}]}
    ),
    "ap-requests": _authorization("ALLOW", _requests),
    "ap-forbidden": _authorization("DENY", _requests),
    "kcnp-accept": _tier("Admin", "Accept"),
    "kcnp-deny": _tier("Admin", "Deny"),
    "kcnp-pass": _tier("Admin", "Pass"),
    "kcnp-base": _tier("Baseline", "Deny"),
    "anp-allow": _former("AdminNetworkPolicy", "Allow"),
    "anp-deny": _former("AdminNetworkPolicy", "Deny"),
    "sc-registry": _registry_only,
    "sc-ingress": _taken,
    "pa-mtls": _mutual_tls,
}

#: Kinds that never decide by themselves: they only keep others from deciding, or are only told of.
SILENT = frozenset({"kcnp-pass", "cnp-audit"})
