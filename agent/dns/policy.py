"""Who may ask for which name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mesh.dns import CLUSTER_DOMAIN, Caller, Queries, Transport
from mesh.dns_name import matches
from mesh.model import NamePattern


class Patterns:
    """A set of patterns; plain names among them cost nothing."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = frozenset(texts)
        self._names = frozenset(text for text in texts if "*" not in text)
        self._patterns = tuple(NamePattern(text) for text in sorted(texts - self._names))

    def fit(self, name: str) -> bool:
        return name in self._names or any(matches(pattern, name) for pattern in self._patterns)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`audit` is what it would be if policies in audit mode counted; None: the same."""

    allowed: bool
    audit: bool | None = None
    rules: tuple[str, ...] = ()


class Policy:
    """`Queries`, indexed."""

    def __init__(self, queries: Queries) -> None:
        made: dict[tuple[str, ...], Patterns] = {}

        def patterns(texts: tuple[str, ...] | None) -> Patterns | None:
            if texts is None:
                return None
            if texts not in made:
                made[texts] = Patterns(texts)
            return made[texts]

        self._callers: dict[tuple[str, Transport], tuple[Caller, Patterns | None, Patterns | None]] = {
            (caller.address, caller.transport): (
                caller,
                patterns(caller.names),
                patterns(caller.audit_names),
            )
            for caller in queries.callers
        }
        self.wanted = Patterns(queries.wanted)
        self._namespaces = queries.namespaces

    @staticmethod
    def from_json(text: bytes) -> Policy:
        """Raises ValueError."""
        return Policy(Queries.from_json(text))

    def namespace(self, address: str) -> str:
        """Of the pod that has an address; "" for all else."""
        return self._namespaces.get(address, "")

    def judge(self, address: str, transport: Transport, name: str) -> Judgement:
        """May the caller ask for a canonical name? Who is not listed is a stranger."""
        found = self._callers.get((address, transport))
        if found is None:
            return Judgement(False)
        caller, now, then = found
        allowed = now is None or now.fit(name)
        would = then is None or then.fit(name)
        return Judgement(allowed, None if would == allowed else would, caller.rules)


def unsearched(name: str) -> Iterator[str]:
    """What a name may have been before a stub resolver put a domain of its search list behind it."""
    head, found, rest = name.rpartition(f".{CLUSTER_DOMAIN}")
    if not found or rest:
        return
    yield head
    head, found, rest = head.rpartition(".svc")
    if found and not rest:
        yield head
        head, found, _ = head.rpartition(".")
        if found:
            yield head
