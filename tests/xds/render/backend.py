"""A server behind the proxy that tells each client what it read: as JSON its own name, the method, the path
and the headers. Paths that begin with `/slow` are answered only after `release`; `/upgrade` agrees to
WebSocket and then echoes bytes; `/trailers` answers with a trailer.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Backend:
    def __init__(self, name: str, tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.requests = 0
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        self.released.set()

    def stop(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def refuse(self) -> None:
        """Stop, and keep the port: whoever dials it is refused, and no other test's server gets it."""
        self.stop()
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", self.port))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A proxy that has given a request up closes the connection: no reason for a stack trace."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "Backend/1"
        sys_version = ""
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self) -> None:
            backend.requests += 1
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while int(self.rfile.readline(), 16):
                    self.rfile.readline()
                self.rfile.readline()
            else:
                self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path.startswith("/slow"):
                backend.released.wait(timeout=30)
            if self.path.startswith("/upgrade"):
                self.upgrade()
                return
            headers = [(name.lower(), value) for name, value in self.headers.items()]
            path = self.requestline.split(" ")[1]  # `self.path` has fewer slashes
            read = {"backend": backend.name, "method": self.command, "path": path, "headers": headers}
            body = json.dumps(read).encode()
            self.send_response(200)
            self.send_header("x-backend", backend.name)
            if self.path.startswith("/trailers"):
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%s\r\n0\r\nx-checksum: 42\r\n\r\n" % (len(body), body))
                return
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

        def upgrade(self) -> None:
            self.send_response(101)
            self.send_header("connection", "upgrade")
            self.send_header("upgrade", "websocket")
            self.end_headers()
            while data := self.connection.recv(4096):
                self.connection.sendall(data)
            self.close_connection = True

    return Handler
