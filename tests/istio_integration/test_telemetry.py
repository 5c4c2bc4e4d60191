"""Telemetry, and what MeshConfig says of tracing: what is read, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.model import (
    CustomTag,
    MeshConfig,
    MeshTracing,
    ObjectRef,
    Requirement,
    Selector,
    Telemetry,
    TracingProvider,
    TracingRule,
)
from tests.istio_integration.test_authorization_policy import config
from tests.mesh.dialects.objects import obj
from xds.dialects import read

REF = ObjectRef("Telemetry", "shop", "one")


def telemetry(tracing: Any, **spec: Any) -> Any:
    return obj("telemetry.istio.io/v1", "Telemetry", {"tracing": [tracing], **spec})


def rule(tracing: Any) -> TracingRule:
    fragment = read(telemetry(tracing))
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, Telemetry)
    return noun.tracing[0]


def test_every_field_of_tracing_is_read() -> None:
    found = rule(
        {
            "match": {"mode": "SERVER"},
            "providers": [{"name": "otel"}],
            "randomSamplingPercentage": 12.34,
            "disableSpanReporting": True,
            "customTags": {
                "b": {"header": {"name": "x-team", "defaultValue": "none"}},
                "a": {"literal": {"value": "1"}},
                "c": {"environment": {"name": "HOSTNAME"}},
            },
            "useRequestIdForTraceSampling": False,
            "enableIstioTags": True,
        }
    )
    tags = (
        CustomTag("a", "literal", "1"),
        CustomTag("b", "header", "x-team", "none"),
        CustomTag("c", "environment", "HOSTNAME"),
    )
    assert found == TracingRule(("ingress",), "otel", 1234, True, tags, False, True)


def test_what_is_not_said_is_left_to_a_wider_one() -> None:
    assert rule({}) == TracingRule()
    assert rule({"match": {"mode": "CLIENT"}, "randomSamplingPercentage": 0}) == TracingRule(
        ("egress",), sampling=0
    )


def test_a_selector_names_workloads_of_the_namespace() -> None:
    (noun,) = read(telemetry({}, selector={"matchLabels": {"app": "web"}})).nouns
    assert noun == Telemetry(REF, Selector((Requirement("app", "In", ("web",)),)), (TracingRule(),))
    (noun,) = read(telemetry({}, selector={})).nouns
    assert noun == Telemetry(REF, None, (TracingRule(),))


@pytest.mark.parametrize(
    ("tracing", "field", "says"),
    [
        ({"randomSamplingPercentage": 101}, "randomSamplingPercentage", "a percentage from 0 to 100"),
        ({"randomSamplingPercentage": "1"}, "randomSamplingPercentage", "a percentage from 0 to 100"),
        ({"randomSamplingPercentage": True}, "randomSamplingPercentage", "a percentage from 0 to 100"),
        ({"match": {"mode": "BOTH"}}, "match.mode", "one of CLIENT_AND_SERVER, CLIENT, SERVER"),
        ({"providers": [{"name": "a"}, {"name": "b"}]}, "providers", "at most 1"),
        ({"customTags": {"a": {}}}, "customTags.a", "exactly one of literal, environment, header"),
        ({"customTags": {"a": {"formatter": {"value": "x"}}}}, "customTags.a.formatter", "formatter"),
        ({"customTags": {"a": {"header": {}}}}, "customTags.a.header.name", "is required"),
        ({"enableIstioTags": "no"}, "enableIstioTags", "must be true or false"),
        ({"useRequestIdForTraceSampling": 0}, "useRequestIdForTraceSampling", "must be true or false"),
        ({"disableContextPropagation": True}, "disableContextPropagation", "not supported"),
        ({"sampling": 1}, "sampling", "unknown field"),
    ],
)
def test_what_cannot_be_read_is_named_and_has_no_effect(tracing: Any, field: str, says: str) -> None:
    fragment = read(telemetry(tracing))
    assert not fragment.valid and fragment.nouns == ()
    found = {problem.field: problem.message for problem in fragment.problems}
    assert says in found[f"spec.tracing[0].{field}"]


GATE = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gate"}


@pytest.mark.parametrize("target", [{"targetRefs": [GATE]}, {"targetRef": GATE}])
def test_a_gateway_in_target_refs_is_the_pods_that_serve_it(target: Any) -> None:
    (found,) = read(telemetry({}, **target)).nouns
    assert isinstance(found, Telemetry) and found.subject
    assert found.subject.matches({"gateway.networking.k8s.io/gateway-name": "gate"})
    assert not found.subject.matches({"gateway.networking.k8s.io/gateway-name": "other"})


@pytest.mark.parametrize(
    ("more", "field", "says"),
    [
        ({"targetRefs": [{"kind": "Service", "name": "web"}]}, "targetRefs[0].kind", "must be Gateway"),
        ({"targetRefs": [GATE, GATE]}, "targetRefs[1]", "for each"),
        ({"targetRefs": [GATE], "selector": {"matchLabels": {"a": "b"}}}, "selector", "stands alone"),
    ],
)
def test_what_target_refs_cannot_mean_is_refused(more: Any, field: str, says: str) -> None:
    fragment = read(telemetry({}, **more))
    assert not fragment.nouns
    assert says in {problem.field: problem.message for problem in fragment.problems}[f"spec.{field}"]


def test_it_rides_along_and_cannot_steer_yet() -> None:
    """Rule 20."""
    own = telemetry({})
    own["metadata"]["annotations"] = {"sluice.io/steer": "true"}
    (problem,) = read(own).problems
    assert "rides along" in problem.message
    own["metadata"]["annotations"] = {"sluice.io/steer": "false"}
    assert read(own).valid


def tracing(text: str) -> MeshTracing:
    fragment = config(text)
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, MeshConfig)
    return noun.tracing


def test_the_collectors_of_mesh_config_are_read() -> None:
    found = tracing(
        """
