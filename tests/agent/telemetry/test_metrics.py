"""Istio's standard metrics: names, labels and order are a contract that dashboards rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.names import Names
from agent.records import Change
from agent.telemetry.conversation import host_of_cluster
from agent.telemetry.registry import SERIES
from agent.telemetry.telemetry import Telemetry
from agent.telemetry.traffic import Traffic
from bpf.layout import NO_ADDRESS, TrafficKey, TrafficValue, packed_address
from mesh.discovery.wire import bytes_field, integer_field, text_field
from mesh.model import ServiceName, WorkloadName
from mesh.node import Canonical, PodRecord, ServicePortRecord, ServiceRecord, WorkloadRecord
from tests.access_log import requests, tls
from tests.agent.telemetry.samples import samples, value

WEB, CLIENT = WorkloadName("shop", "web-7d9f-abcde"), WorkloadName("street", "client")
VIP, WEB_IP, CLIENT_IP = "10.128.0.1", "10.0.0.2", "10.0.0.1"

#: The labels of istio_requests_total as Istio's proxy prints them, and their order.
LABELS = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
]

TCP_LABELS = [label for label in LABELS if label not in ("response_code", "grpc_response_status")]


#: Istio's counters of messages have these only (istio/proxy, testdata/metric/server_request_messages).
MESSAGE_LABELS = LABELS[: LABELS.index("request_protocol")]

EDGE, EDGE_IP = WorkloadName("shop", "edge"), "10.0.0.3"
API = "api.example.com"


def names() -> Names:
    made = Names()
    web = Canonical("web", "web", "v1", "shop-web", "v1")
    client = Canonical("client", "", "", "client", "latest")
    service = ServiceName("shop", "web")
    records = (
        WorkloadRecord(WEB, 300, ((WEB_IP, 0),), "node1", web),
        WorkloadRecord(CLIENT, 301, ((CLIENT_IP, 0),), "node1", client),
        ServiceRecord(service, (VIP,), 0, (ServicePortRecord(80, "TCP", ((WEB_IP, 8080),)),)),
        WorkloadRecord(EDGE, 302, ((EDGE_IP, 0),), "node1", Canonical("edge", "", "", "edge", "latest")),
        PodRecord(EDGE, (EDGE_IP,), 302, gateway=(8090,)),
        ServiceRecord(
            ServiceName("shop", "edge"), (), 0, (ServicePortRecord(8090, "TCP", ((EDGE_IP, 8090),)),)
        ),
        ServiceRecord(ServiceName("street", API), (), 0, ()),
    )
    for number, record in enumerate(records):
        made.follow(Change("type", str(number), None, record))
    return made


def logged(local: str, remote: str, upstream: str, port: int = 80, **more: bytes) -> bytes:
    """A message of Envoy's access-log stream, one request: 12 ms, 100 bytes in, 2000 out, 200."""

    def address(ip: str, port: int) -> bytes:
        return bytes_field(1, text_field(2, ip) + integer_field(3, port))

    common = (
        bytes_field(3, address(local, port))
        + bytes_field(13, address(upstream, 8080))
        + bytes_field(20, address(remote, 40000))
        + bytes_field(23, integer_field(2, 12_000_000))
        + integer_field(29, 2000)
        + integer_field(30, 100)
        + more.get("common", b"")
    )
    response = bytes_field(1, integer_field(1, 200)) + more.get("response", b"")
    entry = bytes_field(1, common) + bytes_field(3, more.get("request", b"")) + bytes_field(4, response)
    return bytes_field(2, bytes_field(1, entry))


OUTBOUND = text_field(15, "outbound|80||web.shop.svc.cluster.local")


def at_source(**more: bytes) -> bytes:
    return logged(VIP, "127.0.0.1", WEB_IP, common=more.pop("common", OUTBOUND), **more)


def at_destination(**more: bytes) -> bytes:
    return logged(WEB_IP, CLIENT_IP, WEB_IP, 8080, **more)


def told(message: bytes, pod: WorkloadName, address: str) -> str:
    telemetry = Telemetry(names())
    for request in requests(message):
        telemetry.add_request(pod, (address,), request)
    return telemetry.text(pod)


