"""Mutual TLS between the Envoys of the mesh, at both ends of a connection.

Certificates come over the stream that everything comes by, under the names that Istio gives them, so that a
new one changes no listener and no cluster. Both ends are known by the URI in their certificate (SPIFFE
X509-SVID, section 2). What begins mutual TLS says by ALPN whether requests come in it: Envoy offers HTTP for
those and nothing for other connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from envoy_data_plane.envoy.config.cluster.v3 import ClusterTransportSocketMatch
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Struct, Value

from mesh.proxy import Destination
from xds.render import naming, sources
from xds.render.encoding import typed


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom a cluster speaks mutual TLS to: what a hello asks for, and what their certificates hold one of; ()
    anything of the mesh."""

    server_name: str
    names: tuple[str, ...]


def peers(found: Destination) -> Peers | None:
    """Those of a destination."""
    name = found.server_name or naming.server_name(found.target)
    return Peers(name, found.names) if found.mutual else None


def begun(peers: Peers) -> TransportSocket:
    """At the caller."""
    context = UpstreamTlsContext(common_tls_context=_common(_exactly(peers.names)), sni=peers.server_name)
    return TransportSocket(name=naming.TLS, typed_config=typed(context))


def to_some(peers: Peers) -> list[ClusterTransportSocketMatch]:
    """At the caller, to those endpoints that have the label."""
    labelled = Struct(fields={naming.LABEL: Value(string_value=naming.VALUE)})
    plain = TransportSocket(name=naming.RAW_BUFFER, typed_config=typed(RawBuffer()))
    return [
        ClusterTransportSocketMatch(
            name=f"{naming.LABEL}-{naming.VALUE}",
            match=labelled,
            transport_socket=begun(peers),
        ),
        ClusterTransportSocketMatch(name=f"{naming.LABEL}-disabled", match=Struct(), transport_socket=plain),
    ]


@cache
def ended(domains: tuple[str, ...], *, http: bool) -> TransportSocket:
    """At the destination, for certificates of these trust domains."""
    common = _common(
        SubjectAltNameMatcher(
            san_type=SubjectAltNameMatcherSanType.URI, matcher=StringMatcher(prefix=f"spiffe://{domain}/")
        )
        for domain in domains
    )
    common.alpn_protocols = ["h2", "http/1.1"] if http else []
    context = DownstreamTlsContext(common_tls_context=common, require_client_certificate=True)
    return TransportSocket(name=naming.TLS, typed_config=typed(context))


def _exactly(names: Iterable[str]) -> Iterable[SubjectAltNameMatcher]:
    for name in names:
        yield SubjectAltNameMatcher(
            san_type=SubjectAltNameMatcherSanType.URI, matcher=StringMatcher(exact=name)
        )


def _common(matchers: Iterable[SubjectAltNameMatcher]) -> CommonTlsContext:
    default = CertificateValidationContext(match_typed_subject_alt_names=list(matchers))
    return CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
        tls_certificate_sds_secret_configs=[sources.secret(naming.WORKLOAD_CERTIFICATE)],
        combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=default,
            validation_context_sds_secret_config=sources.secret(naming.ROOTS),
        ),
    )
