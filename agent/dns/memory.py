"""Names and addresses that policies and services speak of, as answers taught them, the names under patterns
of ServiceEntries that became services because somebody asked, and the services that pods looked up whose
scope that widens. Pure: time is an argument, and a report is for others to write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from mesh.dns import AskedName, Learned, LearnedAddress, LookedUp

#: Addresses of one name (of more, those that would be forgotten first go), and of all names; of these pods of
#: one namespace teach no more than are left for all others.
MOST_PER_NAME, MOST = 1000, 65_536
#: Seconds that a name under a pattern stays a service after it was asked for, and how many there may be: each
#: costs an address of the mesh. Pods of one namespace make no more of them than are left for all others.
ASKED_LIFETIME, MOST_ASKED = 86400.0, 1000
#: Hosts by which look-ups widen what pods of one namespace are told of; the one asked for longest ago makes
#: room.
MOST_LOOKED_UP = 1000
#: Seconds by which an expiry must grow to be worth a line on disk.
GROWTH = 60.0


class Full(Exception):
    """Nothing more can be learned until something expires."""


class Memory:
    """What is learned. `sequence` counts the reports; each pair bears the number of the first that had it."""

    def __init__(self, learned: Learned, in_force: int) -> None:
        """`in_force`: the newest report that was ever acknowledged. One that was lost since is not
        numbered again."""
        self.sequence = max(learned.sequence, in_force)
        self._known: dict[str, dict[str, LearnedAddress]] = {}
        self._written: dict[tuple[str, str], float] = {}
        self._count = 0
        self._taught: Counter[str] = Counter()
        self._current = dict(learned.current)
        self._asked = {known.name: known for known in learned.asked}
        #: In the order in which they were asked for last.
        self._looked_up = {(known.namespace, known.host): known for known in learned.looked_up}
        for known in learned.addresses:
            self._put(known)
            self._written[known.name, known.address] = known.expiry
        #: Something must be reported; something is to be written.
        self.news = False
        self.stale = learned.sequence != self.sequence

    def learn(
        self, names: Iterable[str], addresses: Iterable[str], now: float, expiry: float, namespace: str = ""
    ) -> int:
        """Take in that each name has each address until `expiry`, because a pod of a namespace asked; the
        report that must be in force before anyone may be told. Raises Full."""
        needed = 0
        addresses = tuple(addresses)
        for name in names:
            for address in addresses:
                needed = max(
                    needed,
                    self._learn(LearnedAddress(name, address, expiry, self.sequence + 1, namespace), now),
                )
        return needed

    def _learn(self, fresh: LearnedAddress, now: float) -> int:
        name, address, expiry, namespace = fresh.name, fresh.address, fresh.expiry, fresh.namespace
        known = self._known.get(name, {}).get(address)
        if known is not None and known.expiry > now:
            if expiry > known.expiry:
                self._put(replace(known, expiry=expiry))
                self.stale = self.stale or expiry - self._written.get((name, address), 0.0) > GROWTH
            return known.sequence
        if known is None:
            if self._taught[namespace] >= MOST - self._count:
                raise Full(
                    f"of {MOST} addresses {self._count} are learned already, {self._taught[namespace]} by "
                    f"pods of {namespace or 'no namespace'}, who get no more than are left"
                )
            same = self._known.get(name, {})
            if len(same) >= MOST_PER_NAME:
                self._forget(min(same.values(), key=lambda k: k.expiry))
        self.news = True
        self._put(fresh)
        return fresh.sequence

    def ask(self, name: str, addresses: tuple[str, ...], namespace: str, now: float) -> int:
        """A pod of a namespace asked for a name under a pattern, which has these addresses; the report that
        must be in force before it is answered. Raises Full."""
        if (needed := self.ask_again(name, now)) is not None:
            return needed
        own = sum(known.namespace == namespace for known in self._asked.values())
        if own >= MOST_ASKED - len(self._asked):
            raise Full(
                f"of {MOST_ASKED} names under patterns of ServiceEntries {len(self._asked)} are taken, "
                f"{own} by pods of {namespace or 'no namespace'}, who get no more than are left"
            )
        self._current.setdefault(name, addresses)
        self._asked[name] = AskedName(name, now + ASKED_LIFETIME, self.sequence + 1, namespace)
        self.news = True
        return self.sequence + 1

    def ask_again(self, name: str, now: float) -> int | None:
        """The same of a name that was asked for before; None if it was not."""
        known = self._asked.get(name)
        if known is None or known.expiry <= now:
            return None
        if now + ASKED_LIFETIME - known.expiry > ASKED_LIFETIME / 24:
            self._asked[name] = replace(known, expiry=now + ASKED_LIFETIME)
            self.stale = True
        return known.sequence

    def look_up(self, namespace: str, host: str) -> int:
        """A pod of a namespace, whose scope that widens, asked for a host of the mesh; the report that must
        be in force before it is answered."""
        key = namespace, host
        if (known := self._looked_up.pop(key, None)) is not None:
            self._looked_up[key] = known
            return known.sequence
        own = [other for other in self._looked_up if other[0] == namespace]
        if len(own) >= MOST_LOOKED_UP:
            del self._looked_up[own[0]]
        self._looked_up[key] = LookedUp(namespace, host, self.sequence + 1)
        self.news = True
        return self.sequence + 1

    @property
    def looked_up(self) -> Collection[tuple[str, str]]:
        """(namespace, host)"""
        return self._looked_up.keys()

    def narrow(self, gone: Iterable[tuple[str, str]]) -> None:
        """These hosts are none of the mesh any more, or look-ups there widen nothing."""
        for key in gone:
            del self._looked_up[key]
            self.news = True

    def asker(self, name: str) -> str:
        known = self._asked.get(name)
        return known.namespace if known else ""

    @property
    def asked(self) -> Collection[str]:
        return self._asked.keys()

    def drop(self, names: Iterable[str]) -> None:
        """These were asked for, and no pattern stands for them any more."""
        for name in names:
            del self._asked[name]
            self.news = True

    def follow(self, names: Collection[str]) -> None:
        """Services lead to these names, and to those that were asked for; of others no answer is kept."""
        for name in self._current.keys() - names - self._asked.keys():
            del self._current[name]
            self.news = True

    def answer(self, name: str, addresses: tuple[str, ...]) -> None:
        """The last answer of a name that services lead to."""
        if self._current.get(name) != addresses:
            self._current[name] = addresses
            self.news = True

    @property
    def current(self) -> Mapping[str, tuple[str, ...]]:
        return self._current

    def expire(self, now: float) -> None:
        """Forget what was not said again in time."""
        gone = [k for same in self._known.values() for k in same.values() if k.expiry <= now]
        for known in gone:
            self._forget(known)
        self.drop([known.name for known in self._asked.values() if known.expiry <= now])
        self.news = self.news or bool(gone)

    def report(self) -> Learned:
        """All that is known, under the next number if it is news."""
        if self.news:
            self.sequence += 1
        self.news = self.stale = False
        found = sorted(known for same in self._known.values() for known in same.values())
        self._written = {(known.name, known.address): known.expiry for known in found}
        asked, looked_up = tuple(sorted(self._asked.values())), tuple(self._looked_up.values())
        return Learned(self.sequence, tuple(found), tuple(sorted(self._current.items())), asked, looked_up)

    def _put(self, known: LearnedAddress) -> None:
        same = self._known.setdefault(known.name, {})
        if (before := same.get(known.address)) is not None:
            self._taught[before.namespace] -= 1
        self._count += before is None
        self._taught[known.namespace] += 1
        same[known.address] = known

    def _forget(self, known: LearnedAddress) -> None:
        same = self._known[known.name]
        del same[known.address]
        self._count -= 1
        self._taught[known.namespace] -= 1
        if not same:
            del self._known[known.name]
