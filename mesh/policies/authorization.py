"""What AuthorizationPolicies mean for one request: Istio's semantics as code.

Part of the reference: brute force over every policy, rule and term (istio/api
security/v1beta1/authorization_policy.proto). CUSTOM is asked first, then DENY, then ALLOW; AUDIT
only tells. Identities are what the network knows of the peer (README of `istio_integration`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from mesh.model import (
    Authorization,
    AuthorizationRule,
    CidrPeer,
    ConnectionAttribute,
    MeshConfig,
    Term,
    TextMatch,
)
from mesh.policies.cidr import matches as block_matches
from mesh.request import Request

CONNECTION_ATTRIBUTES = frozenset(get_args(ConnectionAttribute))
#: What Envoy knows of a connection that is not HTTP. (There is no X-Forwarded-For either: such a client's
#: `remote_ip` is its own.)
PLAIN_ATTRIBUTES = frozenset({"sni", "destination_ip", "remote_ip"})


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer of a connection. One that is not `known` is no workload and has no identity."""

    address: str
    known: bool = False
    namespace: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """By these ALLOW rules; by none where no ALLOW policy selects the workload. `providers` still
    have to consent (CUSTOM); `audited` are AUDIT rules and policies in dry-run that fit."""

    keys: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forbidden:
    """By DENY rules, or because none of these ALLOW policies has a rule that fits."""

    keys: tuple[str, ...]


Decision = Granted | Forbidden


def decide(
    policies: Sequence[Authorization], caller: Caller, port: int, request: Request, config: MeshConfig
) -> Decision:
    """The answer to a request at a workload that exactly these policies select. Those in dry-run
    change nothing."""
    enforced = [policy for policy in policies if not policy.audit]

    def fitting(action: str) -> list[tuple[Authorization, str]]:
        return [
            (policy, f"{policy.ref} {rule.field}")
            for policy in enforced
            if policy.action == action
            for rule in policy.rules
            if fits(policy, rule, caller, port, request, config)
        ]

    denying = fitting("deny")
    if denying:
        return Forbidden(tuple(sorted({key for _, key in denying})))
    allows = {str(policy.ref) for policy in enforced if policy.action == "allow"}
    allowing = tuple(sorted({key for _, key in fitting("allow")}))
    if allows and not allowing:
        return Forbidden(tuple(sorted(allows)))
    return Granted(allowing, tuple(sorted({policy.provider for policy, _ in fitting("custom")})))


def fits(
    policy: Authorization,
    rule: AuthorizationRule,
    caller: Caller,
    port: int,
    request: Request,
    config: MeshConfig,
) -> bool:
    """Some source, some operation, every condition."""

    def fit(term: Term) -> bool:
        if term.attribute in CONNECTION_ATTRIBUTES:
            return connection_term_fits(term, caller, port, config)
        return request_term_fits(term, caller, request, lenient=(policy.action != "allow") != term.negated)

    def all_of(terms: Iterable[Term]) -> bool:
        return all(map(fit, terms))

    return (
        (rule.sources is None or any(map(all_of, rule.sources)))
        and (rule.operations is None or any(map(all_of, rule.operations)))
        and all_of(rule.conditions)
    )


# --- what is known of the connection ------------------------------------------------------------------


def connection_term_fits(term: Term, caller: Caller, port: int, config: MeshConfig) -> bool:
    """A peer that is no workload has no identity, so that no value matches it."""
    if term.attribute == "source_ip":
        found = any(block_matches(v, caller.address) for v in term.values if isinstance(v, CidrPeer))
    elif term.attribute == "destination_port":
        found = port in term.values
    else:
        found = caller.known and identity_satisfies(term, caller.namespace, caller.service_account, config)
    return found != term.negated


def identity_satisfies(term: Term, namespace: str, service_account: str, config: MeshConfig) -> bool:
    """Whether some value matches a workload of that namespace and account, negation aside."""
    if term.attribute == "known":
        return True
    texts = [value for value in term.values if isinstance(value, TextMatch)]
    match term.attribute:
        case "namespace":
            names = [namespace]
        case "service_account":
            names = [f"{namespace}/{service_account}"]
        case _:
            # In a policy, cluster.local stands for the mesh's own trust domain, whatever that is called.
            domains = {"cluster.local", config.trust_domain, *config.trust_domain_aliases}
            names = [f"{domain}/ns/{namespace}/sa/{service_account}" for domain in domains]
    return any(text_matches(text, name) for text in texts for name in names)