extensionProviders:
- {name: z, zipkin: {service: zipkin.o.svc.cluster.local, port: 9411, enable64bitTraceId: true}}
- {name: g, opentelemetry: {service: otel.o.svc.cluster.local, port: 4317, maxTagLength: 99}}
- name: h
  opentelemetry:
    service: otel.o.svc.cluster.local
    port: 4318
    http: {path: /v1/traces, timeout: 3s, headers: [{name: X-Token, value: a}]}
- {name: d, datadog: {service: datadog.example.com, port: 8126}}
- {name: logs, envoyFileAccessLog: {path: /dev/stdout}}
defaultProviders: {tracing: [g]}
defaultConfig: {tracing: {sampling: 2.5, customTags: {a: {literal: {value: b}}}}}
"""
    )
    otel = "otel.o.svc.cluster.local"
    assert found == MeshTracing(
        (
            TracingProvider("d", "datadog", "datadog.example.com", 8126, "/v0.4/traces"),
            TracingProvider("g", "opentelemetry", otel, 4317, max_tag_length=99),
            TracingProvider("h", "opentelemetry", otel, 4318, "/v1/traces", 3000, (("x-token", "a"),)),
            TracingProvider(
                "z", "zipkin", "zipkin.o.svc.cluster.local", 9411, "/api/v2/spans", long_ids=False
            ),
        ),
        "g",
        250,
        (CustomTag("a", "literal", "b"),),
    )


def test_the_older_switch_names_a_zipkin_unless_a_default_provider_is_named() -> None:
    older = "enableTracing: true\ndefaultConfig: {tracing: {zipkin: {address: 'zipkin.istio-system:9411'}}}\n"
    found = tracing(older)
    (provider,) = found.providers
    assert (provider.kind, provider.service, provider.port) == ("zipkin", "zipkin.istio-system", 9411)
    assert found.default == provider.name
    assert tracing(older + "defaultProviders: {tracing: [g]}").default == "g"
    assert tracing(older.replace("true", "false")) == MeshTracing()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (
            "extensionProviders: [{name: a, opentelemetry: {service: s}}]",
            "extensionProviders[0].opentelemetry.port",
        ),
        (
            "extensionProviders: [{name: a, opentelemetry: {service: s, port: 1, http: {path: v1}}}]",
            "extensionProviders[0].opentelemetry.http.path",
        ),
        (
            "extensionProviders: [{name: a, zipkin: {service: s, port: 1, headers: []}}]",
            "extensionProviders[0].zipkin.headers",
        ),
        ("defaultConfig: {tracing: {sampling: 200}}", "defaultConfig.tracing.sampling"),
        (
            "enableTracing: true\ndefaultConfig: {tracing: {zipkin: {address: zipkin}}}",
            "defaultConfig.tracing.zipkin.address",
        ),
    ],
)
def test_what_is_wrong_with_tracing_in_mesh_config_is_named(text: str, field: str) -> None:
    fragment = config(text)
    assert f"data.mesh.{field}" in {problem.field for problem in fragment.problems}
