from __future__ import annotations

from mesh.model import TrafficPolicy
from xds.render.clusters import service_cluster
from xds.render.encoding import decode
from xds.render.mutual_tls import Peers


def test_the_proxy_protocol_is_around_every_socket_of_a_cluster() -> None:
    """In mutual TLS of the mesh some endpoints have a socket of their own."""
    policy = TrafficPolicy(proxy_protocol="V2")
    found = decode(service_cluster("web", False, policy, "client", Peers("web.mesh", ())))
    sockets = [match["transport_socket"] for match in found["transport_socket_matches"]]
    assert "transport_socket" not in found
    assert {socket["name"] for socket in sockets} == {"envoy.transport_sockets.upstream_proxy_protocol"}
    inside = [socket["typed_config"]["transport_socket"]["name"] for socket in sockets]
    assert inside == ["envoy.transport_sockets.tls", "envoy.transport_sockets.raw_buffer"]
