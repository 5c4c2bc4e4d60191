"""TLS that ends at a Gateway (istio/api, ServerTLSSettings; Gateway API, GatewayTLSConfig).

Certificates and authorities come over the stream that everything comes by, as resources of their own, so
that a new certificate changes no listener.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import DataSource, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as EnvoySecret
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from mesh.model import PrivateKey, ServerTls
from xds.render import mutual_tls, naming, sources
from xds.render.encoding import encode, typed

_VERSIONS = {
    "": TlsParametersTlsProtocol.TLS_AUTO,
    "1.0": TlsParametersTlsProtocol.TLSv1_0,
    "1.1": TlsParametersTlsProtocol.TLSv1_1,
    "1.2": TlsParametersTlsProtocol.TLSv1_2,
    "1.3": TlsParametersTlsProtocol.TLSv1_3,
}


def transport(tls: ServerTls, *, http: bool) -> TransportSocket:
    """Clients of the mutual modes are judged by the authorities, of which there is one place."""
    if tls.mode == "ISTIO_MUTUAL":
        return mutual_tls.ended(tls.names, http=http)
    common = CommonTlsContext(
        alpn_protocols=["h2", "http/1.1"] if http else [],
        tls_params=TlsParameters(
            tls_minimum_protocol_version=_VERSIONS[tls.min_version or "1.2"],
            tls_maximum_protocol_version=_VERSIONS[tls.max_version],
            cipher_suites=list(tls.ciphers),
        ),
        tls_certificate_sds_secret_configs=[sources.secret(naming.secret(ref)) for ref in tls.certificates],
    )
    context = DownstreamTlsContext(common_tls_context=common)
    if tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        common.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(
                match_typed_subject_alt_names=[
                    SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
                    for name in tls.names
                    for kind in (SubjectAltNameMatcherSanType.DNS, SubjectAltNameMatcherSanType.URI)
                ]
            ),
            validation_context_sds_secret_config=sources.secret(naming.authorities(tls.authorities[0])),
        )
        context.require_client_certificate = tls.mode == "MUTUAL"
    return TransportSocket(name=naming.TLS, typed_config=typed(context))


def certificate(name: str, chain: bytes, key: PrivateKey) -> bytes:
    """A certificate with who signed it, and its key, as Envoy's resource."""
    return encode(
        EnvoySecret(
            name=name,
            tls_certificate=TlsCertificate(
                certificate_chain=DataSource(inline_bytes=chain),
                private_key=DataSource(inline_bytes=bytes(key)),
            ),
        )
    )


def authorities(name: str, found: bytes, revoked: bytes = b"") -> bytes:
    """Authorities, and what they have taken back, as Envoy's resource."""
    return encode(
        EnvoySecret(
            name=name,
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(inline_bytes=found),
                crl=DataSource(inline_bytes=revoked) if revoked else None,
            ),
        )
    )
