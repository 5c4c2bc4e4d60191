"""How the message of a patch and what was rendered become one."""

from __future__ import annotations

from typing import Any

import betterproto2
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.route.v3 import Route, VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from tests.xds.render.patches.one_pod import TYPE, lua
from xds.render.patches.merging import merge
from xds.render.patches.values import message

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def options(**fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{OPTIONS}", **fields}


H1 = options(explicit_http_config={"http_protocol_options": {}})
BROTLI = f"{TYPE}.http.buffer.v3.Buffer"


MERGES: dict[str, tuple[type[betterproto2.Message], Any, Any, Any]] = {
    "a scalar is replaced": (
        Cluster,
        {"name": "a", "alt_stat_name": "b"},
        {"altStatName": "c"},
        {"name": "a", "alt_stat_name": "c"},
    ),
    "a scalar's default says nothing": (
        Cluster,
        {"alt_stat_name": "b"},
        {"alt_stat_name": ""},
        {"alt_stat_name": "b"},
    ),
    "a wrapped default counts": (
        Cluster,
        {"per_connection_buffer_limit_bytes": 5},
        {"per_connection_buffer_limit_bytes": 0},
        {"per_connection_buffer_limit_bytes": 0},
    ),
    "a duration is one value": (
        Cluster,
        {"connect_timeout": "10.5s"},
        {"connect_timeout": "3s"},
        {"connect_timeout": "3s"},
    ),
    "an enum goes by name": (
        Cluster,
        {"lb_policy": "ROUND_ROBIN"},
        {"lb_policy": "RANDOM"},
        {"lb_policy": "RANDOM"},
    ),
    "a message is merged inside": (
        Cluster,
        {"outlier_detection": {"interval": "1s", "consecutive_5xx": 3}},
        {"outlier_detection": {"consecutive_5xx": 5, "max_ejection_percent": 10}},
        {"outlier_detection": {"interval": "1s", "consecutive_5xx": 5, "max_ejection_percent": 10}},
    ),
    "a list is appended": (
        Cluster,
        {"circuit_breakers": {"thresholds": [{"max_connections": 1}]}},
        {"circuit_breakers": {"thresholds": [{"max_connections": 2}]}},
        {"circuit_breakers": {"thresholds": [{"max_connections": 1}, {"max_connections": 2}]}},
    ),
    "a oneof has the newest of its fields": (
        Route,
        {"match": {"prefix": "/"}, "route": {"cluster": "a"}},
        {"direct_response": {"status": 418}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 418}},
    ),
    "a oneof's scalar as well": (
        Route,
        {"match": {"prefix": "/"}},
        {"match": {"path": "/x"}},
        {"match": {"path": "/x"}},
    ),
    "a map is joined by key": (
        VirtualHost,
        {"name": "h", "typed_per_filter_config": {"b": {"@type": BROTLI, "max_request_bytes": 1}}},
        {"typed_per_filter_config": {"a": {"@type": BROTLI, "max_request_bytes": 2}}},
        {
            "name": "h",
            "typed_per_filter_config": {
                "a": {"@type": BROTLI, "max_request_bytes": 2},
                "b": {"@type": BROTLI, "max_request_bytes": 1},
            },
        },
    ),
    "a typed config of one type is merged inside": (
        HttpFilter,
        lua() | {"is_optional": True},
        {"typed_config": {"@type": f"{TYPE}.http.lua.v3.Lua", "stat_prefix": "p"}},
        {"name": "lua", "typed_config": lua()["typed_config"] | {"stat_prefix": "p"}, "is_optional": True},
    ),
    "one of another type is replaced": (
        HttpFilter,
        lua(),
        {"typed_config": {"@type": BROTLI, "max_request_bytes": 2}},
        {"name": "lua", "typed_config": {"@type": BROTLI, "max_request_bytes": 2}},
    ),
    "the same in a map": (
        Cluster,
        {"typed_extension_protocol_options": {OPTIONS: H1}},
        {
            "typed_extension_protocol_options": {
                OPTIONS: options(common_http_protocol_options={"idle_timeout": "5s"})
            }
        },
        {
            "typed_extension_protocol_options": {
                OPTIONS: H1 | {"common_http_protocol_options": {"idle_timeout": "5s"}}
            }
        },
    ),
}


@pytest.mark.parametrize("what", MERGES)
def test_merging(what: str) -> None:
    kind, into, other, wanted = MERGES[what]
    assert bytes(merge(message(kind, into, ""), message(kind, other, ""))) == bytes(message(kind, wanted, ""))
