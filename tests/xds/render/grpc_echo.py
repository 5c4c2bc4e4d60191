"""A gRPC server that says what it is told."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from tests.xds.render.grpc_server import GrpcServer


class GrpcEcho(GrpcServer):
    """`/echo.Echo/Say` says a word once, `/echo.Echo/Talk` each of many twice, as it comes."""

    def __init__(self) -> None:
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(lambda word, _: word),
            "Talk": grpc.stream_stream_rpc_method_handler(_twice),
        }
        super().__init__({"echo.Echo": handlers})


def _twice(words: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    for word in words:
        yield word
        yield word
