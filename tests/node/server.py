"""What the pods of the node tests run: HTTP that tells who answered, and a TCP and a UDP echo.

Usage: server.py NAME HTTP_PORT [ECHO_PORT]
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        said = {
            "name": self.name,
            "method": self.command,
            "path": self.path,
            "peer": self.client_address[0].removeprefix("::ffff:"),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 512
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().server_bind()


def echo_tcp(port: int) -> None:
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def echo_udp(port: int) -> None:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    while True:
        data, peer = listener.recvfrom(65536)
        listener.sendto(data, peer)


def main() -> None:
    Handler.name = sys.argv[1]
    if len(sys.argv) > 3:
        for echo in (echo_tcp, echo_udp):
            threading.Thread(target=echo, args=(int(sys.argv[3]),), daemon=True).start()
    Server(("::", int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
