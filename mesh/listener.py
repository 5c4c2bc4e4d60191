"""Where the listeners of an Envoy stand: addresses made of the number of an L7 class.

The control plane renders them and the agent dials, guards and takes them over, so both must derive
the same. Egress and routing listeners stand on loopback, where the connect hooks send sockets;
ingress listeners stand on addresses that nobody can dial, where only `sk_lookup` leads.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

EGRESS_PORT = 15001
INGRESS_PORT = 15006

#: Blocks that hold every listener. No connection has its original destination in them.
EGRESS_BLOCKS = ("127.0.0.0/8", "fd51:ce:1::/96")
INGRESS_BLOCKS = ("240.0.0.0/8", "fd51:ce:2::/96")

#: Where an Envoy's connections to its own pod come from (as in Istio), so that they are not judged again.
INGRESS_SOURCES = ("127.0.0.6", "::6")

_LAST_NUMBER = (1 << 24) - 1


def egress_addresses(number: int) -> tuple[str, str]:
    """IPv4 and IPv6 address of an egress class's listener, or of the routing one.

    Raises ValueError outside 1..2^24-1."""
    return _addresses(number, "127.0.0.0", "fd51:ce:1::")


def ingress_addresses(number: int) -> tuple[str, str]:
    """IPv4 and IPv6 address of an ingress class's listener. Raises ValueError outside 1..2^24-1."""
    return _addresses(number, "240.0.0.0", "fd51:ce:2::")


def _addresses(number: int, v4: str, v6: str) -> tuple[str, str]:
    if not 0 < number <= _LAST_NUMBER:
        raise ValueError(f"listener number {number} is not in 1..{_LAST_NUMBER}")
    return str(IPv4Address(v4) + number), str(IPv6Address(v6) + number)
