"""A pod runtime of its own for each test: real namespaces, cgroups and processes, no agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.launcher import launch_command
from sluice.mesh_directory import MeshDirectory
from sluice.sandbox import recorded
from sluice.teardown import stop_supervisor, take_down

ROOT = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true answer of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return answer


class Node:
    """An ungated node in a process of its own."""

    def __init__(self) -> None:
        self.mesh = MeshDirectory(f"t{os.getpid()}-{uuid.uuid4().hex[:6]}")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *manifests: Path, opened: bool = True) -> None:
        self.mesh.run.mkdir(parents=True, exist_ok=True)
        if opened:
            self.open()
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/sluice/ungated_node.py"),
                self.mesh.name,
                *map(str, manifests),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )

    def open(self) -> None:
        (self.mesh.run / "open").touch()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def put(self, name: str, spec: dict[str, Any], namespace: str = "shop") -> None:
        """Store a Pod, as the control plane does: by renaming it into place."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        directory = self.mesh.objects / "Pod"
        directory.mkdir(parents=True, exist_ok=True)
        fresh = directory / ".fresh"
        fresh.write_text(json.dumps(pod))
        fresh.rename(directory / f"{namespace}_{name}.yaml")

    def delete(self, name: str, namespace: str = "shop") -> None:
        (self.mesh.objects / "Pod" / f"{namespace}_{name}.yaml").unlink()

    def sandbox(self, name: str) -> dict[str, Any] | None:
        path = self.mesh.sandboxes / f"shop_{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def ready(self, name: str) -> dict[str, Any]:
        """The pod's sandbox, once it is ready."""
        return eventually(lambda: (s := self.sandbox(name)) and s["ready"] and s)

    def state(self, name: str) -> dict[str, Any]:
        try:
            pods = json.loads(self.mesh.pod_status.read_text())["pods"]
        except FileNotFoundError:
            return {}
        return next((pod for pod in pods if pod["name"] == f"shop/{name}"), {})

    def problems(self) -> list[dict[str, str]]:
        try:
            return json.loads(self.mesh.pod_status.read_text())["problems"]
        except FileNotFoundError:
            return []

    def execute(self, pod: str, *argv: str) -> str:
        """What a command prints inside the pod."""
        sandbox = next(s for s in recorded(self.mesh) if s.name == pod)
        command = launch_command(sandbox.netns, Path(sandbox.cgroup), self.mesh.pod_files(sandbox.pod), argv)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def remove(self) -> None:
        lock = stop_supervisor(self.mesh)
        take_down(self.mesh, purge=True)
        os.close(lock)
        if self.process:
            self.process.wait()


@pytest.fixture
def node() -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    node = Node()
    try:
        yield node
    finally:
        node.remove()
