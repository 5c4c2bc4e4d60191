from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read, ref_of
from mesh.model import Fragment, ObjectRef
from tests.mesh.dialects.objects import network_policy, obj, refused


@pytest.mark.parametrize("junk", [None, "Pod", 7, [], [{}]])
def test_what_is_not_a_mapping_is_not_an_object(junk: Any) -> None:
    fragment = read(junk)
    assert (fragment.nouns, fragment.valid) == ((), False)
    assert "an API object is a mapping" in fragment.problems[0].message


def test_an_unknown_kind_is_refused_in_a_line_with_the_nearest_that_is_known() -> None:
    message = refused(obj("apps/v1", "Deployment", {}))["kind"]
    assert message == "kind 'Deployment' is not supported: docs/fields.md lists the kinds that are"
    near = refused(obj("gateway.networking.k8s.io/v1", "HTTPRoutes", {}))["kind"]
    assert near == "kind 'HTTPRoutes' is not supported; is HTTPRoute meant?"


def test_a_known_kind_of_another_version_is_refused_with_the_versions_that_are_read() -> None:
    message = refused(obj("gateway.networking.k8s.io/v1alpha2", "HTTPRoute", {}))["apiVersion"]
    assert "gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1" in message


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        (None, "metadata"),
        ("one", "metadata"),
        ({}, "metadata.name"),
        ({"name": ""}, "metadata.name"),
        ({"name": 1}, "metadata.name"),
        ({"name": "../one"}, "metadata.name"),
        ({"name": "One"}, "metadata.name"),
        ({"name": "one\n"}, "metadata.name"),
        ({"name": "a" * 254}, "metadata.name"),
        ({"name": "one", "namespace": ""}, "metadata.namespace"),
        ({"name": "one", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "one", "namespace": ["shop"]}, "metadata.namespace"),
    ],
)
def test_an_object_without_a_proper_name_has_no_effect(metadata: Any, field: str) -> None:
    object = network_policy({}) | {"metadata": metadata}
    assert field in refused(object)
    assert read(object).nouns == ()


def test_a_cluster_scoped_object_in_a_namespace_is_refused() -> None:
    assert "belongs to no namespace" in refused(obj("v1", "Namespace", None))["metadata.namespace"]


def test_a_service_must_have_the_name_of_one_label() -> None:
    assert "metadata.name" in refused(obj("v1", "Service", {"clusterIP": "None"}, "a.b"))


@pytest.mark.parametrize(
    ("object", "ref"),
    [
        ({"kind": "Pod", "metadata": {"name": "a"}}, ObjectRef("Pod", "default", "a")),
        ({"kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}, ObjectRef("Pod", "b", "a")),
        ({"kind": "Namespace", "metadata": {"name": "a"}}, ObjectRef("Namespace", "", "a")),
        (
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "a"}},
            ObjectRef("Gateway", "default", "a"),
        ),
        (
            {"apiVersion": "networking.istio.io/v1beta1", "kind": "Gateway", "metadata": {"name": "a"}},
            ObjectRef("Gateway.networking.istio.io", "default", "a"),
        ),
        ({"kind": "Pod", "metadata": {"name": "a\x1b[31m"}}, ObjectRef("Pod", "default", r"'a\x1b[31m'")),
        ({"kind": ["Pod"], "metadata": 1}, ObjectRef("a list", "default", "")),
        (None, ObjectRef("", "default", "")),
    ],
)
def test_every_object_has_a_printable_reference(object: Any, ref: ObjectRef) -> None:
    assert ref_of(object) == ref


def test_problems_hold_no_control_characters_of_the_user() -> None:
    fragment: Fragment = read(
        network_policy({"pod\x1b[2J\n": 1, "podSelector": {"matchLabels": {"a": "\x1b"}}})
    )
    text = "".join(p.field + p.message for p in fragment.problems)
    assert len(fragment.problems) == 2
    assert text.isprintable()


def test_a_number_too_long_to_print_is_refused_like_any_other() -> None:
    assert (
        "a very large number"
        in refused(network_policy({"ingress": [{"ports": [{"port": 10**5000}]}]}))[
            "spec.ingress[0].ports[0].port"
        ]
    )


def test_a_kind_that_people_know_is_refused_with_the_reason() -> None:
    found = {"apiVersion": "networking.istio.io/v1", "kind": "TrafficExtension", "metadata": {"name": "x"}}
    (problem,) = read(found, missing={"TrafficExtension": "write a WasmPlugin"}).problems
    assert problem.field == "kind"
    assert problem.message == "TrafficExtension is not supported: write a WasmPlugin"
