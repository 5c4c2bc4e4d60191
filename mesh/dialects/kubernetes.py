"""Namespaces, Pods, Services and EndpointSlices: the things that exist.

They have many fields that do not concern a mesh, so here unknown fields are ignored; an object that
cannot be read has no effect. This file knows nothing of who may talk to whom.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, cast

from mesh.dialects.reading import Reader, shown
from mesh.dialects.syntax import (
    address,
    is_label,
    is_subdomain,
    label_value,
    labels,
    name,
    port,
    port_name,
    port_or_name,
    printable,
    transport,
)
from mesh.model import (
    Alias,
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    ObjectRef,
    Protocol,
    Service,
    ServiceName,
    ServicePort,
    SliceEndpoint,
    Workload,
    WorkloadName,
)

#: The label that the API server gives every namespace.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
#: The older form of trafficDistribution (KEP-2433); `Disabled` and `disabled` are the default.
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"

Family = Literal["IPv4", "IPv6"]
_NEAR: dict[str, Literal["", "zone", "node"]] = {
    "": "",
    "PreferClose": "zone",  # API reference, ServiceSpec.trafficDistribution: the old name of the next
    "PreferSameZone": "zone",
    "PreferSameNode": "node",
}
#: Of Services.
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
_AFFINITY_SECONDS = 10800  # API reference, ClientIPConfig.timeoutSeconds
_MAX_AFFINITY_SECONDS = 86400
#: What a CronJob calls its Jobs: its own name and the minute since the epoch.
_CRON_JOB = re.compile(r"(.+)-[0-9]{8,10}")


def read_namespace(root: Reader, ref: ObjectRef) -> tuple[Namespace, ...]:
    own = dict(labels(root.at("metadata").at("labels"))) | {NAMESPACE_NAME_LABEL: ref.name}
    return (Namespace(ref.name, tuple(sorted(own.items()))),)


def read_node(root: Reader, ref: ObjectRef) -> tuple[Node, ...]:
    """Its own addresses; a host name is none."""
    found = []
    for item in root.at("status").mapping().at("addresses").items():
        if item.mapping().at("type").value in ("InternalIP", "ExternalIP"):
            found.append(address(item.at("address")))
    return (Node(ref.name, labels(root.at("metadata").at("labels")), _in_order(found)),)


# --- pods --------------------------------------------------------------------------------------


def read_pod(root: Reader, ref: ObjectRef) -> tuple[Workload, ...]:
    """The pod's addresses and readiness are those that its status records."""
    spec, status = root.at("spec").mapping(), root.at("status").mapping()
    if spec.at("hostNetwork").boolean():
        spec.at("hostNetwork").refuse("a pod of the node's own network cannot be in the mesh")
    containers = [*spec.at("initContainers").items(), *spec.at("containers").items()]
    # A pod that has ended keeps its status, but its address may be another pod's by now.
    ended = status.at("phase").text() in ("Succeeded", "Failed")
    leaving = root.at("metadata").at("deletionTimestamp").present
    account = spec.at("serviceAccountName")
    workload = Workload(
        name=WorkloadName(ref.namespace, ref.name),
        labels=labels(root.at("metadata").at("labels")),
        service_account=name(account, "default") or "default",
        node=name(spec.at("nodeName")),
        addresses=() if ended else _pod_addresses(status),
        ports=tuple(p for c in containers for p in _named_ports(c)),
        ready=_is_ready(status) and not ended and not leaving,
        hostname=name(spec.at("hostname"), label=True),
        subdomain=name(spec.at("subdomain"), label=True),
        uid=root.at("metadata").at("uid").text(),
        owner=_owner(root.at("metadata")),
    )
    return (workload,)


def _owner(metadata: Reader) -> str:
    """The name of what made the pod, as Istio names workloads: behind a ReplicaSet stands a Deployment,
    behind a Job with a time in its name a CronJob."""
    for item in metadata.at("ownerReferences").items():
        owner = item.mapping()
        if not owner.at("controller").boolean():
            continue
        kind, found = owner.at("kind").text(), name(owner.at("name"))
        if kind == "ReplicaSet":
            revision = metadata.at("labels").mapping().at("pod-template-hash").text()
            return found.removesuffix(f"-{revision}")
        if kind == "Job" and (timed := _CRON_JOB.fullmatch(found)):
            return timed[1]
        return found
    return ""


