"""Metrics of which a Telemetry says something, as a scrape tells them."""

from __future__ import annotations

from agent.records import Change
from agent.telemetry.registry import SERIES
from agent.telemetry.telemetry import Telemetry
from agent.telemetry.traffic import Traffic
from mesh.discovery.wire import integer_field, text_field
from mesh.model import CONNECTION_METRICS, REQUEST_METRICS, Direction, Metric, TagRule
from mesh.node import MetricChange, MetricsRecord
from tests.access_log import requests
from tests.agent.telemetry.samples import samples, value
from tests.agent.telemetry.test_metrics import (
    CLIENT,
    CLIENT_IP,
    LABELS,
    TCP_LABELS,
    WEB_IP,
    Rows,
    at_destination,
    at_source,
    names,
    row,
)

COUNT: Metric = "istio_requests_total"
GET = integer_field(1, 1)
POST = integer_field(1, 3)


def record(*changes: MetricChange) -> MetricsRecord:
    return MetricsRecord(CLIENT, changes)


def told(*changes: MetricChange) -> Telemetry:
    telemetry = Telemetry(names())
    telemetry.follow(Change("type", "client", None, record(*changes)))
    return telemetry


def tags(metric: Metric, *found: TagRule, direction: Direction = "egress") -> MetricChange:
    return MetricChange(direction, metric, tags=found)


def count(telemetry: Telemetry, *messages: bytes) -> str:
    for message in messages:
        for request in requests(message):
            telemetry.add_request(CLIENT, (CLIENT_IP,), request)
    return telemetry.text(CLIENT)


def asked(method: bytes, path: str = "/", host: str = "api") -> bytes:
    return at_source(request=method + text_field(3, host) + text_field(5, path))


def test_a_metric_that_is_disabled_is_not_told_and_all_others_are() -> None:
    text = count(told(MetricChange("egress", COUNT, disabled=True)), at_source())
    assert COUNT not in text
    assert value(text, "istio_request_bytes_sum") == 100
    every = [MetricChange("egress", metric, disabled=True) for metric in REQUEST_METRICS]
    assert count(told(*every), at_source()) == ""


def test_what_is_said_of_one_side_leaves_the_other_alone() -> None:
    text = count(told(MetricChange("ingress", COUNT, disabled=True)), at_source())
    assert value(text, COUNT, reporter="source") == 1
    telemetry = told(MetricChange("egress", COUNT, disabled=True))
    message = at_destination().replace(WEB_IP.encode(), CLIENT_IP.encode())
    assert value(count(telemetry, message), COUNT, reporter="destination") == 1


def test_labels_come_change_and_go_for_one_metric_only() -> None:
    changed = tags(
        COUNT,
        TagRule("method", attribute="request.method"),
        TagRule("source_app", "mine"),
        TagRule("source_principal"),
    )
    text = count(told(changed), asked(GET), asked(POST), asked(POST))
    found = samples(text, COUNT)
    assert [(s.labels["method"], s.value) for s in found] == [("GET", 1), ("POST", 2)]
    for sample in found:
        assert sample.labels["source_app"] == "mine"
        assert list(sample.labels) == [*(name for name in LABELS if name != "source_principal"), "method"]
    (other,) = samples(text, "istio_request_bytes_count")
    assert (list(other.labels), other.value) == (LABELS, 3)


def test_attributes_say_what_the_agent_knows_of_a_request() -> None:
    changed = tags(
        COUNT,
        TagRule("a", attribute="request.host"),
        TagRule("b", attribute="request.path"),
        TagRule("c", attribute="request.url_path"),
        TagRule("d", attribute="response.code"),
        TagRule("e", attribute="response.flags"),
    )
    (sample,) = samples(count(told(changed), asked(GET, '/a"?b=c')), COUNT)
    found = {name: sample.labels[name] for name in "abcde"}
    assert found == {"a": "api", "b": '/a\\"?b=c', "c": '/a\\"', "d": "200", "e": "-"}


