from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh.model import (
    Balancer,
    Callers,
    ClientTls,
    ConnectionPool,
    DestinationRule,
    Fragment,
    HashKey,
    ObjectRef,
    OutlierDetection,
    RetryBudget,
    Subset,
    TrafficPolicy,
    Tunnel,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "DestinationRule", {"host": "web"} | spec))


def destination_rule(spec: Any, version: str = "v1") -> DestinationRule:
    found = fragment(spec, version)
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, DestinationRule)
    return noun


def policy(**levels: Any) -> TrafficPolicy:
    return destination_rule({"trafficPolicy": levels}).policy


def refused(spec: Any) -> dict[str, str]:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    return {problem.field.removeprefix("spec."): problem.message for problem in found.problems}


# --- the whole -----------------------------------------------------------------------------------


def test_bookinfos_reviews_have_three_versions() -> None:
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2", "v3")]
    assert destination_rule({"host": "reviews", "subsets": subsets}) == DestinationRule(
        ObjectRef("DestinationRule", "shop", "one"),
        "",
        "reviews.shop.svc.cluster.local",
        subsets=tuple(Subset(version, (("version", version),)) for version in ("v1", "v2", "v3")),
    )


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_means_the_same(version: str) -> None:
    assert destination_rule({}, version) == destination_rule({})


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("web", "web.shop.svc.cluster.local"),
        ("web.far.svc.cluster.local", "web.far.svc.cluster.local"),
        ("wikipedia.org", "wikipedia.org"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
    ],
)
def test_whom_it_is_about(written: str, means: str) -> None:
    assert destination_rule({"host": written}).host == means


def test_one_for_some_workloads_stays_in_its_namespace() -> None:
    selector = {"workloadSelector": {"matchLabels": {"app": "web"}}}
    for exported in ([], ["."], ["shop"]):
        found = destination_rule(selector | {"exportTo": exported})
        assert found.callers == Callers("shop", (("app", "web"),))
        assert found.exported == ("shop",)


def test_to_whom_it_is_exported() -> None:
    assert destination_rule({}).exported == ("*",)
    assert destination_rule({"exportTo": [".", "far"]}).exported == ("far", "shop")


def test_ports_and_subsets_have_policies_of_their_own() -> None:
    pool = {"connectionPool": {"tcp": {"maxConnections": 1}}}
    level = {"port": {"number": 80}} | pool
    found = destination_rule(
        {
            "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}, "portLevelSettings": [level]},
            "subsets": [{"name": "v1", "trafficPolicy": pool | {"portLevelSettings": [level]}}],
        }
    )
    small = TrafficPolicy(pool=ConnectionPool(max_connections=1))
    assert found.policy == TrafficPolicy(Balancer("RANDOM"))
    assert found.ports == ((80, small),)
    assert found.subsets == (Subset("v1", policy=small, ports=((80, small),)),)
    assert found.policy_for("v1", 81) == TrafficPolicy(Balancer("RANDOM"), pool=small.pool)


