"""The demo's eyes: a client that runs inside a pod and says what it saw, one JSON object a line.

`python -m sluice.demo.visitor latency|connect|request|tally|hold|load ...`. Knows sockets and HTTP, and
nothing of a mesh. It never retries: what fails is told.
"""

from __future__ import annotations

import argparse
import errno
import json
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any

TIMEOUT = 1.0
WARM_UP = 20


def tell(**seen: Any) -> None:
    print(json.dumps(seen), flush=True)


def name_of(error: BaseException) -> str:
    """Such as EPERM or ECONNREFUSED, else the class: `http.client` raises both kinds."""
    code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return code or type(error).__name__


def send(connection: HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read()


def latency(service: str, path: str, count: int) -> None:
    """Median round trip of a GET on one kept-alive connection."""
    connection = HTTPConnection(service, timeout=TIMEOUT)
    taken = []
    for _ in range(count + WARM_UP):
        start = time.perf_counter()
        send(connection, "GET", path)
        taken.append(time.perf_counter() - start)
    tell(p50_us=round(statistics.median(taken[WARM_UP:]) * 1e6), requests=count)


def connect(service: str) -> None:
    """One connection attempt, and how long the answer took."""
    family, kind, protocol, _, address = socket.getaddrinfo(service, 80, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as client:
        client.settimeout(TIMEOUT)
        start = time.perf_counter()
        try:
            client.connect(address)
            result = "connected"
        except OSError as error:
            result = name_of(error)
        tell(result=result, us=round((time.perf_counter() - start) * 1e6))


def request(service: str, method: str, path: str) -> None:
    """One request on a connection of its own."""
    try:
        status, _ = send(HTTPConnection(service, timeout=TIMEOUT), method, path)
        tell(status=status)
    except (OSError, HTTPException) as error:
        tell(status=0, error=name_of(error))


def tally(service: str, path: str, count: int) -> None:
    """Which versions answered, over `count` requests."""
    connection = HTTPConnection(service, timeout=TIMEOUT)
    versions: Counter[str] = Counter()
    for _ in range(count):
        status, body = send(connection, "GET", path)
        versions[json.loads(body).get("version", "?") if status == 200 else str(status)] += 1
    tell(versions=dict(sorted(versions.items())))


def hold(service: str) -> None:
    """Keeps one connection and sends a request for each `METHOD PATH` on standard input."""
    connection = HTTPConnection(service, timeout=TIMEOUT)
    connection.connect()
    tell(opened=True)
    opened = connection.sock
    for line in sys.stdin:
        method, path = line.split()
        try:
            status, _ = send(connection, method, path)
            tell(status=status, same_connection=connection.sock is opened)
        except (OSError, HTTPException) as error:
            connection.close()
            tell(status=0, error=name_of(error))


def load(service: str, path: str, rate: int) -> None:
    """Requests at `rate` a second until standard input ends, half of them on new connections."""
    stop = threading.Event()
    results: Counter[str] = Counter()
    lock = threading.Lock()

    def once(connection: HTTPConnection) -> str:
        try:
            status, _ = send(connection, "GET", path)
            return "ok" if status == 200 else str(status)
        except (OSError, HTTPException) as error:
            connection.close()
            return name_of(error)

    def run(kept: bool, every: float) -> None:
        connection = HTTPConnection(service, timeout=TIMEOUT)
        due = time.perf_counter()
        while not stop.is_set():
            result = once(connection)
            if not kept:
                connection.close()
            with lock:
                results[result] += 1
            due += every
            stop.wait(max(0.0, due - time.perf_counter()))

    threads = [threading.Thread(target=run, args=(index % 2 == 0, 4 / rate)) for index in range(4)]
    for thread in threads:
        thread.start()
    tell(started=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    failed = {name: count for name, count in results.items() if name != "ok"}
    tell(ok=results["ok"], failed=sum(failed.values()), errors=failed)


#: What each command takes, in order.
COMMANDS: dict[str, tuple[Callable[..., None], tuple[tuple[str, type], ...]]] = {
    "latency": (latency, (("service", str), ("path", str), ("count", int))),
    "connect": (connect, (("service", str),)),
    "request": (request, (("service", str), ("method", str), ("path", str))),
    "tally": (tally, (("service", str), ("path", str), ("count", int))),
    "hold": (hold, (("service", str),)),
    "load": (load, (("service", str), ("path", str), ("rate", int))),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="visitor")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__)
        for argument, kind in arguments:
            command.add_argument(argument, type=kind)
    values = vars(parser.parse_args())
    COMMANDS[values.pop("command")][0](**values)


if __name__ == "__main__":
    main()
