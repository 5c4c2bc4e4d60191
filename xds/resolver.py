"""The control plane's side of the mesh's resolver (`mesh.dns`): it writes the records and reads what was
learned. What the resolver is to refuse and when a report is in force is the agents' to say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.dns import Learned
from mesh.dns_records import Records
from mesh.model import Fragment, LearnedNames, ObjectRef
from xds import atomic
from xds.watch import Watcher

_LOG = logging.getLogger(__name__)

#: Under which name the mesh knows what was learned.
LEARNED_REF = ObjectRef("LearnedNames", "", "resolver")


@dataclass(frozen=True, slots=True)
class Report:
    """The resolver has learned these names."""

    names: LearnedNames

    @property
    def ref(self) -> ObjectRef:
        return LEARNED_REF

    @property
    def fragment(self) -> Fragment:
        return Fragment(self.ref, (self.names,))


class RecordsFile:
    """The mesh's zone at `path`. What cannot be written is tried again with the next change."""

    def __init__(self, path: Path, mesh: Mesh) -> None:
        self._path = path
        self._records = Records(mesh)
        self._is_written = False

    def follow(self, change: Change) -> None:
        """Bring the file up to date with the mesh after a change."""
        changed = self._records.update(change)
        if changed or not self._is_written:
            try:
                atomic.write(self._path, self._records.zone().to_json())
            except OSError as error:
                _LOG.error("names of the mesh stay as they were: write %s failed: %s", self._path, error)
                self._is_written = False
            else:
                self._is_written = True


class LearnedSource:
    """The resolver's file. One that is gone or cannot be read takes nothing back: names end by their time,
    of which the resolver keeps count."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._watcher = Watcher([path], (path.suffix,))

    def initial(self) -> list[Report]:
        self._watcher.scan()
        return list(self._read())

    async def changes(self) -> AsyncIterator[list[Report]]:
        while True:
            await self._watcher.touched()
            yield list(self._read())

    def _read(self) -> Iterator[Report]:
        try:
            yield Report(Learned.from_json(self._path.read_bytes()).live(time.time()))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _LOG.error("%s cannot be read, names keep their addresses: %s", self._path, error)
