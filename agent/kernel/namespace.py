"""Runs a function in another network namespace, on a thread of its own that ends with it."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.kernel.error import KernelError

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def run_in_netns(netns: Path, function: Callable[[], _T]) -> _T:
    """The result of `function` called inside `netns`. Raises KernelError, or what it raises."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET) < 0:
                    number = ctypes.get_errno()
                    raise KernelError("enter", str(netns), "is it a network namespace?", number)
            finally:
                os.close(fd)
            results.append(function())
        except OSError as error:
            errors.append(KernelError("enter", str(netns), "has the pod ended?", error.errno or 0))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"netns {netns.name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def netns_cookie(netns: Path) -> int:
    """The kernel's number of the namespace, never used twice until the next boot."""

    def ask() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            cookie: int = struct.unpack("=Q", probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
            return cookie

    return run_in_netns(netns, ask)
