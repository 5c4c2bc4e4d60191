"""Gateways in the product: a pod of their own, and a way in from the machine."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.mesh import RunningMesh, sluice, until
from tests.threats.http.tokens import Issuer, bearer, believing
from tests.traffic.edge import Certificate

pytestmark = pytest.mark.root

EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8090, name: http, protocol: HTTP}, hosts: ["*.example"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: [web.example]
  gateways: [edge]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners: [{name: http, port: 8091, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: public, namespace: shop}
spec:
  parentRefs: [{name: public}]
  rules: [{backendRefs: [{name: web-v2, port: 80}]}]
"""

ONLY_READ = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
"""

BY_CLAIM = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: claims, namespace: shop}
spec:
  hosts: [claims.example]
  gateways: [edge]
  http:
    - match: [{headers: {"@request.auth.claims.group": {exact: admin}}}]
      route: [{destination: {host: web-v1, port: {number: 80}}}]
    - route: [{destination: {host: web-v2, port: {number: 80}}}]
"""

#: Three of its ports lead back to it, the fourth by an address that somebody else would have dialled.
RING = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ring, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners:
    - {name: http, port: 8101, protocol: HTTP}
    - {name: tcp, port: 8102, protocol: TCP}
    - {name: udp, port: 8103, protocol: UDP}
    - {name: passed, port: 8104, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ring, namespace: shop}
spec:
  parentRefs: [{name: ring, port: 8101}]
  rules: [{backendRefs: [{name: ring-sluice, port: 8101}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: ring, namespace: shop}
spec:
  parentRefs: [{name: ring, port: 8102}]
  rules: [{backendRefs: [{name: ring-sluice, port: 8102}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: ring, namespace: shop}
spec:
  parentRefs: [{name: ring, port: 8103}]
  rules: [{backendRefs: [{name: ring-sluice, port: 8103}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: passed, namespace: shop}
spec:
  parentRefs: [{name: ring, port: 8104}]
  rules: [{backendRefs: [{name: web, port: 9000}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: passed, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}
"""

BARE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bare, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners:
    - {name: tcp, port: 8105, protocol: TCP}
    - {name: tls, port: 8106, protocol: TLS, tls: {mode: Passthrough}}
"""
LEADING_ON = """
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: bare, namespace: shop}
spec:
  parentRefs: [{name: bare, port: 8105}]
  rules: [{backendRefs: [{name: web, port: 9000}]}]
"""

SECURE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: secure, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 8443, name: https, protocol: HTTPS}
      hosts: [web.example]
      tls: {mode: SIMPLE, credentialName: web}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: secure, namespace: shop}
spec:
  hosts: [web.example]
  gateways: [secure]
  http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: web, port: {number: 80}}}]}]
"""

#: What a user of Istio writes who wants tokens at the edge.
WITH_TOKEN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: with-token, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  rules: [{from: [{source: {requestPrincipals: ["*"]}}], to: [{operation: {methods: [GET], paths: [/]}}]}]
"""

GATE = "istio-system/istio-ingressgateway"


@pytest.fixture(scope="module")
def edge(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(EDGE)
    until(lambda: {8090, 8091} <= ways(mesh).keys(), "no way in")
    mesh.run("status", "--wait")
    yield mesh
    mesh.delete(EDGE)
    until(lambda: all(pod["name"] != GATE for pod in mesh.status()["pods"]), "the gateway's pod stays")


def ways(mesh: RunningMesh) -> dict[int, str]:
    return {way["port"]: way["url"].rpartition("//")[2] for way in mesh.status()["gateways"]}


def ask(
    mesh: RunningMesh,
    port: int,
    host: str,
    method: str = "GET",
    *headers: tuple[str, str],
    trust: Certificate | None = None,
) -> tuple[int, bytes]:
    """From this machine, outside of the mesh; over TLS, if somebody's certificate is to be trusted."""
    connection = http.client.HTTPConnection(ways(mesh)[port], timeout=10)
    if trust:
        connection.connect()
        context = ssl.create_default_context(cafile=str(trust.file))
        connection.sock = context.wrap_socket(connection.sock, server_hostname=trust.name)
    try:
        connection.request(method, "/", headers={"host": host, **dict(headers)})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_machine_reaches_the_mesh_by_gateways_of_both_apis(edge: RunningMesh) -> None:
    status, body = ask(edge, 8090, "web.example")
    assert status == 200 and b'"name"' in body
    assert ask(edge, 8090, "web.org")[0] == 404
    status, body = ask(edge, 8091, "any.example")
    assert status == 200 and b'"v2"' in body


def test_status_says_who_serves_and_why(edge: RunningMesh) -> None:
    proxy = edge.pod(GATE)["proxy"]
    assert proxy["running"] and proxy["reasons"] == ["Gateway.networking.istio.io shop/edge"]
    assert "envoy" in edge.processes(GATE)
    assert f"gateway {GATE} port 8090: http://127.0.0.1:" in edge.run("status")


def test_policy_takes_the_machine_for_the_world(edge: RunningMesh) -> None:
    """Rule 4: a gateway is a pod, and what comes in is judged as at any pod."""
    edge.apply(ONLY_READ)
    try:
        assert ask(edge, 8090, "web.example")[0] == 200
        assert ask(edge, 8090, "web.example", "POST")[0] == 403
    finally:
        edge.delete(ONLY_READ)
    assert ask(edge, 8090, "web.example", "POST")[0] == 200


def test_a_policy_may_name_the_gateway(edge: RunningMesh) -> None:
    named = ONLY_READ.replace("namespace: istio-system", "namespace: shop").replace(
        "selector: {matchLabels: {istio: ingressgateway}}",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: public}]",
    )
    edge.apply(named)
    try:
        assert ask(edge, 8091, "any.example", "POST")[0] == 403
        assert ask(edge, 8091, "any.example")[0] == 200
        assert ask(edge, 8090, "web.example", "POST")[0] == 200, "that is another Gateway"
    finally:
        edge.delete(named)


