"""Egress rules that cut pods off from the mesh's resolver."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from mesh.analysis.finding import Check, Trap, some
from mesh.analysis.view import View
from mesh.answers.called import party
from mesh.answers.reach import policies_by_identity
from mesh.identity import NAMESPACE_NAME_LABEL, PORTS_KEY
from mesh.model import (
    NAMESPACE_LABEL_PREFIX,
    RESOLVER,
    ObjectRef,
    Policy,
    Protocol,
    WorkloadName,
)
from mesh.policies.policy import Deny, Party, judge
from mesh.policies.references import AnyPolicy

_REMEDY = "allow egress to the pods k8s-app=kube-dns of namespace kube-system at UDP and TCP port 53"


def dns_is_forgotten(view: View) -> Iterator[Trap]:
    """Semantics rule 12: egress default deny cuts the resolver unless a rule allows it. Pods that may
    reach nothing at all are meant to be cut off."""
    for ref, pods in _cut_off(view, "UDP").items():
        yield Trap(
            ref,
            "spec.egress",
            f"{some(pods)} may reach some peers but not the resolver (kube-system/kube-dns UDP 53): names do "
            "not resolve",
            _REMEDY,
        )


def dns_over_tcp_is_forgotten(view: View) -> Iterator[Trap]:
    """RFC 7766: a resolver must be able to ask again over TCP, when an answer does not fit into UDP."""
    udp = _cut_off(view, "UDP")
    for ref, pods in _cut_off(view, "TCP").items():
        if rest := [pod for pod in pods if pod not in udp.get(ref, ())]:
            yield Trap(
                ref,
                "spec.egress",
                f"{some(rest)} may ask the resolver over UDP only: answers that are too large fail",
                _REMEDY,
            )


def _cut_off(view: View, protocol: Protocol) -> dict[ObjectRef, list[WorkloadName]]:
    """Policy with egress default deny -> the pods that it keeps from the resolver."""
    found: defaultdict[ObjectRef, list[WorkloadName]] = defaultdict(list)
    resolver = _resolver(view)
    for number, policies in policies_by_identity(view.mesh).items():
        denying = _denying(policies)
        names = sorted(view.mesh.identities.members[number])
        addresses = view.mesh.workloads[names[0]].addresses
        if denying and addresses:
            subject = party(view.mesh, addresses[0])
            verdict = judge(policies, "egress", subject, resolver, protocol, 53, view.mesh.config)
            if isinstance(verdict, Deny):
                for ref in denying:
                    found[ref] += names
    return {ref: sorted(pods) for ref, pods in sorted(found.items())}


def _denying(policies: Sequence[AnyPolicy]) -> list[ObjectRef]:
    """The policies that deny egress by default, if any of them allows some."""
    egress = [(p.ref, p.egress) for p in policies if isinstance(p, Policy) and p.egress and not p.audit]
    if not any(rules.allow for _, rules in egress):
        return []
    return sorted({ref for ref, rules in egress if rules.default_deny})


def _resolver(view: View) -> Party:
    """The resolver as policies know it: a pod of its own if the mesh has one."""
    for name, workload in sorted(view.mesh.workloads.items()):
        if name.namespace == "kube-system" and ("k8s-app", "kube-dns") in workload.labels:
            if workload.addresses:
                return party(view.mesh, workload.addresses[0])
    labels = {
        **{wanted.key: wanted.values[0] for wanted in RESOLVER.requirements},
        "k8s-app": "kube-dns",
        NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL: "kube-system",
        PORTS_KEY: "dns-tcp/TCP=53,dns/UDP=53",
    }
    return Party("0.0.0.0", WorkloadName("kube-system", "kube-dns"), labels)


CHECKS = (
    Check("SL0301", "Warning", "egress default deny forgets DNS", dns_is_forgotten),
    Check("SL0302", "Info", "egress allows DNS over UDP only", dns_over_tcp_is_forgotten),
)
