"""What of each rule that steers a pod needs an Envoy, by the steering table. Knows what was compiled
(`mesh.proxy`) and the table, and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from mesh.proxy import ProxyView
from mesh.route_effects import effects
from mesh.steering_table import CALLER, DESTINATION, Row, row_of


def why(view: ProxyView) -> dict[str, str]:
    """By the keys of a pod's rules. AuthorizationPolicies, and routes that do no more than send all requests
    to one backend, are left out: nothing of one field explains them."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for key, row in _rows(view):
        if row is not None and row.place in (CALLER, DESTINATION):
            found[key][row.why] = None
    return {key: "; ".join(texts) for key, texts in sorted(found.items())}


def _rows(view: ProxyView) -> Iterator[tuple[str, Row | None]]:
    for key in view.reasons:
        kind, _, *field = key.split(" ", 2)
        if field:
            yield key, row_of(kind, field[0])
    for routed in view.routed:
        for entry in routed.entries:
            yield from ((f"{entry.origin} {entry.rule.field}", effect.row) for effect in effects(entry))
        for through in routed.connections:
            if through.match.server_names:
                named = f"{through.rule.field}.match"
                yield f"{through.origin} {through.rule.field}", row_of(through.origin.kind, named)
    for l7 in (*view.ingress, *view.egress):
        for http in l7.rules or ():
            yield http.key, row_of(http.origin.kind, f"{http.field}.rules.http")
        for hello in l7.server_names or ():
            yield hello.key, row_of(hello.origin.kind, f"{hello.field}.serverNames")
