"""Lowers one record to the map entries it stands for: (table, key, payload), all bytes.

Pure functions of one record each (and, for a pod, of where it is on this machine), so a change costs its
own size. This file knows what the programs look up; it knows neither generations nor what is in the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from agent import rule_pages
from bpf import layout
from mesh.model import Protocol, ServiceName
from mesh.node import (
    EVERYONE,
    BlockRecord,
    PodRecord,
    PolicyClass,
    PolicySet,
    PortVerdict,
    ServicePortRecord,
    ServiceRecord,
    Verdict,
    WorkloadRecord,
    stable_id,
)

#: (table, key, payload): for a two-slot table the payload is a slot of generation 0.
Entry = tuple[str, bytes, bytes]
Entries = tuple[Entry, ...]

#: Packed backends of one service address and port, sorted; with a larger share one stands there more often.
Backends = tuple[bytes, ...]

#: The protocols that rules name, by IANA's numbers. The first three have ports, ICMP's types count as such,
#: the others have none. What has no name here is judged as "every protocol" is: UDP-Lite, say, is not UDP.
PROTOCOL_NUMBERS: dict[Protocol, int] = {
    "TCP": socket.IPPROTO_TCP,
    "UDP": socket.IPPROTO_UDP,
    "SCTP": socket.IPPROTO_SCTP,
    "ICMP": socket.IPPROTO_ICMP,
    "ICMPv6": socket.IPPROTO_ICMPV6,
    "IGMP": socket.IPPROTO_IGMP,
    "IPIP": socket.IPPROTO_IPIP,
    "IPV6": socket.IPPROTO_IPV6,
    "GRE": socket.IPPROTO_GRE,
    "ESP": socket.IPPROTO_ESP,
    "AH": socket.IPPROTO_AH,
    "VRRP": 112,
}

_LOW = 0xFFFF_FFFF
_MAPPED = layout.packed_address("0.0.0.0")[:12]
_VERDICTS: dict[Verdict, layout.Verdict] = {
    "deny": layout.Verdict.DENY,
    "allow": layout.Verdict.ALLOW,
    "steer": layout.Verdict.STEER,
}


@dataclass(frozen=True, slots=True)
class Block:
    """Entries `offset`..`offset + size - 1` of sl_maglev."""

    offset: int
    size: int


#: Finds or makes the look-up table of these backends; the key is the entry that will refer to it.
Place = Callable[[bytes, Backends], Block]


@dataclass(frozen=True, slots=True)
class Local:
    """Where a pod is on this machine and what its Envoy is ready for."""

    cookie: int
    ifindex: int
    flags: int


def rules_cookie(rules: Iterable[str]) -> int:
    """The number by which flow events name the rules that decided; 0 for none."""
    named = tuple(rules)
    return stable_id("rules", *named) & _LOW if named else 0


def service_id(name: ServiceName) -> int:
    """The number by which the kernel tells services apart."""
    return stable_id("service", *name) & _LOW


def view_id(view: str) -> int:
    """Whose routes a pod sees."""
    return stable_id("view", view)


def workload_entries(record: WorkloadRecord) -> Entries:
    """Who has the workload's addresses."""
    return tuple(_address(address, record.security_id, cidrs) for address, cidrs in record.addresses)


def block_entries(record: BlockRecord) -> Entries:
    """Which policy CIDRs cover a block outside the mesh, or a node's own address (rule 11)."""
    slot = layout.AddrSlot(id=record.security_id, cidrs=record.cidr_set)
    return (("sl_addr", layout.AddrKey.of(record.cidr).pack(), slot.pack()),)


def service_entries(record: ServiceRecord, place: Place) -> Entries:
    """The service's addresses, its ports with their look-up tables, and who sees a route on them.

    An address behind which it stands itself, as a ServiceEntry may have, looks alike before and after; those
    of a headless service are nothing but that."""
    entries: list[Entry] = []
    present = layout.VipValue().pack()
    real = {address for port in record.ports for address, _ in port.backends}
    for vip in record.vips:
        packed = layout.packed_address(vip)
        if vip not in real:
            entries.append(("sl_vip", layout.VipKey(packed).pack(), present))
        for port in record.ports:
            if record.headless:
                own = tuple(place for place in port.backends if place == (vip, port.port))
                port = replace(port, backends=own)
                if not own:
                    continue
            entries.extend(_port_entries(record, packed, port, place))
    return tuple(entries)


def set_entries(record: PolicySet) -> Entries:
    """Which class of verdicts each peer gets from a set of policies."""
    peers = ((0, 0, record.default), *record.peers)
    return tuple(
        ("sl_peer", layout.PeerKey(record.id, cidrs, peer).pack(), layout.PeerSlot(class_id=number).pack())
        for peer, cidrs, number in peers
    )


