"""Where everything of one embedded mesh lives, derived from its name alone.

Whatever a mesh creates outside these paths (pod namespaces, links) is named after the mesh, so
`sluice down` finds leftovers without a record of them. This file creates nothing but the record of
the mesh's number.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mesh.model import WorkloadName
from sluice.address_plan import MESHES, AddressPlan
from sluice.failure import Failure
from xds import atomic

#: The name of the only node of an embedded mesh, as in a Pod's spec.nodeName.
NODE = "local"

STATE_ROOT = Path("/var/lib/sluice")
RUN_ROOT = Path("/run/sluice")
BPFFS = Path("/sys/fs/bpf")
NETNS_ROOT = Path("/run/netns")

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class MeshDirectory:
    """The paths of the mesh called `name`."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Failure(
                f"{self.name!r} cannot name a mesh",
                "use at most 32 lower-case letters, digits and inner dashes",
            )

    @property
    def state(self) -> Path:
        return STATE_ROOT / self.name

    @property
    def run(self) -> Path:
        return RUN_ROOT / self.name

    @property
    def pins(self) -> Path:
        return BPFFS / f"sluice-{self.name}"

    @property
    def cgroup(self) -> Path:
        """The mesh's cgroup. Failure where no cgroup2 hierarchy is mounted."""
        return cgroup2_mount() / f"sluice-{self.name}"

    @property
    def node_netns(self) -> str:
        return f"sluice-{self.name}"

    @property
    def objects(self) -> Path:
        return self.state / "objects"

    @property
    def sandboxes(self) -> Path:
        return self.state / "sandboxes"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def control_plane_admin(self) -> Path:
        return self.run / "xds-admin.sock"

    @property
    def agent_admin(self) -> Path:
        return self.run / "agent-admin.sock"

    @property
    def lock(self) -> Path:
        """Held (flock) by the supervisor as long as it lives; contains its process id."""
        return self.run / "supervisor.lock"

    @property
    def pod_status(self) -> Path:
        """What the supervisor knows of its pods, for `sluice status`."""
        return self.run / "pods.json"

    def pod_netns(self, uid: str) -> str:
        return f"{self.node_netns}-{uid[:8]}"

    def is_pod_netns(self, netns: str) -> bool:
        """Whether a namespace is of a pod of this mesh, and not the node's of mesh `NAME-0123abcd`."""
        prefix, _, suffix = netns.rpartition("-")
        is_pod = prefix == self.node_netns and re.fullmatch("[0-9a-f]{8}", suffix) is not None
        return is_pod and netns.removeprefix("sluice-") not in mesh_names()

    def pod_files(self, pod: WorkloadName) -> Path:
        """hosts, resolv.conf and the record of a pod's processes."""
        return self.state / "pods" / f"{pod.namespace}_{pod.name}"

    def process_record(self, pod: WorkloadName) -> Path:
        """Which processes a pod has, for the next supervisor and for `sluice down`."""
        return self.pod_files(pod) / "processes.json"

    def pod_cgroup(self, pod: WorkloadName) -> Path:
        return self.cgroup / "pods" / f"{pod.namespace}_{pod.name}"

    def log(self, pod: WorkloadName, container: str) -> Path:
        return self.logs / f"{pod.namespace}_{pod.name}_{container}.log"

    def exists(self) -> bool:
        return self.state.exists() or self.run.exists()


def cgroup2_mount() -> Path:
    """Where the cgroup2 hierarchy is mounted (also on hosts that still have version 1 beside it)."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where.replace("\\040", " "))
    raise Failure("no cgroup2 hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")


def mesh_names() -> list[str]:
    """The meshes this machine has a record of."""
    return sorted(record.parent.name for record in STATE_ROOT.glob("*/mesh.json"))


def claim_addresses(mesh: MeshDirectory) -> AddressPlan:
    """The mesh's address ranges: those recorded, or the smallest number that is free."""
    record = mesh.state / "mesh.json"
    STATE_ROOT.mkdir(parents=True, exist_ok=True)
    machine = os.open(STATE_ROOT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(machine, fcntl.LOCK_EX)
        if record.exists():
            return AddressPlan(json.loads(record.read_text())["index"])
        taken = {json.loads(p.read_text())["index"] for p in STATE_ROOT.glob("*/mesh.json")}
        free = next((i for i in range(MESHES) if i not in taken), None)
        if free is None:
            raise Failure(f"{MESHES} meshes exist on this machine", "sluice down --purge --name ONE")
        plan = AddressPlan(free)
        mesh.state.mkdir(parents=True, exist_ok=True)
        atomic.write(record, json.dumps(plan.record() | {"node": NODE}, indent=1) + "\n")
        return plan
    finally:
        os.close(machine)
