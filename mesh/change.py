"""What a batch of objects touched of the mesh: no more than that is compiled, or asked, again."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mesh.model import ObjectRef, ServiceName, WorkloadName


@dataclass(slots=True)
class Change:
    """`peers`: some workload's identity or address is another's now, or policies name other CIDRs; `config`:
    what the whole mesh is told; `names`: what DNS said, or which names policies want to know of; `routed`:
    services that other routes or DestinationRules bind now; `routes`: those that came, went or are others,
    and who delegates to them, whether they bind a service or not; `callers`: there are others, they are told
    apart by other labels, or told of other services; `gateways`: they, or what they may use; `keys`: where
    policies want keys from; `modules`: where WasmPlugins want theirs from; `telemetry`: what is to be traced;
    `proxies`: how Envoys are run; `entries`: there are other WorkloadEntries or WorkloadGroups."""

    workloads: set[WorkloadName] = field(default_factory=set)
    services: set[ServiceName] = field(default_factory=set)
    routed: set[ServiceName] = field(default_factory=set)
    routes: set[ObjectRef] = field(default_factory=set)
    policies: set[ObjectRef] = field(default_factory=set)
    peers: bool = False
    blocks: bool = False
    config: bool = False
    names: bool = False
    callers: bool = False
    gateways: bool = False
    keys: bool = False
    modules: bool = False
    telemetry: bool = False
    proxies: bool = False
    entries: bool = False

    def __bool__(self) -> bool:
        return any(getattr(self, found.name) for found in fields(self))
