"""One node in a box for the whole session; each test starts from a mesh without rules and flows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.box import Box


@pytest.fixture(scope="session")
def node() -> Iterator[Box]:
    if os.geteuid():
        pytest.skip("needs root: network namespaces, bpf(2)")
    box = Box()
    try:
        box.open()
        yield box
    finally:
        box.close()


@pytest.fixture
def box(node: Box) -> Box:
    node.reset()
    node.apply(forget_flows=True)
    node.kernel.events().drain()
    return node
