"""ServiceEntry of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, service_entry.proto).

Each host becomes a service like any other: with an address, ports and what stands behind them; of a pattern
that is resolved dynamically each name that somebody asks for. One that cannot be read has no effect. This
file knows nothing of who asks for a host, nor of DNS.
"""

from __future__ import annotations

from ipaddress import ip_network

from istio_integration.endpoint import endpoint, in_cluster, is_host
from istio_integration.hosts import exported, is_address, refuse_doubles
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import address, created, is_label, labels, port, printable
from mesh.model import Endpoint, HostPattern, ObjectRef, Service, ServiceName, ServicePort

SPEC = Fields(
    (
        "hosts",
        "addresses",
        "ports",
        "location",
        "resolution",
        "endpoints",
        "workloadSelector",
        "exportTo",
        "subjectAltNames",
    )
)
PORT = Fields(("number", "name", "protocol", "targetPort"))
WORKLOADS = Fields(("labels",))

PROTOCOLS = ("HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL", "REDIS", "UDP")
RESOLUTIONS = ("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS")


def read_service_entry(root: Reader, ref: ObjectRef) -> tuple[Service | HostPattern, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    hosts = _hosts(spec.at("hosts"))
    resolution = spec.at("resolution").choice(RESOLUTIONS, "NONE") or "NONE"
    spec.at("location").choice(("MESH_EXTERNAL", "MESH_INTERNAL"))
    vips = tuple(own for item in spec.at("addresses").items() if (own := _address(item)))
    selector = _selector(spec.at("workloadSelector"))
    ports = _ports(spec.at("ports"))
    endpoints = tuple(endpoint(item, names=resolution != "STATIC") for item in spec.at("endpoints").items())
    to = exported(spec.at("exportTo"), nobody=True)
    if selector and endpoints:
        spec.at("workloadSelector").refuse("stands alone: write endpoints or a workloadSelector")
    if vips and len(hosts) > 1:
        spec.at("addresses").refuse("are one host's: write a ServiceEntry for each host")
    if vips and to != ("*",):
        spec.at("addresses").refuse("are the same for every caller: leave out addresses, or exportTo")
    if not spec.at("resolution").sound:
        return ()
    if resolution == "NONE":
        _unresolved(spec, hosts, vips)
        endpoints = tuple(Endpoint(own) for own in vips)
    elif resolution == "STATIC":
        _static(spec, hosts, vips, given=bool(endpoints or selector))
    elif resolution == "DYNAMIC_DNS":
        _by_asking(spec, hosts, vips)
    else:
        _by_dns(spec, hosts, resolution, endpoints)
    _own_ports(spec.at("endpoints"), ports)
    services = (
        Service(
            ServiceName(ref.namespace, host),
            ports,
            selector,
            vips,
            endpoints=endpoints or _itself(host, resolution, selector),
            subject_names=tuple(printable(item, 253) for item in spec.at("subjectAltNames").items()),
            exported=to,
            created=created(root),
        )
        for host in hosts
    )
    return tuple(HostPattern(own) if resolution == "DYNAMIC_DNS" else own for own in services)


def _itself(host: str, resolution: str, selector: object) -> tuple[Endpoint, ...]:
    """What is resolved by DNS and says nothing else stands at its own name."""
    return (Endpoint(name=host),) if resolution.startswith("DNS") and not selector else ()


# --- resolution ----------------------------------------------------------------------------------


def _unresolved(spec: Reader, hosts: tuple[str, ...], vips: tuple[str, ...]) -> None:
    """Where it is dialled is where it stands, so somebody must say where that is (rule 24)."""
    if spec.at("endpoints").items() or spec.at("workloadSelector").present:
        spec.at("resolution").refuse("NONE keeps the address that is dialled: with endpoints write STATIC")
    elif not vips:
        spec.at("resolution").refuse(
            f"NONE has no effect without addresses, for connections are judged by address: "
            f"write addresses, or resolution: DNS for {', '.join(map(shown, hosts)) or 'the host'}"
        )
    elif len(vips) > len({":" in vip for vip in vips}):
        spec.at("addresses").refuse(
            "of NONE are one for IPv4 and one for IPv6, for the address that is dialled is kept: write a "
            "ServiceEntry for each"
        )


def _static(spec: Reader, hosts: tuple[str, ...], vips: tuple[str, ...], *, given: bool) -> None:
    if not given and spec.at("endpoints").sound:
        spec.at("resolution").refuse("STATIC needs endpoints or a workloadSelector")
    _patterns(spec, hosts if not vips else (), "addresses")


def _by_dns(spec: Reader, hosts: tuple[str, ...], resolution: str, endpoints: tuple[Endpoint, ...]) -> None:
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        spec.at("endpoints").refuse("of DNS_ROUND_ROBIN are one at most: write resolution: DNS")
    _patterns(spec, hosts, "the hosts that are meant")


def _by_asking(spec: Reader, hosts: tuple[str, ...], vips: tuple[str, ...]) -> None:
    """Each name that is asked for has an address of its own and stands at itself."""
    for field in ("endpoints", "workloadSelector"):
        if spec.at(field).present:
            spec.at(field).refuse(
                "DYNAMIC_DNS stands at the names that are asked for: leave it out, or write STATIC"
            )
    if vips:
        spec.at("addresses").refuse("each name that is asked for gets an address of its own: leave them out")
    if spec.at("location").value == "MESH_INTERNAL":
        spec.at("location").refuse("DYNAMIC_DNS is for MESH_EXTERNAL hosts")
    if names := [host for host in hosts if not host.startswith("*")]:
        spec.at("hosts").refuse(
            f"{shown(names[0])} is no pattern, and DYNAMIC_DNS is for those: write resolution: DNS"
        )


def _patterns(spec: Reader, hosts: tuple[str, ...], instead: str) -> None:
    if patterns := [host for host in hosts if host.startswith("*")]:
        spec.at("hosts").refuse(f"{shown(patterns[0])} has no known address: write {instead} (rule 24)")


# --- fields --------------------------------------------------------------------------------------


def _hosts(reader: Reader) -> tuple[str, ...]:
    """Full names, or patterns."""
    if reader.require() and reader.value == []:
        reader.refuse("is empty: name a host")
    found = []
    for item in reader.items():
        text = item.text().lower()
        if not item.sound:
            continue
        if in_cluster(text):
            item.refuse(
                f"{shown(text)} is in the domain of the cluster, where Services have names: write a Service"
            )
        elif is_address(text) or not is_host(text.removeprefix("*.")):
            item.refuse(f"{shown(text)} is not a full DNS name such as api.example.com, or *.example.com")
        else:
            found.append(text)
    refuse_doubles(reader.items())
    return tuple(dict.fromkeys(found))


def _address(reader: Reader) -> str | None:
    text = reader.text()
    try:
        block = ip_network(text) if "/" in text else None
    except ValueError:
        block = None
    if block is None:
        return address(reader)
    reader.refuse(f"{text} is a block, of which only single addresses can be a service's: write those")
    return None


def _ports(group: Reader) -> tuple[ServicePort, ...]:
    found: list[ServicePort] = []
    if group.require() and group.value == []:
        group.refuse("is empty: name a port")
    for item in group.items():
        item.fields(PORT)
        number, own = item.at("number"), item.at("name")
        number.require()
        if own.require() and own.sound and not is_label(own.text().lower()):
            own.refuse(f"{shown(own.text())} is not a name of at most 63 letters, digits and -")
        protocol = _protocol(item.at("protocol"))
        at = ServicePort(
            own.text(),
            port(number),
            "UDP" if protocol == "udp" else "TCP",
            port(item.at("targetPort")) or port(number),
            "" if protocol == "udp" else protocol,
        )
        if any(known.name == at.name for known in found):
            own.refuse(f"{shown(at.name)} is the name of another port")
        if any(known.port == at.port for known in found):
            number.refuse(f"{at.port} stands here twice")
        found.append(at)
    return tuple(found)


def _protocol(reader: Reader) -> str:
    """In lower case; without one the bytes decide."""
    text = reader.text()
    if text and reader.sound and text.upper() not in PROTOCOLS:
        reader.refuse(f"is {shown(text)}; must be one of {', '.join(PROTOCOLS)}")
    return text.lower()


def _own_ports(group: Reader, ports: tuple[ServicePort, ...]) -> None:
    names = {own.name for own in ports}
    for item in group.items():
        for key, value in item.at("ports").entries():
            if key not in names:
                value.refuse(
                    f"{shown(key)} is no port of this ServiceEntry; its ports are {', '.join(sorted(names))}"
                )


def _selector(reader: Reader) -> tuple[tuple[str, str], ...] | None:
    reader.fields(WORKLOADS)
    if not reader.present:
        return None
    found = labels(reader.at("labels"))
    if not found and reader.sound:
        reader.refuse("selects nothing: write labels")
    return found or None
