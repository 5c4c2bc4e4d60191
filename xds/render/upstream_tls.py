"""TLS that an Envoy begins (istio/api, ClientTLSSettings): who is believed to be at the other end.

Without authorities of its own a rule believes those of the machine. Nothing is sent in plain text because a
file is missing: Envoy then refuses the cluster, or cannot connect.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import DataSource, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from mesh.model import ClientTls, TrafficPolicy
from xds.render import mutual_tls, naming, sources
from xds.render.encoding import typed
from xds.render.mutual_tls import Peers

#: The authorities of Debian and Ubuntu.
_SYSTEM = "/etc/ssl/certs/ca-certificates.crt"


def follows_host(policy: TrafficPolicy) -> bool:
    """Without a name of its own the hello asks for the request's Host, as with Istio."""
    return policy.tls is not None and policy.tls.mode in ("SIMPLE", "MUTUAL") and not policy.tls.sni


def secure(cluster: Cluster, tls: ClientTls | None, peers: Peers | None = None) -> None:
    """`peers` are spoken to in mutual TLS of the mesh: labelled endpoints or, where endpoints have no labels,
    all."""
    if peers and cluster.type == ClusterDiscoveryType.ORIGINAL_DST:
        cluster.transport_socket = mutual_tls.begun(peers)
    elif peers:
        cluster.transport_socket_matches = mutual_tls.to_some(peers)
    if tls is None or tls.mode == "DISABLE":
        return
    common = CommonTlsContext()
    if tls.verify:
        common.validation_context = CertificateValidationContext(
            trusted_ca=_source(tls.authorities or _SYSTEM),
            crl=_source(tls.revoked) if tls.revoked else None,
            match_typed_subject_alt_names=[
                SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
                for name in tls.names or ((tls.sni,) if tls.sni else ())
                for kind in (SubjectAltNameMatcherSanType.DNS, SubjectAltNameMatcherSanType.URI)
            ],
        )
    if tls.credential:
        common.tls_certificate_sds_secret_configs = [sources.secret(naming.own_secret(tls.credential))]
    if tls.certificate:
        common.tls_certificates = [
            TlsCertificate(
                certificate_chain=DataSource(filename=tls.certificate),
                private_key=DataSource(filename=tls.key),
            )
        ]
    context = UpstreamTlsContext(common_tls_context=common, sni=tls.sni)
    cluster.transport_socket = TransportSocket(name=naming.TLS, typed_config=typed(context))


def _source(found: str | bytes) -> DataSource:
    return DataSource(inline_bytes=found) if isinstance(found, bytes) else DataSource(filename=found)
