"""Gateway and GatewayClass of gateway.networking.k8s.io: what listens, and who may attach.

Which class is ours, whether a Secret exists and whether a reference to another namespace is granted is
not known here.
"""

from __future__ import annotations

from typing import cast

from mesh.dialects.gateway_route import GROUP, hostname, read_spec
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.selection import in_namespace, namespace_key, requirements, selector
from mesh.dialects.syntax import address, created, is_label_key, labels, name, port, printable
from mesh.model import (
    GATEWAY_CONTROLLER,
    Gateway,
    GatewayClass,
    Listener,
    ListenerProtocol,
    ObjectRef,
    Selector,
    ServedHost,
    ServerTls,
)

#: Of our own classes; what others say to their controllers is not ours to judge.
CLASS_SPEC = Fields(("controllerName", "description"), refused=("parametersRef",))
SPEC = Fields(
    ("gatewayClassName", "listeners", "addresses", "infrastructure", "tls"),
    refused=("allowedListeners", "defaultScope"),
)
#: For whoever makes the pod that serves it (`sluice.gateway_pods`).
INFRASTRUCTURE = Fields(("labels", "annotations"), refused=("parametersRef",))
LISTENER = Fields(("name", "hostname", "port", "protocol", "tls", "allowedRoutes"))
TLS = Fields(("mode", "certificateRefs"), refused=("options",))
REFERENCE = Fields(("group", "kind", "namespace", "name"))
ADDRESS = Fields(("type", "value"))
ALLOWED = Fields(("namespaces", "kinds"))
NAMESPACES = Fields(("from", "selector"))
KIND = Fields(("group", "kind"))
GATEWAY_TLS = Fields(("frontend",), refused=("backend",))
FRONTEND = Fields(("default", "perPort"))
PER_PORT = Fields(("port", "tls"))
CLIENTS = Fields(("validation",))
VALIDATION = Fields(("caCertificateRefs", "mode"))

#: The kinds of routes that may attach, by protocol; the last where TLS is passed on.
ROUTE_KINDS = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute", "TCPRoute"),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
    "PASSTHROUGH": ("TLSRoute",),
}


def read_gateway_class(root: Reader, ref: ObjectRef) -> tuple[GatewayClass, ...]:
    spec = root.fields(OBJECT).at("spec").mapping()
    controller = spec.at("controllerName")
    text = printable(controller, 253)
    if spec.require() and controller.require() and "/" not in text and controller.sound:
        controller.refuse(f"{shown(text)} is not a controller: write a path such as {GATEWAY_CONTROLLER}")
    if text == GATEWAY_CONTROLLER:
        spec.fields(CLASS_SPEC)
    return (GatewayClass(ref.name, text),)


def read_gateway(root: Reader, ref: ObjectRef) -> tuple[Gateway, ...]:
    spec = read_spec(root, SPEC)
    class_name = spec.at("gatewayClassName")
    class_name.require()
    _infrastructure(spec.at("infrastructure"))
    clients = _clients(spec.at("tls"))
    items = spec.at("listeners").items(at_most=64)
    if not items and spec.at("listeners").sound:
        spec.at("listeners").refuse("is required: give at least one listener")
    listeners = tuple(_listener(item, clients) for item in items)
    _distinct(items, listeners)
    addresses = [found for item in spec.at("addresses").items(at_most=16) if (found := _address(item))]
    return (Gateway(ref, created(root), listeners, name(class_name), tuple(dict.fromkeys(addresses))),)


def _infrastructure(group: Reader) -> None:
    group.fields(INFRASTRUCTURE)
    for found in (group.at("labels"), group.at("annotations")):
        if len(found.entries()) > 8:
            found.refuse("has more than 8 entries")
    labels(group.at("labels"))
    for key, value in group.at("annotations").entries():
        value.text()
        if not is_label_key(key.lower()):
            value.refuse(f"{shown(key)} is not the key of an annotation")


def _distinct(items: list[Reader], listeners: tuple[Listener, ...]) -> None:
    """A name stands once, and so does a port, protocol and hostname together (GatewaySpec)."""
    names: set[str] = set()
    places: set[object] = set()
    for item, listener in zip(items, listeners, strict=True):
        if listener.name in names:
            item.at("name").refuse(f"{shown(listener.name)} stands here twice")
        place = (listener.port, listener.protocol, listener.hosts[0].host)
        if place in places:
            item.refuse("has the port, protocol and hostname of another listener")
        names.add(listener.name)
        places.add(place)


def _address(reader: Reader) -> str | None:
    """None is an address of our choice."""
    reader.fields(ADDRESS)
    reader.at("type").choice(("IPAddress",), "IPAddress", unsupported=("Hostname", "NamedAddress"))
    value = reader.at("value")
    return address(value) if reader.sound and value.text() else None


# --- listeners ---------------------------------------------------------------------------------


