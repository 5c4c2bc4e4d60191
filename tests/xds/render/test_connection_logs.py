"""What the agent says of a connection that stayed in the kernel is what a real Envoy says of the same one."""

from __future__ import annotations

import json
import random
import socket

import pytest

from agent.connection_logs import template
from agent.connection_logs.connection import Connection, Endpoint
from agent.connection_logs.log_sender import LogSender
from istio_integration import log_format
from mesh.model import AccessLogProvider, ConnectionMatch, ConnectionRule, ServiceName
from mesh.node import Collector, ConnectionLog
from mesh.observability.cel import compiled
from mesh.proxy import AccessLog, ConnectionEntry
from tests.istio_integration.test_access_logging import RIGHT_EXPRESSIONS
from tests.xds.render.collector import OtlpCollector
from tests.xds.render.conftest import Serve
from tests.xds.render.test_access_logging import RESOURCE, ROUTED, expression, lines
from tests.xds.render.views import ROUTE, destination, part, routed, to, view

#: What no two connections have in common, and what an Envoy has two of: its end of the other connection.
OWN = {
    "CONNECTION_ID", "DURATION", "HOSTNAME", "STREAM_ID", "UNIQUE_ID", "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_LOCAL_PORT",
    "FILTER_CHAIN_NAME",
}  # fmt: skip
COMMANDS = [f"%{name}%" for name in sorted(log_format.PLAIN - OWN)] + [
    *("%REQ(:PATH)%", "%RESP(A?B):3%", "%TRAILER(A)%", "%REQ_WITHOUT_QUERY(:PATH)%"),
    *(
        "%DYNAMIC_METADATA(a:b)%",
        "%CLUSTER_METADATA(a)%",
        "%UPSTREAM_METADATA(a)%",
        "%FILTER_STATE(a:PLAIN)%",
    ),
    *("100%%", "plain", "%START_TIME%", "%START_TIME(%Y-%m-%d %T %% %s %3f %f %b %j)%"),
]
LABELS = {
    **{f"{index:02}": command for index, command in enumerate(COMMANDS)},
    "both": "%RESPONSE_FLAGS%/%BYTES_SENT%",
    "in": {'é"\\': "%BYTES_RECEIVED%", "none": "%PROTOCOL%", "empty": {"none": "%PROTOCOL%"}},
    "number": 7,
    "yes": True,
}
SENT, RECEIVED = b"12345", b"123456789"
#: Whose answer differs from one connection to the next.
VARYING = ("connection.id", "request.duration", "request.time", "upstream.local_address", "filter_chain_name")


def provider(name: str, text: str = "", labels: str = "", *, omit: bool = False) -> AccessLogProvider:
    return AccessLogProvider(name, "file", text, labels, "/dev/stdout", omit)


