"""What is left of AuthorizationPolicies (`mesh.proxy.AuthorizationPart`) as policies of Envoy's RBAC.

A rule becomes one policy. What is known of the sender becomes its principals, what is known of the request
its permissions; each source and each operation is one alternative, and conditions stand in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Policy,
    Principal,
    PrincipalSet,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, StringMatcher, ValueMatcher

from mesh.model import AuthorizationRule, CidrPeer, Term, TextMatch
from mesh.proxy import AuthorizationPart
from xds.render import naming, texts
from xds.render.claims import claim
from xds.render.rbac import header_name

_SENDER = frozenset({"remote_ip", "request_principal", "audience", "presenter", "claim"})
_CLAIMS = {"audience": ("aud",), "presenter": ("azp",)}


def policies(parts: Iterable[AuthorizationPart]) -> dict[str, Policy]:
    """By name, sorted: one for each rule that can fit."""
    found: dict[str, Policy] = {}
    for part in parts:
        for rule in part.rules:
            if rule.sources != () and rule.operations != ():
                found[naming.rbac_policy(part.origin, rule.field)] = _policy(rule, part.action != "allow")
    return dict(sorted(found.items()))


def _policy(rule: AuthorizationRule, cautious: bool) -> Policy:
    """`cautious`: in doubt, the rule fits."""
    sources, operations = rule.sources or ((),), rule.operations or ((),)
    return Policy(
        principals=[
            _all_ids([_principal(term) for term in (*source, *rule.conditions) if term.attribute in _SENDER])
            for source in sources
        ],
        permissions=[
            _all_rules(
                [
                    _permission(term, cautious)
                    for term in (*operation, *rule.conditions)
                    if term.attribute not in _SENDER
                ]
            )
            for operation in operations
        ],
    )


# --- what is known of the request -------------------------------------------------------------------------


def _permission(term: Term, cautious: bool) -> Permission:
    """Some value matches, or, negated, none does."""
    found = [rule for value in term.values for rule in _alternatives(term, value, cautious != term.negated)]
    if not found:
        return Permission(any=True) if term.negated else Permission(not_rule=Permission(any=True))
    one = found[0] if len(found) == 1 else Permission(or_rules=PermissionSet(rules=found))
    return Permission(not_rule=one) if term.negated else one


def _alternatives(term: Term, value: TextMatch | CidrPeer | int, lenient: bool) -> Iterator[Permission]:
    """Permissions of which one holds if the value matches. `lenient`: a match is the cautious answer."""
    if isinstance(value, CidrPeer):
        block, *exceptions = (
            Permission(destination_ip=_range(cidr)) for cidr in (value.cidr, *value.exceptions)
        )
        yield _all_rules([block, *(Permission(not_rule=exception) for exception in exceptions)])
    elif isinstance(value, TextMatch):
        match term.attribute:
            case "method":
                yield _header(":method", value)
            case "host":
                yield Permission(header=HeaderMatcher(name=":authority", string_match=texts.host(value)))
            case "path":
                yield Permission(url_path=PathMatcher(path=texts.matcher(value)))
            case "sni":
                yield Permission(requested_server_name=texts.matcher(value))
            case "header":
                name = header_name(term.key)
                yield _header(name, value)
                # Several lines are judged as one value, joined by commas. An allow needs all of it to match,
                # for a refusal any line is enough (threat N07).
                if lenient and (element := texts.element(value)) is not None:
                    yield Permission(header=HeaderMatcher(name=name, string_match=texts.expression(element)))


def _header(name: str, value: TextMatch) -> Permission:
    return Permission(header=HeaderMatcher(name=name, string_match=texts.matcher(value)))


def _all_rules(rules: Sequence[Permission]) -> Permission:
    if len(rules) == 1:
        return rules[0]
    return Permission(and_rules=PermissionSet(rules=list(rules))) if rules else Permission(any=True)


# --- what is known of the sender --------------------------------------------------------------------------


def _principal(term: Term) -> Principal:
    """Some value matches, or, negated, none does."""
    found = [principal for value in term.values for principal in _senders(term, value)]
    if not found:
        return Principal(any=True) if term.negated else Principal(not_id=Principal(any=True))
    one = found[0] if len(found) == 1 else Principal(or_ids=PrincipalSet(ids=found))
    return Principal(not_id=one) if term.negated else one


def _senders(term: Term, value: TextMatch | CidrPeer | int) -> Iterator[Principal]:
    if isinstance(value, CidrPeer):
        block, *exceptions = (Principal(remote_ip=_range(cidr)) for cidr in (value.cidr, *value.exceptions))
        yield _all_ids([block, *(Principal(not_id=exception) for exception in exceptions)])
    elif isinstance(value, TextMatch):
        if term.attribute == "request_principal":
            for issuer, subject in _splits(value):
                yield _all_ids([_claim(("iss",), issuer), _claim(("sub",), subject)])
        else:
            yield _claim(_CLAIMS.get(term.attribute, term.path), texts.matcher(value))


def _splits(value: TextMatch) -> Iterator[tuple[StringMatcher, StringMatcher]]:
    """Matchers of issuer and subject, which are one value, joined by a slash; both may hold others."""
    anything, text = texts.expression(texts.ANYTHING), value.value
    if value.kind == "present":
        yield anything, anything
    elif value.kind == "prefix":
        yield texts.matcher(value), anything
    elif value.kind == "suffix":
        yield anything, texts.matcher(value)
    for index, char in enumerate(text):
        if char == "/":
            issuer, subject = text[:index], text[index + 1 :]
            ending = TextMatch("suffix" if value.kind == "suffix" else "exact", issuer)
            beginning = TextMatch("prefix" if value.kind == "prefix" else "exact", subject)
            yield texts.matcher(ending), texts.matcher(beginning)


def _claim(path: Sequence[str], matcher: StringMatcher) -> Principal:
    return Principal(metadata=claim(path, ValueMatcher(string_match=matcher)))


def _all_ids(ids: Sequence[Principal]) -> Principal:
    if len(ids) == 1:
        return ids[0]
    return Principal(and_ids=PrincipalSet(ids=list(ids))) if ids else Principal(any=True)


def _range(cidr: str) -> CidrRange:
    network = ip_network(cidr)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=network.prefixlen)
