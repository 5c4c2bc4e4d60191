"""Istio's Gateways that are in each other's way, or that nobody reaches. The codes are those of Istio's own
messages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from mesh.age import age
from mesh.analysis.finding import Check, Trap, some
from mesh.analysis.view import View
from mesh.model import Gateway, Listener
from mesh.routes.host_pattern import covers


def one_certificate_twice(view: View) -> Iterator[Trap]:
    """Browsers use one HTTP/2 connection for all names of a certificate (RFC 9113, 9.1.1), and ask one
    Gateway for what the other one serves."""
    for older, newer in combinations(_gateways(view), 2):
        if older.subject == newer.subject and (shared := sorted(_certificates(older) & _certificates(newer))):
            yield Trap(
                newer.ref,
                "spec.servers",
                f"has the certificate {some(shared)} in common with {older.ref}: requests on one HTTP/2 "
                "connection for hosts of the other one are answered 404",
                "put the servers into one Gateway, or give each its own certificate",
            )


def one_place_twice(view: View) -> Iterator[Trap]:
    """Servers of two Gateways with the same pods, port and host."""
    for older, newer in combinations(_gateways(view), 2):
        if older.subject != newer.subject:
            continue
        for index, server in enumerate(newer.listeners):
            hosts = sorted({host for other in older.listeners for host in _shared(server, other)})
            if hosts:
                yield Trap(
                    newer.ref,
                    f"spec.servers[{index}]",
                    f"{older.ref} serves {some(hosts)} on port {server.port} of the same pods",
                    "put the servers into one Gateway, or tell them apart by host, port or selector",
                )


def port_is_not_in_the_service(view: View) -> Iterator[Trap]:
    """A Gateway listens at its port in its pods; a Service that has no such target leads nobody there."""
    for gateway in _gateways(view):
        assert gateway.subject is not None
        pods = view.selected(gateway.subject)
        targets = {
            target for pod in pods for _, port, target in view.service_ports(pod) if port.protocol == "TCP"
        }
        for index, server in enumerate(gateway.listeners):
            if targets and server.port not in targets:
                yield Trap(
                    gateway.ref,
                    f"spec.servers[{index}].port",
                    f"no Service of its pods has target port {server.port}, only {some(sorted(targets))}",
                    "add the port to the Service",
                )


def _gateways(view: View) -> list[Gateway]:
    """The oldest first."""
    found = (gateway for gateway in view.mesh.gateways.all.values() if gateway.subject is not None)
    return sorted(found, key=age)


def _certificates(gateway: Gateway) -> set[str]:
    return {str(ref) for server in gateway.listeners if server.tls for ref in server.tls.certificates}


def _shared(one: Listener, other: Listener) -> list[str]:
    if one.port != other.port or (one.bind != other.bind and one.bind and other.bind):
        return []
    return [
        mine.host
        for mine in one.hosts
        for theirs in other.hosts
        if covers(mine.host, theirs.host) or covers(theirs.host, mine.host)
    ]


CHECKS = (
    Check("IST0138", "Warning", "Gateways have one certificate", one_certificate_twice),
    Check("IST0145", "Error", "Gateways serve one host on one port", one_place_twice),
    Check("IST0162", "Warning", "no Service leads to a Gateway's port", port_is_not_in_the_service),
)
