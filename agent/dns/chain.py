"""Names that lead to names: along the aliases of the mesh, and along the CNAMEs of an upstream's answer, of
which nothing else is taken.

From the question along the CNAMEs to what was asked for: a record that is not on this way is none of ours,
whoever put it there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from agent.dns.zone import Authority, Reply
from mesh import aliases
from mesh.dns_name import canonical

#: CNAMEs in a row, of an upstream.
LONGEST = 16

_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class BrokenChain(Exception):
    """CNAMEs that lead nowhere."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`names` (canonical) begin with the one asked for and go on along the CNAMEs; each of them has all
    of `addresses` (canonical text). `ttl` is the least of all, in seconds."""

    reply: Reply
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    ttl: int


def links(authority: Authority, qname: dns.name.Name, name: str) -> tuple[dns.rrset.RRset, ...]:
    """The CNAMEs from a name (canonical: `name`) along the aliases of the mesh. Raises BrokenChain."""
    found: list[dns.rrset.RRset] = []
    while authority.alias(name):
        if len(found) == aliases.LONGEST:
            raise BrokenChain(f"more than {aliases.LONGEST} aliases stand in a row, or in a circle")
        link = authority.answer(qname, name, dns.rdatatype.CNAME).answer[0]
        found.append(link)
        qname, name = link[0].target, authority.alias(name)
    return tuple(found)


def behind(found: tuple[dns.rrset.RRset, ...], chain: Chain) -> Chain:
    """What is said at the end of aliases, for who asked for the first: its addresses are theirs, too."""
    if not found:
        return chain
    names = (canonical(link.name.to_text()) for link in found)
    reply = replace(chain.reply, answer=(*found, *chain.reply.answer), authoritative=True)
    return replace(chain, reply=reply, names=(*names, *chain.names))


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
