"""The half of `sluice trace` that has bcc: compiles a program, loads it, and writes what it sees.

Runs alone, as a script, under whichever Python has bcc (Debian's package is for the system's), so it
imports nothing of ours. Reads one JSON document from standard input, writes one JSON document a line to
standard output, and ends when its standard input does: with this process everything is gone from the
kernel. Knows no pod and no service.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import select
import signal
import sys
from typing import Any, NamedTuple

#: bcc and the compiler's libraries come from where Debian puts them, behind everything else.
_PACKAGES = "/usr/lib/python3/dist-packages"
_FAMILY_V6 = 10
#: Milliseconds between looks at whether somebody still listens.
_LOOK = 100

Line = dict[str, Any]


class Ends(ctypes.Structure):
    """struct ends of bpf/trace/socket.h. (bcc mirrors no struct within a struct.)"""

    _fields_ = (
        ("saddr", ctypes.c_ubyte * 16),
        ("daddr", ctypes.c_ubyte * 16),
        ("netns", ctypes.c_uint32),
        ("family", ctypes.c_uint16),
        ("sport", ctypes.c_uint16),
        ("dport", ctypes.c_uint16),
        ("pad", ctypes.c_uint16),
    )


class Connect(ctypes.Structure):
    """struct event of bpf/trace/connect.c."""

    _fields_ = (
        ("ends", Ends),
        ("took", ctypes.c_uint64),
        ("error", ctypes.c_uint32),
        ("established", ctypes.c_uint32),
        ("comm", ctypes.c_char * 16),
    )


class Drop(ctypes.Structure):
    """struct event of bpf/trace/drops.c."""

    _fields_ = (
        ("ends", Ends),
        ("at", ctypes.c_uint64),
        ("reason", ctypes.c_uint32),
        ("protocol", ctypes.c_uint32),
    )


def main() -> int:
    # Ctrl-C goes to the whole terminal; who asked says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.append(_PACKAGES)
    from bcc import BPF  # type: ignore[import-not-found]

    question = json.loads(sys.stdin.readline())
    flags = [f"-D{name}={value}" for name, value in question["offsets"].items()]
    bpf = BPF(text=question["program"], cflags=[*flags, "-Wno-macro-redefined"])
    wanted = bpf["wanted"]
    for netns in question["netns"]:
        wanted[wanted.Key(netns)] = wanted.Leaf(1)
    faults: list[Exception] = []
    polled = question["what"] in _EVENTS
    if polled:
        layout, tell = _EVENTS[question["what"]]
        context = _Context(bpf, {int(number): name for number, name in question["reasons"].items()})

        def take(_: Any, data: int, __: int) -> None:
            try:
                _write(tell(layout.from_address(data), context))
            except Exception as error:  # ctypes would only print it
                faults.append(error)

        bpf["events"].open_ring_buffer(take)
    _write({"ready": True})
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0)[0]:
        if polled:
            bpf.ring_buffer_poll(_LOOK)
        else:
            select.select([sys.stdin], [], [], _LOOK / 1000)
        if faults:
            raise faults[0]
        sys.stdout.flush()
    if polled:
        bpf.ring_buffer_consume()
    else:
        for ends, counts in bpf["connections"].items():
            _write(_connection(ends, counts))
    _write({"lost": bpf["lost"][0].value})
    sys.stdout.flush()
    return 0


class _Context(NamedTuple):
    """What it takes to name numbers of the kernel."""

    bpf: Any
    reasons: dict[int, str]


def _connect(event: Any, _: _Context) -> Line:
    return _ends(event.ends) | {
        "us": event.took / 1000,
        "established": bool(event.established),
        "error": os.strerror(event.error) if event.error else "",
        "command": event.comm.decode(errors="replace"),
    }


def _drop(event: Any, context: _Context) -> Line:
    reason = context.reasons.get(event.reason, str(event.reason))
    return _ends(event.ends) | {
        "protocol": event.protocol,
        "reason": reason.removeprefix("SKB_DROP_REASON_"),
        "at": context.bpf.ksym(event.at, show_offset=False).decode(),
    }


#: Programs that send events, with the struct of one; the other only counts.
_EVENTS = {"connect": (Connect, _connect), "drops": (Drop, _drop)}


def _connection(ends: Any, counts: Any) -> Line:
    average = round(counts.sum / counts.samples) if counts.samples else 0
    return _ends(ends) | {
        "samples": counts.samples,
        "rtt_us": {"min": counts.least, "avg": average, "max": counts.most},
        "retransmits": counts.retransmits,
        "resets_sent": counts.resets_sent,
        "resets_received": counts.resets_received,
    }


def _ends(ends: Any) -> Line:
    source, destination = (_address(ends.family, bytes(raw)) for raw in (ends.saddr, ends.daddr))
    return {
        "netns": ends.netns,
        "source": source,
        "source_port": ends.sport,
        "destination": destination,
        "destination_port": ends.dport,
    }


def _address(family: int, raw: bytes) -> str:
    if family != _FAMILY_V6:
        return str(ipaddress.IPv4Address(raw[:4]))
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def _write(line: Line) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
