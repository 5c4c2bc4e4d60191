"""TunnelSettings: connections that a proxy, the host of the rule, is asked to take somewhere else."""

from __future__ import annotations

from ipaddress import ip_address

from istio_integration.hosts import is_address
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_subdomain, port
from mesh.model import Tunnel

TUNNEL = Fields(("protocol", "targetHost", "targetPort"))
METHODS = ("CONNECT", "POST")


def tunnel(reader: Reader) -> Tunnel | None:
    if not reader.fields(TUNNEL).present:
        return None
    post = reader.at("protocol").choice(METHODS, "CONNECT") == "POST"
    number = port(reader.at("targetPort")) if reader.at("targetPort").require() else 0
    return Tunnel(f"{_host(reader.at('targetHost'))}:{number}", post)


def _host(reader: Reader) -> str:
    text = reader.text()
    if not reader.require() or not reader.sound:
        return ""
    if is_address(text):
        address = ip_address(text)
        return f"[{address}]" if address.version == 6 else str(address)
    if not is_subdomain(text):
        reader.refuse(f"{shown(text)} is no host: write a full DNS name in lower case or an address")
    return text
