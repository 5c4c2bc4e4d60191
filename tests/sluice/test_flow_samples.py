from __future__ import annotations

from mesh.answers.flow import Flow, Peer, Request
from mesh.model import Direction
from sluice.flow_samples import samples_of

WEB, API = Peer("10.64.0.2", 40000, "shop", "web"), Peer("10.64.0.3", 80, "shop", "api")
GET = Request("GET", "/", "api", 200, 1.0)


def flow(time: str, source: Peer = WEB, direction: Direction = "egress", l7: Request | None = None) -> Flow:
    return Flow(time, source, API, "FORWARDED", "kernel", direction, "TCP", l7=l7)


def test_flows_that_are_alike_are_one_sample_the_newest_with_a_count() -> None:
    later = Peer("10.64.0.2", 40001, "shop", "web")
    (sample,) = samples_of([flow("1"), flow("2", later)])
    assert (sample.flow.time, sample.count) == ("2", 2)


def test_a_connection_that_both_ends_tell_of_counts_once() -> None:
    (sample,) = samples_of(
        [flow("1"), flow("1", direction="ingress"), flow("2"), flow("2", direction="ingress")]
    )
    assert sample.count == 2


def test_other_callers_and_other_requests_are_other_samples() -> None:
    put = Request("PUT", "/", "api", 200, 1.0)
    found = samples_of([flow("1"), flow("2", Peer("192.0.2.1", 5)), flow("3", l7=GET), flow("4", l7=put)])
    assert [sample.count for sample in found] == [1, 1, 1, 1]


def test_a_request_is_alike_whatever_became_of_it() -> None:
    slow = Request("GET", "/", "api", 503, 900.0)
    assert [sample.count for sample in samples_of([flow("1", l7=GET), flow("2", l7=slow)])] == [2]
