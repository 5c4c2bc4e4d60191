"""Messages from and to callers: what is a question, and what goes back on which transport.

What is not one plain question is answered from its header alone, before anything behind that is parsed
(threat N76). Knows no policy and no zone.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from agent.dns.zone import Reply
from mesh.dns import Transport
from mesh.dns_name import canonical

log = logging.getLogger(__name__)

#: Bytes of a UDP message that no path fragments (DNS flag day 2020), and of a question.
PAYLOAD = 1232
LONGEST = 4096

_HEADER = struct.Struct("!6H")
_QR = 0x8000
#: RFC 6895 section 3.1: 128 to 255 are questions about the server or for many types at once.
_META = range(128, 256)


@dataclass(frozen=True, slots=True)
class Question:
    """A plain question of class IN, and its canonical name."""

    message: dns.message.Message
    qname: dns.name.Name
    name: str
    kind: dns.rdatatype.RdataType


def read(data: bytes) -> Question | bytes | None:
    """The question in a message, or what to send instead of an answer (None: nothing)."""
    if len(data) < _HEADER.size or _flags(data) & _QR:
        return None  # an answer to an answer never ends
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if (flags >> 11) & 0xF != dns.opcode.QUERY:
        return _error(data, dns.rcode.NOTIMP)
    if (questions, answers, authority) != (1, 0, 0) or additional > 2 or len(data) > LONGEST:
        return _error(data, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(data)
        asked = message.question[0]
        kind = asked.rdtype
        name = canonical(asked.name.to_text())
    except Exception as error:
        # Whatever a hostile message makes the parser say, it is the message's fault.
        log.debug("a question cannot be read: %r", error)
        return _error(data, dns.rcode.FORMERR)
    if asked.rdclass != dns.rdataclass.IN:
        return _error(data, dns.rcode.FORMERR)
    question = Question(message, asked.name, name, kind)
    if message.edns > 0:
        return encode(question, Reply(dns.rcode.BADVERS), "UDP")
    if kind in _META or kind == dns.rdatatype.OPT:
        return encode(question, Reply(dns.rcode.NOTIMP), "UDP")
    return question


def encode(question: Question, reply: Reply, transport: Transport) -> bytes:
    """The answer as bytes; over UDP as much of it as the caller can take, and the sign to come by TCP."""
    message = dns.message.make_response(question.message, recursion_available=True, our_payload=PAYLOAD)
    message.set_rcode(reply.rcode)
    if reply.authoritative:
        message.flags |= dns.flags.AA
    message.answer = list(reply.answer)
    message.authority = list(reply.authority)
    room = min(max(question.message.payload, 512), PAYLOAD) if transport == "UDP" else 65535
    return message.to_wire(max_size=room, prefer_truncation=True)


def _flags(data: bytes) -> int:
    return int.from_bytes(data[2:4], "big")


def _error(data: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """A header alone: what stood behind it is not repeated."""
    flags = _QR | (_flags(data) & 0x7900) | dns.flags.RA | rcode  # opcode and RD as they came
    return _HEADER.pack(int.from_bytes(data[:2], "big"), flags, 0, 0, 0, 0)
