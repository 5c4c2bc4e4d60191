"""Who logs what: MeshConfig, root namespace, namespace, workload (rule 20)."""

from __future__ import annotations

import pytest

from mesh.datapath import Node
from mesh.model import DEFAULT_TEXT, ServiceName
from mesh.node import Collector
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, documents, mesh_of
from tests.mesh.test_telemetry import CONFIG as _CONFIG
from tests.mesh.test_telemetry import OTEL, telemetry, view
from xds.dialects import read

CONFIG = f"""{_CONFIG.rstrip()}
    - {{name: json, envoyFileAccessLog: {{logFormat: {{labels: {{a: b}}}}}}}}
    - {{name: records, envoyOtelAls: {{service: otel.shop.svc.cluster.local, port: 4317}}}}
"""
FILE = CONFIG + "    accessLogFile: /dev/stdout\n"
DEFAULTS = FILE + "    defaultProviders: {accessLogging: [json, records]}\n"


def logging(namespace: str, *rules: str, name: str = "one", app: str = "") -> str:
    selector = f"selector: {{matchLabels: {{app: {app}}}}}, " if app else ""
    return telemetry(namespace, f"{{{selector}accessLogging: [{', '.join(rules)}]}}", name)


def found(*texts: str) -> tuple[str, str]:
    """Providers and filters of what storefront sends, and of what it gets."""
    shown = view(*texts)
    sent, got = (
        " ".join(f"{log.provider.name}({log.filter})" if log.filter else log.provider.name for log in logs)
        for logs in (shown.egress_logs, shown.ingress_logs)
    )
    return sent, got


def both(logs: str) -> tuple[str, str]:
    return logs, logs


BAD = "{filter: {expression: 'response.code >= 400'}}"
ENVOY = "{providers: [{name: envoy}]}"
OFF = "{disabled: true}"
ON = "{disabled: false}"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), both("")),
        ((logging("istio-system", ENVOY),), both("envoy")),
        ((CONFIG, logging("shop", BAD)), both("")),
        ((FILE,), both("accessLogFile")),
        ((DEFAULTS,), both("json records")),
        ((FILE, logging("shop", BAD)), both("accessLogFile(response.code >= 400)")),
        ((FILE, logging("shop", ENVOY)), both("envoy")),
        ((FILE, logging("shop", OFF)), both("")),
        ((FILE, logging("street", OFF)), both("accessLogFile")),
        ((FILE, logging("shop", OFF, app="storefront")), both("")),
        ((FILE, logging("shop", OFF, app="reviews")), both("accessLogFile")),
        ((FILE, logging("istio-system", OFF), logging("shop", ON)), both("accessLogFile")),
        ((FILE, logging("istio-system", OFF), logging("shop", BAD)), both("")),
        # Whoever names a provider says all of it.
        ((FILE, logging("istio-system", OFF), logging("shop", ENVOY)), both("envoy")),
        ((CONFIG, logging("istio-system", ENVOY, BAD), logging("shop", ENVOY)), both("envoy")),
        ((CONFIG, logging("istio-system", ENVOY), logging("shop", BAD)), both("envoy(response.code >= 400)")),
        # Entries of one Telemetry add up.
        (
            (CONFIG, logging("shop", ENVOY, "{providers: [{name: json}], " + BAD[1:])),
            both("envoy json(response.code >= 400)"),
        ),
        ((DEFAULTS, logging("shop", "{providers: [{name: json}], disabled: true}")), both("")),
        ((FILE, logging("shop", "{match: {mode: SERVER}, disabled: true}")), ("accessLogFile", "")),
        (
            (FILE, logging("shop", "{match: {mode: CLIENT}, " + ENVOY[1:])),
            ("envoy", "accessLogFile"),
        ),
        ((FILE, logging("shop", ENVOY), logging("shop", OFF, name="zero")), both("envoy")),
    ],
)
def test_the_narrowest_that_speaks_is_followed(texts: tuple[str, ...], expected: tuple[str, str]) -> None:
    assert found(*texts) == expected


def test_records_say_whose_they_are_and_their_service_is_a_destination() -> None:
    shown = view(DEFAULTS)
    file, records = shown.ingress_logs
    assert file.resource == ()
    assert dict(records.resource)["service.name"] == "storefront.shop"
    reached = {(d.target.service, d.target.port) for d in shown.destinations}
    assert (ServiceName("shop", "otel"), 4317) in reached
    assert (ServiceName("shop", "otel"), 4317) not in {
        (d.target.service, d.target.port) for d in view(FILE).destinations
    }


def test_logging_rides_along_and_steers_nobody() -> None:
    """Rule 20."""
    node = Node(mesh_of(SHOP, OTEL, DEFAULTS), "here")
    assert node.proxies == {}
    assert not any(pod.reasons for pod in node.state.pods.values())


def test_a_telemetry_that_comes_and_goes_leaves_nothing() -> None:
    mesh = mesh_of(SHOP, CANARY, GET_ONLY, FILE, OTEL)
    node = Node(mesh, "here")
    before = dict(node.proxies)
    (document,) = documents(logging("shop", OFF))
    fragment = read(document)
    node.update(mesh.apply({fragment.ref: fragment}))
    assert node.proxies["shop/storefront"].egress_logs == ()
    node.update(mesh.apply({fragment.ref: None}))
    assert node.proxies == before


def test_a_provider_that_mesh_config_does_not_know_is_a_problem() -> None:
    mesh = mesh_of(SHOP, CONFIG, logging("shop", "{providers: [{name: json}, {name: otel}]}"))
    (problem,) = mesh.problems
    assert problem.field == "spec.accessLogging[0].providers[1].name"
    assert problem.message.startswith("otel is no extension provider of access logs")


def test_the_agent_is_told_what_to_log_of_connections_in_the_kernel() -> None:
    records = telemetry("shop", "{accessLogging: [{match: {mode: SERVER}, providers: [{name: records}]}]}")
    node = Node(mesh_of(SHOP, OTEL, CONFIG, records), "here")
    found = node.state.loggings["shop/storefront"]
    (log,) = found.ingress
    assert found.egress == () and log.text == DEFAULT_TEXT.rstrip("\n")
    assert log.collector == Collector("otel.shop.svc.cluster.local", 4317, ServiceName("shop", "otel"))
    assert dict(log.resource)["k8s.pod.name"] == "storefront"
    assert Node(mesh_of(SHOP, OTEL, CONFIG), "here").state.loggings == {}
