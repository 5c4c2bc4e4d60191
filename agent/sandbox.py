"""Where this node's pods are: the sandbox files that whoever makes the pods writes (in Kubernetes the CNI
plugin), one for each, and their changes. A file that cannot be read keeps what was known; one that is gone
means that the pod is gone. Knows nothing of policy.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from asyncinotify import Inotify, Mask

from mesh.model import WorkloadName

log = logging.getLogger(__name__)

_CHANGES = Mask.MOVED_TO | Mask.CLOSE_WRITE | Mask.DELETE | Mask.MOVED_FROM | Mask.Q_OVERFLOW


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One pod on this machine. `interface` is the host's end of its veth, `addresses` are IPv4 first."""

    pod: WorkloadName
    uid: str
    netns: Path
    interface: str
    addresses: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names this incarnation of the pod in paths and pins: letters and digits."""
        return self.interface.removeprefix("slc")


class SandboxFolder:
    """The folder STATE/sandboxes; files of other nodes are none of ours."""

    def __init__(self, folder: Path, node: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._node = node
        self._known: dict[Path, Sandbox] = {}

    def read(self) -> dict[WorkloadName, Sandbox]:
        """Every pod on this machine as the files say now."""
        found: dict[Path, Sandbox] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                sandbox = _parse(json.loads(path.read_bytes()), self._node)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("read sandbox %s failed: %r; its pod stays as it was", path, error)
                sandbox = self._known.get(path)
            if sandbox is not None:
                found[path] = sandbox
        self._known = found
        return {sandbox.pod: sandbox for sandbox in found.values()}

    async def changes(self) -> AsyncIterator[None]:
        """Yields once at the start, and whenever `read` may have something new to say."""
        with Inotify() as inotify:
            inotify.add_watch(self._folder, _CHANGES)
            yield None
            async for event in inotify:
                if event.name is None or event.name.suffix == ".json":
                    yield None


def _parse(document: dict[str, object], node: str) -> Sandbox | None:
    if document["node"] != node:
        return None
    addresses = document["addresses"]
    if not isinstance(addresses, list):
        raise TypeError("addresses is not a list")
    return Sandbox(
        WorkloadName(str(document["namespace"]), str(document["name"])),
        str(document["uid"]),
        Path(str(document["netns"])),
        str(document["host_interface"]),
        tuple(map(str, addresses)),
    )
