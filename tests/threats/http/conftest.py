"""Real Envoys as in `tests/xds/render`, for threats in what clients say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.threats.http.application import Application
from tests.xds.render.conftest import by_grpc, by_http, folder, serve, servers

__all__ = ["application", "by_grpc", "by_http", "folder", "serve", "servers"]


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    found = Application()
    yield found
    found.stop()
