"""Selectors, names and references that lead to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import View
from mesh.identity import NAMESPACE_NAME_LABEL
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    CidrGroupPeer,
    ObjectRef,
    Peer,
    Requirement,
    Rule,
    Selector,
    ServicePeer,
    WorkloadPeer,
)


def subject_selects_nothing(view: View) -> Iterator[Trap]:
    """A policy whose selector matches no pod of a namespace that has pods: often a misspelt label."""
    for ref, subject in view.subjects():
        if not view.selected(subject) and (not ref.namespace or _has_pods(view, ref.namespace)):
            yield Trap(
                ref,
                _subject_field(ref),
                f"selects no pod ({_shown(subject)})",
                "compare it with the labels of the pods, or delete the policy",
            )


def empty_namespace(view: View) -> Iterator[Trap]:
    """A policy in a namespace without any pod."""
    for ref, subject in view.subjects():
        if ref.namespace and not view.selected(subject) and not _has_pods(view, ref.namespace):
            yield Trap(
                ref,
                "metadata.namespace",
                f"namespace {ref.namespace} holds no pod, so the policy selects none",
                "put the policy where the pods are, or deploy them",
            )


def peer_matches_nothing(view: View) -> Iterator[Trap]:
    """A peer selector that matches no workload: the rule neither allows nor denies anyone by it."""
    for ref, rule, peer in _peers(view):
        if isinstance(peer, WorkloadPeer) and not view.mesh.identities.select(peer.selector):
            if not _absent_namespaces(view, peer.selector):
                yield Trap(
                    ref,
                    where(rule.field),
                    f"a peer matches no workload ({_shown(peer.selector)})",
                    "compare it with the labels of the pods and of their namespaces",
                )


def peer_namespace_is_absent(view: View) -> Iterator[Trap]:
    """A peer in a namespace that does not exist."""
    for ref, rule, peer in _peers(view):
        if isinstance(peer, WorkloadPeer):
            for name in _absent_namespaces(view, peer.selector):
                yield Trap(
                    ref,
                    where(rule.field),
                    f"a peer is in namespace {name}, which does not exist",
                    "correct the name, or create the namespace",
                )


def reference_is_dangling(view: View) -> Iterator[Trap]:
    """A CiliumCIDRGroup or a Service that a rule refers to and that is not there (threat N46)."""
    for ref, rule, peer in _peers(view):
        message = ""
        if isinstance(peer, CidrGroupPeer):
            if peer.name is not None and all(group.name != peer.name for group in view.groups):
                message = f"there is no CiliumCIDRGroup {peer.name}"
            elif peer.selector is not None:
                if not any(peer.selector.matches(dict(group.labels)) for group in view.groups):
                    message = f"no CiliumCIDRGroup has these labels ({_shown(peer.selector)})"
        elif isinstance(peer, ServicePeer) and not _services(view, peer):
            named = f"{peer.namespace or ''}/{peer.name}" if peer.name is not None else "with these labels"
            message = f"there is no Service {named}"
        if message:
            remedy = "create it or correct the name; until then it stands for nobody"
            yield Trap(ref, where(rule.field), message, remedy)
    for policy in view.authorizations:
        for name in policy.services or ():
            if name not in view.mesh.services:
                remedy = "create it or correct the name; until then the policy selects no pod by it"
                yield Trap(policy.ref, "spec.targetRefs", f"there is no Service {name}", remedy)


def rule_names_nobody(view: View) -> Iterator[Trap]:
    """An allow rule with an empty list of peers: in Cilium's language that is no one, not anyone."""
    for written in view.rules():
        if written.action == "accept" and written.rule.peers == ():
            yield Trap(
                written.ref,
                where(written.rule.field),
                "an empty list of peers names nobody: the rule allows no one",
                "leave the field out to mean anyone, or take the rule out",
            )


