"""A pod's link to its node: a veth pair with fixed neighbours, so that no packet waits for ARP or
neighbour discovery and none of either need pass the hooks. Knows addresses, no mesh."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.iproute import change

#: What a pod believes to be its router. No interface has the first; every host end has the second.
GATEWAY4, GATEWAY6 = "169.254.1.1", "fe80::1"


@dataclass(frozen=True, slots=True)
class PodLink:
    """The two ends of a pod's veth: `host_interface` in the node's namespace, `eth0` in the pod's."""

    uid: str

    @property
    def host_interface(self) -> str:
        return f"slc{self.uid[:8]}"

    @property
    def pod_mac(self) -> str:
        return self._mac("02")

    @property
    def host_mac(self) -> str:
        return self._mac("06")

    def _mac(self, first: str) -> str:
        return ":".join([first, "51", *(self.uid[i : i + 2] for i in range(0, 8, 2))])


def attach_link(
    link: PodLink, node_netns: str, pod_netns: str, pod: tuple[str, str], node: tuple[str, str]
) -> None:
    """Wire a pod's namespace to the node's. Addresses are (IPv4, IPv6)."""
    host, (pod4, pod6), (node4, node6) = link.host_interface, pod, node
    change(
        [
            f"link add {host} address {link.host_mac} type veth"
            f" peer name eth0 address {link.pod_mac} netns {pod_netns}",
            f"link set {host} addrgenmode none",
            f"link set {host} up",
            f"address add {GATEWAY6}/64 dev {host} nodad",
            f"neighbour replace {pod4} lladdr {link.pod_mac} nud permanent dev {host}",
            f"neighbour replace {pod6} lladdr {link.pod_mac} nud permanent dev {host}",
            f"route add {pod4}/32 dev {host} src {node4}",
            f"route add {pod6}/128 dev {host} src {node6}",
        ],
        netns=node_netns,
    )
    change(
        [
            "link set lo up",
            "link set eth0 addrgenmode none",
            "link set eth0 up",
            f"address add {pod4}/32 dev eth0",
            f"address add {pod6}/128 dev eth0 nodad",
            f"neighbour replace {GATEWAY4} lladdr {link.host_mac} nud permanent dev eth0",
            f"neighbour replace {GATEWAY6} lladdr {link.host_mac} nud permanent dev eth0",
            f"route add default via {GATEWAY4} dev eth0 onlink",
            f"route add ::/0 via {GATEWAY6} dev eth0 onlink",
        ],
        netns=pod_netns,
    )
