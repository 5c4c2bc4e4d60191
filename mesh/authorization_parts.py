from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mesh.model import Authorization, MeshConfig, Term
from mesh.protocols import PortKind
from mesh.proxy import AuthorizationPart


@dataclass(frozen=True, slots=True)
class Granted:
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    keys: tuple[str, ...]
    parts: tuple[AuthorizationPart, ...]
    plain: tuple[AuthorizationPart, ...] | None


Answer = Granted | Refused | Ask


def combine(
    policies: Sequence[Authorization], truth: Callable[[Term], bool], port: int, kind: PortKind | None
) -> Answer:
    return Granted()


def caller_terms(policies: Iterable[Authorization]) -> Iterator[Term]:
    return iter(())


def ports_of(policies: Iterable[Authorization]) -> set[int]:
    return set()


def identity_satisfies(term: Term, namespace: str, account: str, config: MeshConfig) -> bool:
    return False
