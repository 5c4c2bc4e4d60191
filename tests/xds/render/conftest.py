"""Real Envoys and real servers for the tests of what is rendered; all on loopback, all gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.proxy import ProxyView
from tests.xds.render.backend import Backend
from tests.xds.render.consent import GrpcConsent, HttpConsent
from tests.xds.render.standalone import Proxy
from xds.render import Rendered

Serve = Callable[..., Proxy]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="sluice-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Backend]]:
    """Backends `one`, `two` and `three`."""
    found = {name: Backend(name) for name in ("one", "two", "three")}
    yield found
    for backend in found.values():
        backend.stop()


@pytest.fixture(scope="module")
def by_grpc() -> Iterator[GrpcConsent]:
    consent = GrpcConsent()
    yield consent
    consent.stop()


@pytest.fixture(scope="module")
def by_http() -> Iterator[HttpConsent]:
    consent = HttpConsent()
    yield consent
    consent.stop()


@pytest.fixture(scope="module")
def serve(folder: Path) -> Iterator[Serve]:
    """Starts an Envoy with a view."""
    with ExitStack() as stack:

        def start(
            view: ProxyView,
            passthrough: tuple[str, int] = ("127.0.0.1", 9),
            *,
            updated: bool = False,
            secrets: Rendered = (),
        ) -> Proxy:
            own = Path(tempfile.mkdtemp(dir=folder))
            proxy = Proxy(view, own, passthrough, updated=updated, secrets=secrets)
            stack.callback(proxy.stop)
            return proxy

        yield start
