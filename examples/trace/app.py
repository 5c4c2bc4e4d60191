"""A service that asks the next one, and hands the trace context on, as every traced application must.

Usage: app.py NAME [URL]
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

NAME, NEXT = sys.argv[1], (sys.argv[2:] or [""])[0]
CONTEXT = ("traceparent", "tracestate", "x-request-id")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = NAME
        if NEXT:
            headers = {name: value for name in CONTEXT if (value := self.headers.get(name))}
            with urlopen(Request(NEXT, headers=headers), timeout=5) as answer:
                said += f" > {answer.read().decode()}"
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4: pods have both

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


Server(("", 8080), Handler).serve_forever()
