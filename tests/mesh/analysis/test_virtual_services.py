"""Istio's messages about VirtualServices: a mesh that has the trap, and one that has not."""

from __future__ import annotations

import pytest

from tests.mesh.analysis.traps import codes, findings, only

GATEWAY = """
---
apiVersion: v1
kind: Pod
metadata: {name: gate, namespace: shop, labels: {istio: gate}}
spec: {nodeName: here, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.20}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec:
  selector: {istio: gate}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example"]}]
"""

SUBSETS = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: shop}
spec: {host: api, subsets: [{name: v1, labels: {app: api}}]}
"""

#: Several ports, none of them 80.
WIDE = """
---
apiVersion: v1
kind: Service
metadata: {name: wide, namespace: shop}
spec: {selector: {app: api}, ports: [{name: http-a, port: 81, targetPort: 8080}, {name: http-b, port: 82}]}
"""

ALIAS = """
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: wide.shop.svc.cluster.local}
"""


def virtual_service(rest: str, name: str = "v", namespace: str = "shop") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {rest}
"""


def one(http: str) -> str:
    """For api, with these `http` routes."""
    return virtual_service(f"{{hosts: [api], http: [{http}]}}")


TO_API = "route: [{destination: {host: api}}]"


@pytest.mark.parametrize(
    ("http", "field", "words"),
    [
        ("{route: [{destination: {host: gone}}]}", "spec.http[0].route[0]", "there is no Service shop/gone"),
        (
            "{route: [{destination: {host: api, port: {number: 9}}}]}",
            "spec.http[0].route[0].port",
            "no TCP port 9",
        ),
        ("{route: [{destination: {host: api, subset: v9}}]}", "spec.http[0]", "there is no subset v9"),
        (f"{{mirror: {{host: gone}}, {TO_API}}}", "spec.http[0]", "copies of requests go nowhere"),
    ],
)
def test_what_a_route_names_and_is_not_there_is_an_error(http: str, field: str, words: str) -> None:
    found = findings(SUBSETS + one(http))
    trap = only("IST0101", found)
    assert (trap.severity, trap.trap.field) == ("Error", field)
    assert words in trap.trap.message
    assert "SL0002" not in {finding.code for finding in found}, "it is told once"
    assert "IST0101" not in codes(SUBSETS + one("{route: [{destination: {host: api, subset: v1}}]}"))


DELEGATING = one("{delegate: {name: part}}")


@pytest.mark.parametrize("hosts", ["[db]", "['*.example']", "[192.0.2.1]"])
def test_a_delegate_that_names_hosts_is_told_where_it_is_named(hosts: str) -> None:
    part = f"{{hosts: {hosts}, http: [{{{TO_API}}}]}}"
    found = findings(DELEGATING + virtual_service(part, "part"))
    trap = only("SL0002", found).trap
    assert (trap.object.name, trap.field) == ("v", "spec.http[0].delegate")
    assert trap.message == (
        "the rule has no effect: VirtualService shop/part is no delegate, for it names hosts: "
        "take its spec.hosts out"
    )
    assert "IST0101" not in {finding.code for finding in found}, "it is there"


def test_a_delegate_that_is_for_other_namespaces_is_told_where_it_is_named() -> None:
    part = virtual_service(f"{{exportTo: [street], http: [{{{TO_API}}}]}}", "part")
    trap = only("SL0002", findings(DELEGATING + part)).trap
    assert trap.field == "spec.http[0].delegate" and "add shop to its spec.exportTo" in trap.message


def test_a_delegate_that_is_not_there_is_an_error() -> None:
    found = only("IST0101", findings(DELEGATING)).trap
    assert found.field == "spec.http[0].delegate.name" and "VirtualService shop/part" in found.message
    part = virtual_service(f"{{http: [{{{TO_API}}}]}}", "part")
    assert not {"IST0101", "SL0002"} & codes(DELEGATING + part)


def test_a_gateway_that_is_not_there_is_an_error() -> None:
    there = virtual_service(f"{{hosts: [a.example], gateways: [gate], http: [{{{TO_API}}}]}}")
    found = only("IST0101", findings(GATEWAY + there.replace("[gate]", "[mesh, gone]")))
    assert found.trap.field == "spec.gateways[1]"
    assert "IST0101" not in codes(GATEWAY + there)


