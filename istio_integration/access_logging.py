"""Access logs in MeshConfig and in Telemetry (istio/api, mesh/v1alpha1/config.proto and telemetry.proto).

An Envoy writes to its own standard output and nowhere else: a file would be one of the node's, shared by all
its pods' Envoys. Knows nothing of whose logs are written in the end (`mesh.observability.access_logging`).
"""

from __future__ import annotations

from dataclasses import replace

from istio_integration import log_format
from istio_integration.modes import MATCH_WORKLOADS, directions
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import port, printable
from mesh.model import BUILT_IN_LOG, DEFAULT_TEXT, AccessLogProvider, AccessLogRule, MeshAccessLogging
from mesh.observability import cel

FILE = Fields(("path", "logFormat", "omitEmptyValues"))
OPENTELEMETRY = Fields(("service", "port", "logName", "logFormat"))
FORMAT = Fields(("text", "labels"))
RULE = Fields(("match", "providers", "disabled", "filter"))
PROVIDER = Fields(("name",))
FILTER = Fields(("expression",))

#: Providers that exist in Istio and not here.
REFUSED = ("envoyHttpAls", "envoyTcpAls")
#: The provider that `accessLogFile` stands for.
_FILE = "accessLogFile"
_PATHS = (BUILT_IN_LOG.path, "/dev/stderr", "/dev/null")
_LOG_NAME = "otel_envoy_accesslog"


def mesh_access_logging(mesh: Reader, items: list[Reader]) -> MeshAccessLogging:
    """What MeshConfig says; `items` are its extension providers."""
    found = [provider for item in items if (provider := _provider(item)) is not None]
    text, labels = _mesh_format(mesh)
    if all(provider.name != BUILT_IN_LOG.name for provider in found):
        found.append(replace(BUILT_IN_LOG, text=text, labels=labels))
    named = mesh.at("defaultProviders").mapping().at("accessLogging").items()
    defaults = tuple(dict.fromkeys(printable(item, 253) for item in named))
    file = mesh.at("accessLogFile")
    if path := _path(file):
        found.append(AccessLogProvider(_FILE, "file", text, labels, path))
    for index, name in enumerate(defaults):
        if all(provider.name != name for provider in found):
            named[index].refuse(f"{shown(name)} is no extension provider of access logs")
    if path and not defaults:
        defaults = (_FILE,)
    return MeshAccessLogging(tuple(sorted(found, key=lambda provider: provider.name)), defaults)


def access_log_rule(item: Reader) -> AccessLogRule:
    """One entry of a Telemetry's `accessLogging`."""
    item.fields(RULE)
    names = [printable(one.fields(PROVIDER).at("name"), 253) for one in item.at("providers").items()]
    disabled, kept = item.at("disabled"), item.at("filter").fields(FILTER)
    return AccessLogRule(
        directions(item.at("match").fields(MATCH_WORKLOADS)),
        tuple(dict.fromkeys(names)) or None,
        disabled.boolean() if disabled.present else None,
        _expression(kept.at("expression")) if kept.present else None,
    )


def _expression(reader: Reader) -> str:
    text = printable(reader, 2048)
    if text:
        try:
            cel.check(text)
        except cel.CelError as error:
            reader.refuse(f"{shown(text)} {error}")
    return text


def _provider(item: Reader) -> AccessLogProvider | None:
    """None for providers of other features."""
    for kind in REFUSED:
        if item.mapping().at(kind).present:
            item.at(kind).refuse(f"{kind} is not supported yet; use envoyOtelAls or envoyFileAccessLog")
    file, otel = item.at("envoyFileAccessLog"), item.at("envoyOtelAls")
    if not file.present and not otel.present:
        return None
    item.at("name").require()
    name = printable(item.at("name"), 253)
    if file.present:
        form = file.fields(FILE).at("logFormat").fields(FORMAT)
        text, labels = log_format.read_text(form.at("text")), log_format.read_labels(form.at("labels"))
        if text and labels:
            form.refuse("has both text and labels; a line is one of them")
        if form.at("labels").present:
            labels = labels or log_format.DEFAULT_LABELS
        text = "" if labels else log_format.line(text or DEFAULT_TEXT)
        omit = file.at("omitEmptyValues").boolean()
        path = _path(file.at("path")) or BUILT_IN_LOG.path
        return AccessLogProvider(name, "file", text, labels, path, omit)
    otel.fields(OPENTELEMETRY).at("service").require()
    otel.at("port").require()
    form = otel.at("logFormat").fields(FORMAT)
    return AccessLogProvider(
        name,
        "opentelemetry",
        log_format.read_text(form.at("text")) or DEFAULT_TEXT.rstrip("\n"),
        log_format.read_labels(form.at("labels"), flat=True),
        service=printable(otel.at("service"), 253),
        port=port(otel.at("port")),
        log_name=printable(otel.at("logName"), 253) or _LOG_NAME,
    )


def _mesh_format(mesh: Reader) -> tuple[str, str]:
    """Text or labels, as `accessLogEncoding` says."""
    own = mesh.at("accessLogFormat")
    if mesh.at("accessLogEncoding").choice(("TEXT", "JSON"), "TEXT") == "JSON":
        return "", log_format.parse_labels(own, own.text() or log_format.DEFAULT_LABELS)
    return log_format.line(log_format.read_text(own) or DEFAULT_TEXT), ""


def _path(reader: Reader) -> str:
    path = printable(reader, 1024)
    if path and path not in _PATHS:
        reader.refuse(
            f"{shown(path)} would be a file of the node, which the Envoys of all its pods would share; "
            f"write {', '.join(_PATHS)}"
        )
    return path
