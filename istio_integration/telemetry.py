"""Telemetry of telemetry.istio.io, v1 and v1alpha1 (istio/api, telemetry.proto).

It makes nothing reachable and nothing judged, so one that cannot be read has no effect. This file knows
nothing of who is traced, logged and counted in the end (`mesh.observability.telemetry`).
"""

from __future__ import annotations

from istio_integration.access_logging import access_log_rule
from istio_integration.metric_overrides import metric_rules
from istio_integration.modes import MATCH_WORKLOADS, directions
from istio_integration.sampling import hundredths
from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.selection import pod_key, selector
from mesh.dialects.subject import SUBJECT, read_gateway
from mesh.dialects.syntax import label_value, printable, token
from mesh.model import CustomTag, ObjectRef, Requirement, Telemetry, TracingRule
from mesh.routes.gateways import GATEWAY_NAME

SPEC = Fields((*SUBJECT, "tracing", "accessLogging", "metrics"))
WORKLOADS = Fields(("matchLabels",))
TRACING = Fields(
    (
        "match",
        "providers",
        "randomSamplingPercentage",
        "disableSpanReporting",
        "customTags",
        "useRequestIdForTraceSampling",
        "enableIstioTags",
    ),
    refused=("disableContextPropagation",),
)
PROVIDER = Fields(("name",))
TAG = Fields(("literal", "environment", "header"), refused=("formatter",))
LITERAL = Fields(("value",))
NAMED = Fields(("name", "defaultValue"))

#: Whether it makes Envoys run. Ours to refuse: it would be silently dropped otherwise.
STEER = "sluice.io/steer"


def read_telemetry(root: Reader, ref: ObjectRef) -> tuple[Telemetry, ...]:
    root.fields(OBJECT)
    steer = root.at("metadata").mapping().at("annotations").mapping().at(STEER)
    if steer.choice(("true", "false"), "false") == "true":
        steer.refuse("is not supported yet: telemetry rides along where an Envoy runs for another reason")
    spec = root.at("spec").fields(SPEC)
    chosen = spec.at("selector").fields(WORKLOADS)
    wanted = [
        Requirement(pod_key(value, key), "In", (label_value(value),))
        for key, value in chosen.at("matchLabels").entries()
    ]
    if gateway := read_gateway(spec, ref, "selector"):
        wanted.append(Requirement(GATEWAY_NAME, "In", (gateway,)))
    rules = tuple(_tracing(item) for item in spec.at("tracing").items())
    logging = tuple(access_log_rule(item) for item in spec.at("accessLogging").items())
    metrics = tuple(rule for item in spec.at("metrics").items() for rule in metric_rules(item))
    return (Telemetry(ref, selector(wanted) if wanted else None, rules, logging, metrics),)


def _tracing(item: Reader) -> TracingRule:
    item.fields(TRACING)
    names = [printable(one.fields(PROVIDER).at("name"), 253) for one in item.at("providers").items(at_most=1)]
    sampling, tags = item.at("randomSamplingPercentage"), item.at("customTags")
    return TracingRule(
        directions(item.at("match").fields(MATCH_WORKLOADS)),
        names[0] if names else None,
        hundredths(sampling) if sampling.present else None,
        _said(item.at("disableSpanReporting")),
        tuple(sorted(custom_tag(name, tag) for name, tag in tags.entries())) if tags.present else None,
        _said(item.at("useRequestIdForTraceSampling")),
        _said(item.at("enableIstioTags")),
    )


def _said(switch: Reader) -> bool | None:
    return switch.boolean() if switch.present else None


def custom_tag(name: str, tag: Reader) -> CustomTag:
    """One entry of `customTags`, in Telemetry as in MeshConfig."""
    tag.fields(TAG)
    kinds = [key for key in TAG.read if tag.at(key).present]
    if len(kinds) != 1 and tag.sound:
        tag.refuse(f"needs exactly one of {', '.join(TAG.read)}")
    named = tag.at("header" if tag.at("header").present else "environment").fields(NAMED)
    default = printable(named.at("defaultValue"), 4096)
    if tag.at("literal").present:
        return CustomTag(name, "literal", printable(tag.at("literal").fields(LITERAL).at("value"), 4096))
    named.at("name").require()
    if tag.at("header").present:
        return CustomTag(name, "header", token(named.at("name"), named.at("name").text() or "x"), default)
    return CustomTag(name, "environment", printable(named.at("name"), 256), default)
