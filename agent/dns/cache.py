"""Answers of upstreams, kept as long as they say, within bounds. Time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import dns.rdatatype
import dns.rrset

from agent.dns.chain import Chain
from agent.dns.zone import Reply

#: Answers that are kept, and for how many seconds at most: what there is, and that there is nothing.
ENTRIES = 10_000
MOST, MOST_NEGATIVE = 3600, 30
#: Seconds for which a question that nobody answered is not asked again (RFC 9520 section 3.2). A stub
#: resolver repeats it at once, and would wait as long each time.
FAILED = 5.0

Key = tuple[str, dns.rdatatype.RdataType]


class Cache:
    """By canonical name and type; the least recently used answer goes first."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._kept: OrderedDict[Key, tuple[Chain, float, float]] = OrderedDict()

    def put(self, key: Key, chain: Chain, now: float) -> None:
        """Remember an answer, unless it says that it is not to be."""
        seconds = min(chain.ttl, MOST if _is_positive(chain) else MOST_NEGATIVE)
        if seconds <= 0:
            return
        self._kept[key] = (chain, now, now + seconds)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def get(self, key: Key, now: float) -> Chain | None:
        """An answer that is still good, its times to live grown shorter."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        chain, since, until = kept
        if now >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return aged(chain, int(now - since), int(until - now))

    def __len__(self) -> int:
        return len(self._kept)


class Failures:
    """Questions that nobody answered, and why; the oldest go first."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._entries = entries
        self._kept: OrderedDict[Key, tuple[str, float]] = OrderedDict()

    def put(self, key: Key, why: str, now: float) -> None:
        self._kept[key] = (why, now + FAILED)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def get(self, key: Key, now: float) -> str | None:
        """Why there is no use in asking now."""
        why, until = self._kept.get(key, ("", now))
        return why if now < until else None


def _is_positive(chain: Chain) -> bool:
    return not chain.reply.authority and bool(chain.reply.answer)


def aged(chain: Chain, seconds: int, left: int) -> Chain:
    """The answer `seconds` later, good for `left` more."""

    def older(rrset: dns.rrset.RRset) -> dns.rrset.RRset:
        return dns.rrset.from_rdata_list(rrset.name, max(0, min(rrset.ttl - seconds, left)), list(rrset))

    reply = Reply(
        chain.reply.rcode, tuple(map(older, chain.reply.answer)), tuple(map(older, chain.reply.authority))
    )
    return replace(chain, reply=reply, ttl=max(0, min(chain.ttl - seconds, left)))
