"""What the checks look at: a mesh, and its objects as they were written, references unresolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from mesh.assemble import Mesh
from mesh.model import (
    Authorization,
    CidrGroup,
    Direction,
    ObjectRef,
    Policy,
    Problem,
    RateLimit,
    RequestAuthentication,
    Rule,
    Selector,
    ServicePort,
    TierPolicy,
    WorkloadName,
)
from mesh.policies.cidr import prefix_of
from mesh.policies.references import RequestPolicy

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
    authentications: tuple[RequestAuthentication, ...]
    limits: tuple[RateLimit, ...]
    groups: tuple[CidrGroup, ...]
    #: IP version -> the addresses of workloads as numbers, sorted, with their text and owner.
    addresses: Mapping[int, Sequence[tuple[int, str, WorkloadName]]]
    _selected: dict[Selector, tuple[WorkloadName, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, mesh: Mesh, problems: Iterable[Problem] = ()) -> View:
        nouns = [noun for _, fragment in sorted(mesh.fragments().items()) for noun in fragment.nouns]
        return cls(
            mesh,
            tuple(problems),
            tuple(_those(nouns, Policy)),
            tuple(_those(nouns, TierPolicy)),
            tuple(_those(nouns, Authorization)),
            tuple(_those(nouns, RequestAuthentication)),
            tuple(_those(nouns, RateLimit)),
            tuple(_those(nouns, CidrGroup)),
            _addresses(mesh),
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
        asked: tuple[RequestPolicy, ...] = (*self.authorizations, *self.authentications, *self.limits)
        for about in asked:
            yield from ((about.ref, selector) for selector in self.authorized(about))

    def authorized(self, policy: RequestPolicy) -> list[Selector]:
        """Whom a policy about requests selects: one Selector, or one for each Service it is for."""
        return [found.subject for found in self.mesh.policies.get(policy.ref, ())]

    def bound(self, policy: RequestPolicy) -> tuple[WorkloadName, ...]:
        """The workloads that it selects, sorted."""
        return tuple(sorted({name for found in self.authorized(policy) for name in self.selected(found)}))

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
        for service, port, target in self.mesh.service_table.target_ports(workload):
            yield str(service.name), port, target


def _addresses(mesh: Mesh) -> Mapping[int, Sequence[tuple[int, str, WorkloadName]]]:
    found: dict[int, list[tuple[int, str, WorkloadName]]] = {4: [], 6: []}
    for text, name in mesh.owners.items():
        version, number, _ = prefix_of(text)
        found[version].append((number, text, name))
    return {version: sorted(known) for version, known in found.items()}


def _those(nouns: Iterable[object], kind: type[N]) -> list[N]:
    return [noun for noun in nouns if isinstance(noun, kind)]
