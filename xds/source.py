"""Where changes come from: what every source says, and the source that watches files.

A source reports what it saw and decides nothing: whether an object is valid, what vanished and
what wins is for the pipeline. The Kubernetes API and the admin API speak in `Edit`s, files in
`Bundle`s, the sandboxes of this machine's pods in `Placement`s, probes of machines outside in
`Checkup`s, the resolver in `Report`s, the network in `Fetched` and `FetchedModule`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.model import ObjectRef, Problem
from xds.documents import ApiObject, Documents, digest_of, parse
from xds.health import Checkup
from xds.jwks import Fetched
from xds.modules import FetchedModule
from xds.resolver import Report
from xds.sandbox import Placement
from xds.watch import Watcher

#: Texts up to this many bytes are parsed where they are read (a few milliseconds); longer ones in
#: a thread, so that streams and admin stay alive meanwhile.
_INLINE = 65536


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that an origin (a file, by absolute path) holds now; one that is gone holds nothing."""

    origin: str
    digest: str
    documents: Documents


@dataclass(frozen=True, slots=True)
class Edit:
    """Single objects, set or deleted."""

    set: tuple[ApiObject, ...] = ()
    delete: tuple[ObjectRef, ...] = ()


Change = Bundle | Edit | Placement | Checkup | Report | Fetched | FetchedModule


class Source(Protocol):
    """`initial` once, with what is there now; then `changes` for ever, each batch at once."""

    def initial(self) -> Sequence[Change]: ...

    def changes(self) -> AsyncIterator[Sequence[Change]]: ...


class FileSource:
    """Manifests in files and folders (`*.yaml`, `*.yml`, `*.json`, folders with all below them).

    `last` tells under which digest each origin was last taken in: at the start, files that still
    read the same are passed over (a restart repeats no writing), and what is gone is reported.
    """

    def __init__(self, paths: Iterable[Path], last: Mapping[str, str]) -> None:
        self._watcher = Watcher(paths, (".yaml", ".yml", ".json"))
        self._last = last

    def initial(self) -> list[Bundle]:
        """Raises OSError when the folder of a path does not exist."""
        bundles = []
        paths = self._watcher.scan() | {p for p in map(Path, self._last) if self._watcher.covers(p)}
        for path in sorted(paths):
            data = _bytes(path)
            if not isinstance(data, bytes) or digest_of(data) != self._last.get(str(path)):
                bundles.append(_bundle(path, data))
        return bundles

    async def changes(self) -> AsyncIterator[list[Bundle]]:
        while True:
            batch = []
            for path in sorted(await self._watcher.touched()):
                data = _bytes(path)
                if isinstance(data, bytes) and len(data) > _INLINE:
                    batch.append(await asyncio.to_thread(_bundle, path, data))
                else:
                    batch.append(_bundle(path, data))
            yield batch


def _bytes(path: Path) -> bytes | OSError | None:
    """The content, None when the file is gone, or why it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        return error


def _bundle(path: Path, data: bytes | OSError | None) -> Bundle:
    if data is None:
        return Bundle(str(path), "", Documents())
    if isinstance(data, OSError):
        return Bundle(str(path), "", _unreadable(path, data.strerror or str(data)))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Bundle(str(path), digest_of(data), _unreadable(path, "is not UTF-8", f"line {line}"))
    return Bundle(str(path), digest_of(data), parse(text, str(path)))


def _unreadable(path: Path, message: str, where: str = "") -> Documents:
    return Documents(problems=(Problem(ObjectRef("File", "", str(path)), where, message),))
