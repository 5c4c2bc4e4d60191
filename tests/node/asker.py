"""GET and POST requests without a pause, on new connections and on ones that are kept alive, each with the
time at which it was begun. Prints "ready", and when its input ends a JSON list of [what, since, until,
outcome]: the status, 0 for a connection that was refused at once, -1 for one that broke. Times: ns of
CLOCK_BOOTTIME.

Usage: asker.py HOST PORT PATH
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

PAUSE = 0.003


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Asker(threading.Thread):
    def __init__(self, method: str, *, kept: bool) -> None:
        super().__init__(daemon=True)
        self.what = f"{method} {'kept' if kept else 'new'}"
        self.method, self.kept = method, kept
        self.told: list[tuple[str, int, int, int]] = []
        self.ending = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not self.ending.wait(PAUSE):
            since = now()
            outcome = self._ask(since)
            self.told.append((self.what, since, now(), outcome))

    def _ask(self, since: int) -> int:
        host, port, path = sys.argv[1:]
        if self._connection is None:
            self._connection = http.client.HTTPConnection(host, int(port), timeout=3)
            try:
                self._connection.connect()
            except OSError as error:
                self._connection = None
                return 0 if isinstance(error, PermissionError) else -1
        try:
            self._connection.request(self.method, path, headers={"x-since": str(since)})
            answer = self._connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = -1
        if status == -1 or not self.kept:
            self._connection.close()
            self._connection = None
        return status


def main() -> None:
    askers = [Asker(method, kept=kept) for method in ("GET", "POST") for kept in (False, True)]
    for asker in askers:
        asker.start()
    print("ready", flush=True)
    sys.stdin.read()
    for asker in askers:
        asker.ending.set()
    for asker in askers:
        asker.join()
    print(json.dumps([told for asker in askers for told in asker.told]))


if __name__ == "__main__":
    main()
