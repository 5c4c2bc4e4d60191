"""/etc/hosts and /etc/resolv.conf of a pod: how service names become addresses without a DNS server.

Every name of a Service has all its addresses, of both families.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.model import ServiceName, WorkloadName

CLUSTER_DOMAIN = "cluster.local"

#: The mesh's resolver, if someone runs one (semantics rule 12).
RESOLVER = ServiceName("kube-system", "kube-dns")

Services = Mapping[ServiceName, Sequence[str]]

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_text(pod: WorkloadName, addresses: Sequence[str], services: Services) -> str:
    """A pod's /etc/hosts. Only services of its own namespace have their short name."""
    lines = [f"{address}\t{pod.name}" for address in addresses]
    for service, vips in sorted(services.items()):
        names = [
            f"{service.name}.{service.namespace}",
            f"{service.name}.{service.namespace}.svc",
            f"{service.name}.{service.namespace}.svc.{CLUSTER_DOMAIN}",
        ]
        if service.namespace == pod.namespace:
            names.insert(0, service.name)
        lines += [f"{vip}\t{' '.join(names)}" for vip in vips]
    return _LOOPBACK + "".join(line + "\n" for line in lines)


def resolv_text(pod: WorkloadName, services: Services) -> str:
    """A pod's /etc/resolv.conf, as the kubelet writes it; without a resolver names fail at once."""
    servers = services.get(RESOLVER) or ("127.0.0.1",)
    search = f"{pod.namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}"
    return "".join(f"nameserver {server}\n" for server in servers) + f"search {search}\noptions ndots:5\n"


def write_in_place(path: Path, text: str) -> None:
    """Replace a file's content and keep its inode, which is bind-mounted into running containers.

    Never empty in between: the new text is written over the old before the rest is cut off.
    """
    data = text.encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.pread(fd, len(data) + 1, 0) != data:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)
