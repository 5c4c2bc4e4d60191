"""Access logs of real Envoys: lines of their own output and records at a real receiver."""

from __future__ import annotations

import json
import queue
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from istio_integration import log_format
from mesh.model import (
    BUILT_IN_LOG,
    AccessLogProvider,
    Backend,
    ConnectionMatch,
    ConnectionRule,
    HttpMatch,
    ServiceName,
)
from mesh.observability import cel
from mesh.proxy import (
    AccessLog,
    ConnectionEntry,
    Destination,
    GatewayPort,
    GatewayServer,
    Part,
    ProxyView,
    Target,
    VirtualHost,
)
from tests.istio_integration.test_access_logging import RIGHT_EXPRESSIONS
from tests.xds.render import backend
from tests.xds.render.client import ask
from tests.xds.render.collector import OtlpCollector
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy, validate
from tests.xds.render.views import ROUTE, destination, entry, l7, part, prefix, routed, to, view
from xds.render import readable, render

ROUTED, JUDGED = "api.shop.svc.cluster.local:80", "virtualInbound|300"
LABELS = AccessLogProvider(
    "json",
    "file",
    labels='{"code": "%RESPONSE_CODE%", "in": {"path": "%REQ_WITHOUT_QUERY(:PATH)%", "one": 1}}',
    path="/dev/stdout",
)
RECORDS = AccessLogProvider(
    "otel",
    "opentelemetry",
    "%REQ(:METHOD)% %REQ(:PATH)%",
    '{"status": "%RESPONSE_CODE%"}',
    service="otel.shop.svc.cluster.local",
    port=4317,
    log_name="shop",
)
RESOURCE = (("k8s.pod.name", "web-1"), ("service.name", "web.shop"))


def caller(port: int, *logs: AccessLog) -> ProxyView:
    return view(
        routed=(routed("api", entry(prefix("/"), to("api"))),),
        destinations=(destination("api", part(port)),),
        egress_logs=logs,
    )


def judge(*logs: AccessLog, destinations: tuple[Destination, ...] = ()) -> ProxyView:
    rules = (l7(300, "ingress", HttpMatch(path="/.*", method="GET")),)
    return view(ingress=rules, destinations=destinations, ingress_logs=logs)


def lines(proxy: Proxy, count: int, marked: str = "") -> list[str]:
    """What it has written, once there are so many lines, that hold a mark; its warnings left out."""
    deadline = time.monotonic() + 15
    while True:
        written = (proxy.folder / "envoy.log").read_text().splitlines()
        found = [line for line in written if marked in line and not re.match(r"\[[^]]*\]\[[0-9]+\]", line)]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, written
        time.sleep(0.02)


#: Istio's documentation of its default format, command by command.
DEFAULT_LINE = re.compile(
    r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "
    r'"(?P<method>\S+) (?P<path>\S+) (?P<protocol>\S+)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) '
    r'(?P<termination>\S+) "(?P<failure>[^"]*)" (?P<received>\d+) (?P<sent>\d+) (?P<duration>\d+) '
    r'(?P<upstream_time>\S+) "(?P<forwarded>[^"]*)" "(?P<agent>[^"]*)" "(?P<id>[^"]*)" '
    r'"(?P<authority>[^"]*)" "(?P<host>[^"]*)" (?P<cluster>\S+) (?P<upstream_local>\S+) (?P<local>\S+) '
    r"(?P<remote>\S+) (?P<sni>\S+) "
    r"(?P<route>.*)"
)


def test_a_line_of_the_default_format_is_istios(serve: Serve, servers: dict[str, backend.Backend]) -> None:
    client = serve(caller(servers["one"].port, AccessLog(BUILT_IN_LOG)))
    ask(client.ports[ROUTED], "/a?b=c", headers=[("user-agent", "test"), ("host", "api")])
    (line,) = lines(client, 1)
    found = DEFAULT_LINE.fullmatch(line)
    assert found, line
    assert (found["method"], found["path"], found["protocol"]) == ("GET", "/a?b=c", "HTTP/1.1")
    assert (found["code"], found["flags"], found["details"]) == ("200", "-", "via_upstream")
    assert (found["agent"], found["authority"]) == ("test", "api")
    assert found["cluster"] == "outbound|80||api.shop.svc.cluster.local"
    assert found["host"] == f"127.0.0.1:{servers['one'].port}"
    assert found["route"] == "HTTPRoute shop/api rules[0]"


