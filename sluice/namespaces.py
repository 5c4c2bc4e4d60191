"""Named network namespaces, and the one that plays the mesh's host.

The node's namespace forwards between pods and holds every host-side veth; nothing is ever changed
in the namespace of the machine itself.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from sluice.address_plan import AddressPlan
from sluice.failure import Failure
from sluice.iproute import change
from sluice.mesh_directory import NETNS_ROOT

_CLONE_NEWNET = 0x40000000

#: Reverse path filtering would drop what an Envoy or a spoofing test sends; tc judges sources here. Pods
#: get TCP tables of their own: a sweep after a policy change then walks a pod's sockets, not the machine's.
_NODE_SYSCTLS = {
    "ipv4/ip_forward": 1,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/tcp_child_ehash_entries": 16384,
    "ipv6/conf/all/forwarding": 1,
    "ipv6/conf/default/forwarding": 1,
    "ipv6/conf/all/accept_ra": 0,
    "ipv6/conf/default/accept_ra": 0,
}


def netns_path(name: str) -> Path:
    return NETNS_ROOT / name


def netns_names() -> list[str]:
    return sorted(entry.name for entry in NETNS_ROOT.iterdir()) if NETNS_ROOT.exists() else []


def create_netns(name: str) -> None:
    change([f"netns add {name}"])


def delete_netns(name: str) -> None:
    """Remove the name; the namespace goes, with its links, when its last process does."""
    if netns_path(name).exists():
        change([f"netns delete {name}"])


def create_node_netns(name: str, plan: AddressPlan) -> None:
    """Make (or complete) the namespace in which the host ends of the pods' links live."""
    if name not in netns_names():
        create_netns(name)
    script = "\n".join(f"echo {value} > /proc/sys/net/{key}" for key, value in _NODE_SYSCTLS.items())
    done = subprocess.run(
        ["nsenter", f"--net={netns_path(name)}", "--", "sh", "-ec", script], capture_output=True, text=True
    )
    if done.returncode:
        raise Failure(f"set up forwarding in network namespace {name}: {done.stderr.strip()}")
    own = [f"address replace {v4}/32 dev lo" for v4, _ in (plan.node, plan.outside)]
    own += [f"address replace {v6}/128 dev lo nodad" for _, v6 in (plan.node, plan.outside)]
    change(["link set lo up", *own], netns=name)


def enter_netns(name: str) -> None:
    """Move the calling thread, and what it starts from now on, into a namespace (setns(2)).

    Call it before any other thread exists. os.setns is Python 3.12.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(netns_path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, _CLONE_NEWNET):
            error = ctypes.get_errno()
            raise Failure(f"enter network namespace {name}: {os.strerror(error)}")
    finally:
        os.close(fd)