def test_series_that_are_one_without_a_label_are_added_up() -> None:
    gone = TagRule("grpc_response_status"), TagRule("response_flags")
    changes = [tags(metric, *gone) for metric in REQUEST_METRICS]
    flagged = at_source(
        common=text_field(15, "outbound|80||web.shop.svc.cluster.local") + b"\x82\x01\x02\x30\x01"
    )
    text = count(told(*changes), at_source(), flagged)
    (counted,) = samples(text, COUNT)
    assert counted.value == 2
    (size,) = samples(text, "istio_request_bytes_sum")
    assert size.value == 200
    (bucket,) = [s for s in samples(text, "istio_request_bytes_bucket") if s.labels["le"] == "100"]
    assert bucket.value == 2


def test_sides_that_are_one_without_the_reporter_are_told_once() -> None:
    sides: tuple[Direction, Direction] = ("egress", "ingress")
    gone = tuple(TagRule(label) for label in LABELS)
    telemetry = told(*(MetricChange(side, metric, tags=gone) for side in sides for metric in REQUEST_METRICS))
    message = at_destination().replace(WEB_IP.encode(), CLIENT_IP.encode())
    text = count(telemetry, at_source(), message)
    (sample,) = samples(text, COUNT)
    assert (sample.labels, sample.value) == ({}, 2)
    assert 'istio_request_bytes_bucket{le="+Inf"} 2\n' in text
    all_pods = telemetry.texts()
    assert f'{COUNT}{{namespace="street",pod="client"}} 2\n' in all_pods
    assert 'istio_request_bytes_bucket{namespace="street",pod="client",le="+Inf"} 2\n' in all_pods


def test_connections_have_labels_of_their_own_and_no_attribute() -> None:
    telemetry, rows = (
        told(
            MetricChange("egress", "istio_tcp_sent_bytes_total", disabled=True),
            tags("istio_tcp_received_bytes_total", TagRule("m", attribute="request.method")),
        ),
        Rows(),
    )
    rows.count(row(CLIENT_IP, WEB_IP, opener=1), 3, 2, 10, 5000)
    telemetry.add_traffic(Traffic(rows).read())
    text = telemetry.text(CLIENT)
    assert [name for name in CONNECTION_METRICS if f"# TYPE {name} counter" in text] == [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "istio_tcp_received_bytes_total",
    ]
    (opened,) = samples(text, "istio_tcp_connections_opened_total")
    (received,) = samples(text, "istio_tcp_received_bytes_total")
    assert (list(opened.labels), opened.value) == (TCP_LABELS, 3)
    assert (received.labels["m"], received.value) == ("unknown", 10)


def test_a_client_cannot_make_up_long_labels_or_endless_series() -> None:
    telemetry = told(tags(COUNT, TagRule("p", attribute="request.path")))
    (sample,) = samples(count(telemetry, asked(GET, "/" + "a" * 5000)), COUNT)
    assert len(sample.labels["p"]) == 128
    count(telemetry, *(asked(GET, f"/{number}") for number in range(SERIES + 5)))
    assert telemetry.series == SERIES and telemetry.dropped > 0
    assert value(telemetry.text(CLIENT), "istio_request_bytes_count") == SERIES + 6, "they go on"


def test_metrics_begin_anew_when_what_is_said_of_them_changes() -> None:
    telemetry = Telemetry(names())
    assert value(count(telemetry, at_source()), COUNT) == 1
    team = record(tags(COUNT, TagRule("team", "blue")))
    telemetry.follow(Change("type", "client", None, team))
    assert telemetry.text(CLIENT) == ""
    assert value(count(telemetry, at_source()), COUNT, team="blue") == 1
    telemetry.follow(Change("type", "client", team, None))
    text = count(telemetry, at_source())
    assert (value(text, COUNT), value(text, COUNT, team="blue")) == (1, 0)
