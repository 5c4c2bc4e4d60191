"""What a span says of a cluster that Envoy chose."""

from __future__ import annotations

import pytest

from agent.tracing.span import serving


def test_a_cluster_of_ours_says_which_service_it_leads_to() -> None:
    assert serving("outbound|80|v1|web.shop.svc.cluster.local") == {
        "server.address": "web.shop.svc.cluster.local",
        "server.port": 80,
        "sluice.service": "shop/web",
    }


@pytest.mark.parametrize(
    "cluster", ["outbound|http||mine", "outbound|²||mine", "outbound|mine", "outbound", ""]
)
def test_one_that_an_envoy_filter_has_named_like_ours_says_nothing(cluster: str) -> None:
    assert serving(cluster) == {}
