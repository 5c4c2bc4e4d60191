"""Names: of the mesh from its own resolver, of the world as far as a rule allows, and an address is open
exactly when a name led to it, whoever is down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.manifests import CANARY, pod
from tests.node.mesh import RUN, RunningMesh, until
from tests.node.outside import mesh_processes, outside

NAMED, OTHER, NEW = "192.0.2.1", "192.0.2.2", "192.0.2.3"
RECORDS = (
    f"www.example.com A {NAMED}",
    "alias.example.com CNAME new.cdn.net.",
    f"new.cdn.net A {NEW}",
    f"other.org A {OTHER}",
)

STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: pg, port: 5432}]}
---
""" + pod("db-0", "shop", "{app: db}").replace("spec:", "spec:\n  hostname: db-0\n  subdomain: db", 1)

ALIASES = """
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: out, namespace: shop}
spec: {type: ExternalName, externalName: alias.example.com}
"""

BY_ALIAS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-alias, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchPattern: "*.shop.svc.cluster.local"}]}
  - toFQDNs: [{matchName: out.shop.svc.cluster.local}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""

TEAPOT_FOR_WEB = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: front}}]
"""

BY_NAME = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-name, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules: {dns: [{matchPattern: "*.example.com"}]}
  - toFQDNs: [{matchPattern: "*.example.com"}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""

DOMAINS = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: domains}
spec:
  tier: Admin
  priority: 10
  subject:
    pods:
      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
      podSelector: {matchLabels: {app: client}}
  egress:
  - {action: Accept, to: [{domainNames: ["*.example.com"]}]}
  - {action: Deny, to: [{networks: [192.0.2.0/24]}]}
"""

ENTRIES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: shop}
spec:
  hosts: [static.example.net]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own, namespace: shop}
spec:
  hosts: [www.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  exportTo: ["."]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: itself, namespace: shop}
spec:
  hosts: [itself.example.net]
  addresses: [192.0.2.3]
  ports: [{number: 80, name: http, protocol: HTTP}]
"""

ANY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: any, namespace: shop}
spec:
  hosts: ["*.example.com"]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: DYNAMIC_DNS
  exportTo: ["."]
"""

TEAPOT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: teapot, namespace: shop}
spec:
  hosts: ["*.example.com"]
  http:
  - fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: www.example.com}}]
"""

TO_ONE = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: to-one, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 192.0.2.1/32}}]
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
"""