def test_a_request_has_istios_25_labels_in_istios_order() -> None:
    text = told(at_source(), CLIENT, CLIENT_IP)
    (sample,) = samples(text, "istio_requests_total")
    assert list(sample.labels) == LABELS
    assert sample.labels == {
        "reporter": "source",
        "source_workload": "client",
        "source_canonical_service": "client",
        "source_canonical_revision": "latest",
        "source_workload_namespace": "street",
        "source_principal": "unknown",
        "source_app": "unknown",
        "source_version": "unknown",
        "source_cluster": "Kubernetes",
        "destination_workload": "web",
        "destination_workload_namespace": "shop",
        "destination_principal": "unknown",
        "destination_app": "web",
        "destination_version": "v1",
        "destination_service": "web.shop.svc.cluster.local",
        "destination_canonical_service": "shop-web",
        "destination_canonical_revision": "v1",
        "destination_service_name": "web",
        "destination_service_namespace": "shop",
        "destination_cluster": "Kubernetes",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }


def test_the_destination_reports_who_called_and_the_service_it_stands_behind() -> None:
    (sample,) = samples(told(at_destination(), WEB, WEB_IP), "istio_requests_total")
    labels = sample.labels
    assert (labels["reporter"], labels["connection_security_policy"]) == ("destination", "none")
    assert (labels["source_workload"], labels["destination_workload"]) == ("client", "web")
    assert labels["destination_service"] == "web.shop.svc.cluster.local"


PEER, OWN = "spiffe://cluster.local/ns/street/sa/client", "spiffe://cluster.local/ns/shop/sa/web"


def security(message: bytes, pod: WorkloadName = WEB, ip: str = WEB_IP) -> tuple[str, str, str, str]:
    """Who reports, the policy and both principals."""
    (sample,) = samples(told(message, pod, ip), "istio_requests_total")
    names = ("reporter", "connection_security_policy", "source_principal", "destination_principal")
    a, b, c, d = (sample.labels[name] for name in names)
    return a, b, c, d


def test_the_destination_says_that_a_request_came_over_mutual_tls_and_between_whom() -> None:
    text = told(at_destination(common=tls(PEER, OWN)), WEB, WEB_IP)
    (sample,) = samples(text, "istio_requests_total")
    assert list(sample.labels) == LABELS
    assert security(at_destination(common=tls(PEER, OWN))) == ("destination", "mutual_tls", PEER, OWN)


def test_without_an_identity_on_both_sides_it_is_no_mutual_tls() -> None:
    """Istio: a principal that is there is told all the same."""
    for message, principals in (
        (tls("", OWN), ("unknown", OWN)),
        (tls("https://shop.example", OWN), ("unknown", OWN)),
        (tls(PEER, ""), (PEER, "unknown")),
        (bytes_field(4, bytes_field(4, b"") + bytes_field(5, b"")), ("unknown", "unknown")),
    ):
        assert security(at_destination(common=message)) == ("destination", "none", *principals)


def test_who_reports_as_source_knows_nothing_of_tls() -> None:
    """A Gateway's record is about its client, its labels about what it leads on."""
    unknown = ("source", "unknown", "unknown", "unknown")
    assert security(at_source(common=OUTBOUND + tls(PEER, OWN)), CLIENT, CLIENT_IP) == unknown
    routed = logged(EDGE_IP, CLIENT_IP, WEB_IP, 8090, common=OUTBOUND + tls(PEER, OWN))
    assert security(routed, EDGE, EDGE_IP) == unknown


def test_the_callers_namespace_is_that_of_its_identity_before_that_of_its_address() -> None:
    def namespaces(peer: str, remote: str = CLIENT_IP) -> tuple[str, str]:
        message = logged(WEB_IP, remote, WEB_IP, 8080, common=tls(peer, "spiffe://example/ns/b/sa/c"))
        (sample,) = samples(told(message, WEB, WEB_IP), "istio_requests_total")
        return sample.labels["source_workload_namespace"], sample.labels["destination_workload_namespace"]

    assert namespaces("spiffe://cluster.local/ns/far/sa/client") == ("far", "shop")
    assert namespaces("spiffe://cluster.local/ns/far/sa/client", "192.0.2.9") == ("far", "shop")
    assert namespaces("spiffe://example/billing") == ("street", "shop")


def test_who_is_no_workload_is_unknown_and_never_named_by_what_it_sent() -> None:
    stranger = logged(WEB_IP, "192.0.2.9", WEB_IP, 9999, request=text_field(3, "bank.example"))
    (sample,) = samples(told(stranger, WEB, WEB_IP), "istio_requests_total")
    labels = sample.labels
    assert (
        labels["source_workload"] == labels["source_workload_namespace"] == labels["source_app"] == "unknown"
    )
    assert (labels["source_cluster"], labels["source_canonical_revision"]) == ("unknown", "latest")
    # Istio: where no Service leads to that port, the workload's canonical service, and its cluster's name.
    assert (labels["destination_service"], labels["destination_service_name"]) == (
        "shop-web",
        "InboundPassthroughCluster",
    )
    assert labels["destination_service_namespace"] == "shop"