def class_entries(record: PolicyClass) -> Entries:
    """The verdicts of a class. What no port entry covers is refused in the name of the class."""
    rest = PortVerdict(None, 0, 65535, "deny", 0, record.rules)
    ranges: list[rule_pages.Range] = []
    for verdict in record.verdicts:
        if verdict.protocol is None:
            rest = verdict
        else:
            places = PROTOCOL_NUMBERS[verdict.protocol] << 16
            ranges.append((places | verdict.first, places | verdict.last, _rule(verdict)))
    found = rule_pages.intervals(ranges, _rule(rest))
    return tuple(("sl_rule", key, page) for key, page in rule_pages.pages(record.id, found))


def pod_entries(record: PodRecord, local: Local) -> Entries:
    """What is enforced for a pod of this node."""
    slot = layout.PodSlot(
        id=record.security_id,
        ingress_set=record.ingress_set,
        egress_set=record.egress_set,
        view=view_id(record.view),
        ifindex=local.ifindex,
        flags=local.flags,
    ).pack()
    packed = [layout.packed_address(address) for address in record.addresses]
    entries: list[Entry] = [("sl_pod", layout.PodKey(address).pack(), slot) for address in packed]
    by_family = {_is_ip4(address): address for address in reversed(packed)}
    own = layout.NetnsValue(by_family.get(True, layout.NO_ADDRESS), by_family.get(False, layout.NO_ADDRESS))
    entries.append(("sl_netns", layout.NetnsKey(local.cookie).pack(), own.pack()))
    return tuple(entries)


def service_backends(port: ServicePortRecord, vip: bytes) -> Backends:
    """The packed backends of the vip's family, sorted and without repetition."""
    packed = {
        layout.Backend(address, number).pack()
        for address, number in ((layout.packed_address(a), n) for a, n in port.backends)
        if _is_ip4(address) == _is_ip4(vip)
    }
    return tuple(sorted(packed))


def _port_entries(
    record: ServiceRecord, vip: bytes, port: ServicePortRecord, place: Place
) -> Iterator[Entry]:
    protocol = PROTOCOL_NUMBERS[port.protocol]
    key = layout.ServiceKey(vip, port.port, protocol).pack()
    block = place(key, service_backends(port, vip))
    flags = layout.ServiceFlags.PRESENT
    if port.views or port.balanced:
        flags |= layout.ServiceFlags.ROUTED
    slot = layout.ServiceSlot(
        size=block.size,
        offset=block.offset,
        affinity=record.affinity_seconds,
        flags=flags,
        id=service_id(record.name),
    )
    yield "sl_service", key, slot.pack()
    for view in port.views:
        route = _route_key(view, vip, port.port, protocol)
        place(route, ())
        yield "sl_route", route, layout.RouteSlot(action=layout.RouteAction.STEER).pack()
    for view, by_client, shares in port.balanced:
        route = _route_key(view, vip, port.port, protocol)
        block = place(route, _shared_out(shares, vip))
        balance = layout.RouteSlot(
            action=layout.RouteAction.BALANCE,
            size=block.size,
            offset=block.offset,
            flags=layout.RouteFlags.BY_CLIENT if by_client else 0,
        )
        yield "sl_route", route, balance.pack()


def _route_key(view: str, vip: bytes, port: int, protocol: int) -> bytes:
    return layout.RouteKey(0 if view == EVERYONE else view_id(view), vip, port, protocol).pack()


def _shared_out(shares: Iterable[tuple[str, int, int]], vip: bytes) -> Backends:
    """The packed backends of the vip's family, each as often as it has parts."""
    found = [
        packed
        for address, number, parts in shares
        for packed in (layout.Backend(layout.packed_address(address), number).pack(),) * parts
    ]
    return tuple(sorted(packed for packed in found if _is_ip4(packed) == _is_ip4(vip)))


def _rule(verdict: PortVerdict) -> layout.RuleValue:
    reason = layout.DropReason.REGISTRY_ONLY if verdict.unnamed else layout.DropReason.NONE
    return layout.RuleValue(
        _VERDICTS[verdict.verdict],
        layout.Audit.SAME if verdict.audit is None else 1 + _VERDICTS[verdict.audit],
        verdict.listener or reason,
        rules_cookie(verdict.rules),
        rules_cookie(verdict.audit_rules),
    )


def _address(address: str, security_id: int, cidrs: int) -> Entry:
    key = layout.AddrKey(layout.ADDRESS_BITS, layout.packed_address(address))
    return "sl_addr", key.pack(), layout.AddrSlot(id=security_id, cidrs=cidrs).pack()


def _is_ip4(packed: bytes) -> bool:
    return packed.startswith(_MAPPED)
