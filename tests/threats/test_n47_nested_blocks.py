"""N47: a broad block that denies is forgotten where a narrow one allows, or the other way round."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

import pytest

from agent import entries
from agent.desired import Desired
from agent.kernel import Kernel
from agent.maglev_array import MaglevArray
from agent.maglev_store import MaglevStore
from agent.reconcile import Reconciler
from agent.slots import SLOT_TABLES
from bpf import layout
from mesh.answers.called import party
from mesh.assemble import Mesh
from mesh.datapath import DIRECTIONS, Node
from mesh.identity import Allocations
from mesh.model import Direction
from mesh.node import WORLD_ID
from mesh.policies.policy import Party, judge
from tests.agreement.bulk import Bulk
from tests.agreement.test_kernel import write
from tests.agreement.test_tables import words
from tests.threats.told import Told
from xds.dialects import read

pytestmark = pytest.mark.root

Object = dict[str, Any]
Block = IPv4Network | IPv6Network

WORLDS = 60
#: Addresses of each world, besides those at the borders of its blocks.
MORE = 2000
HERE, THERE = ("10.64.0.1", "fd51:ce00:0:1::1"), ("192.0.2.77", "2001:db8:77::1")
#: Where pods are, where nodes are, and where nobody is.
ROOTS = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.64.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.255/32"),
    *("::/0", "fd51:ce00:0:1::/64", "2001:db8::/32", "ffff:ffff::/32"),
)
APPS = ("a", "b", "c", "d")


def inside(rng: random.Random, outer: Block) -> Block:
    """A block somewhere inside another, often at its edge."""
    length = min(outer.max_prefixlen, outer.prefixlen + rng.choice((1, 1, 2, 3, 7, 8, 20)))
    last = (1 << (length - outer.prefixlen)) - 1
    place = rng.choice((0, last, rng.randint(0, last)))
    start = int(outer.network_address) + (place << (outer.max_prefixlen - length))
    kind = IPv4Network if isinstance(outer, IPv4Network) else IPv6Network
    return kind((start, length))  # type: ignore[arg-type]


def nested(rng: random.Random) -> list[Block]:
    """Blocks of both families, most of them inside others."""
    found: list[Block] = [ip_network(text) for text in rng.sample(ROOTS, 5)]
    found += [inside(rng, rng.choice(found)) for _ in range(3)]
    for _ in range(12):
        found.append(inside(rng, found[-1] if rng.random() < 0.5 else rng.choice(found)))
    return found


def block_of(rng: random.Random, blocks: list[Block], field: str = "cidr") -> Object:
    block = rng.choice(blocks)
    found: Object = {field: str(block)}
    if block.prefixlen < block.max_prefixlen and rng.random() < 0.6:
        one = inside(rng, block)
        found["except"] = sorted({str(one), str(inside(rng, rng.choice((block, one))))} - {str(block)})
    return found


def selector(rng: random.Random) -> Object:
    return {"matchExpressions": [{"key": "app", "operator": "In", "values": rng.sample(APPS, 2)}]}


def network_policy(rng: random.Random, blocks: list[Block], direction: Direction) -> Object:
    peers = [{"ipBlock": block_of(rng, blocks)} for _ in range(2)]
    rule = {"from" if direction == "ingress" else "to": peers}
    spec = {"podSelector": selector(rng), "policyTypes": [direction.capitalize()], direction: [rule]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec}


def cilium_policy(rng: random.Random, blocks: list[Block], direction: Direction) -> Object:
    """As in the advisory: all entities are allowed, and some blocks denied, narrow ones in broad ones."""
    side = "from" if direction == "ingress" else "to"
    peers: Object = {f"{side}CIDRSet": [block_of(rng, blocks) for _ in range(2)]}
    if rng.random() < 0.4:
        peers = {f"{side}Entities": [rng.choice(("all", "world", "cluster"))]}
    denied = [{f"{side}CIDRSet": [block_of(rng, blocks)]}]
    spec = {"endpointSelector": selector(rng), direction: [peers], f"{direction}Deny": denied}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "spec": spec}


def tier_policy(rng: random.Random, blocks: list[Block], direction: Direction) -> Object:
    """Of the rules of all priorities the first that fits decides, whichever block is the narrower one."""
    actions = ("Accept", "Deny", "Pass")
    rules = [
        {"action": rng.choice(actions), "to": [{"networks": [str(rng.choice(blocks))]}]} for _ in range(2)
    ]
    spec = {
        "tier": rng.choice(("Admin", "Admin", "Baseline")),
        "priority": rng.randrange(100),
        "subject": {"pods": {"namespaceSelector": {}, "podSelector": selector(rng)}},
        "egress": rules,
    }
    version = "policy.networking.k8s.io/v1alpha2"
    return {"apiVersion": version, "kind": "ClusterNetworkPolicy", "spec": spec}


def authorization_policy(rng: random.Random, blocks: list[Block], direction: Direction) -> Object:
    field = rng.choice(("ipBlocks", "notIpBlocks"))
    source = {field: [str(block) for block in rng.sample(blocks, 3)]}
    spec = {
        "selector": {"matchLabels": {"app": rng.choice(APPS)}},
        "action": rng.choice(("ALLOW", "DENY")),
        "rules": [{"from": [{"source": source}]}],
    }
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": spec}


WRITERS = (network_policy, cilium_policy, cilium_policy, tier_policy, tier_policy, authorization_policy)


def things(rng: random.Random, blocks: list[Block]) -> Iterator[Object]:
    """Nodes, and pods of which some stand in the blocks."""
    for name, addresses in (("here", HERE), ("there", THERE)):
        status = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
        yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}
    for index, app in enumerate(APPS * 2):
        addresses = [f"10.64.0.{index * 8 + 10}", f"fd51:ce00:0:1::{index * 8 + 10:x}"]
        if index >= len(APPS):
            family = [block for block in blocks if block.version == (4 if index % 2 else 6)]
            addresses = [str(at(rng, rng.choice(family)))] if family else addresses
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{index}", "namespace": "shop", "labels": {"app": app}},
            "spec": {"nodeName": "here", "containers": [{"name": "c", "command": ["true"]}]},
            "status": {"podIPs": [{"ip": address} for address in addresses]},
        }


def at(rng: random.Random, block: Block) -> IPv4Address | IPv6Address:
    """Some address of a block."""
    return block[rng.randrange(block.num_addresses)]


@dataclass(frozen=True)
class World:
    mesh: Mesh
    blocks: list[Block]

    def addresses(self, rng: random.Random) -> Iterator[str]:
        """Both sides of every border that anything has, and some between."""
        texts = {*self.mesh.cidrs.boundaries(), *map(str, self.blocks), *self.mesh.owners, *HERE, *THERE}
        borders = [ip_network(text) for text in sorted(texts)]
        for block in borders:
            for edge in (block.network_address, block.broadcast_address):
                for step in (-1, 0, 1):
                    if 0 <= int(edge) + step < 1 << block.max_prefixlen:
                        yield str(edge + step)
        wide = [block for block in borders if block.num_addresses > 4 * MORE]
        for _ in range(MORE):
            yield str(at(rng, rng.choice(wide)))


def world(seed: int) -> World:
    rng = random.Random(seed)
    blocks = nested(rng)
    objects = list(things(rng, blocks))
    for index in range(10):
        policy = rng.choice(WRITERS)(rng, blocks, rng.choice(DIRECTIONS))
        objects.append(named(policy, f"policy-{index}"))
    return World(assembled(objects), blocks)


def named(policy: Object, name: str) -> Object:
    namespace = {} if policy["kind"] == "ClusterNetworkPolicy" else {"namespace": "shop"}
    return policy | {"metadata": {"name": name} | namespace}


def assembled(objects: list[Object]) -> Mesh:
    """Pods may have got an address that no pod can have; all else must be readable."""
    fragments = [read(document) for document in objects]
    assert all(f.valid for f in fragments if f.ref.kind != "Pod"), [f.problems for f in fragments]
    mesh = Mesh(Allocations(("10.128.0.0/16",)), hosts=HERE)
    mesh.apply({f.ref: f for f in fragments})
    return mesh


class Judges:
    """One world's reference, its records as told to the node, and the kernel after the agent wrote them."""

    def __init__(self, kernel: Kernel, mesh: Mesh, node: Node) -> None:
        self._table = kernel.table("sl_addr")
        self._generation = kernel.generation
        self._mesh, self._told = mesh, Told(node.state)
        self.subjects = [
            (direction, party(self._mesh, record.addresses[0]), number)
            for record in node.state.pods.values()
            for direction in DIRECTIONS
            if (number := record.ingress_set if direction == "ingress" else record.egress_set)
        ]
        policies = list(self._mesh.all_policies())
        self._selecting = {
            subject.workload: [p for p in policies if p.subject.matches(subject.labels)]
            for _, subject, _ in self.subjects
        }

    def reference(self, direction: Direction, subject: Party, peer: Party) -> tuple[str, tuple[str, ...]]:
        policies = self._selecting[subject.workload]
        return words(judge(policies, direction, subject, peer, "TCP", 80, self._mesh.config))

    def told(self, number: int, address: str) -> tuple[str, tuple[str, ...]]:
        found = self._told.verdict(number, address, "TCP", 80)
        return found.verdict, found.rules

    def question(self, number: int, address: str) -> layout.Bulk:
        """As `find_peer` looks an address up, in the very table."""
        key = layout.AddrKey(layout.ADDRESS_BITS, layout.packed_address(address)).pack()
        value = self._table.lookup(key)
        seen = SLOT_TABLES["sl_addr"].visible(value, self._generation) if value else None
        slot = layout.AddrSlot.unpack(seen) if seen else layout.AddrSlot()
        return layout.Bulk(number, slot.cidrs, slot.id or WORLD_ID, 80, entries.PROTOCOL_NUMBERS["TCP"])


