"""MeshConfig: the key `mesh` of the ConfigMap `istio` (istio/api, mesh/v1alpha1/config.proto).

Read as far as policy needs it: root namespace, trust domain, path normalization and the external
authorization providers. What else stands there belongs to other features and is left alone. Every
other ConfigMap means nothing here.
"""

from __future__ import annotations

import re

import yaml

from istio_integration.duration import milliseconds
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import name, port, printable, token
from mesh.model import (
    DEFAULT_CONFIG,
    AuthorizationProvider,
    MeshConfig,
    ObjectRef,
    PathNormalization,
    TextMatch,
)

_NAME = re.compile(r"istio(-.+)?")

BODY = Fields(("maxRequestBytes", "allowPartialMessage"), refused=("packAsBytes",))
GRPC = Fields(
    ("service", "port", "timeout", "failOpen", "statusOnError", "includeRequestBodyInCheck"),
    refused=("clearRouteCache",),
)
HTTP = Fields(
    (
        *GRPC.read,
        "pathPrefix",
        "includeRequestHeadersInCheck",
        "includeHeadersInCheck",
        "includeAdditionalHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ),
    refused=("clearRouteCache",),
)

_MODES: dict[str, PathNormalization] = {
    # Ours is stricter than Istio's, whose default is BASE.
    "DEFAULT": "MERGE_SLASHES",
    "NONE": "NONE",
    "BASE": "BASE",
    "MERGE_SLASHES": "MERGE_SLASHES",
    "DECODE_AND_MERGE_SLASHES": "DECODE_AND_MERGE_SLASHES",
}


def read_config_map(root: Reader, ref: ObjectRef) -> tuple[MeshConfig, ...]:
    data = root.at("data").mapping().at("mesh")
    if not _NAME.fullmatch(ref.name) or not data.present:
        return ()
    try:
        content = yaml.safe_load(data.text())
    except yaml.YAMLError as error:
        data.refuse(f"is not YAML: {str(error).splitlines()[0]}")
        return ()
    mesh = data.part(content, "data.mesh").mapping()
    normalization = mesh.at("pathNormalization").mapping().at("normalization")
    found = [_provider(item) for item in mesh.at("extensionProviders").items()]
    config = MeshConfig(
        root_namespace=name(mesh.at("rootNamespace"), DEFAULT_CONFIG.root_namespace, label=True),
        trust_domain=printable(mesh.at("trustDomain"), 253) or DEFAULT_CONFIG.trust_domain,
        trust_domain_aliases=tuple(printable(item, 253) for item in mesh.at("trustDomainAliases").items()),
        path_normalization=_MODES[normalization.choice(tuple(_MODES), "DEFAULT")],
        providers=tuple(sorted((p for p in found if p is not None), key=lambda p: p.name)),
    )
    return (config,)


def _provider(item: Reader) -> AuthorizationProvider | None:
    """None for providers of other features (tracing, logs, metrics)."""
    grpc, http = item.mapping().at("envoyExtAuthzGrpc"), item.at("envoyExtAuthzHttp")
    if not grpc.present and not http.present:
        return None
    item.at("name").require()
    reader = grpc.fields(GRPC) if grpc.present else http.fields(HTTP)
    reader.at("service").require()
    reader.at("port").require()
    body = reader.at("includeRequestBodyInCheck").fields(BODY)
    # includeHeadersInCheck is the former name.
    included = reader.at("includeRequestHeadersInCheck")
    included = included if included.present else reader.at("includeHeadersInCheck")
    return AuthorizationProvider(
        name=printable(item.at("name"), 253),
        kind="grpc" if grpc.present else "http",
        service=printable(reader.at("service"), 253),
        port=port(reader.at("port")),
        timeout_ms=milliseconds(reader.at("timeout"), 600_000),
        fail_open=reader.at("failOpen").boolean(),
        status_on_error=_status(reader.at("statusOnError")),
        path_prefix=printable(reader.at("pathPrefix"), 1024),
        include_request_headers=_matches(included),
        include_additional_headers=tuple(
            sorted(
                (token(value, key).lower(), printable(value, 4096))
                for key, value in reader.at("includeAdditionalHeadersInCheck").entries()
            )
        ),
        headers_to_upstream_on_allow=_matches(reader.at("headersToUpstreamOnAllow")),
        headers_to_downstream_on_deny=_matches(reader.at("headersToDownstreamOnDeny")),
        headers_to_downstream_on_allow=_matches(reader.at("headersToDownstreamOnAllow")),
        body_bytes=body.at("maxRequestBytes").integer(1, 1 << 30, 0),
        allow_partial_body=body.at("allowPartialMessage").boolean(),
    )


def _matches(group: Reader) -> tuple[TextMatch, ...]:
    """Names of headers: exact, prefix* or *suffix."""
    found = []
    for item in group.items():
        written = printable(item, 256).lower()
        if written.startswith("*"):
            found.append(TextMatch("suffix", written[1:]))
        elif written.endswith("*"):
            found.append(TextMatch("prefix", written[:-1]))
        else:
            found.append(TextMatch("exact", token(item, written)))
    return tuple(dict.fromkeys(found))


def _status(reader: Reader) -> int:
    """A status code, as text in Istio's API."""
    if not reader.present:
        return 403
    code = str(reader.value)
    if not (code.isascii() and code.isdigit() and 200 <= int(code) <= 599):
        reader.refuse(f"{shown(reader.value)} is not a status code from 200 to 599")
        return 403
    return int(code)
