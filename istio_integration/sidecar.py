"""Sidecar of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, sidecar.proto).

The validation is Istio's own. One that cannot be read has no effect but its REGISTRY_ONLY. This file knows
nothing of who is told of which hosts.
"""

from __future__ import annotations

from ipaddress import ip_address

from istio_integration.endpoint import is_host
from istio_integration.outbound import outbound_mode
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.syntax import created, is_label, labels, port, printable
from mesh.listener import EGRESS_PORT, INGRESS_PORT
from mesh.model import (
    Binding,
    Callers,
    Imports,
    IngressListener,
    ObjectRef,
    OutboundMode,
    OwnEndpoint,
    Sidecar,
)
from mesh.protocols import kind_of

SPEC = Fields(
    ("workloadSelector", "egress", "ingress", "outboundTrafficPolicy"),
    refused=("inboundConnectionPool",),
    why="is not supported yet: limit connections by the connectionPool of a DestinationRule",
)
WORKLOADS = Fields(("labels",))
EGRESS = Fields(("hosts", "port", "bind", "captureMode"))
INGRESS = Fields(
    ("port", "defaultEndpoint", "captureMode"),
    refused=("bind", "connectionPool", "tls"),
    why="is not supported yet: the port is taken at each address of the pod, in the clear or in mutual TLS",
)
PORT = Fields(("number", "name", "protocol"))
#: The annotation of a Sidecar whose workloads' look-ups count as if it named the hosts.
WIDEN = "sluice.io/widen-by-lookup"
#: Istio's capture modes. The kernel steers in each: there is nobody else to say that to. NONE asks for an
#: address to dial besides.
_CAPTURE = ("DEFAULT", "IPTABLES", "NONE")
#: Addresses in `defaultEndpoint`: loopback, and the pod's own.
_OWN = ("127.0.0.1", "[::1]", "0.0.0.0", "[::]")
_UNIX = "unix://"
#: Ports at which Envoys, and the agent beside them, listen already, on whatever address.
_TAKEN = (EGRESS_PORT, INGRESS_PORT, 15020, 15090, 15099)
#: Protocols of a bind.
_SPOKEN = ("http", "http2", "grpc", "tcp", "tls", "https", "mongo", "mysql", "redis")
OUTBOUND = Fields(
    ("mode",), refused=("egressProxy",), why="is not supported yet: route to a gateway by a VirtualService"
)


def read_sidecar(root: Reader, ref: ObjectRef) -> tuple[Sidecar, ...]:
    """Without egress all hosts are meant. What cannot be read leaves hosts out, so that the REGISTRY_ONLY of
    a Sidecar that is no good can stand (rule 18)."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    chosen = spec.at("workloadSelector").fields(WORKLOADS)
    own = labels(chosen.at("labels"))
    outbound = _outbound(spec.at("outboundTrafficPolicy"))
    egress = _egress(spec.at("egress"))
    ingress = _ingress(spec.at("ingress"))
    widens = root.at("metadata").at("annotations").mapping().at(WIDEN).text() == "true"
    if not root.sound and outbound != "REGISTRY_ONLY":
        return ()
    callers = Callers(ref.namespace, own) if own else None
    return (Sidecar(ref, created(root), egress, callers, outbound, ingress, widens),)


def _outbound(group: Reader) -> OutboundMode | None:
    """Without a mode REGISTRY_ONLY is meant: it is the enumeration's zero, which clients leave out."""
    mode = group.fields(OUTBOUND).at("mode")
    return outbound_mode(mode, "REGISTRY_ONLY") if group.present else None


