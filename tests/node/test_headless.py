"""Headless services (rule 24): callers dial pods, and rules for the service bind them at each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from subprocess import PIPE, Popen

import pytest

from tests.node.mesh import RUN, RunningMesh, until
from tests.node.test_mutual_tls import ID, STRICT, ask, echoed

HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: each, namespace: shop}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 8080}, {name: tcp-echo, port: 9000}]
"""
MARKED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: each, namespace: shop}
spec:
  hosts: [each]
  http: [{headers: {request: {set: {x-marked: "yes"}}}, route: [{destination: {host: each}}]}]
"""
ELSEWHERE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: each, namespace: shop}
spec:
  hosts: [each]
  tcp: [{match: [{port: 9000}], route: [{destination: {host: web-v2, port: {number: 80}}}]}]
"""
#: Asks again and again over one connection, and prints what is not an answer of the same pod.
KEPT = """
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5)
for line in sys.stdin:
    connection.request("GET", "/")
    print(json.loads(connection.getresponse().read())["name"], flush=True)
"""


@pytest.fixture
def each(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(HEADLESS)
    yield mesh
    mesh.delete(HEADLESS)


@pytest.fixture
def marked(each: RunningMesh) -> Iterator[RunningMesh]:
    each.apply(MARKED)
    yield each
    each.delete(MARKED)


def addresses(mesh: RunningMesh) -> dict[str, str]:
    return {name: mesh.pod(f"shop/web-{name}")["ip"] for name in ("v1", "v2")}


def asked(mesh: RunningMesh, host: str, pod: str = "shop/client") -> tuple[str, bool]:
    """Who answers, and was the request marked on the way?"""
    status, body = mesh.get(pod, f"http://{host}:8080/")
    assert status == 200 and isinstance(body, dict)
    return body["name"], body["headers"].get("x-marked") == "yes"


def is_marked(mesh: RunningMesh, address: str) -> bool:
    return asked(mesh, address)[1]


def test_without_a_rule_pods_are_dialled_as_ever(each: RunningMesh) -> None:
    for name, address in addresses(each).items():
        assert asked(each, address) == (name, False)
        assert each.explain("shop/client", f"{address}:8080")["path"] == "kernel"


def test_a_route_for_the_service_binds_at_each_pod_and_leads_to_it(marked: RunningMesh) -> None:
    for name, address in addresses(marked).items():
        assert until(partial(is_marked, marked, address), "marked")
        assert [asked(marked, address) for _ in range(4)] == [(name, True)] * 4
        answer = marked.explain("shop/client", f"{address}:8080")
        assert (answer["path"], answer["reasons"][0]["object"]) == ("envoy", "VirtualService shop/each")
        # Its other port is no business of the route's.
        assert echoed(marked, "shop/client", address) == "in the clear"
        assert marked.explain("shop/client", f"{address}:9000")["path"] == "kernel"
    assert asked(marked, "each")[1]
    # To itself a pod goes straight (rule 10).
    assert asked(marked, addresses(marked)["v1"], "shop/web-v1") == ("v1", False)
    # Another Service of the same pods is another thing.
    assert marked.explain("shop/client", "shop/web:80")["path"] == "kernel"


def test_connections_to_a_pod_do_not_mind_what_becomes_of_others(marked: RunningMesh) -> None:
    address = addresses(marked)["v1"]
    until(lambda: asked(marked, address)[1], "marked")
    command = [*RUN, "exec", "--name", marked.name, "shop/client", "--", sys.executable, "-uc", KEPT, address]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as kept:
        assert kept.stdin and kept.stdout

        def again() -> str:
            assert kept.stdin and kept.stdout
            kept.stdin.write("\n")
            kept.stdin.flush()
            return kept.stdout.readline().strip()

        assert again() == "v1"
        narrower = HEADLESS.replace("{app: web}", "{app: web, version: v1}")
        marked.apply(narrower)
        until(lambda: not asked(marked, addresses(marked)["v2"])[1], "only one is left")
        assert again() == "v1" and asked(marked, address)[1]
        marked.apply(HEADLESS)
        until(lambda: asked(marked, addresses(marked)["v2"])[1], "both are there")
        assert again() == "v1"


def test_whole_connections_may_lead_elsewhere(each: RunningMesh) -> None:
    each.apply(ELSEWHERE)
    url = f"http://{addresses(each)['v1']}:9000/"
    status, body = until(lambda: (found := each.get("shop/client", url))[0] == 200 and found, "an answer")
    assert status == 200 and isinstance(body, dict) and body["name"] == "v2"
    each.delete(ELSEWHERE)
    assert until(lambda: echoed(each, "shop/client", addresses(each)["v1"]), "an echo") == "in the clear"


def test_mutual_tls_is_begun_with_pods_that_are_dialled(each: RunningMesh) -> None:
    each.apply(STRICT)
    try:
        for address in addresses(each).values():
            url = f"http://{address}:8080/"
            assert f"URI={ID}" in until(partial(ask, each, "shop/client", url), "an answer")
            assert echoed(each, "shop/client", address) == "in the clear"
    finally:
        each.delete(STRICT)
