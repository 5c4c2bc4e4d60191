"""Threat N76 (CVE-2025-23028): no message, from a caller or from an upstream, ends the resolver or makes it
say what is not so."""

from __future__ import annotations

import asyncio
import random
import struct

import dns.message
import dns.rrset
import pytest

from tests.agent.dns.running import WEB, Resolver, rcode, values
from tests.agent.dns.upstream import TinyUpstream


def header(flags: int = 0x0100, *counts: int, number: int = 0x1234) -> bytes:
    return struct.pack("!6H", number, flags, *(*counts, 0, 0, 0, 0)[:4])


NAME = b"\x03www\x07example\x03com\x00"
ASKED = NAME + b"\x00\x01\x00\x01"
LOOP = b"\xc0\x0c\x00\x01\x00\x01"

FORMERR = {
    "a compression pointer to itself": header(0x0100, 1) + LOOP,
    "a compression pointer forward": header(0x0100, 1) + b"\xc0\x40\x00\x01\x00\x01" + bytes(80),
    "a label of 64 bytes": header(0x0100, 1) + b"\x40" + b"a" * 64 + b"\x00\x00\x01\x00\x01",
    "a name without an end": header(0x0100, 1) + b"\x3f" + b"a" * 63,
    "a name of 10 kB": header(0x0100, 1) + (b"\x3f" + b"a" * 63) * 50 + b"\x00\x00\x01\x00\x01",
    "no question": header(0x0100, 0),
    "two questions": header(0x0100, 2) + ASKED * 2,
    "65535 questions": header(0x0100, 65535) + ASKED,
    "ten thousand answers": header(0x0100, 1, 10_000) + ASKED,
    "answers in a question": header(0x0100, 1, 1)
    + ASKED
    + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04abcd",
    "class CHAOS": header(0x0100, 1) + NAME + b"\x00\x01\x00\x03",
    "class ANY": header(0x0100, 1) + NAME + b"\x00\x01\x00\xff",
    "no class": header(0x0100, 1) + NAME + b"\x00\x01",
    "bytes behind its end": header(0x0100, 1) + ASKED + b"junk",
    "an EDNS record that is cut off": header(0x0100, 1, 0, 0, 1) + ASKED + b"\x00\x00\x29\x04",
    "60 kB of zeros": header(0x0100, 1) + ASKED + bytes(60_000),
}


@pytest.mark.parametrize("data", FORMERR.values(), ids=FORMERR.keys())
async def test_what_is_no_plain_question_is_formerr(resolver: Resolver, data: bytes) -> None:
    answer = await resolver.send(data)
    assert answer[:2] == data[:2] and answer[2] & 0x80 and answer[3] & 0xF == 1
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]


async def test_answers_and_scraps_are_not_answered(resolver: Resolver) -> None:
    for data in (b"", b"\x00", header()[:11], header(0x8180, 1) + ASKED, header(0x8180, 1, 1) + ASKED):
        with pytest.raises(TimeoutError):
            await resolver.send(data, timeout=0.2)
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]


@pytest.mark.parametrize("kind", ["ANY", "AXFR", "IXFR", "OPT"])
async def test_questions_about_many_types_or_the_server_are_not_implemented(
    resolver: Resolver, kind: str
) -> None:
    assert rcode(await resolver.ask("www.example.com", kind)) == "NOTIMP"


async def test_other_operations_are_not_implemented(resolver: Resolver) -> None:
    for opcode in (1, 2, 4, 5, 6, 15):
        answer = await resolver.send(header(opcode << 11, 1) + ASKED)
        assert answer[3] & 0xF == 4


async def test_a_later_edns_is_answered_with_its_own_error(resolver: Resolver) -> None:
    query = dns.message.make_query("www.example.com", "A", use_edns=1)
    assert rcode(dns.message.from_wire(await resolver.send(query.to_wire()))) == "BADVERS"