def test_a_gateway_reports_what_it_leads_on_as_source_and_names_nobody_where_no_route_fits() -> None:
    routed = logged(EDGE_IP, CLIENT_IP, WEB_IP, 8090, common=OUTBOUND)
    (sample,) = samples(told(routed, EDGE, EDGE_IP), "istio_requests_total")
    labels = sample.labels
    assert (labels["reporter"], labels["connection_security_policy"]) == ("source", "unknown")
    assert (labels["source_workload"], labels["destination_workload"]) == ("edge", "web")
    assert labels["destination_service_name"] == "web"
    (sample,) = samples(told(logged(EDGE_IP, CLIENT_IP, "", 8090), EDGE, EDGE_IP), "istio_requests_total")
    found = {value for name, value in sample.labels.items() if name.startswith("destination_")}
    assert sample.labels["reporter"] == "source" and found == {"unknown", "latest"}


def test_a_request_that_the_judges_hand_on_to_the_gateway_beside_them_is_told_by_that() -> None:
    judged = logged(EDGE_IP, CLIENT_IP, EDGE_IP, 8090, common=text_field(15, "InboundPassthroughCluster"))
    assert told(judged, EDGE, EDGE_IP) == ""


def test_scrapes_go_past_what_is_counted() -> None:
    assert told(logged(WEB_IP, CLIENT_IP, WEB_IP, 15020), WEB, WEB_IP) == ""
    away = logged("192.0.2.1", "127.0.0.1", "192.0.2.1", 15020)
    assert value(told(away, CLIENT, CLIENT_IP), "istio_requests_total") == 1


def test_the_namespace_of_a_service_is_that_of_its_entry_or_of_who_was_reached() -> None:
    def namespace(cluster: str, upstream: str) -> str:
        message = logged("192.0.2.1", "127.0.0.1", upstream, common=text_field(15, cluster))
        (sample,) = samples(told(message, CLIENT, CLIENT_IP), "istio_requests_total")
        return sample.labels["destination_service_namespace"]

    assert namespace(f"outbound|443||{API}", "192.0.2.9") == "street"
    assert namespace("outbound|443||other.example.com", "192.0.2.9") == "unknown"
    assert namespace("PassthroughCluster", EDGE_IP) == "shop"


def test_what_is_gone_is_not_named_and_another_on_its_address_stays() -> None:
    made, api = names(), ServiceRecord(ServiceName("street", API), (), 0, ())
    edge = PodRecord(EDGE, (EDGE_IP,), 302, gateway=(8090,))
    assert made.entry(API) == api.name and made.is_gateway(EDGE_IP, 8090)
    made.follow(Change("type", "other", None, replace(edge, name=CLIENT)))
    for record in (edge, api):
        made.follow(Change("type", "gone", record, None))
    assert made.entry(API) is None and made.is_gateway(EDGE_IP, 8090)
    made.follow(Change("type", "other", replace(edge, name=CLIENT), None))
    assert not made.is_gateway(EDGE_IP, 8090)


def test_duration_and_bytes_are_histograms_with_envoys_buckets() -> None:
    text = told(at_source(), CLIENT, CLIENT_IP)
    assert value(text, "istio_request_duration_milliseconds_sum") == 12
    assert value(text, "istio_request_duration_milliseconds_bucket", le="10") == 0
    assert value(text, "istio_request_duration_milliseconds_bucket", le="25") == 1
    assert value(text, "istio_request_bytes_sum") == 100
    assert value(text, "istio_response_bytes_sum") == 2000
    ends = [s.labels["le"] for s in samples(text, "istio_request_bytes_bucket")]
    assert ends == [
        "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000",
        "60000", "300000", "600000", "1800000", "3600000", "+Inf",
    ]  # fmt: skip
    assert value(text, "istio_request_bytes_bucket", le="100") == 1, "a bound belongs to its bucket"
    assert "# TYPE istio_request_bytes histogram" in text


