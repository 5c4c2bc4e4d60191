from __future__ import annotations

from typing import Any

import pytest

from istio_integration.workload_entry import CHECKED, GROUP
from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import (
    Fragment,
    HttpGet,
    ObjectRef,
    Probe,
    TcpSocket,
    WorkloadEntry,
    WorkloadGroup,
    WorkloadName,
)
from sluice.entry_probes import Asked, asked
from sluice.registration import workload_entry
from tests.mesh.dialects.objects import obj
from xds.dialects import read

ISTIO = "networking.istio.io/v1"
HTTP = {"httpGet": {"port": 8080}}


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "WorkloadGroup", spec))


def group(**spec: Any) -> WorkloadGroup:
    found = fragment({"template": {}, **spec})
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, WorkloadGroup)
    return noun


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_one_without_a_probe(version: str) -> None:
    assert fragment({"template": {}}, version).nouns == (WorkloadGroup(WorkloadName("shop", "one")),)


def test_how_it_is_asked() -> None:
    get = {"path": "ready", "port": 8443, "scheme": "HTTPS", "httpHeaders": [{"name": "x", "value": "1"}]}
    times = {"initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3}
    counts = {"successThreshold": 4, "failureThreshold": 5}
    assert group(probe={"httpGet": get, **times, **counts}).probe == Probe(
        HttpGet(8443, "/ready", "", "HTTPS", (("x", "1"),)), 1, 2, 3, 5, 4
    )
    assert group(probe={"tcpSocket": {"port": 22}}).probe == Probe(TcpSocket(22), 0, 10, 1, 3, 1)
    for own in ("127.0.0.1", "::1", "localhost"):
        assert group(probe={"tcpSocket": {"port": 22, "host": own}}).probe == Probe(TcpSocket(22))


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({}, "template", "is required"),
        ({"template": {"ports": {"http": 0}}}, "template.ports.http", "must be 1 to 65535"),
        ({"template": {}, "probe": {}}, "probe", "needs one of httpGet and tcpSocket"),
        ({"template": {}, "probe": {**HTTP, "tcpSocket": {"port": 1}}}, "probe", "needs one of"),
        ({"template": {}, "probe": {"httpGet": {}}}, "probe.httpGet.port", "is required"),
        ({"template": {}, "probe": {"exec": {"command": ["a"]}}}, "probe.exec", "is asked from here"),
        ({"template": {}, "probe": {"grpc": {"port": 1}}}, "probe.grpc", "is asked from here"),
        ({"template": {}, "probe": {**HTTP, "periodSeconds": -1}}, "probe.periodSeconds", "must be 0 to"),
        (
            {"template": {}, "probe": {"tcpSocket": {"port": 1, "host": "10.0.0.1"}}},
            "probe.tcpSocket.host",
            "at its own address",
        ),
        ({"template": {}, "metadata": {"name": "a"}}, "metadata.name", "unknown field"),
    ],
)
def test_what_cannot_be_is_refused_and_has_no_effect(spec: Any, field: str, says: str) -> None:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    assert says in {p.field: p.message for p in found.problems}[f"spec.{field}"]


def test_an_address_is_each_machines_own() -> None:
    found = fragment({"template": {"address": "192.0.2.1"}})
    assert found.valid and [p.field for p in found.problems] == ["spec.template.address"]


# --- who is registered --------------------------------------------------------------------------------------

SPEC = {
    "metadata": {"labels": {"app": "web", "a": "group"}, "annotations": {"owner": "ops"}},
    "template": {"ports": {"http": 8080, "tcp": 90}, "labels": {"a": "template"}, "network": "far"},
    "probe": HTTP,
}


def test_an_entry_is_made_of_its_group() -> None:
    whole = workload_entry(obj(ISTIO, "WorkloadGroup", SPEC), "192.0.2.1", {"http": 9080}, {"b": "own"})
    assert whole["metadata"] == {
        "name": "one-192.0.2.1-far",
        "namespace": "shop",
        "labels": {"app": "web", "a": "template", "b": "own"},
        "annotations": {"owner": "ops", GROUP: "one", CHECKED: "true"},
    }
    assert whole["spec"]["ports"] == {"http": 9080, "tcp": 90}
    (noun,) = read(whole).nouns
    assert isinstance(noun, WorkloadEntry)
    assert (noun.group, noun.checked, noun.healthy) == ("one", True, False)


@pytest.mark.parametrize("address", ["2001:db8::1", "::1:2", "fd00::"])
def test_an_address_of_ipv6_can_be_part_of_a_name(address: str) -> None:
    whole = workload_entry(obj(ISTIO, "WorkloadGroup", {"template": {}}), address, {}, {})
    assert read(whole).valid, read(whole).problems
    assert CHECKED not in whole["metadata"]["annotations"]


def test_who_is_asked_and_where() -> None:
    groups = [group(probe=HTTP), WorkloadGroup(WorkloadName("shop", "silent"))]
    entries = [
        read(workload_entry(obj(ISTIO, "WorkloadGroup", {"template": {}}), at, {}, {})).nouns[0]
        for at in ("192.0.2.1", "2001:db8::1")
    ]
    alone = read(obj(ISTIO, "WorkloadEntry", {"address": "192.0.2.2"})).nouns[0]
    probe = Probe(HttpGet(8080))
    assert asked([*groups, *entries, alone]) == {  # type: ignore[list-item]
        WorkloadName("shop", "one-192.0.2.1"): Asked("192.0.2.1", probe),
        WorkloadName("shop", "one-2001-db8--1"): Asked("2001:db8::1", probe),
    }


def test_who_waits_for_a_check_that_nobody_makes_is_told_of() -> None:
    mesh = Mesh(Allocations(["10.128.0.0/16"]))
    whole = workload_entry(obj(ISTIO, "WorkloadGroup", SPEC), "192.0.2.1", {}, {})
    found = read(whole)
    mesh.apply({found.ref: found})
    (problem,) = mesh.problems
    assert problem.object == ObjectRef("WorkloadEntry", "shop", "one-192.0.2.1-far")
    assert "there is no WorkloadGroup shop/one with a probe" in problem.message
    own = read(obj(ISTIO, "WorkloadGroup", SPEC))
    mesh.apply({own.ref: own})
    assert not mesh.problems
    mesh.apply({own.ref: None})
    assert len(mesh.problems) == 1
    mesh.apply({found.ref: None})
    assert not mesh.problems
