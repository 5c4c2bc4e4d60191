"""Gateways in front of the shop: the pod `edge/gate` serves them, and its Envoy is real. Its listeners are
where they were rendered, but for the address."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tests.traffic.shop import Object, Served, object_of, pod
from tests.xds.render.backend import Backend as Server
from tests.xds.render.client import Answer, ask
from tests.xds.render.conftest import Serve

GATE = "edge/gate"


def gate() -> Object:
    """Selected by Istio's Gateways, and the pod of the Gateway `edge/public` of the Gateway API."""
    labels = {"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "public"}
    return pod("gate", "10.64.1.10", labels, "edge")


def istio_gateway(*servers: Object, name: str = "public") -> Object:
    spec = {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}
    return object_of("networking.istio.io/v1", "Gateway", name, "edge", spec)


def gateway(*listeners: Object, name: str = "public", class_name: str = "sluice") -> Object:
    spec = {"gatewayClassName": class_name, "listeners": list(listeners)}
    return object_of("gateway.networking.k8s.io/v1", "Gateway", name, "edge", spec)


def http_route(*rules: Object, name: str = "web", namespace: str = "shop", **spec: Any) -> Object:
    parent = {"name": "public", "namespace": "edge"}
    content = {"parentRefs": [parent], "rules": list(rules), **spec}
    return object_of("gateway.networking.k8s.io/v1", "HTTPRoute", name, namespace, content)


def tokens(*rules: Object) -> Object:
    """A RequestAuthentication for the pod that serves."""
    spec = {"selector": {"matchLabels": {"istio": "ingressgateway"}}, "jwtRules": list(rules)}
    return object_of("security.istio.io/v1", "RequestAuthentication", "tokens", "edge", spec)


class Certificate:
    """Self-signed, for one name."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.file, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.file.write_bytes(made.public_bytes(Encoding.PEM))
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key.write_bytes(plain)

    def revocations(self, *certificates: Certificate) -> str:
        """What it says to have taken back."""
        now = datetime.now(UTC)
        found = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .last_update(now - timedelta(days=1))
            .next_update(now + timedelta(days=1))
        )
        for certificate in certificates:
            serial = x509.load_pem_x509_certificate(certificate.file.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            found = found.add_revoked_certificate(revoked.build())
        key = load_pem_private_key(self.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return found.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def server(self) -> ssl.SSLContext:
        """Of a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.file), str(self.key))
        return context

    def secret(
        self, name: str, namespace: str = "edge", authority: Certificate | None = None, revoked: str = ""
    ) -> Object:
        data = {"tls.crt": self.file.read_text(), "tls.key": self.key.read_text()}
        if authority:
            data |= {"ca.crt": authority.file.read_text(), "ca.crl": revoked}
        found = object_of("v1", "Secret", name, namespace, {})
        del found["spec"]
        return found | {"type": "kubernetes.io/tls", "stringData": data}


class Edge(Served):
    """What the gateway's Envoy serves, port by port."""

    def __init__(self, serve: Serve, servers: Mapping[str, Server], *objects: Object, **more: Any) -> None:
        super().__init__(serve, servers, gate(), *objects, pod=GATE, **more)

    def get(self, path: str, host: str, port: int = 80, *headers: tuple[str, str]) -> Answer:
        return ask(self.proxy.ports[f"0.0.0.0_{port}"], path, "GET", [("host", host), *headers])

    def tls(
        self,
        name: str,
        trust: Certificate,
        port: int = 443,
        client: Certificate | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> str:
        """The name of the backend that answers over TLS. Raises OSError where there is none."""
        head, body = self.over_tls(name, trust, port, client, headers)
        if not head.startswith("HTTP/1.1 200"):
            raise ConnectionError(head)
        backend: str = json.loads(body)["backend"]
        return backend

    def over_tls(
        self,
        name: str,
        trust: Certificate,
        port: int = 443,
        client: Certificate | None = None,
        headers: Iterable[tuple[str, str]] = (),
        host: str = "",
    ) -> tuple[str, str]:
        """Head and body of the answer to a request for `host`, or for the `name` that TLS asks for."""
        context = ssl.create_default_context(cafile=str(trust.file))
        if client:
            context.load_cert_chain(str(client.file), str(client.key))
        raw = socket.create_connection(("127.0.0.1", self.proxy.ports[f"0.0.0.0_{port}"]), timeout=10)
        with context.wrap_socket(raw, server_hostname=name) as connection:
            lines = ["GET / HTTP/1.1", f"host: {host or name}", "connection: close", *map(": ".join, headers)]
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            heard = b""
            while more := connection.recv(65536):
                heard += more
        head, _, body = heard.partition(b"\r\n\r\n")
        return head.decode(), body.decode()
