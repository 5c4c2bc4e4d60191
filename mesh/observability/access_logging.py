"""Which requests and connections of a workload are logged, and where: MeshConfig, then the Telemetries of the
root namespace, of the workload's own, and of the workload.

An entry that names providers makes them log, and what a wider one said counts no more. One that names none
changes of those in force what it says. Of several at one level the first by name counts. Knows no Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesh.model import AccessLogProvider, Direction, MeshConfig, ServiceName, Telemetry, Workload
from mesh.node import Collector, ConnectionLog
from mesh.observability.canonical import canonical
from mesh.proxy import AccessLog


def access_logs(
    config: MeshConfig, applied: Iterable[Telemetry], workload: Workload, direction: Direction
) -> tuple[AccessLog, ...]:
    """What logs what a workload sends or gets, in the order of the providers' names. `applied` are the
    Telemetries about it (`mesh.observability.telemetry.applying`)."""
    known = config.access_logging
    kept: dict[str, tuple[bool, str]] = dict.fromkeys(known.defaults, (True, ""))
    for telemetry in applied:
        rules = [rule for rule in telemetry.logging if direction in rule.directions]
        if any(rule.providers for rule in rules):
            kept = {name: (False, "") for rule in rules for name in rule.providers or ()}
        for rule in rules:
            for name in rule.providers or tuple(kept):
                logs, expression = (True, "") if rule.providers else kept[name]
                logs = logs if rule.disabled is None else not rule.disabled
                kept[name] = logs, expression if rule.filter is None else rule.filter
    return tuple(
        AccessLog(provider, kept[provider.name][1], _resource(provider, workload))
        for provider in known.providers
        if kept.get(provider.name, (False, ""))[0]
    )


def connection_logs(
    logs: Iterable[AccessLog], service: Callable[[str, int], ServiceName | None]
) -> tuple[ConnectionLog, ...]:
    """The same for connections that no Envoy carries. `service` tells which Service of the mesh a provider
    is, if it is one."""
    return tuple(_connection_log(log, service) for log in logs)


def _connection_log(log: AccessLog, service: Callable[[str, int], ServiceName | None]) -> ConnectionLog:
    to = log.provider
    collector = None
    if to.service:
        collector = Collector(to.service.rpartition("/")[2], to.port, service(to.service, to.port))
    return ConnectionLog(to.text, to.labels, to.path, to.omit_empty, log.filter, collector, log.resource)


def _resource(provider: AccessLogProvider, workload: Workload) -> tuple[tuple[str, str], ...]:
    """What records to others say of the pod; what an Envoy writes lies beside it anyway."""
    if provider.kind == "file":
        return ()
    own, pod = canonical(workload), workload.name
    return (
        ("k8s.namespace.name", pod.namespace),
        ("k8s.pod.name", pod.name),
        ("service.name", f"{own.service}.{pod.namespace}"),
        ("service.version", own.revision),
    )
