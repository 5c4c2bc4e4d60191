"""WasmPlugin of extensions.istio.io/v1alpha1 (istio/api, wasm.proto).

The validation is Istio's own, but for the module: images are not fetched, and what comes from a URL is pinned
by its checksum. Where something could not be read the plugin fails closed (semantics rule 18): it has no
module, so its `failStrategy` decides, for everything that it could be for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import cast
from urllib.parse import urlsplit

from istio_integration.envoy_filter import STEER
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.subject import SUBJECT, read_subject
from mesh.dialects.syntax import port, printable
from mesh.model import (
    NAMESPACE_KEY,
    EnvoyPatch,
    FailStrategy,
    ListenerMatch,
    ModuleSource,
    ObjectRef,
    PatchContext,
    PluginPhase,
    Selector,
    WasmPlugin,
)

SPEC = Fields(
    (
        *SUBJECT,
        "url",
        "sha256",
        "imagePullPolicy",
        "imagePullSecret",
        "pluginConfig",
        "pluginName",
        "phase",
        "priority",
        "failStrategy",
        "vmConfig",
        "match",
        "type",
    ),
    refused=("verificationKey",),
    why="is not supported: signatures are not verified, write sha256",
)
MATCH = Fields(("mode", "ports"))
PORT = Fields(("number",))
VM = Fields(("env",))
VARIABLE = Fields(("name", "valueFrom", "value"))

_PHASES = ("UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS")
_STRATEGIES = ("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD")
_PULL = ("UNSPECIFIED_POLICY", "IfNotPresent", "Always")
#: A gateway's Envoy counts as its clients' (istio/api, WasmPlugin.TrafficSelector).
_CLIENT: tuple[PatchContext, ...] = ("SIDECAR_OUTBOUND", "GATEWAY")
_MODES: dict[str, tuple[PatchContext, ...]] = {
    "CLIENT_AND_SERVER": ("ANY",),
    "CLIENT": _CLIENT,
    "SERVER": ("SIDECAR_INBOUND",),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST = 4096
_MOST_MATCHES, _MOST_VARIABLES = 128, 256


def read_wasm_plugin(root: Reader, ref: ObjectRef) -> tuple[WasmPlugin, ...]:
    root.fields(OBJECT)
    spec = root.at("spec")
    spec.require()
    spec.fields(SPEC)
    subject, services = read_subject(spec, ref)
    named = any(spec.at(key).present for key in SUBJECT)
    steer = root.at("metadata").mapping().at("annotations").mapping().at(STEER)
    asked = steer.choice(("true", "false"))
    phase = spec.at("phase").choice(_PHASES, "UNSPECIFIED_PHASE")
    spec.at("type").choice(("UNSPECIFIED_PLUGIN_TYPE", "HTTP"), unsupported=("NETWORK",))
    on_failure = spec.at("failStrategy").choice(_STRATEGIES, "FAIL_CLOSE")
    if spec.at("imagePullPolicy").choice(_PULL) == "Always":
        spec.at("imagePullPolicy").note("has no effect: what sha256 pins is fetched once")
    if spec.at("imagePullSecret").present:
        spec.at("imagePullSecret").note("has no effect: it is for OCI images, which are not fetched")
    source = _source(spec)
    config, environment = _config(spec.at("pluginConfig")), tuple(_environment(spec.at("vmConfig")))
    patches = tuple(_patches(spec, inbound=services is not None))
    found = WasmPlugin(
        ref,
        patches if spec.at("match").sound else (_patch("match", "ANY"),),
        subject,
        _labels(subject) if services is None else (),
        spec.at("priority").integer(-(2**31), 2**31 - 1),
        steers=asked == "true" if asked else named,
        undecided=not named and not asked,
        phase=cast(PluginPhase, phase),
        on_failure=cast(FailStrategy, on_failure),
        name=printable(spec.at("pluginName"), 256),
        config=config,
        environment=environment,
        services=services,
        source=source,
    )
    return (found if root.sound else replace(found, source=None),)


def _labels(subject: Selector) -> tuple[tuple[str, str], ...]:
    return tuple((one.key, one.values[0]) for one in subject.requirements if one.key != NAMESPACE_KEY)


# --- where it stands --------------------------------------------------------------------------------------


def _patches(spec: Reader, *, inbound: bool) -> Iterator[EnvoyPatch]:
    """`inbound`: it is for pods behind Services, so for what comes to them."""
    everything: PatchContext = "SIDECAR_INBOUND" if inbound else "ANY"
    items = spec.at("match").items(_MOST_MATCHES)
    if not items:
        yield _patch("url", everything)
    for item in items:
        mode = item.fields(MATCH).at("mode").choice(tuple(_MODES), "CLIENT_AND_SERVER")
        if inbound and mode == "CLIENT":
            item.at("mode").refuse("CLIENT does not go with targetRefs: requests to a Service meet SERVER")
        ports = list(dict.fromkeys(_number(entry) for entry in item.at("ports").items()))
        for context in (everything,) if inbound else _MODES.get(mode, ("ANY",)):
            for number in ports or [0]:
                yield _patch(item.rule_field, context, number)


def _number(entry: Reader) -> int:
    number = entry.fields(PORT).at("number")
    number.require()
    return port(number)


def _patch(field: str, context: PatchContext, number: int = 0) -> EnvoyPatch:
    where = ListenerMatch(port=number) if number else None
    return EnvoyPatch(field, "HTTP_FILTER", context, "ADD", where=where)


# --- what it runs -----------------------------------------------------------------------------------------


def _source(spec: Reader) -> ModuleSource | None:
    url, checksum = spec.at("url"), spec.at("sha256")
    written, sha256 = printable(url, _LONGEST), checksum.text()
    url.require()
    if sha256 and not _SHA256.fullmatch(sha256):
        checksum.refuse(f"{shown(sha256)} is no SHA-256: write 64 digits 0-9, a-f")
    if not url.sound:
        return None
    try:
        parts = urlsplit(written)
        host, number = parts.hostname, parts.port
    except ValueError:
        url.refuse(f"{shown(written)} is no URL such as https://example.com/filter.wasm")
        return None
    if parts.scheme in ("http", "https"):
        if not host or parts.username or number == 0 or not written.isascii() or " " in written:
            url.refuse(f"{shown(written)} is no URL such as https://example.com/filter.wasm")
        elif not sha256 and checksum.sound:
            checksum.refuse("is required beside a URL of http or https: what comes from there must be pinned")
    elif parts.scheme == "file":
        if host or not parts.path.startswith("/") or parts.query or parts.fragment:
            url.refuse(f"{shown(written)} names no file: write file:///FOLDER/filter.wasm")
    elif parts.scheme == "oci" or "://" not in written:
        url.refuse("OCI images are not fetched; give an http(s) URL with sha256 or a file")
    else:
        url.refuse(f"{shown(parts.scheme)} is not supported; give an http(s) URL with sha256 or a file")
    return ModuleSource(written, sha256)


def _config(reader: Reader) -> str:
    if not reader.mapping().present or not reader.sound:
        return ""
    try:
        return json.dumps(reader.value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        reader.refuse("holds what JSON cannot hold")
        return ""


def _environment(machine: Reader) -> Iterator[tuple[str, str]]:
    """Variables that the module sees, and nobody else."""
    known: set[str] = set()
    for item in machine.fields(VM).at("env").items(_MOST_VARIABLES):
        name = item.fields(VARIABLE).at("name")
        name.require()
        key = printable(name, 256)
        if name.sound and (not key or "=" in key):
            name.refuse(f"{shown(key)} is not the name of a variable")
        if key in known:
            name.refuse(f"{key} stands here twice")
        known.add(key)
        source = item.at("valueFrom")
        if source.choice(("INLINE", "HOST"), "INLINE") == "HOST":
            source.refuse("HOST would tell the module what the Envoy process knows: write INLINE")
        yield key, printable(item.at("value"), 2048)
