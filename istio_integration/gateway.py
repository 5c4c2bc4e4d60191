"""Gateway of networking.istio.io (istio/api, networking/v1alpha3/gateway.proto).

The validation is Istio's own. A Secret is one of the namespace in which the selected pods run, so that no
Gateway reaches another namespace's; which pods those are is not known here.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import cast

from mesh.dialects.gateway_route import hostname
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.selection import in_namespace, pod_key, selector
from mesh.dialects.syntax import created, label_value, name, port, printable
from mesh.model import (
    Gateway,
    Listener,
    ListenerProtocol,
    ObjectRef,
    Requirement,
    Selector,
    ServedHost,
    ServerTls,
    TlsMode,
    TlsVersion,
)

SPEC = Fields(("selector", "servers"))
SERVER = Fields(("port", "bind", "hosts", "tls", "name"), refused=("defaultEndpoint",))
PORT = Fields(("number", "protocol", "name"), refused=("targetPort",))
TLS = Fields(
    (
        "httpsRedirect",
        "mode",
        "credentialName",
        "credentialNames",
        "caCertCredentialName",
        "subjectAltNames",
        "minProtocolVersion",
        "maxProtocolVersion",
        "cipherSuites",
    ),
    refused=(
        "serverCertificate",
        "privateKey",
        "caCertificates",
        "caCrl",
        "tlsCertificates",
        "verifyCertificateSpki",
        "verifyCertificateHash",
        "insecureSkipVerify",
    ),
    why="is not supported yet: certificates are named by credentialName and verified by their authority",
)

PROTOCOLS: dict[str, ListenerProtocol] = {
    "HTTP": "HTTP",
    "HTTP2": "HTTP",
    "GRPC": "HTTP",
    "GRPC-WEB": "HTTP",
    "HTTPS": "HTTPS",
    "TLS": "TLS",
    "TCP": "TCP",
    "MONGO": "TCP",
}
MODES = ("PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL")
VERSIONS: dict[str, TlsVersion] = {
    "TLS_AUTO": "",
    "TLSV1_0": "1.0",
    "TLSV1_1": "1.1",
    "TLSV1_2": "1.2",
    "TLSV1_3": "1.3",
}
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
)


def read_gateway(root: Reader, ref: ObjectRef) -> tuple[Gateway, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    wanted = [
        Requirement(pod_key(value, key), "In", (label_value(value),))
        for key, value in spec.at("selector").entries()
    ]
    if not wanted and spec.at("selector").sound:
        spec.at("selector").refuse("is required: without it every pod of the mesh would be this gateway")
    items = spec.at("servers").items()
    if not items and spec.at("servers").sound:
        spec.at("servers").refuse("is required: give at least one server")
    listeners = tuple(_server(item) for item in items)
    names: set[str] = set()
    for item, listener in zip(items, listeners, strict=True):
        if listener.name in names:
            item.refuse(f"is called {shown(listener.name)}, as another server is")
        names.add(listener.name)
    return (Gateway(ref, created(root), listeners, subject=selector(wanted)),)


def _server(reader: Reader) -> Listener:
    reader.fields(SERVER)
    place = reader.at("port").fields(PORT)
    if place.require():
        for required in ("number", "protocol", "name"):
            place.at(required).require()
    own = printable(reader.at("name"), 253) or printable(place.at("name"), 253)
    protocol = _protocol(place.at("protocol"))
    tls, redirect = _tls(reader.at("tls"), protocol)
    if tls and tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        protocol = "TLS"
    hosts = reader.at("hosts")
    found = tuple(dict.fromkeys(_host(item) for item in hosts.items()))
    if not found and hosts.sound:
        hosts.refuse("is required: write * for every host")
    return Listener(
        own,
        port(place.at("number")),
        protocol,
        found,
        ("VirtualService",),
        tls,
        _bind(reader.at("bind")),
        redirect,
    )


def _protocol(reader: Reader) -> ListenerProtocol:
    text = reader.text().upper()
    if reader.present and reader.sound and text not in PROTOCOLS:
        reader.refuse(f"is {shown(reader.value)}; must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS.get(text, "TCP")


def _host(reader: Reader) -> ServedHost:
    """`namespace/name`; the namespace is `*` (any, which it is by default), `.` (its own) or a name."""
    text = reader.text()
    namespace, slash, host = text.rpartition("/")
    namespace = namespace if slash else "*"
    host = host if host == "*" else hostname(reader.part(host, reader.path))
    if namespace == "*":
        return ServedHost(host, Selector())
    own = reader.ref.namespace if namespace == "." else name(reader.part(namespace, reader.path), label=True)
    if not own and reader.sound:
        reader.refuse(f"{shown(text)} names no namespace before the /: write *, . or a name")
    return ServedHost(host, selector([in_namespace(own)]))


def _bind(reader: Reader) -> str:
    """Also an address that only the gateway itself reaches; "" is each."""
    text = reader.text()
    if not text:
        return ""
    try:
        found = ip_address(text)
    except ValueError:
        reader.refuse(f"{shown(text)} is not an IP address; sockets of other families are not supported")
        return ""
    return "" if found.is_unspecified else found.compressed


# --- TLS ---------------------------------------------------------------------------------------


def _tls(reader: Reader, protocol: ListenerProtocol) -> tuple[ServerTls | None, bool]:
    """And whether HTTP is sent to HTTPS instead."""
    reader.fields(TLS)
    if protocol == "HTTP":
        for key in TLS.read:
            if key != "httpsRedirect" and reader.at(key).present:
                reader.at(key).refuse("does not go with plain HTTP, which knows httpsRedirect only")
        return None, reader.at("httpsRedirect").boolean()
    if protocol == "TCP":
        if reader.present:
            reader.refuse("does not go with plain TCP: use protocol TLS or HTTPS")
        return None, False
    reader.require()
    if reader.at("httpsRedirect").boolean():
        reader.at("httpsRedirect").refuse("goes with plain HTTP only: this is TLS already")
    return _settings(reader), False


def _settings(reader: Reader) -> ServerTls:
    mode = cast(TlsMode, reader.at("mode").choice(MODES, "PASSTHROUGH"))
    mutual, passed_on = mode in ("MUTUAL", "OPTIONAL_MUTUAL"), mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
    own = mode == "ISTIO_MUTUAL"
    lowest, highest = _version(reader.at("minProtocolVersion")), _version(reader.at("maxProtocolVersion"))
    if lowest and highest and lowest > highest:
        reader.at("maxProtocolVersion").refuse("is below minProtocolVersion")
    found = ServerTls(
        mode,
        _certificates(reader),
        tuple(_secret(item) for item in [reader.at("caCertCredentialName")] if item.text()),
        tuple(dict.fromkeys(printable(item, 1024) for item in reader.at("subjectAltNames").items())),
        lowest,
        highest,
        tuple(dict.fromkeys(item.choice(CIPHERS) for item in reader.at("cipherSuites").items())),
    )
    if passed_on and reader.sound and found != ServerTls(mode):
        reader.refuse(f"mode {mode} ends no TLS, so that nothing else can be said of it")
    if own and reader.sound and (found.certificates or found.authorities or found.names):
        reader.refuse("shows certificates of the mesh and believes them: mode ISTIO_MUTUAL names no others")
    if not passed_on and not own and not found.certificates and reader.sound:
        reader.at("credentialName").refuse(f"is required: mode {mode} shows the certificate of a Secret")
    if not (mutual or own or passed_on) and reader.sound and (found.authorities or found.names):
        reader.refuse(
            "asks for no certificates of clients: caCertCredentialName and subjectAltNames need MUTUAL"
        )
    return found


def _certificates(reader: Reader) -> tuple[ObjectRef, ...]:
    one, several = reader.at("credentialName"), reader.at("credentialNames")
    if one.text() and several.items():
        several.refuse("stands alone, without credentialName")
    return tuple(_secret(item) for item in [*([one] if one.text() else []), *several.items(at_most=2)])


def _secret(reader: Reader) -> ObjectRef:
    return ObjectRef("Secret", "", name(reader))


def _version(reader: Reader) -> TlsVersion:
    return VERSIONS.get(reader.choice(tuple(VERSIONS), "TLS_AUTO"), "")
