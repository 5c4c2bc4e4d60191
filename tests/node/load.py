"""Requests at a steady rate, none retried: on new connections, on one that is kept alive, and on
one opened at the start. Prints a JSON line {"sent", "failed": [...]} at the end.

Usage: load.py URL RATE SECONDS
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def connect(host: str, port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    connection.connect()
    return connection


def request(connection: http.client.HTTPConnection, path: str) -> str:
    """Empty if it was answered with 200, else what went wrong."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status == 200 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    url = urlsplit(sys.argv[1])
    rate, seconds = float(sys.argv[2]), float(sys.argv[3])
    host, port, path = url.hostname or "", url.port or 80, url.path or "/"
    opened_at_start = connect(host, port)
    kept = connect(host, port)
    print("ready", flush=True)
    failed: list[str] = []
    sent = 0
    start = time.monotonic()
    while (now := time.monotonic()) - start < seconds:
        due = start + sent / rate
        if now < due:
            time.sleep(due - now)
        kind = sent % 4
        if kind == 0:
            wrong = request(opened_at_start, path)
        elif kind == 1:
            wrong = request(kept, path)
        else:
            try:
                connection = connect(host, port)
                wrong = request(connection, path)
                connection.close()
            except OSError as error:
                wrong = f"connect: {type(error).__name__}: {error}"
        sent += 1
        if wrong:
            failed.append(f"{now - start:.3f}s kind {kind}: {wrong}")
            if kind == 0:
                opened_at_start = connect(host, port)
            if kind == 1:
                kept = connect(host, port)
    print(json.dumps({"sent": sent, "failed": failed}))


if __name__ == "__main__":
    main()
