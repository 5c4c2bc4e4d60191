"""Hosts of the test: sockets of a pod, its Envoy, the node or the world, driven from one process.

A socket is made by a short-lived child inside the namespace and cgroup and handed over, so that it
is the pod's while the test drives it.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.kernel.namespace import run_in_netns

TCP, UDP, ICMP, ICMP6 = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6

#: Linux binds to an IPv6 address that only a local route makes local with this option only.
_IPV6_FREEBIND = 78


def ip(*lines: str, netns: str | None = None) -> None:
    where = ["-n", netns] if netns else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def child(netns: Path, cgroup: Path | None, work: Callable[[], list[int]]) -> list[int]:
    """File descriptors made by `work` in a child that joined the namespace and the cgroup."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            fds = run_in_netns(netns, work)
            socket.send_fds(theirs, [b"x"], fds)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 4)
        os.waitpid(pid, 0)
    if not fds:
        raise RuntimeError("the child could not make a socket")
    return fds


@dataclass
class Host:
    """Something with addresses in a network namespace, in or outside the mesh."""

    netns: Path
    ip4: str
    ip6: str
    id: int

    def _cgroup(self, proxy: bool) -> Path | None:
        return None

    def open_socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        *,
        proxy: bool = False,
    ) -> socket.socket:
        fds = child(self.netns, self._cgroup(proxy), lambda: [socket.socket(family, type, proto).detach()])
        made = socket.socket(family, type, proto, fileno=fds[0])
        made.settimeout(5)
        return made

    def listen(
        self,
        port: int,
        family: int = socket.AF_INET,
        *,
        address: str = "",
        proxy: bool = False,
        transparent: bool = False,
    ) -> socket.socket:
        listener = self.open_socket(family, proxy=proxy)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if transparent:
            level, option = (socket.SOL_IP, 19) if family == socket.AF_INET else (41, 75)
            listener.setsockopt(level, option, 1)
        listener.bind((address, port))
        listener.listen(64)
        return listener

    def connect(
        self,
        address: str,
        port: int,
        *,
        family: int | None = None,
        proxy: bool = False,
        timeout: float = 5,
        source: tuple[str, int] | None = None,
    ) -> socket.socket:
        """`timeout` is in seconds."""
        kind = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
        client = self.open_socket(kind, proxy=proxy)
        client.settimeout(timeout)
        if source:
            client.bind(source)
        try:
            if proxy:
                self._connect_as_proxy(client, address, port)
            else:
                client.connect((address, port))
        except OSError:
            client.close()
            raise
        return client

    def _connect_as_proxy(self, client: socket.socket, address: str, port: int) -> None:
        # The hook asks for the calling task's cgroup, so the call is made from inside it.
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            number = 0
            try:
                cgroup = self._cgroup(True)
                assert cgroup is not None
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
                client.connect((address, port))
            except TimeoutError:
                number = 110
            except OSError as error:
                number = error.errno or 1
            os.write(writer, number.to_bytes(4, "little"))
            os._exit(0)
        os.close(writer)
        number = int.from_bytes(os.read(reader, 4), "little")
        os.close(reader)
        os.waitpid(pid, 0)
        if number:
            raise OSError(number, os.strerror(number))


@dataclass
class Pod(Host):
    name: str = ""
    interface: str = ""
    ifindex: int = 0
    cgroup: Path = Path()
    proxies: Path = Path()
    mac: str = ""

    def _cgroup(self, proxy: bool) -> Path | None:
        return self.proxies if proxy else self.cgroup


def original_dst(accepted: socket.socket) -> tuple[str, int]:
    """What Envoy's original_dst listener filter would read."""
    if accepted.family == socket.AF_INET:
        data = accepted.getsockopt(socket.SOL_IP, 80, 16)
        return socket.inet_ntop(socket.AF_INET, data[4:8]), int.from_bytes(data[2:4], "big")
    data = accepted.getsockopt(41, 80, 28)
    return socket.inet_ntop(socket.AF_INET6, data[8:24]), int.from_bytes(data[2:4], "big")


def arrives(receiver: socket.socket, within: float = 5) -> bool:
    """Whether something becomes readable; `within` is in seconds."""
    return bool(select.select([receiver], [], [], within)[0])
