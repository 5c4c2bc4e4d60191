"""DestinationRule of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, destination_rule.proto).

The validation is Istio's own. One that cannot be read has no effect. This file knows nothing of who looks a
rule up, nor of Envoy.
"""

from __future__ import annotations

from typing import cast

from istio_integration.client_tls import client_tls
from istio_integration.connection_pool import connection_pool
from istio_integration.hosts import exported, host
from istio_integration.load_balancer import balancer
from istio_integration.outlier_detection import outlier_detection
from istio_integration.retry_budget import retry_budget
from istio_integration.tunnel import tunnel
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import created, labels, name, port
from mesh.model import (
    NO_ORDER,
    Callers,
    DestinationRule,
    ObjectRef,
    ProxyProtocol,
    Subset,
    TrafficPolicy,
)

SPEC = Fields(("host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"))
LEVELS = ("loadBalancer", "connectionPool", "outlierDetection", "tls")
#: Istio knows these of no port: one with settings of its own has the default.
OF_ALL_PORTS = ("retryBudget", "proxyProtocol", "tunnel")
TRAFFIC_POLICY = Fields((*LEVELS, *OF_ALL_PORTS, "portLevelSettings"))
PROXY_PROTOCOL = Fields(("version",))
PORT_POLICY = Fields(("port", *LEVELS))
VERSIONS = ("V1", "V2")
PORT = Fields(("number",))
SUBSET = Fields(("name", "labels", "trafficPolicy"))
WORKLOADS = Fields(("matchLabels",))

Ports = tuple[tuple[int, TrafficPolicy], ...]


def read_destination_rule(root: Reader, ref: ObjectRef) -> tuple[DestinationRule, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    policy, ports = _traffic_policy(spec.at("trafficPolicy"))
    if policy.balancer and policy.balancer.locality == NO_ORDER and not policy.outliers:
        setting = spec.at("trafficPolicy").at("loadBalancer").at("localityLbSetting")
        setting.note("prefers nothing: write outlierDetection, or distribute, failover or failoverPriority")
    subject = _subject(spec.at("workloadSelector"))
    return (
        DestinationRule(
            ref,
            created(root),
            host(spec.at("host"), wildcard=True),
            policy,
            ports,
            _subsets(spec.at("subsets")),
            _exported(spec.at("exportTo"), subject),
            subject,
        ),
    )


def _exported(reader: Reader, subject: Callers | None) -> tuple[str, ...]:
    """Labels select workloads of the own namespace only."""
    found = exported(reader)
    own = (reader.ref.namespace,)
    if subject is None:
        return found
    if reader.present and found != own and reader.value != []:
        reader.refuse("must be . beside a workloadSelector, which selects in the own namespace only")
    return own


def _subject(reader: Reader) -> Callers | None:
    if not reader.fields(WORKLOADS).present:
        return None
    return Callers(reader.ref.namespace, labels(reader.at("matchLabels")))


def _subsets(group: Reader) -> tuple[Subset, ...]:
    found: dict[str, Subset] = {}
    for item in group.items():
        item.fields(SUBSET)
        own = name(item.at("name"), label=True) if item.at("name").require() else ""
        if own in found:
            item.at("name").refuse(f"{shown(own)} stands here twice")
        policy, ports = _traffic_policy(item.at("trafficPolicy"))
        found[own] = Subset(own, labels(item.at("labels")), policy, ports)
    return tuple(found.values())


def _traffic_policy(reader: Reader) -> tuple[TrafficPolicy, Ports]:
    reader.fields(TRAFFIC_POLICY)
    ports: dict[int, TrafficPolicy] = {}
    for item in reader.at("portLevelSettings").items():
        item.fields(PORT_POLICY)
        number = item.at("port").fields(PORT).at("number")
        own = port(number) if number.require() else 0
        if own in ports:
            number.refuse(f"{own} stands here twice")
        ports[own] = _levels(item, PORT_POLICY)
    return _levels(reader, TRAFFIC_POLICY), tuple(sorted(ports.items(), key=lambda entry: entry[0]))


def _levels(reader: Reader, fields: Fields) -> TrafficPolicy:
    said = [field for field in fields.read if field != "port" and reader.at(field).present]
    if reader.present and reader.sound and not said:
        reader.refuse(f"says nothing: write one of {', '.join(f for f in fields.read if f != 'port')}")
    if reader.at("tunnel").present and reader.at("proxyProtocol").present:
        reader.at("tunnel").refuse("cannot stand beside proxyProtocol: write one of them")
    return TrafficPolicy(
        balancer(reader.at("loadBalancer")),
        connection_pool(reader.at("connectionPool")),
        outlier_detection(reader.at("outlierDetection")),
        client_tls(reader.at("tls")),
        retry_budget(reader.at("retryBudget")),
        _proxy_protocol(reader.at("proxyProtocol")),
        tunnel(reader.at("tunnel")),
    )


def _proxy_protocol(reader: Reader) -> ProxyProtocol | None:
    if not reader.fields(PROXY_PROTOCOL).present:
        return None
    return cast(ProxyProtocol, reader.at("version").choice(VERSIONS, "V1"))
