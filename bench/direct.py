"""What the mesh is compared with: the namespaces, veths and host routing of the mesh, without the mesh.

Built by the very functions that build the mesh's own sandboxes, in namespaces of its own; pod address to pod
address, no program attached, no rule added.
"""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from bench.load import HTTP_PORT, LOAD
from sluice.address_plan import FIRST_POD, AddressPlan
from sluice.links import PodLink, attach_link
from sluice.namespaces import create_netns, create_node_netns, delete_netns, netns_path

#: The address ranges do not leave the namespaces, so they may be those of a mesh.
PLAN = AddressPlan(63)


@dataclass(frozen=True, slots=True)
class Direct:
    """Two namespaces with a veth each to a third, which routes."""

    client: str
    server_address: str

    def run(self, *argv: str) -> str:
        """Runs a command in the client's namespace and returns what it printed."""
        return subprocess.run(
            in_namespace(self.client, argv), capture_output=True, text=True, check=True, timeout=60
        ).stdout


def in_namespace(netns: str, argv: tuple[str, ...]) -> list[str]:
    return ["nsenter", f"--net={netns_path(netns)}", "--", *argv]


@contextlib.contextmanager
def direct() -> Iterator[Direct]:
    """Namespaces with a server in one of them; all gone afterwards."""
    with contextlib.ExitStack() as stack:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        stack.callback(delete_netns, name)
        create_node_netns(name, PLAN)
        pods = []
        for number in range(2):
            uid = uuid.uuid4().hex[:8]
            pod = f"{name}-{uid}"
            stack.callback(delete_netns, pod)
            create_netns(pod)
            attach_link(PodLink(uid), name, pod, PLAN.pod(FIRST_POD + number), PLAN.node)
            pods.append(pod)
        process = subprocess.Popen(in_namespace(pods[1], (*LOAD, "serve")), stdin=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        address, _ = PLAN.pod(FIRST_POD + 1)
        result = Direct(pods[0], address)
        result.run(*LOAD, "address", address, str(HTTP_PORT))
        yield result
