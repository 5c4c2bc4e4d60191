"""How the Envoys themselves are run."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.model.names import ObjectRef
from mesh.model.selection import Selector


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What one place says of how an Envoy is run; None: nothing, a wider one decides. `concurrency` is of
    worker threads, 0 one for each CPU. `environment` adds to what wider ones say, name by name. `drain_ms` is
    how long one that leaves may go on for its open connections."""

    concurrency: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    drain_ms: int | None = None


#: Where nothing is said.
NO_SETTINGS = ProxySettings()


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Istio's ProxyConfig: for the whole mesh (root namespace), a namespace, or (with a `subject`) some
    workloads of it. It rides along and never steers (rule 20)."""

    ref: ObjectRef
    subject: Selector | None = None
    settings: ProxySettings = NO_SETTINGS
    created: str = ""
