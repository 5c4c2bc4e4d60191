"""When what may be applied: the order in which a node's Envoys and its kernel meet a new generation.

Each proxy is first served the old and the new together (the new wins by name), then the kernel flips, then
the proxies are served the new alone: whatever the kernel steers to is there before, during and after. A
proxy that does not get ready in time does not hold up the node: the kernel flips anyway, and what steers
to a listener that is not there is refused. Of a resource that an Envoy refuses the last good version stays
(rule 27; `mesh.discovery` finds the guilty one). Time is an argument; this file does no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mesh.model import WorkloadName
from mesh.node import Manifest

#: Seconds that a flip waits for proxies that are not ready.
PATIENCE = 5.0
#: Seconds after a flip for which the old is served still: connections that the kernel had handed to a
#: listener just before may not be accepted yet.
LINGER = 1.0

Key = tuple[str, str]
#: Type URL -> name -> content hash. Never changed in place; a type in which nothing differs is the same
#: object as before.
Contents = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Serving:
    """What one proxy is to be served now.

    `revision` changes whenever `resources` does, so that a report about an earlier one is recognised.
    """

    revision: int
    resources: Contents


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """A resource version that a proxy refused, with its words."""

    pod: WorkloadName
    type_url: str
    name: str
    hash: str
    error: str


@dataclass(slots=True)
class _Proxy:
    old: Contents = field(default_factory=dict)
    new: Contents = field(default_factory=dict)
    good: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    refused: dict[Key, dict[str, str]] = field(default_factory=dict)
    serving: Serving = field(default_factory=lambda: Serving(1, {}))
    ready: bool = False
    given_up: bool = False

    def refresh(self) -> None:
        served = self._choose()
        if served != self.serving.resources:
            self.serving = Serving(self.serving.revision + 1, _same(self.serving.resources, served))
            self.ready = False

    def _choose(self) -> Contents:
        chosen = _union(self.old, self.new)
        for (type_url, name), said in self.refused.items():
            version = chosen.get(type_url, {}).get(name)
            if version not in said:
                continue
            names = dict(chosen[type_url])
            fallback = self.good[type_url].get(name, self.old.get(type_url, {}).get(name, version))
            if fallback in said:
                del names[name]
            else:
                names[name] = fallback
            chosen[type_url] = names
        return chosen

    def aim(self, new: Contents) -> None:
        """Takes a new target; what was refused stays refused only while its content is wanted."""
        self.new = new = _same(self.new, new)
        self.refused = {
            (type_url, name): said
            for (type_url, name), said in self.refused.items()
            if new.get(type_url, {}).get(name) in said
        }
        for type_url, good in self.good.items():
            for name in good.keys() - self.old.get(type_url, {}).keys() - new.get(type_url, {}).keys():
                del good[name]
        self.refresh()

    def settle(self) -> None:
        """The kernel has flipped. A kept old version may need old neighbours, so they stay with it."""
        self.old = self.serving.resources if self.refused else self.new
        self.refresh()

    def accept(self, type_url: str, accepted: Mapping[str, str]) -> None:
        self.good[type_url].update(accepted)

    def refuse(self, key: Key, message: str) -> None:
        type_url, name = key
        version = self.serving.resources.get(type_url, {}).get(name)
        if version is not None:
            self.refused.setdefault(key, {})[version] = message
            if self.good[type_url].get(name) == version:
                del self.good[type_url][name]  # A restarted Envoy may refuse what the one before it accepted.
            self.refresh()


class Rollout:
    """One node's proxies on their way from the generation in force to the newest one wanted."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._proxies: dict[WorkloadName, _Proxy] = {}
        self._warming: tuple[int, frozenset[WorkloadName], float] | None = None
        self._wanted: frozenset[WorkloadName] = frozenset()
        self._in_force: frozenset[WorkloadName] = frozenset()
        self._leaving: tuple[frozenset[WorkloadName], float] | None = None

    @property
    def warming(self) -> int | None:
        """The generation that proxies prepare for, if the kernel has not yet flipped to it."""
        return self._warming[0] if self._warming else None

    @property
    def needed(self) -> frozenset[WorkloadName]:
        """Pods that need a proxy: by the newest generation begun, by the one still in force, which steers to
        it until the kernel has flipped, or by one that was in force just now."""
        return self._wanted | self._in_force | (self._leaving[0] if self._leaving else frozenset())

    def adopt(self, manifests: Iterable[Manifest]) -> None:
        """Starts from manifests whose generation the kernel already enforces."""
        contents = _contents(manifests)
        self._wanted = self._in_force = frozenset(contents)
        for pod, wanted in contents.items():
            proxy = self._proxies.setdefault(pod, _Proxy())
            proxy.old = wanted
            proxy.aim(wanted)

    def want(self, number: int, manifests: Iterable[Manifest], now: float) -> None:
        """Begins a generation; `now` is seconds of any clock. The one before must be in force, so what
        comes meanwhile waits with the caller, and the newest of it is what to begin next."""
        assert self._warming is None
        self._settle()
        contents = _contents(manifests)
        self._wanted = frozenset(contents)
        for pod, wanted in contents.items():
            self._proxies.setdefault(pod, _Proxy()).aim(wanted)
        for pod, proxy in self._proxies.items():
            if pod not in contents:
                proxy.aim(proxy.old)
        self._warming = (number, self._wanted, now + self._patience)

    def may_flip(self, now: float, present: Collection[WorkloadName]) -> bool:
        """Whether the kernel may now enforce `warming`. Only pods that are `present` are waited for."""
        if self._warming is None:
            return False
        _, wanted, deadline = self._warming
        return now >= deadline or not any(self._awaits(pod) for pod in wanted if pod in present)

    def flipped(self, now: float) -> None:
        """The kernel enforces `warming`: in a moment it is to be served alone."""
        self._leaving = (self._in_force, now + LINGER)
        self._warming, self._in_force = None, self._wanted
        for pod in self._wanted:
            self._proxies[pod].given_up = not self._proxies[pod].ready

    def tick(self, now: float) -> None:
        """Serve the generation in force alone, if it is time."""
        if self._leaving and now >= self._leaving[1]:
            self._settle()

    def _settle(self) -> None:
        if self._leaving:
            self._leaving = None
            for pod in self._in_force:
                self._proxies[pod].settle()

    def deadline(self) -> float | None:
        """When the flip, or what follows it, stops waiting; None if nothing is under way."""
        due = [found[-1] for found in (self._warming, self._leaving) if found]
        return min(due, default=None)

    def serving(self, pod: WorkloadName) -> Serving | None:
        """What the pod's proxy is to be served, None if it never needed one."""
        proxy = self._proxies.get(pod)
        return proxy.serving if proxy else None

    def accepted(self, pod: WorkloadName, type_url: str, versions: Mapping[str, str]) -> None:
        """The proxy has ACKed; `versions` is all it has accepted of this type, name -> content hash."""
        if pod in self._proxies:
            self._proxies[pod].accept(type_url, versions)

    def refused(self, pod: WorkloadName, type_url: str, name: str, message: str) -> None:
        """The proxy has refused what it is served of that name. In its place it is served what it last
        accepted, or nothing."""
        if pod in self._proxies:
            self._proxies[pod].refuse((type_url, name), message)

    def ready(self, pod: WorkloadName, revision: int) -> None:
        """The proxy serves that revision: everything ACKed, nothing warming (rule 27)."""
        proxy = self._proxies.get(pod)
        if proxy is not None and proxy.serving.revision == revision:
            proxy.ready, proxy.given_up = True, False

    def down(self, pod: WorkloadName) -> None:
        """The proxy is gone or does not answer any more; a new process has accepted nothing."""
        proxy = self._proxies.get(pod)
        if proxy is not None:
            proxy.ready = False

    def is_ready(self, pod: WorkloadName) -> bool:
        """Whether the proxy serves what it is to be served now."""
        proxy = self._proxies.get(pod)
        return proxy is not None and proxy.ready

    def forget(self, pod: WorkloadName) -> None:
        """The proxy was stopped and nothing wants it."""
        if pod not in self.needed:
            self._proxies.pop(pod, None)

    def refusals(self) -> tuple[Refusal, ...]:
        """Every resource that some proxy is kept from because it refused it."""
        return tuple(
            sorted(
                Refusal(pod, key[0], key[1], version, error)
                for pod, proxy in self._proxies.items()
                for key, said in proxy.refused.items()
                for version, error in said.items()
            )
        )

    def in_use(self) -> set[str]:
        """Content hashes that some proxy is or may again be served."""
        return {
            version
            for proxy in self._proxies.values()
            for contents in (proxy.old, proxy.new, proxy.serving.resources, proxy.good)
            for names in contents.values()
            for version in names.values()
        }

    def _awaits(self, pod: WorkloadName) -> bool:
        proxy = self._proxies[pod]
        return not proxy.ready and not proxy.given_up


def _contents(manifests: Iterable[Manifest]) -> dict[WorkloadName, dict[str, dict[str, str]]]:
    found: dict[WorkloadName, dict[str, dict[str, str]]] = {}
    for manifest in manifests:
        contents = found.setdefault(manifest.pod, {})
        for type_url, names in manifest.resources.items():
            contents.setdefault(type_url, {}).update(names)
    return found


def _union(old: Contents, new: Contents) -> dict[str, Mapping[str, str]]:
    """What is in both is as in `new`."""
    found = {**old, **new}
    for type_url in old.keys() & new.keys():
        if old[type_url] is not new[type_url]:
            found[type_url] = {**old[type_url], **new[type_url]}
    return found


def _same(before: Contents, contents: Contents) -> Contents:
    """`contents`, with the very objects of `before` where nothing differs."""
    return {
        type_url: known if (known := before.get(type_url)) == names else names
        for type_url, names in contents.items()
    }
