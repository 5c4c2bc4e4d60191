from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import BackendTls, ObjectRef, ServiceName, SubjectName, TlsTarget
from tests.mesh.dialects.objects import obj, refused, valid

PAY = {"group": "", "kind": "Service", "name": "pay"}
CA = {"group": "", "kind": "ConfigMap", "name": "ca"}


def policy(targets: Any = (PAY,), version: str = "v1", **validation: Any) -> Any:
    said = {"hostname": "pay.example", "caCertificateRefs": [CA]} | validation
    spec = {"targetRefs": list(targets), "validation": said}
    return obj(f"gateway.networking.k8s.io/{version}", "BackendTLSPolicy", spec)


def one(object: Any) -> BackendTls:
    (noun,) = valid(object).nouns
    assert isinstance(noun, BackendTls)
    return noun


@pytest.mark.parametrize("version", ["v1", "v1alpha3"])
def test_backends_of_a_service_show_a_certificate_for_the_hostname(version: str) -> None:
    assert one(policy([PAY, PAY | {"sectionName": "https"}], version)) == BackendTls(
        ObjectRef("BackendTLSPolicy", "shop", "one"),
        "",
        (TlsTarget(ServiceName("shop", "pay")), TlsTarget(ServiceName("shop", "pay"), "https")),
        "pay.example",
        (SubjectName("dns", "pay.example"),),
        (ObjectRef("ConfigMap", "shop", "ca"),),
    )


def test_other_names_stand_in_place_of_the_hostname() -> None:
    names = [
        {"type": "Hostname", "hostname": "*.pay.example"},
        {"type": "URI", "uri": "spiffe://a/ns/b/sa/c"},
    ]
    found = one(policy(subjectAltNames=names))
    assert found.hostname == "pay.example"
    assert found.names == (SubjectName("dns", "*.pay.example"), SubjectName("uri", "spiffe://a/ns/b/sa/c"))


def test_the_authorities_of_the_system_are_asked_for_by_name() -> None:
    assert one(policy(caCertificateRefs=None, wellKnownCACertificates="System")).authorities == ()


def test_a_target_of_another_kind_is_left_to_others_and_said_so() -> None:
    other = {"group": "example.com", "kind": "Bucket", "name": "a"}
    fragment = valid(policy([other]))
    assert fragment.nouns == ()
    assert "only Services are targets" in fragment.problems[0].message
    assert len(one(policy([other, PAY])).targets) == 1


@pytest.mark.parametrize(
    ("object", "field", "says"),
    [
        (policy([]), "targetRefs", "is required"),
        (policy([PAY, PAY]), "targetRefs", "twice"),
        (policy([{"kind": "Service", "name": "a"}]), "targetRefs[0].group", "is required"),
        (policy([PAY | {"namespace": "far"}]), "targetRefs[0].namespace", "unknown field"),
        (policy([PAY | {"sectionName": "A"}]), "targetRefs[0].sectionName", "is not the name of a port"),
        (policy(hostname=None), "validation.hostname", "is required"),
        (policy(hostname="*.a.example"), "validation.hostname", "no wildcard"),
        (policy(hostname="10.0.0.1"), "validation.hostname", "is not a hostname"),
        (policy(caCertificateRefs=None), "validation", "names no authority"),
        (policy(caCertificateRefs=[]), "validation", "names no authority"),
        (policy(wellKnownCACertificates="System"), "validation.wellKnownCACertificates", "stands alone"),
        (
            policy(wellKnownCACertificates="Mine"),
            "validation.wellKnownCACertificates",
            "must be one of System",
        ),
        (
            policy(caCertificateRefs=[CA | {"kind": "Bundle"}]),
            "validation.caCertificateRefs[0].kind",
            "must be one of ConfigMap, Secret",
        ),
        (
            policy(caCertificateRefs=[CA | {"group": "cloud"}]),
            "validation.caCertificateRefs[0].group",
            'of a ConfigMap is ""',
        ),
        (policy(subjectAltNames=[{}]), "validation.subjectAltNames[0].type", "is required"),
        (policy(subjectAltNames=[{"type": "URI"}]), "validation.subjectAltNames[0].uri", "is required"),
        (
            policy(subjectAltNames=[{"type": "URI", "uri": "a"}]),
            "validation.subjectAltNames[0].uri",
            "is not an absolute URI",
        ),
        (
            policy(subjectAltNames=[{"type": "Hostname", "hostname": "a", "uri": "b:c"}]),
            "validation.subjectAltNames[0].uri",
            "does not belong to type 'Hostname'",
        ),
    ],
)
def test_a_policy_that_cannot_be_read_has_no_effect_and_says_why(object: Any, field: str, says: str) -> None:
    assert says in refused(object)[f"spec.{field}"]
    assert read(object).nouns == ()


def test_what_is_required_and_what_is_refused_of_the_whole() -> None:
    bare = policy()
    bare["spec"] = {"targetRefs": [PAY], "options": {"a": "b"}}
    assert "is required" in refused(bare)["spec.validation"]
    assert "is not supported yet" in refused(bare)["spec.options"]