def test_a_live_connection_meets_a_policy_that_comes_changes_and_goes(edge: RunningMesh) -> None:
    """It ends where another listener must judge it, and goes on where the rules of one are others."""
    denying = ONLY_READ.replace("rules: [{to: [{operation: {methods: [GET]}}]}]", "rules: []")
    kept = http.client.HTTPConnection(ways(edge)[8090], timeout=10)

    def post() -> int:
        try:
            kept.request("POST", "/", headers={"host": "web.example"})
            answer = kept.getresponse()
            answer.read()
            return answer.status
        except (http.client.HTTPException, OSError):
            kept.close()
            return 0

    try:
        assert post() == 200
        edge.apply(ONLY_READ)
        assert post() in (0, 403)
        assert post() == 403
        edge.apply(denying)
        assert post() in (0, 403)
        edge.delete(denying)
        assert until(lambda: post() == 200, "nobody judges any more")
    finally:
        kept.close()


def test_a_port_that_comes_while_requests_are_judged_is_judged(edge: RunningMesh, tmp_path: Path) -> None:
    """With new certificates at once, and what goes leaves the other ports alone."""
    (tmp_path / "new").mkdir()
    first, second = (Certificate("web.example", folder) for folder in (tmp_path, tmp_path / "new"))
    edge.apply(ONLY_READ)
    try:
        kept = http.client.HTTPConnection(ways(edge)[8090], timeout=10)

        def goes_on() -> bool:
            kept.request("GET", "/", headers={"host": "web.example"})
            answer = kept.getresponse()
            return answer.status == 200 and bool(answer.read())

        assert goes_on()
        edge.apply(SECURE, json.dumps(first.secret("web", "istio-system")))
        try:
            until(lambda: 8443 in ways(edge), "no way in")
            edge.run("status", "--wait")
            for shown in (first, second):
                edge.apply(json.dumps(shown.secret("web", "istio-system")))
                assert ask(edge, 8443, "web.example", trust=shown)[0] == 200
                assert ask(edge, 8443, "web.example", "POST", trust=shown)[0] == 403
        finally:
            edge.delete(SECURE, json.dumps(first.secret("web", "istio-system")))
        assert goes_on()
        assert ask(edge, 8090, "web.example", "POST")[0] == 403
    finally:
        edge.delete(ONLY_READ)


def test_claims_of_a_token_choose_the_route(edge: RunningMesh) -> None:
    issuer = Issuer()
    tokens = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "edge", "namespace": "istio-system"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingressgateway"}},
            "jwtRules": [believing(issuer)],
        },
    }
    edge.apply(BY_CLAIM, json.dumps(tokens))
    try:
        for claims, version in (({"group": "admin"}, b"v1"), ({"group": "user"}, b"v2")):
            status, body = ask(edge, 8090, "claims.example", "GET", bearer(issuer.token(**claims)))
            assert (status, version in body) == (200, True), body
        assert b"v2" in ask(edge, 8090, "claims.example")[1]
        assert ask(edge, 8090, "claims.example", "GET", bearer(Issuer().token(group="admin")))[0] == 401
    finally:
        edge.delete(BY_CLAIM, json.dumps(tokens))


