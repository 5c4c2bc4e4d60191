"""Random meshes and policies, as API objects, with every kind of rule that is read.

Each policy holds one kind of rule and its name begins with that kind, so that a test can count
which kinds decided. Seeded: the same number gives the same mesh.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.assemble import Mesh
from mesh.dialects import read
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef
from mesh.policy import Party

NAMESPACES = ("red", "green", "blue")
APPS = ("web", "api", "db", "cache")
TIERS = ("front", "back")
PORTS = (80, 443, 5432, 8080, 8081, 8090, 9000, 65535)
BLOCKS = ("0.0.0.0/0", "10.0.0.0/8", "10.64.0.0/24", "198.51.100.0/24", "198.51.100.128/25", "203.0.113.7/32")
WORLD = (
    "198.51.99.255",
    "198.51.100.0",
    "198.51.100.127",
    "198.51.100.128",
    "198.51.100.255",
    "198.51.101.0",
    "203.0.113.6",
    "203.0.113.7",
    "203.0.113.8",
    "2001:db8::1",
    "2001:db8:1::1",
)
NODE = "10.64.0.1"
METHODS = ("GET", "POST", "PUT", "DELETE")
PATHS = ("/", "/public", "/public/a", "/admin", "/admin/users", "/v1/items/7", "/v2/items/7")
EXPRESSIONS = ("/public.*", "/admin(/.*)?", "/v[12]/items/[0-9]+", "/", ".*", "/public/[a-z]")
HOSTS = ("shop.example", "api.red", "other")

Object = dict[str, Any]


@dataclass(frozen=True)
class World:
    """A generated mesh, with the objects it came from."""

    objects: tuple[Object, ...]
    mesh: Mesh

    def parties(self) -> list[Party]:
        """Every pod, the node, and addresses of the outside at the borders of the blocks."""
        mesh = self.mesh
        pods = [
            Party(address, name, mesh.identities.all[mesh.identities.of[name]].mapping)
            for address, name in sorted(mesh.owners.items())
        ]
        return [*pods, Party(NODE, host=True), *(Party(address) for address in WORLD)]


def assemble(objects: Sequence[Object]) -> Mesh:
    """The mesh of these objects; every one of them must be readable."""
    fragments: dict[ObjectRef, Fragment | None] = {}
    for document in objects:
        fragment = read(document)
        assert not fragment.problems, fragment.problems
        fragments[fragment.ref] = fragment
    mesh = Mesh(Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112")), hosts=(NODE,))
    mesh.apply(fragments)
    return mesh


HTTP_KINDS = ("cnp-method", "cnp-path", "cnp-host", "cnp-header")


def generate(seed: int, policies: int = 12, pods: int = 12, *, services: bool = False) -> World:
    """A mesh of some pods in three namespaces under random policies, half of them with HTTP rules.

    Namespaces differ in who writes there: in `red` all kinds meet, in the others mostly HTTP, for
    an L4 allow beside an HTTP rule voids it (rule 16). With `services`, the same mesh with some."""
    rng = random.Random(seed)
    objects = [*_things(rng, pods)]
    http = [item for item in KINDS.items() if item[0] in HTTP_KINDS]
    for index in range(policies):
        if index % 2:
            kind, make = http[(seed + index // 2) % len(http)]
            namespace = rng.choice(NAMESPACES)
        else:
            kinds = list(KINDS.items())
            kind, make = kinds[(seed * policies + index) // 2 % len(kinds)]
            namespace = "red"
        objects.append(make(rng, f"{kind}-{index}", namespace))
    if services:
        objects += _services(random.Random(f"services of {seed}"), objects)
    return World(tuple(objects), assemble(objects))


def kind_of(rule: str) -> str:
    """The kind of the rule behind a key such as `NetworkPolicy red/np-block-3 ingress[0]`."""
    return rule.split(" ")[1].split("/")[-1].rsplit("-", 1)[0]


def _things(rng: random.Random, pods: int) -> list[Object]:
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"team": "a" if name == "red" else "b"}},
        }
        for name in NAMESPACES
    ]
    for index in range(pods):
        namespace = NAMESPACES[index % len(NAMESPACES)]
        app = APPS[index % len(APPS)]
        addresses = [f"10.64.0.{index + 10}", f"fd51:ce00:0:1::{index + 10:x}"]
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{app}-{index}",
                    "namespace": namespace,
                    "labels": {"app": app, "tier": rng.choice(TIERS)},
                },
                "spec": {
                    "nodeName": "recorded",
                    "containers": [
                        {
                            "name": "main",
                            "command": ["true"],
                            "ports": [{"name": "http", "containerPort": rng.choice((8080, 8081))}],
                        }
                    ],
                },
                "status": {
                    "podIPs": [{"ip": a} for a in addresses],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )
    return objects


def _services(rng: random.Random, objects: Sequence[Object]) -> list[Object]:
    """Backends by label in every namespace, anywhere by endpoint slices, and none."""
    found = [
        _service(
            "tier",
            namespace,
            [
                {"name": "web", "port": 80, "targetPort": _port(rng)},
                {"name": "named", "port": 81, "targetPort": "http"},
                {"name": "plain", "port": 5432},
                {"name": "dns", "port": 53, "targetPort": _port(rng), "protocol": "UDP"},
            ],
            selector={"tier": rng.choice(TIERS)},
            sessionAffinity=rng.choice(("None", "ClientIP")),
        )
        for namespace in NAMESPACES
    ]
    ports = [{"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    found.append(_service("mixed", "red", ports))
    pods = [document for document in objects if document["kind"] == "Pod"]
    chosen = [[ip["ip"] for ip in pod["status"]["podIPs"]] for pod in rng.sample(pods, 4)]
    chosen.append([rng.choice(WORLD)])
    targets = [port | {"port": _port(rng)} for port in ports]
    for family in ("IPv4", "IPv6"):
        addresses = [a for group in chosen for a in group if (":" in a) == (family == "IPv6")]
        found.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"mixed-{family.lower()}",
                    "namespace": "red",
                    "labels": {"kubernetes.io/service-name": "mixed"},
                },
                "addressType": family,
                "ports": targets,
                "endpoints": [{"addresses": [address]} for address in addresses],
            }
        )
    found.append(_service("nobody", "green", [{"port": 80}], selector={"app": "nobody"}))
    return found


def _service(name: str, namespace: str, ports: list[Object], **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": ports, **spec},
    }


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


def _port(rng: random.Random) -> int:
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
    rule: Callable[[random.Random, str], Object], suffix: str = ""
) -> Callable[[random.Random, str, str], Object]:
    def make(rng: random.Random, name: str, namespace: str) -> Object:
        direction = rng.choice(("ingress", "egress"))
        return {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
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
        ports = [{"port": str(_port(rng)), "protocol": "TCP"} for _ in range(6)]
        return found | {"toPorts": [{"ports": ports, "rules": {"http": [match]}}]}

    return rule


def _cilium_ports(rng: random.Random, direction: str) -> Object:
    first = rng.choice(PORTS[:-1])
    ports = [
        {"port": str(first), "endPort": min(65535, first + rng.choice((1, 10, 1000))), "protocol": "ANY"}
    ]
    return _endpoints(rng, direction) | {"toPorts": [{"ports": ports}]}


def _ports(rng: random.Random) -> list[Object]:
    return [{"port": _port(rng), "protocol": rng.choice(("TCP", "UDP", "SCTP"))} for _ in range(2)]


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
}
