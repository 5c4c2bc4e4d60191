"""What stands behind a service: who is selected by its labels, at which port, and each place once. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from mesh.index import discard
from mesh.model import (
    Backend,
    Endpoint,
    ObjectRef,
    Problem,
    Service,
    ServicePort,
    Workload,
    WorkloadEntry,
    WorkloadGroup,
    WorkloadName,
)

#: (namespace, key, value) -> who has that label.
Labelled = Mapping[tuple[str, str, str], set[WorkloadName]]


def selected(service: Service, labelled: Labelled) -> set[WorkloadName]:
    """Those of the service's namespace that have all the labels that it selects by."""
    pools = [labelled.get((service.name.namespace, *pair), set()) for pair in service.selector or ()]
    pools.sort(key=len)
    return pools[0].intersection(*pools[1:]) if pools else set()


def target_port(workload: Workload, port: ServicePort) -> int:
    """The port of a workload behind a Service's; 0 if it has none of that name."""
    if isinstance(port.target, int):
        return port.target
    wanted = (port.target, port.protocol)
    return next((p.port for p in workload.ports if (p.name, p.protocol) == wanted), 0)


def each_once(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """In order. Of what stands at one address and port a pod counts before all else."""
    found: dict[tuple[str, int], Backend] = {}
    for backend in sorted(set(backends), key=_rank):
        found.setdefault((backend.address, backend.port), backend)
    return tuple(found.values())


def standing(backends: Iterable[Backend]) -> int:
    """How many they are: one with addresses of both families is one."""
    return len({backend.workload or backend.address for backend in backends})


def _rank(backend: Backend) -> tuple[str, int, bool, tuple[str, ...], tuple[object, ...]]:
    owner = backend.workload
    own = (backend.labels, backend.weight, backend.locality)
    return backend.address, backend.port, owner is None, owner or (), own


class WorkloadEntries:
    """Workloads that are no pods."""

    def __init__(self) -> None:
        self.groups: dict[WorkloadName, WorkloadGroup] = {}
        self._all: dict[WorkloadName, WorkloadEntry] = {}
        self._labelled: defaultdict[tuple[str, str, str], set[WorkloadName]] = defaultdict(set)

    def put(self, entry: WorkloadEntry) -> None:
        self._all[entry.name] = entry
        for pair in entry.endpoint.labels:
            self._labelled[entry.name.namespace, *pair].add(entry.name)

    def remove(self, entry: WorkloadEntry) -> None:
        del self._all[entry.name]
        for pair in entry.endpoint.labels:
            discard(self._labelled, (entry.name.namespace, *pair), entry.name)

    def behind(self, service: Service, *, healthy: bool = True) -> Iterator[Endpoint]:
        """Those that a service selects; with `healthy` False whether they serve or not."""
        for name in selected(service, self._labelled):
            if self._all[name].healthy or not healthy:
                yield self._all[name].endpoint

    def problems(self) -> Iterator[tuple[ObjectRef, list[Problem]]]:
        """Those that wait for a check which nobody makes."""
        for name, entry in self._all.items():
            if entry.checked or entry.group:
                ref, where = ObjectRef("WorkloadEntry", *name), "metadata.annotations"
                group = self.groups.get(WorkloadName(name.namespace, entry.group))
                own = f"WorkloadGroup {name.namespace}/{entry.group}" if entry.group else "WorkloadGroup"
                said = f"is checked by nobody, so nothing is sent to it: there is no {own} with a probe"
                lacking = entry.checked and (group is None or group.probe is None)
                yield ref, [Problem(ref, where, said)] if lacking else []
