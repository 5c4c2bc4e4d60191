from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Fault
from tests.istio_integration.virtual_service import ROUTE, refused_rule, rule


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"delay": {"fixedDelay": "5s"}}, Fault(delay_ms=5000)),
        ({"delay": {"fixedDelay": "5s", "percent": 5}}, Fault(delay_ms=5000, delayed=50_000)),
        (
            {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}}},
            Fault(delay_ms=7000, delayed=1000),
        ),
        ({"abort": {"httpStatus": 500, "percentage": {"value": 100}}}, Fault(status=500, aborted=1_000_000)),
        ({"abort": {"grpcStatus": "UNAVAILABLE"}}, Fault(grpc_status=14)),
    ],
)
def test_faults(written: Any, means: Fault) -> None:
    assert rule(ROUTE | {"fault": written}).fault == means


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        (ROUTE | {"fault": {}}, "fault", "says nothing"),
        (ROUTE | {"fault": {"delay": {}}}, "fault.delay.fixedDelay", "is required"),
        (
            ROUTE | {"fault": {"delay": {"exponentialDelay": "1s"}}},
            "fault.delay.exponentialDelay",
            "not supported",
        ),
        (ROUTE | {"fault": {"abort": {}}}, "fault.abort", "needs httpStatus"),
        (ROUTE | {"fault": {"abort": {"http2Error": "a"}}}, "fault.abort.http2Error", "not supported"),
        (ROUTE | {"fault": {"abort": {"httpStatus": 100}}}, "fault.abort.httpStatus", "must be 200 to 599"),
        (ROUTE | {"fault": {"abort": {"grpcStatus": "14"}}}, "fault.abort.grpcStatus", "write UNAVAILABLE"),
        (ROUTE | {"fault": {"abort": {"grpcStatus": "GONE"}}}, "fault.abort.grpcStatus", "such as"),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "grpcStatus": "OK"}}},
            "fault.abort.grpcStatus",
            "beside httpStatus",
        ),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 101}}}},
            "fault.abort.percentage.value",
            "must be 0 to 100",
        ),
        (
            ROUTE | {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 0.00001}}}},
            "fault.abort.percentage.value",
            "smallest",
        ),
    ],
)
def test_what_is_wrong_in_a_fault_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
