"""What a change of objects changes: which pairs get another verdict or path, and which of the
connections that were seen.

Both meshes are asked through `mesh.answers.reach`; requests that Envoy logged through `mesh.answers.explain`.
Pairs are groups that are alike before and after, so a pod that only one of the meshes has is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from mesh.answers.called import UnknownName
from mesh.answers.explain import explain
from mesh.answers.flow import Flow, Peer
from mesh.answers.groups import Group, outside_groups, workload_groups
from mesh.answers.logged_request import Untold, logged_request
from mesh.answers.reach import Access, End, Outside, Reachability
from mesh.assemble import Mesh
from mesh.model import Fragment, ObjectRef, Protocol, WorkloadName
from mesh.policies.references import AnyPolicy
from mesh.ports import Ports


@dataclass(frozen=True, slots=True)
class Sample:
    """Connections or requests that were seen and are alike: the newest of them, and how many."""

    flow: Flow
    count: int = 1


@dataclass(frozen=True, slots=True)
class PairChange:
    """`callers` get another access to a port of `callee`. With equal outcomes it is the rules for
    requests that changed."""

    callers: tuple[Group, ...]
    callee: Group
    protocol: Protocol
    port: int
    before: Access
    after: Access

    def plain(self) -> dict[str, Any]:
        return {
            "from": [caller.plain() for caller in self.callers],
            "to": self.callee.plain(),
            "protocol": self.protocol,
            "port": self.port,
            "before": self.before.plain(),
            "after": self.after.plain(),
        }


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What was seen would meet another verdict or path."""

    sample: Sample
    before: Access
    after: Access

    def plain(self) -> dict[str, Any]:
        return {
            "flow": self.sample.flow.to_json(),
            "count": self.sample.count,
            "before": self.before.plain(),
            "after": self.after.plain(),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    objects: tuple[tuple[ObjectRef, str], ...]
    pairs: tuple[PairChange, ...]
    flows: tuple[FlowChange, ...]

    def __bool__(self) -> bool:
        return bool(self.pairs or self.flows)

    def plain(self) -> dict[str, Any]:
        return {
            "objects": [{"object": str(ref), "action": action} for ref, action in self.objects],
            "pairs": [change.plain() for change in self.pairs],
            "flows": [change.plain() for change in self.flows],
        }


def difference(old: Mesh, new: Mesh, samples: Iterable[Sample] = ()) -> Difference:
    """What differs between two meshes that have the same allocations."""
    objects = _objects(old.fragments(), new.fragments())
    if not objects:
        return Difference((), (), ())
    before, after = Reachability(old), Reachability(new)
    pairs = _pairs(old, new, before, after, objects)
    flows = _flows(old, new, before, after, samples)
    return Difference(objects, tuple(pairs), tuple(flows))


def _objects(
    old: Mapping[ObjectRef, Fragment], new: Mapping[ObjectRef, Fragment]
) -> tuple[tuple[ObjectRef, str], ...]:
    actions = []
    for ref in sorted(old.keys() | new.keys()):
        if ref not in new:
            actions.append((ref, "deleted"))
        elif ref not in old:
            actions.append((ref, "created"))
        elif old[ref].nouns != new[ref].nouns:
            actions.append((ref, "configured"))
    return tuple(actions)


def _only_policies(old: Mesh, new: Mesh, objects: Iterable[tuple[ObjectRef, str]]) -> bool:
    fragments = [mesh.fragment(ref) for ref, _ in objects for mesh in (old, new)]
    nouns = [noun for fragment in fragments if fragment is not None for noun in fragment.nouns]
    return all(isinstance(noun, AnyPolicy) for noun in nouns)


def _pairs(
    old: Mesh,
    new: Mesh,
    before: Reachability,
    after: Reachability,
    objects: Sequence[tuple[ObjectRef, str]],
) -> list[PairChange]:
    workloads = workload_groups(old, new)
    callers = (*workloads, *outside_groups(old, new))
    ports = Ports(old), Ports(new)
    steady: set[str] = set()
    if _only_policies(old, new, objects):
        ends = [(group.name, group.end) for group in callers]
        steady = {name for name, end in ends if before.judged_as(end) == after.judged_as(end)}
    changed = {str(ref) for ref, _ in objects}
    found = []
    for callee in workloads:
        for protocol, port in sorted({p for known in ports for m in callee.members for p in known.of(m)}):
            same: dict[tuple[Access, Access], list[Group]] = {}
            for caller in callers:
                if caller.name in steady and callee.name in steady:
                    continue  # nothing that their access depends on has changed
                end = caller.caller_of(callee)
                was = before.reach(end, callee.end, protocol, port)
                will = after.reach(end, callee.end, protocol, port)
                if _differ(was, will, changed):
                    same.setdefault((was, will), []).append(caller)
            found += [
                PairChange(tuple(group), callee, protocol, port, was, will)
                for (was, will), group in same.items()
            ]
    return found


def _differ(was: Access, will: Access, changed: set[str]) -> bool:
    """Another outcome, or requests are judged or routed by rules of an object that changed."""
    if was.outcome != will.outcome:
        return True
    keys = {*was.routes, *will.routes}
    if was.verdict == "partly":
        keys |= {*was.rules, *will.rules}
    return any(" ".join(key.split(" ")[:2]) in changed for key in keys)


def _flows(
    old: Mesh,
    new: Mesh,
    before: Reachability,
    after: Reachability,
    samples: Iterable[Sample],
) -> list[FlowChange]:
    found = []
    for sample in samples:
        flow = sample.flow
        source, target = (_end(old, new, peer) for peer in (flow.source, flow.destination))
        if source is None or target is None or flow.protocol not in get_args(Protocol):
            continue
        protocol, port = cast(Protocol, flow.protocol), flow.destination.port
        ipv6 = ":" in flow.destination.ip
        was, will = (r.reach(source, target, protocol, port, ipv6) for r in (before, after))
        if flow.l7 is not None and "partly" in (was.verdict, will.verdict):
            was, will = (_request(mesh, a, flow) for mesh, a in ((old, was), (new, will)))
        # Who is denied does not mind by whom.
        if was.outcome != will.outcome and not was.verdict == will.verdict == "deny":
            found.append(FlowChange(sample, was, will))
    return found


def _end(old: Mesh, new: Mesh, peer: Peer) -> End | None:
    """Who an end of a flow is; None if one of the meshes does not know it, or knows it as another. What
    went to the address of a Service is told again by the backend that it reached."""
    if not peer.pod:
        meshes = (old, new)
        taken = any(peer.ip in mesh.owners or _is_service(mesh, peer.ip) for mesh in meshes)
        return None if taken or not peer.ip else Outside((peer.ip,))
    name = WorkloadName(peer.namespace, peer.pod)
    same = all(name in mesh.identities.of and mesh.owners.get(peer.ip) == name for mesh in (old, new))
    return name if same else None


def _is_service(mesh: Mesh, address: str) -> bool:
    return any(address in vips for vips in mesh.vips.values())


def _request(mesh: Mesh, access: Access, flow: Flow) -> Access:
    """What becomes of the request; where that depends on what Envoy did not log, it is as open as it was."""
    assert flow.l7 is not None
    asks_for_token = any(rule.startswith("RequestAuthentication ") for rule in access.rules)
    if access.verdict != "partly" or asks_for_token:
        return access
    ip = flow.destination.ip
    target = f"[{ip}]:{flow.destination.port}" if ":" in ip else f"{ip}:{flow.destination.port}"
    source, request = f"{flow.source.namespace}/{flow.source.pod}", logged_request(flow.l7)
    try:
        answer = explain(mesh, source, target, "TCP", request)
    # UnknownName: the caller is no pod, or Envoy would refuse the path as it was logged.
    except (UnknownName, Untold):
        return access
    return Access(answer["verdict"], access.path, access.rules, access.routes)
