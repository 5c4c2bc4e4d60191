"""Where this machine's pods run: sandbox files, and a Pod with the status they give it.

A sandbox file is to us what CNI result and kubelet status are to Kubernetes. `placed` is pure;
Pods of other nodes are *recorded*, their status counts as written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.model import WorkloadName
from xds.watch import Watcher

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Addresses, IPv4 first, whether the readiness probe is content, and which pod of its name it is."""

    addresses: tuple[str, ...]
    ready: bool
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """The pod has this sandbox now, or none."""

    pod: WorkloadName
    sandbox: Sandbox | None


def placed(pod: Mapping[str, Any], sandbox: Sandbox | None, node: str) -> Mapping[str, Any]:
    """The Pod object as it stands: one of `node`, or of no node yet, gets node and status from
    its sandbox and from nowhere else; any other is returned as it is."""
    spec = pod.get("spec")
    if not isinstance(spec, dict) or spec.get("nodeName") not in (None, "", node):
        return pod
    status: dict[str, Any] = {"phase": "Pending"}
    metadata = pod.get("metadata")
    if sandbox is not None:
        if sandbox.uid and isinstance(metadata, dict):
            metadata = metadata | {"uid": sandbox.uid}
        status = {
            "phase": "Running",
            "podIPs": [{"ip": address} for address in sandbox.addresses],
            "conditions": [{"type": "Ready", "status": "True" if sandbox.ready else "False"}],
        }
        if sandbox.addresses:
            status["podIP"] = sandbox.addresses[0]
    return {**pod, "metadata": metadata, "spec": {**spec, "nodeName": node}, "status": status}


class SandboxSource:
    """The folder of sandbox files, `<namespace>_<pod>.json`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._watcher = Watcher([folder], (".json",))
        self._pods: dict[Path, WorkloadName] = {}

    def initial(self) -> list[Placement]:
        return [p for path in sorted(self._watcher.scan()) for p in self._read(path)]

    async def changes(self) -> AsyncIterator[list[Placement]]:
        while True:
            touched = await self._watcher.touched()
            yield [p for path in sorted(touched) for p in self._read(path)]

    def _read(self, path: Path) -> Iterator[Placement]:
        try:
            document = json.loads(path.read_bytes())
            name = WorkloadName(str(document["namespace"]), str(document["name"]))
            sandbox = Sandbox(
                tuple(map(str, document["addresses"])), document["ready"] is True, str(document["uid"])
            )
        except FileNotFoundError:
            gone = self._pods.pop(path, None)
            if gone is not None:
                yield Placement(gone, None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.error("sandbox file %s cannot be read, its pod keeps its last status: %r", path, error)
        else:
            self._pods[path] = name
            yield Placement(name, sandbox)
