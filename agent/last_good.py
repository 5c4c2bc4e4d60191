"""The last good state on disk: what this node enforced when it was last told, so that an agent that starts
while the control plane is away can serve its Envoys and mend the kernel.

The file is written beside and renamed, never in place. It bears the kernel's generation that its records
belong to; a kernel that is further on was changed after the file was written, and the file is then no
state to go back to.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.records import Held, hold
from mesh.discovery.envoy import SECRET
from mesh.discovery.resource import Resource
from mesh.discovery.wire import DeltaResponse, bytes_field, fields, integer_field, unpack_any
from mesh.resources import BODY_TYPE, NODE_TYPES

log = logging.getLogger(__name__)

_KERNEL, _TYPE = 1, 2


@dataclass(frozen=True, slots=True)
class LastGood:
    """Records by type URL and name, and the generation of the kernel's tables that holds them."""

    kernel_generation: int
    records: Mapping[str, Mapping[str, Held]]

    def encode(self) -> bytes:
        parts = [integer_field(_KERNEL, self.kernel_generation)]
        for type_url, held in self.records.items():
            resources = tuple(
                (h.resource.name, h.resource.version, h.resource.any)
                for h in held.values()
                if not (type_url == BODY_TYPE and _is_secret(h.resource))
            )
            parts.append(bytes_field(_TYPE, DeltaResponse(type_url, "", "", resources).encode()))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> LastGood:
        """Raises ValueError for bytes that `encode` of this version did not write."""
        generation = 0
        records: dict[str, dict[str, Held]] = {}
        for number, integer, value in fields(data):
            if number == _KERNEL:
                generation = integer
            elif number == _TYPE:
                response = DeltaResponse.decode(value)
                if response.type_url not in NODE_TYPES:
                    raise ValueError(f"records of the unknown type {response.type_url!r}")
                records[response.type_url] = {
                    name: _held(response.type_url, Resource(name, version, any_))
                    for name, version, any_ in response.resources
                }
        return cls(generation, records)


def _is_secret(body: Resource) -> bool:
    """Keys are never written to a disk: after a restart the control plane sends them anew."""
    return unpack_any(body.any)[0] == SECRET


def _held(type_url: str, resource: Resource) -> Held:
    return Held(resource, None) if type_url == BODY_TYPE else hold(type_url, resource)


def save(path: Path, state: LastGood) -> None:
    """Replace the file in one step. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(state.encode())
    beside.replace(path)


class Saver:
    """Writes in a thread, one state at a time; of those that come meanwhile only the newest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next: LastGood | None = None
        self._task: asyncio.Task[None] | None = None

    def save(self, state: LastGood) -> None:
        """Write soon; a failure is logged, and the next state tried anew."""
        self._next = state
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._next is not None:
            state, self._next = self._next, None
            try:
                await asyncio.to_thread(save, self._path, state)
            except OSError as error:
                log.error("write %s failed: %s; is the disk full?", self._path, error)


def load(path: Path) -> LastGood | None:
    """The saved state; None if there is none. Raises ValueError if it cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return LastGood.decode(data)
