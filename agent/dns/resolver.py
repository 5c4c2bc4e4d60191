"""One query from beginning to end: read, judge, answer with authority or ask, learn, tell. Knows no
listening socket.

In doubt nothing is said: a caller that is not known is refused, and what cannot be known, asked or brought
into force in time is SERVFAIL, with its reason in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from agent.dns import message
from agent.dns.cache import Cache, Failures, Key
from agent.dns.chain import BrokenChain, Chain, behind, follow, links
from agent.dns.files import Document
from agent.dns.learning import Learning
from agent.dns.memory import Full
from agent.dns.message import Question
from agent.dns.policy import Judgement, Policy, unsearched
from agent.dns.upstream import Upstream, UpstreamFailed
from agent.dns.zone import Authority, Reply, is_inside
from mesh.dns import Answer, Observation, Transport
from mesh.dns_name import canonical

log = logging.getLogger(__name__)

#: Questions that may wait for an upstream or for the kernel, of all callers and of one.
MOST_WAITING, MOST_OF_ONE = 1024, 256

#: The kinds of records that are addresses.
ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)

_SERVFAIL = Reply(dns.rcode.SERVFAIL)
_REFUSED = Reply(dns.rcode.REFUSED)


class _Failed(Exception):
    """The question gets SERVFAIL; says why."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Where a message came from, and on which of our addresses it arrived."""

    address: str
    port: int
    resolver: str
    transport: Transport


