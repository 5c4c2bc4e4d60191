"""The files that tell a pod who it is and whom to ask for names, as the kubelet writes them into /etc."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mesh.dns import CLUSTER_DOMAIN
from sluice.pod_spec import PodSpec

#: The machine's own, which a pod with `dnsPolicy: Default` has too.
RESOLV_CONF = Path("/etc/resolv.conf")

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def name_files(spec: PodSpec, addresses: Sequence[str], resolver: Sequence[str]) -> dict[str, str]:
    """By their names below /etc; `resolver` is where the mesh's own stands."""
    own = "".join(f"{address}\t{spec.hostname}\n" for address in addresses)
    return {
        "hostname": spec.hostname + "\n",
        "hosts": _LOOPBACK + own,
        "resolv.conf": _resolv_conf(spec, resolver),
    }


def _resolv_conf(spec: PodSpec, resolver: Sequence[str]) -> str:
    if spec.dns_policy == "Default":
        return RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    search = f"{spec.name.namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}"
    return "".join(f"nameserver {address}\n" for address in resolver) + f"search {search}\noptions ndots:5\n"
