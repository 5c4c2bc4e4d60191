"""Istio's traffic rules in the product: a canary by VirtualService and subsets, a server that speaks first at
a port that says nothing, and connections that the kernel shares out by weight (rules 1, 20, 21). Traffic,
flow record and `sluice explain` tell the same.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node.manifests import EGRESS_GET_ONLY, L4
from tests.node.mesh import RunningMesh, until

#: Greets, and says back what it is told.
GREETER = f"""
apiVersion: v1
kind: Pod
metadata: {{name: greeter, namespace: shop, labels: {{app: greeter}}}}
spec:
  containers:
  - name: main
    command:
    - {sys.executable}
    - -c
    - |
      import socket, threading
      def talk(client):
          with client:
              client.sendall(b"220 ready")
              while data := client.recv(4096):
                  client.sendall(data)
      server = socket.create_server(("::", 2525), family=socket.AF_INET6, dualstack_ipv6=True)
      while True:
          threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()
    readinessProbe: {{tcpSocket: {{port: 2525}}, periodSeconds: 0.2}}
"""

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: greeter, namespace: shop}
spec: {selector: {app: greeter}, ports: [{name: main, port: 2525}]}
---
apiVersion: v1
kind: Service
metadata: {name: announced, namespace: shop}
spec: {selector: {app: greeter}, ports: [{name: tcp-main, port: 2526, targetPort: 2525}]}
---
apiVersion: v1
kind: Service
metadata: {name: shared, namespace: shop}
spec: {selector: {app: web}, ports: [{name: tcp-any, port: 7000, targetPort: 8080}]}
"""

RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{port: 80, headers: {x-canary: {exact: "yes"}}}]
    route: [{destination: {host: web, subset: v2}}]
  - match: [{port: 80}]
    route:
    - {destination: {host: web, subset: v1}, weight: 70}
    - {destination: {host: web, subset: v2}, weight: 30}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter, namespace: shop}
spec:
  hosts: [greeter]
  http: [{route: [{destination: {host: greeter}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: announced, namespace: shop}
spec: {host: announced, trafficPolicy: {proxyProtocol: {}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shared, namespace: shop}
spec:
  host: shared
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shared, namespace: shop}
spec:
  hosts: [shared]
  tcp:
  - route:
    - {destination: {host: shared, subset: v1}, weight: 75}
    - {destination: {host: shared, subset: v2}, weight: 25}
"""

#: Asks URL so many times, each time on a connection of its own; prints who answered.
ASKING = """
import collections, json, urllib.request
found = collections.Counter()
for _ in range({times}):
    request = urllib.request.Request("{url}", headers={headers!r})
    found[json.load(urllib.request.urlopen(request, timeout=5))["name"]] += 1
print(json.dumps(found))
"""

TALKING = """
import socket, time
began = time.monotonic()
with socket.create_connection(("greeter", 2525), timeout=10) as connection:
    heard = connection.recv(4096)
    connection.sendall(b"HELO")
    heard += connection.recv(4096)
print(heard.decode(), time.monotonic() - began < 3)
"""


#: What the greeter says back, and what it should be.
ANNOUNCED = """
import socket
service = socket.gethostbyname("announced")
with socket.create_connection((service, 2526), timeout=10) as connection:
    own, heard = connection.getsockname(), b""
    while not heard.endswith(b"\\n"):
        heard += connection.recv(4096)
print(heard.decode().strip())
print("220 readyPROXY TCP4", own[0], service, own[1], 2526)
"""


@pytest.fixture(scope="module")
def ruled(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(GREETER, SERVICES)
    until(lambda: mesh.pod("shop/greeter")["ready"], "the greeter is ready")
    mesh.apply(RULES)
    yield mesh
    mesh.delete(RULES)
    mesh.delete(GREETER, SERVICES)


def asked(mesh: RunningMesh, url: str, times: int, **headers: str) -> Counter[str]:
    code = ASKING.format(url=url, times=times, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return Counter(json.loads(mesh.python("shop/client", code)))


def seen(mesh: RunningMesh, service: str, path: str) -> dict[str, Any]:
    """A flow of the client to a service, on that path."""

    def flows() -> list[dict[str, Any]]:
        found = mesh.observe("--from", "shop/client", "--last", "500")
        return [f for f in found if f["destination"].get("service") == service and f["path"] == path]

    return until(flows, f"{service} is seen on the path {path}")[-1]


def test_a_canary_by_header_and_by_weight(ruled: RunningMesh) -> None:
    assert asked(ruled, "http://web/", 10, x_canary="yes") == {"v2": 10}
    found = asked(ruled, "http://web/", 300)
    assert found.keys() == {"v1", "v2"} and 50 < found["v2"] < 130
    assert seen(ruled, "shop/web", "envoy")["verdict"] in ("FORWARDED", "REDIRECTED")
    said = ruled.explain("shop/client", "shop/web:80")
    assert (said["verdict"], said["path"]) == ("allow", "envoy")
    assert "VirtualService shop/web" in json.dumps(said["reasons"])


def test_a_server_that_speaks_first_is_heard_at_a_port_that_says_nothing(ruled: RunningMesh) -> None:
    assert ruled.python("shop/client", TALKING) == "220 readyHELO True"
    assert ruled.explain("shop/client", "shop/greeter:2525")["path"] == "envoy"


def test_a_server_is_told_who_called_and_whom(ruled: RunningMesh) -> None:
    """The client's own address, and that of the service, both of which no Envoy has changed."""
    heard, wanted = ruled.python("shop/client", ANNOUNCED).splitlines()
    assert heard == wanted
    assert ruled.explain("shop/client", "shop/announced:2526")["path"] == "envoy"


def test_connections_by_weight_are_the_kernels(ruled: RunningMesh) -> None:
    found = asked(ruled, "http://shared:7000/", 300)
    assert found.keys() == {"v1", "v2"} and 40 < found["v2"] < 115
    assert seen(ruled, "shop/shared", "kernel")["verdict"] == "FORWARDED"
    said = ruled.explain("shop/client", "shop/shared:7000")
    assert (said["verdict"], said["path"]) == ("allow", "kernel")
    assert {b["pod"]: b["share"] for b in said["backends"]} == {"shop/web-v1": 0.75, "shop/web-v2": 0.25}


def test_whoever_carries_a_connection_both_ends_policies_are_asked(ruled: RunningMesh) -> None:
    """Threat N24, rule 4: by a route's Envoy, by weight in the kernel or directly, on one node."""
    ip = ruled.pod("shop/web-v1")["ip"]
    ways = {"http://web/": 503, "http://shared:7000/": 0, f"http://{ip}:8080/": 0}
    ruled.apply(L4)
    try:
        for url, refused in ways.items():
            assert ruled.get("shop/client", url)[0] == 200, url
            assert ruled.get("shop/other", url)[0] == refused, url
    finally:
        ruled.delete(L4)
    ruled.apply(EGRESS_GET_ONLY)
    try:
        for url in ways:
            assert ruled.get("shop/client", f"{url}public")[0] == 200, url
            assert ruled.get("shop/client", f"{url}secret")[0] == 403, url
            assert ruled.get("shop/other", f"{url}secret")[0] == 200, url
    finally:
        ruled.delete(EGRESS_GET_ONLY)
