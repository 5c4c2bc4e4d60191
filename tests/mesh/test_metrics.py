"""How metrics differ from the standard ones: root namespace, namespace, workload (rule 20)."""

from __future__ import annotations

import pytest

from mesh.datapath import Node
from mesh.model import METRICS, TagRule, WorkloadName
from mesh.node import MetricChange, MetricsRecord
from mesh.resources import TABLE_TYPES, decode, encode
from tests.mesh.shop import SHOP, documents, mesh_of
from tests.mesh.test_telemetry import telemetry
from xds.dialects import read

STOREFRONT = WorkloadName("shop", "storefront")


def metrics(namespace: str, *overrides: str, name: str = "one", app: str = "") -> str:
    selector = f"selector: {{matchLabels: {{app: {app}}}}}, " if app else ""
    return telemetry(namespace, f"{{{selector}metrics: [{{overrides: [{', '.join(overrides)}]}}]}}", name)


def record(*texts: str) -> MetricsRecord | None:
    return Node(mesh_of(SHOP, *texts), "here").state.metrics.get(str(STOREFRONT))


def changes(*texts: str) -> dict[tuple[str, str], MetricChange]:
    found = record(*texts)
    return {(change.direction, change.metric): change for change in found.changes} if found else {}


COUNT = "match: {metric: REQUEST_COUNT, mode: SERVER}"
IN = ("ingress", "istio_requests_total")
TEAM = "{" + COUNT + ", tagOverrides: {team: {value: '''blue'''}}}"
METHOD = "{" + COUNT + ", tagOverrides: {team: {operation: REMOVE}, m: {value: request.method}}}"
OFF = "{" + COUNT + ", disabled: true}"
ON = "{" + COUNT + ", disabled: false}"
TEAM_IS = TagRule("team", "blue")


@pytest.mark.parametrize("texts", [(), (metrics("shop"),), (metrics("street", OFF),), (metrics("shop", ON),)])
def test_whom_nobody_speaks_of_has_the_standard_ones(texts: tuple[str, ...]) -> None:
    assert record(*texts) is None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((metrics("shop", TEAM),), MetricChange(*IN, tags=(TEAM_IS,))),
        ((metrics("istio-system", OFF),), MetricChange(*IN, disabled=True)),
        ((metrics("istio-system", OFF), metrics("shop", ON)), None),
        ((metrics("istio-system", OFF), metrics("shop", TEAM)), MetricChange(*IN, disabled=True)),
        (
            (metrics("istio-system", TEAM), metrics("shop", METHOD)),
            MetricChange(*IN, tags=(TagRule("m", attribute="request.method"), TagRule("team"))),
        ),
        (
            (metrics("shop", METHOD), metrics("shop", TEAM, name="two", app="storefront")),
            MetricChange(*IN, tags=(TagRule("m", attribute="request.method"), TEAM_IS)),
        ),
        ((metrics("shop", TEAM), metrics("shop", OFF, name="zero")), MetricChange(*IN, tags=(TEAM_IS,))),
    ],
)
def test_each_label_and_whether_a_metric_is_told_is_the_narrowest_ones_to_say(
    texts: tuple[str, ...], expected: MetricChange | None
) -> None:
    assert changes(*texts) == ({IN: expected} if expected else {})


def test_what_names_no_metric_and_no_side_is_about_all() -> None:
    found = changes(metrics("shop", "{disabled: true}"))
    assert len(found) == 2 * len(METRICS) and all(change.disabled for change in found.values())


def test_it_steers_nobody_survives_the_wire_and_leaves_nothing() -> None:
    mesh = mesh_of(SHOP)
    node = Node(mesh, "here")
    before = node.state
    (document,) = documents(metrics("shop", METHOD))
    fragment = read(document)
    node.update(mesh.apply({fragment.ref: fragment}))
    assert node.proxies == {}
    found = node.state.metrics[str(STOREFRONT)]
    assert decode(TABLE_TYPES["metrics"], encode(found)) == found
    node.update(mesh.apply({fragment.ref: None}))
    assert node.state == before


@pytest.mark.parametrize(
    ("old", "new"), [("ingress", "in"), ("istio_requests_total", "x"), ("request.m", "m")]
)
def test_a_word_that_is_not_known_is_refused(old: str, new: str) -> None:
    found = record(metrics("shop", METHOD))
    assert found is not None
    with pytest.raises(ValueError, match="malformed"):
        decode(TABLE_TYPES["metrics"], encode(found).replace(old.encode(), new.encode()))
