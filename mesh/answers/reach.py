"""Whether one party may open a connection to another, asked of the reference semantics.

The one question behind `sluice matrix`, `sluice diff` and `sluice explain --who-can-reach`: they
count, compare and draw its answers, and judge nothing themselves. It is asked about backends, after
translation (rule 1); which routes bind the caller at a Service in front is told beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mesh.answers.called import party
from mesh.answers.explain import Path
from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import (
    Authorization,
    Backend,
    Direction,
    EnvoyFilter,
    MutualTls,
    Protocol,
    RateLimit,
    Registry,
    RequestAuthentication,
    RouteBackend,
    SidecarIngress,
    WorkloadName,
)
from mesh.policies.own_conditions import own_conditions
from mesh.policies.policy import Deny, Party, Steer, judge
from mesh.policies.references import AnyCondition, AnyPolicy
from mesh.policies.registry import Registries
from mesh.proxy import Target
from mesh.routes import steer

Verdict = Literal["allow", "partly", "deny"]

#: What stands in for a rule where the two ends share no address family.
NO_FAMILY = "no address family in common"


@dataclass(frozen=True, slots=True)
class Outside:
    """What is no workload: a node, or the world. At most one address of each family."""

    addresses: tuple[str, ...]


End = WorkloadName | Outside


@dataclass(frozen=True, slots=True)
class Access:
    """`partly`: Envoy decides request by request. `rules` are the keys of the policy rules that decide,
    none where no policy selects either end; `routes` bind the caller at a Service in front."""

    verdict: Verdict
    path: Path
    rules: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()

    @property
    def outcome(self) -> tuple[Verdict, Path]:
        return self.verdict, self.path

    def plain(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "path": self.path,
            "rules": list(self.rules),
            "routes": list(self.routes),
        }

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> Access:
        return Access(value["verdict"], value["path"], tuple(value["rules"]), tuple(value["routes"]))


class Reachability:
    """Answers for one mesh as it is now; what it looks up it keeps, so the mesh must not change."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._parties: dict[str, Party] = {}
        self._routes: dict[Caller, Mapping[tuple[WorkloadName, int], tuple[str, ...]]] = {}
        self._selecting = policies_by_identity(mesh)
        self._registries = Registries(mesh)

    def reach(
        self, caller: End, callee: End, protocol: Protocol, port: int, ipv6: bool | None = None
    ) -> Access:
        """May `caller` open a connection to that port (0 for protocols without) of `callee`?

        Asked of the family that is named, or the first that both have, IPv4 before IPv6."""
        pair = _pair(self._addresses(caller), self._addresses(callee), ipv6)
        if pair is None:
            return Access("deny", "kernel", (NO_FAMILY,))
        source, target = map(self._party, pair)
        directions: tuple[tuple[Direction, Party, Party], ...] = (
            ("egress", source, target),
            ("ingress", target, source),
        )
        rules: list[str] = []
        asked = watched = False
        for direction, subject, peer in directions:
            policies = self._policies_of(subject)
            if not policies:
                continue
            question = (direction, subject, peer, protocol, port, self._mesh.config)
            binding = [policy for policy in policies if _binds(policy)]
            verdict = judge(binding, *question)
            if isinstance(verdict, Deny):
                return Access("deny", "kernel", verdict.rules)  # the kernel refuses it
            if isinstance(verdict, Steer):
                asked = True
                rules += verdict.keys
            else:
                rules += verdict.rules
                # What only watches refuses nothing, but Envoy must see the requests for it.
                watched |= len(binding) < len(policies) and isinstance(judge(policies, *question), Steer)
        routes = self._routes_of(caller, callee, port) if protocol == "TCP" else ()
        path: Path = "envoy" if asked or watched or routes else "kernel"
        return Access("partly" if asked else "allow", path, tuple(dict.fromkeys(rules)), routes)

    def judged_as(self, end: End) -> tuple[object, ...]:
        """All that answers about an end depend on but the other end and routes: who it is, and by which
        policies it is bound."""
        parties = [self._party(address) for address in self._addresses(end)]
        return (*parties, *(policy for party in parties[:1] for policy in self._policies_of(party)))

    def _addresses(self, end: End) -> Sequence[str]:
        return end.addresses if isinstance(end, Outside) else self._mesh.workloads[end].addresses

    def _party(self, address: str) -> Party:
        found = self._parties.get(address)
        if found is None:
            found = self._parties[address] = party(self._mesh, address)
        return found

    def _policies_of(self, subject: Party) -> Sequence[AnyCondition]:
        if subject.workload is None:
            return ()
        found = self._selecting.get(self._mesh.identities.of[subject.workload], ())
        registry = self._registries.of(subject.workload)
        return (*found, *own_conditions(self._mesh, subject.workload, registry))

    def _routes_of(self, caller: End, callee: End, port: int) -> tuple[str, ...]:
        if isinstance(caller, Outside) or isinstance(callee, Outside) or not len(self._mesh.routes):
            return ()
        seen_as = self._mesh.callers.of(caller)
        if seen_as not in self._routes:
            self._routes[seen_as] = _routes_from(self._mesh, seen_as)
        return self._routes[seen_as].get((callee, port), ())


def policies_by_identity(mesh: Mesh) -> Mapping[int, Sequence[AnyPolicy]]:
    """Security id -> the policies that bind it."""
    found: defaultdict[int, list[AnyPolicy]] = defaultdict(list)
    for policy in mesh.all_policies():
        for number in mesh.identities.select(policy.subject):
            found[number].append(policy)
    return found


def _binds(policy: AnyCondition) -> bool:
    """Can the policy refuse anything? One in audit mode, or of action AUDIT, only tells; a RateLimit asks how
    often, not what, a Sidecar nothing, and what an EnvoyFilter does nobody but Envoy knows."""
    if isinstance(policy, RequestAuthentication | Registry | MutualTls):
        return True
    if isinstance(policy, RateLimit | EnvoyFilter | SidecarIngress):
        return False
    return not (policy.audit or (isinstance(policy, Authorization) and policy.action == "audit"))


def _pair(sources: Iterable[str], targets: Sequence[str], ipv6: bool | None) -> tuple[str, str] | None:
    pairs = ((s, t) for s in sources for t in targets if (":" in s) == (":" in t))
    return next((pair for pair in pairs if ipv6 in (None, ":" in pair[0])), None)


def _routes_from(mesh: Mesh, caller: Caller) -> Mapping[tuple[WorkloadName, int], tuple[str, ...]]:
    """Backend workload and port -> the route rules that bind this caller and lead there."""
    found: defaultdict[tuple[WorkloadName, int], set[str]] = defaultdict(set)
    for service in mesh.routed():
        for routed in steer.routed_ports(mesh, caller, service):
            for entry in routed.all:
                key = f"{entry.origin} {entry.rule.field}"
                for target in entry.rule.backends:
                    for backend in _members(mesh, caller, target) if entry.rule.field else ():
                        if backend.workload is not None:
                            found[backend.workload, backend.port].add(key)
    return {where: tuple(sorted(keys)) for where, keys in found.items()}


def _members(mesh: Mesh, caller: Caller, target: RouteBackend) -> tuple[Backend, ...]:
    goal = Target.of(target) if target.weight else None
    found = steer.members(mesh, caller, goal) if goal else None
    return found[0] if found else ()
