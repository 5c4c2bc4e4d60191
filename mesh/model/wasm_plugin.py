"""WasmPlugin: a module that reads and changes requests, run by Envoy. The model knows where it comes from and
where it stands, not what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mesh.model.envoy_filter import EnvoyFilter
from mesh.model.names import ServiceName

#: Before tokens are judged, before policies are, or behind both (the last two, in this order).
PluginPhase = Literal["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE"]
#: What becomes of requests while a module is not there or has failed; RELOAD starts it again.
FailStrategy = Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]


@dataclass(frozen=True, slots=True, order=True)
class ModuleSource:
    """Where the control plane gets a module: from a URL of http(s) or a `file:` below the operator's folder,
    and the SHA-256 that its bytes must have, in hex ("": any, of a file)."""

    url: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """What is known of a source: its `code` (empty: not there yet), and why it cannot be had now."""

    source: ModuleSource
    code: bytes = field(default=b"", repr=False)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class WasmPlugin(EnvoyFilter):
    """An EnvoyFilter whose patches say where one filter is inserted. Plugins of a phase stand by descending
    `priority`, then by name. With `services` it selects as `Authorization` does.

    `source` is None where it cannot be read; `code` is what was got from there (empty: nothing yet).
    """

    source: ModuleSource | None = None
    code: bytes = field(default=b"", repr=False)
    phase: PluginPhase = "UNSPECIFIED_PHASE"
    on_failure: FailStrategy = "FAIL_CLOSE"
    #: `root_id` of the plugin, and its configuration as JSON ("": none).
    name: str = ""
    config: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    services: tuple[ServiceName, ...] | None = None