async def test_random_bytes_and_mutated_questions_never_end_it(resolver: Resolver) -> None:
    chance = random.Random(76)
    whole = dns.message.make_query(WEB, "A", use_edns=0).to_wire()
    for _ in range(3000):
        if chance.random() < 0.2:
            data = chance.randbytes(chance.choice((1, 12, 40, 512, 4000)))
        else:
            mutated = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            data = bytes(mutated[: chance.randint(1, len(mutated))] if chance.random() < 0.3 else mutated)
        try:
            await resolver.send(data, timeout=0.001)
        except TimeoutError:
            continue
    assert resolver.is_alive()
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]
    assert b"Traceback" not in resolver.log.read_bytes()


async def test_tcp_connections_that_promise_and_do_not_deliver_leave_room_for_others(
    resolver: Resolver,
) -> None:
    open_ones = []
    for _ in range(60):  # more than one caller may have
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", resolver.port, local_addr=("127.0.0.4", 0)
        )
        writer.write(b"\x10\x00ab")
        open_ones.append(writer)
    for data in (b"\xff\xff" + bytes(100), b"\x00\x00", b"\x00\x01a"):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", resolver.port, local_addr=("127.0.0.3", 0)
        )
        writer.write(data)
        async with asyncio.timeout(5):
            assert await reader.read() == b"", "it is closed"
        writer.close()
    assert values(await resolver.ask_tcp(WEB)) == ["10.128.0.1"]
    for writer in open_ones:
        writer.close()


def _hostile(query: dns.message.Message, answer: bytes) -> dict[str, list[bytes]]:
    number, name = answer[:2], query.question[0].to_text()
    assert name
    many = dns.message.from_wire(answer)
    many.answer = [
        dns.rrset.from_text_list(
            "www.example.com.", 60, "IN", "A", [f"192.0.{n >> 8}.{n & 255}" for n in range(3500)]
        )
    ]
    wrong_number = struct.pack("!H", query.id ^ 1)
    question = answer[12:]
    return {
        "nothing": [b""],
        "half a header": [answer[:7]],
        "a loop of pointers": [
            number + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question[:21] + b"\xc0\x21" * 9
        ],
        "ten thousand answers that are not there": [answer[:6] + b"\x27\x10" + answer[8:]],
        "thousands of answers": [many.to_wire()],
        "64 kB": [answer + bytes(65_000 - len(answer))],
        "another number": [wrong_number + answer[2:]],
        "another question": [answer.replace(b"example", b"exampla").replace(b"EXAMPLE", b"exampla")],
        "a question again": [query.to_wire()],
        "a flood": [wrong_number + answer[2:]] * 100,
    }


@pytest.mark.parametrize("tcp_too", [False, True], ids=["by UDP", "by both"])
async def test_an_upstream_that_sends_anything_else_than_an_answer_is_not_believed(
    resolver: Resolver, upstream: TinyUpstream, tcp_too: bool
) -> None:
    seen: list[str] = []
    example = dns.message.make_query("a", "A")
    kinds = list(_hostile(example, example.to_wire()))
    for index, kind in enumerate(kinds):
        name = f"h{index}.example.com"
        upstream.put(f"{name} A 192.0.2.5")

        def bend(query: dns.message.Message, answer: bytes, tcp: bool, kind: str = kind) -> list[bytes]:
            seen.append(kind)
            return _hostile(query, answer)[kind] if tcp_too or not tcp else [answer]

        upstream.bend = bend
        answer = await resolver.ask(name, timeout=15)
        assert rcode(answer) == "SERVFAIL" or values(answer) == ["192.0.2.5"]
    assert set(seen) == set(kinds)
    assert resolver.is_alive()
    assert b"Traceback" not in resolver.log.read_bytes()
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]


async def test_letters_of_another_case_are_a_forgery_until_tcp_says_otherwise(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    def bend(query: dns.message.Message, answer: bytes, tcp: bool) -> list[bytes]:
        if tcp:
            return [answer]
        return [answer[:12] + answer[12:].swapcase().replace(b"\xc0\x00", b"\xc0\x02")]

    upstream.bend = bend
    assert values(await resolver.ask("www.example.com")) == ["192.0.2.1"]
    assert [tcp for _, _, tcp in upstream.asked] == [False, True]


async def test_a_killed_resolver_answers_again_within_a_second_of_its_start(resolver: Resolver) -> None:
    resolver.kill()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await resolver.start()
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]
    assert loop.time() - began < 2
