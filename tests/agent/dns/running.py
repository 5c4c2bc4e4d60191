"""A resolver in a process of its own, and callers with addresses of their own: all of 127.0.0.0/8 is ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode

from mesh.dns import (
    ENFORCED,
    FLOWS,
    LEARNED,
    POLICY,
    RECORDS,
    Caller,
    InForce,
    Learned,
    Observation,
    Queries,
    Server,
    Zone,
)
from tests.agent.dns.upstream import free_port

ROOT = Path(__file__).resolve().parents[3]

#: May ask for everything; only for names of example.com; one whose rules are in audit mode; a stranger.
FREE, BOUND, AUDITED, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"
RULE = "CiliumNetworkPolicy shop/dns egress[0].toPorts[0]"
PATTERNS = ("example.com", "*.example.com")

WEB = "web.shop.svc.cluster.local"
ZONE = Zone(
    {
        WEB: ("10.128.0.1", "fd51::1"),
        "db.shop.svc.cluster.local": ("10.64.0.2", "10.64.0.3"),
        "db-0.db.shop.svc.cluster.local": ("10.64.0.2",),
        "db-1.db.shop.svc.cluster.local": ("10.64.0.3",),
    },
    {f"_http._tcp.{WEB}": (Server(80, WEB),)},
    {"10.128.0.1": WEB, "10.64.0.2": "db-0.db.shop.svc.cluster.local"},
)


def policy(*, wanted: tuple[str, ...] = ()) -> Queries:
    callers = []
    for transport in ("UDP", "TCP"):
        callers += [
            Caller(FREE, transport),
            Caller(BOUND, transport, PATTERNS, PATTERNS, (RULE,)),
            Caller(AUDITED, transport, None, PATTERNS, (RULE,)),
        ]
    return Queries(tuple(callers), wanted)


class Resolver:
    """The process and its folders. `start` returns once it listens."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.run, self.state = folder / "run", folder / "state"
        self.run.mkdir(parents=True)
        self.log = folder / "log"
        self.options = options
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._flows = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._flows.bind(str(self.run / FLOWS))
        self.put(RECORDS, ZONE.to_json())
        self.put(POLICY, policy().to_json())

    def put(self, name: str, text: str) -> None:
        beside = self.run / f".{name}"
        beside.write_text(text)
        beside.rename(self.run / name)

    def acknowledge(self, sequence: int) -> None:
        self.put(ENFORCED, InForce(sequence).to_json())

    @property
    def learned(self) -> Learned:
        path = self.state / LEARNED
        return Learned.from_json(path.read_text()) if path.exists() else Learned()

    def observations(self) -> list[Observation]:
        found = []
        while True:
            try:
                found.append(Observation.from_json(self._flows.recv(65536)))
            except BlockingIOError:
                return found

    async def start(self, *options: str) -> Resolver:
        """Again with another port where somebody took this one between our look and its bind."""
        while b"address already in use" in (said := await self._try(*options)):
            self.kill()
        assert b"listening on" in said, said.decode()
        return self

    async def _try(self, *options: str) -> bytes:
        """What it logged until it listens or has ended."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.port = free_port()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "agent.dns", "--run", str(self.run), "--state", str(self.state)),
                    *("--listen", "127.0.0.1", "--port", str(self.port), *self.options, *options),
                ],
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        await until(lambda: b"listening on" in self.log.read_bytes()[before:] or not self.is_alive())
        return self.log.read_bytes()[before:]

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        self.kill()
        self._flows.close()

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def ask(
        self, name: str, kind: str = "A", caller: str = FREE, timeout: float = 8, **options: Any
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        return dns.message.from_wire(await self.send(query.to_wire(), caller, timeout))

    async def send(self, data: bytes, caller: str = FREE, timeout: float = 8) -> bytes:
        """One datagram there, the first one back."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
            own.bind((caller, 0))
            own.connect(("127.0.0.1", self.port))
            own.send(data)
            async with asyncio.timeout(timeout):
                return await loop.sock_recv(own, 65536)

    async def ask_tcp(self, name: str, kind: str = "A", caller: str = FREE) -> dns.message.Message:
        wire = dns.message.make_query(name, kind).to_wire()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(caller, 0))
        try:
            writer.write(len(wire).to_bytes(2, "big") + wire)
            length = int.from_bytes(await reader.readexactly(2), "big")
            return dns.message.from_wire(await reader.readexactly(length))
        finally:
            writer.close()


async def until(what: Callable[[], Any], seconds: float = 15) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)
    return found


def values(message: dns.message.Message) -> list[str]:
    """The data of the last RRset of an answer, sorted."""
    return sorted(rdata.to_text() for rdata in message.answer[-1]) if message.answer else []


def rcode(message: dns.message.Message) -> str:
    return dns.rcode.to_text(message.rcode())


def edit(resolver: Resolver, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the policy file."""
    document = json.loads((resolver.run / POLICY).read_text())
    change(document)
    resolver.put(POLICY, json.dumps(document))
