"""The agent's side of the mesh's resolver (`mesh.dns`): which names this node's pods may ask for, which
names are of interest, which report of it is in force; and the flow records that come back.

Follows the records of a generation and writes files once that is in force. The resolver reads them when
it is asked, so what is written here is what the next query is judged by.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from agent.dns import files
from agent.records import Change
from mesh.dns import (
    ENFORCED,
    FLOWS,
    POLICY,
    PORT,
    RESOLVER_POD,
    Caller,
    InForce,
    Observation,
    Queries,
    Transport,
)
from mesh.model import WorkloadName
from mesh.node import (
    HOST_ID,
    BlockRecord,
    NamesRecord,
    PodRecord,
    PolicyClass,
    PolicySet,
    WorkloadRecord,
)

log = logging.getLogger(__name__)

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

_TRANSPORTS: tuple[Transport, ...] = ("UDP", "TCP")


class Resolving:
    """One node's resolver, as its agent sees it; its files are below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._resolver: WorkloadRecord | None = None
        self._pods: dict[WorkloadName, PodRecord] = {}
        self._sets: dict[int, PolicySet] = {}
        self._classes: dict[int, PolicyClass] = {}
        self._hosts: dict[str, BlockRecord] = {}
        self._names = NamesRecord((), 0)
        self._written: dict[str, str] = {}
        self._is_due = False

    def follow(self, change: Change) -> None:
        """One record changed."""
        old, new = change.old, change.new
        match old or new:
            case WorkloadRecord(name=name) if name == RESOLVER_POD:
                self._resolver = new if isinstance(new, WorkloadRecord) else None
            case PodRecord(name=name):
                _put(self._pods, name, new)
            case PolicySet(id=number, direction="egress"):
                _put(self._sets, number, new)
            case PolicyClass(id=number):
                # Named by its content: who refers to it changes with it.
                _put(self._classes, number, new)
                return
            case BlockRecord(cidr=cidr):
                own = new if isinstance(new, BlockRecord) and new.security_id == HOST_ID else None
                if self._hosts.get(cidr) == own:
                    return
                _put(self._hosts, cidr, own)
            case NamesRecord():
                self._names = new if isinstance(new, NamesRecord) else NamesRecord((), 0)
            case _:
                return
        self._is_due = True

    def settle(self) -> None:
        """What was followed is in force: say so. Raises OSError."""
        if self._is_due:
            self._write(POLICY, self.queries().to_json())
            self._write(ENFORCED, InForce(self._names.sequence).to_json())
            self._is_due = False

    def queries(self) -> Queries:
        """Who may ask for what, by the records that were followed."""
        made: dict[tuple[int, bool, Transport], Caller] = {}
        found = [Caller(cidr.partition("/")[0], via) for cidr in sorted(self._hosts) for via in _TRANSPORTS]
        for _, pod in sorted(self._pods.items()):
            for address in pod.addresses:
                for via in _TRANSPORTS:
                    key = (pod.egress_set, ":" in address, via)
                    if key not in made:
                        made[key] = self._restriction(*key)
                    found.append(replace(made[key], address=address))
        namespaces = {a: pod.name.namespace for pod in self._pods.values() for a in pod.addresses}
        return Queries(tuple(found), self._names.patterns, namespaces)

    async def listen(self, tell: Callable[[Observation], None]) -> None:
        """Hand over what the resolver says of each query, from now on. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / FLOWS
        path.unlink(missing_ok=True)
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        own.bind(str(path))
        path.chmod(0o600)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Observations(tell), sock=own)

    def _restriction(self, number: int, is_v6: bool, via: Transport) -> Caller:
        """What the pods of a policy set may ask the resolver, at its address of their family."""
        if not number:
            return Caller("", via)
        policy_class = self._class(number, is_v6)
        if policy_class is None:
            return Caller("", via, (), ())
        verdict = policy_class.at(via, PORT)
        if verdict.verdict == "deny":
            return Caller("", via, (), (), verdict.rules)
        return Caller("", via, verdict.names, verdict.audit_names, verdict.rules)

    def _class(self, number: int, is_v6: bool) -> PolicyClass | None:
        known, resolver = self._sets.get(number), self._resolver
        if known is None or resolver is None:
            return None
        blocks = (blocks for address, blocks in resolver.addresses if (":" in address) == is_v6)
        peer = (resolver.security_id, next(blocks, 0))
        chosen = (own for security_id, own_blocks, own in known.peers if (security_id, own_blocks) == peer)
        return self._classes.get(next(chosen, known.default))

    def _write(self, name: str, text: str) -> None:
        if self._written.get(name) != text:
            self._folder.mkdir(parents=True, exist_ok=True)
            files.replace(self._folder / name, text)
            self._written[name] = text


def _put(table: dict[_K, _V], key: _K, record: object) -> None:
    if record is None:
        table.pop(key, None)
    else:
        table[key] = cast(_V, record)


class _Observations(asyncio.DatagramProtocol):
    def __init__(self, tell: Callable[[Observation], None]) -> None:
        self._tell = tell

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self._tell(Observation.from_json(data))
        except ValueError as error:
            log.error("what the resolver says of a query cannot be read: %s", error)
