"""The names of what a trace sees: pods by network namespace and address, Services by what stands behind
them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from mesh.listener import EGRESS_BLOCKS, EGRESS_PORT, INGRESS_BLOCKS, INGRESS_PORT, INGRESS_SOURCES

#: The node itself, and what no name is known of.
NODE = "node"

_LISTENERS = [ip_network(block) for block in (*EGRESS_BLOCKS, *INGRESS_BLOCKS)]


@dataclass(frozen=True, slots=True)
class TraceNames:
    """`owners`: inode of a network namespace -> pod, or NODE. `addresses`: address -> pod, Service or NODE.
    `services`: `address:port` -> the Services whose backend that is."""

    owners: Mapping[int, str]
    addresses: Mapping[str, str]
    services: Mapping[str, tuple[str, ...]]

    def tell(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """A line of the trace with its ends named: where it was seen, its two ends, the Services behind."""
        where = self.owners.get(line["netns"], "")
        source = self._end(line["source"], line["source_port"], where)
        destination = self._end(line["destination"], line["destination_port"], where)
        rest = {
            key: value
            for key, value in line.items()
            if key not in ("netns", "source", "source_port", "destination", "destination_port")
        }
        return {"pod": where, "source": source, "destination": destination, **rest}

    def _end(self, address: str, port: int, where: str) -> dict[str, Any]:
        name = _beside(address, port, where) or self.addresses.get(address, "")
        services = list(self.services.get(f"{address}:{port}", ()))
        return {"ip": address, "port": port, "name": name, "services": services}


def _beside(address: str, port: int, where: str) -> str:
    """Who has an address that means something in one pod only: its Envoy, where steered sockets go and
    from where they go on to the application, or the pod itself."""
    ip = ip_address(address)
    dialled = port in (EGRESS_PORT, INGRESS_PORT) and any(ip in block for block in _LISTENERS)
    if dialled or address in INGRESS_SOURCES:
        return f"Envoy of {where}"
    return where if ip.is_loopback else ""


def concerns(told: Mapping[str, Any], pod: str) -> bool:
    """Is it about that pod: seen in it, or with it at one end?"""
    return pod in (told["pod"], told["source"]["name"], told["destination"]["name"])
