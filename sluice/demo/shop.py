"""The five services of the demo shop: `python -m sluice.demo.shop ROLE`.

Plain HTTP/1.1 servers of the standard library. They know each other by service name only, and nothing of a
mesh: that is the point.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any

Answer = tuple[int, dict[str, Any]]
SOCKET_TIMEOUT = 2.0
PORT = 8080


def ask(service: str, method: str, path: str) -> dict[str, Any]:
    """One request to another service of the shop; what went wrong is part of the page, as in a real shop."""
    connection = HTTPConnection(service, 80, timeout=SOCKET_TIMEOUT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        return (
            json.loads(body) if response.status < 300 else {"error": f"{service} answered {response.status}"}
        )
    except OSError as error:
        return {"error": f"{service}: {error.strerror or error}"}
    finally:
        connection.close()


def storefront(method: str, path: str) -> Answer:
    return 200, {"products": ask("catalog", "GET", "/products/tea"), "cart": ask("cart", "GET", "/cart")}


def catalog(method: str, path: str) -> Answer:
    if method == "POST":
        return 201, {"created": path}
    if path == "/products":
        return 200, {"products": ["tea", "coffee"]}
    return 200, {"product": path.rpartition("/")[2], "reviews": ask("reviews", "GET", "/reviews")}


def cart(method: str, path: str) -> Answer:
    if method == "POST":
        return 200, {"paid": ask("payment", "POST", "/charge")}
    return 200, {"items": ["tea"]}


def payment(method: str, path: str) -> Answer:
    return 200, {"charged": 12}


def reviews(method: str, path: str) -> Answer:
    return 200, {"version": os.environ.get("VERSION", "v1"), "stars": 4}


ROLES: dict[str, Callable[[str, str], Answer]] = {
    "storefront": storefront,
    "catalog": catalog,
    "cart": cart,
    "payment": payment,
    "reviews": reviews,
}


class Server(socketserver.ThreadingTCPServer):
    """Listens on both address families; a thread for each connection."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


def server(role: str, port: int = PORT) -> Server:
    """Plays `role` on all addresses once its `serve_forever` runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body leave in one segment

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = (200, {}) if self.path == "/healthz" else ROLES[role](self.command, self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            return None

    return Server(("::", port), Handler)


if __name__ == "__main__":
    server(sys.argv[1]).serve_forever()
