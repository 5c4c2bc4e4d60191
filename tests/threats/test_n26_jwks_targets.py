"""N26 (CVE-2026-41413): the control plane fetches what a user's URL names, and nothing that only it reaches.

Every URL here leads to a real server on this machine, or would: nobody may come to it. Keys and modules are
asked for alike; modules may also be files, below one folder, if any.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mesh.model import ModuleSource
from tests.threats.key_server import saying, serving
from tests.wasm_module import answers
from xds import modules
from xds.allowed import Allowed
from xds.fetch import LARGEST, REDIRECTS, Lookup, Unfetched, fetch

NOWHERE_ELSE = Allowed()
LOCAL = Allowed.of(["127.0.0.0/8"])

#: Addresses that are nobody's business, in every spelling that something takes for one.
PRIVATE = {
    "metadata": "169.254.169.254",
    "metadata of another cloud": "100.100.100.200",
    "loopback": "127.0.0.1",
    "all of loopback": "127.9.9.9",
    "this host": "0.0.0.0",
    "10/8": "10.0.0.1",
    "172.16/12": "172.31.255.254",
    "192.168/16": "192.168.1.1",
    "carrier's": "100.64.0.1",
    "benchmarks": "198.18.0.1",
    "multicast": "224.0.1.1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "loopback, IPv6": "::1",
    "nobody, IPv6": "::",
    "link-local, IPv6": "fe80::1",
    "unique local, IPv6": "fd00:ec2::254",
    "site-local, IPv6": "fec0::1",
    "multicast, IPv6": "ff0e::1",
    "mapped": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:169.254.169.254",
    "compatible": "::127.0.0.1",
    "translated": "64:ff9b::10.0.0.1",
    "6to4": "2002:7f00:1::",
    "Teredo": "2001:0:7f00:1::",
    "documentation": "2001:db8::1",
}
SPELLINGS = (
    "2130706433",
    "0x7f000001",
    "017700000001",
    "127.1",
    "0x7f.1",
    "localhost",
    "LOCALHOST.",
    "１２７.0.0.1",
)


def resolving(*answers: Iterable[str]) -> tuple[Lookup, list[str]]:
    """A resolver that gives one answer after the other, the last one for ever, and what it was asked."""
    asked: list[str] = []

    async def look_up(host: str) -> list[str]:
        asked.append(host)
        return list(answers[min(len(asked), len(answers)) - 1])

    return look_up, asked


@pytest.mark.parametrize("name", PRIVATE)
async def test_an_address_that_is_not_public_is_not_asked(name: str) -> None:
    address = PRIVATE[name]
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(Unfetched, match="no public address"):
        await fetch(f"http://{host}:9/", 5, NOWHERE_ELSE)
    look_up, asked = resolving([address])
    with pytest.raises(Unfetched, match="no public address"):
        await fetch("http://keys.example:9/", 5, NOWHERE_ELSE, look_up)
    assert asked == ["keys.example"]


@pytest.mark.parametrize("address", ["1.1.1.1", "::ffff:1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1"])
def test_a_public_address_may_be_asked(address: str) -> None:
    assert NOWHERE_ELSE.permits("keys.example", address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", *SPELLINGS])
async def test_no_spelling_leads_to_this_machine(host: str) -> None:
    async with serving(saying("secret")) as server:
        with pytest.raises(Unfetched) as caught:
            await fetch(server.url(host), 5, NOWHERE_ELSE)
        assert server.paths == []
    assert "secret" not in str(caught.value)


async def test_a_redirect_is_asked_the_same_question() -> None:
    """It reaches nothing that is not allowed: not by address, not by name, not by another scheme."""
    async with serving(saying("secret"), "127.0.0.2") as private, serving(saying("")) as public:
        allowed = Allowed.of(["127.0.0.1"])
        targets = [
            private.url("127.0.0.2"),
            private.url("[::ffff:127.0.0.2]"),
            private.url("inside.example"),
            "http://169.254.169.254/latest/meta-data/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
        ]
        look_up, _ = resolving(["127.0.0.2"])
        for status in (301, 302, 303, 307, 308):
            for target in targets:
                public.answer = saying("", status, Location=target)
                with pytest.raises(Unfetched):
                    await fetch(public.url(), 5, allowed, look_up)
        assert private.paths == []
        assert len(public.paths) == 5 * len(targets)


async def test_a_redirect_to_a_good_place_is_followed_but_not_for_ever() -> None:
    async with serving(saying("keys")) as other, serving(saying("")) as server:
        server.answer = saying("", 302, Location=other.url())
        assert await fetch(server.url(), 5, LOCAL) == b"keys"
        server.paths.clear()
        server.answer = saying("", 302, Location="/again")
        with pytest.raises(Unfetched, match="redirects more than"):
            await fetch(server.url(), 5, LOCAL)
        assert len(server.paths) == REDIRECTS + 1


async def test_a_name_that_changes_its_mind_is_asked_once() -> None:
    """DNS rebinding: what was judged is what is connected to."""
    async with serving(saying("secret"), "127.0.0.2") as private, serving(saying("keys")) as public:
        allowed = Allowed.of(["127.0.0.1"])
        look_up, asked = resolving(["127.0.0.1"], ["127.0.0.2"])
        assert await fetch(public.url("keys.example"), 5, allowed, look_up) == b"keys"
        assert asked == ["keys.example"]
        with pytest.raises(Unfetched, match="no public address"):
            await fetch(private.url("keys.example"), 5, allowed, look_up)
        # One name, both addresses: only the good one is tried.
        look_up, _ = resolving(["127.0.0.2", "127.0.0.1"])
        with pytest.raises(Unfetched, match="cannot be reached"):
            await fetch(private.url("keys.example"), 5, allowed, look_up)
        assert private.paths == []


async def test_a_redirect_to_the_same_name_is_looked_up_anew() -> None:
    async with serving(saying("secret"), "127.0.0.2") as private, serving(saying("")) as public:
        public.answer = saying("", 302, Location=private.url("keys.example"))
        look_up, asked = resolving(["127.0.0.1"], ["127.0.0.2"])
        with pytest.raises(Unfetched, match="no public address"):
            await fetch(public.url("keys.example"), 5, Allowed.of(["127.0.0.1"]), look_up)
        assert (asked, private.paths) == (["keys.example"] * 2, [])


async def test_what_is_allowed_is_asked() -> None:
    look_up, _ = resolving(["127.0.0.1"])
    async with serving(saying("keys")) as server:
        for allowed in (LOCAL, Allowed.of(["127.0.0.1"])):
            assert await fetch(server.url(), 5, allowed) == b"keys"
            assert await fetch(server.url("keys.example"), 5, allowed, look_up) == b"keys"
        by_name = Allowed.of(["Keys.Example"])
        assert await fetch(server.url("keys.example."), 5, by_name, look_up) == b"keys"
        with pytest.raises(Unfetched):
            await fetch(server.url("other.example"), 5, by_name, look_up)


async def test_an_answer_has_its_limits() -> None:
    async with serving(saying(b"a" * LARGEST)) as server:
        assert len(await fetch(server.url(), 5, LOCAL)) == LARGEST
        server.answer = saying(b"a" * (LARGEST + 1))
        with pytest.raises(Unfetched, match="longer than"):
            await fetch(server.url(), 5, LOCAL)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "http://keys", "", "a b", "10.0.0.0/33", "*.example"])
def test_what_allows_nothing_that_is_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address block and no host"):
        Allowed.of([text])


# --- modules of WasmPlugins -------------------------------------------------------------------------------

NO_MODULES_ELSEWHERE = Allowed.of([], "--wasm-allow")
MODULE = answers(202)


async def test_a_private_address_is_not_asked_for_a_module() -> None:
    async with serving(saying(MODULE)) as server:
        with pytest.raises(Unfetched, match="no public address, and --wasm-allow does not name it"):
            await modules.ask(ModuleSource(server.url()), NO_MODULES_ELSEWHERE, None)
        assert server.paths == []
        assert await modules.ask(ModuleSource(server.url()), Allowed.of(["127.0.0.1"]), None) == MODULE


async def test_no_redirect_leads_to_one() -> None:
    async with serving(saying(MODULE), "127.0.0.2") as private, serving(saying("")) as public:
        allowed = Allowed.of(["127.0.0.1"], "--wasm-allow")
        for target in (private.url("127.0.0.2"), "file:///etc/passwd", "http://169.254.169.254/"):
            public.answer = saying("", 302, Location=target)
            with pytest.raises(Unfetched):
                await modules.ask(ModuleSource(public.url()), allowed, None)
        assert private.paths == []


async def test_no_file_is_read_unless_a_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wasm"
    path.write_bytes(MODULE)
    with pytest.raises(Unfetched, match="--wasm-folder"):
        await modules.ask(ModuleSource(f"file://{path}"), NO_MODULES_ELSEWHERE, None)
    assert await modules.ask(ModuleSource(f"file://{path}"), NO_MODULES_ELSEWHERE, tmp_path) == MODULE


async def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder, secret = tmp_path / "modules", tmp_path / "secret.wasm"
    folder.mkdir()
    (tmp_path / "modules-of-others").mkdir()
    secret.write_bytes(MODULE)
    (tmp_path / "modules-of-others" / "a.wasm").write_bytes(MODULE)
    (folder / "link.wasm").symlink_to(secret)
    for path in (
        secret,
        folder / "../secret.wasm",
        folder / "%2e%2e/secret.wasm",
        folder / "link.wasm",
        tmp_path / "modules-of-others" / "a.wasm",
        "/proc/self/environ",
    ):
        with pytest.raises(Unfetched, match="only below"):
            await modules.ask(ModuleSource(f"file://{path}"), NO_MODULES_ELSEWHERE, folder)


async def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(modules.LARGEST + 1))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    found = {"pipe": "no file", "": "no file", "gone": "No such file", "large": "longer than"}
    found |= {"circle": "no path|Too many", "a%00b": "no path", "a" * 300: "File name too long"}
    for name, why in found.items():
        with pytest.raises(Unfetched, match=why):
            await modules.ask(ModuleSource(f"file://{tmp_path}/{name}"), NO_MODULES_ELSEWHERE, tmp_path)


#: What happens when a path is about to be opened, once.
_AT_OPEN: dict[str, Callable[[], object]] = {}
sys.addaudithook(lambda event, args: _AT_OPEN.pop(str(args[0]), int)() if event == "open" else None)


@pytest.mark.parametrize("trick", ["pipe", "link", "link above"])
async def test_what_takes_a_files_place_while_it_is_looked_at_is_not_read(trick: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "modules", tmp_path / "elsewhere"
    for parent in (folder / "team", elsewhere):
        parent.mkdir(parents=True)
        (parent / "a.wasm").write_bytes(MODULE)
    path = folder / "team" / "a.wasm"

    def swap() -> None:
        path.unlink()
        if trick == "pipe":
            os.mkfifo(path)
        elif trick == "link":
            path.symlink_to(elsewhere / "a.wasm")
        else:
            path.parent.rmdir()
            path.parent.symlink_to(elsewhere)

    _AT_OPEN[str(path)] = swap
    asking = asyncio.create_task(modules.ask(ModuleSource(f"file://{path}"), NO_MODULES_ELSEWHERE, folder))
    done, _ = await asyncio.wait([asking], timeout=10)
    if not done:  # a thread waits for who writes: let it go
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    assert done and not _AT_OPEN
    with pytest.raises(Unfetched, match=r"no file|Too many|only below"):
        await asking