@dataclass
class Asked:
    """The tables of one kernel, for one world after another: blocks also come and go inside others."""

    kernel: Kernel

    def __post_init__(self) -> None:
        table = self.kernel.table("sl_maglev")
        self._reconciler = Reconciler(self.kernel, MaglevStore(MaglevArray(table.fd, table.max_entries)))
        self._reconciler.adopt()
        self._desired, self._owners = Desired(), set[str]()
        self._program = Bulk(self.kernel, {"verdict": 1, "cookie": 4})

    def compare(self, found: World, addresses: Iterable[str], rng: random.Random) -> Counter[str]:
        """Every address is asked about by some subject; how many got which verdict."""
        node = Node(found.mesh, "here")
        self._owners = write(node, self._desired, self._owners)
        self._reconciler.apply(self._desired, lambda: 0)
        judges = Judges(self.kernel, found.mesh, node)
        wanted: dict[tuple[str, ...], tuple[int, int]] = {}
        questions: list[layout.Bulk] = []
        verdicts = Counter[str]()
        for address in dict.fromkeys(addresses):
            direction, subject, number = rng.choice(judges.subjects)
            peer = party(found.mesh, address)
            # Rules 10 and 11 never ask a policy.
            if peer.workload == subject.workload or (direction == "ingress" and peer.host):
                continue
            said, rules = judges.reference(direction, subject, peer)
            where = (direction, str(subject.workload), address)
            assert judges.told(number, address) == (said, rules), where
            wanted[where] = layout.Verdict[said.upper()], entries.rules_cookie(rules)
            questions.append(judges.question(number, address))
            verdicts[said] += 1
        for (where, want), answer in zip(wanted.items(), self._program.ask_each(questions), strict=True):
            assert (answer["verdict"], answer["cookie"]) == want, where
        return verdicts


