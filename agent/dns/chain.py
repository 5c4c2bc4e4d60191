"""What an upstream's answer says of the name that was asked for, and nothing else that stands in it.

From the question along the CNAMEs to what was asked for: a record that is not on this way is none of ours,
whoever put it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from agent.dns.zone import Reply
from mesh.dns_name import canonical

#: CNAMEs in a row.
LONGEST = 16

_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class BrokenChain(Exception):
    """An answer whose CNAMEs lead nowhere."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`names` (canonical) begin with the one asked for and go on along the CNAMEs; each of them has all
    of `addresses` (canonical text). `ttl` is the least of all, in seconds."""

    reply: Reply
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    ttl: int


def follow(qname: dns.name.Name, kind: dns.rdatatype.RdataType, message: dns.message.Message) -> Chain:
    """Raises BrokenChain."""
    found: list[dns.rrset.RRset] = []
    names = [qname]
    while True:
        final = message.get_rrset(message.answer, names[-1], dns.rdataclass.IN, kind)
        if final is not None:
            found.append(final)
            break
        alias = message.get_rrset(message.answer, names[-1], dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            break
        target = alias[0].target
        if len(alias) > 1 or target in names or len(names) > LONGEST:
            raise BrokenChain(f"the CNAMEs of {qname} do not end")
        found.append(alias)
        names.append(target)
    addresses = (
        tuple(str(ip_address(rdata.address)) for rdata in final) if final and kind in _ADDRESSES else ()
    )
    soa = _nothing(message) if final is None else ()
    ttl = min((rrset.ttl for rrset in (*found, *soa)), default=0)
    reply = Reply(message.rcode(), tuple(found), soa)
    return Chain(reply, tuple(canonical(n.to_text()) for n in names), addresses, ttl)


def _nothing(message: dns.message.Message) -> tuple[dns.rrset.RRset, ...]:
    """RFC 2308 section 5: that there is nothing holds as long as the SOA says, without one not at all."""
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return (dns.rrset.from_rdata(rrset.name, min(rrset.ttl, rrset[0].minimum), rrset[0]),)
    return ()
