"""The objects in force, on disk: one file each, with the last valid version beside (rule 18).

`objects/<Kind>/<namespace>_<name>.yaml` is what the mesh was told, `last-valid/...` the newest
version that could be read of an object whose newest version cannot, `refused/...` why one that can
be read is not in force. All are inputs: a process that starts from them computes what the one
before it did. Files are JSON, which is YAML, because 13,000 of them must load in about a second.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from mesh.dialects import ref_of
from mesh.model import ObjectRef, Problem
from xds import atomic
from xds.documents import ApiObject, canonical, digest_of, parse

_LOG = logging.getLogger(__name__)
_SUFFIX = ".yaml"
_CREATED = "creationTimestamp"

#: File names have 255 bytes; longer names of objects are cut and told apart by a digest.
_LONGEST = 200


class Store:
    """Has one writer. Remembers of each object only digests and its time; texts are read when wanted.

    An object is stored with the time at which it came, as an API server does it: of several the oldest
    counts, and whoever comes later takes over from nobody."""

    def __init__(self, state: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._objects = state / "objects"
        self._valid = state / "last-valid"
        self._refused = state / "refused"
        self._digests: dict[ObjectRef, str] = {}
        #: What was given last, before it got its time.
        self._given: dict[ObjectRef, str] = {}
        self._created: dict[ObjectRef, str] = {}

    def load(self) -> Iterator[ApiObject]:
        """All objects. A file that does not hold one is passed over with a line in the log."""
        for folder in _subfolders(self._objects):
            with os.scandir(folder) as entries:
                files = sorted(entry.path for entry in entries if entry.name.endswith(_SUFFIX))
            for file in files:
                stored = _read(Path(file))
                if stored is not None:
                    self._digests[stored.ref] = stored.digest
                    self._created[stored.ref] = _created(stored)
                    yield stored

    def refs(self) -> KeysView[ObjectRef]:
        return self._digests.keys()

    def digest(self, ref: ObjectRef) -> str | None:
        return self._digests.get(ref)

    def holds(self, item: ApiObject) -> bool:
        """Is that very version stored, but for the time?"""
        ref = item.ref
        if self._given.get(ref) == item.digest:
            return True
        if ref not in self._digests or self.dated(item).digest != self._digests[ref]:
            return False
        self._given[ref] = item.digest
        return True

    def dated(self, item: ApiObject) -> ApiObject:
        """With the time at which an object of its name came, unless it says one itself."""
        if _created(item):
            return item
        created = self._created.get(item.ref) or self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {**item.content["metadata"], _CREATED: created}
        content = {**item.content, "metadata": metadata}
        return ApiObject(item.ref, content, canonical(content))

    def get(self, ref: ObjectRef) -> ApiObject | None:
        return _read(self._objects / _file(ref)) if ref in self._digests else None

    def put(self, item: ApiObject, given: ApiObject | None = None) -> None:
        """`given` is what it was before it got its time. Raises OSError."""
        ref = item.ref
        atomic.write(self._objects / _file(ref), item.text)
        self._digests[ref], self._given[ref] = item.digest, (given or item).digest
        self._created[ref] = _created(item)
        atomic.remove(self._refused / _file(ref))

    def remove(self, ref: ObjectRef) -> None:
        """The object first: without it a last valid version means nothing."""
        atomic.remove(self._objects / _file(ref))
        atomic.remove(self._valid / _file(ref))
        atomic.remove(self._refused / _file(ref))
        for known in (self._digests, self._given, self._created):
            known.pop(ref, None)

    # --- last valid versions -----------------------------------------------------------------

    def last_valid(self, ref: ObjectRef) -> ApiObject | None:
        return _read(self._valid / _file(ref))

    def keep_valid(self, item: ApiObject) -> None:
        """To be called before an unreadable version takes its place."""
        atomic.write(self._valid / _file(item.ref), item.text)

    def forget_valid(self, ref: ObjectRef) -> None:
        """To be called once a readable version is stored."""
        atomic.remove(self._valid / _file(ref))

    # --- versions that can be read and were refused later -------------------------------------

    def refuse(self, item: ApiObject, problems: Iterable[Problem]) -> None:
        """Remember what is wrong with a stored version. Raises OSError."""
        said = [[problem.field, problem.message] for problem in problems]
        atomic.write(self._refused / _file(item.ref), json.dumps({"version": item.digest, "problems": said}))

    def refusal(self, item: ApiObject) -> tuple[Problem, ...]:
        """What was wrong with exactly this version."""
        try:
            document = json.loads((self._refused / _file(item.ref)).read_text())
            if document["version"] != item.digest:
                return ()
            return tuple(Problem(item.ref, str(field), str(text)) for field, text in document["problems"])
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            _LOG.error("what is wrong with %s cannot be read, so it is tried again: %r", item.ref, error)
            return ()

    def kept(self) -> set[ObjectRef]:
        """The objects that have a last valid version beside them."""
        found = set()
        for folder in _subfolders(self._valid):
            for file in folder.glob(f"*{_SUFFIX}"):
                item = _read(file)
                if item is not None:
                    found.add(item.ref)
        return found


class Bundles:
    """Which objects each file brought, and under which digest it was read.

    Kept on disk, so that what vanishes from a file while nobody watches is noticed.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "bundles"
        self._digests: dict[str, str] = {}
        self._brought: dict[str, frozenset[ObjectRef]] = {}
        if self._folder.is_dir():
            for path in sorted(self._folder.glob("*.json")):
                try:
                    document = json.loads(path.read_bytes())
                    origin, digest = document["origin"], document["digest"]
                    self._brought[origin] = frozenset(ObjectRef(*ref) for ref in document["objects"])
                    self._digests[origin] = digest
                except (OSError, ValueError, KeyError, TypeError) as error:
                    _LOG.error("%s is passed over, its file is read afresh: %r", path, error)

    @property
    def digests(self) -> Mapping[str, str]:
        """Origin -> digest when it was last taken in whole, "" if it was not."""
        return self._digests

    def brought(self, origin: str) -> frozenset[ObjectRef]:
        return self._brought.get(origin, frozenset())

    def vanished(self, origin: str, objects: frozenset[ObjectRef]) -> frozenset[ObjectRef]:
        """What the origin brought, brings no more, and no other origin brings."""
        missing = self.brought(origin) - objects
        if missing:
            missing = missing.difference(*(refs for other, refs in self._brought.items() if other != origin))
        return missing

    def record(self, origin: str, digest: str, objects: frozenset[ObjectRef]) -> None:
        """To be called when the objects are stored; before that a restart would lose them."""
        path = self._folder / f"{digest_of(origin.encode())}.json"
        if not objects and not digest:
            self._brought.pop(origin, None)
            self._digests.pop(origin, None)
            atomic.remove(path)
            return
        document = {"origin": origin, "digest": digest, "objects": sorted(objects)}
        atomic.write(path, json.dumps(document, separators=(",", ":")))
        self._brought[origin] = objects
        self._digests[origin] = digest


