"""N03 (CVE-2021-39156, CVE-2021-32779): a fragment is no part of a path and hides none from a rule."""

from __future__ import annotations

from typing import get_args

import pytest

from mesh.model import PathNormalization
from tests.threats.http.application import Application
from tests.threats.http.served import Served, network_policy, normalising, policy, to
from tests.threats.http.speaking import ask, ask2, ask2_each, fields, get
from tests.xds.render.conftest import Serve

FRAGMENTS = ("#s1", "#", "?#", "?x=1#s1", "##", "#?", "#/../../public", "/../profile#s1")
HEADS = ("/user/profile", "http://api/user/profile", "/x/../user/profile", "//user/profile")
#: Each keeps requests away from `/user/profile` and lets others pass.
POLICIES = {
    "deny": policy("DENY", to(paths=["/user/profile"])),
    "allow not": policy("ALLOW", to(notPaths=["/user/profile"])),
    "network policy": network_policy({"path": "/public.*"}),
}


@pytest.mark.parametrize("mode", get_args(PathNormalization))
@pytest.mark.parametrize("name", POLICIES)
def test_a_path_with_a_fragment_never_passes_for_another(
    name: str, mode: PathNormalization, serve: Serve, application: Application
) -> None:
    port = Served(serve, application.port, POLICIES[name], normalising(mode)).port()
    assert (ask(port, get("/public/a")), ask2(port, fields("/public/a"))) == (200, 200)
    application.forget()
    paths = [f"{head}{fragment}" for head in HEADS for fragment in FRAGMENTS]
    assert {path: ask(port, get(path)) for path in paths} == dict.fromkeys(paths, 400)
    assert set(ask2_each(port, [(fields(path), ()) for path in paths])) <= {0, 400}
    assert application.requests == []