def test_the_load_balancer_of_a_subset_is_a_whole() -> None:
    """Istio takes the rule's for neither of its parts: what is not said is the default."""
    found = destination_rule(
        {
            "trafficPolicy": {"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "1s"}}},
            "subsets": [
                {"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}},
                {"name": "v3", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
            ],
        }
    )
    assert found.policy_for("v1", 80) == TrafficPolicy(Balancer("ROUND_ROBIN"))
    assert found.policy_for("v3", 80).balancer == Balancer("RANDOM")


# --- load balancing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({}, Balancer("LEAST_REQUEST")),
        ({"simple": "UNSPECIFIED"}, Balancer("LEAST_REQUEST")),
        ({"simple": "LEAST_CONN"}, Balancer("LEAST_REQUEST")),
        ({"simple": "LEAST_REQUEST"}, Balancer("LEAST_REQUEST")),
        ({"simple": "ROUND_ROBIN"}, Balancer("ROUND_ROBIN")),
        ({"simple": "RANDOM"}, Balancer("RANDOM")),
        ({"simple": "PASSTHROUGH"}, Balancer("PASSTHROUGH")),
        ({"warmup": {"duration": "60s"}}, Balancer(warmup_ms=60_000)),
        ({"warmupDurationSecs": "60s"}, Balancer(warmup_ms=60_000)),
        (
            {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s", "minimumPercent": 0, "aggression": 2}},
            Balancer("ROUND_ROBIN", warmup_ms=1000, warmup_percent=0, warmup_aggression=2.0),
        ),
    ],
)
def test_simple_balancers(written: Any, means: Balancer) -> None:
    assert policy(loadBalancer=written).balancer == means


SOURCE = HashKey("source_ip")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"httpHeaderName": "X-User"}, Balancer(hash=HashKey("header", "x-user"))),
        ({"httpQueryParameterName": "User"}, Balancer(hash=HashKey("query", "User"))),
        ({"httpCookie": {"name": "user"}}, Balancer(hash=HashKey("cookie", "user"))),
        (
            {"httpCookie": {"name": "user", "path": "/", "ttl": "0s"}},
            Balancer(hash=HashKey("cookie", "user", "/", 0)),
        ),
        ({"useSourceIp": True}, Balancer(hash=SOURCE)),
        ({"useSourceIp": False, "httpHeaderName": "a"}, Balancer(hash=HashKey("header", "a"))),
        ({"useSourceIp": True, "minimumRingSize": 1}, Balancer(hash=SOURCE, ring_size=1)),
        ({"useSourceIp": True, "ringHash": {"minimumRingSize": 2}}, Balancer(hash=SOURCE, ring_size=2)),
        ({"useSourceIp": True, "ringHash": {}}, Balancer(hash=SOURCE)),
        ({"useSourceIp": True, "maglev": {"tableSize": 251}}, Balancer(hash=SOURCE, table_size=251)),
        ({"useSourceIp": True, "maglev": {}}, Balancer(hash=SOURCE, table_size=65537)),
    ],
)
def test_consistent_hashing(written: Any, means: Balancer) -> None:
    assert policy(loadBalancer={"consistentHash": written}).balancer == means


def test_a_warm_up_that_would_do_nothing_is_pointed_out() -> None:
    level = {"simple": "RANDOM", "warmup": {"duration": "60s"}}
    found = fragment({"trafficPolicy": {"loadBalancer": level}})
    assert found.valid and "warms up nothing" in found.problems[0].message


