"""The node's data path as one object: tables, generation, attachments, sweeps, events.

It knows which program belongs on which hook. It must not know records, policies or Envoy; keys
and values are `bpf.layout` structs, packed.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.kernel import libbpf
from agent.kernel.error import KernelError
from agent.kernel.link import Links
from agent.kernel.namespace import netns_cookie, run_in_netns
from agent.kernel.program import OBJECT, Programs, make_private
from agent.kernel.ring import EventRing
from agent.kernel.table import Table
from bpf.layout import LAYOUT_HASH, Config, Counter, DropReason, Verdict

#: Programs of the mesh's cgroup, and of the cgroup below it in which Envoys run.
_CGROUP_HOOKS = {
    "connect4": libbpf.CGROUP_INET4_CONNECT,
    "connect6": libbpf.CGROUP_INET6_CONNECT,
    "sendmsg4": libbpf.CGROUP_UDP4_SENDMSG,
    "sendmsg6": libbpf.CGROUP_UDP6_SENDMSG,
    "recvmsg4": libbpf.CGROUP_UDP4_RECVMSG,
    "recvmsg6": libbpf.CGROUP_UDP6_RECVMSG,
    "getpeername4": libbpf.CGROUP_INET4_GETPEERNAME,
    "getpeername6": libbpf.CGROUP_INET6_GETPEERNAME,
    "sock_ops": libbpf.CGROUP_SOCK_OPS,
    "sock_release": libbpf.CGROUP_INET_SOCK_RELEASE,
}
_POD_HOOKS = {"to_pod": libbpf.TCX_EGRESS, "from_pod": libbpf.TCX_INGRESS}
_PROXY_HOOKS = {"original_dst": libbpf.CGROUP_GETSOCKOPT}

_AUDITED = {
    Verdict.DENY: "audit_denied",
    Verdict.ALLOW: "audit_allowed",
    Verdict.STEER: "audit_steered",
}

#: Tables whose values end in a spin lock (see layout.h).
_LOCKED = {"sl_pod", "sl_service", "sl_route", "sl_peer"}

_MEMBARRIER_GLOBAL = 1
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
#: A sweep that still finds sockets after so many rounds has met someone who makes them faster.
_SWEEP_ROUNDS = 16

_libc = ctypes.CDLL(None, use_errno=True)


class Kernel:
    """Open by `Kernel.open`. Everything it makes is pinned and outlives the process."""

    def __init__(self, home: Path, programs: Programs, links: Links) -> None:
        self._home = home
        self._programs = programs
        self._links = links
        self._tables = {name: Table(name, fd, locked=name in _LOCKED) for name, fd in programs.maps.items()}
        self._ring: EventRing | None = None

    @classmethod
    def open(cls, pins: Path, cgroup: Path, object_file: Path = OBJECT) -> Kernel:
        """Loads, or adopts what an earlier agent pinned in `pins/<layout hash>`; makes
        `cgroup/proxies`, and attaches the programs of both cgroups. Raises KernelError."""
        home = pins / LAYOUT_HASH
        make_private(pins)
        programs = Programs(home, object_file)
        kernel = cls(home, programs, Links(home / "links"))
        proxies = cgroup / "proxies"
        proxies.mkdir(parents=True, exist_ok=True)
        kernel.set_config(Config.PROXY_CGROUP, proxies.stat().st_ino)
        kernel.set_config(Config.PROXY_LEVEL, _depth(proxies))
        if kernel.generation == 0:
            kernel.set_config(Config.HOST_REACHES, 1)
            kernel.set_config(Config.EVENTS, 1)
            kernel.set_config(Config.TRAFFIC, 1)
        kernel._attach_cgroup(proxies, _PROXY_HOOKS)
        kernel._attach_cgroup(cgroup, _CGROUP_HOOKS)
        if programs.reloaded:
            kernel._replace_programs()
        return kernel

    def table(self, name: str) -> Table:
        """Such as "sl_addr". Raises KeyError."""
        return self._tables[name]

    def program(self, name: str) -> int:
        """The descriptor of a program, such as "bulk_verdict". Raises KeyError."""
        return self._programs.fds[name]

    @property
    def generation(self) -> int:
        return self._config(Config.GENERATION)

    def flip(self, generation: int) -> None:
        """From the next packet on, verdicts come from `generation`."""
        self.set_config(Config.GENERATION, generation)

    def quiesce(self) -> None:
        """Returns when no program still reads a generation that was in force before the call: to
        be called between a flip and the next write, because that write reuses the old slots."""
        call = _MEMBARRIER.get(platform.machine())
        if call is None or _libc.syscall(call, _MEMBARRIER_GLOBAL, 0, 0) < 0:
            number = ctypes.get_errno()
            raise KernelError("wait for", "running programs", "does the kernel have membarrier(2)?", number)

    def set_config(self, word: int, value: int) -> None:
        """`word` is a `layout.Config`."""
        self._tables["sl_config"].update({word.to_bytes(4, "little"): value.to_bytes(8, "little")})

    def attach_pod(self, name: str, host_ifindex: int) -> None:
        """Both directions of the host's end of a pod's veth, in this network namespace. Idempotent."""
        for hook, attach_type in _POD_HOOKS.items():
            self._links.attach(f"{hook}:{name}", self.program(hook), host_ifindex, host_ifindex, attach_type)

    def detach_pod(self, name: str) -> None:
        """Idempotent. The pod's traffic is no longer judged here: its veth should be gone."""
        for hook in _POD_HOOKS:
            self._links.detach(f"{hook}:{name}")

    def attach_inbound(self, name: str, netns: Path) -> None:
        """From now on new inbound connections of the pod are judged per policy class. Idempotent."""
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._links.attach(
                f"inbound:{name}", self.program("inbound"), fd, os.fstat(fd).st_ino, libbpf.SK_LOOKUP
            )
        finally:
            os.close(fd)

    def detach_inbound(self, name: str) -> None:
        """Idempotent."""
        self._links.detach(f"inbound:{name}")

    def attached(self) -> set[str]:
        """Names of pods that have any link."""
        return {pod for hook, pod in self._attachments() if hook != "cgroup"}

    def put_listener(self, key: bytes, fd: int) -> None:
        """Puts a listening socket into sl_listener. Close your copy of `fd` afterwards: with it
        open, a dead Envoy's listener would go on accepting."""
        libbpf.update(self._tables["sl_listener"].fd, key, fd.to_bytes(8, "little"))

    def sweep(self, netns: Iterable[Path]) -> int:
        """Ends the TCP sockets in these namespaces that the generation in force does not allow,
        until it finds none (rule 8); how many that were."""
        link = libbpf.create_link(self.program("sweep"), 0, libbpf.TRACE_ITER, "iter/tcp")
        try:
            return sum(_sweep_one(link, path) for path in netns)
        finally:
            os.close(link)

    def tell_closes(self, on: bool) -> None:
        """Whether ends of TCP connections are among the events."""
        self.set_config(Config.CLOSES, int(on))

    def events(self) -> EventRing:
        if self._ring is None:
            table = self._tables["sl_event"]
            self._ring = EventRing(table.fd, table.max_entries)
        return self._ring

    def counters(self) -> Mapping[str, int]:
        """Counts since the maps were made: "events_lost", "flows_lost", "traffic_lost", "dropped_<reason>",
        and "audit_denied", "_allowed" and "_steered": what would have been so, and was not."""
        lost = (Counter.EVENTS_LOST, Counter.FLOWS_LOST, Counter.TRAFFIC_LOST)
        names = {counter.name.lower(): int(counter) for counter in lost}
        for reason in DropReason:
            if reason:
                names[f"dropped_{reason.name.lower()}"] = Counter.DROPPED + reason
        for verdict, name in _AUDITED.items():
            names[name] = Counter.AUDITED + verdict
        return {name: self._counter(index) for name, index in names.items()}

    def netns_cookie(self, netns: Path) -> int:
        """The key of sl_netns. Raises KernelError when the namespace is gone."""
        return netns_cookie(netns)

    def drop_other_layouts(self) -> None:
        """Unpins what agents of other layouts left, to be called when this one enforces: until
        then both judge, and a packet passes only if both allow it."""
        for other in self._home.parent.iterdir():
            if other != self._home and other.is_dir():
                _remove(other)

    def remove(self) -> None:
        """Detaches everything and unpins it: nothing is enforced any more."""
        _remove(self._home.parent)

    def _attach_cgroup(self, cgroup: Path, hooks: Mapping[str, int]) -> None:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, attach_type in hooks.items():
                self._links.attach(f"cgroup:{name}", self.program(name), fd, os.fstat(fd).st_ino, attach_type)
        finally:
            os.close(fd)

    def _replace_programs(self) -> None:
        for hook, pod in self._attachments():
            if hook != "cgroup":
                self._links.replace(f"{hook}:{pod}", self.program(hook))
        self._programs.drop_others()

    def _attachments(self) -> list[tuple[str, str]]:
        """(program, pod), and ("cgroup", program)."""
        return [(hook, pod) for hook, _, pod in (name.partition(":") for name in self._links.names())]

    def _config(self, word: int) -> int:
        value = self._tables["sl_config"].lookup(word.to_bytes(4, "little"))
        return int.from_bytes(value or b"", "little")

    def _counter(self, index: int) -> int:
        size = 8 * libbpf.possible_cpus()
        value = libbpf.lookup(self._tables["sl_counter"].fd, index.to_bytes(4, "little"), size) or b""
        return sum(int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value), 8))


def _sweep_one(link: int, netns: Path) -> int:
    total = 0
    for _ in range(_SWEEP_ROUNDS):
        ended = _drain(run_in_netns(netns, lambda: libbpf.create_iterator(link)))
        total += ended
        if not ended:
            return total
    hint = f"after {_SWEEP_ROUNDS} rounds it still has sockets that policy forbids"
    raise KernelError("sweep", str(netns), hint)


def _depth(cgroup: Path) -> int:
    """Levels below the root of the cgroup2 hierarchy."""
    device, depth = cgroup.stat().st_dev, 0
    while cgroup.parent.stat().st_dev == device:
        cgroup, depth = cgroup.parent, depth + 1
    return depth


def _drain(iterator: int) -> int:
    """The iterator writes one byte for each socket that it ended."""
    count = 0
    with os.fdopen(iterator, "rb", buffering=0) as stream:
        while part := stream.read(4096):
            count += len(part)
    return count


def _remove(directory: Path) -> None:
    # Links first: an attachment must not outlive the tables it reads.
    for path in sorted(directory.rglob("*"), key=lambda p: ("links" not in p.parts, -len(p.parts))):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.rmdir()
