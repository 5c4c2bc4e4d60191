"""Questions to the resolvers of the machine.

An answer counts only if it comes from whom we asked, to the port we asked from, with the number and the
name we asked with, letter by letter (0x20); what else arrives is passed over, and where names come back in
other letters TCP decides. Every question has a port of its own, which the kernel picks at random.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype

from agent.dns.message import PAYLOAD

log = logging.getLogger(__name__)

#: Seconds for one question to one resolver, and how often all of them are asked.
PATIENCE, ROUNDS = 1.0, 2
#: Records in an answer that is worth parsing.
MOST_RECORDS = 2048
#: Datagrams that answer nothing, until TCP is asked.
MOST_STRAY = 32


class Server(NamedTuple):
    address: str
    port: int = 53

    def __str__(self) -> str:
        return f"{self.address} port {self.port}"


class UpstreamFailed(Exception):
    """No resolver gave an answer; says why."""


class _TryTcp(Exception):
    """What came by UDP does not decide."""


class Upstream:
    """Asks the servers in order. Without any, no name outside the mesh is known."""

    def __init__(self, servers: Sequence[Server], patience: float = PATIENCE) -> None:
        self._servers = servers
        self._patience = patience

    async def ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """An answer that speaks of the question, NXDOMAIN included. Raises UpstreamFailed."""
        why = "there is no upstream resolver"
        for _ in range(ROUNDS):
            for server in self._servers:
                try:
                    answer = await self._ask(server, name, kind)
                except TimeoutError:
                    why = f"{server} says nothing for {self._patience:g} s"
                    continue
                except (OSError, EOFError, ValueError) as error:
                    why = f"{server}: {error}"
                    continue
                if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return answer
                why = f"{server} answered {dns.rcode.to_text(answer.rcode())}"
        raise UpstreamFailed(why)

    async def _ask(
        self, server: Server, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.Message:
        query = dns.message.make_query(_shaken(name), kind, use_edns=0, payload=PAYLOAD)
        query.id = secrets.randbits(16)
        try:
            async with asyncio.timeout(self._patience):
                return await _by_udp(server, query)
        except _TryTcp as reason:
            log.debug("%s is asked by TCP: %s", server, reason)
        async with asyncio.timeout(self._patience):
            return await _by_tcp(server, query)


def answers(query: dns.message.Message, data: bytes) -> dns.message.Message | None:
    """The message in `data` if it answers the query, in whatever letters. Never raises."""
    if len(data) < 12 or int.from_bytes(data[:2], "big") != query.id:
        return None
    if int.from_bytes(data[4:6], "big") != 1:
        return None
    if sum(int.from_bytes(data[at : at + 2], "big") for at in (6, 8, 10)) > MOST_RECORDS:
        return None
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
        return message if query.is_response(message) else None
    except Exception as error:
        # The parser has many ways to say that bytes are no message.
        log.debug("an upstream's answer cannot be read: %r", error)
        return None


def _same_letters(query: dns.message.Message, message: dns.message.Message) -> bool:
    return query.question[0].name.labels == message.question[0].name.labels


def _shaken(name: dns.name.Name) -> dns.name.Name:
    """The name in letters of random case: some more bits that a forger must guess."""
    return dns.name.Name(bytes(_letter(c) for c in label) for label in name.labels)


def _letter(c: int) -> int:
    return c ^ 0x20 if chr(c).isascii() and chr(c).isalpha() and secrets.randbits(1) else c


class _Answer(asyncio.DatagramProtocol):
    """Takes datagrams until `accept` has made something of one."""

    def __init__(self, accept: Callable[[bytes], dns.message.Message | None]) -> None:
        self._accept = accept
        self._stray = 0
        self.result: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.result.done():
            return
        try:
            message = self._accept(data)
        except _TryTcp as reason:
            self.result.set_exception(reason)
            return
        if message is not None:
            self.result.set_result(message)
            return
        self._stray += 1
        if self._stray >= MOST_STRAY:
            self.result.set_exception(_TryTcp("too much arrived that answers nothing"))

    def error_received(self, exc: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(exc)


async def _by_udp(server: Server, query: dns.message.Message) -> dns.message.Message:
    def accept(data: bytes) -> dns.message.Message | None:
        message = answers(query, data)
        if message is None:
            return None
        if message.flags & dns.flags.TC:
            raise _TryTcp("it was cut off")
        if not _same_letters(query, message):
            raise _TryTcp("its letters are not ours")
        return message

    loop = asyncio.get_running_loop()
    # Connected: the kernel drops what comes from anyone else.
    transport, answer = await loop.create_datagram_endpoint(lambda: _Answer(accept), remote_addr=server)
    try:
        transport.sendto(query.to_wire())
        return await answer.result
    finally:
        transport.close()
        if answer.result.done() and not answer.result.cancelled():
            answer.result.exception()


async def _by_tcp(server: Server, query: dns.message.Message) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(*server)
    try:
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = answers(query, await reader.readexactly(length))
    finally:
        writer.close()
    if message is None or message.flags & dns.flags.TC:
        raise ValueError("what came by TCP is no answer")
    return message
