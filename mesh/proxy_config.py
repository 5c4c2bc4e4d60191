"""How the Envoy of a workload is run: MeshConfig, then the ProxyConfigs of the root namespace and of the
workload's own, the annotation of its Pod, and the ProxyConfig that selects it.

As in Istio (proxy_config.proto): the narrowest that says a field counts, variables are joined by name, and of
several ProxyConfigs at one level the oldest counts. Knows no process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from mesh.model import MeshConfig, ProxyConfig, ProxySettings, Workload
from mesh.node import Launch

_AS_ALWAYS = Launch()


def launch(config: MeshConfig, configs: Iterable[ProxyConfig], workload: Workload) -> Launch | None:
    """How the workload's Envoy is to be started, should it need one; None: as always."""
    workers, environment, drain_ms = _AS_ALWAYS.workers, dict[str, str](), _AS_ALWAYS.drain_ms
    for said in _levels(config, configs, workload):
        workers = workers if said.concurrency is None else said.concurrency
        drain_ms = drain_ms if said.drain_ms is None else said.drain_ms
        environment.update(said.environment)
    found = Launch(workers, tuple(sorted(environment.items())), drain_ms)
    return None if found == _AS_ALWAYS else found


def _levels(
    config: MeshConfig, configs: Iterable[ProxyConfig], workload: Workload
) -> Iterator[ProxySettings]:
    """Those that are about a workload, the widest first."""
    namespace, labels = workload.name.namespace, dict(workload.labels)
    known = sorted(configs, key=lambda one: (one.created, one.ref))
    yield config.proxy
    for home in dict.fromkeys((config.root_namespace, namespace)):
        yield from _first(one for one in known if one.ref.namespace == home and one.subject is None)
    yield workload.proxy
    own = (one for one in known if one.ref.namespace == namespace)
    yield from _first(one for one in own if one.subject is not None and one.subject.matches(labels))


def _first(found: Iterator[ProxyConfig]) -> Iterator[ProxySettings]:
    return (one.settings for one in islice(found, 1))
