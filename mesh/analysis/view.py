"""What the checks look at: a mesh, and its objects as they were written, references unresolved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from mesh.assemble import Mesh
from mesh.model import (
    NAMESPACE_KEY,
    Authorization,
    CidrGroup,
    Direction,
    MeshConfig,
    ObjectRef,
    Policy,
    Problem,
    Requirement,
    Rule,
    Selector,
    Service,
    ServicePort,
    TierPolicy,
    Workload,
    WorkloadName,
)
from mesh.protocols import PortKind, declared, joined

N = TypeVar("N")

Tier = Literal["admin", "baseline"]
TIERS: tuple[Tier, Tier] = ("admin", "baseline")
DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")


@dataclass(frozen=True, slots=True)
class Written:
    """One rule of a policy, with whom the policy selects."""

    ref: ObjectRef
    subject: Selector
    audit: bool
    direction: Direction
    rule: Rule
    action: Literal["accept", "deny", "pass"]


@dataclass(frozen=True, slots=True)
class View:
    """Everything sorted by object, so that findings come in one order."""

    mesh: Mesh
    problems: tuple[Problem, ...]
    policies: tuple[Policy, ...]
    tiers: tuple[TierPolicy, ...]
    authorizations: tuple[Authorization, ...]
    groups: tuple[CidrGroup, ...]
    config: MeshConfig
    _kinds: dict[WorkloadName, dict[int, PortKind]] = field(default_factory=dict)
    _services: dict[str, list[Service]] = field(default_factory=dict)
    _selected: dict[Selector, tuple[WorkloadName, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, mesh: Mesh, problems: Iterable[Problem] = ()) -> View:
        nouns = [noun for _, fragment in sorted(mesh.fragments().items()) for noun in fragment.nouns]
        configs = _those(nouns, MeshConfig)
        return cls(
            mesh,
            tuple(problems),
            tuple(_those(nouns, Policy)),
            tuple(_those(nouns, TierPolicy)),
            tuple(_those(nouns, Authorization)),
            tuple(_those(nouns, CidrGroup)),
            configs[0] if configs else MeshConfig(),
        )

    def rules(self) -> Iterator[Written]:
        """Every rule of NetworkPolicies and Cilium policies."""
        for policy in self.policies:
            for direction in DIRECTIONS:
                found = policy.rules(direction)
                if found is not None:
                    head = (policy.ref, policy.subject, policy.audit, direction)
                    yield from (Written(*head, rule, "accept") for rule in found.allow)
                    yield from (Written(*head, rule, "deny") for rule in found.deny)

    def ranked(self, tier: Tier) -> Iterator[Written]:
        """Every rule of a tier in the order in which they are asked, direction by direction."""
        policies = sorted((p for p in self.tiers if p.tier == tier), key=lambda p: (p.priority, p.ref))
        for direction in DIRECTIONS:
            for policy in policies:
                head = (policy.ref, policy.subject, policy.audit, direction)
                yield from (Written(*head, r.rule, r.action) for r in policy.rules(direction))

    def subjects(self) -> Iterator[tuple[ObjectRef, Selector]]:
        """Whom each policy of any kind selects."""
        yield from ((policy.ref, policy.subject) for policy in self.policies)
        yield from ((policy.ref, policy.subject) for policy in self.tiers)
        for authorization in self.authorizations:
            for selector in self.authorized(authorization):
                yield authorization.ref, selector

    def authorized(self, policy: Authorization) -> list[Selector]:
        """Whom an AuthorizationPolicy selects: one Selector, or one for each Service it is for."""
        own = Requirement(NAMESPACE_KEY, "In", (policy.ref.namespace,))
        if policy.services is None:
            everywhere = policy.ref.namespace == self.config.root_namespace
            wanted = policy.subject.requirements
            return [Selector(wanted if everywhere else tuple(sorted({own, *wanted})))]
        found = []
        for name in policy.services:
            service = self.mesh.services.get(name)
            labels = service.selector if service is not None and service.selector else None
            if labels:
                wanted = tuple(Requirement(key, "In", (value,)) for key, value in labels)
                found.append(Selector(tuple(sorted({own, *wanted}))))
        return found

    def selected(self, selector: Selector) -> tuple[WorkloadName, ...]:
        """The workloads that a selector matches, sorted."""
        if selector not in self._selected:
            identities = self.mesh.identities
            numbers = identities.select(selector)
            names = sorted(name for number in numbers for name in identities.members[number])
            self._selected[selector] = tuple(names)
        return self._selected[selector]

    def has_namespace(self, name: str) -> bool:
        return name in self.mesh.namespaces or any(w.namespace == name for w in self.mesh.workloads)

    def service_ports(self, workload: WorkloadName) -> Iterator[tuple[str, ServicePort, int]]:
        """The Services that select a workload, their ports, and the workload's port behind each."""
        found = self.mesh.workloads[workload]
        labels = dict(found.labels)
        if not self._services:
            for name, service in sorted(self.mesh.services.items()):
                self._services.setdefault(name.namespace, []).append(service)
        for service in self._services.get(workload.namespace, ()):
            if service.selector and dict(service.selector).items() <= labels.items():
                for port in service.ports:
                    if target := _target(found, port):
                        yield str(service.name), port, target

    def kinds(self, workload: WorkloadName) -> Mapping[int, PortKind]:
        """What Services say of the TCP ports of a workload, where they say something."""
        if workload not in self._kinds:
            said: defaultdict[int, list[PortKind | None]] = defaultdict(list)
            for _, port, target in self.service_ports(workload):
                if port.protocol == "TCP":
                    said[target].append(declared(port))
            known = {port: joined(kinds) for port, kinds in said.items()}
            self._kinds[workload] = {port: kind for port, kind in known.items() if kind is not None}
        return self._kinds[workload]


def _those(nouns: Iterable[object], kind: type[N]) -> list[N]:
    return [noun for noun in nouns if isinstance(noun, kind)]


def _target(workload: Workload, port: ServicePort) -> int:
    if isinstance(port.target, int):
        return port.target
    wanted = (port.target, port.protocol)
    return next((p.port for p in workload.ports if (p.name, p.protocol) == wanted), 0)
