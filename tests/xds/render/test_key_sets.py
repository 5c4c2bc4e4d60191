"""Whatever key set is kept, Envoy takes: it would refuse the whole route configuration otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.model import JwtRule, ObjectRef
from mesh.policies.key_set import normalise
from mesh.proxy import AuthenticationPart
from tests.mesh.test_key_set import GOOD, SECRET, key_set
from tests.xds.render.standalone import validate
from tests.xds.render.views import authorized, view
from xds.render import render

POLICY = ObjectRef("RequestAuthentication", "shop", "tokens")


def complaint(folder: Path, *sets: str) -> str:
    rules = (JwtRule(f"jwtRules[{index}]", "issuer", keys) for index, keys in enumerate(sets))
    tokens = tuple(AuthenticationPart(POLICY, rule) for rule in rules)
    return validate(render(view(ingress=(authorized(300, authentication=tokens),))), folder)


def test_every_key_that_is_just_good_enough_and_none_at_all(tmp_path: Path) -> None:
    sets = [normalise(key_set(key), public=False) for key in (*GOOD.values(), SECRET)]
    assert complaint(tmp_path, *sets, "") == ""


@pytest.mark.parametrize("keys", ['{"keys":[]}', '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}'])
def test_what_is_not_kept_it_would_not_take(keys: str, tmp_path: Path) -> None:
    assert "jwks" in complaint(tmp_path, keys).lower()
