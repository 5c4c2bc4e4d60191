from __future__ import annotations

from dataclasses import dataclass

from mesh.model import MeshConfig, Term


@dataclass(frozen=True, slots=True)
class Caller:
    address: str
    known: bool
    namespace: str
    service_account: str


def connection_term_fits(term: Term, caller: Caller, port: int, config: MeshConfig) -> bool:
    raise NotImplementedError
