"""Modules that are fetched and read: from real servers and files into a real mesh. What they do to requests
is for tests/node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import WasmPlugin
from tests.mesh.dialects.objects import obj
from tests.threats.key_server import KeyServer, saying, serving
from tests.wasm_module import adds, answers
from xds import fetching, modules
from xds.allowed import Allowed
from xds.dialects import read
from xds.modules import LARGEST, FetchedModule, FetchedModules, ask

LOCAL = Allowed.of(["127.0.0.1"], "--wasm-allow")
MODULE, OTHER = adds("x-one", "1"), answers(202)
DIGEST = sha256(MODULE).hexdigest()


class Node:
    """A mesh and what follows its modules, as the control plane has them."""

    def __init__(self, kept: Path, folder: Path | None = None) -> None:
        self.mesh = Mesh(Allocations(["10.128.0.0/16"]))
        self.modules = FetchedModules(kept, self.mesh, lambda source: ask(source, LOCAL, folder))
        self._changes = self.modules.changes()
        self.start = self.modules.initial()
        self.mesh.apply({fetched.ref: fetched.fragment for fetched in self.start})

    def want(self, name: str = "one", **spec: Any) -> None:
        spec["selector"] = {"matchLabels": {"app": "web"}}
        plugin = obj("extensions.istio.io/v1alpha1", "WasmPlugin", spec)
        plugin["metadata"]["name"] = name
        fragment = read(plugin)
        assert fragment.problems == ()
        self.modules.follow(self.mesh.apply({fragment.ref: fragment}))

    def remove(self, name: str = "one") -> None:
        (ref,) = [ref for ref in self.mesh.policies if ref.name == name]
        self.modules.follow(self.mesh.apply({ref: None}))

    async def hear(self) -> FetchedModule:
        async with asyncio.timeout(10):
            (fetched,) = await anext(self._changes)
        self.modules.follow(self.mesh.apply({fetched.ref: fetched.fragment}))
        return fetched

    def codes(self) -> list[bytes]:
        return [policy.code for policy in self.mesh.all_policies() if isinstance(policy, WasmPlugin)]

    def says(self) -> list[str]:
        return [f"{problem.field}: {problem.message}" for problem in self.mesh.problems]


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "LOOK", 0.01)
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with serving(saying(MODULE)) as found:
        yield found


async def test_a_module_is_fetched_once_and_kept_by_its_checksum(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want(url=server.url(), sha256=DIGEST)
    assert node.codes() == [b""]
    assert node.says() == [
        f"spec.url: no module from {server.url()}: it has not come yet; until then requests that must meet "
        "it get 503, but where an earlier version serves"
    ]
    await node.hear()
    assert (node.codes(), node.says()) == ([MODULE], [])
    assert (tmp_path / f"{DIGEST}.wasm").read_bytes() == MODULE
    server.answer = saying(OTHER)

    # A control plane that starts anew has it before it asks, and need not ask.
    again = Node(tmp_path)
    again.want(url=server.url(), sha256=DIGEST)
    assert again.codes() == [MODULE]
    await asyncio.sleep(0)
    assert server.paths == ["/keys"]

    again.want(name="two", url=server.url(path="/two"), sha256=DIGEST)
    server.answer = saying(MODULE)
    await again.hear()
    again.remove()
    assert len(list(tmp_path.glob("*.wasm"))) == 1, "another source has the same"
    again.remove("two")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (saying(OTHER), "what is there has another SHA-256"),
        (saying("", 404), "it answers 404"),
        (saying(MODULE + bytes(LARGEST)), f"its answer is longer than {LARGEST} bytes"),
    ],
)
async def test_a_bad_answer_is_told_and_asked_again(
    answer: Any, why: str, server: KeyServer, tmp_path: Path
) -> None:
    node = Node(tmp_path)
    server.answer = answer
    node.want(url=server.url(), sha256=DIGEST, failStrategy="FAIL_OPEN")
    await node.hear()
    assert node.codes() == [b""]
    assert node.says() == [
        f"spec.url: no module from {server.url()}: {why}; until then requests pass without it, but where an "
        "earlier version serves"
    ]
    server.answer = saying(MODULE)
    await node.hear()
    assert (node.codes(), node.says()) == ([MODULE], [])


async def test_what_is_no_module_is_refused(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    server.answer = saying(b"\x1f\x8b packed")
    node.want(url=server.url(), sha256=sha256(b"\x1f\x8b packed").hexdigest())
    await node.hear()
    assert node.codes() == [b""]
    assert "it is no WebAssembly module" in node.says()[0]


async def test_a_file_without_a_checksum_is_looked_at_again(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "modules"
    folder.mkdir()
    path = folder / "a.wasm"
    path.write_bytes(MODULE)
    node = Node(kept, folder)
    node.want(url=f"file://{path}")
    await node.hear()
    assert node.codes() == [MODULE]
    path.write_bytes(OTHER)
    await node.hear()
    assert node.codes() == [OTHER]
    assert [found.name for found in kept.glob("*.wasm")] == [f"{sha256(OTHER).hexdigest()}.wasm"]
    path.unlink()
    await node.hear()
    assert (node.codes(), node.says()) == ([OTHER], []), "the newest good one stays"


async def test_a_file_that_is_spoilt_on_disk_is_got_afresh(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want(url=server.url(), sha256=DIGEST)
    await node.hear()
    (tmp_path / f"{DIGEST}.wasm").write_bytes(OTHER)
    again = Node(tmp_path)
    assert again.start == []
    again.want(url=server.url(), sha256=DIGEST)
    await again.hear()
    assert again.codes() == [MODULE]
