"""Which filter chain of a class takes a connection: HTTP, a TLS hello, or anything else.

A matcher decides once the first bytes are there, before any filter sees one: so a server that speaks first
says nothing to a client that is refused. Where a server may speak first, the wait for those bytes is short,
and a client that outwaits it, or hides its HTTP behind a line break, is judged by `plain` (rule 21).

All of this is structure that live connections keep, so what shapes it (`server_names`, `plain`, `http`,
`normalization`) must be part of what names the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import ApiVersion
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, ListenerFilter
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.xds.type.matcher.v3 import Matcher

from mesh.model import AuthorizationProvider, CidrPeer, NamePattern, Term, TextMatch
from mesh.proxy import AccessLog, AuthorizationPart, L7Class
from xds.render import (
    access_log,
    authorization,
    matching,
    mutual_tls,
    naming,
    protocol,
    providers,
    rbac,
    server_names,
    texts,
)
from xds.render.encoding import typed
from xds.render.matching import Predicate

#: How long a client may be silent before a server that may speak first is let speak, and otherwise.
_PATIENCE, _MORE_PATIENCE = timedelta(seconds=1), timedelta(seconds=15)


def is_sniffed(found: L7Class) -> bool:
    """Does anything but plain HTTP have a way through?"""
    return not found.http or found.plain is not None or found.server_names is not None or bool(found.mutual)


def is_strict(found: L7Class) -> bool:
    """Does nothing come in but by mutual TLS?"""
    return found.mutual is not None and found.mutual.mode == "STRICT"


def inspectors(found: L7Class) -> Iterator[ListenerFilter]:
    """What must look at the first bytes."""
    named = found.server_names is not None or any(t.attribute == "sni" for t in _terms(found.plain or ()))
    if named or found.mutual:
        yield ListenerFilter(name=naming.TLS_INSPECTOR, typed_config=typed(TlsInspector()))
    if found.http and found.plain is not None and not is_strict(found):
        yield ListenerFilter(name=naming.HTTP_INSPECTOR, typed_config=typed(HttpInspector()))


def patience(found: L7Class) -> timedelta:
    """How long they wait. Whoever begins mutual TLS speaks first."""
    return _MORE_PATIENCE if found.plain is None or is_strict(found) else _PATIENCE


def choice(found: L7Class, listener: str, blocks: Sequence[str]) -> Matcher:
    """The chain of each connection; those without an original destination, in `blocks`, are closed,
    and nobody is told."""
    closed, http, plain = naming.refused(listener), listener, naming.plain_chain(listener)
    branches: list[tuple[Predicate, str]] = [(matching.destination(blocks), naming.blackhole(listener))]
    if found.mutual:
        branches += _in_mutual_tls(found, listener)
    if is_strict(found):
        return matching.first_of(branches, closed)
    if found.server_names is not None:
        patterns = (pattern for rule in found.server_names for pattern in rule.patterns)
        branches += [(matching.all_of([matching.tls(), _named(patterns)]), plain), (matching.tls(), closed)]
    if found.plain is None:
        return matching.first_of(branches, http if found.http else closed)
    if found.http:
        branches.append((matching.http(), http))
    branches.append((_refused(found.plain), closed))
    asked = [part for _, parts in _asked(found) for part in parts]
    branches.append((_any_rule(asked), naming.asking_chain(listener)))
    return matching.first_of(branches, plain)


def _strict(found: L7Class) -> bool:
    return found.mutual is not None and found.mutual.mode == "STRICT"


def _in_mutual_tls(found: L7Class, listener: str) -> Iterator[tuple[Predicate, str]]:
    """The same for what comes in mutual TLS, of which the hello tells by ALPN whether it is HTTP. Another
    hello may be the application's own, where that is allowed. A rule about names that hellos ask for has
    nothing to look at in there, and fits nothing."""
    closed, requests = naming.refused(listener), naming.mutual_chain(listener)
    own = (re.escape(name) for name in found.mutual.server_names) if found.mutual else ()
    named = matching.server_name("|".join((f"{re.escape(naming.MUTUAL_TLS)}.+", *own)))
    ours = matching.tls() if is_strict(found) else matching.all_of([matching.tls(), named])
    if found.http:
        yield matching.all_of([ours, matching.http_behind_tls()]), requests
    if found.plain is None:
        # Where there is nothing but HTTP it is taken for that, as it is in the clear.
        yield ours, requests if found.http else closed
        return
    asked = [part for _, parts in _asked(found) for part in parts]
    yield matching.all_of([ours, _refused(found.plain)]), closed
    yield (
        matching.all_of([ours, _any_rule(asked)]),
        naming.mutual_chain(naming.asking_chain(listener)),
    )
    yield ours, naming.mutual_chain(naming.plain_chain(listener))


def serving(
    found: L7Class, listener: str, http: Filter, cluster: str, logs: tuple[AccessLog, ...]
) -> Iterator[FilterChain]:
    """The chains of which `choice` takes one: with `http` for requests, and to `cluster` for all else."""
    if not is_strict(found):
        yield from _chains(found, listener, http, cluster, logs)
    if not found.mutual:
        return
    for chain in _chains(found, listener, http, cluster, logs, ends_tls=True):
        yield replace(
            chain,
            name=naming.mutual_chain(chain.name),
            transport_socket=mutual_tls.ended(found.mutual.domains, http=chain.name == listener),
            transport_socket_connect_timeout=protocol.EDGE_HANDSHAKE_TIMEOUT,
        )


def _chains(
    found: L7Class,
    listener: str,
    http: Filter,
    cluster: str,
    logs: tuple[AccessLog, ...],
    *,
    ends_tls: bool = False,
) -> Iterator[FilterChain]:
    if found.http:
        yield FilterChain(name=listener, filters=[http])
    if found.server_names is not None or found.plain is not None:
        onwards = _onwards(cluster, listener, logs, ends_tls=ends_tls)
        yield FilterChain(name=naming.plain_chain(listener), filters=[onwards])
    if asked := _asked(found):
        # What waits for consent gets no word from the server: it is asked at the client's first byte.
        filters = [filter_ for index, one in enumerate(asked) for filter_ in _pair(index, *one)]
        filters.append(_onwards(cluster, listener, logs, waits=True))
        yield FilterChain(name=naming.asking_chain(listener), filters=filters)


def _asked(found: L7Class) -> tuple[providers.Asking, ...]:
    return tuple(one for one in providers.asking(found.plain or ()) if one[0].kind == "grpc")


def _refused(parts: Sequence[AuthorizationPart]) -> Predicate:
    """By DENY; by ALLOW, if there is any and none fits; by CUSTOM, whose service cannot be asked (over HTTP
    it can only be asked about requests, as in Istio)."""
    enforced = [part for part in parts if not part.audit]
    lost = [
        part
        for part in enforced
        if part.action == "custom" and (part.provider is None or part.provider.kind != "grpc")
    ]
    denying = _any_rule([*lost, *(part for part in enforced if part.action == "deny")])
    allows = [part for part in enforced if part.action == "allow"]
    missing = matching.negated(_any_rule(allows)) if allows else False
    return matching.any_of([denying, missing])


def _any_rule(parts: Iterable[AuthorizationPart]) -> Predicate:
    return matching.any_of(
        matching.all_of([_any_group(rule.sources), _any_group(rule.operations), _all_terms(rule.conditions)])
        for part in parts
        for rule in part.rules
    )


def _any_group(groups: tuple[tuple[Term, ...], ...] | None) -> Predicate:
    return True if groups is None else matching.any_of(map(_all_terms, groups))


def _all_terms(terms: Iterable[Term]) -> Predicate:
    return matching.all_of(map(_term, terms))


def _term(term: Term) -> Predicate:
    one = matching.any_of(_value(term, value) for value in term.values)
    return matching.negated(one) if term.negated else one


def _value(term: Term, value: TextMatch | CidrPeer | int) -> Predicate:
    """Of the attributes that are known of such a connection
    (`mesh.policies.authorization.PLAIN_ATTRIBUTES`)."""
    if isinstance(value, CidrPeer):
        # There is no X-Forwarded-For: the remote address is the peer's own.
        side = matching.destination if term.attribute == "destination_ip" else matching.source
        inside = side((value.cidr,))
        return (
            matching.all_of([inside, matching.negated(side(value.exceptions))])
            if value.exceptions
            else inside
        )
    if isinstance(value, TextMatch) and term.attribute == "sni":
        return matching.server_name(texts.regex(value))
    raise AssertionError(f"{term.attribute} is no attribute of a connection that is not HTTP")


def _named(patterns: Iterable[NamePattern]) -> Predicate:
    return matching.any_of(
        matching.server_name(server_names.expression(pattern)) for pattern in sorted(set(patterns))
    )


def _terms(parts: Iterable[AuthorizationPart]) -> Iterator[Term]:
    for part in parts:
        for rule in part.rules:
            yield from (
                term
                for group in (rule.sources or (), rule.operations or ())
                for terms in group
                for term in terms
            )
            yield from rule.conditions


def _pair(
    index: int, provider: AuthorizationProvider, parts: tuple[AuthorizationPart, ...]
) -> Iterator[Filter]:
    """As in `xds.render.providers`, for connections."""
    fitting = rbac.deny(authorization.policies(parts))
    shadow = NetworkRbac(
        shadow_rules=fitting.rules, shadow_rules_stat_prefix=providers.prefix(index), stat_prefix="custom"
    )
    asking = ExtAuthz(
        stat_prefix=provider.name,
        grpc_service=providers.grpc_service(provider),
        failure_mode_allow=provider.fail_open,
        transport_api_version=ApiVersion.V3,
        filter_enabled_metadata=providers.unless_exempt(naming.NETWORK_RBAC, index),
    )
    yield Filter(name=naming.NETWORK_RBAC, typed_config=typed(shadow))
    yield Filter(name=naming.NETWORK_EXT_AUTHZ, typed_config=typed(asking))


def _onwards(
    cluster: str, listener: str, logs: tuple[AccessLog, ...], *, waits: bool = False, ends_tls: bool = False
) -> Filter:
    proxy = TcpProxy(stat_prefix=cluster, cluster=cluster, idle_timeout=protocol.FOREVER)
    access_log.tell(proxy, listener, logs)
    if waits:
        protocol.connect_after_first_byte(proxy)
    elif ends_tls:
        protocol.connect_after_handshake(proxy)
    return Filter(name=naming.TCP_PROXY, typed_config=typed(proxy))
