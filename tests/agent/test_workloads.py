"""Sandbox files become guarded pods."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.kernel import KernelError
from agent.sandbox import Sandbox, SandboxFolder
from agent.workloads import Workloads
from mesh.model import WorkloadName

WEB = WorkloadName("shop", "web")


class HooksInMemory:
    """Interfaces that do not exist cannot be attached to."""

    def __init__(self) -> None:
        self.pods: set[str] = set()
        self.broken: set[str] = set()

    def attach_pod(self, name: str, host_ifindex: int) -> None:
        if name in self.broken:
            raise KernelError("attach to", name)
        self.pods.add(name)

    def detach_pod(self, name: str) -> None:
        self.pods.discard(name)

    def detach_inbound(self, name: str) -> None:
        pass

    def attached(self) -> set[str]:
        return set(self.pods)

    def netns_cookie(self, netns: Path) -> int:
        return 7


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def made(name: str = "web", *, node: str = "node1", interface: str = "lo", uid: str = "u1") -> Path:
        path = tmp_path / f"shop_{name}.json"
        document = {
            "namespace": "shop", "name": name, "uid": uid, "node": node, "netns": "/run/netns/x",
            "host_interface": interface, "addresses": ["10.0.0.1"], "ready": False,
        }  # fmt: skip
        path.write_text(json.dumps(document))
        return path

    return made


def test_a_pod_is_guarded_as_soon_as_its_sandbox_is_known(tmp_path: Path, write: Callable[..., Path]) -> None:
    write()
    write("elsewhere", node="node2")
    hooks = HooksInMemory()
    workloads = Workloads(hooks)
    workloads.refresh(SandboxFolder(tmp_path, "node1").read())
    assert workloads.guarded.keys() == {WEB}
    assert workloads.guarded[WEB].cookie == 7
    assert hooks.pods == {"lo"}


def test_hooks_of_a_pod_that_is_gone_are_detached_even_if_an_earlier_agent_attached_them(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    hooks = HooksInMemory()
    hooks.pods = {"old"}
    workloads = Workloads(hooks)
    path = write()
    folder = SandboxFolder(tmp_path, "node1")
    workloads.refresh(folder.read())
    assert hooks.pods == {"lo"}
    path.unlink()
    workloads.refresh(folder.read())
    assert hooks.pods == set()
    assert not workloads.guarded


def test_a_pod_made_anew_under_the_same_name_is_another_one(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    workloads = Workloads(HooksInMemory())
    folder = SandboxFolder(tmp_path, "node1")
    write(uid="u1")
    workloads.refresh(folder.read())
    write(uid="u2")
    workloads.refresh(folder.read())
    assert workloads.guarded[WEB].sandbox.uid == "u2"


def test_a_pod_that_cannot_be_guarded_is_reported_and_tried_again(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    hooks = HooksInMemory()
    hooks.broken = {"lo"}
    workloads = Workloads(hooks)
    write()
    folder = SandboxFolder(tmp_path, "node1")
    workloads.refresh(folder.read())
    assert "attach to lo" in workloads.failing[WEB]
    assert not workloads.guarded
    hooks.broken = set()
    workloads.refresh(folder.read())
    assert not workloads.failing
    assert workloads.guarded.keys() == {WEB}


def test_a_file_that_cannot_be_read_leaves_its_pod_as_it_was(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    path = write()
    folder = SandboxFolder(tmp_path, "node1")
    before = folder.read()
    path.write_text("{")
    assert folder.read() == before


async def test_a_new_file_is_noticed(tmp_path: Path, write: Callable[..., Path]) -> None:
    folder = SandboxFolder(tmp_path, "node1")
    changes = folder.changes()
    await anext(changes)
    write()
    await anext(changes)
    assert WEB in folder.read()


def test_the_key_of_a_sandbox_is_fit_for_paths() -> None:
    sandbox = Sandbox(WEB, "u", Path("/run/netns/x"), "slc0123abcd", ("10.0.0.1",))
    assert sandbox.key == "0123abcd"
