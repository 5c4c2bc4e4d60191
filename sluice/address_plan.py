"""The address ranges of the embedded mesh with a given number; pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

#: How many meshes one machine can hold.
MESHES = 64

#: Pod numbers: 0 is the network, 1 the node, the last the broadcast address.
FIRST_POD, LAST_POD = 2, 0xFFFE


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Mesh `index` of the machine, 0..63."""

    index: int

    @property
    def pods(self) -> tuple[IPv4Network, IPv6Network]:
        return IPv4Network(f"10.{64 + self.index}.0.0/16"), IPv6Network(f"fd51:ce00:{self.index:x}:1::/64")

    @property
    def services(self) -> tuple[IPv4Network, IPv6Network]:
        return IPv4Network(f"10.{128 + self.index}.0.0/16"), IPv6Network(f"fd51:ce00:{self.index:x}:2::/112")

    @property
    def node(self) -> tuple[str, str]:
        return self.pod(1)

    @property
    def outside(self) -> tuple[str, str]:
        """From where connections from the machine come in: addresses of nobody in the mesh, so that policy
        takes them for the world. (RFC 6598: shared space, which no client of the world has.)"""
        return f"100.127.{self.index}.1", f"fd51:ce00:{self.index:x}:3::1"

    @property
    def resolver(self) -> tuple[str, str]:
        """Where pods find the mesh's resolver: address ten of the Services, as Kubernetes has it."""
        ipv4, ipv6 = self.services
        return str(ipv4[10]), str(ipv6[10])

    def pod(self, number: int) -> tuple[str, str]:
        """The IPv4 and the IPv6 address of pod `number`, FIRST_POD..LAST_POD."""
        ipv4, ipv6 = self.pods
        return str(ipv4[number]), str(ipv6[number])

    def number(self, ipv4: str) -> int:
        """The inverse of `pod`."""
        _, _, high, low = map(int, ipv4.split("."))
        return high << 8 | low

    def record(self) -> dict[str, object]:
        """What mesh.json says, for processes that must not know the arithmetic."""
        return {
            "index": self.index,
            "pods": [str(block) for block in self.pods],
            "services": [str(block) for block in self.services],
            "node_addresses": list(self.node),
        }
