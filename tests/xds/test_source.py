"""The file source against a real file system and inotify. Every test awaits the event it caused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.xds.manifests import SANDBOXES, WEB, policy, write_sandboxes
from xds.documents import digest_of
from xds.sandbox import Placement, sandboxes
from xds.source import Bundle, FileSource

PATIENCE = 10


class Watched:
    """A file source that has been started, and what it says next."""

    def __init__(self, *paths: Path) -> None:
        self.source = FileSource(paths, {})
        self.initial = {bundle.origin: names(bundle) for bundle in self.source.initial()}
        self._changes = self.source.changes()

    async def next(self) -> dict[str, list[str]]:
        """Origin -> names of its objects, of the next batch."""
        async with asyncio.timeout(PATIENCE):
            return {Path(b.origin).name: names(b) for b in await anext(self._changes)}


def names(bundle: Bundle) -> list[str]:
    return [item.ref.name for item in bundle.documents.objects]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    (path / "deep").mkdir(parents=True)
    (path / "a.yaml").write_text(policy("a"))
    (path / "deep" / "b.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}})
    )
    (path / "notes.txt").write_text("not a manifest")
    (path / ".hidden.yaml").write_text(policy("hidden"))
    return path


async def test_a_folder_is_read_with_all_below_it(folder: Path) -> None:
    assert {Path(origin).name: names for origin, names in Watched(folder).initial.items()} == {
        "a.yaml": ["a"],
        "b.json": ["b"],
    }


def saved(path: Path) -> None:
    path.write_text(policy("new"))


def renamed(path: Path) -> None:
    beside = path.with_suffix(".swp")
    beside.write_text(policy("new"))
    beside.replace(path)


def linked(path: Path) -> None:
    beside = path.with_suffix(".swp")
    beside.write_text(policy("new"))
    path.unlink(missing_ok=True)
    path.symlink_to(beside)


@pytest.mark.parametrize("write", [saved, renamed, linked])
@pytest.mark.parametrize("name", ["a.yaml", "c.yml", "deep/d.json"])
async def test_a_file_is_read_when_it_is_whole(
    folder: Path, write: Callable[[Path], None], name: str
) -> None:
    watched = Watched(folder)
    path = folder / name
    text = policy("new") if not name.endswith("json") else ""
    write(path)
    if not text:  # YAML in a .json file is no JSON: the batch comes all the same
        assert await watched.next() == {"d.json": []}
    else:
        assert await watched.next() == {path.name: ["new"]}


async def test_a_file_that_is_still_being_written_is_not_read(folder: Path) -> None:
    watched = Watched(folder)
    with open(folder / "slow.yaml", "w") as slow:
        slow.write("kind: [")
        slow.flush()
        saved(folder / "a.yaml")
        assert await watched.next() == {"a.yaml": ["new"]}


async def test_a_file_that_is_gone_holds_nothing(folder: Path) -> None:
    watched = Watched(folder)
    (folder / "a.yaml").unlink()
    assert await watched.next() == {"a.yaml": []}


async def test_a_folder_that_goes_takes_its_files_and_one_that_comes_brings_them(
    folder: Path, tmp_path: Path
) -> None:
    watched = Watched(folder)
    (folder / "deep").rename(tmp_path / "away")
    assert await watched.next() == {"b.json": []}
    (tmp_path / "away").rename(folder / "back")
    assert await watched.next() == {"b.json": ["b"]}
    saved(folder / "back" / "c.yaml")
    assert await watched.next() == {"c.yaml": ["new"]}
    (folder / "x" / "y").mkdir(parents=True)
    saved(folder / "x" / "y" / "z.yaml")
    found: dict[str, list[str]] = {}
    while "z.yaml" not in found:
        found |= await watched.next()
    assert found == {"z.yaml": ["new"]}


async def test_a_single_file_survives_being_replaced_and_may_come_late(tmp_path: Path) -> None:
    path = tmp_path / "shop"
    watched = Watched(path)
    assert watched.initial == {}
    renamed(path)
    assert await watched.next() == {"shop": ["new"]}
    path.unlink()
    assert await watched.next() == {"shop": []}
    saved(path)
    assert await watched.next() == {"shop": ["new"]}


async def test_a_mounted_config_map_is_read_anew_when_its_data_link_moves(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for version in ("..1", "..2"):
        (mount / version).mkdir(parents=True)
        (mount / version / "shop.yaml").write_text(policy(f"v{version[-1]}"))
    (mount / "..data").symlink_to("..1")
    (mount / "shop.yaml").symlink_to("..data/shop.yaml")
    watched = Watched(mount)
    assert watched.initial == {str(mount / "shop.yaml"): ["v1"]}
    (mount / "..data_tmp").symlink_to("..2")
    os.replace(mount / "..data_tmp", mount / "..data")
    found: dict[str, list[str]] = {}
    while found != {"shop.yaml": ["v2"]}:
        found = await watched.next()


async def test_what_is_queued_comes_as_one_batch(folder: Path) -> None:
    watched = Watched(folder)
    for index in range(50):
        (folder / f"{index}.yaml").write_text(policy(f"p{index}"))
    assert len(await watched.next()) == 50


def test_at_the_start_unchanged_files_are_passed_over_and_lost_ones_reported(
    folder: Path, tmp_path: Path
) -> None:
    known = {
        str(folder / "a.yaml"): digest_of((folder / "a.yaml").read_bytes()),
        str(folder / "deep" / "b.json"): "another",
        str(folder / "lost.yaml"): "digest",
        str(tmp_path / "elsewhere.yaml"): "no business of ours",
    }
    bundles = {Path(b.origin).name: names(b) for b in FileSource([folder], known).initial()}
    assert bundles == {"b.json": ["b"], "lost.yaml": []}


async def test_text_that_is_not_utf8_is_a_problem_with_its_line(folder: Path) -> None:
    watched = Watched(folder)
    (folder / "a.yaml").write_bytes(b"# fine\n\xff")
    async for batch in watched.source.changes():
        (problem,) = batch[0].documents.problems
        assert (problem.field, problem.message) == ("line 2", "is not UTF-8")
        break


async def test_sandboxes_come_change_and_go(tmp_path: Path) -> None:
    write_sandboxes(tmp_path)
    source = sandboxes(tmp_path / "sandboxes")
    assert Placement(WEB, SANDBOXES[WEB]) in source.initial()
    path = tmp_path / "sandboxes" / "shop_web.json"
    changes: AsyncIterator[list[Placement]] = source.changes()
    async with asyncio.timeout(PATIENCE):
        path.write_text("{")
        assert await anext(changes) == []
        path.unlink()
        assert await anext(changes) == [Placement(WEB, None)]
