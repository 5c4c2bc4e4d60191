"""Flows that were seen, each kind once: what `sluice diff` asks about. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from mesh.answers.difference import Sample
from mesh.answers.flow import Flow


def samples_of(flows: Iterable[Flow]) -> list[Sample]:
    """The newest flow of each kind and how many there were, in the order in which kinds were first seen.

    Alike are flows between the same pods at the same port, and of requests the same head. Where both
    ends tell of a connection, it counts once."""
    newest: dict[object, Flow] = {}
    counts: defaultdict[object, Counter[str]] = defaultdict(Counter)
    for flow in flows:
        source, target, l7 = flow.source, flow.destination, flow.l7
        kind = (
            (source.namespace, source.pod) if source.pod else source.ip,
            (target.ip, target.port, flow.protocol),
            (l7.method, l7.path, l7.authority) if l7 else None,
        )
        newest[kind] = flow
        counts[kind][flow.direction] += 1
    return [Sample(flow, max(counts[kind].values())) for kind, flow in newest.items()]
