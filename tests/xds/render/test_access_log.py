"""What Envoy tells the agent of each request."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.model import HttpMatch
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view

SERVICE = "envoy.service.accesslog.v3.AccessLogService"


@pytest.fixture
def logged(folder: Path) -> Iterator[queue.Queue[tuple[str, Any]]]:
    """(log name, HTTPAccessLogEntry) of every request, as the agent would receive them."""
    from envoy_data_plane.envoy.service.accesslog.v3 import StreamAccessLogsMessage

    entries: queue.Queue[tuple[str, Any]] = queue.Queue()

    def receive(stream: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
        name = ""
        for data in stream:
            message = StreamAccessLogsMessage.parse(data)
            name = message.identifier.log_name if message.identifier else name
            for found in message.http_logs.log_entry if message.http_logs else []:
                entries.put((name, found))
        return b""

    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(receive)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{folder}/als.sock")
    server.start()
    yield entries
    server.stop(grace=None).wait()


def test_a_record_names_the_class_that_judged_or_the_rule_that_routed(
    folder: Path, servers: dict[str, Backend], logged: queue.Queue[tuple[str, Any]]
) -> None:
    proxy = Proxy(
        view(
            routed=(routed("api", entry(prefix("/api"), to("api"), field="rules[2]")),),
            destinations=(destination("api", part(servers["one"].port)),),
            ingress=(l7(300, "ingress", HttpMatch(path="/a.*")),),
        ),
        folder,
        passthrough=("127.0.0.1", servers["two"].port),
    )
    try:
        routes, judges = (proxy.ports[n] for n in ("api.shop.svc.cluster.local:80", "virtualInbound|300"))
        asked = [ask(routes, "/api?x=1"), ask(routes, "/none"), ask(judges, "/a"), ask(judges, "/b")]
        assert [answer.status for answer in asked] == [200, 404, 200, 403]
        records = {}
        for _ in asked:
            name, record = logged.get(timeout=10)
            records[name, record.request.path] = record
    finally:
        proxy.stop()

    def summary(name: str, path: str) -> tuple[int | None, str, str, int]:
        record = records[name, path]
        common, response = record.common_properties, record.response
        upstream = common.upstream_remote_address
        port = upstream.socket_address.port_value if upstream else 0
        return response.response_code, common.route_name, response.response_code_details, port

    one, two = servers["one"].port, servers["two"].port
    assert summary("virtualOutbound", "/api?x=1") == (200, "HTTPRoute shop/api rules[2]", "via_upstream", one)
    assert summary("virtualOutbound", "/none") == (404, "", "route_not_found", 0)
    assert summary("virtualInbound|300", "/a") == (200, "inbound|300", "via_upstream", two)
    denied = "rbac_access_denied_matched_policy[none]"
    assert summary("virtualInbound|300", "/b") == (403, "inbound|300", denied, 0)
    judged = records["virtualInbound|300", "/a"].common_properties.metadata.filter_metadata
    assert judged["envoy.filters.http.rbac"].to_dict() == {
        "enforced_engine_result": "allowed",
        "enforced_effective_policy_id": (
            "CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[0].toPorts[0]]"
        ),
    }
