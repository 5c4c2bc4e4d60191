"""Envoy's bootstrap: what a proxy must be told before it can ask. A template, filled with the names and
sockets of one pod's Envoy; everything else comes over the discovery stream. Knows no mesh and no agent.
"""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template
from typing import Any

_TEMPLATE = "envoy_bootstrap.json"


def bootstrap(*, namespace: str, pod: str, address: str, discovery: str, access_log: str, admin: str) -> str:
    """The bootstrap of the Envoy beside `namespace/pod`, as JSON.

    `address` is the pod's first address; `discovery` (ADS), `access_log` (ALS) and `admin` are paths of
    Unix sockets: Envoy dials the first two and makes the third, with mode 0600.
    """
    values = {
        "namespace": namespace,
        "pod": pod,
        "address": address,
        "discovery": discovery,
        "access_log": access_log,
        "admin": admin,
    }
    template = json.loads(files(__name__).joinpath(_TEMPLATE).read_text())
    return json.dumps(_fill(template, values), indent=1)


def _fill(value: Any, values: dict[str, str]) -> Any:
    match value:
        case str():
            return Template(value).substitute(values)
        case list():
            return [_fill(item, values) for item in value]
        case dict():
            return {key: _fill(item, values) for key, item in value.items()}
    return value
