"""MeshConfig: the key `mesh` of the ConfigMap `istio` in `istio-system` (istio/api, config.proto).

Read as far as policy and telemetry need it: root namespace, trust domain, whether callers begin mutual TLS by
themselves, path normalization, providers of external authorization, of tracing and of access logs, what is
traced and logged by default, which places are preferred, where pods may connect, and how Envoys are run. What
else stands there is left alone, and so is every other ConfigMap.
"""

from __future__ import annotations

import re

from istio_integration.access_logging import mesh_access_logging
from istio_integration.extension_providers import authorization_provider, tracing_provider
from istio_integration.locality_setting import locality_setting
from istio_integration.nested_yaml import nested
from istio_integration.outbound import outbound_mode
from istio_integration.proxy_settings import mesh_settings
from istio_integration.sampling import hundredths
from istio_integration.telemetry import custom_tag
from mesh.dialects.reading import Reader, shown
from mesh.dialects.secret import read_trust_bundle
from mesh.dialects.syntax import name, printable
from mesh.model import (
    DEFAULT_CONFIG,
    NO_ORDER,
    MeshConfig,
    MeshTracing,
    ObjectRef,
    PathNormalization,
    TracingProvider,
    TrustBundle,
)

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,253}")
_NAME = re.compile(r"istio(-.+)?")
#: Who may write there speaks for everyone; a ConfigMap of this name in a tenant's namespace is theirs alone.
_NAMESPACE = DEFAULT_CONFIG.root_namespace
#: The provider that `defaultConfig.tracing.zipkin.address` stands for.
_LEGACY = "defaultConfig.tracing.zipkin"

_MODES: dict[str, PathNormalization] = {
    # Ours is stricter than Istio's, whose default is BASE.
    "DEFAULT": "MERGE_SLASHES",
    "NONE": "NONE",
    "BASE": "BASE",
    "MERGE_SLASHES": "MERGE_SLASHES",
    "DECODE_AND_MERGE_SLASHES": "DECODE_AND_MERGE_SLASHES",
}


def read_config_map(root: Reader, ref: ObjectRef) -> tuple[MeshConfig | TrustBundle, ...]:
    data = root.at("data").mapping().at("mesh")
    if not _NAME.fullmatch(ref.name) or not data.present:
        return read_trust_bundle(root, ref)
    if ref.namespace != _NAMESPACE:
        data.note(f"configures nothing here: the mesh's configuration is that in namespace {_NAMESPACE}")
        return read_trust_bundle(root, ref)
    try:
        content = nested(data.text())
    except ValueError as error:
        data.refuse(f"is not YAML: {error}")
        return ()
    mesh = data.part(content, "data.mesh").mapping()
    normalization = mesh.at("pathNormalization").mapping().at("normalization")
    items = mesh.at("extensionProviders").items()
    found = [authorization_provider(item) for item in items]
    config = MeshConfig(
        root_namespace=name(mesh.at("rootNamespace"), DEFAULT_CONFIG.root_namespace, label=True),
        trust_domain=_trust_domain(mesh.at("trustDomain")) or DEFAULT_CONFIG.trust_domain,
        trust_domain_aliases=tuple(map(_trust_domain, mesh.at("trustDomainAliases").items())),
        path_normalization=_MODES[normalization.choice(tuple(_MODES), "DEFAULT")],
        providers=tuple(sorted((p for p in found if p is not None), key=lambda p: p.name)),
        tracing=_tracing(mesh, items),
        locality=locality_setting(mesh.at("localityLbSetting")) or NO_ORDER,
        access_logging=mesh_access_logging(mesh, items),
        proxy=mesh_settings(mesh.at("defaultConfig")),
        auto_mtls=mesh.at("enableAutoMtls").boolean(True),
        # Unlike a Sidecar's, one without a mode leaves Istio's default as it is.
        outbound=outbound_mode(mesh.at("outboundTrafficPolicy").mapping().at("mode"), "ALLOW_ANY"),
    )
    return (config,)


def _trust_domain(reader: Reader) -> str:
    """SPIFFE-ID, section 2.1."""
    text = reader.text()
    if text and not _TRUST_DOMAIN.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a trust domain: at most 253 of a-z, 0-9, -, _ and .")
        return ""
    return text


def _tracing(mesh: Reader, items: list[Reader]) -> MeshTracing:
    """`defaultProviders` names the collector; where it does not, the older `enableTracing` may."""
    providers = [found for item in items if (found := tracing_provider(item)) is not None]
    defaults = mesh.at("defaultProviders").mapping().at("tracing").items(at_most=1)
    default = printable(defaults[0], 253) if defaults else ""
    known = mesh.at("defaultConfig").mapping().at("tracing").mapping()
    address = known.at("zipkin").mapping().at("address")
    if mesh.at("enableTracing").boolean() and address.present and not default:
        providers.append(_legacy(address))
        default = _LEGACY
    sampling = known.at("sampling")
    tags = known.at("customTags")
    return MeshTracing(
        tuple(sorted(providers, key=lambda provider: provider.name)),
        default,
        hundredths(sampling) if sampling.present else DEFAULT_CONFIG.tracing.sampling,
        tuple(sorted(custom_tag(name, tag) for name, tag in tags.entries())),
    )


def _legacy(address: Reader) -> TracingProvider:
    host, _, number = printable(address, 260).rpartition(":")
    if not (host and number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        address.refuse(f"{shown(address.value)} is not an address such as zipkin.istio-system:9411")
        host, number = "", "1"
    return TracingProvider(_LEGACY, "zipkin", host, int(number), "/api/v2/spans")
