"""Address blocks that match other addresses than their author thought (semantics rules 1 and 17)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from ipaddress import ip_network

from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import View, Written
from mesh.model import CidrPeer, ServiceName, WorkloadName
from mesh.policies.cidr import matches, prefix_of


def world_block_over_pods(view: View) -> Iterator[Trap]:
    """Rule 17: Cilium's CIDRs never match pods, so a block around pods is not about them."""
    for written, peer, pods in _with_pods(view):
        if peer.reach == "world" and prefix_of(peer.cidr)[2]:
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"{peer.cidr} contains addresses of {some(pods)}, but a CIDR here never matches pods",
                "select pods with endpoints or entities; keep the CIDR for what is outside the mesh",
            )


def block_over_pods(view: View) -> Iterator[Trap]:
    """Rule 17: NetworkPolicy's ipBlock matches pods too. "The Internet" needs the pods excepted."""
    for written, peer, pods in _with_pods(view):
        if peer.reach == "anyone" and written.action == "accept":
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"ipBlock {peer.cidr} also allows pods: {some(pods)}",
                "except the pods' range; where pods are meant, a podSelector does not go stale",
            )


def block_over_services(view: View) -> Iterator[Trap]:
    """Rule 1: policies are asked about backends, after translation; a service address is never a peer."""
    for written in (*view.rules(), *view.ranked("admin"), *view.ranked("baseline")):
        for peer in written.rule.peers or ():
            if isinstance(peer, CidrPeer) and prefix_of(peer.cidr)[2]:
                found = _services(view, peer)
                if found and not _pods(view, peer):
                    yield Trap(
                        written.ref,
                        where(written.rule.field),
                        f"{peer.cidr} contains the address of Service {some(found)}: connections to a "
                        "Service are judged by its backends, so this matches none of them",
                        "select the pods behind the Service",
                    )


def _with_pods(view: View) -> Iterator[tuple[Written, CidrPeer, list[WorkloadName]]]:
    for written in (*view.rules(), *view.ranked("admin"), *view.ranked("baseline")):
        for peer in written.rule.peers or ():
            if isinstance(peer, CidrPeer) and (pods := _pods(view, peer)):
                yield written, peer, pods


def _pods(view: View, peer: CidrPeer) -> list[WorkloadName]:
    """The pods with an address in a block."""
    network = ip_network(peer.cidr)
    known = view.addresses[network.version]
    first, last = int(network.network_address), int(network.broadcast_address)
    found = known[bisect_left(known, (first,)) : bisect_left(known, (last + 1,))]
    return sorted({name for _, address, name in found if not peer.exceptions or matches(peer, address)})


def _services(view: View, peer: CidrPeer) -> list[ServiceName]:
    return sorted(n for n, vips in view.mesh.vips.items() if any(matches(peer, vip) for vip in vips))


CHECKS = (
    Check("SL0501", "Warning", "a Cilium CIDR lies over pods, which it never matches", world_block_over_pods),
    Check("SL0502", "Warning", "an ipBlock allows pods too", block_over_pods),
    Check("SL0503", "Warning", "a block is about addresses of Services, never judged", block_over_services),
)
