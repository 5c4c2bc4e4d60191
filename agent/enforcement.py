"""What this node's kernel enforces: the records in force and where the pods are, lowered and reconciled.

The only file that brings records, sandboxes and proxies together into map entries. It decides neither when
(`mesh.rollout`) nor how a table is written (`agent.reconcile`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from agent import entries
from agent.desired import Desired
from agent.entries import Entries, Local
from agent.kernel import Kernel, KernelError
from agent.maglev_array import MaglevArray
from agent.maglev_store import MaglevStore, StoreFullError
from agent.reconcile import Applied, Reconciler
from agent.records import Change
from agent.sandbox import Sandbox
from agent.workloads import Guarded
from bpf.layout import PodFlags, PodKey, PodSlot, packed_address
from mesh.model import WorkloadName
from mesh.node import (
    BlockRecord,
    PodRecord,
    PolicyClass,
    PolicySet,
    Record,
    ServiceRecord,
    WorkloadRecord,
)

log = logging.getLogger(__name__)


class Enforcement:
    """Owns the desired tables. Everything that may take long is called from one thread."""

    def __init__(self, kernel: Kernel) -> None:
        """Reads what an earlier agent left in the kernel."""
        self._kernel = kernel
        table = kernel.table("sl_maglev")
        self._store = MaglevStore(MaglevArray(table.fd, table.max_entries))
        self._desired = Desired()
        self._reconciler = Reconciler(kernel, self._store)
        self._reconciler.adopt()
        self._pods: dict[WorkloadName, PodRecord] = {}
        self._placed: dict[WorkloadName, tuple[PodRecord, Local]] = {}
        self._inbound: set[str] = set()
        self._enforced: frozenset[WorkloadName] = frozenset()
        self.began = False
        #: Some pod is cut off because a hook could not be attached.
        self.failing = False

    @property
    def generation(self) -> int:
        """The kernel's own generation in force; it counts flips, not the control plane's pushes."""
        return self._reconciler.generation

    @property
    def pods(self) -> Mapping[WorkloadName, PodRecord]:
        """Records of this node's pods as of the newest generation taken."""
        return self._pods

    def enforced(self, pod: WorkloadName) -> bool:
        """Are the pod's record, its place and its hooks all in force?"""
        return pod in self._enforced

    def routed(self, guarded: Mapping[WorkloadName, Guarded]) -> set[WorkloadName]:
        """Pods whose routes an earlier agent left in force."""
        found = set()
        for pod, place in guarded.items():
            for address in place.sandbox.addresses:
                seen = self._reconciler.seen("sl_pod", PodKey(packed_address(address)).pack())
                slot = PodSlot.unpack(seen) if seen else PodSlot()
                if slot.flags & PodFlags.ROUTES and slot.ifindex == place.ifindex:
                    found.add(pod)
        return found

    def take(self, changes: Iterable[Change]) -> None:
        """The records of a generation that is to come into force. Doing so again changes nothing.
        Raises StoreFullError."""
        for change in changes:
            self._desired.replace((change.type_url, change.name), self._lowered(change.new))
            if isinstance(change.old, PodRecord) and change.new is None:
                self._pods.pop(change.old.name, None)
            if isinstance(change.new, PodRecord):
                self._pods[change.new.name] = change.new

    def place(
        self,
        guarded: Mapping[WorkloadName, Guarded],
        proxied: Collection[WorkloadName],
        routed: Collection[WorkloadName],
    ) -> None:
        """Where the pods are, which have a proxy, and whose routes it is ready for. A pod whose record
        speaks of another pod of its name, or of other addresses, than its sandbox is not known yet."""
        placed: dict[WorkloadName, tuple[PodRecord, Local]] = {}
        for pod, record in self._pods.items():
            place = guarded.get(pod)
            if place is None or not _is_about(record, place.sandbox):
                continue
            flags = PodFlags(0)
            if pod in proxied:
                flags |= PodFlags.PROXY
            if pod in routed and record.routes:
                flags |= PodFlags.ROUTES
            placed[pod] = (record, Local(place.cookie, place.ifindex, flags))
        for pod in self._placed.keys() - placed.keys():
            self._desired.replace(("place", str(pod)), ())
        for pod, (record, local) in placed.items():
            if self._placed.get(pod) != (record, local):
                self._desired.replace(("place", str(pod)), entries.pod_entries(record, local))
        self._placed = placed

    def is_due(self) -> bool:
        """Is there anything to bring into force?"""
        return self._desired.touched() or self._enforced != self._placed.keys()

    def bring_into_force(self, guarded: Mapping[WorkloadName, Guarded]) -> Applied:
        """Make the kernel's tables true and judge live connections anew. Raises KernelError."""
        needed = self._attach_inbound(guarded)
        applied = self._reconciler.apply(
            self._desired, lambda: self._sweep([place.sandbox.netns for place in guarded.values()])
        )
        for key in {place.sandbox.key for place in guarded.values()} - needed:
            if key in self._inbound or not self.began:
                self._kernel.detach_inbound(key)
        self._inbound = needed
        if not self.began:
            self._kernel.drop_other_layouts()
        self._enforced = frozenset(self._placed)
        self.began = True
        return applied

    def rest(self) -> None:
        """To be called while nobody waits: what the next change would begin with."""
        self._reconciler.rest()

    def _attach_inbound(self, guarded: Mapping[WorkloadName, Guarded]) -> set[str]:
        """A verdict may hand inbound connections to an Envoy only where the look-up that does so is
        attached; where it cannot be, the pod is not known to the kernel, and cut off."""
        attached: set[str] = set()
        self.failing = False
        for pod in [pod for pod in self._placed if self._pods[pod].ingress_listeners]:
            sandbox = guarded[pod].sandbox
            try:
                if sandbox.key not in self._inbound:
                    self._kernel.attach_inbound(sandbox.key, sandbox.netns)
                attached.add(sandbox.key)
            except (KernelError, OSError) as error:
                log.error("attach to %s of pod %s failed: %s; the pod is cut off", sandbox.netns, pod, error)
                self._desired.replace(("place", str(pod)), ())
                del self._placed[pod]
                self.failing = True
        return attached

    def _lowered(self, record: Record | None) -> Entries:
        match record:
            case WorkloadRecord():
                return entries.workload_entries(record)
            case BlockRecord():
                return entries.block_entries(record)
            case ServiceRecord():
                return entries.service_entries(record, self._store.place)
            case PolicySet():
                return entries.set_entries(record)
            case PolicyClass():
                return entries.class_entries(record)
        return ()

    def _sweep(self, namespaces: Iterable[Path]) -> int:
        ended = 0
        for netns in namespaces:
            try:
                ended += self._kernel.sweep([netns])
            except KernelError as error:
                # A namespace that is gone has no sockets; any other reason must be seen.
                if netns.exists():
                    log.error("judge the live connections of %s again failed: %s", netns, error)
        return ended


def is_full(error: Exception) -> bool:
    """Is there no room for what is to come into force?"""
    full = (errno.E2BIG, errno.ENOSPC)
    return isinstance(error, StoreFullError) or (isinstance(error, KernelError) and error.errno in full)


def _is_about(record: PodRecord, sandbox: Sandbox) -> bool:
    return record.uid in ("", sandbox.uid) and set(record.addresses) == set(sandbox.addresses)
