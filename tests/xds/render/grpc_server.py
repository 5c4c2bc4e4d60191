"""A gRPC server on loopback: HTTP/2 with prior knowledge, trailers, streams."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

#: By method.
Handlers = Mapping[str, grpc.RpcMethodHandler]


class GrpcServer:
    def __init__(self, services: Mapping[str, Handlers], address: str = "127.0.0.1:0") -> None:
        self._server = grpc.server(ThreadPoolExecutor(8))
        for name, handlers in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        self.port: int = self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()
