"""A resolver and its upstream for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.dns.running import Resolver
from tests.agent.dns.upstream import TinyUpstream


@pytest.fixture
async def upstream() -> TinyUpstream:
    return await TinyUpstream(
        "www.example.com A 192.0.2.1",
        "www.example.com AAAA 2001:db8::1",
        "api.example.com CNAME edge.cdn.net.",
        "edge.cdn.net CNAME pop.cdn.net.",
        "pop.cdn.net A 192.0.2.7",
        "pop.cdn.net A 192.0.2.8",
        "other.org A 198.51.100.1",
        "other.org TXT hello",
    ).start()


@pytest.fixture
async def resolver(tmp_path: Path, upstream: TinyUpstream) -> AsyncIterator[Resolver]:
    found = Resolver(tmp_path / "r", "--upstream", upstream.address)
    try:
        yield await found.start()
    finally:
        found.close()
