"""Modules of WasmPlugins: fetched or read, held against their checksum, and kept on disk, so that the newest
good ones are in force whatever becomes of who gave them (threat N26). Their bytes are in no log and in no
Problem.

A file is read where the control plane stands, as root, for a user who may only write objects: so only below
the one folder that the operator names. A file without a checksum is read again now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.model import Fragment, Module, ModuleSource, ObjectRef
from xds import atomic
from xds.allowed import Allowed
from xds.documents import digest_of
from xds.fetch import Unfetched, fetch
from xds.fetching import Fetching

_LOG = logging.getLogger(__name__)

#: Bytes of a module; seconds that an answer may take; seconds between looks at a file without a checksum.
LARGEST, PATIENCE, LOOK = 16 << 20, 30.0, 60.0
_AT_ONCE = 4
_MAGIC = b"\0asm"

#: The module of a source. Raises Unfetched.
Ask = Callable[[ModuleSource], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class FetchedModule:
    """What is known of a source now; None: nobody wants it any more."""

    source: ModuleSource
    module: Module | None

    @property
    def ref(self) -> ObjectRef:
        """Under which name the mesh knows it."""
        return ObjectRef("Module", "", f"{self.source.url} ({self.source.sha256 or 'any'})")

    @property
    def fragment(self) -> Fragment | None:
        return None if self.module is None else Fragment(self.ref, (self.module,))


async def ask(source: ModuleSource, allowed: Allowed, folder: Path | None) -> bytes:
    """The module of a source; `folder` is the operator's. Raises Unfetched."""
    parts = urlsplit(source.url)
    if parts.scheme == "file":
        code = await asyncio.to_thread(_read, unquote(parts.path), folder)
    else:
        code = await fetch(source.url, PATIENCE, allowed, largest=LARGEST, accept="*/*")
    return checked(source, code)


def _read(path: str, folder: Path | None) -> bytes:
    if folder is None:
        raise Unfetched("files are read from no folder, for --wasm-folder names none")
    try:
        found = Path(path).resolve()  # links, too, must lead to where it may be read
        _check(found, folder)
        opened = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Another thing may stand there by now: a pipe would be waited for, a link leads elsewhere.
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise Unfetched("it is no file")
            _check(Path(os.readlink(f"/proc/self/fd/{opened}")), folder)
            with open(opened, "rb", closefd=False) as file:
                code = file.read(LARGEST + 1)
        finally:
            os.close(opened)
    except OSError as error:
        raise Unfetched(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RuntimeError):  # a NUL in it, or links in a circle
        raise Unfetched("it is no path") from None
    if len(code) > LARGEST:
        raise Unfetched(f"it is longer than {LARGEST} bytes")
    return code


def _check(path: Path, folder: Path) -> None:
    if not path.is_relative_to(folder.resolve()):
        raise Unfetched(f"files are read only below {folder}, which --wasm-folder names")


def checked(source: ModuleSource, code: bytes) -> bytes:
    """Raises Unfetched."""
    if source.sha256 and hashlib.sha256(code).hexdigest() != source.sha256:
        raise Unfetched("what is there has another SHA-256")
    if not code.startswith(_MAGIC):
        raise Unfetched("it is no WebAssembly module; one that is packed is not unpacked")
    return code


class FetchedModules(Fetching[ModuleSource, bytes, FetchedModule]):
    """A `Source` of what `folder` and the network hold of the modules that the mesh wants."""

    def __init__(self, folder: Path, mesh: Mesh, asking: Ask) -> None:
        super().__init__(_AT_ONCE, asking, LOOK)
        self._folder = folder
        self._mesh = mesh

    def follow(self, change: Change) -> None:
        """Begin to ask where the mesh now wants modules from, and forget the others."""
        if not self._tasks or change.modules:
            self._want(self._mesh.policy_table.wanted_modules())

    def _known(self, source: ModuleSource, kept: bytes | None, failure: str) -> FetchedModule:
        return FetchedModule(source, Module(source, kept or b"", failure))

    def _unwanted(self, source: ModuleSource) -> FetchedModule:
        return FetchedModule(source, None)

    def _named(self, source: ModuleSource) -> str:
        return f"module from {source.url}"

    def _is_final(self, source: ModuleSource) -> bool:
        return bool(source.sha256) and source in self._kept

    # --- on disk -------------------------------------------------------------------------------

    def _code_path(self, code: bytes) -> Path:
        return self._folder / f"{hashlib.sha256(code).hexdigest()}.wasm"

    def _write(self, source: ModuleSource, now: bytes | None, before: bytes | None) -> None:
        """The module by its own checksum, and under the source's which that is."""
        path = self._folder / f"{digest_of(repr(source).encode())}.json"
        try:
            if now is None:
                atomic.remove(path)
            else:
                atomic.write(self._code_path(now), now)
                atomic.write(path, json.dumps({**asdict(source), "code": self._code_path(now).name}))
        except OSError as error:
            _LOG.error("the %s is in force but not kept: %s", self._named(source), error)
        if before is not None:
            self._discard(before)

    def _discard(self, code: bytes) -> None:
        """Take a module away that no source has any more."""
        if code not in self._kept.values():
            try:
                atomic.remove(self._code_path(code))
            except OSError as error:
                _LOG.error("a module that nobody wants stays in %s: %s", self._folder, error)

    def _stored(self) -> Iterator[tuple[ModuleSource, bytes]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                document = json.loads(path.read_bytes())
                code = (self._folder / document.pop("code")).read_bytes()
                source = ModuleSource(**document)
                yield source, checked(source, code)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, Unfetched) as error:
                _LOG.error("%s is passed over, its module is got afresh: %s", path, type(error).__name__)