# --- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"tcp": {"maxConnections": 1}}, ConnectionPool(max_connections=1)),
        ({"tcp": {"maxConnections": 0}}, ConnectionPool()),
        ({"tcp": {"connectTimeout": "30ms"}}, ConnectionPool(connect_timeout_ms=30)),
        ({"tcp": {"maxConnectionDuration": "1h"}}, ConnectionPool(connection_lifetime_ms=3_600_000)),
        ({"tcp": {"idleTimeout": "0s"}}, ConnectionPool(tcp_idle_ms=0)),
        ({"tcp": {"tcpKeepalive": {}}}, ConnectionPool(keepalive=(0, 0, 0))),
        (
            {"tcp": {"tcpKeepalive": {"probes": 3, "time": "2h", "interval": "75s"}}},
            ConnectionPool(keepalive=(3, 7_200_000, 75_000)),
        ),
        ({"http": {"http1MaxPendingRequests": 1}}, ConnectionPool(max_pending=1)),
        ({"http": {"http2MaxRequests": 1}}, ConnectionPool(max_requests=1)),
        ({"http": {"maxRequestsPerConnection": 1}}, ConnectionPool(requests_per_connection=1)),
        ({"http": {"maxRetries": 1}}, ConnectionPool(max_retries=1)),
        ({"http": {"idleTimeout": "1s"}}, ConnectionPool(idle_ms=1000)),
        ({"http": {"maxConcurrentStreams": 1}}, ConnectionPool(max_streams=1)),
        ({"http": {"h2UpgradePolicy": "UPGRADE"}}, ConnectionPool(upgrade="UPGRADE")),
        (
            {"http": {"http2KeepAlive": {"interval": "30s", "timeout": "500ms"}}},
            ConnectionPool(pings=(30_000, 500)),
        ),
        ({"http": {"useClientProtocol": True}}, ConnectionPool(use_client_protocol=True)),
    ],
)
def test_connection_pools(written: Any, means: ConnectionPool) -> None:
    assert policy(connectionPool=written) == TrafficPolicy(pool=means)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({}, OutlierDetection()),
        ({"consecutive5xxErrors": 7}, OutlierDetection(consecutive_5xx=7)),
        ({"consecutive5xxErrors": 0}, OutlierDetection(consecutive_5xx=0)),
        ({"consecutiveGatewayErrors": 1}, OutlierDetection(consecutive_gateway_errors=1)),
        (
            {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2},
            OutlierDetection(split_local_errors=True, local_errors=2),
        ),
        ({"interval": "5m"}, OutlierDetection(interval_ms=300_000)),
        ({"baseEjectionTime": "15m"}, OutlierDetection(ejection_ms=900_000)),
        ({"maxEjectionPercent": 100}, OutlierDetection(max_ejection_percent=100)),
        ({"maxEjectionPercent": 0}, OutlierDetection(max_ejection_percent=10)),
        ({"minHealthPercent": 50}, OutlierDetection(min_health_percent=50)),
    ],
)
def test_outlier_detection(written: Any, means: OutlierDetection) -> None:
    assert policy(outlierDetection=written) == TrafficPolicy(outliers=means)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({}, RetryBudget(20, 3)),
        ({"percent": 12.5}, RetryBudget(12.5, 3)),
        ({"percent": 0, "minRetryConcurrency": 0}, RetryBudget(0, 3)),
        ({"minRetryConcurrency": 7, "budgetInterval": "10s"}, RetryBudget(20, 7, 10_000)),
        ({"budgetInterval": "0s"}, RetryBudget()),
    ],
)
def test_retry_budgets(written: Any, means: RetryBudget) -> None:
    assert policy(retryBudget=written) == TrafficPolicy(retry_budget=means)


@pytest.mark.parametrize(("written", "means"), [({}, "V1"), ({"version": "V2"}, "V2")])
def test_the_proxy_protocol(written: Any, means: Any) -> None:
    assert policy(proxyProtocol=written) == TrafficPolicy(proxy_protocol=means)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"targetHost": "db.example", "targetPort": 5432}, Tunnel("db.example:5432")),
        ({"targetHost": "db", "targetPort": 1, "protocol": "CONNECT"}, Tunnel("db:1")),
        ({"targetHost": "10.0.0.1", "targetPort": 1, "protocol": "POST"}, Tunnel("10.0.0.1:1", post=True)),
        ({"targetHost": "2001:DB8::1", "targetPort": 1}, Tunnel("[2001:db8::1]:1")),
    ],
)
def test_tunnels(written: Any, means: Tunnel) -> None:
    assert policy(tunnel=written) == TrafficPolicy(tunnel=means)


def test_a_tunnel_stands_beside_what_is_said_of_a_port() -> None:
    """istio/istio, tunnelingconfig: of a subset, or of the rule."""
    ports = [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]
    far, near = ({"targetHost": host, "targetPort": 1} for host in ("far", "near"))
    found = destination_rule(
        {
            "trafficPolicy": {"tunnel": far, "portLevelSettings": ports},
            "subsets": [
                {"name": "v1", "trafficPolicy": {"tunnel": near}},
                {"name": "v2", "trafficPolicy": {"tunnel": near, "portLevelSettings": ports}},
                {"name": "v3"},
            ],
        }
    )
    tls = ClientTls("SIMPLE")
    for subset, tunnel in (("", "far:1"), ("v1", "near:1"), ("v2", "near:1"), ("v3", "far:1")):
        assert found.policy_for(subset, 80) == TrafficPolicy(tls=tls, tunnel=Tunnel(tunnel))
        assert found.policy_for(subset, 90) == TrafficPolicy(tunnel=Tunnel(tunnel))