def test_a_gateway_without_a_pod_or_certificate_is_an_error() -> None:
    assert (
        only("IST0101", findings(GATEWAY.replace("labels: {istio: gate}", ""))).trap.field == "spec.selector"
    )
    tls = "{number: 80, name: h, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: gone}"
    text = GATEWAY.replace("{number: 80, name: http, protocol: HTTP}", tls)
    assert only("IST0101", findings(text)).trap.field == "spec.servers[0].tls"
    assert "IST0101" not in codes(GATEWAY)


def test_of_two_for_one_host_the_younger_one_is_told() -> None:
    text = virtual_service(f"{{hosts: [api], http: [{{{TO_API}}}]}}", "a")
    again = virtual_service(f"{{hosts: [api], http: [{{{TO_API}}}]}}", "b")
    found = only("IST0109", findings(text + again))
    assert found.trap.object.name == "b" and "shop/a" in found.trap.message
    assert "IST0109" not in codes(text + again.replace("[api]", "[db]", 1))
    assert "IST0109" not in codes(text + again.replace("hosts:", "gateways: [gate], hosts:"))
    scoped = [t.replace("hosts:", f"exportTo: [{ns}], hosts:") for t, ns in ((text, "a"), (again, "b"))]
    assert "IST0109" not in codes("".join(scoped))


def test_a_port_that_only_the_dialled_one_could_be_is_told() -> None:
    found = only("IST0112", findings(WIDE + one("{route: [{destination: {host: wide}}]}")))
    assert found.trap.field == "spec.http[0]" and "81, 82" in found.trap.message
    assert "IST0112" not in codes(WIDE + one("{route: [{destination: {host: wide, port: {number: 81}}}]}"))
    assert "IST0112" not in codes(WIDE + one("{route: [{destination: {host: db}}]}"))
    assert "IST0112" in codes(WIDE + ALIAS + one("{route: [{destination: {host: alias}}]}"))


@pytest.mark.parametrize(
    "first",
    [TO_API, f"match: [{{uri: {{prefix: /}}}}], {TO_API}", f"match: [{{uri: {{exact: /a}}}}], {TO_API}"],
)
def test_a_rule_behind_one_that_takes_all_of_its_requests_is_told(first: str) -> None:
    later = f"match: [{{uri: {{exact: /a}}}}], {TO_API}"
    found = only("IST0130", findings(one(f"{{{first}}}, {{{later}}}")))
    assert found.trap.field == "spec.http[1]" and "http[0]" in found.trap.message
    assert not {"IST0130", "IST0131", "SL0701"} & codes(one(f"{{{later}}}, {{{TO_API}}}"))


def test_a_rule_about_connections_that_is_never_used_is_told() -> None:
    text = virtual_service(f"{{hosts: [db], tcp: [{{{TO_API}}}, {{match: [{{port: 5432}}], {TO_API}}}]}}")
    assert only("IST0130", findings(text)).trap.field == "spec.tcp[1]"


def test_a_rule_of_which_some_matches_are_used_is_told_for_the_others() -> None:
    a, b = "{uri: {exact: /a}}", "{uri: {prefix: /b}}"
    found = findings(one(f"{{match: [{a}], {TO_API}}}, {{match: [{a}, {b}], {TO_API}}}"))
    assert only("IST0131", found).trap.field == "spec.http[1].match"
    assert "1 of its 2 matches" in only("IST0131", found).trap.message
    assert "IST0130" not in {finding.code for finding in found}
    assert "IST0131" not in codes(one(f"{{match: [{a}], {TO_API}}}, {{match: [{b}], {TO_API}}}"))


def test_a_host_that_the_gateway_has_not_is_told() -> None:
    at_gate = virtual_service(f"{{hosts: [a.example], gateways: [gate], http: [{{{TO_API}}}]}}")
    assert "IST0132" not in codes(GATEWAY + at_gate)
    found = only("IST0132", findings(GATEWAY + at_gate.replace("a.example", "a.org")))
    assert "a.org" in found.trap.message
    other = GATEWAY.replace('"*.example"', '"street/*.example"')
    assert "IST0132" in codes(other + at_gate), "another namespace's"


def test_a_gateway_that_goes_past_the_subsets_is_told() -> None:
    inside = one("{route: [{destination: {host: api, subset: v1}}]}")
    at_gate = virtual_service(f"{{hosts: [a.example], gateways: [gate], http: [{{{TO_API}}}]}}", "edge")
    found = only("IST0140", findings(GATEWAY + SUBSETS + inside + at_gate))
    assert found.trap.object.name == "edge" and "shop/v" in found.trap.message
    same = at_gate.replace("{host: api}", "{host: api, subset: v1}")
    assert "IST0140" not in codes(GATEWAY + SUBSETS + inside + same)
