"""What DestinationRules say of connections and retries, asked of a real Envoy."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.traffic.shop import Served, destination_rule, to, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.conftest import Serve

_WEB = "cluster.outbound|80||web.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("policy", "tried_again"),
    [
        ({"retryBudget": {"percent": 0, "minRetryConcurrency": 1}}, 1),
        # A budget counts in place of maxRetries.
        (
            {
                "retryBudget": {"percent": 0, "minRetryConcurrency": 100},
                "connectionPool": {"http": {"maxRetries": 1}},
            },
            6,
        ),
    ],
)
def test_no_more_requests_are_tried_again_at_once_than_the_budget_allows(
    policy: dict[str, Any], tried_again: int, serve: Serve
) -> None:
    slow = {name: Backend(name) for name in ("one", "two")}
    retries = {"attempts": 1, "perTryTimeout": "0.4s", "retryOn": "5xx"}
    shop = Served(
        serve,
        slow,
        virtual_service({"retries": retries, "route": [to()]}),
        destination_rule(trafficPolicy=policy),
    )
    waiting = [socket.create_connection(("127.0.0.1", shop.port()), timeout=10) for _ in range(6)]
    try:
        for connection in waiting:
            connection.sendall(b"GET /slow HTTP/1.1\r\nhost: web\r\n\r\n")
        for connection in waiting:
            assert connection.recv(65536).startswith(b"HTTP/1.1 504")
        assert _counted(shop, "upstream_rq_retry") == tried_again
        assert _counted(shop, "upstream_rq_retry_overflow") == 6 - tried_again
    finally:
        for connection in waiting:
            connection.close()
        for server in slow.values():
            server.stop()


def _counted(shop: Served, name: str) -> int:
    lines = dict(line.rsplit(": ", 1) for line in shop.proxy.admin("/stats?filter=outbound").splitlines())
    return int(lines[f"{_WEB}.{name}"])
