"""AuthorizationPolicies that mean something else than they seem to, as Istio's documentation of
`security/v1 AuthorizationPolicy` and semantics rule 21 have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import View
from mesh.model import (
    NAMESPACE_KEY,
    SERVICE_ACCOUNT_KEY,
    Authorization,
    AuthorizationRule,
    RequestAttribute,
    Term,
    TextMatch,
    WorkloadName,
)

#: What is known of a connection that is no HTTP, too.
_OF_CONNECTION = ("sni", "destination_ip")
_OF_REQUEST = frozenset(get_args(RequestAttribute)) - set(_OF_CONNECTION)


def deny_loses_its_fields(view: View) -> Iterator[Trap]:
    """Rule 21: on a port that is not HTTP a deny drops its HTTP fields, and so denies more."""
    for policy, rule, places in _on_plain_ports(view, "deny"):
        yield Trap(
            policy.ref,
            where(rule.field),
            f"has HTTP fields and binds ports that are not HTTP ({some(places)}): there the fields are "
            "dropped, and all that the rest of the rule fits is denied",
            "narrow the rule to HTTP ports with `ports`, or name the Service's port http-...",
        )


def allow_never_fits(view: View) -> Iterator[Trap]:
    """Rule 21: on a port that is not HTTP an allow with HTTP fields never matches."""
    for policy, rule, places in _on_plain_ports(view, "allow"):
        yield Trap(
            policy.ref,
            where(rule.field),
            f"has HTTP fields and binds ports that are not HTTP ({some(places)}): there it never fits, and "
            "the connections are refused unless another rule allows them",
            "give those ports a rule without HTTP fields, or name the Service's port http-...",
        )


def allows_nothing(view: View) -> Iterator[Trap]:
    """An ALLOW policy without rules allows nothing: right for a default deny, wrong by accident."""
    for policy in view.authorizations:
        if policy.action == "allow" and not policy.rules and not policy.audit:
            yield Trap(
                policy.ref,
                "spec.rules",
                "allows nothing: whatever no other ALLOW policy allows is refused",
                "leave it so for a default deny; `rules: [{}]` allows everything",
            )


def denies_everything(view: View) -> Iterator[Trap]:
    """A DENY rule without any condition refuses every connection, whatever an ALLOW says."""
    for policy in view.authorizations:
        if policy.action == "deny" and not policy.audit:
            for rule in policy.rules:
                if rule.sources is None and rule.operations is None and not rule.conditions:
                    void = sorted(str(other.ref) for other in _allows_beside(view, policy))
                    if void:
                        yield Trap(
                            policy.ref,
                            where(rule.field),
                            f"denies everything, which makes {some(void)} void",
                            "for a default deny write an ALLOW policy without rules instead",
                        )


def unknown_source(view: View) -> Iterator[Trap]:
    """A namespace or service account that no pod has: the value matches nobody."""
    identities = [identity.mapping for identity in view.mesh.identities.all.values()]
    namespaces = {labels.get(NAMESPACE_KEY, "") for labels in identities}
    accounts = {f"{i.get(NAMESPACE_KEY, '')}/{i.get(SERVICE_ACCOUNT_KEY, '')}" for i in identities}
    for policy in view.authorizations:
        for rule in policy.rules:
            for term in _terms(rule):
                for value in term.values:
                    if not isinstance(value, TextMatch) or value.kind != "exact":
                        continue
                    absent = ""
                    if term.attribute == "namespace" and value.value not in namespaces:
                        absent = f"namespace {value.value} has no pod"
                    elif term.attribute == "service_account" and value.value not in accounts:
                        absent = f"no pod runs as service account {value.value}"
                    elif term.attribute == "principal" and _account(value.value) not in {None, *accounts}:
                        absent = f"no pod runs as {value.value}"
                    if absent:
                        message = f"{absent}: this value fits nobody"
                        yield Trap(policy.ref, where(rule.field), message, "correct the name")


def port_is_not_the_pods(view: View) -> Iterator[Trap]:
    """`ports` are the workload's, after translation, not the Service's (rule 1)."""
    for policy in view.authorizations:
        found = [(name, s, p, t) for name in view.bound(policy) for s, p, t in view.service_ports(name)]
        targets = {target for _, _, _, target in found}
        for rule in policy.rules:
            for number in sorted({n for t in _ports(rule) for n in t.values if isinstance(n, int)}):
                match = next(((s, t) for _, s, p, t in found if p.port == number), None)
                if match is not None and number not in targets:
                    yield Trap(
                        policy.ref,
                        where(rule.field),
                        f"port {number} is Service {match[0]}'s; its pods are judged at {match[1]}",
                        f"write port {match[1]}",
                    )


def provider_is_unknown(view: View) -> Iterator[Trap]:
    """A CUSTOM policy whose provider MeshConfig does not define: requests are refused (rule 18)."""
    known = {provider.name for provider in view.mesh.config.providers}
    for policy in view.authorizations:
        if policy.action == "custom" and policy.provider not in known:
            yield Trap(
                policy.ref,
                "spec.provider.name",
                f"MeshConfig has no extension provider {policy.provider!r}; what the policy binds is refused",
                f"define it under extensionProviders; known are {some(sorted(known)) or 'none'}",
            )


def _on_plain_ports(view: View, action: str) -> Iterator[tuple[Authorization, AuthorizationRule, list[str]]]:
    """Rules with HTTP fields, and the pods' ports declared as no HTTP that they bind."""
    for policy in view.authorizations:
        if policy.action != action or policy.audit:
            continue
        bound = [(name, port) for name in view.bound(policy) for port in _plain(view, name)]
        for rule in policy.rules:
            if any(term.attribute in _OF_REQUEST for term in _terms(rule)):
                places = [f"{name} {port}" for name, port in bound if _binds(rule, port)]
                if places:
                    yield policy, rule, places


