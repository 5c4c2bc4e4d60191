"""Health of machines outside, as their WorkloadGroup asks for it. In Istio an agent on the machine probes and
tells; here the node asks, and what it found is written down for the control plane.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

import aiohttp

from mesh.model import Probe, WorkloadEntry, WorkloadGroup, WorkloadName
from sluice.mesh_directory import MeshDirectory
from sluice.probes import Prober
from xds import atomic
from xds.dialects import read
from xds.store import stem
from xds.watch import Watcher

log = logging.getLogger("sluice")

_KINDS = ("WorkloadEntry", "WorkloadGroup")


class Asked(NamedTuple):
    """Who is asked, and how."""

    address: str
    probe: Probe


class EntryProbes:
    """Asks the WorkloadEntries in the store whose group has a probe."""

    def __init__(self, mesh: MeshDirectory) -> None:
        self._mesh = mesh
        self._folder = mesh.state / "health"
        self._nouns: dict[Path, WorkloadEntry | WorkloadGroup] = {}
        self._asking: dict[WorkloadName, tuple[Asked, asyncio.Task[None]]] = {}

    async def keep(self, http: aiohttp.ClientSession) -> None:
        """Ask as the store says, for ever."""
        folders = [self._mesh.objects / kind for kind in _KINDS]
        for folder in (*folders, self._folder):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(Watcher(folders, (".yaml",))) as watcher:
            try:
                touched = watcher.scan()
                while True:
                    for path in touched:
                        self._read(path)
                    self._settle(http)
                    touched = await watcher.touched()
            finally:
                for _, task in self._asking.values():
                    task.cancel()

    def _read(self, path: Path) -> None:
        """Take in one file of the store: of what cannot be read the last valid version (rule 18), if there is
        one."""
        earlier = self._mesh.state / "last-valid" / path.relative_to(self._mesh.objects)
        found = _readable(path) or (_readable(earlier) if path.exists() else None)
        if found is None:
            self._nouns.pop(path, None)
        else:
            self._nouns[path] = found

    def _settle(self, http: aiohttp.ClientSession) -> None:
        wanted = asked(self._nouns.values())
        for name in self._asking.keys() - wanted.keys():
            self._asking.pop(name)[1].cancel()
        for file in set(self._folder.glob("*.json")) - set(map(self._file, wanted)):
            atomic.remove(file)
        for name, now in wanted.items():
            known = self._asking.get(name)
            if known is None or known[0] != now:
                if known is not None:
                    known[1].cancel()
                healthy = self._healthy(name, now)
                if not healthy:
                    atomic.remove(self._file(name))
                prober = Prober(now.probe, now.address, http, _nothing_of_ours_runs_there, eager=False)
                task = asyncio.create_task(prober.watch(healthy, self._tell(name, now)))
                self._asking[name] = now, task

    def _healthy(self, name: WorkloadName, asked: Asked) -> bool:
        """What was found last of the same machine, perhaps by an earlier supervisor."""
        try:
            found = json.loads(self._file(name).read_bytes())
            return found["healthy"] is True and found["asked"] == repr(asked)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _tell(self, name: WorkloadName, asked: Asked) -> Callable[[bool], None]:
        def tell(healthy: bool) -> None:
            log.info("WorkloadEntry %s is %s", name, "healthy" if healthy else "not healthy any more")
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            found = {"namespace": name.namespace, "name": name.name, "healthy": healthy, "since": since}
            found["asked"] = repr(asked)
            try:
                atomic.write(self._file(name), json.dumps(found) + "\n")
            except OSError as error:
                log.error("that WorkloadEntry %s changed cannot be written down: %s", name, error)

        return tell

    def _file(self, name: WorkloadName) -> Path:
        return self._folder / f"{stem(*name)}.json"


def _readable(path: Path) -> WorkloadEntry | WorkloadGroup | None:
    try:
        fragment = read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.error("%s cannot be read: %r", path, error)
        return None
    found = (noun for noun in fragment.nouns if isinstance(noun, WorkloadEntry | WorkloadGroup))
    return next(found, None) if fragment.valid else None


def asked(nouns: Iterable[WorkloadEntry | WorkloadGroup]) -> dict[WorkloadName, Asked]:
    """The entries that are asked; an address comes before a name."""
    entries, probes = [], dict[WorkloadName, Probe]()
    for noun in nouns:
        if isinstance(noun, WorkloadEntry):
            entries.append(noun)
        elif noun.probe:
            probes[noun.name] = noun.probe
    return {
        entry.name: Asked(entry.endpoint.address or entry.endpoint.name, probe)
        for entry in entries
        if (probe := probes.get(WorkloadName(entry.name.namespace, entry.group)))
    }


def _nothing_of_ours_runs_there(command: Sequence[str]) -> NoReturn:
    raise AssertionError(f"a WorkloadGroup asked for {command}")
