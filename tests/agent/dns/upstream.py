"""A tiny name server on loopback: real sockets, and answers that a test may bend."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

SOA = "ns.example. hostmaster.example. 1 7200 1800 86400 20"
#: What a test does to an answer on its way: bytes, or none. Arguments: query, answer, by TCP?
Bend = Callable[[dns.message.Message, bytes, bool], list[bytes]]


def free_port() -> int:
    """One that neither transport uses."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


class TinyUpstream(asyncio.DatagramProtocol):
    """Knows `records`: (name, type) -> values; a CNAME is followed. Counts what it was asked."""

    def __init__(self, *records: str) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.asked: list[tuple[str, str, bool]] = []
        self.bend: Bend = lambda query, answer, tcp: [answer]
        self.delay = 0.0
        self.port = 0
        self.udp_room = 65535
        for record in records:
            self.put(record)

    def put(self, record: str) -> None:
        """`name TYPE value`."""
        name, kind, value = record.split(" ", 2)
        self.records.setdefault((name, kind), []).append(value)

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> TinyUpstream:
        self.port = port or free_port()
        await asyncio.start_server(self._serve, address, self.port)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(address, self.port))
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, name: str) -> int:
        return sum(1 for asked, _, _ in self.asked if asked == name)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asyncio.get_running_loop().create_task(self._reply(data, addr))

    async def _reply(self, data: bytes, addr: Any) -> None:
        for answer in await self._answers(data, tcp=False):
            self._transport.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            for answer in await self._answers(data, tcp=True):
                writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    async def _answers(self, data: bytes, *, tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = question.rdtype.name
        self.asked.append((name, kind, tcp))
        await asyncio.sleep(self.delay)
        message = dns.message.make_response(query, recursion_available=True)
        owner, found = question.name.to_text(), name
        while ("CNAME" in {k for n, k in self.records if n == found}) and (found, kind) not in self.records:
            target = self.records[found, "CNAME"][0]
            message.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "CNAME", target))
            owner, found = target, target.removesuffix(".")
            if len(message.answer) > 20:
                break
        values = self.records.get((found, kind))
        if values:
            message.answer.append(dns.rrset.from_text_list(owner, self.ttl, "IN", kind, values))
        else:
            if found not in {n for n, _ in self.records}:
                message.set_rcode(dns.rcode.NXDOMAIN)
            message.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", SOA))
        room = 65535 if tcp else self.udp_room
        return self.bend(query, message.to_wire(max_size=room, prefer_truncation=True), tcp)


def silent_of(kind: str) -> Bend:
    """Nothing is said of one kind of record."""
    return lambda query, answer, tcp: [] if query.question[0].rdtype.name == kind else [answer]