# --- what only Envoy sees -----------------------------------------------------------------------------


def request_term_fits(term: Term, caller: Caller, request: Request, *, lenient: bool) -> bool:
    """Whether some value matches, or, negated, none does.

    Several lines of a header are one value, joined by commas. Where finding a match is the cautious
    answer (`lenient`: a rule that denies, or a negated term of one that allows), one element of that
    list is enough (threat N07)."""
    texts = [value for value in term.values if isinstance(value, TextMatch)]
    match term.attribute:
        case "method":
            found = any(text_matches(text, request.method) for text in texts)
        case "path":
            # Istio matches the path without its query.
            found = any(text_matches(text, request.path.partition("?")[0]) for text in texts)
        case "host":
            found = any(host_matches(text, request.authority) for text in texts)
        case "header":
            found = _header_matches(term.key, texts, request, lenient)
        case "remote_ip":
            remote = request.remote or caller.address
            found = any(block_matches(v, remote) for v in term.values if isinstance(v, CidrPeer))
        case "destination_ip":
            blocks = (value for value in term.values if isinstance(value, CidrPeer))
            found = any(block_matches(block, request.destination) for block in blocks)
        case "sni":
            found = any(text_matches(text, request.sni) for text in texts)
        case _:
            found = any(text_matches(text, value) for text in texts for value in _claims(term, request))
    return found != term.negated


def host_matches(text: TextMatch, authority: str) -> bool:
    """Threats N05, N06: in any case, with or without the final dot of the root; a host without a port
    is meant with every port, and with what stands in the place of one."""
    value, whole = TextMatch(text.kind, text.value.lower()), authority.lower()
    if has_port(value.value) or value.kind in ("prefix", "present"):
        return text_matches(value, whole)
    end = whole.find("]") + 1 if whole.startswith("[") else 0
    name = whole[:end] + whole[end:].partition(":")[0]
    return text_matches(value, name) or text_matches(value, name.removesuffix("."))


def has_port(host: str) -> bool:
    """The colons of an address in brackets do not count."""
    return ":" in host and not host.endswith("]")


def _header_matches(key: str, texts: Sequence[TextMatch], request: Request, lenient: bool) -> bool:
    joined = request.fields.get(key)
    if joined is None:
        return False
    values = [joined]
    if lenient:
        values += [element.strip(" \t") for element in joined.split(",")]
    return any(text_matches(text, value) for text in texts for value in values)


def _claims(term: Term, request: Request) -> Sequence[str]:
    claims = dict(request.claims)
    match term.attribute:
        case "request_principal":
            issuer, subject = claims.get(("iss",), ()), claims.get(("sub",), ())
            return [f"{issuer[0]}/{subject[0]}"] if issuer and subject else []
        case "audience":
            return claims.get(("aud",), ())
        case "presenter":
            return claims.get(("azp",), ())
        case _:
            return claims.get(term.path, ())


def text_matches(text: TextMatch, value: str) -> bool:
    """An empty value is an absent one."""
    match text.kind:
        case "exact":
            return value == text.value
        case "prefix":
            return value.startswith(text.value)
        case "suffix":
            return value.endswith(text.value)
        case "present":
            return value != ""
        case "template":
            return _template_matches(text.value, value)


def _template_matches(template: str, path: str) -> bool:
    """Element by element: `{*}` is one that is not empty, `{**}` any number of them, also none.

    Envoy's URI template matcher, which stops at no other character than a slash."""
    wanted, found = template.split("/"), path.split("/")

    def fit(i: int, j: int) -> bool:
        if i == len(wanted):
            return j == len(found)
        head, operator, tail = wanted[i].partition("{**}")
        if operator:
            return any(
                _ends("/".join(found[j : k + 1]), head, tail) and fit(i + 1, k + 1)
                for k in range(j, len(found))
            )
        if j == len(found):
            return False
        head, operator, tail = wanted[i].partition("{*}")
        if operator:
            if not _ends(found[j], head, tail) or len(found[j]) <= len(head) + len(tail):
                return False
        elif wanted[i] != found[j]:
            return False
        return fit(i + 1, j + 1)

    return fit(0, 0)


def _ends(text: str, head: str, tail: str) -> bool:
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)
