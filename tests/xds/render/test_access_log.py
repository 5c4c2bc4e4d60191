"""What Envoy tells the agent of each request."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent.access_log import Address as End
from agent.access_log import LoggedConnection, LoggedRequest
from agent.flows import FlowLog, FlowTeller
from agent.names import Names
from agent.records import Change
from agent.telemetry.telemetry import Telemetry
from mesh.model import (
    AuthorizationProvider,
    ConnectionMatch,
    ConnectionRule,
    HttpMatch,
    JwtRule,
    Limit,
    ObjectRef,
    RateLimitService,
    ServiceName,
    TextMatch,
    WorkloadName,
)
from mesh.model import Backend as Address
from mesh.node import PolicyClass, PortVerdict
from mesh.policies.key_set import normalise
from mesh.proxy import (
    AuthenticationPart,
    ConnectionEntry,
    Destination,
    GatewayPort,
    GatewayServer,
    Part,
    RateLimitPart,
    Target,
)
from tests.access_log import connections, requests
from tests.agent.telemetry.samples import value
from tests.threats.http.rate_limit_service import RateLimitService as Counter
from tests.threats.http.tokens import ISSUER, Issuer, bearer
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask
from tests.xds.render.consent import GrpcConsent
from tests.xds.render.grpc_echo import GrpcEcho
from tests.xds.render.grpc_server import GrpcServer
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import (
    ROUTE,
    authorized,
    destination,
    entry,
    l7,
    part,
    part_of,
    prefix,
    routed,
    term,
    to,
    view,
    when,
)

SERVICE = "envoy.service.accesslog.v3.AccessLogService"


@pytest.fixture
def messages(folder: Path) -> Iterator[queue.Queue[bytes]]:
    """What the agent would receive."""
    found: queue.Queue[bytes] = queue.Queue()

    def receive(stream: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
        for data in stream:
            found.put(data)
        return b""

    handlers = {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(receive)}
    server = GrpcServer({SERVICE: handlers}, f"unix:{folder}/als.sock")
    yield found
    server.stop()


def test_a_record_names_the_class_that_judged_or_the_rule_that_routed(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    from envoy_data_plane.envoy.service.accesslog.v3 import StreamAccessLogsMessage

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
        records: dict[tuple[str, str], Any] = {}
        while len(records) < len(asked):
            message = StreamAccessLogsMessage.parse(messages.get(timeout=10))
            # Each listener has a stream of its own, which is named once.
            for record in message.http_logs.log_entry if message.http_logs else ():
                log = message.identifier.log_name if message.identifier else ""
                records[log, record.request.path] = record
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


def test_a_record_says_how_many_grpc_messages_went_either_way(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    server = GrpcEcho()
    shown = view(
        routed=(routed("api", entry(prefix("/echo.Echo"), to("api")), entry(prefix("/"), to("plain"))),),
        destinations=(destination("api", part(server.port)), destination("plain", part(servers["one"].port))),
        ingress=(l7(300, "ingress", HttpMatch(method="POST")),),
    )
    proxy = Proxy(shown, folder, passthrough=("127.0.0.1", server.port))
    found: dict[str, LoggedRequest] = {}
    telemetry = Telemetry(Names())
    pod = WorkloadName("shop", "client")
    try:
        routes, judges = (proxy.ports[n] for n in ("api.shop.svc.cluster.local:80", "virtualInbound|300"))
        for number, dialled in enumerate((routes, judges), 3):
            with grpc.insecure_channel(f"127.0.0.1:{dialled}") as channel:
                call = channel.stream_stream("/echo.Echo/Talk")
                answers = list(call(iter([b"hello"] * number), metadata=[("x", "y")], timeout=10))
                assert len(answers) == 2 * number
        ask(routes, "/plain")
        while len(found) < 3:
            for request in requests(messages.get(timeout=10)):
                found[f"{request.path} {request.route}"] = request
                telemetry.add_request(pod, (), request)
    finally:
        proxy.stop()
        server.stop()
    assert sorted(request.messages for request in found.values()) == [(0, 0), (3, 6), (4, 8)]
    text = telemetry.text(pod)
    assert value(text, "istio_requests_total", request_protocol="http") == 1
    assert value(text, "istio_requests_total", request_protocol="grpc", grpc_response_status="0") == 2
    assert value(text, "istio_request_messages_total") == 7
    assert value(text, "istio_response_messages_total") == 14


class Mesh(Names):
    """One that knows what class 300 exists for."""

    def __init__(self, *rules: str) -> None:
        super().__init__()
        verdict = PortVerdict("TCP", 80, 80, "steer", 300, rules)
        self.follow(Change("type", "1", None, PolicyClass(1, (verdict,))))


def test_the_agent_reads_who_judged_each_request_and_what_policies_in_audit_mode_would_do(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    consent = GrpcConsent()
    network = l7(1, "ingress", HttpMatch(path="/[ax].*"), field="ingress[0]").rules
    tried = l7(1, "ingress", HttpMatch(path="/[ay].*"), field="ingress[9]").rules
    asking = AuthorizationProvider("ask", "grpc", "authz.shop.svc.cluster.local", 9000, timeout_ms=5000)
    parts = (
        part_of("custom", when(term("path", "/asked*")), provider=asking),
        part_of("deny", when(term("path", "/aden*"))),
        part_of("deny", when(term("path", "/ab")), name="tried", audit=True),
        part_of("allow", when(term("path", "/a*", "/y"))),
        part_of("audit", when(term("path", "/ac"))),
    )
    backends = (Address("127.0.0.1", consent.port),)
    service = Destination(Target(ServiceName("shop", "authz"), 9000), (Part(0, backends),))
    shown = view(ingress=(authorized(300, *parts, rules=network, audit=tried),), destinations=(service,))
    proxy = Proxy(shown, folder, ("127.0.0.1", servers["one"].port))
    log = FlowLog()
    mesh = Mesh("CiliumNetworkPolicy shop/web ingress[0]", "AuthorizationPolicy shop/allow rules[0]")
    teller = FlowTeller(mesh, log)
    passed = {"web ingress[0]", "allow rules[0]"}
    expected: dict[str, tuple[str, set[str], str, set[str]]] = {
        "/a": ("FORWARDED", passed, "", set()),
        "/ab": ("FORWARDED", passed, "DROPPED", {"tried rules[0]"}),
        "/ac": ("FORWARDED", passed, "", {"audit rules[0]"}),
        "/aden": ("DROPPED", {"deny rules[0]"}, "", set()),
        "/asked": ("DROPPED", {"custom rules[0]"}, "", set()),
        "/x": ("DROPPED", {"allow rules[0]"}, "", set()),
        "/y": ("DROPPED", {"web ingress[0]"}, "FORWARDED", {"web ingress[9]", "allow rules[0]"}),
        "/z": ("DROPPED", {"web ingress[0]"}, "", set()),
    }
    try:
        for path in expected:
            ask(proxy.ports["virtualInbound|300"], path, headers=[("x-forwarded-for", "8.8.8.8")])
        while len(log.last(99)) < len(expected):
            for request in requests(messages.get(timeout=10)):
                teller.tell_request(("127.0.0.1",), request)
    finally:
        proxy.stop()
        consent.stop()
    flows = log.last(99)
    assert {flow.source.ip for flow in flows} == {"127.0.0.1"}

    def names(keys: tuple[str, ...]) -> set[str]:
        return {key.partition("/")[2] for key in keys}

    found = {
        flow.l7.path: (flow.verdict, names(flow.policies), flow.audit, names(flow.audit_policies))
        for flow in flows
        if flow.l7
    }
    assert found == expected


def test_the_agent_reads_which_rule_refused_a_token(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    policy = ObjectRef("RequestAuthentication", "shop", "tokens")
    ours, theirs = Issuer(), Issuer()
    rules = (
        JwtRule("jwtRules[0]", ISSUER, normalise(ours.keys, public=True)),
        JwtRule("jwtRules[1]", "https://other.example", normalise(theirs.keys, public=True)),
    )
    tokens = tuple(AuthenticationPart(policy, rule) for rule in rules)
    shown = view(ingress=(authorized(300, authentication=tokens),))
    proxy = Proxy(shown, folder, ("127.0.0.1", servers["one"].port))
    log = FlowLog()
    teller = FlowTeller(Mesh(*(part.key for part in tokens)), log)
    first, second = (part.key for part in tokens)
    cases: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "/good": (ours.token(), "FORWARDED", ()),
        "/second": (theirs.token(iss="https://other.example"), "FORWARDED", ()),
        "/forged": (theirs.token(), "DROPPED", (first,)),
        "/expired": (theirs.token(iss="https://other.example", exp=1), "DROPPED", (second,)),
        "/stranger": (ours.token(iss="https://third.example"), "DROPPED", (first, second)),
    }
    try:
        for path, (token, _, _) in cases.items():
            ask(proxy.ports["virtualInbound|300"], path, headers=[bearer(token)])
        while len(log.last(99)) < len(cases):
            for request in requests(messages.get(timeout=10)):
                teller.tell_request(("127.0.0.1",), request)
    finally:
        proxy.stop()
    found = {flow.l7.path: (flow.verdict, flow.policies) for flow in log.last(99) if flow.l7}
    assert found == {path: (verdict, keys) for path, (_, verdict, keys) in cases.items()}


def test_a_record_has_what_metrics_are_made_of(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    proxy = Proxy(
        view(
            routed=(routed("api", entry(prefix("/api"), to("api"))),),
            destinations=(destination("api", part(servers["one"].port)),),
        ),
        folder,
    )
    try:
        port = proxy.ports["api.shop.svc.cluster.local:80"]
        ask(port, "/api", headers=[("content-type", "application/grpc")])
        ask(port, "/none")
        found: dict[str, LoggedRequest] = {}
        while len(found) < 2:
            found |= {request.path: request for request in requests(messages.get(timeout=10))}
    finally:
        proxy.stop()
    api, none = found["/api"], found["/none"]
    assert (api.cluster, api.is_grpc, api.flags) == ("outbound|80||api.shop.svc.cluster.local", True, "-")
    assert 0 < api.lasted < 10
    assert api.received > len("GET /api HTTP/1.1")
    assert api.sent > len("HTTP/1.1 200 OK")
    assert (none.cluster, none.is_grpc, none.flags) == ("", False, "NR")


def told_of(messages: queue.Queue[bytes]) -> Iterator[LoggedConnection]:
    while True:
        yield from connections(messages.get(timeout=10))


def test_a_connection_is_told_when_it_has_a_backend_and_when_it_has_ended(
    folder: Path, messages: queue.Queue[bytes]
) -> None:
    onward = ConnectionEntry(ROUTE, ConnectionMatch(), ConnectionRule("tcp[0]", "tcp", (), (to("api"),)))
    nowhere = replace(onward, rule=replace(onward.rule, backends=(to("gone"),)))
    gateway = GatewayPort(8090, "", (GatewayServer("tcp", (), http=False, connections=(nowhere,)),))
    judged = replace(l7(300, "ingress", HttpMatch(path="/")), plain=())
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = server.getsockname()
        shown = view(
            routed=(routed("api", connections=(onward,)),),
            destinations=(destination("api", part(at[1])), destination("gone", part(1))),
            ingress=(judged,),
            gateway=(gateway,),
        )
        proxy = Proxy(shown, folder, passthrough=at)
        told = told_of(messages)
        routes, judges, edge = (
            proxy.ports[name]
            for name in ("api.shop.svc.cluster.local:80-tcp", "virtualInbound|300", "0.0.0.0_8090")
        )
        outbound = "outbound|80||{}.shop.svc.cluster.local".format
        try:
            for dialled, cluster in ((routes, outbound("api")), (judges, "InboundPassthroughCluster")):
                with socket.create_connection(("127.0.0.1", dialled), timeout=10) as client:
                    client.sendall(b"12345")
                    with server.accept()[0] as accepted:
                        assert accepted.recv(99) == b"12345"
                        own = End(*accepted.getpeername())
                        begun = next(told)
                        accepted.sendall(b"123456789")
                    while client.recv(99):
                        continue
                    remote = End(*client.getsockname())
                ended = next(told)
                assert (ended.received, ended.sent, ended.ended) == (5, 9, True)
                assert begun == replace(ended, ended=False, received=begun.received, sent=0)
                assert (ended.remote, ended.own, ended.upstream) == (remote, own, End(*at))
                assert (ended.local, ended.cluster, ended.flags) == (End("127.0.0.1", dialled), cluster, "-")
            with socket.create_connection(("127.0.0.1", edge), timeout=10) as client:
                with suppress(ConnectionError):
                    client.recv(1)
            failed = next(told)
            assert (failed.own, failed.ended, failed.cluster) == (End(), True, outbound("gone"))
            assert failed.flags == "UF,URX"
        finally:
            proxy.stop()


def test_the_agent_reads_that_a_request_was_too_much(
    folder: Path, servers: dict[str, Backend], messages: queue.Queue[bytes]
) -> None:
    counting = Counter()
    parts = (
        limits("own", "/local"),
        limits("all", "/global", RateLimitService("localhost", counting.port, "shop", True, 2000)),
        limits("gone", "/gone", RateLimitService("localhost", 9, "shop", False, 2000)),
    )
    proxy = Proxy(view(ingress=(authorized(300, limits=parts),)), folder, ("127.0.0.1", servers["one"].port))
    log = FlowLog()
    keys = tuple(key for part in parts for key in part.keys)
    teller = FlowTeller(Mesh(*keys), log)
    asked = ["/local", "/local", "/global", "/global", "/gone"]
    try:
        for path in asked:
            ask(proxy.ports["virtualInbound|300"], path)
        while len(log.last(99)) < len(asked):
            for request in requests(messages.get(timeout=10)):
                teller.tell_request(("127.0.0.1",), request)
    finally:
        proxy.stop()
        counting.stop()
    found = [(flow.l7.path, flow.verdict, flow.policies) for flow in log.last(99) if flow.l7]
    dropped = ("DROPPED", keys)
    assert sorted(found) == sorted(
        [
            ("/local", "FORWARDED", ()),
            ("/global", "FORWARDED", ()),
            *((path, *dropped) for path in ("/local", "/global", "/gone")),
        ]
    )


def limits(name: str, path: str, service: RateLimitService | None = None) -> RateLimitPart:
    """One request an hour to a path."""
    limit = Limit("limits[0]", 1, "hour", 1, paths=(TextMatch("exact", path),))
    return RateLimitPart(ObjectRef("RateLimit", "shop", name), (limit,), service)
