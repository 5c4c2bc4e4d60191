"""What runs inside the pods of a benchmark: one server, and clients that print what they measured as JSON.

`load.py serve`, or `load.py COMMAND HOST PORT [COUNT]`. Tight loops over plain sockets: the share
that the interpreter has in a round trip is the same on both sides of a ratio, and draws it towards 1.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

ECHO_PORT, HTTP_PORT = 7000, 8080
#: The command line of this file, whatever a pod's Python finds under its name.
LOAD = (sys.executable, str(Path(__file__).resolve()))
#: Seconds between two probes of a watcher, which leaves the CPU to what it watches: the figure's resolution.
WATCH_GAP = 0.002
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
REQUEST = b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n"


def tell(**measured: object) -> None:
    print(json.dumps(measured), flush=True)


def serve() -> None:
    """Echoes on ECHO_PORT, answers HTTP with its pod's name on HTTP_PORT; one loop, no threads."""
    name = os.environ.get("HOSTNAME", "none").encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(name), name)
    poll = select.epoll()
    listeners: dict[int, tuple[socket.socket, bool]] = {}
    peers: dict[int, tuple[socket.socket, bool]] = {}
    for port, http in ((ECHO_PORT, False), (HTTP_PORT, True)):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        listener.listen(4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener, http
        poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in listeners:
                listener, http = listeners[fd]
                try:
                    peer, _ = listener.accept()
                except OSError:
                    continue
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer, http
                poll.register(peer, select.EPOLLIN)
                continue
            peer, http = peers[fd]
            try:
                data = peer.recv(65536)
                if data:
                    peer.send(answer * data.count(b"\r\n\r\n") if http else data)
                    continue
            except OSError:
                pass
            poll.unregister(fd)
            del peers[fd]
            peer.close()


def dial(host: str, port: int) -> socket.socket:
    client = socket.create_connection((host, port), 5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(None)
    return client


def exchange(client: socket.socket, message: bytes, count: int) -> float:
    """Median round trip in microseconds of a message that is answered by one segment."""
    clock, send, receive = time.perf_counter_ns, client.send, client.recv
    taken = []
    for _ in range(count):
        start = clock()
        send(message)
        receive(4096)
        taken.append(clock() - start)
    return statistics.median(taken[count // 10 :]) / 1000


def pingpong(host: str, port: int, count: int) -> None:
    """One byte there and back."""
    tell(rtt_us=exchange(dial(host, port), b"x", count))


def http(host: str, port: int, count: int) -> None:
    """One request there and its answer back, on one connection."""
    tell(rtt_us=exchange(dial(host, port), REQUEST % host.encode(), count))


def connects(host: str, port: int, count: int) -> None:
    """Connections a second: connect, one byte there and back, close with a reset (no TIME_WAIT)."""
    start = time.perf_counter()
    for _ in range(count):
        client = socket.socket()
        client.connect((host, port))
        client.send(b"x")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.close()
    tell(per_second=count / (time.perf_counter() - start))


def watch_connect(host: str, port: int, _count: int) -> None:
    """Says when connections begin to be allowed or refused: the clock of CLOCK_MONOTONIC, in seconds."""
    last = ""
    while True:
        client = socket.socket()
        client.settimeout(1)
        try:
            client.connect((host, port))
            state = "allowed"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        except OSError:
            state = "refused"
        now = time.monotonic()
        client.close()
        if state != last:
            tell(state=state, at=now)
            last = state
        time.sleep(WATCH_GAP)


def watch_end(host: str, port: int, count: int) -> None:
    """Opens connections and says when the last of them has ended."""
    clients = [dial(host, port) for _ in range(count)]
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    tell(state="connected")
    left = count
    while left:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            left -= 1
    tell(state="ended", at=time.monotonic())


def watch_http(host: str, port: int, _count: int) -> None:
    """Says when requests on one kept-alive connection begin to be answered by another pod."""
    client, request, last = dial(host, port), REQUEST % host.encode(), ""
    while True:
        client.send(request)
        answer = client.recv(4096)
        now = time.monotonic()
        state = answer.rpartition(b"\r\n\r\n")[2].decode() if answer.startswith(b"HTTP/1.1 200") else "failed"
        if not answer:
            client = dial(host, port)
        if state != last:
            tell(state=state, at=now)
            last = state
        time.sleep(WATCH_GAP)


def address(host: str, port: int, _count: int) -> None:
    """Waits until the server answers; says its IPv4 address."""
    for attempt in range(200):
        try:
            dial(host, port).close()
            break
        except OSError:
            if attempt == 199:
                raise
            time.sleep(0.05)
    tell(address=host)


CLIENTS = {
    "address": address,
    "pingpong": pingpong,
    "http": http,
    "connects": connects,
    "watch-connect": watch_connect,
    "watch-end": watch_end,
    "watch-http": watch_http,
}


def main(command: str, host: str = "", port: str = "0", count: str = "0") -> None:
    if command == "serve":
        serve()
    else:
        CLIENTS[command](socket.gethostbyname(host), int(port), int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