def test_labels_become_one_object_a_line_and_numbers_stay_numbers(
    serve: Serve, servers: dict[str, backend.Backend]
) -> None:
    web = serve(judge(AccessLog(LABELS)), ("127.0.0.1", servers["one"].port))
    ask(web.ports[JUDGED], "/a?b=c")
    ask(web.ports[JUDGED], "/denied", method="POST")
    assert [json.loads(line) for line in lines(web, 2)] == [
        {"code": 200, "in": {"path": "/a", "one": 1}},
        {"code": 403, "in": {"path": "/denied", "one": 1}},
    ]


def test_a_filter_keeps_and_drops(serve: Serve, servers: dict[str, backend.Backend]) -> None:
    bad = "response.code >= 400 && request.path.startsWith('/a')"
    web = serve(judge(AccessLog(LABELS, bad)), ("127.0.0.1", servers["one"].port))
    for path, method in (("/a/1", "GET"), ("/a/2", "POST"), ("/b/3", "POST"), ("/a/4", "POST")):
        ask(web.ports[JUDGED], path, method=method)
    assert [json.loads(line)["in"]["path"] for line in lines(web, 2)] == ["/a/2", "/a/4"]


def test_without_a_log_nothing_is_written(serve: Serve, servers: dict[str, backend.Backend]) -> None:
    web = serve(judge(), ("127.0.0.1", servers["one"].port))
    logged = serve(judge(AccessLog(LABELS)), ("127.0.0.1", servers["one"].port))
    for proxy in (web, logged):
        ask(proxy.ports[JUDGED], "/a")
    lines(logged, 1)
    assert lines(web, 0) == []


def test_connections_that_are_no_http_have_lines_too(
    serve: Serve, servers: dict[str, backend.Backend]
) -> None:
    onward = ConnectionEntry(ROUTE, ConnectionMatch(), ConnectionRule("tcp[0]", "tcp", (), (to("api"),)))
    shown = view(
        routed=(routed("api", connections=(onward,)),),
        destinations=(destination("api", part(servers["one"].port)),),
        egress_logs=(AccessLog(BUILT_IN_LOG),),
    )
    client = serve(shown)
    ask(client.ports[f"{ROUTED}-tcp"], "/unseen")
    (line,) = lines(client, 1)
    assert "outbound|80||api.shop.svc.cluster.local" in line and "/unseen" not in line


def test_gateways_log_and_so_do_connections_that_a_class_lets_through(folder: Path) -> None:
    """Everything behind which there is a backend."""
    onward = ConnectionEntry(ROUTE, ConnectionMatch(), ConnectionRule("tcp[0]", "tcp", (), (to("api"),)))
    servers = (
        GatewayServer("http.80", (), hosts=(VirtualHost("*", (entry(prefix("/"), to("api")),)),)),
        GatewayServer("tcp.81", (), http=False, connections=(onward,)),
    )
    shown = view(
        gateway=tuple(GatewayPort(80 + n, "", (server,)) for n, server in enumerate(servers)),
        ingress=(replace(l7(300, "ingress", HttpMatch(path="/.*")), plain=()),),
        destinations=(destination("api", part(1)),),
        egress_logs=(AccessLog(LABELS),),
        ingress_logs=(AccessLog(BUILT_IN_LOG),),
    )
    assert validate(render(shown), folder) == ""
    found = {}
    for listener in readable(render(shown))["listeners"]:
        for chain in listener["filter_chains"]:
            for config in (filter_["typed_config"] for filter_ in chain.get("filters", ())):
                logs = [log["typed_config"] for log in config["access_log"]]
                forms = [log["log_format"] for log in logs if log["@type"].endswith("FileAccessLog")]
                found[chain["name"]] = ["json" if "json_format" in form else "text" for form in forms]
    assert found == {
        "http.80": ["json"],
        "tcp.81|0": ["json"],
        "virtualInbound|300": ["text"],
        "virtualInbound|300-plain": ["text"],
    }


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    found = OtlpCollector()
    yield found
    found.stop()


