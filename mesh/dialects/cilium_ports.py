"""Which ports a Cilium rule is about: its `toPorts` (pkg/policy/api/l4.go and rule_validation.go)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from mesh.dialects.cilium_l7 import L7, NOTHING, read_l7
from mesh.dialects.cilium_names import pattern_of
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import TRANSPORTS, port_match, port_name
from mesh.model import PortMatch, PortRange, Protocol

PORT_RULE = Fields(
    ("ports", "rules", "serverNames"), refused=("terminatingTLS", "originatingTLS", "listener")
)
DENY_PORT_RULE = Fields(
    ("ports",),
    refused=("rules", "serverNames", *PORT_RULE.refused),
    why="cannot stand in a deny rule: it denies connections and looks into none",
)
PORT = Fields(("port", "endPort", "protocol"))

MAX_PORTS = 40

#: Protocols without ports.
_PORTLESS = ("VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH")
_PROTOCOLS = ("ANY", *TRANSPORTS, *_PORTLESS)
_ICMP = ("ICMP", "ICMPv6")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Opening:
    """One entry of `toPorts`. `ports` is None where they could not be read."""

    reader: Reader
    ports: tuple[PortMatch, ...] | None
    l7: L7


def read_openings(to_ports: Reader, deny: bool, egress: bool) -> list[Opening]:
    found = [_opening(item, deny, egress) for item in to_ports.items()]
    if to_ports.value == []:
        to_ports.refuse("is empty: leave it out for every port")
    return found


def _opening(reader: Reader, deny: bool, egress: bool) -> Opening:
    reader.fields(DENY_PORT_RULE if deny else PORT_RULE)
    rules, names = reader.at("rules"), reader.at("serverNames")
    if rules.present and names.present and not deny:
        names.refuse("beside rules needs terminatingTLS, which is not supported yet")
    l7 = NOTHING if deny else read_l7(rules, egress)
    if names.present and not deny:
        l7 = L7(server_names=tuple(pattern_of(item) for item in names.items()))
        if names.value == [] or any(not item.text() for item in names.items()):
            names.refuse("needs server names that are not empty")
    ports = _ports(reader.at("ports"), l7)
    readable = reader.at("ports").sound and not reader.strange
    return Opening(reader, ports if readable else None, l7)


def _ports(reader: Reader, l7: L7) -> tuple[PortMatch, ...]:
    found = tuple(_port(item, l7) for item in reader.items(at_most=MAX_PORTS))
    if (not reader.present or reader.value == []) and not l7.server_names:
        reader.refuse("needs at least one port; port 0 is every port")
    return found or (PortRange("TCP"),)


def _port(reader: Reader, l7: L7) -> PortMatch:
    reader.fields(PORT)
    number, end, kind = reader.at("port"), reader.at("endPort"), reader.at("protocol")
    chosen = kind.choice(_PROTOCOLS, "ANY", unsupported=_ICMP)
    if l7.what and kind.sound:
        if l7.dns is None and chosen != "TCP":
            kind.refuse(f"{l7.what} rules apply to TCP only: write protocol TCP, not {chosen}")
        if chosen in _PORTLESS:
            kind.refuse(f"{l7.what} rules apply to protocols with ports, not to {chosen}")
    protocol = None if chosen == "ANY" else cast(Protocol, chosen)
    text = number.text()
    if chosen in _PORTLESS:
        if (number.present and text not in ("", "0")) or end.present:
            number.refuse(f"{chosen} has no ports: leave the port out, or write 0")
        return PortRange(protocol)
    number.require()
    if not number.present or not _NUMBER.fullmatch(text):
        if l7.dns is not None and number.present:
            number.refuse("DNS rules need a number, not a name")
        return port_match(protocol, port_name(number, fold=True), end)
    first = int(text)
    if first > 65535:
        number.refuse(f"is {text}; must be 0 to 65535, or a port name")
    if l7.dns is not None and end.present:
        end.refuse("DNS rules take no ranges")
    if first == 0:
        if l7.what and not l7.server_names:
            number.refuse(f"is 0: {l7.what} rules need a port")
        if end.present:
            end.refuse("needs a port from 1: port 0 is every port already")
        return PortRange(protocol)
    return port_match(protocol, first, end)
