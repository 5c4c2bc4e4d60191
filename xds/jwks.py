"""Key sets that RequestAuthentications name by URL: fetched, refreshed, and kept on disk, so that the newest
good ones are in force whatever becomes of who gave them. Nothing ever stands in for keys that are not there.

What was fetched is an input of the mesh like any object (`mesh.model.KeySet`). Keys are in no log and in no
Problem.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.model import Fragment, KeySet, KeySource, ObjectRef
from mesh.policies.key_set import KeySetError, normalise
from xds import atomic
from xds.allowed import Allowed
from xds.documents import digest_of
from xds.fetch import Unfetched, fetch
from xds.fetching import Fetching

_LOG = logging.getLogger(__name__)

#: Seconds from one good answer to the next question (Istio: 20 minutes).
REFRESH = 20 * 60.0
_AT_ONCE = 16

#: The keys of a source as they are kept. Raises Unfetched.
Ask = Callable[[KeySource], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a source now; None: nobody wants it any more."""

    source: KeySource
    keys: KeySet | None

    @property
    def ref(self) -> ObjectRef:
        """Under which name the mesh knows it."""
        way = "issuer" if self.source.discovery else "keys"
        return ObjectRef("KeySet", "", f"{self.source.uri} ({way}, {self.source.timeout_ms} ms)")

    @property
    def fragment(self) -> Fragment | None:
        return None if self.keys is None else Fragment(self.ref, (self.keys,))


async def ask(source: KeySource, allowed: Allowed) -> str:
    """The keys of a source. Raises Unfetched."""
    timeout = source.timeout_ms / 1000
    uri = source.uri
    if source.discovery:
        uri = _keys_uri(await fetch(uri, timeout, allowed))
        if source.uri.startswith("https:") and not uri.startswith("https:"):
            raise Unfetched("its configuration names a place without TLS")
    body = await fetch(uri, timeout, allowed)
    try:
        return normalise(body.decode(), public=True)
    except UnicodeDecodeError:
        raise Unfetched("its answer is not UTF-8") from None
    except KeySetError as error:
        raise Unfetched(f"its answer {error}") from None


def _keys_uri(configuration: bytes) -> str:
    try:
        found = json.loads(configuration)["jwks_uri"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise Unfetched("its configuration names no jwks_uri")
    return found


class FetchedKeys(Fetching[KeySource, str, Fetched]):
    """A `Source` of what `folder` and the network hold of the key sets that the mesh wants."""

    def __init__(self, folder: Path, mesh: Mesh, asking: Ask) -> None:
        super().__init__(_AT_ONCE, asking, REFRESH)
        self._folder = folder
        self._mesh = mesh

    def follow(self, change: Change) -> None:
        """Begin to ask where the mesh now wants keys from, and forget the others."""
        if not self._tasks or change.keys:
            self._want(self._mesh.policy_table.wanted_keys())

    def _known(self, source: KeySource, kept: str | None, failure: str) -> Fetched:
        return Fetched(source, KeySet(source, kept or "", failure))

    def _unwanted(self, source: KeySource) -> Fetched:
        return Fetched(source, None)

    def _named(self, source: KeySource) -> str:
        return f"keys from {source.uri}"

    # --- on disk -------------------------------------------------------------------------------

    def _path(self, source: KeySource) -> Path:
        return self._folder / f"{digest_of(repr(source).encode())}.json"

    def _write(self, source: KeySource, now: str | None, before: str | None) -> None:
        try:
            if now is None:
                atomic.remove(self._path(source))
            else:
                atomic.write(self._path(source), json.dumps({**asdict(source), "keys": now}))
        except OSError as error:
            _LOG.error("%s are in force but not kept: %s", self._named(source), error)

    def _stored(self) -> Iterator[tuple[KeySource, str]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                document = json.loads(path.read_bytes())
                keys = normalise(document.pop("keys"), public=True)
                yield KeySource(**document), keys
            except (OSError, ValueError, KeyError, TypeError, AttributeError, KeySetError) as error:
                _LOG.error("%s is passed over, its keys are fetched afresh: %s", path, type(error).__name__)
