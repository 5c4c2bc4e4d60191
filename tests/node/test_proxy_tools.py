"""The tools that look at one proxy, driven as a user drives them: `proxy-config`, `proxy-status`, `describe`.

What they show is compared with what the product does. The NACK is a real one: a program of the pod holds
the address at which its Envoy must listen.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.node.manifests import CANARY, EGRESS_GET_ONLY, GET_ONLY
from tests.node.mesh import RunningMesh, sluice, until

ROUTE = "web.shop.svc.cluster.local:80"
KERNEL = "kernel path, nothing steers"
#: Holds the address of the listener that routes.
SQUATTER = f"""
apiVersion: v1
kind: Pod
metadata: {{name: squatter, namespace: shop, labels: {{app: squatter}}}}
spec:
  containers:
  - name: main
    command:
    - {sys.executable}
    - -c
    - import socket, time; s = socket.create_server(("127.0.0.1", 15001)); time.sleep(1e6)
"""


@pytest.fixture(scope="module")
def steered(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(CANARY, EGRESS_GET_ONLY)
    # For a moment Envoys keep the old beside the new.
    until(lambda: sluice("ps", "--name", mesh.name, "shop/client").returncode == 0, "Envoy has the new alone")
    yield mesh
    mesh.delete(CANARY, EGRESS_GET_ONLY)


def table(text: str) -> list[list[str]]:
    """The rows below the head, cell by cell: cells are two spaces apart."""
    return [re.split(" {2,}", line) for line in text.splitlines()[1:]]


def shown(mesh: RunningMesh, *args: str) -> Any:
    return json.loads(mesh.run("proxy-config", *args, "-o", "json"))


def test_a_pod_without_an_envoy_is_no_error(mesh: RunningMesh) -> None:
    for section in ("clusters", "listeners", "routes", "endpoints", "secrets", "ecds", "bootstrap", "all"):
        assert mesh.run("proxy-config", section, "shop/client").strip() == f"pod shop/client: {KERNEL}"
        assert shown(mesh, section, "shop/client") == {"reason": KERNEL}
    assert mesh.run("proxy-status", "shop/client").strip() == f"pod shop/client: {KERNEL}"
    assert KERNEL in mesh.run("proxy-status")
    assert f"No Envoy: {KERNEL}" in mesh.run("describe", "pod", "shop/client")


def test_names_that_are_not_there_end_with_1(mesh: RunningMesh) -> None:
    for args in (
        ("proxy-config", "--name", mesh.name, "clusters", "shop/ghost"),
        ("proxy-status", "--name", mesh.name, "shop/ghost"),
        ("describe", "--name", mesh.name, "pod", "shop/ghost"),
        ("describe", "--name", mesh.name, "svc", "shop/ghost"),
    ):
        done = sluice(*args)
        assert (done.returncode, done.stdout) == (1, ""), args
        assert done.stderr.startswith("sluice: ") and "shop/ghost" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_refused_listener_is_nacked_with_the_object_to_blame_and_envoys_words(mesh: RunningMesh) -> None:
    mesh.apply(SQUATTER)
    try:
        until(lambda: mesh.pod("shop/squatter")["ready"], "the squatter runs")
        mesh.apply(CANARY)
        until(lambda: "NACKED" in sluice("ps", "--name", mesh.name).stdout, "Envoy refuses the listener")
        done = sluice("proxy-status", "--name", mesh.name)
        assert done.returncode == 3
        rows = {row[0]: row[1:] for row in table(done.stdout)}
        assert rows["shop/squatter"][1] == "NACKED" and rows["shop/client"][1] == "SYNCED"
        (line,) = (text for text in done.stdout.splitlines() if "refuses" in text)
        assert line.startswith("shop/squatter refuses LDS virtualOutbound (HTTPRoute shop/canary): ")
        assert line.endswith("cannot bind '127.0.0.1:15001': Address already in use")
        compared = sluice("proxy-status", "--name", mesh.name, "shop/squatter")
        assert compared.returncode == 3
        assert "Clusters Match" in compared.stdout and "--- Sluice Listeners" in compared.stdout
        assert "PROBLEM: HTTPRoute shop/canary" in mesh.run("describe", "svc", "shop/web")
    finally:
        mesh.delete(CANARY, SQUATTER)


def test_clusters_and_endpoints_are_those_that_requests_go_to(steered: RunningMesh) -> None:
    rows = table(steered.run("proxy-config", "clusters", "shop/client", "--fqdn", "web-v1"))
    assert [(row[0], row[1], row[3]) for row in rows] == [("web-v1.shop.svc.cluster.local", "80", "outbound")]
    (cluster,) = shown(steered, "c", "shop/client", "--fqdn", "web-v1")
    ip = steered.pod("shop/web-v1")["ip"]
    rows = table(steered.run("pc", "ep", "shop/client", "--cluster", cluster["name"], "--address", ip))
    assert rows == [[f"{ip}:8080", "HEALTHY", "OK", cluster["name"]]]
    assert table(steered.run("pc", "ep", "shop/client", "--status", "UNHEALTHY")) == []


def test_a_cluster_names_the_destination_rule_that_counts(steered: RunningMesh) -> None:
    def rules() -> list[str]:
        rows = table(steered.run("pc", "clusters", "shop/client", "--fqdn", "web-v1"))
        return [row[5] for row in rows if len(row) > 5]

    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: first, namespace: shop}
spec: {host: web-v1, subsets: [{name: v1, labels: {version: v1}}]}
"""
    assert rules() == []
    steered.apply(rule)
    assert rules() == ["first.shop"]
    steered.delete(rule)


