"""Which files under some paths were touched, by inotify: no polling and no waiting for more.

A file is touched when a writer closes it or it is renamed, linked or taken away; whoever asks
reads it then. Knows no YAML and no objects.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

_APPEARED = Mask.CREATE | Mask.MOVED_TO
_MASK = _APPEARED | Mask.CLOSE_WRITE | Mask.MOVED_FROM | Mask.DELETE | Mask.DELETE_SELF | Mask.ONLYDIR


class Watcher:
    """Watches folders (with all below them) and single files, which may come and go.

    In folders, names must end with one of `suffixes` and not begin with a dot. Files given by
    their own name may be called anything. Paths are absolute.
    """

    def __init__(self, paths: Iterable[Path], suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes
        self._inotify = Inotify(cache_size=256, sync_timeout=0)
        self._singles: set[Path] = set()
        self._roots: set[Path] = set()
        self._known: set[Path] = set()
        for path in paths:
            absolute = Path(os.path.abspath(path))
            (self._roots if absolute.is_dir() else self._singles).add(absolute)

    def close(self) -> None:
        self._inotify.close()

    def covers(self, path: Path) -> bool:
        """Whether a file of this name would be watched."""
        if path in self._singles:
            return True
        fits = path.name.endswith(self._suffixes) and not path.name.startswith(".")
        return fits and any(path.is_relative_to(root) for root in self._roots)

    def scan(self) -> set[Path]:
        """Set the watches, then list all files. Raises OSError when a path's folder is missing."""
        for path in self._singles | self._roots:
            # The parent tells of the path itself: editors replace files, deployments folders.
            self._inotify.add_watch(path.parent, _MASK)
        found = {path for path in self._singles if path.is_file()}
        for root in self._roots:
            found.update(self._enter(root))
        self._known |= found
        return found

    async def touched(self) -> set[Path]:
        """Wait for an event; the files it and all events behind it in the queue concern."""
        paths: set[Path] = set()
        while not paths:
            event: Event | None = await self._inotify.get()
            while event is not None:
                paths.update(self._concerned(event))
                event = self._inotify.sync_get()
        self._known |= paths
        return paths

    def _concerned(self, event: Event) -> Iterator[Path]:
        mask, path = event.mask, event.path
        if Mask.Q_OVERFLOW in mask:
            yield from self._known | self.scan()
        elif path is None or event.name is None:
            return
        elif Mask.ISDIR in mask:
            if mask & _APPEARED:
                if any(path.is_relative_to(root) for root in self._roots):
                    yield from self._enter(path)
            elif mask & (Mask.DELETE | Mask.MOVED_FROM):
                yield from self._leave(path)
        elif path.name.startswith("..") and mask & _APPEARED:
            # A mounted ConfigMap: the files are links through `..data`, which has just been replaced.
            yield from self._enter(path.parent)
        elif self.covers(path) and (not mask & Mask.CREATE or _is_whole(path)):
            yield path

    def _enter(self, folder: Path) -> Iterator[Path]:
        """Watch a folder and what is below, then list its files: none slips through between."""
        for name, folders, files in os.walk(folder):
            try:
                self._inotify.add_watch(name, _MASK)
            except FileNotFoundError:
                continue
            folders[:] = [f for f in folders if not f.startswith(".")]
            # Listed again: what appeared between the walk's listing and the watch gave no event.
            for entry in (*folders, *files, *_names(name)):
                path = Path(name, entry)
                if self.covers(path) and path.is_file():
                    yield path

    def _leave(self, folder: Path) -> Iterator[Path]:
        for watch in self._inotify.watches:
            if watch.path.is_relative_to(folder) and watch.path not in self._parents():
                try:
                    self._inotify.rm_watch(watch)
                except OSError:
                    continue  # it went with its folder
        yield from [path for path in self._known if path.is_relative_to(folder)]

    def _parents(self) -> set[Path]:
        return {path.parent for path in self._singles | self._roots}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_whole(path: Path) -> bool:
    """Whether a name that just appeared is a link; a new file is told of when it is closed."""
    try:
        return path.is_symlink() or path.stat().st_nlink > 1
    except OSError:
        return False