def service_selects_nothing(view: View) -> Iterator[Trap]:
    """A Service whose selector matches no pod: connections to it are refused."""
    for name, service in sorted(view.mesh.services.items()):
        if not service.selector:
            continue
        labels = [Requirement(key, "In", (value,)) for key, value in service.selector]
        own = Requirement(NAMESPACE_KEY, "In", (name.namespace,))
        if not view.selected(Selector(tuple(sorted([own, *labels])))):
            wanted = ", ".join(f"{key}={value}" for key, value in service.selector)
            yield Trap(
                ObjectRef("Service", *name),
                "spec.selector",
                f"selects no pod ({wanted})",
                "compare it with the labels of the pods",
            )


def only_audited(view: View) -> Iterator[Trap]:
    """A policy in audit mode tells what it would do and does nothing."""
    audited = [policy.ref for policy in view.policies if policy.audit]
    audited += [policy.ref for policy in view.tiers if policy.audit]
    audited += [policy.ref for policy in view.authorizations if policy.audit]
    for ref in audited:
        yield Trap(
            ref,
            "metadata.annotations",
            "is in audit mode: it changes no verdict",
            "take the annotation away once its would-be verdicts in `sluice observe` are right",
        )


def _peers(view: View) -> Iterator[tuple[ObjectRef, Rule, Peer]]:
    for written in (*view.rules(), *view.ranked("admin"), *view.ranked("baseline")):
        for peer in written.rule.peers or ():
            yield written.ref, written.rule, peer


def _absent_namespaces(view: View, selector: Selector) -> list[str]:
    """All namespaces that a selector names, if none of them exists."""
    for requirement in selector.requirements:
        by_name = requirement.key in (NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL)
        if by_name and requirement.operator == "In":
            if not any(view.has_namespace(name) for name in requirement.values):
                return list(requirement.values)
    return []


def _services(view: View, peer: ServicePeer) -> bool:
    return any(
        (peer.namespace is None or name.namespace == peer.namespace)
        and (peer.name is None or name.name == peer.name)
        and (peer.selector is None or peer.selector.matches(dict(service.labels)))
        for name, service in view.mesh.services.items()
    )


def _has_pods(view: View, namespace: str) -> bool:
    return any(name.namespace == namespace for name in view.mesh.workloads)


def _subject_field(ref: ObjectRef) -> str:
    match ref.kind:
        case "NetworkPolicy":
            return "spec.podSelector"
        case "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            return "spec.endpointSelector"
        case "AuthorizationPolicy":
            return "spec.selector"
        case _:
            return "spec.subject"


def _shown(selector: Selector) -> str:
    return some(map(_clause, selector.requirements), most=8) or "everything"


def _clause(requirement: Requirement) -> str:
    key = "namespace" if requirement.key == NAMESPACE_KEY else _readable(requirement.key)
    match requirement.operator:
        case "In":
            return f"{key}={_one_of(requirement.values)}"
        case "NotIn":
            return f"{key}!={_one_of(requirement.values)}"
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"


def _readable(key: str) -> str:
    inner = key.removeprefix(NAMESPACE_LABEL_PREFIX)
    return key if inner == key else f"the namespace's {inner}"


def _one_of(values: Iterable[str]) -> str:
    return "|".join(values)


CHECKS = (
    Check("SL0101", "Warning", "a policy selects no pod", subject_selects_nothing),
    Check("SL0102", "Warning", "a policy is in a namespace without pods", empty_namespace),
    Check("SL0103", "Warning", "a peer matches no workload", peer_matches_nothing),
    Check("SL0104", "Warning", "a peer is in a namespace that does not exist", peer_namespace_is_absent),
    Check("SL0105", "Warning", "a rule refers to something that is not there", reference_is_dangling),
    Check("SL0106", "Warning", "an allow rule names nobody", rule_names_nobody),
    Check("SL0107", "Warning", "a Service selects no pod", service_selects_nothing),
    Check("SL0108", "Info", "a policy is in audit mode", only_audited),
)