def test_listeners_lead_from_the_service_address_to_the_route(steered: RunningMesh) -> None:
    (service,) = (s for s in steered.status()["services"] if s["name"] == "shop/web")
    matches = {row[3]: row[2] for row in table(steered.run("pc", "l", "shop/client", "--port", "15001"))}
    assert service["addresses"][0] in matches[f"Route: {ROUTE}"]
    assert matches[f"Route: {ROUTE}"].endswith(":80")


def test_routes_name_the_object_and_follow_an_edit(steered: RunningMesh) -> None:
    def paths() -> list[str]:
        return [row[3] for row in table(steered.run("pc", "routes", "shop/client", "--name", ROUTE))]

    rows = table(steered.run("pc", "r", "shop/client", "--name", ROUTE))
    assert {row[4] for row in rows} == {"HTTPRoute canary.shop"}
    assert "/old/*" in paths()
    steered.apply(CANARY.replace("value: /old", "value: /older"))
    try:
        assert "/older/*" in paths() and "/old/*" not in paths(), "at once when it is applied"
    finally:
        steered.apply(CANARY)


def test_all_is_envoys_own_dump_in_json_and_in_yaml(steered: RunningMesh) -> None:
    dump = shown(steered, "all", "shop/client")
    kinds = {config["@type"].rpartition(".")[2] for config in dump["configs"]}
    assert {"BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump"} <= kinds
    (route,) = shown(steered, "routes", "shop/client", "--name", ROUTE)
    assert yaml.safe_load(steered.run("pc", "r", "shop/client", "--name", ROUTE, "-o", "yaml")) == [route]
    text = steered.run("pc", "all", "shop/client")
    for head in ("SERVICE FQDN", "ADDRESSES", "VHOST NAME", "OUTLIER CHECK", "ECDS NAME"):
        assert head in text


def test_log_levels_are_changed_in_the_running_envoy(steered: RunningMesh) -> None:
    assert "  rbac: warning" in steered.run("proxy-config", "log", "shop/client").splitlines()
    assert "  rbac: debug" in steered.run("pc", "log", "shop/client", "--level", "rbac:debug").splitlines()
    steered.run("pc", "log", "shop/client", "--level", "warning")
    done = sluice("pc", "--name", steered.name, "log", "shop/client", "--level", "nonsense:debug")
    assert done.returncode == 1 and "unknown logger" in done.stderr


def test_proxies_that_have_what_they_were_sent_are_synced(steered: RunningMesh) -> None:
    rows = {row[0]: row[1:] for row in table(steered.run("proxy-status"))}
    assert rows["shop/client"] == ["SYNCED", "SYNCED", "SYNCED", "SYNCED", "NOT SENT", "NOT SENT"]
    assert steered.run("ps", "shop/client").splitlines() == [
        "Clusters Match",
        "Listeners Match",
        "Routes Match",
    ]


def test_a_description_says_where_each_rule_is_enforced(steered: RunningMesh) -> None:
    steered.apply(GET_ONLY)
    try:
        told = json.loads(steered.run("describe", "pod", "shop/web-v1", "-o", "json"))
        rule = "CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]"
        assert rule in told["steered_by"] and rule in " ".join(steered.pod("shop/web-v1")["proxy"]["reasons"])
        assert {e["enforced_by"] for e in told["rules"] if e["rule"] == "ingress[0].toPorts[0]"} == {
            "destination's Envoy"
        }
        assert {e["enforced_by"] for e in told["routes"]} == {"caller's Envoy"}
        text = steered.run("describe", "svc", "shop/web")
        assert "WARNING: Service shop/web port 9000" in text
        (reached,) = (line for line in text.splitlines() if line.startswith("Reached on TCP 80 "))
        assert "shop/client" in reached and "street/stranger" not in reached
        assert steered.get("shop/client", "http://web/public")[0] == 200, "it says the truth"
        assert steered.get("street/stranger", "http://web.shop/public")[0] == 503, "by its own Envoy"
    finally:
        steered.delete(GET_ONLY)
