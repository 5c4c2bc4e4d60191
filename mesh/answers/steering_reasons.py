"""What of each rule that steers a pod needs an Envoy, by the steering table. Knows what was compiled
(`mesh.proxy`) and the table, and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from mesh.answers.steering_table import BOTH, CALLER, DESTINATION, Row, row_of
from mesh.model import AuthorizationRule, Callers, RequestAttribute, RouteMatch
from mesh.proxy import AuthorizationPart, ProxyView
from mesh.routes.route_effects import effects

#: Where the table has what a term of an AuthorizationPolicy looks at.
_TERMS: Mapping[RequestAttribute, str] = {
    "method": "rules[].to[].operation.methods",
    "path": "rules[].to[].operation.paths",
    "host": "rules[].to[].operation.hosts",
    "header": "rules[].when[].request.headers[]",
    "request_principal": "rules[].from[].source.requestPrincipals",
    "audience": "rules[].when[].request.auth.audiences",
    "presenter": "rules[].when[].request.auth.presenter",
    "claim": "rules[].when[].request.auth.claims[]",
    "remote_ip": "rules[].from[].source.remoteIpBlocks",
    "destination_ip": "rules[].when[].destination.ip",
    "sni": "rules[].when[].connection.sni",
}


def why(view: ProxyView) -> dict[str, str]:
    """By the keys of a pod's rules; routes that do no more than send all requests to one backend are left
    out."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for key, row in _rows(view):
        if row is not None and row.place in (CALLER, DESTINATION, BOTH):
            found[key][row.why] = None
    return {key: "; ".join(texts) for key, texts in sorted(found.items())}


def _rows(view: ProxyView) -> Iterator[tuple[str, Row | None]]:
    for key in view.reasons:
        kind, _, *field = key.split(" ", 2)
        if field:
            yield key, row_of(kind, field[0])
    for routed in view.routed:
        for entry in routed.entries:
            key = f"{entry.origin} {entry.rule.field}"
            if replace(entry.match, port=0, callers=Callers()) != RouteMatch():
                name = "match" if entry.origin.kind == "VirtualService" else "matches"
                yield key, row_of(entry.origin.kind, f"{entry.rule.field}.{name}")
            yield from ((key, effect.row) for effect in effects(entry))
        for through in routed.connections:
            if through.match.server_names:
                named = f"{through.rule.field}.match"
                yield f"{through.origin} {through.rule.field}", row_of(through.origin.kind, named)
    for l7 in (*view.ingress, *view.egress):
        for http in l7.rules or ():
            yield http.key, row_of(http.origin.kind, f"{http.field}.rules.http")
        for hello in l7.server_names or ():
            yield hello.key, row_of(hello.origin.kind, f"{hello.field}.serverNames")
        for part in l7.authorization:
            for rule in part.rules:
                yield from ((f"{part.origin} {rule.field}", row) for row in _asked(part, rule))


def _asked(part: AuthorizationPart, rule: AuthorizationRule) -> Iterator[Row | None]:
    """What of the connection alone is decided; the terms that are left are about requests."""
    kind = part.origin.kind
    if part.action == "custom":
        yield row_of(kind, "provider")
    for terms in (*(rule.sources or ()), *(rule.operations or ()), rule.conditions):
        for term in terms:
            yield row_of(kind, _TERMS[cast(RequestAttribute, term.attribute)])