def stem(namespace: str, name: str) -> str:
    """What the files of an object are called, but for the suffix."""
    whole = f"{_quoted(namespace)}_{_quoted(name)}"
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 33]}~{digest_of(whole.encode())}"


def _file(ref: ObjectRef) -> str:
    return f"{_quoted(ref.kind)[:_LONGEST]}/{stem(ref.namespace, ref.name)}{_SUFFIX}"


def _quoted(part: str) -> str:
    """Safe as part of a file name, and free of the `_` that joins namespace and name."""
    text = quote(part, safe=":").replace("_", "%5F").replace("~", "%7E")
    return text if text.strip(".") else text.replace(".", "%2E")


def _created(item: ApiObject) -> str:
    """Empty if it says nothing of it."""
    metadata = item.content["metadata"]
    return str(metadata.get(_CREATED) or "") if isinstance(metadata, Mapping) else ""


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _read(path: Path) -> ApiObject | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        _LOG.error("%s is no text (%s); passed over", path, error)
        return None
    try:
        content = json.loads(text)
        return ApiObject(ref_of(content), content, text)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not as we wrote it: somebody's own YAML, or nothing that we can use.
        documents = parse(text, str(path))
        for problem in documents.problems:
            _LOG.error("%s", f"{path} {problem.field} {problem.message}; passed over")
        return documents.objects[0] if len(documents.objects) == 1 else None
