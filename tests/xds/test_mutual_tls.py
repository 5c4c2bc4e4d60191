"""Certificates in what nodes are sent: there with whoever speaks mutual TLS, exchanged in time, and missing
where none can be had."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mesh.discovery.envoy import CLUSTER, LISTENER, SECRET
from mesh.node import Manifest
from mesh.resources import MANIFEST_TYPE, decode
from tests.xds.authorities import NOW, put, signer
from tests.xds.manifests import PLACEMENTS, SHOP
from tests.xds.test_pipeline import RANGES, apply, body, file, sent
from xds.authority import Authority
from xds.certificates import Certificates
from xds.pipeline import Pipeline

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
PODS = ("shop/cart", "shop/web")


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def published() -> list[str]:
    return []


@pytest.fixture
def shop(tmp_path: Path, clock: Clock, published: list[str]) -> Pipeline:
    kept = Certificates(Authority(tmp_path / "authority"), clock=clock)
    made = Pipeline(tmp_path, "local", RANGES, (), published.append, certificates=kept)
    made.start((*PLACEMENTS, file(SHOP)))
    return made


def manifest(pipeline: Pipeline, pod: str) -> dict[str, dict[str, str]]:
    """What a pod's Envoy is to be served: type URL -> name -> hash."""
    found = decode(MANIFEST_TYPE, body(pipeline, MANIFEST_TYPE, pod))
    assert isinstance(found, Manifest)
    return {type_url: dict(names) for type_url, names in found.resources.items()}


def test_who_speaks_mutual_tls_has_a_certificate(shop: Pipeline, tmp_path: Path) -> None:
    assert MANIFEST_TYPE not in sent(shop) or not sent(shop)[MANIFEST_TYPE]
    assert not (tmp_path / "authority").exists()
    apply(shop, file(STRICT, "/m/strict.yaml"))
    assert {pod: set(manifest(shop, pod)[SECRET]) for pod in PODS} == {
        pod: {"default", "ROOTCA"} for pod in PODS
    }
    # Both are of one account.
    assert manifest(shop, PODS[0])[SECRET] == manifest(shop, PODS[1])[SECRET]


async def test_a_new_certificate_changes_nothing_else(
    shop: Pipeline, clock: Clock, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(shop, file(STRICT, "/m/strict.yaml"))
    before, generation = manifest(shop, PODS[0]), shop.generations.number
    published.clear()
    clock.now += timedelta(hours=15)
    monkeypatch.setattr("xds.pipeline._REST", 0.01)
    loop = asyncio.create_task(shop.run())
    async with asyncio.timeout(5):
        while not published:
            await asyncio.sleep(0.01)
    loop.cancel()
    after = manifest(shop, PODS[0])
    assert after[SECRET]["default"] != before[SECRET]["default"]
    assert after[SECRET]["ROOTCA"] == before[SECRET]["ROOTCA"]
    assert {**after, SECRET: {}} == {**before, SECRET: {}}
    assert shop.generations.number == generation + 1


async def test_without_an_authority_nobody_speaks_in_the_clear_instead(
    shop: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listeners and clusters want certificates that are not there: to Envoy they are not ready."""
    ended = signer("ended", ends=NOW - timedelta(days=1))
    put(tmp_path / "authority", ended, roots=(ended,))
    apply(shop, file(STRICT, "/m/strict.yaml"))
    found = manifest(shop, PODS[0])
    assert found[LISTENER] and found[CLUSTER] and SECRET not in found
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    assert "ca-cert.pem has ended" in caplog.text
    (problem,) = shop.problems
    assert str(problem.object) == "CertificateAuthority mesh"
    assert "none for spiffe://cluster.local/ns/shop/sa/default: " in problem.message
    good = signer("good")
    put(tmp_path / "authority", good, roots=(good,))
    monkeypatch.setattr("xds.pipeline._REST", 0.01)
    loop = asyncio.create_task(shop.run())
    async with asyncio.timeout(5):
        while SECRET not in manifest(shop, PODS[0]):
            await asyncio.sleep(0.01)
    loop.cancel()
    assert not shop.problems
