"""What every Envoy is told before it can ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
import re2

from mesh.model import WorkloadName
from mesh.proxy_metadata import metadata
from proxy_configs import bootstrap

WEB = "web.shop.svc.cluster.local"


@pytest.fixture
def config() -> dict[str, Any]:
    text = bootstrap(
        namespace="shop",
        pod="web-0",
        address="10.64.0.5",
        discovery="/run/p/xds.sock",
        access_log="/run/p/als.sock",
        admin="/run/p/admin.sock",
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_node_is_named_as_istio_names_it(config: dict[str, Any]) -> None:
    assert config["node"]["id"] == "sidecar~10.64.0.5~web-0.shop~shop.svc.cluster.local"
    assert config["node"]["cluster"] == "web-0.shop"


def test_the_node_says_of_itself_what_envoy_filters_may_ask(config: dict[str, Any]) -> None:
    said = config["node"]["metadata"]
    assert metadata(WorkloadName("shop", "web-0")).items() <= said.items()
    assert said.keys() == {*metadata(WorkloadName("shop", "web-0")), "INSTANCE_IPS"}


def test_the_discovery_stream_says_who_it_is_once_and_comes_back_soon(config: dict[str, Any]) -> None:
    """Rule 28."""
    ads = config["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == "DELTA_GRPC"
    assert ads["set_node_on_first_message_only"] is True
    backoff = ads["grpc_services"][0]["envoy_grpc"]["retry_policy"]["retry_back_off"]
    assert backoff == {"base_interval": "0.05s", "max_interval": "0.5s"}


def test_everything_goes_by_unix_sockets_and_admin_is_for_the_owner_only(config: dict[str, Any]) -> None:
    """Rule 14."""
    assert config["admin"]["address"]["pipe"] == {"path": "/run/p/admin.sock", "mode": 0o600}
    pipes = {
        cluster["name"]: endpoint["endpoint"]["address"]["pipe"]["path"]
        for cluster in config["static_resources"]["clusters"]
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    }
    assert pipes == {"xds-grpc": "/run/p/xds.sock", "sluice-agent": "/run/p/als.sock"}


def test_connections_and_memory_have_limits(config: dict[str, Any]) -> None:
    """Threat N27."""
    monitors = {monitor["name"] for monitor in config["overload_manager"]["resource_monitors"]}
    assert monitors == {
        "envoy.resource_monitors.global_downstream_max_connections",
        "envoy.resource_monitors.fixed_heap",
    }


def test_names_cannot_break_out_of_their_place() -> None:
    hostile = 'a"}, "b": {"$pod'
    found = json.loads(
        bootstrap(namespace="n", pod=hostile, address="::1", discovery="d", access_log="l", admin="a")
    )
    assert found["node"]["metadata"]["NAME"] == hostile


@pytest.mark.parametrize(
    ("stat", "tag"),
    [
        (f"cluster.outbound|80||{WEB}.upstream_rq_total", f"outbound|80||{WEB}"),
        ("cluster.PassthroughCluster.upstream_rq_total", "PassthroughCluster"),
        (f"http.{WEB}:80.downstream_rq_total", f"{WEB}:80"),
        ("http.inbound|256.downstream_rq_total", "inbound|256"),
    ],
)
def test_a_dot_in_the_name_of_a_service_does_not_end_up_in_the_name_of_a_metric(
    config: dict[str, Any], stat: str, tag: str
) -> None:
    found = [re2.search(one["regex"], stat) for one in config["stats_config"]["stats_tags"]]
    (match,) = [one for one in found if one]
    assert (match[2], match[1]) == (tag, f"{tag}.")
