"""`metrics` of Telemetry: what is read, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.model import METRICS, MetricRule, TagRule, Telemetry
from tests.mesh.dialects.objects import obj
from xds.dialects import read

BOTH = ("egress", "ingress")


def telemetry(metrics: Any) -> Any:
    return obj("telemetry.istio.io/v1", "Telemetry", {"metrics": [metrics]})


def rules(*overrides: Any) -> tuple[MetricRule, ...]:
    fragment = read(telemetry({"providers": [{"name": "prometheus"}], "overrides": list(overrides)}))
    assert fragment.valid, fragment.problems
    (noun,) = fragment.nouns
    assert isinstance(noun, Telemetry)
    return noun.metrics


def test_every_field_of_an_override_is_read() -> None:
    tags = {
        "team": {"value": "'blue'"},
        "source_principal": {"operation": "REMOVE"},
        "method": {"operation": "UPSERT", "value": "request.method"},
    }
    (found,) = rules(
        {"match": {"metric": "REQUEST_COUNT", "mode": "SERVER"}, "disabled": False, "tagOverrides": tags}
    )
    assert found == MetricRule(
        ("ingress",),
        ("istio_requests_total",),
        False,
        (TagRule("method", attribute="request.method"), TagRule("source_principal"), TagRule("team", "blue")),
    )


def test_what_names_no_metric_is_about_all_of_them() -> None:
    for match in ({}, {"metric": "ALL_METRICS"}):
        assert rules({"match": match, "disabled": True}) == (MetricRule(BOTH, METRICS, True),)
    (found,) = rules({})
    assert found == MetricRule(BOTH, METRICS)


def test_istios_names_of_metrics_are_known() -> None:
    for name, metric in (
        ("GRPC_REQUEST_MESSAGES", "istio_request_messages_total"),
        ("GRPC_RESPONSE_MESSAGES", "istio_response_messages_total"),
    ):
        (found,) = rules({"match": {"metric": name}, "disabled": True})
        assert found.metrics == (metric,)


def test_a_custom_metric_may_be_one_of_ours_with_or_without_istios_prefix() -> None:
    for name in ("tcp_sent_bytes_total", "istio_tcp_sent_bytes_total"):
        (found,) = rules({"match": {"customMetric": name}, "disabled": True})
        assert found.metrics == ("istio_tcp_sent_bytes_total",)


def override(**fields: Any) -> Any:
    return {"overrides": [fields]}


def tag(name: str, written: Any) -> Any:
    return override(tagOverrides={name: written})


@pytest.mark.parametrize(
    ("written", "field", "says"),
    [
        ({"reportingInterval": "5s"}, "reportingInterval", "reportingInterval"),
        ({"providers": [{"name": "stackdriver"}]}, "providers[0].name", "to prometheus alone"),
        (override(match={"metric": "X"}), "overrides[0].match.metric", "one of ALL_METRICS, REQUEST_COUNT"),
        (override(match={"customMetric": "mine"}), "overrides[0].match.customMetric", "no metric of ours"),
        (
            override(match={"customMetric": "requests_total", "metric": "REQUEST_COUNT"}),
            "overrides[0].match.customMetric",
            "one of them",
        ),
        (override(match={"mode": "X"}), "overrides[0].match.mode", "CLIENT_AND_SERVER"),
        (tag("a", {}), "overrides[0].tagOverrides.a.value", "is required"),
        (tag("a", {"operation": "ADD"}), "overrides[0].tagOverrides.a.operation", "UPSERT, REMOVE"),
        (tag("a", {"value": "blue"}), "overrides[0].tagOverrides.a.value", "a text in quotes"),
        (
            tag("a", {"value": "request.headers['x']"}),
            "overrides[0].tagOverrides.a.value",
            "or one of request.host",
        ),
        (tag("le", {"value": "'a'"}), "overrides[0].tagOverrides.le", "cannot be a label"),
        (tag("__a", {"value": "'a'"}), "overrides[0].tagOverrides.__a", "cannot be a label"),
        (tag("pod", {"operation": "REMOVE"}), "overrides[0].tagOverrides.pod", "cannot be a label"),
    ],
)
def test_what_cannot_be_read_is_named_and_has_no_effect(written: Any, field: str, says: str) -> None:
    fragment = read(telemetry(written))
    assert not fragment.valid and fragment.nouns == ()
    found = {problem.field: problem.message for problem in fragment.problems}
    assert says in found[f"spec.metrics[0].{field}"]
