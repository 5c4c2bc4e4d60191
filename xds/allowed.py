"""Where the control plane may fetch what a user's URL names (threat N26): public addresses, and what the
operator allows besides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

#: IPv4 behind IPv6 (RFC 6052, 2.1), and all that is public in IPv6 (RFC 4291, 2.4).
_TRANSLATED, _UNICAST = IPv6Network("64:ff9b::/96"), IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where else than on public addresses may be asked: blocks, and hosts whatever their address. `option` is
    the operator's that says so."""

    blocks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    option: str = "--jwks-allow"

    @classmethod
    def of(cls, texts: Iterable[str], option: str = "--jwks-allow") -> Allowed:
        """Each an address, a block or a name. Raises ValueError."""
        blocks: list[IPv4Network | IPv6Network] = []
        hosts: set[str] = set()
        for text in texts:
            try:
                blocks.append(ip_network(text))
            except ValueError:
                if not text.isascii() or not text.replace("-", "").replace(".", "").isalnum():
                    raise ValueError(f"{text!r} is no address block and no host") from None
                hosts.add(_plain(text))
        return cls(tuple(blocks), frozenset(hosts), option)

    def permits(self, host: str, address: str) -> bool:
        found = _meant(ip_address(address))
        if _plain(host) in self.hosts or any(found in block for block in self.blocks):
            return True
        if isinstance(found, IPv6Address) and found not in _UNICAST:
            return False
        return found.is_global and not found.is_multicast


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside one of IPv6, if there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
