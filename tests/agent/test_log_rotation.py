"""Whose logs are bounded, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.log_rotation import LIMIT, LogRotation, older

LINE = b"%090d\n"


@pytest.mark.parametrize("name", ["envoy-shop_web.log", "shop_web_main.log", "xds.log", "agent.log"])
def test_the_newest_is_kept_and_who_writes_goes_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("ab", buffering=0) as writer:
        count = LIMIT // 91 + 10
        writer.write(b"".join(LINE % number for number in range(count)))
        rotation = LogRotation(tmp_path)
        rotation.look()
        assert path.stat().st_size == 0
        kept = older(path).read_bytes().splitlines(keepends=True)
        assert kept[-1] == LINE % (count - 1) and all(len(line) == 91 for line in kept)
        assert LIMIT - 200 < older(path).stat().st_size <= LIMIT
        writer.write(b"after\n")
    assert path.read_bytes() == b"after\n"
    rotation.look()
    assert path.read_bytes() == b"after\n", "it is not large"
