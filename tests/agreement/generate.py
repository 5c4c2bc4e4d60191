"""Random meshes and policies, as API objects, with every kind of rule that is read.

Each policy holds one kind of rule and its name begins with that kind, so that a test can count
which kinds decided. Seeded: the same number gives the same mesh.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mesh.answers.called import party
from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import Authorization, Fragment, LearnedNames, ObjectRef, PortRange
from mesh.policies.own_conditions import own_conditions
from mesh.policies.policy import Party
from mesh.policies.references import AnyCondition, rules_of
from mesh.policies.registry import Registries
from tests.agreement.kinds import ACCOUNTS, APPS, KINDS, PORTS, TIERS, Object, port
from xds.dialects import read

NAMESPACES = ("red", "green", "blue")
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
PATHS = ("/", "/public", "/public/a", "/admin", "/admin/users", "/v1/items/7", "/v2/items/7")

#: The other node, and the mesh's resolver.
REMOTE = "192.0.2.77"
RESOLVER = "10.64.0.99"
#: Of a ServiceEntry.
ENDPOINTS = ["203.0.113.7", "198.51.99.255", "10.64.0.14", "2001:db8::1", "fd51:ce00:0:1::e"]
LEARNED = LearnedNames(
    1,
    (
        ("api.example.com", ("203.0.113.7", "2001:db8::1")),
        ("cdn.example.com", ("198.51.100.128",)),
        ("a.b.example.org", ("198.51.99.255",)),
        ("elsewhere.example.net", ("198.51.100.0",)),
    ),
)


@dataclass(frozen=True)
class World:
    """A generated mesh, with the objects it came from."""

    objects: tuple[Object, ...]
    mesh: Mesh

    def parties(self) -> list[Party]:
        """Every pod, the nodes, and addresses of the outside at the borders of the blocks."""
        return [party(self.mesh, address) for address in (*sorted(self.mesh.owners), NODE, REMOTE, *WORLD)]

    def policies(self, subject: Party) -> list[AnyCondition]:
        """All that there is to judge what a party does and meets."""
        if subject.workload is None:
            return [*self.mesh.all_policies()]
        registry = self.registries.of(subject.workload)
        return [*self.mesh.all_policies(), *own_conditions(self.mesh, subject.workload, registry)]

    @cached_property
    def registries(self) -> Registries:
        return Registries(self.mesh)

    def borders(self) -> list[int]:
        """Where any rule about ports may begin or end, by what the policies say, from 0 to 65536."""
        found = {0, 65536, *(port + d for port in PORTS for d in (0, 1))}
        for policy in self.mesh.all_policies():
            if isinstance(policy, Authorization):
                continue  # they name ports of PORTS
            for rule in rules_of(policy):
                for match in rule.ports or ():
                    if isinstance(match, PortRange):
                        found |= {match.first, match.last + 1}
        for workload in self.mesh.workloads.values():
            found.update(port.port + d for port in workload.ports for d in (0, 1))
        return sorted(found)


def assemble(objects: Sequence[Object]) -> Mesh:
    """The mesh of these objects; every one of them must be readable."""
    fragments: dict[ObjectRef, Fragment | None] = {}
    for document in objects:
        fragment = read(document)
        assert not fragment.problems, fragment.problems
        fragments[fragment.ref] = fragment
    learned = ObjectRef("LearnedNames", "", "dns")
    fragments[learned] = Fragment(learned, (LEARNED,))
    mesh = Mesh(Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112")), hosts=(NODE,))
    mesh.apply(fragments)
    return mesh


def generate(
    seed: int, policies: int = 12, pods: int = 12, *, services: bool = False, kinds: Sequence[str] = ()
) -> World:
    """A mesh of some pods in three namespaces under random policies.

    Meshes take turns: in one network policies meet, in one authorization is uppermost, in one the
    tiers. Every kind of rule has its turn; with `kinds`, only these, few at a time. With `services`,
    the same mesh with some more."""
    rng = random.Random(seed)
    objects = [*_things(rng, pods)]
    for index in range(policies):
        namespace = rng.choice(NAMESPACES)
        turn = seed * policies + index
        if kinds:
            kind = _turn(kinds, seed + index % 3)
        elif seed % 4 == 0:
            # In `red` all kinds meet, in the others mostly HTTP: an L4 allow beside it voids it (rule 16).
            kind = _turn(HTTP, turn) if index % 2 else _turn(NETWORK, turn // 2)
            namespace = namespace if index % 2 else "red"
        elif seed % 4 < 3:
            kind = _turn((*HTTP, "cnp-shadow", "cnp-shadow"), turn // 4)
            kind = kind if index % 4 == 0 else _turn(AUTHORIZATION, turn)
        else:
            kind = _turn(NETWORK, turn) if index % 4 == 0 else _turn(TIER, turn)
        objects.append(KINDS[kind](rng, f"{kind}-{index}", namespace))
    if services:
        objects += _services(random.Random(f"services of {seed}"), objects)
    return World(tuple(objects), assemble(objects))


def _turn(kinds: Sequence[str], turn: int) -> str:
    return kinds[turn % len(kinds)]


HTTP = ("cnp-method", "cnp-path", "cnp-host", "cnp-header")
AUTHORIZATION = tuple(kind for kind in KINDS if kind.startswith("ap-"))
TIER = tuple(kind for kind in KINDS if kind.startswith(("kcnp-", "anp-")))
NETWORK = tuple(kind for kind in KINDS if kind not in (*HTTP, *AUTHORIZATION, *TIER))


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
                    "serviceAccountName": rng.choice(ACCOUNTS),
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
    return objects + _references()


def _references() -> list[Object]:
    """What rules refer to by name."""
    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"zone": zone}},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        for name, zone, address in (("here", "a", NODE), ("there", "b", REMOTE))
    ]
    objects.append(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumCIDRGroup",
            "metadata": {"name": "outside", "labels": {"zone": "far"}},
            "spec": {"externalCIDRs": ["198.51.100.0/24", "2001:db8::/64"]},
        }
    )
    objects.append(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sluice-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "nodeName": "recorded",
                "serviceAccountName": "sluice-dns",
                "containers": [{"name": "main", "command": ["true"]}],
            },
            "status": {"podIPs": [{"ip": RESOLVER}], "conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    kinds = [("http", 8080), ("tcp-db", 5432), ("https", 443)]
    ports = [{"name": name, "port": port} for name, port in kinds]
    objects += [
        _service(f"of-{app}", "red", ports, selector={"app": app}, clusterIP=f"10.128.9.{index + 1}")
        for index, app in enumerate(APPS)
    ]
    objects.append(
        _service("near", "red", [{"port": 80}], selector={"tier": "back"}, clusterIP="10.128.9.20")
    )
    back = {"tier": "back"}
    for name, namespace, vip, labels, addresses in (
        ("far", "red", "10.128.9.30", back, ["198.51.100.127", "203.0.113.8", "10.64.0.13"]),
        ("kubernetes", "default", "10.128.9.40", {}, [REMOTE]),
    ):
        service = _service(name, namespace, [{"port": 443}], clusterIP=vip)
        service["metadata"]["labels"] = labels
        objects += [service, _slice(name, namespace, "IPv4", [{"port": 443}], addresses)]
    objects += [
        _entry("api", ["api.example.com"], "STATIC", ENDPOINTS),
        _entry("names", ["cdn.example.com", "elsewhere.example.net"], "DNS", [], exportTo=["red", "blue"]),
        _entry("vm", ["vm.example.com"], "STATIC", [], workloadSelector={"labels": {"app": "web"}}),
    ]
    return objects


def _entry(name: str, hosts: list[str], resolution: str, addresses: list[str], **spec: Any) -> Object:
    ports = [("http", 80, 8080), ("own", 443, 9000)]
    content = {
        "hosts": hosts,
        "resolution": resolution,
        "ports": [{"name": n, "number": p, "targetPort": t, "protocol": "TCP"} for n, p, t in ports],
        **({"endpoints": [{"address": address} for address in addresses]} if addresses else {}),
        **spec,
    }
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "red"},
        "spec": content,
    }


def _slice(name: str, namespace: str, family: str, ports: list[Object], addresses: list[str]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{family.lower()}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": ports,
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def _services(rng: random.Random, objects: Sequence[Object]) -> list[Object]:
    """Backends by label in every namespace, anywhere by endpoint slices, and none."""
    found = [
        _service(
            "tier",
            namespace,
            [
                {"name": "web", "port": 80, "targetPort": port(rng)},
                {"name": "named", "port": 81, "targetPort": "http"},
                {"name": "plain", "port": 5432},
                {"name": "dns", "port": 53, "targetPort": port(rng), "protocol": "UDP"},
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
    targets = [entry | {"port": port(rng)} for entry in ports]
    for family in ("IPv4", "IPv6"):
        addresses = [a for group in chosen for a in group if (":" in a) == (family == "IPv6")]
        found.append(_slice("mixed", "red", family, targets, addresses))
    found.append(_service("nobody", "green", [{"port": 80}], selector={"app": "nobody"}))
    return found


def _service(name: str, namespace: str, ports: list[Object], **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": ports, **spec},
    }
