"""Keys that are fetched: from a real server into a real mesh. What they let through is for tests/threats."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import KeySource, RequestAuthentication
from tests.mesh.dialects.objects import obj
from tests.threats.key_server import Answer, KeyServer, saying, serving, silent
from xds import fetching, jwks
from xds.allowed import Allowed
from xds.dialects import read
from xds.jwks import Fetched, FetchedKeys, ask

LOCAL = Allowed.of(["127.0.0.1"])
#: A public key on P-256 (RFC 7517, A.1), under two names.
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
OLD, NEW = (json.dumps({"keys": [{**KEY, "kid": kid}]}, sort_keys=True) for kid in ("old", "new"))
SECRET = "hunter2"


def kept(keys: str) -> str:
    return json.dumps(json.loads(keys), separators=(",", ":"))


class Node:
    """A mesh and what follows its keys, as the control plane has them."""

    def __init__(self, folder: Path) -> None:
        self.mesh = Mesh(Allocations(["10.128.0.0/16"]))
        self.keys = FetchedKeys(folder, self.mesh, lambda source: ask(source, LOCAL))
        self._changes = self.keys.changes()
        self.start = self.keys.initial()
        self.mesh.apply({fetched.ref: fetched.fragment for fetched in self.start})

    def want(self, *rules: Any, name: str = "one") -> None:
        spec = {"jwtRules": [{"issuer": "https://issuer.example", **rule} for rule in rules]}
        policy = obj("security.istio.io/v1", "RequestAuthentication", spec)
        policy["metadata"]["name"] = name
        fragment = read(policy)
        assert fragment.problems == ()
        self.keys.follow(self.mesh.apply({fragment.ref: fragment}))

    def take(self, fetched: Fetched) -> None:
        self.keys.follow(self.mesh.apply({fetched.ref: fetched.fragment}))

    async def hear(self) -> Fetched:
        async with asyncio.timeout(10):
            (fetched,) = await anext(self._changes)
        self.take(fetched)
        return fetched

    def rule_keys(self) -> list[Any]:
        return [
            rule.keys
            for policy in self.mesh.all_policies()
            if isinstance(policy, RequestAuthentication)
            for rule in policy.rules
        ]

    def says(self) -> list[str]:
        return [f"{problem.field}: {problem.message}" for problem in self.mesh.problems]


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "REFRESH", 0.01)
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with serving(saying(OLD)) as found:
        yield found


async def test_keys_are_fetched_and_refreshed(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want({"jwksUri": server.url()})
    assert node.rule_keys() == [""]
    await node.hear()
    assert (node.rule_keys(), node.says()) == ([kept(OLD)], [])
    server.answer = saying(NEW)
    await node.hear()
    assert node.rule_keys() == [kept(NEW)]


async def test_each_policy_gets_its_keys(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    for name in ("one", "two"):
        node.want({"jwksUri": server.url(path=f"/{name}")}, name=name)
        await node.hear()
    assert node.rule_keys() == [kept(OLD)] * 2


async def test_an_issuer_says_where_its_keys_are(server: KeyServer, tmp_path: Path) -> None:
    configuration = json.dumps({"issuer": server.url(path=""), "jwks_uri": server.url()})

    async def answer(request: Any) -> Any:
        return await saying(OLD if request.path == "/keys" else configuration)(request)

    server.answer = answer
    node = Node(tmp_path)
    node.want({"issuer": server.url(path="/realm/")})
    await node.hear()
    assert node.rule_keys() == [kept(OLD)]
    assert server.paths[:2] == ["/realm/.well-known/openid-configuration", "/keys"]


BROKEN: dict[str, tuple[Callable[[], Answer], str]] = {
    "500": (lambda: saying(NEW, 500), "answers 500"),
    "404": (lambda: saying(NEW, 404), "answers 404"),
    "silence": (lambda: silent, "no answer within 0.2 s"),
    "garbage": (lambda: saying(SECRET), "is not JSON"),
    "not UTF-8": (lambda: saying(b"\xff\xfe"), "is not UTF-8"),
    "deep": (lambda: saying("[" * 100_000), "is not JSON"),
    "something else": (lambda: saying(json.dumps({"password": SECRET})), "is no JSON Web Key Set"),
    "no keys": (lambda: saying('{"keys": []}'), "holds no key"),
    "a shared secret": (lambda: saying('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'), "holds no key"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_key_set_takes_none_away(
    name: str, server: KeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, says = BROKEN[name]
    node = Node(tmp_path)
    node.want({"jwksUri": server.url(), "timeout": "200ms"})
    await node.hear()
    server.answer = make()
    with caplog.at_level(logging.WARNING):
        await node.hear()
    (told,) = node.says()
    assert told.startswith(f"spec.jwtRules[0].jwksUri: no keys from {server.url()}: ")
    assert says in told and told.endswith("the keys from before stay in force")
    assert node.rule_keys() == [kept(OLD)]
    assert SECRET not in told + caplog.text
    server.answer = saying(NEW)
    await node.hear()
    assert (node.rule_keys(), node.says()) == ([kept(NEW)], [])


async def test_keys_that_never_were_are_none(tmp_path: Path) -> None:
    async with serving(saying(OLD)) as server:
        uri = server.url()
    node = Node(tmp_path)
    node.want({"jwksUri": uri})
    await node.hear()
    assert node.rule_keys() == [""]
    assert node.says() == [
        f"spec.jwtRules[0].jwksUri: no keys from {uri}: it cannot be reached; until then its tokens get 401"
    ]
    node.want({"jwksUri": "http://10.0.0.1/"})
    while not any("10.0.0.1" in text for text in node.says()):
        await node.hear()
    assert "is no public address, and --jwks-allow does not name it" in node.says()[0]


async def test_a_restart_has_the_keys_before_it_asks(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want({"jwksUri": server.url()})
    await node.hear()
    server.answer = saying("", 500)
    again = Node(tmp_path)
    again.want({"jwksUri": server.url()})
    assert again.rule_keys() == [kept(OLD)]
    await again.hear()
    assert again.rule_keys() == [kept(OLD)]


async def test_a_file_that_is_damaged_is_no_key(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want({"jwksUri": server.url()})
    await node.hear()
    (path,) = tmp_path.iterdir()
    for text in ("", "{}", "[]", path.read_text().replace("P-256", "P-257")):
        path.write_text(text)
        assert Node(tmp_path).start == []


async def test_what_nobody_wants_is_forgotten(server: KeyServer, tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.want({"jwksUri": server.url()}, {"jwksUri": server.url(path="/other")})
    await node.hear()
    await node.hear()
    assert node.mesh.keys.keys() == {KeySource(server.url()), KeySource(server.url(path="/other"))}
    node.want({"jwks": OLD})
    await node.hear()
    await node.hear()
    assert (node.mesh.keys, list(tmp_path.iterdir())) == ({}, [])
    asked = len(server.paths)
    await asyncio.sleep(0.1)
    assert len(server.paths) == asked
