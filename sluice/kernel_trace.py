"""A trace under way: the process that holds it (`trace_probe`), and what it says line by line.

Everything of it is that process's: its programs, its maps, and in a mount namespace of its own the merged
headers. When it ends nothing is left.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from sluice import trace_probe
from sluice.btf import VMLINUX, Btf
from sluice.failure import Failure
from sluice.trace_machine import headers, python_with_bcc

What = Literal["connect", "tcp", "drops"]
Line = dict[str, Any]

#: Fields of kernel structs that the programs read, by their name there.
OFFSETS = {
    "AT_NET_INODE": "net.ns.inum",
    "AT_SOCK_NET": "sock.__sk_common.skc_net.net",
    "AT_SOCK_FAMILY": "sock.__sk_common.skc_family",
    "AT_SOCK_SPORT": "sock.__sk_common.skc_num",
    "AT_SOCK_DPORT": "sock.__sk_common.skc_dport",
    "AT_SOCK_SADDR": "sock.__sk_common.skc_rcv_saddr",
    "AT_SOCK_DADDR": "sock.__sk_common.skc_daddr",
    "AT_SOCK_SADDR6": "sock.__sk_common.skc_v6_rcv_saddr",
    "AT_SOCK_DADDR6": "sock.__sk_common.skc_v6_daddr",
    "AT_SOCK_ERR": "sock.sk_err",
    "AT_SOCK_PROTOCOL": "sock.sk_protocol",
    "AT_TCP_SRTT": "tcp_sock.srtt_us",
    "AT_SKB_DEV": "sk_buff.dev",
    "AT_SKB_SOCK": "sk_buff.sk",
    "AT_SKB_PROTOCOL": "sk_buff.protocol",
    "AT_SKB_HEAD": "sk_buff.head",
    "AT_SKB_NETWORK": "sk_buff.network_header",
    "AT_DEV_NET": "net_device.nd_net.net",
}

# The two halves of Debian's headers are laid over each other where nobody else sees it.
_SCRIPT = """
[ -z "$1" ] || mount -t overlay -o "lowerdir=$1" none "$2" || exit 1
shift 2 && exec "$@"
"""

#: The place of that, in the trace's own mount namespace.
_OVERLAY = "/mnt"

#: The kernel's enumeration of why a packet is dropped.
REASONS = "skb_drop_reason"

#: Seconds until it must have compiled, and until it must have ended.
_START, _END = 60.0, 10.0
#: Seconds that select waits at most; it cannot wait for ever.
_LOOK = 3600.0
#: Bytes that are read of what it complains of.
_MOST = 1 << 20


class KernelTrace:
    """Begins when it is entered, ends when it is left."""

    def __init__(self, what: What, netns: list[int]) -> None:
        """Raises Failure, or Lacking where something must be installed first."""
        btf = _running_kernel()
        self._question = {
            "what": what,
            "netns": netns,
            "offsets": {name: btf.offset(path) for name, path in OFFSETS.items()},
            "reasons": btf.enumeration(REASONS),
            "program": _program(what),
        }
        self._python = python_with_bcc()
        self._headers = headers()
        self._errors = os.memfd_create("errors")
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._lines: deque[Line] = deque()

    def __enter__(self) -> KernelTrace:
        found = self._headers
        lower = ":".join(map(str, found)) if len(found) == 2 else ""
        source = _OVERLAY if lower else next(iter(found), None)
        alone = ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", lower, _OVERLAY]
        self._process = subprocess.Popen(
            [*alone, self._python, trace_probe.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | ({"BCC_KERNEL_SOURCE": str(source)} if source else {}),
        )
        try:
            self._write(json.dumps(self._question).encode() + b"\n")
            if "ready" not in next(self._read(time.monotonic() + _START), {}):
                raise Failure(f"compile or load the trace failed: {self._complaint()}")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def lines(self, deadline: float) -> Iterator[Line]:
        """What is seen until `deadline` (of the monotonic clock). Raises Failure if it ends before."""
        yield from self._read(deadline)
        assert self._process
        if self._process.poll() is not None:
            raise Failure(f"the trace ended: {self._complaint()}")

    def end(self) -> list[Line]:
        """Ask it to end; what was left to say, and at last how much was lost."""
        assert self._process and self._process.stdin
        self._process.stdin.close()
        return list(self._read(time.monotonic() + _END))

    def _read(self, deadline: float) -> Iterator[Line]:
        """Its lines until `deadline`, or until it has ended."""
        assert self._process and self._process.stdout
        pipe = self._process.stdout.fileno()
        while True:
            while self._lines:
                yield self._lines.popleft()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if select.select([pipe], [], [], min(left, _LOOK))[0]:
                data = os.read(pipe, 1 << 16)
                if not data:
                    self._process.wait()
                    return
                *whole, self._rest = (self._rest + data).split(b"\n")
                self._lines += map(json.loads, whole)

    def _write(self, data: bytes) -> None:
        assert self._process and self._process.stdin
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"start the trace failed: {self._complaint()}") from None

    def _complaint(self) -> str:
        text = os.pread(self._errors, _MOST, 0).decode(errors="replace")
        lines = text.strip().splitlines()
        errors = [line for line in lines if "error:" in line] or lines[-1:]
        return errors[0] if errors else "it said nothing"

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        os.close(self._errors)


def _running_kernel() -> Btf:
    try:
        return Btf(Path(VMLINUX).read_bytes())
    except OSError as error:
        raise Failure(f"read {VMLINUX} failed: {error.strerror}") from None


def _program(what: What) -> str:
    folder = files("bpf") / "trace"
    return (folder / "socket.h").read_text() + (folder / f"{what}.c").read_text()
