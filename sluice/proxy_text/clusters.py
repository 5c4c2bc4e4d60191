"""Clusters by service, port, subset and direction, which Istio's names of clusters hold. In a subset's place
stands here what tells clusters of one service port apart: the egress class that judges them (rule 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluice.proxy_text.dump import Data, clusters
from sluice.proxy_text.origin import origin
from sluice.proxy_text.wanted import Wanted, same, within

HEAD = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")


@dataclass(frozen=True, slots=True, order=True)
class _Name:
    fqdn: str
    subset: str = ""
    port: str = ""
    direction: str = ""


def _name(cluster: Data) -> _Name:
    parts = cluster["name"].split("|")
    if len(parts) != 4:
        return _Name(cluster["name"])
    direction, port, subset, fqdn = parts
    return _Name(fqdn, subset, port, direction)


def select(dump: Data, wanted: Wanted) -> list[Data]:
    return sorted((cluster for _, cluster in clusters(dump) if _fits(_name(cluster), wanted)), key=_name)


def _fits(name: _Name, wanted: Wanted) -> bool:
    return (
        within(wanted.fqdn, name.fqdn)
        and within(wanted.subset, name.subset)
        and same(wanted.direction, name.direction)
        and wanted.port in (None, int(name.port or 0))
    )


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    return [
        (
            name.fqdn,
            name.port or "-",
            name.subset or "-",
            name.direction or "-",
            _type(cluster),
            origin(cluster),
        )
        for cluster in selected
        for name in (_name(cluster),)
    ]


def _type(cluster: Data) -> str:
    # STATIC is the enumeration's zero, which is not printed.
    custom = cluster.get("cluster_type", {}).get("name")
    return str(custom or cluster.get("type", "STATIC"))
