"""The object's programs and maps as pins: adopted when they are the same, else loaded.

Below the directory of a layout: `maps/<name>`, `programs/<hash of the object>/<name>` and `links/`.
Links are `agent.kernel.link`'s.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from agent.kernel import libbpf
from agent.kernel.error import KernelError

OBJECT = Path(__file__).parents[2] / "bpf" / "sluice.bpf.o"


class Programs:
    """Descriptors of all programs and maps by name, held open; `reloaded`: not adopted."""

    def __init__(self, directory: Path, object_file: Path = OBJECT) -> None:
        """Raises KernelError when the object does not load or the directory is not ours alone."""
        make_private(directory)
        self._maps_dir = directory / "maps"
        make_private(self._maps_dir)
        make_private(directory / "programs")
        try:
            digest = hashlib.sha256(object_file.read_bytes()).hexdigest()[:16]
        except OSError as error:
            hint = "build it with `make -C bpf`"
            raise KernelError("read", str(object_file), hint, error.errno or 0) from error
        home = self._home = directory / "programs" / digest
        self.reloaded = not (home / "complete").exists()
        if self.reloaded:
            self._load(object_file, home)
        self.fds: Mapping[str, int] = _descriptors(home)
        self.maps: Mapping[str, int] = _descriptors(self._maps_dir)

    def _load(self, object_file: Path, home: Path) -> None:
        if home.exists():
            shutil.rmtree(home)
        make_private(home)
        object_ = libbpf.ObjectFile(object_file)
        try:
            object_.pin_maps(self._maps_dir)
            for name, fd in object_.load():
                libbpf.pin(fd, home / name)
        finally:
            object_.close()
        (home / "complete").mkdir()

    def drop_others(self) -> None:
        """Unpins programs of earlier objects; to be called when no link uses them any more."""
        for other in self._home.parent.iterdir():
            if other != self._home:
                shutil.rmtree(other)


def make_private(directory: Path) -> None:
    """A directory of root's alone, made or found; refuses what someone else prepared (N77)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = os.lstat(directory)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
        raise KernelError("use", str(directory), "it is a link, or belongs to another user")
    os.chmod(directory, 0o700)


def _descriptors(directory: Path) -> dict[str, int]:
    fds = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            continue
        fd = libbpf.pinned(path)
        if fd is not None:
            fds[path.name] = fd
    return fds