@pytest.mark.timeout(600)
def test_blocks_in_blocks_mean_the_same_to_reference_tables_and_kernel(kernel: Kernel) -> None:
    asked, verdicts = Asked(kernel), Counter[str]()
    for seed in range(WORLDS):
        found, rng = world(seed), random.Random(seed)
        try:
            verdicts += asked.compare(found, found.addresses(rng), rng)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    print(f"{verdicts.total():,} addresses: {dict(verdicts)}")
    assert verdicts.total() >= 100_000
    assert min(verdicts["allow"], verdicts["deny"]) > verdicts.total() / 5


@pytest.mark.parametrize("block", ["::/0", "::/64", "::fffe:0:0/95"])
def test_a_block_of_ipv6_covers_no_address_of_ipv4(block: str, kernel: Kernel) -> None:
    """The kernel has both in one table, IPv4 as `::ffff:0:0/96`."""
    rule = {"toCIDR": [block]}
    spec = {"endpointSelector": {}, "egress": [rule]}
    policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "spec": spec}
    found = assembled([*things(random.Random(0), []), named(policy, "one")])
    addresses = ["0.0.0.0", "127.255.255.255", "198.51.100.7", "255.255.255.255"]
    assert Asked(kernel).compare(World(found, []), addresses, random.Random(0)) == {"deny": len(addresses)}
