from __future__ import annotations

from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from xds.render.patches.values import Unreadable, message


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"no_such": 1}, ".no_such", "no field of Cluster"),
        (
            {"circuit_breakers": {"thresholds": [{"max": 1}]}},
            ".circuit_breakers.thresholds[0].max",
            "no field",
        ),
        ({"connect_timeout": 5}, ".connect_timeout", "such as 5s"),
        ({"connect_timeout": "soon"}, ".connect_timeout", "no Duration"),
        ({"lb_policy": "BEST"}, ".lb_policy", "must be one of"),
        ({"type": "STATIC", "cluster_type": {"name": "x"}}, ".cluster_type", "does not go with type"),
        ({"health_checks": {}}, ".health_checks", "a list"),
        ({"ignore_health_on_host_removal": "yes"}, ".ignore_health_on_host_removal", "true or false"),
        ({"typed_extension_protocol_options": {"x": {}}}, ".typed_extension_protocol_options['x']", "@type"),
        (
            {"outlier_detection": {"max_ejection_percent": -1}},
            ".outlier_detection.max_ejection_percent",
            "whole",
        ),
    ],
)
def test_what_is_no_message_is_told_with_its_path(value: Any, path: str, words: str) -> None:
    with pytest.raises(Unreadable) as raised:
        message(Cluster, value, "")
    assert raised.value.path == path
    assert words in raised.value.message


def test_a_typed_struct_is_the_message_that_it_describes() -> None:
    """Istio's documentation writes filters so."""
    buffer = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"
    plain = {"name": "x", "typed_config": {"@type": buffer, "max_request_bytes": 5}}
    for kind in ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"):
        struct = {
            "@type": f"type.googleapis.com/{kind}",
            "type_url": buffer,
            "value": {"max_request_bytes": 5},
        }
        assert message(HttpFilter, {"name": "x", "typed_config": struct}, "") == message(
            HttpFilter, plain, ""
        )
        for wrong, path in (
            ({"type_url": kind}, ".typed_config.type_url"),
            ({"value": 5}, ".typed_config.value"),
            ({"values": {}}, ".typed_config.values"),
            ({"value": {"max": 5}}, ".typed_config.max"),
        ):
            with pytest.raises(Unreadable) as raised:
                message(HttpFilter, {"name": "x", "typed_config": struct | wrong}, "")
            assert raised.value.path == path