def _pod_addresses(status: Reader) -> tuple[str, ...]:
    found = [address(item.mapping().at("ip")) for item in status.at("podIPs").items()]
    if status.at("podIP").present and status.at("podIP").value != "":
        found.append(address(status.at("podIP")))
    return _in_order(found)


def _in_order(addresses: list[str | None]) -> tuple[str, ...]:
    """Each once, IPv4 first, else as given."""
    return tuple(sorted(dict.fromkeys(a for a in addresses if a), key=lambda a: ":" in a))


def _is_ready(status: Reader) -> bool:
    conditions = [item.mapping() for item in status.at("conditions").items()]
    return any(c.at("type").value == "Ready" and c.at("status").value == "True" for c in conditions)


def _named_ports(container: Reader) -> list[NamedPort]:
    found = []
    for item in container.mapping().at("ports").items():
        number = item.mapping().at("containerPort")
        number.require()
        protocol = transport(item.at("protocol"))
        if item.at("name").present:
            found.append(NamedPort(port_name(item.at("name")), port(number), protocol))
        else:
            port(number)
    return found


# --- services ------------------------------------------------------------------------------------


def read_service(root: Reader, ref: ObjectRef) -> tuple[Service | Alias, ...]:
    spec = root.at("spec").mapping()
    spec.require()
    if spec.at("type").choice(_TYPES, "ClusterIP") == "ExternalName":
        return (_alias(spec, ref),)
    headless = spec.at("clusterIP").value == "None"
    vips = () if headless else _vips(spec)
    ports = _service_ports(spec.at("ports"))
    if not ports and not headless and spec.at("ports").sound:
        spec.at("ports").refuse("is required: a service has at least one port unless it is headless")
    service = Service(
        name=ServiceName(ref.namespace, ref.name),
        ports=ports,
        # API reference, ServiceSpec.selector: an empty one is an absent one.
        selector=labels(spec.at("selector")) or None,
        vips=vips,
        families=_families(spec, vips),
        headless=headless,
        affinity_seconds=_affinity(spec),
        labels=labels(root.at("metadata").at("labels")),
        near=_near(spec.at("trafficDistribution"), root.at("metadata").at("annotations").mapping()),
    )
    return (service,)


def _alias(spec: Reader, ref: ObjectRef) -> Alias:
    """Of everything else that may stand there nothing counts: ports inform whoever reads the object, and a
    selector is ignored (API reference, ServiceSpec)."""
    for own in (spec.at("clusterIP"), *spec.at("clusterIPs").items()):
        if own.value not in (None, "", "None"):
            own.refuse("cannot stand beside type: ExternalName, which has no address")
    _service_ports(spec.at("ports"))
    return Alias(ServiceName(ref.namespace, ref.name), _external_name(spec.at("externalName")))


def _external_name(reader: Reader) -> str:
    text = reader.text().lower().removesuffix(".")
    if not reader.require() or not reader.sound:
        return ""
    if _is_address(text):
        reader.refuse(
            f"{shown(text)} is an address, and an ExternalName is a name: write a ServiceEntry, or a Service "
            "without type and selector and an EndpointSlice for it"
        )
    elif not is_subdomain(text) or not all(map(is_label, text.split("."))):
        reader.refuse(f"{shown(text)} is not a DNS name (RFC 1123) such as db.example.com")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _near(wanted: Reader, annotations: Reader) -> Literal["", "zone", "node"]:
    """The annotation counts before the field, as in Kubernetes; it means zones."""
    if annotations.at(TOPOLOGY_MODE).value in ("Auto", "auto"):
        return "zone"
    return _NEAR.get(wanted.choice(tuple(filter(None, _NEAR))), "")


