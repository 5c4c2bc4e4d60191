"""At which side an Envoy reports, and which service that was about. Knows names, no counters."""

from __future__ import annotations

from agent.access_log import Address, LoggedConnection, LoggedRequest
from agent.names import Names, pack
from agent.telemetry.conversation import UNKNOWN, Host, Reporter, host, host_of_cluster

#: Istio's name for what is passed on to where the client meant it to go.
_PASSED_ON = "PassthroughCluster"


def reporter(
    names: Names, addresses: tuple[str, ...], logged: LoggedRequest | LoggedConnection
) -> Reporter | None:
    """Of the Envoy of the pod with these addresses: destination of what is for the pod itself, else source,
    as Istio's gateways are. None: its judges hand it on to the Gateway in the pod, which tells it."""
    if logged.local.ip not in addresses:
        return "source"
    if not names.is_gateway(*logged.local):
        return "destination"
    return None if logged.upstream.ip in addresses else "source"


def behind(names: Names, ip: str, port: int) -> Host:
    """The one that the end which was reached stands behind."""
    found = names.service_at(ip, port)
    return host(found) if found else Host()


def dialled(names: Names, vip: bytes, ip: str, port: int, otherwise: str = _PASSED_ON) -> Host:
    """The one that was dialled or that the backend, where that is known, is of."""
    found = names.service(vip) or names.service_at(ip, port)
    return host(found) if found else Host(name=otherwise)


def meant(names: Names, cluster: str, local: Address) -> Host:
    """The one that an Envoy's route chose; without a choice, inside the mesh, the one that was dialled."""
    if chosen := host_of_cluster(cluster):
        entry = names.entry(chosen.host)
        return host(entry) if entry else chosen
    otherwise = cluster or UNKNOWN
    if names.is_gateway(*local):
        return Host(name=otherwise)
    return dialled(names, pack(local.ip), *local, otherwise)
