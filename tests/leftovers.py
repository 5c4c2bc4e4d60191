"""What tests make outside their own folders bears the id of the process that made it, so that what a killed
one could not take away is known for what it is."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sluice.mesh_directory import BPFFS, mesh_names

_KINDS = ("test", "town")
_NAME = re.compile(rf"sluice-((?:{'|'.join(_KINDS)})-([1-9][0-9]*)-[0-9a-f]{{6}})")


def own_name(kind: str, tag: str) -> str:
    """The name of a cgroup and of a folder of pins; `tag` is six hexadecimal digits."""
    name = f"sluice-{kind}-{os.getpid()}-{tag}"
    assert _NAME.fullmatch(name), f"{name} would stay behind if its process were killed"
    return name


def remove_pins_of_the_dead(folder: Path = BPFFS) -> None:
    """Take away what tests pinned whose process is no more. Others may be running, and may do the same."""
    meshes = mesh_names()
    for path in folder.iterdir():
        found = _NAME.fullmatch(path.name)
        if found and found[1] not in meshes and not Path("/proc", found[2]).exists():
            shutil.rmtree(path, ignore_errors=True)
