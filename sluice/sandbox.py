"""A pod's sandbox: its network namespace, link, addresses, cgroup and files, and the record of them
that the control plane and the agent read (what a CNI result and a kubelet status are elsewhere)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mesh.model import WorkloadName
from sluice.address_plan import FIRST_POD, LAST_POD, AddressPlan
from sluice.cgroups import remove_cgroup
from sluice.failure import Failure
from sluice.iproute import change
from sluice.links import PodLink, attach_link
from sluice.mesh_directory import NETNS_ROOT, NODE, MeshDirectory
from sluice.namespaces import create_netns, delete_netns, netns_names
from xds import atomic


@dataclass(frozen=True, slots=True)
class Sandbox:
    """As recorded in STATE/sandboxes; paths are text, addresses IPv4 first."""

    namespace: str
    name: str
    uid: str
    node: str
    netns: str
    host_interface: str
    mac: str
    cgroup: str
    addresses: tuple[str, ...]
    ready: bool = False

    @property
    def pod(self) -> WorkloadName:
        return WorkloadName(self.namespace, self.name)


class Sandboxes:
    """All sandboxes of one mesh. Methods block for some milliseconds; they are safe in threads for
    different pods, because a number is taken before anything else is done."""

    def __init__(self, mesh: MeshDirectory, plan: AddressPlan) -> None:
        self._mesh = mesh
        self._plan = plan
        mesh.sandboxes.mkdir(parents=True, exist_ok=True)
        self._taken = {plan.number(s.addresses[0]): s.pod for s in recorded(mesh)}
        self._last = max(self._taken, default=FIRST_POD - 1)

    def reserve(self, pod: WorkloadName) -> Sandbox:
        """Choose name and addresses. Addresses just given back are not reused before the rest."""
        count = LAST_POD - FIRST_POD + 1
        for step in range(1, count + 1):
            number = FIRST_POD + (self._last + step - FIRST_POD) % count
            if number not in self._taken:
                break
        else:
            raise Failure(f"mesh {self._mesh.name} has no free pod address")
        self._taken[number] = pod
        self._last = number
        uid = str(uuid.uuid4())
        while (NETNS_ROOT / self._mesh.pod_netns(uid)).exists():
            uid = str(uuid.uuid4())
        link = PodLink(uid)
        return Sandbox(
            *pod,
            uid=uid,
            node=NODE,
            netns=str(NETNS_ROOT / self._mesh.pod_netns(uid)),
            host_interface=link.host_interface,
            mac=link.pod_mac,
            cgroup=str(self._mesh.pod_cgroup(pod)),
            addresses=self._plan.pod(number),
        )

    def build(self, sandbox: Sandbox) -> None:
        """Make it real, then record it: who reads the record can rely on it."""
        netns = Path(sandbox.netns).name
        create_netns(netns)
        ipv4, ipv6 = sandbox.addresses
        attach_link(PodLink(sandbox.uid), self._mesh.node_netns, netns, (ipv4, ipv6), self._plan.node)
        Path(sandbox.cgroup).mkdir(parents=True, exist_ok=True)
        self.record(sandbox)

    def record(self, sandbox: Sandbox) -> None:
        atomic.write(_record_path(self._mesh, sandbox.pod), json.dumps(asdict(sandbox)) + "\n")

    def set_ready(self, sandbox: Sandbox, ready: bool) -> Sandbox:
        changed = replace(sandbox, ready=ready)
        if changed != sandbox:
            self.record(changed)
        return changed

    def is_intact(self, sandbox: Sandbox) -> bool:
        """Whether a recorded sandbox still exists, as it does unless the machine was restarted."""
        return Path(sandbox.netns).name in netns_names() and Path(sandbox.cgroup).exists()

    def find(self, pod: WorkloadName) -> Sandbox | None:
        """The sandbox on record for a pod."""
        path = _record_path(self._mesh, pod)
        return _read(path) if path.exists() else None

    def destroy(self, sandbox: Sandbox) -> None:
        """Remove processes, cgroup, link and namespace, then the record; partial sandboxes too.

        The record goes last: as long as anything of the pod can send, the agent must look after it.
        """
        remove_sandbox(self._mesh, sandbox)
        self._taken.pop(self._plan.number(sandbox.addresses[0]), None)


def remove_sandbox(mesh: MeshDirectory, sandbox: Sandbox) -> None:
    """What `destroy` does, for a mesh whose supervisor is gone."""
    remove_cgroup(Path(sandbox.cgroup))
    # An Envoy may keep the namespace alive for some time yet; the link ends now.
    if mesh.node_netns in netns_names():
        try:
            change([f"link delete {sandbox.host_interface}"], netns=mesh.node_netns)
        except Failure as failure:
            if "Cannot find device" not in str(failure):
                raise
    delete_netns(Path(sandbox.netns).name)
    _record_path(mesh, sandbox.pod).unlink(missing_ok=True)


def recorded(mesh: MeshDirectory) -> Iterator[Sandbox]:
    """The sandboxes on record."""
    for path in sorted(mesh.sandboxes.glob("[!.]*.json")):
        yield _read(path)


def _read(path: Path) -> Sandbox:
    fields = json.loads(path.read_text())
    return Sandbox(**fields | {"addresses": tuple(fields["addresses"])})


def _record_path(mesh: MeshDirectory, pod: WorkloadName) -> Path:
    return mesh.sandboxes / f"{pod.namespace}_{pod.name}.json"