def _egress(group: Reader) -> tuple[Imports, ...]:
    found: list[Imports] = []
    bound: set[tuple[int, str]] = set()
    items = group.items()
    for index, item in enumerate(items):
        item.fields(EGRESS)
        at = item.at("port")
        number, _ = _port(at) if at.present else (0, "")
        binding = _binding(item, f"egress[{index}].bind")
        if binding and (number, binding.address) in bound:
            item.at("port").at("number").refuse(f"{number} at {binding.address} stands in an entry before")
        hosts = item.at("hosts")
        if hosts.require() and hosts.value == []:
            hosts.refuse("is empty: write ~/* for none")
        if not at.present and index < len(items) - 1:
            item.refuse("is for every port, so it must be the last and the only such")
        imports = Imports(tuple(pair for host in hosts.items() if (pair := _host(host))), number, binding)
        if item.sound:
            found.append(imports)
            if binding:
                bound.add((number, binding.address))
    if not items and group.sound:
        found.append(Imports((("*", "*"),)))
    return tuple(found)


def _binding(item: Reader, field: str) -> Binding | None:
    """Where the Envoy is to listen, as in Istio at 127.0.0.1 if nothing is captured and nothing is said."""
    bind, mode, at = item.at("bind"), item.at("captureMode"), item.at("port")
    if mode.choice(_CAPTURE, "DEFAULT") != "NONE" and not bind.present:
        return None
    if not at.present:
        (bind if bind.present else mode).refuse("needs a port: write which, in port.number")
        return None
    text = bind.text("127.0.0.1")
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        bind.refuse(
            f"{shown(text)} is not an address of loopback, such as 127.0.0.1 or ::1; what applications dial "
            "elsewhere is steered as it is"
        )
        return None
    if (number := at.at("number")).value in _TAKEN:
        number.refuse(f"{number.value} is a port of the Envoy's own: write another")
    protocol = at.at("protocol")
    word = printable(protocol, 253).lower()
    if word not in _SPOKEN:
        protocol.refuse(f"is {shown(word.upper())}; of a bind it must be one of {', '.join(_SPOKEN).upper()}")
    return Binding(field, str(address), kind_of(word) == "http", word in ("tls", "https"))


def _ingress(group: Reader) -> tuple[IngressListener, ...]:
    found: dict[int, IngressListener] = {}
    for index, item in enumerate(group.items()):
        item.fields(INGRESS)
        item.at("captureMode").choice(_CAPTURE, "DEFAULT")
        number, protocol = _port(item.at("port"))
        endpoint = _endpoint(item.at("defaultEndpoint"))
        if number in found:
            item.at("port").at("number").refuse(f"{number} stands in an entry before")
        if item.sound:
            found[number] = IngressListener(f"ingress[{index}]", number, endpoint, kind_of(protocol))
    return tuple(found[number] for number in sorted(found))


def _port(reader: Reader) -> tuple[int, str]:
    """Number and protocol."""
    reader.fields(PORT)
    number = port(reader.at("number")) if reader.at("number").require() else 0
    printable(reader.at("name"), 253)
    return number, printable(reader.at("protocol"), 253)


def _endpoint(reader: Reader) -> OwnEndpoint | None:
    text = reader.text()
    if not text:
        return None
    if text.startswith(f"{_UNIX}/"):
        return OwnEndpoint(text.removeprefix(_UNIX))
    address, _, own = text.rpartition(":")
    if address not in _OWN or not (own.isdecimal() and 0 < int(own) < 65536):
        reader.refuse(
            f"{shown(text)} is no endpoint of the pod's own: write 127.0.0.1:PORT or [::1]:PORT (loopback), "
            "0.0.0.0:PORT or [::]:PORT (the pod's address), or unix:///PATH"
        )
        return None
    return OwnEndpoint(address.strip("[]"), int(own))


def _host(reader: Reader) -> tuple[str, str] | None:
    """`namespace/name`, in which both may be patterns."""
    text = reader.text().lower()
    namespace, slash, host = text.partition("/")
    if not reader.sound:
        return None
    if not slash or not (namespace in ("*", ".", "~") or is_label(namespace)):
        reader.refuse(f"{shown(text)} is not a host: write namespace/name, ./name, */name or ~/*")
    elif host != "*" and not is_host(host.removeprefix("*.")):
        reader.refuse(f"{shown(host)} is not a full DNS name, *.example.com or *")
    return namespace, host