class Resolver:
    """`tell` is given an `Observation` of each question."""

    def __init__(
        self,
        zone: Document[Authority],
        policy: Document[Policy],
        upstream: Upstream,
        learning: Learning,
        tell: Callable[[Observation], None],
    ) -> None:
        self._zone = zone
        self._policy = policy
        self._upstream = upstream
        self._learning = learning
        self._tell = tell
        self._cache = Cache()
        self._failures = Failures()
        self._asking: dict[Key, asyncio.Task[Chain]] = {}
        self._waiting: Counter[str] = Counter()

    async def answer(self, data: bytes, asker: Asker) -> bytes | None:
        """What to send back, if anything. Never raises but when cancelled."""
        question = message.read(data)
        if not isinstance(question, Question):
            return question
        judgement = Judgement(False)
        chain = Chain(_SERVFAIL, (question.name,), (), 0)
        try:
            policy, authority = self._policy.read(), self._zone.read()
            if policy is None or authority is None:
                raise _Failed("neither records nor policy are known yet")
            judgement = _judge(policy, authority, question.name, asker)
            if not judgement.allowed:
                chain = Chain(_REFUSED, (question.name,), (), 0)
            else:
                chain = await self._allowed(question, asker, policy, authority)
        except _Failed as error:
            log.warning("%s for %s: SERVFAIL: %s", question.name, asker.address, error)
        except Exception:
            # One question's trouble is its own.
            log.exception("%s for %s: SERVFAIL", question.name, asker.address)
        self._tell(_observed(question, asker, judgement, chain))
        return message.encode(question, chain.reply, asker.transport)

    async def _allowed(self, question: Question, asker: Asker, policy: Policy, authority: Authority) -> Chain:
        """What there is of a name that may be asked for; of an alias, what there is at its end."""
        found: tuple[dns.rrset.RRset, ...] = ()
        if question.kind != dns.rdatatype.CNAME:
            try:
                found = links(authority, question.qname, question.name)
            except BrokenChain as error:
                raise _Failed(str(error)) from None
        if found:
            qname = found[-1][0].target
            question = replace(question, qname=qname, name=canonical(qname.to_text()))
        namespace = policy.namespace(asker.address)
        if authority.invites(question.name, namespace):
            authority = await self._invite(question, asker, authority, namespace)
        if not authority.owns(question.name, namespace):
            return await self._outside(question, asker, policy, found)
        if question.kind in ADDRESSES and namespace:
            await self._widen(question, asker, authority, namespace)
        reply = authority.answer(question.qname, question.name, question.kind, namespace)
        chain = behind(found, Chain(reply, (question.name,), (), 0))
        led_to = self._learning.current.get(question.name, ()) if question.kind in ADDRESSES else ()
        if found and led_to:
            # Policy judges what stands behind a host of a ServiceEntry, and the aliases are its names, too.
            with self._waits(asker):
                await self._open(policy, chain.names[:-1], led_to, 0, namespace)
        return chain

    async def _invite(
        self, question: Question, asker: Asker, authority: Authority, namespace: str
    ) -> Authority:
        """The records, once a name under a pattern is a service: as it is to be if the world has addresses
        for it, and no object names it."""
        with self._waits(asker):
            in_time = await self._learning.ask_again(question.name)
            if in_time is None:
                if authority.owns(question.name, namespace):
                    return authority
                chains = (await self.ask_addresses(question.qname, question.name)).values()
                addresses = {address for chain in chains for address in chain.addresses}
                if not addresses:
                    return authority
                for chain in chains:
                    self.remember(chain, namespace)
                in_time = await self._learning.ask(question.name, tuple(sorted(addresses)), namespace)
        if not in_time:
            raise _Failed("it is no service of the mesh in time")
        authority = self._zone.read() or authority
        if not authority.owns(question.name, namespace):
            raise _Failed("the mesh has no address for it")
        return authority

    async def _widen(self, question: Question, asker: Asker, authority: Authority, namespace: str) -> None:
        """Wait until the Envoys of the namespace's pods know of a service, if looking it up is to do that."""
        if host := authority.widened_by(question.name, namespace):
            with self._waits(asker):
                if not await self._learning.look_up(namespace, host):
                    raise _Failed("what routes say of it is not in force in time")

    async def _outside(
        self, question: Question, asker: Asker, policy: Policy, found: tuple[dns.rrset.RRset, ...]
    ) -> Chain:
        with self._waits(asker):
            chain = behind(found, await self.ask(question.qname, question.name, question.kind))
            namespace = policy.namespace(asker.address)
            await self._open(policy, chain.names, chain.addresses, chain.ttl, namespace)
            return chain

    async def _open(
        self, policy: Policy, names: Iterable[str], addresses: tuple[str, ...], ttl: int, namespace: str
    ) -> None:
        """Wait until policies that speak of these names know the addresses."""
        wanted = [name for name in names if policy.wanted.fit(name)]
        if wanted and addresses and not await self._learning.take(wanted, addresses, ttl, namespace):
            raise _Failed(f"its addresses are not in force in time: {', '.join(addresses)}")

    @contextmanager
    def _waits(self, asker: Asker) -> Iterator[None]:
        """For an upstream or for the kernel, among not too many."""
        if self._waiting.total() >= MOST_WAITING or self._waiting[asker.address] >= MOST_OF_ONE:
            raise _Failed("too many questions wait already")
        self._waiting[asker.address] += 1
        try:
            yield
        except (UpstreamFailed, BrokenChain, Full) as error:
            raise _Failed(str(error)) from None
        finally:
            self._waiting[asker.address] -= 1
            if not self._waiting[asker.address]:
                del self._waiting[asker.address]

    def remember(self, chain: Chain, namespace: str) -> None:
        """Keep of an answer that nobody waits for what policies want to know, by its names and aliases. A pod
        of a namespace made it one of the mesh, or ("") a service."""
        policy, authority = self._policy.read(), self._zone.read()
        names = authority.names_of(chain.names) if authority else chain.names
        wanted = [name for name in names if policy.wanted.fit(name)] if policy else []
        if wanted and chain.addresses:
            try:
                self._learning.remember(wanted, chain.addresses, chain.ttl, namespace)
            except Full as error:
                log.warning("%s: %s", chain.names[0], error)

    async def ask_addresses(self, qname: dns.name.Name, name: str) -> dict[dns.rdatatype.RdataType, Chain]:
        """What is said of each kind of address. One of which nothing is said is left out: there are servers
        that fail at AAAA. Raises UpstreamFailed, BrokenChain if that is so of all."""
        found: dict[dns.rdatatype.RdataType, Chain] = {}
        failed: list[UpstreamFailed | BrokenChain] = []
        for kind in ADDRESSES:
            try:
                found[kind] = await self.ask(qname, name, kind)
            except (UpstreamFailed, BrokenChain) as error:
                failed.append(error)
        if not found:
            raise failed[0]
        return found

    async def ask(self, qname: dns.name.Name, name: str, kind: dns.rdatatype.RdataType) -> Chain:
        """From the cache, or from an upstream that is asked once for all who wait. Raises UpstreamFailed,
        BrokenChain."""
        key = (name, kind)
        if (known := self._cache.get(key, time.monotonic())) is not None:
            return known
        if (why := self._failures.get(key, time.monotonic())) is not None:
            raise UpstreamFailed(f"{why}, a moment ago")
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._fetch(qname, key))
            asking.add_done_callback(lambda task: self._asked(key, task))
        return await asyncio.shield(asking)

    async def _fetch(self, qname: dns.name.Name, key: Key) -> Chain:
        try:
            answer = await self._upstream.ask(qname, key[1])
        except UpstreamFailed as error:
            self._failures.put(key, str(error), time.monotonic())
            raise
        chain = follow(qname, key[1], answer)
        self._cache.put(key, chain, time.monotonic())
        return chain

    def _asked(self, key: Key, task: asyncio.Task[Chain]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more


def _judge(policy: Policy, authority: Authority, name: str, asker: Asker) -> Judgement:
    if asker.address == asker.resolver:
        return Judgement(True)  # rule 10: within the resolver's own pod
    judgement = policy.judge(asker.address, asker.transport, name)
    if judgement.allowed or not is_inside(name) or authority.exists(name):
        return judgement
    # A stub resolver tries its search list first and stops where it is refused. That the mesh has no such
    # name gives nothing away to one who may ask for what stands before it.
    tried = (policy.judge(asker.address, asker.transport, head) for head in unsearched(name))
    return next((found for found in tried if found.allowed), judgement)


def _observed(question: Question, asker: Asker, judgement: Judgement, chain: Chain) -> Observation:
    answer = chain.reply.answer
    final = answer[-1] if answer else None
    ips = chain.addresses
    if not ips and final is not None and final.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
        ips = tuple(rdata.to_text() for rdata in final)
    return Observation(
        time.time(),
        asker.address,
        asker.port,
        asker.resolver,
        asker.transport,
        Answer(
            question.name,
            dns.rdatatype.to_text(question.kind),
            dns.rcode.to_text(chain.reply.rcode),
            ips,
            chain.names[1:],
            final.ttl if final is not None else 0,
        ),
        judgement.allowed,
        judgement.audit,
        judgement.rules,
    )
