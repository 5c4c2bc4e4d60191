"""A discovery server on loopback with a snapshot that tests edit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocol.served import Served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    server = Served()
    await server.start()
    yield server
    await server.stop()
