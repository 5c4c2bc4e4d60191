"""Folders in which the supervisor says where things stand: for each a file, `<namespace>_<name>.json`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from mesh.model import WorkloadName
from xds.watch import Watcher

_LOG = logging.getLogger(__name__)

State = TypeVar("State")
Told = TypeVar("Told")


class StatusFiles(Generic[State, Told]):
    """`read` makes a state of a document, and raises ValueError, KeyError or TypeError where it cannot;
    `tell` says it of a name, or that the name has none any more."""

    def __init__(
        self, folder: Path, read: Callable[[Any], State], tell: Callable[[WorkloadName, State | None], Told]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._watcher = Watcher([folder], (".json",))
        self._read = read
        self._tell = tell
        self._names: dict[Path, WorkloadName] = {}

    def initial(self) -> list[Told]:
        return self._told(self._watcher.scan())

    async def changes(self) -> AsyncIterator[list[Told]]:
        while True:
            yield self._told(await self._watcher.touched())

    def _told(self, paths: set[Path]) -> list[Told]:
        return [told for path in sorted(paths) for told in self._of(path)]

    def _of(self, path: Path) -> Iterator[Told]:
        try:
            document = json.loads(path.read_bytes())
            name = WorkloadName(str(document["namespace"]), str(document["name"]))
            state = self._read(document)
        except FileNotFoundError:
            if gone := self._names.pop(path, None):
                yield self._tell(gone, None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.error("%s cannot be read, so what it said last still counts: %r", path, error)
        else:
            self._names[path] = name
            yield self._tell(name, state)