@pytest.fixture(scope="module")
def seen(serve: Serve) -> tuple[Connection, list[str]]:
    """A connection, and what an Envoy wrote of it."""
    onward = ConnectionEntry(ROUTE, ConnectionMatch(), ConnectionRule("tcp[0]", "tcp", (), (to("api"),)))
    everything, fields = "all " + " | ".join(COMMANDS) + "\n", json.dumps(LABELS)
    logs = [AccessLog(provider("e", f"kept {index}\n"), text) for index, text in enumerate(expressions())]
    logs += [
        AccessLog(provider("a", everything)),
        AccessLog(provider("b", f"omit {everything}", omit=True)),
        AccessLog(provider("c", labels=fields)),
        AccessLog(provider("d", labels=fields, omit=True)),
        AccessLog(provider("f", "start %START_TIME(%s.%9f)%\n")),
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shown = view(
            routed=(routed("api", connections=(onward,)),),
            destinations=(destination("api", part(port)),),
            egress_logs=tuple(logs),
        )
        proxy = serve(shown)
        dialled = proxy.ports[f"{ROUTED}-tcp"]
        with socket.create_connection(("127.0.0.1", dialled)) as client:
            own = client.getsockname()
            client.sendall(SENT)
            with server.accept()[0] as accepted:
                assert accepted.recv(99) == SENT
                accepted.sendall(RECEIVED)
            while client.recv(99):
                continue
    (start,) = lines(proxy, 1, "start ")
    seconds, fraction = start.removeprefix("start ").split(".")
    at = int(seconds) * 10**9 + int(fraction)
    cluster = "outbound|80||api.shop.svc.cluster.local"
    ends = Endpoint(*own), Endpoint("127.0.0.1", dialled), Endpoint("127.0.0.1", port)
    return Connection("egress", at, at + 10**7, *ends, cluster, len(SENT), len(RECEIVED)), lines(proxy, 1)


def expressions() -> list[str]:
    chance = random.Random(7)
    found = [*RIGHT_EXPRESSIONS, *(expression(chance) for _ in range(300))]
    return [
        *(f"{name} == {value}" for name, value in ASKED.items()),
        *(f"has({name})" for name in ASKED),
        *MORE,
        *(text for text in found if not any(name in text for name in VARYING)),
    ]


#: Where an error decides, or what is compared is of two kinds.
MORE = (
    "connection.mtls || true || request.path == 'a'",
    "request.path == 'a' || true",
    "request.path == 'a' && false || true",
    "!(request.path == 'a' && false)",
    "!(request.path.startsWith('a') && false)",
    "!(request.path.matches('a') && false)",
    "!(false && request.path.matches('a'))",
    "!(request.path == 'a')",
    "!has(request.path)",
    "true || true && false",
    "1 == 1.0 && 1 < 1.5 && !('1' == 1) && 'a' < 'b' && int(true) == 1 && int('-3') == -3 && int(1.9) == 1",
    "true == 1",
    "'1' != 1",
    "'1' < 1",
    "request.time > 1",
    "int(request.time) > 1000000000",
    "request.duration < duration('1h') && duration('1m') == duration('60s')",
    "source.address.matches('^127[.]') && source.address.matches('0[.]1')",
    "'x' in request.headers || request.headers.size() == 0",
    "request.headers['x'] == 'y'",
    "source.port in [1, 2]",
    "response.flags in [1, 0] && size(source.address) > 8",
)

ASKED = {
    "connection.mtls": "false",
    "connection.requested_server_name": "''",
    "connection.tls_version": "''",
    "connection.termination_details": "''",
    "connection.transport_failure_reason": "''",
    "destination.address": "'127.0.0.1'",
    "request.headers": "''",
    "request.protocol": "''",
    "request.size": "5",
    "request.total_size": "5",
    "response.code": "0",
    "response.code_details": "''",
    "response.flags": "0",
    "response.grpc_status": "0",
    "response.headers": "''",
    "response.size": "9",
    "response.total_size": "9",
    "response.backend_latency": "0",
    "upstream.transport_failure_reason": "''",
    "upstream.request_attempt_count": "1",
    "xds.cluster_name": "'outbound|80||api.shop.svc.cluster.local'",
    "xds.route_name": "''",
    "xds.listener_direction": "2",
    "metadata.filter_metadata": "''",
    "filter_state.a": "''",
}


def test_a_filter_keeps_what_envoy_keeps(seen: tuple[Connection, list[str]]) -> None:
    connection, written = seen
    kept = {int(line.removeprefix("kept ")) for line in written if line.startswith("kept ")}
    found = expressions()
    said = connection.attributes()
    wrong = [
        (text, index in kept) for index, text in enumerate(found) if compiled(text)(said) != (index in kept)
    ]
    assert wrong == []
    assert 30 < len(kept) < len(found) - 30


@pytest.mark.parametrize("omit", [False, True])
def test_a_line_of_text_is_envoys(seen: tuple[Connection, list[str]], omit: bool) -> None:
    connection, written = seen
    start = "omit all " if omit else "all "
    (line,) = [line for line in written if line.startswith(start)]
    form = start + " | ".join(COMMANDS) + "\n"
    own = template.text(form, omit)(connection)
    values = (text.strip("\n").split(" | ") for text in (own, line))
    one, other = (dict(zip(COMMANDS, found, strict=True)) for found in values)
    assert one == other


@pytest.mark.parametrize("omit", [False, True])
def test_a_line_of_labels_is_envoys(seen: tuple[Connection, list[str]], omit: bool) -> None:
    connection, written = seen
    line = [line for line in written if line.startswith("{")][omit]
    own = template.labels(json.dumps(LABELS), omit)(connection)
    assert json.loads(own) == json.loads(line)
    assert own == f"{line}\n"


def test_records_of_connections_are_those_of_the_provider() -> None:
    """As `test_records_reach_a_collector_with_body_attributes_and_whose_they_are` has them of an Envoy."""
    collector = OtlpCollector()
    to = Collector("otel.shop.svc.cluster.local", 4317, ServiceName("shop", "otel"))
    own = ConnectionLog(
        "%BYTES_SENT% to %DOWNSTREAM_REMOTE_ADDRESS%", '{"code": "%RESPONSE_CODE%"}', resource=RESOURCE
    )
    ends = Endpoint("10.0.0.1", 40000), Endpoint("10.128.0.1", 80), Endpoint("fd00::2", 8080)
    connection = Connection("egress", 10**18, 10**18 + 1, *ends, "outbound|80||a", 1, 2)
    sender = LogSender(to, lambda _: (("127.0.0.1", collector.port),))
    try:
        sender.send([(own, [connection])])
        record = collector.logs.get(timeout=15)
        assert (record.body, record.attributes) == ("2 to 10.0.0.1:40000", {"code": "0"})
        assert record.resource == dict(RESOURCE) and sender.lost == 0
    finally:
        collector.stop()
    sender.send([(own, [connection, connection])])
    assert sender.lost == 2
    sender.close()
