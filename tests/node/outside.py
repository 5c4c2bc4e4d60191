"""The world beyond the node of a mesh (`tests.node.world`), in a network namespace of its own; and the
processes of a mesh."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.node.mesh import RunningMesh, until

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def machines(mesh: RunningMesh, addresses: Sequence[str]) -> Iterator[str]:
    """A network namespace beside the node's that has these addresses."""
    netns, link = f"world-{mesh.name}", f"w{mesh.name}"
    node = ["ip", "-n", f"sluice-{mesh.name}"]
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        link_up = ["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", netns]
        subprocess.run([*node, *link_up], check=True)
        subprocess.run([*node, "address", "add", "192.0.2.254/24", "dev", link], check=True)
        subprocess.run([*node, "link", "set", link, "up"], check=True)
        for address in addresses:
            subprocess.run(["ip", "-n", netns, "address", "add", f"{address}/24", "dev", "eth0"], check=True)
        for device in ("lo", "eth0"):
            subprocess.run(["ip", "-n", netns, "link", "set", device, "up"], check=True)
        subprocess.run(["ip", "-n", netns, "route", "add", "default", "via", "192.0.2.254"], check=True)
        yield netns
    finally:
        subprocess.run(["ip", "netns", "delete", netns], check=True)


@contextlib.contextmanager
def serving(netns: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process there, once it has printed `ready`."""
    with subprocess.Popen(
        ["ip", "netns", "exec", netns, sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def outside(mesh: RunningMesh, addresses: Sequence[str], records: Sequence[str]) -> Iterator[None]:
    """The world is there, and the resolver asks the first of its addresses for names."""
    with machines(mesh, addresses) as netns:
        with serving(netns, "-m", "tests.node.world", *addresses, "--", *records):
            _ask_upstream(mesh, addresses[0])
            yield


def _ask_upstream(mesh: RunningMesh, address: str) -> None:
    """Replace the resolver's pod by one that asks this upstream."""
    objects = json.loads((Path("/var/lib/sluice") / mesh.name / "resolver.json").read_text())["items"]
    own = next(item for item in objects if item["kind"] == "Pod")
    own["spec"]["containers"][0]["command"] += ["--upstream", address]
    mesh.apply(json.dumps(own))
    until(lambda: address in " ".join(_command(mesh)), "the resolver is replaced")
    mesh.run("status", "--wait")


def _command(mesh: RunningMesh) -> list[str]:
    """The command line of the resolver, once it runs."""
    for pid in mesh_processes(mesh, "agent.dns"):
        with contextlib.suppress(OSError):
            return (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    return []


def mesh_processes(mesh: RunningMesh, module: str) -> list[int]:
    """Processes of the mesh that run a module of ours."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if (
                    module in words
                    and any(mesh.name in word for word in words)
                    and words[0] == sys.executable
                ):
                    found.append(int(process.name))
    return found