def test_grpc_is_told_by_its_content_type_and_its_status_by_the_trailer() -> None:
    grpc = bytes_field(13, text_field(1, "content-type") + text_field(2, "application/grpc+proto"))
    trailer = bytes_field(5, text_field(1, "grpc-status") + text_field(2, "7"))
    (sample,) = samples(told(at_source(request=grpc, response=trailer), CLIENT, CLIENT_IP), "istio_requests")
    assert (sample.labels["request_protocol"], sample.labels["grpc_response_status"]) == ("grpc", "7")
    web = bytes_field(13, text_field(1, "content-type") + text_field(2, "application/grpc-web"))
    (sample,) = samples(told(at_source(request=web, response=trailer), CLIENT, CLIENT_IP), "istio_requests")
    assert (sample.labels["request_protocol"], sample.labels["grpc_response_status"]) == ("http", "")


@pytest.mark.parametrize(
    ("status", "code", "told_as"),
    [
        ("0", 200, "0"),
        ("16", 200, "16"),
        ("17", 200, "-1"),
        ('x",a="b', 200, "-1"),
        ("", 200, "2"),
        ("", 404, "12"),
        ("", 503, "14"),
        ("", 0, ""),
    ],
)
def test_the_status_of_a_call_is_one_of_grpcs_and_inferred_where_the_answer_has_none(
    status: str, code: int, told_as: str
) -> None:
    """A server cannot make series up."""
    telemetry = Telemetry(names())
    for is_grpc in (True, False):
        (request,) = requests(at_source())
        request.is_grpc, request.grpc_status, request.status = is_grpc, status, code
        telemetry.add_request(CLIENT, (CLIENT_IP,), request)
    found = samples(telemetry.text(CLIENT), "istio_requests_total")
    assert [(s.labels["request_protocol"], s.labels["grpc_response_status"]) for s in found] == [
        ("grpc", told_as),
        ("http", ""),
    ]


def test_messages_of_calls_have_istios_20_labels_however_their_calls_end() -> None:
    telemetry = Telemetry(names())
    for status in ("0", "7"):
        (request,) = requests(at_source())
        request.is_grpc, request.grpc_status, request.messages = True, status, (1, 2)
        telemetry.add_request(CLIENT, (CLIENT_IP,), request)
    text = telemetry.text(CLIENT)
    (asked,) = samples(text, "istio_request_messages_total")
    (answered,) = samples(text, "istio_response_messages_total")
    assert (asked.value, answered.value) == (2, 4)
    assert list(asked.labels) == list(answered.labels) == MESSAGE_LABELS
    assert len(samples(text, "istio_requests_total")) == 2


def test_response_flags_are_envoys_short_ones() -> None:
    flags = integer_field(6, 1) + integer_field(16, 1)
    (sample,) = samples(
        told(at_source(common=OUTBOUND + bytes_field(16, flags)), CLIENT, CLIENT_IP), "istio_requests"
    )
    assert sample.labels["response_flags"] == "UF,URX"


def test_what_is_passed_on_names_the_service_of_its_backend_or_istios_cluster() -> None:
    passed = text_field(15, "PassthroughCluster")
    (known,) = samples(
        told(logged(WEB_IP, "127.0.0.1", WEB_IP, 8080, common=passed), CLIENT, CLIENT_IP), "istio_requests"
    )
    assert known.labels["destination_service_name"] == "web"
    (world,) = samples(
        told(logged("192.0.2.1", "127.0.0.1", "192.0.2.1", common=passed), CLIENT, CLIENT_IP),
        "istio_requests",
    )
    assert world.labels["destination_service_name"] == "PassthroughCluster"
    assert world.labels["destination_service"] == "unknown"


def test_a_clusters_name_says_which_service_it_leads_to() -> None:
    assert host_of_cluster("outbound|80|300|web.shop.svc.cluster.local") == (
        "web.shop.svc.cluster.local",
        "web",
        "shop",
    )
    assert host_of_cluster("outbound|443||api.example.com") == (
        "api.example.com",
        "api.example.com",
        "unknown",
    )
    assert host_of_cluster("InboundPassthroughCluster") is None


def test_a_pod_has_so_many_series_and_what_needs_more_is_counted() -> None:
    telemetry = Telemetry(names())
    for number in range(SERIES + 5):
        (request,) = requests(at_source())
        request.status = number
        telemetry.add_request(CLIENT, (CLIENT_IP,), request)
    assert (telemetry.series, telemetry.dropped) == (SERIES, 5)


