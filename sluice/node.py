"""Making this process the node of a mesh: what must be there first, then the supervisor's life."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sluice.address_plan import AddressPlan
from sluice.child import Child
from sluice.doors import Doors
from sluice.failure import Failure
from sluice.gate import Gate
from sluice.mesh_directory import BPFFS, MeshDirectory, cgroup2_mount
from sluice.namespaces import create_node_netns, enter_netns
from sluice.supervisor import Supervisor

BTF = "/sys/kernel/btf/vmlinux"
LIBBPF = "libbpf.so.1"
BPF_OBJECT = Path(__file__).resolve().parent.parent / "bpf" / "sluice.bpf.o"


def check_machine() -> None:
    """Failure, in one line, for the first thing without which no mesh can run here."""
    if os.geteuid() != 0:
        raise Failure("a mesh needs root: it makes network namespaces and loads BPF programs", "use sudo")
    for tool, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if not shutil.which(tool):
            raise Failure(f"the command `{tool}` is missing", f"apt-get install {package}")
    cgroup2_mount()
    if not os.path.exists(BTF):
        raise Failure(f"this kernel has no BTF ({BTF})", "use one with CONFIG_DEBUG_INFO_BTF=y")
    try:
        ctypes.CDLL(LIBBPF)
    except OSError:
        raise Failure(f"{LIBBPF} is missing", "apt-get install libbpf1") from None
    if not BPF_OBJECT.exists():
        raise Failure(f"the eBPF object is not built ({BPF_OBJECT})", "make bpf")


def mount_bpffs() -> bool:
    """Mount the BPF file system where it is missing; whether it was."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    if any(kind == "bpf" and where == str(BPFFS) for _, where, kind, *_ in mounts):
        return False
    done = subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"mount bpffs on {BPFFS}: {done.stderr.strip()}")
    return True


def run_node(
    mesh: MeshDirectory, plan: AddressPlan, children: Sequence[Child], gate: Gate | None = None
) -> None:
    """Supervise the mesh from inside its node's namespace until SIGTERM or SIGINT.

    The calling process stays in that namespace for good; it must not have threads yet.
    """
    machine = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    create_node_netns(mesh.node_netns, plan)
    (mesh.cgroup / "pods").mkdir(parents=True, exist_ok=True)
    enter_netns(mesh.node_netns)
    asyncio.run(_supervise(mesh, plan, children, gate, Path(f"/proc/self/fd/{machine}")))


async def _supervise(
    mesh: MeshDirectory, plan: AddressPlan, children: Sequence[Child], gate: Gate | None, machine: Path
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Supervisor(mesh, plan, children, Doors(machine, plan.outside), gate).run(stop)