REGISTRY_ONLY = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: only, namespace: shop}
spec:
  workloadSelector: {labels: {app: client}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress:
  - hosts: [./web.shop.svc.cluster.local, ./static.example.net, ./www.example.com]
"""

EVERY_GET = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: every-get, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEntities: [all]
  - toEntities: [world]
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]
"""

LOOK_UP = """
import socket, sys
try: print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)}))
except OSError: print("nothing")
"""

HOLD = """
import socket, sys
held = socket.create_connection((sys.argv[1], 80), 3)
print("open", flush=True)
held.settimeout(30)
try: print("closed" if not held.recv(1) else "data")
except ConnectionError: print("closed")
"""

CONNECT = """
import socket, sys
try: socket.create_connection((sys.argv[1], 80), 3); print("open")
except OSError: print("closed")
"""


@pytest.fixture(scope="module")
def world(mesh: RunningMesh) -> Iterator[None]:
    with outside(mesh, (NAMED, OTHER, NEW), RECORDS):
        yield


@pytest.fixture
def by_name(mesh: RunningMesh, world: None) -> Iterator[None]:
    mesh.apply(BY_NAME)
    yield
    mesh.delete(BY_NAME)


@contextlib.contextmanager
def stopped(mesh: RunningMesh) -> Iterator[None]:
    """Agent and control plane neither run nor are they restarted."""
    pids = [pid for module in ("agent", "xds") for pid in mesh_processes(mesh, module)]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def look_up(mesh: RunningMesh, name: str, source: str = "shop/client") -> str:
    return mesh.exec(source, sys.executable, "-c", LOOK_UP, name).stdout.strip()


def connect(mesh: RunningMesh, address: str, source: str = "shop/client") -> str:
    return mesh.exec(source, sys.executable, "-c", CONNECT, address).stdout.strip()


def test_services_headless_ones_and_the_pods_behind_them_have_names(mesh: RunningMesh) -> None:
    mesh.apply(STATEFUL)
    try:
        mesh.run("status", "--wait")
        address = mesh.pod("shop/db-0")["ip"]
        for name in ("db", "db.shop", "db-0.db", "db-0.db.shop.svc.cluster.local"):
            assert until(lambda name=name: look_up(mesh, name) == address, name)  # type: ignore[misc]
        assert look_up(mesh, "db.shop", "street/stranger") == address
        assert look_up(mesh, "db", "street/stranger") == "nothing"
    finally:
        mesh.delete(STATEFUL)
    assert until(lambda: look_up(mesh, "db-0.db.shop.svc.cluster.local") == "nothing", "its name is gone")


def test_an_external_name_is_a_name_of_what_it_leads_to(mesh: RunningMesh, world: None) -> None:
    """Of a Service of the mesh, whose routes count by whichever name it was found, and of the world, which
    policies may mean by the alias: it opens that address, and no pod."""
    mesh.apply(ALIASES)
    try:
        web = until(lambda: look_up(mesh, "web"), "the Service has an address")
        assert until(lambda: look_up(mesh, "front") == web, "its alias has the same")
        assert look_up(mesh, "front.shop", "street/stranger") == web
        assert look_up(mesh, "front.shop.svc.cluster.local") == web
        assert look_up(mesh, "out") == NEW
        assert mesh.get("shop/client", "http://front/")[0] == 200
        assert mesh.processes("shop/client").count("envoy") == 0
        mesh.apply(TEAPOT_FOR_WEB)
        try:
            assert until(lambda: mesh.get("shop/client", "http://front/")[0] == 418, "it is routed")
        finally:
            mesh.delete(TEAPOT_FOR_WEB)
        mesh.apply(BY_ALIAS)
        try:
            assert connect(mesh, NEW) == "closed", "nobody has asked for its name"
            assert look_up(mesh, "out") == NEW
            assert connect(mesh, NEW) == "open", "before the answer left"
            assert look_up(mesh, "alias.example.com") == "nothing", "that is another question"
            assert look_up(mesh, "front") == web
            assert connect(mesh, "front") == "closed", "a name opens no Service"
        finally:
            mesh.delete(BY_ALIAS)
    finally:
        mesh.delete(ALIASES)
    assert until(lambda: look_up(mesh, "front.shop.svc.cluster.local") == "nothing", "its name is gone")


def test_an_address_is_open_once_a_name_led_to_it_and_no_other(mesh: RunningMesh, by_name: None) -> None:
    assert connect(mesh, NAMED) == "closed", "nobody has asked for its name"
    assert look_up(mesh, "www.example.com") == NAMED
    assert connect(mesh, NAMED) == "open"
    assert look_up(mesh, "alias.example.com") == NEW
    assert connect(mesh, NEW) == "open"
    assert connect(mesh, OTHER) == "closed"


def test_a_name_that_no_rule_fits_is_refused_and_told(mesh: RunningMesh, by_name: None) -> None:
    assert look_up(mesh, "other.org") == "nothing"
    assert look_up(mesh, "other.org", "shop/other") == OTHER, "nobody restricts this one"
    flows = [flow for flow in mesh.observe("--last", "60", "--from", "shop/client") if "dns" in flow]
    refused = [flow for flow in flows if flow["dns"]["query"] == "other.org"]
    assert refused and refused[-1]["verdict"] == "DROPPED" and refused[-1]["dns"]["rcode"] == "REFUSED"
    assert refused[-1]["policies"] == ["CiliumNetworkPolicy shop/by-name egress[0].toPorts[0]"]
    assert (refused[-1]["source"]["pod"], refused[-1]["destination"]["pod"]) == ("client", "sluice-dns")


def test_rules_on_names_in_audit_mode_refuse_nothing_and_say_what_they_would(
    mesh: RunningMesh, world: None
) -> None:
    tried = BY_NAME.replace("namespace: shop}", 'namespace: shop, annotations: {sluice.io/audit: "true"}}', 1)
    mesh.apply(tried)
    try:
        assert look_up(mesh, "other.org") == OTHER
        assert connect(mesh, OTHER) == "open"
        flows = mesh.observe("--last", "60", "--from", "shop/client", "--to", "kube-system/sluice-dns")
        told = [flow for flow in flows if flow.get("dns", {}).get("query") == "other.org"]
        assert (told[-1]["verdict"], told[-1]["audit"]) == ("FORWARDED", "DROPPED")
    finally:
        mesh.delete(tried)


def test_a_tier_may_speak_of_domains(mesh: RunningMesh, world: None) -> None:
    assert connect(mesh, OTHER) == "open"
    mesh.apply(DOMAINS)
    try:
        assert look_up(mesh, "www.example.com") == NAMED
        assert (connect(mesh, NAMED), connect(mesh, OTHER)) == ("open", "closed")
    finally:
        mesh.delete(DOMAINS)


def test_what_is_in_force_is_answered_while_agent_and_control_plane_are_down(
    mesh: RunningMesh, by_name: None
) -> None:
    assert look_up(mesh, "www.example.com") == NAMED
    mesh.apply(BY_NAME.replace("name: by-name", "name: second").replace("*.example.com", "*.cdn.net"))
    try:
        with stopped(mesh):
            assert look_up(mesh, "www.example.com") == NAMED
            assert connect(mesh, NAMED) == "open"
            assert look_up(mesh, "web.shop.svc.cluster.local", "street/stranger") != "nothing"
            assert look_up(mesh, "new.cdn.net") == "nothing", "its address cannot be let through"
            assert connect(mesh, OTHER) == "closed"
        assert until(lambda: look_up(mesh, "new.cdn.net") == NEW, "they are back")
        assert connect(mesh, NEW) == "open"
    finally:
        mesh.delete(BY_NAME.replace("name: by-name", "name: second"))


def test_a_killed_resolver_comes_back_and_knows_what_it_knew(mesh: RunningMesh, by_name: None) -> None:
    assert look_up(mesh, "www.example.com") == NAMED
    with stopped(mesh):
        (pid,) = mesh_processes(mesh, "agent.dns")
        os.kill(pid, signal.SIGKILL)
        until(lambda: mesh_processes(mesh, "agent.dns") not in ([], [pid]), "it is started again", 5)
        assert until(lambda: look_up(mesh, "www.example.com") == NAMED, "it answers", 5)
        assert connect(mesh, NAMED) == "open"


def test_hosts_of_service_entries_have_addresses_of_the_mesh_and_lead_out_of_it(
    mesh: RunningMesh, world: None
) -> None:
    """Rule 24, in the kernel alone: no Envoy starts for it."""
    mesh.apply(ENTRIES)
    try:
        mesh.run("status", "--wait")
        for host in ("static.example.net", "www.example.com"):
            vip = until(lambda host=host: look_up(mesh, host), f"{host} has an address")  # type: ignore[misc]
            assert vip not in ("nothing", NAMED, OTHER, NEW)
            assert until(lambda host=host: connect(mesh, host) == "open", f"{host} is open")  # type: ignore[misc]
        assert look_up(mesh, "www.example.com", "street/stranger") == NAMED, "it is not for that namespace"
        assert (look_up(mesh, "itself.example.net"), connect(mesh, NEW)) == (NEW, "open")
        assert mesh.processes("shop/client").count("envoy") == 0
        flows = mesh.observe("--last", "60", "--from", "shop/client")
        names = {flow["destination"].get("service") for flow in flows}
        assert {"shop/static.example.net", "shop/www.example.com"} <= names, names
    finally:
        mesh.delete(ENTRIES)
    assert until(lambda: look_up(mesh, "www.example.com") == NAMED, "it is the world's again")
    assert look_up(mesh, "static.example.net") == "nothing"


def test_a_pattern_is_resolved_by_the_name_that_is_asked_for(mesh: RunningMesh, world: None) -> None:
    """DYNAMIC_DNS, in the kernel alone: the first answer leaves when the way is open, and policy judges where
    that leads. A route for the pattern brings an Envoy."""
    mesh.apply(ANY, TO_ONE)
    try:
        vip = look_up(mesh, "www.example.com")
        assert vip not in ("nothing", NAMED)
        assert connect(mesh, vip) == "open"
        assert look_up(mesh, "alias.example.com") not in ("nothing", NEW, vip)
        assert connect(mesh, "alias.example.com") == "closed", "that is another place"
        assert look_up(mesh, "none.example.com") == "nothing"
        assert look_up(mesh, "www.example.com", "street/stranger") == NAMED, "it is not for that namespace"
        assert mesh.processes("shop/client").count("envoy") == 0
        assert mesh.explain("shop/client", "shop/www.example.com:80")["path"] == "kernel"
        mesh.apply(TEAPOT)
        try:
            assert until(lambda: mesh.get("shop/client", "http://www.example.com/")[0] == 418, "it is routed")
        finally:
            mesh.delete(TEAPOT)
    finally:
        mesh.delete(ANY, TO_ONE)
    assert until(lambda: look_up(mesh, "www.example.com") == NAMED, "it is the world's again")


def test_policy_judges_where_a_service_entry_leads(mesh: RunningMesh, world: None) -> None:
    mesh.apply(ENTRIES, TO_ONE)
    try:
        assert until(lambda: connect(mesh, "www.example.com") == "open", "that address is allowed")
        assert connect(mesh, "static.example.net") == "closed"
        assert connect(mesh, "static.example.net", "shop/other") == "open"
    finally:
        mesh.delete(ENTRIES, TO_ONE)


@pytest.fixture
def registry_only(mesh: RunningMesh, world: None) -> Iterator[None]:
    mesh.apply(REGISTRY_ONLY)
    yield
    mesh.delete(REGISTRY_ONLY)


def test_under_registry_only_a_pod_reaches_what_a_service_names_and_nothing_else(
    mesh: RunningMesh, registry_only: None
) -> None:
    """Rule 23."""
    assert mesh.get("shop/client", "http://web/")[0] == 200
    assert connect(mesh, OTHER) == "closed"
    assert connect(mesh, OTHER, "shop/other") == "open"
    flows = mesh.observe("--last", "60", "--from", "shop/client", "--verdict", "DROPPED")
    refused = [flow for flow in flows if flow["destination"]["ip"] == OTHER][-1]
    assert refused["drop_reason"] == "REGISTRY_ONLY"
    assert refused["policies"] == ["Sidecar shop/only outboundTrafficPolicy.mode"]
    assert 'sluice_drops_total{reason="REGISTRY_ONLY"}' in mesh.run("metrics")
    found = mesh.explain("shop/client", f"{OTHER}:80")
    assert (found["verdict"], found["reasons"][0]["object"]) == ("deny", "Sidecar shop/only")
    mesh.apply(ENTRIES)
    try:
        assert connect(mesh, OTHER) == "open", "an entry that it sees names it"
        assert until(lambda: connect(mesh, "www.example.com") == "open", "so does what DNS says of a name")
        assert connect(mesh, NEW) == "closed", "its Sidecar leaves this entry out"
        # The resolver is to go on telling of an address that the last answer does not have any more.
        told = json.loads((Path("/run/sluice") / mesh.name / "dns/policy.json").read_text())
        assert "www.example.com" in told["wanted"]
    finally:
        mesh.delete(ENTRIES)
    assert (connect(mesh, OTHER), connect(mesh, NAMED)) == ("closed", "closed")


def test_registry_only_ends_what_is_open_to_places_that_nobody_names(mesh: RunningMesh, world: None) -> None:
    command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", sys.executable, "-c", HOLD, OTHER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout and held.stdout.readline() == "open\n"
        mesh.apply(REGISTRY_ONLY)
        try:
            assert held.communicate(timeout=20)[0] == "closed\n"
        finally:
            mesh.delete(REGISTRY_ONLY)


def test_registry_only_binds_a_pods_envoy_as_well(mesh: RunningMesh, registry_only: None) -> None:
    """Rule 4: neither a route, nor a rule that hands what it dialled on, leads round it."""
    mesh.apply(CANARY, EVERY_GET)
    try:
        mesh.run("status", "--wait")
        status, answer = mesh.get("shop/client", "http://web/")
        assert status == 200 and isinstance(answer, dict), answer
        assert mesh.processes("shop/client").count("envoy") == 1
        for host in (OTHER, "web"):
            assert mesh.get("shop/client", f"http://{OTHER}/", "-H", f"Host: {host}")[0] == 0
    finally:
        mesh.delete(CANARY, EVERY_GET)
