"""HTTP that writes down what it is asked. `GET /ledger` tells: a list of [method, x-since, when it came].

Usage: ledger.py PORT
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler

from server import Server

WRITTEN: list[tuple[str, int, int]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        if self.path == "/ledger":
            body = json.dumps(WRITTEN).encode()
        else:
            came = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            WRITTEN.append((self.command, int(self.headers.get("x-since") or 0), came))
            body = b"written\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    Server(("::", int(sys.argv[1])), Handler).serve_forever()