def _plain(view: View, name: WorkloadName) -> list[int]:
    return sorted(port for port, kind in view.mesh.service_table.declared(name).items() if kind == "plain")


def _binds(rule: AuthorizationRule, port: int) -> bool:
    """Can the rule be about this port at all?"""

    def fits(terms: tuple[Term, ...]) -> bool:
        return all((port in t.values) != t.negated for t in terms if t.attribute == "destination_port")

    operations = rule.operations is None or any(fits(terms) for terms in rule.operations)
    return operations and fits(rule.conditions)


def _allows_beside(view: View, policy: Authorization) -> list[Authorization]:
    pods = set(view.bound(policy))
    return [
        other
        for other in view.authorizations
        if other.action == "allow" and other.rules and not other.audit and _within(view, other, pods)
    ]


def _within(view: View, policy: Authorization, pods: set[WorkloadName]) -> bool:
    own = view.bound(policy)
    return bool(own) and pods.issuperset(own)


def _terms(rule: AuthorizationRule) -> Iterator[Term]:
    for terms in (*(rule.sources or ()), *(rule.operations or ()), rule.conditions):
        yield from terms


def _ports(rule: AuthorizationRule) -> list[Term]:
    return [term for term in _terms(rule) if term.attribute == "destination_port"]


def _account(principal: str) -> str | None:
    """`namespace/name` of `<trust domain>/ns/<namespace>/sa/<name>`; None for any other principal."""
    match principal.split("/"):
        case [_, "ns", namespace, "sa", name]:
            return f"{namespace}/{name}"
    return None


CHECKS = (
    Check("SL0601", "Warning", "a DENY with HTTP fields binds a plain port", deny_loses_its_fields),
    Check("SL0602", "Warning", "an ALLOW with HTTP fields binds a plain port", allow_never_fits),
    Check("SL0603", "Info", "an ALLOW policy without rules", allows_nothing),
    Check("SL0604", "Warning", "a DENY of everything makes ALLOW policies void", denies_everything),
    Check("SL0605", "Warning", "a source that no pod has", unknown_source),
    Check("SL0606", "Warning", "an AuthorizationPolicy names a Service's port", port_is_not_the_pods),
    Check("SL0607", "Error", "a CUSTOM policy names no known provider", provider_is_unknown),
)