def test_records_reach_a_collector_with_body_attributes_and_whose_they_are(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    taking = Destination(
        Target(ServiceName("shop", "otel"), 4317), (Part(0, (Backend("127.0.0.1", collector.port),)),)
    )
    failed = AccessLog(RECORDS, "response.code == 403", RESOURCE)
    web = serve(judge(failed, destinations=(taking,)), ("127.0.0.1", servers["one"].port))
    ask(web.ports[JUDGED], "/kept?x=1", method="POST")
    ask(web.ports[JUDGED], "/dropped")
    record = collector.logs.get(timeout=15)
    assert (record.body, record.attributes) == ("POST /kept?x=1", {"status": "403"})
    assert record.resource == dict(RESOURCE)
    with pytest.raises(queue.Empty):
        collector.logs.get(timeout=2)


def expression(chance: random.Random, depth: int = 3) -> str:
    """Some expression of the subset, by its grammar."""
    if depth and chance.random() < 0.4:
        one, other = (expression(chance, depth - 1) for _ in range(2))
        return f"{chance.choice(('', '!'))}({one} {chance.choice(('&&', '||'))} {other})"
    if chance.random() < 0.2:
        return f"{chance.choice(('has(request.headers.x)', 'has(response.code)', 'true'))}"
    root = chance.choice([root for root, known in cel.ATTRIBUTES.items() if known])
    value = f"{root}.{chance.choice(cel.ATTRIBUTES[root] or ())}"
    texts = [f".{method}('a.*')" for method in ("startsWith", "endsWith", "contains", "matches")]
    value = f"{value}{chance.choice(('', '.size()', *texts))}"
    value = chance.choice((value, f"size({value})", f"int({value})", "metadata.filter_metadata['a']['b']"))
    sign = chance.choice(("==", "!=", "<", "<=", ">", ">=", "in"))
    other = "['a', \"b\", 1]" if sign == "in" else chance.choice(("1", "-1.5", "'a\\n'", "false"))
    return f"{value} {sign} {other}"


def test_envoy_takes_every_expression_and_format_that_is_read(folder: Path) -> None:
    chance = random.Random(20)
    found = [*RIGHT_EXPRESSIONS, *(expression(chance) for _ in range(200))]
    for text in found:
        cel.check(text)
    commands = [
        *(f"%{name}%" for name in sorted(log_format.PLAIN)),
        *(f"%{name}(:a!#$&'*+.^_`|~-?B):99999%" for name in ("REQ", "RESP", "TRAILER", "REQ_WITHOUT_QUERY")),
        *(f"%{name}(a.b@c/d:e-f)%" for name in log_format.TAKING if name.endswith("METADATA")),
        "%DYNAMIC_METADATA(a:b):3%",
        *(
            "%FILTER_STATE(a.b/c:TYPED):10%",
            "%FILTER_STATE(a)%",
            "%START_TIME%",
            "%START_TIME(%s.%12f %% +_)%",
        ),
    ]
    text = AccessLogProvider("all", "file", " ".join(commands) + "\n", path="/dev/stdout")
    records = AccessLogProvider("o", "opentelemetry", text.text, service="otel.example.com", port=1)
    logs = (AccessLog(text), AccessLog(records), *(AccessLog(text, one) for one in found))
    assert validate(render(judge(*logs)), folder) == ""
    assert validate(render(caller(1, *logs)), folder) == ""


def test_envoy_would_say_if_it_did_not_take_one(folder: Path) -> None:
    assert "nofunc" in validate(render(judge(AccessLog(LABELS, "nofunc(1)"))), folder)
