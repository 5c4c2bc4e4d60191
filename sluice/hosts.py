"""/etc/hosts and /etc/resolv.conf of a pod, as the kubelet writes them: itself, and whom it asks for names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mesh.dns import CLUSTER_DOMAIN
from mesh.model import WorkloadName
from sluice.pod_spec import DnsPolicy

#: The machine's own, which a pod with `dnsPolicy: Default` has too.
RESOLV_CONF = Path("/etc/resolv.conf")

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_text(pod: WorkloadName, addresses: Sequence[str]) -> str:
    """A pod's /etc/hosts."""
    return _LOOPBACK + "".join(f"{address}\t{pod.name}\n" for address in addresses)


def resolv_text(pod: WorkloadName, policy: DnsPolicy, resolver: Sequence[str]) -> str:
    """A pod's /etc/resolv.conf; `resolver` is where the mesh's own stands."""
    if policy == "Default":
        return RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    search = f"{pod.namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}"
    return "".join(f"nameserver {address}\n" for address in resolver) + f"search {search}\noptions ndots:5\n"
