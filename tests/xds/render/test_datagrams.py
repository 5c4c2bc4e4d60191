"""What a Gateway's port of UDP does with datagrams, asked of a real Envoy by clients at many addresses."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.model import (
    NO_TRAFFIC_POLICY,
    AccessLogProvider,
    Backend,
    Balancer,
    ConnectionMatch,
    ConnectionPool,
    ConnectionRule,
    ObjectRef,
    RouteBackend,
    ServiceName,
    TrafficPolicy,
    WorkloadName,
)
from mesh.proxy import (
    AccessLog,
    ConnectionEntry,
    Destination,
    GatewayPort,
    GatewayServer,
    Part,
    ProxyView,
    Target,
)
from tests.xds.render.standalone import Proxy, validate
from xds.render import render

ORIGIN = ObjectRef("UDPRoute", "shop", "talk")
SERVERS = ("ann", "bob", "cid", "dan")
PORTS = ("shared", "one", "turns", "lost", "none", "few")
#: Those of each Service; `turns` are asked in turn, `few` has three sessions.
SERVICES = {
    "ann": ("ann",),
    "bob": ("bob",),
    "both": ("cid", "dan"),
    "turns": ("cid", "dan"),
    "few": ("ann",),
}


POLICIES = {
    "turns": TrafficPolicy(balancer=Balancer("ROUND_ROBIN")),
    "few": TrafficPolicy(pool=ConnectionPool(max_connections=3)),
}


class Server:
    """Answers each datagram with its name."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(name.encode(),), daemon=True).start()

    def _serve(self, name: bytes) -> None:
        while True:
            _, peer = self._socket.recvfrom(2048)
            self._socket.sendto(name, peer)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def port(number: int, **weights: int) -> GatewayPort:
    backends = tuple(RouteBackend(ServiceName("shop", name), 53, weight) for name, weight in weights.items())
    rule = ConnectionRule("rules[0]", "udp", backends=backends)
    entries = (ConnectionEntry(ORIGIN, ConnectionMatch(), rule),) if weights else ()
    server = GatewayServer("udp", (ORIGIN,), connections=entries, http=False)
    return GatewayPort(number, "127.0.0.1", (server,), "UDP")


def view(servers: dict[str, Server], *ports: GatewayPort, logs: tuple[AccessLog, ...] = ()) -> ProxyView:
    destinations = tuple(
        Destination(
            Target(ServiceName("shop", name), 53, "", "UDP"),
            (Part(0, tuple(Backend("127.0.0.1", servers[own].port) for own in members)),),
            POLICIES.get(name, NO_TRAFFIC_POLICY),
        )
        for name, members in sorted(SERVICES.items())
    )
    pod = WorkloadName("shop", "gate")
    return ProxyView(pod, destinations=destinations, gateway=ports, egress_logs=logs)


@pytest.fixture(scope="module")
def servers() -> dict[str, Server]:
    return {name: Server(name) for name in SERVERS}


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(PORTS, free_ports(len(PORTS)), strict=True))


@pytest.fixture(scope="module", autouse=True)
def envoy(servers: dict[str, Server], ports: dict[str, int], folder: Path) -> Iterator[Proxy]:
    proxy = Proxy(
        view(
            servers,
            port(ports["shared"], ann=3, bob=1, both=0),
            port(ports["one"], both=1),
            port(ports["turns"], turns=1),
            port(ports["lost"], ann=1, gone=1),
            port(ports["none"]),
            port(ports["few"], few=1),
        ),
        folder,
        as_rendered=True,
    )
    yield proxy
    proxy.stop()


def ask(number: int, clients: range, sockets: int = 1, patience: float = 5) -> dict[int, list[str]]:
    """Who answers clients at addresses of their own, each from several sockets; nobody: ""."""
    with ExitStack() as stack:
        opened: list[tuple[int, socket.socket]] = []
        for client in clients:
            for _ in range(sockets):
                own = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                own.bind((f"127.9.{client // 250}.{client % 250 + 1}", 0))
                own.sendto(b"who?", ("127.0.0.1", number))
                opened.append((client, own))
        found: dict[int, list[str]] = {client: [] for client in clients}
        for client, own in opened:
            own.settimeout(patience)
            try:
                found[client].append(own.recv(2048).decode())
            except TimeoutError:
                found[client].append("")
                patience = 0.001  # All others have had the time of this one.
        return found


def test_weights_are_shares_of_addresses(ports: dict[str, int]) -> None:
    answers: dict[int, list[str]] = {}
    for first in range(0, 200, 25):  # A socket holds some 250 datagrams, and what comes too fast is lost.
        answers |= ask(ports["shared"], range(first, first + 25), sockets=2)
    assert all(len(set(heard)) == 1 for heard in answers.values()), "a client's sockets stay together"
    shares = Counter(heard[0] for heard in answers.values())
    assert shares.keys() == {"ann", "bob"}
    assert 120 < shares["ann"] < 180


def test_an_address_stays_with_one_of_a_services_backends(ports: dict[str, int]) -> None:
    answers = ask(ports["one"], range(40), sockets=3)
    assert all(len(set(heard)) == 1 for heard in answers.values())
    assert {heard[0] for heard in answers.values()} == {"cid", "dan"}


def test_a_rule_may_ask_for_turns(ports: dict[str, int]) -> None:
    assert set(ask(ports["turns"], range(1), sockets=8)[0]) == {"cid", "dan"}


def test_the_share_of_what_is_not_there_is_lost(ports: dict[str, int]) -> None:
    shares = Counter(heard[0] for heard in ask(ports["lost"], range(60), patience=0.5).values())
    assert shares.keys() == {"ann", ""}
    assert 15 < shares["ann"] < 45


def test_without_a_route_nobody_answers(ports: dict[str, int]) -> None:
    assert ask(ports["none"], range(1), patience=0.3) == {0: [""]}


def test_sessions_are_limited(ports: dict[str, int]) -> None:
    answers = ask(ports["few"], range(1), sockets=5, patience=0.5)[0]
    assert Counter(answers) == {"ann": 3, "": 2}


def test_sessions_are_logged_as_connections_are(servers: dict[str, Server], tmp_path: Path) -> None:
    log = AccessLog(AccessLogProvider("file", "file", path="/dev/stdout", text="%BYTES_RECEIVED%\n"))
    assert validate(render(view(servers, port(53, ann=1), logs=(log,))), tmp_path) == ""