def _listener(reader: Reader, clients: dict[int, tuple[ObjectRef, ...]]) -> Listener:
    reader.fields(LISTENER)
    for required in ("name", "port", "protocol"):
        reader.at(required).require()
    protocol = cast(ListenerProtocol, reader.at("protocol").choice(("HTTP", "HTTPS", "TLS", "TCP", "UDP")))
    number = port(reader.at("port"))
    authorities = clients.get(number, clients[0]) if protocol == "HTTPS" else ()
    tls = _tls(reader.at("tls"), protocol, authorities)
    host = hostname(reader.at("hostname"))
    if host and protocol in ("TCP", "UDP"):
        reader.at("hostname").refuse(f"means nothing to protocol {protocol}: leave it out")
    allowed = reader.at("allowedRoutes").fields(ALLOWED)
    attachable = ROUTE_KINDS.get("PASSTHROUGH" if tls and tls.mode == "PASSTHROUGH" else protocol, ())
    return Listener(
        name(reader.at("name")),
        number,
        protocol,
        (ServedHost(host or "*", _namespaces(allowed.at("namespaces"))),),
        _kinds(allowed.at("kinds"), attachable),
        tls,
    )


def _namespaces(reader: Reader) -> Selector:
    reader.fields(NAMESPACES)
    chosen = reader.at("from").choice(("Same", "All", "Selector"), "Same")
    wanted = reader.at("selector")
    if chosen == "Selector":
        wanted.require()
        return selector(requirements(wanted, namespace_key))
    if wanted.present:
        wanted.note(f"has no effect: from is {chosen}")
    return Selector() if chosen == "All" else selector([in_namespace(reader.ref.namespace)])


def _kinds(reader: Reader, attachable: tuple[str, ...]) -> tuple[str, ...]:
    """A kind that cannot attach is left out (AllowedRoutes, InvalidRouteKinds); no list is all that can."""
    items = reader.items(at_most=8)
    found = []
    for item in items:
        item.fields(KIND)
        item.at("kind").require()
        kind = item.at("kind").text()
        if item.at("group").text(GROUP) == GROUP and kind in attachable:
            found.append(kind)
        elif item.sound:
            item.note(f"no {shown(kind)} attaches here; what does is {' or '.join(attachable)}")
    return tuple(dict.fromkeys(found)) if items else attachable


# --- TLS ---------------------------------------------------------------------------------------


def _tls(reader: Reader, protocol: str, authorities: tuple[ObjectRef, ...]) -> ServerTls | None:
    if protocol not in ("HTTPS", "TLS"):
        if reader.present:
            reader.refuse(f"does not go with protocol {shown(protocol)}: use HTTPS or TLS")
        return None
    reader.fields(TLS).require()
    mode = reader.at("mode")
    if protocol == "TLS":
        mode.require()
    passed_on = mode.choice(("Terminate", "Passthrough"), "Terminate") == "Passthrough"
    refs = reader.at("certificateRefs")
    if passed_on:
        if protocol == "HTTPS":
            mode.refuse("of HTTPS is Terminate: what is passed on is of protocol TLS")
        # ListenerTLSConfig: certificateRefs is ignored in this mode.
        if refs.present:
            refs.note("has no effect: mode is Passthrough")
        return ServerTls("PASSTHROUGH")
    found = tuple(_reference(item, ("Secret",)) for item in refs.items(at_most=64))
    if not found and refs.sound:
        refs.refuse("is required: name the Secret of the certificate")
    return ServerTls("MUTUAL" if authorities else "SIMPLE", found, authorities)


def _clients(reader: Reader) -> dict[int, tuple[ObjectRef, ...]]:
    """By port whose certificates clients must show; 0 is every other port."""
    frontend = reader.fields(GATEWAY_TLS).at("frontend").fields(FRONTEND)
    if frontend.present:
        frontend.at("default").require()
    found = {0: _authorities(frontend.at("default"))}
    for item in frontend.at("perPort").items(at_most=64):
        item.fields(PER_PORT)
        item.at("port").require()
        item.at("tls").require()
        number = port(item.at("port"))
        if number in found and number:
            item.at("port").refuse(f"{number} stands here twice")
        authorities = _authorities(item.at("tls"))
        if number:
            found[number] = authorities
    return found


def _authorities(reader: Reader) -> tuple[ObjectRef, ...]:
    validation = reader.fields(CLIENTS).at("validation")
    if not validation.fields(VALIDATION).present:
        return ()
    validation.at("mode").choice(("AllowValidOnly",), unsupported=("AllowInsecureFallback",))
    refs = validation.at("caCertificateRefs")
    found = tuple(_reference(item, ("ConfigMap", "Secret")) for item in refs.items(at_most=16))
    if not found and refs.sound:
        refs.refuse("is required: name the ConfigMap of the authority")
    return found


def _reference(reader: Reader, kinds: tuple[str, ...]) -> ObjectRef:
    """A Secret is the kind that a certificate has by default; of authorities it is written."""
    reader.fields(REFERENCE)
    kind = reader.at("kind")
    if "ConfigMap" in kinds:
        kind.require()
    chosen = kind.choice(kinds, kinds[-1])
    if reader.at("group").text():
        reader.at("group").refuse(f'of a {chosen} is ""')
    reader.at("name").require()
    namespace = name(reader.at("namespace"), reader.ref.namespace, label=True)
    return ObjectRef(chosen, namespace, name(reader.at("name")))
