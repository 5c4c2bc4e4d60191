"""Which ports, and which requests on them, a Cilium rule is about: its `toPorts`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import TRANSPORTS, expression, port_match, port_name, printable, token
from mesh.model import HeaderMatch, HttpMatch, PortMatch, PortRange, Protocol

PORT_RULE = Fields(
    ("ports", "rules"), refused=("terminatingTLS", "originatingTLS", "serverNames", "listener")
)
PORT = Fields(("port", "endPort", "protocol"))
L7_RULES = Fields(("http",), refused=("dns", "kafka", "l7", "l7proto"))
HTTP_RULE = Fields(("method", "path", "host", "headers"), refused=("headerMatches",))

MAX_PORTS = 40

_PROTOCOLS = ("ANY", *TRANSPORTS)
_REFUSED_PROTOCOLS = ("ICMP", "ICMPv6", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Opening:
    """One entry of `toPorts`. `ports` is None where they could not be read."""

    reader: Reader
    ports: tuple[PortMatch, ...] | None
    http: tuple[HttpMatch, ...] | None


def read_openings(to_ports: Reader, deny: bool) -> list[Opening]:
    found = [_opening(item, deny) for item in to_ports.items()]
    if to_ports.value == []:
        to_ports.refuse("is empty: leave it out for every port")
    return found


def _opening(reader: Reader, deny: bool) -> Opening:
    reader.fields(PORT_RULE)
    rules = reader.at("rules")
    if deny and rules.present:
        rules.refuse("a deny rule cannot look into requests: it denies connections")
    ports = _ports(reader.at("ports"), http=rules.present and not deny)
    readable = reader.at("ports").sound and not reader.strange
    return Opening(reader, ports if readable else None, None if deny else _http(rules))


def _ports(reader: Reader, http: bool) -> tuple[PortMatch, ...]:
    found = tuple(_port(item, http) for item in reader.items(at_most=MAX_PORTS))
    if not reader.present or reader.value == []:
        reader.refuse("needs at least one port; port 0 is every port")
    return found


def _port(reader: Reader, http: bool) -> PortMatch:
    reader.fields(PORT)
    number, end, kind = reader.at("port"), reader.at("endPort"), reader.at("protocol")
    number.require()
    chosen = kind.choice(_PROTOCOLS, "ANY", unsupported=_REFUSED_PROTOCOLS)
    if http and chosen != "TCP" and kind.sound:
        kind.refuse(f"HTTP rules apply to TCP only: write protocol TCP, not {chosen}")
    protocol = None if chosen == "ANY" else cast(Protocol, chosen)
    text = number.text()
    if not number.present or not _NUMBER.fullmatch(text):
        return port_match(protocol, port_name(number, fold=True), end)
    first = int(text)
    if first > 65535:
        number.refuse(f"is {text}; must be 0 to 65535, or a port name")
    if first == 0:
        if http:
            number.refuse("is 0: HTTP rules need a port")
        if end.present:
            end.refuse("needs a port from 1: port 0 is every port already")
        return PortRange(protocol)
    return port_match(protocol, first, end)


def _http(rules: Reader) -> tuple[HttpMatch, ...] | None:
    if not rules.present:
        return None
    rules.fields(L7_RULES)
    http = rules.at("http")
    found = tuple(_match(item) for item in http.items())
    if not found and rules.sound:
        http.refuse("needs at least one rule; an empty one, {}, matches every request")
    return found


def _match(reader: Reader) -> HttpMatch:
    reader.fields(HTTP_RULE)
    method, path, host = (expression(reader.at(name)) for name in ("method", "path", "host"))
    headers = tuple(sorted({_header(item) for item in reader.at("headers").items()}, key=str))
    return HttpMatch(method, path, host, headers)


def _header(reader: Reader) -> HeaderMatch:
    """As Cilium reads it: `X-Name: value` must be equal, `X-Name` alone must be present."""
    name, space, value = printable(reader, 4096).partition(" ")
    name = name.rstrip(":") if space else name
    return HeaderMatch(token(reader, name).lower(), value if space else None)
