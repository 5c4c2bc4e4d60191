"""A node in a box: a node's network namespace, pods behind veths, the world, and the tables."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.kernel import Kernel
from agent.kernel.namespace import run_in_netns
from agent.maglev_array import MaglevArray
from agent.rule_pages import END, pages
from bpf import layout
from bpf.layout import Verdict, packed_address
from sluice.mesh_directory import cgroup2_mount
from tests.kernel.host import TCP, Host, Pod, ip
from tests.leftovers import own_name

NODE4, NODE6 = "10.64.0.1", "fd51:ce00:0:1::1"
WORLD4, WORLD6 = "192.0.2.2", "2001:db8::2"


@dataclass
class Tables:
    """What a generation says: for each table, key -> slot (without its generation) or value."""

    slots: dict[str, dict[bytes, Any]] = field(default_factory=dict)

    def put(self, table: str, key: layout.Struct, slot: Any) -> None:
        self.slots.setdefault(table, {})[key.pack()] = slot


_TWO_SLOTS: Mapping[str, Any] = {
    "sl_addr": layout.AddrValue,
    "sl_pod": layout.PodValue,
    "sl_service": layout.ServiceValue,
    "sl_route": layout.RouteValue,
    "sl_peer": layout.PeerValue,
}
_EPHEMERAL = ("sl_flow", "sl_fragment", "sl_steered", "sl_reply", "sl_affinity", "sl_traffic")


class Box:
    """The node. `apply` writes a whole generation as the agent would: beside, flip, quiesce, prune."""

    def __init__(self) -> None:
        self.tag = uuid.uuid4().hex[:6]
        name = own_name("test", self.tag)
        self.cgroup = cgroup2_mount() / name
        self.pins = Path("/sys/fs/bpf") / name
        self.node = Path(f"/run/netns/sluice-test-{self.tag}")
        self.namespaces: list[str] = []
        self.pods: list[Pod] = []
        self._offset = 0
        self._current = Tables()
        self.reset()

    def open(self) -> None:
        self.cgroup.mkdir()
        self._namespace(self.node.name)
        ip(
            "link set lo up",
            f"addr add {NODE4}/32 dev lo",
            f"addr add {NODE6}/128 dev lo",
            netns=self.node.name,
        )
        run_in_netns(self.node, _forward)
        self.kernel = Kernel.open(self.pins, self.cgroup)
        for index, name in enumerate(("one", "two", "three")):
            self.pods.append(self._pod(index, name))
        self.host = Host(self.node, NODE4, NODE6, layout.HOST_ID)
        self.world = self._world()

    def close(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.remove()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        for path in sorted(self.cgroup.rglob("*"), key=lambda p: -len(p.parts)):
            if path.is_dir():
                path.rmdir()
        if self.cgroup.exists():
            self.cgroup.rmdir()

    def _namespace(self, name: str) -> Path:
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces.append(name)
        return Path("/run/netns") / name

    def _pod(self, index: int, name: str) -> Pod:
        ip4, ip6 = f"10.64.0.{index + 5}", f"fd51:ce00:0:1::{index + 5}"
        outside = f"slt{self.tag}{index}"
        netns = self._namespace(f"sluice-test-{self.tag}-{name}")
        host_mac, mac = f"02:00:00:00:01:{index:02x}", f"02:00:00:00:02:{index:02x}"
        ip(
            f"link add {outside} address {host_mac} type veth"
            f" peer name eth0 address {mac} netns {netns.name}",
            f"link set {outside} up",
            f"route add {ip4}/32 dev {outside}",
            f"route add {ip6}/128 dev {outside}",
            f"neigh add {ip4} lladdr {mac} dev {outside} nud permanent",
            f"neigh add {ip6} lladdr {mac} dev {outside} nud permanent",
            netns=self.node.name,
        )
        ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {ip4}/32 dev eth0",
            f"addr add {ip6}/128 dev eth0 nodad",
            f"neigh add 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent",
            f"neigh add fe80::1 lladdr {host_mac} dev eth0 nud permanent",
            "route add 169.254.1.1 dev eth0 scope link",
            f"route add default via 169.254.1.1 dev eth0 src {ip4}",
            f"route add default via fe80::1 dev eth0 src {ip6}",
            "route add local fd51:ce:1::/96 dev lo",
            "addr add ::6/128 dev lo",
            netns=netns.name,
        )
        pod = Pod(
            netns,
            ip4,
            ip6,
            256 + index,
            name,
            outside,
            0,
            self.cgroup / "pods" / name,
            self.cgroup / "proxies" / name,
            host_mac,
        )
        pod.cgroup.mkdir(parents=True)
        pod.proxies.mkdir(parents=True)
        pod.ifindex = run_in_netns(self.node, lambda: socket.if_nametoindex(outside))
        run_in_netns(self.node, lambda: self.kernel.attach_pod(name, pod.ifindex))
        cookie = layout.NetnsKey(self.kernel.netns_cookie(netns))
        addresses = layout.NetnsValue(packed_address(ip4), packed_address(ip6))
        self.kernel.table("sl_netns").update({cookie.pack(): addresses.pack()})
        return pod

    def _world(self) -> Host:
        netns = self._namespace(f"sluice-test-{self.tag}-world")
        outside = f"slw{self.tag}"
        ip(
            f"link add {outside} type veth peer name eth0 netns {netns.name}",
            f"link set {outside} up",
            f"addr add 192.0.2.1/24 dev {outside}",
            f"addr add 2001:db8::1/64 dev {outside} nodad",
            netns=self.node.name,
        )
        ip(
            "link set lo up",
            "link set eth0 up",
            f"addr add {WORLD4}/24 dev eth0",
            f"addr add {WORLD6}/64 dev eth0 nodad",
            "route add default via 192.0.2.1",
            "route add default via 2001:db8::1",
            netns=netns.name,
        )
        return Host(netns, WORLD4, WORLD6, layout.WORLD_ID)

    def reset(self) -> None:
        """Wants a mesh of pods without services or policies."""
        self.wanted = Tables()
        self.policies: dict[str, dict[str, int]] = {}
        self.rules: dict[int, dict[tuple[int, int], layout.RuleValue]] = {}

    def events(self, kind: layout.EventType, *, dst_port: int | None = None) -> list[layout.Event]:
        """Those written since the last call, of one type."""
        found = [layout.Event.unpack(record) for record in self.kernel.events().drain()]
        return [e for e in found if e.type == kind and dst_port in (None, e.dst_port)]

    def dropped(self, reason: layout.DropReason) -> int:
        return self.kernel.counters()[f"dropped_{reason.name.lower()}"]

    def sweep(self) -> int:
        return self.kernel.sweep([pod.netns for pod in self.pods])

    # What a test says it wants, until `apply`.

    def select(self, pod: Pod, *, ingress: int = 0, egress: int = 0, flags: int = 0, view: int = 0) -> None:
        self.policies[pod.name] = {"ingress_set": ingress, "egress_set": egress, "flags": flags, "view": view}

    def peers(self, set: int, peers: Mapping[tuple[int, int], int]) -> None:
        """(id, cidrs) -> class; (0, 0) is the default."""
        for (id, cidrs), class_id in peers.items():
            self.wanted.put("sl_peer", layout.PeerKey(set, cidrs, id), layout.PeerSlot(class_id=class_id))

    def rule(
        self,
        class_id: int,
        verdict: Verdict,
        *,
        protocol: int | None = None,
        port: int | None = None,
        bits: int = 16,
        listener: int = 0,
        cookie: int = 7,
        audit: layout.Audit = layout.Audit.SAME,
        audit_cookie: int = 0,
    ) -> None:
        bits = 0 if protocol is None else 8 + (bits if port is not None else 0)
        first = (protocol or 0) << 16 | (port or 0)
        value = layout.RuleValue(verdict, audit, listener, cookie, audit_cookie)
        self.rules.setdefault(class_id, {})[bits, first] = value

    def _rule_pages(self) -> None:
        """The longer prefix of (protocol, port) has its way; nothing else is said, so it is denied."""
        for class_id, rules in self.rules.items():
            ends = {0, *(e for b, first in rules for e in (first, first + (1 << (24 - b))))} - {END}
            found = []
            for place in sorted(ends):
                said = [(b, rules[b, f]) for b, f in rules if f <= place < f + (1 << (24 - b))]
                longest = max(said, key=lambda entry: entry[0])[1] if said else layout.RuleValue(Verdict.DENY)
                found.append((place, longest))
            for key, page in pages(class_id, found):
                self.wanted.slots.setdefault("sl_rule", {})[key] = layout.RulePage.unpack(page)

    def block(self, cidr: str, id: int, cidrs: int = 0) -> None:
        self.wanted.put("sl_addr", layout.AddrKey.of(cidr), layout.AddrSlot(id=id, cidrs=cidrs))

    def service(
        self,
        vip: str,
        port: int,
        backends: list[tuple[str, int]],
        *,
        protocol: int = TCP,
        routed: bool = False,
        affinity: int = 0,
    ) -> None:
        size = 0 if not backends else 7
        chosen = [backends[i % len(backends)] for i in range(size)]
        content = b"".join(layout.Backend(packed_address(a), p).pack() for a, p in chosen)
        if content:
            table = self.kernel.table("sl_maglev")
            MaglevArray(table.fd, table.max_entries).write(self._offset, content)
        flags = layout.ServiceFlags.PRESENT | (layout.ServiceFlags.ROUTED if routed else 0)
        self.wanted.put(
            "sl_service",
            layout.ServiceKey(packed_address(vip), port, protocol),
            layout.ServiceSlot(size=size, offset=self._offset, affinity=affinity, flags=flags, id=9),
        )
        self.wanted.put("sl_vip", layout.VipKey(packed_address(vip)), layout.VipValue())
        self._offset += size

    def route(self, vip: str, port: int, view: int = 0) -> None:
        steer = layout.RouteSlot(action=layout.RouteAction.STEER)
        self.wanted.put("sl_route", layout.RouteKey(view, packed_address(vip), port, TCP), steer)

    def forget(self, pod: Pod) -> None:
        """At once, and until the next `apply`: as if the agent had not heard of the pod."""
        self.kernel.table("sl_pod").delete([packed_address(pod.ip4), packed_address(pod.ip6)])

    def apply(self, *, forget_flows: bool = False) -> int:
        """Writes what is wanted as the next generation, puts it in force, and returns it."""
        kernel, before = self.kernel, self.kernel.generation
        for pod in self.pods:
            for address in (pod.ip4, pod.ip6):
                self.wanted.put(
                    "sl_pod",
                    layout.PodKey(packed_address(address)),
                    layout.PodSlot(id=pod.id, ifindex=pod.ifindex, **self.policies.get(pod.name, {})),
                )
                bits = 128 if ":" in address else 32
                key = layout.AddrKey.of(f"{address}/{bits}")
                if key.pack() not in self.wanted.slots.get("sl_addr", {}):
                    self.wanted.put("sl_addr", key, layout.AddrSlot(id=pod.id))
        self._rule_pages()
        for address in (NODE4, NODE6):
            self.wanted.put("sl_addr", layout.AddrKey.of(address), layout.AddrSlot(id=layout.HOST_ID))
        names = set(self.wanted.slots) | set(self._current.slots)
        gone = {}
        for name in names:
            new, old = self.wanted.slots.get(name, {}), self._current.slots.get(name, {})
            gone[name] = old.keys() - new.keys()
            kernel.table(name).update(dict(_entries(name, new, old, before)))
        kernel.flip(before + 1)
        kernel.quiesce()
        for name, keys in gone.items():
            kernel.table(name).delete(keys)
        if forget_flows:
            for name in _EPHEMERAL:
                table = kernel.table(name)
                table.delete([key for key, _ in list(table.items())])
        self._current, self.wanted = self.wanted, Tables({n: dict(s) for n, s in self.wanted.slots.items()})
        return before + 1


def _entries(
    name: str, new: Mapping[bytes, Any], old: Mapping[bytes, Any], now: int
) -> Iterator[tuple[bytes, bytes]]:
    kind = _TWO_SLOTS.get(name)
    for key in new.keys() | old.keys():
        if kind is None:
            if key in new:
                yield key, new[key].pack()
            continue
        was = replace(old[key], generation=now) if key in old else kind.SLOT()
        will = replace(new[key], generation=now + 1) if key in new else kind.SLOT(generation=now + 1)
        # The slot of even generations is the first: the one in force is never overwritten.
        yield key, kind((will, was) if now % 2 else (was, will)).pack()


def _forward() -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