def test_what_istio_knows_of_no_port_is_inherited_by_subsets_and_by_no_port() -> None:
    levels = {"retryBudget": {"percent": 5}, "proxyProtocol": {}}
    ports = [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]
    found = destination_rule(
        {
            "trafficPolicy": levels | {"portLevelSettings": ports},
            "subsets": [
                {"name": "v1"},
                {"name": "v2", "trafficPolicy": {"retryBudget": {"percent": 6}}},
                {"name": "v3", "trafficPolicy": levels | {"portLevelSettings": ports}},
            ],
        }
    )
    assert found.policy_for("", 90) == found.policy_for("v1", 90) == policy(**levels)
    assert found.policy_for("v2", 90).retry_budget == RetryBudget(6)
    alone = TrafficPolicy(Balancer("RANDOM"))
    assert found.policy_for("", 80) == found.policy_for("v1", 80) == found.policy_for("v3", 80) == alone
    assert found.policy_for("v2", 80) == replace(alone, retry_budget=RetryBudget(6))


def test_what_a_subset_says_comes_before_what_the_rule_says_of_a_port() -> None:
    """As in Istio, which looks into the subset last."""
    ports = [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "DISABLE"}}]
    found = destination_rule(
        {
            "trafficPolicy": {"outlierDetection": {}, "portLevelSettings": ports},
            "subsets": [{"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}],
        }
    )
    plain = ClientTls("DISABLE")
    assert found.policy_for("", 80) == TrafficPolicy(Balancer("RANDOM"), tls=plain)
    assert found.policy_for("v1", 80) == TrafficPolicy(Balancer("ROUND_ROBIN"), tls=plain)
    assert found.policy_for("v1", 90) == TrafficPolicy(Balancer("ROUND_ROBIN"), outliers=OutlierDetection())


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({}, ClientTls("DISABLE")),
        ({"mode": "SIMPLE"}, ClientTls("SIMPLE")),
        ({"mode": "SIMPLE", "insecureSkipVerify": True}, ClientTls("SIMPLE", verify=False)),
        (
            {"mode": "SIMPLE", "caCertificates": "/ca", "subjectAltNames": ["b"]},
            ClientTls("SIMPLE", authorities="/ca", names=("b",)),
        ),
        ({"mode": "SIMPLE", "caCrl": "/crl"}, ClientTls("SIMPLE", revoked="/crl")),
        (
            {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k"},
            ClientTls("MUTUAL", certificate="/c", key="/k"),
        ),
    ],
)
def test_tls_modes(written: Any, means: ClientTls) -> None:
    assert policy(tls=written) == TrafficPolicy(tls=means)


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"host": None}, "host", "is required"),
        ({"host": "*a"}, "host", "write * or *.example.com"),
        ({"exportTo": ["~"]}, "exportTo[0]", "write ."),
        ({"exportTo": ["far"], "workloadSelector": {"matchLabels": {"a": "b"}}}, "exportTo", "must be ."),
        (
            {"workloadSelector": {"matchLabels": {"a": "*"}}},
            "workloadSelector.matchLabels.a",
            "not a label value",
        ),
        ({"subsets": [{}]}, "subsets[0].name", "is required"),
        ({"subsets": [{"name": "v.1"}]}, "subsets[0].name", "is not a name"),
        ({"subsets": [{"name": "a"}, {"name": "a"}]}, "subsets[1].name", "twice"),
        ({"subsets": [{"name": "a", "trafficPolicy": {}}]}, "subsets[0].trafficPolicy", "says nothing"),
    ],
)
def test_what_is_wrong_is_named(spec: Any, field: str, says: str) -> None:
    assert says in refused(spec)[field]


HASH = {"useSourceIp": True}


def balanced(**consistent: Any) -> Any:
    return {"loadBalancer": {"consistentHash": consistent}}


