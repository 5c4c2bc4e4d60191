"""Which pods have a proxy, and what is remembered of those that could have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import proxies
from agent.proxies import Proxies
from agent.proxy import Places
from agent.sandbox import Sandbox
from mesh.model import WorkloadName

POD = WorkloadName("shop", "web")
SANDBOX = Sandbox(POD, "uid", Path("/none"), "slckey", ("10.0.0.1",))


class Failing:
    """A proxy that does not start."""

    def __init__(self, *_: Any) -> None:
        pass

    async def start(self) -> None:
        raise OSError("no space left")


async def test_who_cannot_be_started_is_tried_again_until_nobody_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "Proxy", Failing)
    places = Places(tmp_path, tmp_path, tmp_path, tmp_path)

    def ignored(*_: Any) -> Any: ...

    reports = dict.fromkeys(("on_event", "on_ready", "on_down", "on_logged", "on_stopped"), ignored)
    found = Proxies(places, ignored, launch=ignored, **reports)
    assert not found.failing
    await found.want({POD: SANDBOX}, {POD: SANDBOX})
    assert found.failing and found.error(POD) == "start the proxy of pod shop/web failed: no space left"
    await found.want({}, {POD: SANDBOX})
    assert not found.failing and found.error(POD) == ""
