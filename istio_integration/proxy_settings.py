"""How Envoys are run, as ProxyConfig, MeshConfig and the annotation `proxy.istio.io/config` say it.

The agent starts an Envoy as root in the node's file system, unlike Istio, whose proxies are confined to a
container of the pod. So names by which a variable would make a process load, run or write something of the
user's choice are refused.
"""

from __future__ import annotations

import re

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Reader, shown
from mesh.dialects.syntax import printable
from mesh.model import ProxySettings

#: More worker threads than any machine has use for.
MOST_WORKERS = 1024

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
#: What glibc ignores in privileged processes (unsecvars.h), what allocators and shells obey.
_NOT_THEIRS = re.compile(
    r"(LD|GLIBC|MALLOC|TCMALLOC|PERFTOOLS|GCOV|ASAN|LSAN|MSAN|TSAN|UBSAN|LLVM|BASH)_.*"
    r"|(HEAP|CPU)PROFILE.*|HEAPCHECK.*|SSLKEYLOGFILE|OPENSSL_.*|SHELLOPTS|BASHOPTS|PS4|IFS|ENV|PATH"
    r"|GCONV_PATH|GETCONF_DIR|HOSTALIASES|LOCALDOMAIN|LOCPATH|NIS_PATH|NLSPATH|RESOLV_HOST_CONF|RES_OPTIONS"
    r"|TMPDIR|TZDIR"
)


def mesh_settings(reader: Reader) -> ProxySettings:
    """Of MeshConfig's defaultConfig, and of the annotation: both are Istio's mesh.v1alpha1.ProxyConfig."""
    reader.mapping()
    drain = reader.at("terminationDrainDuration")
    return ProxySettings(
        concurrency(reader.at("concurrency")),
        environment(reader.at("proxyMetadata")),
        duration_ms(drain, at_least=0) if drain.present else None,
    )


def concurrency(reader: Reader) -> int | None:
    return reader.integer(0, MOST_WORKERS) if reader.present else None


def environment(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Variables of the Envoy process, sorted."""
    found = []
    for name, value in reader.entries():
        if not _NAME.fullmatch(name):
            value.refuse(f"{shown(name)} is not the name of an environment variable")
        elif _NOT_THEIRS.fullmatch(name):
            value.refuse(f"{name} is refused: it would change what the Envoy process itself loads or writes")
        found.append((name, printable(value, 4096)))
    return tuple(sorted(found))