@pytest.mark.parametrize(
    ("levels", "field", "says"),
    [
        ({}, "", "says nothing"),
        ({"tunnel": {"targetPort": 1}}, "tunnel.targetHost", "is required"),
        ({"tunnel": {"targetHost": "a"}}, "tunnel.targetPort", "is required"),
        ({"tunnel": {"targetHost": "a", "targetPort": 0}}, "tunnel.targetPort", "must be 1 to 65535"),
        ({"tunnel": {"targetHost": "*.a", "targetPort": 1}}, "tunnel.targetHost", "is no host"),
        ({"tunnel": {"targetHost": "a:1", "targetPort": 1}}, "tunnel.targetHost", "is no host"),
        ({"tunnel": {"targetHost": "%a%", "targetPort": 1}}, "tunnel.targetHost", "is no host"),
        (
            {"tunnel": {"targetHost": "a", "targetPort": 1, "protocol": "GET"}},
            "tunnel.protocol",
            "must be one of CONNECT, POST",
        ),
        (
            {"tunnel": {"targetHost": "a", "targetPort": 1}, "proxyProtocol": {}},
            "tunnel",
            "beside proxyProtocol",
        ),
        ({"proxyProtocol": {"version": "V3"}}, "proxyProtocol.version", "must be one of V1, V2"),
        ({"proxyProtocol": {"version": 2}}, "proxyProtocol.version", "must be a string"),
        ({"retryBudget": {"percent": 101}}, "retryBudget.percent", "must be 0 to 100"),
        (
            {"retryBudget": {"minRetryConcurrency": -1}},
            "retryBudget.minRetryConcurrency",
            "must be 0 to 4294967295",
        ),
        ({"retryBudget": {"budgetInterval": "soon"}}, "retryBudget.budgetInterval", "is not a duration"),
        (
            {"portLevelSettings": [{"port": {"number": 80}, "retryBudget": {}}]},
            "portLevelSettings[0].retryBudget",
            "unknown field",
        ),
        ({"portLevelSettings": [{"tls": {}}]}, "portLevelSettings[0].port.number", "is required"),
        ({"portLevelSettings": [{"port": {"number": 80}}]}, "portLevelSettings[0]", "says nothing"),
        (
            {"portLevelSettings": [{"port": {"number": 80}, "tls": {}}, {"port": {"number": 80}, "tls": {}}]},
            "portLevelSettings[1].port.number",
            "twice",
        ),
        ({"loadBalancer": {"simple": "BEST"}}, "loadBalancer.simple", "must be one of"),
        (
            {"loadBalancer": {"simple": "RANDOM", "consistentHash": HASH}},
            "loadBalancer.consistentHash",
            "beside simple",
        ),
        ({"loadBalancer": {"zoneAwareLbSetting": {}}}, "loadBalancer.zoneAwareLbSetting", "not supported"),
        ({"loadBalancer": {"warmup": {}}}, "loadBalancer.warmup.duration", "is required"),
        (
            {"loadBalancer": {"warmup": {"duration": "1s", "aggression": 0}}},
            "loadBalancer.warmup.aggression",
            "must be more",
        ),
        (
            {"loadBalancer": {"warmup": {"duration": "1s", "minimumPercent": 0.5}}},
            "loadBalancer.warmup.minimumPercent",
            "whole percentage",
        ),
        (
            {"loadBalancer": {"warmup": {"duration": "1s", "minimumPercent": "1"}}},
            "loadBalancer.warmup.minimumPercent",
            "must be a number",
        ),
        (
            {"loadBalancer": {"warmup": {"duration": "1s"}, "warmupDurationSecs": "1s"}},
            "loadBalancer.warmupDurationSecs",
            "old form",
        ),
        (balanced(), "loadBalancer.consistentHash", "exactly one of"),
        (balanced(useSourceIp=False), "loadBalancer.consistentHash", "exactly one of"),
        (balanced(**HASH, httpHeaderName="a"), "loadBalancer.consistentHash", "exactly one of"),
        (balanced(httpCookie={}), "loadBalancer.consistentHash.httpCookie.name", "is required"),
        (
            balanced(httpCookie={"name": "a", "attributes": []}),
            "loadBalancer.consistentHash.httpCookie.attributes",
            "not supported",
        ),
        (balanced(**HASH, maglev={}, ringHash={}), "loadBalancer.consistentHash.maglev", "beside ringHash"),
        (
            balanced(**HASH, maglev={}, minimumRingSize=1),
            "loadBalancer.consistentHash.minimumRingSize",
            "beside maglev",
        ),
        (
            balanced(**HASH, maglev={"tableSize": 65536}),
            "loadBalancer.consistentHash.maglev.tableSize",
            "a prime",
        ),
        (
            balanced(**HASH, maglev={"tableSize": 5000011}),
            "loadBalancer.consistentHash.maglev.tableSize",
            "must be 2",
        ),
        ({"connectionPool": {}}, "connectionPool", "says nothing"),
        (
            {"connectionPool": {"tcp": {"maxConnections": -1}}},
            "connectionPool.tcp.maxConnections",
            "must be 0",
        ),
        (
            {"connectionPool": {"tcp": {"connectTimeout": "0s"}}},
            "connectionPool.tcp.connectTimeout",
            "at least 1ms",
        ),
        (
            {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "1500ms"}}}},
            "connectionPool.tcp.tcpKeepalive.time",
            "whole seconds",
        ),
        (
            {"connectionPool": {"http": {"http2KeepAlive": {"timeout": "1s"}}}},
            "connectionPool.http.http2KeepAlive.interval",
            "is required",
        ),
        (
            {"connectionPool": {"http": {"http2KeepAlive": {"interval": "1s"}}}},
            "connectionPool.http.http2KeepAlive.timeout",
            "is required",
        ),
        (
            {"connectionPool": {"http": {"http2KeepAlive": {"interval": "0s", "timeout": "1s"}}}},
            "connectionPool.http.http2KeepAlive.interval",
            "at least 1ms",
        ),
        (
            {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": True}}},
            "connectionPool.http.useClientProtocol",
            "beside h2UpgradePolicy",
        ),
        (
            {"outlierDetection": {"consecutiveErrors": 5}},
            "outlierDetection.consecutiveErrors",
            "consecutive5xxErrors",
        ),
        (
            {"outlierDetection": {"outlierDetectionHttpErrorCodes": [404]}},
            "outlierDetection.outlierDetectionHttpErrorCodes",
            "not supported",
        ),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 5}},
            "outlierDetection.consecutiveLocalOriginFailures",
            "splitExternalLocalOriginErrors",
        ),
        (
            {"outlierDetection": {"maxEjectionPercent": 101}},
            "outlierDetection.maxEjectionPercent",
            "must be 0 to 100",
        ),
        ({"tls": {"mode": "MUTUAL"}}, "tls.privateKey", "is required"),
        ({"tls": {"mode": "ISTIO_MUTUAL", "caCrl": "/crl"}}, "tls.caCrl", "goes with mode SIMPLE"),
        (
            {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "caCrl": "/crl"}},
            "tls.caCrl",
            "verifies nothing",
        ),
        (
            {"tls": {"mode": "SIMPLE", "credentialName": "a", "caCrl": "/crl"}},
            "tls.caCrl",
            "stands in the Secret",
        ),
        ({"tls": {"mode": "ISTIO_MUTUAL", "privateKey": "/k"}}, "tls.privateKey", "goes with mode SIMPLE"),
        ({"tls": {"mode": "DISABLE", "privateKey": "/k"}}, "tls.privateKey", "goes with mode SIMPLE"),
        (
            {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "subjectAltNames": ["a"]}},
            "tls.subjectAltNames",
            "verifies nothing",
        ),
        (
            {"tls": {"mode": "SIMPLE", "credentialName": "a", "caCertificates": "/ca"}},
            "tls.caCertificates",
            "stands in the Secret",
        ),
    ],
)
def test_what_is_wrong_in_a_policy_is_named(levels: Any, field: str, says: str) -> None:
    assert says in refused({"trafficPolicy": levels})[f"trafficPolicy.{field}".rstrip(".")]
