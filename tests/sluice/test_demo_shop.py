"""The pieces of the demo that need no mesh: the shop's servers and the visitor that looks at them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.dialects import read
from sluice.demo import shop, visitor
from sluice.demo.live_mesh import MANIFESTS
from sluice.pod_spec import read_pod


@pytest.fixture
def reviews() -> Iterator[str]:
    """Where a reviews server listens."""
    with shop.server("reviews", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return last


def test_a_tally_counts_the_versions_that_answered(reviews: str, capsys: pytest.CaptureFixture[str]) -> None:
    visitor.tally(reviews, "/reviews", 5)
    assert told(capsys) == {"versions": {"v1": 5}}


def test_a_request_tells_its_status(reviews: str, capsys: pytest.CaptureFixture[str]) -> None:
    visitor.request(reviews, "POST", "/anything")
    assert told(capsys) == {"status": 200}


def test_a_request_that_fails_tells_why(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    visitor.request(f"127.0.0.1:{port}", "GET", "/")
    assert told(capsys) == {"status": 0, "error": "ECONNREFUSED"}


@pytest.mark.parametrize("manifest", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_pod_of_the_shop_plays_a_role_that_exists(manifest: Path) -> None:
    pods = [doc for doc in yaml.safe_load_all(manifest.read_text()) if doc["kind"] == "Pod"]
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["command"][:3] == ["python3", "-m", "sluice.demo.shop"]
        assert container["command"][3] in shop.ROLES


@pytest.mark.parametrize("manifest", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_our_dialects_find_no_problem_in_the_shop(manifest: Path) -> None:
    for document in yaml.safe_load_all(manifest.read_text()):
        assert not read(document).problems
        if document["kind"] == "Pod":
            assert not read_pod(document).problems
