"""Endpoints with their health, from Envoy's `/clusters?format=json` (envoy.admin.v3.Clusters): what it uses
now, outlier detection included, which no configuration says."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.proxy_text.dump import Data, address
from sluice.proxy_text.wanted import Wanted, same

HEAD = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")


def select(clusters: Data, wanted: Wanted) -> list[Data]:
    """Clusters with the endpoints that fit; without any none is shown."""
    return [
        cluster | {"host_statuses": hosts}
        for cluster in clusters.get("cluster_statuses", ())
        if same(wanted.cluster, cluster["name"])
        if (hosts := [host for host in cluster.get("host_statuses", ()) if _fits(host, wanted)])
    ]


def _fits(host: Data, wanted: Wanted) -> bool:
    found, port = address(host["address"])
    return same(wanted.address, found) and wanted.port in (None, port) and same(wanted.status, _status(host))


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    found = [
        (*address(host["address"]), cluster["name"], host)
        for cluster in selected
        for host in cluster["host_statuses"]
    ]
    return [
        (_endpoint(at, port), _status(host), _outlier(host), cluster)
        for at, port, cluster, host in sorted(found, key=lambda entry: entry[:3])
    ]


def _endpoint(found: str, port: int) -> str:
    if not port:
        return found
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


def _status(host: Data) -> str:
    return str(host.get("health_status", {}).get("eds_health_status", "UNKNOWN"))


def _outlier(host: Data) -> str:
    return "FAILED" if host.get("health_status", {}).get("failed_outlier_check") else "OK"
