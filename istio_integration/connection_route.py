"""TLSRoute and TCPRoute of a VirtualService: one rule about whole connections."""

from __future__ import annotations

from collections.abc import Sequence

from istio_integration.callers import CALLERS, callers
from istio_integration.destinations import backends
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_subdomain, network, port
from mesh.model import ConnectionMatch, ConnectionRule
from mesh.routes.host_pattern import covers

ROUTE = Fields(("match", "route"))
TLS_MATCH = Fields(("sniHosts", "destinationSubnets", "port", *CALLERS))
TCP_MATCH = Fields(
    ("destinationSubnets", "port", *CALLERS),
    refused=("sourceSubnet",),
    why="is not supported: who calls is said by sourceLabels and sourceNamespace",
)


def tls_rule(item: Reader, hosts: Sequence[str]) -> ConnectionRule:
    """`hosts` are those of the VirtualService, as they are written and as they are meant: each name of a TLS
    hello must be inside one of them."""
    item.fields(ROUTE)
    matches = item.at("match").items()
    if not matches and item.at("match").sound:
        item.at("match").refuse("is required: name the sniHosts")
    found = tuple(
        _match(match.fields(TLS_MATCH), _server_names(match.at("sniHosts"), hosts)) for match in matches
    )
    return ConnectionRule(item.rule_field, "tls", found, backends(item.at("route")))


def tcp_rule(item: Reader) -> ConnectionRule:
    item.fields(ROUTE)
    found = tuple(_match(match.fields(TCP_MATCH), ()) for match in item.at("match").items())
    return ConnectionRule(item.rule_field, "tcp", found, backends(item.at("route")))


def _match(match: Reader, server_names: tuple[str, ...]) -> ConnectionMatch:
    blocks = [network(item, bare=True) for item in match.at("destinationSubnets").items()]
    return ConnectionMatch(
        port(match.at("port")),
        tuple(dict.fromkeys(str(block) for block in blocks if block)),
        server_names,
        callers(match),
    )


def _server_names(reader: Reader, hosts: Sequence[str]) -> tuple[str, ...]:
    """`*` is every name, and none."""
    found = []
    for item in reader.items():
        text = item.text().lower()
        if item.sound and text != "*" and not is_subdomain(text.removeprefix("*.")):
            item.refuse(f"{shown(text)} is not a name of a TLS hello: write example.com or *.example.com")
        elif item.sound and not any(covers(host, text) for host in hosts):
            item.refuse(f"{shown(text)} is outside the hosts of this VirtualService")
        found.append(text)
    if not found and reader.sound:
        reader.refuse("is required: name what the TLS hello asks for")
    return () if "*" in found else tuple(dict.fromkeys(found))