def test_pods_are_told_apart_by_the_labels_that_prometheus_would_add() -> None:
    telemetry = Telemetry(names())
    for message, pod, address in ((at_source(), CLIENT, CLIENT_IP), (at_destination(), WEB, WEB_IP)):
        for request in requests(message):
            telemetry.add_request(pod, (address,), request)
    text = telemetry.texts()
    assert value(text, "istio_requests_total", namespace="street", pod="client", reporter="source") == 1
    assert value(text, "istio_requests_total", namespace="shop", pod=WEB.name, reporter="destination") == 1
    assert text.count("# TYPE istio_requests_total counter") == 1
    telemetry.keep([WEB])
    assert telemetry.pods == {WEB}


# --- TCP --------------------------------------------------------------------------------------------------


class Rows:
    """The kernel's table."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def count(self, key: TrafficKey, *values: int) -> None:
        self.rows[key.pack()] = TrafficValue(*values).pack()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(list(self.rows.items()))

    def take(self, key: bytes) -> bytes | None:
        return self.rows.pop(key, None)


def row(pod: str, peer: str, *, opener: int, vip: str = "") -> TrafficKey:
    at = packed_address(vip) if vip else NO_ADDRESS
    return TrafficKey(packed_address(pod), packed_address(peer), at, 8080, opener)


def test_tcp_is_counted_by_both_ends_with_istios_labels_and_istios_sides() -> None:
    """Sent is what the end that opened got, whoever reports it."""
    rows, telemetry = Rows(), Telemetry(names())
    rows.count(row(CLIENT_IP, WEB_IP, opener=1, vip=VIP), 3, 2, 10, 5000)
    rows.count(row(WEB_IP, CLIENT_IP, opener=0), 3, 2, 5000, 10)
    telemetry.add_traffic(Traffic(rows).read())
    for pod, reporter in ((CLIENT, "source"), (WEB, "destination")):
        text = telemetry.text(pod)
        (opened,) = samples(text, "istio_tcp_connections_opened_total")
        assert list(opened.labels) == TCP_LABELS
        assert (opened.value, opened.labels["reporter"]) == (3, reporter)
        assert opened.labels["request_protocol"] == "tcp"
        assert opened.labels["destination_service"] == "web.shop.svc.cluster.local"
        assert value(text, "istio_tcp_connections_closed_total") == 2
        assert value(text, "istio_tcp_sent_bytes_total") == 5000
        assert value(text, "istio_tcp_received_bytes_total") == 10


def test_only_what_is_new_is_added_and_a_row_at_rest_is_taken_out() -> None:
    rows, telemetry = Rows(), Telemetry(names())
    traffic, key = Traffic(rows), row(WEB_IP, CLIENT_IP, opener=0)

    def opened() -> float:
        telemetry.add_traffic(traffic.read())
        return value(telemetry.text(WEB), "istio_tcp_connections_opened_total")

    rows.count(key, 2, 1, 0, 0)
    assert [opened(), opened()] == [2, 2]
    assert rows.rows, "one is open"
    rows.count(key, 3, 3, 0, 0)
    assert opened() == 3
    assert rows.rows, "who came now may come again"
    assert opened() == 3
    assert not rows.rows
    rows.count(key, 1, 0, 0, 0)
    assert opened() == 4


def test_what_an_error_kept_from_being_read_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    traffic, keys = Traffic(rows), [row(WEB_IP, peer, opener=0) for peer in (CLIENT_IP, "10.0.0.9")]
    for key in keys:
        rows.count(key, 5, 1, 0, 0)
    assert [more.opened for _, more in traffic.read()] == [5, 5]
    whole = rows.items

    def torn() -> Iterator[tuple[bytes, bytes]]:
        yield next(whole())
        raise OSError("the table is busy")

    monkeypatch.setattr(rows, "items", torn)
    with pytest.raises(OSError, match="busy"):
        traffic.read()
    monkeypatch.undo()
    assert traffic.read() == []


def test_what_is_counted_while_a_row_is_taken_out_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    traffic, key = Traffic(rows), row(WEB_IP, CLIENT_IP, opener=0)
    rows.count(key, 1, 1, 0, 0)
    traffic.read()
    monkeypatch.setattr(rows, "take", lambda _: TrafficValue(2, 1, 0, 0).pack())
    assert [more.opened for _, more in traffic.read()] == [1]


def test_rows_of_a_pod_that_is_gone_belong_to_nobody() -> None:
    telemetry = Telemetry(Names())
    telemetry.add_traffic([(row(WEB_IP, CLIENT_IP, opener=0), TrafficValue(1))])
    assert telemetry.texts() == ""