def _vips(spec: Reader) -> tuple[str, ...]:
    found = [address(item) for item in spec.at("clusterIPs").items(at_most=2)]
    first = spec.at("clusterIP")
    if first.present and first.value != "":
        own = address(first)
        if found and own != found[0]:
            first.refuse("must equal clusterIPs[0]")
        found = found or [own]
    return tuple(a for a in found if a)


def _families(spec: Reader, vips: tuple[str, ...]) -> tuple[Family, ...]:
    """What the service asks for; one that asks for nothing gets both families."""
    named = [cast(Family, i.choice(_FAMILIES)) for i in spec.at("ipFamilies").items(at_most=2)]
    policy = spec.at("ipFamilyPolicy").choice(("SingleStack", "PreferDualStack", "RequireDualStack"))
    if not named:
        named = [_FAMILIES[":" in vip] for vip in vips]
    if len(set(named)) != len(named):
        spec.at("ipFamilies").refuse("names one family twice")
    if policy.endswith("DualStack") and len(named) == 1:
        named += [f for f in _FAMILIES if f not in named]
    if not named and policy == "SingleStack":
        return ("IPv4",)
    return tuple(named) or _FAMILIES


def _service_ports(ports: Reader) -> tuple[ServicePort, ...]:
    found: list[ServicePort] = []
    items = ports.items()
    for item in items:
        number, target = item.mapping().at("port"), item.at("targetPort")
        number.require()
        own = ServicePort(
            name=name(item.at("name"), label=True),
            port=port(number),
            protocol=transport(item.at("protocol")),
            target=port_or_name(target) if target.present else port(number),
            app_protocol=printable(item.at("appProtocol"), 253),
        )
        if not own.name and len(items) > 1:
            item.at("name").refuse("is required where a service has more than one port")
        if own.name and any(p.name == own.name for p in found):
            item.at("name").refuse(f"{shown(own.name)} is the name of another port")
        if any((p.port, p.protocol) == (own.port, own.protocol) for p in found):
            number.refuse(f"{own.protocol} {own.port} stands here twice")
        found.append(own)
    return tuple(found)


def _affinity(spec: Reader) -> int:
    wanted = spec.at("sessionAffinity").choice(("None", "ClientIP"), "None")
    timeout = spec.at("sessionAffinityConfig").mapping().at("clientIP").mapping().at("timeoutSeconds")
    seconds = timeout.integer(1, _MAX_AFFINITY_SECONDS, _AFFINITY_SECONDS)
    return seconds if wanted == "ClientIP" else 0


# --- endpoint slices -------------------------------------------------------------------------------


def read_endpoint_slice(root: Reader, ref: ObjectRef) -> tuple[EndpointSlice, ...]:
    owner = root.at("metadata").at("labels").at(SERVICE_NAME_LABEL)
    if owner.require():
        name(owner, label=True)
    family = root.at("addressType")
    family.require()
    family.choice(_FAMILIES, unsupported=("FQDN",))
    endpoint_slice = EndpointSlice(
        ref=ref,
        service=ServiceName(ref.namespace, label_value(owner)),
        ports=tuple(_slice_port(item) for item in root.at("ports").items()),
        endpoints=tuple(_endpoint(item, family.value) for item in root.at("endpoints").items()),
    )
    return (endpoint_slice,)


def _slice_port(item: Reader) -> tuple[str, int, Protocol]:
    item.mapping().at("port").require()
    return name(item.at("name"), label=True), port(item.at("port")), transport(item.at("protocol"))


def _endpoint(item: Reader, family: object) -> SliceEndpoint:
    found = []
    for reader in item.mapping().at("addresses").items():
        own = address(reader)
        if own and _FAMILIES[":" in own] != family:
            reader.refuse(f"{own} is not an address of type {shown(family)}")
        found.append(own)
    # API reference, EndpointConditions.ready: absent means ready.
    ready = item.at("conditions").mapping().at("ready").boolean(default=True)
    target = item.at("targetRef").mapping()
    workload = None
    if target.at("kind").value == "Pod" and target.at("name").require():
        namespace = name(target.at("namespace"), item.ref.namespace, label=True)
        workload = WorkloadName(namespace, name(target.at("name")))
    return SliceEndpoint(_in_order(found), ready, workload, printable(item.at("zone"), 253))
