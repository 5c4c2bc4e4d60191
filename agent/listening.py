"""Takes a copy of the listening sockets that an Envoy holds for policy classes, to give them to the kernel.

Found by their addresses, which nobody can dial (`mesh.listener`), and only among the descriptors of that
Envoy: an application in the pod could bind the like, but does not become Envoy by it.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mesh.listener import INGRESS_PORT, ingress_addresses

_PIDFD_GETFD = 438
_LISTEN = "0A"

_libc = ctypes.CDLL(None, use_errno=True)


class Listening(NamedTuple):
    """A listening socket of an ingress class: `family` is AF_INET or AF_INET6, `inode` the socket's."""

    number: int
    family: int
    inode: int


def listening_sockets(pid: int, numbers: tuple[int, ...], proc: Path = Path("/proc")) -> list[Listening]:
    """Which ingress classes have listening sockets in the namespace of a process. Raises OSError when the
    process is gone."""
    wanted: dict[str, tuple[int, int]] = {}
    for number in numbers:
        ip4, ip6 = ingress_addresses(number)
        wanted[_proc_address(socket.AF_INET, ip4)] = (number, socket.AF_INET)
        wanted[_proc_address(socket.AF_INET6, ip6)] = (number, socket.AF_INET6)
    found: list[Listening] = []
    for table in ("tcp", "tcp6"):
        with (proc / str(pid) / "net" / table).open() as lines:
            for line in lines:
                words = line.split(None, 10)
                if len(words) > 9 and words[3] == _LISTEN and words[1] in wanted:
                    number, family = wanted[words[1]]
                    found.append(Listening(number, family, int(words[9])))
    return found


@contextmanager
def taken(pid: int, pidfd: int, inode: int) -> Iterator[int]:
    """A copy of the descriptor by which a process holds a socket, closed at the end: an open copy would
    keep a dead Envoy's listener alive, and callers would hang instead of being refused.

    Raises OSError if the process does not hold it (any more)."""
    name = f"socket:[{inode}]"
    folder = f"/proc/{pid}/fd"
    for entry in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{entry}") != name:
                continue
        except FileNotFoundError:
            continue
        fd = _libc.syscall(_PIDFD_GETFD, pidfd, int(entry), 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"take the listening socket of process {pid} failed")
        try:
            yield fd
        finally:
            os.close(fd)
        return
    raise OSError(f"process {pid} does not hold socket {inode}")


def _proc_address(family: int, address: str) -> str:
    # The kernel prints an address as 32-bit words of the machine's byte order.
    packed = socket.inet_pton(family, address)
    words = (int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4))
    return f"{''.join(f'{word:08X}' for word in words)}:{INGRESS_PORT:04X}"
