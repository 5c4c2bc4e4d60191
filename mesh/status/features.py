"""What of the Gateway API is implemented, in the words of its conformance suite (`pkg/features`).

Each feature stands beside the fields without which it would not be there; a test holds them against what the
dialects read, so that nothing is promised that is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

FEATURES: Mapping[str, tuple[str, ...]] = {
    "BackendTLSPolicy": ("BackendTLSPolicy spec.validation",),
    "BackendTLSPolicySANValidation": ("BackendTLSPolicy spec.validation.subjectAltNames",),
    "GRPCRoute": ("GRPCRoute spec.rules",),
    "GRPCRouteNamedRouteRule": ("GRPCRoute spec.rules[].name",),
    "Gateway": ("Gateway spec.listeners",),
    "GatewayFrontendClientCertificateValidation": ("Gateway spec.tls.frontend",),
    "GatewayHTTPListenerIsolation": ("Gateway spec.listeners[].hostname",),
    "GatewayHTTPSListenerDetectMisdirectedRequests": ("Gateway spec.listeners[].hostname",),
    "GatewayInfrastructurePropagation": (
        "Gateway spec.infrastructure.labels",
        "Gateway spec.infrastructure.annotations",
    ),
    "GatewayPort8080": ("Gateway spec.listeners[].port",),
    "HTTPRoute": ("HTTPRoute spec.rules",),
    "HTTPRoute303RedirectStatusCode": ("HTTPRoute spec.rules[].filters[].requestRedirect.statusCode",),
    "HTTPRoute307RedirectStatusCode": ("HTTPRoute spec.rules[].filters[].requestRedirect.statusCode",),
    "HTTPRoute308RedirectStatusCode": ("HTTPRoute spec.rules[].filters[].requestRedirect.statusCode",),
    "HTTPRouteBackendRequestHeaderModification": (
        "HTTPRoute spec.rules[].backendRefs[].filters[].requestHeaderModifier",
    ),
    "HTTPRouteBackendTimeout": ("HTTPRoute spec.rules[].timeouts.backendRequest",),
    "HTTPRouteCORS": ("HTTPRoute spec.rules[].filters[].cors",),
    "HTTPRouteHostRewrite": ("HTTPRoute spec.rules[].filters[].urlRewrite.hostname",),
    "HTTPRouteMethodMatching": ("HTTPRoute spec.rules[].matches[].method",),
    "HTTPRouteNamedRouteRule": ("HTTPRoute spec.rules[].name",),
    "HTTPRouteParentRefPort": ("HTTPRoute spec.parentRefs[].port",),
    "HTTPRoutePathRedirect": ("HTTPRoute spec.rules[].filters[].requestRedirect.path",),
    "HTTPRoutePathRewrite": ("HTTPRoute spec.rules[].filters[].urlRewrite.path",),
    "HTTPRoutePortRedirect": ("HTTPRoute spec.rules[].filters[].requestRedirect.port",),
    "HTTPRouteQueryParamMatching": ("HTTPRoute spec.rules[].matches[].queryParams",),
    "HTTPRouteRequestMirror": ("HTTPRoute spec.rules[].filters[].requestMirror",),
    "HTTPRouteRequestMultipleMirrors": ("HTTPRoute spec.rules[].filters[].requestMirror",),
    "HTTPRouteRequestPercentageMirror": ("HTTPRoute spec.rules[].filters[].requestMirror.percent",),
    "HTTPRouteRequestTimeout": ("HTTPRoute spec.rules[].timeouts.request",),
    "HTTPRouteResponseHeaderModification": ("HTTPRoute spec.rules[].filters[].responseHeaderModifier",),
    "HTTPRouteSchemeRedirect": ("HTTPRoute spec.rules[].filters[].requestRedirect.scheme",),
    "Mesh": ("HTTPRoute spec.parentRefs[].kind",),
    "MeshConsumerRoute": ("HTTPRoute spec.parentRefs[].namespace",),
    "ReferenceGrant": ("ReferenceGrant spec.from", "ReferenceGrant spec.to"),
    "TCPRoute": ("TCPRoute spec.rules",),
    "TLSRoute": ("TLSRoute spec.rules",),
    "UDPRoute": ("UDPRoute spec.rules",),
}