def test_requests_are_judged_where_tls_has_ended(edge: RunningMesh, tmp_path: Path) -> None:
    """And whoever judges them, the backend is told whose they are (threat N10)."""
    issuer, certificate = Issuer(), Certificate("web.example", tmp_path)
    tokens = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "istio-system"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingressgateway"}},
            "jwtRules": [believing(issuer)],
        },
    }
    secure = (SECURE, json.dumps(certificate.secret("web", "istio-system")))
    policy = (WITH_TOKEN, json.dumps(tokens))

    def get(method: str = "GET", *headers: tuple[str, str], host: str = "web.example") -> tuple[int, bytes]:
        return ask(edge, 8443, host, method, *headers, trust=certificate)

    def caller(body: bytes) -> str:
        return str(json.loads(body)["headers"]["x-forwarded-for"])

    edge.apply(*secure)
    try:
        until(lambda: 8443 in ways(edge), "no way in")
        edge.run("status", "--wait")
        status, body = get("POST")
        assert status == 200
        own = caller(body)
        assert own == caller(ask(edge, 8090, "web.example")[1]) and not own.startswith("127.")
        edge.apply(*policy)
        try:
            good, forged = bearer(issuer.token()), bearer(Issuer().token())
            status, body = get("GET", good)
            assert (status, caller(body)) == (200, own)
            assert "authorization" not in json.loads(body)["headers"]
            status, body = ask(edge, 8090, "web.example", "GET", good)
            assert (status, caller(body)) == (200, own)
            for port in (8090, 8443):
                trust = certificate if port == 8443 else None
                codes = [
                    ask(edge, port, "web.example", method, *headers, trust=trust)[0]
                    for method, headers in (("GET", ()), ("POST", (good,)), ("GET", (forged,)))
                ]
                assert codes == [403, 403, 401], port
            assert get("GET", good, host="other.example")[0] == 404
            assert get("GET", host="other.example")[0] == 403
            refused = [
                flow
                for flow in edge.observe("--last", "100", "--to", GATE, "--verdict", "DROPPED")
                if flow["destination"]["port"] == 8443 and flow["l7"]["method"] == "POST"
            ]
            assert refused and "AuthorizationPolicy istio-system/with-token" in " ".join(
                refused[-1]["policies"]
            )
        finally:
            edge.delete(*policy)
        assert get("POST")[0] == 200
    finally:
        edge.delete(*secure)


def test_get_shows_objects_with_their_status(edge: RunningMesh) -> None:
    def programmed() -> list[list[str]]:
        rows = [line.split() for line in edge.run("get", "gateways", "-n", "shop").splitlines()]
        return rows if rows[-1][3] == "True" else []

    head, row = until(programmed, "the Gateway is programmed")
    assert head == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]
    assert (row[0], row[1]) == ("public", "sluice")
    (address,) = [a for a in row[2].split(",") if "." in a]
    assert edge.get("shop/client", f"http://{address}:8091/")[0] == 200
    route = json.loads(edge.run("get", "httproute", "public", "-n", "shop", "-o", "json"))
    (parent,) = route["status"]["parents"]
    assert [(c["type"], c["status"]) for c in parent["conditions"]] == [
        ("Accepted", "True"),
        ("ResolvedRefs", "True"),
    ]
    assert "kind: HTTPRoute" in edge.run("get", "httproutes", "-A", "-o", "yaml")
    for wrong, says in (
        (("httproute", "gone", "-n", "shop"), "there is no HTTPRoute gone in namespace shop"),
        (("teapot",), "there is no kind 'teapot'"),
    ):
        done = sluice("get", "--name", edge.name, *wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr


def test_a_gateway_sends_nothing_to_itself(edge: RunningMesh) -> None:
    """It would come again, each time by another socket, and an Envoy that gets no more sockets dies."""
    edge.apply(RING)
    try:
        until(lambda: {8101, 8102, 8103, 8104} <= ways(edge).keys(), "no way in")
        said = until(
            lambda: [p for p in edge.status()["problems"] if "leads back" in p["message"]], "no problem"
        )
        assert sorted((p["object"], p["field"]) for p in said) == [
            (f"{kind} shop/ring", "spec.rules[0]") for kind in ("HTTPRoute", "TCPRoute", "UDPRoute")
        ]
        edge.run("status", "--wait")
        before = edge.pod("shop/ring-sluice")["proxy"]
        assert ask(edge, 8101, "any.example")[0] == 503
        assert talk(edge, 8102) == b""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            host, port = ways(edge)[8103].split(":")
            own.settimeout(1)
            own.sendto(b"again", (host, int(port)))
            with pytest.raises(TimeoutError):
                own.recv(2048)
        assert talk(edge, 8104) == b"again"
        after = edge.pod("shop/ring-sluice")["proxy"]
        assert after["running"] and after["pid"] == before["pid"]
    finally:
        edge.delete(RING)


def test_where_no_route_leads_on_connections_are_closed(edge: RunningMesh) -> None:
    edge.apply(BARE)
    try:
        until(lambda: {8105, 8106} <= ways(edge).keys(), "no way in")
        spoken = {way["port"]: way["url"].partition("://")[0] for way in edge.status()["gateways"]}
        assert (spoken[8090], spoken[8105], spoken[8106]) == ("http", "tcp", "tls")
        edge.run("status", "--wait")
        assert not [p for p in edge.status()["problems"] if "Envoy refuses" in p["message"]]
        assert talk(edge, 8105) == talk(edge, 8106) == b""
        edge.apply(LEADING_ON)
        until(lambda: talk(edge, 8105) == b"again", "the route leads on")
        edge.delete(LEADING_ON)
        assert until(lambda: talk(edge, 8105) == b"", "the route is gone")
    finally:
        edge.delete(BARE)


def talk(mesh: RunningMesh, port: int) -> bytes:
    """What comes back over TCP; nothing if the connection is ended."""
    host, number = ways(mesh)[port].split(":")
    with socket.create_connection((host, int(number)), timeout=5) as own:
        own.settimeout(5)
        own.sendall(b"again")
        try:
            return own.recv(2048)
        except ConnectionError:
            return b""
