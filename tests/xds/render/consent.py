"""External authorization services: one that speaks Envoy's gRPC (envoy.service.auth.v3) and one that is
asked by HTTP. Both allow requests whose header `x-user` is `good`, and keep what they were asked.
"""

from __future__ import annotations

from typing import Any

import grpc

from tests.xds.render.grpc_server import GrpcServer
from tests.xds.render.http_server import Handler, HttpServer

SERVICE = "envoy.service.auth.v3.Authorization"


class GrpcConsent(GrpcServer):
    def __init__(self) -> None:
        self.asked: list[Any] = []
        super().__init__({SERVICE: {"Check": grpc.unary_unary_rpc_method_handler(self._check)}})

    def _check(self, data: bytes, _: grpc.ServicerContext) -> bytes:
        from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, DeniedHttpResponse
        from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
        from envoy_data_plane.google.rpc import Status

        attributes = CheckRequest.parse(data).attributes
        self.asked.append(attributes)
        http = attributes.request.http if attributes.request else None
        # Of a connection that is not HTTP there is no more to know, and it is good enough.
        if http is None or not http.method or http.headers.get("x-user") == "good":
            return bytes(CheckResponse(status=Status(code=0)))
        denied = DeniedHttpResponse(status=HttpStatus(code=StatusCode.Unauthorized), body="who are you?")
        return bytes(CheckResponse(status=Status(code=7), denied_response=denied))


class HttpConsent(HttpServer):
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        super().__init__(_handler(self))


def _handler(consent: HttpConsent) -> type[Handler]:
    class Answering(Handler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): ",".join(self.headers.get_all(name, ())) for name in self.headers}
            consent.asked.append((self.command, self.path, headers))
            self.send_response(200 if headers.get("x-user") == "good" else 302)
            self.send_header("location", "http://login")
            self.send_header("x-identity", "alice")
            self.send_header("x-other", "1")
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = answer

    return Answering
